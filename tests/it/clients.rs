//! Clients that stall, and a great many of them: time limits, limits of memory, and `/health` answers throughout.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::sample::Sample;
use crate::support::server::{Answer, Server, post};

/// The limit in these tests. Long enough for a client that means well, however busy the machine is.
const CLIENT_TIMEOUT: [&str; 2] = ["--client-timeout", "2s"];

const DRY_RUN: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"job.cleanup_by_tag","params":{"tags":["codescaler"],"dry_run":true}}"#;
const DELETE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"job.cleanup_by_tag","params":{"tags":["codescaler"]}}"#;

#[track_caller]
fn assert_answers(server: &Server) {
    assert_eq!(server.get("/health").status, 200);
    let answer = server.post(DRY_RUN.as_bytes()).json();
    assert_eq!(answer["result"]["jobs_planned"], 3, "{answer}");
}

/// Every way to begin a request and not to end it.
fn stalled() -> Vec<(&'static str, Vec<u8>)> {
    let head = "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    vec![
        ("not a word", Vec::new()),
        ("half a line", b"POST /rpc HT".to_vec()),
        ("half a head", format!("{head}x: {}", "x".repeat(8000)).into_bytes()),
        ("no body", format!("{head}content-length: 1000\r\n\r\n").into_bytes()),
        ("half a body", format!("{head}content-length: 1000\r\n\r\n{DELETE}").into_bytes()),
        (
            "half a mebibyte",
            [format!("{head}content-length: 1048576\r\n\r\n{DELETE}").as_bytes(), &[b' '; 20_000]].concat(),
        ),
        ("a body without an end", format!("{head}transfer-encoding: chunked\r\n\r\n5\r\n{{\"jso\r\n").into_bytes()),
        ("a body that is too large", format!("{head}content-length: 1048577\r\n\r\n{DELETE}").into_bytes()),
        ("a body where none belongs", b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{".to_vec()),
        ("nothing more", b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
    ]
}

#[test]
fn who_stalls_is_closed_and_keeps_nobody_waiting() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve_with(&CLIENT_TIMEOUT);
    let mut clients = Vec::new();
    for _ in 0..20 {
        for (what, request) in stalled() {
            let mut stream = server.connect();
            stream.write_all(&request).unwrap();
            clients.push((what, stream));
        }
        // The others, meanwhile.
        assert_answers(&server);
    }
    for (what, mut stream) in clients {
        let answer = Answer::last_of(&mut stream);
        let expected: &[u16] = match what {
            "not a word" | "half a line" | "half a head" => &[0],
            "no body" | "half a body" => &[408],
            // Only some of these are read at once.
            "half a mebibyte" | "a body without an end" => &[408, 503],
            "a body that is too large" => &[413],
            _ => &[200],
        };
        assert!(expected.contains(&answer.status), "{what}: {answer:?}");
        if answer.status >= 400 {
            answer.assert_discreet();
            assert_eq!(answer.json()["jsonrpc"], "2.0");
        }
    }
    assert_answers(&server);
    assert_eq!(sample.dump(), before);
}

/// The limit is for the whole of it: single bytes do not put it off.
#[test]
fn a_byte_now_and_then_is_not_in_time() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve_with(&CLIENT_TIMEOUT);
    let head = b"POST /rpc HTTP/1.1\r\nhost: x\r\nx: ".to_vec();
    let body =
        b"POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    let chunks =
        b"POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    let mut clients = [(head, "x"), (body, " "), (chunks, "1\r\n \r\n")].map(|(begin, part)| {
        let mut stream = server.connect();
        stream.write_all(&begin).unwrap();
        (stream, part, true)
    });
    while clients.iter().any(|(.., open)| *open) {
        for (stream, part, open) in &mut clients {
            *open = *open && stream.write_all(part.as_bytes()).is_ok();
        }
        assert_eq!(server.get("/health").status, 200);
    }
    assert_eq!(sample.dump(), before);
}

/// Sends without end, and never reads: until the server closes the connection.
fn write_until_closed(stream: &mut UnixStream, request: &[u8]) {
    loop {
        if let Err(error) = stream.write_all(request) {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "the connection stays open");
            break;
        }
    }
}

/// A batch of so many calls that an answer to it is larger than what a socket holds: who doesn't read it keeps it in memory.
fn large_batch(calls: usize) -> Vec<Value> {
    (0..calls).map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "rpc.discover" })).collect()
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures are for whoever wants them")]
fn who_never_reads_is_closed() {
    let sample = Sample::new();
    let server = sample.serve_with(&CLIENT_TIMEOUT);
    let (many, large) = (
        b"GET /openrpc.json HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        post("x: y", json!(large_batch(100)).to_string().as_bytes()),
    );
    thread::scope(|scope| {
        for client in 0..100 {
            let request = if client % 2 == 0 { &many } else { &large };
            let server = &server;
            scope.spawn(move || write_until_closed(&mut server.connect(), request));
        }
        for _ in 0..20 {
            assert_eq!(server.get("/health").status, 200);
        }
    });
    assert_answers(&server);
    let peak = server.status("VmHWM");
    println!("{peak} kB at most");
    assert!(peak < 200_000, "{peak} kB: 50 answers of 1.6 MB, some of them at once");
}

/// The bytes of answers that nobody has read from which on a server begins no large call.
const MOST_LARGE: usize = 128 << 20;

/// Sends `batch`, and returns once its answer is made, though it is not read.
fn deaf(server: &Server, batch: &[Value]) -> UnixStream {
    let mut stream = server.connect();
    stream.write_all(&post("x: y", json!(batch).to_string().as_bytes())).unwrap();
    stream.read_exact(&mut [0; 8]).unwrap();
    stream
}

/// Clients that read none of their answers, as many of them as there is memory for, and none of them is ever timed out:
/// the others go on, and what asks for much is refused before it begins.
#[test]
#[expect(clippy::print_stdout, reason = "the figures are for whoever wants them")]
fn who_never_reads_keeps_nobody_waiting() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve_with(&["--client-timeout", "1h"]);
    let assert_refused = |answer: &Value| {
        let error = &answer["error"];
        assert_eq!(error["message"], "too many answers wait to be read: nothing was deleted", "{answer}");
        let data = json!({ "kind": "store_busy", "retryable": true });
        assert_eq!((&error["code"], &error["data"]), (&json!(-32021), &data));
    };
    // All but fifty of the calls that there is room for.
    let calls = MOST_LARGE.div_ceil(server.get("/openrpc.json").body.len()) - 50;
    let clients = calls.div_ceil(100);
    let mut others: Vec<UnixStream> = (0..clients)
        .map(|client| deaf(&server, &large_batch(calls * (client + 1) / clients - calls * client / clients)))
        .collect();
    let mut batch = large_batch(60);
    batch.push(serde_json::from_str(DELETE).unwrap());
    let answers = server.post(json!(batch).to_string().as_bytes()).json();
    assert!((0..50).all(|call| answers[call]["result"].is_object()), "{}", answers[49]);
    (50..61).for_each(|call| assert_refused(&answers[call]));
    // That one has been read: there is room again, for as many as before.
    others.push(deaf(&server, &batch));
    assert_answers(&server);
    let mut delete: Value = serde_json::from_str(DELETE).unwrap();
    assert_refused(&server.post(json!([delete]).to_string().as_bytes()).json()[0]);
    delete["params"]["max_ids"] = 1_000_000.into();
    assert_refused(&server.post(delete.to_string().as_bytes()).json());
    let peak = server.status("VmHWM");
    println!("{peak} kB at most");
    assert!(peak < 200_000, "{peak} kB");
    assert_eq!(sample.dump(), before);
    drop(others);
    // As soon as the server has seen that they are gone.
    while server.post(delete.to_string().as_bytes()).json()["result"]["jobs_deleted"] != 3 {}
}

/// Lets this process have as many connections as the system allows.
fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures are for whoever wants them")]
fn a_thousand_connections_at_once() {
    raise_limit();
    let sample = Sample::new();
    let before = sample.dump();
    // Fewer than there are clients, as in most places: the server may have more if it asks.
    let socket = sample.directory.path().join("rpc.sock");
    // Nobody is closed here: everybody who comes is served beside all the others.
    let args = ["--client-timeout", "1h"];
    let server = Server::serve_after("ulimit -S -n 256", &sample.path, &socket, &args);
    assert_answers(&server);
    let idle = server.status("VmRSS");
    let requests = stalled();
    let clients: Vec<UnixStream> = (0..1000)
        .map(|client| {
            let mut stream = server.connect();
            // What does not fit into the socket now would not be read anyhow.
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(&requests[client % requests.len()].1);
            if client % 100 == 0 {
                assert_answers(&server);
            }
            stream
        })
        .collect();
    for _ in 0..10 {
        assert_answers(&server);
    }
    let (peak, now) = (server.status("VmHWM"), server.status("VmRSS"));
    println!("{idle} kB without clients, {now} kB with 1000, {peak} kB at most");
    assert!(peak < 200_000, "{peak} kB");
    drop(clients);
    assert_answers(&server);
    assert_eq!(sample.dump(), before);
}

/// Connections leave enough for the store: a call that has one is carried out, however many others there are.
#[test]
fn connections_do_not_use_up_what_the_store_needs() {
    raise_limit();
    let sample = Sample::new();
    let socket = sample.directory.path().join("rpc.sock");
    let server = Server::serve_after("ulimit -n 128", &sample.path, &socket, &CLIENT_TIMEOUT);
    let mut early = server.connect();
    early.write_all(b"POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n").unwrap();
    let others: Vec<UnixStream> = (0..100).map(|_| server.connect()).collect();
    let rest = format!("connection: close\r\ncontent-length: {}\r\n\r\n{DRY_RUN}", DRY_RUN.len());
    early.write_all(rest.as_bytes()).unwrap();
    let answer = Answer::last_of(&mut early).json();
    assert_eq!(answer["result"]["jobs_planned"], 3, "{answer}");
    // Those who stall lose their places to those who wait.
    assert_answers(&server);
    drop(others);
}

/// Hundreds of calls of a mebibyte each wait for a hero_proc that hangs: most are refused, with nothing sent.
#[test]
#[expect(clippy::print_stdout, reason = "the figures are for whoever wants them")]
fn many_large_requests_at_once() {
    raise_limit();
    let directory = TempDir::new().unwrap();
    let upstream = directory.path().join("hero_proc.sock");
    let _hangs = std::os::unix::net::UnixListener::bind(&upstream).unwrap();
    let server = Server::gateway(&directory.path().join("gateway.sock"), &upstream, &CLIENT_TIMEOUT);
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"jobs.cleanup"}"#;
    let request = &post("connection: close", format!("{call}{}", " ".repeat((1 << 20) - call.len())).as_bytes());
    thread::scope(|scope| {
        let (refused, told) = std::sync::mpsc::channel();
        for _ in 0..300 {
            let (server, refused) = (&server, refused.clone());
            scope.spawn(move || {
                let mut stream = server.connect();
                let _ = stream.write_all(request);
                let answer = Answer::last_of(&mut stream);
                // Those that are carried out are not answered before the gateway is gone.
                let _ = refused.send(answer);
            });
        }
        drop(refused);
        for answer in told.iter().take(200) {
            assert_eq!(answer.status, 503, "{answer:?}");
            answer.assert_discreet();
            assert_eq!(answer.json()["error"]["data"], json!({ "kind": "store_busy", "retryable": true }));
        }
        assert_eq!(server.get("/health").status, 200);
        let peak = server.status("VmHWM");
        println!("{peak} kB at most");
        assert!(peak < 250_000, "{peak} kB");
        server.signal(rustix::process::Signal::KILL);
    });
}

/// An answer repeats its request's id, however long that is: who never reads it keeps as little in memory.
#[test]
#[expect(clippy::print_stdout, reason = "the figures are for whoever wants them")]
fn many_large_ids_at_once() {
    raise_limit();
    let sample = Sample::new();
    let server = sample.serve_with(&CLIENT_TIMEOUT);
    let call = json!({ "jsonrpc": "2.0", "id": "x".repeat(1_000_000), "method": "none" });
    let request = &post("x: y", call.to_string().as_bytes());
    thread::scope(|scope| {
        for _ in 0..300 {
            let server = &server;
            scope.spawn(move || write_until_closed(&mut server.connect(), request));
        }
        for _ in 0..20 {
            assert_answers(&server);
        }
    });
    let peak = server.status("VmHWM");
    println!("{peak} kB at most");
    assert!(peak < 110_000, "{peak} kB: 32 requests of a megabyte, and their answers");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let sample = Sample::new();
    let server = sample.serve();
    let mut stream = server.connect();
    let mut writer = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for id in 0..1000 {
                let tag = ["codescaler", "hero"][id % 2];
                let params = json!({ "tags": [tag], "dry_run": true });
                let call = json!({ "jsonrpc": "2.0", "id": id, "method": "job.cleanup_by_tag", "params": params });
                writer.write_all(&post("x: y", call.to_string().as_bytes())).unwrap();
            }
            writer.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        });
        let mut answers = Vec::new();
        stream.read_to_end(&mut answers).unwrap();
        let answers = String::from_utf8(answers).unwrap();
        let ids: Vec<usize> = answers
            .split(r#""id":"#)
            .skip(1)
            .map(|rest| rest.split([',', '}']).next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(ids, (0..1000).collect::<Vec<_>>());
        assert_eq!(answers.matches(r#""jobs_planned":3"#).count(), 500);
        assert_eq!(answers.matches("tag_outside_guard").count(), 500);
        assert!(answers.ends_with(&format!("\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION"))), "and the last");
    });
}

#[test]
fn what_is_no_http_is_refused() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve_with(&CLIENT_TIMEOUT);
    let mebibyte = "x".repeat(1 << 20);
    let length = DELETE.len();
    for (what, request) in [
        (
            "a huge header",
            format!("POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx: {mebibyte}\r\n\r\n"),
        ),
        (
            "a huge name",
            format!("POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{mebibyte}: x\r\n\r\n"),
        ),
        (
            "many headers",
            format!("POST /rpc HTTP/1.1\r\ncontent-type: application/json\r\n{}\r\n", "x: y\r\n".repeat(1 << 18)),
        ),
        ("a huge path", format!("GET /{mebibyte} HTTP/1.1\r\nhost: x\r\n\r\n")),
        ("a huge verb", format!("{mebibyte} /rpc HTTP/1.1\r\nhost: x\r\n\r\n")),
        (
            "a huge version",
            format!("POST /rpc HTTP/1.1{mebibyte}\r\ncontent-type: application/json\r\nhost: x\r\n\r\n"),
        ),
        ("no HTTP", "SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned()),
        ("the body alone", format!("{DELETE}\r\n\r\n")),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n".to_owned()),
        ("HTTP/0.9", "GET /health\r\n\r\n".to_owned()),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        (
            "HTTP/3",
            format!(
                "POST /rpc HTTP/3.0\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{DELETE}"
            ),
        ),
        (
            "a negative length",
            format!(
                "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: -1\r\n\r\n{DELETE}"
            ),
        ),
        (
            "a length in words",
            format!(
                "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: all\r\n\r\n{DELETE}"
            ),
        ),
        (
            "two lengths",
            format!(
                "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\ncontent-length: 2\r\n\r\n{DELETE}"
            ),
        ),
        (
            "a length beyond counting",
            format!(
                "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99999999999999999999999\r\n\r\n{DELETE}"
            ),
        ),
        (
            "chunks of no number",
            format!(
                "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n{DELETE}\r\n0\r\n\r\n"
            ),
        ),
        (
            "chunks beyond counting",
            format!(
                "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{DELETE}"
            ),
        ),
        (
            "a coding unknown here",
            format!(
                "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: gzip\r\ncontent-length: {length}\r\n\r\n{DELETE}"
            ),
        ),
        (
            "a zero in a header",
            format!(
                "POST /rpc HTTP/1.1\r\ncontent-type: application/json\r\nhost: \0\r\ncontent-length: {length}\r\n\r\n{DELETE}"
            ),
        ),
        (
            "a space in a name",
            format!(
                "POST /rpc HTTP/1.1\r\ncontent-type: application/json\r\nhost : x\r\ncontent-length: {length}\r\n\r\n{DELETE}"
            ),
        ),
    ] {
        let answer = server.send(request.as_bytes());
        assert!([0, 400, 413, 414, 431, 505].contains(&answer.status), "{what}: {answer:?}");
        answer.assert_discreet();
        assert_eq!(server.get("/health").status, 200, "{what}");
    }
    assert_eq!(
        server
            .send(
                format!("POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx: {mebibyte}\r\n\r\n")
                    .as_bytes()
            )
            .status,
        431
    );
    assert_eq!(sample.dump(), before);
}

/// Whatever arrives of a request, unless it is all of it: nothing is carried out.
#[test]
fn a_request_that_breaks_off_is_not_carried_out() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve();
    let whole = post("connection: close", format!("{DELETE}   ").as_bytes());
    for end in 0..whole.len() {
        // Closed for good, and closed for writing only.
        for shutdown in [std::net::Shutdown::Both, std::net::Shutdown::Write] {
            let mut stream = server.connect();
            stream.write_all(&whole[..end]).unwrap();
            stream.shutdown(shutdown).unwrap();
            let answer = Answer::last_of(&mut stream);
            assert!([0, 400].contains(&answer.status), "{end}: {answer:?}");
            answer.assert_discreet();
        }
    }
    let chunked = format!(
        "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{DELETE}\r\n",
        DELETE.len()
    );
    for end in ["", "0", "0\r\n"] {
        let mut stream = server.connect();
        write!(stream, "{chunked}{end}").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!([0, 400].contains(&Answer::last_of(&mut stream).status));
    }
    assert_answers(&server);
    assert_eq!(sample.dump(), before);
    assert_eq!(server.send(&whole).json()["result"]["jobs_deleted"], 3);
}
