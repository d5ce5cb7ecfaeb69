//! The directory of a socket, and the way to it: made where it is missing, refused where others could swap a part of it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf, absolute};

use rustix::io::Errno;

use super::socket::BindError;

/// The mode of directories that are made.
const MODE: u32 = 0o755;
/// The most symbolic links on a way.
const MOST_LINKS: usize = 40;

/// Opens the directory `path`, which is made if need be.
///
/// Every directory on the way must be one in which nobody but this user, root and its group can put another in the place
/// of the next: whoever can would stand in for the server. The same holds for directories that symbolic links lead
/// through.
pub(super) fn open(path: &Path) -> Result<(File, PathBuf), BindError> {
    let failed = |source| BindError::Io { path: path.to_owned(), source };
    let mut at = Way::at_root().map_err(failed)?;
    let mut to_go = steps(&absolute(path).map_err(failed)?);
    let mut links = 0;
    while let Some(step) = to_go.pop() {
        if step == ".." {
            // No part of the way so far is a link.
            at = Way::at(at.path.parent().unwrap_or(&at.path).to_owned()).map_err(failed)?;
            continue;
        }
        let next = at.path.join(step);
        let found = look_or_make(&next).map_err(failed)?;
        if found.is_symlink() {
            if at.is_open && !is_own(&found) {
                return Err(BindError::Directory(next));
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(failed(Errno::LOOP.into()));
            }
            let target = fs::read_link(&next).map_err(failed)?;
            if target.is_absolute() {
                at = Way::at_root().map_err(failed)?;
            }
            to_go.extend(steps(&target));
        } else if !found.is_dir() {
            return Err(failed(ErrorKind::NotADirectory.into()));
        } else if !is_trusted(&found) {
            return Err(BindError::Directory(next));
        } else {
            at = Way { path: next, is_open: is_open(&found) };
        }
    }
    Ok((File::open(&at.path).map_err(failed)?, at.path))
}

/// A directory on the way, by a path without links.
struct Way {
    path: PathBuf,
    is_open: bool,
}

impl Way {
    fn at_root() -> io::Result<Self> {
        Self::at(PathBuf::from("/"))
    }

    fn at(path: PathBuf) -> io::Result<Self> {
        let is_open = is_open(&fs::symlink_metadata(&path)?);
        Ok(Self { path, is_open })
    }
}

/// The steps of a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().rev().filter(|step| matches!(step, Component::Normal(_) | Component::ParentDir));
    steps.map(|step| step.as_os_str().to_owned()).collect()
}

/// What lies at `path`: a directory that is made if there is nothing.
fn look_or_make(path: &Path) -> io::Result<Metadata> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match DirBuilder::new().mode(MODE).create(path) {
                // Another server has made it.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made?,
            }
            fs::symlink_metadata(path)
        }
        found => found,
    }
}

/// Whether nobody but this user, root and the directory's group may replace what lies in it. The group may call anyhow.
fn is_trusted(directory: &Metadata) -> bool {
    is_own(directory) && (!is_open(directory) || directory.mode() & 0o1000 != 0)
}

fn is_own(found: &Metadata) -> bool {
    [rustix::process::geteuid().as_raw(), 0].contains(&found.uid())
}

/// Whether everybody may write to a directory.
fn is_open(directory: &Metadata) -> bool {
    directory.mode() & 0o002 != 0
}

/// Lets the group `gid` enter a socket's directory, if that is this user's. Says in the log which directory above it can't
/// enter.
pub(super) fn let_in(gid: u32, directory: &File, path: &Path) -> io::Result<()> {
    let found = directory.metadata()?;
    if !can_enter(gid, &found) && found.uid() == rustix::process::geteuid().as_raw() {
        chown(path, None, Some(gid))?;
        directory.set_permissions(Permissions::from_mode(found.mode() & 0o7777 | 0o010))?;
    }
    for above in path.ancestors() {
        if !can_enter(gid, &fs::metadata(above)?) {
            tracing::warn!(directory = ?above, gid, "a directory of the socket can't be entered by the group");
        }
    }
    Ok(())
}

fn can_enter(gid: u32, directory: &Metadata) -> bool {
    directory.mode() & 0o001 != 0 || (directory.gid() == gid && directory.mode() & 0o010 != 0)
}
