//! Giving space back, on a store in hero_proc#131's shape: jobs of 145 KB, of which all but four go.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hero_proc_cleanup::{
    CLEANUP_BY_TAG, Guard, Host, ReclaimMode, ReclaimOutcome, ReclaimReason, ReclaimRequest, Reclaimed, Report,
    reclaim as give_back,
};
use rusqlite::{Connection, params};
use serde_json::json;

use crate::rows::{milliseconds, waits};
use crate::stores::{Like, Stores};

/// As many jobs as the store has that hero_proc#131 tells of.
pub(crate) const JOBS: usize = 2_429;
/// The most jobs of 145 KB in a store.
const MOST_LARGE: usize = 4_000;
/// Those that stay.
const STAY: usize = 4;
/// Actions that no job refers to.
const LEAKED: usize = 45;

/// Fills a store with jobs, each with an action of its own.
pub(crate) fn fill(connection: &Connection, jobs: usize) {
    let (spec, rest) = ("x".repeat(45_000), "y".repeat(50_000));
    let mut job = connection
        .prepare(
            "INSERT INTO jobs (action, action_id, spec_json, stats_json, stderr, phase, tags, created_at_ms)
             VALUES (?1, ?1, ?2, ?3, ?3, ?4, '[\"codescaler\"]', ?5)",
        )
        .unwrap();
    let mut action =
        connection.prepare("INSERT INTO actions (name, spec_json, created_at_ms) VALUES (?1, ?2, ?3)").unwrap();
    for id in 0..jobs + LEAKED {
        let (name, created_at) = (format!("codescaler_build_{id}"), 1_700_000_000_000 + id as i64);
        if id < jobs {
            let spec = format!(r#"{{"tags":["codescaler"],"script":"{spec}"}}"#);
            let phase = if id < STAY { "running" } else { "succeeded" };
            job.execute(params![name, spec, rest, phase, created_at]).unwrap();
        }
        action.execute(params![name, r#"{"tags":["codescaler"]}"#, created_at]).unwrap();
    }
}

fn host() -> Host {
    Host::new(Guard::codescaler())
}

fn clean(store: &Path) -> Report {
    let params = json!({ "tags": ["codescaler"] });
    let report = hero_proc_cleanup::call(CLEANUP_BY_TAG, &params, store, &host(), chrono::Utc::now()).unwrap();
    serde_json::from_str(report.get()).unwrap()
}

fn reclaim(store: &Path, within_ms: u64) -> Reclaimed {
    let mut request = ReclaimRequest::default();
    request.within = Duration::from_millis(within_ms);
    let reclaimed = give_back(store, &host(), &request).unwrap();
    // On a machine that is busy enough, it is given up in time.
    let given_up = reclaimed.reason == Some(ReclaimReason::LockTooLong) && within_ms > 1000;
    assert!(given_up || reclaimed.outcome == ReclaimOutcome::Done, "{reclaimed:?}");
    reclaimed
}

/// The bare thing: `VACUUM`, then what the checkpoint does, with the same settings.
fn bare(store: &Path) -> f64 {
    let connection = Connection::open(store).unwrap();
    connection
        .execute_batch("PRAGMA synchronous = normal; PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = file")
        .unwrap();
    let started = Instant::now();
    connection.execute_batch("VACUUM").unwrap();
    for mode in ["PASSIVE", "TRUNCATE"] {
        connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), (), |_| Ok(())).unwrap();
    }
    milliseconds(started)
}

/// A store of which most has been deleted.
fn cleaned(stores: &Stores, jobs: usize) -> (PathBuf, Report) {
    let store = stores.copy_of(jobs.min(JOBS), Like::Large);
    let report = clean(&store);
    assert_eq!(report.jobs_deleted as usize, jobs.min(JOBS) - STAY);
    rustix::fs::sync();
    (store, report)
}

pub(crate) fn against_vacuum(stores: &Stores, jobs: usize) -> (f64, f64) {
    let bare = bare(&cleaned(stores, jobs).0);
    (reclaim(&cleaned(stores, jobs).0, 1000).duration_ms, bare)
}

/// The file and its WAL after it, and the pages that hold something, in MB.
pub(crate) fn file(stores: &Stores, jobs: usize) -> (f64, f64) {
    let reclaimed = reclaim(&cleaned(stores, jobs).0, 1000);
    let live = reclaimed.file_bytes_before - reclaimed.free_bytes_before;
    ((reclaimed.file_bytes_after + reclaimed.wal_bytes_after) as f64 / 1e6, live as f64 / 1e6)
}

pub(crate) fn both_locks(stores: &Stores, jobs: usize) -> (f64, f64) {
    let (store, report) = cleaned(stores, jobs);
    (report.lock_ms + reclaim(&store, 1000).lock_ms.unwrap(), 400.0)
}

/// A store of jobs of 145 KB, of which half have been deleted.
fn halved(stores: &Stores, jobs: usize) -> PathBuf {
    without(stores.copy_of(jobs.min(MOST_LARGE), Like::Large), "DELETE FROM jobs WHERE id % 2")
}

/// The store at `path`, once `deletion` is done.
fn without(path: PathBuf, deletion: &str) -> PathBuf {
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(&format!("{deletion}; PRAGMA wal_checkpoint(TRUNCATE)")).unwrap();
    drop(connection);
    rustix::fs::sync();
    path
}

/// A request to give space back in the shortest time for which that is begun at all, and the host that allows it.
fn just_in_time(store: &Path) -> (Host, ReclaimRequest) {
    let (mut host, mut request) = (host(), ReclaimRequest::default());
    host.longest_lock = Duration::from_secs(60);
    (request.min_free_percent, request.min_free_bytes) = (0, 0);
    (request.mode, request.within) = (ReclaimMode::DryRun, host.longest_lock);
    let expected = give_back(store, &host, &request).unwrap().expected_lock_ms.unwrap();
    request.within = Duration::from_millis(expected.ceil() as u64).max(Duration::from_millis(10));
    request.mode = ReclaimMode::Reclaim;
    (host, request)
}

/// The lock, and `within_ms`.
fn lock(store: &Path) -> (f64, f64) {
    let (host, request) = just_in_time(store);
    // On a machine that is busy enough, it is given up in time.
    let reclaimed = give_back(store, &host, &request).unwrap();
    assert!(reclaimed.lock_ms.unwrap() > 0.0, "{reclaimed:?}");
    (reclaimed.lock_ms.unwrap(), request.within.as_secs_f64() * 1000.0)
}

pub(crate) fn lock_of_large_rows(stores: &Stores, jobs: usize) -> (f64, f64) {
    lock(&halved(stores, jobs))
}

/// Rows of 1 KB, with hero_proc's indexes.
pub(crate) fn lock_of_rows(stores: &Stores, jobs: usize) -> (f64, f64) {
    lock(&without(stores.copy_of(jobs, Like::Newest), "DELETE FROM jobs WHERE id % 2"))
}

/// Rows that are hardly more than their entries in ten more indexes.
pub(crate) fn lock_of_many_indexes(stores: &Stores, jobs: usize) -> (f64, f64) {
    let indexes: String = (0..10)
        .map(|number| format!("CREATE INDEX of_{number} ON jobs (phase, created_at_ms * {}, id);", 7919 + number))
        .collect();
    let small = "DELETE FROM jobs WHERE id % 2; UPDATE jobs SET spec_json = '{}', script = NULL; DELETE FROM actions";
    lock(&without(stores.copy_of(jobs, Like::Newest), &format!("{indexes} {small}")))
}

/// The same rows of 1 KB, with a rollback journal.
pub(crate) fn lock_with_a_journal(stores: &Stores, jobs: usize) -> (f64, f64) {
    let deletion = "PRAGMA journal_mode = delete; DELETE FROM jobs WHERE id % 2";
    lock(&without(stores.copy_of(jobs, Like::Newest), deletion))
}

/// SQLite's own busy handler looks for the lock every 100 ms in the end: that is part of the wait.
pub(crate) fn writer_beside_it(stores: &Stores, jobs: usize) -> (f64, f64) {
    let store = halved(stores, jobs);
    let (host, request) = just_in_time(&store);
    let waits = waits(&store, || _ = give_back(store.as_path(), &host, &request).unwrap());
    (waits[waits.len() - 1], request.within.as_secs_f64() * 1000.0)
}

/// Where six jobs have been deleted, the call is over before anything is touched.
pub(crate) fn skip(stores: &Stores, jobs: usize) -> (f64, f64) {
    let store = without(stores.copy_of(jobs.min(MOST_LARGE), Like::Large), "DELETE FROM jobs WHERE id <= 6");
    let skipped = give_back(store.as_path(), &host(), &ReclaimRequest::default()).unwrap();
    assert_eq!(skipped.reason, Some(ReclaimReason::TooLittleFree), "{skipped:?}");
    (skipped.duration_ms, 10.0)
}
