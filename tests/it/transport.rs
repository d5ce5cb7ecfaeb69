//! The endpoints, the socket's file, and the end of a server.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::sample::Sample;
use crate::server::{BINARY, Server};

#[test]
fn every_endpoint_answers() {
    let sample = Sample::new();
    let server = Server::serve(&sample.path, &sample.directory.path().join("rpc.sock"));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        server.get("/health").json(),
        json!({ "status": "ok", "service": "hero_proc_cleanup", "version": version })
    );
    let manifest = server.get("/.well-known/heroservice.json").json();
    assert_eq!((&manifest["protocol"], &manifest["socket"]), (&json!("openrpc"), &json!("rpc")));
    assert_eq!((&manifest["name"], &manifest["version"]), (&json!("hero_proc_cleanup"), &json!(version)));
    assert!(manifest["title"].is_string() && manifest["description"].is_string());
    let openrpc = server.get("/openrpc.json");
    assert!(openrpc.head.contains("content-type: application/json"), "{}", openrpc.head);
    assert_eq!(server.get("/nothing").status, 404);
    assert_eq!(server.get("/rpc").status, 405);
}

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_its_server() {
    let sample = Sample::new();
    let socket = sample.directory.path().join("deep/down/rpc.sock");
    let server = Server::serve(&sample.path, &socket);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let left: Vec<_> = fs::read_dir(socket.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    server.signal(Signal::TERM);
    let (status, log) = server.end();
    assert!(status.success(), "{log}");
    assert!(!socket.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let sample = Sample::new();
    let socket = sample.directory.path().join("rpc.sock");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    let server = Server::serve(&sample.path, &socket);
    assert_eq!(server.get("/health").status, 200);

    let second = Command::new(BINARY)
        .args(["serve", "--store"])
        .arg(&sample.path)
        .arg("--socket")
        .arg(&socket)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("listens on"), "{second:?}");
    assert_eq!(server.get("/health").status, 200, "the first still has its socket");
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let sample = Sample::new();
    let directory = sample.directory.path();
    fs::write(directory.join("file"), "precious").unwrap();
    fs::create_dir(directory.join("directory")).unwrap();
    symlink(directory.join("file"), directory.join("link")).unwrap();
    for name in ["file", "directory", "link"] {
        let refused = Command::new(BINARY)
            .args(["serve", "--store"])
            .arg(&sample.path)
            .arg("--socket")
            .arg(directory.join(name))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(1), "{name}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("is no socket"), "{refused:?}");
    }
    assert_eq!(fs::read_to_string(directory.join("link")).unwrap(), "precious");
}

#[test]
fn clients_that_stall_keep_nobody_waiting() {
    let sample = Sample::new();
    let server = Server::serve(&sample.path, &sample.directory.path().join("rpc.sock"));
    let stalled: Vec<UnixStream> = (0..300)
        .map(|client| {
            let mut stream = UnixStream::connect(&server.socket).unwrap();
            match client % 3 {
                0 => {}
                1 => stream.write_all(b"POST /rpc HT").unwrap(),
                _ => stream
                    .write_all(b"POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{\"jsonrpc\"")
                    .unwrap(),
            }
            stream
        })
        .collect();
    for _ in 0..10 {
        assert_eq!(server.get("/health").status, 200);
    }
    drop(stalled);
}
