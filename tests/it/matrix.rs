//! Every condition of the decision as a row, with its why: one store and one report for each list of rows.

use std::collections::BTreeMap;

use chrono::DateTime;
use hero_proc_cleanup::{Host, Report};
use serde_json::{Value, json};

use crate::support::call::{Control, all_with, call, call_at, dry_run, host};
use crate::support::sample::Sample;

/// When the cleanup runs, its cut-off, which is a day before, and a day before the cut-off.
const NOW: i64 = 1_790_000_000_000;
const CUTOFF: i64 = NOW - 86_400_000;
const OLD: i64 = CUTOFF - 86_400_000;

const ROOT: &str = r#"["codescaler"]"#;
const RELEASE: &str = r#"["codescaler","codescaler_kind_release"]"#;

/// What becomes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Goes,
    Excepted,
    OtherPhase,
    Undated,
    Recent,
    Active,
    Unstoppable,
    RunActive,
    KeptLast,
    /// By a row of this table.
    Referenced(&'static str),
    Unmatched,
}

use Fate::{
    Active, Excepted, Goes, KeptLast, OtherPhase, Recent, Referenced, RunActive, Undated, Unmatched, Unstoppable,
};

/// A job, and what becomes of it. Its id is its place in the list, from 1 on.
struct JobRow {
    tags: Option<&'static str>,
    spec: &'static str,
    phase: &'static str,
    created_at: Option<i64>,
    ended_at: Option<i64>,
    run: Option<i64>,
    /// The host refuses to stop the process 1.
    pid: Option<i64>,
    /// The job that it holds by the foreign key of `jobs` on itself: how many rows below this one.
    holds: Option<i64>,
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
    ended_at: None,
    run: None,
    pid: None,
    holds: None,
    referred_to_by: &[],
    fate: Goes,
    why: "",
};

const BY_SPEC: &str = r#"{"tags":["codescaler"]}"#;

/// Jobs under a cut-off and an excepted tag.
const JOBS: &[JobRow] = &[
    JobRow { phase: "succeeded", why: "tagged, old, finished", ..JOB },
    JobRow { tags: Some(r#"["codescaler","x"]"#), phase: "TimedOut_", fate: Active, why: "no terminal phase", ..JOB },
    JobRow { tags: None, spec: BY_SPEC, phase: "FAILED", why: "tags NULL: the spec's; phase without case", ..JOB },
    JobRow { tags: Some("null"), spec: BY_SPEC, phase: "ok", why: "tags a JSON null: the spec's", ..JOB },
    JobRow { tags: Some("[]"), spec: BY_SPEC, fate: Unmatched, why: "tags of its own: the spec's don't count", ..JOB },
    JobRow { tags: Some(r#"["codescaler_ana"]"#), fate: Unmatched, why: "no root tag", ..JOB },
    JobRow { tags: Some(r#"["codescalers"]"#), fate: Unmatched, why: "another tag", ..JOB },
    JobRow { tags: Some(r#"{"codescaler":[]}"#), fate: Unmatched, why: "no array", ..JOB },
    JobRow { tags: Some(r#"["codescaler",7]"#), fate: Unmatched, why: "not only strings", ..JOB },
    JobRow { tags: Some(r#"["ops"]"#), fate: Unmatched, why: "not codescaler's", ..JOB },
    // By an excepted tag.
    JobRow { tags: Some(RELEASE), fate: Excepted, why: "it carries an excepted tag", ..JOB },
    JobRow {
        tags: None,
        spec: r#"{"tags":["codescaler","codescaler_kind_release"]}"#,
        fate: Excepted,
        why: "so does its spec, where its tags stand there",
        ..JOB
    },
    JobRow { spec: r#"{"tags":["codescaler_kind_release"]}"#, why: "its spec's tags are not its own", ..JOB },
    JobRow {
        tags: Some(r#"["codescaler","codescaler_kind_released"]"#),
        why: "an excepted tag is compared whole",
        ..JOB
    },
    JobRow { tags: Some(RELEASE), created_at: None, fate: Excepted, why: "excepted comes before undated", ..JOB },
    JobRow { tags: Some(RELEASE), created_at: Some(NOW), fate: Excepted, why: "and before recent", ..JOB },
    JobRow { tags: Some(RELEASE), phase: "running", fate: Excepted, why: "and before active", ..JOB },
    JobRow { tags: Some(RELEASE), run: Some(3), fate: Excepted, why: "and before run_active", ..JOB },
    JobRow { tags: Some(RELEASE), referred_to_by: &["job_locks"], fate: Excepted, why: "and before referenced", ..JOB },
    // By when it was created.
    JobRow { created_at: Some(CUTOFF), why: "created at the cut-off", ..JOB },
    JobRow { created_at: Some(CUTOFF + 1), fate: Recent, why: "created after it", ..JOB },
    JobRow { created_at: Some(CUTOFF + 1), phase: "running", fate: Recent, why: "recent comes before active", ..JOB },
    JobRow { created_at: Some(CUTOFF + 1), run: Some(3), fate: Recent, why: "and before run_active", ..JOB },
    JobRow {
        created_at: Some(CUTOFF + 1),
        referred_to_by: &["job_locks"],
        fate: Recent,
        why: "and before referenced",
        ..JOB
    },
    JobRow { created_at: Some(i64::MAX), fate: Recent, why: "created after everything", ..JOB },
    JobRow { created_at: None, fate: Undated, why: "no creation time", ..JOB },
    JobRow {
        created_at: Some(0),
        phase: "running",
        fate: Undated,
        why: "no time in ms; undated comes before active",
        ..JOB
    },
    JobRow { created_at: None, ended_at: Some(NOW), fate: Undated, why: "and before recent", ..JOB },
    JobRow { created_at: None, ended_at: Some(OLD), fate: Undated, why: "an end is no creation", ..JOB },
    JobRow { created_at: Some(99_999_999_999), fate: Undated, why: "before 1973", ..JOB },
    JobRow { created_at: Some(100_000_000_000), why: "the first usable time", ..JOB },
    // By when it ended.
    JobRow { ended_at: Some(CUTOFF), why: "ended at the cut-off", ..JOB },
    JobRow { ended_at: Some(CUTOFF + 1), fate: Recent, why: "created before it, ended after it", ..JOB },
    JobRow { ended_at: Some(i64::MAX), fate: Recent, why: "ended after everything", ..JOB },
    JobRow { ended_at: Some(CUTOFF + 1), phase: "running", fate: Recent, why: "recent comes before active", ..JOB },
    JobRow { ended_at: Some(OLD - 1), created_at: Some(NOW), fate: Recent, why: "an end before the beginning", ..JOB },
    JobRow { ended_at: Some(99_999_999_999), why: "an end before 1973 is none", ..JOB },
    JobRow { ended_at: Some(i64::MIN), why: "nor is this", ..JOB },
    // By its phase.
    JobRow { phase: "running", referred_to_by: &["job_notes"], fate: Active, why: "it runs", ..JOB },
    JobRow { phase: "whatever", fate: Active, why: "an unknown phase is not finished", ..JOB },
    JobRow { phase: "", fate: Active, why: "no phase is not finished", ..JOB },
    // By its run.
    JobRow { run: Some(1), fate: RunActive, why: "its run goes on, by the next job", ..JOB },
    JobRow { run: Some(1), phase: "running", fate: Active, why: "active comes before run_active", ..JOB },
    JobRow { run: Some(2), fate: RunActive, why: "its run goes on, by a job that nobody asked for", ..JOB },
    JobRow { run: Some(2), phase: "pending", tags: Some("[]"), fate: Unmatched, why: "not codescaler's", ..JOB },
    JobRow { run: Some(3), phase: "running", fate: Active, why: "for the rows above", ..JOB },
    JobRow { run: Some(4), why: "its run has ended", ..JOB },
    JobRow { run: Some(4), phase: "failed", fate: Recent, created_at: Some(NOW), why: "a run-mate has ended", ..JOB },
    JobRow { run: Some(0), why: "0 is no run", ..JOB },
    JobRow { run: Some(0), phase: "running", fate: Active, why: "for the row above", ..JOB },
    JobRow { run: Some(-1), why: "nor is -1", ..JOB },
    JobRow { run: Some(-1), phase: "running", fate: Active, why: "for the row above", ..JOB },
    JobRow {
        run: Some(3),
        referred_to_by: &["job_locks"],
        fate: RunActive,
        why: "run_active before referenced",
        ..JOB
    },
    // By what refers to it.
    JobRow { referred_to_by: &["job_locks"], fate: Referenced("job_locks"), why: "a foreign key holds it", ..JOB },
    JobRow {
        referred_to_by: &["job_locks"],
        phase: "running",
        fate: Active,
        why: "active comes before referenced",
        ..JOB
    },
    JobRow { referred_to_by: &["job_notes", "job_notes"], why: "what refers to it goes with it", ..JOB },
    JobRow { fate: Referenced("jobs"), why: "held by the next job, which stays", ..JOB },
    JobRow { holds: Some(-1), phase: "running", fate: Active, why: "it holds the one above", ..JOB },
    JobRow { why: "held by the next job, which goes", ..JOB },
    JobRow { holds: Some(-1), why: "it holds the one above", ..JOB },
    JobRow { holds: Some(0), why: "it holds itself", ..JOB },
    JobRow { holds: Some(1), why: "it holds the one below, which holds it", ..JOB },
    JobRow { holds: Some(-1), why: "it holds the one above, which holds it", ..JOB },
    JobRow { holds: Some(1), fate: Referenced("jobs"), why: "a circle of two, of which the other is held", ..JOB },
    JobRow {
        holds: Some(-1),
        referred_to_by: &["job_locks"],
        fate: Referenced("job_locks"),
        why: "by a table; the circle stays whole",
        ..JOB
    },
];

const KIND_A: &str = r#"["codescaler","codescaler_kind_a"]"#;
const KIND_B: &str = r#"["codescaler_kind_b","codescaler","codescaler_ana"]"#;
const KIND_C: &str = r#"["codescaler","codescaler_kind_c"]"#;
const KIND_D: &str = r#"["codescaler","codescaler_kind_d"]"#;
const KIND_E: &str = r#"["codescaler","codescaler_kind_e"]"#;
const KIND_F: &str = r#"["codescaler","codescaler_kind_f"]"#;
const KIND_G: &str = r#"["codescaler","codescaler_kind_g"]"#;
const KINDS_A_B: &str = r#"["codescaler_kind_b","codescaler","codescaler_kind_a"]"#;
const KINDS_B_A: &str = r#"["codescaler","codescaler_kind_a","codescaler_kind_b","codescaler_kind_a","x"]"#;

/// Jobs of which some phases are asked for, and of which the last of each kind stays.
const PHASES_AND_GROUPS: &[JobRow] = &[
    JobRow { tags: Some(KIND_A), why: "not the last success of its kind", ..JOB },
    JobRow { tags: Some(KIND_A), fate: KeptLast, why: "the last success, though failures came since", ..JOB },
    JobRow { tags: Some(KIND_A), phase: "Failed", why: "not the last failure of its kind; phase without case", ..JOB },
    JobRow { tags: Some(KIND_A), phase: "failed", fate: KeptLast, why: "the last failure", ..JOB },
    JobRow { tags: Some(KIND_B), why: "not the last: other tags make no other group", ..JOB },
    JobRow { tags: Some(r#"["codescaler","codescaler_kind_b"]"#), fate: KeptLast, why: "the last of its kind", ..JOB },
    JobRow { tags: Some(KINDS_A_B), why: "a job of two kinds is in a group of its own", ..JOB },
    JobRow { tags: Some(KINDS_B_A), fate: KeptLast, why: "the last of both, in any order, each once", ..JOB },
    JobRow { why: "not the last without a kind, which is the group of the last row", ..JOB },
    JobRow { tags: Some(r#"["codescaler","kind_a"]"#), why: "a tag that begins otherwise is no kind", ..JOB },
    // What has finished is a member, whatever keeps it.
    JobRow { tags: Some(KIND_C), why: "the last is one of another phase", ..JOB },
    JobRow { tags: Some(KIND_C), phase: "ok", fate: OtherPhase, why: "its phase was not asked for", ..JOB },
    JobRow { tags: Some(KIND_D), why: "the last is a recent one", ..JOB },
    JobRow { tags: Some(KIND_D), created_at: Some(NOW), fate: Recent, why: "recent comes before kept_last", ..JOB },
    JobRow { tags: Some(KIND_D), phase: "failed", why: "the last failure is one without a date", ..JOB },
    JobRow {
        tags: Some(KIND_D),
        phase: "failed",
        created_at: None,
        fate: Undated,
        why: "undated comes before kept_last",
        ..JOB
    },
    JobRow { tags: Some(RELEASE), fate: Excepted, why: "excepted comes before kept_last", ..JOB },
    // What has not is none, and neither is what was not asked for.
    JobRow { tags: Some(KIND_E), fate: KeptLast, why: "the last that has finished", ..JOB },
    JobRow { tags: Some(KIND_E), phase: "running", fate: OtherPhase, why: "other_phase comes before active", ..JOB },
    JobRow { tags: Some(r#"["codescaler_kind_e"]"#), fate: Unmatched, why: "without the root tag", ..JOB },
    // The order of the reasons.
    JobRow { tags: Some(KIND_F), run: Some(1), fate: RunActive, why: "run_active comes before kept_last", ..JOB },
    JobRow { tags: Some("[]"), run: Some(1), phase: "running", fate: Unmatched, why: "for the row above", ..JOB },
    JobRow { tags: Some(KIND_G), fate: Referenced("jobs"), why: "held by the next job, which stays", ..JOB },
    JobRow { tags: Some(KIND_G), holds: Some(-1), fate: KeptLast, why: "the last of its kind", ..JOB },
    JobRow {
        tags: Some(KIND_G),
        phase: "failed",
        referred_to_by: &["job_locks"],
        fate: KeptLast,
        why: "kept_last comes before referenced",
        ..JOB
    },
    JobRow { phase: "OK", created_at: None, fate: OtherPhase, why: "other_phase comes before undated", ..JOB },
    JobRow { phase: "ok", created_at: Some(NOW), fate: OtherPhase, why: "and before recent", ..JOB },
    JobRow { phase: "ok", run: Some(1), fate: OtherPhase, why: "and before run_active", ..JOB },
    JobRow { phase: "ok", referred_to_by: &["job_locks"], fate: OtherPhase, why: "and before referenced", ..JOB },
    JobRow { tags: Some(RELEASE), phase: "ok", fate: Excepted, why: "excepted comes before other_phase", ..JOB },
    JobRow { phase: "done ", fate: OtherPhase, why: "a phase is compared whole", ..JOB },
    JobRow { phase: "", fate: OtherPhase, why: "no phase was not asked for", ..JOB },
    JobRow { phase: "timeout", fate: OtherPhase, why: "nor this one", ..JOB },
    JobRow { phase: "error", fate: OtherPhase, why: "nor this one", ..JOB },
    JobRow { phase: "DONE", fate: KeptLast, why: "the last without a kind: no kind is a group as well", ..JOB },
];

/// Jobs that are stopped if they have not finished, and of which the last one stays.
const FORCED: &[JobRow] = &[
    JobRow { phase: "running", pid: Some(7), why: "it can be stopped", ..JOB },
    JobRow { phase: "running", pid: Some(1), fate: Unstoppable, why: "the host refuses to stop it", ..JOB },
    JobRow { phase: "done", pid: Some(1), why: "one that has finished need not be stopped", ..JOB },
    JobRow { phase: "pending", pid: Some(7), fate: OtherPhase, why: "its phase was not asked for", ..JOB },
    JobRow { phase: "pending", pid: Some(1), fate: OtherPhase, why: "other_phase comes before unstoppable", ..JOB },
    JobRow { tags: Some(RELEASE), phase: "running", pid: Some(1), fate: Excepted, why: "so does excepted", ..JOB },
    JobRow { phase: "running", pid: Some(1), created_at: None, fate: Undated, why: "so does undated", ..JOB },
    JobRow { phase: "running", pid: Some(1), created_at: Some(NOW), fate: Recent, why: "so does recent", ..JOB },
    JobRow { phase: "running", pid: Some(1), run: Some(1), fate: Unstoppable, why: "it keeps its run", ..JOB },
    JobRow { run: Some(1), fate: RunActive, why: "one of its run can't be stopped", ..JOB },
    JobRow {
        phase: "running",
        pid: Some(7),
        run: Some(1),
        fate: RunActive,
        why: "the same, though it could be stopped itself",
        ..JOB
    },
    JobRow { run: Some(2), why: "the next of its run is stopped, and goes", ..JOB },
    JobRow { phase: "running", pid: Some(7), run: Some(2), why: "the whole run goes", ..JOB },
    JobRow { run: Some(3), fate: RunActive, why: "the next of its run is held, and stays", ..JOB },
    JobRow {
        phase: "running",
        pid: Some(7),
        run: Some(3),
        referred_to_by: &["job_locks"],
        fate: Referenced("job_locks"),
        why: "a job is none of its own run-mates",
        ..JOB
    },
    JobRow { fate: KeptLast, why: "the last of those that have finished", ..JOB },
    JobRow { phase: "running", pid: Some(7), why: "a job that is stopped is a member of no group", ..JOB },
    JobRow {
        phase: "running",
        pid: Some(1),
        referred_to_by: &["job_locks"],
        fate: Unstoppable,
        why: "unstoppable comes before referenced",
        ..JOB
    },
];

/// A store of these jobs.
fn store_of(jobs: &[JobRow]) -> Sample {
    let sample = Sample::empty();
    let connection = sample.open();
    connection
        .execute_batch(
            "PRAGMA foreign_keys = off;
             ALTER TABLE jobs ADD COLUMN retry_of INTEGER REFERENCES jobs (id);
             CREATE TABLE job_locks (job INTEGER REFERENCES jobs (id) ON DELETE RESTRICT);
             CREATE TABLE job_notes (job INTEGER REFERENCES jobs (id) ON DELETE CASCADE);",
        )
        .unwrap();
    for (id, row) in (1_i64..).zip(jobs) {
        let retry_of = row.holds.map(|below| id + below);
        connection
            .execute(
                "INSERT INTO jobs (id, action, tags, spec_json, phase, created_at_ms, finished_at_ms, run_id, pid, retry_of)
                 VALUES (?1, 'x', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                (id, row.tags, row.spec, row.phase, row.created_at, row.ended_at, row.run, row.pid, retry_of),
            )
            .unwrap();
        for table in row.referred_to_by {
            connection.execute(&format!("INSERT INTO {table} VALUES (?1)"), [id]).unwrap();
        }
    }
    sample
}

fn call_now(sample: &Sample, host: &Host, params: &Value, dry_run: bool) -> Report {
    let now = DateTime::from_timestamp_millis(NOW).unwrap();
    let mut params = all_with(params.clone());
    params["older_than_ms"] = 86_400_000.into();
    params["dry_run"] = dry_run.into();
    call_at(sample, host, params, now).unwrap()
}

/// That every one of `jobs` has its fate, by a dry run and in earnest.
fn assert_fates(sample: &Sample, jobs: &[JobRow], host: &Host, params: &Value) {
    for dry_run in [true, false] {
        let report = call_now(sample, host, params, dry_run);
        for (id, row) in (1_i64..).zip(jobs) {
            assert_eq!(report.job_ids.contains(&id), row.fate == Goes, "job {id}: {}", row.why);
        }
        let count = |fate: fn(Fate) -> bool| jobs.iter().filter(|row| fate(row.fate)).count() as u64;
        let expected = json!({
            "excepted": count(|fate| fate == Excepted),
            "other_phase": count(|fate| fate == OtherPhase),
            "undated": count(|fate| fate == Undated),
            "recent": count(|fate| fate == Recent),
            "active": count(|fate| fate == Active),
            "unstoppable": count(|fate| fate == Unstoppable),
            "run_active": count(|fate| fate == RunActive),
            "kept_last": count(|fate| fate == KeptLast),
            "referenced": count(|fate| matches!(fate, Referenced(_))),
            "over_limit": 0,
        });
        assert_eq!(json!(report.jobs_kept), expected);
        assert_eq!(report.jobs_matched, count(|fate| fate != Unmatched));
        let errors = (1..).zip(jobs).filter_map(|(id, row)| match row.fate {
            Referenced(table) => Some(format!("job {id}: held by a foreign key of table {table}")),
            Unstoppable => Some(format!("job {id}: refused")),
            _ => None,
        });
        assert_eq!(report.errors, errors.collect::<Vec<_>>());
    }
}

#[test]
fn every_condition_of_a_job_holds() {
    let sample = store_of(JOBS);
    let report = call_now(&sample, &host(), &json!({ "except_tags": ["codescaler_kind_release"] }), true);
    assert_eq!(Value::from_iter(report.dependents), json!({ "job_notes": 2 }));
    assert_fates(&sample, JOBS, &host(), &json!({ "except_tags": ["codescaler_kind_release"] }));
    assert_eq!(sample.one::<i64>("SELECT count(*) FROM job_notes"), 1, "notes of a job that stays stay");
}

#[test]
fn every_condition_of_phases_and_groups_holds() {
    let params = json!({
        "except_tags": ["codescaler_kind_release"], "phases": ["Done", "FAILED"],
        "keep_last": 1, "keep_by": ["codescaler_kind_"],
    });
    assert_fates(&store_of(PHASES_AND_GROUPS), PHASES_AND_GROUPS, &host(), &params);
}

#[test]
fn every_condition_of_a_job_that_is_stopped_holds() {
    let params = json!({
        "except_tags": ["codescaler_kind_release"], "phases": ["running", "done"], "force": true,
        "keep_last": 1, "keep_by": [],
    });
    let control = Control::refusing(|job| job.pid == Some(1));
    assert_fates(&store_of(FORCED), FORCED, &control.host(), &params);
    assert_eq!(control.stopped(), [1, 13, 17]);
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

/// What refers to an action that may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// A job of its own, which goes.
    Job,
    /// No job: it has leaked, if it is codescaler's.
    None,
}

/// An action, and what becomes of it.
struct ActionRow {
    name: &'static str,
    context: &'static str,
    spec: &'static str,
    by: By,
    created_at: Option<i64>,
    updated_at: Option<i64>,
    /// The reason for which it stays, and after a colon its referrer. Empty if it goes.
    kept: &'static str,
    why: &'static str,
}

/// An action that goes. Each row says how it differs from this one.
const ACTION: ActionRow = ActionRow {
    name: "",
    context: "core",
    spec: TAGGED,
    by: By::Job,
    created_at: Some(OLD),
    updated_at: None,
    kept: "",
    why: "",
};

/// The same, to which no job refers.
const LEAKED: ActionRow = ActionRow { by: By::None, ..ACTION };

/// What is not looked at: it stays, and no report names it.
const NO_CANDIDATE: &str = "no candidate";

const TAGGED: &str = r#"{"tags":["codescaler"]}"#;
const SCHEDULED: &str = r#"{"tags":["codescaler"],"schedule_policy":{"cron":"@daily"}}"#;

const ACTIONS: &[ActionRow] = &[
    ActionRow { name: "free", why: "nothing refers to it", ..ACTION },
    ActionRow {
        name: "null_schedule",
        spec: r#"{"tags":["codescaler"],"schedule_policy":null}"#,
        why: "a schedule that is null is none",
        ..ACTION
    },
    // A remaining job.
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
    ActionRow { name: "By_Case", kept: "job: job 106", why: "in another case", ..ACTION },
    ActionRow { name: "by_spaces", kept: "job: job 107", why: "with spaces behind it", ..ACTION },
    ActionRow { name: "has_spaces ", kept: "job: job 108", why: "without the spaces behind it", ..ACTION },
    ActionRow { name: "has_dots.in_it", kept: "job: job 109", why: "behind a dot, with a dot in it", ..ACTION },
    ActionRow { name: "by_bytes", kept: "job: job 110", why: "as bytes", ..ACTION },
    ActionRow { name: "id_by_bytes", kept: "job: job 111", why: "its `action_id` as bytes", ..ACTION },
    ActionRow { name: "context_by_case", kept: "job: job 112", why: "a context in another case", ..ACTION },
    ActionRow { name: "awaited", kept: "job: job 113", why: "by the spec of a job that has not finished", ..ACTION },
    ActionRow {
        name: "awaited_by_case",
        kept: "job: job 113",
        why: "the same, as an object in another case",
        ..ACTION
    },
    ActionRow {
        name: "awaited_torn",
        kept: "job: job 114",
        why: "the same, in a spec that has lost its end",
        ..ACTION
    },
    ActionRow { name: "was_awaited", why: "the spec of a job that has finished awaits nothing", ..ACTION },
    ActionRow { name: "part", why: "a job that refers to `apart` and to `web.parts` does not refer to it", ..ACTION },
    ActionRow { name: "ÄRGER", why: "letters beyond ASCII differ by case", ..ACTION },
    // A service.
    ActionRow { name: "served", kept: "service: service web", why: "a service lists it", ..ACTION },
    ActionRow { name: "served_object", kept: "service: service web", why: "a service lists it as an object", ..ACTION },
    ActionRow { name: "Served_By_Case", kept: "service: service web", why: "in another case, behind a dot", ..ACTION },
    ActionRow { name: "served_in_lab", why: "the service that lists it is in another context", ..ACTION },
    ActionRow {
        name: "served_unreadably",
        kept: "service: service torn",
        why: "the list is torn, but names it",
        ..ACTION
    },
    ActionRow { name: "served_by_bytes", kept: "service: service bytes", why: "the list is stored as bytes", ..ACTION },
    // Another action.
    ActionRow { name: "needed", kept: "action: action needs", why: "a remaining action depends on it", ..ACTION },
    ActionRow { name: "needed_object", kept: "action: action needs", why: "as an object", ..ACTION },
    ActionRow { name: "Needed_By_Case ", kept: "action: action needs", why: "in another case", ..ACTION },
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
    // Its own spec.
    ActionRow { name: "untagged", spec: r#"{"tags":["ops"]}"#, kept: "untagged", why: "not codescaler's", ..ACTION },
    ActionRow {
        name: "torn",
        spec: r#"{"tags":["codescaler"]"#,
        kept: "untagged",
        why: "its spec can't be read",
        ..ACTION
    },
    ActionRow {
        name: "excepted",
        spec: r#"{"tags":["codescaler","codescaler_kind_release"]}"#,
        why: "the job that went carried no excepted tag, and that decides",
        ..ACTION
    },
    // When it was set.
    ActionRow { name: "at_the_cut_off", created_at: Some(CUTOFF), why: "set at the cut-off", ..ACTION },
    ActionRow { name: "recent", created_at: Some(CUTOFF + 1), kept: "recent", why: "set after it", ..ACTION },
    ActionRow { name: "set_again", updated_at: Some(CUTOFF + 1), kept: "recent", why: "set again after it", ..ACTION },
    ActionRow {
        name: "set_back",
        created_at: Some(CUTOFF + 1),
        updated_at: Some(OLD),
        kept: "recent",
        why: "the later of both times counts",
        ..ACTION
    },
    ActionRow { name: "future", updated_at: Some(i64::MAX), kept: "recent", why: "set after everything", ..ACTION },
    ActionRow { name: "timeless", created_at: None, why: "without a time it goes with its job", ..ACTION },
    ActionRow { name: "before_1973", created_at: Some(99_999_999_999), why: "no time in ms is none", ..ACTION },
    ActionRow {
        name: "needs_recently",
        spec: r#"{"tags":["codescaler"],"depends_on":["needed_recently"]}"#,
        updated_at: Some(NOW),
        kept: "recent",
        why: "set now",
        ..ACTION
    },
    ActionRow {
        name: "needed_recently",
        kept: "action: action needs_recently",
        why: "what stays for being recent keeps what it depends on",
        ..ACTION
    },
    // What no job refers to.
    ActionRow { name: "leaked", why: "no job refers to it", ..LEAKED },
    ActionRow { name: "leaked_in_lab", context: "lab", why: "whatever its context", ..LEAKED },
    ActionRow { name: "leaked_today", created_at: Some(NOW), kept: "recent", why: "set now", ..LEAKED },
    ActionRow { name: "leaked_again", updated_at: Some(CUTOFF + 1), kept: "recent", why: "set again", ..LEAKED },
    ActionRow { name: "leaked_at_the_cut_off", updated_at: Some(CUTOFF), why: "set at the cut-off", ..LEAKED },
    ActionRow { name: "leaked_timeless", created_at: None, kept: "undated", why: "it says no time", ..LEAKED },
    ActionRow {
        name: "leaked_before_1973",
        created_at: Some(99_999_999_999),
        updated_at: Some(0),
        kept: "undated",
        why: "no time in ms",
        ..LEAKED
    },
    ActionRow {
        name: "leaked_first_time",
        created_at: None,
        updated_at: Some(100_000_000_000),
        why: "one usable time is enough",
        ..LEAKED
    },
    ActionRow { name: "leaked_scheduled", spec: SCHEDULED, kept: "schedule", why: "it has a schedule", ..LEAKED },
    ActionRow { name: "leaked_served", kept: "service: service web", why: "a service lists it", ..LEAKED },
    ActionRow { name: "leaked_needed", kept: "action: action needs", why: "an action depends on it", ..LEAKED },
    ActionRow {
        name: "leaked_ring_1",
        spec: r#"{"tags":["codescaler"],"depends_on":["leaked_ring_2"]}"#,
        why: "two that depend on each other",
        ..LEAKED
    },
    ActionRow {
        name: "leaked_ring_2",
        spec: r#"{"tags":["codescaler"],"depends_on":["leaked_ring_1", "needed_by_leaked"]}"#,
        why: "both go",
        ..LEAKED
    },
    ActionRow { name: "needed_by_leaked", why: "the leaked one that depends on it goes", ..ACTION },
    ActionRow { name: "lab_by_case", context: "LAB", kept: NO_CANDIDATE, why: "a job of lab refers to it", ..LEAKED },
    ActionRow { name: "used", kept: NO_CANDIDATE, why: "a job that remains refers to it", ..LEAKED },
    ActionRow { name: "used_by_spec", kept: NO_CANDIDATE, why: "the spec of an unfinished job does", ..LEAKED },
    ActionRow { name: "not_ours", spec: r#"{"tags":["ops"]}"#, kept: NO_CANDIDATE, why: "not codescaler's", ..LEAKED },
    ActionRow { name: "tagless", spec: "{}", kept: NO_CANDIDATE, why: "no tags", ..LEAKED },
    ActionRow {
        name: "leaked_torn",
        spec: r#"{"tags":["codescaler"]"#,
        kept: NO_CANDIDATE,
        why: "its spec can't be read",
        ..LEAKED
    },
    ActionRow {
        name: "leaked_excepted",
        spec: r#"{"tags":["codescaler","codescaler_kind_release"]}"#,
        kept: NO_CANDIDATE,
        why: "it carries an excepted tag",
        ..LEAKED
    },
];

/// What refers to them, besides the jobs that go.
const REFERRERS: &str = r#"
    INSERT INTO jobs (id, context_name, action, action_id, spec_json, phase, created_at_ms, archived) VALUES
      (101, 'core', 'in_lab', NULL, '{}', 'done', 1, 0),
      (102, 'core', 'by_action', 'other', '{}', 'done', 1, 0),
      (103, 'core', 'other', 'by_action_id', '{}', 'running', NULL, 0),
      (104, 'core', 'web.by_service_job', NULL, '{}', 'done', 1, 0),
      (105, 'core', 'archived', NULL, '{}', 'done', 1, 1),
      (106, 'core', 'BY_CASE', NULL, '{}', 'done', 1, 0),
      (107, 'core', 'by_spaces  ', NULL, '{}', 'done', 1, 0),
      (108, 'core', 'has_spaces', NULL, '{}', 'done', 1, 0),
      (109, 'core', 'web.has_dots.in_it', NULL, '{}', 'done', 1, 0),
      (110, 'core', CAST('by_bytes' AS BLOB), NULL, '{}', 'done', 1, 0),
      (111, 'core', 'other', CAST('Web.id_by_bytes ' AS BLOB), '{}', 'done', 1, 0),
      (112, 'CORE', 'context_by_case', NULL, '{}', 'done', 1, 0),
      (113, 'core', 'other', NULL, '{"depends_on":["awaited",{"name":"AWAITED_BY_CASE"},"used_by_spec"]}', 'running', 1, 0),
      (114, 'core', 'other', NULL, '{"depends_on":["awaited_torn"', 'pending', 1, 0),
      (115, 'core', 'other', NULL, '{"depends_on":["was_awaited"]}', 'done', 1, 0),
      (116, 'core', 'apart', 'web.parts', '{}', 'running', 1, 0),
      (117, 'core', 'ärger', NULL, '{}', 'running', 1, 0),
      (118, 'core', 'x.used', NULL, '{}', 'done', 1, 0),
      (119, 'lab', 'lab_by_case', NULL, '{}', 'done', 1, 0);
    INSERT INTO services (name, context_name, spec_json) VALUES
      ('web', 'core', '{"actions":["served",{"name":"served_object"},"web.SERVED_BY_CASE ","leaked_served"]}'),
      ('web', 'lab', '{"actions":["served_in_lab"]}'),
      ('torn', 'core', '{"actions":["served_unreadably"'),
      ('bytes', 'core', CAST('{"actions":["served_by_bytes"]}' AS BLOB));
    INSERT INTO actions (name, spec_json) VALUES
      ('needs', '{"tags":["ops"],"depends_on":["needed",{"action":"needed_object"},"NEEDED_by_case","leaked_needed"]}');
"#;

#[test]
fn every_condition_of_an_action_holds() {
    let sample = Sample::empty();
    let connection = sample.open();
    for row in ACTIONS {
        let ActionRow { name, context, spec, created_at, updated_at, .. } = row;
        connection
            .execute(
                "INSERT INTO actions (name, context_name, spec_json, created_at_ms, updated_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                (name, context, spec, created_at, updated_at),
            )
            .unwrap();
        if row.by == By::Job {
            connection
                .execute(
                    r#"INSERT INTO jobs (action, context_name, tags, spec_json, phase, created_at_ms)
                       VALUES (?1, ?2, '["codescaler"]', '{}', 'done', 1700000000000)"#,
                    (name, context),
                )
                .unwrap();
        }
    }
    sample.execute(REFERRERS);
    for dry_run in [true, false] {
        let report = call_now(&sample, &host(), &json!({ "except_tags": ["codescaler_kind_release"] }), dry_run);
        let kept = report.actions_kept.iter().map(|action| {
            let (reason, by) = (json!(action.reason), json!(action.by));
            let words: Vec<&str> = [&reason, &by].into_iter().filter_map(Value::as_str).collect();
            (action.action_id.as_str(), words.join(": "))
        });
        let kept: BTreeMap<&str, String> = kept.collect();
        for ActionRow { name, context, kept: stays, why, .. } in ACTIONS {
            let id = if *context == "core" { (*name).to_owned() } else { format!("{context}/{name}") };
            let stays = if *stays == NO_CANDIDATE { None } else { Some(*stays) };
            assert_eq!(report.action_ids.contains(&id), stays == Some(""), "{id}: {why}");
            assert_eq!(kept.get(id.as_str()).map_or("", String::as_str), stays.unwrap_or(""), "{id}: {why}");
        }
        let count = |kept: fn(&ActionRow) -> bool| ACTIONS.iter().filter(|row| kept(row)).count() as u64;
        assert_eq!(kept.len() as u64, count(|row| !row.kept.is_empty() && row.kept != NO_CANDIDATE));
        assert_eq!(report.actions_leaked, count(|row| row.kept.is_empty() && row.by == By::None));
        assert_eq!(report.actions_planned, count(|row| row.kept.is_empty()));
    }
    let left: i64 = sample.one("SELECT count(*) FROM actions");
    assert_eq!(left, 1 + ACTIONS.iter().filter(|row| !row.kept.is_empty()).count() as i64);
}

/// An action that no job refers to goes only if it carries every tag asked for; where it is asked that such actions stay,
/// none is a candidate.
#[test]
fn a_leaked_action_must_carry_every_tag() {
    let sample = Sample::empty();
    for (name, tags) in [
        ("both", r#"["codescaler_kind_build","codescaler","codescaler_ana"]"#),
        ("one", r#"["codescaler","codescaler_ana"]"#),
        ("rootless", r#"["codescaler_ana","codescaler_kind_build"]"#),
        ("root", ROOT),
    ] {
        sample.execute(&format!(
            r#"INSERT INTO actions (name, spec_json, created_at_ms) VALUES ('{name}', '{{"tags":{tags}}}', {OLD})"#
        ));
    }
    for (tags, leaked, planned) in [
        (json!(["codescaler_ana", "codescaler_kind_build"]), true, &["both"][..]),
        (json!(["codescaler_ana"]), true, &["both", "one"]),
        (json!(["codescaler"]), true, &["both", "one", "root"]),
        (json!(["codescaler"]), false, &[]),
    ] {
        let params = json!({ "tags": tags, "dry_run": true, "leaked": leaked });
        let report = call(&sample, &params).unwrap();
        assert_eq!(
            (report.action_ids.as_slice(), report.actions_leaked),
            (to_strings(planned).as_slice(), planned.len() as u64)
        );
        assert_eq!(report.actions_kept_count, 0, "{params}");
    }
    // Beside one that goes with its job, too.
    sample.execute(&format!(
        r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('of_a_job', '{{}}', 'done', '{ROOT}');
           INSERT INTO actions (name, spec_json) VALUES ('of_a_job', '{TAGGED}');"#
    ));
    for (leaked, planned) in [(false, "of_a_job"), (true, "both of_a_job one root")] {
        let report = call(&sample, all_with(json!({ "dry_run": true, "leaked": leaked }))).unwrap();
        assert_eq!((report.action_ids.join(" ").as_str(), report.actions_kept_count), (planned, 0), "{leaked}");
    }
}

fn to_strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Several reasons: the first in the order job, service, action, schedule, untagged, recent, undated is the one that is told.
#[test]
fn the_first_reason_is_told() {
    for (by, last) in [(By::Job, "untagged"), (By::None, "undated")] {
        let sample = Sample::empty();
        sample.execute(
            r#"INSERT INTO actions (name, spec_json) VALUES
                 ('a', '{"tags":["codescaler"],"schedule_policy":{}}'), ('c', '{"depends_on":["a"]}'),
                 ('b', '{"depends_on":["a"]}');
               INSERT INTO services (name, spec_json) VALUES ('z', '{"actions":["a"]}'), ('s', '{"actions":["a"]}');"#,
        );
        let mut steps = vec![
            ("DELETE FROM services", "service", json!("service s")),
            ("DELETE FROM actions WHERE name <> 'a'", "action", json!("action c")),
        ];
        // Of what has leaked, nobody would be told that it is untagged, or that a job refers to it.
        if by == By::Job {
            sample.execute(
                r#"INSERT INTO jobs (id, action, spec_json, phase, tags) VALUES (1, 'a', '{}', 'done', '["codescaler"]');
                   INSERT INTO jobs (id, action, spec_json, phase) VALUES (8, 'a', '{}', 'done'), (9, 'a', '{}', 'done');
                   UPDATE actions SET spec_json = '{"schedule_policy":{}}', updated_at_ms = 99999999999999
                   WHERE name = 'a';"#,
            );
            steps.insert(0, ("DELETE FROM jobs WHERE id > 1", "job", json!("job 8")));
            steps.push(("UPDATE actions SET spec_json = '{}'", "schedule", Value::Null));
            steps.push((r#"UPDATE actions SET spec_json = '{"tags":["codescaler"]}'"#, last, Value::Null));
            steps.push(("", "recent", Value::Null));
        } else {
            steps.push((r#"UPDATE actions SET spec_json = '{"tags":["codescaler"]}'"#, "schedule", Value::Null));
            steps.push(("", last, Value::Null));
        }
        for (undo, reason, by) in steps {
            let report = call(&sample, dry_run()).unwrap();
            let kept = serde_json::to_value(&report.actions_kept).unwrap();
            assert_eq!(kept, json!([{ "action_id": "a", "reason": reason, "by": by }]));
            sample.execute(undo);
        }
    }
}
