//! Clients that take their time: who makes progress is waited for, and nobody holds up a server's end.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::sample::Sample;
use crate::support::server::{Answer, METHOD, Server, post};

/// A request whose answer is larger than what sockets hold, many times over.
fn large_request(header: &str) -> Vec<u8> {
    let calls: Vec<Value> =
        (0..100).map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "rpc.discover" })).collect();
    post(header, json!(calls).to_string().as_bytes())
}

/// Asks for a large answer, and reads its beginning.
fn begin(server: &Server) -> UnixStream {
    let mut client = server.connect();
    client.write_all(&large_request("connection: close")).unwrap();
    client.read_exact(&mut [0; 8]).unwrap();
    client
}

/// Whether the other end is closed, whatever is still to be read.
fn is_closed(stream: &UnixStream) -> bool {
    let mut ends = [PollFd::new(stream, PollFlags::empty())];
    poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    ends[0].revents().contains(PollFlags::HUP)
}

/// Long after the limit it still gets what it takes piece by piece.
#[test]
fn who_reads_slowly_gets_the_whole_answer() {
    let sample = Sample::new();
    let server = sample.serve_with(&["--client-timeout", "1s"]);
    let whole = server.send(&large_request("connection: close")).body.len();
    let mut client = begin(&server);
    let mut taken = Vec::new();
    let mut piece = vec![0; whole / 12];
    loop {
        // A slow client is slow by the clock: the pauses alone are three times the limit.
        sleep(Duration::from_millis(250));
        match client.read(&mut piece).unwrap() {
            0 => break,
            bytes => taken.extend_from_slice(&piece[..bytes]),
        }
    }
    let body = taken.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(taken.len() - body, whole);
}

/// Progress has a floor: single bytes put nothing off.
#[test]
fn who_reads_a_byte_now_and_then_is_closed() {
    let sample = Sample::new();
    let server = sample.serve_with(&["--client-timeout", "1s"]);
    let mut client = begin(&server);
    while !is_closed(&client) {
        client.read_exact(&mut [0]).unwrap();
        assert_eq!(server.get("/health").status, 200);
    }
}

/// Whatever the limit for clients is.
#[test]
fn half_a_request_does_not_keep_the_server_from_ending() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve_with(&["--client-timeout", "1h"]);
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": METHOD, "params": { "tags": ["codescaler"] } });
    let request = post("connection: close", call.to_string().as_bytes());
    let mut chunked =
        b"POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    chunked.extend(b"5\r\n{\"jso\r\n");
    let large = b"POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2000000\r\n\r\n{";
    let parts = [&request[..10], &request[..request.len() - call.to_string().len()], &request[..request.len() - 1]];
    let mut clients = Vec::new();
    for part in parts.into_iter().chain([&chunked[..], &large[..]]) {
        let mut client = server.connect();
        client.write_all(part).unwrap();
        clients.push(client);
    }
    assert_eq!(server.get("/health").status, 200);
    let socket = server.socket.clone();
    server.signal(Signal::TERM);
    let (status, log) = server.end();
    assert!(status.success() && !socket.exists(), "{log}");
    for mut client in clients {
        let answer = Answer::last_of(&mut client);
        assert!([0, 413, 503].contains(&answer.status), "{answer:?}");
        answer.assert_discreet();
    }
    assert_eq!(sample.dump(), before);
}

#[test]
fn an_answer_that_nobody_takes_does_not_keep_the_server_from_ending() {
    let sample = Sample::new();
    let server = sample.serve_with(&["--client-timeout", "1h"]);
    let _client = begin(&server);
    let socket = server.socket.clone();
    server.signal(Signal::TERM);
    let (status, log) = server.end();
    assert!(status.success() && !socket.exists(), "{log}");
}
