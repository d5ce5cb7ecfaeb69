//! What the targets share: a store in hero_proc's layout in which codescaler's rows stand beside others', and what must
//! hold after any call. Who carries the root tag is told here another way than in the crate: by `serde_json::Value`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hero_proc_cleanup::{ControlError, Guard, Host, Job, JobControl, Report, RpcError};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::Value;

pub const SCHEMA: &str = include_str!("../../schema/hero_proc.sql");

/// Jobs 1 to 6 are codescaler's, 7 to 9 are not.
pub const SAMPLE: &str = r#"
    INSERT INTO jobs (id, action, action_id, spec_json, phase, tags, created_at_ms) VALUES
        (1, 'build_1', 'build_1', '{}', 'done', '["codescaler","codescaler_ana","codescaler_kind_build"]', 1700000000000),
        (2, 'web.build_2', NULL, '{"tags":["codescaler"]}', 'FAILED', NULL, 1700000000000),
        (3, 'build_2', 'build_2', '{}', 'done', '["codescaler"]', NULL),
        (4, 'build_3', 'build_3', '{}', 'running', '["codescaler"]', 1700000000000),
        (5, 'build_3', 'build_3', '{}', 'running', '["codescaler","codescaler_ana"]', 1700000000000),
        (6, 'build_4', 'build_4', '{}', 'done', '["codescaler"]', 1799999999999),
        (7, 'backup', 'backup', '{"tags":["codescalers"]}', 'done', '["ops"]', 1700000000000),
        (8, 'backup', 'backup', '{}', 'done', '["codescalers","codescaler_ana"]', 1700000000000),
        (9, 'build_4', NULL, '{}', 'done', '{"codescaler":"codescaler"}', 1700000000000);
    INSERT INTO actions (id, name, spec_json) VALUES
        (1, 'build_1', '{"tags":["codescaler"],"schedule_policy":null,"depends_on":["build_2"]}'),
        (2, 'build_2', '{"tags":["codescaler"]}'),
        (3, 'build_3', '{"tags":["codescaler"],"schedule_policy":{}}'),
        (4, 'build_4', '{"tags":["codescaler"]}'),
        (5, 'backup', '{"tags":["ops"]}');
    INSERT INTO services (id, name, spec_json) VALUES (1, 'web', '{"actions":["build_3"]}');
    INSERT INTO runs (id) VALUES (1);
    INSERT INTO secrets (name, value) VALUES ('key', x'00ff');"#;

/// Now, in milliseconds.
pub const NOW: i64 = 1_790_000_000_000;

/// A host that can stop the jobs with even ids.
pub fn host() -> Host {
    struct Even;
    impl JobControl for Even {
        fn stop(&self, job: &Job) -> Result<(), ControlError> {
            self.can_stop(job)
        }

        fn can_stop(&self, job: &Job) -> Result<(), ControlError> {
            if job.id % 2 == 0 { Ok(()) } else { Err("refused".into()) }
        }
    }
    let mut host = Host::new(Guard::codescaler());
    host.control = Some(Arc::new(Even));
    host
}

pub fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_millis(NOW).expect("a moment")
}

/// A call of `job.cleanup_by_tag` on `connection`, as a host makes it.
pub fn call<'de>(
    connection: &mut Connection,
    host: &Host,
    params: impl serde::Deserializer<'de>,
) -> Result<Report, RpcError> {
    let result = hero_proc_cleanup::call(hero_proc_cleanup::CLEANUP_BY_TAG, params, connection, host, now())?;
    Ok(serde_json::from_str(result.get()).expect("a report"))
}

/// Replaces every row by those of `rows`.
pub fn fill(connection: &Connection, rows: &str) {
    connection
        .execute_batch(&format!(
            "BEGIN; DELETE FROM jobs; DELETE FROM actions; DELETE FROM services; DELETE FROM runs; DELETE FROM secrets;
             {rows} COMMIT"
        ))
        .expect("rows");
}

/// A cell, bytes as they are.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

/// Every row, by table and row id.
pub type Rows = BTreeMap<(&'static str, i64), Vec<Cell>>;

/// In this order the columns that matter stand in [`Rows`].
pub const JOB: &str = "tags, spec_json, phase, created_at_ms, context_name, action, action_id";
pub const ACTION: &str = "spec_json, context_name, name, created_at_ms";

pub fn rows(connection: &Connection) -> Rows {
    let mut all = Rows::new();
    for (table, columns) in
        [("jobs", JOB), ("actions", ACTION), ("services", "spec_json, name"), ("runs", "*"), ("secrets", "*")]
    {
        let mut statement = connection.prepare(&format!("SELECT rowid, {columns} FROM {table}")).expect("a table");
        let width = statement.column_count();
        let mut rows = statement.query(()).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let cell = |index| match row.get_ref(index).expect("a cell") {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(integer) => Cell::Integer(integer),
                ValueRef::Real(real) => Cell::Real(real),
                ValueRef::Text(text) => Cell::Text(text.to_vec()),
                ValueRef::Blob(blob) => Cell::Blob(blob.to_vec()),
            };
            all.insert((table, row.get(0).expect("a row id")), (1..width).map(cell).collect());
        }
    }
    all
}

/// What holds whatever was asked: an error changes nothing; what goes is what the report names, and carries the root tag.
pub fn check(before: &Rows, after: &Rows, outcome: &Result<Report, RpcError>) {
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            assert!(error.kind().is_some() && error.data.is_object(), "{error:?}");
            assert_eq!(before, after, "{error:?}");
            return;
        }
    };
    assert_eq!(report.jobs_matched, report.jobs_planned + report.jobs_kept.sum(), "{report:?}");
    let done = |planned| if report.dry_run { 0 } else { planned };
    assert_eq!(report.jobs_deleted, done(report.jobs_planned), "{report:?}");
    assert_eq!(report.actions_deleted, done(report.actions_planned), "{report:?}");
    for (place, row) in after {
        assert_eq!(before.get(place), Some(row), "{place:?} was changed");
    }
    let (mut jobs, mut actions) = (Vec::new(), 0);
    for (place, row) in before.iter().filter(|(place, _)| !after.contains_key(*place)) {
        match place {
            ("jobs", id) => {
                assert!(job_is_tagged(row), "job {id} went: {row:?}");
                jobs.push(*id);
            }
            ("actions", id) => {
                assert!(action_may_go(row), "action {id} went: {row:?}");
                actions += 1;
            }
            other => panic!("{other:?} went"),
        }
    }
    assert_eq!((jobs.len() as u64, actions), (report.jobs_deleted, report.actions_deleted), "{report:?}");
    if !report.dry_run && !report.ids_truncated {
        assert_eq!(jobs, report.job_ids);
    }
}

/// Whether a row of [`JOB`] carries the root tag.
pub fn job_is_tagged(row: &[Cell]) -> bool {
    match &row[0] {
        Cell::Null => spec(&row[1], false).is_some_and(|spec| spec.tagged),
        Cell::Text(tags) => match serde_json::from_slice::<Value>(tags) {
            Ok(Value::Null) => spec(&row[1], false).is_some_and(|spec| spec.tagged),
            Ok(tags) => hold_root(&tags),
            Err(_) => false,
        },
        _ => false,
    }
}

/// Whether a row of [`ACTION`] carries the root tag and has no schedule.
fn action_may_go(row: &[Cell]) -> bool {
    spec(&row[0], true).is_some_and(|spec| spec.tagged && !spec.scheduled)
}

fn hold_root(tags: &Value) -> bool {
    tags.as_array().is_some_and(|tags| tags.iter().all(Value::is_string) && tags.iter().any(|tag| tag == "codescaler"))
}

struct Spec {
    tagged: bool,
    scheduled: bool,
}

fn spec(cell: &Cell, blob_too: bool) -> Option<Spec> {
    /// For JSON that a `Value` can't hold: deeper than 128 levels, numbers like 1e999, halves of surrogate pairs.
    #[derive(serde::Deserialize)]
    struct Loose {
        tags: Option<Value>,
        schedule_policy: Option<serde::de::IgnoredAny>,
    }
    let json = match cell {
        Cell::Text(json) => json,
        Cell::Blob(json) if blob_too => json,
        _ => return None,
    };
    let json = str::from_utf8(json).ok()?;
    match serde_json::from_str::<Value>(json) {
        Ok(spec) => Some(Spec {
            tagged: spec.is_object() && hold_root(&spec["tags"]),
            scheduled: spec.get("schedule_policy").is_some_and(|policy| !policy.is_null()),
        }),
        Err(_) if json.trim_start().starts_with('{') => {
            let spec: Loose = serde_json::from_str(json).ok()?;
            Some(Spec {
                tagged: spec.tags.is_some_and(|tags| hold_root(&tags)),
                scheduled: spec.schedule_policy.is_some(),
            })
        }
        Err(_) => None,
    }
}
