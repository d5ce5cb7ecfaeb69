//! Creators in two steps beside cleanups without pause: they set an action, and create its job a short while later. No job is
//! ever created whose action is not there.
//!
//! The long form: `cargo test --release --test it creators:: -- --ignored --nocapture`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;
use hero_proc_cleanup::Kind;
use rusqlite::{Connection, TransactionBehavior};
use serde_json::json;

use crate::support::call::{all_with, call_as, host};
use crate::support::sample::{Sample, assert_intact};

/// The host's grace here: short, so that actions get older than it while the test runs.
const GRACE: Duration = Duration::from_millis(500);

/// What the creators call their actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// One for each job.
    Unique,
    /// One of a few hundred, set again and again.
    UsedAgain,
}

/// How long it goes on.
#[derive(Clone, Copy)]
enum Length {
    /// Until this many jobs were created, actions went with their jobs, and leaked ones went.
    Jobs(u64),
    Time(Duration),
}

#[test]
fn no_job_is_created_whose_action_is_not_there() {
    for (names, leaked) in [(Names::Unique, true), (Names::UsedAgain, true), (Names::UsedAgain, false)] {
        beside_cleanups(names, leaked, Length::Jobs(1500));
    }
}

#[test]
#[ignore = "long form: three minutes for each of three cases"]
fn no_job_is_created_in_minutes_whose_action_is_not_there() {
    for (names, leaked) in [(Names::Unique, true), (Names::UsedAgain, true), (Names::UsedAgain, false)] {
        beside_cleanups(names, leaked, Length::Time(Duration::from_secs(180)));
    }
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Counts {
    created: AtomicU64,
    /// Creators whose second step came after the grace, which promises them nothing.
    too_late: AtomicU64,
    calls: AtomicU64,
    jobs: AtomicU64,
    /// Actions that went with a job, and those that went alone.
    actions: AtomicU64,
    leaked: AtomicU64,
}

impl Counts {
    fn suffice(&self, length: Length, leaked: bool, since: Instant) -> bool {
        match length {
            Length::Time(time) => since.elapsed() >= time,
            Length::Jobs(jobs) => {
                self.created.load(Relaxed) >= jobs
                    && self.actions.load(Relaxed) >= 50
                    && (!leaked || self.leaked.load(Relaxed) >= 50)
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "the figures of the long form")]
fn beside_cleanups(names: Names, leaked: bool, length: Length) {
    let sample = Sample::empty();
    let (counts, done, since) = (Counts::default(), AtomicBool::new(false), Instant::now());
    let (counts, done) = (&counts, &done);
    let mut host = host();
    host.grace = GRACE;
    host.lock_timeout = Duration::from_secs(60);
    let jobs = thread::scope(|scope| {
        let creators = [1, 2, 3].map(|creator| {
            let store = sample.open();
            scope.spawn(move || Creator { creator, names, store, random: 0x9e37_79b9 * creator }.create(counts, done))
        });
        while !counts.suffice(length, leaked, since) && !creators.iter().any(|creator| creator.is_finished()) {
            let report = match call_as(&sample, &host, all_with(json!({ "leaked": leaked }))) {
                Ok(report) => report,
                Err(error) if error.kind() == Some(Kind::StoreBusy) => continue,
                Err(error) => panic!("{error:?}"),
            };
            counts.calls.fetch_add(1, Relaxed);
            counts.jobs.fetch_add(report.jobs_deleted, Relaxed);
            counts.leaked.fetch_add(report.actions_leaked, Relaxed);
            counts.actions.fetch_add(report.actions_deleted - report.actions_leaked, Relaxed);
        }
        done.store(true, Relaxed);
        creators.map(|creator| creator.join().unwrap()).into_iter().sum::<u64>()
    });
    println!("{names:?}, leaked {leaked}: {counts:?}");
    assert_intact(&sample.path);
    assert_eq!(jobs, counts.created.load(Relaxed));
    let without = "SELECT count(*) FROM jobs WHERE action NOT IN (SELECT name FROM actions)";
    let late = counts.too_late.load(Relaxed).cast_signed();
    assert!(sample.one::<i64>(without) <= late, "every job that is left has its action");
}

/// A creator with a connection of its own.
struct Creator {
    creator: u64,
    names: Names,
    store: Connection,
    random: u64,
}

impl Creator {
    /// Creates jobs as fast as it can, and returns how many they were.
    fn create(mut self, counts: &Counts, done: &AtomicBool) -> u64 {
        self.store.busy_timeout(Duration::from_secs(60)).unwrap();
        self.store.pragma_update(None, "synchronous", "off").unwrap();
        let (mut jobs, mut number, mut running): (u64, u64, VecDeque<(i64, Instant)>) = Default::default();
        while !done.load(Relaxed) {
            number += 1;
            let number = if self.names == Names::Unique { number } else { self.random() % 300 };
            let name = format!("a{}_{number}", self.creator);
            let set_at = self.set(&name);
            // Its second step comes a short while later, or never: then the action has leaked.
            thread::sleep(Duration::from_micros(self.random() % 4000));
            if self.random().is_multiple_of(4) {
                continue;
            }
            running.push_back((self.create_job(&name, set_at, counts), Instant::now()));
            jobs += 1;
            counts.created.fetch_add(1, Relaxed);
            // Jobs take longer than the grace: their actions may go with them.
            while let Some(&(id, since)) = running.front()
                && Instant::now() - since > GRACE + GRACE / 5
            {
                self.store.execute("UPDATE jobs SET phase = 'done' WHERE id = ?1", [id]).unwrap();
                running.pop_front();
            }
        }
        jobs
    }

    /// Sets the action `name`, and returns when.
    fn set(&self, name: &str) -> i64 {
        // Of the moment under the lock, as hero_proc has it behind its mutex.
        self.store.execute_batch("BEGIN IMMEDIATE").unwrap();
        let now = Utc::now().timestamp_millis();
        self.store
            .execute(
                r#"INSERT INTO actions (name, spec_json, created_at_ms, updated_at_ms)
                   VALUES (?1, '{"tags":["codescaler"]}', ?2, ?2)
                   ON CONFLICT DO UPDATE SET updated_at_ms = ?2"#,
                (name, now),
            )
            .unwrap();
        self.store.execute_batch("COMMIT").unwrap();
        now
    }

    /// Creates the job of the action `name`, which is there if it was set within the grace.
    fn create_job(&mut self, name: &str, set_at: i64, counts: &Counts) -> i64 {
        let job = self.store.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let there = job.prepare("SELECT 1 FROM actions WHERE name = ?1").unwrap().exists([name]).unwrap();
        if Utc::now().timestamp_millis() - set_at < GRACE.as_millis() as i64 {
            assert!(there, "the action {name} of a job is gone");
        } else {
            counts.too_late.fetch_add(1, Relaxed);
        }
        job.execute(
            r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags, created_at_ms)
               VALUES (?1, ?1, '{}', 'running', '["codescaler"]', ?2)"#,
            (name, Utc::now().timestamp_millis()),
        )
        .unwrap();
        let id = job.last_insert_rowid();
        job.commit().unwrap();
        id
    }

    /// The next number (xorshift).
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
