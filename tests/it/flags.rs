//! The flags of `jobs-cleanup` that choose what goes: the params that they stand for, what they do to a store, and how what
//! stays is told.

use std::process::{Command, Stdio};

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use hero_proc_cleanup::{Report, TERMINAL_PHASES};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::{binary, text};
use crate::support::sample::column;
use crate::support::scripted::{Scripted, path_text};
use crate::support::sides::{Sides, old_jobs};
use crate::terminal::Terminal;

#[test]
fn each_flag_is_a_param() {
    let none = json!({ "force": false, "max_ids": 10_000 });
    for (flags, params) in [
        (&[][..], json!({})),
        (&["--except-kind", "release"], json!({ "except_kind": ["release"] })),
        (&["--except-kind", "b", "--except-kind", "a"], json!({ "except_kind": ["b", "a"] })),
        (&["--before", "2026-09-21T16:13:20+02:00"], json!({ "before_ms": 1_790_000_000_000_i64 })),
        (&["--before", "2026-09-21"], json!({ "before_ms": 1_789_948_800_000_i64 })),
        (&["--phase", "failed"], json!({ "phases": ["failed"] })),
        (&["--phase", "FAILED", "--phase", "Error"], json!({ "phases": ["FAILED", "Error"] })),
        (&["--phase", "running", "--force"], json!({ "phases": ["running"], "force": true })),
        (&["--keep-last", "10"], json!({ "keep_last": 10 })),
        (&["--keep-last", "10000", "--keep-by", "target"], json!({ "keep_last": 10_000, "keep_by": ["target"] })),
        (&["--keep-by", "kind,target", "--keep-last", "1"], json!({ "keep_last": 1, "keep_by": ["kind", "target"] })),
        (&["--no-leaked"], json!({ "leaked": false })),
        (&["--kind=-x"], json!({ "kind": "-x" })),
    ] {
        let gateway = Scripted::new();
        gateway.reports(json!({ "jobs_matched": 1 }));
        let output = gateway.cleanup(flags).arg("--yes").output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(0), "{flags:?}: {}", text(&output.stderr));
        let mut expected = none.clone();
        expected.as_object_mut().expect("an object").extend(params.as_object().expect("an object").clone());
        assert_eq!(gateway.asked(), expected, "{flags:?}");
    }
}

/// Nobody listens: what were sent would be answered with exit code 6.
#[test]
fn wrong_flags_are_refused_before_anything_is_sent() {
    let nowhere = TempDir::new().expect("a directory");
    let socket = nowhere.path().join("none.sock");
    let run = |flags: &[&str]| {
        let mut command = binary();
        command.args(["jobs-cleanup", "--yes", "--socket", path_text(&socket)]).args(flags);
        command.output().expect("the binary runs")
    };
    let tomorrow = (Utc::now() + Duration::days(1)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let long = "x".repeat(257);
    let repeated = |name: &'static str, value: &'static str, times| [name, value].repeat(times);
    for (flags, says) in [
        (vec!["--except-kind", ""], "--except-kind"),
        (vec!["--except-kind", &long], "more than 256 bytes"),
        (repeated("--except-kind", "a", 17), "--except-kind is given 17 times"),
        (vec!["--kind", &long], "more than 256 bytes"),
        (vec!["--actor", "kind_build"], "actor begins with"),
        (vec!["--before", ""], "a time has an offset"),
        (vec!["--before", "2026-09-21T14:13:20"], "a time has an offset"),
        (vec!["--before", &tomorrow], "in the future"),
        (vec!["--before", "1970-01-01"], "before 1973"),
        (vec!["--before", "2026-09-21", "--older-than", "7d"], "cannot be used with"),
        (vec!["--older-than", "0", "--before", "2026-09-21"], "cannot be used with"),
        (vec!["--phase", ""], "--phase"),
        (vec!["--phase", "faild"], "--phase faild: no job has finished in this phase"),
        (vec!["--phase", "failed", "--phase", "running"], "--phase running"),
        (vec!["--phase", "failed,error"], "--phase failed,error"),
        (repeated("--phase", "failed", 17), "--phase is given 17 times"),
        (vec!["--keep-last", "0"], "0 is not in 1..=10000"),
        (vec!["--keep-last", "10001"], "10001 is not in 1..=10000"),
        (vec!["--keep-last", "1.5"], "invalid"),
        (vec!["--keep-last=-1"], "-1 is not in 1..=10000"),
        (vec!["--keep-by", "kind"], "--keep-last"),
        (vec!["--keep-last", "1", "--keep-by", "actor"], "possible values: kind, target"),
        (vec!["--keep-last", "1", "--keep-by", ""], "--keep-by"),
    ] {
        let output = run(&flags);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{flags:?}: {said}");
        assert!(said.contains(says), "{flags:?}: {says:?} is missing: {said}");
    }
    let right = [repeated("--except-kind", "a", 16), repeated("--phase", "ok", 16)].concat();
    for flags in [&right[..], &["--force", "--phase", "pending"], &["--before", "1973-03-03T09:46:40Z"]] {
        assert_eq!(run(flags).status.code(), Some(6), "{flags:?}");
    }
    for phase in TERMINAL_PHASES {
        assert_eq!(run(&["--phase", &phase.to_uppercase()]).status.code(), Some(6), "{phase}");
    }
}

/// Jobs of two kinds in two phases, made and ended at different times, with an action each; an action that no job refers
/// to; and a run that goes on.
const STORE: &str = r#"
    INSERT INTO jobs (id, action, spec_json, phase, tags, created_at_ms, finished_at_ms, run_id) VALUES
      (1, 'a1', '{}', 'succeeded', '["codescaler","codescaler_kind_build","codescaler_target_web"]', 1700000000000, NULL, NULL),
      (2, 'a2', '{}', 'succeeded', '["codescaler","codescaler_kind_build","codescaler_target_db"]', 1700000001000, NULL, NULL),
      (3, 'a3', '{}', 'failed', '["codescaler","codescaler_kind_build","codescaler_target_web"]', 1700000002000, NULL, NULL),
      (4, 'a4', '{}', 'succeeded', '["codescaler","codescaler_kind_release"]', 1700000003000, 1700000009000, NULL),
      (5, 'a5', '{}', 'failed', '["codescaler","codescaler_kind_-x"]', 1700000004000, NULL, NULL),
      (6, 'a6', '{}', 'succeeded', '["codescaler","codescaler_kind_step"]', 1700000009000, NULL, 7),
      (7, 'a7', '{}', 'running', '["codescaler","codescaler_kind_step"]', 1700000009000, NULL, 7);
    WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 7)
    INSERT INTO actions (name, spec_json) SELECT 'a' || n, '{"tags":["codescaler"]}' FROM number;
    INSERT INTO actions (name, spec_json, created_at_ms) VALUES ('leaked', '{"tags":["codescaler"]}', 1700000000000);
"#;

#[test]
fn flags_choose_what_goes() {
    let moment = |ms| DateTime::from_timestamp_millis(ms).expect("a moment").to_rfc3339();
    let before = moment(1_700_000_003_000);
    let sides = Sides::with(STORE);
    for (flags, jobs, actions, leaked) in [
        (&[][..], &[1, 2, 3, 4, 5][..], 6, 1),
        (&["--except-kind", "release", "--except-kind=-x"], &[1, 2, 3], 4, 1),
        // Job 4 has ended later.
        (&["--before", &before], &[1, 2, 3], 4, 1),
        (&["--phase", "Failed", "--no-leaked"], &[3, 5], 2, 0),
        (&["--keep-last", "1"], &[1], 2, 1),
        (&["--keep-last", "1", "--keep-by", "kind,target", "--kind", "build"], &[], 0, 0),
        (&["--keep-last", "1", "--keep-by", "target"], &[4], 2, 1),
        (&["--kind=-x"], &[5], 1, 0),
    ] {
        let output = sides.run(&[flags, &["--dry-run"]].concat());
        assert_eq!(output.status.code(), Some(0), "{flags:?}: {}", text(&output.stderr));
        let shown: Report = serde_json::from_slice(&output.stdout).expect("a report");
        let counts = (&shown.job_ids[..], shown.actions_planned, shown.actions_leaked);
        assert_eq!(counts, (jobs, actions, leaked), "{flags:?}: {shown:?}");
    }
}

/// Every flag stands in the command that a dry run ends with: pasted, it is the same call, and no plan of other params.
#[test]
fn the_command_to_paste_has_every_flag() {
    for flags in [
        &["--except-kind", "it's", "--except-kind=-x", "--before", "2026-09-21T14:13:20.5Z"][..],
        &["--phase", "FAILED", "--phase", "succeeded", "--older-than", "36h", "--no-leaked"],
        &["--keep-last", "1", "--keep-by", "target,kind", "--force", "--limit", "3"],
        &["--keep-last", "2"],
        &["--kind=-x", "--max-ids", "5", "--timeout", "60s"],
    ] {
        let sides = Sides::with(STORE);
        let output = sides.run(&[flags, &["--dry-run", "-o", "table"]].concat());
        let table = text(&output.stdout);
        let command = table.trim_end().lines().last().expect("a line").trim();
        let shown: Report =
            serde_json::from_slice(&sides.run(&[flags, &["--dry-run"]].concat()).stdout).expect("a report");
        let command = format!("{} --output json --yes", command.replace(" --output table", ""));
        let done = Command::new("sh").args(["-c", &command]).output().expect("a shell");
        // Job 7 has no pid, by which `serve` could tell that it has ended.
        let exit = if flags.contains(&"--force") { 3 } else { 0 };
        assert_eq!(done.status.code(), Some(exit), "{command}: {}", text(&done.stderr));
        let done: Report = serde_json::from_slice(&done.stdout).expect("a report");
        assert_eq!((done.asked, done.job_ids, done.action_ids), (shown.asked, shown.job_ids, shown.action_ids));
        assert!(command.contains(&done.plan), "{command}");
    }
}

#[test]
fn a_plan_of_other_flags_deletes_nothing_and_says_what_to_do() {
    let sides = Sides::with(STORE);
    let shown: Report =
        serde_json::from_slice(&sides.run(&["--dry-run", "--older-than", "7d"]).stdout).expect("a report");
    for flags in [&[][..], &["--older-than", "8d"], &["--older-than", "7d", "--no-leaked"]] {
        let output = sides.run(&[flags, &["--plan", &shown.plan]].concat());
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(4), ""), "{flags:?}: {said}");
        for part in ["the plan is one of other params", "reason: \"params\"", "the very flags of its dry run"] {
            assert!(said.contains(part), "{part:?} is missing: {said}");
        }
        assert!(!said.contains("would go now") && !said.contains("jobs_planned"), "{said}");
    }
    sides.store().execute_batch("DELETE FROM jobs WHERE id = 1").expect("deleted");
    let output = sides.run(&["--older-than", "7d", "--plan", &shown.plan]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    for part in ["the set is no longer that of the plan", "jobs_planned: 4", "A new dry run shows"] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
    assert_eq!(sides.jobs(), [2, 3, 4, 5, 6, 7]);
}

/// A report in which everything stays for every reason that there is.
fn every_reason() -> Value {
    let kept = |action: &str, reason: &str, by: Value| json!({ "action_id": action, "reason": reason, "by": by });
    json!({
        "dry_run": true, "jobs_planned": 12, "actions_planned": 55, "actions_leaked": 45, "cutoff_ms": 1_700_000_000_000_i64,
        "asked": { "tags": ["codescaler"], "before_ms": 1_700_000_000_000_i64 },
        "jobs_kept": {
            "excepted": 101, "other_phase": 102, "undated": 103, "recent": 104, "active": 105, "unstoppable": 106,
            "run_active": 107, "kept_last": 108, "referenced": 109, "over_limit": 110,
        },
        "actions_kept": [
            kept("a", "job", "job 9".into()), kept("b", "service", "service web".into()),
            kept("c", "action", "action x".into()), kept("d", "schedule", Value::Null), kept("e", "untagged", Value::Null),
            kept("f", "recent", Value::Null), kept("g", "undated", Value::Null),
        ],
        "actions_kept_count": 9, "more": true,
    })
}

#[test]
fn every_reason_has_its_words() {
    let gateway = Scripted::new();
    gateway.reports(every_reason());
    let output = gateway.cleanup(&["--dry-run", "-o", "table"]).env("LC_ALL", "C").output().expect("the binary runs");
    let table = text(&output.stdout);
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
    for row in [
        &["would go", "12", "55"][..],
        &["of these, referred to by no job", "45"],
        &["stay: excepted", "101"],
        &["stay: in another phase", "102"],
        &["stay: no creation time in milliseconds", "103"],
        &["stay: too recent", "104"],
        &["stay: not finished", "105"],
        &["stay: could not be stopped", "106"],
        &["stay: their run goes on", "107"],
        &["stay: the last of their group", "108"],
        &["stay: held by a foreign key", "109"],
        &["stay: over the limit", "110"],
        &["stay: a recent change", "1"],
        &["stay: no time at which it was set", "1"],
        &["stay: not listed", "2"],
        &["f", "a recent change"],
    ] {
        assert!(rows.contains(&row.to_vec()), "{row:?} is missing:\n{table}");
    }
    for part in [
        "Only jobs created and ended by 2023-11-14 22:13:20 UTC, and actions set by then.",
        r#"Understood as: {"before_ms":1700000000000,"tags":["codescaler"]}"#,
        "More jobs match than one call takes",
    ] {
        assert!(table.contains(part), "{part:?} is missing:\n{table}");
    }
}

/// What is asked about a dry run with these `fields`, up to the answer.
fn question(fields: Value, flags: &[&str]) -> String {
    let gateway = Scripted::new();
    gateway.reports(fields);
    let mut terminal = Terminal::start(gateway.cleanup_as(Terminal::session(), flags), 200, [None, None]);
    let shown = terminal.until("? [");
    terminal.types("no\n");
    assert_eq!(terminal.end().0, Some(0));
    shown
}

/// Actions that no job refers to are no part of the jobs that somebody thinks of.
#[test]
fn the_question_tells_leaked_actions_apart() {
    for (jobs, actions, leaked, asks) in [
        (12, 55, 45, "Delete 12 jobs and their 10 actions, and 45 actions that no job refers to? ["),
        (1, 2, 1, "Delete 1 job and its 1 action, and 1 action that no job refers to? ["),
        (1234, 0, 0, "Delete 1,234 jobs? ["),
        (0, 45, 45, "Delete 45 actions that no job refers to? ["),
        (3, 2, 2, "Delete 3 jobs, and 2 actions that no job refers to? ["),
    ] {
        let shown = question(
            json!({ "dry_run": true, "jobs_planned": jobs, "actions_planned": actions, "actions_leaked": leaked }),
            &[],
        );
        assert!(shown.contains(asks), "{asks:?}: {shown}");
    }
    let shown = question(every_reason(), &[]);
    for part in ["Understood as: {\"before_ms\"", "Left to 10 further batches: 110 more jobs."] {
        assert!(shown.contains(part), "{part:?} is missing: {shown}");
    }
    let mut leaked = every_reason();
    leaked["jobs_kept"]["over_limit"] = 0.into();
    let shown = question(leaked.clone(), &[]);
    assert!(shown.contains("Left to further batches: more actions that no job refers to."), "{shown}");
    let shown = question(leaked, &["--limit", "5"]);
    assert!(shown.contains("Not part of this: more actions that no job refers to, over the limit."), "{shown}");
}

/// A kind that is misspelt excepts nothing.
#[test]
fn whoever_excepts_nothing_is_told() {
    let sides = Sides::with(STORE);
    let warning = "No job is excepted: none that matches is of kind relase.";
    let output = sides.run(&["--dry-run", "--except-kind", "relase"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), format!("{warning}\n").as_str()));
    let output = sides.run(&["--dry-run", "--except-kind", "relase", "--except-kind", "release"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let shown = question(json!({ "dry_run": true, "jobs_planned": 1 }), &["--except-kind", "relase"]);
    assert!(shown.contains(warning), "{shown}");
}

#[test]
fn leaked_actions_alone_are_asked_about_and_go() {
    let sides = Sides::with(STORE);
    sides.store().execute_batch("DELETE FROM jobs; UPDATE actions SET created_at_ms = 1700000000000").expect("changed");
    let mut terminal = Terminal::start(sides.cleanup_as(Terminal::session(), &[]), 80, [Some(Stdio::piped()), None]);
    terminal.until("Delete 8 actions that no job refers to? [yes/no] ");
    terminal.types("yes\n");
    let (code, stdout, _) = terminal.end();
    let done: Report = serde_json::from_str(&stdout).expect("a report");
    assert_eq!((code, done.jobs_deleted, done.actions_deleted, done.actions_leaked), (Some(0), 0, 8, 8));
    assert_eq!(column::<String>(&sides.store(), "SELECT name FROM actions"), [""; 0]);
}

/// Batches follow as long as something goes, be it leaked actions alone.
#[test]
fn batches_go_on_for_leaked_actions() {
    let gateway = Scripted::new();
    let batch = |actions: u64, more: bool| json!({ "actions_planned": actions, "actions_deleted": actions, "actions_leaked": actions, "more": more });
    gateway.reports(batch(50_000, true));
    gateway.reports(batch(50_000, true));
    gateway.reports(batch(7, false));
    let (code, _, shown) =
        Terminal::start(gateway.cleanup_as(Terminal::session(), &["--yes"]), 100, [Some(Stdio::piped()), None]).end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("50,000 actions deleted, and more are left"), "{shown:?}");
    (0..3).for_each(|_| drop(gateway.asked()));

    // Where none goes, another call would not take any either.
    let gateway = Scripted::new();
    gateway.reports(batch(0, true));
    let output = gateway.cleanup(&["--yes"]).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "More actions that no job refers to are left, and none could go in this call.\n");
}

#[test]
fn what_went_is_told_as_it_was_asked() {
    for (jobs, actions, leaked, went) in [
        (2, 3, 1, "2 jobs and their 2 actions, and 1 action that no job refers to were deleted\n"),
        (0, 1, 1, "1 action that no job refers to was deleted\n"),
        (1, 0, 0, "1 job was deleted\n"),
        (0, 0, 0, "nothing was deleted\n"),
    ] {
        let gateway = Scripted::new();
        gateway.reports(json!({ "jobs_deleted": jobs, "actions_deleted": actions, "actions_leaked": leaked }));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = gateway.cleanup(&["--yes"]).stdout(writer).output().expect("the binary runs");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), went));
    }
}

/// The same error about the gateway's socket and about hero_proc's: only the first one is about this user.
#[test]
fn no_permission_is_a_refusal_only_at_the_sockets_of_the_command() {
    let gateway = Scripted::new();
    for (socket, code) in [(gateway.socket(), 5), (gateway.socket().with_file_name("hero_proc.sock"), 6)] {
        let data = json!({ "kind": "upstream_unreachable", "socket": socket, "cause": "permission_denied" });
        for command in [&["jobs-cleanup", "--yes"][..], &["jobs-usage"], &["jobs-reclaim"]] {
            gateway.refuses(json!({ "code": -32023, "message": "no permission", "data": data }));
            let output =
                binary().args(command).arg("--socket").arg(gateway.socket()).output().expect("the binary runs");
            assert_eq!(output.status.code(), Some(code), "{command:?}: {}", text(&output.stderr));
            assert!(text(&output.stderr).contains("cause: \"permission_denied\""), "{}", text(&output.stderr));
        }
    }
}

/// Where nothing matches, one question about what there is follows, and only then.
#[test]
fn where_nothing_matched_what_came_close_is_told() {
    let sides = Sides::with(STORE);
    let builds = "There is no job of kind biuld. The kinds that there are: build, step, release, -x.\n";
    let both = "There are jobs of kind build, and of target web, but no job has them all.\n";
    for (flags, said) in [
        (&["--kind", "biuld"][..], builds),
        (&["--kind", "biuld", "--dry-run"], builds),
        (&["--kind", "biuld", "-o", "table"], builds),
        (
            &["--kind", "build", "--target", "wbe"],
            "There is no job of target wbe. The targets that there are: web, db.\n",
        ),
        (&["--kind", "step", "--target", "web"], &both.replace("build", "step")),
        (&["--actor", "ana"], "There is no job of actor ana. No job has any actor.\n"),
        (&["--kind", "build", "--target", "web", "--older-than", "36500d"], ""),
    ] {
        let output = sides.run(flags);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), said), "{flags:?}");
        assert!(text(&output.stdout).contains('0'), "the report is there: {}", text(&output.stdout));
    }
    let (code, _, shown) =
        Terminal::start(sides.cleanup_as(Terminal::session(), &["--kind", "biuld"]), 200, [None, None]).end();
    assert!(code == Some(0) && shown.contains(builds.trim_end()), "{shown}");
    assert_eq!(shown.matches("There is no job").count(), 1, "{shown}");

    let empty = Sides::with("");
    assert_eq!(text(&empty.run(&["--kind", "build"]).stderr), "There are no jobs of codescaler's.\n");
    assert_eq!(text(&empty.run(&[]).stderr), "");

    // A gateway that knows no such question is no failure.
    let gateway = Scripted::new();
    gateway.reports(json!({}));
    gateway.refuses(json!({ "code": -32601, "message": "no such method", "data": { "kind": "method_not_found" } }));
    let output = gateway.cleanup(&["--yes", "--kind", "build"]).output().expect("the binary runs");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    gateway.asked();
    assert_eq!(gateway.asked(), json!({ "by": ["kind"], "top": 1000 }));
}

/// The last ten of each kind stay, and a second call in a row finds nothing.
#[test]
fn old_jobs_go_with_the_recommended_flags() {
    let operating = include_str!("../../docs/operating.md");
    let command = "hero_proc_cleanup jobs-cleanup ";
    let commands: Vec<Vec<&str>> = operating
        .lines()
        .filter_map(|line| line.strip_prefix(command).filter(|flags| flags.contains("--keep-last")))
        .map(|flags| flags.split(' ').collect())
        .collect();
    let days = |days| (Utc::now() - Duration::days(days)).timestamp_millis();
    let rows = format!(
        r#"
        UPDATE jobs SET tags = '["codescaler","codescaler_kind_build"]', created_at_ms = {};
        UPDATE jobs SET phase = 'failed' WHERE id % 2;
        UPDATE jobs SET created_at_ms = {} WHERE id <= 10;
        UPDATE jobs SET tags = '["codescaler","codescaler_kind_release"]' WHERE id <= 4;
        "#,
        days(20),
        days(70),
    );
    let sides = Sides::with(&(old_jobs(1, 40) + &rows));
    let ids = |ids: &mut dyn Iterator<Item = i64>| ids.collect::<Vec<_>>();
    for (flags, left) in commands.iter().zip([
        ids(&mut (1..=40).filter(|id| *id <= 4 || id % 2 == 1 || *id > 20)),
        ids(&mut (1..=40).filter(|id| *id <= 4 || (id % 2 == 1 && *id > 10) || *id > 20)),
    ]) {
        for _ in 0..2 {
            let output = sides.run(flags);
            assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{flags:?}");
            assert_eq!(sides.jobs(), left, "{flags:?}");
        }
    }
    assert_eq!(commands.len(), 2);
}
