//! The endpoints, the socket's file, and the end of a server.

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::{Signal, geteuid};
use serde_json::json;
use tempfile::TempDir;

use crate::support::DAEMON;
use crate::support::process::{BINARY, Running, entries};
use crate::support::sample::Sample;
use crate::support::server::{Server, serve};

#[test]
fn every_endpoint_answers() {
    let sample = Sample::new();
    let server = sample.serve();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        server.get("/health").json(),
        json!({ "status": "ok", "service": "hero_proc_cleanup", "version": version, "store": "ok" })
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

/// Whatever the umask: the socket appears in its place with its mode, and before that nobody else can reach it.
#[test]
fn the_mode_is_set_before_anybody_can_connect() {
    let sample = Sample::new();
    for round in 0..10 {
        for umask in ["0", "077"] {
            let directory = TempDir::new().unwrap();
            let socket = directory.path().join("rpc.sock");
            let events = inotify::init(CreateFlags::NONBLOCK).unwrap();
            let watched = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB;
            inotify::add_watch(&events, directory.path(), watched).unwrap();
            let serving = AtomicBool::new(false);
            thread::scope(|scope| {
                // What it sees depends on the moment; what it must not see, it must not see at any.
                scope.spawn(|| {
                    while !serving.load(Ordering::Relaxed) {
                        for entry in entries(directory.path()) {
                            let Ok(metadata) = fs::symlink_metadata(&entry) else { continue };
                            let (is_dir, mode) = (metadata.is_dir(), metadata.permissions().mode() & 0o777);
                            let expected = match entry.file_name().unwrap().to_str().unwrap() {
                                "rpc.sock" => 0o660,
                                _ if is_dir => 0o700,
                                // A lock.
                                _ => 0o600,
                            };
                            assert_eq!(mode, expected, "{entry:?}");
                        }
                    }
                });
                let server = Server::serve_after(&format!("umask {umask}"), &sample.path, &socket, &[]);
                serving.store(true, Ordering::Relaxed);
                assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
                drop(server);
            });
            let mut buffer = [const { MaybeUninit::uninit() }; 4096];
            let mut events = inotify::Reader::new(&events, &mut buffer);
            let mut seen = Vec::new();
            while let Ok(event) = events.next() {
                if event.file_name().is_some_and(|name| name.to_bytes() == b"rpc.sock") {
                    seen.push(event.events());
                }
            }
            assert_eq!(seen, [ReadFlags::MOVED_TO], "round {round}: in one step, and untouched after it");
        }
    }
}

/// `serve` on `socket`, which must be refused with `why`.
#[track_caller]
fn assert_refused(sample: &Sample, socket: &Path, why: &str) {
    assert_says(serve(&sample.path, socket), why);
}

/// `command` must fail and say `why`: it is not waited for if it serves.
#[track_caller]
fn assert_says(mut command: Command, why: &str) {
    let mut refused = Running::start(command.env("RUST_LOG", "info").stdin(Stdio::null()));
    let said = refused.until("serving");
    assert!(said.contains(why) && !said.contains("serving"), "{said}");
    assert_eq!(refused.child.wait().unwrap().code(), Some(1), "{said}");
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let sample = Sample::new();
    let socket = sample.directory.path().join("rpc.sock");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    let server = Server::serve(&sample.path, &socket);
    assert_eq!(server.get("/health").status, 200);
    assert_refused(&sample, &socket, "listens on");
    assert_eq!(server.get("/health").status, 200, "the first still has its socket");
    server.signal(Signal::KILL);
    server.end();
    assert!(socket.exists(), "whoever is killed can't remove it");
    assert_eq!(Server::serve(&sample.path, &socket).get("/health").status, 200);
}

/// A server may be alive though nobody can connect to it as usual: only one that is gone is replaced.
#[test]
fn what_may_be_alive_is_not_replaced() {
    let sample = Sample::new();
    let directory = sample.directory.path();
    let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();

    let datagrams = directory.join("datagrams.sock");
    let _open = UnixDatagram::bind(&datagrams).unwrap();
    let before = inode(&datagrams);
    assert_refused(&sample, &datagrams, "can't be bound");
    assert_eq!(inode(&datagrams), before);

    // So busy that it accepts nobody.
    let busy = directory.join("busy.sock");
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&busy).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let _waiting = UnixStream::connect(&busy).unwrap();
    let before = inode(&busy);
    assert_refused(&sample, &busy, "listens on");
    assert_eq!(inode(&busy), before);

    // Where its path is too long to connect to, and a shorter one leads there.
    let deep = directory.join("deep".repeat(30));
    fs::create_dir(&deep).unwrap();
    let short = directory.join("short");
    symlink(&deep, &short).unwrap();
    let _server = Server::serve(&sample.path, &short.join("rpc.sock"));
    let before = inode(&deep.join("rpc.sock"));
    assert_refused(&sample, &deep.join("rpc.sock"), "listens on");
    assert_eq!(inode(&deep.join("rpc.sock")), before);
}

/// Whoever may read the directory may lock it. That keeps nobody from starting, or from removing the socket at the end.
#[test]
fn a_lock_of_others_keeps_no_server_from_starting() {
    let sample = Sample::new();
    let directory = sample.directory.path().join("sockets");
    fs::create_dir(&directory).unwrap();
    let held = fs::File::open(&directory).unwrap();
    held.lock_shared().unwrap();
    let server = Server::serve(&sample.path, &directory.join("rpc.sock"));
    assert_eq!(server.get("/health").status, 200);
    server.signal(Signal::TERM);
    assert!(server.end().0.success());
    assert_eq!(entries(&directory), [] as [&Path; 0]);
}

/// What is left of a server that was killed in the middle is of use; what is another's is not touched.
#[test]
fn a_lock_that_is_left_is_taken_over() {
    let sample = Sample::new();
    let directory = sample.directory.path().join("sockets");
    let (socket, lock) = (directory.join("rpc.sock"), directory.join(".rpc.sock.lock"));
    fs::create_dir(&directory).unwrap();
    fs::write(&lock, "").unwrap();
    drop(Server::serve(&sample.path, &socket));
    assert!(!lock.exists());

    let precious = directory.join("precious");
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, &lock).unwrap();
    assert_refused(&sample, &socket, "can't be bound");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    assert_refused(&sample, &socket, "can't be bound");
    fs::remove_dir(&lock).unwrap();
    let _bound = UnixListener::bind(&lock).unwrap();
    assert_refused(&sample, &socket, "can't be bound");
    fs::remove_file(&lock).unwrap();
    if geteuid().is_root() {
        fs::write(&lock, "").unwrap();
        chown(&lock, Some(DAEMON), Some(DAEMON)).unwrap();
        assert_refused(&sample, &socket, "can't be bound");
        assert!(lock.exists());
    }
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

/// The names that a server makes for itself for a moment may be in use. What lies there is not touched.
#[test]
fn what_lies_in_the_way_is_left_alone() {
    let sample = Sample::new();
    let directory = sample.directory.path().join("sockets");
    fs::create_dir(&directory).unwrap();
    // The shell knows the number of the process that it becomes.
    let first =
        format!("for n in $$ $$.0 $$.1; do mkdir {0}/.$n; echo precious > {0}/.$n/file; done", directory.display());
    let server = Server::serve_after(&first, &sample.path, &directory.join("rpc.sock"), &[]);
    for name in [String::new(), ".0".to_owned(), ".1".to_owned()] {
        let file = directory.join(format!(".{}{name}/file", server.pid()));
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious\n", "{file:?}");
    }
    assert_eq!(entries(&directory).len(), 4);
}

/// A server that ends takes only its own socket along, whoever starts at that moment.
#[test]
fn who_starts_while_another_ends_keeps_its_socket() {
    let sample = Sample::new();
    let socket = sample.directory.path().join("rpc.sock");
    let mut server = Server::serve(&sample.path, &socket);
    for _ in 0..20 {
        server.signal(Signal::TERM);
        let mut next = loop {
            let mut next = Running::start(&mut serve(&sample.path, &socket));
            if next.until("serving").contains("serving") {
                break next;
            }
            // The first still listened.
            assert_eq!(next.child.wait().unwrap().code(), Some(1));
        };
        assert!(server.end().0.success());
        assert!(UnixStream::connect(&socket).is_ok(), "its own, and there");
        next.signal(Signal::KILL);
        next.child.wait().unwrap();
        server = Server::serve(&sample.path, &socket);
    }
}

/// Of many that start at the same moment, one serves.
#[test]
fn of_many_that_start_at_once_one_serves() {
    let sample = Sample::new();
    for round in 0..5 {
        let socket = sample.directory.path().join(format!("{round}.sock"));
        let started: Vec<_> = (0..6).map(|_| Running::start(&mut serve(&sample.path, &socket))).collect();
        let serving: Vec<bool> = started.iter().map(|server| server.until("serving").contains("serving")).collect();
        assert_eq!(serving.iter().filter(|serves| **serves).count(), 1, "{serving:?}");
        assert!(UnixStream::connect(&socket).is_ok());
        for (server, serves) in started.into_iter().zip(serving) {
            if serves {
                server.signal(Signal::KILL);
            }
            assert_eq!(server.end().0, if serves { None } else { Some(1) });
        }
    }
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let sample = Sample::new();
    let directory = sample.directory.path();
    fs::write(directory.join("file"), "precious").unwrap();
    fs::create_dir(directory.join("directory")).unwrap();
    symlink(directory.join("file"), directory.join("link")).unwrap();
    symlink(directory.join("nothing"), directory.join("dangling")).unwrap();
    drop(UnixListener::bind(directory.join("stale.sock")).unwrap());
    symlink(directory.join("stale.sock"), directory.join("to_stale")).unwrap();
    let live = Server::serve(&sample.path, &directory.join("live.sock"));
    symlink(directory.join("live.sock"), directory.join("to_live")).unwrap();
    let named = || {
        let mut named: Vec<_> = entries(directory).into_iter().map(|path| (fs::read_link(&path).ok(), path)).collect();
        // Files of the store come and go.
        named.retain(|(_, path)| !path.to_string_lossy().contains("hero_proc.db"));
        named.sort();
        named
    };
    let before = named();
    for name in ["file", "directory", "link", "dangling", "to_stale", "to_live"] {
        assert_refused(&sample, &directory.join(name), "is no socket");
    }
    assert_refused(&sample, &directory.join("file/rpc.sock"), "can't be bound");
    assert_eq!(named(), before);
    assert_eq!(fs::read_to_string(directory.join("link")).unwrap(), "precious");
    assert_eq!(live.get("/health").status, 200);
}

/// Whoever may replace files in the socket's directory could stand in for the server.
#[test]
fn a_directory_of_others_is_refused() {
    let sample = Sample::new();
    let directory = sample.directory.path().join("sockets");
    fs::create_dir(&directory).unwrap();
    let mode = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    assert_refused(&sample, &directory.join("rpc.sock"), "may be written to by everybody");
    // The group is trusted: it may call anyhow.
    for trusted in [0o1777, 0o775] {
        mode(trusted);
        drop(Server::serve(&sample.path, &directory.join("rpc.sock")));
    }
    if !geteuid().is_root() {
        mode(0o555);
        return assert_refused(&sample, &directory.join("other.sock"), "can't be bound");
    }
    mode(0o755);
    chown(&directory, Some(DAEMON), Some(DAEMON)).unwrap();
    assert_refused(&sample, &directory.join("rpc.sock"), "belongs to another user");

    // The other way round: the daemon in a directory of root's, and beside a socket of root's.
    let binary = sample.directory.path().join("hero_proc_cleanup");
    fs::copy(BINARY, &binary).unwrap();
    fs::set_permissions(sample.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_daemon = |socket: &Path| {
        let mut command = Command::new(&binary);
        command.uid(DAEMON).gid(DAEMON).current_dir("/").args(["serve", "--store"]).arg(&sample.path);
        command.arg("--socket").arg(socket);
        assert_says(command, "can't be bound");
    };
    as_daemon(&sample.directory.path().join("rpc.sock"));
    let roots = directory.join("root.sock");
    let _live = UnixListener::bind(&roots).unwrap();
    fs::set_permissions(&roots, fs::Permissions::from_mode(0o600)).unwrap();
    let before = fs::symlink_metadata(&roots).unwrap().ino();
    as_daemon(&roots);
    assert_eq!(fs::symlink_metadata(&roots).unwrap().ino(), before, "a live server keeps its socket");
}

/// A client that has said everything may close its side (`nc -N`, `socat`): it is answered all the same.
#[test]
fn who_closes_its_side_after_a_request_is_answered() {
    let sample = Sample::new();
    let server = sample.serve();
    let body =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "job.cleanup_by_tag", "params": { "tags": ["codescaler"] } });
    let body = body.to_string();
    let mut stream = UnixStream::connect(&server.socket).unwrap();
    write!(
        stream,
        "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(r#""jobs_deleted":3"#), "{answer}");
}
