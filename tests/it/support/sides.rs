//! Both sides on one store, as they run on a node: hero_proc's side, and the gateway in front of it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::process::binary;
use crate::support::sample::{SCHEMA, column};
use crate::support::server::Server;

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
        let hero_proc = Server::serve(&path("hero_proc.db"), &path("hero_proc.sock"));
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
