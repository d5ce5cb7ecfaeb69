//! The room on disk: the directory in which SQLite keeps temporary files, the bytes that are free in a directory, and why a
//! store can't grow.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

use rusqlite::Connection;

use super::StoreError;
use super::procfs::{ENTER, User, WRITE, mount};

/// The bytes that are free in a directory, and the file system that they are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// None where the system does not say.
    pub(crate) free_bytes: Option<u64>,
    device: Option<u64>,
}

impl Room {
    /// The room of a directory that is not there.
    pub(super) const NONE: Self = Self { free_bytes: Some(0), device: None };

    /// The room for one more file in `directory`.
    pub(super) fn of(directory: &Path) -> Self {
        let free_bytes = free_bytes(directory).map(|free| free.min(largest_file().unwrap_or(u64::MAX)));
        Self { free_bytes, device: fs::metadata(directory).ok().map(|metadata| metadata.dev()) }
    }

    /// Whether the two are one file system: what is written to one of them is missing in the other.
    pub(crate) fn is_shared_with(&self, other: &Self) -> bool {
        self.device.is_some() && self.device == other.device
    }
}

/// The bytes by which a store may grow at most, if the host has bounded it. Without a bound, there are more.
const LARGEST_BOUND: u64 = 1 << 40;

/// `error`, which a call on the host's own `connection` met. An error about a lack of room then names what was in the way:
/// the disk, or `max_page_count`, by which only a host that lends its connection can have bounded its store.
pub(super) fn explain_full(connection: &Connection, error: StoreError) -> StoreError {
    let (StoreError::Full { needed, free, limit }, Ok(growth)) = (&error, growth(connection)) else { return error };
    let (needed, limit) = (*needed, *limit);
    let disk = connection.path().filter(|path| !path.is_empty()).and_then(|path| free_bytes(path.as_ref()));
    match disk {
        Some(disk) if disk < growth => StoreError::Full { needed, free: disk, limit },
        None if growth > LARGEST_BOUND => StoreError::Full { needed, free: *free, limit },
        _ => StoreError::AtItsLargest { free: growth },
    }
}

/// The bytes by which the store of `connection` may grow, and those that are free in it.
fn growth(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let pages = number("max_page_count")? - number("page_count")? + number("freelist_count")?;
    Ok(pages.unsigned_abs().saturating_mul(number("page_size")?.unsigned_abs()))
}

/// The directory in which SQLite makes the temporary files of `connection`: the first that can be written to, in SQLite's
/// own order. None where there is none, or where SQLite was built to keep temporary files in memory.
pub(super) fn temporary_directory(connection: &Connection) -> Result<Option<PathBuf>, StoreError> {
    let in_memory = "SELECT 1 FROM pragma_compile_options WHERE compile_options = 'TEMP_STORE=3'";
    if connection.prepare(in_memory)?.exists(())? {
        return Ok(None);
    }
    let mut set_by_host = None;
    connection.pragma_query(None, "temp_store_directory", |row| {
        set_by_host = row.get::<_, Option<String>>(0)?.filter(|directory| !directory.is_empty()).map(PathBuf::from);
        Ok(())
    })?;
    let by_variables = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let usual = ["/var/tmp", "/usr/tmp", "/tmp", "."].map(PathBuf::from);
    Ok(set_by_host.into_iter().chain(by_variables).chain(usual).find(|directory| takes_files(directory)))
}

/// Whether this process may make files in `directory`, which is what SQLite asks (`access`). Where `/proc` does not tell, it may.
fn takes_files(directory: &Path) -> bool {
    let Ok(metadata) = fs::metadata(directory) else { return false };
    let may = User::this().is_none_or(|user| user.may(&metadata, WRITE | ENTER));
    let read_only = directory.canonicalize().ok().and_then(|path| mount(&path)).is_some_and(|mount| mount.read_only);
    metadata.is_dir() && may && !read_only
}

/// The bytes that this user may still write to the file system of `path`.
#[cfg(feature = "server")]
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let said = rustix::fs::statvfs(path).ok()?;
    said.f_bavail.checked_mul(said.f_frsize)
}

/// The bytes that this user may still write to the file system of `path`, as the system's `df` says. The standard
/// library can't ask, and a host that takes the library alone is spared one more dependency.
#[cfg(not(feature = "server"))]
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let said = std::process::Command::new("df").arg("-Pk").arg("--").arg(path).output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    // "Available" stands before "Capacity", the one with a percent sign. What is around them may hold spaces.
    let words: Vec<&str> = said.lines().nth(1)?.split_whitespace().collect();
    let capacity = words.iter().rposition(|word| word.ends_with('%'))?;
    words.get(capacity.checked_sub(1)?)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The bytes that a file of this process may have at most (`RLIMIT_FSIZE`); none where any number will do.
fn largest_file() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max file size"))?;
    limit.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]
mod tests {
    use super::*;

    /// The other way to ask says about the same; others write to the disk meanwhile.
    #[test]
    fn the_room_is_what_df_says() {
        let directory = tempfile::TempDir::new().unwrap();
        let room = Room::of(directory.path());
        let said =
            std::process::Command::new("df").arg("--output=avail").arg("-B1").arg(directory.path()).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let said: u64 = said.lines().nth(1).unwrap().trim().parse().unwrap();
        assert!(room.free_bytes.unwrap().abs_diff(said) < said / 2, "{room:?} and {said}");
        assert!(room.is_shared_with(&Room::of(&directory.path().join("."))));
        assert!(!room.is_shared_with(&Room::of(Path::new("/proc"))));
    }

    #[test]
    fn a_directory_takes_files_or_not() {
        let directory = tempfile::TempDir::new().unwrap();
        assert!(takes_files(directory.path()));
        assert!(!takes_files(Path::new("/there/is/none")));
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(!takes_files(&file));
    }
}
