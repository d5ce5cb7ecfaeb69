//! The store at one moment: its layout, its rows, and facts about its file. A snapshot can't write.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, RandomState};
use std::sync::Mutex;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Statement, ToSql, Transaction, TransactionBehavior};

use super::connection::Store;
use super::layout::{self, Layout};
use super::rows::{self, ActionRow, Heads, JobRow, ServiceRow, Times, Weigh};
use super::scan::scan;
use super::{StoreError, is_about_the_statement};
use crate::host::{Cancel, Job};

/// The store at one moment. Every read of it looks at the call's cancel.
pub(crate) struct Snapshot<'c> {
    transaction: Transaction<'c>,
    layout: Layout,
    cancel: Cancel,
    /// A second connection that sees the same, for reading side by side.
    second: Option<Mutex<Store<'static>>>,
}

impl<'c> Snapshot<'c> {
    /// Begins to read, and reads the layout.
    pub(super) fn begin(connection: &'c mut Connection, cancel: Cancel) -> Result<Self, StoreError> {
        Self::of(connection.transaction_with_behavior(TransactionBehavior::Deferred)?, cancel)
    }

    /// The snapshot that `transaction` has of the store.
    pub(super) fn of(transaction: Transaction<'c>, cancel: Cancel) -> Result<Self, StoreError> {
        let layout = layout::detect(&transaction)?;
        works(&transaction, &layout)?;
        Ok(Self { transaction, layout, cancel, second: None })
    }

    /// Lets `second`, which sees the same, read as well.
    pub(super) fn join(&mut self, second: Store<'static>) {
        self.second = Some(Mutex::new(second));
    }

    /// Calls `gather` with each job, on whichever connection reads it; and `take` with each batch of what was gathered, ids
    /// ascending, until one of the two fails. A job says how many bytes it has if `weigh` asked for it a short while before.
    pub(crate) fn jobs<B: Default + Send>(
        &self,
        (times, heads): (Times<'_>, Heads),
        weigh: impl Fn() -> Weigh + Sync,
        gather: impl Fn(&mut B, JobRow<'_>) -> Result<(), StoreError> + Sync,
        take: impl FnMut(B) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let layout = &self.layout;
        let gather = |batch: &mut B, row: &Row<'_>| gather(batch, JobRow::read(row, layout));
        scan(self, &rows::sql::jobs(&self.layout, times, heads), || weigh() as u8, gather, take)
    }

    /// The number of jobs: by the host's smallest index, if it has any.
    pub(crate) fn job_count(&self) -> Result<u64, StoreError> {
        let count: i64 = self.transaction.query_row("SELECT count(*) FROM main.jobs", (), |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// Whether jobs have heads by which they can be told from the same jobs once they have changed.
    pub(crate) fn has_heads(&self) -> bool {
        self.layout.jobs.head.is_some()
    }

    /// Calls `gather` with the head of each job, and `take` with each batch, as [`jobs`](Self::jobs) does.
    ///
    /// A head says what the job's columns refer to, its phase if that is not [told by an index](Self::phases), every column of
    /// interest that is reached without following more pages, and the type and length of the others. Whatever refers to
    /// something is exact. That a large column was replaced by another of the same length is not seen.
    pub(crate) fn heads<B: Default + Send>(
        &self,
        gather: impl Fn(&mut B, JobRow<'_>) -> Result<(), StoreError> + Sync,
        take: impl FnMut(B) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let layout = &self.layout;
        let gather = |batch: &mut B, row: &Row<'_>| gather(batch, JobRow::read(row, layout));
        scan(self, &rows::sql::heads(&self.layout), || 0, gather, take)
    }

    /// A hash of the phase of each job, where an index tells the phases.
    pub(crate) fn phases(&self, hashes: &RandomState) -> Result<Option<HashMap<i64, u64>>, StoreError> {
        if !self.layout.jobs.phases_are_indexed {
            return Ok(None);
        }
        let mut phases = HashMap::new();
        let mut statement = self.transaction.prepare(rows::sql::PHASES)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            self.go_on()?;
            phases.insert(row.get(0)?, rows::hash_of(row.get_ref(1)?, hashes));
        }
        Ok(Some(phases))
    }

    /// Calls `read` with each of the jobs `ids`, which must be there.
    pub(crate) fn whole_jobs(
        &self,
        times: Times<'_>,
        ids: &[i64],
        mut read: impl FnMut(JobRow<'_>),
    ) -> Result<(), StoreError> {
        let mut found = 0;
        self.by_id(&rows::sql::whole_job(&self.layout, times), ids.iter().copied(), |row| {
            found += 1;
            read(JobRow::read(row, &self.layout));
        })?;
        if found == ids.len() { Ok(()) } else { Err(StoreError::damaged()) }
    }

    /// Calls `each` with the id of each job of `runs`, and its run: by the host's index on runs if it has one.
    pub(crate) fn jobs_of_runs(&self, runs: &HashSet<i64>, mut each: impl FnMut(i64, i64)) -> Result<(), StoreError> {
        let Some(run_id) = self.layout.jobs.run_id.filter(|_| !runs.is_empty()) else { return Ok(()) };
        let mut read = |statement: &mut Statement<'_>, params: &[&dyn ToSql]| {
            let mut rows = statement.query(params)?;
            while let Some(row) = rows.next()? {
                self.go_on()?;
                // A run of another type belongs to nobody.
                if let (id, ValueRef::Integer(run)) = (row.get(0)?, row.get_ref(1)?) {
                    each(id, run);
                }
            }
            Ok(())
        };
        if self.layout.jobs.runs_are_indexed {
            let mut statement = self.transaction.prepare(&rows::sql::jobs_of_run(run_id))?;
            runs.iter().try_for_each(|run| read(&mut statement, &[run]))
        } else {
            read(&mut self.transaction.prepare(&rows::sql::jobs_of_runs(run_id))?, &[])
        }
    }

    /// Calls `each` with each of the jobs `ids` that belongs to a run, and its run.
    pub(crate) fn runs_of_jobs(
        &self,
        ids: impl IntoIterator<Item = i64>,
        mut each: impl FnMut(i64, i64),
    ) -> Result<(), StoreError> {
        let Some(run_id) = self.layout.jobs.run_id else { return Ok(()) };
        self.by_id(&rows::sql::run_of_job(run_id), ids, |row| {
            if let (Ok(id), Ok(ValueRef::Integer(run))) = (row.get(0), row.get_ref(1)) {
                each(id, run);
            }
        })
    }

    /// The number of rows of `runs`, and of those that no job names; none where the layout tells neither.
    pub(crate) fn runs(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let Some(run_id) = self.layout.jobs.run_id else { return Ok(None) };
        let named = format!("SELECT {run_id} FROM main.jobs WHERE {run_id} IS NOT NULL");
        let runs = format!("SELECT count(*), coalesce(sum(id NOT IN ({named})), 0) FROM main.runs");
        let mut runs = match self.transaction.prepare(&runs) {
            Ok(runs) => runs,
            Err(error) if is_about_the_statement(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let counts = runs.query_row((), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        Ok(Some((counts.0.unsigned_abs(), counts.1.unsigned_abs())))
    }

    /// Calls `gather` with each action, and `take` with each batch, as [`jobs`](Self::jobs) does with jobs.
    pub(crate) fn actions<B: Default + Send>(
        &self,
        gather: impl Fn(&mut B, ActionRow<'_>) -> Result<(), StoreError> + Sync,
        take: impl FnMut(B) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let layout = &self.layout;
        let gather = |batch: &mut B, row: &Row<'_>| gather(batch, ActionRow::read(row, layout));
        scan(self, &rows::sql::actions(layout), || 0, gather, take)
    }

    /// Calls `each` with every service, names ascending, until it fails.
    pub(crate) fn services(
        &self,
        mut each: impl FnMut(ServiceRow<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Some(services) = &self.layout.services else { return Ok(()) };
        let mut statement = self.transaction.prepare(&rows::sql::services(services))?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            self.go_on()?;
            each(ServiceRow::read(row))?;
        }
        Ok(())
    }

    /// Calls `read` with each of the jobs `ids` that is there, its spec included.
    pub(crate) fn jobs_by_id(
        &self,
        ids: impl IntoIterator<Item = i64>,
        mut read: impl FnMut(JobRow<'_>),
    ) -> Result<(), StoreError> {
        self.by_id(&rows::sql::job_by_id(&self.layout, Times::Read), ids, |row| read(JobRow::read(row, &self.layout)))
    }

    /// Calls `read` with each of the actions `ids` that is there.
    pub(crate) fn actions_by_id(
        &self,
        ids: impl IntoIterator<Item = i64>,
        mut read: impl FnMut(ActionRow<'_>),
    ) -> Result<(), StoreError> {
        self.by_id(&rows::sql::action_by_id(&self.layout), ids, |row| read(ActionRow::read(row, &self.layout)))
    }

    /// The bytes of each action that can go, by what `key` makes of its context and name.
    pub(crate) fn action_bytes<K: Eq + Hash>(
        &self,
        key: impl Fn(&str, &str) -> K,
    ) -> Result<HashMap<K, u64>, StoreError> {
        let mut bytes = HashMap::new();
        let mut statement = self.transaction.prepare(&rows::sql::action_bytes(&self.layout))?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            self.go_on()?;
            // No action without a textual name can go.
            if let (Ok(context), Ok(name)) = (row.get_ref(0)?.as_str(), row.get_ref(1)?.as_str()) {
                bytes.insert(key(context, name), row.get::<_, i64>(2)?.unsigned_abs());
            }
        }
        Ok(bytes)
    }

    fn by_id(
        &self,
        statement: &str,
        ids: impl IntoIterator<Item = i64>,
        mut read: impl FnMut(&Row<'_>),
    ) -> Result<(), StoreError> {
        let mut ids = ids.into_iter().peekable();
        if ids.peek().is_none() {
            return Ok(());
        }
        let mut statement = self.transaction.prepare(statement)?;
        for id in ids {
            self.go_on()?;
            let mut rows = statement.query([id])?;
            if let Some(row) = rows.next()? {
                read(row);
            }
        }
        Ok(())
    }

    /// The job `id` as the host knows it.
    pub(crate) fn job(&self, id: i64) -> Result<Job, StoreError> {
        rows::job(&self.transaction, &self.layout, id)
    }

    /// The jobs that rows of other tables hold on to by a foreign key, with the table.
    pub(crate) fn held(&self) -> Result<HashMap<i64, &str>, StoreError> {
        self.layout.foreign_keys.held(&self.transaction)
    }

    /// The jobs that other jobs hold by a foreign key, each with the one that holds it.
    pub(crate) fn held_by_jobs(&self) -> Result<Vec<(i64, i64)>, StoreError> {
        self.layout.foreign_keys.held_by_jobs(&self.transaction)
    }

    /// For each of `jobs`, the number of rows of other tables that it takes along or sets to NULL and none before it does.
    pub(crate) fn dependents_of_each(&self, jobs: &[i64]) -> Result<Vec<u64>, StoreError> {
        self.layout.foreign_keys.count_each(&self.transaction, jobs)
    }

    /// The number of rows of each other table that deleting `jobs` takes along or sets to NULL.
    pub(crate) fn dependents(&self, jobs: &[i64]) -> Result<BTreeMap<String, u64>, StoreError> {
        self.layout.foreign_keys.count(&self.transaction, jobs)
    }

    /// A number that differs from an earlier one of the same connection if another connection has committed since.
    pub(crate) fn version(&self) -> Result<i64, StoreError> {
        version(&self.transaction)
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// An error once the call was cancelled.
    pub(crate) fn go_on(&self) -> Result<(), StoreError> {
        self.cancel.check()
    }

    pub(crate) fn facts(&self) -> Result<Facts, StoreError> {
        Ok(Facts {
            sqlite: rusqlite::version().to_owned(),
            journal_mode: self.transaction.pragma_query_value(None, "journal_mode", |row| row.get(0))?,
            page_size: self.number("page_size")?,
            auto_vacuum: match self.number("auto_vacuum")? {
                0 => "none",
                1 => "full",
                _ => "incremental",
            },
            bytes: self.bytes()?,
            free_bytes: self.free_bytes()?,
        })
    }

    /// The size of the pages that hold nothing, in bytes.
    pub(crate) fn free_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.number("freelist_count")? * self.number("page_size")?)
    }

    /// The size of all pages, in bytes.
    pub(crate) fn bytes(&self) -> Result<u64, StoreError> {
        Ok(self.number("page_count")? * self.number("page_size")?)
    }

    /// The value of a pragma that is a count.
    fn number(&self, pragma: &str) -> Result<u64, StoreError> {
        let number: i64 = self.transaction.pragma_query_value(None, pragma, |row| row.get(0))?;
        Ok(number.unsigned_abs())
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.transaction
    }

    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    pub(super) fn second(&self) -> Option<&Mutex<Store<'static>>> {
        self.second.as_ref()
    }

    pub(super) fn into_transaction(self) -> Transaction<'c> {
        self.transaction
    }
}

/// An error unless SQLite can prepare the statements of every call. An index or a trigger can need a function, a collation
/// or a module that only the host's connections have: then nothing could ever be deleted, and a dry run must not show it.
fn works(connection: &Connection, layout: &Layout) -> Result<(), StoreError> {
    let mut problems = Vec::new();
    let mut needs = |sql: &str, what: &str| {
        let Err(error) = connection.prepare(sql) else { return Ok(()) };
        problems.push(format!("{what}{}", missing(error, sql)?));
        Ok::<_, StoreError>(())
    };
    needs(&rows::sql::jobs(layout, Times::Read, Heads::Read).rows, "jobs can't be read")?;
    needs(&rows::sql::actions(layout).rows, "actions can't be read")?;
    if let Some(services) = &layout.services {
        needs(&rows::sql::services(services), "services can't be read")?;
    }
    needs(rows::sql::DELETE_JOB, "jobs can't be deleted from")?;
    needs(rows::sql::DELETE_ACTION, "actions can't be deleted from")?;
    layout
        .foreign_keys
        .each_statement(connection, |table, sql| needs(sql, &format!("foreign keys can't be followed to {table}")))?;
    if problems.is_empty() { Ok(()) } else { Err(StoreError::Unfit { problems }) }
}

/// What SQLite misses in the schema when it can't prepare `sql`. Any other error is passed on.
fn missing(error: rusqlite::Error, sql: &str) -> Result<String, StoreError> {
    if !is_about_the_statement(&error) {
        return Err(error.into());
    }
    let text = error.to_string();
    // Some versions of rusqlite add the statement. Of what SQLite says, only names may be shown.
    let said = text.split_once(&format!(" in {sql}")).map_or(&*text, |(said, _)| said);
    let named = ["no such ", "unknown function: ", "unsafe use of "].iter().any(|start| said.starts_with(start));
    Ok(if named { format!(": {said}") } else { String::new() })
}

/// What SQLite says of the store's file.
pub(crate) struct Facts {
    /// The version of the SQLite that reads it.
    pub(crate) sqlite: String,
    /// `wal`, `delete`, …
    pub(crate) journal_mode: String,
    /// In bytes.
    pub(crate) page_size: u64,
    /// `none`, `full` or `incremental`.
    pub(crate) auto_vacuum: &'static str,
    /// The size of all pages, free ones included.
    pub(crate) bytes: u64,
    /// The size of the pages that hold nothing.
    pub(crate) free_bytes: u64,
}

pub(super) fn version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
}
