//! `force`: jobs are stopped through the host, before the transaction and outside any lock.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hero_proc_cleanup::{Cancel, ControlError, Guard, Host, Job, JobControl, Kind, Report, RpcError, cleanup_by_tag};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::sample::Sample;
use crate::support::steps::{self, when};

/// A host that does to each job, on a connection of its own, what `stop` says, and writes down what it heard.
struct Control {
    store: std::path::PathBuf,
    stop: fn(&Connection, &Job) -> Result<(), ControlError>,
    stopped: Mutex<Vec<Job>>,
    deleted: Mutex<Vec<Report>>,
    hears: bool,
}

impl JobControl for Control {
    fn stop(&self, job: &Job) -> Result<(), ControlError> {
        self.stopped.lock().unwrap().push(job.clone());
        // That this can write at all shows that no lock is held.
        (self.stop)(&Connection::open(&self.store).unwrap(), job)
    }

    fn deleted(&self, report: &Report) -> Result<(), ControlError> {
        // As in `stop`.
        Connection::open(&self.store).unwrap().execute("INSERT INTO runs (phase) VALUES ('done')", ()).unwrap();
        self.deleted.lock().unwrap().push(report.clone());
        if self.hears { Ok(()) } else { Err("the log files are on another planet".into()) }
    }
}

/// Three builds that run (1 to 3), each with an action of its own, and one that has finished (4).
fn running() -> Sample {
    let sample = Sample::empty();
    let connection = sample.open();
    for (name, phase) in [("one", "running"), ("two", "pending"), ("three", "running"), ("four", "done")] {
        connection
            .execute_batch(&format!(
                r#"INSERT INTO jobs (action, spec_json, phase, tags, attempt, pid) VALUES ('{name}', '{{}}', '{phase}', '["codescaler"]', 1, 7);
                   INSERT INTO actions (name, spec_json) VALUES ('{name}', '{{"tags":["codescaler"]}}');"#
            ))
            .unwrap();
    }
    sample
}

fn set(connection: &Connection, id: i64, assignment: &str) {
    connection.execute(&format!("UPDATE jobs SET {assignment} WHERE id = ?1"), [id]).unwrap();
}

fn control(sample: &Sample, stop: fn(&Connection, &Job) -> Result<(), ControlError>) -> Arc<Control> {
    let (stopped, deleted) = (Mutex::default(), Mutex::default());
    Arc::new(Control { store: sample.path.clone(), stop, stopped, deleted, hears: true })
}

fn force(sample: &Sample, control: &Arc<Control>, mut params: Value) -> Result<Report, RpcError> {
    let mut host = Host::new(Guard::codescaler());
    host.control = Some(Arc::clone(control) as Arc<dyn JobControl>);
    host.lock_timeout = Duration::from_millis(50);
    params["tags"] = json!(["codescaler"]);
    params["force"] = true.into();
    cleanup_by_tag(sample.path.as_path(), &host, &params, chrono::Utc::now())
}

fn ids(connection: &Connection) -> Vec<i64> {
    let mut statement = connection.prepare("SELECT id FROM jobs ORDER BY id").unwrap();
    statement.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn what_was_stopped_goes() {
    // Where there is no WAL, a reader too would keep the host from writing.
    for journal in ["wal", "delete", "truncate", "persist"] {
        let sample = running();
        sample.open().pragma_update(None, "journal_mode", journal).unwrap();
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
    assert_eq!(ids(&sample.open()), [0_i64; 0]);
    let stopped = control.stopped.lock().unwrap();
    assert_eq!(stopped.iter().map(|job| job.id).collect::<Vec<_>>(), [1, 2, 3], "and only what had not finished");
    assert_eq!((stopped[0].phase.as_deref(), stopped[0].pid, stopped[0].attempt), (Some("running"), Some(7), Some(1)));
    // The host hears all of it, once, however little the caller wanted to.
    let deleted = control.deleted.lock().unwrap();
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
    assert_eq!(ids(&sample.open()), [2]);
}

#[test]
fn what_was_started_again_stays() {
    for again in ["attempt = 2", "pid = 8", "phase = 'retrying'", "started_at_ms = 1790000000000"] {
        let sample = running();
        let control = control(&sample, |_, _| Ok(()));
        // The host's `stop` can't take an argument, so each restart is done by a trigger of the first stop.
        sample
            .open()
            .execute_batch(&format!(
                "CREATE TABLE restarts (x);
                 CREATE TRIGGER restart AFTER INSERT ON restarts BEGIN UPDATE jobs SET {again} WHERE id = 1; END"
            ))
            .unwrap();
        let control = Arc::new(Control {
            stop: |store, job| {
                if job.id == 1 {
                    store.execute("INSERT INTO restarts VALUES (1)", ()).unwrap();
                }
                Ok(())
            },
            ..Arc::into_inner(control).unwrap()
        });
        let report = force(&sample, &control, json!({})).unwrap();
        assert_eq!(report.errors, ["job 1: started again after it was stopped"], "{again}");
        assert_eq!(report.jobs_kept.unstoppable, 1);
        assert_eq!(ids(&sample.open()), [1], "{again}");
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
    assert_eq!(ids(&sample.open()), [5]);
}

#[test]
fn only_what_is_within_the_limit_is_stopped() {
    let sample = running();
    let control = control(&sample, |_, job| if job.id == 1 { Err("no".into()) } else { Ok(()) });
    let report = force(&sample, &control, json!({ "limit": 2 })).unwrap();
    let stopped: BTreeSet<i64> = control.stopped.lock().unwrap().iter().map(|job| job.id).collect();
    assert_eq!(stopped, BTreeSet::from([1, 2]));
    // 4 has finished: it takes the place of 1. 3 has not been stopped, and waits for the next call.
    assert_eq!(report.job_ids, [2, 4]);
    assert_eq!((report.jobs_kept.unstoppable, report.jobs_kept.over_limit), (1, 1));
}

/// A host that is told to end while it stops jobs stops no more of them, and nothing goes.
#[test]
fn a_cancelled_call_stops_no_further_jobs() {
    struct Cancels(Cancel, Mutex<Vec<i64>>);

    impl JobControl for Cancels {
        fn stop(&self, job: &Job) -> Result<(), ControlError> {
            self.1.lock().unwrap().push(job.id);
            self.0.cancel();
            Ok(())
        }
    }

    let sample = running();
    let before = sample.dump();
    let mut host = Host::new(Guard::codescaler());
    let control = Arc::new(Cancels(host.cancel.clone(), Mutex::default()));
    host.control = Some(Arc::clone(&control) as Arc<dyn JobControl>);
    let params = json!({ "tags": ["codescaler"], "force": true });
    let error = cleanup_by_tag(sample.path.as_path(), &host, &params, chrono::Utc::now()).unwrap_err();
    assert_eq!((error.kind(), &error.data["jobs_stopped"]), (Some(Kind::Cancelled), &json!([1])));
    assert!(error.message.starts_with("cancelled before the commit: nothing was deleted"), "{error}");
    assert_eq!(*control.1.lock().unwrap(), [1]);
    assert_eq!(sample.dump(), before);
}

/// Once the commit is done, nothing that the host does turns the answer into an error.
#[test]
fn a_host_that_panics_at_the_news_changes_nothing() {
    struct Panics;

    impl JobControl for Panics {
        fn stop(&self, _: &Job) -> Result<(), ControlError> {
            Ok(())
        }

        fn deleted(&self, _: &Report) -> Result<(), ControlError> {
            panic!("at the news")
        }
    }

    let sample = running();
    let mut host = Host::new(Guard::codescaler());
    host.control = Some(Arc::new(Panics));
    let params = json!({ "tags": ["codescaler"], "force": true });
    let report = cleanup_by_tag(sample.path.as_path(), &host, &params, chrono::Utc::now()).unwrap();
    assert!(report.jobs_deleted > 0);
    let left: i64 = sample.open().query_row("SELECT count(*) FROM jobs", (), |row| row.get(0)).unwrap();
    assert_eq!(left.unsigned_abs(), report.jobs_matched - report.jobs_deleted);
}

/// Found by the random stores: it was counted as over the limit, since nobody had stopped it.
#[test]
fn what_is_held_is_not_stopped_and_counts_as_held() {
    let sample = running();
    sample
        .open()
        .execute_batch("CREATE TABLE locks (job INTEGER REFERENCES jobs (id)); INSERT INTO locks VALUES (2)")
        .unwrap();
    let control = control(&sample, |_, _| Ok(()));
    let report = force(&sample, &control, json!({})).unwrap();
    assert_eq!((report.jobs_kept.referenced, report.jobs_kept.over_limit, report.more), (1, 0, false));
    assert_eq!(report.job_ids, [1, 3, 4]);
    assert!(control.stopped.lock().unwrap().iter().all(|job| job.id != 2));
}

#[test]
fn a_dry_run_stops_nothing() {
    let sample = running();
    let before = sample.dump();
    let control = control(&sample, |_, _| Ok(()));
    let report = force(&sample, &control, json!({ "dry_run": true })).unwrap();
    assert_eq!((report.jobs_planned, report.jobs_deleted), (4, 0));
    assert!(control.stopped.lock().unwrap().is_empty() && control.deleted.lock().unwrap().is_empty());
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
    assert_eq!(ids(&sample.open()), [1, 2, 3, 4]);

    // One that has changed before is seen before anything is stopped.
    set(&sample.open(), 2, "phase = 'running'");
    let untouched = control(&sample, |_, _| Ok(()));
    let error = force(&sample, &untouched, json!({ "expect_plan": plan })).unwrap_err();
    assert_eq!((error.kind(), error.data.get("jobs_stopped")), (Some(Kind::PlanChanged), None));
    assert!(untouched.stopped.lock().unwrap().is_empty());
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
    assert!(busy.deleted.lock().unwrap().is_empty());
    assert_eq!(sample.dump(), before);
}

/// An error is no report: it lists so many of the stopped jobs, and says how many there were.
#[test]
fn an_error_lists_a_thousand_stopped_jobs() {
    let sample = running();
    let connection = sample.open();
    connection
        .execute_batch(
            r#"WITH RECURSIVE number(n) AS (SELECT 5 UNION ALL SELECT n + 1 FROM number WHERE n < 1100)
               INSERT INTO jobs (id, action, spec_json, phase, tags) SELECT n, 'x', '{}', 'running', '["codescaler"]' FROM number"#,
        )
        .unwrap();
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
    let control = Arc::new(Control { hears: false, ..Arc::into_inner(control(&sample, |_, _| Ok(()))).unwrap() });
    when("lock", || ());
    let report = force(&sample, &control, json!({})).unwrap();
    assert_eq!((report.jobs_deleted, report.errors.len()), (4, 0));
    assert_eq!(control.deleted.lock().unwrap().len(), 1);
    let failures: Vec<String> = steps::logged().into_iter().filter(|line| line.starts_with("ERROR")).collect();
    let plan = &report.plan;
    let expected = "message=the host could not follow the deletion, which stands \
                    error=the log files are on another planet";
    assert_eq!(failures, [format!("ERROR {expected} plan={plan:?}")]);
    assert_eq!(ids(&sample.open()), [0_i64; 0]);
}

#[test]
fn without_a_control_there_is_no_force() {
    let sample = running();
    let before = sample.dump();
    for dry_run in [true, false] {
        let params = json!({ "tags": ["codescaler"], "force": true, "dry_run": dry_run });
        let error = cleanup_by_tag(sample.path.as_path(), &Host::new(Guard::codescaler()), &params, chrono::Utc::now())
            .unwrap_err();
        assert_eq!((error.kind(), error.code), (Some(Kind::ForceUnavailable), -32025));
        assert_eq!(error.message, "this host has no way to stop jobs: force is not available");
    }
    assert_eq!(sample.dump(), before);
}
