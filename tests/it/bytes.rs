//! The bytes in a report: those of the rows that go, and those of the file.

use std::fs;

use serde_json::{Value, json};

use crate::support::call::{all_with, call, dry_run};
use crate::support::sample::{SCHEMA, Sample, column, insert_action, insert_job, one};

/// The bytes of text and blobs in the rows of `table` that `which` selects, counted column by column.
fn bytes(sample: &Sample, table: &str, which: &str) -> i64 {
    let connection = sample.open();
    let columns: Vec<String> = column(&connection, &format!("SELECT name FROM pragma_table_info('{table}')"));
    let of_column = |name: &String| -> i64 {
        let value = format!("\"{name}\"");
        let sql = format!(
            "SELECT coalesce(sum(length(CAST({value} AS BLOB))), 0) FROM {table}
             WHERE ({which}) AND typeof({value}) IN ('text', 'blob')"
        );
        one(&connection, &sql)
    };
    columns.iter().map(of_column).sum()
}

/// Text of several bytes for a character, blobs, numbers where text is declared, text where numbers are, and a column that
/// nobody knows.
#[test]
fn what_is_planned_are_the_bytes_of_what_goes() {
    let sample = Sample::new();
    sample.execute(
        "ALTER TABLE jobs ADD COLUMN extra;
         ALTER TABLE jobs ADD COLUMN twice AS (stderr || stderr) VIRTUAL;
         UPDATE jobs SET stderr = 'ÄÖÜ', error = x'0001ff', stats_json = 12345, exit_code = 'none', extra = 3.5 WHERE id = 1;
         UPDATE jobs SET extra = zeroblob(100000), script = '' WHERE id = 2;
         UPDATE jobs SET extra = 'x', stderr = 'y' WHERE id = 3;
         ALTER TABLE actions ADD COLUMN note BLOB;
         UPDATE actions SET note = x'00' WHERE name = 'codescaler_build_12'",
    );
    let shown = call(&sample, dry_run()).unwrap();
    assert_eq!(shown.job_ids, [1, 2, 4]);
    let in_list = |texts: &[String]| texts.iter().map(|text| format!("'{text}'")).collect::<Vec<_>>().join(",");
    let planned = bytes(&sample, "jobs", "id IN (1, 2, 4)")
        + bytes(&sample, "actions", &format!("name IN ({})", in_list(&shown.action_ids)));
    assert!(planned > 100_000);
    assert_eq!(shown.bytes_planned, planned.unsigned_abs());
    let done = call(&sample, all_with(json!({ "expect_plan": shown.plan }))).unwrap();
    assert_eq!(done.bytes_planned, shown.bytes_planned);
    let again = call(&sample, dry_run()).unwrap();
    assert_eq!(again.bytes_planned, 0);
}

/// Jobs are small here, and all but the first are weighed by their values: what is expected to be a number may be none.
#[test]
fn columns_of_numbers_are_weighed_as_what_they_hold() {
    let sample = Sample::empty();
    sample.execute(
        r#"ALTER TABLE jobs ADD COLUMN context TEXT DEFAULT 'beside';
           ALTER TABLE jobs ADD COLUMN folded BIGINT COLLATE NOCASE;
           ALTER TABLE jobs ADD COLUMN score REAL;
           WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
           INSERT INTO jobs (id, action, spec_json, phase, tags, stderr, run_id, folded)
           SELECT i, 'a', '{}', 'done', '["codescaler"]', printf('%.*c', 300, 'x'), i, i FROM n;
           UPDATE jobs SET exit_code = 'none', folded = 'none' WHERE id % 7 = 0;
           UPDATE jobs SET pid = x'00', created_at_ms = 'later', score = 'high' WHERE id % 7 = 1;
           UPDATE jobs SET run_id = 1e300, attempt = -1e300, folded = '' WHERE id % 7 = 2;
           UPDATE jobs SET run_id = 9223372036854775807, archived = x'' WHERE id % 7 = 3;
           UPDATE jobs SET action_id = x'ff', phase = x'ff' || 'done', stderr = NULL WHERE id % 7 = 4"#,
    );
    let shown = call(&sample, all_with(json!({ "dry_run": true, "max_ids": 5000 }))).unwrap();
    let ids = shown.job_ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    assert!(shown.job_ids.len() > 4000);
    assert_eq!(shown.bytes_planned, bytes(&sample, "jobs", &format!("id IN ({ids})")).unsigned_abs());
}

/// Rows are read as UTF-8, and with columns that may be computed as they are read: they weigh what stands in them.
#[test]
fn a_row_weighs_what_stands_in_it() {
    let job = SCHEMA.replacen("action_id      TEXT,", "action_id AS (action || ''),", 1);
    let action =
        SCHEMA.replacen("updated_at_ms  INTEGER,\n    UNIQUE", "updated_at_ms AS (hex(spec_json)),\n    UNIQUE", 1);
    assert!(job != SCHEMA && action != SCHEMA);
    for (encoding, schema) in [("UTF-8", SCHEMA), ("UTF-16le", SCHEMA), ("UTF-8", &job), ("UTF-8", &action)] {
        let sample = Sample::with_schema("");
        fs::remove_file(&sample.path).unwrap();
        sample.execute(&format!("PRAGMA encoding = '{encoding}'; {schema} ALTER TABLE actions ADD COLUMN note"));
        let connection = sample.open();
        for name in ["plain", "Ünïcode"] {
            insert_job(&connection, name, r#"["codescaler"]"#.to_owned(), "{}".to_owned());
            insert_action(&connection, name, r#"{"tags":["codescaler"],"script":"☃"}"#.to_owned());
        }
        // The spec is the text {"tags":["codescaler"]} as bytes.
        sample.execute(
            "UPDATE actions SET note = 'ä', created_at_ms = 'whenever' WHERE name = 'plain';
             UPDATE actions SET note = x'0001', created_at_ms = 1.5,
                                spec_json = x'7b2274616773223a5b22636f64657363616c6572225d7d' WHERE name = 'Ünïcode'",
        );
        let planned = (bytes(&sample, "jobs", "TRUE") + bytes(&sample, "actions", "TRUE")).unsigned_abs();
        let report = call(&sample, dry_run()).unwrap();
        assert_eq!((report.actions_planned, report.bytes_planned), (2, planned), "{encoding}");
    }
}

/// Jobs beyond the limit are read without their bytes, and weighed once it turns out that they go.
#[test]
fn a_job_that_goes_for_another_is_weighed() {
    let sample = Sample::empty();
    sample.execute(
        r#"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
           INSERT INTO jobs (id, action, spec_json, phase, tags, stderr)
           SELECT i, 'a', '{}', 'done', '["codescaler"]', printf('%.*c', i, 'x') FROM n"#,
    );
    // The first 4,000 are the last of their group, so the limit is reached by others.
    sample.execute(r#"UPDATE jobs SET tags = '["codescaler","codescaler_kind_' || id || '"]' WHERE id <= 4000"#);
    let more = json!({ "dry_run": true, "limit": 10, "keep_last": 1, "keep_by": ["codescaler_kind_"] });
    let shown = call(&sample, all_with(more)).unwrap();
    assert_eq!(shown.job_ids, (4001..=4010).collect::<Vec<i64>>());
    assert_eq!(shown.bytes_planned, bytes(&sample, "jobs", "id BETWEEN 4001 AND 4010").unsigned_abs());
}

#[test]
fn the_store_is_as_large_as_its_file_is() {
    for journal in ["wal", "delete"] {
        let sample = Sample::new();
        sample.journal(journal);
        sample.execute("UPDATE jobs SET stderr = zeroblob(1000000)");
        for params in [dry_run(), all_with(Value::Object(Default::default()))] {
            let size = call(&sample, &params).unwrap().store;
            let length = |name: &str| fs::metadata(sample.file(name)).map_or(0, |file| file.len());
            assert_eq!(size.file_bytes, length("hero_proc.db"), "{journal} {params}");
            assert_eq!(size.wal_bytes, length("hero_proc.db-wal"), "{journal} {params}");
            let free: i64 =
                one(&sample.open(), "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size");
            assert_eq!(size.free_bytes, free.unsigned_abs(), "{journal} {params}");
        }
    }
}
