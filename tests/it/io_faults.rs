//! I/O errors at every system call of a cleanup: the real binary, with a library preloaded that lets one of them fail.

use std::fs;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::sample::{Sample, dump};
use crate::server::{BINARY, Server};

const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/io_faults.c");

#[test]
fn an_io_error_at_any_call_leaves_before_or_after() {
    let directory = TempDir::new().unwrap();
    let library = directory.path().join("io_faults.so");
    let mut cc = Command::new("cc");
    assert!(cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(LIBRARY).arg("-ldl").status().unwrap().success());

    // How many calls of each kind there are at least: that each is met is part of the test.
    for (journal, call, at_least) in [
        ("wal", "read", 10),
        ("wal", "write", 10),
        ("wal", "sync", 2),
        ("wal", "truncate", 1),
        ("delete", "read", 10),
        ("delete", "write", 10),
        ("delete", "sync", 2),
        ("delete", "unlink", 1),
    ] {
        let sample = Sample::new();
        let host = sample.open();
        host.pragma_update_and_check(None, "journal_mode", journal, |_| Ok(())).unwrap();
        let before = sample.dump();
        let mut failed = 0;
        while let Some((answer, after_fault)) = with_fault(&sample, &library, call, failed + 1) {
            failed += 1;
            let what = format!("{journal}: {call} {failed}");
            if let Some(error) = answer.get("error") {
                // SQLite takes a page that can't be read for one that is damaged.
                let damaged = call == "read" && error["data"]["problems"] == json!(["the database file is damaged"]);
                assert!(damaged || error["data"]["kind"] == "internal", "{what}: {error}");
                let text = error.to_string();
                for secret in ["DELETE", "SELECT", "PRAGMA", "hero_proc.db", "/"] {
                    assert!(!text.contains(secret), "{what}: {text}");
                }
                assert!(after_fault == before, "{what}: an error means that nothing was deleted");
            } else {
                // After the commit: what is left to do is the checkpoint's, and is done another time.
                assert_eq!(answer["result"]["jobs_deleted"], 3, "{what}");
                assert!(!after_fault.contains("codescaler_build_12"), "{what}");
            }
        }
        assert!(failed >= at_least, "{journal}: {failed} calls of {call}");
    }
}

/// What a cleanup of a copy of `sample` answers if the call number `at` fails, and what the store holds then. None if there
/// are fewer calls. In any case the store is whole, and the same server's next cleanup does what is left to do.
fn with_fault(sample: &Sample, library: &Path, call: &str, at: u32) -> Option<(Value, String)> {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = path("hero_proc.db");
    fs::copy(&sample.path, &store).unwrap();
    let mut command = Command::new(BINARY);
    command.arg("serve").arg("--store").arg(&store).arg("--socket").arg(path("rpc.sock"));
    command.env("LD_PRELOAD", library).env("IO_FAULT_MARK", path("mark"));
    command.env("IO_FAULT_CALL", call).env("IO_FAULT_AT", at.to_string());
    let server = Server::start(command, &path("rpc.sock"));

    let params = json!({ "tags": ["codescaler"] });
    let answer = server.call("job.cleanup_by_tag", &params);
    if !path("mark").exists() {
        return None;
    }
    let after = dump(&store);
    let again = server.call("job.cleanup_by_tag", &params);
    let went = |answer: &Value| answer["result"]["jobs_deleted"].as_u64().unwrap_or(0);
    assert_eq!((went(&again), went(&answer) + went(&again)), (3 - went(&answer), 3), "{call} {at}: {again}");

    let connection = Connection::open(&store).unwrap();
    let check = |sql| connection.query_row(sql, (), |row| row.get::<_, String>(0));
    assert_eq!(check("PRAGMA integrity_check").unwrap(), "ok", "{call} {at}");
    assert!(check("PRAGMA foreign_key_check").is_err(), "{call} {at}: there is nothing to find");
    Some((answer, after))
}
