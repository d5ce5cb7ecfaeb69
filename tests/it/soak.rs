//! Cleanups without pause beside a busy host, which creates, finishes, restarts, retags and lists jobs and sets actions
//! through its one connection, from three threads, as fast as it can.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hero_proc_cleanup::{Guard, Host, Kind, cleanup_by_tag};
use rusqlite::{Connection, TransactionBehavior, params};
use serde_json::json;

use crate::sample::Sample;

#[test]
fn nothing_is_lost_beside_a_busy_host() {
    for journal in ["wal", "delete"] {
        soak(journal, |calls, _| calls >= 24);
    }
}

#[test]
#[ignore = "long form: five minutes for each journal mode"]
fn nothing_is_lost_in_minutes_beside_a_busy_host() {
    for journal in ["wal", "delete"] {
        soak(journal, |_, since| since.elapsed() >= Duration::from_secs(300));
    }
}

/// What the load created.
#[derive(Default)]
struct Created {
    jobs: BTreeSet<i64>,
    /// Those that are not codescaler's, and never were.
    others: BTreeSet<i64>,
    writes: u64,
}

/// A generator of numbers: what the load does need not be unpredictable, only varied.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[expect(clippy::print_stdout, reason = "the figures of the long form")]
fn soak(journal: &str, enough: impl Fn(u32, Instant) -> bool) {
    let sample = Sample::with_schema(include_str!("../../src/cli/store.sql"));
    let store = sample.open();
    store.pragma_update_and_check(None, "journal_mode", journal, |_| Ok(())).unwrap();
    // As hero_proc has it. Connections of their own that never pause would leave nobody else the lock.
    let host = Mutex::new(sample.open());
    host.lock().unwrap().execute_batch("PRAGMA busy_timeout = 60000; PRAGMA synchronous = normal").unwrap();
    let stop = AtomicBool::new(false);
    let (created, mut reported, outcomes) = thread::scope(|scope| {
        let load: Vec<_> = (0..3)
            .map(|seed| {
                let (host, stop) = (&host, &stop);
                scope.spawn(move || load(host, seed, stop))
            })
            .collect();
        let cleanups = cleanups(&sample.path, enough);
        stop.store(true, Ordering::Relaxed);
        let created: Vec<Created> = load.into_iter().map(|load| load.join().unwrap()).collect();
        (created, cleanups.0, cleanups.1)
    });

    // Once the host is at rest, nothing is in the way.
    let last = cleanup_by_tag(
        sample.path.as_path(),
        &Host::new(Guard::codescaler()),
        json!({ "tags": ["codescaler"] }),
        chrono::Utc::now(),
    );
    reported.extend(last.unwrap().job_ids);

    let writes: u64 = created.iter().map(|created| created.writes).sum();
    let all: BTreeSet<i64> = created.iter().flat_map(|created| created.jobs.iter().copied()).collect();
    let others: BTreeSet<i64> = created.iter().flat_map(|created| created.others.iter().copied()).collect();
    let deleted: BTreeSet<i64> = reported.iter().copied().collect();
    let mut left = store.prepare("SELECT id FROM jobs").unwrap();
    let left: BTreeSet<i64> = left.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    println!("{journal}: {outcomes:?}, {writes} writes, {} jobs created, {} deleted", all.len(), deleted.len());

    assert!(!deleted.is_empty() && !left.is_empty());
    assert_eq!(deleted.len(), reported.len(), "no job is in two reports");
    assert!(deleted.is_disjoint(&left), "what is in a report is gone");
    assert!(left.union(&deleted).eq(all.iter()), "every job is there, or in a report");
    assert!(others.is_subset(&left), "nothing goes that is not codescaler's");
    let count = |sql: &str| store.query_row(sql, (), |row| row.get::<_, i64>(0)).unwrap();
    let orphans = "SELECT count(*) FROM jobs WHERE action NOT IN (SELECT name FROM actions)";
    assert_eq!(count(orphans), 0, "no job's action was deleted under it");
    assert_eq!(count("SELECT count(*) FROM actions WHERE name LIKE 'ops%'"), 20, "nor was anybody else's");
    assert_eq!(store.query_row("PRAGMA integrity_check", (), |row| row.get::<_, String>(0)).unwrap(), "ok");
}

/// How the cleanups ended.
#[derive(Debug, Default)]
struct Outcomes {
    calls: u32,
    done: u32,
    busy: u32,
    plan_changed: u32,
}

/// Cleanups with all sorts of params until there were enough: the jobs that their reports name, and how they ended.
fn cleanups(store: &Path, enough: impl Fn(u32, Instant) -> bool) -> (Vec<i64>, Outcomes) {
    let (mut dice, mut reported, mut outcomes) = (Dice(7), Vec::new(), Outcomes::default());
    let mut host = Host::new(Guard::codescaler());
    host.lock_timeout = Duration::from_millis(250);
    let since = Instant::now();
    while !enough(outcomes.calls, since) {
        outcomes.calls += 1;
        let mut params = json!({ "tags": ["codescaler"] });
        if dice.roll(3) == 0 {
            params["tags"] = json!(["codescaler", format!("codescaler_user{}", dice.roll(3))]);
        }
        if dice.roll(3) == 0 {
            params["limit"] = json!(1 + dice.roll(20));
        }
        if dice.roll(4) == 0 {
            let mut dry_run = params.clone();
            dry_run["dry_run"] = true.into();
            match cleanup_by_tag(store, &host, &dry_run, chrono::Utc::now()) {
                Ok(report) => params["expect_plan"] = report.plan.into(),
                Err(error) => assert_eq!(error.kind(), Some(Kind::StoreBusy), "{error}"),
            }
        }
        match cleanup_by_tag(store, &host, &params, chrono::Utc::now()) {
            Ok(report) => {
                assert_eq!(report.jobs_matched, report.jobs_planned + report.jobs_kept.sum());
                assert_eq!(report.job_ids.len() as u64, report.jobs_deleted);
                reported.extend(report.job_ids);
                outcomes.done += 1;
            }
            Err(error) if error.kind() == Some(Kind::StoreBusy) => outcomes.busy += 1,
            Err(error) if error.kind() == Some(Kind::PlanChanged) => outcomes.plan_changed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    (reported, outcomes)
}

/// One of the host's threads. A job is only ever created in a transaction that also sees to it that its action is there.
fn load(host: &Mutex<Connection>, seed: u64, stop: &AtomicBool) -> Created {
    let (mut dice, mut created) = (Dice(seed), Created::default());
    while !stop.load(Ordering::Relaxed) {
        let mut connection = host.lock().unwrap();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        match dice.roll(10) {
            0..5 => {
                let (name, tags) = match dice.roll(4) {
                    0 => (format!("ops{}", dice.roll(20)), json!(["ops"])),
                    1 => (format!("shared{}", dice.roll(5)), json!(["codescaler", "codescaler_user0"])),
                    _ => {
                        let user = format!("codescaler_user{}", dice.roll(3));
                        (format!("build{seed}_{}", created.writes), json!(["codescaler", user]))
                    }
                };
                let tags = tags.to_string();
                let action = "INSERT OR IGNORE INTO actions (name, spec_json) VALUES (?1, ?2)";
                transaction.execute(action, params![name, format!(r#"{{"tags":{tags}}}"#)]).unwrap();
                let phase = ["pending", "running", "done", "failed"][dice.roll(4) as usize];
                let job = "INSERT INTO jobs (action, action_id, spec_json, phase, tags) VALUES (?1, ?1, '{}', ?2, ?3)";
                transaction.execute(job, params![name, phase, tags]).unwrap();
                created.jobs.insert(transaction.last_insert_rowid());
                if name.starts_with("ops") {
                    created.others.insert(transaction.last_insert_rowid());
                }
            }
            5 => {
                for number in 0..20 {
                    let action = "INSERT OR IGNORE INTO actions (name, spec_json) VALUES (?1, '{\"tags\":[\"ops\"]}')";
                    transaction.execute(action, [format!("ops{number}")]).unwrap();
                }
            }
            6 => drop(transaction.execute("UPDATE jobs SET phase = 'done' WHERE phase = 'running'", ()).unwrap()),
            7 => {
                let restart = "UPDATE jobs SET phase = 'running', attempt = attempt + 1
                               WHERE id = (SELECT max(id) FROM jobs WHERE phase = 'done')";
                transaction.execute(restart, ()).unwrap();
            }
            8 => {
                let retag = "UPDATE jobs SET tags = '[\"codescaler\",\"codescaler_user1\"]'
                             WHERE id = (SELECT max(id) FROM jobs WHERE tags LIKE '%codescaler%')";
                transaction.execute(retag, ()).unwrap();
            }
            _ => {
                let list = "SELECT count(*) FROM jobs, json_each(jobs.tags) WHERE value = 'codescaler'";
                let _: i64 = transaction.query_row(list, (), |row| row.get(0)).unwrap();
            }
        }
        transaction.commit().unwrap();
        created.writes += 1;
    }
    // All of somebody else's actions are there, whatever was rolled.
    for number in 0..20 {
        let action = "INSERT OR IGNORE INTO actions (name, spec_json) VALUES (?1, '{\"tags\":[\"ops\"]}')";
        host.lock().unwrap().execute(action, [format!("ops{number}")]).unwrap();
    }
    created
}
