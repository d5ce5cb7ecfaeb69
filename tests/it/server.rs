//! The real binary as a server, and the plainest HTTP client there is.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_hero_proc_cleanup");

/// A server that goes when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) socket: PathBuf,
    /// What it logs.
    log: BufReader<std::process::ChildStderr>,
}

impl Server {
    /// `serve` on `store`.
    pub(crate) fn serve(store: &Path, socket: &Path) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--store").arg(store).arg("--socket").arg(socket);
        Self::start(command, socket)
    }

    /// `gateway` in front of `hero_proc`.
    pub(crate) fn gateway(socket: &Path, hero_proc: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("gateway").arg("--socket").arg(socket).arg("--hero-proc").arg(hero_proc).args(args);
        Self::start(command, socket)
    }

    /// `command`, once it says that it serves.
    pub(crate) fn start(mut command: Command, socket: &Path) -> Self {
        let mut child = command.env("RUST_LOG", "info").stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("serving") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the server ended: {:?}", child.wait());
        }
        Self { child, socket: socket.to_owned(), log }
    }

    /// Calls `method` and returns the whole answer.
    pub(crate) fn call(&self, method: &str, params: &Value) -> Value {
        self.post(json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string().as_bytes())
            .json()
    }

    /// Posts `body` to `/rpc`.
    pub(crate) fn post(&self, body: &[u8]) -> Answer {
        let head = format!(
            "POST /rpc HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
    }

    /// Sends `request`, byte for byte, and reads until the server closes the connection.
    pub(crate) fn send(&self, request: &[u8]) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        // A server that has answered already may not read the rest.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        Answer::parse(&answer)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, and returns what was logged since the start.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
