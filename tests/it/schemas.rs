//! Schemas in which something is more than a deletion can do: the store is refused by name, or the job stays, and no call
//! answers `internal` for ever.

use std::fmt::Write;

use hero_proc_cleanup::{Guard, Host, Kind, Report, RpcError, StoreError, inspect};
use serde_json::{Value, json};

use crate::support::sample::{SCHEMA, Sample};

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
    // Not as text: these tables are not for everybody to read.
    let before = std::fs::read(&sample.path).unwrap();
    let found = match inspect(sample.path.as_path(), &host()) {
        Err(StoreError::Unfit { problems }) => problems,
        other => panic!("{other:?}"),
    };
    for dry_run in [true, false] {
        let error = call(sample, &json!({ "tags": ["codescaler"], "dry_run": dry_run })).unwrap_err();
        assert_eq!((error.kind(), &error.data["problems"]), (Some(Kind::StoreUnfit), &json!(found)), "{error:?}");
    }
    assert!(std::fs::read(&sample.path).unwrap() == before);
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

/// [`Sample::new`] with `schema`, in whose text `from` is then replaced by `to`: a host's own functions, collations and
/// modules are unknown to every connection but the host's.
fn with_a_hosts_own(schema: &str, from: &str, to: &str) -> Sample {
    let sample = Sample::new();
    sample.execute(schema);
    let text = format!("UPDATE sqlite_master SET sql = replace(sql, '{from}', '{to}')");
    sample.execute(&format!("PRAGMA writable_schema = on; {text};"));
    assert!(sample.one::<bool>(&format!("SELECT max(sql LIKE '%{to}%') FROM sqlite_master")), "{schema}");
    sample
}

/// Names that are compared in a way that only the host knows can't be compared here.
#[test]
fn names_compared_by_a_collation_of_the_hosts_own_are_a_problem() {
    for (table, column) in [
        ("jobs", "context_name"),
        ("jobs", "action"),
        ("jobs", "action_id"),
        ("actions", "context_name"),
        ("actions", "name"),
        ("services", "context_name"),
        ("services", "name"),
    ] {
        for (collation, fits) in
            [("host", false), ("\"my own\"", false), ("BINARY", true), ("nocase", true), ("RTRIM", true)]
        {
            let start = SCHEMA.find(&format!("CREATE TABLE {table} (")).unwrap();
            let column_at = start + SCHEMA[start..].find(&format!("\n    {column} ")).unwrap();
            let at = column_at + SCHEMA[column_at..].find("TEXT").unwrap() + "TEXT".len();
            let sample = Sample::with_schema(&format!("{} COLLATE RTRIM{}", &SCHEMA[..at], &SCHEMA[at..]));
            let text = format!("UPDATE sqlite_master SET sql = replace(sql, 'COLLATE RTRIM', 'COLLATE {collation}')");
            sample.execute(&format!("PRAGMA writable_schema = on; {text};"));
            if fits {
                everything(&sample).unwrap();
            } else {
                let problem = format!("{table}.{column} is compared by a collation of the host's own");
                assert_eq!(problems(&sample), [problem], "{collation}");
            }
        }
    }
}

/// What the host alone knows is missed when a row is deleted, set to NULL or read, and said at once.
#[test]
fn what_only_the_host_knows_is_a_problem_by_its_name() {
    let notes = "CREATE TABLE notes (job INTEGER REFERENCES jobs ON DELETE CASCADE, text);";
    let marks = "CREATE TABLE marks (job INTEGER REFERENCES jobs ON DELETE SET NULL, text);";
    let locks = "CREATE TABLE locks (job TEXT COLLATE RTRIM REFERENCES jobs, text);";
    let trigger = |on: &str, body: &str| format!("CREATE TRIGGER t AFTER {on} BEGIN {body}; END;");
    let module = "CREATE VIRTUAL TABLE seen USING fts5 (text);";
    for (schema, from, to, what, missed) in [
        (
            "CREATE INDEX i ON jobs (phase COLLATE RTRIM)".to_owned(),
            "RTRIM",
            "host_order",
            "jobs can't be deleted from",
            "no such collation sequence: host_order",
        ),
        (
            "CREATE INDEX i ON jobs (lower(phase))".to_owned(),
            "lower",
            "host_hash",
            "jobs can't be deleted from",
            "unknown function: host_hash()",
        ),
        (
            "CREATE INDEX i ON actions (name) WHERE length(name) > 3".to_owned(),
            "length",
            "host_size",
            "actions can't be deleted from",
            "unknown function: host_size()",
        ),
        (
            trigger("DELETE ON jobs", "SELECT host_note(old.id)"),
            "x",
            "x",
            "jobs can't be deleted from",
            "no such function: host_note",
        ),
        (
            trigger("DELETE ON actions", "INSERT INTO archive VALUES (old.id)"),
            "x",
            "x",
            "actions can't be deleted from",
            "no such table: main.archive",
        ),
        (
            module.to_owned() + &trigger("DELETE ON jobs", "INSERT INTO seen VALUES (old.id)"),
            "fts5",
            "host_module",
            "jobs can't be deleted from",
            "no such module: host_module",
        ),
        (
            notes.to_owned() + &trigger("DELETE ON notes", "SELECT host_note(old.text)"),
            "x",
            "x",
            "foreign keys can't be followed to notes",
            "no such function: host_note",
        ),
        (
            marks.to_owned() + "CREATE INDEX i ON marks (job COLLATE RTRIM)",
            "RTRIM",
            "host_order",
            "foreign keys can't be followed to marks",
            "no such collation sequence: host_order",
        ),
        (
            locks.to_owned(),
            "RTRIM",
            "host_order",
            "foreign keys can't be followed to locks",
            "no such collation sequence: host_order",
        ),
    ] {
        let sample = with_a_hosts_own(&schema, from, to);
        assert_eq!(problems(&sample), [format!("{what}: {missed}")], "{schema}");
    }
    // A column that is read, made by a function.
    let schema = SCHEMA.replacen("tags           TEXT,", "tags AS (lower(error)),", 1);
    let sample = Sample::with_schema(&schema);
    sample.execute(
        "PRAGMA writable_schema = on;
         UPDATE sqlite_master SET sql = replace(sql, 'lower', 'host_tags')",
    );
    assert_eq!(problems(&sample), ["jobs can't be read: unknown function: host_tags()"]);
}

/// What no call meets is no problem.
#[test]
fn what_a_call_does_not_need_may_be_unknown() {
    for (schema, from, to) in [
        ("CREATE TRIGGER t AFTER INSERT ON jobs BEGIN SELECT host_note(new.id); END", "x", "x"),
        ("CREATE TRIGGER t AFTER UPDATE ON actions BEGIN SELECT host_note(new.id); END", "x", "x"),
        ("CREATE INDEX i ON runs (phase COLLATE RTRIM)", "RTRIM", "host_order"),
        ("CREATE VIRTUAL TABLE seen USING fts5 (text)", "fts5", "host_module"),
        ("CREATE VIEW v AS SELECT lower(phase) FROM jobs", "lower", "host_hash"),
        ("ALTER TABLE jobs ADD COLUMN host AS (lower(phase))", "lower", "host_hash"),
    ] {
        let sample = with_a_hosts_own(schema, from, to);
        assert_eq!(everything(&sample).expect(schema).jobs_deleted, 3, "{schema}");
    }
}
