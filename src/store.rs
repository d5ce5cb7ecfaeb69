//! hero_proc's store: attached for one call, never changed beyond the rows that go.
//!
//! ```text
//! Store::attach ─┬─ read  → Snapshot   reads rows, and nothing else
//!                ├─ lock  → Locked     reads as a Snapshot does, deletes, and commits   ← the only commit of a deletion
//!                └─ space → Space      gives free pages back, and changes no row
//! ```
//!
//! This module and those under it are the only ones that know SQL and rusqlite. Nothing that they set on a connection
//! persists: no table, index, trigger or pragma of the host's is touched.
//!
//! # Locking
//!
//! Reading takes no write lock. In WAL mode nothing waits for a reader, and two connections read side by side; in the
//! rollback journal modes writers wait while a reader holds SHARED. Writing begins with `BEGIN IMMEDIATE`: a deferred
//! transaction that reads and then writes fails at once, whatever the busy timeout, if another connection has written in
//! between.
//!
//! # Durability
//!
//! In WAL mode the commit does not wait for the disk, so that the lock is short; the checkpoint after it does, before the
//! report is sent ([`Store::checkpoint`]). In the rollback journal modes the commit itself waits.
//!
//! # Compatibility
//!
//! The layout is read from the schema for each snapshot, never guessed from rows ([`layout`]). A host links its own
//! SQLite: versions before 3.26.0 lack `pragma_table_xinfo` and are refused.

mod connection;
mod definition;
mod disk;
mod file;
mod foreign_keys;
mod layout;
mod locked;
mod procfs;
mod reclaim;
mod row_ids;
mod rows;
mod scan;
mod snapshot;
mod triggers;
mod wait;
mod weights;
mod writes;

use std::io;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, ffi};
use thiserror::Error;

use crate::host::Cancel;

pub(crate) use connection::{Access, Journal, Store};
pub(crate) use disk::Room;
pub(crate) use layout::Layout;
pub(crate) use locked::{Committed, Locked};
pub(crate) use reclaim::{Checkpointed, Freed, Space, Vacuumed, Wal};
pub(crate) use rows::{ActionRow, DEFAULT_CONTEXT, Heads, JobRow, JobTags, Times, Weigh};
pub(crate) use snapshot::{Facts, Snapshot};
pub(crate) use weights::Weights;
pub(crate) use writes::Rows;

/// The place of a store.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreRef<'s> {
    /// A file. Each call opens connections of its own, at most three at a time, and closes them: whoever shares another
    /// connection is never held up by more than SQLite's write lock.
    Path(&'s Path),
    /// A connection of the host's, for stores in memory. The call has it to itself, keeps its busy timeout and settings,
    /// and refuses one that is inside a transaction.
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

/// Why the store can't be used, or wasn't.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A lock could not be had within the busy timeout.
    #[error("the store is locked by another connection")]
    Busy,
    /// The store can't be opened, or not written to, by this process as things are.
    #[non_exhaustive]
    #[error("the store can't be used: {problem}")]
    Unusable {
        /// The reason why.
        problem: String,
    },
    /// No store that this crate understands.
    #[error("this store does not fit: {}", problems.join("; "))]
    Unfit {
        /// Each reason why.
        problems: Vec<String>,
    },
    /// There was no room on the disk.
    #[non_exhaustive]
    #[error("there is no room on the disk")]
    Full {
        /// The bytes that are needed at most, where this is known.
        needed: Option<u64>,
        /// The bytes that are free for this user; 0 where the system does not say.
        free: u64,
        /// The highest `limit` with which a call surely needs no more than these, where this is known of any.
        limit: Option<u64>,
    },
    /// The store may not become larger, by SQLite's `max_page_count`.
    #[non_exhaustive]
    #[error("the store is as large as it may be (max_page_count)")]
    AtItsLargest {
        /// The bytes by which it may grow, and those that are free in it.
        free: u64,
    },
    /// The deletion did not do what was decided, because triggers of the host's ran; it was undone.
    #[non_exhaustive]
    #[error("the deletion was not the one that was decided: {what}")]
    Diverged {
        /// The difference, for the log.
        what: String,
    },
    /// The call was ended early, by its [`Cancel`](crate::Cancel) or by an interrupt of the connection that the host lent.
    #[error("cancelled before the commit: nothing was deleted")]
    Cancelled,
    /// Anything else that SQLite reports. Its text may hold SQL: it is for the log.
    #[error("SQLite failed")]
    Sqlite(#[source] rusqlite::Error),
}

impl StoreError {
    fn unfit(problem: impl Into<String>) -> Self {
        Self::Unfit { problems: vec![problem.into()] }
    }

    fn diverged(what: String) -> Self {
        Self::Diverged { what }
    }

    fn unusable(problem: impl Into<String>) -> Self {
        Self::Unusable { problem: problem.into() }
    }

    pub(crate) fn damaged() -> Self {
        Self::unfit("the database file is damaged")
    }
}

impl Cancel {
    /// An error once the call was cancelled.
    fn check(&self) -> Result<(), StoreError> {
        if self.is_cancelled() { Err(StoreError::Cancelled) } else { Ok(()) }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        if is_interrupt(&error) {
            return Self::Cancelled;
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            // Where the store is a file, the file system tells more: see `Store::explain`.
            Some(ErrorCode::DiskFull) => Self::Full { needed: None, free: 0, limit: None },
            Some(ErrorCode::SystemIoFailure) if is_for_want_of_room(&error) => {
                Self::Full { needed: None, free: 0, limit: None }
            }
            Some(ErrorCode::NotADatabase) => Self::unfit("the file is no SQLite database"),
            Some(ErrorCode::DatabaseCorrupt) => Self::damaged(),
            Some(ErrorCode::ReadOnly) => Self::unusable("it is read-only"),
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::unusable("it, or a file beside it, can't be opened")
            }
            _ => Self::Sqlite(error),
        }
    }
}

/// Whether the connection was interrupted.
fn is_interrupt(error: &rusqlite::Error) -> bool {
    match (error.sqlite_error_code(), error) {
        (Some(ErrorCode::OperationInterrupted), _) => true,
        // `sqlite3_declare_vtab`, by which the tables `pragma_…` come about, has one code for all errors: the text tells.
        (Some(ErrorCode::Unknown), rusqlite::Error::SqliteFailure(_, Some(message))) => message == "interrupted",
        _ => false,
    }
}

/// Whether `error`, of preparing a statement, is about the statement and the schema, and not about the moment.
fn is_about_the_statement(error: &rusqlite::Error) -> bool {
    // Some versions of rusqlite give such an error no code.
    matches!(error.sqlite_error_code(), None | Some(ErrorCode::Unknown)) && !is_interrupt(error)
}

/// Whether a write failed for a quota or a limit on the size of files: SQLite itself tells only of a full disk.
fn is_for_want_of_room(error: &rusqlite::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let of_writing = [
        ffi::SQLITE_IOERR_WRITE,
        ffi::SQLITE_IOERR_FSYNC,
        ffi::SQLITE_IOERR_TRUNCATE,
        ffi::SQLITE_IOERR_SHMOPEN,
        ffi::SQLITE_IOERR_SHMSIZE,
        ffi::SQLITE_IOERR_SHMMAP,
    ];
    error.sqlite_error().is_some_and(|error| of_writing.contains(&error.extended_code))
        && matches!(io::Error::last_os_error().kind(), FileTooLarge | QuotaExceeded | StorageFull)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

    use super::*;

    /// An interrupt can meet a statement where it is prepared: in the one that SQLite prepares for a table `pragma_…`.
    #[test]
    fn an_interrupt_is_told_wherever_it_meets_a_statement() {
        let mut connection = Connection::open_in_memory().unwrap();
        let armed = Arc::new(AtomicBool::new(false));
        let (interrupt, seen) = (connection.get_interrupt_handle(), armed.clone());
        // As a statement asks for its right to read, its text has been read, and the table has not been made.
        let _ = connection.authorizer(Some(move |asked: AuthContext<'_>| {
            if seen.load(Relaxed) && asked.action == AuthAction::Select {
                interrupt.interrupt();
            }
            Authorization::Allow
        }));
        // While a statement runs, an interrupt lasts.
        let mut running = connection.prepare("SELECT 1 UNION ALL SELECT 2").unwrap();
        let mut rows = running.query(()).unwrap();
        rows.next().unwrap();
        armed.store(true, Relaxed);
        let error = connection.prepare("SELECT name FROM pragma_table_xinfo('jobs')").unwrap_err();
        // Older versions of SQLite have the code of an interrupt here, too.
        assert!(error.to_string().contains("interrupted"), "{error:?}");
        assert!(!is_about_the_statement(&error));
        assert!(matches!(StoreError::from(error), StoreError::Cancelled));
    }
}
