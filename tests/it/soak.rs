//! Cleanups without pause beside a busy host, which creates, finishes, restarts, retags and lists jobs and sets actions and
//! services from three threads, as fast as it can.
//!
//! The long form: `cargo test --release --test it -- --ignored --nocapture soak`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hero_proc_cleanup::{ControlError, Guard, Host, Job, JobControl, Kind, Report, cleanup_by_tag};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use serde_json::{Value, json};

use crate::sample::Sample;

/// How the host uses the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// As hero_proc does: one connection behind a mutex.
    OneConnection,
    /// A connection for each thread, which waits for the lock as long as it takes.
    OwnConnections,
    /// As hero_proc does, and somebody else holds a snapshot all the while.
    BesideAReader,
}

const VARIANTS: [(&str, Use); 5] = [
    ("wal", Use::OneConnection),
    ("wal", Use::OwnConnections),
    ("wal", Use::BesideAReader),
    ("delete", Use::OneConnection),
    ("delete", Use::OwnConnections),
];

#[test]
fn nothing_is_lost_beside_a_busy_host() {
    for (journal, host) in VARIANTS {
        soak(journal, host, |calls, _| calls >= 8);
    }
}

#[test]
#[ignore = "long form: three minutes for each variant"]
fn nothing_is_lost_in_minutes_beside_a_busy_host() {
    for (journal, host) in VARIANTS {
        soak(journal, host, |_, since| since.elapsed() >= Duration::from_secs(180));
    }
}

/// What the load created.
#[derive(Default)]
struct Created {
    jobs: BTreeSet<i64>,
    /// Those that are not codescaler's and never were, with their phase: nobody touches them again.
    others: BTreeMap<i64, &'static str>,
    /// Actions of one job each.
    builds: BTreeSet<String>,
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
fn soak(journal: &'static str, host: Use, enough: impl Fn(u32, Instant) -> bool) {
    let sample = Sample::with_schema(include_str!("../../src/cli/store.sql"));
    let store = sample.open();
    store.pragma_update_and_check(None, "journal_mode", journal, |_| Ok(())).unwrap();
    store.execute_batch("CREATE TABLE notes (job INTEGER REFERENCES jobs (id) ON DELETE CASCADE)").unwrap();
    let wal = PathBuf::from(format!("{}-wal", sample.path.display()));
    let wal_bytes = || fs::metadata(&wal).map_or(0, |wal| wal.len());
    let reader = sample.open();
    if host == Use::BesideAReader {
        reader.execute_batch("BEGIN; SELECT count(*) FROM jobs").unwrap();
    }
    let shared = Arc::new(Mutex::new(connect(&sample.path)));
    let stop = AtomicBool::new(false);
    let (created, cleaned) = thread::scope(|scope| {
        let load: Vec<_> = (0..3)
            .map(|seed| {
                let own = Arc::new(Mutex::new(connect(&sample.path)));
                let connection = if host == Use::OwnConnections { own } else { Arc::clone(&shared) };
                let stop = &stop;
                scope.spawn(move || load(&connection, seed, stop))
            })
            .collect();
        let cleaned = cleanups(&sample.path, enough);
        stop.store(true, Ordering::Relaxed);
        let created: Vec<Created> = load.into_iter().map(|load| load.join().unwrap()).collect();
        (created, cleaned)
    });
    let Cleaned { mut reports, outcomes } = cleaned;

    // Once everybody is at rest, nothing is in the way, and nothing is left in the WAL.
    let grown = wal_bytes();
    drop(reader);
    let params = json!({ "tags": ["codescaler"] });
    let last =
        cleanup_by_tag(sample.path.as_path(), &Host::new(Guard::codescaler()), &params, chrono::Utc::now()).unwrap();
    if last.jobs_deleted > 0 {
        assert_eq!(wal_bytes(), 0, "the WAL is emptied");
    }
    reports.push(last);

    let writes: u64 = created.iter().map(|created| created.writes).sum();
    let all: BTreeSet<i64> = created.iter().flat_map(|created| created.jobs.iter().copied()).collect();
    let reported: Vec<i64> = reports.iter().flat_map(|report| report.job_ids.iter().copied()).collect();
    let deleted: BTreeSet<i64> = reported.iter().copied().collect();
    println!(
        "{journal}, {host:?}: {outcomes:?}, {writes} writes, {} jobs created, {} deleted, WAL grown to {grown} bytes",
        all.len(),
        deleted.len()
    );

    let mut left = store.prepare("SELECT id FROM jobs").unwrap();
    let left: BTreeSet<i64> = left.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(!deleted.is_empty() && !left.is_empty());
    assert_eq!(deleted.len(), reported.len(), "no job is in two reports");
    assert!(deleted.is_disjoint(&left), "what is in a report is gone");
    assert!(left.union(&deleted).eq(all.iter()), "every job is there, or in a report");

    let others: BTreeMap<i64, String> =
        created.iter().flat_map(|created| &created.others).map(|(id, phase)| (*id, (*phase).to_owned())).collect();
    let mut untouched = store.prepare("SELECT id, phase FROM jobs WHERE tags = '[\"ops\"]' AND attempt = 0").unwrap();
    let untouched = untouched.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert!(untouched.map(Result::unwrap).eq(others), "what is not codescaler's is as it was");

    let builds: BTreeSet<String> = created.iter().flat_map(|created| created.builds.iter().cloned()).collect();
    let gone: Vec<&String> =
        reports.iter().flat_map(|report| &report.action_ids).filter(|name| name.starts_with("build")).collect();
    let gone_once: BTreeSet<String> = gone.iter().map(|name| (*name).clone()).collect();
    let mut actions = store.prepare("SELECT name FROM actions WHERE name LIKE 'build%'").unwrap();
    let actions: BTreeSet<String> = actions.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(gone_once.len(), gone.len(), "no action is in two reports");
    assert!(gone_once.is_disjoint(&actions), "an action in a report is gone");
    assert!(actions.union(&gone_once).eq(builds.iter()), "every action is there, or in a report");

    let count = |sql: &str| store.query_row(sql, (), |row| row.get::<_, i64>(0)).unwrap();
    let orphans = "SELECT count(*) FROM jobs WHERE action NOT IN (SELECT name FROM actions)";
    assert_eq!(count(orphans), 0, "no job's action was deleted under it");
    assert_eq!(count("SELECT count(*) FROM actions WHERE name LIKE 'ops%'"), 20, "nor was anybody else's");
    assert!(!store.prepare("PRAGMA foreign_key_check").unwrap().exists(()).unwrap(), "no note is left behind");
    assert_eq!(store.query_row("PRAGMA integrity_check", (), |row| row.get::<_, String>(0)).unwrap(), "ok");
}

fn connect(store: &Path) -> Connection {
    let connection = Connection::open(store).unwrap();
    connection.execute_batch("PRAGMA busy_timeout = 60000; PRAGMA synchronous = normal").unwrap();
    connection
}

/// What the cleanups said.
#[derive(Default)]
struct Cleaned {
    reports: Vec<Report>,
    outcomes: Outcomes,
}

/// How the cleanups ended.
#[derive(Debug, Default)]
struct Outcomes {
    calls: u32,
    done: u32,
    forced: u32,
    busy: u32,
    plan_changed: u32,
}

/// Stops a job as a host does: by its row.
struct Stops(Mutex<Connection>);

impl JobControl for Stops {
    fn stop(&self, job: &Job) -> Result<(), ControlError> {
        let connection = self.0.lock().unwrap();
        connection.execute("UPDATE jobs SET phase = 'stopped' WHERE id = ?1 AND phase <> 'done'", [job.id])?;
        Ok(())
    }
}

/// Cleanups with all sorts of params until there were enough.
fn cleanups(store: &Path, enough: impl Fn(u32, Instant) -> bool) -> Cleaned {
    let (mut dice, mut cleaned) = (Dice(7), Cleaned::default());
    let mut host = Host::new(Guard::codescaler());
    host.control = Some(Arc::new(Stops(Mutex::new(connect(store)))));
    host.lock_timeout = Duration::from_millis(250);
    let call = |params: &Value| cleanup_by_tag(store, &host, params, chrono::Utc::now());
    let since = Instant::now();
    let outcomes = &mut cleaned.outcomes;
    while !enough(outcomes.calls, since) {
        outcomes.calls += 1;
        let mut params = json!({ "tags": ["codescaler"], "force": dice.roll(4) == 0 });
        if dice.roll(3) == 0 {
            params["tags"] = json!(["codescaler", format!("codescaler_user{}", dice.roll(3))]);
        }
        if dice.roll(3) == 0 {
            params["limit"] = json!(1 + dice.roll(20));
        }
        if dice.roll(4) == 0 {
            let mut dry_run = params.clone();
            dry_run["dry_run"] = true.into();
            match call(&dry_run) {
                Ok(report) => params["expect_plan"] = report.plan.into(),
                Err(error) => assert_eq!(error.kind(), Some(Kind::StoreBusy), "{error}"),
            }
        }
        match call(&params) {
            Ok(report) => {
                assert_eq!(report.jobs_matched, report.jobs_planned + report.jobs_kept.sum());
                assert_eq!(report.job_ids.len() as u64, report.jobs_deleted);
                assert_eq!(report.action_ids.len() as u64, report.actions_deleted);
                outcomes.done += 1;
                outcomes.forced += u32::from(params["force"] == true);
                cleaned.reports.push(report);
            }
            Err(error) if error.kind() == Some(Kind::StoreBusy) => outcomes.busy += 1,
            Err(error) if error.kind() == Some(Kind::PlanChanged) => outcomes.plan_changed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    cleaned
}

/// One of the host's threads.
fn load(host: &Mutex<Connection>, seed: u64, stop: &AtomicBool) -> Created {
    let (mut dice, mut created) = (Dice(seed), Created::default());
    while !stop.load(Ordering::Relaxed) {
        let mut connection = host.lock().unwrap();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        write(&transaction, seed, &mut dice, &mut created);
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

/// One of the host's writes. A job is only ever created in a transaction that also sees to it that its action is there.
fn write(transaction: &Transaction<'_>, seed: u64, dice: &mut Dice, created: &mut Created) {
    const OURS: &str = "tags LIKE '%codescaler%'";
    let one = |sql: &str| assert!(transaction.execute(sql, ()).is_ok());
    match dice.roll(14) {
        0..6 => {
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
            let id = transaction.last_insert_rowid();
            transaction.execute("INSERT INTO notes SELECT ?1 WHERE ?1 % 3", [id]).unwrap();
            created.jobs.insert(id);
            if name.starts_with("ops") {
                created.others.insert(id, phase);
            } else if name.starts_with("build") {
                created.builds.insert(name);
            }
        }
        6 => {
            for number in 0..20 {
                let action = "INSERT OR IGNORE INTO actions (name, spec_json) VALUES (?1, '{\"tags\":[\"ops\"]}')";
                transaction.execute(action, [format!("ops{number}")]).unwrap();
            }
        }
        7 => one(&format!("UPDATE jobs SET phase = 'done', attempt = 1 WHERE phase = 'running' AND {OURS}")),
        8 => one(&format!(
            "UPDATE jobs SET phase = 'running', attempt = attempt + 1
             WHERE id = (SELECT max(id) FROM jobs WHERE phase = 'done' AND {OURS})"
        )),
        9 => one(&format!(
            "UPDATE jobs SET tags = '[\"codescaler\",\"codescaler_user1\"]', attempt = 1
             WHERE id = (SELECT max(id) FROM jobs WHERE {OURS})"
        )),
        // And out of the guard, and back.
        10 => one(&format!(
            "UPDATE jobs SET tags = '[\"ops\"]', attempt = attempt + 1
             WHERE id = (SELECT min(id) FROM jobs WHERE {OURS})"
        )),
        11 => one("UPDATE jobs SET tags = '[\"codescaler\"]' WHERE tags = '[\"ops\"]' AND attempt > 0"),
        12 => {
            // An action gets a schedule, loses its tag, is depended on by another, or is as it was.
            let spec = [
                r#"{"tags":["codescaler"],"schedule_policy":{"every":"1h"}}"#.to_owned(),
                r#"{"tags":[]}"#.to_owned(),
                format!(r#"{{"tags":["codescaler"],"depends_on":["shared{}"]}}"#, dice.roll(5)),
                r#"{"tags":["codescaler"]}"#.to_owned(),
            ];
            let set = "UPDATE actions SET spec_json = ?1
                       WHERE id = (SELECT max(id) FROM actions WHERE name LIKE 'build%' OR name LIKE 'shared%')";
            transaction.execute(set, [&spec[dice.roll(4) as usize]]).unwrap();
            let service = "INSERT OR REPLACE INTO services (name, spec_json) VALUES ('web', ?1)";
            transaction.execute(service, [format!(r#"{{"actions":["shared{}"]}}"#, dice.roll(5))]).unwrap();
        }
        _ => {
            let list = "SELECT count(*) FROM jobs, json_each(jobs.tags) WHERE value = 'codescaler'";
            let _: i64 = transaction.query_row(list, (), |row| row.get(0)).unwrap();
        }
    }
}
