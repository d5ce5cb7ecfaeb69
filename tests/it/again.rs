//! Deciding again under the lock: whatever another connection has done since the plan, the outcome is that of a call which
//! begins after it, although most rows are not read whole a second time.

use hero_proc_cleanup::{Kind, Report};
use rusqlite::params;
use serde_json::{Value, json};

use crate::support::call::{all_with, bound, call, digest, host};
use crate::support::sample::{SCHEMA, Sample, assert_intact};
use crate::support::steps;

/// The layouts of stores of large rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Newest,
    WithoutIndexes,
    /// `action_id` and `archived` stand behind the large columns.
    Migrated,
    /// Readers and a writer are in each other's way, so that one connection does both.
    Rollback,
}

const LAYOUTS: [Layout; 4] = [Layout::Newest, Layout::WithoutIndexes, Layout::Migrated, Layout::Rollback];

/// The actions that a spec of an action may name instead, with as many letters.
const NOBODY: &str = r#""depends_on":["nobody"]"#;

/// Jobs 1 to 24 with large columns, each with an action of its own, but every third one, which shares `shared`. Two kinds,
/// runs of four; 9 and 16 have not finished, 3 and 15 have their tags in their spec, every sixth one is somebody else's, and
/// those from 20 on are of a moment ago.
fn store(layout: Layout) -> Sample {
    let without = |line: &&str| layout != Layout::WithoutIndexes || !line.starts_with("CREATE INDEX");
    let sample = Sample::with_schema(&SCHEMA.lines().filter(without).collect::<Vec<_>>().join("\n"));
    let connection = sample.open();
    if layout == Layout::Migrated {
        connection
            .execute_batch(
                "DROP INDEX idx_jobs_archived;
                 ALTER TABLE jobs DROP COLUMN action_id;
                 ALTER TABLE jobs DROP COLUMN archived;
                 ALTER TABLE jobs ADD COLUMN action_id TEXT;
                 ALTER TABLE jobs ADD COLUMN archived INTEGER NOT NULL DEFAULT 0",
            )
            .unwrap();
    }
    connection.execute_batch("BEGIN").unwrap();
    let now = chrono::Utc::now().timestamp_millis();
    let large = "x".repeat(6000);
    for id in 1..=24_i64 {
        let kind = if id % 2 == 0 { "codescaler_kind_a" } else { "codescaler_kind_b" };
        let tags = if id % 6 == 5 { json!(["ops"]) } else { json!(["codescaler", kind]) };
        let name = if id % 3 == 0 { "shared".to_owned() } else { format!("act_{id:02}") };
        let phase = match id {
            9 | 16 => "running",
            _ if id % 5 == 0 => "failed",
            _ => "succeeded",
        };
        let column = (id % 12 != 3).then(|| tags.to_string());
        let spec = format!(r#"{{"tags":{tags},{NOBODY},"script":"{large}"}}"#);
        let at = if id >= 20 { now - 1000 } else { now - 7 * 86_400_000 };
        connection
            .execute(
                "INSERT INTO jobs (action, action_id, spec_json, phase, tags, stderr, run_id, created_at_ms, finished_at_ms)
                 VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
                params![name, spec, phase, column, large, id / 4 + 1, at],
            )
            .unwrap();
        connection
            .execute(
                "INSERT OR IGNORE INTO actions (name, spec_json, created_at_ms) VALUES (?1, ?2, 1700000000000)",
                (name, spec),
            )
            .unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    drop(connection);
    sample.journal(if layout == Layout::Rollback { "delete" } else { "wal" });
    sample
}

/// What another connection may do between plan and lock.
const CHANGES: [&str; 35] = [
    "INSERT INTO runs (phase) VALUES ('done')",
    // A planned job: started again, in phases of every length; retagged; moved in time; gone. Large columns alone.
    "UPDATE jobs SET phase = 'running', attempt = 1 WHERE id = 1",
    "UPDATE jobs SET phase = 'retrieved' WHERE id = 2",
    "UPDATE jobs SET phase = 'failed' WHERE id = 2",
    r#"UPDATE jobs SET tags = '["ops"]' WHERE id = 1"#,
    r#"UPDATE jobs SET tags = replace(tags, 'kind_b', 'kind_c') WHERE id = 1"#,
    r#"UPDATE jobs SET spec_json = replace(spec_json, '"codescaler"', '"codescales"') WHERE id = 3"#,
    "UPDATE jobs SET finished_at_ms = finished_at_ms + 7 * 86400000 WHERE id = 2",
    "DELETE FROM jobs WHERE id = 1",
    "UPDATE jobs SET stderr = replace(stderr, 'x', 'y'), spec_json = replace(spec_json, 'x', 'y') WHERE id < 9",
    "UPDATE jobs SET stderr = stderr || 'y'",
    // A job that was left alone: large columns alone, another phase, an end, other tags, gone.
    "UPDATE jobs SET stderr = replace(stderr, 'x', 'y') WHERE id > 9",
    "UPDATE jobs SET phase = 'succeeded' WHERE id = 9",
    "UPDATE jobs SET phase = 'succeeded' WHERE phase = 'running'",
    "UPDATE jobs SET phase = 'retrieved' WHERE id = 22",
    "UPDATE jobs SET phase = 'failed' WHERE id = 24",
    r#"UPDATE jobs SET tags = '["codescaler","codescaler_kind_a"]' WHERE id IN (5, 11)"#,
    r#"UPDATE jobs SET tags = NULL WHERE id IN (13, 14, 17)"#,
    "DELETE FROM jobs WHERE id = 9",
    "DELETE FROM jobs WHERE id IN (22, 24)",
    "DELETE FROM jobs WHERE id > 3",
    // What it refers to: a doomed action, by each column and by its spec; or no longer.
    "UPDATE jobs SET action = 'web.act_01' WHERE id = 5",
    "UPDATE jobs SET action_id = 'act_01' WHERE id = 5",
    "UPDATE jobs SET action_id = 'shared' WHERE id = 23",
    r#"UPDATE jobs SET spec_json = replace(spec_json, 'nobody', 'act_02') WHERE id = 16"#,
    "UPDATE jobs SET action = 'other', action_id = 'other' WHERE id IN (9, 23)",
    // Jobs that appear, and jobs whose ids are used again.
    r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES
         ('act_01', '{}', 'running', '["ops"]'), ('n', '{}', 'done', '["codescaler","codescaler_kind_a"]'),
         ('n', '{}', 'queued', '["codescaler"]')"#,
    "INSERT INTO jobs (action, spec_json, phase, tags, run_id) SELECT action, spec_json, 'queued', tags, 1 FROM jobs WHERE id = 5",
    "UPDATE jobs SET id = id + 100 WHERE id IN (2, 5, 22)",
    // An action that depends on another now, with as many letters as before; one that is set anew, and one that has gone.
    "UPDATE actions SET spec_json = replace(spec_json, 'nobody', 'act_01') WHERE name = 'act_05'",
    "UPDATE actions SET spec_json = replace(spec_json, 'nobody', 'shared') WHERE name = 'act_16'",
    r#"UPDATE actions SET spec_json = replace(spec_json, '"codescaler"', '"codescales"') WHERE name = 'act_02'"#,
    "DELETE FROM actions WHERE name = 'act_02'",
    r#"INSERT INTO services (name, spec_json) VALUES ('s', '{"actions":["act_04"]}')"#,
    "CREATE TABLE locks (job REFERENCES jobs (id)); INSERT INTO locks VALUES (1), (22)",
];

/// What does not depend on the moment of the call.
fn timeless(report: Report) -> Value {
    let plan = digest(&report.plan).to_owned();
    let mut report = json!(report);
    let fields = report.as_object_mut().unwrap();
    for field in ["duration_ms", "lock_ms", "cutoff_ms", "bytes_freed", "store"] {
        fields.remove(field);
    }
    fields.insert("plan".to_owned(), json!(plan));
    report
}

/// A call between whose plan and lock another connection executes `change` does what one does that begins later.
#[track_caller]
fn assert_same_outcome(stores: &Sample, params: &Value, change: &'static str, layout: Layout) {
    let case = format!("{layout:?} {params} {change}");
    let [here, twin] = [(); 2].map(|()| stores.again());
    let before = steps::interrupted(&twin, "plan", steps::executes(&twin, change), &host(), all_with(params.clone()));
    let at_lock = steps::interrupted(&here, "lock", steps::executes(&here, change), &host(), all_with(params.clone()));
    let (before, at_lock) = (before.expect(&case), at_lock.expect(&case));
    assert_eq!(at_lock.jobs_matched, at_lock.jobs_planned + at_lock.jobs_kept.sum(), "{case}");
    let [mut before, mut at_lock] = [before, at_lock].map(timeless);
    if params.get("older_than_ms").is_some() {
        // The cut-off is a part of the plan.
        for report in [&mut before, &mut at_lock] {
            report.as_object_mut().unwrap().remove("plan");
        }
    }
    assert_eq!(at_lock, before, "{case}");
    assert_eq!(here.dump(), twin.dump(), "{case}");
    assert_intact(&here.path);
}

#[test]
fn the_outcome_is_that_of_a_call_that_begins_later() {
    let an_hour_ago = chrono::Utc::now().timestamp_millis() - 3_600_000;
    for layout in LAYOUTS {
        let stores = store(layout);
        let requests = [
            json!({}),
            json!({ "limit": 3 }),
            json!({ "keep_last": 1, "keep_by": ["codescaler_kind_"] }),
            json!({ "keep_last": 2, "limit": 4 }),
            json!({ "older_than_ms": 86_400_000, "limit": 5 }),
            json!({ "before_ms": an_hour_ago, "leaked": false }),
            json!({ "phases": ["succeeded"], "except_tags": ["codescaler_kind_a"] }),
        ];
        for params in &requests[..if layout == Layout::Newest { 7 } else { 3 }] {
            for change in CHANGES {
                assert_same_outcome(&stores, params, change, layout);
            }
        }
    }
}

/// What another connection does to a job that is left alone and has finished, and what no head shows: it is as if it came
/// after the commit. That another large column stands there now is of no concern to anything that goes.
#[test]
fn what_no_head_shows_comes_after_the_commit() {
    let retag = r#"UPDATE jobs SET tags = replace(tags, '_kind_b', '_kind_a') WHERE id = 13"#;
    let params = || json!({ "tags": ["codescaler_kind_a"] });
    for layout in [Layout::Newest, Layout::Rollback] {
        let sample = store(layout);
        let planned = call(&sample.again(), params()).unwrap();
        let report = steps::interrupted(&sample, "lock", steps::executes(&sample, retag), &host(), params()).unwrap();
        assert_eq!((timeless(report), planned.job_ids.contains(&13)), (timeless(planned), false), "{layout:?}");
        assert_eq!(call(&sample, params()).unwrap().job_ids, [13], "{layout:?}");
    }
    // Where something is read that stands behind the tags or next to them, it is seen.
    for layout in [Layout::WithoutIndexes, Layout::Migrated] {
        let sample = store(layout);
        let report = steps::interrupted(&sample, "lock", steps::executes(&sample, retag), &host(), params()).unwrap();
        assert!(report.job_ids.contains(&13), "{layout:?}");
    }
}

/// What another connection may do to runs between plan and lock. Of run 3, 9 has not finished; of run 5, 16 has not.
const CHANGES_OF_RUNS: [&str; 14] = [
    // A planned job is in another run, which is waiting for it; in none; in a run of which nobody has heard.
    "UPDATE jobs SET run_id = 3 WHERE id = 1",
    "UPDATE jobs SET run_id = NULL WHERE id < 4",
    "UPDATE jobs SET run_id = 99 WHERE id = 2",
    // The unfinished job of a run is in another one, has ended, has gone.
    "UPDATE jobs SET run_id = 5 WHERE id = 9",
    "UPDATE jobs SET run_id = 1 WHERE id = 16",
    "UPDATE jobs SET run_id = 99 WHERE id IN (9, 16)",
    "UPDATE jobs SET phase = 'succeeded' WHERE id = 9",
    "UPDATE jobs SET phase = 'cancelled' WHERE id IN (9, 16)",
    "DELETE FROM jobs WHERE id = 16",
    // A run has an unfinished job now, a planned one, one that was left alone, one of somebody else's, a new one.
    "UPDATE jobs SET phase = 'running' WHERE id = 4",
    "UPDATE jobs SET phase = 'retrieved' WHERE id IN (14, 21)",
    "UPDATE jobs SET phase = 'running' WHERE id = 5",
    "INSERT INTO jobs (action, spec_json, phase, tags, run_id) VALUES ('n', '{}', 'running', '[]', 2), ('n', '{}', 'done', '[]', 3)",
    r#"INSERT INTO jobs (action, spec_json, phase, tags, run_id) VALUES
         ('n', '{}', 'queued', '[]', 99), ('n', '{}', 'done', '["codescaler"]', 3), ('n', '{}', 'done', '["codescaler"]', 99)"#,
];

/// What the runs of jobs say is what they say under the lock, whether an index leads to the jobs of a run or the runs of those
/// that were left alone are remembered; also where the plan has read none, since all jobs had finished.
#[test]
fn runs_are_those_under_the_lock() {
    for layout in LAYOUTS {
        for all_have_finished in [false, true] {
            let stores = store(layout);
            let connection = stores.open();
            connection.execute_batch("DROP INDEX IF EXISTS idx_jobs_run").unwrap();
            if all_have_finished {
                connection.execute_batch("UPDATE jobs SET phase = 'succeeded'").unwrap();
            }
            drop(connection);
            for params in [json!({}), json!({ "limit": 3 }), json!({ "keep_last": 1, "limit": 4 })] {
                for change in CHANGES_OF_RUNS {
                    assert_same_outcome(&stores, &params, change, layout);
                }
            }
        }
    }
}

/// That a job which is left alone belongs to another run is seen where the runs of jobs are read. Where they are remembered, it
/// is as if it came after the commit: what goes is the same.
#[test]
fn another_run_that_no_head_shows_comes_after_the_commit() {
    let params = || all_with(json!({ "limit": 3 }));
    let moved = "UPDATE jobs SET run_id = 3 WHERE id = 14";
    for layout in [Layout::Newest, Layout::WithoutIndexes] {
        let sample = store(layout);
        let planned = call(&sample.again(), params()).unwrap();
        let report = steps::interrupted(&sample, "lock", steps::executes(&sample, moved), &host(), params()).unwrap();
        assert_eq!((&report.job_ids, &report.action_ids), (&planned.job_ids, &planned.action_ids), "{layout:?}");
        let seen = u64::from(layout == Layout::Newest);
        assert_eq!(report.jobs_kept.run_active, planned.jobs_kept.run_active + seen, "{layout:?}");
        assert!(!call(&sample, all_with(json!({}))).unwrap().job_ids.contains(&14), "{layout:?}");
    }
}

/// With an expected plan, every row is read whole: whatever changes the set is seen.
#[test]
fn what_is_bound_to_a_plan_is_read_whole() {
    for layout in LAYOUTS {
        let stores = store(layout);
        let plan = call(&stores.again(), all_with(json!({ "dry_run": true }))).unwrap().plan;
        for change in [
            "UPDATE jobs SET phase = 'running' WHERE id = 1",
            r#"UPDATE jobs SET tags = replace(tags, '"codescaler"', '"codescales"') WHERE id = 1"#,
            r#"UPDATE jobs SET tags = '["codescaler"]' WHERE id = 5"#,
            "UPDATE jobs SET phase = 'succeeded' WHERE id = 16",
        ] {
            let sample = stores.again();
            let outcome = steps::interrupted(&sample, "lock", steps::executes(&sample, change), &host(), bound(&plan));
            let error = outcome.expect_err(change);
            assert_eq!(error.kind(), Some(Kind::PlanChanged), "{layout:?} {change}");
        }
        let narrow = all_with(json!({ "tags": ["codescaler_kind_a"] }));
        let plan =
            call(&stores.again(), all_with(json!({ "tags": ["codescaler_kind_a"], "dry_run": true }))).unwrap().plan;
        let mut bound = narrow;
        bound["expect_plan"] = json!(plan);
        let sample = stores.again();
        let retag = "UPDATE jobs SET tags = replace(tags, '_kind_b', '_kind_a') WHERE id = 13";
        let outcome = steps::interrupted(&sample, "lock", steps::executes(&sample, retag), &host(), bound);
        assert_eq!(outcome.expect_err(retag).kind(), Some(Kind::PlanChanged), "{layout:?}");
    }
}

/// The last of a group is looked at whole, since it is because of it that others go: a change that no head shows is seen.
#[test]
fn the_last_of_a_group_is_read_whole() {
    let params = || all_with(json!({ "keep_last": 1, "keep_by": ["codescaler_kind_"] }));
    let stores = store(Layout::Newest);
    let planned = call(&stores.again(), params()).unwrap();
    // The last that succeeded of kind a is 24; 22 is the one before.
    for (change, stays) in [
        ("UPDATE jobs SET tags = replace(tags, '_kind_a', '_kind_x') WHERE id = 24", 22),
        ("UPDATE jobs SET tags = replace(tags, '_kind_a', '_kind_b') WHERE id = 24", 22),
        ("UPDATE jobs SET phase = 'retrieved' WHERE id = 24", 22),
        ("DELETE FROM jobs WHERE id = 24", 22),
    ] {
        assert!(planned.job_ids.contains(&stays));
        let sample = stores.again();
        let report = steps::interrupted(&sample, "lock", steps::executes(&sample, change), &host(), params()).unwrap();
        assert!(!report.job_ids.contains(&stays), "{change}: {:?}", report.job_ids);
    }
}
