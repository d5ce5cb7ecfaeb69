//! The store's file: whether it may be used at all, whether it is still the same, and why SQLite could not use it.
//!
//! The file itself is opened by SQLite alone, and everything else is asked of the file system: when any descriptor of a
//! file is closed, the process loses all its locks on that file, and a host that embeds this crate has the store open.
//!
//! # One name
//!
//! SQLite finds the WAL, and the rollback journal that a crash has left, by the name of the store. A second name (a hard
//! link, a mount of the single file) leads to another WAL and another journal: committed rows are missing there, and the
//! next checkpoint or rollback destroys what was written. So a file with a second name is refused, whatever its journal
//! mode. A mount of the file in another mount namespace can't be seen from here.
//!
//! # One owner
//!
//! SQLite makes files beside the store: in WAL mode for every connection, with a rollback journal for every transaction.
//! They belong to the user of the process (SQLite gives those of root to the store's owner), and a process that is killed
//! leaves them behind. If they belong to another user, the store's owner can no longer open the store. So only root and
//! the owner let SQLite make files. Anybody else may use files that are there, and may read where SQLite makes none.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::StoreError;
use super::connection::Access;
use super::disk::Room;
use super::procfs::{ENTER, READ, User, WRITE, mount};

/// The bytes of the smallest file that SQLite makes beside a store in WAL mode: the WAL's index.
const LEAST_ROOM: u64 = 32 * 1024;

/// A store's file.
#[derive(Debug)]
pub(super) struct StoreFile {
    /// The path that the caller gave.
    given: PathBuf,
    /// Without symbolic links: SQLite's files lie beside the file itself.
    path: PathBuf,
    metadata: Metadata,
}

impl StoreFile {
    pub(super) fn find(given: &Path) -> Result<Self, StoreError> {
        let reached = given.canonicalize().and_then(|path| Ok((fs::metadata(&path)?, path)));
        let (metadata, path) = reached.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::unusable("there is no such file"),
            io::ErrorKind::PermissionDenied => StoreError::unusable("no permission to enter a directory above it"),
            kind => StoreError::unusable(format!("the file can't be reached: {kind}")),
        })?;
        if !metadata.is_file() {
            return Err(StoreError::unfit("this is no regular file"));
        }
        Ok(Self { given: given.to_owned(), path, metadata })
    }

    /// Without symbolic links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether both are the same file.
    pub(super) fn is(&self, other: &Self) -> bool {
        let identity = |file: &Self| (file.metadata.dev(), file.metadata.ino());
        identity(self) == identity(other)
    }

    /// An error if the caller's path leads to another file by now.
    pub(super) fn check_place(&self) -> Result<(), StoreError> {
        match Self::find(&self.given) {
            Ok(there) if there.is(self) => Ok(()),
            Ok(_) => Err(StoreError::unfit("another file has taken its place")),
            Err(_) => Err(StoreError::unusable("it is no longer where it was")),
        }
    }

    /// An error if the file can be reached by a second name.
    pub(super) fn check_name(&self) -> Result<(), StoreError> {
        if self.metadata.nlink() > 1 {
            return Err(StoreError::unfit(
                "the store has a second name: a hard link or a snapshot; `find -samefile` finds it",
            ));
        }
        if mount(&self.path).is_some_and(|mount| mount.point == self.path) {
            return Err(StoreError::unfit(
                "the store has a second name: it is mounted as a single file; mount its directory instead",
            ));
        }
        Ok(())
    }

    /// An error if SQLite would make files beside the store that belong to another user than the store.
    pub(super) fn check_owner(&self, access: Access) -> Result<(), StoreError> {
        let Some(user) = User::this() else { return Ok(()) };
        if user.makes_files_of(self.metadata.uid()) || (self.side("-wal").exists() && self.side("-shm").exists()) {
            return Ok(());
        }
        if access == Access::Read && !self.is_in_wal_mode()? {
            return Ok(());
        }
        Err(StoreError::unusable(
            "files that SQLite makes beside it would belong to another user than the store, and could lock its owner out: \
             this is for its owner or root",
        ))
    }

    /// Whether the file is in WAL mode. Makes no file: SQLite opens no WAL on a connection without locks, but fails.
    fn is_in_wal_mode(&self) -> Result<bool, StoreError> {
        let path: String = self.path.as_os_str().as_bytes().iter().map(|byte| format!("%{byte:02x}")).collect();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(format!("file:{path}?nolock=1"), flags);
        let connection = connection.map_err(|error| self.explain(error.into(), Access::Read))?;
        let read = connection.query_row("SELECT count(*) FROM sqlite_master", (), |_| Ok(()));
        Ok(read.is_err_and(|error| error.sqlite_error_code() == Some(ErrorCode::CannotOpen)))
    }

    /// The file that SQLite calls like the store, with `suffix`.
    pub(super) fn side(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(suffix);
        path.into()
    }

    /// The room for the files that SQLite makes beside it.
    pub(super) fn room(&self) -> Room {
        self.path.parent().map_or(Room::NONE, Room::of)
    }

    /// Whether anybody may write to the file. Root can, even then; whoever took the permission away meant it.
    pub(super) fn is_writable(&self) -> bool {
        !self.metadata.permissions().readonly()
    }

    /// The error with its cause, as far as the file system tells it.
    pub(super) fn explain(&self, error: StoreError, access: Access) -> StoreError {
        match error {
            // SQLite sees that the file has moved, too, and calls the store read-only.
            StoreError::Unusable { problem } => {
                match (self.check_place(), self.cause(access), self.room().free_bytes) {
                    (Err(moved), ..) => moved,
                    (Ok(()), Some(cause), _) => StoreError::Unusable { problem: cause },
                    // A file beside the store could not be made, or not be given its size.
                    (Ok(()), None, Some(free @ ..LEAST_ROOM)) => {
                        StoreError::Full { needed: Some(LEAST_ROOM), free, limit: None }
                    }
                    (Ok(()), None, _) => StoreError::Unusable { problem },
                }
            }
            StoreError::Full { needed, free, limit } => {
                StoreError::Full { needed, free: self.room().free_bytes.unwrap_or(free), limit }
            }
            other => other,
        }
    }

    /// Why SQLite can't open the store, or write to it.
    fn cause(&self, access: Access) -> Option<String> {
        let user = User::this()?;
        if !user.may(&self.metadata, READ) {
            return Some("no permission to read it".to_owned());
        }
        let read_only = mount(&self.path).is_some_and(|mount| mount.read_only);
        if access != Access::Read && read_only {
            return Some("its file system is mounted read-only".to_owned());
        }
        if access != Access::Read && !self.is_writable() {
            return Some("it is read-only".to_owned());
        }
        if access != Access::Read && !user.may(&self.metadata, WRITE) {
            return Some("no permission to write to it".to_owned());
        }
        for (suffix, name) in [("-wal", "WAL"), ("-shm", "WAL's index"), ("-journal", "journal")] {
            let side = fs::metadata(self.side(suffix));
            if side.is_ok_and(|side| !user.may(&side, READ | WRITE)) {
                return Some(format!(
                    "no permission to write to its {name}, a file beside it that belongs to another user"
                ));
            }
        }
        if read_only {
            return Some("SQLite has to make files beside it, and its file system is mounted read-only".to_owned());
        }
        let directory = fs::metadata(self.path.parent()?).ok()?;
        let may_not = !user.may(&directory, WRITE | ENTER);
        may_not.then(|| "SQLite has to make files beside it, and there is no permission to".to_owned())
    }
}
