//! The command line, without a terminal: results, exit codes, what goes to which stream, what is left behind.

use std::io::pipe;
use std::process::{Command, Stdio};

use hero_proc_cleanup::Report;
use rusqlite::TransactionBehavior;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{Running, Sides, binary, entries, lines, old_jobs, run, running_job, text};

#[test]
fn an_age_is_digits_and_a_unit_and_nothing_else() {
    let missing = TempDir::new().expect("a directory");
    let socket = missing.path().join("none.sock");
    let code = |age: &str| {
        let mut command = binary();
        command.args(["jobs-cleanup", "--older-than", age, "--socket"]).arg(&socket);
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
    for part in ["would go", "stay: not finished", "Dry run", "nothing was deleted", "Plan: none."] {
        assert!(table.contains(part), "{part:?} is missing:\n{table}");
    }
    let output = sides.run(&["-o", "table"]);
    let table = text(&output.stdout);
    for part in ["deleted", "stay: not finished", "freed inside the store's file", "write lock held"] {
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
fn a_job_whose_process_is_alive_stays_and_the_exit_code_says_so() {
    let mut ended = Command::new("true").spawn().expect("a process");
    ended.wait().expect("it ends");
    let alive = std::process::id();
    let rows = old_jobs(1, 1)
        + &running_job(2, i64::from(ended.id()))
        + &running_job(3, i64::from(alive))
        + &running_job(4, 0)
        + &running_job(5, i64::MAX)
        + "UPDATE jobs SET pid = NULL WHERE id = 1;"
        + &running_job(6, 1)
        + "UPDATE jobs SET pid = NULL, phase = 'pending' WHERE id = 6;"
        + &running_job(7, 1)
        + "UPDATE jobs SET pid = 'abc' WHERE id = 7;";
    let sides = Sides::with(&rows);
    let output = sides.run(&["--force", "--yes"]);
    assert_eq!(output.status.code(), Some(3));
    let done = report(&output.stdout);
    assert_eq!((done.job_ids, done.jobs_kept.unstoppable), (vec![1, 2, 6], 4));
    let expected = [
        format!("job 3: process {alive} is still alive"),
        "job 4: its pid 0 is none that could be looked up".to_owned(),
        format!("job 5: its pid {} is none that could be looked up", i64::MAX),
        "job 7: its pid 0 is none that could be looked up".to_owned(),
    ];
    assert_eq!(done.errors, expected);
    assert_eq!(sides.jobs(), [3, 4, 5, 7]);
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
    assert!(text(&output.stderr).contains("this store does not fit: there is no such file"));
    sides.make_store();
    let output = sides.run(&[]);
    assert_eq!((output.status.code(), report(&output.stdout).jobs_matched), (Some(0), 0));
}

#[test]
fn a_locked_store_is_busy() {
    let sides = Sides::with(&old_jobs(1, 1));
    let mut store = sides.store();
    let lock = store.transaction_with_behavior(TransactionBehavior::Immediate).expect("the lock");
    let output = sides.run(&[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(6), ""));
    drop(lock);
    assert_eq!(sides.jobs(), [1]);
}

#[test]
fn the_first_interrupt_lets_the_running_call_end() {
    let sides = Sides::with(&old_jobs(1, 2));
    let mut store = sides.store();
    let lock = store.transaction_with_behavior(TransactionBehavior::Immediate).expect("the lock");
    let command = Running::start(sides.cleanup(&[]).env("RUST_LOG", "hero_proc_cleanup=debug"));
    command.says("the call begins");
    command.signal(Signal::INT);
    command.says("Waiting for the running call to end.");
    drop(lock);
    let (code, stdout) = command.end();
    assert_eq!((code, report(stdout.as_bytes()).jobs_deleted), (Some(0), 2));
}

#[test]
fn the_second_interrupt_leaves_it_and_says_that_its_outcome_is_unknown() {
    let sides = Sides::with(&old_jobs(1, 2));
    let mut store = sides.store();
    let lock = store.transaction_with_behavior(TransactionBehavior::Immediate).expect("the lock");
    let command = Running::start(sides.cleanup(&[]).env("RUST_LOG", "hero_proc_cleanup=debug"));
    command.says("the call begins");
    command.signal(Signal::INT);
    command.says("Waiting for the running call to end.");
    command.signal(Signal::INT);
    command.says("the call may still delete");
    assert_eq!(command.end(), (Some(6), String::new()));
    drop(lock);
}

#[test]
fn an_interrupt_between_batches_keeps_what_was_done() {
    let sides = Sides::with(&old_jobs(1, 50_002));
    let mut store = sides.store();
    let lock = store.transaction_with_behavior(TransactionBehavior::Immediate).expect("the lock");
    let command = Running::start(sides.cleanup(&[]).env("RUST_LOG", "hero_proc_cleanup=debug"));
    command.says("the call begins");
    command.signal(Signal::TERM);
    command.says("Waiting for the running call to end.");
    drop(lock);
    let (code, stdout) = command.end();
    let done = report(stdout.as_bytes());
    assert_eq!((code, done.jobs_deleted, done.more), (Some(1), 50_000, true));
    assert_eq!(sides.jobs(), [50_001, 50_002]);
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
    assert_eq!(hero_proc.end().0, Some(0));
}

#[test]
fn the_second_signal_ends_the_running_call_before_its_commit() {
    let sides = Sides::with(&old_jobs(1, 2));
    let mut store = sides.store();
    let lock = store.transaction_with_behavior(TransactionBehavior::Immediate).expect("the lock");
    let command = Running::start(&mut sides.cleanup(&[]));
    // The call has begun once the server has the store open.
    while !sides.hero_proc.has_open(&sides.path("hero_proc.db")) {
        std::thread::yield_now();
    }
    sides.hero_proc.signal(Signal::INT);
    sides.hero_proc.says("stopping: the running calls end");
    sides.hero_proc.signal(Signal::INT);
    sides.hero_proc.says("the running calls end before their commit");
    drop(lock);
    command.says("cancelled before the commit: nothing was deleted");
    assert_eq!(command.end(), (Some(1), String::new()));
    assert_eq!(sides.jobs(), [1, 2]);
    let Sides { hero_proc, .. } = sides;
    assert_eq!(hero_proc.end().0, Some(0));
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
    assert_eq!(found, serde_json::json!({ "fits": false, "problems": ["table jobs has no column tags"] }));
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in ["demo", "serve", "gateway", "jobs-cleanup", "check", "completions"] {
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
        assert_eq!(text(&output.stdout).matches("\nholds: ").count(), 5, "{}", text(&output.stdout));
        assert!(entries(place.path()).is_empty());
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    for (signal, line) in [(Signal::INT, "Making a store"), (Signal::TERM, "It holds"), (Signal::HUP, "$ hero_proc_cl")]
    {
        let place = TempDir::new().expect("a directory");
        let mut command = binary();
        command.args(["demo", "--jobs", "3000"]).env("TMPDIR", place.path()).stdout(Stdio::piped());
        let mut demo = Running::start(&mut command);
        let stdout = lines(demo.child.stdout.take().expect("a pipe"));
        while !stdout.recv_timeout(crate::command::PATIENCE).expect("the demo goes on").contains(line) {}
        demo.signal(signal);
        demo.says("interrupted: the demo's store is removed");
        assert_eq!(demo.end().0, Some(1));
        assert!(entries(place.path()).is_empty(), "{line}");
    }
}

fn report(json: &[u8]) -> Report {
    serde_json::from_slice(json).unwrap_or_else(|error| panic!("{error}: {}", text(json)))
}
