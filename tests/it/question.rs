//! Who is asked, where, and what the answers stand for.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::process::{Running, text};
use crate::support::scripted::Scripted;
use crate::support::sides::{Sides, old_jobs};
use crate::terminal::Terminal;

const BINARY: &str = env!("CARGO_BIN_EXE_hero_proc_cleanup");

#[test]
fn where_nobody_sees_the_question_nothing_is_deleted() {
    let sides = Sides::with(&old_jobs(1, 2));
    for arguments in [&[][..], &["--older-than", "7d"], &["--plan", "none.1"], &["-o", "table"]] {
        // A session of its own has no terminal.
        let mut setsid = Command::new("setsid");
        setsid.arg("-w").arg(BINARY).stdin(Stdio::null());
        let output = sides.cleanup_as(setsid, arguments).output().expect("the binary runs");
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{arguments:?}: {said}");
        for part in ["nobody can be asked", "there is no terminal", "--yes", "--dry-run"] {
            assert!(said.contains(part), "{part:?} is missing: {said}");
        }
    }
    assert_eq!(sides.jobs(), [1, 2]);
}

#[test]
fn in_the_background_of_a_terminal_nothing_is_asked() {
    let sides = Sides::with(&old_jobs(1, 2));
    let mut shell = Command::new("setsid");
    // With job control, what a shell starts with & has a process group of its own.
    shell.args(["-c", "sh", "-c", r#"set -m; "$@" & wait $!"#, "sh", BINARY]);
    let (code, stdout, shown) = Terminal::start(sides.cleanup_as(shell, &[]), 80, [Some(Stdio::piped()), None]).end();
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{shown}");
    assert!(shown.contains("this runs in the background of its terminal"), "{shown}");
    assert_eq!(sides.jobs(), [1, 2]);
}

/// What is above it may be long: what counts is right above it.
#[test]
fn the_question_stands_below_its_totals() {
    let gateway = Scripted::new();
    let kept: Vec<Value> = (0..40)
        .map(|number| json!({ "action_id": format!("kept_{number}"), "reason": "job", "by": "job 9" }))
        .collect();
    let errors: Vec<String> = (0..30).map(|number| format!("job {number}: held")).collect();
    gateway.reports(json!({
        "dry_run": true, "jobs_planned": 12, "actions_planned": 1, "actions_kept": kept, "actions_kept_count": 40,
        "errors": errors, "dependents": { "job_notes": 1 }, "bytes_planned": 1_300_000,
        "store": { "file_bytes": 9_000_000, "wal_bytes": 0, "free_bytes": 2_000_000 },
    }));
    let filter = ["--kind", "two words", "--older-than", "168h", "--force"];
    let mut terminal = Terminal::start(gateway.cleanup_as(Terminal::session(), &filter), 120, [None, None]);
    let shown = terminal.until("Delete 12 jobs and their 1 action? [yes/no] ");
    let socket = format!("Gateway: {}", gateway.socket().display());
    let order = [
        "1 row of table job_notes depend",
        "kept_4",
        "and 35 more",
        "job 4: held",
        "and 25 more",
        "would go",
        "The rows that would go hold 1.30 MB of text.",
        "The store's file has 9.00 MB, of which 2.00 MB are free for new rows.",
        "Filter: --kind 'two words' --older-than 7d --force",
        &socket,
        "Delete 12 jobs",
    ];
    let places: Vec<_> =
        order.iter().map(|part| shown.find(part).unwrap_or_else(|| panic!("{part}: {shown}"))).collect();
    assert!(places.is_sorted(), "{places:?}: {shown}");
    assert!(!shown.contains("kept_5") && !shown.contains("job 5: held"), "{shown}");
    assert!(shown.lines().count() < 30, "{shown}");
    terminal.types("n\n");
    assert_eq!(terminal.end().0, Some(0));
}

/// The answer `a` stands for this batch as it was shown, and for all that follow.
#[test]
fn all_is_answered_once() {
    let gateway = Scripted::new();
    let left = |jobs: u64, more: u64| {
        let kept = json!({
            "undated": 0, "recent": 0, "active": 0, "unstoppable": 0, "referenced": 0, "over_limit": more,
        });
        json!({ "jobs_planned": jobs, "jobs_deleted": jobs, "jobs_kept": kept, "more": more > 0, "plan": "none.7" })
    };
    gateway.reports(left(5, 9));
    let command = gateway.cleanup_as(Terminal::session(), &[]);
    let mut terminal = Terminal::start(command, 80, [Some(Stdio::piped()), None]);
    terminal.until("[yes/no/all] ");
    for more in [9, 4, 0] {
        gateway.reports(left(5, more));
    }
    terminal.types("a\n");
    let (code, stdout, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    let sum: Value = serde_json::from_str(&stdout).expect("a report");
    assert_eq!((&sum["jobs_deleted"], &sum["more"]), (&json!(15), &json!(false)));
    let asked: Vec<Value> = (0..4).map(|_| gateway.asked()).collect();
    let calls: Vec<_> = asked.iter().map(|call| (&call["dry_run"], &call["expect_plan"])).collect();
    let (null, plan, yes) = (json!(null), json!("none.7"), json!(true));
    assert_eq!(calls, [(&yes, &null), (&null, &plan), (&null, &null), (&null, &null)]);
}

/// A disk that is too full for what was shown: the next question is about a batch that fits.
#[test]
fn a_smaller_batch_is_asked_about_where_a_disk_is_full() {
    let gateway = Scripted::new();
    let planned = |jobs: u64| json!({ "jobs_planned": jobs, "jobs_deleted": jobs, "plan": "none.7" });
    gateway.reports(planned(90));
    let mut terminal = Terminal::start(gateway.cleanup_as(Terminal::session(), &[]), 80, [Some(Stdio::piped()), None]);
    terminal.until("Delete 90 jobs? [yes/no] ");
    gateway.refuses(json!({
        "code": -32026, "message": "there is no room on the disk",
        "data": { "kind": "disk_full", "free_bytes": 9, "needed_bytes": 99, "limit": 8 },
    }));
    gateway.reports(planned(8));
    terminal.types("y\n");
    let shown = terminal.until("Delete 8 jobs? [yes/no] ");
    assert!(shown.contains("has no room for that at once: a batch of 8 jobs is next."), "{shown}");
    gateway.reports(planned(8));
    terminal.types("y\n");
    assert_eq!(terminal.end().0, Some(0));
    let asked: Vec<Value> = (0..4).map(|_| gateway.asked()).collect();
    let calls: Vec<_> = asked.iter().map(|call| (&call["dry_run"], &call["limit"], &call["expect_plan"])).collect();
    let (null, plan, yes, fits) = (json!(null), json!("none.7"), json!(true), json!(8));
    assert_eq!(calls, [(&yes, &null, &null), (&null, &null, &plan), (&yes, &fits, &null), (&null, &fits, &plan)]);
}

/// Where no batch follows there is nothing that `a` could stand for.
#[test]
fn all_is_no_answer_to_one_call() {
    for arguments in [&[][..], &["--limit", "1"]] {
        let sides = Sides::with(&old_jobs(1, 2));
        let mut terminal = Terminal::run(&sides, arguments);
        terminal.until("[yes/no] ");
        terminal.types("a\n");
        assert_eq!(terminal.end().0, Some(0));
        assert_eq!(sides.jobs(), [1, 2], "{arguments:?}");
    }
}

#[test]
fn what_was_typed_before_the_question_is_no_answer_to_it() {
    let gateway = Scripted::new();
    let mut terminal = Terminal::start(gateway.cleanup_as(Terminal::session(), &[]), 80, [None, None]);
    assert_eq!(gateway.asked()["dry_run"], true);
    terminal.types("yes\n");
    // The terminal has it.
    terminal.until("yes");
    gateway.reports(json!({ "dry_run": true, "jobs_planned": 1 }));
    terminal.until("Delete 1 job? [yes/no] ");
    terminal.types("no\n");
    let (code, _, shown) = terminal.end();
    assert!(code == Some(0) && shown.contains("nothing was deleted"), "{shown}");
}

/// On a terminal a report is a table as wide as that, at most; elsewhere it is JSON.
#[test]
fn tables_respect_the_width_of_the_terminal() {
    let name = |number: usize| format!("codescaler_{}_{number}", "build of something with a long name ".repeat(4));
    let kept: Vec<Value> = (0..3)
        .map(|number| json!({ "action_id": name(number), "reason": "action", "by": format!("action {}", name(9)) }))
        .collect();
    for columns in [60, 80, 200] {
        let gateway = Scripted::new();
        gateway.reports(json!({ "jobs_deleted": 1, "actions_kept": kept, "actions_kept_count": 3 }));
        let command = gateway.cleanup_as(Terminal::session(), &["--yes"]);
        let (code, _, shown) = Terminal::start(command, columns, [None, None]).end();
        assert_eq!(code, Some(0), "{shown}");
        let table: Vec<&str> = shown.lines().filter(|line| line.starts_with(['┌', '│', '╞', '└'])).collect();
        assert!(table.len() > 8, "{shown}");
        for line in &table {
            assert!(line.chars().count() <= usize::from(columns), "{columns}: {line}");
        }
    }
}

/// Neither colours nor moves of the cursor where the terminal can't do them, or nobody wants them; in the log either.
#[test]
fn a_dumb_terminal_gets_plain_text() {
    let sides = Sides::with("");
    let shown_with = |name: &str, value: &str| {
        sides.store().execute_batch(&old_jobs(1, 50_002)).expect("rows");
        let mut session = Terminal::session();
        session.env("RUST_LOG", "hero_proc_cleanup=debug").env(name, value);
        let (code, _, shown) = Terminal::start(sides.cleanup_as(session, &["--yes"]), 80, [None, None]).end();
        assert!(code == Some(0) && shown.contains("the call begins"), "{shown}");
        shown
    };
    let is_coloured = |shown: &str| ["\u{1b}[2m", "\u{1b}[3", "\u{1b}[1m"].iter().any(|code| shown.contains(code));
    assert!(is_coloured(&shown_with("NO_COLOR", "")), "an empty variable is none");
    for (name, value) in [("TERM", "dumb"), ("NO_COLOR", "1")] {
        let shown = shown_with(name, value);
        assert!(!is_coloured(&shown), "{shown:?}");
        assert!(name == "NO_COLOR" || !shown.contains('\u{1b}'), "{shown:?}");
    }
}

/// A shell that closes takes its terminal along: the running call ends, and the report is written.
#[test]
fn a_hang_up_lets_the_running_call_end() {
    let sides = Sides::with(&old_jobs(1, 2));
    let mut store = sides.store();
    let lock = store.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).expect("the lock");
    let command = Running::start(sides.cleanup(&[]).env("RUST_LOG", "hero_proc_cleanup=debug"));
    command.says("the call begins");
    command.signal(rustix::process::Signal::HUP);
    command.says("Waiting for the running call to end.");
    drop(lock);
    let (code, stdout) = command.end();
    assert_eq!(code, Some(0));
    assert!(stdout.contains("\"jobs_deleted\": 2"), "{stdout}");
}
