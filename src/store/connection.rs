//! A connection to the store: opened on its file or lent by the host, set up for one call, and set back.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::file::StoreFile;
use super::locked::Locked;
use super::reclaim::Space;
use super::snapshot::{Snapshot, version};
use super::{StoreError, StoreRef, disk, wait};
use crate::host::{Cancel, Host, Reached};
use crate::report::StoreSize;

/// A row with this many bytes is large: most of its pages are overflow pages.
const LARGE_ROW: u64 = 16_384;

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

/// The purpose of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    /// Giving space back.
    Reclaim,
}

/// An attached store. Its connection is known to this module and its siblings alone.
pub(crate) struct Store<'s> {
    attached: Attached<'s>,
    access: Access,
    /// The longest wait for a lock, on a connection of our own.
    lock_timeout: Duration,
    cancel: Cancel,
    reached: Option<Reached>,
}

enum Attached<'s> {
    /// A connection of our own to a file.
    Own { connection: Connection, file: Box<StoreFile>, journal: Journal },
    /// The host's connection, and its settings: whether it enforces foreign keys, and `secure_delete` if that is changed.
    Host { connection: &'s mut Connection, enforced: bool, secure_delete: Option<i64> },
}

/// How a store keeps what is not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Journal {
    /// In a WAL: readers and a writer are not in each other's way.
    Wal,
    /// In a rollback journal, on disk or in memory.
    Rollback,
}

impl Store<'static> {
    /// A connection of our own to the file at `path`.
    pub(super) fn open(
        path: &Path,
        access: Access,
        lock_timeout: Duration,
        cancel: &Cancel,
    ) -> Result<Self, StoreError> {
        let file = StoreFile::find(path)?;
        file.check_name()?;
        file.check_owner(access)?;
        let opened = open(&file, access, lock_timeout, cancel)
            .and_then(|connection| Ok((journal_mode(&connection)?, connection)));
        let (mode, connection) = opened.map_err(|error| match error {
            StoreError::Busy if cancel.is_cancelled() => StoreError::Cancelled,
            error => file.explain(error, access),
        })?;
        // Another file may have taken its place before it was opened.
        file.check_place()?;
        let journal = if mode == "wal" { Journal::Wal } else { Journal::Rollback };
        Ok(Self::new(Attached::Own { connection, file: Box::new(file), journal }, access, lock_timeout, cancel))
    }
}

impl<'s> Store<'s> {
    /// Opens or takes over the connection. Reads nothing of the store's tables yet.
    pub(crate) fn attach(store: StoreRef<'s>, access: Access, host: &Host) -> Result<Self, StoreError> {
        new_enough(rusqlite::version_number())?;
        let store = match store {
            StoreRef::Path(path) => Store::open(path, access, host.lock_timeout, &host.cancel)?,
            StoreRef::Connection(connection) => {
                if !connection.is_autocommit() {
                    return Err(StoreError::unfit("the connection is inside a transaction"));
                }
                let enforced = connection.pragma_query_value(None, "foreign_keys", |row| row.get(0))?;
                let secure_delete = (access == Access::Write && host.secure_delete)
                    .then(|| connection.query_row("PRAGMA main.secure_delete", (), |row| row.get(0)))
                    .transpose()?;
                Self::new(
                    Attached::Host { connection, enforced, secure_delete },
                    access,
                    host.lock_timeout,
                    &host.cancel,
                )
            }
        };
        if access == Access::Write && host.secure_delete {
            set_secure_delete(store.connection(), ON)?;
        }
        // Foreign keys are carried out by this crate, set by set: see `foreign_keys`.
        store.connection().pragma_update(None, "foreign_keys", false)?;
        Ok(store)
    }

    fn new(attached: Attached<'s>, access: Access, lock_timeout: Duration, cancel: &Cancel) -> Self {
        let interrupt = attached.connection().get_interrupt_handle();
        let reached = Some(cancel.reach(move || interrupt.interrupt()));
        Self { attached, access, lock_timeout, cancel: cancel.clone(), reached }
    }

    /// One snapshot of the store, read by two connections side by side where that can be had: see [`scan`](super::scan).
    pub(crate) fn read(&mut self) -> Result<Snapshot<'_>, StoreError> {
        let second = self.beside();
        let before = second.as_ref().and_then(|second| second.begin().ok());
        let mut snapshot = self.read_alone()?;
        snapshot.version()?;
        // If `data_version` is equal before and after, no commit fell between, so both connections see one snapshot.
        if let (Some(second), Some(before)) = (second, before)
            && second.begin().is_ok_and(|after| after == before)
        {
            snapshot.join(second);
        }
        Ok(snapshot)
    }

    /// One snapshot of the store, read by one connection.
    pub(crate) fn read_alone(&mut self) -> Result<Snapshot<'_>, StoreError> {
        let cancel = self.cancel.clone();
        Snapshot::begin(self.connection_mut(), cancel)
    }

    /// The store under its write lock, for deleting rows of about `bytes_each`: nobody else writes until the lock is
    /// committed or dropped, and dropping it undoes everything.
    pub(crate) fn lock(&mut self, bytes_each: u64) -> Result<Locked<'_>, StoreError> {
        if let Attached::Own { connection, .. } = &mut self.attached {
            // At a million jobs, deleting takes a fifth less time than with the default of 2 MB. The overflow pages of large
            // rows are read once: a large cache would be filled with them, and getting its memory takes longer than reading
            // the pages.
            let kibibytes = if bytes_each < LARGE_ROW { 64_000 } else { 8_000 };
            connection.pragma_update(None, "cache_size", -kibibytes)?;
            // Anew: the host has been asked to stop jobs, and may have called us on this thread.
            wait::for_locks(connection, self.lock_timeout, &self.cancel)?;
        }
        let cancel = self.cancel.clone();
        match &mut self.attached {
            Attached::Own { connection, file, .. } => Locked::begin(connection, Some(file), cancel),
            Attached::Host { connection, .. } => Locked::begin(connection, None, cancel),
        }
    }

    /// The store's file, whose space can be given back; none for a connection that the host lent.
    pub(crate) fn space(&self, lock_timeout: Duration) -> Option<Space<'_>> {
        let Attached::Own { connection, file, journal } = &self.attached else { return None };
        Some(Space::of(connection, file, *journal, lock_timeout, &self.cancel))
    }

    /// Another attachment, for reading beside this one; none where the two would be in each other's way.
    pub(crate) fn beside(&self) -> Option<Store<'static>> {
        let Attached::Own { file, journal: Journal::Wal, .. } = &self.attached else { return None };
        let beside = Store::open(file.path(), Access::Read, Duration::ZERO, &self.cancel).ok()?;
        // Another file may have taken its place.
        let same = matches!(&beside.attached, Attached::Own { file: same, journal: Journal::Wal, .. } if same.is(file));
        same.then_some(beside)
    }

    /// Begins to read, anew if this connection has begun, and returns the version that it reads.
    fn begin(&self) -> Result<i64, StoreError> {
        let connection = self.connection();
        if !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK")?;
        }
        connection.execute_batch("BEGIN")?;
        version(connection)
    }

    /// Lets no cancel interrupt this connection from here on.
    pub(crate) fn reach_no_more(&mut self) {
        self.reached = None;
    }

    /// Moves the written pages from the WAL into the database, and empties the WAL, without waiting for anyone.
    ///
    /// The checkpoint makes the deletion durable, spares the host's next commit that work, and gives the WAL's space
    /// back. A reader may prevent a part of it; that is no error, and the log then says how large the WAL is.
    pub(crate) fn checkpoint(&self) {
        let Attached::Own { connection, file, journal: Journal::Wal } = &self.attached else { return };
        // PASSIVE does the work beside other writers; next to nothing is left for TRUNCATE, which shuts them out.
        let checkpoint =
            |mode| connection.query_row(mode, (), |row| Ok((row.get::<_, bool>(0)?, row.get(1)?, row.get(2)?)));
        let done: Result<(_, i64, i64), _> = connection
            .busy_timeout(Duration::ZERO)
            .and_then(|()| checkpoint("PRAGMA wal_checkpoint(PASSIVE)"))
            .and_then(|_| checkpoint("PRAGMA wal_checkpoint(TRUNCATE)"));
        match done.map_err(StoreError::from) {
            Ok((true, frames, moved)) if moved < frames => {
                let wal_bytes = fs::metadata(file.side("-wal")).map_or(0, |wal| wal.len());
                tracing::warn!(wal_bytes, "the WAL could not be emptied after the cleanup: a reader is in the way");
            }
            // Busy, but every page was moved: a writer is active, and its next frames overwrite the old ones.
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the WAL was not emptied after the cleanup"),
        }
    }

    /// `error`, which a call on this store met, with its cause.
    pub(crate) fn explain(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Busy) && self.cancel.is_cancelled() {
            return StoreError::Cancelled;
        }
        match &self.attached {
            Attached::Own { file, .. } => file.explain(error, self.access),
            Attached::Host { connection, .. } => disk::explain_full(connection, error),
        }
    }

    /// The size of the store as it is now.
    pub(crate) fn size(&self) -> Result<StoreSize, StoreError> {
        let connection = self.connection();
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let page_size = number("page_size")?.unsigned_abs();
        let (file_bytes, wal_bytes) = match &self.attached {
            Attached::Own { file, .. } => {
                let bytes = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
                (bytes(file.path()), bytes(&file.side("-wal")))
            }
            Attached::Host { .. } => (number("page_count")?.unsigned_abs() * page_size, 0),
        };
        let mut size = StoreSize::default();
        (size.file_bytes, size.wal_bytes) = (file_bytes, wal_bytes);
        size.free_bytes = number("freelist_count")?.unsigned_abs() * page_size;
        Ok(size)
    }

    pub(super) fn connection(&self) -> &Connection {
        self.attached.connection()
    }

    fn connection_mut(&mut self) -> &mut Connection {
        match &mut self.attached {
            Attached::Own { connection, .. } => connection,
            Attached::Host { connection, .. } => connection,
        }
    }
}

impl Attached<'_> {
    fn connection(&self) -> &Connection {
        match self {
            Self::Own { connection, .. } => connection,
            Self::Host { connection, .. } => connection,
        }
    }
}

impl Drop for Store<'_> {
    fn drop(&mut self) {
        let Attached::Host { connection, enforced, secure_delete } = &self.attached else { return };
        let restored = connection
            .pragma_update(None, "foreign_keys", *enforced)
            .and_then(|()| secure_delete.map_or(Ok(()), |setting| set_secure_delete(connection, setting)));
        if let Err(error) = restored {
            tracing::error!(error = %StoreError::from(error), "the settings of the host's connection were not restored");
        }
    }
}

/// A connection of our own to `file`, with settings that end with it.
fn open(file: &StoreFile, access: Access, lock_timeout: Duration, cancel: &Cancel) -> Result<Connection, StoreError> {
    if access != Access::Read && !file.is_writable() {
        return Err(StoreError::unusable("it is read-only"));
    }
    let pending_wal = fs::metadata(file.side("-wal")).is_ok_and(|wal| wal.len() > 0);

    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file.path(), flags)?;
    wait::for_locks(&mut connection, lock_timeout, cancel)?;
    // A VACUUM copies the live pages into a temporary file. This file must not be in the host's memory.
    let temp_store = if access == Access::Reclaim { "file" } else { "memory" };
    connection.pragma_update(None, "temp_store", temp_store)?;
    if access != Access::Reclaim {
        // A scan reads each page once, and is quicker by a twentieth where its cache fits into that of a processor's core.
        connection.pragma_update(None, "cache_size", -500)?;
    }
    match access {
        // The last connection to close moves the WAL into the database: a reader leaves that task to a writer.
        Access::Read if pending_wal => {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        Access::Read => {}
        Access::Write | Access::Reclaim => {
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

/// What is deleted is overwritten with zeros.
const ON: i64 = 1;

/// Sets `secure_delete` to what it was when it was this number.
fn set_secure_delete(connection: &Connection, setting: i64) -> rusqlite::Result<()> {
    let pragma = match setting {
        0 => "PRAGMA main.secure_delete = off",
        ON => "PRAGMA main.secure_delete = on",
        // Where that costs no more writing.
        _ => "PRAGMA main.secure_delete = fast",
    };
    connection.query_row(pragma, (), |_| Ok(()))
}

/// In lower case.
pub(super) fn journal_mode(connection: &Connection) -> Result<String, StoreError> {
    Ok(connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]
mod tests {
    use super::*;

    /// The second connection of a snapshot is compared by its `data_version`, which any commit of another's changes.
    #[test]
    fn a_commit_between_two_looks_is_seen() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("store.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (id INTEGER PRIMARY KEY)").unwrap();
        let store = Store::open(&path, Access::Read, Duration::ZERO, &Cancel::default()).unwrap();
        let second = store.beside().unwrap();
        let before = second.begin().unwrap();
        assert_eq!(second.begin().unwrap(), before, "nobody has written");
        for changed in ["INSERT INTO t DEFAULT VALUES", "UPDATE t SET id = id", "DELETE FROM t", "VACUUM"] {
            let before = second.begin().unwrap();
            writer.execute_batch(changed).unwrap();
            assert_ne!(second.begin().unwrap(), before, "{changed}");
        }
    }

    /// The second connection of a snapshot, and the one that decides again under the lock, end with the call as well.
    #[test]
    fn a_cancel_reaches_every_open_connection() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("store.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (id INTEGER PRIMARY KEY)").unwrap();
        let cancel = Cancel::default();
        let store = Store::open(&path, Access::Read, Duration::ZERO, &cancel).unwrap();
        let second = store.beside().unwrap();
        for store in [store, second] {
            std::thread::scope(|scope| {
                let cancel = &cancel;
                let (begun, begins) = std::sync::mpsc::channel();
                let ends = scope.spawn(move || {
                    begun.send(()).unwrap();
                    let forever =
                        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
                    let ended = store.connection().query_row(forever, (), |row| row.get::<_, i64>(0));
                    StoreError::from(ended.unwrap_err())
                });
                begins.recv().unwrap();
                while !ends.is_finished() {
                    cancel.cancel();
                    std::thread::yield_now();
                }
                assert!(matches!(ends.join().unwrap(), StoreError::Cancelled));
            });
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
