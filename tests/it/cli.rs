//! The command line, without a terminal: results, exit codes, what goes to which stream, what is left behind.

use std::io::pipe;
use std::path::Path;
use std::process::Stdio;

use hero_proc_cleanup::Report;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::fake::{Fake, http};
use crate::support::process::{PATIENCE, Running, binary, entries, lines, run, text};
use crate::support::sample::dump;
use crate::support::server::Server;
use crate::support::sides::{Sides, Waiting, old_jobs, running_job};

#[test]
fn an_age_is_digits_and_a_unit_and_nothing_else() {
    let missing = TempDir::new().expect("a directory");
    let socket = missing.path().join("none.sock");
    let code = |age: &str| {
        let mut command = binary();
        command.args(["jobs-cleanup", "--yes", "--older-than", age, "--socket"]).arg(&socket);
        let output = command.output().expect("the binary runs");
        assert_eq!(text(&output.stdout), "");
        output.status.code()
    };
    for age in ["0", "250", "250ms", "3s", "10m", "2h", "7d"] {
        assert_eq!(code(age), Some(6), "{age:?} is an age: only the socket is missing");
    }
    for age in ["", "5y", "10x", "+3s", " 3s", "1.5h", "3 s", "-1", "٣s", "9223372036854775808", "106751991168d"] {
        assert_eq!(code(age), Some(2), "{age:?} is no age");
    }
}

#[test]
fn what_is_out_of_range_is_a_usage_error() {
    for arguments in [
        &["--limit", "0"][..],
        &["--limit", "1000001"],
        &["--max-ids", "1000001"],
        &["--max-ids", "-1"],
        &["-o", "xml"],
        &["--dryrun"],
        &["everything"],
    ] {
        let output = binary().arg("jobs-cleanup").args(arguments).output().expect("the binary runs");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{arguments:?}");
    }
    for arguments in [&["demo", "--jobs", "0"][..], &["demo", "--jobs", "200001"], &["serve"], &["check"], &[]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_dry_run_deletes_nothing_and_its_plan_goes_once() {
    let sides = Sides::with(&(old_jobs(1, 3) + &running_job(4, 0)));
    let output = sides.run(&["--dry-run", "--older-than", "7d"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let preview = report(&output.stdout);
    assert!(preview.dry_run);
    assert_eq!((preview.jobs_planned, preview.jobs_kept.active, preview.jobs_deleted), (3, 1, 0));
    assert_eq!(sides.jobs(), [1, 2, 3, 4]);

    let with_plan = ["--older-than", "7d", "--plan", &preview.plan];
    let output = sides.run(&with_plan);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let done = report(&output.stdout);
    assert_eq!((done.job_ids, done.actions_deleted, done.plan), (vec![1, 2, 3], 3, preview.plan.clone()));
    assert_eq!(sides.jobs(), [4]);

    let output = sides.run(&with_plan);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(4), ""));
    assert!(text(&output.stderr).contains("the set is no longer that of the plan"), "{}", text(&output.stderr));
}

#[test]
fn a_plan_and_a_limit_are_for_one_call() {
    let sides = Sides::with(&old_jobs(1, 5));
    let output = sides.run(&["--limit", "2"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "3 more jobs match: this call was not for them.\n");
    let done = report(&output.stdout);
    assert_eq!((done.jobs_deleted, done.more, done.jobs_kept.over_limit), (2, true, 3));
    assert_eq!(sides.jobs(), [3, 4, 5]);
}

#[test]
fn tables_are_for_people() {
    let sides = Sides::with(&(old_jobs(1, 3) + &running_job(4, 0)));
    let output = sides.run(&["--dry-run", "-o", "table"]);
    let table = text(&output.stdout);
    for part in ["would go", "stay: not finished", "Dry run", "nothing was deleted", "--plan none."] {
        assert!(table.contains(part), "{part:?} is missing:\n{table}");
    }
    let output = sides.run(&["-o", "table"]);
    let table = text(&output.stdout);
    for part in ["deleted", "stay: not finished", "Pages freed: ", "write lock held"] {
        assert!(table.contains(part), "{part:?} is missing:\n{table}");
    }
}

#[test]
fn names_in_tables_move_no_cursor() {
    let sides = Sides::with(
        r#"
        INSERT INTO actions (name, spec_json) VALUES (char(27) || '[2J', '{}');
        INSERT INTO jobs (action, spec_json, phase, tags) VALUES (char(27) || '[2J', '{}', 'done', '["codescaler"]');
        "#,
    );
    let output = sides.run(&["--dry-run", "-o", "table"]);
    let table = text(&output.stdout);
    assert!(table.contains(r"\u{1b}[2J") && !table.contains('\u{1b}'), "{table}");
}

#[test]
fn batches_add_up_to_one_report() {
    let sides = Sides::with(&(old_jobs(1, 50_010) + &running_job(50_011, 0)));
    let output = sides.run(&[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "", "no progress bar where there is no terminal");
    let sum = report(&output.stdout);
    assert_eq!((sum.jobs_matched, sum.jobs_planned, sum.jobs_deleted), (50_011, 50_010, 50_010));
    assert_eq!((sum.actions_planned, sum.actions_deleted), (50_010, 50_010));
    assert_eq!((sum.jobs_kept.active, sum.jobs_kept.over_limit, sum.jobs_kept.sum()), (1, 0, 1));
    assert!(sum.ids_truncated && !sum.more && !sum.dry_run);
    assert_eq!((sum.job_ids.len(), sum.action_ids.len()), (10_000, 10_000));
    assert!(sum.job_ids.is_sorted() && sum.action_ids.is_sorted());
    assert_eq!(sides.jobs(), [50_011]);
}

#[test]
fn params_that_the_server_refuses_are_a_usage_error() {
    let sides = Sides::with(&old_jobs(1, 1));
    for arguments in [&["--actor", "kind_build"][..], &["--plan", "rubbish"]] {
        let output = sides.run(arguments);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{arguments:?}");
    }
    assert_eq!(sides.jobs(), [1]);
}

#[test]
fn serve_starts_without_its_store_and_looks_again_at_each_call() {
    let sides = Sides::without_store();
    let output = sides.run(&[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    assert!(text(&output.stderr).contains("the store can't be used: there is no such file"));
    sides.make_store();
    let output = sides.run(&[]);
    assert_eq!((output.status.code(), report(&output.stdout).jobs_matched), (Some(0), 0));
}

#[test]
fn a_locked_store_is_busy() {
    let waiting = Waiting::with(&old_jobs(1, 1));
    let output = waiting.sides.run(&[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(6), ""));
    waiting.unlock();
    assert_eq!(waiting.sides.jobs(), [1]);
}

/// `jobs-cleanup` whose call waits for the lock, and which has had its first signal.
fn interrupted(waiting: &Waiting, signal: Signal) -> Running {
    let command = Running::start(waiting.sides.cleanup(&[]).env("RUST_LOG", "hero_proc_cleanup=debug"));
    command.says("the call begins");
    command.signal(signal);
    command.says("Waiting for the running call to end.");
    command
}

#[test]
fn the_first_interrupt_lets_the_running_call_end() {
    let waiting = Waiting::with(&old_jobs(1, 2));
    let command = interrupted(&waiting, Signal::INT);
    waiting.unlock();
    let (code, stdout) = command.end();
    assert_eq!((code, report(stdout.as_bytes()).jobs_deleted), (Some(0), 2));
}

#[test]
fn the_second_interrupt_leaves_it_and_says_that_its_outcome_is_unknown() {
    let waiting = Waiting::with(&old_jobs(1, 2));
    let command = interrupted(&waiting, Signal::INT);
    command.signal(Signal::INT);
    command.says("the call may still delete");
    assert_eq!(command.end(), (Some(6), String::new()));
    waiting.unlock();
}

#[test]
fn an_interrupt_between_batches_keeps_what_was_done() {
    let waiting = Waiting::with(&old_jobs(1, 50_002));
    let command = interrupted(&waiting, Signal::TERM);
    waiting.unlock();
    let (code, stdout) = command.end();
    let done = report(stdout.as_bytes());
    assert_eq!((code, done.jobs_deleted, done.more), (Some(1), 50_000, true));
    assert_eq!(waiting.sides.jobs(), [50_001, 50_002]);
}

#[test]
fn a_signal_ends_serve_and_removes_its_socket() {
    let sides = Sides::with(&old_jobs(1, 1));
    let socket = sides.path("hero_proc.sock");
    assert!(socket.exists());
    let store = sides.path("hero_proc.db");
    let second = binary().arg("serve").arg("--store").arg(store).arg("--socket").arg(&socket).output();
    assert_eq!(second.expect("the binary runs").status.code(), Some(1), "a live socket is not replaced");
    sides.hero_proc.signal(Signal::TERM);
    sides.hero_proc.says("stopping");
    let output = sides.run(&[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(6), ""), "{}", text(&output.stderr));
    let Sides { hero_proc, .. } = sides;
    assert_eq!(hero_proc.end().0.code(), Some(0));
}

#[test]
fn the_second_signal_ends_the_running_call_before_its_commit() {
    let waiting = Waiting::with(&old_jobs(1, 2));
    let (sides, command) = (&waiting.sides, waiting.command(&[]));
    sides.hero_proc.signal(Signal::INT);
    sides.hero_proc.says("stopping: the running calls end");
    sides.hero_proc.signal(Signal::INT);
    sides.hero_proc.says("the running calls end before their commit");
    waiting.unlock();
    command.says("cancelled before the commit: nothing was deleted");
    assert_eq!(command.end(), (Some(1), String::new()));
    assert_eq!(sides.jobs(), [1, 2]);
    let Sides { hero_proc, .. } = waiting.sides;
    assert_eq!(hero_proc.end().0.code(), Some(0));
}

#[test]
fn check_tells_what_it_found() {
    let sides = Sides::with(&old_jobs(1, 3));
    let store = sides.path("hero_proc.db").display().to_string();
    let output = run(&["check", "--store", &store]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&found["fits"], &found["jobs"]["tagged"]), (&true.into(), &3.into()));
    assert_eq!(found["columns"]["jobs.created_at"], "jobs.created_at_ms");
    let output = run(&["check", "--store", &store, "-o", "table"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("with the root tag"));

    sides.store().execute_batch("ALTER TABLE jobs RENAME COLUMN tags TO labels").expect("renamed");
    let output = run(&["check", "--store", &store]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found, json!({ "fits": false, "problems": ["table jobs has no column tags"] }));
}

/// A store with a little of everything that `check` tells apart.
const TO_CHECK: &str = r#"
    PRAGMA journal_mode = delete;
    INSERT INTO jobs (id, action, tags, spec_json, phase, created_at_ms) VALUES
      (1, 'used', '["codescaler","codescaler_ana","codescaler_kind_build","codescaler_target_web"]', '{}', 'done', 1700000000000),
      (2, 'used', '["codescaler","codescaler_kind_build","codescaler_kind_test"]', '{}', 'Failed', 1700000000000),
      (3, 'used', NULL, '{"tags":["codescaler","codescaler_bob"]}', 'done', 100000000000),
      (4, 'used', '["codescaler_ana"]', '{"tags":["codescaler"]}', 'running', 1700000000000),
      (5, 'used', '[', '{"tags":["codescaler"]}', 'done', 1700000000000),
      (6, 'used', NULL, '{"tags":["codescaler"]', 'pending', 1700000000000),
      (7, 'used', '["ops","codescalers"]', '{}', 'pending', NULL),
      (8, 'used', '["codescaler"]', '{}', x'00', 0),
      (9, 'used', '["codescaler"]', '{}', 'RUNNING', 'yesterday'),
      (10, 'used', NULL, '{}', 'skipped', 99999999999);
    INSERT INTO actions (name, context_name, spec_json) VALUES
      ('used', 'core', '{"tags":["codescaler"]}'),
      ('used', 'lab', '{"tags":["codescaler"]}'),
      ('served', 'core', '{"tags":["codescaler"]}'),
      ('needed', 'core', '{"tags":["codescaler"]}'),
      ('needs', 'core', '{"tags":["codescaler"],"depends_on":["needed"],"schedule_policy":{}}'),
      ('free', 'core', '{"tags":["ops"]}');
    INSERT INTO services (name, spec_json) VALUES ('web', '{"actions":["served"]}');
    CREATE TABLE job_notes (id INTEGER PRIMARY KEY, job INTEGER REFERENCES jobs (id) ON DELETE CASCADE);
    CREATE TABLE job_lines (note INTEGER REFERENCES job_notes (id) ON DELETE CASCADE);
    CREATE TABLE job_marks (job INTEGER REFERENCES jobs (id) ON DELETE SET NULL);
    CREATE TABLE job_locks (job INTEGER REFERENCES jobs (id) ON DELETE RESTRICT);
    CREATE TABLE job_pins (job INTEGER REFERENCES jobs (id));
"#;

#[test]
fn check_tells_all() {
    let sides = Sides::with(TO_CHECK);
    let before = dump(&sides.path("hero_proc.db"));
    let store = sides.path("hero_proc.db").display().to_string();
    let output = run(&["check", "--store", &store]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let mut found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    found["foreign_keys"].as_array_mut().expect("a list").sort_by_key(Value::to_string);
    for size in ["bytes", "free_bytes", "page_size"] {
        assert!(found[size].take().as_u64().is_some_and(|size| size % 512 == 0), "{size}");
    }
    let keys = [
        "job_lines.note on job_notes.id ON DELETE CASCADE",
        "job_locks.job on jobs.id ON DELETE RESTRICT",
        "job_marks.job on jobs.id ON DELETE SET NULL",
        "job_notes.job on jobs.id ON DELETE CASCADE",
        "job_pins.job on jobs.id ON DELETE NO ACTION",
    ];
    let columns = [
        ("actions.context", "actions.context_name"),
        ("actions.created_at", "actions.created_at_ms"),
        ("actions.id", "actions.id"),
        ("actions.name", "actions.name"),
        ("actions.spec", "actions.spec_json"),
        ("actions.updated_at", "actions.updated_at_ms"),
        ("jobs.action", "jobs.action"),
        ("jobs.action_id", "jobs.action_id"),
        ("jobs.attempt", "jobs.attempt"),
        ("jobs.context", "jobs.context_name"),
        ("jobs.created_at", "jobs.created_at_ms"),
        ("jobs.finished_at", "jobs.finished_at_ms"),
        ("jobs.id", "jobs.id"),
        ("jobs.phase", "jobs.phase"),
        ("jobs.pid", "jobs.pid"),
        ("jobs.run_id", "jobs.run_id"),
        ("jobs.spec", "jobs.spec_json"),
        ("jobs.started_at", "jobs.started_at_ms"),
        ("jobs.tags", "jobs.tags"),
        ("services.context", "services.context_name"),
        ("services.name", "services.name"),
        ("services.spec", "services.spec_json"),
    ];
    let families = [("codescaler", 5), ("codescaler_*", 3), ("codescaler_kind_*", 2), ("codescaler_target_*", 1)];
    let finished = [("Failed", 1), ("done", 3), ("skipped", 1)];
    let not_finished = [("", 1), ("RUNNING", 1), ("pending", 2), ("running", 1)];
    let object = |counts: &[(&str, u64)]| counts.iter().map(|(name, count)| (*name, *count)).collect::<Value>();
    let expected = json!({
        "fits": true,
        "sqlite": rusqlite::version(),
        "journal_mode": "delete", "auto_vacuum": "none",
        "bytes": null, "free_bytes": null, "page_size": null,
        "columns": columns.into_iter().collect::<Value>(),
        "foreign_keys": keys,
        "jobs": {
            "total": 10, "tagged": 5, "tagged_by_spec": 1,
            "families": object(&families), "finished": object(&finished), "not_finished": object(&not_finished),
            "undated": 4, "malformed": 2, "held_by_runs": 0, "holders": [],
        },
        "actions": { "total": 6, "tagged": 5, "unreferenced": 3 },
        "runs": { "total": 0, "unreferenced": 0 },
        "lacks": [],
    });
    assert_eq!(found, expected, "{found:#}");

    let output = run(&["check", "--store", &store, "-o", "table"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let table = text(&output.stdout);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split(['│', '┆', '|']).map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let shows = |row: &[&str]| assert!(rows.contains(&row.to_vec()), "{row:?} is missing:\n{table}");
    for row in [
        &["all", "10", "6"][..],
        &["with the root tag", "5", "5"],
        &["of these, in their spec only", "1"],
        &["without a creation time in milliseconds", "4"],
        &["with tags that can't be read", "2"],
        &["that nothing refers to", "3"],
        &["(no text)", "1"],
    ] {
        shows(row);
    }
    for (name, count) in families.into_iter().chain(finished).chain(not_finished).filter(|(name, _)| !name.is_empty()) {
        shows(&[name, &count.to_string()]);
    }
    for (meaning, column) in columns {
        shows(&[meaning, column]);
    }
    for key in keys {
        shows(&[&format!("Foreign key: {key}")]);
    }
    for part in [
        "The store fits.",
        "pages of 4 KiB",
        "journal mode delete",
        "auto_vacuum none",
        "free pages",
        rusqlite::version(),
    ] {
        assert!(table.contains(part), "{part:?} is missing:\n{table}");
    }
    assert_eq!(dump(&sides.path("hero_proc.db")), before);

    let empty = Sides::with("");
    let store = empty.path("hero_proc.db").display().to_string();
    let output = run(&["check", "--store", &store, "-o", "table"]);
    let table = text(&output.stdout);
    assert!(table.contains("journal mode wal") && table.contains("No foreign keys on jobs."), "{table}");
}

#[test]
fn every_exit_code_means_one_thing() {
    let sides = Sides::with(&(old_jobs(1, 2) + &running_job(3, i64::from(std::process::id()))));
    let store = sides.path("hero_proc.db").display().to_string();
    let missing = sides.path("missing").display().to_string();
    let refuses = Refuses::new();
    let shown = report(&sides.run(&["--dry-run"]).stdout).plan;
    let with_socket = |socket: &Path, arguments: &[&str]| {
        let mut command = binary();
        command.arg("jobs-cleanup").args(arguments).arg("--socket").arg(socket).output().expect("the binary runs")
    };
    let gateway = sides.path("gateway.sock");
    // In this order: the fourth deletes what the fifth expects.
    for (code, what, output, says) in [
        (0, "a check", run(&["check", "--store", &store]), ""),
        (0, "a dry run", with_socket(&gateway, &["--dry-run"]), ""),
        (1, "no store", run(&["check", "--store", &missing]), "error: the store can't be used: there is no"),
        (2, "no such option", with_socket(&gateway, &["--dryrun"]), "error: unexpected argument '--dryrun' found"),
        (
            2,
            "a bad param",
            with_socket(&gateway, &["--yes", "--plan", "x"]),
            "is no plan that a dry run could have given",
        ),
        (3, "a job that lives", with_socket(&gateway, &["--force", "--yes"]), "error: done, but some jobs stay"),
        (
            4,
            "a plan that was",
            with_socket(&gateway, &["--yes", "--plan", &shown]),
            "the set is no longer that of the plan",
        ),
        (5, "refused", with_socket(&refuses.gateway.socket, &["--yes"]), "error: only for others"),
        (6, "nobody there", with_socket(Path::new(&missing), &["--yes"]), "error: the gateway can't be reached"),
    ] {
        assert_eq!(output.status.code(), Some(code), "{what}: {output:?}");
        assert!(text(&output.stderr).contains(says), "{what}: {output:?}");
        // What was done is told, and what was found; nothing else is.
        let told = matches!(code, 0 | 3) || what == "no store";
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).is_ok(), told, "{what}: {output:?}");
        assert_eq!(output.stdout.is_empty(), !told, "{what}: {output:?}");
    }
    assert!(refuses.hero_proc.received().contains("job.cleanup_by_tag"));
    assert_eq!(sides.jobs(), [3]);
}

/// A gateway in front of a hero_proc that refuses one call.
struct Refuses {
    gateway: Server,
    hero_proc: Fake,
    _directory: TempDir,
}

impl Refuses {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let refusal =
            r#"{"code":-32002,"message":"only for others","data":{"kind":"tag_outside_guard","tag":"codescaler"}}"#;
        let answer = http(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{refusal}}}"#));
        let hero_proc = Fake::answering(&path("hero_proc.sock"), answer);
        let gateway = Server::gateway(&path("gateway.sock"), &path("hero_proc.sock"), &[]);
        Self { gateway, hero_proc, _directory: directory }
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in ["demo", "serve", "gateway", "jobs-cleanup", "jobs-usage", "check", "completions", "man"] {
        let output = run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("Example"), "{command}");
        assert!(text(&output.stdout).contains(&format!("\n  hero_proc_cleanup {command}")), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&run(&["completions", shell]).stdout).contains("jobs-cleanup"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let output = binary().args(["completions", "bash"]).stdout(writer).stderr(Stdio::piped()).output();
    let output = output.expect("the binary runs");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn the_demo_proves_itself_and_leaves_nothing() {
    let place = TempDir::new().expect("a directory");
    for jobs in ["1", "400"] {
        let output = binary().args(["demo", "--jobs", jobs]).env("TMPDIR", place.path()).output();
        let output = output.expect("the binary runs");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{}", text(&output.stdout));
        assert_eq!(text(&output.stdout).matches("\nholds: ").count(), 6, "{}", text(&output.stdout));
        assert!(text(&output.stdout).contains("\nThe store's file is now "), "{}", text(&output.stdout));
        assert!(entries(place.path()).is_empty());
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    for (signal, line) in [(Signal::INT, "Making a store"), (Signal::TERM, "It holds"), (Signal::HUP, "$ hero_proc_cl")]
    {
        let place = TempDir::new().expect("a directory");
        let mut command = binary();
        // So many that it has long to go after each line.
        command.args(["demo", "--jobs", "20000"]).env("TMPDIR", place.path()).stdout(Stdio::piped());
        let mut demo = Running::start(&mut command);
        let stdout = lines(demo.child.stdout.take().expect("a pipe"));
        while !stdout.recv_timeout(PATIENCE).expect("the demo goes on").contains(line) {}
        demo.signal(signal);
        demo.says("interrupted: the demo's store is removed");
        assert_eq!(demo.end().0, Some(1));
        assert!(entries(place.path()).is_empty(), "{line}");
    }
}

fn report(json: &[u8]) -> Report {
    serde_json::from_slice(json).unwrap_or_else(|error| panic!("{error}: {}", text(json)))
}
