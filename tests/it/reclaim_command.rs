//! Giving space back from the command to the file: `jobs-reclaim` and `jobs-cleanup --reclaim`, the gateway, and both logs.

use std::fs;
use std::process::Output;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::process::{binary, text};
use crate::support::scripted::{Scripted, path_text};
use crate::support::sides::Sides;
use crate::support::spacious::fill;

/// Both sides on a store whose jobs have 20 KB each; of 2,000 a tenth is left, unless `whole`.
fn sides(whole: bool) -> Sides {
    let sides = Sides::with("");
    fill(&sides.store(), 2000, 20_000);
    if whole {
        sides.store().execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    }
    sides
}

fn file(sides: &Sides) -> u64 {
    fs::metadata(sides.path("hero_proc.db")).unwrap().len()
}

fn jobs_reclaim(sides: &Sides, arguments: &[&str]) -> Output {
    let socket = sides.path("gateway.sock");
    binary().arg("jobs-reclaim").args(arguments).args(["--socket", path_text(&socket)]).output().unwrap()
}

fn printed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn the_command_makes_the_file_short() {
    let sides = sides(false);
    let long = file(&sides);
    let output = jobs_reclaim(&sides, &["--dry-run"]);
    assert_eq!((output.status.code(), file(&sides)), (Some(0), long), "{output:?}");
    let dry = printed(&output);
    assert_eq!(
        (&dry["outcome"], &dry["file_bytes_before"], &dry["lock_ms"]),
        (&json!("done"), &json!(long), &Value::Null)
    );

    let output = jobs_reclaim(&sides, &["--within", "2s"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{output:?}");
    let reclaimed = printed(&output);
    assert_eq!((&reclaimed["outcome"], &reclaimed["file_bytes_after"]), (&json!("done"), &json!(file(&sides))));
    assert!(file(&sides) < long / 5);

    // There is too little now: that is no failure.
    let output = jobs_reclaim(&sides, &["-o", "table"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("too little of it is free"), "{output:?}");
    let output = jobs_reclaim(&sides, &["--always", "-o", "table"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("is now"), "{output:?}");
}

/// What keeps it from being done has an exit code of its own.
#[test]
fn what_is_not_given_back_is_said() {
    let sides = sides(false);
    sides
        .store()
        .execute_batch("CREATE TABLE notes (text); CREATE VIRTUAL TABLE f USING fts5 (text, content=notes)")
        .unwrap();
    let output = jobs_reclaim(&sides, &[]);
    assert_eq!((output.status.code(), &printed(&output)["reason"]), (Some(3), &json!("rowids_in_use")), "{output:?}");
    assert!(text(&output.stderr).contains("row ids"), "{output:?}");
    sides.store().execute_batch("DROP TABLE f").unwrap();

    let output = jobs_reclaim(&sides, &["--within", "10ms"]);
    assert_eq!((output.status.code(), &printed(&output)["reason"]), (Some(3), &json!("lock_too_long")), "{output:?}");

    let reader = sides.store();
    reader.execute_batch("BEGIN; SELECT * FROM jobs LIMIT 1").unwrap();
    let output = jobs_reclaim(&sides, &["--within", "2s"]);
    assert_eq!((output.status.code(), &printed(&output)["reason"]), (Some(3), &json!("reader")), "{output:?}");
    drop(reader);
    assert_eq!(jobs_reclaim(&sides, &[]).status.code(), Some(0));

    for (arguments, code) in
        [(&["--within", "9ms"], 2), (&["--within", "1h"], 2), (&["--within", "soon"], 2), (&["--within", "0"], 2)]
    {
        let output = jobs_reclaim(&sides, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    }
    let output = binary().args(["jobs-reclaim", "--socket", "/there/is/none"]).output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{output:?}");
}

#[test]
fn a_cleanup_ends_with_the_file_given_back() {
    let sides = sides(true);
    let long = file(&sides);
    let output = sides.run(&["--reclaim", "--dry-run"]);
    let shown = printed(&output);
    assert_eq!(
        (output.status.code(), &shown["jobs_planned"], file(&sides)),
        (Some(0), &json!(200), long),
        "{output:?}"
    );
    assert_eq!((&shown["reclaimed"]["dry_run"], &shown["reclaimed"]["outcome"]), (&json!(true), &json!("skipped")));

    let output = sides.run(&["--reclaim=2s"]);
    let report = printed(&output);
    assert_eq!((output.status.code(), &report["jobs_deleted"]), (Some(0), &json!(200)), "{output:?}");
    // Of these 4 MB, 16 MiB can't be free.
    assert_eq!(report["reclaimed"]["reason"], "too_little_free", "{report}");

    fill(&sides.store(), 2000, 20_000);
    let long = file(&sides);
    let report = printed(&sides.run(&["--reclaim"]));
    assert_eq!((&report["jobs_deleted"], &report["reclaimed"]["outcome"]), (&json!(200), &json!("done")), "{report}");
    assert!(file(&sides) < long / 50 && report["reclaimed"]["file_bytes_after"] == file(&sides), "{report}");

    // Also if there was nothing to delete; and only if it was asked for.
    let report = printed(&sides.run(&["--reclaim"]));
    assert_eq!((&report["jobs_deleted"], &report["reclaimed"]["outcome"]), (&json!(0), &json!("skipped")), "{report}");
    assert_eq!(printed(&sides.run(&[])).get("reclaimed"), None);

    let output = sides.run(&["--reclaim", "-o", "table"]);
    assert!(text(&output.stdout).contains("too little of it is free"), "{output:?}");
    // The command that deletes gives space back, too.
    fill(&sides.store(), 10, 10);
    for flag in ["--reclaim", "--reclaim=2s"] {
        let output = sides.run(&[flag, "--dry-run", "-o", "table"]);
        assert!(text(&output.stdout).contains(&format!(" {flag}\n")), "{output:?}");
    }
    for refused in ["--reclaim=", "--reclaim=0", "--reclaim=x"] {
        assert_eq!(sides.run(&[refused]).status.code(), Some(2), "{refused}");
    }
}

/// The report is printed even if giving space back fails.
#[test]
fn a_deletion_is_reported_whatever_comes_of_the_space() {
    let gateway = Scripted::new();
    gateway.reports(json!({ "jobs_planned": 2, "jobs_deleted": 2, "jobs_matched": 2, "job_ids": [1, 2] }));
    gateway.refuses(json!({ "code": -32021, "message": "busy", "data": { "kind": "store_busy" } }));
    let output = gateway.cleanup(&["--yes", "--reclaim"]).output().unwrap();
    let report = printed(&output);
    assert_eq!((output.status.code(), &report["jobs_deleted"]), (Some(6), &json!(2)), "{output:?}");
    assert_eq!(report.get("reclaimed"), None);
    assert!(text(&output.stderr).contains("busy"), "{output:?}");
}

/// A time that hero_proc's side does not allow is a usage error: there is no deletion before it.
#[test]
fn a_time_that_is_not_allowed_is_refused_before_anything_is_deleted() {
    let sides = sides(false);
    let before = sides.jobs();
    for refused in ["--reclaim=9ms", "--reclaim=1h"] {
        let output = sides.run(&[refused]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{refused}: {output:?}");
        assert!(text(&output.stderr).contains("within_ms"), "{refused}: {output:?}");
        assert_eq!(sides.jobs(), before, "{refused}");
    }

    // Whatever else its dry run meets says nothing about the deletion.
    let gateway = Scripted::new();
    gateway.refuses(json!({ "code": -32601, "message": "no such method", "data": { "kind": "method_not_found" } }));
    gateway.reports(json!({ "jobs_planned": 2, "jobs_deleted": 2, "jobs_matched": 2, "job_ids": [1, 2] }));
    gateway.refuses(json!({ "code": -32601, "message": "no such method", "data": { "kind": "method_not_found" } }));
    let output = gateway.cleanup(&["--yes", "--reclaim=1s"]).output().unwrap();
    assert_eq!((output.status.code(), &printed(&output)["jobs_deleted"]), (Some(1), &json!(2)), "{output:?}");
    let asked = [gateway.asked(), gateway.asked(), gateway.asked()];
    let dry_runs = asked.map(|params| params["dry_run"].clone());
    assert_eq!(dry_runs, [json!(true), json!(null), json!(false)]);
}

/// Each side says in its log who has had space given back, and what came of it; a dry run leaves no line.
#[test]
fn both_sides_log_it() {
    let sides = sides(false);
    let long = file(&sides);
    for params in [json!({ "dry_run": true }), json!({}), json!({ "tags": ["codescaler"] })] {
        sides.gateway.call("jobs.reclaim", &params);
    }
    sides.hero_proc.call("store.reclaim", &json!({ "min_free_percent": 101 }));
    let short = file(&sides);
    let Sides { hero_proc, gateway, .. } = sides;
    for (server, method, refused) in
        [(gateway, "jobs.reclaim", "tags"), (hero_proc, "store.reclaim", "min_free_percent")]
    {
        server.signal(Signal::TERM);
        let (_, log) = server.end();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(" audit: ")).collect();
        assert_eq!(lines.len(), 2, "{log}");
        let bytes = [format!("file_bytes_before={long}"), format!("file_bytes_after={short}")];
        for field in ["outcome=\"ok\"", "reclaim=\"done\"", &bytes[0], &bytes[1], "uid=", method] {
            assert!(lines[0].contains(field), "{field}: {}", lines[0]);
        }
        assert!(lines[1].contains("outcome=\"invalid_params\"") && lines[1].contains(refused), "{}", lines[1]);
    }
}

/// The library's own line, as hero_proc's log has it where hero_proc mounts the methods.
#[test]
fn the_log_has_the_words_of_the_result() {
    let sides = sides(false);
    for _ in 0..2 {
        sides.hero_proc.call("store.reclaim", &json!({}));
    }
    let Sides { hero_proc, .. } = sides;
    hero_proc.signal(Signal::TERM);
    let (_, log) = hero_proc.end();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("space reclaimed")).collect();
    assert!(lines.len() == 2 && lines[0].contains(" outcome=done file_bytes_before="), "{log}");
    assert!(lines[1].contains(" outcome=skipped reason=too_little_free file_bytes_before="), "{log}");
}
