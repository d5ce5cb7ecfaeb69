//! Space that deleted rows leave is given back to the file system, and nothing else changes.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hero_proc_cleanup::{
    Cancel, Kind, RECLAIM, ReclaimMethod, ReclaimMode, ReclaimOutcome, ReclaimReason, ReclaimRequest, Reclaimed,
    RpcError, StoreError, StoreRef, reclaim,
};
use rusqlite::Connection;
use rustix::fs::FallocateFlags;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::call::host;
use crate::support::layout::every_layout;
use crate::support::mounted::Mounted;
use crate::support::sample::{SCHEMA, Sample, assert_intact, one};
use crate::support::spacious::{always, content, fill, reclaim_all, spacious};
use crate::support::steps;

/// The outcome and its reason.
fn outcome(reclaimed: &Reclaimed) -> (ReclaimOutcome, Option<ReclaimReason>) {
    (reclaimed.outcome, reclaimed.reason)
}

const DONE: (ReclaimOutcome, Option<ReclaimReason>) = (ReclaimOutcome::Done, None);

fn skipped(reason: ReclaimReason) -> (ReclaimOutcome, Option<ReclaimReason>) {
    (ReclaimOutcome::Skipped, Some(reason))
}

fn dry_run() -> ReclaimRequest {
    let mut request = always();
    request.mode = ReclaimMode::DryRun;
    request
}

/// The size of a store's file.
fn file(sample: &Sample) -> u64 {
    fs::metadata(&sample.path).unwrap().len()
}

fn wal(sample: &Sample) -> u64 {
    fs::metadata(sample.file("hero_proc.db-wal")).map_or(0, |wal| wal.len())
}

/// What stands in the file beside rows.
fn settings(sample: &Sample) -> Vec<String> {
    let settings = ["journal_mode", "page_size", "auto_vacuum", "user_version", "application_id", "encoding"];
    let value =
        |name| sample.open().pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
    settings.map(|name| format!("{name} {:?}", value(name))).to_vec()
}

#[test]
fn the_file_becomes_short_and_nothing_else_changes() {
    for journal in ["wal", "delete"] {
        for auto_vacuum in ["none", "incremental", "full"] {
            // In both journal modes the smallest, the usual and the largest; of the others, half in each.
            let others = if journal == "wal" { [1024, 8192, 32_768].as_slice() } else { &[2048, 16_384] };
            for &page_size in [512, 4096, 65_536].iter().chain(others) {
                let what = format!("{journal}, {auto_vacuum}, {page_size}");
                let sample = spacious(journal, auto_vacuum, page_size, 200, 20_000);
                let (before, set, long) = (content(&sample), settings(&sample), file(&sample));
                let host_has = sample.open();
                assert_eq!(one::<i64>(&host_has, "SELECT count(*) FROM jobs"), 20);

                let dry = reclaim(&sample, &host(), &dry_run()).unwrap();
                assert!(dry.dry_run && dry.lock_ms.is_none(), "{what}");
                assert_eq!((file(&sample), wal(&sample)), (long, 0), "{what}");
                let reclaimed = reclaim_all(&sample).unwrap();
                assert!(!reclaimed.dry_run, "{what}");

                if auto_vacuum == "full" {
                    for reclaimed in [&dry, &reclaimed] {
                        assert_eq!(outcome(reclaimed), skipped(ReclaimReason::NothingToDo), "{what}");
                        assert_eq!((reclaimed.method, reclaimed.temp_needed_bytes), (None, None), "{what}");
                    }
                } else {
                    let method = if auto_vacuum == "none" { ReclaimMethod::Vacuum } else { ReclaimMethod::Incremental };
                    for reclaimed in [&dry, &reclaimed] {
                        assert_eq!(
                            (outcome(reclaimed), reclaimed.method),
                            (DONE, Some(method)),
                            "{what}: {reclaimed:?}"
                        );
                        assert_eq!((reclaimed.file_bytes_before, reclaimed.wal_bytes_after), (long, 0), "{what}");
                    }
                    assert!(file(&sample) < long / 3, "{what}: {reclaimed:?}");
                    let live = long - reclaimed.free_bytes_before;
                    assert_eq!(dry.file_bytes_after, live, "{what}");
                    assert!(file(&sample) <= live + 4 * u64::from(page_size), "{what}: {reclaimed:?}");
                    assert!(reclaimed.lock_ms.unwrap() > 0.0, "{what}");
                    assert!(reclaimed.expected_lock_ms.unwrap() > 0.0, "{what}");
                }
                assert_eq!(reclaimed.file_bytes_after, file(&sample), "{what}");
                assert_eq!(wal(&sample), 0, "{what}");
                assert_eq!((content(&sample), settings(&sample)), (before, set), "{what}");
                assert_eq!(one::<i64>(&host_has, "SELECT count(*) FROM jobs"), 20, "the host goes on: {what}");
                assert_intact(&sample.path);
            }
        }
    }
}

/// The layout says nothing of how much is free, and stays as it is.
#[test]
fn the_file_becomes_short_in_every_layout() {
    for (number, layout) in every_layout().into_iter().enumerate() {
        let sample = Sample::with_schema("");
        // Each `auto_vacuum` and each journal mode with a third, or a half, of the layouts.
        let auto_vacuum = ["none", "incremental", "full"][number % 3];
        sample.execute(&format!(
            "PRAGMA journal_mode = delete; PRAGMA synchronous = off; PRAGMA auto_vacuum = {auto_vacuum}; VACUUM; {}",
            layout.schema()
        ));
        sample.execute(&format!(
            r#"BEGIN;
               WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
               INSERT INTO jobs (action, {}, stderr, phase, tags)
               SELECT 'action_' || i, '{{}}', hex(randomblob(10000)), 'done', '["codescaler"]' FROM n;
               COMMIT;
               BEGIN;
               DELETE FROM jobs WHERE id % 10;
               COMMIT"#,
            layout.spec
        ));
        sample.journal(["wal", "delete"][number % 2]);
        let (before, long) = (content(&sample), file(&sample));
        let reclaimed = reclaim_all(&sample).unwrap();
        if auto_vacuum == "full" {
            assert_eq!(outcome(&reclaimed), skipped(ReclaimReason::NothingToDo), "{layout:?}");
        } else {
            assert!(outcome(&reclaimed) == DONE && file(&sample) < long / 2, "{layout:?}: {reclaimed:?}");
        }
        assert!(content(&sample) == before, "{layout:?}");
        assert_intact(&sample.path);
    }
}

/// Once it has been done, there is nothing more to do.
#[test]
fn a_second_time_gives_nothing_back() {
    for (auto_vacuum, reason) in [("none", ReclaimReason::TooLittleFree), ("incremental", ReclaimReason::TooLittleFree)]
    {
        let sample = spacious("wal", auto_vacuum, 4096, 200, 20_000);
        assert_eq!(outcome(&reclaim_all(&sample).unwrap()), DONE);
        let short = fs::read(&sample.path).unwrap();
        let again = reclaim(&sample, &host(), &ReclaimRequest::default()).unwrap();
        assert_eq!(outcome(&again), skipped(reason), "{auto_vacuum}");
        assert_eq!((again.lock_ms, again.free_bytes_before), (Some(0.0), 0));
        assert_eq!(fs::read(&sample.path).unwrap(), short);
    }
    let sample = spacious("wal", "incremental", 4096, 200, 20_000);
    reclaim_all(&sample).unwrap();
    assert_eq!(outcome(&reclaim_all(&sample).unwrap()), skipped(ReclaimReason::NothingToDo));
}

/// Both bounds must be met; each alone keeps the file as it is.
#[test]
fn too_little_must_be_free_by_neither_bound() {
    let sample = spacious("wal", "none", 4096, 200, 20_000);
    let free: i64 = sample.one("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size");
    let (free, all) = (free.unsigned_abs(), file(&sample));
    let percent = (free * 100 / all) as u8;
    assert!((80..95).contains(&percent));
    let asked = |min_free_percent, min_free_bytes| {
        let mut request = dry_run();
        (request.min_free_percent, request.min_free_bytes) = (min_free_percent, min_free_bytes);
        outcome(&reclaim(&sample, &host(), &request).unwrap())
    };
    assert_eq!(asked(percent, free), DONE);
    assert_eq!(asked(percent + 1, free), skipped(ReclaimReason::TooLittleFree));
    assert_eq!(asked(percent, free + 1), skipped(ReclaimReason::TooLittleFree));
    let usual = reclaim(&sample, &host(), &ReclaimRequest::default()).unwrap();
    assert_eq!(outcome(&usual), skipped(ReclaimReason::TooLittleFree), "16 MiB are not free");
    assert_eq!(file(&sample), all);
}

/// A lock that would be held for too long is not even tried for: somebody else has it all the while.
#[test]
fn what_would_take_too_long_is_not_begun() {
    for (journal, bytes) in [("wal", 200_000), ("delete", 20_000)] {
        let sample = spacious(journal, "none", 4096, 200, bytes);
        let writer = sample.open();
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut request = always();
        request.within = Duration::from_millis(10);
        let long = file(&sample);
        let reclaimed = reclaim(&sample, &host(), &request).unwrap();
        assert_eq!(outcome(&reclaimed), skipped(ReclaimReason::LockTooLong), "{journal}");
        assert!(reclaimed.expected_lock_ms.unwrap() > 10.0 && reclaimed.lock_ms == Some(0.0));
        assert_eq!((file(&sample), reclaimed.file_bytes_after), (long, long));
        // The host's own bound is as good.
        let mut host = host();
        host.longest_lock = Duration::from_millis(10);
        let reclaimed = reclaim(&sample, &host, &always()).unwrap();
        assert_eq!(outcome(&reclaimed), skipped(ReclaimReason::LockTooLong), "{journal}");
    }
}

/// A trigger and a virtual table may rely on row ids; a table whose row ids have a name of their own keeps them.
#[test]
fn row_ids_that_others_rely_on_are_kept() {
    const NOTES: &str = "CREATE TABLE notes (text TEXT); CREATE TABLE kept (id INTEGER PRIMARY KEY, text TEXT);";
    for (schema, expected) in [
        ("", DONE),
        ("CREATE VIRTUAL TABLE f USING fts5 (text, content=notes);", skipped(ReclaimReason::RowidsInUse)),
        ("CREATE VIRTUAL TABLE f USING fts5 (text, content=kept, content_rowid=id);", DONE),
        ("CREATE VIRTUAL TABLE f USING fts5 (text);", DONE),
        (
            "CREATE VIEW v AS SELECT rowid, text FROM notes; CREATE VIRTUAL TABLE f USING fts5 (text, content=v);",
            skipped(ReclaimReason::RowidsInUse),
        ),
        ("CREATE VIEW v AS SELECT rowid, text FROM notes;", DONE),
        ("CREATE VIRTUAL TABLE f USING fts4 (text);", DONE),
        (
            "CREATE TRIGGER t AFTER INSERT ON jobs BEGIN INSERT INTO notes VALUES (new.id); END;",
            skipped(ReclaimReason::RowidsInUse),
        ),
        ("CREATE TRIGGER t AFTER INSERT ON jobs BEGIN INSERT INTO kept VALUES (new.id, ''); END;", DONE),
    ] {
        let sample = spacious("wal", "none", 4096, 200, 20_000);
        sample.execute(&format!(
            "{NOTES}{schema} INSERT INTO notes VALUES ('a'), ('b'), ('c'); DELETE FROM notes WHERE text = 'b'"
        ));
        let before = content(&sample);
        assert_eq!(outcome(&reclaim_all(&sample).unwrap()), expected, "{schema}");
        assert!(content(&sample) == before, "{schema}");
    }
    // Steps move pages, not rows.
    let sample = spacious("wal", "incremental", 4096, 200, 20_000);
    sample.execute(&format!("{NOTES} CREATE VIRTUAL TABLE f USING fts5 (text, content=notes);"));
    assert_eq!(outcome(&reclaim_all(&sample).unwrap()), DONE);
}

/// An index in an order that only the host knows can't be written anew: an error, and all is as it was.
#[test]
fn what_only_the_host_can_write_stays_as_it_is() {
    let sample = spacious("wal", "none", 4096, 200, 20_000);
    sample.execute(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); CREATE INDEX n ON notes (text COLLATE RTRIM)",
    );
    sample.execute(
        "PRAGMA writable_schema = on; UPDATE sqlite_master SET sql = replace(sql, 'COLLATE RTRIM', 'COLLATE host_order')",
    );
    let (before, long) = (content(&sample), file(&sample));
    let error = call(&sample, &host(), &json!({ "min_free_percent": 0, "min_free_bytes": 0 })).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Internal), "{error:?}");
    assert!(content(&sample) == before);
    assert_eq!((file(&sample), wal(&sample)), (long, 0));
}

/// A connection that the host lends leads to the file; its settings and its temporary tables stay. In memory, there is none.
#[test]
fn a_connection_that_is_lent_will_do() {
    let sample = spacious("wal", "none", 4096, 200, 20_000);
    let long = file(&sample);
    let mut lent = sample.open();
    lent.execute_batch(
        "PRAGMA temp_store = memory; PRAGMA foreign_keys = on; PRAGMA busy_timeout = 77; PRAGMA cache_size = 99;
         CREATE TEMP TABLE mine AS SELECT 1 AS one",
    )
    .unwrap();
    let set = |lent: &Connection| {
        ["temp_store", "foreign_keys", "busy_timeout", "cache_size", "synchronous", "wal_autocheckpoint"]
            .map(|name| lent.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap())
    };
    let before = set(&lent);
    assert_eq!(outcome(&reclaim_all(&mut lent).unwrap()), DONE);
    assert!(file(&sample) < long / 5);
    assert_eq!(set(&lent), before);
    assert_eq!(one::<i64>(&lent, "SELECT one FROM mine"), 1);

    lent.execute_batch("BEGIN").unwrap();
    let error = reclaim_all(&mut lent).unwrap_err();
    assert!(
        matches!(&error, StoreError::Unfit { problems } if problems == &["the connection is inside a transaction"])
    );

    // A file that has lost its name is not in memory.
    let away = sample.file("away.db");
    fs::rename(&sample.path, &away).unwrap();
    lent.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(reclaim_all(&mut lent), Err(StoreError::Unusable { .. })));
    fs::rename(&away, &sample.path).unwrap();

    for memory in [":memory:", "", "file:a?mode=memory&cache=shared"] {
        let mut memory = Connection::open(memory).unwrap();
        memory.execute_batch(SCHEMA).unwrap();
        fill(&memory, 200, 20_000);
        let reclaimed = reclaim_all(&mut memory).unwrap();
        assert_eq!(outcome(&reclaimed), skipped(ReclaimReason::InMemory));
        assert!(reclaimed.free_bytes_before > 1_000_000);
        assert_eq!((reclaimed.file_bytes_before, reclaimed.file_bytes_after, reclaimed.method), (0, 0, None));
    }
}

/// A reader with an older snapshot: the store is written anew, the file becomes short once the reader has ended.
#[test]
fn a_reader_keeps_the_file_long_and_the_next_call_makes_it_short() {
    for (auto_vacuum, read_first) in [("none", true), ("none", false), ("incremental", true)] {
        let sample = spacious("wal", auto_vacuum, 4096, 200, 20_000);
        if !read_first {
            // Something in the WAL, so that the reader reads from there.
            sample.execute("UPDATE jobs SET phase = 'failed' WHERE id = 10");
        }
        let long = file(&sample);
        let reader = sample.open();
        reader.execute_batch("BEGIN").unwrap();
        assert_eq!(one::<i64>(&reader, "SELECT count(*) FROM jobs"), 20);
        let before = content(&sample);

        let reclaimed = reclaim_all(&sample).unwrap();
        assert_eq!(outcome(&reclaimed), (ReclaimOutcome::Partly, Some(ReclaimReason::Reader)), "{auto_vacuum}");
        assert_eq!((reclaimed.file_bytes_after, reclaimed.wal_bytes_after), (file(&sample), wal(&sample)));
        assert!(file(&sample) == long && wal(&sample) > 0, "{auto_vacuum}: {reclaimed:?}");
        assert_eq!(one::<i64>(&reader, "SELECT sum(length(stderr)) FROM jobs"), 20 * 20_000);
        reader.execute_batch("COMMIT").unwrap();

        // The usual bounds would not have it done: hardly a page is free by now.
        let request = if auto_vacuum == "none" { ReclaimRequest::default() } else { always() };
        let mut dry = request.clone();
        dry.mode = ReclaimMode::DryRun;
        let dry = reclaim(&sample, &host(), &dry).unwrap();
        let again = reclaim(&sample, &host(), &request).unwrap();
        assert_eq!((outcome(&dry), outcome(&again)), (DONE, DONE), "{auto_vacuum}: {dry:?} and {again:?}");
        assert!(dry.file_bytes_after.abs_diff(file(&sample)) <= 2 * 4096, "{auto_vacuum}: {dry:?}");
        assert!(file(&sample) < long / 5 && wal(&sample) == 0);
        assert_eq!((again.file_bytes_before, again.file_bytes_after), (long, file(&sample)));
        assert!(content(&sample) == before);
        assert_intact(&sample.path);
    }
}

/// Each further `VACUUM` would make the WAL longer, and the file no shorter.
#[test]
fn while_a_reader_stays_nothing_further_is_written() {
    let sample = spacious("wal", "none", 4096, 200, 20_000);
    let reader = sample.open();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(one::<i64>(&reader, "SELECT count(*) FROM jobs"), 20);
    let partly = (ReclaimOutcome::Partly, Some(ReclaimReason::Reader));
    assert_eq!(outcome(&reclaim_all(&sample).unwrap()), partly);
    let long = wal(&sample);
    let again = reclaim_all(&sample).unwrap();
    assert_eq!((outcome(&again), again.wal_bytes_after), (partly, long), "{again:?}");
}

/// The checkpoint that an earlier call could not do is not all that was to be done.
#[test]
fn a_file_that_becomes_short_in_part_is_not_done() {
    let sample = spacious("wal", "none", 4096, 200, 400_000);
    let long = file(&sample);
    let host_has = sample.open();
    host_has.execute_batch("PRAGMA wal_autocheckpoint = 0; BEGIN").unwrap();
    assert_eq!(one::<i64>(&host_has, "SELECT count(*) FROM jobs"), 20);
    assert_eq!(reclaim_all(&sample).unwrap().reason, Some(ReclaimReason::Reader));
    host_has.execute_batch("COMMIT; DELETE FROM jobs WHERE id % 20").unwrap();
    assert_eq!(file(&sample), long);

    let mut request = dry_run();
    request.within = Duration::from_millis(10);
    let dry = reclaim(&sample, &host(), &request).unwrap();
    request.mode = ReclaimMode::Reclaim;
    let reclaimed = reclaim(&sample, &host(), &request).unwrap();
    let expected = (ReclaimOutcome::Partly, Some(ReclaimReason::LockTooLong));
    assert_eq!((outcome(&dry), outcome(&reclaimed)), (expected, expected), "{dry:?} and {reclaimed:?}");
    assert_eq!(dry.file_bytes_after, file(&sample), "{dry:?}");
    assert!(file(&sample) < long / 5 && reclaimed.free_bytes_before > 3_000_000, "{reclaimed:?}");
    assert_eq!(outcome(&reclaim_all(&sample).unwrap()), DONE);
}

/// What the WAL holds may be all the room that is missing.
#[test]
fn the_wal_of_an_earlier_call_is_room() {
    let directory = TempDir::new().unwrap();
    let Some(_mounted) = Mounted::tmpfs(directory.path(), "16m") else {
        return crate::support::skipped("no file system can be mounted here");
    };
    let sample = spacious("wal", "none", 4096, 100, 80_000);
    let store = directory.path().join("hero_proc.db");
    fs::copy(&sample.path, &store).unwrap();
    let wal = || fs::metadata(directory.path().join("hero_proc.db-wal")).unwrap().len();
    let host_has = Connection::open(&store).unwrap();
    host_has.execute_batch("PRAGMA wal_autocheckpoint = 0; BEGIN").unwrap();
    assert_eq!(one::<i64>(&host_has, "SELECT count(*) FROM jobs"), 10);
    assert_eq!(reclaim_all(store.as_path()).unwrap().reason, Some(ReclaimReason::Reader));
    host_has.execute_batch("COMMIT; DELETE FROM jobs WHERE id % 20").unwrap();
    assert!(wal() > 700_000);

    let filler = fs::File::create(directory.path().join("filler")).unwrap();
    let disk = rustix::fs::statvfs(directory.path()).unwrap();
    rustix::fs::fallocate(&filler, FallocateFlags::empty(), 0, disk.f_bavail * disk.f_frsize - 100_000).unwrap();
    let reclaimed = reclaim_all(store.as_path()).unwrap();
    assert_eq!(outcome(&reclaimed), DONE, "{reclaimed:?}");
    assert!(fs::metadata(&store).unwrap().len() < 600_000, "{reclaimed:?}");
    assert_intact(&store);
}

/// A reader keeps each step from being committed (rollback journal): the lock that the attempts hold counts, and they pause.
#[test]
fn attempts_at_a_step_hold_the_lock_no_longer_than_steps_do() {
    let sample = spacious("delete", "incremental", 4096, 200, 20_000);
    let reader = sample.open();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(one::<i64>(&reader, "SELECT count(*) FROM jobs"), 20);
    let mut request = always();
    request.within = Duration::from_millis(200);
    let mut patient = host();
    patient.lock_timeout = Duration::from_secs(2);
    steps::when("free", || {});
    assert!(matches!(reclaim(&sample, &patient, &request), Err(StoreError::Busy)));
    assert!(steps::has_happened());
    // Each of them waits for up to 50 ms.
    let attempts = steps::begun().into_iter().filter(|step| *step == "free").count();
    assert!((1..=5).contains(&attempts), "{attempts}");
}

/// With a rollback journal, nobody else may read meanwhile.
#[test]
fn a_lock_that_is_not_free_in_time_is_busy() {
    let mut impatient = host();
    impatient.lock_timeout = Duration::from_millis(20);
    for (journal, holds) in
        [("wal", "BEGIN IMMEDIATE"), ("delete", "BEGIN IMMEDIATE"), ("delete", "BEGIN; SELECT * FROM jobs")]
    {
        for auto_vacuum in ["none", "incremental"] {
            let sample = spacious(journal, auto_vacuum, 4096, 200, 20_000);
            let (long, before) = (file(&sample), content(&sample));
            let other = sample.open();
            other.execute_batch(holds).unwrap();
            let what = format!("{journal}, {auto_vacuum}, {holds}");
            assert!(matches!(reclaim(&sample, &impatient, &always()), Err(StoreError::Busy)), "{what}");
            let error = call(&sample, &impatient, &json!({ "min_free_bytes": 0 })).unwrap_err();
            assert_eq!((error.kind(), &error.data["retryable"]), (Some(Kind::StoreBusy), &json!(true)), "{what}");
            assert!(error.message.contains("nothing was changed"), "{error}");
            other.execute_batch("ROLLBACK").unwrap();
            assert_eq!(file(&sample), long, "{what}");
            assert!(content(&sample) == before, "{what}");
            assert_eq!(outcome(&reclaim_all(&sample).unwrap()), DONE, "{what}");
        }
    }
}

/// Another connection writes all the while: whatever comes of it, the answer says how large the file is, and no write is lost.
#[test]
fn a_writer_who_does_not_pause_loses_nothing() {
    for journal in ["wal", "delete"] {
        for auto_vacuum in ["none", "incremental"] {
            let sample = spacious(journal, auto_vacuum, 4096, 200, 20_000);
            let stop = AtomicBool::new(false);
            let (begun, begins) = std::sync::mpsc::channel();
            let (written, reclaimed) = thread::scope(|scope| {
                let (sample, stop) = (&sample, &stop);
                let writer = scope.spawn(move || {
                    let store = sample.open();
                    store.busy_timeout(crate::support::process::PATIENCE).unwrap();
                    let mut written = 0;
                    while !stop.load(Ordering::Relaxed) {
                        store.execute("INSERT INTO runs (phase) VALUES ('done')", ()).unwrap();
                        written += 1;
                        if written == 10 {
                            begun.send(()).unwrap();
                        }
                    }
                    written
                });
                begins.recv().unwrap();
                let reclaimed = reclaim_all(sample);
                stop.store(true, Ordering::Relaxed);
                (writer.join().unwrap(), reclaimed)
            });
            let what = format!("{journal}, {auto_vacuum}: {reclaimed:?}");
            assert_eq!(sample.one::<i64>("SELECT count(*) FROM runs"), written, "{what}");
            match reclaimed {
                Ok(reclaimed) => {
                    assert!(outcome(&reclaimed) == DONE || reclaimed.outcome == ReclaimOutcome::Partly, "{what}")
                }
                Err(error) => assert!(matches!(error, StoreError::Busy), "{what}"),
            }
            assert_intact(&sample.path);
            let again = reclaim_all(&sample).unwrap();
            let what = format!("{what}, then {again:?}");
            assert_eq!(wal(&sample), 0, "{what}");
            let pages = |pragma| sample.one::<i64>(&format!("SELECT {pragma} FROM pragma_{pragma}"));
            assert_eq!(pages("freelist_count"), 0, "{what}");
            assert_eq!(file(&sample), (pages("page_count") * 4096).unsigned_abs(), "{what}");
        }
    }
}

/// A cancel reaches it wherever it is: while it waits, while it copies, between two steps.
#[test]
fn a_cancel_ends_it_with_nothing_changed() {
    for journal in ["wal", "delete"] {
        for (auto_vacuum, step) in
            [("none", "lock"), ("none", "vacuum"), ("incremental", "lock"), ("incremental", "checkpoint")]
        {
            if (journal, step) == ("delete", "checkpoint") {
                continue;
            }
            let sample = spacious(journal, auto_vacuum, 4096, 200, 20_000);
            let before = content(&sample);
            let mut host = host();
            host.cancel = Cancel::default();
            let cancel = host.cancel.clone();
            steps::when(step, move || cancel.cancel());
            let ended = reclaim(&sample, &host, &always());
            assert!(steps::has_happened());
            assert!(matches!(ended, Err(StoreError::Cancelled)), "{journal}, {auto_vacuum}, {step}: {ended:?}");
            assert!(content(&sample) == before);
            assert_intact(&sample.path);
            assert_eq!(outcome(&reclaim_all(&sample).unwrap()), DONE);
            let error = call(&sample, &host, &json!({})).unwrap_err();
            assert_eq!(
                (error.kind(), error.message.as_str()),
                (Some(Kind::Cancelled), "cancelled: no row was changed")
            );
        }
    }
}

/// The same while SQLite copies: no row is lost, whether the cancel came in time or not.
#[test]
fn a_cancel_in_the_midst_loses_nothing() {
    for journal in ["wal", "delete"] {
        let sample = spacious(journal, "none", 4096, 20_000, 2000);
        let before = content(&sample);
        let mut patient = host();
        patient.longest_lock = crate::support::process::PATIENCE;
        let mut request = always();
        request.within = patient.longest_lock;
        let cancel = patient.cancel.clone();
        let over = std::sync::Arc::new(AtomicBool::new(false));
        let ended = std::sync::Arc::clone(&over);
        steps::when("vacuum", move || {
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    thread::yield_now();
                    cancel.cancel();
                }
            });
        });
        let reclaimed = reclaim(&sample, &patient, &request);
        over.store(true, Ordering::Relaxed);
        assert!(steps::has_happened());
        assert!(matches!(reclaimed, Ok(_) | Err(StoreError::Cancelled)), "{journal}: {reclaimed:?}");
        assert!(content(&sample) == before, "{journal}: {reclaimed:?}");
        assert_intact(&sample.path);
    }
}

/// The method on hero_proc's side.
fn call<'s>(store: impl Into<StoreRef<'s>>, host: &hero_proc_cleanup::Host, params: &Value) -> Result<Value, RpcError> {
    let result = hero_proc_cleanup::call(RECLAIM, params, store, host, chrono::Utc::now())?;
    Ok(serde_json::from_str(result.get()).unwrap())
}

#[test]
fn params_are_read_and_bounded() {
    let sample = spacious("wal", "none", 4096, 200, 20_000);
    let call = |params: Value| call(&sample, &host(), &params);
    for param in ["within_ms", "min_free_percent", "min_free_bytes", "dry_run"] {
        let mut params = json!({ "dry_run": true });
        params[param] = Value::Null;
        assert_eq!(call(params).unwrap()["reason"], "too_little_free", "{param}: null counts as absent");
    }
    for (param, value) in [
        ("within_ms", json!(9)),
        ("within_ms", json!(2001)),
        ("within_ms", json!("1s")),
        ("within_ms", json!(50.5)),
        ("min_free_percent", json!(-1)),
        ("min_free_percent", json!(101)),
        ("min_free_bytes", json!(-1)),
        ("dry_run", json!(1)),
        ("dryrun", json!(true)),
        ("tags", json!(["codescaler"])),
    ] {
        let error = call(json!({ param: value })).unwrap_err();
        assert_eq!((error.kind(), &error.data["param"]), (Some(Kind::InvalidParams), &json!(param)), "{value}");
    }
    for within_ms in [10, 2000] {
        let params = json!({ "within_ms": within_ms, "min_free_percent": 0, "min_free_bytes": 0, "dry_run": true });
        assert_eq!(call(params).unwrap()["outcome"], "done");
    }
    assert_eq!(call(json!([])).unwrap_err().kind(), Some(Kind::InvalidParams));

    let keys: Vec<String> = call(json!({})).unwrap().as_object().unwrap().keys().cloned().collect();
    let mut expected = [
        "dry_run",
        "outcome",
        "reason",
        "method",
        "file_bytes_before",
        "file_bytes_after",
        "wal_bytes_after",
        "free_bytes_before",
        "temp_needed_bytes",
        "temp_free_bytes",
        "store_needed_bytes",
        "store_free_bytes",
        "expected_lock_ms",
        "lock_ms",
        "duration_ms",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
}

#[test]
fn what_is_no_store_is_refused() {
    let sample = Sample::with_schema("CREATE TABLE other (a);");
    let error = call(&sample, &host(), &json!({})).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::StoreUnfit));
    assert_eq!(error.data["problems"], json!(["there is no table jobs", "there is no table actions"]));
    let missing = sample.file("missing.db");
    assert!(matches!(reclaim_all(missing.as_path()), Err(StoreError::Unusable { .. })));
    assert!(!missing.exists());
}
