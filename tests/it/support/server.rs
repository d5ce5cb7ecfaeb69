//! The real binary as a server, and the plainest HTTP client there is.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::command::{PATIENCE, entries};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_hero_proc_cleanup");

/// A server that goes when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) socket: PathBuf,
    /// What it logs, line by line. Taken from it at once: a full pipe would hold it up.
    log: Mutex<Receiver<String>>,
}

impl Server {
    /// `serve` on `store`.
    pub(crate) fn serve(store: &Path, socket: &Path) -> Self {
        Self::serve_with(store, socket, &[])
    }

    /// `serve` on `store`, with further `args`.
    pub(crate) fn serve_with(store: &Path, socket: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--store").arg(store).arg("--socket").arg(socket).args(args);
        Self::start(command, socket)
    }

    /// `serve` on `store`, begun by a shell once it has carried out `first`, such as `umask` or `ulimit`.
    pub(crate) fn serve_after(first: &str, store: &Path, socket: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{first}; exec \"$0\" \"$@\"")).arg(BINARY);
        command.arg("serve").arg("--store").arg(store).arg("--socket").arg(socket).args(args);
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
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
        let mut server = Self { child, socket: socket.to_owned(), log: Mutex::new(log) };
        server.says("serving");
        server
    }

    /// Calls `method` and returns the whole answer.
    pub(crate) fn call(&self, method: &str, params: &Value) -> Value {
        self.post(json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string().as_bytes())
            .json()
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

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The number of kilobytes that `/proc` reports under `name`, such as `VmHWM`.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Whether the process has `file` open.
    pub(crate) fn has_open(&self, file: &Path) -> bool {
        has_open(self.pid(), file)
    }

    /// Reads the log up to a line that holds `text`.
    pub(crate) fn says(&mut self, text: &str) {
        self.until(text);
    }

    /// The same, and returns that line.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let log = self.log.get_mut().unwrap();
        log.iter().find(|line| line.contains(text)).unwrap_or_else(|| panic!("it ended, and never said {text:?}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, and returns what was logged since the last line that was read.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let log: Vec<String> = self.log.get_mut().unwrap().iter().collect();
        (self.child.wait().unwrap(), log.join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the process `pid` has `file` open.
pub(crate) fn has_open(pid: u32, file: &Path) -> bool {
    let descriptors = entries(Path::new(&format!("/proc/{pid}/fd")));
    descriptors.iter().any(|descriptor| std::fs::read_link(descriptor).is_ok_and(|target| target == file))
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
    pub(crate) fn last_of(stream: &mut UnixStream) -> Self {
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
