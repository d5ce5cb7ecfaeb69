//! Where the state of a gateway's retention lies, and the lock that keeps two passes on one gateway apart.

use std::env;
use std::fmt::Write as _;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{self, Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::cli::failure::Failure;

/// The directory of all states, in the user's directory for states.
const STATES: &str = "hero_proc_cleanup";
/// The name of a state's file, unless it is given.
const FILE: &str = "retain.json";
/// The file that is locked where a directory can't be.
const LOCK: &str = "retain.lock";
/// The most characters of a socket's path that stand in the name of its directory. The end of a path says most.
const LONGEST: usize = 80;

/// The place of one gateway's state.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) file: PathBuf,
}

/// The sole right to a pass, until it is dropped.
#[derive(Debug)]
#[must_use = "the lock ends with this value"]
pub(super) struct Lock(#[expect(dead_code, reason = "an open file is what holds the lock")] File);

impl Place {
    /// The file `given`, else the one of the gateway that listens on `socket`.
    pub(super) fn new(given: Option<&Path>, socket: &Path) -> Result<Self, Failure> {
        let absolute = |path: &Path| {
            let what = || format!("the path {} can't be made absolute", path.display());
            path::absolute(path).map_err(|error| Failure::failed(what(), error))
        };
        let file = match given {
            Some(file) if file.file_name().is_none() => {
                return Err(Failure::Usage(format!("--state {} names no file", file.display())));
            }
            Some(file) => absolute(file)?,
            None => absolute(&states())?.join(name_of(&resolved(socket))).join(FILE),
        };
        Ok(Self { file })
    }

    pub(super) fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    /// Makes the state's directory, to which only this user has access, and those above it.
    pub(super) fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.directory())
    }

    /// Takes the lock, which ends with the process, however that ends.
    ///
    /// The directory itself is locked, so that the lock needs no room on the disk. Where the state's directory can't be
    /// made or opened, the nearest one above it is locked in its place. A file system such as NFS locks no directories:
    /// there, a file in it is locked.
    pub(super) fn lock(&self) -> Result<Lock, TryLockError> {
        // If it can't be made, the state can't be written either, which is said then.
        let _ = self.make();
        let open = |directory| File::open(directory).ok().filter(is_directory).map(|opened| (directory, opened));
        let nearest = self.directory().ancestors().find_map(open);
        let (there, opened) = nearest.ok_or_else(|| TryLockError::Error(io::ErrorKind::NotFound.into()))?;
        match opened.try_lock() {
            Err(TryLockError::Error(_)) => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(false).mode(0o600);
                let opened = options.open(there.join(LOCK)).map_err(TryLockError::Error)?;
                opened.try_lock()?;
                Ok(Lock(opened))
            }
            tried => tried.map(|()| Lock(opened)),
        }
    }
}

/// The one path of a gateway's socket, by whichever way it is given: absolute, without links and `..`, as far as there is
/// something.
pub(super) fn resolved(socket: &Path) -> PathBuf {
    let absolute = path::absolute(socket).unwrap_or_else(|_| socket.to_owned());
    let in_its_directory = || Some(absolute.parent()?.canonicalize().ok()?.join(absolute.file_name()?));
    absolute.canonicalize().ok().or_else(in_its_directory).unwrap_or(absolute)
}

fn is_directory(opened: &File) -> bool {
    opened.metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// `$XDG_STATE_HOME/hero_proc_cleanup`, else the one under `~/.local/state`. A relative path counts as unset, as the
/// XDG Base Directory Specification has it.
fn states() -> PathBuf {
    let set = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    set.unwrap_or_else(|| env::home_dir().unwrap_or_default().join(".local/state")).join(STATES)
}

/// The name of the directory for `socket`: what people recognise its path by, and a digest that no other path has.
fn name_of(socket: &Path) -> String {
    let path = socket.as_os_str().as_bytes();
    let plain = |byte: &u8| if byte.is_ascii_alphanumeric() || b"._-".contains(byte) { char::from(*byte) } else { '-' };
    let readable: String = path[path.len().saturating_sub(LONGEST)..].iter().map(plain).collect();
    let mut name = match readable.trim_start_matches(['-', '.']) {
        "" => "socket-".to_owned(),
        readable => format!("{readable}-"),
    };
    for byte in &Sha256::digest(path)[..8] {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_name_that_is_read_and_is_its_own() {
        let name = |path: &str| name_of(Path::new(path));
        let usual = name("/run/hero/hero_codescalers_cleanup/rpc.sock");
        assert!(usual.starts_with("run-hero-hero_codescalers_cleanup-rpc.sock-"), "{usual}");
        let long = "x".repeat(4000);
        let all = [
            usual,
            name("/run/hero-hero_codescalers_cleanup/rpc.sock"),
            name("/run/hero/hero_codescalers_cleanup/rpc.sock "),
            name("/a\u{1b}[2J\n/rpc.sock"),
            name("/a---2J-/rpc.sock"),
            name(&format!("/a/{long}")),
            name(&format!("/b/{long}")),
            name("/..."),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(one.len() < 120 && one.is_ascii() && !one.starts_with(['.', '-']) && !one.contains('/'), "{one}");
            assert!(one.bytes().all(|byte| byte.is_ascii_graphic()), "{one}");
            assert!(!all[..index].contains(one), "{one}");
        }
    }
}
