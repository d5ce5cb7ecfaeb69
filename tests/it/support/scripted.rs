//! A gateway that answers as it is told, call after call, and keeps what it was asked.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::spawn;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::{PATIENCE, binary};

/// It lives until the test ends.
pub(crate) struct Scripted {
    directory: TempDir,
    answers: Sender<Value>,
    params: Receiver<Value>,
}

impl Scripted {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("gateway.sock")).expect("a socket");
        let (answers, to_give) = channel::<Value>();
        let (asked, params) = channel();
        spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                // Who connects and says nothing only wants to know whether somebody is there.
                let Some(request) = read_request(&mut stream) else { continue };
                let _ = asked.send(request["params"].clone());
                // Once the test has said how.
                let Ok(answer) = to_give.recv() else { return };
                let body = answer.to_string();
                let length = body.len();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
                let _ = write!(stream, "{head} {length}\r\n\r\n{body}");
            }
        });
        Self { directory, answers, params }
    }

    /// The next call is answered with the report that `fields` make of an empty one.
    pub(crate) fn reports(&self, fields: Value) {
        self.answers(report(fields));
    }

    /// The next call is answered with this result.
    pub(crate) fn answers(&self, result: Value) {
        self.answers.send(json!({ "jsonrpc": "2.0", "id": 1, "result": result })).expect("it runs");
    }

    /// The next call is answered with this error.
    pub(crate) fn refuses(&self, error: Value) {
        self.answers.send(json!({ "jsonrpc": "2.0", "id": 1, "error": error })).expect("it runs");
    }

    /// The params of the next call.
    pub(crate) fn asked(&self) -> Value {
        self.params.recv_timeout(PATIENCE).expect("a call")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("gateway.sock")
    }

    /// `jobs-cleanup` at this gateway.
    pub(crate) fn cleanup(&self, arguments: &[&str]) -> Command {
        self.cleanup_as(binary(), arguments)
    }

    /// The same, begun by `command`.
    pub(crate) fn cleanup_as(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.arg("jobs-cleanup").args(arguments).arg("--socket").arg(self.socket());
        command
    }
}

/// An empty report with `fields` in place of its own.
pub(crate) fn report(fields: Value) -> Value {
    let mut report = json!({
        "dry_run": false, "jobs_matched": 0, "jobs_planned": 0, "jobs_deleted": 0,
        "jobs_kept": { "undated": 0, "recent": 0, "active": 0, "unstoppable": 0, "referenced": 0, "over_limit": 0 },
        "actions_planned": 0, "actions_deleted": 0, "actions_kept": [], "actions_kept_count": 0,
        "job_ids": [], "action_ids": [], "ids_truncated": false, "dependents": {}, "errors": [], "more": false,
        "cutoff_ms": null, "plan": "none.0", "bytes_freed": 0, "duration_ms": 1.234, "lock_ms": 0.5,
    });
    for (name, value) in fields.as_object().expect("an object") {
        report[name] = value.clone();
    }
    report
}

fn read_request(stream: &mut UnixStream) -> Option<Value> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes);
        // What is not whole yet is no JSON.
        if let Some(request) = text.split("\r\n\r\n").nth(1).and_then(|body| serde_json::from_str(body).ok()) {
            return Some(request);
        }
    }
}

/// `path` as an argument.
pub(crate) fn path_text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
