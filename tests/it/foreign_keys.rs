//! Foreign keys of other tables on `jobs(id)`, in the shapes that are easy to overlook.

use std::collections::BTreeMap;

use hero_proc_cleanup::{Guard, Host, Kind, Report, RpcError, cleanup_by_tag};
use serde_json::{Value, json};

use crate::support::sample::Sample;

fn call(sample: &Sample, params: &Value) -> Result<Report, RpcError> {
    cleanup_by_tag(sample.path.as_path(), &Host::new(Guard::codescaler()), params, chrono::Utc::now())
}

/// Three finished jobs, each with its action, and the tables that `schema` adds.
fn sample(schema: &str) -> Sample {
    let sample = Sample::empty();
    let connection = sample.open();
    connection
        .execute_batch(
            r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags) VALUES
                 ('a', 'a', '{}', 'done', '["codescaler"]'),
                 ('b', 'b', '{}', 'done', '["codescaler"]'),
                 ('c', 'c', '{}', 'done', '["codescaler"]');
               INSERT INTO actions (name, spec_json) VALUES
                 ('a', '{"tags":["codescaler"]}'), ('b', '{"tags":["codescaler"]}'), ('c', '{"tags":["codescaler"]}');"#,
        )
        .unwrap();
    connection.execute_batch(schema).unwrap();
    sample
}

fn nothing_dangles(sample: &Sample) {
    let connection = sample.open();
    let dangling = connection.prepare("PRAGMA foreign_key_check").unwrap().exists(()).unwrap();
    assert!(!dangling, "{}", sample.dump());
}

fn dependents(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
    of.iter().map(|(table, rows)| ((*table).to_owned(), *rows)).collect()
}

/// `pragma_table_info` does not list generated columns; they may bear keys all the same.
#[test]
fn keys_on_generated_columns_count() {
    for storage in ["STORED", "VIRTUAL"] {
        for (on_delete, went, gone) in [
            ("", vec![2, 3], dependents(&[])),
            ("ON DELETE RESTRICT", vec![2, 3], dependents(&[])),
            // It can't be set to NULL.
            ("ON DELETE SET NULL", vec![2, 3], dependents(&[])),
            ("ON DELETE CASCADE", vec![1, 2, 3], dependents(&[("holds", 1)])),
        ] {
            let sample = sample(&format!(
                "CREATE TABLE holds (
                     data TEXT,
                     job INTEGER GENERATED ALWAYS AS (json_extract(data, '$.job')) {storage} REFERENCES jobs (id) {on_delete}
                 );
                 INSERT INTO holds (data) VALUES ('{{\"job\":1}}'), ('{{}}');"
            ));
            let report = call(&sample, &json!({ "tags": ["codescaler"] })).unwrap();
            assert_eq!((&report.job_ids, &report.dependents), (&went, &gone), "{storage} {on_delete}");
            assert_eq!(report.jobs_kept.referenced, 3 - went.len() as u64, "{storage} {on_delete}");
            nothing_dangles(&sample);
        }
    }
}

/// Each row counts once, however many keys lead to it, in a dry run as in the deletion.
#[test]
fn a_row_that_goes_twice_counts_once() {
    for (schema, gone) in [
        (
            "CREATE TABLE notes (job REFERENCES jobs ON DELETE CASCADE, cause REFERENCES jobs ON DELETE CASCADE);
             INSERT INTO notes VALUES (1, 1), (1, 2), (NULL, 3), (NULL, NULL);",
            dependents(&[("notes", 3)]),
        ),
        (
            "CREATE TABLE notes (job REFERENCES jobs ON DELETE CASCADE, cause REFERENCES jobs ON DELETE SET NULL);
             INSERT INTO notes VALUES (1, 1), (NULL, 2), (NULL, NULL);",
            dependents(&[("notes", 2)]),
        ),
        (
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, job REFERENCES jobs ON DELETE CASCADE);
             CREATE TABLE lines (note REFERENCES notes ON DELETE CASCADE, job REFERENCES jobs ON DELETE CASCADE);
             INSERT INTO notes VALUES (7, 1), (8, NULL);
             INSERT INTO lines VALUES (7, 1), (7, NULL), (8, 2), (8, NULL);",
            dependents(&[("lines", 3), ("notes", 1)]),
        ),
        (
            // Of the jobs themselves, those that stay.
            "ALTER TABLE jobs ADD COLUMN cause INTEGER REFERENCES jobs ON DELETE SET NULL;
             UPDATE jobs SET cause = 1 WHERE id > 1;
             INSERT INTO jobs (action, spec_json, tags, cause) VALUES ('x', '{}', '[]', 2), ('x', '{}', '[]', NULL);",
            dependents(&[("jobs", 1)]),
        ),
    ] {
        let sample = sample(schema);
        let shown = call(&sample, &json!({ "tags": ["codescaler"], "dry_run": true })).unwrap();
        let went = call(&sample, &json!({ "tags": ["codescaler"], "expect_plan": shown.plan })).unwrap();
        assert_eq!((shown.dependents, went.dependents), (gone.clone(), gone), "{schema}");
        nothing_dangles(&sample);
    }
}

/// What a plan shows of other tables is what goes there, or nothing.
#[test]
fn a_plan_binds_the_rows_of_other_tables() {
    let sample = sample(
        "CREATE TABLE notes (job REFERENCES jobs ON DELETE CASCADE, text);
         INSERT INTO notes VALUES (1, 'x');",
    );
    let shown = call(&sample, &json!({ "tags": ["codescaler"], "dry_run": true })).unwrap();
    sample.open().execute("INSERT INTO notes VALUES (2, 'y')", ()).unwrap();
    let before = sample.dump();
    let error = call(&sample, &json!({ "tags": ["codescaler"], "expect_plan": shown.plan })).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::PlanChanged));
    assert_eq!(sample.dump(), before);
    let went = call(&sample, &json!({ "tags": ["codescaler"], "expect_plan": error.data["plan"] })).unwrap();
    assert_eq!((went.jobs_deleted, went.dependents), (3, dependents(&[("notes", 2)])));
}

/// A key on another column of a table, by name or as its primary key, has nothing to do with the one that is set to NULL.
#[test]
fn a_column_may_be_set_to_null_beside_one_that_is_referred_to() {
    let sample = sample(
        "CREATE TABLE marks (id INTEGER PRIMARY KEY, job REFERENCES jobs ON DELETE SET NULL);
         CREATE TABLE logs (mark REFERENCES marks, again REFERENCES marks (id));
         INSERT INTO marks VALUES (7, 1);
         INSERT INTO logs VALUES (7, 7);",
    );
    let report = call(&sample, &json!({ "tags": ["codescaler"] })).unwrap();
    assert_eq!((report.jobs_deleted, report.dependents), (3, dependents(&[("marks", 1)])));
    nothing_dangles(&sample);
}
