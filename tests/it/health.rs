//! `GET /health`: what the answer says of a store. The answer waits for no store.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::DAEMON;
use crate::support::process::BINARY;
use crate::support::sample::Sample;
use crate::support::server::{Server, serve};

#[track_caller]
fn assert_store(server: &Server, store: &str) {
    let status = if store == "ok" { "ok" } else { "degraded" };
    let expected = json!({
        "status": status, "service": "hero_proc_cleanup", "version": env!("CARGO_PKG_VERSION"), "store": store,
    });
    let answer = server.get("/health");
    assert_eq!((answer.status, answer.json()), (200, expected));
}

#[test]
fn health_says_whether_the_store_can_be_used() {
    let sample = Sample::new();
    let directory = sample.directory.path();
    let (store, away) = (sample.path.as_path(), directory.join("away"));
    let server = Server::serve(store, &directory.join("rpc.sock"));
    assert_store(&server, "ok");
    fs::rename(store, &away).unwrap();
    assert_store(&server, "unreachable");
    fs::write(store, "").unwrap();
    assert_store(&server, "unfit");
    fs::write(store, "this is no database".repeat(1000)).unwrap();
    assert_store(&server, "unfit");
    fs::remove_file(store).unwrap();
    fs::create_dir(store).unwrap();
    assert_store(&server, "unfit");
    fs::remove_dir(store).unwrap();
    fs::rename(&away, store).unwrap();
    assert_store(&server, "ok");
    let connection = sample.open();
    connection.execute_batch("ALTER TABLE jobs RENAME COLUMN phase TO stage").unwrap();
    assert_store(&server, "unfit");
    connection.execute_batch("ALTER TABLE jobs RENAME COLUMN stage TO phase").unwrap();
    assert_store(&server, "ok");
}

/// The store is not a gateway's: whatever is behind it has a health of its own.
#[test]
fn a_gateway_has_no_store() {
    let directory = TempDir::new().unwrap();
    let server = Server::gateway(&directory.path().join("gateway.sock"), &directory.path().join("none.sock"), &[]);
    let expected =
        json!({ "status": "ok", "service": "hero_codescalers_cleanup", "version": env!("CARGO_PKG_VERSION") });
    assert_eq!(server.get("/health").json(), expected);
}

/// A lock is no fault: it is there for a moment, and a call waits for it.
#[test]
fn a_store_that_is_locked_is_healthy() {
    for (journal, lock) in [("wal", "BEGIN IMMEDIATE"), ("wal", "BEGIN EXCLUSIVE"), ("delete", "BEGIN EXCLUSIVE")] {
        let sample = Sample::new();
        let connection = sample.open();
        connection.pragma_update_and_check(None, "journal_mode", journal, |_| Ok(())).unwrap();
        let server = Server::serve(&sample.path, &sample.directory.path().join("rpc.sock"));
        connection.execute_batch(lock).unwrap();
        (0..3).for_each(|_| assert_store(&server, "ok"));
        connection.execute_batch("DELETE FROM jobs").unwrap();
        assert_store(&server, "ok");
    }
}

/// A look at the health of a store changes nothing of it.
#[test]
fn health_leaves_the_store_as_it_is() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = Server::serve(&sample.path, &sample.directory.path().join("rpc.sock"));
    server.says("the store fits");
    let bytes = fs::read(&sample.path).unwrap();
    (0..10).for_each(|_| assert_store(&server, "ok"));
    assert!(fs::read(&sample.path).unwrap() == bytes);
    assert_eq!(sample.dump(), before);
}

#[test]
fn a_store_without_permission_is_unreachable() {
    let sample = Sample::new();
    if !geteuid().is_root() {
        fs::set_permissions(&sample.path, fs::Permissions::from_mode(0o000)).unwrap();
        return assert_store(&Server::serve(&sample.path, &sample.directory.path().join("rpc.sock")), "unreachable");
    }
    let (binary, sockets) = (sample.directory.path().join("binary"), sample.directory.path().join("sockets"));
    fs::copy(BINARY, &binary).unwrap();
    fs::create_dir(&sockets).unwrap();
    chown(&sockets, Some(DAEMON), Some(DAEMON)).unwrap();
    fs::set_permissions(sample.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&sample.path, fs::Permissions::from_mode(0o600)).unwrap();
    let socket = sockets.join("rpc.sock");
    let mut command = Command::new(&binary);
    command.args(serve(&sample.path, &socket).get_args()).uid(DAEMON).gid(DAEMON).current_dir("/");
    assert_store(&Server::start(&mut command, &socket), "unreachable");
}

/// Preloaded, it does not let `hero_proc.db` be opened for as long as there is a file that `HUNG` names: as a file system
/// does whose server is gone.
const HANG: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void hang(const char *file)
{
    const char *name = strrchr(file, '/');
    while (name && !strcmp(name, "/hero_proc.db") && !access(getenv("HUNG"), F_OK))
        usleep(1000);
}
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define OPEN(name) int name(const char *file, int flags, ...) { \
    va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more); \
    hang(file); return NEXT(name)(file, flags, mode); }
OPEN(open)
OPEN(open64)
"#;

/// A file system that does not answer holds up one thread: not those who ask, and not the end.
#[test]
fn a_store_that_hangs_holds_up_nobody() {
    let sample = Sample::new();
    let path = |name: &str| sample.directory.path().join(name);
    let (library, hung) = (path("hang.so"), path("hung"));
    fs::write(path("hang.c"), HANG).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(path("hang.c")).arg("-ldl");
    assert!(cc.status().unwrap().success());
    let mut command = serve(&sample.path, &path("rpc.sock"));
    let server = Server::start(command.env("LD_PRELOAD", &library).env("HUNG", &hung), &path("rpc.sock"));
    server.says("the store fits");
    assert_store(&server, "ok");
    let threads = server.status("Threads");

    fs::write(&hung, "").unwrap();
    let word = || server.get("/health").json()["store"].take();
    let words: Vec<Value> = std::iter::repeat_with(word).take_while(|word| *word != "unreachable").collect();
    assert!(words.iter().all(|word| *word == "ok"), "as it was last: {words:?}");
    assert_store(&server, "unreachable");
    assert!(server.status("Threads") <= threads + 1, "one thread waits");
    fs::remove_file(&hung).unwrap();
    while word() != "ok" {}

    fs::write(&hung, "").unwrap();
    server.get("/health");
    server.signal(Signal::TERM);
    let (status, log) = server.end();
    assert!(status.success(), "{log}");
    assert!(hung.exists());
}
