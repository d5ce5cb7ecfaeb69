//! Bodies of `POST /rpc`, sent to the crate's own server in this process: always a valid answer, and nothing goes that
//! does not carry the root tag.
#![no_main]

#[allow(dead_code, reason = "each target uses a part of it")]
mod store;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use hero_proc_cleanup::server::{Listener, Service, run};
use libfuzzer_sys::fuzz_target;
use rusqlite::Connection;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

struct World {
    socket: PathBuf,
    stream: UnixStream,
    /// Sees what the server does to the store.
    connection: Connection,
    rows: store::Rows,
    version: i64,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

fuzz_target!(|body: &[u8]| {
    WORLD.with_borrow_mut(|world| {
        let (status, answer) = world.post(body);
        match status {
            204 => assert!(answer.is_empty()),
            413 => assert!(body.len() > 1 << 20),
            200 => assert_answer(body, str::from_utf8(&answer).expect("UTF-8")),
            other => panic!("{other}: {}", String::from_utf8_lossy(&answer)),
        }
        assert!(status != 204 || answers_due(body) == 0, "unanswered");
        world.check_store();
    });
});

fn assert_answer(body: &[u8], answer: &str) {
    if !answer.starts_with('[') {
        return assert_response(answer);
    }
    let answers: Vec<&RawValue> = serde_json::from_str(answer).expect("JSON");
    assert!(!answers.is_empty());
    answers.iter().for_each(|answer| assert_response(answer.get()));
    assert!(answers.len() >= answers_due(body), "{answers:?}");
}

/// An id is echoed as it was written: it may be a number that no reader of JSON has room for.
#[derive(Deserialize)]
struct Response<'a> {
    jsonrpc: &'a str,
    #[serde(borrow)]
    id: &'a RawValue,
    result: Option<Value>,
    error: Option<Value>,
}

fn assert_response(response: &str) {
    let Response { jsonrpc, id, result, error } = serde_json::from_str(response).expect("a response");
    assert_eq!(jsonrpc, "2.0", "{response}");
    assert!(
        id.get() == "null" || id.get().starts_with(['"', '-']) || id.get().starts_with(char::is_numeric),
        "{response}"
    );
    match (result, error) {
        (Some(result), None) => assert!(result.is_object(), "{response}"),
        (None, Some(error)) => {
            assert!(error["code"].is_i64() && error["message"].is_string(), "{response}");
            assert!(error["data"]["kind"].is_string(), "{response}");
            let text = error.to_string();
            assert!(!text.contains("SELECT") && !text.contains("hero_proc.db"), "{response}");
        }
        _ => panic!("{response}"),
    }
}

/// How many answers the entries of a batch ask for, or a single request: everything but a notification does.
fn answers_due(body: &[u8]) -> usize {
    let Some(body) = str::from_utf8(body).ok().and_then(|body| serde_json::from_str::<&RawValue>(body).ok()) else {
        return 1;
    };
    let due = |entry: &&RawValue| {
        let members = serde_json::from_str::<HashMap<String, &RawValue>>(entry.get());
        members.map_or(true, |members| members.contains_key("id"))
    };
    match serde_json::from_str::<Vec<&RawValue>>(body.get()) {
        // Too many of them get one answer.
        Ok(entries) if entries.len() <= 100 => entries.iter().filter(|entry| due(entry)).count(),
        Ok(_) => 1,
        Err(_) => due(&body).into(),
    }
}

impl World {
    fn new() -> Self {
        let shared = Path::new("/dev/shm");
        let place = match std::env::var_os("TMPDIR") {
            None if shared.is_dir() => shared.to_owned(),
            _ => std::env::temp_dir(),
        };
        // libFuzzer ends the process without a word: what lies here stays until the machine starts anew, or for whoever
        // said where to.
        let directory = tempfile::TempDir::new_in(place).expect("a directory").keep();
        let file = directory.join("hero_proc.db");
        let connection = Connection::open(&file).expect("a store");
        connection.execute_batch(&format!("PRAGMA journal_mode = wal; {}", store::SCHEMA)).expect("a schema");
        store::fill(&connection, store::SAMPLE);

        let socket = directory.join("rpc.sock");
        let (bound, is_bound) = mpsc::channel();
        let at = socket.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = Listener::bind(&at).expect("a socket");
                bound.send(()).expect("who waits");
                run(listener, Service::cleanup_by_tag(file, store::host()), std::future::pending()).await
            })
        });
        is_bound.recv().expect("a server");
        let stream = UnixStream::connect(&socket).expect("a connection");
        let rows = store::rows(&connection);
        let version = version(&connection);
        Self { socket, stream, connection, rows, version }
    }

    fn post(&mut self, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!(
            "POST /rpc HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let sent = self.stream.write_all(&[head.as_bytes(), body].concat());
        let mut answer = Vec::new();
        let head = loop {
            if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.receive(&mut answer) {
                panic!("closed without an answer: {sent:?}");
            }
        };
        let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0);
        while answer.len() < head + length {
            assert!(self.receive(&mut answer), "closed within an answer");
        }
        assert_eq!(answer.len(), head + length, "{text}");
        if status == 413 || text.contains("connection: close") {
            self.stream = UnixStream::connect(&self.socket).expect("a connection");
        }
        (status, answer.split_off(head))
    }

    fn receive(&mut self, answer: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 4096];
        let length = self.stream.read(&mut buffer).unwrap_or(0);
        answer.extend_from_slice(&buffer[..length]);
        length > 0
    }

    fn check_store(&mut self) {
        if std::mem::replace(&mut self.version, version(&self.connection)) == self.version {
            return;
        }
        let after = store::rows(&self.connection);
        for (place, row) in &self.rows {
            match after.get(place) {
                Some(still) => assert_eq!(still, row),
                None => assert!(matches!(place, ("jobs", 1..=6) | ("actions", 1..=4)), "{place:?} went"),
            }
        }
        assert!(after.len() <= self.rows.len());
        store::fill(&self.connection, store::SAMPLE);
    }
}

fn version(connection: &Connection) -> i64 {
    connection.query_row("PRAGMA data_version", (), |row| row.get(0)).expect("a version")
}
