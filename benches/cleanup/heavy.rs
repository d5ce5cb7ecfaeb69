//! Jobs as real stores have them: 143 KB each, nearly all of it on overflow pages, and actions with specs of 45 KB.
//!
//! A column that stands behind the large ones is reached by following their pages, so the order of columns matters: here it is
//! that of the newest layout, and that of a store in which `action_id` and `archived` were added later and stand last.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use rustix::fs::{Advice, fadvise};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::rows::{call, milliseconds, peak_memory, waits};
use crate::stores::{Like, Stores};

/// The jobs of a call of which the lock is measured: a twentieth of all.
fn a_call(jobs: usize) -> Value {
    json!({ "tags": ["codescaler"], "limit": jobs / 20 })
}

/// Fills a store with jobs of 143 KB, each with an action of its own, nine of ten of them codescaler's.
pub(crate) fn fill(connection: &Connection, jobs: usize) {
    let line = |number: usize| match number % 4 {
        0 => format!(r#"log \"step {number}: compile\" && ninja -j4 target_{number}\n"#),
        _ => format!(r"cp build/output_{number}.o /srv/artifacts/web/{number}\n"),
    };
    let script: String = (0..820).map(line).collect();
    let stderr: String =
        (0..1000).map(|line| format!("warning: unused variable `value_{line}` in src/part_{line}.rs\n")).collect();
    let stats =
        json!((0..1200).map(|at| json!({ "at": at, "rss": 4096 * at, "cpu": 0.5 })).collect::<Vec<_>>()).to_string();
    let mut job = connection
        .prepare(
            "INSERT INTO jobs (action, action_id, spec_json, phase, tags, stats_json, stderr, exit_code, run_id, created_at_ms,
                               started_at_ms, finished_at_ms)
             VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8, ?8, ?8)",
        )
        .unwrap();
    let mut action = connection
        .prepare("INSERT INTO actions (name, spec_json, created_at_ms, updated_at_ms) VALUES (?1, ?2, ?3, ?3)")
        .unwrap();
    for id in 0..jobs {
        let codescaler = id % 10 != 9;
        let (owner, tags) = match codescaler {
            true => ("codescaler", format!(r#"["codescaler","codescaler_user{}","codescaler_kind_build"]"#, id % 14)),
            false => ("ops", r#"["ops","nightly"]"#.to_owned()),
        };
        let name = format!("{owner}_build_{id}_0123456789abcdef");
        let spec = format!(
            r#"{{"tags":{tags},"schedule_policy":null,"depends_on":[],"script":"{script}","env":{{"JOB":"{id}"}}}}"#
        );
        let phase = if id % 100 == 98 { "running" } else { "succeeded" };
        let created_at = 1_700_000_000_000 + id as i64;
        job.execute(params![name, spec, phase, tags, stats, stderr, id as i64 / 4 + 1, created_at]).unwrap();
        action.execute(params![name, spec, created_at]).unwrap();
    }
}

/// The columns that a row's scans read: of jobs, and of actions.
type Read = (&'static str, &'static str);

const TAGS: Read = ("tags", "spec_json");
const CREATED_AT: Read = ("created_at_ms", "spec_json");
const ACTION_ID: Read = ("action_id", "spec_json");

/// Scans that load each value once and compute nothing of it, by one connection.
fn scans(store: &Path, (of_jobs, of_actions): Read) -> f64 {
    let connection = Connection::open(store).unwrap();
    let started = Instant::now();
    for (table, column) in [("jobs", of_jobs), ("actions", of_actions)] {
        let sql = format!("SELECT sum(length(CAST({column} AS BLOB))) FROM {table} NOT INDEXED");
        assert!(connection.query_row(&sql, (), |row| row.get::<_, i64>(0)).unwrap() > 0);
    }
    milliseconds(started)
}

fn dry_run_params(jobs: usize) -> Value {
    json!({ "tags": ["codescaler"], "dry_run": true, "limit": jobs.max(50_000) })
}

fn with_a_cutoff(jobs: usize) -> Value {
    let mut params = dry_run_params(jobs);
    params["before_ms"] = json!(1_780_000_000_000_i64);
    params
}

fn dry(store: &Path, params: &Value, read: Read) -> (f64, f64) {
    scans(store, read);
    let report = call(store, params);
    assert!(report.jobs_planned > 0 && report.jobs_planned == report.actions_planned);
    (report.duration_ms, scans(store, read))
}

pub(crate) fn dry_run(stores: &Stores, jobs: usize) -> (f64, f64) {
    dry(&stores.of(jobs, Like::Heavy), &dry_run_params(jobs), TAGS)
}

pub(crate) fn dry_run_with_a_cutoff(stores: &Stores, jobs: usize) -> (f64, f64) {
    dry(&stores.of(jobs, Like::Heavy), &with_a_cutoff(jobs), CREATED_AT)
}

/// As a rule of retention asks, for the jobs of one actor in fourteen.
pub(crate) fn dry_run_of_an_actor(stores: &Stores, jobs: usize) -> (f64, f64) {
    let mut params = with_a_cutoff(jobs);
    params["tags"] = json!(["codescaler", "codescaler_user2"]);
    dry(&stores.of(jobs, Like::Heavy), &params, CREATED_AT)
}

pub(crate) fn migrated_dry_run(stores: &Stores, jobs: usize) -> (f64, f64) {
    dry(&stores.of(jobs, Like::Migrated), &dry_run_params(jobs), ACTION_ID)
}

pub(crate) fn migrated_dry_run_with_a_cutoff(stores: &Stores, jobs: usize) -> (f64, f64) {
    dry(&stores.of(jobs, Like::Migrated), &with_a_cutoff(jobs), ACTION_ID)
}

/// Nothing of the file is in memory when either begins.
pub(crate) fn cold_dry_run(stores: &Stores, jobs: usize) -> (f64, f64) {
    let store = stores.of(jobs, Like::Heavy);
    let forget = || {
        rustix::fs::sync();
        let file = std::fs::File::open(&store).unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    };
    forget();
    let ours = call(&store, &dry_run_params(jobs)).duration_ms;
    forget();
    (ours, scans(&store, TAGS))
}

pub(crate) fn memory(stores: &Stores, jobs: usize) -> (f64, f64) {
    (peak_memory(&stores.of(jobs, Like::Heavy), "dry-run"), 100.0)
}

/// A dry run, and the same without what the sum of the rows' bytes adds to a bare scan.
pub(crate) fn bytes_planned(stores: &Stores, jobs: usize) -> (f64, f64) {
    weighed(&stores.of(jobs, Like::Heavy), &dry_run_params(jobs))
}

pub(crate) fn light_bytes_planned(stores: &Stores, jobs: usize) -> (f64, f64) {
    // The weights of the jobs that a call with the default limit takes, and of all actions.
    weighed(&stores.of(jobs, Like::Newest), &json!({ "tags": ["codescaler"], "dry_run": true }))
}

fn weighed(store: &Path, params: &Value) -> (f64, f64) {
    let whole = call(store, params);
    let connection = Connection::open(store).unwrap();
    let last = whole.job_ids.last().copied().unwrap_or_default();
    let scan = |weighed: bool| {
        let started = Instant::now();
        for (table, to) in [("jobs", last), ("actions", i64::MAX)] {
            let mut columns = connection.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
            let columns: Vec<String> = columns.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
            let weight = |column: &String| {
                format!("CASE WHEN typeof({column}) IN ('text', 'blob') THEN octet_length({column}) ELSE 0 END")
            };
            let bytes =
                if weighed { columns.iter().map(weight).collect::<Vec<_>>().join(" + ") } else { "0".to_owned() };
            let sql = format!("SELECT sum({bytes}) FROM {table} NOT INDEXED WHERE id <= {to}");
            assert!(connection.query_row(&sql, (), |row| row.get::<_, i64>(0)).unwrap() >= 0);
        }
        milliseconds(started)
    };
    scan(true);
    let adds = scan(true) - scan(false);
    (whole.duration_ms, whole.duration_ms - adds)
}

pub(crate) fn lock(stores: &Stores, jobs: usize) -> (f64, f64) {
    lock_beside_a_writer(stores, jobs, Like::Heavy, Indexes::Stay).0
}

pub(crate) fn migrated_lock(stores: &Stores, jobs: usize) -> (f64, f64) {
    lock_beside_a_writer(stores, jobs, Like::Migrated, Indexes::Stay).0
}

pub(crate) fn lock_without_indexes(stores: &Stores, jobs: usize) -> (f64, f64) {
    lock_beside_a_writer(stores, jobs, Like::Heavy, Indexes::Go).0
}

pub(crate) fn migrated_lock_without_indexes(stores: &Stores, jobs: usize) -> (f64, f64) {
    lock_beside_a_writer(stores, jobs, Like::Migrated, Indexes::Go).0
}

pub(crate) fn writers_worst_wait(stores: &Stores, jobs: usize) -> (f64, f64) {
    lock_beside_a_writer(stores, jobs, Like::Heavy, Indexes::Stay).1
}

#[derive(PartialEq, Eq)]
enum Indexes {
    Stay,
    Go,
}

/// The lock of a call beside a writer, against the same call with nobody writing and scans of what may refer to something, on
/// one core; and the writer's worst wait against that lock.
fn lock_beside_a_writer(stores: &Stores, jobs: usize, like: Like, indexes: Indexes) -> ((f64, f64), (f64, f64)) {
    let copy = || {
        let store = stores.copy_of(jobs, like);
        if indexes == Indexes::Go {
            let connection = Connection::open(&store).unwrap();
            for index in ["phase", "action", "run", "created", "archived"] {
                connection.execute(&format!("DROP INDEX idx_jobs_{index}"), ()).unwrap();
            }
        }
        store
    };
    pinned(|| {
        let store = copy();
        let alone = call(&store, &a_call(jobs)).lock_ms;
        scans(&store, ACTION_ID);
        let alone = alone + scans(&store, ACTION_ID);
        let store = copy();
        let mut locked = 0.0;
        let waits = waits(&store, || {
            thread::sleep(Duration::from_millis(20));
            let report = call(&store, &a_call(jobs));
            assert_eq!(report.jobs_deleted as usize, jobs / 20);
            locked = report.lock_ms;
        });
        ((locked, alone), (waits[waits.len() - 1], locked))
    })
}

/// Does `work` on one core, threads included that it starts.
pub(crate) fn pinned<T>(work: impl FnOnce() -> T) -> T {
    let all = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).rev().find(|core| all.is_set(*core)).unwrap());
    sched_setaffinity(None, &one).unwrap();
    let done = work();
    sched_setaffinity(None, &all).unwrap();
    done
}
