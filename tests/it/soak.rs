//! Cleanups without pause beside a busy host: three threads create, finish, restart, retag and list jobs and set actions and
//! services, as fast as they can.
//!
//! The long form: `cargo test --release --test it -- --ignored --nocapture soak`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hero_proc_cleanup::{Kind, Report};
use rusqlite::{Connection, OptionalExtension, ToSql, Transaction, TransactionBehavior, params};
use serde_json::json;

use crate::support::call::{Control, all_with, call, call_as};
use crate::support::sample::{Sample, column, one};

/// The host's store, and who else uses it.
#[derive(Debug, Clone, Copy)]
struct Case {
    journal: &'static str,
    /// As hero_proc does: one connection behind a mutex. If not, each thread has one of its own.
    shared: bool,
    /// Jobs have rows of other tables.
    keys: bool,
    /// Somebody holds on to a snapshot for eight cleanups at a time.
    reader: bool,
}

const CASES: [Case; 6] = [
    Case { journal: "wal", shared: true, keys: true, reader: false },
    Case { journal: "wal", shared: false, keys: false, reader: false },
    Case { journal: "wal", shared: false, keys: true, reader: false },
    Case { journal: "wal", shared: false, keys: false, reader: true },
    Case { journal: "delete", shared: true, keys: false, reader: false },
    Case { journal: "delete", shared: false, keys: true, reader: false },
];

#[test]
fn nothing_is_lost_beside_a_busy_host() {
    for case in CASES {
        soak(case, Length::Writes(1000));
    }
}

#[test]
#[ignore = "long form: three minutes for each of six cases"]
fn nothing_is_lost_in_minutes_beside_a_busy_host() {
    for case in CASES {
        soak(case, Length::Time(Duration::from_secs(180)));
    }
}

/// How long it goes on.
#[derive(Clone, Copy)]
enum Length {
    /// Until each thread of the host has written so often: in the rollback journal modes hardly any cleanup may get the lock
    /// before that, as nobody stands in line for it.
    Writes(u64),
    Time(Duration),
}

#[expect(clippy::print_stdout, reason = "the figures of the long form")]
fn soak(case: Case, length: Length) {
    let sample = Sample::empty();
    sample.journal(case.journal);
    let store = sample.open();
    if case.keys {
        store
            .execute_batch(
                "CREATE TABLE notes (job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE);
                 CREATE TABLE links (of INTEGER, job INTEGER REFERENCES jobs (id) ON DELETE SET NULL);",
            )
            .unwrap();
    }
    let shared = Arc::new(Mutex::new(sample.open()));
    let (stop, calls, since) = (AtomicBool::new(false), AtomicU32::new(0), Instant::now());
    let (loads, mut reports, outcomes, most_wal) = thread::scope(|scope| {
        let loads: Vec<_> = (0..3)
            .map(|seed| {
                let own = Arc::new(Mutex::new(sample.open()));
                let connection = if case.shared { Arc::clone(&shared) } else { own };
                let (load, stop) = (Load::new(seed, case), &stop);
                scope.spawn(move || load.run(&connection, length, stop))
            })
            .collect();
        let reader = case.reader.then(|| scope.spawn(|| hold_snapshots(&sample, &calls, &stop)));
        let (reports, outcomes) = cleanups(&sample.path, &calls, |outcomes| match length {
            Length::Writes(_) => outcomes.done >= 3 && loads.iter().all(|load| load.is_finished()),
            Length::Time(time) => since.elapsed() >= time,
        });
        stop.store(true, Ordering::Relaxed);
        let loads: Vec<Load> = loads.into_iter().map(|load| load.join().unwrap()).collect();
        (loads, reports, outcomes, reader.map(|reader| reader.join().unwrap()))
    });

    // Once the host is at rest, nothing is in the way. One job is there to go for certain.
    let job = r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('shared0', '{}', 'done', '["codescaler"]')"#;
    store.execute(job, ()).unwrap();
    let last_job = store.last_insert_rowid();
    reports.push(call(&sample, all_with(json!({ "max_ids": 1_000_000 }))).unwrap());
    assert!(reports.iter().all(|report| !report.ids_truncated));
    if case.journal == "wal" {
        assert_eq!(wal_bytes(&sample.path), 0, "the WAL is given back");
    }

    let writes: u64 = loads.iter().map(|load| load.writes).sum();
    let created: BTreeSet<i64> = loads.iter().flat_map(|load| load.jobs.iter().copied()).chain([last_job]).collect();
    let mut deleted = BTreeSet::new();
    let mut actions_deleted = BTreeMap::<&str, i64>::new();
    for report in &reports {
        for job in &report.job_ids {
            assert!(deleted.insert(*job), "job {job} is in two reports");
        }
        for action in &report.action_ids {
            *actions_deleted.entry(action).or_default() += 1;
        }
    }
    let left: BTreeSet<i64> = column(&store, "SELECT id FROM jobs").into_iter().collect();
    println!(
        "{case:?}: {outcomes:?}, {writes} writes, {} jobs created, {} deleted, {} actions deleted, WAL of at most {most_wal:?} bytes",
        created.len(),
        deleted.len(),
        actions_deleted.values().sum::<i64>(),
    );
    assert!(!deleted.is_empty() && !left.is_empty());
    assert!(deleted.is_disjoint(&left), "what is in a report is gone");
    let accounted: BTreeSet<i64> = left.union(&deleted).copied().collect();
    let lost: Vec<&i64> = created.symmetric_difference(&accounted).collect();
    assert_eq!(lost, [&0; 0], "every job is there, or in a report");

    // An action may be made again once it has gone.
    let actions_left: BTreeSet<String> = column(&store, "SELECT name FROM actions").into_iter().collect();
    let mut actions = BTreeMap::<&str, i64>::new();
    for (name, times) in loads.iter().flat_map(|load| &load.actions) {
        *actions.entry(name).or_default() += times;
    }
    for (name, made) in &actions {
        let gone = made - i64::from(actions_left.contains(*name));
        assert_eq!(actions_deleted.get(name).copied().unwrap_or(0), gone, "{name}: it is there, or in as many reports");
    }
    assert!(actions_deleted.keys().all(|name| actions.contains_key(name)));

    for load in &loads {
        for (id, content) in &load.others_jobs {
            assert_eq!(row(&store, JOB, id).as_ref(), Some(content), "untagged: nobody but its host has touched it");
        }
        for (name, content) in &load.kept_actions {
            assert_eq!(row(&store, ACTION, name).as_ref(), Some(content), "untagged or scheduled");
        }
    }
    let none = |sql: &str| assert_eq!(column::<String>(&store, sql), [""; 0], "{sql}");
    none("SELECT id || ': ' || action FROM jobs WHERE action NOT IN (SELECT name FROM actions)");
    none(
        "SELECT name || ' on ' || value FROM actions, json_each(spec_json, '$.depends_on')
         WHERE value NOT IN (SELECT name FROM actions)",
    );
    none(
        "SELECT services.name || ' needs ' || value FROM services, json_each(spec_json, '$.actions')
         WHERE value NOT IN (SELECT name FROM actions)",
    );
    none("SELECT \"table\" FROM pragma_foreign_key_check");
    assert_eq!(column::<String>(&store, "PRAGMA integrity_check"), ["ok"]);
    if case.keys {
        let dependents =
            |table| reports.iter().map(|report| report.dependents.get(table).copied().unwrap_or(0)).sum::<u64>();
        let with_rows: BTreeSet<i64> = loads.iter().flat_map(|load| load.with_rows.iter().copied()).collect();
        assert_eq!(dependents("notes"), with_rows.intersection(&deleted).count() as u64);
        assert_eq!(dependents("links"), dependents("notes"));
        let notes: BTreeSet<i64> = column(&store, "SELECT job FROM notes").into_iter().collect();
        assert!(with_rows.difference(&deleted).eq(notes.iter()), "the rows of the jobs that are left, and no others");
        let links: BTreeSet<i64> = column(&store, "SELECT of FROM links WHERE job IS NULL").into_iter().collect();
        assert!(with_rows.intersection(&deleted).eq(links.iter()));
    }
}

/// How the cleanups ended.
#[derive(Debug, Default)]
struct Outcomes {
    calls: u32,
    done: u32,
    busy: u32,
    plan_changed: u32,
    forced: u32,
}

/// Cleanups with all sorts of params until there were enough: their reports, and how they ended.
fn cleanups(store: &Path, calls: &AtomicU32, enough: impl Fn(&Outcomes) -> bool) -> (Vec<Report>, Outcomes) {
    let (mut dice, mut reports, mut outcomes) = (Dice(7), Vec::new(), Outcomes::default());
    // Every second job can be stopped.
    let control = Control::new(|job| if job.id % 2 == 0 { Ok(()) } else { Err("it does not want to".into()) });
    let host = control.host();
    while !enough(&outcomes) {
        outcomes.calls += 1;
        calls.store(outcomes.calls, Ordering::Relaxed);
        let mut params = all_with(json!({ "max_ids": 1_000_000 }));
        if dice.roll(3) == 0 {
            params["tags"] = json!(["codescaler", format!("codescaler_user{}", dice.roll(3))]);
        }
        if dice.roll(3) == 0 {
            params["limit"] = json!(1 + dice.roll(20));
        }
        let force = dice.roll(4) == 0;
        if force {
            params["force"] = true.into();
        }
        if dice.roll(4) == 0 {
            let mut dry_run = params.clone();
            dry_run["dry_run"] = true.into();
            match call_as(store, &host, &dry_run) {
                Ok(report) => params["expect_plan"] = report.plan.into(),
                Err(error) => assert_eq!(error.kind(), Some(Kind::StoreBusy), "{error}"),
            }
        }
        match call_as(store, &host, &params) {
            Ok(report) => {
                assert_eq!(report.jobs_matched, report.jobs_planned + report.jobs_kept.sum());
                assert_eq!(report.job_ids.len() as u64, report.jobs_deleted);
                assert_eq!(report.action_ids.len() as u64, report.actions_deleted);
                reports.push(report);
                outcomes.done += 1;
                outcomes.forced += u32::from(force);
            }
            Err(error) if error.kind() == Some(Kind::StoreBusy) => outcomes.busy += 1,
            Err(error) if error.kind() == Some(Kind::PlanChanged) => outcomes.plan_changed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    (reports, outcomes)
}

/// Reads from one moment for as long as eight cleanups take, then from the next. Returns the most bytes that the WAL had.
fn hold_snapshots(sample: &Sample, calls: &AtomicU32, stop: &AtomicBool) -> u64 {
    let (reader, mut most) = (sample.open(), 0);
    let count = || one::<i64>(&reader, "SELECT count(*) FROM jobs");
    while !stop.load(Ordering::Relaxed) {
        reader.execute_batch("BEGIN").unwrap();
        let (seen, since) = (count(), calls.load(Ordering::Relaxed));
        while calls.load(Ordering::Relaxed) < since + 8 && !stop.load(Ordering::Relaxed) {
            most = most.max(wal_bytes(&sample.path));
            thread::yield_now();
        }
        assert_eq!(count(), seen, "it still sees its own moment");
        reader.execute_batch("COMMIT").unwrap();
    }
    most
}

fn wal_bytes(store: &Path) -> u64 {
    fs::metadata(format!("{}-wal", store.display())).map_or(0, |wal| wal.len())
}

/// A generator of numbers: what the load does need not be unpredictable, only varied.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// One of the host's threads, and what it has done. What is not codescaler's it changes only where it made it itself, so it
/// knows what must stand there in the end.
struct Load {
    seed: u64,
    case: Case,
    dice: Dice,
    writes: u64,
    /// Every job that it created.
    jobs: BTreeSet<i64>,
    /// Those with rows of other tables.
    with_rows: BTreeSet<i64>,
    /// How often it created each action.
    actions: BTreeMap<String, i64>,
    /// Jobs that are not codescaler's, or no longer, and their whole rows.
    others_jobs: BTreeMap<i64, String>,
    /// Actions that are not codescaler's, or have a schedule, and their whole rows.
    kept_actions: BTreeMap<String, String>,
}

impl Load {
    fn new(seed: u64, case: Case) -> Self {
        Self {
            seed,
            case,
            dice: Dice(seed),
            writes: 0,
            jobs: BTreeSet::new(),
            with_rows: BTreeSet::new(),
            actions: BTreeMap::new(),
            others_jobs: BTreeMap::new(),
            kept_actions: BTreeMap::new(),
        }
    }

    fn run(mut self, host: &Mutex<Connection>, length: Length, stop: &AtomicBool) -> Self {
        // Nobody pulls the plug here: without syncs there are more writes.
        host.lock().unwrap().execute_batch("PRAGMA busy_timeout = 60000; PRAGMA synchronous = off").unwrap();
        let most = if let Length::Writes(most) = length { most } else { u64::MAX };
        while self.writes < most && !stop.load(Ordering::Relaxed) {
            let mut connection = host.lock().unwrap();
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
            match self.dice.roll(11) {
                0..4 => self.create(&transaction),
                4 => self.set_action(&transaction),
                5 => self.finish(&transaction),
                6 => self.restart(&transaction),
                7 => self.retag(&transaction),
                8 => self.tag(&transaction),
                9 => self.set_service(&transaction),
                _ => {
                    let list = "SELECT jobs.id FROM jobs, json_each(jobs.tags) WHERE value = 'codescaler'";
                    column::<i64>(&transaction, list);
                }
            }
            transaction.commit().unwrap();
            self.writes += 1;
        }
        self
    }

    /// A job, in a transaction that also sees to it that its action is there.
    fn create(&mut self, store: &Transaction<'_>) {
        let kind = if self.others_jobs.len() < 200 { self.dice.roll(4) } else { 1 + self.dice.roll(3) };
        let (name, tags) = match kind {
            0 => (format!("ops{}_{}", self.seed, self.dice.roll(8)), json!(["ops"])),
            1 => (format!("shared{}", self.dice.roll(5)), json!(["codescaler", "codescaler_user0"])),
            _ => {
                let user = format!("codescaler_user{}", self.dice.roll(3));
                (format!("build{}_{}", self.seed, self.writes), json!(["codescaler", user]))
            }
        };
        let action = "INSERT OR IGNORE INTO actions (name, spec_json) VALUES (?1, ?2)";
        let made = store.execute(action, params![name, json!({ "tags": tags }).to_string()]).unwrap();
        *self.actions.entry(name.clone()).or_default() += made as i64;
        let phase = ["pending", "running", "done", "failed"][self.dice.roll(4) as usize];
        let job = "INSERT INTO jobs (action, action_id, spec_json, phase, tags) VALUES (?1, ?1, '{}', ?2, ?3)";
        store.execute(job, params![name, phase, tags.to_string()]).unwrap();
        let id = store.last_insert_rowid();
        self.jobs.insert(id);
        if self.case.keys && self.dice.roll(2) == 0 {
            store.execute("INSERT INTO notes VALUES (?1)", [id]).unwrap();
            store.execute("INSERT INTO links VALUES (?1, ?1)", [id]).unwrap();
            self.with_rows.insert(id);
        }
        if kind == 0 {
            self.keep_job(store, id);
            self.keep_action(store, name);
        }
    }

    /// One that needs whatever action there is.
    fn set_service(&mut self, store: &Transaction<'_>) {
        let set = "INSERT OR REPLACE INTO services (name, spec_json)
                   SELECT ?1, json_object('actions', json_array(name)) FROM actions ORDER BY random() LIMIT 1";
        store.execute(set, [format!("web{}", self.dice.roll(3))]).unwrap();
    }

    /// A dependency on whatever there is, of an action of its own or a shared one; or a schedule or no tag, or as before.
    fn set_action(&mut self, store: &Transaction<'_>) {
        let set = |name: &str, spec: serde_json::Value| {
            store.execute("UPDATE actions SET spec_json = ?2 WHERE name = ?1", params![name, spec.to_string()]).unwrap()
        };
        let any = "SELECT name FROM actions WHERE name LIKE ?1 ORDER BY random() LIMIT 1";
        let any = |like: String| {
            store
                .query_row(any, [like], |row| row.get::<_, String>(0))
                .optional()
                .unwrap()
                .into_iter()
                .collect::<Vec<_>>()
        };
        let (own, build) = (format!("ops{}_{}", self.seed, self.dice.roll(8)), format!("build{}_%", self.seed));
        match self.dice.roll(4) {
            0 => {
                if set(&own, json!({ "tags": ["ops"], "depends_on": any("%d%".to_owned()) })) > 0 {
                    self.keep_action(store, own);
                }
            }
            1 => {
                let shared = format!("shared{}", self.dice.roll(5));
                set(&shared, json!({ "tags": ["codescaler"], "depends_on": any("%d%".to_owned()) }));
            }
            2 => {
                for name in any(build) {
                    let scheduled = json!({ "tags": ["codescaler"], "schedule_policy": { "every": "1h" } });
                    set(&name, if self.dice.roll(2) == 0 { scheduled } else { json!({ "tags": ["ops"] }) });
                    self.keep_action(store, name);
                }
            }
            _ => {
                let kept = self.kept_actions.keys().find(|name| name.starts_with("build")).cloned();
                if let Some(name) = kept {
                    assert_eq!(
                        set(&name, json!({ "tags": ["codescaler"] })),
                        1,
                        "{name} has had a schedule, or no tag"
                    );
                    self.kept_actions.remove(&name);
                }
            }
        }
    }

    fn finish(&mut self, store: &Transaction<'_>) {
        let finish =
            "UPDATE jobs SET phase = 'done' WHERE phase IN ('running', 'pending') AND tags LIKE '%codescaler%'";
        store.execute(finish, ()).unwrap();
        self.change_own(store, "UPDATE jobs SET phase = 'done' WHERE id = ?1");
    }

    fn restart(&mut self, store: &Transaction<'_>) {
        let restart = "UPDATE jobs SET phase = 'running', attempt = attempt + 1
                       WHERE id = (SELECT max(id) FROM jobs WHERE phase = 'done' AND tags LIKE '%codescaler%')";
        store.execute(restart, ()).unwrap();
        self.change_own(store, "UPDATE jobs SET phase = 'running', attempt = attempt + 1 WHERE id = ?1");
    }

    /// A job of codescaler's that no longer is.
    fn retag(&mut self, store: &Transaction<'_>) {
        let retag = "UPDATE jobs SET tags = '[\"ops\",\"former\"]'
                     WHERE id = (SELECT max(id) FROM jobs WHERE tags LIKE '%\"codescaler\"%')
                     RETURNING id";
        let id = store.query_row(retag, (), |row| row.get(0)).optional().unwrap();
        if let Some(id) = id {
            self.keep_job(store, id);
        }
    }

    /// The other way round, and from one user to another.
    fn tag(&mut self, store: &Transaction<'_>) {
        if let Some((id, _)) = self.others_jobs.pop_first() {
            let tag = "UPDATE jobs SET tags = '[\"codescaler\",\"codescaler_user2\"]' WHERE id = ?1";
            assert_eq!(store.execute(tag, [id]).unwrap(), 1, "job {id} was not codescaler's");
        }
        let retag = "UPDATE jobs SET tags = '[\"codescaler\",\"codescaler_user1\"]'
                     WHERE id = (SELECT max(id) FROM jobs WHERE tags LIKE '%\"codescaler\"%')";
        store.execute(retag, ()).unwrap();
    }

    fn change_own(&mut self, store: &Transaction<'_>, change: &str) {
        let last = self.others_jobs.last_key_value().map(|(id, _)| *id);
        if let Some(id) = last {
            assert_eq!(store.execute(change, [id]).unwrap(), 1, "job {id} is not codescaler's");
            self.keep_job(store, id);
        }
    }

    fn keep_job(&mut self, store: &Connection, id: i64) {
        self.others_jobs.insert(id, row(store, JOB, &id).unwrap());
    }

    fn keep_action(&mut self, store: &Connection, name: String) {
        let content = row(store, ACTION, &name).unwrap();
        self.kept_actions.insert(name, content);
    }
}

const JOB: &str = "SELECT * FROM jobs WHERE id = ?1";
const ACTION: &str = "SELECT * FROM actions WHERE name = ?1";

/// A whole row, as text.
fn row(store: &Connection, sql: &str, key: &dyn ToSql) -> Option<String> {
    let mut statement = store.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([key]).unwrap();
    rows.next().unwrap().map(|row| (0..columns).map(|column| format!("{:?}, ", row.get_ref(column).unwrap())).collect())
}
