//! No room: on the disk, or within the size that the store may have; and the room that a WAL takes when a deletion fails.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use hero_proc_cleanup::{Kind, RpcError, StoreError, inspect};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::support::call::{all, all_with, call, call_as, dry_run, host};
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

/// A file system of its own, which goes when dropped.
struct Disk(PathBuf);

impl Disk {
    fn on(directory: &Path, size: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        let output =
            mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(directory).output().ok()?;
        output.status.success().then(|| Self(directory.to_owned()))
    }

    /// Leaves `room` bytes.
    fn fill(&self, room: u64) {
        let filler = self.0.join("filler");
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let full = file.metadata().unwrap().len();
        file.set_len(full - room).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[track_caller]
fn assert_full(error: &RpcError, room: u64) {
    assert_eq!((error.kind(), error.code), (Some(Kind::DiskFull), -32026), "{error:?}");
    assert_eq!(error.message, "there is no room on the disk: nothing was deleted, a smaller limit needs less");
    let free = error.data["free_bytes"].as_u64().unwrap();
    assert!(free <= room, "{error:?}");
}

/// All that was free is free again, for the host to go on with.
#[test]
fn a_full_disk_is_named_and_is_no_fuller_afterwards() {
    let directory = TempDir::new().unwrap();
    let Some(disk) = Disk::on(directory.path(), "160m") else { return skipped("no file system can be mounted here") };
    let path = directory.path().join("hero_proc.db");
    large(&path);
    let host_side = Connection::open(&path).unwrap();
    host_side.query_row("SELECT count(*) FROM jobs", (), |_| Ok(())).unwrap();
    disk.fill(8_000_000);
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
    disk.fill(0);
    assert!(matches!(inspect(&*path, &host()), Err(StoreError::Full { needed: None, free: 0, .. })));
    for params in [dry_run(), all()] {
        assert_full(&call(&*path, params).unwrap_err(), 0);
    }
}

/// The same through the binary, whose exit code is 1.
#[test]
fn a_full_disk_is_told_to_the_caller() {
    let directory = TempDir::new().unwrap();
    let Some(disk) = Disk::on(directory.path(), "160m") else { return skipped("no file system can be mounted here") };
    let path = directory.path().join("hero_proc.db");
    large(&path);
    let sockets = TempDir::new().unwrap();
    let server = Server::serve(&path, &sockets.path().join("rpc.sock"));
    server.says("the store fits");
    let gateway = Server::gateway(&sockets.path().join("gateway.sock"), &server.socket, &[]);
    disk.fill(8_000_000);
    let answer = server.call(METHOD, &all());
    assert_discreet(&answer.to_string());
    assert_eq!(answer["error"]["data"]["kind"], "disk_full", "{answer}");
    let output = crate::support::process::jobs_cleanup(&gateway.socket, &["--yes"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = crate::support::process::text(&output.stderr).to_owned();
    assert!(said.contains("error: there is no room on the disk") && said.contains("free_bytes: "), "{said}");
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
