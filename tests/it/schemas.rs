//! Schemas in which something is more than a deletion can do: the store is refused by name, or the job stays, and no call
//! answers `internal` for ever.

use std::fmt::Write;

use hero_proc_cleanup::{Guard, Host, Kind, Report, RpcError, StoreError, inspect};
use serde_json::{Value, json};

use crate::support::sample::Sample;

fn host() -> Host {
    Host::new(Guard::codescaler())
}

fn call(sample: &Sample, params: &Value) -> Result<Report, RpcError> {
    crate::support::call::call(sample.path.as_path(), params)
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

/// A row that can't be without its job keeps it, and no other one.
#[test]
fn what_cannot_be_set_to_null_keeps_the_job() {
    let set_null = "REFERENCES jobs ON DELETE SET NULL";
    for (schema, rows) in [
        // Columns that can't be NULL.
        (format!("CREATE TABLE c (job INTEGER PRIMARY KEY {set_null}, kind)"), "(1, 'x')"),
        (format!("CREATE TABLE c (job INTEGER {set_null}, kind, PRIMARY KEY (job))"), "(1, 'x')"),
        (format!("CREATE TABLE c (job {set_null}, kind, PRIMARY KEY (job, kind)) WITHOUT ROWID"), "(1, 'x')"),
        (format!("CREATE TABLE c (job NOT NULL ON CONFLICT REPLACE DEFAULT 4 {set_null}, kind)"), "(1, 'x')"),
        // Constraints that NULL does not meet, in some rows.
        (format!("CREATE TABLE c (job {set_null} CHECK (job IS NOT NULL), kind)"), "(1, 'x')"),
        (
            format!("CREATE TABLE c (job {set_null}, kind, CHECK (c.\"JOB\" NOT NULL OR kind = 'y'))"),
            "(1, 'x'), (2, 'y')",
        ),
        (
            format!("CREATE TABLE c ([job] {set_null}, kind, CHECK ((kind = ')') + (coalesce(job, 0) > 0) > 0))"),
            "(1, 'x'), (2, ')')",
        ),
        (
            format!("CREATE TABLE c (job {set_null}, kind CHECK (kind = 'y' OR job > 0 AND typeof(job) = 'integer'))"),
            "(1, 'x'), (2, 'y')",
        ),
        // The same, seen from a row that has no name for its id but this.
        (format!("CREATE TABLE c (job {set_null}, kind, CHECK (rowid < 0 OR job NOT NULL))"), "(1, 'x')"),
        // Columns and indexes made of it.
        (format!("CREATE TABLE c (job {set_null}, kind, twice INTEGER NOT NULL AS (job * 2))"), "(1, 'x')"),
        (format!("CREATE TABLE c (job {set_null}, kind, none AS (job IS NULL), CHECK (NOT none))"), "(1, 'x')"),
        (
            format!("CREATE TABLE c (job {set_null}, kind); CREATE UNIQUE INDEX one ON c (kind) WHERE job IS NULL"),
            "(1, 'x'), (NULL, 'x')",
        ),
        (
            format!("CREATE TABLE c (job {set_null}, kind); CREATE UNIQUE INDEX one ON c (coalesce(job, 0), kind)"),
            "(1, 'x'), (NULL, 'x')",
        ),
        // Of two columns, one may be NULL, and not both.
        (format!("CREATE TABLE c (job {set_null}, kind {set_null}, CHECK (job NOT NULL OR kind NOT NULL))"), "(1, 1)"),
        // At the end of a way.
        (
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, job REFERENCES jobs ON DELETE CASCADE);
             INSERT INTO notes VALUES (7, 1), (8, 2);
             CREATE TABLE c (note REFERENCES notes ON DELETE SET NULL, kind, CHECK (note NOT NULL OR kind = 'y'))"
                .to_owned(),
            "(7, 'x'), (8, 'y')",
        ),
    ] {
        let sample = Sample::new();
        sample.execute(&format!("{schema}; INSERT INTO c VALUES {rows}"));
        let shown = call(&sample, &json!({ "tags": ["codescaler"], "dry_run": true })).unwrap();
        let report = call(&sample, &json!({ "tags": ["codescaler"], "expect_plan": shown.plan })).expect(&schema);
        assert_eq!((&report.job_ids[..], report.jobs_kept.referenced), (&[2, 4][..], 1), "{schema}");
        assert_eq!(report.errors.len(), 1, "{schema}");
        let dangling = sample.open().prepare("PRAGMA foreign_key_check").unwrap().exists(()).unwrap();
        assert!(!dangling, "{schema}: {}", sample.dump());
        assert_eq!(everything(&sample).unwrap().jobs_kept.referenced, 1, "{schema}");
    }
}

/// What NULL does meet is no reason to stay.
#[test]
fn what_can_be_set_to_null_is() {
    let set_null = "REFERENCES jobs ON DELETE SET NULL";
    for schema in [
        format!("CREATE TABLE c (job {set_null} CHECK (job > 0), kind UNIQUE)"),
        format!("CREATE TABLE c (job UNIQUE {set_null}, kind CHECK (kind <> 'job'))"),
        format!("CREATE TABLE c (job INTEGER {set_null}, kind, CHECK (job IS NULL OR kind <> '')) STRICT")
            .replace("kind,", "kind TEXT,"),
        format!("CREATE TABLE c (job {set_null}, kind, PRIMARY KEY (job, kind))"),
        format!("CREATE TABLE c (job INTEGER {set_null}, kind, long AS (length(kind)), CHECK (job > 0 OR long = 1))"),
        format!("CREATE TABLE c (job {set_null}, kind); CREATE UNIQUE INDEX one ON c (kind) WHERE kind <> 'y'"),
        format!("CREATE TABLE c (job {set_null}, kind); CREATE INDEX one ON c (coalesce(job, 0), kind) WHERE job > 0"),
        format!("CREATE TABLE c (job {set_null}, kind); CREATE UNIQUE INDEX one ON c (job, kind)"),
    ] {
        let sample = Sample::new();
        sample.execute(&format!("{schema}; INSERT INTO c (job, kind) VALUES (1, 'x'), (2, 'y')"));
        let report = everything(&sample).expect(&schema);
        assert_eq!((report.jobs_deleted, json!(report.dependents)), (3, json!({ "c": 2 })), "{schema}");
        assert_eq!(sample.one::<i64>("SELECT count(*) FROM c WHERE job IS NULL"), 2, "{schema}");
    }
}
