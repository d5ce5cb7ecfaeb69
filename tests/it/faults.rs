//! Faults in the middle: nothing is deleted, the right error says so, and the next call works.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hero_proc_cleanup::{Guard, Host, Kind, Report, RpcError, cleanup_by_tag};
use rusqlite::Connection;
use serde_json::json;

use crate::gateway::skipped;
use crate::sample::{Sample, dump};
use crate::steps::{self, when};

fn call(store: &Path, host: &Host) -> Result<Report, RpcError> {
    cleanup_by_tag(store, host, json!({ "tags": ["codescaler"] }), chrono::Utc::now())
}

fn impatient() -> Host {
    let mut host = Host::new(Guard::codescaler());
    host.lock_timeout = Duration::from_millis(20);
    host
}

#[test]
fn cancelled_before_the_commit_nothing_goes() {
    for step in ["plan", "lock", "delete"] {
        let sample = Sample::new();
        let before = sample.dump();
        let host = Host::new(Guard::codescaler());
        let cancel = host.cancel.clone();
        when(step, move || cancel.cancel());
        let error = call(&sample.path, &host).unwrap_err();
        assert!(steps::has_happened());
        assert_eq!(
            (error.kind(), error.message.as_str()),
            (Some(Kind::Internal), "cancelled before the commit: nothing was deleted")
        );
        assert_eq!(sample.dump(), before, "{step}");
        assert_eq!(call(&sample.path, &Host::new(Guard::codescaler())).unwrap().jobs_deleted, 3);
    }
    // At the commit it is too late: it ends whole.
    let sample = Sample::new();
    let host = Host::new(Guard::codescaler());
    let cancel = host.cancel.clone();
    when("commit", move || cancel.cancel());
    assert_eq!(call(&sample.path, &host).unwrap().jobs_deleted, 3);
}

/// In the rollback journal modes a reader holds up the commit, in none it is held up by a dry run for longer than that runs.
#[test]
fn busy_at_the_commit_nothing_goes() {
    let sample = Sample::new();
    sample.open().pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(())).unwrap();
    let before = sample.dump();
    let reader = sample.open();
    let path = sample.path.clone();
    // Keeps its shared lock from before the commit on.
    when("commit", move || {
        let reader = Connection::open(path).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM jobs").unwrap();
        std::mem::forget(reader);
    });
    let error = call(&sample.path, &impatient()).unwrap_err();
    assert_eq!((error.kind(), &error.data["retryable"]), (Some(Kind::StoreBusy), &json!(true)));
    drop(reader);
    assert_eq!(sample.dump(), before);
}

#[test]
fn busy_at_the_beginning_nothing_goes() {
    for mode in ["wal", "delete"] {
        let sample = Sample::new();
        sample.open().pragma_update_and_check(None, "journal_mode", mode, |_| Ok(())).unwrap();
        let before = sample.dump();
        let holder = sample.open();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert_eq!(call(&sample.path, &impatient()).unwrap_err().kind(), Some(Kind::StoreBusy), "{mode}");
        holder.execute_batch("ROLLBACK").unwrap();
        assert_eq!(sample.dump(), before);
        assert_eq!(call(&sample.path, &impatient()).unwrap().jobs_deleted, 3);
    }
}

/// A reader that holds on to its snapshot keeps the WAL from being emptied, and nothing else.
#[test]
fn a_long_reader_is_not_in_the_way() {
    let sample = Sample::new();
    let reader = sample.open();
    reader.execute_batch("BEGIN; SELECT count(*) FROM jobs").unwrap();
    let seen = || reader.query_row("SELECT count(*) FROM jobs", (), |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(call(&sample.path, &impatient()).unwrap().jobs_deleted, 3);
    assert_eq!(seen(), 5, "it still sees its own moment");
    let wal = || fs::metadata(format!("{}-wal", sample.path.display())).unwrap().len();
    assert!(wal() > 0);
    reader.execute_batch("COMMIT").unwrap();
    sample.open().execute("UPDATE jobs SET phase = 'done' WHERE id = 3", ()).unwrap();
    assert_eq!(call(&sample.path, &impatient()).unwrap().jobs_deleted, 1);
    assert_eq!(wal(), 0, "the next cleanup empties it");
}

/// Many jobs of many pages.
fn large(store: &Path) {
    Connection::open(store)
        .unwrap()
        .execute_batch(&format!(
            r#"PRAGMA journal_mode = wal;
               {}
               WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
               INSERT INTO jobs (action, spec_json, script, phase, tags)
               SELECT 'a', '{{}}', hex(zeroblob(500)), 'done', CASE WHEN i % 2 THEN '["codescaler"]' ELSE '["ops"]' END
               FROM n;
               PRAGMA wal_checkpoint(TRUNCATE);"#,
            include_str!("../../src/cli/store.sql")
        ))
        .unwrap();
}

#[test]
fn a_damaged_page_is_an_error_and_no_panic() {
    let sample = Sample::with_schema("");
    large(&sample.path);
    let whole = fs::read(&sample.path).unwrap();
    let pages = whole.len() / 4096;
    let mut refused = 0;
    for page in (1..pages).step_by(pages / 40) {
        fs::write(&sample.path, &whole).unwrap();
        let mut file = OpenOptions::new().write(true).open(&sample.path).unwrap();
        file.seek(SeekFrom::Start(page as u64 * 4096)).unwrap();
        file.write_all(&[0xa5; 4096]).unwrap();
        drop(file);
        let damaged = fs::read(&sample.path).unwrap();
        match call(&sample.path, &impatient()) {
            // An index that the deletion does not walk, or a page that nothing refers to.
            Ok(report) => assert_eq!(report.jobs_deleted, 1000, "page {page}"),
            Err(error) => {
                refused += 1;
                assert!([Some(Kind::StoreUnfit), Some(Kind::Internal)].contains(&error.kind()), "{error:?}");
                assert!(!error.message.contains("SELECT") && !error.message.contains("DELETE"), "{error}");
                assert!(fs::read(&sample.path).unwrap() == damaged, "page {page}: nothing else has changed");
            }
        }
    }
    assert!(refused > 10, "{refused} of 40");
}

/// The disk is full: as root, on a small file system of its own.
#[test]
fn a_full_disk_undoes_everything() {
    let directory = tempfile::TempDir::new().unwrap();
    let Some(_mounted) = Mounted::on(directory.path()) else {
        return skipped("no file system can be mounted here");
    };
    let store = directory.path().join("hero_proc.db");
    large(&store);
    for mode in ["wal", "delete"] {
        Connection::open(&store).unwrap().pragma_update_and_check(None, "journal_mode", mode, |_| Ok(())).unwrap();
        let before = dump(&store);
        let filler = directory.path().join("filler");
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        drop(file);
        // Room for the files that SQLite makes, not for what goes into them.
        fs::File::options()
            .write(true)
            .open(&filler)
            .unwrap()
            .set_len(fs::metadata(&filler).unwrap().len() - 200_000)
            .unwrap();
        let error = call(&store, &impatient()).expect_err(mode);
        assert_eq!(error.kind(), Some(Kind::Internal), "{error:?}");
        assert!(!error.message.contains("disk") && error.data["incident"].is_string());
        fs::remove_file(&filler).unwrap();
        assert!(dump(&store) == before, "{mode}");
    }
    assert_eq!(call(&store, &impatient()).unwrap().jobs_deleted, 1000);
}

/// A file system of 16 MB.
struct Mounted(PathBuf);

impl Mounted {
    fn on(directory: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(directory).output().ok()?;
        output.status.success().then(|| Self(directory.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
