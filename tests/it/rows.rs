//! Rows and schemas that others made: nothing of them aborts a call, and nothing goes unless it truly matches.

use hero_proc_cleanup::{Guard, Host, Kind, Report, RpcError, cleanup_by_tag, inspect};
use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use serde_json::json;

use crate::support::sample::{SCHEMA, Sample, dump};

fn call(sample: &Sample) -> Result<Report, RpcError> {
    let params = json!({ "tags": ["codescaler"] });
    cleanup_by_tag(sample.path.as_path(), &Host::new(Guard::codescaler()), &params, chrono::Utc::now())
}

fn insert(connection: &Connection, tags: Cell, spec: Cell, created_at: Cell) -> i64 {
    connection
        .execute(
            "INSERT INTO jobs (action, phase, tags, spec_json, created_at_ms) VALUES ('a', 'done', ?1, ?2, ?3)",
            (tags, spec, created_at),
        )
        .unwrap();
    connection.last_insert_rowid()
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
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
    assert_eq!(call(&sample).unwrap().job_ids, matching);
    let found = inspect(sample.path.as_path(), &Host::new(Guard::codescaler())).unwrap();
    assert_eq!((found.jobs.tagged, found.jobs.total), (0, 46 - matching.len() as u64));
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
    let found = inspect(sample.path.as_path(), &Host::new(Guard::codescaler())).unwrap();
    assert_eq!((found.jobs.tagged, found.jobs.tagged_by_spec), (4, 3));
    assert_eq!(call(&sample).unwrap().job_ids, [1, 2, 3, 4]);
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
    let params = json!({ "tags": ["codescaler"], "older_than_ms": 5_000 });
    let host = Host::new(Guard::codescaler());
    let report = cleanup_by_tag(sample.path.as_path(), &host, &params, chrono::Utc::now()).unwrap();
    assert_eq!(report.job_ids, goes);
    assert_eq!((report.jobs_kept.undated, report.jobs_kept.recent), (11, 2));
}

#[test]
fn what_is_no_ordinary_table_is_refused() {
    for (schema, problem) in [
        (
            SCHEMA.replace("CREATE TABLE jobs (", "CREATE TABLE other (").replace(" ON jobs", " ON other")
                + "CREATE VIEW jobs AS SELECT * FROM other;",
            "jobs is no ordinary table",
        ),
        (
            SCHEMA.replace("CREATE TABLE actions (", "CREATE TABLE other (")
                + "CREATE VIRTUAL TABLE actions USING fts5 (id, context_name, name, spec_json);",
            "actions is no ordinary table",
        ),
        (
            SCHEMA.replacen(
                "    id             INTEGER PRIMARY KEY AUTOINCREMENT",
                "    id             TEXT PRIMARY KEY",
                1,
            ),
            "jobs.id is no INTEGER PRIMARY KEY",
        ),
        (
            SCHEMA.replacen(
                "    id             INTEGER PRIMARY KEY AUTOINCREMENT",
                "    id             INTEGER PRIMARY KEY DESC",
                1,
            ),
            "jobs.id is no INTEGER PRIMARY KEY",
        ),
        (
            SCHEMA.replacen("    id             INTEGER PRIMARY KEY AUTOINCREMENT", "    id             INTEGER", 1),
            "jobs.id is no INTEGER PRIMARY KEY",
        ),
        (
            SCHEMA.replacen("PRIMARY KEY AUTOINCREMENT", "PRIMARY KEY", 1).replacen(
                "    archived       INTEGER NOT NULL DEFAULT 0\n);",
                "    archived       INTEGER NOT NULL DEFAULT 0\n) WITHOUT ROWID;",
                1,
            ),
            "jobs.id is no INTEGER PRIMARY KEY",
        ),
        (
            SCHEMA.to_owned() + "CREATE TABLE a (b REFERENCES jobs (id) ON DELETE CASCADE, c REFERENCES actions (id));",
            "table a has a foreign key on actions",
        ),
        (
            SCHEMA.replacen(
                "run_id         INTEGER",
                "run_id         INTEGER REFERENCES jobs (id) ON DELETE CASCADE",
                1,
            ),
            "the foreign key jobs.run_id on jobs would delete rows of jobs",
        ),
    ] {
        let sample = Sample::with_schema(&schema);
        let before = sample.dump();
        let error = call(&sample).expect_err(problem);
        assert_eq!((error.kind(), &error.data["problems"]), (Some(Kind::StoreUnfit), &json!([problem])));
        assert_eq!(sample.dump(), before);
    }
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
        sample.open().execute_batch(&trigger).unwrap();
        let before = sample.dump();
        let error = call(&sample).unwrap_err();
        assert_eq!(error.kind(), Some(Kind::Internal), "{body}");
        assert!(!error.message.contains("secret") && !error.data.to_string().contains("secret"), "{error:?}");
        assert_eq!(error.data["incident"].as_str().unwrap().len(), 16);
        assert_eq!(sample.dump(), before, "{body}");
    }

    // One that deletes a job before its turn.
    let sample = Sample::new();
    sample
        .open()
        .execute_batch("CREATE TRIGGER t AFTER DELETE ON jobs WHEN old.id = 1 BEGIN DELETE FROM jobs WHERE id = 2; END")
        .unwrap();
    let before = sample.dump();
    assert_eq!(call(&sample).unwrap_err().kind(), Some(Kind::Internal));
    assert_eq!(sample.dump(), before);

    // One that makes new jobs.
    let sample = Sample::new();
    sample
        .open()
        .execute_batch(
            r#"CREATE TRIGGER t AFTER DELETE ON jobs BEGIN
                 INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('again', '{}', 'done', '["codescaler"]');
               END"#,
        )
        .unwrap();
    assert_eq!(call(&sample).unwrap().job_ids, [1, 2, 4]);
    assert_eq!(call(&sample).unwrap().jobs_deleted, 3, "they are the next call's");
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
        let params = json!({ "tags": ["codescaler"], "older_than_ms": 86_400_000, "dry_run": true });
        let host = Host::new(Guard::codescaler());
        let run = |dry_run: bool| {
            let mut params = params.clone();
            params["dry_run"] = dry_run.into();
            cleanup_by_tag(sample.path.as_path(), &host, &params, chrono::Utc::now()).unwrap()
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
        let text = dump(&sample.path);
        assert!(
            text.contains("lines: Integer(13)")
                && text.contains("marks: Null, Null")
                && text.contains("marks: Integer(13)")
        );
        assert!(!connection.prepare("PRAGMA foreign_key_check").unwrap().exists(()).unwrap());
    }
}

#[test]
fn a_connection_of_the_hosts_works_and_is_given_back_as_it_was() {
    for enforced in [true, false] {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        connection
            .execute_batch(
                r#"CREATE TABLE notes (job INTEGER REFERENCES jobs (id) ON DELETE CASCADE);
                   INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('a', '{}', 'done', '["codescaler"]');
                   INSERT INTO notes VALUES (1);"#,
            )
            .unwrap();
        connection.pragma_update(None, "foreign_keys", enforced).unwrap();
        let host = Host::new(Guard::codescaler());
        let params = json!({ "tags": ["codescaler"] });
        let report = cleanup_by_tag(&mut connection, &host, &params, chrono::Utc::now()).unwrap();
        assert_eq!((report.jobs_deleted, report.dependents["notes"]), (1, 1));
        assert_eq!(connection.pragma_query_value(None, "foreign_keys", |row| row.get::<_, bool>(0)).unwrap(), enforced);
        let leftovers: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_temp_master", (), |row| row.get(0)).unwrap();
        assert_eq!(leftovers, 0);

        connection.execute_batch("BEGIN").unwrap();
        let error = cleanup_by_tag(&mut connection, &host, &params, chrono::Utc::now()).unwrap_err();
        assert_eq!(error.data["problems"], json!(["the connection is inside a transaction"]));
        assert!(!connection.is_autocommit(), "the host's transaction is the host's");
    }
}

/// Nothing that the host's schema or its file says of itself is changed.
#[test]
fn nothing_persists_but_the_deletion() {
    for (journal_mode, auto_vacuum) in [("wal", 0), ("delete", 1), ("truncate", 2), ("persist", 0)] {
        let sample = Sample::new();
        sample
            .open()
            .execute_batch(&format!(
                "PRAGMA journal_mode = {journal_mode}; PRAGMA auto_vacuum = {auto_vacuum}; VACUUM;
                 PRAGMA user_version = 7; PRAGMA application_id = 8;"
            ))
            .unwrap();
        let persistent = || {
            let connection = sample.open();
            ["journal_mode", "auto_vacuum", "page_size", "user_version", "application_id", "schema_version", "encoding"]
                .map(|name| connection.pragma_query_value(None, name, |row| row.get::<_, Cell>(0)).unwrap())
        };
        let before = persistent();
        assert_eq!(call(&sample).unwrap().jobs_deleted, 3);
        // `persist` and `truncate` are settings of a connection: what the file says is `delete`.
        assert_eq!(persistent(), before);
    }
}
