//! What the pages under `docs/` say: their commands are carried out, their tables hold what the code has, and their links
//! lead somewhere. Examples in Rust are compiled with the documentation, figures come from the bench.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hero_proc_cleanup::{Kind, openrpc};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::call::{all, all_with, call, dry_run};
use crate::support::process::{BINARY, Running, entries, run, text};
use crate::support::sample::{SCHEMA, Sample, dump};
use crate::support::skipped;

const ADOPTING: &str = include_str!("../../docs/adopting.md");
const FAULTS: &str = include_str!("../../docs/faults.md");
const OPERATING: &str = include_str!("../../docs/operating.md");
const LONG_RUNS: &str = include_str!("../../docs/long-runs.md");
const RULES: &str = include_str!("../../docs/rules.md");
const SCALE: &str = include_str!("../../docs/scale.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README, CHANGELOG and every page under `docs/`.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    pages
        .extend(entries(&root().join("docs")).into_iter().filter(|page| page.extension().is_some_and(|of| of == "md")));
    pages
}

/// Rust is compiled, wherever it stands.
#[test]
fn every_example_in_rust_is_compiled() {
    let library = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for page in pages() {
        if std::fs::read_to_string(&page).unwrap().contains("```rust\n") {
            let path = page.strip_prefix(root()).unwrap().display();
            assert!(library.contains(&format!("#[doc = include_str!(\"../{path}\")]")), "{path}");
        }
    }
}

/// No test is left out of every run: those that `cargo test` ignores have a line among the long runs that runs them.
#[test]
fn every_ignored_test_has_its_command() {
    let filters: Vec<&str> = LONG_RUNS
        .lines()
        .filter_map(|line| line.split_once("--test it ")?.1.split_once(" -- --i"))
        .map(|run| run.0)
        .collect();
    let mut ignored = 0;
    for file in entries(&root().join("tests/it")) {
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
    let table = rows(FAULTS);
    assert!(table.len() > 20);
    for row in table {
        let [fault, sees, _, tests] = row[..] else { panic!("{row:?}") };
        for kind in sees.split('`').skip(1).step_by(2).filter(|word| !["errors", "jobs_stopped"].contains(word)) {
            assert!(Kind::ALL.iter().any(|known| known.as_str() == kind), "{fault}: {kind}");
        }
        for test in tests.split('`').skip(1).step_by(2) {
            let (module, function) = test.split_once("::").unwrap();
            let source = std::fs::read_to_string(root().join(format!("tests/it/{module}.rs"))).unwrap();
            let (before, _) = source.split_once(&format!("\nfn {function}()")).expect(test);
            // Run by `cargo test`: with nothing but other attributes in between.
            let attributes = before.rsplit("\n\n").next().unwrap();
            assert!(attributes.contains("#[test]") && !attributes.contains("#[ignore"), "{test}");
        }
        assert!(tests.contains("::") || tests == "not tested", "{fault}");
    }
}

/// The reasons on the page are those of the report, in the order of precedence.
#[test]
fn every_reason_to_stay_is_explained() {
    let document: Value = serde_json::from_str(openrpc::HERO_PROC).unwrap();
    let schemas = &document["components"]["schemas"];
    for (heading, reasons) in [
        ("## Jobs", &schemas["JobsKept"]["required"]),
        ("## Actions", &schemas["KeptAction"]["properties"]["reason"]["enum"]),
    ] {
        let section = RULES.split(&format!("\n{heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
        let explained: Vec<String> = rows(section).iter().map(|row| row[0].replace('`', "")).collect();
        assert_eq!(json!(explained), *reasons, "{heading}");
    }
}

/// Every phase that the page calls terminal is one, in any case, and no other is.
#[test]
fn the_terminal_phases_are_those_named() {
    let phases = between(RULES, "These phases are terminal, compared without case: ", ". A job").replace('\n', " ");
    let phases: Vec<&str> = phases.split(", ").collect();
    assert!(phases.len() > 10);
    let sample = Sample::with_schema(SCHEMA);
    let connection = sample.open();
    let insert = |phase: &str| {
        let sql = "INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('a', '{}', ?1, '[\"codescaler\"]')";
        connection.execute(sql, [phase]).unwrap();
    };
    for phase in &phases {
        insert(phase);
        insert(&phase.to_uppercase());
    }
    let others = ["pending", "running", "queued", "retrying", "paused", "finished", "", " done", "done "];
    others.into_iter().for_each(insert);
    let report = call(&sample, dry_run()).unwrap();
    assert_eq!(report.jobs_planned, 2 * phases.len() as u64);
    assert_eq!(report.jobs_kept.active, others.len() as u64);
}

/// Of two jobs of each kind, the second of which succeeded, the last that succeeded stays: the first goes if it succeeded, too.
#[test]
fn the_phases_that_succeeded_are_those_named() {
    let [terminal, succeeded] = [("compared without case: ", ". A job"), ("Succeeded are: ", ". The newest")]
        .map(|(start, end)| between(RULES, start, end).replace('\n', " "));
    let sample = Sample::with_schema(SCHEMA);
    let connection = sample.open();
    let insert = |kind: &str, phase: &str| {
        let sql = "INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('a', '{}', ?1, ?2)";
        let tags = json!(["codescaler", format!("codescaler_kind_{kind}")]).to_string();
        connection.execute(sql, [phase, &tags]).unwrap();
        connection.last_insert_rowid()
    };
    let mut expected = Vec::new();
    for phase in terminal.split(", ").flat_map(|phase| [phase.to_owned(), phase.to_uppercase()]) {
        let first = insert(&phase, &phase);
        insert(&phase, "succeeded");
        expected.extend(succeeded.split(", ").any(|named| named.eq_ignore_ascii_case(&phase)).then_some(first));
    }
    let last = json!({ "dry_run": true, "keep_last": 1, "keep_by": ["codescaler_kind_"] });
    assert_eq!(call(&sample, all_with(last)).unwrap().job_ids, expected);
    assert_eq!(expected.len(), 10);
}

/// Each flag of `jobs-cleanup` has a row, and each row shows flags that the command takes.
#[test]
fn every_flag_of_jobs_cleanup_has_its_row() {
    let flags = |text: &str| -> BTreeSet<String> {
        let words = text.split(|char: char| !char.is_ascii_lowercase() && char != '-');
        words.filter(|word| word.starts_with("--") && word.len() > 2).map(ToOwned::to_owned).collect()
    };
    let help = run(&["jobs-cleanup", "--help"]).stdout;
    let options = between(text(&help), "Options:\n", "\n\nWithout ");
    let taken: BTreeSet<String> = options.lines().flat_map(|line| flags(line.split('<').next().unwrap())).collect();
    let section = OPERATING.split("\n## Choosing what goes\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut explained: BTreeSet<String> = rows(section).iter().flat_map(|row| flags(row[0])).collect();
    explained.extend(["--help", "--version"].map(ToOwned::to_owned));
    assert_eq!(explained, taken);
}

/// Each figure is a row of the bench.
#[test]
fn every_figure_is_measured_by_the_bench() {
    let bench = std::fs::read_to_string(root().join("benches/cleanup/rows.rs")).unwrap();
    let tables = [("| work | against", "## What a call costs"), ("| work | against | with", "Two connections")];
    let tables = tables.map(|(start, end)| rows(between(SCALE, start, end)));
    assert!(tables[0].len() > 10 && tables[1].len() > 5);
    for row in tables.into_iter().flatten() {
        let name = format!("row(\"{} | {}", row[0], row[1]);
        assert!(bench.contains(name.trim_end()), "{name}");
    }
}

/// In the home of somebody who has nothing but the binary and a store, line by line, in the shell.
#[test]
fn trying_it_first_and_undoing_it() {
    let sample = Sample::new();
    let home = sample.directory.path();
    symlink(BINARY, home.join("hero_proc_cleanup")).unwrap();
    let shell = |line: &str| shell(home, line);
    let done = |line: &str| {
        let output = shell(line).output().unwrap();
        let [told, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert_eq!(output.status.code(), Some(0), "{line}: {told}\n{errors}");
        told
    };
    let (rows, settings) = (sample.dump(), settings(&sample.path));

    let commands = between(ADOPTING, "## Trying it first", "\n## ").split("```").nth(1).unwrap();
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

    let backup = format!("sqlite3{}", between(ADOPTING, "(`sqlite3", "`)"));
    if has(home, "sqlite3") {
        done(&backup);
    } else {
        skipped("the copy is not made as shown, since there is no sqlite3");
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
    // A copy may have its tables and indexes in another order.
    let sorted = |dump: &str| {
        let mut lines: Vec<String> = dump.lines().map(ToOwned::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(&dump(&home.join("before.db"))), sorted(&rows), "the copy has it all");
    assert_eq!(sockets(home), [] as [PathBuf; 0], "no socket remains");
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

/// The sockets in `directory`, and in those below it.
fn sockets(directory: &Path) -> Vec<PathBuf> {
    let of_entry = |path: PathBuf| {
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() { sockets(&path) } else { kind.is_socket().then_some(path).into_iter().collect() }
    };
    entries(directory).into_iter().flat_map(of_entry).collect()
}

/// `line` in a shell whose home is `home`, with the programs that lie there.
fn shell(home: &Path, line: &str) -> Command {
    let mut command = Command::new("sh");
    let path = std::env::var("PATH").unwrap();
    command.args(["-c", line]).current_dir(home).env("HOME", home).env("PATH", format!("{}:{path}", home.display()));
    command.env_remove("PATH_SOCKET").env_remove("HERO_SOCKET_DIR").env("RUST_LOG", "info").stdin(Stdio::null());
    command
}

/// Whether this machine has `program`: none is needed that the README does not name.
fn has(home: &Path, program: &str) -> bool {
    shell(home, &format!("command -v {program}")).stdout(Stdio::null()).status().unwrap().success()
}

/// One node cleaned as shown, one that has changed since, one that is down, and one without a gateway. Where the machine
/// has the programs that the commands need.
#[test]
fn many_nodes_are_cleaned_by_one_command() {
    let fleet = TempDir::new().unwrap();
    let home = fleet.path();
    if let Some(missing) = ["xargs", "awk", "jq"].iter().find(|program| !has(home, program)) {
        return skipped(&format!("many nodes can't be tried, since there is no {missing}"));
    }
    symlink(BINARY, home.join("hero_proc_cleanup")).unwrap();
    // A node is a directory here, and one without it is down.
    let ssh = home.join("ssh");
    let script = r#"#!/bin/sh
        while true; do
            case $1 in -o) shift 2 ;; -*) shift ;; *) break ;; esac
        done
        node=$1 && shift
        cd "node-$node" || exit 255
        HOME=$PWD exec sh -c "$*"
    "#;
    std::fs::write(&ssh, script).unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(home.join("nodes"), "one\nthree\nfour\ntwo\n").unwrap();
    std::fs::create_dir(home.join("node-four")).unwrap();
    let mut servers = Vec::new();
    let stores = ["one", "two"].map(|node| {
        let home = home.join(format!("node-{node}"));
        std::fs::create_dir(&home).unwrap();
        let sample = Sample::new();
        sample.open().execute("UPDATE jobs SET created_at_ms = created_at_ms - 30 * 86400000", ()).unwrap();
        let store = sample.path.display();
        let hero_proc = home.join("hero/var/sockets/hero_proc/rpc.sock");
        let hero_proc = hero_proc.display();
        for (command, says) in [
            (format!("serve --store {store} --socket {hero_proc}"), "serving job.cleanup_by_tag"),
            ("gateway".to_owned(), "serving jobs.cleanup"),
        ] {
            let server = Running::start(&mut shell(&home, &format!("exec {BINARY} {command}")));
            server.says(says);
            servers.push(server);
        }
        sample
    });
    let section = between(OPERATING, "## Many nodes", "\n| exit code | the node |");
    let commands: Vec<&str> = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [preview, wrong, sum, delete] = commands[..] else { panic!("{commands:?}") };
    let done = |line: &str| String::from_utf8(shell(home, line).output().unwrap().stdout).unwrap();
    let read = |name: &str| std::fs::read_to_string(home.join(name)).unwrap();

    done(preview);
    assert_eq!(read("exits"), "four 6\none 0\nthree 255\ntwo 0\n");
    let wrong = done(wrong);
    assert!(
        wrong.starts_with("four 6\n")
            && wrong.contains("\nerror: the gateway can't be reached")
            && wrong.contains("\nthree 255\n"),
        "{wrong}"
    );
    let sum: Value = serde_json::from_str(&done(sum)).unwrap();
    assert_eq!(sum, json!({ "nodes": 2, "jobs": 6, "actions": 4, "kept": 2, "more": 0 }));
    stores[1].open().execute("UPDATE jobs SET phase = 'running' WHERE id = 1", ()).unwrap();
    done(delete);
    assert_eq!(read("exits.done"), "one 0\ntwo 4\n");
    let jobs = stores.map(|store| store.dump().lines().filter(|line| line.starts_with("jobs: ")).count());
    assert_eq!(jobs, [2, 5]);
}

/// systemd finds nothing wrong with the units, and rates them as the page says. Where the machine has it.
#[test]
fn the_units_are_sound() {
    let directory = TempDir::new().unwrap();
    if !has(directory.path(), "systemd-analyze") {
        return skipped("the units can't be looked at, since there is no systemd-analyze");
    }
    let analyze = |arguments: &[&str], unit: &Path| {
        let output = Command::new("systemd-analyze").args(arguments).arg(unit).output().unwrap();
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert!(output.status.success(), "{arguments:?} {}: {told}", unit.display());
        told
    };
    let version = Command::new("systemd-analyze").arg("--version").output().unwrap().stdout;
    let rated = String::from_utf8(version).unwrap().starts_with("systemd 252 ");
    let units = entries(&root().join("dist/systemd"));
    let here = |unit: &Path| directory.path().join(unit.file_name().unwrap());
    for unit in &units {
        let text = std::fs::read_to_string(unit).unwrap();
        // The binary lies elsewhere.
        std::fs::write(here(unit), text.replace("/usr/local/bin/hero_proc_cleanup ", &format!("{BINARY} "))).unwrap();
    }
    for unit in &units {
        assert_eq!(analyze(&["verify", "--man=no", "--recursive-errors=no"], &here(unit)), "");
    }
    for name in ["hero_codescalers_cleanup.service", "hero_proc_cleanup.service", "hero_codescalers_retention.service"]
    {
        // In tenths: at most 2 of 10 whatever the version, as newer ones rate more.
        let told =
            analyze(&["security", "--offline=yes", "--no-pager", "--threshold=20"], &directory.path().join(name));
        let exposure = told.rsplit(&format!("exposure level for {name}: ")).next().unwrap().split(' ').next().unwrap();
        let stated = OPERATING.split(&format!("`{name}` at ")).nth(1).unwrap();
        assert!(!rated || stated.starts_with(exposure), "{name}: {exposure}");
    }
    assert_eq!(units.len(), 7);
}

/// Of a store with rows as large as hero_proc#131's: the file stays as long as it was, what is written to the WAL is a
/// fraction of what is freed, and the text of what was deleted can still be there.
#[test]
fn large_rows_are_freed_without_being_written() {
    let sample = with_large_jobs("none");
    let file_bytes = || std::fs::metadata(&sample.path).unwrap().len();
    let before = file_bytes();
    let reader = sample.open();
    reader.execute_batch("BEGIN; SELECT count(*) FROM jobs").unwrap();
    let freed = delete_all(&sample);
    let wal_bytes = std::fs::metadata(sample.directory.path().join("hero_proc.db-wal")).unwrap().len();
    assert!(freed > 10_000_000 && wal_bytes < freed / 20, "{wal_bytes} of {freed}");
    reader.execute_batch("COMMIT").unwrap();
    sample.open().query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
    assert_eq!(file_bytes(), before);
    let file = std::fs::read(&sample.path).unwrap();
    assert!(file.windows(8).any(|window| window == b"xyzzy345"), "deleted text can still be read");
}

#[test]
fn auto_vacuum_full_makes_the_file_shorter() {
    let sample = with_large_jobs("full");
    let before = std::fs::metadata(&sample.path).unwrap().len();
    delete_all(&sample);
    let after = std::fs::metadata(&sample.path).unwrap().len();
    assert!(after < before / 20, "{after} of {before}");
}

/// 100 finished jobs of 145 KB.
fn with_large_jobs(auto_vacuum: &str) -> Sample {
    let sample = Sample::with_schema("");
    sample
        .open()
        .execute_batch(&format!(
            "PRAGMA journal_mode = delete; PRAGMA auto_vacuum = {auto_vacuum}; VACUUM; PRAGMA journal_mode = wal;
             {SCHEMA}
             WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 100)
             INSERT INTO jobs (action, spec_json, phase, tags, stderr)
             SELECT 'a', '{{}}', 'failed', '[\"codescaler\"]', replace(hex(zeroblob(18125)), '00', 'xyzzy345')
             FROM number"
        ))
        .unwrap();
    sample
}

/// Deletes all of codescaler's jobs, and returns `bytes_freed`.
fn delete_all(sample: &Sample) -> u64 {
    let report = call(sample, all()).unwrap();
    assert_eq!(report.jobs_deleted, 100);
    report.bytes_freed
}

/// Every link to a file, and to a heading of it, leads there.
#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            // Pictures are not packed.
            let left_out = file.starts_with("page/") && root().join("Cargo.toml.orig").exists();
            assert!(target.exists() || left_out, "{}: {link}", page.display());
            if !heading.is_empty() {
                let target = std::fs::read_to_string(&target).unwrap();
                let mut anchors = target.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(anchors.any(|anchor| anchor == heading), "{}: {link}", page.display());
            }
            links += 1;
        }
    }
    assert!(links > 20);
}

/// A heading's anchor, as forges make it.
fn anchor(heading: &str) -> String {
    let kept = |char: &char| char.is_alphanumeric() || [' ', '-', '_'].contains(char);
    heading.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

/// Prose is as wide as the code. Tables, and what is in a block, are as wide as they are.
#[test]
fn lines_are_of_one_width() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for line in text.split("```").step_by(2).flat_map(str::lines).filter(|line| !line.starts_with('|')) {
            assert!(line.chars().count() <= 120, "{}: {line}", page.display());
        }
    }
}

/// What stands in `text` between the first `start` and the next `end`.
pub(crate) fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let from = text.find(start).unwrap() + start.len();
    &text[from..from + text[from..].find(end).unwrap()]
}

/// The cells of the tables in `text`, row by row, without the rows that head a table.
pub(crate) fn rows(text: &str) -> Vec<Vec<&str>> {
    let mut rows: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else { continue };
        if cells.starts_with("---") {
            rows.pop();
            continue;
        }
        rows.push(cells.split('|').map(str::trim).collect());
    }
    rows
}
