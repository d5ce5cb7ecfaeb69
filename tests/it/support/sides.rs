//! Both sides on one store, as they run on a node: hero_proc's side, and the gateway in front of it.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::process::{Running, binary};
use crate::support::sample::{SCHEMA, column};
use crate::support::server::{Server, post};

/// A store in hero_proc's layout, and both sides serving it.
pub(crate) struct Sides {
    dir: TempDir,
    pub(crate) hero_proc: Server,
    pub(crate) gateway: Server,
}

impl Sides {
    /// With the rows that `sql` inserts.
    pub(crate) fn with(sql: &str) -> Self {
        let sides = Self::without_store();
        sides.make_store();
        sides.store().execute_batch(sql).expect("rows");
        sides
    }

    pub(crate) fn without_store() -> Self {
        let dir = TempDir::new().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let hero_proc = Server::serve_with(&path("hero_proc.db"), &path("hero_proc.sock"), &["--same-pids"]);
        // It has looked for the store: from here on it has it open only for calls.
        hero_proc.says("no call will succeed until the store fits");
        let gateway = Server::gateway(&path("gateway.sock"), &path("hero_proc.sock"), &[]);
        Self { dir, hero_proc, gateway }
    }

    pub(crate) fn make_store(&self) {
        let store = self.store();
        store.pragma_update(None, "journal_mode", "wal").expect("WAL");
        store.execute_batch(SCHEMA).expect("the schema");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn store(&self) -> Connection {
        Connection::open(self.path("hero_proc.db")).expect("the store")
    }

    /// Ids of the jobs in the store.
    pub(crate) fn jobs(&self) -> Vec<i64> {
        column(&self.store(), "SELECT id FROM jobs ORDER BY id")
    }

    /// `jobs-cleanup` at the gateway, with stdout piped, as scripts run it: without a question.
    pub(crate) fn cleanup(&self, arguments: &[&str]) -> Command {
        let mut command = self.cleanup_as(binary(), arguments);
        command.args((!arguments.iter().any(|given| ["--yes", "--dry-run"].contains(given))).then_some("--yes"));
        command
    }

    /// The same, begun by `command`, such as a wrapper around the binary.
    pub(crate) fn cleanup_as(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.arg("jobs-cleanup").args(arguments).arg("--socket").arg(self.path("gateway.sock"));
        command.stdout(Stdio::piped());
        command
    }

    /// `jobs-cleanup`, to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.cleanup(arguments).output().expect("the binary runs")
    }
}

/// Both sides, on a store whose write lock another connection holds.
pub(crate) struct Waiting {
    pub(crate) sides: Sides,
    pub(crate) lock: Connection,
}

impl Waiting {
    /// With the rows that `sql` inserts.
    pub(crate) fn with(sql: &str) -> Self {
        let sides = Sides::with(sql);
        let lock = sides.store();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self { sides, lock }
    }

    /// Calls the gateway, and returns once hero_proc's side has begun.
    pub(crate) fn call(&self) -> UnixStream {
        let mut caller = UnixStream::connect(self.sides.path("gateway.sock")).unwrap();
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"jobs.cleanup"}"#;
        caller.write_all(&post("connection: close", call.as_bytes())).unwrap();
        self.has_begun();
        caller
    }

    /// The same by `jobs-cleanup`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Running {
        let command = Running::start(&mut self.sides.cleanup(arguments));
        self.has_begun();
        command
    }

    /// Returns once the server has the store open, which it has only for calls.
    pub(crate) fn has_begun(&self) {
        while !self.sides.hero_proc.has_open(&self.sides.path("hero_proc.db")) {
            thread::yield_now();
        }
    }

    pub(crate) fn unlock(&self) {
        self.lock.execute_batch("ROLLBACK").unwrap();
    }
}

/// Rows: codescaler's, finished and old, with one action each, numbered from `first`.
pub(crate) fn old_jobs(first: i64, last: i64) -> String {
    format!(
        r#"
        WITH RECURSIVE number(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM number WHERE n < {last})
        INSERT INTO jobs (id, action, action_id, spec_json, phase, tags, created_at_ms)
        SELECT n, 'codescaler_build_' || n, 'codescaler_build_' || n, '{{}}', 'succeeded', '["codescaler"]', 1700000000000
        FROM number;
        WITH RECURSIVE number(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM number WHERE n < {last})
        INSERT INTO actions (name, spec_json)
        SELECT 'codescaler_build_' || n, '{{"tags":["codescaler"]}}'
        FROM number;
        "#
    )
}

/// A row: codescaler's job `id`, running, as process `pid`.
pub(crate) fn running_job(id: i64, pid: i64) -> String {
    format!(
        r#"
        INSERT INTO jobs (id, action, spec_json, phase, tags, pid, created_at_ms)
        VALUES ({id}, 'codescaler_live', '{{}}', 'running', '["codescaler"]', {pid}, 1700000000000);
        "#
    )
}
