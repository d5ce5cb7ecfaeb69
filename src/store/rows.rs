//! The rows that a decision is made from, and the statements that read and delete rows.
//!
//! Jobs and actions are read once, in the order of their ids, and services in that of their names, whatever indexes the
//! host has. Every column is others' text: a name is taken as bytes where it may only protect something, and as valid text
//! where something may go because of it.

pub(super) mod sql;

use std::hash::{BuildHasher, Hasher, RandomState};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::StoreError;
use super::layout::Layout;
use crate::host::Job;
use crate::tag::Tag;

/// The context of what is in no other.
pub(crate) const DEFAULT_CONTEXT: &str = "core";

/// The columns of a job that a decision reads, its id included.
const COLUMNS: usize = 13;

/// A job. Every reading looks at the columns that are fields here, and fetching a value takes longer than looking at it.
pub(crate) struct JobRow<'r> {
    pub(crate) id: i64,
    context: ValueRef<'r>,
    action: ValueRef<'r>,
    action_id: ValueRef<'r>,
    tags: ValueRef<'r>,
    phase: ValueRef<'r>,
    row: &'r Row<'r>,
    /// Whether the fields tell their own bytes: see [`OtherBytes`](super::layout::OtherBytes).
    bytes_are_told: bool,
}

/// Whether a decision looks at the times of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times<'t> {
    Read,
    /// They are read of the jobs that may carry this tag, and may be missing of the others.
    OfTagged(&'t Tag),
    NotAsked,
}

/// Whether the jobs that are read say how many bytes they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weigh {
    NotAsked,
    /// By the header of each row alone, however large the rows are.
    ByHeader,
    /// By values as well, which is quicker where rows are small.
    ByValues,
}

/// Whether the jobs that are read say what tells them once they have changed: see [`JobRow::head`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heads {
    Read,
    NotAsked,
}

/// Where a job's tags stand. The text is JSON that others wrote.
#[derive(Debug, Clone, Copy)]
pub(crate) enum JobTags<'r> {
    /// In the column `tags`.
    Column(&'r str),
    /// In the spec, because the column is NULL or a JSON null: a job from before hero_proc#50.
    Spec(&'r str),
    /// Nowhere where they could be read.
    Unreadable,
}

impl<'r> JobRow<'r> {
    pub(super) fn read(row: &'r Row<'r>, layout: &Layout) -> Self {
        let [context, action, action_id, tags, phase] =
            [1, 2, 3, 4, 6].map(|column| row.get_ref(column).unwrap_or(ValueRef::Null));
        let bytes_are_told = layout.jobs.other_bytes.read_tell;
        Self { id: integer(row, 0).unwrap_or_default(), context, action, action_id, tags, phase, row, bytes_are_told }
    }

    pub(crate) fn context(&self) -> Option<&'r [u8]> {
        bytes_of(self.context)
    }

    /// An action's name, or `{service}.{action}`.
    pub(crate) fn action(&self) -> Option<&'r [u8]> {
        bytes_of(self.action)
    }

    /// An action's name. An empty one counts as none.
    pub(crate) fn action_id(&self) -> Option<&'r [u8]> {
        bytes_of(self.action_id).filter(|id| !id.is_empty())
    }

    /// The context and name of the action that may go with the job.
    pub(crate) fn own_action(&self) -> Option<(&'r str, &'r str)> {
        let name = if self.action_id().is_some() { self.action_id } else { self.action };
        text_of(self.context).zip(text_of(name))
    }

    /// The name of that action for people: alone in the default context, else behind its context.
    pub(crate) fn display_action(&self) -> Option<String> {
        self.action_id().or(self.action()).map(|name| display(self.context(), name))
    }

    /// The one place that decides where a job's tags stand.
    pub(crate) fn tags(&self) -> JobTags<'r> {
        let column = match self.tags {
            ValueRef::Null => "null",
            tags => match text_of(tags) {
                Some(column) => column,
                None => return JobTags::Unreadable,
            },
        };
        // White space as JSON has it.
        if column.trim_matches([' ', '\t', '\n', '\r']) != "null" {
            return JobTags::Column(column);
        }
        text(self.row, 5).map_or(JobTags::Unreadable, JobTags::Spec)
    }

    /// The embedded spec of a job that has not finished; nothing of some that have.
    pub(crate) fn spec(&self) -> &'r [u8] {
        bytes(self.row, 5).unwrap_or_default()
    }

    pub(crate) fn phase(&self) -> Option<&'r str> {
        text_of(self.phase)
    }

    /// A hash of what tells the job from the same job once it has changed, with that of its phase: see [`Snapshot::heads`].
    ///
    /// [`Snapshot::heads`]: super::Snapshot::heads
    pub(crate) fn head(&self, hashes: &RandomState, phase: u64) -> u64 {
        let mut hasher = hashes.build_hasher();
        for column in (1..=3).chain(COLUMNS..self.row.as_ref().column_count()) {
            hash(self.row.get_ref(column).unwrap_or(ValueRef::Null), &mut hasher);
        }
        hasher.write_u64(phase);
        hasher.finish()
    }

    /// A hash of the phase.
    pub(crate) fn phase_hash(&self, hashes: &RandomState) -> u64 {
        hash_of(self.phase, hashes)
    }

    /// In milliseconds since the Unix epoch, as are the other times, if it is an integer.
    pub(crate) fn created_at(&self) -> Option<i64> {
        integer(self.row, 7)
    }

    pub(crate) fn finished_at(&self) -> Option<i64> {
        integer(self.row, 8)
    }

    /// The run that a job belongs to which has not finished.
    pub(crate) fn run(&self) -> Option<i64> {
        integer(self.row, 9).filter(|run| *run > 0)
    }

    pub(crate) fn attempt(&self) -> Option<i64> {
        integer(self.row, 10)
    }

    pub(crate) fn started_at(&self) -> Option<i64> {
        integer(self.row, 11)
    }

    /// The bytes of text and blobs in the row, if they were asked for: see [`Snapshot::jobs`](super::Snapshot::jobs).
    pub(crate) fn bytes(&self) -> Option<u64> {
        let others = integer(self.row, 12)?.unsigned_abs();
        if !self.bytes_are_told {
            return Some(others);
        }
        let read = [self.context, self.action, self.action_id, self.tags, self.phase].into_iter().filter_map(bytes_of);
        Some(others + read.map(|bytes| bytes.len() as u64).sum::<u64>())
    }
}

/// An action.
pub(crate) struct ActionRow<'r> {
    pub(crate) id: i64,
    row: &'r Row<'r>,
    context: ValueRef<'r>,
    name: ValueRef<'r>,
    spec: ValueRef<'r>,
    bytes_are_told: bool,
}

impl<'r> ActionRow<'r> {
    pub(super) fn read(row: &'r Row<'r>, layout: &Layout) -> Self {
        let [context, name, spec] = [1, 2, 3].map(|column| row.get_ref(column).unwrap_or(ValueRef::Null));
        let bytes_are_told = layout.actions.other_bytes.read_tell;
        Self { id: integer(row, 0).unwrap_or_default(), row, context, name, spec, bytes_are_told }
    }

    pub(crate) fn context(&self) -> Option<&'r [u8]> {
        bytes_of(self.context)
    }

    pub(crate) fn name(&self) -> &'r [u8] {
        bytes_of(self.name).unwrap_or_default()
    }

    /// The context and name, if both are text: no other action can go.
    pub(crate) fn text_name(&self) -> Option<(&'r str, &'r str)> {
        text_of(self.context).zip(text_of(self.name))
    }

    /// The name for people: alone in the default context, else behind its context.
    pub(crate) fn display_name(&self) -> String {
        display(self.context(), self.name())
    }

    /// The bytes of the spec as they are.
    pub(crate) fn spec(&self) -> &'r [u8] {
        bytes_of(self.spec).unwrap_or_default()
    }

    /// In milliseconds since the Unix epoch, if it is an integer.
    pub(crate) fn created_at(&self) -> Option<i64> {
        integer(self.row, 4)
    }

    pub(crate) fn updated_at(&self) -> Option<i64> {
        integer(self.row, 5)
    }

    /// The bytes of text and blobs in the row.
    pub(crate) fn bytes(&self) -> u64 {
        let others = integer(self.row, 6).map_or(0, i64::unsigned_abs);
        if !self.bytes_are_told {
            return others;
        }
        let times = [4, 5].into_iter().filter_map(|column| bytes(self.row, column));
        let read = [self.context, self.name, self.spec].into_iter().filter_map(bytes_of).chain(times);
        others + read.map(|bytes| bytes.len() as u64).sum::<u64>()
    }
}

fn display(context: Option<&[u8]>, name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    match context {
        Some(context) if context != DEFAULT_CONTEXT.as_bytes() => {
            format!("{}/{name}", String::from_utf8_lossy(context))
        }
        _ => name.into_owned(),
    }
}

/// A service. The bytes of both lists are as they are, and empty where the layout has no such column.
pub(crate) struct ServiceRow<'r> {
    pub(crate) context: Option<&'r [u8]>,
    pub(crate) name: &'r [u8],
    /// The spec, an object that lists the service's actions under `actions`.
    pub(crate) spec: &'r [u8],
    /// The list by itself.
    pub(crate) actions: &'r [u8],
}

impl<'r> ServiceRow<'r> {
    pub(super) fn read(row: &'r Row<'r>) -> Self {
        let [name, spec, actions] = [1, 2, 3].map(|column| bytes(row, column).unwrap_or_default());
        Self { context: bytes(row, 0), name, spec, actions }
    }
}

/// The job `id` as the host knows it.
pub(super) fn job(connection: &Connection, layout: &Layout, id: i64) -> Result<Job, StoreError> {
    Ok(connection.query_row(&sql::job(layout), &[(":id", &id)], |row| {
        let number = |index| row.get_ref(index).map(|value| value.as_i64().ok());
        // A recorded pid that can't be read is no process, but it is recorded.
        let pid = row.get_ref(1)?.as_i64_or_null().unwrap_or(Some(0));
        Ok(Job {
            id,
            phase: row.get_ref(0)?.as_str().map(ToOwned::to_owned).ok(),
            pid,
            attempt: number(2)?,
            started_at_ms: number(3)?,
        })
    })?)
}

/// A hash of one value.
pub(super) fn hash_of(value: ValueRef<'_>, hashes: &RandomState) -> u64 {
    let mut hasher = hashes.build_hasher();
    hash(value, &mut hasher);
    hasher.finish()
}

/// Adds `value` to what is hashed, with its type and its length.
fn hash(value: ValueRef<'_>, hasher: &mut impl Hasher) {
    match value {
        ValueRef::Null => hasher.write_u8(0),
        ValueRef::Integer(number) => {
            hasher.write_u8(1);
            hasher.write_i64(number);
        }
        ValueRef::Real(number) => {
            hasher.write_u8(2);
            hasher.write_u64(number.to_bits());
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            hasher.write_u8(if matches!(value, ValueRef::Text(_)) { 3 } else { 4 });
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        }
    }
}

fn integer(row: &Row<'_>, index: usize) -> Option<i64> {
    match row.get_ref(index) {
        Ok(ValueRef::Integer(integer)) => Some(integer),
        _ => None,
    }
}

fn text<'r>(row: &'r Row<'_>, index: usize) -> Option<&'r str> {
    row.get_ref(index).ok().and_then(text_of)
}

fn bytes<'r>(row: &'r Row<'_>, index: usize) -> Option<&'r [u8]> {
    row.get_ref(index).ok().and_then(bytes_of)
}

fn text_of(value: ValueRef<'_>) -> Option<&str> {
    if let ValueRef::Text(text) = value { str::from_utf8(text).ok() } else { None }
}

fn bytes_of(value: ValueRef<'_>) -> Option<&[u8]> {
    if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = value { Some(bytes) } else { None }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]
mod tests {
    use super::*;
    use crate::store::layout;

    const STORE: &str = include_str!("../../schema/hero_proc.sql");

    /// What SQLite would do for `statement`, step by step.
    fn plan(connection: &Connection, statement: &str) -> Vec<String> {
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let unbound = vec![rusqlite::types::Null; explain.parameter_count()];
        let steps = explain.query_map(rusqlite::params_from_iter(unbound), |row| row.get::<_, String>(3)).unwrap();
        steps.map(|step| step.unwrap().replace("main.", "")).collect()
    }

    /// Every statement is one scan or one look-up by row id, with hero_proc's indexes and without.
    #[test]
    fn no_statement_is_quadratic() {
        let with_indexes = STORE.to_owned();
        let without: String =
            STORE.lines().filter(|line| !line.starts_with("CREATE INDEX")).collect::<Vec<_>>().join("\n");
        for schema in [with_indexes, without] {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(&schema).unwrap();
            let layout = layout::detect(&connection).unwrap();
            let range = |table| [format!("SEARCH {table} USING INTEGER PRIMARY KEY (rowid>?)")];
            let by_id = ["SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)"];
            let services = layout.services.as_ref().unwrap();
            let jobs = sql::jobs(&layout, Times::Read, Heads::Read);
            for table in [&jobs, &sql::heads(&layout), &sql::weighed_jobs(&layout), &sql::actions(&layout)] {
                let bounds = plan(&connection, table.bounds);
                assert!(bounds.iter().all(|step| step != "SCAN jobs" && step != "SCAN actions"), "{bounds:?}");
            }
            assert_eq!(plan(&connection, &jobs.rows), range("jobs"));
            assert_eq!(plan(&connection, &sql::heads(&layout).rows), range("jobs"));
            assert_eq!(plan(&connection, &sql::whole_job(&layout, Times::Read)), by_id);
            if layout.jobs.phases_are_indexed {
                assert_eq!(plan(&connection, sql::PHASES), ["SCAN jobs USING COVERING INDEX idx_jobs_phase"]);
            }
            assert_eq!(plan(&connection, &sql::weighed_jobs(&layout).rows), range("jobs"));
            assert_eq!(plan(&connection, &sql::job(&layout)), by_id);
            assert_eq!(plan(&connection, &sql::actions(&layout).rows), range("actions"));
            assert_eq!(plan(&connection, &sql::services(services)), ["SCAN services", "USE TEMP B-TREE FOR ORDER BY"]);
            assert_eq!(plan(&connection, sql::DELETE_JOB), by_id);
            assert_eq!(plan(&connection, sql::DELETE_ACTION), ["SEARCH actions USING INTEGER PRIMARY KEY (rowid=?)"]);
        }
    }
}
