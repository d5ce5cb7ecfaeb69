//! Retention at work on a backlog: how long it takes, and how much others notice of it.
//!
//! A pass rests for 49 times as long as it works. Where the rests are of no matter, nobody waits for them: a clock is set
//! forward. A writer's p95 is measured beside rests that are waited for.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use hero_proc_cleanup::policy::{History, Pass, PassEnd, Policy, Retention, Side, Step};
use hero_proc_cleanup::{Guard, Host};

use crate::rows::{ALL, floor, milliseconds, waits};
use crate::stores::{Like, Stores};

/// The rests of the lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rests {
    /// Each rest is waited for: what others notice is what they would.
    Waited,
    /// The clock is set forward by each rest: what others notice is the worst, and the time is what it would be.
    Skipped,
}

/// A pass of a policy that takes every finished job.
struct Backlog {
    store: PathBuf,
    host: Host,
    retention: Retention,
    started: DateTime<Utc>,
    /// The rests that were skipped.
    skipped: TimeDelta,
    batches: u64,
}

impl Backlog {
    fn new(store: PathBuf) -> Self {
        let policy: Policy = serde_json::from_str(r#"{ "every": "30d", "rule": [{ "older_than": "1h" }] }"#).unwrap();
        let mut retention = Retention::new(policy, History::default(), 0.0);
        retention.confirm();
        let host = Host::new(Guard::codescaler());
        Self { store, host, retention, started: Utc::now(), skipped: TimeDelta::zero(), batches: 0 }
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.skipped
    }

    /// How long the pass has taken by its clock, in seconds.
    fn seconds(&self) -> f64 {
        (self.now() - self.started).as_seconds_f64()
    }

    /// The jobs that went.
    fn gone(&self) -> u64 {
        self.retention.history().rules.values().map(|rule| rule.jobs).sum()
    }

    /// One batch and the rest before it; the pass, if that was its end.
    fn batch(&mut self, rests: Rests) -> Option<Pass> {
        loop {
            let now = self.now();
            match self.retention.next(now) {
                Step::Call(due) => {
                    let (method, params) = (due.method(Side::HeroProc), due.params(Side::HeroProc));
                    let answer = hero_proc_cleanup::call(method, &params, &*self.store, &self.host, Utc::now());
                    self.retention.answered(self.now(), answer);
                    self.batches += 1;
                    return None;
                }
                Step::Wait { until } if rests == Rests::Waited => sleep((until - now).to_std().unwrap_or_default()),
                Step::Wait { until } => self.skipped += until - now,
                Step::Ended(pass) => {
                    assert_eq!((pass.end, pass.error.as_ref()), (PassEnd::Done, None));
                    return Some(pass);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn work_off(&mut self, rests: Rests) -> Pass {
        loop {
            if let Some(pass) = self.batch(rests) {
                return pass;
            }
        }
    }
}

/// The time in which a pass works off a backlog, in seconds, if somebody else writes between its calls; and the time that the
/// bare deletion of the same rows would take, if it held the lock for 2 % of it.
pub(crate) fn backlog(stores: &Stores, jobs: usize) -> (f64, f64) {
    let (floor_ms, _) = floor(&stores.copy_of(jobs, Like::Backlog), ALL);
    let store = stores.copy_of(jobs, Like::Backlog);
    let mut backlog = Backlog::new(store.clone());
    let mut seconds = 0.0;
    waits(&store, || {
        let Pass { jobs: gone, lock_ms, longest_lock_ms, .. } = backlog.work_off(Rests::Skipped);
        seconds = backlog.seconds();
        assert_eq!(gone, jobs as u64);
        println!(
            "{gone} jobs went in {} batches, which held the lock for {lock_ms:.0} ms, at most for {longest_lock_ms:.0} ms",
            backlog.batches
        );
    });
    (seconds, floor_ms * 50.0 / 1000.0)
}

/// A writer's worst wait beside a pass, and the pass's longest lock.
pub(crate) fn worst_wait(stores: &Stores, jobs: usize) -> (f64, f64) {
    let store = stores.copy_of(jobs, Like::Backlog);
    let mut longest = 0.0;
    let waits = waits(&store, || longest = Backlog::new(store.clone()).work_off(Rests::Skipped).longest_lock_ms);
    (waits[waits.len() - 1], longest)
}

/// A writer's p95 beside a pass that rests, and alone. In the short form, whose times mean nothing, nobody rests.
pub(crate) fn writer(stores: &Stores, jobs: usize) -> (f64, f64) {
    let rests = if jobs > 10_000 { Rests::Waited } else { Rests::Skipped };
    let store = stores.copy_of(jobs, Like::Backlog);
    let mut backlog = Backlog::new(store.clone());
    p95_beside(stores, jobs, &store, || _ = backlog.work_off(rests))
}

/// The same beside a batch of the midst of a pass and the rest before it, of which a pass is made.
pub(crate) fn writer_beside_a_batch(stores: &Stores, jobs: usize) -> (f64, f64) {
    let rests = if jobs > 10_000 { Rests::Waited } else { Rests::Skipped };
    let store = stores.copy_of(jobs, Like::Backlog);
    let mut backlog = Backlog::new(store.clone());
    // Somebody writes beside these as well: the size of a batch depends on it.
    waits(&store, || {
        while backlog.gone() < jobs as u64 / 2 {
            backlog.batch(Rests::Skipped);
        }
    });
    p95_beside(stores, jobs, &store, || _ = backlog.batch(rests))
}

/// A writer's p95 on `store` beside `work`; and alone for as long, or for half a minute, on a store as it was before.
fn p95_beside(stores: &Stores, jobs: usize, store: &Path, work: impl FnOnce()) -> (f64, f64) {
    let p95 = |waits: Vec<f64>| waits[waits.len() * 95 / 100];
    let started = Instant::now();
    let beside = p95(waits(store, work));
    let time = Duration::from_secs_f64(milliseconds(started) / 1000.0).min(Duration::from_secs(30));
    let alone = p95(waits(&stores.copy_of(jobs, Like::Backlog), || sleep(time)));
    (beside, alone)
}
