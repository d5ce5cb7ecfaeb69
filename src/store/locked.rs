//! The store under its write lock: the one type that deletes, carries out foreign keys, and commits.
//!
//! The commit compares what was decided with what was done: see [`Locked::commit`].

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tracing::info_span;

use super::file::StoreFile;
use super::snapshot::Snapshot;
use super::triggers::Watch;
use super::{StoreError, rows};
use crate::host::Cancel;

/// The store under its write lock. It reads as a [`Snapshot`] does. Dropping it undoes everything.
pub(crate) struct Locked<'s> {
    snapshot: Snapshot<'s>,
    /// The store's file, if it was opened for this call.
    file: Option<&'s StoreFile>,
    since: Instant,
    /// Bytes in pages that held nothing when the lock was taken.
    free: u64,
    /// The rows that were deleted, of each table.
    deleted: BTreeMap<String, usize>,
    /// Where triggers of the host's run with the deletion.
    watch: Option<Watch>,
}

impl<'s> Deref for Locked<'s> {
    type Target = Snapshot<'s>;

    fn deref(&self) -> &Snapshot<'s> {
        &self.snapshot
    }
}

impl<'s> Locked<'s> {
    pub(super) fn begin(
        connection: &'s mut Connection,
        file: Option<&'s StoreFile>,
        cancel: Cancel,
    ) -> Result<Self, StoreError> {
        let locking = info_span!("lock").entered();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        drop(locking);
        let since = Instant::now();
        let snapshot = Snapshot::of(transaction, cancel)?;
        let watch = snapshot.layout().triggers.then(|| Watch::begin(snapshot.connection())).transpose()?;
        Ok(Self { free: snapshot.free_bytes()?, snapshot, file, since, deleted: BTreeMap::new(), watch })
    }

    /// Deletes the rows of other tables that foreign keys on `jobs` take along, and sets to NULL what they set to NULL.
    pub(crate) fn carry_out_foreign_keys(&mut self, jobs: &[i64]) -> Result<(), StoreError> {
        let (keys, connection) = (&self.snapshot.layout().foreign_keys, self.snapshot.connection());
        if keys.none() {
            return Ok(());
        }
        keys.doom(connection, jobs)?;
        if self.watch.is_some() {
            keys.remember(connection)?;
        }
        let deleted = keys.carry_out(connection)?;
        if self.watch.is_none() {
            keys.forget(connection)?;
        }
        self.deleted = deleted;
        Ok(())
    }

    /// Deletes the rows with these ids.
    pub(crate) fn delete(&mut self, jobs: &[i64], actions: &[i64]) -> Result<(), StoreError> {
        let _span = info_span!("delete", jobs = jobs.len(), actions = actions.len()).entered();
        for (table, statement, ids) in
            [("jobs", rows::sql::DELETE_JOB, jobs), ("actions", rows::sql::DELETE_ACTION, actions)]
        {
            let deleted = self.delete_rows(statement, ids)?;
            *self.deleted.entry(table.to_owned()).or_default() += deleted;
        }
        Ok(())
    }

    /// One statement for each row, free of functions and subqueries: as quick as one `DELETE … WHERE id IN (…)`, without
    /// a table of our own to fill first, and a cancel is heard between two rows.
    fn delete_rows(&self, statement: &str, ids: &[i64]) -> Result<usize, StoreError> {
        let mut statement = self.connection().prepare(statement)?;
        let mut deleted = 0;
        for id in ids {
            self.go_on()?;
            deleted += statement.execute([id])?;
        }
        Ok(deleted)
    }

    /// The one place where anything is committed: the deletion of exactly `jobs` and `actions`, with what foreign keys
    /// take along.
    ///
    /// The caller's path must still lead to the file: while this waited for the lock, another one can have taken its place.
    /// Where triggers of the host's ran, no deleted row may have come back, no row may refer to one, and no other row of
    /// the host's own tables may have gone.
    pub(crate) fn commit(mut self, jobs: &[i64], actions: &[i64]) -> Result<Committed, StoreError> {
        for (table, ids) in [("jobs", jobs), ("actions", actions)] {
            let (deleted, decided) = (self.deleted(table), ids.len());
            if deleted != decided {
                return Err(StoreError::diverged(format!("{deleted} of {decided} {table} would have been deleted")));
            }
        }
        if let Some(watch) = self.watch.take() {
            let (keys, connection) = (&self.layout().foreign_keys, self.connection());
            watch.end(connection, |table| self.deleted(table), jobs, actions)?;
            keys.leave_nothing(connection)?;
        }
        let bytes_freed = self.free_bytes()?.saturating_sub(self.free);
        self.file.map_or(Ok(()), StoreFile::check_place)?;
        self.go_on()?;
        info_span!("commit").in_scope(|| self.snapshot.into_transaction().commit())?;
        Ok(Committed { bytes_freed, lock: self.since.elapsed() })
    }

    fn deleted(&self, table: &str) -> usize {
        self.deleted.get(table).copied().unwrap_or_default()
    }

    /// Gives the lock back with nothing deleted, and returns how long it was held.
    pub(crate) fn undo(self) -> Duration {
        drop(self.snapshot);
        self.since.elapsed()
    }
}

/// What a committed transaction did beside deleting rows.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// Pages that it put on the freelist, times the page size.
    pub(crate) bytes_freed: u64,
    /// How long the write lock was held.
    pub(crate) lock: Duration,
}
