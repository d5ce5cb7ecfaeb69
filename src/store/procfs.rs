//! What `/proc` tells of this process: as whom it opens files, and what is mounted. Where there is none, nothing is told,
//! and nothing depends on it.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const ENTER: u32 = 1;

/// The user as whom this process opens files.
pub(super) struct User {
    pub(super) id: u32,
    groups: Vec<u32>,
    /// Whether it may give files to others (`CAP_CHOWN`).
    gives_files: bool,
}

/// The capability to give files to others, as a bit.
const CAP_CHOWN: u64 = 1;
/// The user as whom everybody appears who is not known in a user namespace, unless it is set otherwise.
const OVERFLOW_UID: u32 = 65_534;

impl User {
    /// None where there is no `/proc` that tells.
    pub(super) fn this() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let ids = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_ascii_whitespace().map_while(|id| id.parse().ok()).collect::<Vec<u32>>())
        };
        // The real, the effective, the saved, and that of the file system.
        let id = *ids("Uid:")?.get(1)?;
        let mut groups = ids("Groups:")?;
        groups.push(*ids("Gid:")?.get(1)?);
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let gives_files = u64::from_str_radix(effective.trim(), 16).ok()? & CAP_CHOWN != 0;
        Some(Self { id, groups, gives_files })
    }

    /// Whether the files that SQLite makes are `owner`'s: root gives them away, if it can and knows the owner.
    pub(super) fn makes_files_of(&self, owner: u32) -> bool {
        let overflow = || {
            let set = fs::read_to_string("/proc/sys/kernel/overflowuid").ok();
            set.and_then(|set| set.trim().parse().ok()).unwrap_or(OVERFLOW_UID)
        };
        self.id == owner || (self.id == 0 && self.gives_files && owner != overflow())
    }

    /// Whether the permission bits let this user do all of `what`.
    pub(super) fn may(&self, file: &Metadata, what: u32) -> bool {
        let class = if self.id == file.uid() {
            6
        } else if self.groups.contains(&file.gid()) {
            3
        } else {
            0
        };
        self.id == 0 || file.mode() >> class & what == what
    }
}

/// A mount.
pub(super) struct Mount {
    pub(super) point: PathBuf,
    pub(super) read_only: bool,
}

/// The mount that holds `path`; none where there is no `/proc` that tells.
pub(super) fn mount(path: &Path) -> Option<Mount> {
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    let holds = |line: &[u8]| {
        // 36 35 98:0 /root-within-the-file-system /mount/point ro,noatime … - ext4 /dev/root rw,errors=continue
        let text = String::from_utf8_lossy(line).into_owned();
        let (mount, of_the_file_system) = text.split_once(" - ")?;
        let fields: Vec<&str> = mount.split(' ').collect();
        let point = line.split(|byte| *byte == b' ').nth(4).map(unescaped)?;
        let read_only = |options: Option<&str>| options.is_some_and(|all| all.split(',').any(|option| option == "ro"));
        let read_only = read_only(fields.get(5).copied()) || read_only(of_the_file_system.split(' ').nth(2));
        path.starts_with(&point).then_some(Mount { point, read_only })
    };
    // Of two at the same place, the later one covers the other.
    mounts.split(|byte| *byte == b'\n').filter_map(holds).max_by_key(|mount| mount.point.as_os_str().len())
}

/// A path as `/proc` writes it: white space and backslashes are octal numbers.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, after @ ..] = rest {
        let octal = after.get(..3).and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(escaped) if *byte == b'\\' => {
                path.push(escaped);
                rest = &after[3..];
            }
            _ => {
                path.push(*byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsStr::from_bytes(&path))
}
