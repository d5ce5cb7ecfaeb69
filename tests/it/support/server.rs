//! The real binary as a server, and the plainest HTTP client there is.

use std::io::{ErrorKind, Read, Write};
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde_json::{Value, json};

use crate::support::process::{BINARY, PATIENCE, Running};

/// hero_proc's side of the cleanup.
pub(crate) const METHOD: &str = "job.cleanup_by_tag";

/// A process that serves on `socket`.
pub(crate) struct Server {
    process: Running,
    pub(crate) socket: PathBuf,
}

/// The command `serve` on `store`, which logs as servers here do.
pub(crate) fn serve(store: &Path, socket: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("serve").arg("--store").arg(store).arg("--socket").arg(socket);
    command.env("RUST_LOG", "info").stdin(Stdio::null());
    command
}

impl Server {
    /// `serve` on `store`.
    pub(crate) fn serve(store: &Path, socket: &Path) -> Self {
        Self::serve_with(store, socket, &[])
    }

    /// `serve` on `store`, with further `args`.
    pub(crate) fn serve_with(store: &Path, socket: &Path, args: &[&str]) -> Self {
        Self::start(serve(store, socket).args(args), socket)
    }

    /// `serve` on `store`, begun by a shell once it has carried out `first`, such as `umask` or `ulimit`.
    pub(crate) fn serve_after(first: &str, store: &Path, socket: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{first}; exec \"$0\" \"$@\"")).arg(BINARY);
        command.arg("serve").arg("--store").arg(store).arg("--socket").arg(socket).args(args);
        Self::start(&mut command, socket)
    }

    /// `gateway` in front of `hero_proc`.
    pub(crate) fn gateway(socket: &Path, hero_proc: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("gateway").arg("--socket").arg(socket).arg("--hero-proc").arg(hero_proc).args(args);
        Self::start(&mut command, socket)
    }

    /// `command`, once it says that it serves.
    pub(crate) fn start(command: &mut Command, socket: &Path) -> Self {
        let process = Running::start(command.env("RUST_LOG", "info").stdin(Stdio::null()));
        process.says("serving");
        Self::of(process, socket)
    }

    /// `process`, which serves on `socket`.
    pub(crate) fn of(process: Running, socket: &Path) -> Self {
        Self { process, socket: socket.to_owned() }
    }

    /// Calls `method` and returns the whole answer.
    pub(crate) fn call(&self, method: &str, params: &Value) -> Value {
        self.post(json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string().as_bytes())
            .json()
    }

    /// A cleanup of everything that is codescaler's, on hero_proc's side.
    pub(crate) fn cleanup(&self) -> Value {
        self.call(METHOD, &json!({ "tags": ["codescaler"] }))
    }

    /// Posts `body` to `/rpc`.
    pub(crate) fn post(&self, body: &[u8]) -> Answer {
        self.send(&post("connection: close", body))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
    }

    /// Sends `request`, byte for byte, and reads until the server closes the connection.
    pub(crate) fn send(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A server that has answered already may not read the rest.
        let _ = stream.write_all(request);
        Answer::last_of(&mut stream)
    }

    /// A connection, on which neither reading nor writing takes forever.
    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Waits for the end, and returns what was logged since the last line that was read.
    pub(crate) fn end(self) -> (ExitStatus, String) {
        self.process.end_with_log()
    }
}

impl Deref for Server {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.process
    }
}

/// A whole request with one more `header`.
pub(crate) fn post(header: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /rpc HTTP/1.1\r\nhost: localhost\r\n{header}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// What an error says is for callers: no SQL, no path.
#[track_caller]
pub(crate) fn assert_discreet(error: &str) {
    for secret in ["/", "SELECT", "INSERT", "DELETE", "UPDATE", "PRAGMA", "BEGIN", "WHERE"] {
        assert!(!error.contains(secret), "{secret}: {error}");
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The answer after which the server closes the connection; status 0 if it closes it without a word.
    pub(crate) fn last_of(stream: &mut impl Read) -> Self {
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the connection stays open: {error}"),
            // Closed with something unread in it.
            Ok(_) | Err(_) => Self::parse(&answer),
        }
    }

    /// What it says is for callers: see [`assert_discreet`].
    #[track_caller]
    pub(crate) fn assert_discreet(&self) {
        assert_discreet(&String::from_utf8_lossy(&self.body));
    }

    fn parse(answer: &[u8]) -> Self {
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(answer.len());
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let mut body = answer.get(end + 4..).unwrap_or_default().to_vec();
        if head.contains("transfer-encoding: chunked") {
            body = unchunk(&body);
        }
        Self { status, head, body }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        whole.extend_from_slice(&body[end + 2..end + 2 + length]);
        body = &body[end + 2 + length + 2..];
    }
    whole
}
