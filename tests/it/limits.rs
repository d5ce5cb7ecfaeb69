//! A process that may have few files or threads: it says so, or it works; it neither panics nor hangs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::support::process::{BINARY, Running, text};
use crate::support::sample::Sample;
use crate::support::server::{METHOD, Server, serve};
use crate::support::skipped;

/// A user of whom there is no other process.
const NOBODY_ELSE: u32 = 54_321;

/// `server` serves as it should, or it ends with an error that holds `why`. Returns whether it serves.
#[track_caller]
fn assert_works_or_says(case: &str, command: &mut Command, socket: &Path, method: &str, why: &str) -> bool {
    let running = Running::start(command.env("RUST_LOG", "info").stdin(Stdio::null()));
    let said = running.until("serving");
    if !said.contains("serving") {
        assert_eq!(running.end().0, Some(1), "{case}: {said}");
        assert!(said.contains("error: ") && said.contains(why) && !said.contains("panicked"), "{case}: {said}");
        return false;
    }
    let server = Server::of(running, socket);
    for _ in 0..3 {
        let answer = server.call(method, &serde_json::json!({ "tags": ["codescaler"] }));
        assert!(answer["error"]["code"].is_i64() || answer["result"].is_object(), "{case}: {answer}");
        assert_eq!(server.get("/health").status, 200, "{case}");
    }
    server.signal(Signal::TERM);
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0), "{case}: {log}");
    assert!(!log.contains("panicked"), "{case}: {log}");
    true
}

#[test]
fn few_files_are_an_error_or_enough() {
    let sample = Sample::new();
    let path = |name: &str| sample.directory.path().join(name);
    let mut served = 0;
    // With fewer, the loader can't open the C library.
    for files in (4..40).step_by(3).chain([70]) {
        let case = format!("{files} files");
        let limited = |binary: &Command| {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("ulimit -n {files}; exec \"$0\" \"$@\"")).arg(binary.get_program());
            command.args(binary.get_args());
            command
        };
        let socket = path("rpc.sock");
        let serves = assert_works_or_says(&case, &mut limited(&serve(&sample.path, &socket)), &socket, METHOD, "files");
        served += usize::from(serves);
        let mut gateway = Command::new(BINARY);
        gateway.arg("gateway").arg("--socket").arg(&socket).arg("--hero-proc").arg(path("none.sock"));
        assert_works_or_says(&case, &mut limited(&gateway), &socket, "jobs.cleanup", "files");
        let mut cleanup = Command::new(BINARY);
        cleanup.args(["jobs-cleanup", "--yes", "--socket"]).arg(path("none.sock"));
        let output = limited(&cleanup).output().unwrap();
        let said = text(&output.stderr);
        assert!(said.starts_with("error: ") && !said.contains("panicked"), "{case}: {said}");
    }
    assert!(served > 1, "served with {served} of the limits");
}

#[test]
fn few_threads_are_an_error_or_enough() {
    if !geteuid().is_root() {
        return skipped("a user without other processes can't be had, since this is not root");
    }
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::copy(BINARY, path("binary")).unwrap();
    let store = Sample::new();
    fs::copy(&store.path, path("hero_proc.db")).unwrap();
    for name in ["", "hero_proc.db"] {
        chown(path(name), Some(NOBODY_ELSE), Some(NOBODY_ELSE)).unwrap();
    }
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let limited = |processes: usize| {
        let mut command = Command::new("sh");
        // Shells differ in the letter of this limit.
        let limit = format!("ulimit -u {processes} 2>/dev/null || ulimit -p {processes} && exec \"$0\" \"$@\"");
        command.args(["-c", &limit]).arg(path("binary")).current_dir("/").uid(NOBODY_ELSE).gid(NOBODY_ELSE);
        command
    };
    let mut served = 0;
    for processes in (1..6).chain([8, 12, 16, 24]) {
        let case = format!("{processes} processes");
        let socket = path("rpc.sock");
        let mut command = limited(processes);
        command.arg("serve").arg("--store").arg(path("hero_proc.db")).arg("--socket").arg(&socket);
        let serves = assert_works_or_says(&case, &mut command, &socket, METHOD, "thread");
        assert!(!serves || processes > 3, "{case}");
        served += usize::from(serves);
        let mut command = limited(processes);
        command.arg("gateway").arg("--socket").arg(&socket).arg("--hero-proc").arg(path("none.sock"));
        assert_works_or_says(&case, &mut command, &socket, "jobs.cleanup", "thread");
        let output = limited(processes).args(["jobs-cleanup", "--yes", "--socket"]).arg(path("none")).output().unwrap();
        let said = text(&output.stderr);
        assert!(said.contains("its socket does not exist"), "{case}: {said}");
    }
    assert!(served > 0);
}
