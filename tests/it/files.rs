//! The store's file and the files beside it: second names, another file in its place, other users' traces, and the right
//! cause for each way in which a store can't be used.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use hero_proc_cleanup::{Host, Kind, RpcError, StoreError, inspect};
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::call::{self, all_with, call_as};
use crate::support::mounted::Mounted;
use crate::support::process::{binary, entries, text};
use crate::support::round::ENDLESS;
use crate::support::sample::{Sample, dump};
use crate::support::server::{METHOD, Server, assert_discreet};
use crate::support::steps::when;
use crate::support::{DAEMON, skipped};

fn host() -> Host {
    let mut host = call::host();
    host.lock_timeout = Duration::from_millis(20);
    host
}

fn call(store: &Path, dry_run: bool) -> Result<u64, RpcError> {
    call_as(store, &host(), all_with(json!({ "dry_run": dry_run }))).map(|report| report.jobs_planned)
}

/// That neither `check`, nor a dry run, nor a deletion uses `store`, and that nothing is made or changed beside it.
#[track_caller]
fn assert_refused(store: &Path, problem: &str) {
    let directory = store.parent().unwrap();
    let all = || {
        let mut all: Vec<_> = entries(directory).into_iter().map(|path| (fs::read(&path).ok(), path)).collect();
        all.sort();
        all
    };
    let before = all();
    match inspect(store, &host()) {
        Err(StoreError::Unfit { problems }) => assert_eq!(problems, [problem]),
        other => panic!("{other:?}"),
    }
    for dry_run in [true, false] {
        let error = call(store, dry_run).unwrap_err();
        assert_eq!((error.kind(), &error.data["problems"]), (Some(Kind::StoreUnfit), &json!([problem])), "{error}");
        assert_discreet(&error.message);
    }
    assert!(all() == before, "{problem}");
}

const LINKED: &str = "the store has a second name: a hard link or a snapshot; `find -samefile` finds it";
const MOUNTED: &str = "the store has a second name: it is mounted as a single file; mount its directory instead";

/// Each name would have a WAL, or a journal, of its own.
#[test]
fn a_store_with_two_names_is_refused() {
    for journal in ["wal", "delete"] {
        let sample = Sample::new();
        sample.journal(journal);
        let elsewhere = TempDir::new().unwrap();
        let other = elsewhere.path().join("snapshot.db");
        fs::hard_link(&sample.path, &other).unwrap();
        let link = elsewhere.path().join("link");
        symlink(&other, &link).unwrap();
        // The host has it open under its own name, and has written what stands in the WAL there.
        let writer = sample.open();
        writer.execute_batch("UPDATE jobs SET phase = 'done' WHERE id = 3").unwrap();
        for name in [&sample.path, &other, &link] {
            assert_refused(name, LINKED);
        }
        fs::remove_file(&other).unwrap();
        assert_eq!(call(&sample.path, false).unwrap(), 4, "{journal}");
    }
}

/// A mount of one file, as containers have it: what stands beside the file at home isn't seen there.
#[test]
fn a_store_that_is_mounted_as_a_file_is_refused() {
    let sample = Sample::new();
    let elsewhere = TempDir::new().unwrap();
    let target = elsewhere.path().join("a \\040 b.db");
    fs::write(&target, "").unwrap();
    let Some(_mounted) = Mounted::bind(&sample.path, &target) else {
        return skipped("nothing can be mounted here");
    };
    let link = elsewhere.path().join("link");
    symlink(&target, &link).unwrap();
    let writer = sample.open();
    writer.execute_batch("UPDATE jobs SET phase = 'done' WHERE id = 3").unwrap();
    for name in [&target, &link] {
        assert_refused(name, MOUNTED);
    }
    // Its whole directory may be.
    let directory = TempDir::new().unwrap();
    let _whole = Mounted::bind(sample.directory.path(), directory.path()).unwrap();
    assert_eq!(call(&directory.path().join("hero_proc.db"), false).unwrap(), 4);
}

/// Another file may take the store's place until the very commit: what the report says is then of no store.
#[test]
fn a_store_that_is_replaced_under_a_call_is_left_alone() {
    for journal in ["wal", "delete"] {
        for step in ["lock", "delete", "deleted"] {
            for by_link in [false, true] {
                let [sample, other] = [(); 2].map(|()| Sample::new());
                sample.journal(journal);
                let link = sample.file("link");
                symlink(&sample.path, &link).unwrap();
                let (replaced, new) = (sample.path.clone(), sample.file("new.db"));
                other.execute(&format!("VACUUM INTO '{}'", new.display()));
                let (before, moved) = (dump(&new), link.clone());
                when(step, move || {
                    if by_link {
                        fs::remove_file(&moved).unwrap();
                        symlink(new, moved).unwrap();
                    } else {
                        fs::rename(new, replaced).unwrap();
                    }
                });
                let error = call(&link, false).expect_err(step);
                assert_eq!(error.kind(), Some(Kind::StoreUnfit), "{step}: {error:?}");
                assert_eq!(error.data["problems"], json!(["another file has taken its place"]), "{step}");
                assert_eq!(dump(&link), before, "{journal}: {step}");
                assert_eq!(call(&link, false).unwrap(), 3, "{journal}: {step}");
            }
        }
    }
}

/// The same for a store that is moved away.
#[test]
fn a_store_that_is_moved_away_under_a_call_is_left_alone() {
    for step in ["lock", "delete", "deleted"] {
        let sample = Sample::new();
        let (from, to) = (sample.path.clone(), sample.file("moved.db"));
        let before = sample.dump();
        when(step, {
            let to = to.clone();
            move || fs::rename(from, to).unwrap()
        });
        let error = call(&sample.path, false).expect_err(step);
        assert_eq!(error.message, "the store can't be used: it is no longer where it was", "{step}");
        fs::rename(to, &sample.path).unwrap();
        assert_eq!(sample.dump(), before, "{step}");
    }
}

/// A store of `owner` in a directory where everybody may make files; none if this is not root.
fn store_of(owner: u32, journal: &str, mode: u32) -> Option<Sample> {
    if !geteuid().is_root() {
        skipped("this is not root");
        return None;
    }
    let sample = Sample::new();
    sample.journal(journal);
    chown(&sample.path, Some(owner), Some(owner)).unwrap();
    chmod(&sample.path, mode);
    chmod(sample.directory.path(), 0o777);
    Some(sample)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn as_daemon(arguments: &[&str]) -> Command {
    let mut command = binary();
    command.uid(DAEMON).gid(DAEMON).current_dir("/").args(arguments);
    command
}

fn check(store: &Path) -> Output {
    as_daemon(&["check", "--store", store.to_str().unwrap()]).output().unwrap()
}

/// The daemon's own server of a store, and what its calls answer.
fn daemon_answers(sample: &Sample, dry_run: bool) -> Value {
    let socket = TempDir::new().unwrap();
    chown(socket.path(), Some(DAEMON), Some(DAEMON)).unwrap();
    let socket = socket.path().join("rpc.sock");
    let mut serve = as_daemon(&["serve", "--store"]);
    let server = Server::start(serve.arg(&sample.path).arg("--socket").arg(&socket), &socket);
    server.call(METHOD, &all_with(json!({ "dry_run": dry_run })))
}

/// The names of the files beside the store.
fn beside(sample: &Sample) -> Vec<String> {
    let mut names: Vec<_> = entries(sample.directory.path());
    names.retain(|path| *path != sample.path);
    names.sort();
    names.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_unusable(output: &Output, problem: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        json!({ "fits": null, "problems": [problem] })
    );
    assert_eq!(text(&output.stderr), format!("error: the store can't be used: {problem}\n"));
}

#[track_caller]
fn assert_answer(answer: &Value, problem: &str) {
    assert_eq!(answer["error"]["data"], json!({ "kind": "store_unfit", "problems": [problem] }), "{answer}");
    assert_eq!(answer["error"]["message"], format!("the store can't be used: {problem}"));
    assert_discreet(&answer.to_string());
}

const STRANGER: &str = "files that SQLite makes beside it would belong to another user than the store, \
    and could lock its owner out: this is for its owner or root";

/// A killed process leaves files behind; whose they are must not matter to the store's owner.
#[test]
fn nobody_leaves_files_that_lock_the_owner_out() {
    // At rest, in WAL mode: whoever looks makes a WAL and its index.
    let Some(sample) = store_of(0, "wal", 0o666) else { return };
    assert_unusable(&check(&sample.path), STRANGER);
    for dry_run in [true, false] {
        assert_answer(&daemon_answers(&sample, dry_run), STRANGER);
    }
    assert_eq!(beside(&sample), [""; 0]);

    // While the host has it open, both are there, and are the host's.
    let running = sample.open();
    running.execute_batch("UPDATE jobs SET phase = 'running' WHERE id = 3").unwrap();
    assert_eq!(check(&sample.path).status.code(), Some(0));
    assert_eq!(daemon_answers(&sample, true)["result"]["jobs_planned"], 3);
    for suffix in ["-wal", "-shm"] {
        assert_eq!(fs::metadata(format!("{}{suffix}", sample.path.display())).unwrap().uid(), 0);
        chmod(Path::new(&format!("{}{suffix}", sample.path.display())), 0o666);
    }
    assert_eq!(daemon_answers(&sample, false)["result"]["jobs_deleted"], 3);
    drop(running);

    // With a rollback journal, reading makes nothing, and every transaction makes a journal.
    let sample = store_of(0, "delete", 0o666).unwrap();
    assert_eq!(check(&sample.path).status.code(), Some(0));
    assert_eq!(daemon_answers(&sample, true)["result"]["jobs_planned"], 3);
    assert_answer(&daemon_answers(&sample, false), STRANGER);
    assert_eq!(beside(&sample), [""; 0]);

    // The owner does as it likes.
    for journal in ["wal", "delete"] {
        let sample = store_of(DAEMON, journal, 0o600).unwrap();
        assert_eq!(check(&sample.path).status.code(), Some(0));
        assert_eq!(daemon_answers(&sample, false)["result"]["jobs_deleted"], 3);
    }
}

/// Root of a user namespace gives no files to an owner whom the namespace does not know, and root without the capability gives
/// none to anybody.
#[test]
fn who_is_root_by_name_only_leaves_no_files_either() {
    let Some(sample) = store_of(1, "wal", 0o666) else { return };
    let store = sample.path.to_str().unwrap();
    let mut namespace = Command::new("unshare");
    namespace.uid(DAEMON + 1).gid(DAEMON + 1).args(["--user", "--map-root-user"]);
    let mut incapable = Command::new("setpriv");
    incapable.args(["--bounding-set=-chown", "--inh-caps=-chown"]);
    let mut tried = 0;
    for mut command in [namespace, incapable] {
        let mut probe = Command::new(command.get_program());
        probe.args(command.get_args()).arg("true");
        if !probe.output().is_ok_and(|output| output.status.success()) {
            continue;
        }
        tried += 1;
        let output =
            command.arg(binary().get_program()).args(["check", "--store", store]).current_dir("/").output().unwrap();
        assert_unusable(&output, STRANGER);
        assert_eq!(beside(&sample), [""; 0]);
    }
    if tried == 0 {
        skipped("neither user namespaces nor capabilities can be tried here");
    }
}

/// Root's files are given to the store's owner, who can open the store whatever root was killed in.
#[test]
fn what_root_leaves_is_the_owners() {
    for (journal, left) in
        [("wal", &["hero_proc.db-shm", "hero_proc.db-wal"][..]), ("delete", &["hero_proc.db-journal"])]
    {
        let Some(sample) = store_of(DAEMON, journal, 0o600) else { return };
        sample.execute(&ENDLESS.replace("1001", "2"));
        let socket = TempDir::new().unwrap();
        let server = Server::serve(&sample.path, &socket.path().join("rpc.sock"));
        server.says("the store fits");
        let caller = std::thread::scope(|scope| {
            let caller = scope.spawn(|| {
                server
                    .post(br#"{"jsonrpc":"2.0","id":1,"method":"job.cleanup_by_tag","params":{"tags":["codescaler"]}}"#)
            });
            // Not at the very moment when it is made: SQLite gives it away right after.
            let there = |name: &&str| fs::metadata(sample.file(name)).is_ok_and(|file| file.uid() == DAEMON);
            while !left.iter().all(there) && !caller.is_finished() {
                std::thread::yield_now();
            }
            server.signal(Signal::KILL);
            caller.join().unwrap()
        });
        assert_eq!(caller.status, 0, "{journal}");
        drop(server);
        for name in left {
            assert_eq!(fs::metadata(sample.file(name)).unwrap().uid(), DAEMON, "{name}");
        }
        let output = check(&sample.path);
        assert_eq!(output.status.code(), Some(0), "{journal}: {output:?}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["jobs"]["total"], 5, "{journal}");
        sample.execute("DROP TRIGGER endless");
        assert_eq!(daemon_answers(&sample, false)["result"]["jobs_deleted"], 3, "{journal}");
    }
}

/// Each cause in its own words, and none of them says that the store does not fit.
#[test]
fn a_store_that_cannot_be_used_says_why() {
    let Some(sample) = store_of(0, "wal", 0o600) else { return };
    assert_unusable(&check(&sample.file("missing")), "there is no such file");
    assert_unusable(&check(&sample.path), "no permission to read it");
    chmod(sample.directory.path(), 0o700);
    assert_unusable(&check(&sample.path), "no permission to enter a directory above it");

    // Others may read it, and its WAL.
    let sample = store_of(0, "wal", 0o644).unwrap();
    let running = sample.open();
    running.execute_batch("UPDATE jobs SET phase = 'running' WHERE id = 3").unwrap();
    assert_eq!(check(&sample.path).status.code(), Some(0));
    assert_answer(&daemon_answers(&sample, false), "no permission to write to it");
    drop(running);

    // The daemon's own, which root has made read-only, or in a directory of root's, or with what root has left.
    let sample = store_of(DAEMON, "wal", 0o400).unwrap();
    assert_answer(&daemon_answers(&sample, false), "it is read-only");
    for journal in ["wal", "delete"] {
        let sample = store_of(DAEMON, journal, 0o600).unwrap();
        chmod(sample.directory.path(), 0o755);
        let problem = "SQLite has to make files beside it, and there is no permission to";
        if journal == "wal" {
            assert_unusable(&check(&sample.path), problem);
        } else {
            assert_eq!(check(&sample.path).status.code(), Some(0));
        }
        assert_answer(&daemon_answers(&sample, false), problem);
        assert_eq!(dump(&sample.path), dump(&sample.path));
    }
    for (suffix, name) in [("-wal", "WAL"), ("-shm", "WAL's index")] {
        let sample = store_of(DAEMON, "wal", 0o600).unwrap();
        let left = sample.file(&format!("hero_proc.db{suffix}"));
        fs::write(&left, "").unwrap();
        chmod(&left, 0o600);
        let problem = format!("no permission to write to its {name}, a file beside it that belongs to another user");
        assert_unusable(&check(&sample.path), &problem);
        assert_answer(&daemon_answers(&sample, false), &problem);
    }
}

/// A file system that is mounted read-only is no fault of the store's.
#[test]
fn a_read_only_file_system_is_named() {
    for journal in ["wal", "delete"] {
        let sample = Sample::new();
        sample.journal(journal);
        let target = TempDir::new().unwrap();
        let Some(mounted) = Mounted::bind(sample.directory.path(), target.path()) else {
            return skipped("nothing can be mounted here");
        };
        let _mounted = mounted.read_only();
        let store = target.path().join("hero_proc.db");
        let found = inspect(store.as_path(), &host());
        if journal == "wal" {
            let problem = "SQLite has to make files beside it, and its file system is mounted read-only";
            assert!(matches!(found, Err(StoreError::Unusable { problem: found, .. }) if found == problem));
            assert_eq!(call(&store, true).unwrap_err().data["problems"], json!([problem]));
        } else {
            assert_eq!(found.unwrap().jobs.total, 5);
            assert_eq!(call(&store, true).unwrap(), 3);
        }
        let error = call(&store, false).unwrap_err();
        assert_eq!(error.message, "the store can't be used: its file system is mounted read-only");
        assert_eq!(error.kind(), Some(Kind::StoreUnfit));
    }
}
