//! No room: on the disk, or within the size that the store may have; and the room that a WAL takes when a deletion fails.

use std::fs;
use std::io::Write;
use std::path::Path;

use hero_proc_cleanup::{Kind, RpcError, StoreError, inspect};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::support::call::{all, all_with, call, call_as, dry_run, host};
use crate::support::mounted::Mounted;
use crate::support::sample::{Sample, dump};
use crate::support::server::{METHOD, Server, assert_discreet};
use crate::support::skipped;
use crate::support::steps::{self, when};

/// 2,000 jobs on as many pages, of which every other one goes, in a transaction that is larger than the cache.
fn large(path: &Path) {
    let jobs = r#"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
                  INSERT INTO jobs (action, spec_json, script, phase, tags)
                  SELECT 'a', '{}', zeroblob(32000), 'done', CASE WHEN i % 2 THEN '["codescaler"]' ELSE '["ops"]' END
                  FROM n;"#;
    let schema = crate::support::sample::SCHEMA;
    let connection = Connection::open(path).unwrap();
    let settings = "PRAGMA page_size = 65536; PRAGMA journal_mode = wal; PRAGMA synchronous = off;";
    connection.execute_batch(&format!("{settings} {schema} {jobs}")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
}

fn wal(path: &Path) -> u64 {
    fs::metadata(format!("{}-wal", path.display())).unwrap().len()
}

/// What a deletion that fails has written to the WAL is of no use to anybody.
#[test]
fn a_deletion_that_fails_leaves_no_wal() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("hero_proc.db");
    large(&path);
    // A host that has the store open, so that nobody's end empties the WAL.
    let host_side = Connection::open(&path).unwrap();
    host_side.query_row("SELECT count(*) FROM jobs", (), |_| Ok(())).unwrap();
    let spilled = || {
        let path = path.clone();
        move || assert!(wal(&path) > 1_000_000, "the transaction is in the WAL in part")
    };

    let cancelling = host();
    let (cancel, look) = (cancelling.cancel.clone(), spilled());
    when("deleted", move || {
        look();
        cancel.cancel();
    });
    assert_eq!(call_as(&*path, &cancelling, all()).unwrap_err().kind(), Some(Kind::Cancelled));
    assert!(steps::has_happened());
    assert_eq!(wal(&path), 0);

    let shown = call(&*path, dry_run()).unwrap().plan;
    host_side
        .execute_batch("CREATE TRIGGER t BEFORE DELETE ON jobs WHEN old.id = 1 BEGIN SELECT RAISE(IGNORE); END")
        .unwrap();
    when("deleted", spilled());
    let error = call(&*path, all_with(json!({ "expect_plan": shown }))).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Internal), "{error:?}");
    assert!(steps::has_happened());
    assert_eq!(wal(&path), 0);
    host_side.execute_batch("DROP TRIGGER t").unwrap();
    assert_eq!(call(&*path, all()).unwrap().jobs_deleted, 1000);
    assert_eq!(wal(&path), 0);
}

/// Leaves nothing on the file system at `directory`.
fn clear(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

/// Fills the file system at `directory`, but for `room` bytes.
fn fill(directory: &Path, room: u64) {
    let mut file = fs::File::create(directory.join("filler")).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let full = file.metadata().unwrap().len();
    file.set_len(full - room).unwrap();
}

#[track_caller]
fn assert_full(error: &RpcError, room: u64) {
    assert_eq!((error.kind(), error.code), (Some(Kind::DiskFull), -32026), "{error:?}");
    assert!(error.message.starts_with("there is no room on the disk: nothing was deleted, a "), "{error:?}");
    let free = error.data["free_bytes"].as_u64().unwrap();
    assert!(free <= room, "{error:?}");
}

/// All that was free is free again, for the host to go on with.
#[test]
fn a_full_disk_is_named_and_is_no_fuller_afterwards() {
    let directory = TempDir::new().unwrap();
    let Some(_mounted) = Mounted::tmpfs(directory.path(), "160m") else {
        return skipped("no file system can be mounted here");
    };
    let path = directory.path().join("hero_proc.db");
    large(&path);
    let host_side = Connection::open(&path).unwrap();
    host_side.query_row("SELECT count(*) FROM jobs", (), |_| Ok(())).unwrap();
    fill(directory.path(), 8_000_000);
    let free = || {
        let disk = rustix::fs::statvfs(directory.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    };
    let room = free();
    let before = dump(&path);
    for _ in 0..2 {
        assert_full(&call(&*path, all()).unwrap_err(), room);
        assert_eq!((wal(&path), free()), (0, room));
        assert!(dump(&path) == before);
    }
    // What it says helps.
    assert_eq!(call(&*path, all_with(json!({ "limit": 10 }))).unwrap().jobs_deleted, 10);
    drop(host_side);

    // Not even a reader gets a WAL's index.
    fill(directory.path(), 0);
    assert!(matches!(inspect(&*path, &host()), Err(StoreError::Full { free: 0, .. })));
    for params in [dry_run(), all()] {
        assert_full(&call(&*path, params).unwrap_err(), 0);
    }
}

/// The same through the binary, whose exit code is 1.
#[test]
fn a_full_disk_is_told_to_the_caller() {
    let directory = TempDir::new().unwrap();
    let Some(_mounted) = Mounted::tmpfs(directory.path(), "160m") else {
        return skipped("no file system can be mounted here");
    };
    let path = directory.path().join("hero_proc.db");
    large(&path);
    let sockets = TempDir::new().unwrap();
    let server = Server::serve(&path, &sockets.path().join("rpc.sock"));
    server.says("the store fits");
    let gateway = Server::gateway(&sockets.path().join("gateway.sock"), &server.socket, &[]);
    fill(directory.path(), 8_000_000);
    let answer = server.call(METHOD, &all());
    assert_discreet(&answer.to_string());
    assert_eq!(answer["error"]["data"]["kind"], "disk_full", "{answer}");
    let output = crate::support::process::jobs_cleanup(&gateway.socket, &["--yes", "--limit", "5000"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = crate::support::process::text(&output.stderr).to_owned();
    assert!(said.contains("error: there is no room on the disk") && said.contains("free_bytes: "), "{said}");
}

/// 30 MB of jobs that have `bytes` each, with an action of its own each; returns how many there are.
fn crowded(path: &Path, journal: &str, bytes: usize) -> u64 {
    let jobs = 30_000_000 / (bytes as u64 + 1000);
    let settings = format!("PRAGMA journal_mode = {journal}; PRAGMA synchronous = off;");
    let fill = format!(
        r#"BEGIN;
           WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {jobs})
           INSERT INTO jobs (action, action_id, spec_json, stderr, phase, tags, exit_code, created_at_ms)
           SELECT 'a_' || i, 'a_' || i, '{{}}', printf('%.*c', {bytes}, 'x'), 'done', '["codescaler"]', 0,
                  1700000000000 + i * 7919 % 1000003
           FROM n;
           INSERT INTO actions (name, spec_json) SELECT action, '{{"tags":["codescaler"]}}' FROM jobs;
           COMMIT"#
    );
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(&format!("{settings} {} {fill}", crate::support::sample::SCHEMA)).unwrap();
    if journal == "wal" {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
    }
    jobs
}

/// Whatever is free, and whatever the rows are like: the deletion goes through, or the error says how much is needed, and the
/// limit that it names goes through. The room that hero_proc's WAL takes counts, once the WAL is moved into the file.
#[test]
fn a_full_disk_says_what_fits() {
    let directory = TempDir::new().unwrap();
    let Some(_mounted) = Mounted::tmpfs(directory.path(), "64m") else {
        return skipped("no file system can be mounted here");
    };
    let path = directory.path().join("hero_proc.db");
    let (mut whole, mut in_part, mut none) = (0, 0, 0);
    for (journal, rooms) in [
        ("wal", [(0, 0), (0, 2_000_000), (300_000, 0), (2_000_000, 0), (8_000_000, 0)].as_slice()),
        ("delete", [(0, 0), (300_000, 0), (2_000_000, 0), (8_000_000, 0)].as_slice()),
    ] {
        for (bytes, secure) in [(200, false), (200, true), (145_000, false), (145_000, true)] {
            for &(room, in_wal) in rooms {
                let what = format!("{journal}, {bytes}, {secure}, {room} and {in_wal}");
                clear(directory.path());
                let jobs = crowded(&path, journal, bytes);
                // hero_proc has the store open.
                let host_side = Connection::open(&path).unwrap();
                host_side.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
                host_side.query_row("SELECT count(*) FROM jobs", (), |_| Ok(())).unwrap();
                while in_wal > 0 && wal(&path) < in_wal {
                    host_side.execute("UPDATE jobs SET exit_code = 1 - exit_code WHERE id <= 10", ()).unwrap();
                }
                fill(directory.path(), room);
                let mut host = host();
                host.secure_delete = secure;
                match call_as(&*path, &host, all()) {
                    Ok(report) => {
                        assert_eq!(report.jobs_deleted, jobs, "{what}");
                        whole += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), Some(Kind::DiskFull), "{what}: {error:?}");
                        let number = |name: &str| error.data.get(name).and_then(serde_json::Value::as_u64);
                        let (free, needed) = (number("free_bytes").unwrap(), number("needed_bytes").unwrap());
                        assert!(
                            needed > free && (room.saturating_sub(8192)..=room + 2 * in_wal).contains(&free),
                            "{what}: {error:?}"
                        );
                        if let Some(limit) = number("limit") {
                            assert!(error.message.ends_with(&format!("nothing was deleted, a limit of {limit} fits")));
                            let report = call_as(&*path, &host, all_with(json!({ "limit": limit }))).unwrap();
                            assert_eq!(report.jobs_deleted, limit, "{what}");
                            in_part += 1;
                        } else {
                            assert!(free < 400_000, "{what}: not even one job is sure to fit: {error:?}");
                            none += 1;
                        }
                    }
                }
                drop(host_side);
                fill(directory.path(), 20_000_000);
                crate::support::sample::assert_intact(&path);
            }
        }
    }
    assert!(whole >= 4 && in_part >= 8 && none >= 4, "{whole}, {in_part}, {none}");
}

/// A limit fits although the jobs that go first are a thousand times as large as the others.
#[test]
fn a_limit_that_fits_does_so_for_the_largest_jobs() {
    let directory = TempDir::new().unwrap();
    let Some(_mounted) = Mounted::tmpfs(directory.path(), "64m") else {
        return skipped("no file system can be mounted here");
    };
    let path = directory.path().join("hero_proc.db");
    let jobs = crowded(&path, "wal", 200);
    let host_side = Connection::open(&path).unwrap();
    host_side.execute("UPDATE jobs SET stderr = hex(randomblob(100000)) WHERE id <= 50", ()).unwrap();
    host_side.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
    fill(directory.path(), 3_000_000);
    let mut host = host();
    host.secure_delete = true;
    let mut limit = jobs;
    // The first batches are the heavy ones.
    for _ in 0..3 {
        let error = call_as(&*path, &host, all()).unwrap_err();
        limit = error.data["limit"].as_u64().unwrap();
        let report = call_as(&*path, &host, all_with(json!({ "limit": limit })));
        assert_eq!(report.unwrap().jobs_deleted, limit, "{error:?}");
    }
    assert!(limit < 20, "{limit}");
}

/// The command goes on in batches that fit, until all is gone; with a size that was given there is one call.
#[test]
fn the_command_goes_on_in_batches_that_fit() {
    let directory = TempDir::new().unwrap();
    let Some(_mounted) = Mounted::tmpfs(directory.path(), "64m") else {
        return skipped("no file system can be mounted here");
    };
    let path = directory.path().join("hero_proc.db");
    let sockets = TempDir::new().unwrap();
    let jobs = crowded(&path, "wal", 200);
    let host_side = Connection::open(&path).unwrap();
    host_side.query_row("SELECT count(*) FROM jobs", (), |_| Ok(())).unwrap();
    let server = Server::serve(&path, &sockets.path().join("rpc.sock"));
    server.says("the store fits");
    let gateway = Server::gateway(&sockets.path().join("gateway.sock"), &server.socket, &[]);
    fill(directory.path(), 2_000_000);
    let run = |arguments: &[&str]| crate::support::process::jobs_cleanup(&gateway.socket, arguments);

    let output = run(&["--yes", "--limit", "100000"]);
    let said = crate::support::process::text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for text in ["error: there is no room on the disk", "  free_bytes: ", "  needed_bytes: ", "  limit: ", "any file"] {
        assert!(said.contains(text), "{text}: {said}");
    }

    let output = run(&["--yes", "--max-ids", "0"]);
    let said = crate::support::process::text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said.starts_with("The store's disk has no room for that at once: a batch of "), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["jobs_deleted"], &report["more"]), (&json!(jobs), &json!(false)), "{report}");
    assert_eq!(host_side.query_row("SELECT count(*) FROM jobs", (), |row| row.get::<_, i64>(0)).unwrap(), 0);
}

/// A store that the host lets grow no more is another matter.
#[test]
fn a_store_at_its_largest_is_named() {
    let sample = Sample::new();
    let mut connection = sample.open();
    connection
        .execute_batch(
            "CREATE TABLE gone (text TEXT);
             CREATE TRIGGER note AFTER DELETE ON jobs BEGIN INSERT INTO gone VALUES (hex(zeroblob(100000))); END",
        )
        .unwrap();
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    connection.pragma_update_and_check(None, "max_page_count", pages + 2, |_| Ok(())).unwrap();
    let error = call(&mut connection, all()).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::DiskFull), "{error:?}");
    let reason = "the store is as large as it may be (max_page_count)";
    assert_eq!(error.message, format!("{reason}: nothing was deleted, a smaller limit needs less"));
    assert_eq!(error.data, json!({ "kind": "disk_full", "free_bytes": 2 * 4096 }));
}
