//! Foreign keys of other tables on `jobs(id)`: what they declare happens, in the shapes that are easy to overlook as well.

use std::collections::BTreeMap;

use hero_proc_cleanup::Kind;
use serde_json::json;

use crate::support::call::{all, all_with, bound, call, dry_run};
use crate::support::sample::{Sample, assert_nothing_dangles};

/// Three finished jobs, each with its action, and the tables that `schema` adds.
fn sample(schema: &str) -> Sample {
    let sample = Sample::empty();
    sample.execute(
            r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags) VALUES
                 ('a', 'a', '{}', 'done', '["codescaler"]'),
                 ('b', 'b', '{}', 'done', '["codescaler"]'),
                 ('c', 'c', '{}', 'done', '["codescaler"]');
               INSERT INTO actions (name, spec_json) VALUES
                 ('a', '{"tags":["codescaler"]}'), ('b', '{"tags":["codescaler"]}'), ('c', '{"tags":["codescaler"]}');"#,
    );
    sample.execute(schema);
    sample
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
            let report = call(&sample, all()).unwrap();
            assert_eq!((&report.job_ids, &report.dependents), (&went, &gone), "{storage} {on_delete}");
            assert_eq!(report.jobs_kept.referenced, 3 - went.len() as u64, "{storage} {on_delete}");
            assert_nothing_dangles(&sample.open());
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
        let shown = call(&sample, dry_run()).unwrap();
        let went = call(&sample, bound(&shown.plan)).unwrap();
        assert_eq!((shown.dependents, went.dependents), (gone.clone(), gone), "{schema}");
        assert_nothing_dangles(&sample.open());
    }
}

/// What a plan shows of other tables is what goes there, or nothing.
#[test]
fn a_plan_binds_the_rows_of_other_tables() {
    let sample = sample(
        "CREATE TABLE notes (job REFERENCES jobs ON DELETE CASCADE, text);
         INSERT INTO notes VALUES (1, 'x');",
    );
    let shown = call(&sample, dry_run()).unwrap();
    sample.execute("INSERT INTO notes VALUES (2, 'y')");
    let before = sample.dump();
    let error = call(&sample, bound(&shown.plan)).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::PlanChanged));
    assert_eq!(sample.dump(), before);
    let went = call(&sample, bound(error.data["plan"].as_str().unwrap())).unwrap();
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
    let report = call(&sample, all()).unwrap();
    assert_eq!((report.jobs_deleted, report.dependents), (3, dependents(&[("marks", 1)])));
    assert_nothing_dangles(&sample.open());
}

/// Carried out whether or not anybody enforces it; a chain of cascades is followed to its end.
#[test]
fn foreign_keys_are_what_they_declare() {
    for without_rowid in ["", " WITHOUT ROWID"] {
        let sample = Sample::new();
        let connection = sample.open();
        connection
            .execute_batch(&format!(
                r#"PRAGMA foreign_keys = on;
                   CREATE TABLE "job ""notes" (id INTEGER PRIMARY KEY, job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE){without_rowid};
                   CREATE TABLE lines (note INTEGER REFERENCES "job ""notes" (id) ON DELETE CASCADE, text);
                   CREATE TABLE marks (line INTEGER REFERENCES "job ""notes" ON DELETE SET NULL, job REFERENCES JOBS (ID) ON DELETE SET NULL);
                   CREATE TABLE pins (note INTEGER REFERENCES "job ""notes" (id));
                   CREATE TABLE strict_marks (job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE SET NULL);
                   CREATE TABLE defaults (job INTEGER DEFAULT 5 REFERENCES jobs (id) ON DELETE SET DEFAULT);
                   INSERT INTO "job ""notes" VALUES (10, 1), (11, 1), (12, 2), (13, 5);
                   INSERT INTO lines VALUES (10, 'x'), (10, 'y'), (13, 'z');
                   INSERT INTO marks VALUES (10, 1), (13, 5), (NULL, NULL);"#
            ))
            .unwrap();
        let run = |dry_run: bool| {
            call(&sample, all_with(json!({ "older_than_ms": 86_400_000, "dry_run": dry_run }))).unwrap()
        };
        // Each of these holds job 2, at one or two removes.
        for (hold, table) in [
            ("INSERT INTO pins VALUES (12)", "pins"),
            ("INSERT INTO strict_marks VALUES (2)", "strict_marks"),
            ("INSERT INTO defaults VALUES (2)", "defaults"),
        ] {
            connection.execute(hold, ()).unwrap();
            let held = run(true);
            assert_eq!((held.job_ids, held.jobs_kept.referenced), (vec![1], 1), "{table}");
            assert_eq!(held.errors, [format!("job 2: held by a foreign key of table {table}")]);
            connection.execute(&format!("DELETE FROM {table}"), ()).unwrap();
        }
        let (dry, real) = (run(true), run(false));
        assert_eq!(real.job_ids, [1, 2]);
        let dependents = json!({ "job \"notes": 3, "lines": 2, "marks": 1 });
        assert_eq!(json!(real.dependents), dependents);
        assert_eq!(json!(dry.dependents), dependents);
        let text = sample.dump();
        assert!(
            text.contains("lines: Integer(13)")
                && text.contains("marks: Null, Null")
                && text.contains("marks: Integer(13)")
        );
        assert_nothing_dangles(&connection);
    }
}
