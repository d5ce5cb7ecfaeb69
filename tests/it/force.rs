//! `force`: jobs are stopped through the host, before the transaction and outside any lock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hero_proc_cleanup::{ControlError, Job, JobControl, Kind, Report, RpcError};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::call::{Control, all_with, call, call_as, host};
use crate::support::sample::Sample;
use crate::support::steps::{self, when};

type Stopped = Result<(), ControlError>;

/// A host that does to each job, on a connection of its own, what `stop` says, and writes to the store when it is told what
/// was deleted: no lock is held in either.
fn control(sample: &Sample, stop: impl Fn(&Connection, &Job) -> Stopped + Send + Sync + 'static) -> Arc<Control> {
    control_that_hears(sample, stop, || Ok(()))
}

/// The same, of which `hear` is what comes of the news.
fn control_that_hears(
    sample: &Sample,
    stop: impl Fn(&Connection, &Job) -> Stopped + Send + Sync + 'static,
    hear: impl Fn() -> Stopped + Send + Sync + 'static,
) -> Arc<Control> {
    let path = sample.path.clone();
    let open = move || Connection::open(&path).unwrap();
    let news = open.clone();
    Control::hearing(
        move |job| stop(&open(), job),
        move |_| {
            news().execute("INSERT INTO runs (phase) VALUES ('done')", ()).unwrap();
            hear()
        },
    )
}

fn force(sample: &Sample, control: &Arc<Control>, params: Value) -> Result<Report, RpcError> {
    let mut host = control.host();
    host.lock_timeout = Duration::from_millis(50);
    let mut params = all_with(params);
    params["force"] = true.into();
    call_as(sample, &host, params)
}

/// Three builds that run (1 to 3), each with an action of its own, and one that has finished (4).
fn running() -> Sample {
    let sample = Sample::empty();
    for (name, phase) in [("one", "running"), ("two", "pending"), ("three", "running"), ("four", "done")] {
        sample.execute(&format!(
            r#"INSERT INTO jobs (action, spec_json, phase, tags, attempt, pid)
               VALUES ('{name}', '{{}}', '{phase}', '["codescaler"]', 1, 7);
               INSERT INTO actions (name, spec_json) VALUES ('{name}', '{{"tags":["codescaler"]}}');"#
        ));
    }
    sample
}

fn set(connection: &Connection, id: i64, assignment: &str) {
    connection.execute(&format!("UPDATE jobs SET {assignment} WHERE id = ?1"), [id]).unwrap();
}

#[test]
fn what_was_stopped_goes() {
    // Where there is no WAL, a reader too would keep the host from writing.
    for journal in ["wal", "delete", "truncate", "persist"] {
        let sample = running();
        sample.journal(journal);
        stopped_goes(&sample, journal);
    }
}

fn stopped_goes(sample: &Sample, journal: &str) {
    let control = control(sample, |store, job| {
        set(store, job.id, "phase = 'stopped', pid = NULL");
        Ok(())
    });
    let report = force(sample, &control, json!({ "max_ids": 0 })).unwrap();
    assert_eq!((report.jobs_deleted, report.actions_deleted), (4, 4), "{journal}");
    assert_eq!(sample.jobs(), [0_i64; 0]);
    let stopped = control.stopped.lock().unwrap();
    assert_eq!(stopped.iter().map(|job| job.id).collect::<Vec<_>>(), [1, 2, 3], "and only what had not finished");
    assert_eq!((stopped[0].phase.as_deref(), stopped[0].pid, stopped[0].attempt), (Some("running"), Some(7), Some(1)));
    // The host hears all of it, once, however little the caller wanted to.
    let deleted = control.heard.lock().unwrap();
    assert_eq!(deleted.len(), 1);
    assert_eq!((deleted[0].job_ids.len(), deleted[0].action_ids.len()), (4, 4));
    assert!(report.job_ids.is_empty() && report.ids_truncated);
}

#[test]
fn a_host_that_leaves_the_row_alone_has_stopped_it_all_the_same() {
    let sample = running();
    let control = control(&sample, |_, _| Ok(()));
    assert_eq!(force(&sample, &control, json!({})).unwrap().jobs_deleted, 4);
}

#[test]
fn what_could_not_be_stopped_stays_and_is_named() {
    let sample = running();
    let control = control(&sample, |_, job| if job.id == 2 { Err("it will not die".into()) } else { Ok(()) });
    let report = force(&sample, &control, json!({})).unwrap();
    assert_eq!((report.jobs_planned, report.jobs_kept.unstoppable), (3, 1));
    assert_eq!(report.errors, ["job 2: it will not die"]);
    assert_eq!(report.action_ids, ["four", "one", "three"]);
    assert_eq!(sample.jobs(), [2]);
}

#[test]
fn what_was_started_again_stays() {
    for again in ["attempt = 2", "pid = 8", "phase = 'retrying'", "started_at_ms = 1790000000000"] {
        let sample = running();
        let control = control(&sample, move |store, job| {
            if job.id == 1 {
                set(store, 1, again);
            }
            Ok(())
        });
        let report = force(&sample, &control, json!({})).unwrap();
        assert_eq!(report.errors, ["job 1: started again after it was stopped"], "{again}");
        assert_eq!(report.jobs_kept.unstoppable, 1);
        assert_eq!(sample.jobs(), [1], "{again}");
    }
}

#[test]
fn what_finishes_meanwhile_goes_and_what_appears_meanwhile_stays() {
    let sample = running();
    let control = control(&sample, |store, job| {
        if job.id == 1 {
            set(store, 2, "phase = 'succeeded'");
            store
                .execute(r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('one', '{}', 'running', '["codescaler"]')"#, ())
                .unwrap();
        }
        Ok(())
    });
    let report = force(&sample, &control, json!({})).unwrap();
    assert_eq!(report.job_ids, [1, 2, 3, 4]);
    assert_eq!(
        (report.jobs_matched, report.jobs_kept.over_limit, report.more),
        (5, 1, true),
        "the next call may stop it"
    );
    assert_eq!(report.actions_kept[0].action_id, "one");
    assert_eq!(sample.jobs(), [5]);
}

#[test]
fn only_what_is_within_the_limit_is_stopped() {
    let sample = running();
    let control = control(&sample, |_, job| if job.id == 1 { Err("no".into()) } else { Ok(()) });
    let report = force(&sample, &control, json!({ "limit": 2 })).unwrap();
    assert_eq!(BTreeSet::from_iter(control.stopped()), BTreeSet::from([1, 2]));
    // 4 has finished: it takes the place of 1. 3 has not been stopped, and waits for the next call.
    assert_eq!(report.job_ids, [2, 4]);
    assert_eq!((report.jobs_kept.unstoppable, report.jobs_kept.over_limit), (1, 1));
}

/// A batch that ends before a running job, since that one has too many rows of other tables, ends there under the lock as
/// well: nobody has stopped that job, and none behind it takes its place.
#[test]
fn a_batch_ends_before_a_running_job_under_the_lock_too() {
    for (bound, key) in [(false, "CASCADE"), (true, "CASCADE"), (false, "SET NULL"), (true, "SET NULL")] {
        let sample = running();
        sample.execute(&format!(
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, job INTEGER REFERENCES jobs (id) ON DELETE {key});
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) INSERT INTO notes (job) SELECT 2 FROM n;
             INSERT INTO notes (job) VALUES (1)"
        ));
        let control = control(&sample, |store, job| {
            set(store, job.id, "phase = 'stopped', pid = NULL");
            Ok(())
        });
        let shown = force(&sample, &control, json!({ "dry_run": true, "limit": 3 })).unwrap();
        assert_eq!((&shown.job_ids[..], shown.jobs_kept.over_limit), (&[1][..], 3));
        let params = if bound { json!({ "limit": 3, "expect_plan": shown.plan }) } else { json!({ "limit": 3 }) };
        let report = force(&sample, &control, params).unwrap();
        assert_eq!((&report.job_ids[..], report.more), (&[1][..], true));
        assert!(!bound || report.plan == shown.plan);
        assert_eq!(control.stopped(), [1]);
        let report = force(&sample, &control, json!({ "limit": 3 })).unwrap();
        assert_eq!((&report.job_ids[..], report.more), (&[2, 3, 4][..], false));
    }
}

/// A host that is told to end while it stops jobs stops no more of them, and nothing goes.
#[test]
fn a_cancelled_call_stops_no_further_jobs() {
    let sample = running();
    let before = sample.dump();
    let mut host = host();
    let cancel = host.cancel.clone();
    let control = Control::new(move |_| {
        cancel.cancel();
        Ok(())
    });
    host.control = Some(Arc::clone(&control) as Arc<dyn JobControl>);
    let error = call_as(&sample, &host, all_with(json!({ "force": true }))).unwrap_err();
    assert_eq!((error.kind(), &error.data["jobs_stopped"]), (Some(Kind::Cancelled), &json!([1])));
    assert!(error.message.starts_with("cancelled before the commit: nothing was deleted"), "{error}");
    assert_eq!(control.stopped(), [1]);
    assert_eq!(sample.dump(), before);
}

/// Once the commit is done, nothing that the host does turns the answer into an error.
#[test]
fn a_host_that_panics_at_the_news_changes_nothing() {
    let sample = running();
    let control = Control::hearing(|_| Ok(()), |_| panic!("at the news"));
    let report = call_as(&sample, &control.host(), all_with(json!({ "force": true }))).unwrap();
    assert!(report.jobs_deleted > 0);
    assert_eq!(sample.jobs().len() as u64, report.jobs_matched - report.jobs_deleted);
}

/// Found by the random stores: it was counted as over the limit, since nobody had stopped it.
#[test]
fn what_is_held_is_not_stopped_and_counts_as_held() {
    let sample = running();
    sample.execute("CREATE TABLE locks (job INTEGER REFERENCES jobs (id)); INSERT INTO locks VALUES (2)");
    let control = control(&sample, |_, _| Ok(()));
    let report = force(&sample, &control, json!({})).unwrap();
    assert_eq!((report.jobs_kept.referenced, report.jobs_kept.over_limit, report.more), (1, 0, false));
    assert_eq!(report.job_ids, [1, 3, 4]);
    assert!(!control.stopped().contains(&2));
}

#[test]
fn a_dry_run_stops_nothing() {
    let sample = running();
    let before = sample.dump();
    let control = control(&sample, |_, _| Ok(()));
    let report = force(&sample, &control, json!({ "dry_run": true })).unwrap();
    assert_eq!((report.jobs_planned, report.jobs_deleted), (4, 0));
    assert!(control.stopped().is_empty() && control.heard.lock().unwrap().is_empty());
    assert_eq!(sample.dump(), before);
}

#[test]
fn a_plan_holds_through_the_stops() {
    let sample = running();
    let gentle = control(&sample, |store, job| {
        set(store, job.id, "phase = 'stopped'");
        Ok(())
    });
    let plan = force(&sample, &gentle, json!({ "dry_run": true })).unwrap().plan;
    let report = force(&sample, &gentle, json!({ "expect_plan": plan })).unwrap();
    assert_eq!((report.jobs_deleted, report.plan), (4, plan));

    let sample = running();
    let harsh = control(&sample, |_, job| if job.id == 3 { Err("no".into()) } else { Ok(()) });
    let plan = force(&sample, &harsh, json!({ "dry_run": true })).unwrap().plan;
    let error = force(&sample, &harsh, json!({ "expect_plan": plan })).unwrap_err();
    assert_eq!((error.kind(), &error.data["jobs_stopped"]), (Some(Kind::PlanChanged), &json!([1, 2])));
    assert_eq!(sample.jobs(), [1, 2, 3, 4]);

    // One that has changed before is seen before anything is stopped.
    set(&sample.open(), 2, "phase = 'running'");
    let untouched = control(&sample, |_, _| Ok(()));
    let error = force(&sample, &untouched, json!({ "expect_plan": plan })).unwrap_err();
    assert_eq!((error.kind(), error.data.get("jobs_stopped")), (Some(Kind::PlanChanged), None));
    assert!(untouched.stopped().is_empty());
}

#[test]
fn if_the_transaction_fails_the_rows_are_there_and_the_error_says_what_was_stopped() {
    let sample = running();
    let before = sample.dump();
    let busy = control(&sample, |store, job| {
        if job.id == 3 {
            // Whoever holds it now holds it until the end of the process.
            let holder = Connection::open(store.path().unwrap()).unwrap();
            holder.execute_batch("BEGIN IMMEDIATE").unwrap();
            std::mem::forget(holder);
        }
        Ok(())
    });
    let error = force(&sample, &busy, json!({})).unwrap_err();
    assert_eq!((error.kind(), error.code), (Some(Kind::StoreBusy), -32021));
    assert_eq!((&error.data["jobs_stopped"], &error.data["retryable"]), (&json!([1, 2, 3]), &json!(true)));
    assert_eq!(
        error.message,
        "the store is locked by another connection: nothing was deleted; 3 jobs had been stopped, their rows are all there"
    );
    assert!(busy.heard.lock().unwrap().is_empty());
    assert_eq!(sample.dump(), before);
}

/// An error is no report: it lists so many of the stopped jobs, and says how many there were.
#[test]
fn an_error_lists_a_thousand_stopped_jobs() {
    let sample = running();
    sample.execute(
            r#"WITH RECURSIVE number(n) AS (SELECT 5 UNION ALL SELECT n + 1 FROM number WHERE n < 1100)
               INSERT INTO jobs (id, action, spec_json, phase, tags) SELECT n, 'x', '{}', 'running', '["codescaler"]' FROM number"#,
        );
    let harsh = control(&sample, |_, job| if job.id == 3 { Err("no".into()) } else { Ok(()) });
    let plan = force(&sample, &harsh, json!({ "dry_run": true })).unwrap().plan;
    let error = force(&sample, &harsh, json!({ "expect_plan": plan })).unwrap_err();
    let listed: Vec<i64> = (1..=1100).filter(|id| ![3, 4].contains(id)).take(1000).collect();
    assert_eq!((&error.data["jobs_stopped"], &error.data["jobs_stopped_count"]), (&json!(listed), &json!(1098)));
    assert!(error.message.contains("1098 jobs had been stopped"), "{}", error.message);
}

#[test]
fn a_host_that_cannot_follow_leaves_the_report_standing() {
    let sample = running();
    let control = control_that_hears(&sample, |_, _| Ok(()), || Err("the log files are on another planet".into()));
    when("lock", || ());
    let report = force(&sample, &control, json!({})).unwrap();
    assert_eq!((report.jobs_deleted, report.errors.len()), (4, 0));
    assert_eq!(control.heard.lock().unwrap().len(), 1);
    let failures: Vec<String> = steps::logged().into_iter().filter(|line| line.starts_with("ERROR")).collect();
    let plan = &report.plan;
    let expected = "message=the host could not follow the deletion, which stands \
                    error=the log files are on another planet";
    assert_eq!(failures, [format!("ERROR {expected} plan={plan:?}")]);
    assert_eq!(sample.jobs(), [0_i64; 0]);
}

#[test]
fn without_a_control_there_is_no_force() {
    let sample = running();
    let before = sample.dump();
    for dry_run in [true, false] {
        let error = call(&sample, all_with(json!({ "force": true, "dry_run": dry_run }))).unwrap_err();
        assert_eq!((error.kind(), error.code), (Some(Kind::ForceUnavailable), -32025));
        assert_eq!(error.message, "this host has no way to stop jobs: force is not available");
    }
    assert_eq!(sample.dump(), before);
}

/// The host tried to stop them, whatever phase the trial has left them in: that it failed is said, by the job's name.
#[test]
fn what_could_not_be_stopped_is_told_whatever_phase_is_asked_for() {
    let sample = running();
    let control = control(&sample, |store, job| {
        if job.id != 1 {
            return Ok(());
        }
        store.execute("UPDATE jobs SET phase = 'stopping' WHERE id = ?1", [job.id])?;
        Err("would not stop".into())
    });
    let report = force(&sample, &control, json!({ "phases": ["running"] })).unwrap();
    assert_eq!(report.job_ids, [3]);
    let kept = report.jobs_kept;
    assert_eq!((kept.unstoppable, kept.other_phase, kept.sum()), (1, 2, 3));
    assert_eq!(report.errors, ["job 1: would not stop"]);

    // One that has ended meanwhile has a phase of its own.
    let sample = running();
    let control = self::control(&sample, |store, job| {
        store.execute("UPDATE jobs SET phase = 'failed' WHERE id = ?1", [job.id])?;
        Err("it is no longer there".into())
    });
    let report = force(&sample, &control, json!({ "phases": ["running"] })).unwrap();
    assert_eq!((report.jobs_deleted, report.jobs_kept.other_phase, report.errors.len()), (0, 4, 0));
}
