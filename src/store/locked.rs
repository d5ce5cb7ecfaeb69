//! The store under its write lock: the one type that deletes, carries out foreign keys, and commits.

use std::ops::Deref;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tracing::info_span;

use super::snapshot::Snapshot;
use super::{StoreError, rows};
use crate::host::Cancel;

/// The store under its write lock. It reads as a [`Snapshot`] does. Dropping it undoes everything.
pub(crate) struct Locked<'s> {
    snapshot: Snapshot<'s>,
    since: Instant,
    /// Bytes in pages that held nothing when the lock was taken.
    free: u64,
}

impl<'s> Deref for Locked<'s> {
    type Target = Snapshot<'s>;

    fn deref(&self) -> &Snapshot<'s> {
        &self.snapshot
    }
}

impl<'s> Locked<'s> {
    pub(super) fn begin(connection: &'s mut Connection, cancel: Cancel) -> Result<Self, StoreError> {
        let locking = info_span!("lock").entered();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        drop(locking);
        let since = Instant::now();
        let snapshot = Snapshot::of(transaction, cancel)?;
        Ok(Self { free: snapshot.free_bytes()?, snapshot, since })
    }

    /// Deletes the rows of other tables that foreign keys on `jobs` take along, and sets to NULL what they set to NULL.
    pub(crate) fn carry_out_foreign_keys(&self, jobs: &[i64]) -> Result<(), StoreError> {
        self.layout().foreign_keys.carry_out(self.connection(), jobs)
    }

    /// Deletes the rows with these ids, and returns how many there were.
    pub(crate) fn delete(&self, jobs: &[i64], actions: &[i64]) -> Result<Deleted, StoreError> {
        let _span = info_span!("delete", jobs = jobs.len(), actions = actions.len()).entered();
        Ok(Deleted {
            jobs: self.delete_rows(rows::sql::DELETE_JOB, jobs)?,
            actions: self.delete_rows(rows::sql::DELETE_ACTION, actions)?,
        })
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

    /// The one place where anything is committed.
    pub(crate) fn commit(self) -> Result<Committed, StoreError> {
        let bytes_freed = self.free_bytes()?.saturating_sub(self.free);
        self.go_on()?;
        info_span!("commit").in_scope(|| self.snapshot.into_transaction().commit())?;
        Ok(Committed { bytes_freed, lock: self.since.elapsed() })
    }

    /// Gives the lock back with nothing deleted, and returns how long it was held.
    pub(crate) fn undo(self) -> Duration {
        drop(self.snapshot);
        self.since.elapsed()
    }
}

/// The number of rows that went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deleted {
    pub(crate) jobs: usize,
    pub(crate) actions: usize,
}

/// What a committed transaction did beside deleting rows.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// Pages that it put on the freelist, times the page size.
    pub(crate) bytes_freed: u64,
    /// How long the write lock was held.
    pub(crate) lock: Duration,
}
