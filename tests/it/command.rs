//! The binary, run as users run it: `serve` and `gateway` on sockets of a temporary directory, and commands.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::spawn;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::server::has_open;

/// How long anything may take before the test gives up: never waited for when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hero_proc_cleanup"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().expect("the binary runs")
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// A process whose stderr is read line by line; ended when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
        let lines = lines(child.stderr.take().expect("a pipe"));
        Self { child, lines }
    }

    /// Of a command whose stderr is a terminal: nothing can be heard from it here.
    pub(crate) fn on_terminal(command: &mut Command) -> Self {
        Self { child: command.spawn().expect("the binary runs"), lines: channel().1 }
    }

    /// Waits for a line on stderr that holds `text`.
    pub(crate) fn says(&self, text: &str) {
        while !self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never said {text:?}")).contains(text) {}
    }

    /// What it says up to a line that holds `text`, or to its end.
    pub(crate) fn until(&self, text: &str) -> String {
        let mut said = String::new();
        while !said.contains(text) {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => said += &(line + "\n"),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("neither said {text:?} nor ended: {said}"),
            }
        }
        said
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Whether the process has `file` open.
    pub(crate) fn has_open(&self, file: &Path) -> bool {
        has_open(self.child.id(), file)
    }

    /// The exit code and stdout, once the process has ended.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut stdout).expect("UTF-8");
        }
        (self.child.wait().expect("it ends").code(), stdout)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, as they come.
pub(crate) fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// A store in hero_proc's layout, and both sides serving it.
pub(crate) struct Sides {
    dir: TempDir,
    pub(crate) hero_proc: Running,
    pub(crate) gateway: Running,
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
        let mut serve = binary();
        serve.arg("serve").arg("--store").arg(path("hero_proc.db")).arg("--socket").arg(path("hero_proc.sock"));
        let hero_proc = Running::start(&mut serve);
        hero_proc.says("serving job.cleanup_by_tag");
        // It has looked for the store: from here on it has it open only for calls.
        hero_proc.says("no call will succeed until the store fits");
        let mut gateway = binary();
        gateway.arg("gateway").arg("--socket").arg(path("gateway.sock")).arg("--hero-proc").arg(path("hero_proc.sock"));
        let gateway = Running::start(&mut gateway);
        gateway.says("serving jobs.cleanup");
        Self { dir, hero_proc, gateway }
    }

    pub(crate) fn make_store(&self) {
        let store = self.store();
        store.pragma_update(None, "journal_mode", "wal").expect("WAL");
        store.execute_batch(include_str!("../../src/cli/store.sql")).expect("the schema");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn store(&self) -> Connection {
        Connection::open(self.path("hero_proc.db")).expect("the store")
    }

    /// Ids of the jobs in the store.
    pub(crate) fn jobs(&self) -> Vec<i64> {
        let store = self.store();
        let mut ids = store.prepare("SELECT id FROM jobs ORDER BY id").expect("a query");
        ids.query_map((), |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("ids")
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

/// What stands in `dir`.
pub(crate) fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect()
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
