//! What the README says to do, done: its request and the reply, and how to try it first and how to undo it.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::command::{Running, entries};
use crate::sample::{Sample, dump};
use crate::server::{BINARY, Server};

const README: &str = include_str!("../../README.md");

#[test]
fn the_request_has_the_reply() {
    let sample = Sample::new();
    let server = Server::serve(&sample.path, &sample.directory.path().join("rpc.sock"));
    let request = between("--data '", "'\n```");
    let mut answer = server.post(request.as_bytes()).json();
    let reply: Value = serde_json::from_str(between("```json\n", "```")).unwrap();
    for varies in ["cutoff_ms", "plan", "duration_ms", "lock_ms"] {
        assert_eq!(answer["result"][varies].is_number(), reply["result"][varies].is_number(), "{varies}");
        answer["result"][varies] = reply["result"][varies].clone();
    }
    assert_eq!(answer, reply);
}

/// The first two commands are the ones that a stranger runs: the demo, which `cli` runs, and these tests.
#[test]
fn the_first_commands_are_the_demo_and_the_tests() {
    let mut commands = README.split("```sh\n").skip(1).map(|block| block.lines().next().unwrap());
    assert_eq!(commands.next(), Some("cargo run -- demo"));
    assert_eq!(commands.next(), Some("cargo test"));
}

/// No test is left out of every run: those that `cargo test` ignores have a line among the long runs that runs them.
#[test]
fn every_ignored_test_has_its_command() {
    let runs = between("## Long runs", "## Finding your way");
    let filters: Vec<&str> = runs
        .lines()
        .filter_map(|line| line.split_once("--test it ")?.1.split_once(" -- --i"))
        .map(|run| run.0)
        .collect();
    let mut ignored = 0;
    for file in entries(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it")) {
        let Some(module) = file.file_name().and_then(|name| name.to_str()?.strip_suffix(".rs")) else { continue };
        let source = std::fs::read_to_string(&file).unwrap();
        let mut lines = source.lines();
        // Some are run by another test, in a process of its own.
        while lines.by_ref().any(|line| line.starts_with("#[ignore") && !line.contains("run by")) {
            let name = lines.by_ref().find_map(|line| line.strip_prefix("fn ")?.split_once('(')).unwrap().0;
            let path = format!("{module}::{name}");
            assert!(filters.iter().any(|filter| path.contains(filter)), "{path}");
            ignored += 1;
        }
    }
    assert!(ignored > 0);
}

/// What is promised for each fault is shown by tests that exist, and seen as kinds of errors that exist.
#[test]
fn every_fault_has_its_tests() {
    let table = between("## When something goes wrong", "## Scale");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect())
        .skip(1)
        .collect();
    assert!(rows.len() > 20);
    for row in rows {
        let [fault, sees, _, tests] = row[..] else { panic!("{row:?}") };
        for kind in sees.split('`').skip(1).step_by(2).filter(|word| !["errors", "jobs_stopped"].contains(word)) {
            assert!(hero_proc_cleanup::Kind::ALL.iter().any(|known| known.as_str() == kind), "{fault}: {kind}");
        }
        for test in tests.split('`').skip(1).step_by(2) {
            let (module, function) = test.split_once("::").unwrap();
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/{module}.rs"));
            let source = std::fs::read_to_string(source).unwrap();
            let (before, _) = source.split_once(&format!("\nfn {function}()")).expect(test);
            // Run by `cargo test`: with nothing but other attributes in between.
            let attributes = before.rsplit("\n\n").next().unwrap();
            assert!(attributes.contains("#[test]") && !attributes.contains("#[ignore"), "{test}");
        }
        assert!(tests.contains("::") || tests == "not tested", "{fault}");
    }
}

/// In the home of somebody who has nothing but the binary and a store, line by line, in the shell.
#[test]
fn trying_it_first_and_undoing_it() {
    let sample = Sample::new();
    let home = sample.directory.path();
    symlink(BINARY, home.join("hero_proc_cleanup")).unwrap();
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        let path = std::env::var("PATH").unwrap();
        command
            .args(["-c", line])
            .current_dir(home)
            .env("HOME", home)
            .env("PATH", format!("{}:{path}", home.display()));
        command.env_remove("PATH_SOCKET").env_remove("HERO_SOCKET_DIR").env("RUST_LOG", "info").stdin(Stdio::null());
        command
    };
    let done = |line: &str| {
        let output = shell(line).output().unwrap();
        let [told, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert_eq!(output.status.code(), Some(0), "{line}: {told}\n{errors}");
        told
    };
    let (rows, settings) = (sample.dump(), settings(&sample.path));

    let commands = between("### Trying it first", "### Undoing it").split("```").nth(1).unwrap();
    let commands: Vec<&str> = commands.lines().skip(1).collect();
    let [check, serve, gateway, dry_run] = commands[..] else { panic!("{commands:?}") };
    assert!(done(check).contains("wal"));
    // Each in a terminal of its own.
    let serve = Running::start(&mut shell(&format!("exec {serve}")));
    serve.says("serving job.cleanup_by_tag");
    let gateway = Running::start(&mut shell(&format!("exec {gateway}")));
    gateway.says("serving jobs.cleanup");
    let shown = done(dry_run);
    assert!(shown.contains("would go"), "{shown}");
    assert_eq!(sample.dump(), rows, "nothing has changed");

    let backup = format!("sqlite3{}", between("(`sqlite3", "`)"));
    if shell("command -v sqlite3").output().unwrap().status.success() {
        done(&backup);
    } else {
        // Not everybody has it, and it is none of ours.
        sample.open().execute("VACUUM INTO ?1", [home.join("before.db").to_str()]).unwrap();
    }
    done(&dry_run.replace(" --dry-run", " --yes"));
    let jobs = |path: &Path| dump(path).lines().filter(|line| line.starts_with("jobs: ")).count();
    assert_eq!(jobs(&sample.path), 2, "the one that runs, and the one that is not codescaler's");

    for server in [gateway, serve] {
        server.signal(Signal::TERM);
        assert_eq!(server.end().0, Some(0));
    }
    assert_eq!(self::settings(&sample.path), settings, "neither schema nor settings were changed");
    assert_eq!(dump(&home.join("before.db")), rows, "the copy has it all");
    let left = Command::new("find").arg(home).args(["-type", "s"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "no socket remains");
}

/// The schema, and what a store's file itself keeps of settings.
fn settings(store: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open(store).unwrap();
    let settings = ["journal_mode", "page_size", "auto_vacuum", "user_version", "application_id", "encoding"];
    let mut texts: Vec<String> = settings
        .map(|name| {
            let value = connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
            format!("{name}: {:?}", value.unwrap())
        })
        .into();
    let mut schema = connection.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY rowid").unwrap();
    texts.extend(schema.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap));
    texts
}

fn between(start: &str, end: &str) -> &'static str {
    let from = README.find(start).unwrap() + start.len();
    &README[from..from + README[from..].find(end).unwrap()]
}
