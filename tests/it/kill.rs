//! `kill -9` at random moments of a real cleanup: the store is as it was before or as it is after, never between.
//!
//! The long form: `cargo test --release --test it -- --ignored --nocapture kill`.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::sample::{Sample, dump};
use crate::server::Server;

/// Where the kills landed.
#[derive(Debug, Default)]
struct Landed {
    /// Before the write lock was taken.
    before: u32,
    /// Under the write lock, and before the commit.
    between: u32,
    /// After the commit.
    after: u32,
}

#[test]
fn a_kill_leaves_before_or_after() {
    let landed = kill_over_and_over(12);
    assert_eq!(landed.before + landed.between + landed.after, 12);
}

#[test]
#[ignore = "long form: a thousand kills, at least 300 of them between lock and commit"]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn a_thousand_kills_leave_before_or_after() {
    let landed = kill_over_and_over(1500);
    println!("{landed:?}");
    assert!(landed.between >= 300, "{landed:?}");
}

fn kill_over_and_over(times: u32) -> Landed {
    let template = template();
    let before = dump(&template.path);
    let directory = TempDir::new().unwrap();
    let (store, socket) = (directory.path().join("hero_proc.db"), directory.path().join("rpc.sock"));

    // Once to the end: what it leaves, and how long it takes.
    copy(&template.path, &store);
    let server = Server::serve(&store, &socket);
    let started = Instant::now();
    let report = server.call("job.cleanup_by_tag", &json!({ "tags": ["codescaler"] }));
    let whole = started.elapsed();
    assert!(report["result"]["jobs_deleted"].as_u64().unwrap() > 1000, "{report}");
    drop(server);
    let after = dump(&store);
    assert_ne!(before, after);

    let mut landed = Landed::default();
    for round in 0..times {
        copy(&template.path, &store);
        let server = Server::serve(&store, &socket);
        let probe = Connection::open(&store).unwrap();
        probe.busy_timeout(Duration::ZERO).unwrap();
        let mut caller = UnixStream::connect(&socket).unwrap();
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"job.cleanup_by_tag","params":{"tags":["codescaler"]}}"#;
        write!(caller, "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        // Moments spread evenly over the call, the same in every run.
        let moment = whole.mul_f64(f64::from(round * 7 % times) / f64::from(times));
        spin(moment);
        let locked = probe.execute_batch("BEGIN IMMEDIATE").is_err();
        server.signal(Signal::KILL);
        server.end();

        drop(probe);
        let left = dump(&store);
        assert!(left == before || left == after, "round {round}: between, {moment:?} after the call");
        match (left == after, locked) {
            (true, _) => landed.after += 1,
            (false, true) => landed.between += 1,
            (false, false) => landed.before += 1,
        }
        assert_intact(&store);
        if round % 5 == 0 {
            let server = Server::serve(&store, &socket);
            let report = server.call("job.cleanup_by_tag", &json!({ "tags": ["codescaler"] }));
            assert!(report["result"].is_object(), "{report}");
            drop(server);
            assert!(dump(&store) == after, "a second call completes it");
            assert_intact(&store);
        }
    }
    landed
}

/// Thousands of jobs on small pages: a transaction that writes for long enough to be killed in the middle of it.
fn template() -> Sample {
    let sample = Sample::with_schema(include_str!("../../src/cli/store.sql"));
    sample
        .open()
        .execute_batch(
            r#"CREATE TABLE notes (job INTEGER REFERENCES jobs (id) ON DELETE CASCADE);
               WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
               INSERT INTO jobs (action, spec_json, script, phase, tags)
               SELECT 'action_' || i, '{}', hex(zeroblob(1000)), 'done', CASE WHEN i % 4 THEN '["codescaler"]' ELSE '["ops"]' END
               FROM n;
               INSERT INTO actions (name, spec_json) SELECT action, '{"tags":["codescaler"]}' FROM jobs;
               INSERT INTO notes SELECT id FROM jobs;
               PRAGMA wal_checkpoint(TRUNCATE);"#,
        )
        .unwrap();
    sample
}

fn copy(template: &Path, store: &Path) {
    for side in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{side}", store.display()));
    }
    fs::copy(template, store).unwrap();
}

/// Waits without giving the processor away, to the microsecond.
fn spin(duration: Duration) {
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
