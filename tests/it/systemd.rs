//! Servers under systemd: sockets that are passed, and what the service manager is told.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::process::{BINARY, Running, entries, text};
use crate::support::sample::Sample;
use crate::support::server::{Answer, Server, serve};

/// `command`, to which `socket` is passed in the manner of systemd, with `variables` in the environment.
fn passing(socket: impl Into<OwnedFd>, command: &Command, variables: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{variables} exec \"$0\" \"$@\" 3<&0 </dev/null")]).arg(command.get_program());
    shell.args(command.get_args()).env("RUST_LOG", "info").stdin(Stdio::from(socket.into()));
    shell
}

const ONE: &str = "LISTEN_PID=$$ LISTEN_FDS=1";

/// Starts `command`, whose stdin is set, once it serves.
fn start(mut command: Command, socket: &Path) -> Server {
    let running = Running::start(&mut command);
    running.says("serving");
    Server::of(running, socket)
}

#[track_caller]
fn assert_says(mut command: Command, code: i32, why: &str) {
    let refused = Running::start(&mut command);
    let said = refused.until("serving");
    assert!(said.contains(why) && !said.contains("serving"), "{said}");
    assert_eq!(refused.end().0, Some(code), "{said}");
}

/// A call that came before the server is answered by it, and the socket outlives the server.
#[test]
fn a_socket_that_is_passed_is_served_and_left_alone() {
    let sample = Sample::new();
    let socket = sample.directory.path().join("rpc.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let before = fs::symlink_metadata(&socket).unwrap();
    let mut early = UnixStream::connect(&socket).unwrap();
    early.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    for args in [&["--socket", "rpc.sock"][..], &[]] {
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--store").arg(&sample.path);
        command.args(args.iter().map(|arg| arg.replace("rpc.sock", socket.to_str().unwrap())));
        let server = start(passing(listener.try_clone().unwrap(), &command, ONE), &socket);
        assert_eq!(server.get("/health").status, 200);
        server.signal(Signal::TERM);
        let (status, log) = server.end();
        assert_eq!(status.code(), Some(0), "{log}");
        let after = fs::symlink_metadata(&socket).unwrap();
        assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()));
    }
    assert_eq!(Answer::last_of(&mut early).status, 200);
    assert_eq!(entries(sample.directory.path()).iter().filter(|path| path.ends_with("rpc.sock")).count(), 1);

    let mut gateway = Command::new(BINARY);
    gateway.arg("gateway").arg("--hero-proc").arg(sample.directory.path().join("none.sock"));
    let gateway = start(passing(listener, &gateway, ONE), &socket);
    let answer = gateway.call("jobs.cleanup", &serde_json::json!({}));
    assert_eq!(answer["error"]["data"]["kind"], "upstream_unreachable", "{answer}");
}

#[test]
fn what_is_passed_must_be_one_socket_that_listens() {
    let sample = Sample::new();
    let path = |name: &str| sample.directory.path().join(name);
    let socket = path("rpc.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let passed = || listener.try_clone().unwrap();
    let mut command = Command::new(BINARY);
    command.arg("serve").arg("--store").arg(&sample.path);
    assert_says(passing(passed(), &command, "LISTEN_PID=$$ LISTEN_FDS=2"), 1, "2 sockets are passed");
    let (one, _other) = UnixStream::pair().unwrap();
    assert_says(passing(one, &command, ONE), 1, "it does not listen");
    let datagrams = UnixDatagram::bind(path("datagrams")).unwrap();
    assert_says(passing(datagrams, &command, ONE), 1, "can't serve");
    assert_says(passing(fs::File::open("/dev/null").unwrap(), &command, ONE), 1, "can't serve");
    command.args(["--socket-group", "daemon"]);
    assert_says(passing(passed(), &command, ONE), 2, "SocketGroup=");
    let elsewhere = serve(&sample.path, &path("elsewhere.sock"));
    assert_says(passing(passed(), &elsewhere, ONE), 2, "the socket that is passed is");
    // Another process's.
    let server = start(passing(passed(), &elsewhere, "LISTEN_PID=1 LISTEN_FDS=1"), &path("elsewhere.sock"));
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn the_service_manager_is_told_of_the_beginning_and_the_end() {
    let sample = Sample::new();
    let directory = sample.directory.path();
    let path = directory.join("notify");
    let name = format!("hero_proc_cleanup/{}", directory.display());
    let addresses = [
        (path.display().to_string(), SocketAddr::from_pathname(&path).unwrap()),
        (format!("@{name}"), SocketAddr::from_abstract_name(&name).unwrap()),
    ];
    for (variable, address) in addresses {
        let told = UnixDatagram::bind_addr(&address).unwrap();
        let next = || {
            let mut state = [0; 100];
            let bytes = told.recv(&mut state).unwrap();
            text(&state[..bytes]).to_owned()
        };
        let socket = directory.join("rpc.sock");
        let server = Server::start(serve(&sample.path, &socket).env("NOTIFY_SOCKET", &variable), &socket);
        assert_eq!(next(), "READY=1");
        assert_eq!(server.get("/health").status, 200);
        server.signal(Signal::TERM);
        assert_eq!(next(), "STOPPING=1");
        let (status, log) = server.end();
        assert_eq!(status.code(), Some(0), "{log}");
    }
    // Nobody there to be told is no reason to end.
    let socket = directory.join("rpc.sock");
    let missing = directory.join("missing");
    let server = Server::start(serve(&sample.path, &socket).env("NOTIFY_SOCKET", missing), &socket);
    server.says("the service manager was not told");
    assert_eq!(server.get("/health").status, 200);
}
