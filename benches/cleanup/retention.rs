//! Retention at work on a backlog: how long it takes, and how much others notice of it.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use hero_proc_cleanup::policy::{History, Pass, PassEnd, Policy, Retention, Side, Step};
use hero_proc_cleanup::{Guard, Host};

use crate::rows::{ALL, floor, milliseconds, waits};
use crate::stores::{Like, Stores};

/// The rests of the lock.
#[derive(Clone, Copy)]
enum Rests {
    /// Each rest is waited for: what others notice is what they would.
    Waited,
    /// The clock is set forward by each rest: what others notice is the worst, and the time is what it would be.
    Skipped,
}

/// One pass of a policy that takes every finished job, and how long it took by its clock, in milliseconds.
fn pass(store: &Path, rests: Rests) -> (Pass, f64) {
    let policy: Policy = serde_json::from_str(r#"{ "every": "30d", "rule": [{ "older_than": "1h" }] }"#).unwrap();
    let mut retention = Retention::new(policy, History::default(), 0.0);
    retention.confirm();
    let host = Host::new(Guard::codescaler());
    let mut skipped = TimeDelta::zero();
    let started = Utc::now();
    loop {
        let now: DateTime<Utc> = Utc::now() + skipped;
        match retention.next(now) {
            Step::Call(due) => {
                let params = due.params(Side::HeroProc);
                let answer = hero_proc_cleanup::call(due.method(Side::HeroProc), &params, store, &host, Utc::now());
                retention.answered(Utc::now() + skipped, answer);
            }
            Step::Wait { until } => match rests {
                Rests::Waited => sleep((until - now).to_std().unwrap_or_default()),
                Rests::Skipped => skipped += until - now,
            },
            Step::Ended(pass) => {
                assert_eq!((pass.end, pass.error.as_ref()), (PassEnd::Done, None));
                assert!(pass.jobs > 0);
                return (pass, (Utc::now() + skipped - started).as_seconds_f64() * 1000.0);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The time in which a pass works off a backlog, in seconds, if somebody else writes between its calls; and the time that the
/// bare deletion of the same rows would take, if it held the lock for 2 % of it.
pub(crate) fn backlog(stores: &Stores, jobs: usize) -> (f64, f64) {
    let (floor_ms, _) = floor(stores, jobs, ALL);
    let store = stores.copy_of(jobs, Like::Newest);
    let mut took = 0.0;
    waits(&store, || took = pass(&store, Rests::Skipped).1);
    (took / 1000.0, floor_ms * 50.0 / 1000.0)
}

/// A writer's worst wait beside a pass, and the pass's longest lock.
pub(crate) fn worst_wait(stores: &Stores, jobs: usize) -> (f64, f64) {
    let store = stores.copy_of(jobs, Like::Newest);
    let mut longest = 0.0;
    let waits = waits(&store, || longest = pass(&store, Rests::Skipped).0.longest_lock_ms);
    (waits[waits.len() - 1], longest)
}

/// A writer's p95 beside a pass that rests, and alone for as long. In the short form, whose times mean nothing, nobody rests.
pub(crate) fn writer(stores: &Stores, jobs: usize) -> (f64, f64) {
    let p95 = |waits: Vec<f64>| waits[waits.len() * 95 / 100];
    let store = stores.copy_of(jobs, Like::Newest);
    let mut time = 0.0;
    let beside = p95(waits(&store, || {
        let started = Instant::now();
        pass(&store, if jobs > 10_000 { Rests::Waited } else { Rests::Skipped });
        time = milliseconds(started);
    }));
    let store = stores.copy_of(jobs, Like::Newest);
    let alone = p95(waits(&store, || sleep(Duration::from_secs_f64(time / 1000.0))));
    (beside, alone)
}
