//! A cleanup by the real binary that is stopped or killed in the middle, over and over, on a store that is made anew each
//! time.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::{Flock, FlockOffsetType, FlockType, Signal, fcntl_getlk};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::PATIENCE;
use crate::support::sample::{Sample, assert_intact, dump};
use crate::support::server::{Answer, Server};

/// What is killed: a cleanup of a store of one kind, alone or with a write of somebody else's between plan and lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) journal: &'static str,
    /// Rows of other tables go with the jobs.
    pub(crate) keys: bool,
    /// It is decided again; in WAL mode without such rows, beside the deletion.
    pub(crate) write: bool,
}

/// In the middle of a deletion, one statement goes on for ever.
pub(crate) const ENDLESS: &str = "CREATE TRIGGER endless BEFORE DELETE ON jobs WHEN old.id = 1001 BEGIN
    SELECT count(*) FROM (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n);
END";

/// Jobs in the template, and how many of them go.
pub(crate) const JOBS: u64 = 2000;
pub(crate) const GO: u64 = JOBS / 4 * 3;

const WRITE: &str = "INSERT INTO runs (phase) VALUES ('done')";

/// A store that is made anew for each kill, and where its server listens.
pub(crate) struct Round {
    case: Case,
    template: Sample,
    directory: TempDir,
    pub(crate) store: PathBuf,
}

impl Round {
    pub(crate) fn new(case: Case) -> Self {
        let directory = TempDir::new().unwrap();
        let store = directory.path().join("hero_proc.db");
        Self { case, template: template(case), directory, store }
    }

    fn side(&self, suffix: &str) -> PathBuf {
        format!("{}{suffix}", self.store.display()).into()
    }

    /// The store as it was at first.
    pub(crate) fn renew(&self) {
        for suffix in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(self.side(suffix));
        }
        fs::copy(&self.template.path, &self.store).unwrap();
    }

    /// What the store holds if nothing is deleted.
    pub(crate) fn before(&self) -> String {
        self.renew();
        if self.case.write {
            Connection::open(&self.store).unwrap().execute_batch(WRITE).unwrap();
        }
        dump(&self.store)
    }

    fn server(&self) -> Server {
        let server = Server::serve(&self.store, &self.directory.path().join("rpc.sock"));
        // From here on it has the store open for calls alone.
        server.says("the store fits");
        server
    }

    /// A server, and a cleanup that has begun. If somebody else writes, they have, and nobody has had the lock since.
    pub(crate) fn begin(&self) -> Call<'_> {
        let server = self.server();
        let write = self.case.write.then(|| {
            let other = Connection::open(&self.store).unwrap();
            other.busy_timeout(PATIENCE).unwrap();
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
            other.execute_batch(WRITE).unwrap();
            other
        });
        let mut caller = UnixStream::connect(&server.socket).unwrap();
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"job.cleanup_by_tag","params":{"tags":["codescaler"]}}"#;
        let length = body.len();
        write!(caller, "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
        if let Some(other) = write {
            // Closing it would give up this process's locks on the file.
            let store = File::open(&self.store).unwrap();
            while !self.has_planned(&server, &store) {
                thread::yield_now();
            }
            other.execute_batch("COMMIT").unwrap();
            drop(other);
        }
        Call { round: self, server, caller }
    }

    /// Whether the server reads its plan from the store (the write waits for its end), or has read it already.
    fn has_planned(&self, server: &Server, store: &File) -> bool {
        if self.case.journal == "delete" {
            // SQLite's range of shared locks.
            return is_locked(store, 0x4000_0002, 510);
        }
        // The connection for the second decision is opened after that.
        server.opened(&self.store) > 1
    }

    /// Whether another process has SQLite's write lock. Asked without SQLite: one more connection, closed after the kill,
    /// would already do what is left to the next one to open the store.
    pub(crate) fn locked(&self) -> bool {
        let (file, at) = match self.case.journal {
            // WAL_WRITE_LOCK in the index of the WAL.
            "wal" => (self.side("-shm"), 120),
            // The RESERVED byte.
            _ => (self.store.clone(), 0x4000_0001),
        };
        File::open(file).is_ok_and(|file| is_locked(&file, at, 1))
    }

    pub(crate) fn leaves_something(&self) -> bool {
        ["-wal", "-journal"].iter().any(|side| fs::metadata(self.side(side)).is_ok_and(|file| file.len() > 0))
    }

    /// The store's files but the index of the WAL, which is made of it.
    pub(crate) fn copy_of_store(&self) -> PathBuf {
        let copy = self.directory.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).unwrap();
        for suffix in ["", "-wal", "-journal"] {
            let file = self.side(suffix);
            if file.exists() {
                fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
            }
        }
        copy.join("hero_proc.db")
    }

    /// The next server's first call does what is left to do.
    pub(crate) fn complete(&self, missing: u64, after: &str, what: &str) {
        let server = self.server();
        let report = server.cleanup();
        assert_eq!(report["result"]["jobs_deleted"], missing, "{what}: {report}");
        drop(server);
        assert!(dump(&self.store) == after, "{what}");
        assert_intact(&self.store);
    }
}

/// Whether another process has a lock on some of these bytes.
fn is_locked(file: &File, start: u64, length: u64) -> bool {
    let lock = Flock { start, length, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
    fcntl_getlk(file, &lock).unwrap().is_some()
}

/// A cleanup that has begun.
pub(crate) struct Call<'r> {
    round: &'r Round,
    pub(crate) server: Server,
    pub(crate) caller: UnixStream,
}

impl Call<'_> {
    /// Returns when the server has the write lock, or has answered.
    pub(crate) fn until_locked(&mut self) {
        self.caller.set_nonblocking(true).unwrap();
        while !self.round.locked() {
            match self.caller.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
    }

    pub(crate) fn answer(mut self) -> Value {
        Answer::last_of(&mut self.caller).json()
    }

    pub(crate) fn kill(self) {
        self.server.signal(Signal::KILL);
        self.server.end();
    }
}

/// Thousands of jobs on small pages: a transaction that writes for long enough to be killed in the middle of it.
fn template(case: Case) -> Sample {
    let sample = Sample::empty();
    sample.journal(case.journal);
    let store = sample.open();
    store
        .execute_batch(&format!(
            r#"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {JOBS})
               INSERT INTO jobs (action, spec_json, script, phase, tags)
               SELECT 'action_' || i, '{{}}', hex(zeroblob(500)), 'done', CASE WHEN i % 4 THEN '["codescaler"]' ELSE '["ops"]' END
               FROM n;
               INSERT INTO actions (name, spec_json) SELECT action, '{{"tags":["codescaler"]}}' FROM jobs;"#
        ))
        .unwrap();
    if case.keys {
        store
            .execute_batch(
                "CREATE TABLE notes (job INTEGER REFERENCES jobs (id) ON DELETE CASCADE);
                 CREATE TABLE links (job INTEGER REFERENCES jobs (id) ON DELETE SET NULL);
                 INSERT INTO notes SELECT id FROM jobs;
                 INSERT INTO links SELECT id FROM jobs;",
            )
            .unwrap();
    }
    sample
}

/// Waits without giving the processor away, to the microsecond.
pub(crate) fn spin(duration: Duration) {
    let started = Instant::now();
    while started.elapsed() < duration {
        std::hint::spin_loop();
    }
}
