//! Reports: the referrers in them, how they are cut, and how those of several calls add up.

use hero_proc_cleanup::{Batches, Next, Referrer, Report};
use serde_json::{Value, json};

#[test]
fn a_referrer_is_read_from_any_text_and_written_as_it_came() {
    let known = [
        ("job 4711", Referrer::Job(4711)),
        ("job -1", Referrer::Job(-1)),
        ("service web", Referrer::Service("web".to_owned())),
        ("service ", Referrer::Service(String::new())),
        ("action lab/build two", Referrer::Action("lab/build two".to_owned())),
    ];
    let others = ["", "job", "job x", "job 007", "job +7", "job  7", "job 9223372036854775808", "run 7", "Job 7"];
    let others = others.map(|text| (text, Referrer::Other(text.to_owned())));
    for (text, referrer) in known.into_iter().chain(others) {
        let read: Referrer = serde_json::from_value(text.into()).unwrap();
        assert_eq!((&read, read.to_string().as_str()), (&referrer, text));
        assert_eq!(serde_json::to_value(&read).unwrap(), text);
    }
}

#[test]
fn what_was_done_adds_up_and_what_is_left_is_what_the_last_left() {
    let mut sum = first();
    sum.append(last());
    assert_eq!(
        serde_json::to_value(&sum).unwrap(),
        json!({
            "dry_run": false,
            "jobs_matched": 7, "jobs_planned": 5, "jobs_deleted": 5,
            "jobs_kept": {
                "excepted": 0, "other_phase": 0, "undated": 0, "recent": 0, "active": 1, "unstoppable": 1,
                "run_active": 0, "kept_last": 0, "referenced": 0, "over_limit": 0,
            },
            "asked": { "tags": ["codescaler"] },
            "actions_planned": 3, "actions_deleted": 3, "actions_leaked": 1,
            // No referrer is named that the last call deleted, and no action that it deleted is listed.
            "actions_kept": [
                { "action_id": "codescaler_c", "reason": "schedule", "by": null },
                { "action_id": "codescaler_d", "reason": "job", "by": "job 9" },
            ],
            "actions_kept_count": 2,
            "job_ids": [1, 2, 3, 4, 5], "action_ids": ["codescaler_a", "codescaler_b", "codescaler_e"],
            "ids_truncated": false,
            "dependents": { "job_notes": 3, "job_files": 1 },
            "errors": ["job 8: alive", "job 7: alive"],
            "more": false,
            "cutoff_ms": 1_790_000_000_500_i64,
            "plan": "second",
            "bytes_planned": 500, "bytes_freed": 12288,
            "store": { "file_bytes": 3000, "wal_bytes": 20, "free_bytes": 200 },
            "duration_ms": 3.3, "lock_ms": 1.5,
        })
    );
    assert_eq!(sum.jobs_matched, sum.jobs_planned + sum.jobs_kept.sum());
}

#[test]
fn a_sum_needs_no_whole_lists() {
    let counts = |report: &Report| {
        let Report { jobs_deleted, actions_deleted, actions_kept_count, jobs_matched, .. } = *report;
        (jobs_deleted, actions_deleted, actions_kept_count, jobs_matched)
    };
    let (mut whole, mut cut) = (first(), first());
    cut.truncate(0);
    whole.append(last());
    let mut second = last();
    second.truncate(1);
    cut.append(second);
    assert_eq!(counts(&cut), counts(&whole));
    assert_eq!((cut.job_ids, cut.action_ids.len(), cut.actions_kept.len()), (vec![2], 1, 1));
    assert!(cut.ids_truncated, "an earlier list was cut");
}

#[test]
fn lists_are_cut_and_one_error_stays() {
    let mut report = first();
    report.truncate(5);
    assert_eq!(report, first(), "no list is longer");
    report.truncate(1);
    assert_eq!((&report.job_ids[..], &report.action_ids[..]), (&[1][..], &["codescaler_a".to_owned()][..]));
    assert_eq!((report.actions_kept.len(), report.actions_kept_count), (1, 5));
    assert!(report.ids_truncated);
    report.truncate(10);
    assert!(report.ids_truncated, "it stays cut");

    let mut report = first();
    report.truncate(0);
    assert_eq!((report.job_ids.len(), report.errors.len(), report.ids_truncated), (0, 1, true));
}

fn first() -> Report {
    report(json!({
        "jobs_matched": 7, "jobs_planned": 3, "jobs_deleted": 3,
        "jobs_kept": { "undated": 0, "recent": 0, "active": 1, "unstoppable": 1, "referenced": 0, "over_limit": 2 },
        "actions_planned": 2, "actions_deleted": 2, "actions_leaked": 1, "asked": { "tags": ["codescaler"] },
        "actions_kept": [
            { "action_id": "codescaler_b", "reason": "job", "by": "job 2" },
            { "action_id": "codescaler_c", "reason": "job", "by": "job 5" },
            { "action_id": "codescaler_f", "reason": "action", "by": "action codescaler_b" },
            { "action_id": "codescaler_g", "reason": "job", "by": "job 2" },
            { "action_id": "codescaler_h", "reason": "job", "by": "job 6" },
        ],
        "actions_kept_count": 5,
        "job_ids": [1, 3, 4], "action_ids": ["codescaler_a", "codescaler_e"],
        "dependents": { "job_notes": 1 },
        "errors": ["job 8: alive"], "more": true, "cutoff_ms": 1_790_000_000_000_i64, "plan": "first",
        "bytes_planned": 200, "bytes_freed": 8192,
        "store": { "file_bytes": 4000, "wal_bytes": 10, "free_bytes": 100 }, "duration_ms": 1.1, "lock_ms": 0.5,
    }))
}

fn last() -> Report {
    report(json!({
        "jobs_matched": 4, "jobs_planned": 2, "jobs_deleted": 2,
        "jobs_kept": { "undated": 0, "recent": 0, "active": 1, "unstoppable": 1, "referenced": 0, "over_limit": 0 },
        "actions_planned": 1, "actions_deleted": 1,
        "actions_kept": [
            { "action_id": "codescaler_c", "reason": "schedule", "by": null },
            { "action_id": "codescaler_d", "reason": "job", "by": "job 9" },
        ],
        "actions_kept_count": 2,
        "job_ids": [2, 5], "action_ids": ["codescaler_b"],
        "dependents": { "job_notes": 2, "job_files": 1 },
        "errors": ["job 8: alive", "job 7: alive"], "more": false, "cutoff_ms": 1_790_000_000_500_i64,
        "plan": "second",
        "bytes_planned": 300, "bytes_freed": 4096,
        "store": { "file_bytes": 3000, "wal_bytes": 20, "free_bytes": 200 }, "duration_ms": 2.2, "lock_ms": 1.0,
    }))
}

fn report(mut json: Value) -> Report {
    json["dry_run"] = false.into();
    json["ids_truncated"] = false.into();
    serde_json::from_value(json).unwrap()
}

#[test]
fn no_call_has_no_report() {
    assert_eq!(Batches::new(10).report(), None);
    assert_eq!(Batches::new(10).into_report(), None);
}

#[test]
fn the_sum_of_one_report_is_that_report() {
    let report = of_call(2, 2, 5);
    let mut batches = Batches::new(10);
    batches.add(report.clone());
    assert_eq!(batches.report(), Some(&report));
    assert_eq!(batches.into_report(), Some(report));
}

#[test]
fn calls_follow_while_there_is_more_and_something_went() {
    let mut batches = Batches::new(3);
    assert_eq!(batches.add(of_call(2, 2, 5)), Next::Again { left: 5 });
    // Leaked actions alone.
    assert_eq!(batches.add(of_call(0, 2, 5)), Next::Again { left: 5 });
    assert_eq!(batches.add(of_call(2, 0, 0)), Next::Done);
    let sum = batches.into_report().unwrap();
    assert_eq!((sum.jobs_deleted, sum.actions_deleted, sum.more), (4, 4, false));
    assert_eq!((sum.job_ids.len(), sum.action_ids.len(), sum.ids_truncated), (3, 3, true));
}

#[test]
fn a_call_that_takes_nothing_is_not_repeated() {
    let mut batches = Batches::new(10);
    assert_eq!(batches.add(of_call(0, 0, 5)), Next::Stuck { left: 5 });
    // Jobs that wait for others: the limit is not what is in their way.
    let mut waiting = of_call(0, 0, 5);
    waiting.more = false;
    assert_eq!(batches.add(waiting), Next::Stuck { left: 5 });
    assert_eq!(batches.add(of_call(0, 0, 0)), Next::Done);
}

/// The report of a call that deleted `jobs` and `actions`, and left `left` jobs.
fn of_call(jobs: u64, actions: u64, left: u64) -> Report {
    let ids: Vec<u64> = (0..jobs).collect();
    let names: Vec<String> = (0..actions).map(|number| format!("codescaler_{number}")).collect();
    let kept = json!({
        "undated": 0, "recent": 0, "active": 0, "unstoppable": 0, "referenced": 0, "over_limit": left,
    });
    report(json!({
        "jobs_matched": jobs + left, "jobs_planned": jobs, "jobs_deleted": jobs,
        "jobs_kept": kept, "actions_planned": actions, "actions_deleted": actions,
        "actions_kept": [], "actions_kept_count": 0, "job_ids": ids, "action_ids": names,
        "dependents": {}, "errors": [], "more": left > 0, "cutoff_ms": null, "plan": "1",
        "bytes_freed": 0, "duration_ms": 1.0, "lock_ms": 1.0,
    }))
}
