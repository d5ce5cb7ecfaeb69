//! The stores, made once, and copies of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rusqlite::{Connection, params};

use crate::{heavy, space};

pub(crate) const SCHEMA: &str = include_str!("../../schema/hero_proc.sql");

/// What a store is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Like {
    /// hero_proc's newest layout.
    Newest,
    /// Without any of its indexes.
    WithoutIndexes,
    /// Its jobs' tags stand in their specs only.
    TagsInSpec,
    /// Each of codescaler's jobs has two targets that no other has: as many values as there are jobs.
    WithTargets,
    /// All its jobs are codescaler's, and have finished.
    Backlog,
    /// Its jobs have 145 KB each: see [`space`](crate::space).
    Large,
    /// Its jobs and actions are those of real stores: see [`heavy`](crate::heavy).
    Heavy,
    /// The same, with `action_id` and `archived` behind all other columns, as in a store that was migrated.
    Migrated,
}

/// The connections that others have to the store that is worked on.
pub(crate) static OPEN: Mutex<Vec<Connection>> = Mutex::new(Vec::new());

pub(crate) struct Stores {
    directory: PathBuf,
}

impl Stores {
    /// Those in `directory`, or in the target directory.
    pub(crate) fn new(directory: Option<&String>) -> Self {
        let of_target = || Path::new(env!("CARGO_TARGET_TMPDIR")).join("stores");
        let directory = directory.map_or_else(of_target, PathBuf::from);
        fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    /// The store itself: only for reading.
    pub(crate) fn of(&self, jobs: usize, like: Like) -> PathBuf {
        let path = self.directory.join(format!("{jobs}-{like:?}.db"));
        if !path.exists() {
            let unfinished = path.with_extension("making");
            let _ = fs::remove_file(&unfinished);
            make(&unfinished, jobs, like);
            fs::rename(unfinished, &path).unwrap();
        }
        path
    }

    /// A copy to work on, in the place of the one before.
    pub(crate) fn copy_of(&self, jobs: usize, like: Like) -> PathBuf {
        let copy = self.work();
        fs::copy(self.of(jobs, like), &copy).unwrap();
        // All of the disk: what another run has left to be written would be paid for by this one's syncs.
        rustix::fs::sync();
        copy
    }

    /// The path of a store to work on; the one before is gone.
    pub(crate) fn work(&self) -> PathBuf {
        // Or its blocks would stay on the disk until the process ends.
        OPEN.lock().unwrap().clear();
        for file in ["copy.db", "copy.db-wal", "copy.db-shm"] {
            let _ = fs::remove_file(self.directory.join(file));
        }
        self.directory.join("copy.db")
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn socket(&self) -> PathBuf {
        let socket = self.directory.join("rpc.sock");
        let _ = fs::remove_file(&socket);
        socket
    }
}

fn make(path: &Path, jobs: usize, like: Like) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = wal; PRAGMA synchronous = off").unwrap();
    let without = |line: &&str| like != Like::WithoutIndexes || !line.starts_with("CREATE INDEX");
    connection.execute_batch(&SCHEMA.lines().filter(without).collect::<Vec<_>>().join("\n")).unwrap();
    if like == Like::Migrated {
        for column in ["action_id TEXT", "archived INTEGER NOT NULL DEFAULT 0"] {
            let name = column.split(' ').next().unwrap();
            let index = if name == "archived" { "DROP INDEX idx_jobs_archived;" } else { "" };
            let moved = format!("{index} ALTER TABLE jobs DROP COLUMN {name}; ALTER TABLE jobs ADD COLUMN {column}");
            connection.execute_batch(&moved).unwrap();
        }
        connection.execute_batch("CREATE INDEX idx_jobs_archived ON jobs (archived)").unwrap();
    }
    connection.execute_batch("BEGIN").unwrap();
    if matches!(like, Like::Heavy | Like::Migrated) {
        heavy::fill(&connection, jobs);
        return connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    }
    if like == Like::Large {
        space::fill(&connection, jobs);
        return connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    }
    let mut job = connection
        .prepare(
            "INSERT INTO jobs (action, action_id, spec_json, script, phase, tags, exit_code, created_at_ms, started_at_ms,
                               finished_at_ms)
             VALUES (?1, ?1, ?2, ?3, ?4, ?5, 0, ?6, ?6, ?6)",
        )
        .unwrap();
    let mut action = connection
        .prepare("INSERT OR IGNORE INTO actions (name, spec_json, created_at_ms) VALUES (?1, ?2, ?3)")
        .unwrap();
    for id in 0..jobs {
        let codescaler = id % 2 == 0 || like == Like::Backlog;
        let tags = match (codescaler, id) {
            (true, 0..24) => {
                r#"["codescaler","codescaler_eve","codescaler_kind_rare","codescaler_target_one"]"#.to_owned()
            }
            (true, _) if like == Like::WithTargets => {
                format!(r#"["codescaler","codescaler_target_{id}","codescaler_target_{}"]"#, id + 1)
            }
            (true, _) => format!(r#"["codescaler","codescaler_user{}","codescaler_kind_build"]"#, id % 14),
            (false, _) => r#"["ops","nightly"]"#.to_owned(),
        };
        let name = match (codescaler, id % 40) {
            (true, 0 | 20) => "codescaler_shared".to_owned(),
            (true, _) => format!("codescaler_build_{id}_0123456789abcdef"),
            (false, _) => format!("ops_{}", id % 997),
        };
        let phase = if id % 100 == 98 && like != Like::Backlog { "running" } else { "succeeded" };
        let spec = format!(
            r#"{{"tags":{tags},"schedule_policy":null,"depends_on":[],"script":"{}","env":{{"JOB":"{id}"}}}}"#,
            "x".repeat(250)
        );
        let created_at = 1_700_000_000_000 + id as i64;
        let column = (like != Like::TagsInSpec).then_some(&tags);
        job.execute(params![name, spec, "y".repeat(400), phase, column, created_at]).unwrap();
        action.execute(params![name, spec, created_at]).unwrap();
    }
    drop((job, action));
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
}
