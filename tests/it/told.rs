//! What the command tells afterwards, and who is told when nothing could be done.

use std::fs::File;
use std::io::pipe;
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::{binary, run, text};
use crate::support::scripted::{Scripted, path_text, report};
use crate::support::server::Server;
use crate::support::sides::{Sides, old_jobs, running_job};
use crate::support::spacious::fill;

fn full() -> File {
    File::options().write(true).open("/dev/full").expect("a full disk")
}

#[test]
fn a_report_that_cannot_be_written_hides_nothing_that_was_done() {
    for output in ["json", "table"] {
        let sides = Sides::with(&old_jobs(1, 2));
        let done = sides.cleanup(&["-o", output]).stdout(full()).output().expect("the binary runs");
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(
            said.contains("2 jobs and their 2 actions were deleted, but the report could not be written"),
            "{said}"
        );
        assert!(said.contains("No space left on device"), "{said}");
        assert_eq!(sides.jobs(), [0; 0]);
    }

    // The exit code is that of the call, where it has one to give.
    let sides = Sides::with(&(old_jobs(1, 1) + &running_job(2, i64::from(std::process::id()))));
    let done = sides.cleanup(&["--force"]).stdout(full()).output().expect("the binary runs");
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{said}");
    assert!(said.contains("1 job and its 1 action were deleted") && said.contains("some jobs stay"), "{said}");

    // A dry run's as well.
    for (arguments, code) in [(&["--dry-run"][..], 1), (&["--dry-run", "--force"], 3)] {
        let done = sides.cleanup(arguments).stdout(full()).output().expect("the binary runs");
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains("nothing was deleted, but the report could not be written"), "{arguments:?}: {said}");
    }
}

/// A store on the very disk that is full: the file is short again, even if no report can say so.
#[test]
fn space_that_was_given_back_is_told_as_well() {
    let reclaim = |sides: &Sides, arguments: &[&str]| {
        let mut command = binary();
        command.arg("jobs-reclaim").args(arguments).arg("--socket").arg(sides.path("gateway.sock"));
        command
    };
    for output in ["json", "table"] {
        let sides = Sides::with(&old_jobs(1, 2));
        let done = reclaim(&sides, &["--always", "-o", output]).stdout(full()).output().expect("the binary runs");
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(said.contains("the store's file is now ") && said.contains("No space left on device"), "{said}");
    }

    let sides = Sides::with(&old_jobs(1, 2));
    let done = reclaim(&sides, &[]).stdout(full()).output().expect("the binary runs");
    let said = text(&done.stderr);
    assert!(said.contains("the store's file stays as it is, but the report could not be written"), "{said}");
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let done = reclaim(&sides, &["--always"]).stdout(writer).output().expect("the binary runs");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(text(&done.stderr).starts_with("the store's file is now "), "{done:?}");

    // The exit code is that of the call, where it has one to give.
    let store = sides.store();
    store.execute_batch("CREATE TABLE notes (text); CREATE VIRTUAL TABLE f USING fts5 (text, content=notes)").unwrap();
    let done = reclaim(&sides, &["--always"]).stdout(full()).output().expect("the binary runs");
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{said}");
    assert!(said.contains("the store's file stays as it is, but") && said.contains("row ids"), "{said}");
    store.execute_batch("DROP TABLE f").unwrap();

    // At the end of a cleanup, both are told.
    fill(&store, 2000, 20_000);
    let done = sides.cleanup(&["--reclaim=2s"]).stdout(full()).output().expect("the binary runs");
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains(" deleted, and the store's file is now "), "{said}");
}

#[test]
fn a_reader_that_has_gone_away_does_not_hide_it_either() {
    let sides = Sides::with(&old_jobs(1, 2));
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let done = sides.cleanup(&[]).stdout(writer).output().expect("the binary runs");
    assert_eq!((done.status.code(), text(&done.stderr)), (Some(0), "2 jobs and their 2 actions were deleted\n"));
}

#[test]
fn lists_are_asked_for_as_far_as_they_are_printed() {
    for (arguments, max_ids) in [
        (&["--yes"][..], 10_000),
        (&["--yes", "-o", "table"], 1_000),
        (&["--yes", "-o", "table", "--max-ids", "5"], 5),
        (&["--dry-run", "--max-ids", "1000000"], 1_000_000),
    ] {
        let gateway = Scripted::new();
        gateway.reports(json!({}));
        assert_eq!(gateway.cleanup(arguments).output().expect("the binary runs").status.code(), Some(0));
        assert_eq!(gateway.asked()["max_ids"], max_ids, "{arguments:?}");
    }
}

/// No call of several asks for more than is printed, and the sum names nobody who has gone since.
#[test]
fn a_sum_takes_no_whole_lists() {
    let gateway = Scripted::new();
    let kept = |by: &str| json!([{ "action_id": "codescaler_a", "reason": "job", "by": by }]);
    let counts = json!({ "jobs_planned": 2, "jobs_deleted": 2, "job_ids": [1], "ids_truncated": true });
    let batch = |fields: Value| {
        let mut report = report(counts.clone());
        fields.as_object().expect("an object").iter().for_each(|(name, value)| report[name] = value.clone());
        report
    };
    gateway.reports(batch(json!({ "more": true, "actions_kept": kept("job 2"), "actions_kept_count": 1 })));
    gateway.reports(batch(json!({ "actions_kept": kept("job 9"), "actions_kept_count": 1 })));
    let output = gateway.cleanup(&["--yes", "--max-ids", "1"]).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let sum: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&sum["jobs_deleted"], &sum["actions_kept"]), (&json!(4), &kept("job 9")));
    assert_eq!((gateway.asked()["max_ids"].as_u64(), gateway.asked()["max_ids"].as_u64()), (Some(1), Some(1)));
}

/// A call that takes nothing is not made again, and what is left is told.
#[test]
fn what_is_left_is_told() {
    let over = |jobs: u64| json!({ "undated": 0, "recent": 0, "active": 0, "unstoppable": 0, "referenced": 0, "over_limit": jobs });
    for (arguments, fields, said) in [
        (
            &["--yes"][..],
            json!({ "more": true, "jobs_kept": over(3) }),
            "3 more jobs match, and none could go in this call.\n",
        ),
        (
            &["--yes"],
            json!({ "more": false, "jobs_kept": over(1) }),
            "1 more job matches, and none could go in this call.\n",
        ),
        (
            &["--yes", "--limit", "1"],
            json!({ "more": true, "jobs_deleted": 1, "jobs_kept": over(1) }),
            "1 more job matches: this call was not for them.\n",
        ),
        (
            &["--yes", "--limit", "1"],
            json!({ "more": true, "actions_deleted": 1 }),
            "More actions that no job refers to are left: this call was not for them.\n",
        ),
        (&["--yes"], json!({}), ""),
    ] {
        let gateway = Scripted::new();
        gateway.reports(fields);
        let output = gateway.cleanup(arguments).output().expect("the binary runs");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), said), "{arguments:?}");
    }
}

#[test]
fn a_dry_run_ends_with_the_command_that_deletes_what_it_showed() {
    let tags = r#"UPDATE jobs SET tags = '["codescaler","codescaler_kind_it''s a build"]' WHERE id < 3;"#;
    let sides = Sides::with(&(old_jobs(1, 4) + tags));
    let filter = ["--kind", "it's a build", "--older-than", "48h", "--limit", "2", "--max-ids", "7"];
    let with = |more: &[&str]| sides.run(&[&filter[..], more].concat());

    let shown = with(&["--dry-run", "-o", "table"]);
    let shown = text(&shown.stdout);
    let command = shown.trim_end().lines().last().expect("a line").trim();
    for part in [r"--kind 'it'\''s a build'", "--older-than 2d", "--limit 2", "--max-ids 7", "--output table"] {
        assert!(command.contains(part), "{part} is missing: {command}");
    }
    let done = Command::new("sh").args(["-c", &format!("{command} --yes")]).output().expect("a shell");
    assert_eq!(done.status.code(), Some(0), "{command}: {}", text(&done.stderr));
    assert_eq!(sides.jobs(), [3, 4]);

    // JSON is for programs: they find the plan in it.
    let shown = sides.run(&["--dry-run"]);
    assert_eq!(text(&shown.stderr), "");
}

/// However strange a flag is, it comes back as it was given.
#[test]
fn a_command_to_paste_keeps_strange_flags() {
    let gateway = Scripted::new();
    let strange = "a\u{1b}[2J\n'\\\u{202e}7";
    let fields = json!({ "dry_run": true, "jobs_matched": 1, "jobs_planned": 1, "plan": "none.1 ; reboot" });
    gateway.reports(fields);
    let arguments = ["--dry-run", "-o", "table", "--force", "--timeout", "90s", "--kind", strange];
    let shown = gateway.cleanup(&arguments).output().expect("the binary runs");
    assert_eq!(gateway.asked()["kind"], strange);
    let shown = text(&shown.stdout);
    let command = shown.trim_end().lines().last().expect("a line").trim();
    assert!(command.contains(r"--kind $'a\033[2J\012\'\\\342\200\2567' --force"), "{command}");
    assert!(command.contains("--timeout 90s") && command.ends_with("--plan 'none.1 ; reboot'"), "{command}");
}

#[test]
fn a_plan_of_other_flags_is_told_from_one_whose_set_has_changed() {
    for (reason, helps) in [("params", true), ("set", false)] {
        let gateway = Scripted::new();
        let data = json!({ "kind": "plan_changed", "reason": reason, "jobs_planned": 3 });
        gateway.refuses(json!({ "code": -32020, "message": "not that plan", "data": data }));
        let output = gateway.cleanup(&["--yes", "--plan", "none.1"]).output().expect("the binary runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert_eq!(said.contains("the very flags of its dry run"), helps, "{said}");
        assert!(said.contains(&format!("reason: \"{reason}\"")), "{said}");
    }
}

/// Who is missing, where, and what starts it.
#[test]
fn a_missing_gateway_is_told_from_a_missing_hero_proc() {
    let nowhere = TempDir::new().expect("a directory");
    let socket = nowhere.path().join("gateway.sock");
    let output = run(&["jobs-cleanup", "--yes", "--socket", path_text(&socket)]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    for part in ["the gateway can't be reached", path_text(&socket), "does not exist", "`hero_proc_cleanup gateway`"] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }

    let gateway = Server::gateway(&socket, &nowhere.path().join("hero_proc.sock"), &[]);
    let output = run(&["jobs-cleanup", "--yes", "--socket", path_text(&gateway.socket)]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    for part in ["hero_proc can't be reached", "hero_proc.sock", "`hero_proc_cleanup serve`"] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
}

#[test]
fn a_call_ends_with_its_timeout() {
    let directory = TempDir::new().expect("a directory");
    let socket = directory.path().join("gateway.sock");
    let _deaf = UnixListener::bind(&socket).expect("a socket");
    let output = run(&["jobs-cleanup", "--yes", "--timeout", "50ms", "--socket", path_text(&socket)]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("no answer within 0.05 s: the call may have been carried out"), "{said}");
    assert!(said.contains("\nA dry run shows what is left.\n") && !said.contains("it was a dry run"), "{said}");

    // Nobody needs to wonder what a dry run has done.
    let output = run(&["jobs-cleanup", "--dry-run", "--timeout", "50ms", "--socket", path_text(&socket)]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("it was a dry run, which deletes nothing") && !said.contains("what is left"), "{said}");
}

/// Where nothing would go there is no command to paste.
#[test]
fn a_dry_run_of_nothing_offers_nothing() {
    let gateway = Scripted::new();
    gateway.reports(json!({ "dry_run": true }));
    let shown = gateway.cleanup(&["--dry-run", "-o", "table"]).output().expect("the binary runs");
    let table = text(&shown.stdout);
    assert!(table.contains("nothing was deleted") && !table.contains("--plan"), "{table}");
}

#[test]
fn a_report_tells_what_the_rows_hold_and_what_the_file_has() {
    let fields = json!({
        "jobs_planned": 1, "bytes_planned": 1_300_000, "bytes_freed": 1_200_000,
        "store": { "file_bytes": 9_000_000, "wal_bytes": 0, "free_bytes": 2_000_000 },
    });
    for (arguments, dry_run, tells) in [
        (
            ["--dry-run", "-o", "table"],
            true,
            &["The rows that would go hold 1.30 MB of text.\n\
                 The store's file has 9.00 MB, of which 2.00 MB are free for new rows.\n"][..],
        ),
        (
            ["--yes", "-o", "table"],
            false,
            &[
                "The rows that went held 1.30 MB of text.",
                "Pages freed: 1.20 MB. In 1.234 ms, with the store's write lock held for 0.500 ms.",
                "The store's file has 9.00 MB, of which 2.00 MB are free for new rows.",
            ],
        ),
    ] {
        let gateway = Scripted::new();
        let mut fields = fields.clone();
        fields["dry_run"] = dry_run.into();
        gateway.reports(fields);
        let output = gateway.cleanup(&arguments).output().expect("the binary runs");
        for part in tells {
            assert!(text(&output.stdout).contains(part), "{part:?} is missing: {}", text(&output.stdout));
        }
    }
}

#[test]
fn an_unset_variable_is_not_all() {
    for option in ["--kind", "--target", "--actor", "--timeout"] {
        let output = binary().args(["jobs-cleanup", "--yes", option, ""]).output().expect("the binary runs");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{option}");
    }
    assert_eq!(run(&["jobs-cleanup", "--yes", "--timeout", "0"]).status.code(), Some(2));
}
