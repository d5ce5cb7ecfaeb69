//! The rows that a decision is made from, and the statements that delete them.
//!
//! Jobs and actions are read once, in the order of their ids, and services in that of their names, whatever indexes the host
//! has. Rows are deleted one by one in the order of their ids, with a statement free of functions and subqueries: as quick as
//! one `DELETE … WHERE id IN (…)`, without a table of our own to fill first.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use super::layout::Layout;
use super::scan::scan;
use super::{Snapshot, StoreError};
use crate::control::Job;

/// A job, as far as deciding about it needs. Texts are none where the row has no valid text.
pub(crate) struct JobRow<'r> {
    pub(crate) id: i64,
    pub(crate) context: Option<&'r str>,
    pub(crate) action: Option<&'r str>,
    pub(crate) action_id: Option<&'r str>,
    pub(crate) tags: JobTags<'r>,
    /// What only jobs that match are asked for.
    row: &'r Row<'r>,
}

impl<'r> JobRow<'r> {
    fn read(row: &'r Row<'r>) -> Self {
        let tags = match row.get_ref(4) {
            Ok(ValueRef::Text(tags)) => str::from_utf8(tags).map_or(JobTags::Unreadable, JobTags::Column),
            Ok(ValueRef::Null) => text(row, 5).map_or(JobTags::Unreadable, JobTags::Spec),
            _ => JobTags::Unreadable,
        };
        let id = integer(row, 0).unwrap_or_default();
        Self { id, context: text(row, 1), action: text(row, 2), action_id: text(row, 3), tags, row }
    }

    pub(crate) fn phase(&self) -> Option<&'r str> {
        text(self.row, 6)
    }

    pub(crate) fn created_at(&self) -> Option<i64> {
        integer(self.row, 7)
    }
}

/// Where a job's tags stand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum JobTags<'r> {
    /// In its column `tags`.
    Column(&'r str),
    /// In its spec, `tags` being NULL: a job from before hero_proc#50.
    Spec(&'r str),
    /// Nowhere where they could be read.
    Unreadable,
}

/// An action.
pub(crate) struct ActionRow<'r> {
    pub(crate) id: i64,
    pub(crate) context: Option<&'r str>,
    pub(crate) name: Option<&'r str>,
    /// Its spec, bytes as they are.
    pub(crate) spec: &'r [u8],
}

impl<'r> ActionRow<'r> {
    fn read(row: &'r Row<'r>) -> Self {
        let id = integer(row, 0).unwrap_or_default();
        Self { id, context: text(row, 1), name: text(row, 2), spec: bytes(row, 3) }
    }
}

/// A service. Both texts are bytes as they are, empty where the layout has no such column.
pub(crate) struct ServiceRow<'r> {
    pub(crate) context: Option<&'r str>,
    pub(crate) name: Option<&'r str>,
    /// Its spec, an object that lists its actions under `actions`.
    pub(crate) spec: &'r [u8],
    /// The list itself.
    pub(crate) actions: &'r [u8],
}

/// Gathers what each job says, given the connection that reads it; and calls `take` with what was gathered, batch by batch,
/// ids ascending, until one of them fails.
pub(crate) fn jobs<B: Default + Send, E: From<StoreError> + Send>(
    snapshot: &Snapshot<'_>,
    layout: &Layout,
    gather: impl Fn(&mut B, &Connection, JobRow<'_>) -> Result<(), E> + Sync,
    take: impl FnMut(B) -> Result<(), E>,
) -> Result<(), E> {
    let gather = |batch: &mut B, connection: &Connection, row: &Row<'_>| gather(batch, connection, JobRow::read(row));
    scan(snapshot, &sql::jobs(layout), gather, take)
}

/// The same of each action.
pub(crate) fn actions<B: Default + Send, E: From<StoreError> + Send>(
    snapshot: &Snapshot<'_>,
    layout: &Layout,
    gather: impl Fn(&mut B, ActionRow<'_>) -> Result<(), E> + Sync,
    take: impl FnMut(B) -> Result<(), E>,
) -> Result<(), E> {
    let gather = |batch: &mut B, _: &Connection, row: &Row<'_>| gather(batch, ActionRow::read(row));
    scan(snapshot, &sql::actions(layout), gather, take)
}

/// Calls `each` with every service, names ascending, until it fails.
pub(crate) fn services<E: From<StoreError>>(
    connection: &Connection,
    layout: &Layout,
    mut each: impl FnMut(ServiceRow<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let Some(services) = &layout.services else { return Ok(()) };
    let mut statement = connection.prepare(&sql::services(services)).map_err(StoreError::from)?;
    let mut rows = statement.query(()).map_err(StoreError::from)?;
    while let Some(row) = rows.next().map_err(StoreError::from)? {
        each(ServiceRow { context: text(row, 0), name: text(row, 1), spec: bytes(row, 2), actions: bytes(row, 3) })?;
    }
    Ok(())
}

/// The spec of the job `id`, for the rare job whose tags are a JSON null.
pub(crate) fn job_spec(connection: &Connection, layout: &Layout, id: i64) -> Result<Option<String>, StoreError> {
    let spec = connection
        .query_row(&sql::job_spec(layout), &[(":id", &id)], |row| {
            Ok(row.get_ref(0)?.as_str().map(ToOwned::to_owned).ok())
        })
        .optional()?;
    Ok(spec.flatten())
}

/// The job `id` as the host knows it.
pub(crate) fn job(connection: &Connection, layout: &Layout, id: i64) -> Result<Job, StoreError> {
    Ok(connection.query_row(&sql::job(layout), &[(":id", &id)], |row| {
        let number = |index| row.get_ref(index).map(|value| value.as_i64().ok());
        // What is recorded and can't be read is no process, and not none.
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

/// Deletes the rows `ids` of `table`, and returns how many there were.
pub(crate) fn delete<E: From<StoreError>>(
    connection: &Connection,
    table: Doomed,
    ids: &[i64],
    go_on: impl Fn() -> Result<(), E>,
) -> Result<usize, E> {
    let mut statement = connection.prepare(sql::delete(table)).map_err(StoreError::from)?;
    let mut deleted = 0;
    for id in ids {
        go_on()?;
        deleted += statement.execute([id]).map_err(StoreError::from)?;
    }
    Ok(deleted)
}

/// The two tables of which this crate deletes rows of its own accord.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Doomed {
    Jobs,
    Actions,
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

/// The statements. What a variant of the store calls otherwise is one of the names in `layout`.
pub(crate) mod sql {
    use super::super::layout::{Layout, Services};
    use super::super::scan::Table;
    use super::Doomed;

    /// `NOT INDEXED`: an index that the host has would make the one scan slower, and its order another.
    pub(in crate::store) fn jobs(layout: &Layout) -> Table {
        let jobs = &layout.jobs;
        let rows = format!(
            "SELECT id,
                    {context},
                    action,
                    {action_id},
                    tags,
                    CASE WHEN tags IS NULL THEN {spec} END,
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

    pub(crate) fn job_spec(layout: &Layout) -> String {
        format!("SELECT {} FROM main.jobs WHERE id = :id", layout.jobs.spec)
    }

    pub(crate) fn job(layout: &Layout) -> String {
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

    pub(crate) fn delete(table: Doomed) -> &'static str {
        match table {
            Doomed::Jobs => "DELETE FROM main.jobs WHERE id = ?1",
            Doomed::Actions => "DELETE FROM main.actions WHERE id = ?1",
        }
    }

    pub(crate) fn services(services: &Services) -> String {
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
            assert_eq!(plan(&connection, &sql::job_spec(&layout)), by_id);
            assert_eq!(plan(&connection, &sql::actions(&layout).rows), range("actions"));
            assert_eq!(plan(&connection, &sql::services(services)), ["SCAN services", "USE TEMP B-TREE FOR ORDER BY"]);
            assert_eq!(plan(&connection, sql::delete(Doomed::Jobs)), by_id);
            assert_eq!(
                plan(&connection, sql::delete(Doomed::Actions)),
                ["SEARCH actions USING INTEGER PRIMARY KEY (rowid=?)"]
            );
        }
    }
}
