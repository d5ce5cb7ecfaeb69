//! The store's file, its connection and its layout, in every shape that hosts give them: a call leaves all three as they were.

use hero_proc_cleanup::Kind;
use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use serde_json::json;

use crate::support::call::{all, call, checked, dry_run};
use crate::support::sample::{
    SCHEMA, Sample, assert_nothing_dangles, assert_others_are_there, insert_action, insert_job, one,
};

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
        let error = call(&sample, all()).expect_err(problem);
        assert_eq!((error.kind(), &error.data["problems"]), (Some(Kind::StoreUnfit), &json!([problem])));
        assert_eq!(sample.dump(), before);
    }
}

#[test]
fn virtual_tables_and_views_are_refused() {
    let without = |table: &str| {
        SCHEMA.replace(&format!("CREATE TABLE {table} ("), "CREATE TABLE other (").replace(" ON jobs", " ON other")
    };
    let columns = "id, context_name, action, tags, phase, spec_json, created_at_ms";
    for (table, made) in [
        ("jobs", format!("CREATE VIRTUAL TABLE jobs USING fts5 ({columns})")),
        ("jobs", format!("create virtual table Jobs using fts4 ({columns})")),
        ("jobs", "CREATE VIRTUAL TABLE jobs USING rtree (id, low, high, +context_name, +action, +tags)".to_owned()),
        (
            "jobs",
            "CREATE VIEW Jobs AS SELECT * FROM other;
             CREATE TRIGGER t INSTEAD OF DELETE ON jobs BEGIN DELETE FROM other; END"
                .to_owned(),
        ),
        ("services", "CREATE VIEW services AS SELECT * FROM other".to_owned()),
    ] {
        let schema =
            if table == "jobs" { without("jobs") } else { without("services").replace(" ON other", " ON jobs") };
        let sample = Sample::with_schema(&format!("{schema}; {made};"));
        let error = checked(&sample).unwrap_err();
        assert_eq!(error.kind(), Some(Kind::StoreUnfit));
        assert_eq!(error.data["problems"], json!([format!("{table} is no ordinary table")]), "{made}");
    }
}

/// A generated column is read as any other. One whose expression fails ends the call.
#[test]
fn columns_may_be_generated() {
    let generated = "tags TEXT GENERATED ALWAYS AS (json_extract(spec_json, '$.labels'))";
    let insert = |connection: &Connection, spec: &str| {
        let row = "INSERT INTO jobs (action, phase, spec_json) VALUES ('a', 'done', ?1)";
        connection.execute(row, [spec]).unwrap();
    };
    for kind in ["VIRTUAL", "STORED"] {
        let schema = SCHEMA.replacen("    tags           TEXT, ", &format!("    {generated} {kind}, "), 1);
        let sample = Sample::with_schema(&schema);
        let connection = sample.open();
        for spec in [
            r#"{"labels":["codescaler"]}"#,
            r#"{"labels":["codescalers"]}"#,
            r#"{"tags":["codescaler"]}"#,
            r#"{"labels":"null","tags":["codescaler"]}"#,
        ] {
            insert(&connection, spec);
        }
        assert_eq!(checked(&sample).unwrap().job_ids, [1, 3, 4], "{kind}");
    }

    let sample = Sample::with_schema(&SCHEMA.replacen("    tags           TEXT, ", "    labels TEXT, ", 1));
    let connection = sample.open();
    insert(&connection, r#"{"labels":["codescaler"]}"#);
    insert(&connection, "torn");
    connection.execute_batch(&format!("ALTER TABLE jobs ADD COLUMN {generated}")).unwrap();
    let error = call(&sample, all()).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Internal));
    assert_eq!(sample.jobs().len(), 2);
}

/// Names are the schema's, never SQL.
#[test]
fn tables_and_columns_may_have_any_name() {
    for name in [
        "it's",
        "\"",
        "\"\"; DROP TABLE jobs; --",
        "`",
        "[x]",
        "a]b",
        "new\nline",
        "main.jobs",
        "",
        " ",
        "select",
        "Ü",
        "?1",
    ] {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let sample = Sample::new();
        let connection = sample.open();
        connection
            .execute_batch(&format!(
                "CREATE TABLE {quoted} ({quoted} INTEGER REFERENCES jobs (id) ON DELETE CASCADE);
                 INSERT INTO {quoted} VALUES (1), (1), (5);
                 CREATE TABLE marks ({quoted} INTEGER REFERENCES jobs (id) ON DELETE SET NULL);
                 INSERT INTO marks VALUES (1), (5);
                 CREATE TABLE holds ({quoted} INTEGER REFERENCES jobs (id));
                 INSERT INTO holds VALUES (2), (5);"
            ))
            .unwrap();
        let report = checked(&sample).unwrap();
        assert_eq!((report.job_ids, report.jobs_kept.referenced), (vec![1, 4], 1), "{name:?}");
        assert_eq!(json!(report.dependents), json!({ name: 2, "marks": 1 }));
        assert_nothing_dangles(&connection);
        assert_others_are_there(&connection);
    }
}

#[test]
fn a_store_may_be_in_utf_16() {
    for encoding in ["UTF-16le", "UTF-16be"] {
        let sample = Sample::with_schema("");
        std::fs::remove_file(&sample.path).unwrap();
        let connection = sample.open();
        connection.execute_batch(&format!("PRAGMA encoding = '{encoding}'; {SCHEMA}")).unwrap();
        insert_job(&connection, "Ünïcode", r#"["codescaler","☃"]"#.to_owned(), "{}".to_owned());
        insert_job(&connection, "x", Cell::Null, r#"{"x":"☃","tags":["codescaler"]}"#.to_owned());
        insert_job(&connection, "x", r#"["ops"]"#.to_owned(), "{}".to_owned());
        // Half of a surrogate pair.
        connection
            .execute("UPDATE jobs SET phase = CAST(x'00d8' AS TEXT), tags = CAST(x'd800' AS TEXT) WHERE id = 3", ())
            .unwrap();
        insert_action(&connection, "Ünïcode", r#"{"tags":["codescaler"]}"#.to_owned());
        let report = checked(&sample).unwrap();
        assert_eq!((report.job_ids, report.action_ids), (vec![1, 2], vec!["Ünïcode".to_owned()]), "{encoding}");
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
        let report = call(&mut connection, all()).unwrap();
        assert_eq!((report.jobs_deleted, report.dependents["notes"]), (1, 1));
        assert_eq!(connection.pragma_query_value(None, "foreign_keys", |row| row.get::<_, bool>(0)).unwrap(), enforced);
        assert_eq!(one::<i64>(&connection, "SELECT count(*) FROM sqlite_temp_master"), 0);

        connection.execute_batch("BEGIN").unwrap();
        let error = call(&mut connection, all()).unwrap_err();
        assert_eq!(error.data["problems"], json!(["the connection is inside a transaction"]));
        assert!(!connection.is_autocommit(), "the host's transaction is the host's");
    }
}

/// Nothing that the host's schema or its file says of itself is changed.
#[test]
fn nothing_persists_but_the_deletion() {
    for (journal_mode, auto_vacuum) in [("wal", 0), ("delete", 1), ("truncate", 2), ("persist", 0)] {
        let sample = Sample::new();
        sample.execute(&format!(
            "PRAGMA journal_mode = {journal_mode}; PRAGMA auto_vacuum = {auto_vacuum}; VACUUM;
             PRAGMA user_version = 7; PRAGMA application_id = 8;"
        ));
        let persistent = || {
            let connection = sample.open();
            ["journal_mode", "auto_vacuum", "page_size", "user_version", "application_id", "schema_version", "encoding"]
                .map(|name| connection.pragma_query_value(None, name, |row| row.get::<_, Cell>(0)).unwrap())
        };
        let before = persistent();
        assert_eq!(call(&sample, all()).unwrap().jobs_deleted, 3);
        // `persist` and `truncate` are settings of a connection: what the file says is `delete`.
        assert_eq!(persistent(), before);
    }
}

/// A store named through a symbolic link is read as little as by its own name: what is in its WAL stays there.
#[test]
fn a_dry_run_through_a_symbolic_link_writes_nothing() {
    let sample = Sample::new();
    // A host that was killed leaves a WAL behind.
    let files = ["hero_proc.db", "hero_proc.db-wal"].map(|name| sample.file(name));
    let host = sample.open();
    host.execute("UPDATE jobs SET stderr = 'x'", ()).unwrap();
    let copies = files.clone().map(|file| std::fs::read(file).unwrap());
    drop(host);
    for (file, bytes) in files.iter().zip(&copies) {
        std::fs::write(file, bytes).unwrap();
    }
    let elsewhere = tempfile::TempDir::new().unwrap();
    let link = elsewhere.path().join("store.db");
    std::os::unix::fs::symlink(&sample.path, &link).unwrap();
    assert_eq!(call(link.as_path(), dry_run()).unwrap().jobs_planned, 3);
    assert!(files.map(|file| std::fs::read(file).unwrap()) == copies, "the files are as they were");
}
