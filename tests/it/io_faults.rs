//! I/O errors and a full disk at every system call of a cleanup: the real binary, with a library preloaded that lets them
//! fail.
//!
//! The long form: `cargo test --release --test it -- --ignored --nocapture io_faults`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rusqlite::Connection;
use rustix::io::Errno;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::call::{all, call};
use crate::support::process::PATIENCE;
use crate::support::sample::{SCHEMA, Sample, assert_intact, dump};
use crate::support::server::{self, Server};
use crate::support::steps::{self, when};

const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/io_faults.c");

/// The calls, and how many of each a cleanup makes at least: that each is met is part of the tests.
const WAL: &[(&str, u32)] = &[("open", 2), ("read", 10), ("write", 10), ("sync", 2), ("truncate", 1)];
const DELETE: &[(&str, u32)] = &[("open", 2), ("read", 10), ("write", 10), ("sync", 2), ("unlink", 1)];

#[test]
fn an_io_error_at_any_call_leaves_before_or_after() {
    faults(Sample::new, Meanwhile::Nothing, [WAL, DELETE], usize::MAX, 3, &dump);
}

/// Rows of another table go with the jobs, in the same transaction.
#[test]
fn an_io_error_with_foreign_keys_leaves_before_or_after() {
    faults(with_foreign_keys, Meanwhile::Nothing, [WAL, DELETE], 6, 3, &dump);
}

/// Somebody writes before the lock: it is decided again, in WAL mode on a second connection while the first one deletes.
#[test]
fn an_io_error_at_the_second_decision_leaves_before_or_after() {
    faults(Sample::new, Meanwhile::Write, [WAL, DELETE], 6, 3, &dump);
}

/// The transaction is larger than the cache: a part of it is in the WAL, or in the store, before the commit.
#[test]
fn an_io_error_in_a_transaction_that_spills_leaves_before_or_after() {
    let large = large();
    let writes: &[_] = &[("write", 2000)];
    faults(|| large.again(), Meanwhile::Nothing, [writes, writes], 1, JOBS_OF_LARGE, &sizes);
}

#[test]
#[ignore = "long form: every call, with foreign keys, at the second decision, and 80 of each kind in a transaction that spills"]
fn an_io_error_at_every_call_of_every_store_leaves_before_or_after() {
    faults(with_foreign_keys, Meanwhile::Nothing, [WAL, DELETE], usize::MAX, 3, &dump);
    faults(Sample::new, Meanwhile::Write, [WAL, DELETE], usize::MAX, 3, &dump);
    let large = large();
    faults(|| large.again(), Meanwhile::Nothing, [WAL, DELETE], 80, JOBS_OF_LARGE, &sizes);
}

/// What somebody else does between the plan and the lock.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Meanwhile {
    Nothing,
    Write,
}

/// Cleanups of stores that `make` makes, of which `jobs` go, with a fault at each of `calls` (in WAL mode and in delete mode),
/// or at `most` of each kind, spread evenly. `look` tells one content of the store from another.
#[expect(clippy::print_stdout, reason = "the figures of the long form")]
fn faults(
    make: impl Fn() -> Sample,
    meanwhile: Meanwhile,
    calls: [&[(&str, u32)]; 2],
    most: usize,
    jobs: u64,
    look: &dyn Fn(&Path) -> String,
) {
    let directory = TempDir::new().unwrap();
    let library = library(directory.path());

    for (journal, calls) in ["wal", "delete"].into_iter().zip(calls) {
        let sample = make();
        sample.journal(journal);
        let faulty = Faulty::new(&sample, &library, meanwhile);
        faulty.renew();
        if meanwhile == Meanwhile::Write {
            Connection::open(&faulty.store).unwrap().execute_batch(WRITE).unwrap();
        }
        let before = look(&faulty.store);
        for &(call, at_least) in calls {
            let (answer, total) = faulty.cleanup(call, 0, Errno::IO, Lasts::Once);
            assert_eq!(answer["result"]["jobs_deleted"], jobs, "{journal}: {answer}");
            assert!(total >= at_least, "{journal}: {total} calls of {call}");
            let after = look(&faulty.store);
            let mut ways = vec![(Errno::IO, Lasts::Once)];
            if call == "write" {
                // A disk that is full stays full until somebody makes room.
                ways.extend([(Errno::NOSPC, Lasts::Once), (Errno::NOSPC, Lasts::FromThere)]);
                // So do a quota, and a limit on the size of files.
                ways.extend([(Errno::DQUOT, Lasts::FromThere), (Errno::FBIG, Lasts::FromThere)]);
            }
            let mut refused = 0;
            for (errno, lasts) in &ways {
                let step = (total as usize).div_ceil(most);
                for at in (1 + step as u32 / 2..=total).step_by(step) {
                    let what = format!("{journal}: {call} {at} of {total}, {errno} {lasts:?}");
                    let (answer, _) = faulty.cleanup(call, at, *errno, *lasts);
                    let left = look(&faulty.store);
                    let went = answer["result"]["jobs_deleted"].as_u64().unwrap_or(0);
                    if let Some(error) = answer.get("error") {
                        refused += 1;
                        let unfit = match call {
                            // SQLite takes a page that can't be read for one that is damaged.
                            "read" => error["data"]["problems"] == json!(["the database file is damaged"]),
                            "open" => error["data"]["kind"] == "store_unfit",
                            _ => false,
                        };
                        let kind = if *errno == Errno::IO { "internal" } else { "disk_full" };
                        assert!(unfit || error["data"]["kind"] == kind, "{what}: {error}");
                        let text = error.to_string();
                        for secret in ["DELETE", "SELECT", "PRAGMA", "hero_proc.db", "/"] {
                            assert!(!text.contains(secret), "{what}: {text}");
                        }
                        assert!(left == before, "{what}: an error means that nothing was deleted");
                    } else {
                        // After the commit: what is left to do is the checkpoint's, and is done another time.
                        assert_eq!(went, jobs, "{what}");
                        assert!(left == after, "{what}: {left}");
                    }
                    // The server has gone on, and its next cleanup does what is left to do.
                    let again = faulty.server.cleanup();
                    assert_eq!(again["result"]["jobs_deleted"], jobs - went, "{what}: {again}");
                    assert!(look(&faulty.store) == after, "{what}");
                    assert_intact(&faulty.store);
                }
            }
            println!("{journal}: {call}: {total} calls, {refused} cleanups refused");
        }
    }
}

/// The library that lets calls fail, built in `directory`.
pub(crate) fn library(directory: &Path) -> PathBuf {
    let library = directory.join("io_faults.so");
    let mut cc = Command::new("cc");
    assert!(cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(LIBRARY).arg("-ldl").status().unwrap().success());
    library
}

/// Whether the calls after the one that fails succeed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lasts {
    Once,
    FromThere,
}

/// A server whose system calls can be made to fail, on a copy of a store.
pub(crate) struct Faulty {
    directory: TempDir,
    template: PathBuf,
    pub(crate) store: PathBuf,
    pub(crate) server: Server,
    meanwhile: Meanwhile,
}

impl Faulty {
    pub(crate) fn new(sample: &Sample, library: &Path, meanwhile: Meanwhile) -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let store = path("hero_proc.db");
        fs::copy(&sample.path, &store).unwrap();
        let mut command = server::serve(&store, &path("rpc.sock"));
        command.env("LD_PRELOAD", library).env("IO_FAULT_PLAN", path("plan"));
        // The library tells the store's files by their path.
        let temporary = path("hero_proc.db-temporary");
        fs::create_dir(&temporary).unwrap();
        command.env("SQLITE_TMPDIR", temporary);
        let server = Server::start(&mut command, &path("rpc.sock"));
        // Its own first look at the store would be counted, and would be in the way of the checkpoint.
        server.says("the store fits");
        Self { directory, template: sample.path.clone(), store, server, meanwhile }
    }

    /// The store as it was at first.
    pub(crate) fn renew(&self) {
        for side in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(format!("{}{side}", self.store.display()));
        }
        fs::copy(&self.template, &self.store).unwrap();
    }

    /// What a cleanup of a fresh copy answers while the call number `at` fails, if not 0; and how many calls there were.
    fn cleanup(&self, call: &str, at: u32, errno: Errno, lasts: Lasts) -> (Value, u32) {
        self.act(call, at, errno, lasts, |faulty| match faulty.meanwhile {
            Meanwhile::Nothing => faulty.server.cleanup(),
            Meanwhile::Write => faulty.call_beside_a_write(),
        })
    }

    /// The same of whatever is done by `act`.
    pub(crate) fn act(
        &self,
        call: &str,
        at: u32,
        errno: Errno,
        lasts: Lasts,
        act: impl FnOnce(&Self) -> Value,
    ) -> (Value, u32) {
        self.renew();
        let path = |name: &str| self.directory.path().join(name);
        let _ = fs::remove_file(path("plan.count"));
        fs::write(path("plan.new"), format!("{call} {at} {} {}", errno.raw_os_error(), lasts as u8)).unwrap();
        fs::rename(path("plan.new"), path("plan")).unwrap();
        let answer = act(self);
        fs::remove_file(path("plan")).unwrap();
        (answer, fs::metadata(path("plan.count")).map_or(0, |count| count.len() as u32))
    }

    /// The same, while another connection writes what is there before the lock is taken, and not yet for the plan.
    fn call_beside_a_write(&self) -> Value {
        let other = Connection::open(&self.store).unwrap();
        other.busy_timeout(PATIENCE).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        other.execute_batch(WRITE).unwrap();
        thread::scope(|scope| {
            let answer = scope.spawn(|| self.server.cleanup());
            // In WAL mode the connection for the second decision is opened once the plan is made.
            while !answer.is_finished() && self.server.opened(&self.store) < 2 && self.wal() {
                thread::yield_now();
            }
            other.execute_batch("COMMIT").unwrap();
            drop(other);
            answer.join().unwrap()
        })
    }

    fn wal(&self) -> bool {
        Path::new(&format!("{}-wal", self.store.display())).exists()
    }
}

const WRITE: &str = "INSERT INTO runs (phase) VALUES ('done')";

fn with_foreign_keys() -> Sample {
    let sample = Sample::new();
    sample.execute(
        "CREATE TABLE notes (job INTEGER REFERENCES jobs (id) ON DELETE CASCADE, text TEXT);
         CREATE TABLE links (job INTEGER REFERENCES jobs (id) ON DELETE SET NULL);
         INSERT INTO notes SELECT id, hex(zeroblob(3000)) FROM jobs;
         INSERT INTO links SELECT id FROM jobs;",
    );
    sample
}

const JOBS_OF_LARGE: u64 = 1100;

/// A store of more pages that change than fit into the 64 MB of the cache: on each there is a job that goes, and one that
/// stays.
fn large() -> Sample {
    let sample = Sample::with_schema("");
    sample.execute(&format!(
        r#"PRAGMA journal_mode = delete;
               PRAGMA page_size = 65536;
               VACUUM;
               PRAGMA synchronous = off;
               {SCHEMA}
               WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2 * {JOBS_OF_LARGE})
               INSERT INTO jobs (action, spec_json, script, phase, tags)
               SELECT 'a', '{{}}', zeroblob(32000), 'done', CASE WHEN i % 2 THEN '["codescaler"]' ELSE '["ops"]' END
               FROM n;"#
    ));
    sample
}

/// What tells one content of [`large`] from another, and is quick to read.
fn sizes(store: &Path) -> String {
    let connection = Connection::open(store).unwrap();
    let sizes = "SELECT count(*), sum(id), sum(length(script)), sum(tags LIKE '%codescaler%') FROM jobs";
    let row = |row: &rusqlite::Row<'_>| Ok((0..4).map(|column| row.get(column)).collect::<Result<Vec<i64>, _>>());
    format!("{:?}", connection.query_row(sizes, (), row).unwrap().unwrap_or_default())
}

/// That it spills.
#[test]
fn a_large_transaction_is_in_the_wal_before_its_commit() {
    let large = large();
    large.journal("wal");
    let wal = format!("{}-wal", large.path.display());
    when("commit", move || assert!(fs::metadata(wal).unwrap().len() > 0));
    assert_eq!(call(&large, all()).unwrap().jobs_deleted, JOBS_OF_LARGE);
    assert!(steps::has_happened());
}
