//! hero_proc's store: attached for one call, never changed beyond the rows that go.
//!
//! This module and those under it are the only ones that know SQL. Nothing of what they set on a connection persists:
//! no table, index, trigger or pragma of the host's is touched.
//!
//! # Locking
//!
//! Reading takes no write lock: in WAL mode nothing waits for it, and two connections read side by side; in the rollback
//! journal modes writers wait while it holds SHARED. Writing begins with `BEGIN IMMEDIATE`: a deferred transaction that has
//! read and then writes would fail at once, whatever the busy timeout, if another connection has written in between.

pub(crate) mod foreign_keys;
pub(crate) mod layout;
pub(crate) mod rows;
mod scan;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags, Transaction, TransactionBehavior};
use thiserror::Error;

use layout::Layout;

/// The oldest SQLite that can describe a table in full (`pragma_table_xinfo`).
const OLDEST_SQLITE: i32 = 3_026_000;

/// Refuses a SQLite that is too old: hosts link their own.
fn new_enough(version: i32) -> Result<(), StoreError> {
    let [major, minor, patch] = [version / 1_000_000, version / 1000 % 1000, version % 1000];
    if version < OLDEST_SQLITE {
        return Err(StoreError::unfit(format!("SQLite {major}.{minor}.{patch} is older than 3.26.0")));
    }
    Ok(())
}

/// Where the store is.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreRef<'s> {
    /// A file. Connections of its own are opened for each call and closed after it, two at a time at most beside each other:
    /// whoever shares another connection is never held up by more than SQLite's write lock.
    Path(&'s Path),
    /// A connection of the host's, for stores in memory. It is the caller's for the whole call, keeps its busy timeout
    /// and settings, and must not be inside a transaction.
    Connection(&'s mut Connection),
}

impl<'s> From<&'s Path> for StoreRef<'s> {
    fn from(path: &'s Path) -> Self {
        Self::Path(path)
    }
}

impl<'s> From<&'s mut Connection> for StoreRef<'s> {
    fn from(connection: &'s mut Connection) -> Self {
        Self::Connection(connection)
    }
}

/// What a call means to do with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Why the store can't be used, or wasn't.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A lock could not be had within the busy timeout.
    #[error("the store is locked by another connection")]
    Busy,
    /// No store that this crate understands.
    #[error("this store does not fit: {}", problems.join("; "))]
    Unfit {
        /// Each reason why.
        problems: Vec<String>,
    },
    /// Anything else that SQLite reports. Its text may hold SQL: it is for the log.
    #[error("SQLite failed")]
    Sqlite(#[source] rusqlite::Error),
}

impl StoreError {
    pub(crate) fn unfit(problem: impl Into<String>) -> Self {
        Self::Unfit { problems: vec![problem.into()] }
    }

    /// Whether somebody ended a statement through its connection's [`InterruptHandle`].
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::NotADatabase) => Self::unfit("the file is no SQLite database"),
            Some(ErrorCode::DatabaseCorrupt) => Self::unfit("the database file is damaged"),
            Some(ErrorCode::ReadOnly) => Self::unfit("the store is read-only"),
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Self::unfit("the store can't be opened"),
            _ => Self::Sqlite(error),
        }
    }
}

/// An attached store.
pub(crate) struct Store<'s> {
    connection: Attached<'s>,
}

enum Attached<'s> {
    /// A connection of our own, and the file if another connection could read it beside this one, whatever this one does.
    Own(Connection, Option<StoreFile>),
    /// The host's connection, and whether it enforces foreign keys.
    Host(&'s mut Connection, bool),
}

impl Store<'static> {
    /// A connection of our own to the file at `path`.
    fn open(path: &Path, access: Access, lock_timeout: Duration) -> Result<Self, StoreError> {
        let file = StoreFile::find(path)?;
        let connection = open(&file, access, lock_timeout)?;
        let beside = (journal_mode(&connection)? == "wal").then_some(file);
        Ok(Self { connection: Attached::Own(connection, beside) })
    }
}

impl<'s> Store<'s> {
    /// Opens or takes over the connection. Reads nothing of the store's tables yet.
    pub(crate) fn attach(store: StoreRef<'s>, access: Access, lock_timeout: Duration) -> Result<Self, StoreError> {
        new_enough(rusqlite::version_number())?;
        let store = match store {
            StoreRef::Path(path) => Store::open(path, access, lock_timeout)?,
            StoreRef::Connection(connection) => {
                if !connection.is_autocommit() {
                    return Err(StoreError::unfit("the connection is inside a transaction"));
                }
                let enforced = connection.pragma_query_value(None, "foreign_keys", |row| row.get(0))?;
                Self { connection: Attached::Host(connection, enforced) }
            }
        };
        // Foreign keys are carried out by this crate, set by set: see `foreign_keys`.
        store.connection.get().pragma_update(None, "foreign_keys", false)?;
        Ok(store)
    }

    /// What ends a statement of this attachment from another thread.
    pub(crate) fn interrupt_handle(&self) -> InterruptHandle {
        self.connection.get().get_interrupt_handle()
    }

    /// One snapshot of the store: what is read through it is of one moment.
    pub(crate) fn read(&mut self) -> Result<Snapshot<'_>, StoreError> {
        self.transaction(TransactionBehavior::Deferred)
    }

    /// The same, by two connections side by side where that can be had: see [`scan`].
    pub(crate) fn read_by_two(&mut self) -> Result<Snapshot<'_>, StoreError> {
        let second = self.beside();
        let before = second.as_ref().and_then(|second| second.begin().ok());
        let mut snapshot = self.read()?;
        snapshot.version()?;
        // What nobody has changed between its two looks is what this one saw in between.
        if let (Some(second), Some(before)) = (second, before)
            && second.begin().is_ok_and(|after| after == before)
        {
            snapshot.second = Some(Mutex::new(second));
        }
        Ok(snapshot)
    }

    /// Begins to read, anew if it has begun, and says of which version.
    fn begin(&self) -> Result<i64, StoreError> {
        let connection = self.connection.get();
        if !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK")?;
        }
        connection.execute_batch("BEGIN")?;
        version(connection)
    }

    /// Another attachment, for reading beside this one. None where they would be in each other's way, or if it can't be had.
    pub(crate) fn beside(&self) -> Option<Store<'static>> {
        let Attached::Own(_, Some(file)) = &self.connection else { return None };
        let beside = Store::open(&file.path, Access::Read, Duration::ZERO).ok()?;
        // Another file may have been put in its place: it must be the same before it was opened, and after.
        let before = matches!(&beside.connection, Attached::Own(_, Some(same)) if same == file);
        let after = StoreFile::find(&file.path).is_ok_and(|same| same == *file);
        (before && after).then_some(beside)
    }

    /// The write lock: nobody else writes until the snapshot is committed or dropped, and dropping it undoes all.
    pub(crate) fn lock(&mut self) -> Result<Snapshot<'_>, StoreError> {
        if let Attached::Own(connection, _) = &self.connection {
            // 64 MB: at a million jobs, deleting takes a fifth less time than with the default of 2 MB. Not before: a
            // scan is quicker while its cache fits into the processor's.
            connection.pragma_update(None, "cache_size", -64_000)?;
        }
        self.transaction(TransactionBehavior::Immediate)
    }

    /// Moves what was written from the WAL into the database, and empties the WAL, without waiting for anyone.
    ///
    /// This makes the deletion durable, saves the host's next commit from doing it, and gives the WAL's space back.
    /// Readers may prevent a part of it; that is no error, and stands in the log with the WAL's size.
    pub(crate) fn checkpoint(&self) {
        let Attached::Own(connection, Some(file)) = &self.connection else { return };
        // PASSIVE does the work beside other writers; what is left for TRUNCATE, which shuts them out, is next to nothing.
        let checkpoint =
            |mode| connection.query_row(mode, (), |row| Ok((row.get::<_, bool>(0)?, row.get(1)?, row.get(2)?)));
        let done: Result<(_, i64, i64), _> = connection
            .busy_timeout(Duration::ZERO)
            .and_then(|()| checkpoint("PRAGMA wal_checkpoint(PASSIVE)"))
            .and_then(|_| checkpoint("PRAGMA wal_checkpoint(TRUNCATE)"));
        match done.map_err(StoreError::from) {
            Ok((true, frames, moved)) if moved < frames => {
                let wal_bytes = fs::metadata(wal_of(&file.path)).map_or(0, |wal| wal.len());
                tracing::warn!(wal_bytes, "the WAL could not be emptied after the cleanup: a reader is in the way");
            }
            // Busy with all of it moved: a writer, whose next frames take the place of those.
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the WAL was not emptied after the cleanup"),
        }
    }

    fn transaction(&mut self, behavior: TransactionBehavior) -> Result<Snapshot<'_>, StoreError> {
        Ok(Snapshot { transaction: self.connection.get_mut().transaction_with_behavior(behavior)?, second: None })
    }
}

impl Drop for Store<'_> {
    fn drop(&mut self) {
        if let Attached::Host(connection, enforced) = &self.connection
            && let Err(error) = connection.pragma_update(None, "foreign_keys", *enforced)
        {
            tracing::error!(error = %StoreError::from(error), "the host's setting of foreign keys was not restored");
        }
    }
}

impl Attached<'_> {
    fn get(&self) -> &Connection {
        match self {
            Self::Own(connection, _) => connection,
            Self::Host(connection, _) => connection,
        }
    }

    fn get_mut(&mut self) -> &mut Connection {
        match self {
            Self::Own(connection, _) => connection,
            Self::Host(connection, _) => connection,
        }
    }
}

/// The store at one moment, for reading or under the write lock.
pub(crate) struct Snapshot<'c> {
    transaction: Transaction<'c>,
    /// A second connection that sees the same, for reading side by side.
    second: Option<Mutex<Store<'static>>>,
}

impl std::ops::Deref for Snapshot<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

impl Snapshot<'_> {
    /// The layout, read from the schema.
    pub(crate) fn layout(&self) -> Result<Layout, StoreError> {
        layout::detect(self)
    }

    /// A number that differs from an earlier one of the same connection if another connection has committed since.
    pub(crate) fn version(&self) -> Result<i64, StoreError> {
        version(self)
    }

    /// Bytes in pages that hold nothing.
    pub(crate) fn free_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.number("freelist_count")? * self.number("page_size")?)
    }

    /// Bytes in all pages.
    pub(crate) fn bytes(&self) -> Result<u64, StoreError> {
        Ok(self.number("page_count")? * self.number("page_size")?)
    }

    /// What a pragma says that is a count.
    pub(crate) fn number(&self, pragma: &str) -> Result<u64, StoreError> {
        let number: i64 = self.pragma_query_value(None, pragma, |row| row.get(0))?;
        Ok(number.unsigned_abs())
    }

    /// The one place where anything is committed.
    pub(crate) fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit()?)
    }
}

fn version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
}

/// A store's file.
#[derive(Debug, PartialEq, Eq)]
struct StoreFile {
    /// Without symbolic links: the WAL lies beside the file itself.
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    writable: bool,
}

impl StoreFile {
    fn find(path: &Path) -> Result<Self, StoreError> {
        let reached = path.canonicalize().and_then(|path| Ok((fs::metadata(&path)?, path)));
        let (metadata, path) = reached.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => StoreError::unfit("there is no such file"),
            kind => StoreError::unfit(format!("the file can't be reached: {kind}")),
        })?;
        if !metadata.is_file() {
            return Err(StoreError::unfit("this is no regular file"));
        }
        Ok(Self { path, identity: (metadata.dev(), metadata.ino()), writable: !metadata.permissions().readonly() })
    }
}

/// A connection of our own to `file`, with settings that end with it.
fn open(file: &StoreFile, access: Access, lock_timeout: Duration) -> Result<Connection, StoreError> {
    // Root can write to a file that nobody may write to. Whoever took the permission away meant it.
    if access == Access::Write && !file.writable {
        return Err(StoreError::unfit("the store is read-only"));
    }
    let pending_wal = fs::metadata(wal_of(&file.path)).is_ok_and(|wal| wal.len() > 0);

    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&file.path, flags)?;
    connection.busy_timeout(lock_timeout)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    match access {
        // The last connection to close moves the WAL into the database: for one that only reads, that is not its task.
        Access::Read if pending_wal => {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        Access::Read => {}
        Access::Write => {
            // The checkpoint comes after the commit, when the write lock is free: see `Store::checkpoint`.
            connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
            if journal_mode(&connection)? == "wal" {
                // No sync while the lock is held; the checkpoint syncs. In the other modes FULL stays: there, less
                // could damage the file.
                connection.pragma_update(None, "synchronous", "normal")?;
            }
        }
    }
    Ok(connection)
}

/// In lower case.
fn journal_mode(connection: &Connection) -> Result<String, StoreError> {
    Ok(connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?)
}

fn wal_of(path: &Path) -> PathBuf {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    wal.into()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]
mod tests {
    use super::*;

    /// A second connection is one that sees the same: what it sees has a number, which any commit of another's changes.
    #[test]
    fn a_commit_between_two_looks_is_seen() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("store.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (id INTEGER PRIMARY KEY)").unwrap();
        let store = Store::open(&path, Access::Read, Duration::ZERO).unwrap();
        let second = store.beside().unwrap();
        let before = second.begin().unwrap();
        assert_eq!(second.begin().unwrap(), before, "nobody has written");
        for changed in ["INSERT INTO t DEFAULT VALUES", "UPDATE t SET id = id", "DELETE FROM t", "VACUUM"] {
            let before = second.begin().unwrap();
            writer.execute_batch(changed).unwrap();
            assert_ne!(second.begin().unwrap(), before, "{changed}");
        }
    }

    #[test]
    fn a_sqlite_that_is_too_old_is_named() {
        let said = |version| new_enough(version).map_err(|error| error.to_string());
        assert_eq!(said(3_026_000), Ok(()));
        assert_eq!(said(3_050_004), Ok(()));
        assert_eq!(said(3_025_003), Err("this store does not fit: SQLite 3.25.3 is older than 3.26.0".to_owned()));
    }
}
