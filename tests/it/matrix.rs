//! Every condition of the decision as a row, with its why: one store, one report.

use std::collections::BTreeMap;

use hero_proc_cleanup::{Guard, Host, Report, cleanup_by_tag};
use serde_json::{Value, json};

use crate::support::sample::Sample;

/// A day before 2026-09-21, when the cleanup runs; and a day before that.
const CUTOFF: i64 = 1_790_000_000_000 - 86_400_000;
const OLD: i64 = CUTOFF - 86_400_000;

const ROOT: &str = r#"["codescaler"]"#;

/// What becomes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Goes,
    Undated,
    Recent,
    Active,
    Referenced,
    Unmatched,
}

/// (action, tags, spec, phase, created_at, what becomes of it, why)
type JobRow = (&'static str, Option<&'static str>, &'static str, &'static str, Option<i64>, Job, &'static str);

const JOBS: [JobRow; 25] = [
    ("goes", Some(ROOT), "{}", "succeeded", Some(OLD), Job::Goes, "tagged, old, finished"),
    ("goes", Some(r#"["codescaler","x"]"#), "{}", "TimedOut_", Some(OLD), Job::Active, "no terminal phase"),
    (
        "by_spec",
        None,
        r#"{"tags":["codescaler"]}"#,
        "FAILED",
        Some(OLD),
        Job::Goes,
        "tags NULL: the spec's; phase without case",
    ),
    ("by_spec", Some("null"), r#"{"tags":["codescaler"]}"#, "ok", Some(OLD), Job::Goes, "tags a JSON null: the spec's"),
    (
        "x",
        Some("[]"),
        r#"{"tags":["codescaler"]}"#,
        "ok",
        Some(OLD),
        Job::Unmatched,
        "tags of its own: the spec's don't count",
    ),
    ("x", Some(r#"["codescaler_ana"]"#), "{}", "ok", Some(OLD), Job::Unmatched, "no root tag"),
    ("x", Some(r#"["codescalers"]"#), "{}", "ok", Some(OLD), Job::Unmatched, "another tag"),
    ("x", Some(r#"{"codescaler":[]}"#), "{}", "ok", Some(OLD), Job::Unmatched, "no array"),
    ("x", Some(r#"["codescaler",7]"#), "{}", "ok", Some(OLD), Job::Unmatched, "not only strings"),
    ("edge", Some(ROOT), "{}", "done", Some(CUTOFF), Job::Goes, "created at the cut-off"),
    ("edge", Some(ROOT), "{}", "done", Some(CUTOFF + 1), Job::Recent, "created after it"),
    ("edge", Some(ROOT), "{}", "running", Some(CUTOFF + 1), Job::Recent, "recent comes before active"),
    ("undated", Some(ROOT), "{}", "done", None, Job::Undated, "no creation time"),
    ("undated", Some(ROOT), "{}", "running", Some(0), Job::Undated, "no time in ms; undated comes before active"),
    ("undated", Some(ROOT), "{}", "done", Some(99_999_999_999), Job::Undated, "before 1973"),
    ("first", Some(ROOT), "{}", "done", Some(100_000_000_000), Job::Goes, "the first usable time"),
    ("active", Some(ROOT), "{}", "running", Some(OLD), Job::Active, "it runs"),
    ("active", Some(ROOT), "{}", "whatever", Some(OLD), Job::Active, "an unknown phase is not finished"),
    ("active", Some(ROOT), "{}", "", Some(OLD), Job::Active, "no phase is not finished"),
    ("held", Some(ROOT), "{}", "done", Some(OLD), Job::Referenced, "a foreign key holds it"),
    ("held", Some(ROOT), "{}", "running", Some(OLD), Job::Active, "active comes before referenced"),
    ("cascaded", Some(ROOT), "{}", "done", Some(OLD), Job::Goes, "what refers to it goes with it"),
    ("other", Some(r#"["ops"]"#), "{}", "done", Some(OLD), Job::Unmatched, "not codescaler's"),
    ("chain_1", Some(ROOT), "{}", "done", Some(OLD), Job::Goes, "for the actions below"),
    ("edge", Some(ROOT), "{}", "done", Some(i64::MAX), Job::Recent, "created after everything"),
];

/// (name, context, spec, what keeps it and by whom, why)
type ActionRow = (&'static str, &'static str, &'static str, Option<(&'static str, Option<&'static str>)>, &'static str);

const TAGGED: &str = r#"{"tags":["codescaler"]}"#;

/// Each is referred to by a job of its own that goes.
const ACTIONS: [ActionRow; 23] = [
    ("free", "core", TAGGED, None, "nothing refers to it"),
    (
        "null_schedule",
        "core",
        r#"{"tags":["codescaler"],"schedule_policy":null}"#,
        None,
        "a schedule that is null is none",
    ),
    ("in_lab", "lab", TAGGED, None, "what refers to its name refers to the one in core"),
    ("in_lab", "core", TAGGED, Some(("job", Some("job 101"))), "a remaining job of its context"),
    ("by_action", "core", TAGGED, Some(("job", Some("job 102"))), "by its `action` though `action_id` is another"),
    ("by_action_id", "core", TAGGED, Some(("job", Some("job 103"))), "by its `action_id`"),
    ("by_service_job", "core", TAGGED, Some(("job", Some("job 104"))), "as `{service}.{action}`"),
    ("archived", "core", TAGGED, Some(("job", Some("job 105"))), "an archived job is a job"),
    ("served", "core", TAGGED, Some(("service", Some("service web"))), "a service lists it"),
    ("served_object", "core", TAGGED, Some(("service", Some("service web"))), "a service lists it as an object"),
    ("served_in_lab", "core", TAGGED, None, "the service that lists it is in another context"),
    ("served_unreadably", "core", TAGGED, Some(("service", Some("service torn"))), "the list is torn, but names it"),
    ("needed", "core", TAGGED, Some(("action", Some("action needs"))), "a remaining action depends on it"),
    ("needed_object", "core", TAGGED, Some(("action", Some("action needs"))), "as an object"),
    (
        "scheduled",
        "core",
        r#"{"tags":["codescaler"],"schedule_policy":{"cron":"@daily"},"depends_on":["chain"]}"#,
        Some(("schedule", None)),
        "it has a schedule",
    ),
    (
        "chain",
        "core",
        r#"{"tags":["codescaler"],"depends_on":["chain_end"]}"#,
        Some(("action", Some("action scheduled"))),
        "what stays keeps what it depends on",
    ),
    ("chain_end", "core", TAGGED, Some(("action", Some("action chain"))), "and so on"),
    ("ring_1", "core", r#"{"tags":["codescaler"],"depends_on":["ring_2"]}"#, None, "two that depend on each other"),
    ("ring_2", "core", r#"{"tags":["codescaler"],"depends_on":["ring_1"]}"#, None, "both go"),
    ("untagged", "core", r#"{"tags":["ops"]}"#, Some(("untagged", None)), "not codescaler's"),
    ("torn", "core", r#"{"tags":["codescaler"]"#, Some(("untagged", None)), "its spec can't be read"),
    ("selfish", "core", r#"{"tags":["codescaler"],"depends_on":["selfish"]}"#, None, "on itself does not count"),
    (
        "selfish_scheduled",
        "core",
        r#"{"tags":["codescaler"],"schedule_policy":{},"depends_on":["selfish_scheduled"]}"#,
        Some(("schedule", None)),
        "nor does it where another reason keeps it",
    ),
];

fn sample() -> Sample {
    let sample = Sample::empty();
    let connection = sample.open();
    for (id, (action, tags, spec, phase, created_at, ..)) in (1_i64..).zip(JOBS) {
        connection
            .execute(
                "INSERT INTO jobs (id, action, tags, spec_json, phase, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (id, action, tags, spec, phase, created_at),
            )
            .unwrap();
    }
    for (name, context, spec, ..) in ACTIONS {
        connection
            .execute("INSERT INTO actions (name, context_name, spec_json) VALUES (?1, ?2, ?3)", (name, context, spec))
            .unwrap();
        connection
            .execute(
                r#"INSERT INTO jobs (action, context_name, tags, spec_json, phase, created_at_ms)
                   VALUES (?1, ?2, '["codescaler"]', '{}', 'done', 1700000000000)"#,
                (name, context),
            )
            .unwrap();
    }
    connection
        .execute_batch(&format!(
            r#"INSERT INTO jobs (id, action, action_id, spec_json, phase, created_at_ms, archived) VALUES
                 (101, 'in_lab', NULL, '{{}}', 'done', {OLD}, 0),
                 (102, 'by_action', 'other', '{{}}', 'done', {OLD}, 0),
                 (103, 'other', 'by_action_id', '{{}}', 'running', NULL, 0),
                 (104, 'web.by_service_job', NULL, '{{}}', 'done', {OLD}, 0),
                 (105, 'archived', NULL, '{{}}', 'done', {OLD}, 1);
               INSERT INTO services (name, context_name, spec_json) VALUES
                 ('web', 'core', '{{"actions":["served",{{"name":"served_object"}}]}}'),
                 ('web', 'lab', '{{"actions":["served_in_lab"]}}'),
                 ('torn', 'core', '{{"actions":["served_unreadably"');
               INSERT INTO actions (name, spec_json) VALUES
                 ('needs', '{{"tags":["codescaler"],"depends_on":["needed",{{"action":"needed_object"}}]}}'),
                 ('never_referred_to', '{TAGGED}');
               CREATE TABLE job_locks (job INTEGER REFERENCES jobs (id) ON DELETE RESTRICT);
               CREATE TABLE job_notes (job INTEGER REFERENCES jobs (id) ON DELETE CASCADE);
               INSERT INTO job_locks VALUES (20), (21);
               INSERT INTO job_notes VALUES (22), (22), (17);"#
        ))
        .unwrap();
    sample
}

fn call(sample: &Sample, dry_run: bool) -> Report {
    let params = json!({ "tags": ["codescaler"], "older_than_ms": 86_400_000, "dry_run": dry_run });
    let now = chrono::DateTime::from_timestamp_millis(1_790_000_000_000).unwrap();
    cleanup_by_tag(sample.path.as_path(), &Host::new(Guard::codescaler()), &params, now).unwrap()
}

#[test]
fn every_condition_holds() {
    let sample = sample();
    for dry_run in [true, false] {
        let report = call(&sample, dry_run);
        for (id, row) in (1_i64..).zip(JOBS) {
            assert_eq!(report.job_ids.contains(&id), row.5 == Job::Goes, "job {id}: {}", row.6);
        }
        let count = |verdict: Job| JOBS.iter().filter(|row| row.5 == verdict).count() as u64;
        let kept = report.jobs_kept;
        assert_eq!(
            (kept.undated, kept.recent, kept.active, kept.referenced, kept.unstoppable + kept.over_limit),
            (count(Job::Undated), count(Job::Recent), count(Job::Active), count(Job::Referenced), 0)
        );
        let matched = JOBS.iter().filter(|row| row.5 != Job::Unmatched).count() + ACTIONS.len();
        assert_eq!(report.jobs_matched, matched as u64);
        assert_eq!(report.errors, ["job 20: held by a foreign key of table job_locks"]);
        assert_eq!(Value::from_iter(report.dependents.clone()), json!({ "job_notes": 2 }));

        let kept: BTreeMap<&str, Value> = report
            .actions_kept
            .iter()
            .map(|action| (action.action_id.as_str(), json!([action.reason, action.by])))
            .collect();
        for (name, context, _, stays, why) in ACTIONS {
            let id = if context == "core" { name.to_owned() } else { format!("{context}/{name}") };
            assert_eq!(report.action_ids.contains(&id), stays.is_none(), "{id}: {why}");
            assert_eq!(kept.get(id.as_str()), stays.map(|(reason, by)| json!([reason, by])).as_ref(), "{id}: {why}");
        }
        assert_eq!(kept.len(), ACTIONS.iter().filter(|row| row.3.is_some()).count());
    }
    let connection = sample.open();
    let left: i64 = connection
        .query_row("SELECT count(*) FROM actions WHERE name = 'never_referred_to'", (), |row| row.get(0))
        .unwrap();
    assert_eq!(left, 1, "what nothing referred to before the call is not touched");
    let notes: i64 = connection.query_row("SELECT count(*) FROM job_notes", (), |row| row.get(0)).unwrap();
    assert_eq!(notes, 1, "notes of a job that stays stay");
}

/// A job must carry every tag asked for, and the root tag though it was not asked for.
#[test]
fn every_tag_must_be_there() {
    let sample = Sample::empty();
    let connection = sample.open();
    for (id, tags) in (1_i64..).zip([
        r#"["codescaler","codescaler_ana","codescaler_kind_build"]"#,
        r#"["x","codescaler_kind_build","codescaler_ana","codescaler"]"#,
        r#"["codescaler_ana","codescaler_kind_build"]"#,
        r#"["codescaler","codescaler_kind_build"]"#,
        r#"["codescaler","codescaler_ana"]"#,
        ROOT,
    ]) {
        // In the column, and in the spec alone.
        connection
            .execute(
                "INSERT INTO jobs (id, action, phase, tags, spec_json) VALUES
                   (?1, 'a', 'done', ?2, '{}'), (?1 + 100, 'a', 'done', NULL, '{\"tags\":' || ?2 || '}')",
                (id, tags),
            )
            .unwrap();
    }
    for (asked, planned) in [
        (json!(["codescaler_ana", "codescaler_kind_build"]), [1, 2, 101, 102].as_slice()),
        (json!(["codescaler", "codescaler_ana"]), &[1, 2, 5, 101, 102, 105]),
        (json!(["codescaler_kind_build"]), &[1, 2, 4, 101, 102, 104]),
        (json!(["codescaler"]), &[1, 2, 4, 5, 6, 101, 102, 104, 105, 106]),
        (json!(["codescaler_bob"]), &[]),
    ] {
        let params = json!({ "tags": asked, "dry_run": true });
        let host = Host::new(Guard::codescaler());
        let report = cleanup_by_tag(sample.path.as_path(), &host, &params, chrono::Utc::now()).unwrap();
        assert_eq!((report.job_ids.as_slice(), report.jobs_matched), (planned, planned.len() as u64), "{asked}");
    }
}

/// Several reasons: the first in the order job, service, action, schedule, untagged is the one that is told.
#[test]
fn the_first_reason_is_told() {
    let sample = Sample::empty();
    let connection = sample.open();
    connection
        .execute_batch(
            r#"INSERT INTO jobs (id, action, spec_json, phase, tags) VALUES (1, 'a', '{}', 'done', '["codescaler"]');
               INSERT INTO actions (name, spec_json) VALUES
                 ('a', '{"schedule_policy":{}}'), ('c', '{"depends_on":["a"]}'), ('b', '{"depends_on":["a"]}');
               INSERT INTO services (name, spec_json) VALUES ('z', '{"actions":["a"]}'), ('s', '{"actions":["a"]}');
               INSERT INTO jobs (id, action, spec_json, phase) VALUES (8, 'a', '{}', 'done'), (9, 'a', '{}', 'done');"#,
        )
        .unwrap();
    for (undo, reason, by) in [
        ("DELETE FROM jobs WHERE id > 1", "job", json!("job 8")),
        ("DELETE FROM services", "service", json!("service s")),
        ("DELETE FROM actions WHERE name <> 'a'", "action", json!("action c")),
        (r#"UPDATE actions SET spec_json = '{}'"#, "schedule", Value::Null),
        ("", "untagged", Value::Null),
    ] {
        let params = json!({ "tags": ["codescaler"], "dry_run": true });
        let host = Host::new(Guard::codescaler());
        let report = cleanup_by_tag(sample.path.as_path(), &host, &params, chrono::Utc::now()).unwrap();
        let kept = serde_json::to_value(&report.actions_kept).unwrap();
        assert_eq!(kept, json!([{ "action_id": "a", "reason": reason, "by": by }]));
        connection.execute_batch(undo).unwrap();
    }
}
