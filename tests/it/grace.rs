//! The grace of actions, the host's settings, and the layouts that lack a column which a rule goes by.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hero_proc_cleanup::{Host, Kind, Report};
use serde_json::{Value, json};

use crate::support::call::{all, all_with, bound, call_at, digest, dry_run, host};
use crate::support::sample::{SCHEMA, Sample};
use crate::support::steps::{executes, interrupted};

const NOW: i64 = 1_790_000_000_000;
const OLD: i64 = 1_700_000_000_000;

fn at(moment: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(moment).unwrap()
}

fn gracious(grace: Duration) -> Host {
    let mut host = host();
    host.grace = grace;
    host
}

/// An action `of_a_job`, which goes, and `leaked`, to which no job refers, both set at `set_at`.
fn set(set_at: i64) -> Sample {
    let sample = Sample::empty();
    sample.execute(&format!(
        r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('of_a_job', '{{}}', 'done', '["codescaler"]');
           INSERT INTO actions (name, spec_json, created_at_ms, updated_at_ms) VALUES
             ('of_a_job', '{{"tags":["codescaler"]}}', {OLD}, {set_at}),
             ('leaked', '{{"tags":["codescaler"]}}', {OLD}, {set_at});"#
    ));
    sample
}

/// Each kept action with its reason.
fn kept(report: &Report) -> Value {
    report.actions_kept.iter().map(|kept| json!([kept.action_id, kept.reason])).collect()
}

/// An action that was set less than the grace ago stays, whoever refers to it, and whatever age is asked for.
#[test]
fn the_grace_is_the_hosts() {
    assert_eq!(host().grace, Duration::from_secs(60));
    for (grace, set_at, stays) in [
        (Duration::from_secs(60), NOW - 60_000, false),
        (Duration::from_secs(60), NOW - 59_999, true),
        (Duration::from_secs(60), NOW, true),
        (Duration::from_secs(60), NOW + 1, true),
        (Duration::from_secs(60), i64::MAX, true),
        (Duration::from_secs(3600), NOW - 3_600_000, false),
        (Duration::from_secs(3600), NOW - 3_599_999, true),
        (Duration::ZERO, NOW, false),
        (Duration::ZERO, NOW + 1, true),
        (Duration::MAX, OLD, true),
        // What is no time has no grace.
        (Duration::MAX, OLD - OLD, true),
    ] {
        for older_than_ms in [None, Some(0), Some(1000)] {
            let sample = set(set_at);
            // No younger than the cut-off: the grace alone keeps it.
            if older_than_ms.is_some_and(|age| set_at > NOW - age) {
                continue;
            }
            let params = all_with(json!({ "older_than_ms": older_than_ms }));
            sample.execute(&format!("UPDATE jobs SET created_at_ms = {OLD}"));
            let report = call_at(&sample, &gracious(grace), params, at(NOW)).unwrap();
            let case = format!("{grace:?} {set_at} {older_than_ms:?}");
            assert_eq!(report.jobs_deleted, 1, "{case}");
            if stays {
                assert_eq!(kept(&report), json!([["leaked", "recent"], ["of_a_job", "recent"]]), "{case}");
            } else {
                assert_eq!((report.action_ids.as_slice(), report.actions_leaked), (&both()[..], 1), "{case}");
            }
        }
    }
}

fn both() -> [String; 2] {
    ["leaked", "of_a_job"].map(ToOwned::to_owned)
}

/// A deletion bound to a plan counts the grace from the dry run. An action that was recent then stays an hour later.
#[test]
fn the_grace_of_a_plan_is_counted_from_its_moment() {
    for (set_at, stays) in [(NOW - 30_000, true), (NOW - 60_000, false)] {
        let sample = set(set_at);
        let shown = call_at(&sample, &host(), dry_run(), at(NOW)).unwrap();
        assert_eq!(shown.actions_planned, if stays { 0 } else { 2 });
        let later = at(NOW + 3_600_000);
        let other = call_at(&sample, &host(), dry_run(), later).unwrap();
        assert_eq!(other.actions_planned, 2);
        assert_eq!(digest(&other.plan) == digest(&shown.plan), !stays);
        let done = call_at(&sample, &host(), bound(&shown.plan), later).unwrap();
        assert_eq!((done.actions_deleted, &done.plan), (shown.actions_planned, &shown.plan));
    }
}

/// A plan with another moment is another plan: nobody gets rid of the grace by writing a later one.
#[test]
fn a_moment_can_not_be_forged() {
    let sample = set(NOW - 30_000);
    let before = sample.dump();
    let shown = call_at(&sample, &host(), dry_run(), at(NOW)).unwrap().plan;
    let forged = |moment: i64| format!("none.{moment}.{}", digest(&shown));
    assert_eq!(forged(NOW), shown);
    for moment in [NOW + 1, NOW + 3_600_000, i64::MAX] {
        let error = call_at(&sample, &host(), bound(&forged(moment)), at(NOW)).unwrap_err();
        assert_eq!((error.kind(), &error.data["reason"]), (Some(Kind::PlanChanged), &json!("set")), "{moment}");
        assert_eq!(error.data["plan"], shown, "the plan of now");
    }
    // What the action was set after is a moment of another set.
    let error = call_at(&sample, &host(), bound(&forged(NOW + 40_000)), at(NOW + 50_000)).unwrap_err();
    assert_eq!((error.kind(), &error.data["actions_planned"]), (Some(Kind::PlanChanged), &json!(2)));
    assert_eq!(sample.dump(), before);
}

/// What is set again while it is decided, or between plan and lock, is recent; an old leaked action to which a reference
/// comes there stays.
#[test]
fn what_happens_to_a_leaked_action_before_the_lock_counts() {
    let job = |action: &str, phase: &str, tags: &str| {
        format!(r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('{action}', '{{}}', '{phase}', '{tags}')"#)
    };
    let now = Utc::now().timestamp_millis();
    let of_a_job = json!(["of_a_job"]);
    for (sql, actions, kept_now) in [
        (String::new(), json!(["leaked", "of_a_job"]), json!([])),
        // A job, whoever's it is and however it spells the action; none of them makes it a candidate any more.
        (job("leaked", "pending", r#"["codescaler"]"#), of_a_job.clone(), json!([])),
        (job("web.LEAKED ", "running", "[]"), of_a_job.clone(), json!([])),
        (job("leaked", "done", r#"["ops"]"#), of_a_job.clone(), json!([])),
        (
            r#"INSERT INTO jobs (action, spec_json, phase) VALUES ('x', '{"depends_on":["leaked"]}', 'running')"#
                .to_owned(),
            of_a_job.clone(),
            json!([]),
        ),
        // One that goes as well takes it along.
        (job("leaked", "done", r#"["codescaler"]"#), json!(["leaked", "of_a_job"]), json!([])),
        // What it says of itself.
        (
            format!("UPDATE actions SET updated_at_ms = {now} WHERE name = 'leaked'"),
            of_a_job.clone(),
            json!([["leaked", "recent"]]),
        ),
        (
            r#"UPDATE actions SET spec_json = '{"tags":["ops"]}' WHERE name = 'leaked'"#.to_owned(),
            of_a_job.clone(),
            json!([]),
        ),
        (
            r#"UPDATE actions SET spec_json = '{"tags":["codescaler"],"schedule_policy":{}}' WHERE name = 'leaked'"#
                .to_owned(),
            of_a_job.clone(),
            json!([["leaked", "schedule"]]),
        ),
        (
            r#"INSERT INTO services (name, spec_json) VALUES ('web', '{"actions":["leaked"]}')"#.to_owned(),
            of_a_job.clone(),
            json!([["leaked", "service"]]),
        ),
        (
            r#"INSERT INTO actions (name, spec_json) VALUES ('x', '{"depends_on":["leaked"]}')"#.to_owned(),
            of_a_job,
            json!([["leaked", "action"]]),
        ),
        // One that leaks there goes.
        (
            format!(
                r#"INSERT INTO actions (name, spec_json, created_at_ms) VALUES ('more', '{{"tags":["codescaler"]}}', {OLD})"#
            ),
            json!(["leaked", "more", "of_a_job"]),
            json!([]),
        ),
        ("DELETE FROM jobs".to_owned(), json!(["leaked", "of_a_job"]), json!([])),
    ] {
        let sql: &'static str = String::leak(sql);
        for (step, journal) in [("plan", "wal"), ("lock", "wal"), ("lock", "delete")] {
            let case = format!("at {step} in {journal}: {sql}");
            let sample = set(OLD);
            sample.journal(journal);
            let shown = call_at(&sample, &host(), dry_run(), Utc::now()).unwrap();
            assert_eq!(shown.action_ids, both());
            let (bound_one, twin) = (sample.again(), sample.again());
            let report = interrupted(&sample, step, executes(&sample, sql), &host(), all()).unwrap();
            assert_eq!((json!(report.action_ids), kept(&report)), (actions.clone(), kept_now.clone()), "{case}");

            // Bound to the plan of before, nothing goes.
            let act = executes(&bound_one, sql);
            let outcome = interrupted(&bound_one, step, act, &host(), bound(&shown.plan));
            if sql.is_empty() {
                assert_eq!(outcome.unwrap().action_ids, both());
            } else {
                assert_eq!(outcome.expect_err(&case).kind(), Some(Kind::PlanChanged), "{case}");
                twin.execute(sql);
                assert_eq!(bound_one.dump(), twin.dump(), "{case}");
            }
        }
    }
}

/// An idle store, and one in which there are leaked actions alone: the former takes no lock, the latter does.
#[test]
fn leaked_actions_alone_are_reason_enough() {
    let sample = Sample::empty();
    sample.execute(&format!(
        r#"INSERT INTO actions (name, spec_json, created_at_ms) VALUES
             ('a', '{{"tags":["codescaler"]}}', {OLD}), ('b', '{{"tags":["codescaler"],"depends_on":["a"]}}', {OLD}),
             ('c', '{{"tags":["codescaler"]}}', {OLD});"#
    ));
    let report = call_at(&sample, &host(), all_with(json!({ "limit": 2 })), at(NOW)).unwrap();
    // The one on which another depends comes after it.
    assert_eq!((report.action_ids.join(" "), report.actions_leaked, report.more), ("a b".to_owned(), 2, true));
    let report = call_at(&sample, &host(), all_with(json!({ "limit": 2 })), at(NOW)).unwrap();
    assert_eq!((report.action_ids.join(" "), report.actions_leaked, report.more), ("c".to_owned(), 1, false));
    let other = sample.open();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let report = call_at(&sample, &host(), all(), at(NOW)).unwrap();
    assert_eq!((report.actions_deleted, report.more), (0, false), "nothing to delete needs no lock");
}

/// A host may say that its runs do not belong together.
#[test]
fn runs_are_the_hosts() {
    let sample = Sample::empty();
    sample.execute(
        r#"INSERT INTO jobs (action, spec_json, phase, tags, run_id) VALUES
             ('x', '{}', 'done', '["codescaler"]', 7), ('x', '{}', 'running', '["codescaler"]', 7),
             ('x', '{}', 'done', '["codescaler"]', 8), ('x', '{}', 'pending', NULL, 8);"#,
    );
    let report = call_at(&sample, &host(), dry_run(), at(NOW)).unwrap();
    assert_eq!((report.jobs_planned, report.jobs_kept.run_active, report.jobs_kept.active), (0, 2, 1));
    let mut host = host();
    host.runs = false;
    let report = call_at(&sample, &host, all(), at(NOW)).unwrap();
    assert_eq!((report.job_ids, report.jobs_kept.run_active, report.jobs_kept.active), (vec![1, 3], 0, 1));
}

/// Where a layout has no column to go by, its rule does not apply; a leaked action without a time stays.
#[test]
fn a_layout_without_a_column_has_no_rule_by_it() {
    let without = |column: &str| {
        let lines: Vec<&str> = SCHEMA.lines().filter(|line| !line.trim_start().starts_with(column)).collect();
        let schema = lines.join("\n").replace("CREATE INDEX idx_jobs_run      ON jobs(run_id);", "");
        assert_ne!(schema, SCHEMA);
        Sample::with_schema(&schema)
    };
    let replaced = |from: &str, to: &str| {
        assert!(SCHEMA.contains(from), "{from}");
        SCHEMA.replace(from, to)
    };
    let rows = |times: &str, values: &str| {
        format!(
            r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('of_a_job', '{{}}', 'done', '["codescaler"]');
               INSERT INTO actions (name, spec_json {times}) VALUES
                 ('of_a_job', '{{"tags":["codescaler"]}}' {values}), ('leaked', '{{"tags":["codescaler"]}}' {values});"#
        )
    };
    // Actions: without a time, with one of two, and which of them counts.
    for (sample, times, values, deleted, kept_now) in [
        (
            Sample::with_schema(&replaced("    created_at_ms  INTEGER,\n    updated_at_ms  INTEGER,\n", "")),
            "",
            String::new(),
            json!(["of_a_job"]),
            json!([["leaked", "undated"]]),
        ),
        (without("updated_at_ms"), ", created_at_ms", format!(", {OLD}"), json!(["leaked", "of_a_job"]), json!([])),
        (
            without("updated_at_ms"),
            ", created_at_ms",
            format!(", {NOW}"),
            json!([]),
            json!([["leaked", "recent"], ["of_a_job", "recent"]]),
        ),
        (
            Sample::with_schema(&replaced("    created_at_ms  INTEGER,\n    updated_at_ms", "    updated_at_ms")),
            ", updated_at_ms",
            format!(", {OLD}"),
            json!(["leaked", "of_a_job"]),
            json!([]),
        ),
        (
            Sample::with_schema(&replaced("created_at_ms  INTEGER,\n    updated_at_ms", "x INTEGER,\n    updated_at")),
            ", updated_at",
            format!(", {NOW}"),
            json!([]),
            json!([["leaked", "recent"], ["of_a_job", "recent"]]),
        ),
    ] {
        sample.execute(&rows(times, &values));
        let report = call_at(&sample, &host(), all(), at(NOW)).unwrap();
        assert_eq!((json!(report.action_ids), kept(&report)), (deleted, kept_now), "{times} {values}");
    }
    // Jobs.
    let job = r#"INSERT INTO jobs (action, spec_json, phase, tags, created_at_ms"#;
    let sample = without("finished_at_ms");
    sample.execute(&format!(r#"{job}) VALUES ('x', '{{}}', 'done', '["codescaler"]', {OLD})"#));
    let params = all_with(json!({ "older_than_ms": 1000 }));
    assert_eq!(call_at(&sample, &host(), &params, at(NOW)).unwrap().jobs_deleted, 1);
    let sample = Sample::empty();
    sample.execute(&format!(r#"{job}, finished_at_ms) VALUES ('x', '{{}}', 'done', '["codescaler"]', {OLD}, {NOW})"#));
    assert_eq!(call_at(&sample, &host(), &params, at(NOW)).unwrap().jobs_kept.recent, 1);
    let sample = without("run_id");
    sample.execute(&format!(
        r#"{job}) VALUES ('x', '{{}}', 'done', '["codescaler"]', {OLD}), ('x', '{{}}', 'running', '["codescaler"]', {OLD})"#
    ));
    assert_eq!(call_at(&sample, &host(), &params, at(NOW)).unwrap().job_ids, [1]);
}
