//! Calls with a limit, one after the other: they end, they take together what one call without a limit takes, and they leave
//! nothing behind.

use std::collections::BTreeSet;

use chrono::DateTime;
use hero_proc_cleanup::{Host, Report};
use serde_json::{Value, json};

use crate::support::call::{Control, all_with, call, call_at, host};
use crate::support::sample::{Sample, assert_intact, column};

const NOW: i64 = 1_790_000_000_000;
const OLD: i64 = 1_700_000_000_000;

fn call_now(sample: &Sample, host: &Host, params: Value) -> Report {
    call_at(sample, host, all_with(params), DateTime::from_timestamp_millis(NOW).unwrap()).unwrap()
}

/// The reports of calls of at most `limit` jobs, up to one that says that there is no more.
fn to_the_end(sample: &Sample, host: &Host, params: &Value, limit: usize) -> Vec<Report> {
    let mut params = params.clone();
    params["limit"] = limit.into();
    let mut reports = Vec::new();
    loop {
        let report = call_now(sample, host, params.clone());
        assert_intact(&sample.path);
        let (took, more) = (report.jobs_deleted + report.actions_deleted, report.more);
        reports.push(report);
        if !more {
            return reports;
        }
        assert_ne!(took, 0, "there is more only after something was taken");
        assert!(reports.len() < 1000, "it does not end");
    }
}

/// Ids of all jobs that went, and names of all actions.
fn went(reports: &[Report]) -> (BTreeSet<i64>, BTreeSet<String>) {
    let jobs: Vec<i64> = reports.iter().flat_map(|report| report.job_ids.clone()).collect();
    let actions: Vec<String> = reports.iter().flat_map(|report| report.action_ids.clone()).collect();
    let sets = (jobs.iter().copied().collect(), actions.iter().cloned().collect());
    assert_eq!((jobs.len(), actions.len()), (BTreeSet::len(&sets.0), BTreeSet::len(&sets.1)), "nothing goes twice");
    sets
}

/// Jobs whose column `retry_of` refers to others: row by row (id, phase, the job that it holds, its run). Each has an action
/// of its own, and every third shares one with job 1. Actions depend on each other, and some have leaked.
fn tangled() -> Sample {
    let sample = Sample::empty();
    let store = sample.open();
    store
        .execute_batch(
            "PRAGMA foreign_keys = off;
             ALTER TABLE jobs ADD COLUMN retry_of INTEGER REFERENCES jobs (id);
             CREATE TABLE job_locks (job INTEGER REFERENCES jobs (id) ON DELETE RESTRICT);
             INSERT INTO job_locks VALUES (13);",
        )
        .unwrap();
    let jobs: &[(i64, &str, Option<i64>, Option<i64>)] = &[
        // A chain: the highest goes first.
        (1, "done", None, None),
        (2, "done", Some(1), None),
        (3, "done", Some(2), None),
        (4, "failed", Some(3), None),
        (5, "done", Some(4), None),
        // A circle of three, which hold a job outside of it, and one that holds it.
        (6, "done", Some(8), None),
        (7, "done", Some(6), None),
        (8, "done", Some(7), None),
        (9, "done", Some(6), None),
        // One by itself.
        (10, "done", Some(10), None),
        // A circle that stays, since a table holds a job of it.
        (11, "done", Some(12), None),
        (12, "done", Some(13), None),
        (13, "done", Some(11), None),
        // A chain whose end runs.
        (14, "done", None, None),
        (15, "done", Some(14), None),
        (16, "running", Some(15), None),
        // A run that has ended, and one that goes on.
        (17, "done", None, Some(1)),
        (18, "failed", None, Some(1)),
        (19, "done", None, Some(2)),
        (20, "pending", None, Some(2)),
    ];
    for (id, phase, retry_of, run) in jobs {
        let action = if id % 3 == 1 { "a1".to_owned() } else { format!("a{id}") };
        store
            .execute(
                r#"INSERT INTO jobs (id, action, spec_json, phase, tags, retry_of, run_id, created_at_ms)
                   VALUES (?1, ?2, '{}', ?3, '["codescaler"]', ?4, ?5, 1700000000000)"#,
                (id, action, phase, retry_of, run),
            )
            .unwrap();
    }
    // a2 needs a1, which goes with the last of its jobs; l1 to l5 are a chain, l6 and l7 a circle; a14 needs l8, and stays.
    for (action, needs) in [
        ("a1", &[][..]),
        ("a2", &["a1"]),
        ("a3", &["l6"]),
        ("a5", &[]),
        ("a6", &[]),
        ("a8", &["a9"]),
        ("a9", &[]),
        ("a11", &[]),
        ("a12", &[]),
        ("a14", &["l8"]),
        ("a15", &[]),
        ("a17", &[]),
        ("a18", &[]),
        ("a20", &[]),
        ("l1", &[]),
        ("l2", &["l1"]),
        ("l3", &["l2"]),
        ("l4", &["l3"]),
        ("l5", &["l4"]),
        ("l6", &["l7"]),
        ("l7", &["l6"]),
        ("l8", &[]),
        ("l9", &[]),
    ] {
        let spec = json!({ "tags": ["codescaler"], "depends_on": needs }).to_string();
        store
            .execute("INSERT INTO actions (name, spec_json, created_at_ms) VALUES (?1, ?2, ?3)", (action, spec, OLD))
            .unwrap();
    }
    sample
}

/// That no action of codescaler's is left to which nothing refers, but for those that the last report names.
fn assert_nothing_is_left_over(sample: &Sample, last: &Report) {
    let named: BTreeSet<String> = last.actions_kept.iter().map(|kept| kept.action_id.clone()).collect();
    let left: BTreeSet<String> =
        column::<String>(&sample.open(), "SELECT name FROM actions WHERE name NOT IN (SELECT action FROM jobs)")
            .into_iter()
            .collect();
    assert!(left.is_subset(&named), "{left:?} are not all of {named:?}");
}

#[test]
fn batches_end_and_take_what_one_call_takes() {
    let whole = tangled();
    let once = call_now(&whole, &host(), json!({}));
    let (jobs, actions) = went(std::slice::from_ref(&once));
    assert_eq!(jobs, (1..=10).chain([17, 18]).collect());
    assert!(!once.more);
    assert_nothing_is_left_over(&whole, &once);
    let second = call_now(&whole, &host(), json!({}));
    assert_eq!((second.jobs_deleted, second.actions_deleted, second.more), (0, 0, false));
    for limit in 1..=13 {
        let sample = tangled();
        let reports = to_the_end(&sample, &host(), &json!({}), limit);
        assert_eq!(went(&reports), (jobs.clone(), actions.clone()), "{limit}");
        for report in &reports {
            // A circle goes whole: it may be what goes beyond the limit.
            let most = if report.job_ids.contains(&6) { limit.max(limit + 2) } else { limit };
            assert!(report.job_ids.len() <= most, "{limit}: {report:?}");
            assert_eq!(report.job_ids.contains(&6), report.job_ids.contains(&8), "{limit}");
            assert!(report.actions_leaked as usize <= limit + 1, "{limit}");
        }
        let last = reports.last().unwrap();
        assert_eq!(json!(last.jobs_kept), json!(once.jobs_kept), "{limit}: the reasons are those of one call");
        assert_nothing_is_left_over(&sample, last);
        assert_eq!(sample.dump(), whole.dump(), "{limit}: what is left is the same");
        let second = call_now(&sample, &host(), json!({ "limit": limit }));
        assert_eq!((second.jobs_deleted, second.actions_deleted, second.more), (0, 0, false), "{limit}");
        assert_eq!(sample.dump(), whole.dump(), "{limit}");
    }
}

/// The same with every filter, at every limit: all reasons but `over_limit` are those of one call.
#[test]
fn filters_hold_across_batches() {
    for filters in [
        json!({ "keep_last": 2 }),
        json!({ "keep_last": 3, "keep_by": [] }),
        json!({ "phases": ["failed"] }),
        json!({ "phases": ["done"], "keep_last": 1 }),
        json!({ "leaked": false }),
        json!({ "older_than_ms": 1000 }),
        json!({ "except_tags": ["codescaler"] }),
    ] {
        let whole = tangled();
        let once = call_now(&whole, &host(), filters.clone());
        for limit in [1, 2, 3, 7] {
            let sample = tangled();
            let reports = to_the_end(&sample, &host(), &filters, limit);
            if filters["leaked"] == false {
                // What a batch keeps for the action of a later one has leaked by then.
                assert_eq!(sample.jobs(), whole.jobs());
                for sample in [&sample, &whole] {
                    call_now(sample, &host(), json!({}));
                }
            }
            assert_eq!(sample.dump(), whole.dump(), "{filters} {limit}");
            let expected = json!(once.jobs_kept);
            for report in &reports {
                let mut kept = json!(report.jobs_kept);
                kept["over_limit"] = 0.into();
                assert_eq!(kept, expected, "{filters} {limit}");
            }
            let mut again = filters.clone();
            again["limit"] = limit.into();
            let second = call_now(&sample, &host(), again);
            assert_eq!((second.jobs_deleted, second.actions_deleted, second.more), (0, 0, false), "{filters} {limit}");
        }
    }
}

/// Forced: a run goes whole, its unfinished jobs first, whatever the limit; one whose job can't be stopped stays whole.
#[test]
fn runs_end_in_batches() {
    let store = || {
        let sample = Sample::empty();
        for (run, phase) in [(1, "done"), (1, "running"), (2, "done"), (1, "pending"), (2, "running"), (0, "done")] {
            sample.execute(&format!(
                r#"INSERT INTO jobs (action, spec_json, phase, tags, run_id)
                   VALUES ('x', '{{}}', '{phase}', '["codescaler"]', {run})"#
            ));
        }
        sample
    };
    for limit in 1..=7 {
        let sample = store();
        let control = Control::refusing(|job| job.id == 5);
        let reports = to_the_end(&sample, &control.host(), &json!({ "force": true }), limit);
        assert_eq!(went(&reports).0, BTreeSet::from([1, 2, 4, 6]), "{limit}");
        let kept = reports.last().unwrap().jobs_kept;
        assert_eq!((kept.run_active, kept.unstoppable, kept.sum()), (1, 1, 2), "{limit}");
        // The two that have not finished come first, and together.
        let first: &[i64] = match limit {
            1 | 2 => &[2, 4],
            3 => &[1, 2, 4],
            _ => &[1, 2, 4, 6],
        };
        assert_eq!(reports[0].job_ids, first, "{limit}");
    }
}

/// The rows of other tables bound a batch: at most twenty for each job of the limit, and the first job goes whatever it has.
#[test]
fn rows_of_other_tables_bound_a_batch() {
    for (limit, children, batches) in [
        // Three for each job never reach the bound.
        (1, &[3, 3, 3][..], &[&[1][..], &[2], &[3]][..]),
        (2, &[3, 3, 3], &[&[1, 2], &[3]]),
        // Exactly the bound, and one more.
        (2, &[20, 20, 1], &[&[1, 2], &[3]]),
        (2, &[20, 21, 1], &[&[1], &[2, 3]]),
        (5, &[40, 40, 20, 1, 1, 1], &[&[1, 2, 3], &[4, 5, 6]]),
        (5, &[1, 99, 1, 1], &[&[1, 2], &[3, 4]]),
        // The first one goes whatever it has, and nothing with it.
        (1, &[1000, 21, 0], &[&[1], &[2], &[3]]),
        (3, &[61, 0, 61, 60, 0], &[&[1], &[2], &[3], &[4, 5]]),
    ] {
        for (key, gone) in [("ON DELETE CASCADE", true), ("ON DELETE SET NULL", false)] {
            let sample = Sample::empty();
            sample.execute(&format!(
                "CREATE TABLE notes (id INTEGER PRIMARY KEY, job INTEGER REFERENCES jobs (id) {key})"
            ));
            for count in children {
                sample.execute(&format!(
                    r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('x', '{{}}', 'done', '["codescaler"]');
                       WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
                       INSERT INTO notes (job) SELECT (SELECT max(id) FROM jobs) FROM n WHERE {count} > 0"#
                ));
            }
            let case = format!("{limit} {children:?} {key}");
            let reports = to_the_end(&sample, &host(), &json!({}), limit);
            let jobs: Vec<&[i64]> = reports.iter().map(|report| report.job_ids.as_slice()).collect();
            assert_eq!(jobs, batches, "{case}");
            let rows: u64 = reports.iter().flat_map(|report| report.dependents.values()).sum();
            assert_eq!(rows, children.iter().sum::<u64>(), "{case}");
            let left: i64 = sample.one("SELECT count(*) FROM notes WHERE job IS NULL");
            assert_eq!(left.unsigned_abs(), if gone { 0 } else { rows }, "{case}");
        }
    }
}

/// Two calls in a row at the same moment, whatever the first one was: the second finds nothing.
#[test]
fn a_second_call_finds_nothing() {
    for filters in [json!({}), json!({ "older_than_ms": 60_000 }), json!({ "keep_last": 1 }), json!({ "leaked": true })]
    {
        let sample = tangled();
        // Jobs hold each other by their actions as well: whatever goes frees another.
        sample.execute(&format!(
            r#"UPDATE actions SET spec_json = '{{"tags":["codescaler"],"depends_on":["l9"]}}' WHERE name IN ('l8', 'a17');
               INSERT INTO actions (name, spec_json, created_at_ms) VALUES ('recent', '{{"tags":["codescaler"]}}', {NOW});"#
        ));
        call_now(&sample, &host(), filters.clone());
        let before = sample.dump();
        let second = call_now(&sample, &host(), filters.clone());
        assert_eq!((second.jobs_deleted, second.actions_deleted, second.more), (0, 0, false), "{filters}");
        assert_eq!(sample.dump(), before, "{filters}");
    }
}

/// The host hears every id, in chunks, however few of them the report lists.
#[test]
fn the_host_hears_every_id() {
    for (jobs, max_ids, chunks) in [(1, 0, 1), (10_000, 3, 1), (10_001, 0, 2), (25_000, 10_000, 3)] {
        let sample = Sample::empty();
        sample.execute(&format!(
            r#"PRAGMA synchronous = off;
               WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {jobs})
               INSERT INTO jobs (action, spec_json, phase, tags) SELECT 'a' || i, '{{}}', 'done', '["codescaler"]' FROM n;
               INSERT INTO actions (name, spec_json) SELECT action, '{{"tags":["codescaler"]}}' FROM jobs WHERE id % 2;"#
        ));
        let control = Control::willing();
        let report = call_at(
            &sample,
            &control.host(),
            all_with(json!({ "max_ids": max_ids })),
            DateTime::from_timestamp_millis(NOW).unwrap(),
        );
        let report = report.unwrap();
        assert_eq!((report.jobs_deleted, report.job_ids.len()), (jobs, max_ids.min(jobs as usize)));
        let heard = control.heard.lock().unwrap();
        assert_eq!(heard.len(), chunks);
        assert!(heard.iter().all(|report| report.job_ids.len() <= 10_000 && report.action_ids.len() <= 10_000));
        assert!(heard.iter().all(|told| (told.jobs_deleted, &told.plan) == (jobs, &report.plan)));
        let ids: Vec<i64> = heard.iter().flat_map(|report| report.job_ids.clone()).collect();
        assert_eq!(ids, (1..=jobs.cast_signed()).collect::<Vec<_>>());
        let names: Vec<String> = heard.iter().flat_map(|report| report.action_ids.clone()).collect();
        assert_eq!(names.len() as u64, jobs.div_ceil(2));
        assert!(names.is_sorted());
    }
}

/// The store of hero_proc#131: 2,429 jobs of 145 KB, each with its action, and 45 actions that April's best-effort cleanup
/// left behind. One call, and both are gone.
#[test]
fn the_story_of_issue_131() {
    let sample = Sample::empty();
    sample.execute(&format!(
        r#"PRAGMA synchronous = off;
           WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2429)
           INSERT INTO jobs (action, action_id, spec_json, phase, tags, created_at_ms, finished_at_ms, stderr)
           SELECT 'codescaler_build_' || i, 'codescaler_build_' || i, '{{"tags":["codescaler"]}}',
                  CASE i % 3 WHEN 0 THEN 'failed' ELSE 'succeeded' END, '["codescaler","codescaler_kind_build"]',
                  {OLD} + i, {OLD} + 60000 + i, printf('%.*c', 145000, 'x')
           FROM n;
           INSERT INTO actions (name, spec_json, created_at_ms, updated_at_ms)
           SELECT action_id, spec_json, created_at_ms, created_at_ms FROM jobs;
           WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 45)
           INSERT INTO actions (name, spec_json, created_at_ms, updated_at_ms)
           SELECT 'codescaler_april_' || i, '{{"tags":["codescaler"]}}', {OLD}, {OLD} FROM n;
           INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('backup', '{{}}', 'done', '["ops"]');
           INSERT INTO actions (name, spec_json, created_at_ms) VALUES ('backup', '{{"tags":["ops"]}}', {OLD});"#
    ));
    let params = json!({ "older_than_ms": 604_800_000 });
    let report = call_now(&sample, &host(), params.clone());
    assert_eq!((report.jobs_deleted, report.actions_deleted, report.actions_leaked), (2429, 2429 + 45, 45));
    assert_eq!((report.jobs_kept.sum(), report.actions_kept_count, report.more), (0, 0, false));
    assert!(report.bytes_planned > 2429 * 145_000, "{}", report.bytes_planned);
    assert!(report.bytes_freed >= 2429 * 145_000, "{}", report.bytes_freed);
    let left: (i64, i64) = (sample.one("SELECT count(*) FROM jobs"), sample.one("SELECT count(*) FROM actions"));
    assert_eq!(left, (1, 1), "those of others");
    let second = call(&sample, all_with(params)).unwrap();
    assert_eq!((second.jobs_deleted, second.actions_deleted), (0, 0));
}
