//! A small store with a little of everything, and its text dump.

use std::path::{Path, PathBuf};

use hero_proc_cleanup::StoreRef;
use rusqlite::Connection;
use rusqlite::types::{FromSql, Value as Cell};
use tempfile::TempDir;

use crate::support::server::Server;

/// The newest layout of hero_proc's store.
pub(crate) const SCHEMA: &str = include_str!("../../../schema/hero_proc.sql");

/// A store in a directory of its own, which goes with it.
pub(crate) struct Sample {
    pub(crate) directory: TempDir,
    pub(crate) path: PathBuf,
}

impl Sample {
    /// Two builds that may go (1, 2), one that runs (3), one of a moment ago (4), and a job that is not codescaler's (5).
    pub(crate) fn new() -> Self {
        let sample = Self::empty();
        let now = chrono::Utc::now().timestamp_millis();
        let old = now - 7 * 86_400_000;
        let build = r#"["codescaler","codescaler_ana","codescaler_kind_build","codescaler_target_web"]"#;
        let connection = sample.open();
        for (action, phase, tags, created_at) in [
            ("codescaler_build_12", "succeeded", build, old),
            ("codescaler_build_77", "failed", build, old),
            ("codescaler_build_77", "running", build, old),
            ("codescaler_build_78", "succeeded", build, now),
            ("backup", "succeeded", r#"["ops"]"#, old),
        ] {
            connection
                .execute(
                    "INSERT INTO jobs (action, action_id, spec_json, phase, tags, created_at_ms)
                     VALUES (?1, ?1, '{}', ?2, ?3, ?4)",
                    (action, phase, tags, created_at),
                )
                .unwrap();
        }
        for action in ["codescaler_build_12", "codescaler_build_77", "codescaler_build_78", "backup"] {
            let tags = if action == "backup" { "ops" } else { "codescaler" };
            let spec = format!(r#"{{"tags":["{tags}"],"schedule_policy":null,"depends_on":[]}}"#);
            connection.execute("INSERT INTO actions (name, spec_json) VALUES (?1, ?2)", (action, spec)).unwrap();
        }
        sample
    }

    /// Two jobs that may go (1, 2), one that runs (3), each with its action, and one of somebody else's (4), which refers
    /// to the action of job 2.
    pub(crate) fn with_a_reference() -> Self {
        let sample = Self::empty();
        sample.execute(
            r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags) VALUES
                 ('a', 'a', '{}', 'done', '["codescaler"]'), ('b', 'b', '{}', 'done', '["codescaler"]'),
                 ('c', 'c', '{}', 'running', '["codescaler"]'), ('x', 'b', '{}', 'done', '["ops"]');
               INSERT INTO actions (name, spec_json, created_at_ms) VALUES
                 ('a', '{"tags":["codescaler"]}', 1700000000000), ('b', '{"tags":["codescaler"]}', 1700000000000),
                 ('c', '{"tags":["codescaler"]}', 1700000000000), ('x', '{"tags":["ops"]}', 1700000000000);
               INSERT INTO services (name, spec_json) VALUES ('web', '{"actions":["x"]}');"#,
        );
        sample
    }

    /// The tables of the newest layout, without a row.
    pub(crate) fn empty() -> Self {
        Self::with_schema(SCHEMA)
    }

    /// A store of tables only.
    pub(crate) fn with_schema(schema: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("hero_proc.db");
        let sample = Self { directory, path };
        sample.execute(&format!("PRAGMA journal_mode = wal; {schema}"));
        sample
    }

    /// Another one with the same content, as the file has it.
    pub(crate) fn again(&self) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("hero_proc.db");
        std::fs::copy(&self.path, &path).unwrap();
        Self { directory, path }
    }

    /// The file `name` beside the store.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn open(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    pub(crate) fn execute(&self, sql: &str) {
        self.open().execute_batch(sql).unwrap();
    }

    pub(crate) fn journal(&self, mode: &str) {
        self.open().pragma_update_and_check(None, "journal_mode", mode, |_| Ok(())).unwrap();
    }

    /// The value of the one row and column that `sql` selects.
    pub(crate) fn one<T: FromSql>(&self, sql: &str) -> T {
        one(&self.open(), sql)
    }

    /// Ids of the jobs.
    pub(crate) fn jobs(&self) -> Vec<i64> {
        column(&self.open(), "SELECT id FROM jobs ORDER BY id")
    }

    /// Every row of every table, and the schema, as text.
    pub(crate) fn dump(&self) -> String {
        dump(&self.path)
    }

    /// The binary as a server of this store, on a socket beside it.
    pub(crate) fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    /// The same, with further `args`.
    pub(crate) fn serve_with(&self, args: &[&str]) -> Server {
        Server::serve_with(&self.path, &self.file("rpc.sock"), args)
    }

    /// A gateway in front of `hero_proc`, on a socket beside the store.
    pub(crate) fn gateway(&self, hero_proc: &Server) -> Server {
        Server::gateway(&self.file("gateway.sock"), &hero_proc.socket, &[])
    }
}

impl<'s> From<&'s Sample> for StoreRef<'s> {
    fn from(sample: &'s Sample) -> Self {
        Self::Path(&sample.path)
    }
}

/// The value of the one row and column that `sql` selects.
pub(crate) fn one<T: FromSql>(store: &Connection, sql: &str) -> T {
    store.query_row(sql, (), |row| row.get(0)).unwrap()
}

/// The values of the first column that `sql` selects.
pub(crate) fn column<T: FromSql>(store: &Connection, sql: &str) -> Vec<T> {
    let mut statement = store.prepare(sql).unwrap();
    statement.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// A cell that holds a text.
pub(crate) fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

/// A finished job of the action `action`. Returns its id.
pub(crate) fn insert_job(store: &Connection, action: &str, tags: impl Into<Cell>, spec: impl Into<Cell>) -> i64 {
    store
        .execute(
            "INSERT INTO jobs (action, phase, tags, spec_json) VALUES (?1, 'done', ?2, ?3)",
            (action, tags.into(), spec.into()),
        )
        .unwrap();
    store.last_insert_rowid()
}

pub(crate) fn insert_action(store: &Connection, name: &str, spec: impl Into<Cell>) {
    store.execute("INSERT INTO actions (name, spec_json) VALUES (?1, ?2)", (name, spec.into())).unwrap();
}

pub(crate) fn insert_service(store: &Connection, name: &str, spec: impl Into<Cell>) {
    store.execute("INSERT INTO services (name, spec_json) VALUES (?1, ?2)", (name, spec.into())).unwrap();
}

/// The job and the action of [`Sample::new`] that are not codescaler's are there.
#[track_caller]
pub(crate) fn assert_others_are_there(store: &Connection) {
    assert_eq!(one::<i64>(store, "SELECT count(*) FROM jobs WHERE id = 5"), 1);
    assert_eq!(one::<i64>(store, "SELECT count(*) FROM actions WHERE name = 'backup'"), 1);
}

/// The file is sound, and every foreign key leads somewhere.
#[track_caller]
pub(crate) fn assert_intact(store: &Path) {
    let connection = Connection::open(store).unwrap();
    assert_eq!(one::<String>(&connection, "PRAGMA integrity_check"), "ok");
    assert_nothing_dangles(&connection);
}

#[track_caller]
pub(crate) fn assert_nothing_dangles(connection: &Connection) {
    assert!(!connection.prepare("PRAGMA foreign_key_check").unwrap().exists(()).unwrap());
}

/// Every row of every table, and the schema, as text.
pub(crate) fn dump(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    let mut dump = String::new();
    let mut tables = connection.prepare("SELECT name, coalesce(sql, '') FROM sqlite_master ORDER BY rowid").unwrap();
    let tables = tables.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    for (table, sql) in tables.map(|table: rusqlite::Result<(String, String)>| table.unwrap()) {
        dump += &format!("{sql}\n");
        if !sql.starts_with("CREATE TABLE") {
            continue;
        }
        let quoted = table.replace('"', "\"\"");
        let mut rows = connection.prepare(&format!("SELECT * FROM \"{quoted}\" ORDER BY 1")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query(()).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells: Vec<_> = (0..columns).map(|column| format!("{:?}", row.get_ref(column).unwrap())).collect();
            dump += &format!("{table}: {}\n", cells.join(", "));
        }
    }
    dump
}
