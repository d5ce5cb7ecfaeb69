//! How many jobs a batch takes, and how long the lock rests, against stores of every speed: a batch holds the lock for
//! a part that is the same whatever its size, and a part for each job.

use proptest::prelude::*;
use serde_json::json;

use super::{Answer, HOUR, Host, MINUTE, START, ok, policy, report};
use hero_proc_cleanup::policy::{PassEnd, Side, Step};

/// A store with jobs that are old enough, and others that come of age all the time.
#[derive(Debug, Clone)]
struct Store {
    backlog: f64,
    /// Jobs that come of age in a second.
    inflow: f64,
    /// The part of the lock's time that is the same whatever the size of a batch, in milliseconds, and that for each
    /// job.
    fixed_ms: f64,
    each_ms: f64,
    /// The shares by which batches differ, in turn.
    noise: Vec<f64>,
    /// The jobs that the pass that goes on has still to take, and when it began.
    due: Option<f64>,
    fed_ms: i64,
    batches: Vec<Batch>,
}

#[derive(Debug, Clone)]
struct Batch {
    begun: i64,
    limit: u64,
    jobs: u64,
    lock_ms: f64,
}

impl Store {
    /// Jobs that have come of age until `now`.
    fn feed(&mut self, now: i64) {
        self.backlog += self.inflow * (now - self.fed_ms) as f64 / 1000.0;
        self.fed_ms = now;
    }

    fn delete(&mut self, now: i64, limit: u64) -> (Answer, i64) {
        let due = self.due.get_or_insert(self.backlog).floor();
        let jobs = (due as u64).min(limit);
        let noise = 1.0 + self.noise[self.batches.len() % self.noise.len()];
        let lock_ms = if jobs == 0 { 0.0 } else { (self.fixed_ms + jobs as f64 * self.each_ms) * noise };
        self.backlog -= jobs as f64;
        self.due = Some(due - jobs as f64);
        if jobs > 0 {
            self.batches.push(Batch { begun: now, limit, jobs, lock_ms });
        }
        (ok(report(jobs, due as u64 - jobs, lock_ms)), lock_ms.ceil() as i64)
    }
}

/// Runs retention on `store` for `hours`. Whenever a pass goes on although the next one is due, this is said.
fn run(host: &mut Host, store: &mut Store, hours: i64) {
    let end = host.now + hours * HOUR;
    while host.now < end {
        let step = host.next();
        let history = host.retention.history();
        let late = |now: i64| now - history.started_ms.unwrap_or(now) >= EVERY;
        assert!(history.behind || !host.retention.is_running() || !late(host.now), "{history:?}");
        match step {
            Step::Wait { until } => host.now = until.timestamp_millis(),
            Step::Call(call) => {
                store.feed(host.now);
                let limit = call.params(Side::HeroProc)["limit"].as_u64().unwrap();
                let (answer, took_ms) = store.delete(host.now, limit);
                // A part of the call is spent outside the lock.
                host.now += took_ms + 3;
                host.answer(answer);
            }
            Step::Ended(pass) => {
                assert_eq!((pass.end, pass.behind, history.behind), (PassEnd::Done, late(host.now), late(host.now)));
                store.due = None;
            }
            other => panic!("{other:?}"),
        }
    }
}

const EVERY: i64 = 10 * MINUTE;

fn every_ten_minutes() -> Host {
    Host::confirmed(policy(&json!({ "every": "10m", "rule": [{ "older_than": "14d" }] })))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes in, and whatever a batch costs: from the beginning of each batch to that of the next one, the
    /// lock was held for at most 2 % of the time. Once sizes were seen, full batches are neither too long nor too
    /// small.
    #[test]
    fn the_lock_is_held_for_two_percent_of_the_time(
        backlog in 0.0..2e6_f64,
        inflow in prop_oneof![Just(0.0), 0.0..10.0_f64, 0.0..1e5_f64],
        fixed_ms in prop_oneof![Just(0.0), 0.0..5.0_f64, 5.0..2000.0_f64],
        each_ms in prop_oneof![0.001..0.05_f64, 0.05..20.0_f64],
        noise in prop::collection::vec(-0.1..0.1_f64, 1..40),
    ) {
        let mut host = every_ten_minutes();
        let mut store = Store {
            backlog, inflow, fixed_ms, each_ms, noise, due: None, fed_ms: START, batches: Vec::new(),
        };
        run(&mut host, &mut store, 8);
        for pair in store.batches.windows(2) {
            prop_assert!(pair[0].lock_ms <= 0.02 * (pair[1].begun - pair[0].begun) as f64, "{pair:?}");
        }
        // Jobs that come of age in a second hold the lock for as many milliseconds, of which 20 are 2 %.
        let (behind, of_a_second) = (host.retention.history().behind, inflow * each_ms);
        prop_assert!(behind || of_a_second < 25.0, "{of_a_second} ms of each second, and nothing is said");
        let worked_off = of_a_second < 5.0 && backlog * each_ms < 1e5;
        prop_assert!(!behind || !worked_off, "{of_a_second} ms of each second");
        // The size is found within some batches. A batch that takes all that is left is as small as that.
        let aim = f64::max(100.0, 2.5 * fixed_ms).max(fixed_ms + each_ms);
        let full = |batch: &&Batch| batch.jobs == batch.limit && batch.limit < 1_000_000;
        let settled: Vec<&Batch> = store.batches.iter().skip(25).filter(full).collect();
        for Batch { jobs, lock_ms, .. } in &settled {
            prop_assert!(*lock_ms < 6.0 * aim, "{jobs} jobs: {lock_ms} ms, aim {aim} ms");
        }
        let count = settled.len() as f64;
        let locked: f64 = settled.iter().map(|batch| batch.lock_ms).sum();
        prop_assert!(locked <= 3.0 * aim * count, "{locked} ms in {count} batches, aim {aim} ms");
        let fixed = fixed_ms * count;
        prop_assert!(fixed <= locked / 2.0, "{fixed} of {locked} ms in {count} batches");
    }
}

/// More comes of age than 2 % of the time can delete: this is said, and so is its end.
#[test]
fn an_inflow_that_is_too_high_is_behind_until_it_ends() {
    let mut host = every_ten_minutes();
    let mut store = Store {
        backlog: 0.0,
        inflow: 5000.0,
        fixed_ms: 1.0,
        each_ms: 0.01,
        noise: vec![0.0],
        due: None,
        fed_ms: START,
        batches: Vec::new(),
    };
    run(&mut host, &mut store, 6);
    assert!(host.retention.history().behind);
    store.inflow = 500.0;
    run(&mut host, &mut store, 48);
    assert!(!host.retention.history().behind);
    assert!(store.backlog < 500.0 * 1200.0, "{}", store.backlog);
}

/// A million jobs at 9 µs each, as the bench has them: 2 % of the time is some eight minutes.
#[test]
fn a_backlog_is_worked_off_in_the_time_that_two_percent_need() {
    let mut host = every_ten_minutes();
    let mut store = Store {
        backlog: 1e6,
        inflow: 0.0,
        fixed_ms: 2.0,
        each_ms: 0.009,
        noise: vec![0.05, -0.05],
        due: None,
        fed_ms: START,
        batches: Vec::new(),
    };
    run(&mut host, &mut store, 1);
    let minutes = (store.batches.last().unwrap().begun - START) / 60_000;
    assert!(store.backlog < 1.0 && minutes < 10, "{} left after {minutes} minutes", store.backlog);
}

/// A million jobs in a store of which 1.5 s are read under the lock, whatever the size of a batch: the size is found in a few
/// steps, each of which costs as much.
#[test]
fn a_backlog_of_a_large_store_is_worked_off_in_few_batches() {
    let mut host = every_ten_minutes();
    let mut store = Store {
        backlog: 1e6,
        inflow: 0.0,
        fixed_ms: 1500.0,
        each_ms: 0.009,
        noise: vec![0.05, -0.05],
        due: None,
        fed_ms: START,
        batches: Vec::new(),
    };
    run(&mut host, &mut store, 2);
    let locked: f64 = store.batches.iter().map(|batch| batch.lock_ms).sum();
    let (count, jobs) = (store.batches.len(), store.batches.iter().map(|batch| batch.jobs).collect::<Vec<_>>());
    assert!(store.backlog < 1.0 && count <= 15 && locked < 3.5 * 9000.0, "{locked} ms in {count} batches: {jobs:?}");
}
