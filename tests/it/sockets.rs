//! Where sockets may lie: long paths, any umask, directories above that are others', and the group that may call.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Signal, geteuid};
use serde_json::json;
use tempfile::TempDir;

use crate::gateway::as_user;
use crate::support::process::{BINARY, Running, entries, jobs_cleanup, text};
use crate::support::sample::Sample;
use crate::support::server::{Server, serve};
use crate::support::{DAEMON, skipped};

/// A user of whom there are no files elsewhere.
const STRANGER: u32 = 54_322;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn make(directory: PathBuf, bits: u32) -> PathBuf {
    fs::create_dir(&directory).unwrap();
    mode(&directory, bits);
    directory
}

/// `command` must fail with `code` and say `why`: it is not waited for if it serves.
#[track_caller]
fn assert_says(mut command: Command, code: i32, why: &str) {
    let refused = Running::start(command.env("RUST_LOG", "info").stdin(Stdio::null()));
    let said = refused.until("serving job");
    assert!(said.contains(why) && !said.contains("serving job"), "{said}");
    assert_eq!(refused.end().0, Some(code), "{said}");
}

#[track_caller]
fn assert_refused(sample: &Sample, socket: &Path) {
    assert_says(serve(&sample.path, socket), 1, "belongs to another user or may be written to by everybody");
}

/// In a mount namespace without /proc, a server says what it lacks. What needs no socket goes on.
#[test]
fn without_proc_a_server_says_what_it_lacks() {
    let in_namespace = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", &format!("mount -t tmpfs none /proc && {command}")]);
        unshare
    };
    if !in_namespace("true").status().is_ok_and(|status| status.success()) {
        return skipped("mount namespaces can't be tried here");
    }
    let sample = Sample::new();
    let (store, directory) = (sample.path.display(), sample.directory.path().display());
    for side in [format!("serve --store {store}"), "gateway".to_owned()] {
        let command = in_namespace(&format!("exec {BINARY} {side} --socket {directory}/none.sock"));
        assert_says(command, 1, "/proc is not mounted");
    }
    let output = in_namespace(&format!("exec {BINARY} check --store {store}")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// Longer than a socket's address: both servers are reached, by the gateway and by the command.
#[test]
fn a_long_path_is_a_path() {
    let sample = Sample::new();
    let deep = sample.directory.path().join("deep".repeat(50)).join("deep".repeat(50));
    let (store, gateway) = (deep.join("store.sock"), deep.join("gateway".repeat(30)));
    let mut command = serve(&sample.path, &store);
    let serving = Running::start(&mut command);
    serving.says("serving");
    let mut command = Command::new(BINARY);
    command.arg("gateway").arg("--socket").arg(&gateway).arg("--hero-proc").arg(&store).env("RUST_LOG", "info");
    let forwarding = Running::start(&mut command);
    forwarding.says("serving");
    let output = jobs_cleanup(&gateway, &["--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["jobs_deleted"], 3);
    assert_says(serve(&sample.path, &store), 1, "listens on");
    let mut second = Command::new(BINARY);
    second.arg("gateway").arg("--socket").arg(&gateway).arg("--hero-proc").arg(&store);
    assert_says(second, 1, "listens on");
    for (server, socket) in [(forwarding, &gateway), (serving, &store)] {
        server.signal(Signal::TERM);
        assert_eq!(server.end().0, Some(0));
        assert!(!socket.exists());
        let output = jobs_cleanup(socket, &["--yes"]);
        assert!(text(&output.stderr).contains("its socket does not exist"), "{}", text(&output.stderr));
    }
}

/// Whatever the umask, directories are made that the server itself accepts, and a second server is told of the first.
#[test]
fn the_umask_does_not_matter() {
    for umask in ["000", "022", "077", "777"] {
        let sample = Sample::new();
        let path = |name: &str| sample.directory.path().join(name);
        let binary = path("binary");
        fs::copy(BINARY, &binary).unwrap();
        if geteuid().is_root() {
            for name in ["", "hero_proc.db"] {
                chown(path(name), Some(STRANGER), Some(STRANGER)).unwrap();
            }
        }
        let socket = path("deep/down/rpc.sock");
        let begin = || {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]).arg(&binary).current_dir("/");
            command.arg("serve").arg("--store").arg(&sample.path).arg("--socket").arg(&socket);
            // Root may do anything, whatever the modes.
            if geteuid().is_root() {
                command.uid(STRANGER).gid(STRANGER);
            }
            command
        };
        let server = Server::start(&mut begin(), &socket);
        for directory in ["deep", "deep/down"] {
            assert_eq!(fs::metadata(path(directory)).unwrap().mode() & 0o7777, 0o755, "{umask}");
        }
        assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o660, "{umask}");
        assert_says(begin(), 1, "listens on");
        server.signal(Signal::KILL);
        server.end();
        // What is left is replaced.
        let server = Server::start(&mut begin(), &socket);
        server.signal(Signal::TERM);
        assert_eq!(server.end().0.code(), Some(0), "{umask}");
        assert_eq!(entries(&path("deep/down")), [] as [&Path; 0], "{umask}");
    }
}

/// No shell has put the home in the place of a `~` that arrives here.
#[test]
fn a_home_that_no_shell_has_expanded_is_refused() {
    let sample = Sample::new();
    let here = make(sample.directory.path().join("here"), 0o755);
    for socket in ["~/rpc.sock", "~", "~ana/sockets/rpc.sock"] {
        let mut command = serve(&sample.path, Path::new(socket));
        command.current_dir(&here);
        assert_says(command, 1, "which only a shell expands");
    }
    let mut command = Command::new(BINARY);
    command.args(["gateway"]).env("PATH_SOCKET", "~/sockets").current_dir(&here);
    assert_says(command, 1, "which only a shell expands");
    assert_eq!(entries(&here), [] as [&Path; 0]);
    let mut command = serve(&sample.path, Path::new("./~/rpc.sock"));
    drop(Server::start(command.current_dir(&here), &here.join("~/rpc.sock")));
    assert_eq!(entries(&here), [here.join("~")]);
}

/// Whoever can put another directory in the place of one above the socket can stand in for the server.
#[test]
fn directories_above_are_trusted_or_refused() {
    let sample = Sample::new();
    let top = sample.directory.path().to_owned();
    let above = make(top.join("above"), 0o755);
    let socket = make(above.join("own"), 0o755).join("rpc.sock");
    mode(&above, 0o777);
    assert_refused(&sample, &socket);
    assert_refused(&sample, &above.join("new/rpc.sock"));
    assert!(!above.join("new").exists(), "nothing is made there");
    // Where names can't be swapped, or by the group alone.
    for trusted in [0o1777, 0o775, 0o755, 0o711] {
        mode(&above, trusted);
        drop(Server::serve(&sample.path, &socket));
    }

    // Whichever way leads there.
    let open = make(top.join("open"), 0o777);
    symlink(&above, open.join("link")).unwrap();
    assert_refused(&sample, &open.join("link/own/rpc.sock"));
    symlink(open.join("link/own"), top.join("long")).unwrap();
    assert_refused(&sample, &top.join("long/rpc.sock"));
    symlink("above/own", top.join("short")).unwrap();
    drop(Server::serve(&sample.path, &top.join("short/rpc.sock")));
    drop(Server::serve(&sample.path, &above.join("../short/./rpc.sock")));
    let mut command = serve(&sample.path, Path::new("own/../own/rpc.sock"));
    drop(Server::start(command.current_dir(&above), &socket));
    symlink("round", top.join("round")).unwrap();
    assert_says(serve(&sample.path, &top.join("round/rpc.sock")), 1, "can't be bound");
    let mut command = serve(&sample.path, Path::new("rpc.sock"));
    mode(&above, 0o777);
    command.current_dir(above.join("own"));
    assert_says(command, 1, "belongs to another user or may be written to by everybody");
    mode(&above, 0o755);

    if !geteuid().is_root() {
        return skipped("directories of others can't be tried, since this is not root");
    }
    chown(&above, Some(DAEMON), Some(DAEMON)).unwrap();
    assert_refused(&sample, &socket);
    // A group that may swap names is trusted, as it may call.
    chown(&above, Some(0), Some(DAEMON)).unwrap();
    mode(&above, 0o775);
    drop(Server::serve(&sample.path, &socket));
    // In a sticky directory each name is its owner's.
    mode(&open, 0o1777);
    drop(Server::serve(&sample.path, &open.join("link/own/rpc.sock")));
    lchown(open.join("link"), Some(DAEMON), Some(DAEMON)).unwrap();
    assert_refused(&sample, &open.join("link/own/rpc.sock"));
}

/// Admins reach the gateway by their group, and hero_proc's side by no way.
#[test]
fn a_group_reaches_the_gateway_and_not_the_store() {
    if !geteuid().is_root() {
        return skipped("a group can't be given a socket, since this is not root");
    }
    let sample = Sample::new();
    let path = |name: &str| sample.directory.path().join(name);
    mode(sample.directory.path(), 0o755);
    let sockets =
        [make(path("store"), 0o700), make(path("gateway"), 0o700)].map(|directory| directory.join("rpc.sock"));
    let store = Server::serve(&sample.path, &sockets[0]);
    let args = ["--socket-group", "daemon", "--admin", "daemon"];
    let gateway = Server::gateway(&sockets[1], &sockets[0], &args);
    let (found, directory) = (fs::metadata(&sockets[1]).unwrap(), fs::metadata(path("gateway")).unwrap());
    assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (0o660, 0, DAEMON));
    assert_eq!((directory.mode() & 0o777, directory.uid(), directory.gid()), (0o710, 0, DAEMON));
    let call = || gateway.call("jobs.cleanup", &json!({ "dry_run": true }));
    assert_eq!(as_user(DAEMON, call)["result"]["jobs_planned"], 3);
    assert!(as_user(DAEMON, || UnixStream::connect(&sockets[0])).is_err());
    assert!(as_user(STRANGER, || UnixStream::connect(&sockets[1])).is_err());
    drop(gateway);

    // By number as well, and where the directories are made first.
    let made = path("made/deep/rpc.sock");
    let gateway = Server::gateway(&made, &sockets[0], &["--socket-group", &DAEMON.to_string()]);
    let answer = as_user(DAEMON, || gateway.call("jobs.cleanup", &json!({})));
    assert_eq!(answer["error"]["data"]["kind"], "not_admin", "{answer}");
    drop((gateway, store));

    // A way that the group can't go is said.
    let shut = make(path("shut"), 0o700);
    let server = Running::start(serve(&sample.path, &shut.join("in/rpc.sock")).args(["--socket-group", "daemon"]));
    let said = server.until("serving");
    assert!(said.contains("can't be entered by the group") && said.contains("shut"), "{said}");
}

#[test]
fn a_group_that_cannot_be_given_the_socket_is_an_error() {
    let sample = Sample::new();
    let socket = sample.directory.path().join("rpc.sock");
    let mut command = serve(&sample.path, &socket);
    command.args(["--socket-group", "no such group"]);
    assert_says(command, 2, "there is no group \"no such group\"");
    assert!(!socket.exists());
    // To the system it means that the group stays as it is.
    let mut command = serve(&sample.path, &socket);
    command.args(["--socket-group", "4294967295"]);
    assert_says(command, 2, "there is no group \"4294967295\"");
    assert!(!socket.exists());
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("rpc.sock");
    let mut command = serve(&sample.path, &socket);
    if geteuid().is_root() {
        mode(directory.path(), 0o777);
        let binary = directory.path().join("binary");
        fs::copy(BINARY, &binary).unwrap();
        mode(directory.path(), 0o755);
        chown(directory.path(), Some(STRANGER), Some(STRANGER)).unwrap();
        command = Command::new(binary);
        command.arg("serve").arg("--store").arg(&sample.path).arg("--socket").arg(&socket);
        command.uid(STRANGER).gid(STRANGER).current_dir("/");
    }
    command.args(["--socket-group", "daemon"]);
    assert_says(command, 1, "can't be bound");
    assert!(!socket.exists());
}
