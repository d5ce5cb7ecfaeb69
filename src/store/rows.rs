//! The rows that a decision is made from, and the statements that read and delete rows.
//!
//! Jobs and actions are read once, in the order of their ids, and services in that of their names, whatever indexes the
//! host has.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::StoreError;
use super::layout::Layout;
use crate::host::Job;

/// A job, as far as deciding about it needs. Texts are none where the row has no valid text.
pub(crate) struct JobRow<'r> {
    pub(crate) id: i64,
    pub(crate) context: Option<&'r str>,
    pub(crate) action: Option<&'r str>,
    pub(crate) action_id: Option<&'r str>,
    pub(crate) tags: JobTags<'r>,
    /// For the columns that only matching jobs are asked for.
    row: &'r Row<'r>,
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
    pub(super) fn read(row: &'r Row<'r>) -> Self {
        let id = integer(row, 0).unwrap_or_default();
        Self { id, context: text(row, 1), action: text(row, 2), action_id: text(row, 3), tags: JobTags::read(row), row }
    }

    pub(crate) fn phase(&self) -> Option<&'r str> {
        text(self.row, 6)
    }

    /// In milliseconds since the Unix epoch, if it is a time.
    pub(crate) fn created_at(&self) -> Option<i64> {
        integer(self.row, 7)
    }
}

impl<'r> JobTags<'r> {
    /// The one place that decides where a job's tags stand.
    fn read(row: &'r Row<'r>) -> Self {
        let column = match row.get_ref(4) {
            Ok(ValueRef::Text(column)) => match str::from_utf8(column) {
                Ok(column) => column,
                Err(_) => return Self::Unreadable,
            },
            Ok(ValueRef::Null) => "null",
            _ => return Self::Unreadable,
        };
        // White space as JSON has it.
        if column.trim_matches([' ', '\t', '\n', '\r']) != "null" {
            return Self::Column(column);
        }
        text(row, 5).map_or(Self::Unreadable, Self::Spec)
    }
}

/// An action.
pub(crate) struct ActionRow<'r> {
    pub(crate) id: i64,
    pub(crate) context: Option<&'r str>,
    pub(crate) name: Option<&'r str>,
    /// The bytes of the spec as they are.
    pub(crate) spec: &'r [u8],
}

impl<'r> ActionRow<'r> {
    pub(super) fn read(row: &'r Row<'r>) -> Self {
        let id = integer(row, 0).unwrap_or_default();
        Self { id, context: text(row, 1), name: text(row, 2), spec: bytes(row, 3) }
    }
}

/// A service. The bytes of both lists are as they are, and empty where the layout has no such column.
pub(crate) struct ServiceRow<'r> {
    pub(crate) context: Option<&'r str>,
    pub(crate) name: Option<&'r str>,
    /// The spec, an object that lists the service's actions under `actions`.
    pub(crate) spec: &'r [u8],
    /// The list by itself.
    pub(crate) actions: &'r [u8],
}

impl<'r> ServiceRow<'r> {
    pub(super) fn read(row: &'r Row<'r>) -> Self {
        Self { context: text(row, 0), name: text(row, 1), spec: bytes(row, 2), actions: bytes(row, 3) }
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

fn integer(row: &Row<'_>, index: usize) -> Option<i64> {
    match row.get_ref(index) {
        Ok(ValueRef::Integer(integer)) => Some(integer),
        _ => None,
    }
}

fn text<'r>(row: &'r Row<'_>, index: usize) -> Option<&'r str> {
    match row.get_ref(index) {
        Ok(ValueRef::Text(text)) => str::from_utf8(text).ok(),
        _ => None,
    }
}

fn bytes<'r>(row: &'r Row<'_>, index: usize) -> &'r [u8] {
    match row.get_ref(index) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => bytes,
        _ => b"",
    }
}

/// The statements. A column that variants of the store call differently is one of the names in the layout.
pub(super) mod sql {
    use super::super::layout::{Layout, Services};
    use super::super::scan::Table;

    pub(in crate::store) const DELETE_JOB: &str = "DELETE FROM main.jobs WHERE id = ?1";
    pub(in crate::store) const DELETE_ACTION: &str = "DELETE FROM main.actions WHERE id = ?1";

    /// `NOT INDEXED`: an index that the host has would make the one scan slower, and its order another. Only tags that
    /// begin like no array can be a JSON null, so only their rows' specs are read.
    pub(in crate::store) fn jobs(layout: &Layout) -> Table {
        let jobs = &layout.jobs;
        let rows = format!(
            "SELECT id,
                    {context},
                    action,
                    {action_id},
                    tags,
                    CASE WHEN tags COLLATE BINARY BETWEEN '[' AND '\\' THEN NULL ELSE {spec} END,
                    phase,
                    {created_at}
             FROM main.jobs NOT INDEXED
             WHERE id >= ?1
             ORDER BY id",
            context = jobs.context,
            action_id = jobs.action_id.unwrap_or("NULL"),
            spec = jobs.spec,
            created_at = jobs.created_at,
        );
        Table { bounds: "SELECT (SELECT min(id) FROM main.jobs), (SELECT max(id) FROM main.jobs)", rows }
    }

    pub(in crate::store) fn job(layout: &Layout) -> String {
        let jobs = &layout.jobs;
        format!(
            "SELECT phase,
                    {pid},
                    {attempt},
                    {started_at}
             FROM main.jobs
             WHERE id = :id",
            pid = jobs.pid.unwrap_or("NULL"),
            attempt = jobs.attempt.unwrap_or("NULL"),
            started_at = jobs.started_at.unwrap_or("NULL"),
        )
    }

    pub(in crate::store) fn actions(layout: &Layout) -> Table {
        let rows = format!(
            "SELECT id,
                    {context},
                    name,
                    {spec}
             FROM main.actions NOT INDEXED
             WHERE id >= ?1
             ORDER BY id",
            context = layout.actions.context,
            spec = layout.actions.spec,
        );
        Table { bounds: "SELECT (SELECT min(id) FROM main.actions), (SELECT max(id) FROM main.actions)", rows }
    }

    pub(in crate::store) fn services(services: &Services) -> String {
        format!(
            "SELECT {context},
                    name,
                    {spec},
                    {actions}
             FROM main.services NOT INDEXED
             ORDER BY name",
            context = services.context,
            spec = services.spec.unwrap_or("NULL"),
            actions = services.actions.unwrap_or("NULL"),
        )
    }
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
            for table in [sql::jobs(&layout), sql::actions(&layout)] {
                let bounds = plan(&connection, table.bounds);
                assert!(bounds.iter().all(|step| step != "SCAN jobs" && step != "SCAN actions"), "{bounds:?}");
            }
            assert_eq!(plan(&connection, &sql::jobs(&layout).rows), range("jobs"));
            assert_eq!(plan(&connection, &sql::job(&layout)), by_id);
            assert_eq!(plan(&connection, &sql::actions(&layout).rows), range("actions"));
            assert_eq!(plan(&connection, &sql::services(services)), ["SCAN services", "USE TEMP B-TREE FOR ORDER BY"]);
            assert_eq!(plan(&connection, sql::DELETE_JOB), by_id);
            assert_eq!(plan(&connection, sql::DELETE_ACTION), ["SEARCH actions USING INTEGER PRIMARY KEY (rowid=?)"]);
        }
    }
}
