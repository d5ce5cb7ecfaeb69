//! Every condition of the decision as a row, with its why: one store, one report.

use std::collections::BTreeMap;

use chrono::DateTime;
use hero_proc_cleanup::Report;
use serde_json::{Value, json};

use crate::support::call::{all_with, call, call_at, dry_run, host};
use crate::support::sample::Sample;

/// When the cleanup runs, its cut-off, which is a day before, and a day before the cut-off.
const NOW: i64 = 1_790_000_000_000;
const CUTOFF: i64 = NOW - 86_400_000;
const OLD: i64 = CUTOFF - 86_400_000;

const ROOT: &str = r#"["codescaler"]"#;

/// What becomes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Goes,
    Undated,
    Recent,
    Active,
    Referenced,
    Unmatched,
}

use Fate::{Active, Goes, Recent, Referenced, Undated, Unmatched};

/// A job, and what becomes of it. Its id is its place in the list, from 1 on.
struct JobRow {
    tags: Option<&'static str>,
    spec: &'static str,
    phase: &'static str,
    created_at: Option<i64>,
    /// For each of these tables, a row refers to the job.
    referred_to_by: &'static [&'static str],
    fate: Fate,
    why: &'static str,
}

/// A job that goes. Each row says how it differs from this one.
const JOB: JobRow = JobRow {
    tags: Some(ROOT),
    spec: "{}",
    phase: "done",
    created_at: Some(OLD),
    referred_to_by: &[],
    fate: Goes,
    why: "",
};

const BY_SPEC: &str = r#"{"tags":["codescaler"]}"#;

const JOBS: [JobRow; 25] = [
    JobRow { phase: "succeeded", why: "tagged, old, finished", ..JOB },
    JobRow { tags: Some(r#"["codescaler","x"]"#), phase: "TimedOut_", fate: Active, why: "no terminal phase", ..JOB },
    JobRow { tags: None, spec: BY_SPEC, phase: "FAILED", why: "tags NULL: the spec's; phase without case", ..JOB },
    JobRow { tags: Some("null"), spec: BY_SPEC, phase: "ok", why: "tags a JSON null: the spec's", ..JOB },
    JobRow { tags: Some("[]"), spec: BY_SPEC, fate: Unmatched, why: "tags of its own: the spec's don't count", ..JOB },
    JobRow { tags: Some(r#"["codescaler_ana"]"#), fate: Unmatched, why: "no root tag", ..JOB },
    JobRow { tags: Some(r#"["codescalers"]"#), fate: Unmatched, why: "another tag", ..JOB },
    JobRow { tags: Some(r#"{"codescaler":[]}"#), fate: Unmatched, why: "no array", ..JOB },
    JobRow { tags: Some(r#"["codescaler",7]"#), fate: Unmatched, why: "not only strings", ..JOB },
    JobRow { created_at: Some(CUTOFF), why: "created at the cut-off", ..JOB },
    JobRow { created_at: Some(CUTOFF + 1), fate: Recent, why: "created after it", ..JOB },
    JobRow { created_at: Some(CUTOFF + 1), phase: "running", fate: Recent, why: "recent comes before active", ..JOB },
    JobRow { created_at: None, fate: Undated, why: "no creation time", ..JOB },
    JobRow {
        created_at: Some(0),
        phase: "running",
        fate: Undated,
        why: "no time in ms; undated comes before active",
        ..JOB
    },
    JobRow { created_at: Some(99_999_999_999), fate: Undated, why: "before 1973", ..JOB },
    JobRow { created_at: Some(100_000_000_000), why: "the first usable time", ..JOB },
    JobRow { phase: "running", referred_to_by: &["job_notes"], fate: Active, why: "it runs", ..JOB },
    JobRow { phase: "whatever", fate: Active, why: "an unknown phase is not finished", ..JOB },
    JobRow { phase: "", fate: Active, why: "no phase is not finished", ..JOB },
    JobRow { referred_to_by: &["job_locks"], fate: Referenced, why: "a foreign key holds it", ..JOB },
    JobRow {
        referred_to_by: &["job_locks"],
        phase: "running",
        fate: Active,
        why: "active comes before referenced",
        ..JOB
    },
    JobRow { referred_to_by: &["job_notes", "job_notes"], why: "what refers to it goes with it", ..JOB },
    JobRow { tags: Some(r#"["ops"]"#), fate: Unmatched, why: "not codescaler's", ..JOB },
    JobRow { why: "for the actions below", ..JOB },
    JobRow { created_at: Some(i64::MAX), fate: Recent, why: "created after everything", ..JOB },
];

/// An action that a job of its own that goes refers to, and what becomes of it.
struct ActionRow {
    name: &'static str,
    context: &'static str,
    spec: &'static str,
    /// The reason for which it stays, and after a colon its referrer. Empty if it goes.
    kept: &'static str,
    why: &'static str,
}

/// An action that goes. Each row says how it differs from this one.
const ACTION: ActionRow = ActionRow { name: "", context: "core", spec: TAGGED, kept: "", why: "" };

const TAGGED: &str = r#"{"tags":["codescaler"]}"#;

const ACTIONS: [ActionRow; 23] = [
    ActionRow { name: "free", why: "nothing refers to it", ..ACTION },
    ActionRow {
        name: "null_schedule",
        spec: r#"{"tags":["codescaler"],"schedule_policy":null}"#,
        why: "a schedule that is null is none",
        ..ACTION
    },
    ActionRow { name: "in_lab", context: "lab", why: "what refers to its name refers to the one in core", ..ACTION },
    ActionRow { name: "in_lab", kept: "job: job 101", why: "a remaining job of its context", ..ACTION },
    ActionRow {
        name: "by_action",
        kept: "job: job 102",
        why: "by its `action` though `action_id` is another",
        ..ACTION
    },
    ActionRow { name: "by_action_id", kept: "job: job 103", why: "by its `action_id`", ..ACTION },
    ActionRow { name: "by_service_job", kept: "job: job 104", why: "as `{service}.{action}`", ..ACTION },
    ActionRow { name: "archived", kept: "job: job 105", why: "an archived job is a job", ..ACTION },
    ActionRow { name: "served", kept: "service: service web", why: "a service lists it", ..ACTION },
    ActionRow { name: "served_object", kept: "service: service web", why: "a service lists it as an object", ..ACTION },
    ActionRow { name: "served_in_lab", why: "the service that lists it is in another context", ..ACTION },
    ActionRow {
        name: "served_unreadably",
        kept: "service: service torn",
        why: "the list is torn, but names it",
        ..ACTION
    },
    ActionRow { name: "needed", kept: "action: action needs", why: "a remaining action depends on it", ..ACTION },
    ActionRow { name: "needed_object", kept: "action: action needs", why: "as an object", ..ACTION },
    ActionRow {
        name: "scheduled",
        spec: r#"{"tags":["codescaler"],"schedule_policy":{"cron":"@daily"},"depends_on":["chain"]}"#,
        kept: "schedule",
        why: "it has a schedule",
        ..ACTION
    },
    ActionRow {
        name: "chain",
        spec: r#"{"tags":["codescaler"],"depends_on":["chain_end"]}"#,
        kept: "action: action scheduled",
        why: "what stays keeps what it depends on",
        ..ACTION
    },
    ActionRow { name: "chain_end", kept: "action: action chain", why: "and so on", ..ACTION },
    ActionRow {
        name: "ring_1",
        spec: r#"{"tags":["codescaler"],"depends_on":["ring_2"]}"#,
        why: "two that depend on each other",
        ..ACTION
    },
    ActionRow { name: "ring_2", spec: r#"{"tags":["codescaler"],"depends_on":["ring_1"]}"#, why: "both go", ..ACTION },
    ActionRow { name: "untagged", spec: r#"{"tags":["ops"]}"#, kept: "untagged", why: "not codescaler's", ..ACTION },
    ActionRow {
        name: "torn",
        spec: r#"{"tags":["codescaler"]"#,
        kept: "untagged",
        why: "its spec can't be read",
        ..ACTION
    },
    ActionRow {
        name: "selfish",
        spec: r#"{"tags":["codescaler"],"depends_on":["selfish"]}"#,
        why: "on itself does not count",
        ..ACTION
    },
    ActionRow {
        name: "selfish_scheduled",
        spec: r#"{"tags":["codescaler"],"schedule_policy":{},"depends_on":["selfish_scheduled"]}"#,
        kept: "schedule",
        why: "nor does it where another reason keeps it",
        ..ACTION
    },
];

fn sample() -> Sample {
    let sample = Sample::empty();
    sample.execute(
        "CREATE TABLE job_locks (job INTEGER REFERENCES jobs (id) ON DELETE RESTRICT);
         CREATE TABLE job_notes (job INTEGER REFERENCES jobs (id) ON DELETE CASCADE);",
    );
    let connection = sample.open();
    for (id, row) in (1_i64..).zip(&JOBS) {
        connection
            .execute(
                "INSERT INTO jobs (id, action, tags, spec_json, phase, created_at_ms) VALUES (?1, 'x', ?2, ?3, ?4, ?5)",
                (id, row.tags, row.spec, row.phase, row.created_at),
            )
            .unwrap();
        for table in row.referred_to_by {
            connection.execute(&format!("INSERT INTO {table} VALUES (?1)"), [id]).unwrap();
        }
    }
    for ActionRow { name, context, spec, .. } in &ACTIONS {
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
    sample.execute(&format!(
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
             ('never_referred_to', '{TAGGED}');"#
    ));
    sample
}

fn call_now(sample: &Sample, dry_run: bool) -> Report {
    let now = DateTime::from_timestamp_millis(NOW).unwrap();
    call_at(sample, &host(), all_with(json!({ "older_than_ms": 86_400_000, "dry_run": dry_run })), now).unwrap()
}

#[test]
fn every_condition_holds() {
    let sample = sample();
    for dry_run in [true, false] {
        let report = call_now(&sample, dry_run);
        for (id, row) in (1_i64..).zip(&JOBS) {
            assert_eq!(report.job_ids.contains(&id), row.fate == Goes, "job {id}: {}", row.why);
        }
        let count = |fate: Fate| JOBS.iter().filter(|row| row.fate == fate).count() as u64;
        let kept = report.jobs_kept;
        assert_eq!(
            (kept.undated, kept.recent, kept.active, kept.referenced, kept.unstoppable + kept.over_limit),
            (count(Undated), count(Recent), count(Active), count(Referenced), 0)
        );
        let matched = JOBS.iter().filter(|row| row.fate != Unmatched).count() + ACTIONS.len();
        assert_eq!(report.jobs_matched, matched as u64);
        assert_eq!(report.errors, ["job 20: held by a foreign key of table job_locks"]);
        assert_eq!(Value::from_iter(report.dependents.clone()), json!({ "job_notes": 2 }));

        let kept = report.actions_kept.iter().map(|action| {
            let (reason, by) = (json!(action.reason), json!(action.by));
            let words: Vec<&str> = [&reason, &by].into_iter().filter_map(Value::as_str).collect();
            (action.action_id.as_str(), words.join(": "))
        });
        let kept: BTreeMap<&str, String> = kept.collect();
        for ActionRow { name, context, kept: stays, why, .. } in &ACTIONS {
            let id = if *context == "core" { (*name).to_owned() } else { format!("{context}/{name}") };
            assert_eq!(report.action_ids.contains(&id), stays.is_empty(), "{id}: {why}");
            assert_eq!(kept.get(id.as_str()).map_or("", String::as_str), *stays, "{id}: {why}");
        }
        assert_eq!(kept.len(), ACTIONS.iter().filter(|row| !row.kept.is_empty()).count());
    }
    let left = "SELECT count(*) FROM actions WHERE name = 'never_referred_to'";
    assert_eq!(sample.one::<i64>(left), 1, "what nothing referred to before the call is not touched");
    assert_eq!(sample.one::<i64>("SELECT count(*) FROM job_notes"), 1, "notes of a job that stays stay");
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
        let report = call(&sample, params).unwrap();
        assert_eq!((report.job_ids.as_slice(), report.jobs_matched), (planned, planned.len() as u64), "{asked}");
    }
}

/// Several reasons: the first in the order job, service, action, schedule, untagged is the one that is told.
#[test]
fn the_first_reason_is_told() {
    let sample = Sample::empty();
    sample.execute(
        r#"INSERT INTO jobs (id, action, spec_json, phase, tags) VALUES (1, 'a', '{}', 'done', '["codescaler"]');
               INSERT INTO actions (name, spec_json) VALUES
                 ('a', '{"schedule_policy":{}}'), ('c', '{"depends_on":["a"]}'), ('b', '{"depends_on":["a"]}');
               INSERT INTO services (name, spec_json) VALUES ('z', '{"actions":["a"]}'), ('s', '{"actions":["a"]}');
               INSERT INTO jobs (id, action, spec_json, phase) VALUES (8, 'a', '{}', 'done'), (9, 'a', '{}', 'done');"#,
    );
    for (undo, reason, by) in [
        ("DELETE FROM jobs WHERE id > 1", "job", json!("job 8")),
        ("DELETE FROM services", "service", json!("service s")),
        ("DELETE FROM actions WHERE name <> 'a'", "action", json!("action c")),
        (r#"UPDATE actions SET spec_json = '{}'"#, "schedule", Value::Null),
        ("", "untagged", Value::Null),
    ] {
        let report = call(&sample, dry_run()).unwrap();
        let kept = serde_json::to_value(&report.actions_kept).unwrap();
        assert_eq!(kept, json!([{ "action_id": "a", "reason": reason, "by": by }]));
        sample.execute(undo);
    }
}
