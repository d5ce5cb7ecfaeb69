//! Every kind of change by another connection at every step of a cleanup, each outcome pinned.
//!
//! Before the lock, whatever happens counts. Under it nothing happens, and what was tried comes after the commit.

use std::time::Duration;

use hero_proc_cleanup::{Host, Kind, Report, RpcError};
use rusqlite::{ErrorCode, ToSql};
use serde_json::{Value, json};

use crate::support::call::{Control, all, all_with, call_as, digest, host};
use crate::support::sample::Sample;
use crate::support::steps::{self, executes, when};

fn sample(journal: &str) -> Sample {
    let sample = Sample::with_a_reference();
    sample.journal(journal);
    sample
}

/// A cleanup with `params` by a host that leaves the rows alone, during which `act` is done once, when `step` begins; and the
/// jobs that were stopped.
#[track_caller]
fn interrupted(
    sample: &Sample,
    step: &'static str,
    act: impl FnOnce() + 'static,
    params: &Value,
) -> (Result<Report, RpcError>, Vec<i64>) {
    let control = Control::willing();
    let outcome = steps::interrupted(sample, step, act, &control.host(), all_with(params.clone()));
    (outcome, control.stopped())
}

const INSERT: &str =
    r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('n', '{}', 'done', '["codescaler"]')"#;
const INSERT_RUNNING: &str =
    r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('a', '{}', 'running', '["codescaler"]')"#;
const FINISH: &str = "UPDATE jobs SET phase = 'done', pid = NULL WHERE id = 3";
const RESTART: &str = "UPDATE jobs SET phase = 'running', attempt = 2 WHERE id = 1";
const RESTART_STOPPED: &str = "UPDATE jobs SET attempt = 2 WHERE id = 3";
const RETAG_AWAY: &str = r#"UPDATE jobs SET tags = '["ops"]' WHERE id = 1"#;
const RETAG_RUNNING: &str = r#"UPDATE jobs SET tags = '["ops"]' WHERE id = 3"#;
const RETAG_TO: &str = r#"UPDATE jobs SET tags = '["codescaler"]' WHERE id = 4"#;
const REFERENCE_BY_JOB: &str = "UPDATE jobs SET action = 'web.a' WHERE id = 4";
const REFERENCE_BY_SERVICE: &str = r#"UPDATE services SET spec_json = '{"actions":["x","a"]}'"#;
const REFERENCE_BY_ACTION: &str = r#"UPDATE actions SET spec_json = '{"depends_on":["a"]}' WHERE name = 'x'"#;
const SCHEDULE: &str =
    r#"UPDATE actions SET spec_json = '{"tags":["codescaler"],"schedule_policy":{}}' WHERE name = 'a'"#;
const UNTAG: &str = r#"UPDATE actions SET spec_json = '{"tags":["ops"]}' WHERE name = 'a'"#;
const MOVED_REFERENCE: &str = "UPDATE jobs SET action_id = 'a' WHERE id = 4";
const LOST_REFERENCE: &str = "UPDATE jobs SET action_id = 'x' WHERE id = 4";
const LOST_REFERRER: &str = "DELETE FROM jobs WHERE id = 4";
const LOST_JOB: &str = "DELETE FROM jobs WHERE id = 3";
const IRRELEVANT: &str = "UPDATE jobs SET stderr = 'x', pid = 7 WHERE id = 4; INSERT INTO runs (phase) VALUES ('done')";

/// What must come of it: the jobs that go, those that stay by reason, the actions that go, and why others stay.
type Outcome = (&'static [i64], Value, &'static [&'static str], Value);

#[track_caller]
fn assert_outcome(sample: &Sample, report: &Report, outcome: &Outcome, case: &str) {
    let (jobs, jobs_kept, actions, actions_kept) = outcome;
    let counts = json!(report.jobs_kept);
    let counts = counts.as_object().unwrap().iter().filter(|(_, count)| **count != 0);
    let counts: Value = counts.map(|(why, count)| (why.clone(), count.clone())).collect();
    let kept = report.actions_kept.iter().map(|kept| json!([kept.action_id, kept.reason, kept.by]));
    let found = (json!(report.job_ids), counts, json!(report.action_ids), kept.collect::<Value>());
    assert_eq!(found, (json!(jobs), jobs_kept.clone(), json!(actions), actions_kept.clone()), "{case}");
    assert_eq!((report.jobs_deleted, report.actions_deleted), (jobs.len() as u64, actions.len() as u64), "{case}");
    assert_eq!(report.jobs_matched, report.jobs_planned + report.jobs_kept.sum(), "{case}");
    let connection = sample.open();
    let there = |sql: &str, key: &dyn ToSql| connection.prepare(sql).unwrap().exists([key]).unwrap();
    assert!(jobs.iter().all(|id| !there("SELECT 1 FROM jobs WHERE id = ?1", id)), "{case}");
    let action = "SELECT 1 FROM actions WHERE name = ?1";
    assert!(actions.iter().all(|name| !there(action, name)) && there(action, &"x"), "{case}");
}

/// Without `force`: the same at every step up to the lock, since nothing but the last decision counts.
#[test]
fn what_happens_before_the_lock_counts() {
    let b = json!(["b", "job", "job 4"]);
    let only_b = json!([b]);
    let active = json!({ "active": 1 });
    let stays = |reason: &str, by: Value| json!([["a", reason, by], b]);
    let cases: [(&str, Outcome); 17] = [
        ("", (&[1, 2], active.clone(), &["a"], only_b.clone())),
        (IRRELEVANT, (&[1, 2], active.clone(), &["a"], only_b.clone())),
        (INSERT, (&[1, 2, 5], active.clone(), &["a"], only_b.clone())),
        (INSERT_RUNNING, (&[1, 2], json!({ "active": 2 }), &[], stays("job", json!("job 5")))),
        (FINISH, (&[1, 2, 3], json!({}), &["a", "c"], only_b.clone())),
        (RESTART, (&[2], json!({ "active": 2 }), &[], only_b.clone())),
        (RETAG_AWAY, (&[2], active.clone(), &[], only_b.clone())),
        (RETAG_RUNNING, (&[1, 2], json!({}), &["a"], only_b.clone())),
        (RETAG_TO, (&[1, 2, 4], active.clone(), &["a", "b"], json!([]))),
        (REFERENCE_BY_JOB, (&[1, 2], active.clone(), &[], stays("job", json!("job 4")))),
        (REFERENCE_BY_SERVICE, (&[1, 2], active.clone(), &[], stays("service", json!("service web")))),
        (REFERENCE_BY_ACTION, (&[1, 2], active.clone(), &[], stays("action", json!("action x")))),
        (SCHEDULE, (&[1, 2], active.clone(), &[], stays("schedule", Value::Null))),
        (UNTAG, (&[1, 2], active.clone(), &[], stays("untagged", Value::Null))),
        (MOVED_REFERENCE, (&[1, 2], active.clone(), &["b"], json!([["a", "job", "job 4"]]))),
        (LOST_REFERENCE, (&[1, 2], active.clone(), &["a", "b"], json!([]))),
        (LOST_REFERRER, (&[1, 2], active.clone(), &["a", "b"], json!([]))),
    ];
    for (sql, outcome) in cases {
        for (step, journal) in
            [("plan", "wal"), ("stop", "wal"), ("lock", "wal"), ("stop", "delete"), ("lock", "delete")]
        {
            let sample = sample(journal);
            let (report, stopped) = interrupted(&sample, step, executes(&sample, sql), &json!({}));
            let case = format!("at {step} in {journal}: {sql}");
            assert_outcome(&sample, &report.unwrap(), &outcome, &case);
            assert_eq!(stopped, [0_i64; 0], "{case}");
        }
    }
}

/// What comes of it if it happens before the plan, between plan and stop, and between stop and lock; the jobs that are
/// stopped in the first case, and in the others.
type ForcedCase = (&'static str, [Outcome; 3], [&'static [i64]; 2]);

/// With `force`: what has not finished goes only if it was stopped in this call and has not been started again since.
#[test]
fn what_happens_around_the_stops_counts() {
    let b = json!(["b", "job", "job 4"]);
    let only_b = json!([b]);
    let stays = |reason: &str, by: Value| json!([["a", reason, by], b]);
    let all: Outcome = (&[1, 2, 3], json!({}), &["a", "c"], only_b.clone());
    let later = json!({ "over_limit": 1 });
    let all_same = |outcome: Outcome| [outcome.clone(), outcome.clone(), outcome];
    let cases: [ForcedCase; 15] = [
        ("", all_same(all.clone()), [&[3], &[3]]),
        (IRRELEVANT, all_same(all.clone()), [&[3], &[3]]),
        (INSERT, all_same((&[1, 2, 3, 5], json!({}), &["a", "c"], only_b.clone())), [&[3], &[3]]),
        (
            INSERT_RUNNING,
            {
                // Nobody has tried to stop it: it is left for the next call.
                let left: Outcome = (&[1, 2, 3], later.clone(), &["c"], stays("job", json!("job 5")));
                [(&[1, 2, 3, 5], json!({}), &["a", "c"], only_b.clone()), left.clone(), left]
            },
            [&[3, 5], &[3]],
        ),
        (FINISH, all_same(all.clone()), [&[], &[3]]),
        (
            RESTART,
            {
                let left: Outcome = (&[2, 3], later.clone(), &["c"], only_b.clone());
                [all.clone(), left.clone(), left]
            },
            [&[1, 3], &[3]],
        ),
        (
            RESTART_STOPPED,
            {
                let left: Outcome = (&[1, 2], json!({ "unstoppable": 1 }), &["a"], only_b.clone());
                [all.clone(), left.clone(), left]
            },
            [&[3], &[3]],
        ),
        (RETAG_AWAY, all_same((&[2, 3], json!({}), &["c"], only_b.clone())), [&[3], &[3]]),
        (RETAG_RUNNING, all_same((&[1, 2], json!({}), &["a"], only_b.clone())), [&[], &[3]]),
        (RETAG_TO, all_same((&[1, 2, 3, 4], json!({}), &["a", "b", "c"], json!([]))), [&[3], &[3]]),
        (
            REFERENCE_BY_SERVICE,
            all_same((&[1, 2, 3], json!({}), &["c"], stays("service", json!("service web")))),
            [&[3], &[3]],
        ),
        (
            REFERENCE_BY_ACTION,
            all_same((&[1, 2, 3], json!({}), &["c"], stays("action", json!("action x")))),
            [&[3], &[3]],
        ),
        (SCHEDULE, all_same((&[1, 2, 3], json!({}), &["c"], stays("schedule", Value::Null))), [&[3], &[3]]),
        (LOST_REFERENCE, all_same((&[1, 2, 3], json!({}), &["a", "b", "c"], json!([]))), [&[3], &[3]]),
        // What the job referred to has leaked.
        (LOST_JOB, all_same((&[1, 2], json!({}), &["a", "c"], only_b.clone())), [&[], &[3]]),
    ];
    for (sql, outcomes, stops) in cases {
        for (index, step) in ["plan", "stop", "lock"].into_iter().enumerate() {
            for journal in ["wal", "delete"] {
                let sample = sample(journal);
                let (report, stopped) = interrupted(&sample, step, executes(&sample, sql), &json!({ "force": true }));
                let case = format!("at {step} in {journal}: {sql}");
                let report = report.unwrap();
                assert_outcome(&sample, &report, &outcomes[index], &case);
                assert_eq!(stopped, stops[index.min(1)], "{case}");
                let unstoppable = report.jobs_kept.unstoppable == 1;
                let errors: &[&str] = if unstoppable { &["job 3: started again after it was stopped"] } else { &[] };
                assert_eq!(report.errors, errors, "{case}");
                assert_eq!(report.more, report.jobs_kept.over_limit > 0, "{case}");
            }
        }
    }
}

/// With an expected plan, whatever changes it means that nothing goes; what does not, does not.
#[test]
fn a_plan_holds_at_every_step() {
    for (sql, changes) in [
        ("", false),
        (IRRELEVANT, false),
        // A job like those that stay: of no plan's concern.
        (r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('x', '{}', 'running', '["ops"]')"#, false),
        (REFERENCE_BY_SERVICE, true),
        (REFERENCE_BY_JOB, true),
        (REFERENCE_BY_ACTION, true),
        (SCHEDULE, true),
        (UNTAG, true),
        (INSERT, true),
        (FINISH, true),
        (RESTART, true),
        (RETAG_AWAY, true),
        (RETAG_TO, true),
        (MOVED_REFERENCE, true),
        (LOST_REFERENCE, true),
        (LOST_REFERRER, true),
    ] {
        for (step, journal) in [("plan", "wal"), ("stop", "wal"), ("lock", "wal"), ("lock", "delete")] {
            let case = format!("at {step} in {journal}: {sql}");
            let (real, twin) = (sample(journal), sample(journal));
            let shown = interrupted(&real, "plan", || (), &json!({ "dry_run": true })).0.unwrap();
            let (outcome, _) = interrupted(&real, step, executes(&real, sql), &json!({ "expect_plan": shown.plan }));
            if changes {
                let error = outcome.expect_err(&case);
                assert_eq!((error.code, error.kind()), (-32020, Some(Kind::PlanChanged)), "{case}");
                twin.execute(sql);
                assert_eq!(real.dump(), twin.dump(), "only what the other did has happened: {case}");
                let again = interrupted(&real, "plan", || (), &json!({ "dry_run": true })).0.unwrap();
                assert_eq!(error.data["reason"], "set", "{case}");
                let planned = (&error.data["jobs_planned"], &error.data["actions_planned"]);
                assert_eq!(planned, (&json!(again.jobs_planned), &json!(again.actions_planned)), "{case}");
                let plan = error.data["plan"].as_str().expect(&case);
                assert_eq!(digest(plan), digest(&again.plan), "the new plan is that of now: {case}");
            } else {
                let report = outcome.expect(&case);
                assert_eq!((report.job_ids, report.plan), (vec![1, 2], shown.plan), "{case}");
            }
        }
    }
}

/// The same with `force`: then the jobs are stopped, their rows are all there, and the error says so.
#[test]
fn a_plan_that_changes_after_the_stops_says_what_was_stopped() {
    for sql in [INSERT, RESTART, RESTART_STOPPED, RETAG_RUNNING, REFERENCE_BY_SERVICE, SCHEDULE, LOST_REFERENCE] {
        for step in ["stop", "lock"] {
            let case = format!("at {step}: {sql}");
            let (real, twin) = (sample("wal"), sample("wal"));
            let shown = interrupted(&real, "plan", || (), &json!({ "dry_run": true, "force": true })).0.unwrap();
            let params = json!({ "expect_plan": shown.plan, "force": true });
            let (outcome, stopped) = interrupted(&real, step, executes(&real, sql), &params);
            let error = outcome.expect_err(&case);
            assert_eq!((error.kind(), &error.data["jobs_stopped"]), (Some(Kind::PlanChanged), &json!([3])), "{case}");
            assert!(error.message.ends_with("; 1 jobs had been stopped, their rows are all there"), "{case}: {error}");
            assert_eq!(stopped, [3], "{case}");
            twin.execute(sql);
            assert_eq!(real.dump(), twin.dump(), "{case}");
        }
    }
    // One that finishes by itself, or as it is stopped, is of the plan: it was to go.
    for step in ["stop", "lock"] {
        let real = sample("wal");
        let shown = interrupted(&real, "plan", || (), &json!({ "dry_run": true, "force": true })).0.unwrap();
        let params = json!({ "expect_plan": shown.plan, "force": true });
        let report = interrupted(&real, step, executes(&real, FINISH), &params).0.expect(step);
        assert_eq!((report.job_ids, report.plan), (vec![1, 2, 3], shown.plan), "{step}");
    }
}

/// Under the lock, at every step and on both ways: who writes is told that the store is busy, and is none the worse for
/// having come in between.
#[test]
fn under_the_lock_nothing_happens() {
    let writes = [INSERT, FINISH, RESTART, RETAG_AWAY, REFERENCE_BY_SERVICE, LOST_REFERENCE];
    for sql in writes {
        // What another has done since the plan, so that it is decided again: in WAL, beside the deletion.
        for (journal, since, steps) in [
            ("wal", "", &["delete", "commit"][..]),
            ("wal", IRRELEVANT, &["decide again", "delete", "commit"]),
            ("delete", "", &["delete", "commit"]),
            ("delete", IRRELEVANT, &["decide again", "delete", "commit"]),
        ] {
            for &step in steps {
                let case = format!("at {step} in {journal}, since: {since:?}: {sql}");
                let (real, twin) = (sample(journal), sample(journal));
                let (first, other) = (executes(&real, since), real.open());
                other.busy_timeout(Duration::ZERO).unwrap();
                let chained = move || {
                    first();
                    when(step, move || {
                        let error = other.execute_batch(sql).unwrap_err();
                        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
                    });
                };
                let report = interrupted(&real, "lock", chained, &json!({})).0.expect(&case);
                assert_eq!((&report.job_ids, &report.action_ids), (&vec![1, 2], &vec!["a".to_owned()]), "{case}");

                twin.execute(since);
                interrupted(&twin, "plan", || (), &json!({})).0.unwrap();
                assert_eq!(real.dump(), twin.dump(), "{case}");
                real.execute(sql);
                twin.execute(sql);
                assert_eq!(real.dump(), twin.dump(), "{case}");
            }
        }
    }
}

/// A store in which, between plan and lock, another connection has executed `sql`: in WAL it is decided beside the
/// deletion. Returns what came of it, having seen that this way was taken and that nothing was changed by it.
fn fails_beside(prepare: &str, sql: &'static str, at: &'static str, act: impl FnOnce(&Host) + 'static) -> RpcError {
    let (real, twin) = (sample("wal"), sample("wal"));
    for sample in [&real, &twin] {
        sample.execute(prepare);
    }
    let host = host();
    let first = executes(&real, sql);
    let inner = host.clone();
    when("lock", move || {
        first();
        when(at, move || act(&inner));
    });
    let error = call_as(&real, &host, all()).expect_err(prepare);
    assert!(steps::has_happened(), "the step {at} has begun");
    let begun = steps::begun();
    assert!(begun.starts_with(&["decide again", "delete"]) && !begun.contains(&"commit"), "{begun:?}");
    twin.execute(sql);
    assert_eq!(real.dump(), twin.dump(), "{prepare} {sql} {at}");
    assert_eq!(real.one::<String>("PRAGMA integrity_check"), "ok");
    error
}

#[test]
fn who_cancels_while_it_is_decided_beside_the_deletion_undoes_it() {
    for sql in [IRRELEVANT, INSERT, RESTART] {
        for at in ["decide again", "delete"] {
            let error = fails_beside("", sql, at, |host| host.cancel.cancel());
            assert_eq!(error.message, "cancelled before the commit: nothing was deleted", "{sql} {at}");
            assert_eq!(error.kind(), Some(Kind::Cancelled));
        }
    }
}

#[test]
fn a_trigger_that_interferes_beside_the_decision_undoes_all() {
    let trigger =
        |table: &str, when: &str, body: &str| format!("CREATE TRIGGER t {when} DELETE ON {table} BEGIN {body}; END");
    for (prepare, logged) in [
        (trigger("jobs", "BEFORE", "SELECT RAISE(IGNORE) WHERE old.id = 2"), "1 of 2 jobs would have been deleted"),
        (trigger("jobs", "AFTER", "DELETE FROM jobs WHERE id = 2"), "1 of 2 jobs would have been deleted"),
        (trigger("jobs", "AFTER", "DELETE FROM actions WHERE name = 'a'"), "0 of 1 actions would have been deleted"),
        (trigger("actions", "BEFORE", "SELECT RAISE(IGNORE)"), "0 of 1 actions would have been deleted"),
        (trigger("jobs", "BEFORE", "SELECT RAISE(ABORT, 'secret')"), "SQLite failed: secret"),
        (trigger("actions", "BEFORE", "SELECT RAISE(ABORT, 'secret')"), "SQLite failed: secret"),
    ] {
        let error = fails_beside(&prepare, IRRELEVANT, "delete", |_| ());
        assert_eq!(error.kind(), Some(Kind::Internal), "{prepare}");
        let incident = error.data["incident"].as_str().unwrap();
        assert!(!error.to_string().contains("secret"), "{error}");
        let logged_lines = steps::logged();
        let line = logged_lines.iter().find(|line| line.contains(incident)).expect("the log has it");
        assert!(line.starts_with("ERROR") && line.contains(logged), "{prepare}: {line}");
    }
    // The second deletion, of what the new decision names beyond the plan, is watched as well.
    let prepare = trigger("jobs", "BEFORE", "SELECT RAISE(IGNORE) WHERE old.id = 5");
    let error = fails_beside(&prepare, INSERT, "delete", |_| ());
    assert_eq!(error.kind(), Some(Kind::Internal));
    assert!(steps::logged().iter().any(|line| line.contains("2 of 3 jobs would have been deleted")));
}

/// What a trigger prevents in a deletion that is undone anyway prevents nothing.
#[test]
fn what_is_undone_and_done_again_does_not_fail_for_the_first_time() {
    let sample = sample("wal");
    sample.execute("CREATE TRIGGER t BEFORE DELETE ON jobs WHEN old.id = 1 BEGIN SELECT RAISE(ABORT, 'x'); END");
    let (report, _) = interrupted(&sample, "lock", executes(&sample, RETAG_AWAY), &json!({}));
    assert_eq!(report.unwrap().job_ids, [2]);
    assert!(sample.jobs().contains(&1));
}
