//! `kill -9` at random moments of a real cleanup: the store is as it was before or as it is after, never between.
//!
//! The long form: `cargo test --release --test it -- --ignored --nocapture kill`.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::{Flock, FlockOffsetType, FlockType, Signal, fcntl_getlk};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::{PATIENCE, Running, Sides, entries, old_jobs};
use crate::sample::{Sample, dump};
use crate::server::Server;

/// What is killed: a cleanup of a store of one kind, alone or with a write of somebody else's between plan and lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) journal: &'static str,
    /// Rows of other tables go with the jobs.
    pub(crate) keys: bool,
    /// It is decided again; in WAL mode without such rows, beside the deletion.
    pub(crate) write: bool,
}

/// All of them.
fn cases() -> impl Iterator<Item = Case> {
    let both = [false, true];
    ["wal", "delete"].into_iter().flat_map(move |journal| {
        both.into_iter().flat_map(move |keys| both.into_iter().map(move |write| Case { journal, keys, write }))
    })
}

/// Where the kills landed.
#[derive(Debug, Default)]
struct Landed {
    /// Before the write lock was taken.
    before: u32,
    /// Under the write lock, and before the commit.
    between: u32,
    /// After the commit.
    after: u32,
    /// With something in the WAL, or a journal, for the next one to open the store.
    to_recover: u32,
}

impl Landed {
    fn all(&self) -> u32 {
        self.before + self.between + self.after
    }

    fn add(&mut self, other: &Self) {
        self.before += other.before;
        self.between += other.between;
        self.after += other.after;
        self.to_recover += other.to_recover;
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "where they land is not the test's to say")]
fn a_kill_leaves_before_or_after() {
    let mut landed = Landed::default();
    for case in cases() {
        landed.add(&kill_over_and_over(case, 2));
    }
    println!("{landed:?}");
    assert_eq!(landed.all(), 16);
}

#[test]
#[ignore = "long form: 1600 kills, at least 300 of them between lock and commit"]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn a_thousand_kills_leave_before_or_after() {
    let mut landed = Landed::default();
    for case in cases() {
        let here = kill_over_and_over(case, 200);
        println!("{case:?}: {here:?}");
        landed.add(&here);
    }
    println!("{landed:?}");
    assert!(landed.all() >= 1000 && landed.between >= 300, "{landed:?}");
}

/// Half of the kills come at moments spread evenly over the call, half at moments spread over the time under the lock, the
/// same in every run.
fn kill_over_and_over(case: Case, times: u32) -> Landed {
    let round = Round::new(case);
    // Once to the end: what it leaves, and how long it takes.
    let before = round.before();
    round.renew();
    let call = round.begin();
    let report = call.answer();
    let result = &report["result"];
    assert_eq!(result["jobs_deleted"], GO, "{case:?}: {report}");
    assert_eq!(result["dependents"]["notes"].as_u64().unwrap_or(0), if case.keys { GO } else { 0 });
    let under_lock = Duration::from_secs_f64(result["lock_ms"].as_f64().unwrap() / 1000.0);
    let whole = Duration::from_secs_f64(result["duration_ms"].as_f64().unwrap() / 1000.0);
    let after = dump(&round.store);
    assert_ne!(before, after);

    let mut landed = Landed::default();
    for number in 0..times {
        round.renew();
        let mut call = round.begin();
        let moment = |span: Duration| span.mul_f64((f64::from(number * 7 % times) + 0.5) / f64::from(times));
        if number % 2 == 0 {
            spin(moment(whole));
        } else {
            call.until_locked();
            spin(moment(under_lock));
        }
        let locked = round.locked();
        call.kill();

        landed.to_recover += u32::from(round.leaves_something());
        // The first one to open the store is now a reader, now the next server: then what was left is read from a copy.
        let left = if matches!(number % 4, 0 | 3) { dump(&round.store) } else { dump(&round.copy_of_store()) };
        assert!(left == before || left == after, "{case:?}: kill {number} left something between");
        match (left == after, locked) {
            (true, _) => landed.after += 1,
            (false, true) => landed.between += 1,
            (false, false) => landed.before += 1,
        }
        let missing = if left == after { 0 } else { GO };
        round.complete(missing, &after, &format!("{case:?}: kill {number}"));
    }
    landed
}

/// One moment that is always met: in the middle of the deletion, which a trigger of the host's makes endless.
#[test]
fn a_kill_under_the_lock_leaves_before() {
    for case in cases() {
        let round = Round::new(case);
        round.renew();
        Connection::open(&round.store).unwrap().execute_batch(ENDLESS).unwrap();
        let mut call = round.begin();
        call.until_locked();
        assert!(round.locked(), "{case:?}");
        call.kill();
        let store = Connection::open(&round.store).unwrap();
        store.execute_batch("DROP TRIGGER endless").unwrap();
        drop(store);
        assert!(dump(&round.store) == round.before(), "{case:?}");
    }
}

/// In the middle of a deletion, one statement goes on for ever.
pub(crate) const ENDLESS: &str = "CREATE TRIGGER endless BEFORE DELETE ON jobs WHEN old.id = 1001 BEGIN
    SELECT count(*) FROM (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n);
END";

/// Jobs in the template, and how many of them go.
const JOBS: u64 = 2000;
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
        let mut server = Server::serve(&self.store, &self.directory.path().join("rpc.sock"));
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
        write!(caller, "POST /rpc HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
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
        let descriptors = entries(Path::new(&format!("/proc/{}/fd", server.pid())));
        descriptors.iter().filter(|descriptor| fs::read_link(descriptor).is_ok_and(|file| file == self.store)).count()
            > 1
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

    fn leaves_something(&self) -> bool {
        ["-wal", "-journal"].iter().any(|side| fs::metadata(self.side(side)).is_ok_and(|file| file.len() > 0))
    }

    /// The store's files but the index of the WAL, which is made of it.
    fn copy_of_store(&self) -> PathBuf {
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
    fn complete(&self, missing: u64, after: &str, what: &str) {
        let server = self.server();
        let report = server.call("job.cleanup_by_tag", &json!({ "tags": ["codescaler"] }));
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
        crate::server::Answer::last_of(&mut self.caller).json()
    }

    fn kill(self) {
        self.server.signal(Signal::KILL);
        self.server.end();
    }
}

/// Thousands of jobs on small pages: a transaction that writes for long enough to be killed in the middle of it.
fn template(case: Case) -> Sample {
    let sample = Sample::with_schema(include_str!("../../src/cli/store.sql"));
    let store = sample.open();
    store.pragma_update_and_check(None, "journal_mode", case.journal, |_| Ok(())).unwrap();
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

#[test]
#[expect(clippy::print_stdout, reason = "where they land is not the test's to say")]
fn a_killed_gateway_leaves_before_or_after() {
    println!("{:?}", kill_the_gateway_over_and_over(6));
}

#[test]
#[ignore = "long form: 240 kills of the gateway"]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn hundreds_of_killed_gateways_leave_before_or_after() {
    println!("{:?}", kill_the_gateway_over_and_over(240));
}

/// What the callers of killed gateways heard.
#[derive(Debug, Default)]
struct Heard {
    /// Nothing was sent, and nothing went.
    nothing_sent: u32,
    /// The outcome is unknown, and nothing had gone.
    unknown_before: u32,
    /// The outcome is unknown, and everything had.
    unknown_after: u32,
    /// The whole report.
    report: u32,
}

/// Kills at moments spread evenly over the command, from its start to somewhat after its usual end.
fn kill_the_gateway_over_and_over(times: u32) -> Heard {
    const JOBS: i64 = 500;
    let sides = || Sides::with(&old_jobs(1, JOBS));
    let content = |sides: &Sides| {
        let count = "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM actions)";
        sides.store().query_row(count, (), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).unwrap()
    };
    let started = Instant::now();
    assert!(sides().run(&["--yes"]).status.success());
    let whole = {
        let sides = sides();
        let since = Instant::now();
        assert!(sides.run(&["--yes"]).status.success());
        since.elapsed().min(started.elapsed())
    };
    let mut heard = Heard::default();
    for number in 0..times {
        let sides = sides();
        let command = Running::start(&mut sides.cleanup(&["--yes"]));
        spin(whole.mul_f64(1.3 * f64::from(number) / f64::from(times)));
        sides.gateway.signal(Signal::KILL);
        let said = command.until("what is said ends with the command");
        let (code, report) = command.end();
        // The call may still run. It is waited for.
        sides.hero_proc.signal(Signal::TERM);
        sides.hero_proc.until("what is said ends with the server");
        match (code, content(&sides)) {
            (Some(0), (0, 0)) => {
                let report: Value = serde_json::from_str(&report).unwrap();
                assert_eq!(report["jobs_deleted"], JOBS, "{report}");
                heard.report += 1;
            }
            (Some(6), (JOBS, JOBS)) if said.contains("nothing was sent") => heard.nothing_sent += 1,
            (Some(6), (JOBS, JOBS)) if said.contains("may have been carried out") => heard.unknown_before += 1,
            (Some(6), (0, 0)) if said.contains("may have been carried out") => heard.unknown_after += 1,
            (code, left) => panic!("kill {number}: exit code {code:?}, {left:?} are left: {said}"),
        }
    }
    heard
}

/// Waits without giving the processor away, to the microsecond.
pub(crate) fn spin(duration: Duration) {
    let started = Instant::now();
    while started.elapsed() < duration {
        std::hint::spin_loop();
    }
}

fn assert_intact(store: &Path) {
    let connection = Connection::open(store).unwrap();
    let integrity: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    assert!(!connection.prepare("PRAGMA foreign_key_check").unwrap().exists(()).unwrap());
}
