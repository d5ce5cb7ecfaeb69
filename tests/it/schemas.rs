//! Schemas with something in them that a deletion can't do: refused by name, or it keeps the job, and never `internal` for
//! ever.

use std::fmt::Write;

use hero_proc_cleanup::{Guard, Host, Kind, Report, RpcError, StoreError, cleanup_by_tag, inspect};
use serde_json::{Value, json};

use crate::support::sample::Sample;

fn host() -> Host {
    Host::new(Guard::codescaler())
}

fn call(sample: &Sample, params: &Value) -> Result<Report, RpcError> {
    cleanup_by_tag(sample.path.as_path(), &host(), params, chrono::Utc::now())
}

fn everything(sample: &Sample) -> Result<Report, RpcError> {
    call(sample, &json!({ "tags": ["codescaler"] }))
}

/// That `check`, a dry run and a deletion refuse the store for the same reasons.
#[track_caller]
fn problems(sample: &Sample) -> Vec<String> {
    let before = sample.dump();
    let found = match inspect(sample.path.as_path(), &host()) {
        Err(StoreError::Unfit { problems }) => problems,
        other => panic!("{other:?}"),
    };
    for dry_run in [true, false] {
        let error = call(sample, &json!({ "tags": ["codescaler"], "dry_run": dry_run })).unwrap_err();
        assert_eq!((error.kind(), &error.data["problems"]), (Some(Kind::StoreUnfit), &json!(found)), "{error:?}");
    }
    assert_eq!(sample.dump(), before);
    found
}

/// `tables` tables, each with `keys` cascading keys on the one before, the first of them on jobs.
fn chain(tables: usize, keys: usize) -> String {
    let mut schema = String::new();
    for table in 1..=tables {
        let parent = if table == 1 { "jobs".to_owned() } else { format!("t{}", table - 1) };
        let columns: String = (0..keys).map(|key| format!(", k{key} REFERENCES {parent} ON DELETE CASCADE")).collect();
        writeln!(schema, "CREATE TABLE t{table} (id INTEGER PRIMARY KEY{columns});").unwrap();
    }
    schema
}

/// Ways along foreign keys multiply, and a statement follows each of them.
#[test]
fn foreign_keys_that_lead_too_many_ways_are_a_problem() {
    for (tables, keys, reason) in [
        (24, 2, "8 tables deep"),
        (7, 2, "64 ways"),
        (2, 8, "64 ways"),
        (48, 1, "8 tables deep"),
        (9, 1, "8 tables deep"),
        (1000, 1, "8 tables deep"),
    ] {
        let sample = Sample::new();
        sample.execute(&chain(tables, keys));
        assert_eq!(problems(&sample), [format!("foreign keys lead from jobs more than {reason}")]);
    }
    for (tables, keys) in [(5, 2), (8, 1), (1, 64)] {
        let sample = Sample::new();
        sample.execute(&chain(tables, keys));
        sample.execute("INSERT INTO t1 (k0) VALUES (1), (5)");
        let report = everything(&sample).unwrap();
        assert_eq!((report.jobs_deleted, json!(report.dependents)), (3, json!({ "t1": 1 })), "{tables} {keys}");
    }
}
