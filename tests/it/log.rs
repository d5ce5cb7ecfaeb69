//! The log of a server: nobody has to read it, and it holds no text that begins a line of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Write, pipe};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::fs::fstat;
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::process::BINARY;
use crate::support::sample::Sample;
use crate::support::server::{Answer, METHOD, Server, post, serve};
use crate::terminal::Terminal;

/// A server whose stderr is the small pipe that is returned with it. It is ended when dropped.
struct Unheard {
    child: Child,
    socket: PathBuf,
    log: PipeReader,
}

impl Unheard {
    /// `serve` on `sample`, once somebody can connect to it; `change` may change the command.
    fn serve(sample: &Sample, change: impl FnOnce(&mut Command, &PipeReader)) -> Self {
        let socket = sample.directory.path().join("rpc.sock");
        Self::start(serve(&sample.path, &socket), socket, change)
    }

    fn start(mut command: Command, socket: PathBuf, change: impl FnOnce(&mut Command, &PipeReader)) -> Self {
        let (log, stderr) = pipe().unwrap();
        fcntl_setpipe_size(&stderr, 4096).unwrap();
        command.stderr(stderr);
        change(&mut command, &log);
        let mut child = command.spawn().unwrap();
        // Its end of the pipe is the only one.
        drop(command);
        while UnixStream::connect(&socket).is_err() {
            assert_eq!(child.try_wait().unwrap(), None);
            thread::yield_now();
        }
        Self { child, socket, log }
    }

    fn post(&self, body: &Value) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(&post("connection: close", body.to_string().as_bytes())).unwrap();
        Answer::last_of(&mut stream)
    }

    fn health(&self) -> u16 {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        Answer::last_of(&mut stream).status
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// The lines of the log, up to its end.
    fn lines(&self) -> impl Iterator<Item = String> {
        BufReader::new(self.log.try_clone().unwrap()).lines().map(Result::unwrap)
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A call that is refused, and leaves a long line.
fn refused() -> Value {
    call(METHOD, json!({ "tags": ["\u{202e}".repeat(1900)] }))
}

fn call(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

#[test]
fn nobody_has_to_read_the_log() {
    let sample = Sample::new();
    let socket = sample.file("gateway.sock");
    let hero_proc = Unheard::serve(&sample, |_, _| {});
    let mut gateway = Command::new(BINARY);
    gateway.arg("gateway").arg("--socket").arg(&socket).arg("--hero-proc").arg(&hero_proc.socket).stdin(Stdio::null());
    let gateway = Unheard::start(gateway, socket, |_, _| {});
    let long = "x".repeat(200);
    for (mut server, refused, delete, deleted) in [
        (
            gateway,
            call("jobs.cleanup", json!({ "actor": format!("kind_{long}") })),
            call("jobs.cleanup", json!({ "kind": "build", "limit": 1 })),
            1,
        ),
        (hero_proc, refused(), call(METHOD, json!({ "tags": ["codescaler"] })), 2),
    ] {
        for _ in 0..100 {
            let answer = server.post(&refused).json();
            assert_eq!(answer["error"]["code"], -32602, "{answer}");
        }
        assert_eq!(server.health(), 200);
        assert_eq!(server.post(&delete).json()["result"]["jobs_deleted"], deleted);
        server.terminate();
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
        assert!(!server.socket.exists());
    }
}

/// What does not fit is dropped, and in its place stands how many lines it were.
#[test]
fn what_is_dropped_is_counted() {
    let sample = Sample::new();
    let server = Unheard::serve(&sample, |_, _| {});
    let batch = Value::Array(vec![refused(); 100]);
    // Three times what is kept.
    let calls = 3 * (8 << 20) / 16_000 / 100 * 100;
    for _ in 0..calls / 100 {
        server.post(&batch);
    }
    let reader = server.lines();
    thread::scope(|scope| {
        let counted = scope.spawn(|| {
            let (mut audited, mut dropped) = (0, 0);
            for line in reader {
                audited += usize::from(line.contains(" audit: "));
                if let Some((_, lines)) = line.split_once("nobody read them lines=") {
                    dropped += lines.parse::<usize>().unwrap();
                }
                if audited + dropped >= calls {
                    break;
                }
            }
            (audited, dropped)
        });
        let (audited, dropped) = counted.join().unwrap();
        assert_eq!(audited + dropped, calls);
        assert!(dropped > calls / 2, "{dropped} of {calls}");
    });
    // From here on there is room again.
    server.post(&refused());
    assert!(server.lines().any(|line| line.contains(" audit: ")));
}

#[test]
fn a_log_in_json_has_an_object_on_each_line() {
    let sample = Sample::new();
    let mut server = Unheard::serve(&sample, |command, _| {
        command.args(["--log-format", "json"]);
    });
    let forged = "<\n\u{1b}[2J\u{9b}\u{202e}\u{2028}>";
    server.post(&json!({ "jsonrpc": "2.0", "id": 1, "method": METHOD, "params": { "tags": [forged] } }));
    server.terminate();
    let lines: Vec<String> = server.lines().collect();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| {
            assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        })
        .collect();
    let line = lines.iter().find(|line| line["target"] == "audit").unwrap();
    assert_eq!((&line["level"], &line["fields"]["message"]), (&json!("WARN"), &json!(METHOD)), "{line}");
    assert_eq!((&line["fields"]["outcome"], &line["fields"]["code"]), (&json!("tag_outside_guard"), &json!(-32002)));
    assert!(line["fields"]["error"].as_str().unwrap().contains("is refused"), "{line}");
    assert!(line["timestamp"].is_string() && line["fields"]["asked"].as_str().unwrap().contains("202e"), "{line}");

    // The reason why a server does not start is a line as well.
    let socket = sample.directory.path().join("file");
    std::fs::write(&socket, "").unwrap();
    let output = serve(&sample.path, &socket).args(["--log-format", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(line["fields"]["message"].as_str().unwrap().contains("is no socket"), "{line}");
}

/// The journal has times of its own, and reads the level from each line's beginning. Elsewhere nobody does.
#[test]
fn the_journal_gets_levels_and_no_times() {
    for journal in [true, false] {
        let sample = Sample::new();
        let mut server = Unheard::serve(&sample, |command, log| {
            let pipe = fstat(log).unwrap();
            let inode = if journal { pipe.st_ino } else { pipe.st_ino + 1 };
            command.env("JOURNAL_STREAM", format!("{}:{inode}", pipe.st_dev));
        });
        server.post(&refused());
        server.terminate();
        let lines: Vec<String> = server.lines().collect();
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
        let begins = |part: &str, begin: &str| {
            let line = lines.iter().find(|line| line.contains(part)).unwrap();
            assert_eq!(line.starts_with(begin), journal, "{line}");
        };
        begins("audit: ", "<4> WARN audit: job.cleanup_by_tag");
        begins("serving", "<6> INFO hero_proc_cleanup");
        assert!(lines.iter().all(|line| journal == line.starts_with('<')), "{lines:?}");
    }
}

/// Colours are for a terminal that has them, and for whoever wants them.
#[test]
fn colours_are_for_terminals_that_show_them() {
    let sample = Sample::new();
    let socket = sample.directory.path().join("file");
    std::fs::write(&socket, "").unwrap();
    for (variables, coloured) in [
        (&[("TERM", "xterm")][..], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
        (&[("TERM", "dumb")], false),
        (&[("TERM", "")], false),
    ] {
        let mut command = Terminal::session();
        command.arg("gateway").arg("--socket").arg(&socket).arg("--hero-proc").arg(&socket);
        command.env("RUST_LOG", "info").env_remove("NO_COLOR").envs(variables.iter().copied());
        let (code, _, shown) = Terminal::start(command, 200, [None, None]).end();
        assert_eq!(code, Some(1));
        let line = shown.lines().find(|line| line.contains("calls go to hero_proc")).unwrap();
        assert_eq!(line.contains('\u{1b}'), coloured, "{variables:?}: {line:?}");
    }
}

/// A path is text that somebody else chose, like any other.
#[test]
fn a_path_begins_no_line() {
    let sample = Sample::new();
    let directory = sample.directory.path().join("<\n2026 INFO audit: forged\u{1b}[2J\u{202e}>");
    std::fs::create_dir(&directory).unwrap();
    let upstream = directory.join("none.sock");
    let socket = directory.join("gateway.sock");
    let mut command = Command::new(BINARY);
    command.arg("gateway").arg("--socket").arg(&socket).arg("--hero-proc").arg(&upstream).stdin(Stdio::null());
    command.env("RUST_LOG", "debug");
    let mut server = Unheard::start(command, socket, |_, _| {});
    let answer = server.post(&json!({ "jsonrpc": "2.0", "id": 1, "method": "jobs.cleanup" })).json();
    assert_eq!(answer["error"]["code"], -32023, "{answer}");
    server.terminate();
    let lines: Vec<String> = server.lines().collect();
    server.child.wait().unwrap();
    assert!(lines.iter().filter(|line| line.contains("forged")).count() >= 3, "{lines:?}");
    for line in lines {
        assert!(!line.starts_with("2026 INFO audit: forged") && !line.contains(['\u{1b}', '\u{202e}']), "{line:?}");
    }
}

/// Nothing of a log that goes into a file is lost at the end.
#[test]
fn the_log_is_whole_at_the_end() {
    let sample = Sample::new();
    let file = sample.directory.path().join("log");
    let mut server = Unheard::serve(&sample, |command, _| {
        command.stderr(File::create(&file).unwrap());
    });
    for _ in 0..10 {
        server.post(&Value::Array(vec![refused(); 100]));
    }
    server.terminate();
    server.child.wait().unwrap();
    assert_eq!(audited(&file), 1000);
}

fn audited(log: &Path) -> usize {
    std::fs::read_to_string(log).unwrap().lines().filter(|line| line.contains(" audit: ")).count()
}

/// Only what changes something, or is refused, is audited; on both sides.
#[test]
fn what_only_reads_is_not_audited() {
    let sample = Sample::new();
    let path = |name: &str| sample.directory.path().join(name);
    let store = Server::serve(&sample.path, &path("store.sock"));
    let gateway = Server::gateway(&path("gateway.sock"), &store.socket, &[]);
    let read = store.call("job.usage_by_tag", &json!({ "tags": ["codescaler"] }));
    assert_eq!(read["result"]["jobs"], 4, "{read}");
    let read = gateway.call("jobs.usage", &json!({}));
    assert_eq!(read["result"]["jobs"], 4, "{read}");
    for server in [gateway, store] {
        server.signal(Signal::TERM);
        let (_, log) = server.end();
        assert!(!log.contains(" audit: "), "{log}");
    }
}
