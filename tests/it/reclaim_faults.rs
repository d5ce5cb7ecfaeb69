//! Giving space back while calls fail, disks are full, and the process is killed: nothing is lost, and the next call works.
//!
//! The long form: `cargo test --release --test it -- --ignored --nocapture reclaim_faults`.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::io_faults::{Faulty, Lasts, Meanwhile, library};
use crate::support::mounted::Mounted;
use crate::support::round::spin;
use crate::support::sample::{Sample, assert_intact, column, dump};
use crate::support::server::{self, Server, post};
use crate::support::skipped;
use crate::support::spacious::{self, spacious};

fn always() -> Value {
    json!({ "min_free_percent": 0, "min_free_bytes": 0, "within_ms": 2000 })
}

fn reclaim(server: &Server) -> Value {
    server.call("store.reclaim", &always())
}

/// On a slow disk the time can be up before all is given back: then the next call goes on from there.
fn reclaim_all(server: &Server) -> Value {
    let mut answer = reclaim(server);
    for _ in 0..20 {
        if answer["result"]["reason"] == "time" {
            answer = reclaim(server);
        }
    }
    answer
}

/// What a store holds, whatever the order in which its schema says so.
fn content(store: &Path) -> Vec<String> {
    let mut lines: Vec<String> = dump(store).lines().map(ToOwned::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// The next call gives back what is left to be given back. Where a rollback journal's last step was committed and only the
/// cut failed, no free page is left: SQLite cuts such a file with the next commit that frees pages.
#[track_caller]
fn assert_next_call_works(server: &Server, store: &Path, short: u64, what: &str) {
    let again = reclaim_all(server);
    let outcome = again["result"]["outcome"].as_str().unwrap_or_default();
    let nothing_left = again["result"]["reason"] == "nothing_to_do";
    assert!(outcome == "done" || nothing_left, "{what}: {again}");
    let mut long = fs::metadata(store).unwrap().len();
    if nothing_left && again["result"]["free_bytes_before"] == 0 && long > short + short / 4 {
        let copy = store.with_extension("again");
        fs::copy(store, &copy).unwrap();
        let connection = Connection::open(&copy).unwrap();
        let free = "CREATE TABLE freed AS SELECT zeroblob(100000) AS content; DROP TABLE freed";
        connection.execute_batch(free).unwrap();
        drop(connection);
        spacious::reclaim_all(copy.as_path()).unwrap();
        long = fs::metadata(&copy).unwrap().len();
        fs::remove_file(&copy).unwrap();
    }
    assert!(long <= short + short / 4, "{what}: {long} and {short}: {again}");
}

#[test]
fn an_io_error_at_any_call_loses_nothing() {
    io_errors(6);
}

#[test]
#[ignore = "long form: every call"]
fn an_io_error_at_every_call_loses_nothing() {
    io_errors(usize::MAX);
}

/// A store in which a fault at each single call takes minutes, not hours: each way has some hundred calls, and a larger store
/// would only repeat them. It has pages of every kind: inner pages, leaves and overflow pages, free pages and those that list
/// them, and, with `auto_vacuum`, pointer maps. Its cache is as small. What a `VACUUM` copies does not fit, so the temporary
/// file is written and read, and a part of each transaction is in the WAL, or in the store, before its commit. Without
/// `VACUUM`, there are three steps or more.
fn small(journal: &str, auto_vacuum: &str) -> Sample {
    let jobs = if auto_vacuum == "none" { 120 } else { 60 };
    let sample = spacious("delete", auto_vacuum, 4096, jobs, 10_000);
    let kinds = "SELECT DISTINCT pagetype FROM dbstat WHERE name = 'jobs' ORDER BY pagetype";
    assert_eq!(column::<String>(&sample.open(), kinds), ["internal", "leaf", "overflow"]);
    sample.execute("PRAGMA default_cache_size = 10");
    sample.journal(journal);
    sample
}

/// Faults at `most` of the calls of each kind, spread evenly; at each one of them if that is no bound.
#[expect(clippy::print_stdout, reason = "the figures of the long form")]
fn io_errors(most: usize) {
    let directory = TempDir::new().unwrap();
    let library = library(directory.path());
    for (journal, auto_vacuum) in
        [("wal", "none"), ("delete", "none"), ("wal", "incremental"), ("delete", "incremental")]
    {
        let sample = small(journal, auto_vacuum);
        let before = content(&sample.path);
        let faulty = Faulty::new(&sample, &library, Meanwhile::Nothing);
        for call in ["open", "read", "write", "sync", "truncate", "unlink"] {
            let act = |at, errno, lasts| faulty.act(call, at, errno, lasts, |faulty| reclaim_all(&faulty.server));
            let (answer, total) = act(0, Errno::IO, Lasts::Once);
            assert_eq!(answer["result"]["outcome"], "done", "{journal}, {auto_vacuum}: {answer}");
            let short = fs::metadata(&faulty.store).unwrap().len();
            let mut ways = vec![(Errno::IO, Lasts::Once), (Errno::IO, Lasts::FromThere)];
            if call == "write" {
                ways.extend([(Errno::NOSPC, Lasts::Once), (Errno::NOSPC, Lasts::FromThere)]);
            }
            let (mut faults, mut errors, mut full) = (0, 0, 0);
            for (errno, lasts) in ways {
                let step = (total as usize).div_ceil(most).max(1);
                // How many steps there are, and so how many calls, depends on the time that each takes.
                for at in (1 + step as u32 / 2..).step_by(step) {
                    let what = format!("{journal}, {auto_vacuum}: {call} {at} of {total}, {errno} {lasts:?}");
                    let (answer, calls) = act(at, errno, lasts);
                    if calls < at {
                        break;
                    }
                    faults += 1;
                    if let Some(error) = answer.get("error") {
                        errors += 1;
                        let kind = error["data"]["kind"].as_str().unwrap();
                        assert!(["internal", "store_unfit"].contains(&kind), "{what}: {error}");
                        server::assert_discreet(&error.to_string());
                    } else if answer["result"]["reason"] == "disk_too_full" {
                        full += 1;
                        assert_eq!(errno, Errno::NOSPC, "{what}");
                    }
                    assert!(content(&faulty.store) == before, "{what}: {answer}");
                    assert_next_call_works(&faulty.server, &faulty.store, short, &what);
                    assert!(content(&faulty.store) == before, "{what}: {answer}");
                    assert_intact(&faulty.store);
                }
            }
            println!(
                "{journal}, {auto_vacuum}: {call}: {total} calls, {faults} faults, {errors} errors, {full} times full"
            );
            assert!(call != "write" || full > 0, "{journal}, {auto_vacuum}");
        }
    }
}

#[test]
fn a_kill_loses_nothing() {
    kill_over_and_over(3);
}

#[test]
#[ignore = "long form: 300 kills in each journal mode"]
fn hundreds_of_kills_lose_nothing() {
    kill_over_and_over(150);
}

/// Kills at moments spread evenly over the call, of a `VACUUM` and of steps, in both journal modes.
#[expect(clippy::print_stdout, reason = "where they land is not the test's to say")]
fn kill_over_and_over(times: u32) {
    for (journal, auto_vacuum) in
        [("wal", "none"), ("delete", "none"), ("wal", "incremental"), ("delete", "incremental")]
    {
        let template = spacious(journal, auto_vacuum, 4096, 10_000, 2000);
        let before = content(&template.path);
        let long = fs::metadata(&template.path).unwrap().len();
        let serve = |sample: &Sample| {
            let server = sample.serve();
            server.says("the store fits");
            server
        };
        let sample = template.again();
        let answer = reclaim(&serve(&sample));
        assert_eq!(answer["result"]["outcome"], "done", "{answer}");
        let whole = Duration::from_secs_f64(answer["result"]["duration_ms"].as_f64().unwrap() / 1000.0);
        let short = fs::metadata(&sample.path).unwrap().len();

        let (mut long_ones, mut to_recover) = (0, 0);
        for number in 0..times {
            let sample = template.again();
            let server = serve(&sample);
            let mut caller = UnixStream::connect(&server.socket).unwrap();
            let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "store.reclaim", "params": always() }).to_string();
            caller.write_all(&post("connection: close", call.as_bytes())).unwrap();
            spin(whole.mul_f64(1.1 * (f64::from(number) + 0.5) / f64::from(times)));
            server.signal(Signal::KILL);
            server.end();

            let what = format!("{journal}, {auto_vacuum}: kill {number}");
            let left = fs::metadata(&sample.path).unwrap().len();
            long_ones += u32::from(left == long);
            let sides = ["hero_proc.db-wal", "hero_proc.db-journal"];
            to_recover +=
                u32::from(sides.iter().any(|side| fs::metadata(sample.file(side)).is_ok_and(|side| side.len() > 0)));
            // The first one to open the store is now a reader, now the next server.
            if number % 2 == 0 {
                assert!(content(&sample.path) == before, "{what}");
            }
            let server = serve(&sample);
            assert_next_call_works(&server, &sample.path, short, &what);
            drop(server);
            assert!(content(&sample.path) == before, "{what}");
            assert_intact(&sample.path);
        }
        println!(
            "{journal}, {auto_vacuum}: {times} kills, {long_ones} left the file long, {to_recover} something to recover"
        );
    }
}

/// Room is asked for before anything is touched, where it is needed; the refusal has the numbers.
#[test]
fn a_full_disk_is_seen_before_anything_is_touched() {
    let mounted = TempDir::new().unwrap();
    let Some(_mounted) = Mounted::tmpfs(mounted.path(), "16m") else {
        return skipped("no file system can be mounted here");
    };
    for (journal, auto_vacuum) in
        [("wal", "none"), ("delete", "none"), ("wal", "incremental"), ("delete", "incremental")]
    {
        let sample = spacious(journal, auto_vacuum, 4096, 2000, 5000);
        let full = || {
            let filler = mounted.path().join("filler");
            let mut file = fs::File::create(&filler).unwrap();
            while file.write_all(&[0; 4096]).is_ok() {}
            file.set_len(file.metadata().unwrap().len() - 200_000).unwrap();
            filler
        };
        let what = format!("{journal}, {auto_vacuum}");

        // The store has room, temporary files have none.
        let filler = full();
        let mut command = server::serve(&sample.path, &sample.file("rpc.sock"));
        let server = Server::start(command.env("SQLITE_TMPDIR", mounted.path()), &sample.file("rpc.sock"));
        let (before, answer) = (fs::read(&sample.path).unwrap(), reclaim(&server));
        let result = &answer["result"];
        if auto_vacuum == "none" {
            assert_eq!(
                (&result["outcome"], &result["reason"]),
                (&json!("skipped"), &json!("disk_too_full")),
                "{what}: {answer}"
            );
            let bytes = |name: &str| result[name].as_u64().unwrap();
            assert!(bytes("temp_needed_bytes") > bytes("temp_free_bytes"), "{what}: {answer}");
            assert!(bytes("store_needed_bytes") < bytes("store_free_bytes"), "{what}: {answer}");
            assert_eq!((&result["lock_ms"], fs::read(&sample.path).unwrap() == before), (&json!(0.0), true), "{what}");
        } else {
            assert_eq!(result["outcome"], "done", "{what}: steps need no temporary files: {answer}");
        }
        drop(server);
        fs::remove_file(&filler).unwrap();

        // Temporary files have room, the store has none.
        let sample = spacious(journal, auto_vacuum, 4096, 2000, 5000);
        let store = mounted.path().join("hero_proc.db");
        fs::copy(&sample.path, &store).unwrap();
        let filler = full();
        let server = Server::serve(&store, &sample.file("rpc.sock"));
        let (before, answer) = (fs::read(&store).unwrap(), reclaim(&server));
        let result = &answer["result"];
        assert_eq!(
            (&result["outcome"], &result["reason"]),
            (&json!("skipped"), &json!("disk_too_full")),
            "{what}: {answer}"
        );
        assert!(result["store_needed_bytes"].as_u64() > result["store_free_bytes"].as_u64(), "{what}: {answer}");
        assert!(fs::read(&store).unwrap() == before, "{what}");
        fs::remove_file(&filler).unwrap();
        assert_eq!(reclaim(&server)["result"]["outcome"], "done", "{what}");
        drop(server);
        assert_intact(&store);
        fs::remove_file(&store).unwrap();
    }
}

/// A process that may write no file larger than a limit.
#[test]
fn a_limit_of_the_process_is_seen_as_well() {
    let sample = spacious("wal", "none", 4096, 2000, 5000);
    let before = content(&sample.path);
    // In blocks of 512 bytes.
    let server = Server::serve_after("ulimit -f 400", &sample.path, &sample.file("rpc.sock"), &[]);
    let result = &reclaim(&server)["result"];
    assert_eq!(
        (&result["reason"], &result["store_free_bytes"]),
        (&json!("disk_too_full"), &json!(204_800)),
        "{result}"
    );
    assert_eq!(result["temp_free_bytes"], 204_800);
    drop(server);
    assert!(content(&sample.path) == before);
    let server = sample.serve();
    assert_eq!(reclaim(&server)["result"]["outcome"], "done");
}
