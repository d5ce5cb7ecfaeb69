//! Triggers of the host's, which run with a deletion: the deletion does what was decided, and no more, or nothing.

use hero_proc_cleanup::Kind;
use serde_json::json;

use crate::support::call::{all, call};
use crate::support::sample::{Sample, column, one};

/// [`Sample::new`], of which the jobs 1, 2 and 4 go, and rows of every other table.
fn sample() -> Sample {
    let sample = Sample::new();
    sample.execute(
        "PRAGMA foreign_keys = off;
         INSERT INTO services (name, spec_json) VALUES ('web', '{\"actions\":[]}');
         INSERT INTO runs (phase) VALUES ('done'), ('done');
         INSERT INTO secrets VALUES ('core', 'key', 'value');
         CREATE TABLE notes (id INTEGER PRIMARY KEY, job INTEGER REFERENCES jobs ON DELETE CASCADE, text);
         CREATE TABLE lines (note INTEGER REFERENCES notes ON DELETE CASCADE);
         CREATE TABLE marks (job INTEGER REFERENCES jobs ON DELETE SET NULL);
         CREATE TABLE locks (job INTEGER REFERENCES jobs);
         CREATE TABLE log (text);
         INSERT INTO notes VALUES (7, 1, 'x'), (8, 5, 'y'), (9, 999, 'dangling');
         INSERT INTO lines VALUES (7), (8), (99);
         INSERT INTO marks VALUES (2), (5);",
    );
    sample
}

/// That with `trigger` nothing goes, and without it everything.
#[track_caller]
fn assert_refused(trigger: &str) {
    for journal in ["wal", "delete"] {
        let sample = sample();
        sample.journal(journal);
        sample.execute(&format!("CREATE TRIGGER t {trigger} END"));
        let before = sample.dump();
        for _ in 0..2 {
            let error = call(&sample, all()).expect_err(trigger);
            assert_eq!(error.kind(), Some(Kind::Internal), "{trigger}: {error:?}");
            assert_eq!(sample.dump(), before, "{trigger}");
        }
        // On a connection of the host's, which keeps nothing of it.
        let mut connection = sample.open();
        assert_eq!(call(&mut connection, all()).expect_err(trigger).kind(), Some(Kind::Internal), "{trigger}");
        assert_eq!(sample.dump(), before, "{trigger}");
        assert_eq!(column::<String>(&connection, "SELECT name FROM temp.sqlite_master"), [""; 0], "{trigger}");
        sample.execute("DROP TRIGGER t");
        assert_eq!(call(&mut connection, all()).unwrap().jobs_deleted, 3, "{trigger}");
    }
}

/// The rows that refer to a job go with it, or are set to NULL; a trigger must not keep them, nor bring them back.
#[test]
fn nothing_may_refer_to_what_went() {
    for trigger in [
        "BEFORE DELETE ON notes BEGIN UPDATE notes SET text = 'gone' WHERE id = old.id; SELECT RAISE(IGNORE);",
        "BEFORE UPDATE ON marks BEGIN SELECT RAISE(IGNORE);",
        "AFTER UPDATE ON marks WHEN new.job IS NULL BEGIN UPDATE marks SET job = old.job WHERE rowid = old.rowid;",
        "AFTER DELETE ON notes BEGIN INSERT INTO notes VALUES (old.id, old.job, old.text);",
        "AFTER DELETE ON notes BEGIN INSERT INTO marks VALUES (old.job);",
        "AFTER DELETE ON jobs BEGIN INSERT INTO notes (job) VALUES (old.id);",
        "AFTER DELETE ON jobs WHEN old.id = 4 BEGIN INSERT INTO marks VALUES (old.id);",
        "AFTER DELETE ON jobs BEGIN INSERT INTO locks VALUES (old.id);",
        "AFTER DELETE ON actions BEGIN INSERT INTO locks VALUES (1);",
        "AFTER DELETE ON actions BEGIN UPDATE notes SET job = 2 WHERE id = 9;",
        // Rows that refer to a row of a cascade.
        "BEFORE DELETE ON lines BEGIN SELECT RAISE(IGNORE);",
        "AFTER DELETE ON lines BEGIN INSERT INTO lines VALUES (old.note);",
        "AFTER DELETE ON notes BEGIN INSERT INTO lines VALUES (old.id);",
        "AFTER DELETE ON actions BEGIN INSERT INTO lines VALUES (7);",
    ] {
        assert_refused(trigger);
    }
}

/// What is said to have gone has.
#[test]
fn what_went_may_not_come_back() {
    for trigger in [
        "AFTER DELETE ON jobs BEGIN INSERT INTO jobs (id, action, spec_json) VALUES (old.id, old.action, '{}');",
        "AFTER DELETE ON actions BEGIN INSERT INTO jobs (id, action, spec_json) VALUES (2, '', '{}');",
        "AFTER DELETE ON actions BEGIN INSERT INTO actions (id, name, spec_json) VALUES (old.id, old.name, '{}');",
        "BEFORE DELETE ON jobs WHEN old.id = 2 BEGIN SELECT RAISE(IGNORE);",
        "BEFORE DELETE ON actions BEGIN SELECT RAISE(IGNORE);",
    ] {
        assert_refused(trigger);
    }
}

/// Nothing goes beyond what was decided, of the host's five tables.
#[test]
fn nothing_else_may_go() {
    for trigger in [
        "AFTER DELETE ON jobs BEGIN DELETE FROM jobs WHERE id = 5;",
        "AFTER DELETE ON jobs BEGIN DELETE FROM jobs WHERE id = 3;",
        "BEFORE DELETE ON jobs BEGIN DELETE FROM actions WHERE name = 'backup';",
        "AFTER DELETE ON actions BEGIN DELETE FROM actions WHERE name = 'codescaler_build_77';",
        "AFTER DELETE ON jobs BEGIN DELETE FROM services;",
        "AFTER DELETE ON jobs BEGIN DELETE FROM runs WHERE id = 2;",
        "AFTER DELETE ON actions BEGIN DELETE FROM secrets;",
        "AFTER DELETE ON notes BEGIN DELETE FROM secrets;",
        "AFTER UPDATE ON marks BEGIN DELETE FROM runs;",
        // As many as before, but not the same.
        "AFTER DELETE ON jobs WHEN old.id = 1 BEGIN
             DELETE FROM jobs WHERE id = 5;
             INSERT INTO jobs (action, spec_json) VALUES ('other', '{}');",
        "AFTER DELETE ON jobs WHEN old.id = 1 BEGIN
             DELETE FROM runs WHERE id = 1;
             INSERT INTO runs (phase) VALUES ('other');",
    ] {
        assert_refused(trigger);
    }
    // By a trigger that another one sets off; and by one of the connection's own.
    let sample = sample();
    sample.execute(
        "CREATE TRIGGER one AFTER DELETE ON jobs BEGIN INSERT INTO log VALUES (old.id); END;
         CREATE TRIGGER two AFTER INSERT ON log BEGIN DELETE FROM jobs WHERE id = 5; END;",
    );
    let before = sample.dump();
    assert_eq!(call(&sample, all()).unwrap_err().kind(), Some(Kind::Internal));
    assert_eq!(sample.dump(), before);
    sample.execute("DROP TRIGGER two");
    let mut connection = sample.open();
    let own = "CREATE TEMP TRIGGER t AFTER DELETE ON actions BEGIN DELETE FROM secrets; END";
    connection.execute_batch(own).unwrap();
    assert_eq!(call(&mut connection, all()).unwrap_err().kind(), Some(Kind::Internal));
    assert_eq!(one::<i64>(&connection, "SELECT count(*) FROM secrets"), 1);
    assert_eq!(column::<String>(&connection, "SELECT name FROM temp.sqlite_master"), ["t"]);
    connection.execute_batch("DROP TRIGGER temp.t").unwrap();
    assert_eq!(call(&mut connection, all()).unwrap().jobs_deleted, 3);
}

/// What else triggers do is the host's affair.
#[test]
fn what_triggers_do_to_other_tables_is_the_hosts() {
    for trigger in [
        "AFTER DELETE ON jobs BEGIN INSERT INTO log VALUES (old.id);",
        "AFTER DELETE ON jobs BEGIN DELETE FROM log;",
        "AFTER DELETE ON jobs BEGIN UPDATE runs SET phase = 'cleaned';",
        "AFTER DELETE ON jobs BEGIN INSERT INTO marks VALUES (NULL), (5);",
        "AFTER DELETE ON notes BEGIN INSERT INTO log SELECT text FROM notes;",
        "AFTER INSERT ON jobs BEGIN DELETE FROM secrets;",
        "AFTER UPDATE OF text ON notes BEGIN SELECT RAISE(ABORT, 'never');",
    ] {
        for journal in ["wal", "delete"] {
            let sample = sample();
            sample.journal(journal);
            sample.execute(&format!("INSERT INTO log VALUES ('x'); CREATE TRIGGER t {trigger} END"));
            let mut connection = sample.open();
            let report = call(&mut connection, all()).expect(trigger);
            assert_eq!(report.job_ids, [1, 2, 4], "{trigger}");
            assert_eq!(json!(report.dependents), json!({ "lines": 1, "marks": 1, "notes": 1 }), "{trigger}");
            assert_eq!(sample.jobs(), [3, 5], "{trigger}");
            assert_eq!(column::<String>(&connection, "SELECT name FROM temp.sqlite_master"), [""; 0], "{trigger}");
        }
    }
}

/// Rows of `runs` and `secrets` may be those of a foreign key, too.
#[test]
fn what_foreign_keys_take_along_is_part_of_the_decision() {
    let sample = sample();
    sample.execute(
        "ALTER TABLE runs ADD COLUMN job INTEGER REFERENCES jobs ON DELETE CASCADE;
         UPDATE runs SET job = id;
         CREATE TRIGGER t AFTER DELETE ON runs BEGIN INSERT INTO log VALUES (old.id); END;",
    );
    assert_eq!(
        json!(call(&sample, all()).unwrap().dependents),
        json!({ "lines": 1, "marks": 1, "notes": 1, "runs": 2 })
    );
    let (runs, logged): (i64, i64) = (sample.one("SELECT count(*) FROM runs"), sample.one("SELECT count(*) FROM log"));
    assert_eq!((runs, logged), (0, 2));
}
