//! What `inspect` finds beside rows and columns: which protections a layout can't give, whom runs hold, which runs are left.

use hero_proc_cleanup::{Inspection, inspect};
use serde_json::json;

use crate::support::call::{all, call, host};
use crate::support::sample::{SCHEMA, Sample};

fn look(sample: &Sample) -> Inspection {
    inspect(sample, &host()).unwrap()
}

/// What stands on its own at the beginning of each thing that is lacking.
fn lacks(schema: &str) -> Vec<String> {
    let found = look(&Sample::with_schema(schema));
    found.lacks.iter().map(|lack| lack.split(':').next().unwrap().to_owned()).collect()
}

/// [`SCHEMA`] without some of the columns of one of its tables.
fn without(schema: &str, table: &str, columns: &[&str]) -> String {
    let start = schema.find(&format!("CREATE TABLE {table} (")).unwrap();
    let (before, rest) = schema.split_at(start);
    let (body, after) = rest.split_at(rest.find(");").unwrap());
    let named = |line: &&str| !columns.iter().any(|column| line.trim_start().starts_with(&format!("{column} ")));
    let mut body: Vec<&str> = body.lines().filter(named).collect();
    let last = body.pop().unwrap().trim_end_matches(',').to_owned();
    let indexed =
        |line: &&str| !(line.starts_with("CREATE INDEX") && columns.iter().any(|column| line.contains(column)));
    let after: Vec<&str> = after.lines().filter(indexed).collect();
    format!("{before}{}\n{last}\n{}", body.join("\n"), after.join("\n"))
}

#[test]
fn what_a_layout_cannot_protect_is_named() {
    assert_eq!(lacks(SCHEMA), [""; 0]);
    let spelt_otherwise = SCHEMA.replace("_at_ms", "_at").replace("AUTOINCREMENT", "autoincrement");
    assert_eq!(lacks(&spelt_otherwise), [""; 0]);
    for (table, columns, lacking) in [
        ("jobs", &["finished_at_ms"][..], &["jobs have no finished_at_ms"][..]),
        ("jobs", &["run_id"], &["jobs have no run_id"]),
        ("jobs", &["attempt"], &["jobs have no attempt"]),
        ("jobs", &["attempt", "started_at_ms"], &["jobs have no attempt"]),
        (
            "jobs",
            &["attempt", "started_at_ms", "finished_at_ms"],
            &["jobs have no finished_at_ms", "jobs have no attempt, and no times but the creation"],
        ),
        ("actions", &["updated_at_ms"], &["actions have no updated_at_ms"]),
        ("actions", &["created_at_ms", "updated_at_ms"], &["actions have no times"]),
    ] {
        assert_eq!(lacks(&without(SCHEMA, table, columns)), lacking, "{table} {columns:?}");
    }
    // The keyword of another table, or in a comment, is not that of the jobs.
    let reused =
        SCHEMA.replacen("AUTOINCREMENT", "-- AUTOINCREMENT", 1).replacen("-- AUTOINCREMENT,", ", -- AUTOINCREMENT", 1);
    assert_eq!(lacks(&reused), ["jobs.id is no AUTOINCREMENT"]);
}

#[test]
fn runs_that_hold_jobs_and_runs_that_nobody_names_are_counted() {
    for indexed in [true, false] {
        let sample = Sample::empty();
        if !indexed {
            sample.execute("DROP INDEX idx_jobs_run");
        }
        sample.execute(
            r#"INSERT INTO runs (phase) VALUES ('done'), ('running'), ('done'), ('done');
               INSERT INTO jobs (action, spec_json, phase, tags, run_id) VALUES
                 ('a', '{}', 'done', '["codescaler"]', 1), ('b', '{}', 'failed', '["codescaler"]', 2),
                 ('c', '{}', 'running', '["ops"]', 2), ('d', '{}', 'pending', '["codescaler"]', 2),
                 ('e', '{}', 'done', '["ops"]', 2), ('f', '{}', 'running', '[]', 9), ('g', '{}', 'running', '[]', 0),
                 ('h', '{}', 'done', '["codescaler"]', 0), ('i', '{}', 'done', '["codescaler"]', NULL);"#,
        );
        let found = look(&sample);
        assert_eq!((found.jobs.held_by_runs, &found.jobs.holders[..]), (2, &[3][..]), "{indexed}");
        assert_eq!(json!(found.runs), json!({ "total": 4, "unreferenced": 2 }));
        // A cleanup keeps the held ones, and leaves one run more without a job.
        let report = call(&sample, all()).unwrap();
        assert_eq!((&report.job_ids[..], report.jobs_kept.run_active), (&[1, 8, 9][..], 1));
        assert_eq!(json!(look(&sample).runs), json!({ "total": 4, "unreferenced": 3 }));
    }
    // Without the table, or without the column, there is nothing to count.
    let sample = Sample::with_schema(&without(SCHEMA, "jobs", &["run_id"]));
    assert_eq!(look(&sample).runs, None);
    let sample = Sample::empty();
    sample.execute("DROP TABLE runs; INSERT INTO jobs (action, spec_json, run_id) VALUES ('a', '{}', 1)");
    assert_eq!(look(&sample).runs, None);
}
