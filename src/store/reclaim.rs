//! Giving a store's free pages back to the file system: the one type that may. It changes no row and no schema.

use std::fs;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tracing::info_span;

use super::connection::Journal;
use super::disk::{self, Room};
use super::file::StoreFile;
use super::{StoreError, StoreRef, wait};
use crate::host::Cancel;

/// How long a reader may keep the file from being cut short: longer than most reads take.
const READERS: Duration = Duration::from_secs(1);
/// The pause before the next look at whether a lock is free, or a reader has ended.
const PAUSE: Duration = Duration::from_millis(2);
/// Pages that are freed between two looks at the clock.
const PAGES_AT_ONCE: u64 = 64;
/// The longest wait for readers at the commit of a step, in the rollback journal modes: new readers wait as long.
const COMMIT: Duration = Duration::from_millis(50);

/// A store's file, and the right to give its free pages back.
pub(crate) struct Space<'s> {
    connection: &'s Connection,
    file: &'s StoreFile,
    journal: Journal,
    lock_timeout: Duration,
    cancel: &'s Cancel,
}

/// The end of a `VACUUM`. Unless it is done, the store is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vacuumed {
    Done,
    /// Ended, as its first half took too long.
    TooLong,
    /// A disk was full.
    Full,
}

/// The end of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freed {
    Done {
        pages: u64,
        /// Free pages that are left.
        left: u64,
    },
    /// A reader kept it from being committed (rollback journal). Nothing was freed.
    Prevented,
    /// The disk was full. Nothing was freed.
    Full,
}

/// The end of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checkpointed {
    /// The file is as long as its pages.
    Whole,
    /// A reader, or a writer who does not pause, keeps the file from being cut short.
    Prevented,
    /// The disk was full.
    Full,
}

/// What a checkpoint leaves of the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wal {
    /// The file, for the next frames.
    Kept,
    /// Nothing. Other writers wait while it is emptied.
    Emptied,
}

impl<'s> Space<'s> {
    pub(super) fn of(
        connection: &'s Connection,
        file: &'s StoreFile,
        journal: Journal,
        lock_timeout: Duration,
        cancel: &'s Cancel,
    ) -> Self {
        Self { connection, file, journal, lock_timeout, cancel }
    }

    pub(crate) fn journal(&self) -> Journal {
        self.journal
    }

    /// The size of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        fs::metadata(self.file.path()).map_or(0, |file| file.len())
    }

    /// The size of the WAL.
    pub(crate) fn wal_bytes(&self) -> u64 {
        fs::metadata(self.file.side("-wal")).map_or(0, |wal| wal.len())
    }

    /// The room where SQLite makes its temporary files.
    pub(crate) fn temporary_room(&self) -> Result<Room, StoreError> {
        Ok(disk::temporary_directory(self.connection)?.map_or(Room::NONE, |directory| Room::of(&directory)))
    }

    /// The room beside the store.
    pub(crate) fn room_beside(&self) -> Room {
        self.file.room()
    }

    /// Writes the store anew, without its free pages, unless the first half of that takes longer than `first_half`: how
    /// that ended, and how long it held the write lock.
    ///
    /// Nobody is kept waiting while this waits: the lock is tried, and given back, until it can be had at once.
    pub(crate) fn vacuum(&self, first_half: Duration) -> Result<(Vacuumed, Duration), StoreError> {
        let give_up = Instant::now() + self.lock_timeout;
        loop {
            self.cancel.check()?;
            let locking = info_span!("lock").entered();
            wait::up_to(give_up.saturating_duration_since(Instant::now()));
            drop(Transaction::new_unchecked(self.connection, TransactionBehavior::Immediate)?);
            drop(locking);
            // While this waited for the lock, another file can have taken its place.
            self.file.check_place()?;
            let _span = info_span!("vacuum").entered();
            wait::up_to(Duration::ZERO);
            // A cancel that came while no statement ran has interrupted nothing.
            self.cancel.check()?;
            let since = Instant::now();
            let Some((ended, late)) = self.within(first_half, || self.connection.execute_batch("VACUUM")) else {
                return Ok((Vacuumed::TooLong, Duration::ZERO));
            };
            let lock = since.elapsed();
            match ended.map_err(StoreError::from) {
                Ok(()) => return Ok((Vacuumed::Done, lock)),
                Err(StoreError::Busy) if Instant::now() < give_up => thread::sleep(PAUSE),
                Err(StoreError::Cancelled) if late && !self.cancel.is_cancelled() => {
                    return Ok((Vacuumed::TooLong, lock));
                }
                Err(error) if is_full(&error) => return Ok((Vacuumed::Full, lock)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Carries `work` out, interrupts it after `limit`, and says whether it did. None if no thread can be had to watch the
    /// time; then nothing is begun. SQLite looks for an interrupt where it would call a progress handler, for which a host's
    /// rusqlite would have to be built.
    fn within<T>(&self, limit: Duration, work: impl FnOnce() -> T) -> Option<(T, bool)> {
        let interrupt = self.connection.get_interrupt_handle();
        let (ended, ends) = mpsc::channel::<()>();
        let watch = move || {
            let late = ends.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if late {
                interrupt.interrupt();
            }
            late
        };
        thread::scope(|scope| {
            let watch = thread::Builder::new().spawn_scoped(scope, watch).ok()?;
            let result = work();
            drop(ended);
            Some((result, watch.join().unwrap_or_else(|panic| resume_unwind(panic))))
        })
    }

    /// Frees at most `most` pages at the end of the file, in one transaction, and stops for the commit after `time`: how
    /// that ended, and how long it held the write lock.
    pub(crate) fn free(&self, most: u64, time: Duration) -> Result<(Freed, Duration), StoreError> {
        self.cancel.check()?;
        let locking = info_span!("lock").entered();
        wait::up_to(self.lock_timeout);
        let transaction = Transaction::new_unchecked(self.connection, TransactionBehavior::Immediate)?;
        drop(locking);
        let _span = info_span!("free").entered();
        let since = Instant::now();
        let freed = self.free_in(transaction, most, time);
        let lock = since.elapsed();
        let ended = match freed {
            Ok((pages, left)) => Freed::Done { pages, left },
            Err(StoreError::Busy) => Freed::Prevented,
            Err(error) if is_full(&error) => Freed::Full,
            Err(error) => return Err(error),
        };
        Ok((ended, lock))
    }

    /// The pages that were freed, and the free ones that are left. Every statement is stepped to its end: one step frees a
    /// single page, and reports success.
    fn free_in(&self, transaction: Transaction<'_>, most: u64, time: Duration) -> Result<(u64, u64), StoreError> {
        let since = Instant::now();
        let before = self.free_pages()?;
        let mut left = before;
        while left > 0 && before - left < most && since.elapsed() < time {
            self.cancel.check()?;
            let pages = i64::try_from(PAGES_AT_ONCE.min(most - (before - left))).unwrap_or(i64::MAX);
            transaction.pragma(None, "incremental_vacuum", pages, |_| Ok(()))?;
            left = self.free_pages()?;
        }
        wait::up_to(COMMIT);
        self.file.check_place()?;
        transaction.commit()?;
        Ok((before - left, left))
    }

    fn free_pages(&self) -> Result<u64, StoreError> {
        let pages: i64 = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        Ok(pages.unsigned_abs())
    }

    /// Moves the WAL into the file, which is then cut short; tries again for a second while somebody is in the way. In the
    /// rollback journal modes, the file is already short. Says how that ended, and how long it held the write lock.
    pub(crate) fn checkpoint(&self, wal: Wal) -> Result<(Checkpointed, Duration), StoreError> {
        let mut lock = Duration::ZERO;
        let ended = match self.journal {
            Journal::Rollback => Checkpointed::Whole,
            Journal::Wal => match self.try_to_checkpoint(wal, &mut lock) {
                Err(error) if is_full(&error) => Checkpointed::Full,
                ended => ended?,
            },
        };
        Ok((ended, lock))
    }

    fn try_to_checkpoint(&self, wal: Wal, lock: &mut Duration) -> Result<Checkpointed, StoreError> {
        let _span = info_span!("checkpoint").entered();
        wait::up_to(Duration::ZERO);
        let give_up = Instant::now() + READERS;
        loop {
            // PASSIVE does the work beside other writers; next to nothing is left for TRUNCATE, which shuts them out.
            let passive = self.checkpoint_as("PRAGMA wal_checkpoint(PASSIVE)")?;
            if passive == Moved::All {
                if wal == Wal::Kept {
                    return Ok(Checkpointed::Whole);
                }
                let since = Instant::now();
                let truncated = self.checkpoint_as("PRAGMA wal_checkpoint(TRUNCATE)")?;
                *lock += since.elapsed();
                if truncated == Moved::All {
                    return Ok(Checkpointed::Whole);
                }
            }
            if self.cancel.is_cancelled() || Instant::now() >= give_up {
                let is_short = self.file_bytes() <= self.bytes()?;
                return Ok(if is_short { Checkpointed::Whole } else { Checkpointed::Prevented });
            }
            thread::sleep(PAUSE);
        }
    }

    fn checkpoint_as(&self, statement: &str) -> Result<Moved, StoreError> {
        let row: (bool, i64, i64) =
            self.connection.query_row(statement, (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(if matches!(row, (false, frames, moved) if frames == moved) { Moved::All } else { Moved::Part })
    }

    /// The size of all pages, free ones included: the size that the file has once it is cut short.
    pub(crate) fn bytes(&self) -> Result<u64, StoreError> {
        let number = |pragma| self.connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        Ok(number("page_count")?.unsigned_abs() * number("page_size")?.unsigned_abs())
    }
}

/// Whether an error says that a disk is full.
fn is_full(error: &StoreError) -> bool {
    matches!(error, StoreError::Full { .. })
}

/// What a checkpoint has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    All,
    Part,
}

impl StoreRef<'_> {
    /// The file of the store. None where it is in memory, or in a temporary file that has no name.
    ///
    /// # Errors
    ///
    /// If the connection that the host lent is inside a transaction, as its lock would never be free.
    pub(crate) fn file(&self) -> Result<Option<&Path>, StoreError> {
        match self {
            Self::Path(path) => Ok(Some(path)),
            Self::Connection(connection) if !connection.is_autocommit() => {
                Err(StoreError::unfit("the connection is inside a transaction"))
            }
            Self::Connection(connection) => Ok(connection.path().filter(|path| !path.is_empty()).map(Path::new)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::store::{Access, Store};
    use crate::tag::Guard;

    /// The first half of a VACUUM is ended if it is late, and the store is as it was. The second half goes on to its end.
    #[test]
    fn a_vacuum_that_is_late_is_undone() {
        let directory = tempfile::TempDir::new().unwrap();
        for journal in ["wal", "delete"] {
            // On a busy machine, the clock's thread may be later still.
            let is_undone = |attempt| undoes(&directory.path().join(format!("{journal}_{attempt}")), journal);
            assert!((0..50).any(is_undone), "{journal}");
        }
    }

    /// Whether a VACUUM of a new store is ended, and not done first.
    fn undoes(path: &Path, journal: &str) -> bool {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = {journal};
                 PRAGMA synchronous = off;
                 CREATE TABLE t (content);
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
                 INSERT INTO t SELECT zeroblob(1000) FROM n;
                 DELETE FROM t WHERE rowid % 2;"
            ))
            .unwrap();
        drop(connection);
        let before = std::fs::read(path).unwrap();
        let host = Host::new(Guard::codescaler());
        let store = Store::attach(StoreRef::Path(path), Access::Reclaim, &host).unwrap();
        let space = store.space(host.lock_timeout).unwrap();
        match space.vacuum(Duration::from_millis(1)).unwrap() {
            (Vacuumed::TooLong, lock) => assert!(lock >= Duration::from_millis(1)),
            (done, _) => {
                assert_eq!(done, Vacuumed::Done, "{journal}");
                return false;
            }
        }
        assert_eq!(space.checkpoint(Wal::Emptied).unwrap().0, Checkpointed::Whole);
        assert_eq!((space.file_bytes(), space.wal_bytes()), (before.len() as u64, 0), "{journal}");
        drop(store);
        assert_eq!(std::fs::read(path).unwrap(), before, "{journal}");
        let store = Store::attach(StoreRef::Path(path), Access::Reclaim, &host).unwrap();
        let space = store.space(host.lock_timeout).unwrap();
        assert_eq!(space.vacuum(Duration::from_secs(60)).unwrap().0, Vacuumed::Done);
        true
    }

    /// SQLite finds a journal by the name of the store: nothing is written to a file that has lost its name.
    #[test]
    fn a_store_whose_place_is_taken_is_left_alone() {
        let directory = tempfile::TempDir::new().unwrap();
        for (journal, auto_vacuum) in [("wal", 0), ("delete", 0), ("wal", 2), ("delete", 2)] {
            let path = directory.path().join(format!("{journal}_{auto_vacuum}"));
            let setup = format!(
                "PRAGMA auto_vacuum = {auto_vacuum};
                 PRAGMA journal_mode = {journal};
                 CREATE TABLE t (content);
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
                 INSERT INTO t SELECT zeroblob(1000) FROM n;
                 DELETE FROM t WHERE rowid % 2;"
            );
            let away = path.with_extension("away");
            Connection::open(&path).unwrap().execute_batch(&setup).unwrap();
            let host = Host::new(Guard::codescaler());
            let store = Store::attach(StoreRef::Path(&path), Access::Reclaim, &host).unwrap();
            let space = store.space(host.lock_timeout).unwrap();
            fs::rename(&path, &away).unwrap();
            fs::copy(&away, &path).unwrap();
            let before = fs::read(&away).unwrap();
            let error = match auto_vacuum {
                0 => space.vacuum(Duration::from_secs(60)).map(drop).unwrap_err(),
                _ => space.free(u64::MAX, Duration::from_secs(60)).map(drop).unwrap_err(),
            };
            assert!(matches!(store.explain(error), StoreError::Unfit { .. }), "{journal} {auto_vacuum}");
            assert_eq!(fs::read(&away).unwrap(), before, "{journal} {auto_vacuum}");
        }
    }
}
