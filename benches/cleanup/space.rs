//! Giving space back, on a store in hero_proc#131's shape: jobs of 145 KB, of which all but four go.

use std::path::Path;
use std::time::Instant;

use hero_proc_cleanup::{
    CLEANUP_BY_TAG, Guard, Host, ReclaimOutcome, ReclaimReason, ReclaimRequest, Reclaimed, Report, reclaim as give_back,
};
use rusqlite::{Connection, params};
use serde_json::json;

use crate::rows::{milliseconds, waits};
use crate::stores::{Like, Stores};

/// As many jobs as the store has that hero_proc#131 tells of.
pub(crate) const JOBS: usize = 2_429;
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
    request.within = std::time::Duration::from_millis(within_ms);
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
fn cleaned(stores: &Stores, jobs: usize) -> (std::path::PathBuf, Report) {
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

/// A store of which half has been deleted.
fn halved(stores: &Stores, jobs: usize) -> std::path::PathBuf {
    let store = stores.copy_of(jobs.min(4_000), Like::Large);
    let connection = Connection::open(&store).unwrap();
    connection.execute_batch("DELETE FROM jobs WHERE id % 2; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(connection);
    rustix::fs::sync();
    store
}

pub(crate) fn long_lock(stores: &Stores, jobs: usize) -> (f64, f64) {
    (reclaim(&halved(stores, jobs), 2000).lock_ms.unwrap(), 2000.0)
}

pub(crate) fn writer_beside_it(stores: &Stores, jobs: usize) -> (f64, f64) {
    let store = halved(stores, jobs);
    let mut lock = 0.0;
    let waits = waits(&store, || lock = reclaim(&store, 2000).lock_ms.unwrap());
    (waits[waits.len() - 1], lock)
}
