//! Signals that a service gets: which end it, how they are counted, and which must not.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::thread;

use rustix::process::Signal;
use serde_json::json;

use crate::support::process::{BINARY, Running, text};
use crate::support::sample::Sample;
use crate::support::server::{METHOD, Server, post};

/// Whether the set of signals that `/proc` reports under `name`, such as `ShdPnd`, holds `signal`.
fn holds(process: &Running, name: &str, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap();
    u64::from_str_radix(set, 16).unwrap() & 1 << (signal.as_raw() - 1) != 0
}

#[test]
fn a_hang_up_ends_a_server_like_a_termination() {
    let sample = Sample::new();
    let path = |name: &str| sample.directory.path().join(name);
    let store = Server::serve(&sample.path, &path("store.sock"));
    let gateway = Server::gateway(&path("gateway.sock"), &store.socket, &[]);
    for server in [gateway, store] {
        let socket = server.socket.clone();
        server.signal(Signal::HUP);
        server.says("stopping");
        let (status, log) = server.end();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!socket.exists());
    }
}

/// `nohup` has hang-ups ignored before it begins a program, and means it.
#[test]
fn a_hang_up_that_was_ignored_stays_ignored() {
    let sample = Sample::new();
    let server = Server::serve_after("trap '' HUP", &sample.path, &sample.directory.path().join("rpc.sock"), &[]);
    assert!(holds(&server, "SigIgn", Signal::HUP));
    server.signal(Signal::HUP);
    assert_eq!(server.get("/health").status, 200);
}

/// However soon the second signal comes, once the first has been delivered.
#[test]
fn two_terminations_in_quick_succession_are_two() {
    for _ in 0..5 {
        let sample = Sample::new();
        let before = sample.dump();
        let server = sample.serve();
        server.says("the store fits");
        let lock = sample.open();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut caller = server.connect();
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": METHOD, "params": { "tags": ["codescaler"] } });
        caller.write_all(&post("connection: close", call.to_string().as_bytes())).unwrap();
        while !server.has_open(&sample.path) {
            thread::yield_now();
        }
        for _ in 0..2 {
            server.signal(Signal::TERM);
            // The kernel makes one of two that are still to be delivered.
            while holds(&server, "ShdPnd", Signal::TERM) {
                thread::yield_now();
            }
        }
        server.says("they delete nothing");
        drop(lock);
        let (status, log) = server.end();
        assert_eq!(status.code(), Some(0), "{log}");
        assert_eq!(sample.dump(), before);
    }
}

/// A limit of file sizes is no reason to die: a write fails, the call with it, and the server goes on.
#[test]
fn a_file_that_may_not_grow_is_a_write_that_fails() {
    let sample = Sample::new();
    // The WAL's index is there, so that reading needs no file.
    let _open = sample.open();
    let before = sample.dump();
    let server = Server::serve_after("ulimit -f 0", &sample.path, &sample.directory.path().join("rpc.sock"), &[]);
    let answer = server.cleanup();
    assert!(answer["error"]["code"].is_i64(), "{answer}");
    assert_eq!(server.get("/health").status, 200);
    server.signal(Signal::TERM);
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(sample.dump(), before);

    let mut command = Command::new("sh");
    let file = sample.directory.path().join("completions");
    command.args(["-c", r#"ulimit -f 0; exec "$0" completions bash >"$1""#, BINARY]).arg(file);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("the result could not be written to stdout"), "{output:?}");
}
