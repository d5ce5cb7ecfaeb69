//! Other connections, between every two steps: whatever is decided under the lock holds.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use hero_proc_cleanup::{Report, RpcError};
use rusqlite::{Connection, ErrorCode};
use serde_json::{Value, json};

use crate::support::call::{Control, all, bound, call, call_as, digest, dry_run, host};
use crate::support::sample::{Sample, assert_nothing_dangles, one};
use crate::support::steps::{self, executes, when};

/// A cleanup during which another connection executes `sql` when the step `step` begins.
#[track_caller]
fn interrupted(sample: &Sample, step: &'static str, sql: &'static str, params: &Value) -> Result<Report, RpcError> {
    steps::interrupted(sample, step, executes(sample, sql), &host(), params)
}

#[test]
fn what_happens_between_plan_and_lock_counts() {
    for (what, jobs, actions) in [
        // Nothing: b stays, since job 4 refers to it.
        ("", vec![1, 2], vec!["a"]),
        (
            r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('n', '{}', 'done', '["codescaler"]')"#,
            vec![1, 2, 5],
            vec!["a"],
        ),
        ("UPDATE jobs SET phase = 'done' WHERE id = 3", vec![1, 2, 3], vec!["a", "c"]),
        ("UPDATE jobs SET phase = 'running', attempt = 2 WHERE id = 1", vec![2], vec![]),
        (r#"UPDATE jobs SET tags = '["ops"]' WHERE id = 1"#, vec![2], vec![]),
        (r#"UPDATE jobs SET tags = '["codescaler"]' WHERE id = 4"#, vec![1, 2, 4], vec!["a", "b"]),
        // New references, from a new job, an old one, a service, another action.
        ("INSERT INTO jobs (action, spec_json, phase) VALUES ('a', '{}', 'pending')", vec![1, 2], vec![]),
        ("UPDATE jobs SET action_id = 'a' WHERE id = 4", vec![1, 2], vec!["b"]),
        ("UPDATE jobs SET action = 'web.a' WHERE id = 4", vec![1, 2], vec![]),
        (r#"UPDATE services SET spec_json = '{"actions":["a"]}'"#, vec![1, 2], vec![]),
        (r#"INSERT INTO services (name, spec_json) VALUES ('new', '{"actions":["a"]}')"#, vec![1, 2], vec![]),
        (r#"UPDATE actions SET spec_json = '{"depends_on":["a"]}' WHERE name = 'x'"#, vec![1, 2], vec![]),
        // What an action says of itself.
        (
            r#"UPDATE actions SET spec_json = '{"tags":["codescaler"],"schedule_policy":{}}' WHERE name = 'a'"#,
            vec![1, 2],
            vec![],
        ),
        (r#"UPDATE actions SET spec_json = '{"tags":[]}' WHERE name = 'a'"#, vec![1, 2], vec![]),
        // Lost references and rows.
        ("DELETE FROM jobs WHERE id = 4", vec![1, 2], vec!["a", "b"]),
        ("UPDATE jobs SET action_id = NULL WHERE id = 4", vec![1, 2], vec!["a", "b"]),
        // Its action has leaked then, and goes all the same.
        ("DELETE FROM jobs WHERE id = 1", vec![2], vec!["a"]),
        ("DELETE FROM actions WHERE name = 'a'", vec![1, 2], vec![]),
        (
            r#"DELETE FROM actions WHERE name = 'a'; INSERT INTO actions (name, spec_json) VALUES ('a', '{"tags":["codescaler"]}')"#,
            vec![1, 2],
            vec!["a"],
        ),
        // A table that holds on to a job appears.
        ("CREATE TABLE locks (job REFERENCES jobs (id)); INSERT INTO locks VALUES (1)", vec![2], vec![]),
    ] {
        for journal in ["wal", "delete"] {
            let sample = Sample::with_a_reference();
            sample.journal(journal);
            let report = interrupted(&sample, "lock", what, &all()).unwrap();
            assert_eq!((&report.job_ids, report.jobs_deleted), (&jobs, jobs.len() as u64), "{what}");
            assert_eq!(
                (&report.action_ids, report.actions_deleted),
                (&to_strings(&actions), actions.len() as u64),
                "{what}"
            );
            assert_eq!(report.jobs_matched, report.jobs_planned + report.jobs_kept.sum(), "{what}");
            let connection = sample.open();
            for id in &jobs {
                assert!(!exists(&connection, &format!("SELECT 1 FROM jobs WHERE id = {id}")), "{what}");
            }
            for name in &actions {
                assert!(!exists(&connection, &format!("SELECT 1 FROM actions WHERE name = '{name}'")), "{what}");
            }
            assert!(exists(&connection, "SELECT 1 FROM actions WHERE name = 'x'"), "{what}");
        }
    }
}

fn to_strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn exists(connection: &Connection, sql: &str) -> bool {
    connection.prepare(sql).unwrap().exists(()).unwrap()
}

/// Another file takes the place of the store's between plan and lock: what stands in it says nothing about the store.
#[test]
fn another_file_in_its_place_is_not_looked_at() {
    let [sample, another] = [(); 2].map(|()| Sample::with_a_reference());
    another.execute("UPDATE jobs SET phase = 'done'");
    let (before, path) = (another.dump(), sample.path.clone());
    let store = sample.open();
    let (moved, its_place) = (path.with_extension("moved"), another.path.clone());
    when("stop", move || {
        store.execute("UPDATE jobs SET phase = 'running' WHERE id = 2", ()).unwrap();
        for end in ["", "-wal", "-shm"] {
            let [from, to] = [&path, &moved].map(|path| format!("{}{end}", path.display()));
            fs::rename(from, to).unwrap();
        }
        fs::rename(its_place, path).unwrap();
    });
    let control = Control::new(|_| Err("nothing is to be stopped".into()));
    let error = call_as(&sample, &control.host(), all()).unwrap_err();
    assert!(steps::has_happened());
    assert_eq!(error.data["problems"], json!(["another file has taken its place"]));
    assert_eq!(sample.dump(), before);
}

/// What foreign keys declare is carried out for the jobs of the last decision.
#[test]
fn dependents_are_those_of_the_jobs_that_go() {
    for what in ["", "INSERT INTO runs (phase) VALUES ('done')", "UPDATE jobs SET phase = 'running' WHERE id = 1"] {
        let sample = Sample::with_a_reference();
        sample.execute(
            "CREATE TABLE notes (job INTEGER REFERENCES jobs (id) ON DELETE CASCADE);
             INSERT INTO notes VALUES (1), (1), (2), (3);",
        );
        let report = interrupted(&sample, "lock", what, &all()).unwrap();
        let expected = if report.job_ids == [2] { 1 } else { 3 };
        assert_eq!(report.dependents.get("notes"), Some(&expected), "{what}");
        assert_eq!(sample.one::<i64>("SELECT count(*) FROM notes") as u64, 4 - expected, "{what}");
        assert_nothing_dangles(&sample.open());
    }
}

/// With an expected plan, the same changes mean that nothing goes.
#[test]
fn a_plan_that_changes_between_plan_and_lock_is_refused() {
    for what in [
        r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('n', '{}', 'done', '["codescaler"]')"#,
        "UPDATE jobs SET phase = 'running' WHERE id = 1",
        "UPDATE jobs SET action_id = 'a' WHERE id = 4",
        "DELETE FROM jobs WHERE id = 4",
    ] {
        let sample = Sample::with_a_reference();
        let plan = call(&sample, dry_run()).unwrap().plan;
        let error = interrupted(&sample, "lock", what, &bound(&plan)).unwrap_err();
        assert_eq!(error.code, -32020, "{what}");
        assert_eq!(sample.one::<i64>("SELECT count(*) FROM jobs WHERE id IN (2, 3)"), 2, "{what}");
        assert!(exists(&sample.open(), "SELECT 1 FROM actions WHERE name = 'a'"), "{what}");
    }
}

/// A dry run sees one moment: what comes while it reads is not half in it.
#[test]
fn a_dry_run_is_of_one_moment() {
    let sample = Sample::with_a_reference();
    let before = call(&sample, dry_run()).unwrap();
    let other = "UPDATE jobs SET phase = 'done' WHERE id = 3";
    let during = interrupted(&sample, "plan", other, &dry_run()).unwrap();
    let after = call(&sample, dry_run()).unwrap();
    assert_ne!(digest(&before.plan), digest(&after.plan));
    assert_eq!(digest(&during.plan), digest(&after.plan), "the snapshot begins after the step does");
}

/// So does one by two connections, whatever is committed between the two.
#[test]
fn a_dry_run_of_more_than_one_range_is_of_one_moment() {
    let sample = Sample::empty();
    let writer = sample.open();
    writer
        .execute_batch(
            r#"PRAGMA journal_mode = wal;
               PRAGMA synchronous = off;
               INSERT INTO runs DEFAULT VALUES;
               CREATE INDEX large ON runs (zeroblob(4000000));
               WITH RECURSIVE ids (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < 1100)
               INSERT INTO jobs (action, spec_json, phase, tags) SELECT 'a', '{}', 'done', '["ops"]' FROM ids"#,
        )
        .unwrap();
    let done = &AtomicBool::new(false);
    let matched: BTreeSet<u64> = thread::scope(|scope| {
        scope.spawn(move || {
            for tags in [r#"["codescaler"]"#, r#"["ops"]"#].iter().cycle() {
                writer.execute("UPDATE jobs SET tags = ?1", [tags]).unwrap();
                if done.load(Relaxed) {
                    return;
                }
            }
        });
        let matched = (0..500).map(|_| call(&sample, dry_run()).unwrap().jobs_matched).collect();
        done.store(true, Relaxed);
        matched
    });
    assert_eq!(matched, BTreeSet::from([0, 1100]));
}

/// Between lock and commit nobody else writes.
#[test]
fn under_the_lock_others_wait() {
    for step in ["delete", "commit"] {
        let sample = Sample::with_a_reference();
        let other = sample.open();
        other.busy_timeout(std::time::Duration::ZERO).unwrap();
        let (seen, told) = std::sync::mpsc::channel();
        when(step, move || {
            let code =
                other.execute("UPDATE jobs SET phase = 'running' WHERE id = 1", ()).unwrap_err().sqlite_error_code();
            seen.send((code, one(&other, "SELECT count(*) FROM jobs"))).unwrap();
        });
        let report = call(&sample, all()).unwrap();
        assert_eq!(report.jobs_deleted, 2);
        assert_eq!(
            told.recv().unwrap(),
            (Some(ErrorCode::DatabaseBusy), 4),
            "{step}: readers see all of it until the commit"
        );
    }
}

#[test]
fn two_at_once_delete_the_union_once() {
    for _ in 0..20 {
        let sample = Sample::empty();
        let connection = sample.open();
        connection.execute_batch("BEGIN").unwrap();
        for job in 0..200 {
            let tag = ["codescaler_ana", "codescaler_bob"][job % 2];
            let shared = if job % 5 == 0 { "shared".to_owned() } else { format!("action_{job}") };
            connection
                .execute(
                    "INSERT INTO jobs (action, spec_json, phase, tags) VALUES (?1, '{}', 'done', ?2)",
                    (&shared, json!(["codescaler", tag]).to_string()),
                )
                .unwrap();
            connection
                .execute(
                    r#"INSERT OR IGNORE INTO actions (name, spec_json) VALUES (?1, '{"tags":["codescaler"]}')"#,
                    [shared],
                )
                .unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
        let together = Barrier::new(3);
        let reports = thread::scope(|scope| {
            let callers = [json!(["codescaler_ana"]), json!(["codescaler_bob"]), json!(["codescaler"])].map(|tags| {
                let (sample, together) = (&sample, &together);
                scope.spawn(move || {
                    together.wait();
                    call(sample, json!({ "tags": tags })).unwrap()
                })
            });
            callers.map(|caller| caller.join().unwrap())
        });
        let jobs: Vec<i64> = reports.iter().flat_map(|report| report.job_ids.clone()).collect();
        assert_eq!(jobs.len(), 200);
        assert_eq!(jobs.into_iter().collect::<BTreeSet<_>>(), (1..=200).collect());
        let actions: Vec<String> = reports.iter().flat_map(|report| report.action_ids.clone()).collect();
        assert_eq!((actions.len(), actions.iter().collect::<BTreeSet<_>>().len()), (161, 161));
        assert_eq!(sample.one::<i64>("SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM actions)"), 0);
    }
}

/// Who writes nothing in between costs no second decision; a decision that names more costs no second deletion; one that
/// names less undoes what was deleted meanwhile. A dry run takes no lock.
#[test]
fn the_steps_are_those_that_are_needed() {
    let (all, dry_run, nothing) = (all(), dry_run(), json!({ "tags": ["codescaler_nothing"] }));
    let again = ["plan", "lock", "decide again", "delete", "delete", "commit"];
    let undone = ["plan", "lock", "decide again", "delete", "lock", "decide again", "delete", "commit"];
    for (params, journal, meanwhile, expected) in [
        (&dry_run, "wal", None, &["plan"][..]),
        (&nothing, "wal", None, &["plan"]),
        (&all, "wal", None, &["plan", "lock", "delete", "commit"]),
        (&all, "wal", Some("INSERT INTO runs (phase) VALUES ('done')"), &again),
        (&all, "wal", Some("UPDATE jobs SET phase = 'done' WHERE id = 3"), &again),
        (&all, "wal", Some("UPDATE jobs SET phase = 'running' WHERE id = 1"), &undone),
        (&all, "wal", Some("UPDATE jobs SET action_id = 'a' WHERE id = 4"), &undone),
        (&all, "wal", Some("DELETE FROM jobs WHERE id = 1"), &undone),
        // Readers and a writer are in each other's way: one after the other.
        (
            &all,
            "delete",
            Some("UPDATE jobs SET phase = 'running' WHERE id = 1"),
            &["plan", "lock", "decide again", "delete", "commit"],
        ),
    ] {
        let sample = Sample::with_a_reference();
        let other = sample.open();
        other.pragma_update(None, "journal_mode", journal).unwrap();
        when("lock", move || meanwhile.map_or((), |sql| other.execute_batch(sql).unwrap()));
        call(&sample, params).unwrap();
        assert_eq!(steps::begun(), expected, "{params} {journal} {meanwhile:?}");
    }
}
