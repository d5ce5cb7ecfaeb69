//! Rows that others made: nothing of them aborts a call, and nothing goes unless it truly matches.

use hero_proc_cleanup::{Kind, inspect};
use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use serde_json::json;

use crate::support::call::{all, all_with, call, host};
use crate::support::sample::{SCHEMA, Sample, insert_job, text};

/// A finished job that was created at `created_at`. Returns its id.
fn insert(connection: &Connection, tags: Cell, spec: Cell, created_at: Cell) -> i64 {
    let id = insert_job(connection, "a", tags, spec);
    connection.execute("UPDATE jobs SET created_at_ms = ?2 WHERE id = ?1", (id, created_at)).unwrap();
    id
}

/// What a job that runs waits for can't be told from a torn spec: each quoted word in it may be an action.
#[test]
fn a_torn_spec_of_a_job_that_runs_keeps_what_it_names() {
    let sample = Sample::empty();
    sample.execute(
        r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('x', '{"torn', 'running', '["codescaler"]');
           INSERT INTO actions (name, spec_json, created_at_ms)
           SELECT value, '{"tags":["codescaler"]}', 1700000000000 FROM json_each('["torn", "other"]')"#,
    );
    let report = call(&sample, all()).unwrap();
    assert_eq!(report.action_ids, ["other"]);
}

#[test]
fn only_tags_that_truly_match_are_matched() {
    let sample = Sample::empty();
    let connection = sample.open();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let root = r#"["codescaler"]"#;
    let many = json!(vec!["x"; 100_000]).to_string();
    let mut many_and_root = vec!["x"; 100_000];
    many_and_root.push("codescaler");
    let big = "x".repeat(100_000_000);
    let rows = [
        // Malformed, of another form, or another tag.
        (text(""), text("{}"), false),
        (text("codescaler"), text("{}"), false),
        (text("[\"codescaler\""), text("{}"), false),
        (text("[\"codescaler\"]]"), text("{}"), false),
        (text("[\"codescaler\",]"), text("{}"), false),
        (text("['codescaler']"), text("{}"), false),
        (text("\"codescaler\""), text("{}"), false),
        (text("{\"codescaler\":\"codescaler\"}"), text("{}"), false),
        (text("[[\"codescaler\"]]"), text("{}"), false),
        (text("[\"codescaler\",{}]"), text("{}"), false),
        (text("[\"codescale_\"]"), text("{}"), false),
        (text("[\"%\"]"), text("{}"), false),
        (text("[\"codescaler%\"]"), text("{}"), false),
        (text("[\"CODESCALER\"]"), text("{}"), false),
        (text("[\"codescaler\\u0000\"]"), text("{}"), false),
        (text("[\"codescaler \"]"), text("{}"), false),
        (text("\u{feff}[\"codescaler\"]"), text("{}"), false),
        (text("[\"xcodescalerx\"]"), text("{}"), false),
        (text(deep.clone()), text("{}"), false),
        (text(many), text("{}"), false),
        (text(json!(["codescaler", "y".repeat(1 << 20)]).to_string()), text("{}"), true),
        (Cell::Integer(7), text(r#"{"tags":["codescaler"]}"#), false),
        (Cell::Real(0.5), text(r#"{"tags":["codescaler"]}"#), false),
        (Cell::Blob(root.as_bytes().to_vec()), text("{}"), false),
        (Cell::Blob(vec![0xff, 0xfe]), text("{}"), false),
        // True matches, some of them oddly written.
        (text(root), text("{}"), true),
        (text(root), text("torn"), true),
        (text(root), Cell::Blob(vec![0xff]), true),
        (text("[\"codescaler\",\"codescaler\",\"codescaler\"]"), text("{}"), true),
        (text("[\"c\\u006fdescaler\"]"), text("{}"), true),
        (text(" [\n\"codescaler\" , \"%_\"\t] "), text("{}"), true),
        (text(json!(many_and_root).to_string()), text("{}"), true),
        // Old rows, by their spec.
        (Cell::Null, text(r#"{"tags":["codescaler"]}"#), true),
        (text("null"), text(r#"{"tags":["codescaler"]}"#), true),
        (text(" null "), text(r#"{"tags":["codescaler"]}"#), true),
        (Cell::Null, text(format!(r#"{{"env":{deep},"tags":["codescaler"]}}"#)), true),
        (Cell::Null, text(format!(r#"{{"script":"{big}","tags":["codescaler"]}}"#)), true),
        (Cell::Null, text(r#"{"tags":["codescaler"],"tags":["codescaler"]}"#), false),
        (Cell::Null, text(r#"{"tags":["codescaler"],"cpu":NaN}"#), false),
        (Cell::Null, text(r#"{"tags":["codescaler"]"#), false),
        (Cell::Null, text(r#"{"tags":"codescaler"}"#), false),
        (Cell::Null, text(r#"{"Tags":["codescaler"]}"#), false),
        (Cell::Null, text(r#"[{"tags":["codescaler"]}]"#), false),
        (Cell::Null, text(deep), false),
        (Cell::Null, Cell::Blob(br#"{"tags":["codescaler"]}"#.to_vec()), false),
        (Cell::Null, Cell::Integer(1), false),
    ];
    let mut matching = Vec::new();
    for (tags, spec, matches) in rows {
        let id = insert(&connection, tags, spec, Cell::Integer(1_700_000_000_000));
        if matches {
            matching.push(id);
        }
    }
    // A text that is no UTF-8.
    connection
        .execute("UPDATE jobs SET tags = CAST(x'5b22636f64657363616c6572ff225d' AS TEXT) WHERE id = 1", ())
        .unwrap();
    // These rows are large on average: with a cut-off, times are read of those that may match.
    let aged = call(&sample, all_with(json!({ "dry_run": true, "older_than_ms": 5_000 }))).unwrap();
    assert_eq!((aged.job_ids, aged.jobs_kept.undated), (matching.clone(), 0));
    assert_eq!(call(&sample, all()).unwrap().job_ids, matching);
    let found = inspect(sample.path.as_path(), &host()).unwrap();
    assert_eq!((found.jobs.tagged, found.jobs.total), (0, 46 - matching.len() as u64));
}

/// Of large jobs, times are read where they may matter; what is said of jobs is the same.
#[test]
fn times_behind_large_columns_count_like_others() {
    let tags = [
        text(r#"["codescaler","codescaler_kind_ü"]"#),
        text(r#"["codescaler","codescaler_kind_\u00fc"]"#),
        text(r#"["\u0063odescaler","codescaler_kind_ü"]"#),
        text(r#" ["codescaler_kind_ü","codescaler"]"#),
        text(r#"["codescaler","codescaler_kind_u"]"#),
        text(r#"["codescaler","xcodescaler_kind_üx"]"#),
        Cell::Null,
        text("null"),
        text("[]"),
    ];
    let now = chrono::Utc::now().timestamp_millis();
    let times = [Cell::Integer(now - 9_000), Cell::Integer(now + 9_000_000), Cell::Null, text("x")];
    let [small, large] = [0, 20_000].map(|bytes| {
        let sample = Sample::empty();
        let connection = sample.open();
        for tags in &tags {
            for created_at in &times {
                let spec = text(r#"{"tags":["codescaler","codescaler_kind_ü"]}"#);
                insert(&connection, tags.clone(), spec, created_at.clone());
            }
        }
        connection.execute("UPDATE jobs SET stderr = zeroblob(?1)", [bytes]).unwrap();
        // The first was changed after the cut-off.
        connection.execute("UPDATE jobs SET finished_at_ms = ?1 WHERE id = 1", [now + 9_000_000]).unwrap();
        sample
    });
    for (tag, goes) in [("codescaler_kind_ü", vec![5, 9, 13, 25, 29]), ("codescaler", vec![17, 21])] {
        for dry_run in [true, false] {
            let params = json!({ "tags": ["codescaler", tag], "dry_run": dry_run, "older_than_ms": 5_000 });
            let [small, large] = [&small, &large].map(|sample| call(sample, params.clone()).unwrap());
            assert_eq!((&small.job_ids, &large.job_ids), (&goes, &goes), "{tag}");
            assert_eq!((large.jobs_kept, large.jobs_matched), (small.jobs_kept, small.jobs_matched), "{tag}");
        }
    }
}

/// What a cleanup reads from the spec, a check counts as read from there: NULL and a JSON null alike.
#[test]
fn a_check_counts_what_carries_its_tags_in_its_spec_only() {
    let sample = Sample::empty();
    let connection = sample.open();
    let tagged = || text(r#"{"tags":["codescaler"]}"#);
    for (tags, spec) in [
        (Cell::Null, tagged()),
        (text("null"), tagged()),
        (text(" null\n"), tagged()),
        (text(r#"["codescaler"]"#), tagged()),
        (text("[]"), tagged()),
        (Cell::Null, text("{}")),
    ] {
        insert(&connection, tags, spec, Cell::Null);
    }
    let found = inspect(sample.path.as_path(), &host()).unwrap();
    assert_eq!((found.jobs.tagged, found.jobs.tagged_by_spec), (4, 3));
    assert_eq!(call(&sample, all()).unwrap().job_ids, [1, 2, 3, 4]);
}

#[test]
fn only_a_usable_creation_time_has_an_age() {
    let sample = Sample::empty();
    let connection = sample.open();
    let now = chrono::Utc::now().timestamp_millis();
    let rows = [
        (Cell::Integer(now - 10_000), true),
        (Cell::Integer(100_000_000_000), true),
        (text((now - 10_000).to_string()), true), // SQLite makes a number of it: the column is declared INTEGER.
        (Cell::Integer(now + 10_000_000), false),
        (Cell::Integer(i64::MAX), false),
        (Cell::Null, false),
        (Cell::Integer(0), false),
        (Cell::Integer(-1), false),
        (Cell::Integer(i64::MIN), false),
        (Cell::Integer(99_999_999_999), false),
        (Cell::Integer(now / 1000), false),
        (text("2026-01-01T00:00:00Z"), false),
        (text(""), false),
        (Cell::Real(1.5), false),
        (Cell::Real(1e300), false),
        (Cell::Blob(vec![1]), false),
    ];
    let mut goes = Vec::new();
    for (created_at, old) in rows {
        let id = insert(&connection, text(r#"["codescaler"]"#), text("{}"), created_at);
        if old {
            goes.push(id);
        }
    }
    let report = call(&sample, all_with(json!({ "older_than_ms": 5_000 }))).unwrap();
    assert_eq!(report.job_ids, goes);
    assert_eq!((report.jobs_kept.undated, report.jobs_kept.recent), (11, 2));
}

/// What the host's own triggers do is the host's; what they prevent means that nothing goes.
#[test]
fn triggers_have_their_say() {
    for body in [
        "SELECT RAISE(ABORT, 'secret SQL of the host')",
        "SELECT RAISE(ROLLBACK, 'secret SQL of the host')",
        "SELECT RAISE(FAIL, 'secret SQL of the host')",
        "SELECT RAISE(IGNORE)",
    ] {
        let sample = Sample::new();
        let trigger = format!("CREATE TRIGGER t BEFORE DELETE ON jobs WHEN old.id = 2 BEGIN {body}; END");
        sample.execute(&trigger);
        let before = sample.dump();
        let error = call(&sample, all()).unwrap_err();
        assert_eq!(error.kind(), Some(Kind::Internal), "{body}");
        assert!(!error.message.contains("secret") && !error.data.to_string().contains("secret"), "{error:?}");
        assert_eq!(error.data["incident"].as_str().unwrap().len(), 16);
        assert_eq!(sample.dump(), before, "{body}");
    }

    // One that deletes a job before its turn.
    let sample = Sample::new();
    sample.execute("CREATE TRIGGER t AFTER DELETE ON jobs WHEN old.id = 1 BEGIN DELETE FROM jobs WHERE id = 2; END");
    let before = sample.dump();
    assert_eq!(call(&sample, all()).unwrap_err().kind(), Some(Kind::Internal));
    assert_eq!(sample.dump(), before);

    // One that makes new jobs.
    let sample = Sample::new();
    sample.execute(
        r#"CREATE TRIGGER t AFTER DELETE ON jobs BEGIN
             INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('again', '{}', 'done', '["codescaler"]');
           END"#,
    );
    assert_eq!(call(&sample, all()).unwrap().job_ids, [1, 2, 4]);
    assert_eq!(call(&sample, all()).unwrap().jobs_deleted, 3, "they are the next call's");
}

/// A store in which a context may be NULL.
fn nullable() -> Sample {
    let nullable = SCHEMA.replace("context_name   TEXT    NOT NULL", "context_name   TEXT");
    assert_ne!(nullable, SCHEMA);
    Sample::with_schema(&nullable)
}

/// A row without a context refers to the default one's actions.
#[test]
fn a_reference_without_a_context_keeps_an_action() {
    for (referrer, by) in [
        ("INSERT INTO jobs (context_name, action, spec_json, phase) VALUES (NULL, 'a', '{}', 'running')", "job 2"),
        (
            r#"INSERT INTO services (context_name, name, spec_json) VALUES (NULL, 'web', '{"actions":["a"]}')"#,
            "service web",
        ),
        (
            r#"INSERT INTO actions (context_name, name, spec_json) VALUES (NULL, 'b', '{"depends_on":["a"]}')"#,
            "action b",
        ),
    ] {
        let sample = nullable();
        sample.execute(
            r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('a', '{}', 'done', '["codescaler"]');
               INSERT INTO actions (name, spec_json) VALUES ('a', '{"tags":["codescaler"]}');"#,
        );
        sample.execute(referrer);
        let report = call(&sample, all()).unwrap();
        assert_eq!((report.jobs_deleted, report.actions_deleted), (1, 0), "{referrer}");
        assert_eq!(json!(report.actions_kept[0].by), by);
    }
}

/// The other way round, a job or an action without a context: which belongs to which can't be told, so no action goes
/// with the job. One that has a context itself may have leaked: no job that remains refers to it.
#[test]
fn without_a_context_no_action_goes() {
    for (of_the_job, of_the_action) in [("NULL", "'core'"), ("'core'", "NULL"), ("NULL", "NULL")] {
        let sample = nullable();
        let rows = format!(
            r#"INSERT INTO jobs (context_name, action, action_id, spec_json, phase, tags)
               VALUES ({of_the_job}, 'a', 'a', '{{}}', 'done', '["codescaler"]');
               INSERT INTO actions (context_name, name, spec_json, created_at_ms)
               VALUES ({of_the_action}, 'a', '{{"tags":["codescaler"]}}', 1700000000000);"#
        );
        sample.execute(&rows);
        let report = call(&sample, all_with(json!({ "leaked": false }))).unwrap();
        let went = (report.jobs_deleted, report.actions_deleted, report.actions_kept_count);
        assert_eq!(went, (1, 0, 0), "{of_the_job}, {of_the_action}");
        let report = call(&sample, all()).unwrap();
        let leaked = u64::from(of_the_action != "NULL");
        let went = (report.actions_deleted, report.actions_leaked, report.actions_kept_count);
        assert_eq!(went, (leaked, leaked, 0), "{of_the_job}, {of_the_action}");
    }
}
