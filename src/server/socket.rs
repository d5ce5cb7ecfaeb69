//! The socket: where it lies, how it is bound, and that it goes when its server does.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use thiserror::Error;
use tokio::net::UnixListener;
use uzers::get_group_by_name;

use super::admin::{id, own_uid};
use super::directory;
use crate::client::short_path;

/// Where Hero services have their sockets: `$PATH_SOCKET`, else `$HERO_SOCKET_DIR`, else `~/hero/var/sockets`. An empty
/// variable counts as unset.
#[must_use]
pub fn socket_dir() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
    set("PATH_SOCKET")
        .or_else(|| set("HERO_SOCKET_DIR"))
        .unwrap_or_else(|| env::home_dir().unwrap_or_default().join("hero/var/sockets"))
}

/// A socket that is listened on. Its file goes when this is dropped, unless another has taken its place, or it is a service
/// manager's.
#[derive(Debug)]
pub struct Listener {
    pub(super) listener: UnixListener,
    /// None if it is a service manager's.
    pub(super) file: Option<SocketFile>,
}

/// The file of a socket that was bound here.
#[derive(Debug)]
pub(super) struct SocketFile {
    directory: File,
    name: OsString,
    /// Device and inode.
    identity: (u64, u64),
}

/// Why a socket was not bound.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// A server listens there.
    #[error("a server listens on {} already", .0.display())]
    Live(PathBuf),
    /// Something else lies there. It is not touched.
    #[error("{} is no socket", .0.display())]
    NoSocket(PathBuf),
    /// The path begins with a `~` that no shell has expanded.
    #[error(
        "{} begins with \"~\", which only a shell expands: give the path in full, or ./~ for a directory of that name",
        .0.display(),
    )]
    Home(PathBuf),
    /// There is no such group.
    #[error("there is no group {0:?}")]
    UnknownGroup(String),
    /// The directory, or one above it, is another user's, or everybody may replace what lies in it.
    #[error("the directory {} belongs to another user or may be written to by everybody", .0.display())]
    Directory(PathBuf),
    /// The path names no file in a directory.
    #[error("{} names no file", .0.display())]
    Path(PathBuf),
    /// The socket that was passed can't be used.
    #[error("the socket that was passed can't be used")]
    Passed(#[source] io::Error),
    /// The system refused.
    #[error("{} can't be bound", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Listener {
    /// Listens on `path`, whose directory is made if need be. The file of a server that is gone is replaced.
    ///
    /// The socket is bound in a directory of its own, to which only this user has access, and moved to its place once
    /// its mode is set: nobody can connect to it before. Meanwhile its place is locked, so that of two servers that start
    /// at once one fails.
    ///
    /// # Errors
    ///
    /// If a server listens there, if what lies there is no socket, if the directory or one above it can't be trusted, or if
    /// the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        Self::bind_for_gid(path, None)
    }

    /// As [`bind`](Self::bind), for the members of `group`, a name or a number, in the place of this process's own group.
    /// The socket's directory lets them in, if it is this user's.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind); if there is no such group, or if this user may not give it the socket.
    pub fn bind_for(path: &Path, group: &str) -> Result<Self, BindError> {
        let gid = get_group_by_name(group).map(|group| group.gid()).or_else(|| id(group));
        Self::bind_for_gid(path, Some(gid.ok_or_else(|| BindError::UnknownGroup(group.to_owned()))?))
    }

    /// Takes over a socket on which a service manager listens, and goes on listening when this is dropped. Who may open it
    /// is the service manager's to say.
    ///
    /// # Errors
    ///
    /// If it does not listen, as a single connection would not, or if this process runs as nobody.
    pub fn passed(listener: StdListener) -> Result<Self, BindError> {
        let taken = || {
            own_uid().map_err(io::Error::other)?;
            if !socket_acceptconn(&listener)? {
                return Err(io::Error::other("it does not listen (Accept=yes, or another kind of socket)"));
            }
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        };
        match taken() {
            Ok(listener) => Ok(Self { listener, file: None }),
            Err(error) => Err(BindError::Passed(error)),
        }
    }

    fn bind_for_gid(path: &Path, gid: Option<u32>) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { path: path.to_owned(), source };
        // A file of nobody's is every unknown user's: no directory could be trusted.
        own_uid().map_err(|nobody| failed(io::Error::other(nobody)))?;
        if path.as_os_str().as_encoded_bytes().starts_with(b"~") {
            return Err(BindError::Home(path.to_owned()));
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(BindError::Path(path.to_owned()));
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let (directory, way) = directory::open(parent)?;
        if !within(&directory, ".").exists() {
            return Err(failed(io::Error::other("/proc is not mounted, by way of which sockets are made")));
        }
        let _lock = Lock::new(&directory, name).map_err(failed)?;
        let place = within(&directory, name);
        match fs::symlink_metadata(&place) {
            Ok(metadata) if !metadata.file_type().is_socket() => return Err(BindError::NoSocket(path.to_owned())),
            Ok(_) if is_live(&place).map_err(failed)? => return Err(BindError::Live(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        if let Some(gid) = gid {
            directory::let_in(gid, &directory, &way).map_err(failed)?;
        }
        let (listener, identity) = bind_and_move(&directory, &place, gid).map_err(failed)?;
        let name = name.to_owned();
        Ok(Self { listener, file: Some(SocketFile { directory, name, identity }) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let removed = Lock::new(&self.directory, &self.name).and_then(|_lock| {
            let place = within(&self.directory, &self.name);
            let ours = fs::symlink_metadata(&place).is_ok_and(|metadata| identity(&metadata) == self.identity);
            if ours { fs::remove_file(place) } else { Ok(()) }
        });
        if let Err(error) = removed {
            tracing::warn!(socket = ?self.name, %error, "the socket was not removed");
        }
    }
}

/// The sole right to what lies under a name in a directory, until it is dropped: a locked file beside it, which nobody
/// but this user and root can open, and so nobody else can lock.
struct Lock {
    file: PathBuf,
    _locked: File,
}

impl Lock {
    /// Waits for the process that has the lock, which has it for moments.
    fn new(directory: &File, name: &OsStr) -> io::Result<Self> {
        let name: OsString = [OsStr::new("."), name, OsStr::new(".lock")].into_iter().collect();
        let file = within(directory, name);
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        loop {
            // The file that a killed process has left does as well.
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
            let locked = options.open(&file)?;
            let metadata = locked.metadata()?;
            if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the lock beside it is another user's"));
            }
            locked.lock()?;
            // The process that had the lock may have removed the file by now.
            if fs::symlink_metadata(&file).is_ok_and(|there| identity(&there) == identity(&metadata)) {
                return Ok(Self { file, _locked: locked });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file is removed before it is unlocked, while nobody else has the lock.
        let _ = fs::remove_file(&self.file);
    }
}

/// The path of `name` in an open directory. It leads to this directory whatever becomes of its own path.
fn within(directory: &File, name: impl AsRef<OsStr>) -> PathBuf {
    short_path(directory).join(name.as_ref())
}

/// Whether the server of the socket at `path` is still there. That it lets nobody in does not mean that it is gone.
fn is_live(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let file = match rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        file => file?,
    };
    match connect(&socket, &SocketAddrUnix::new(short_path(&file))?) {
        // Not now: others are waiting to be accepted.
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn bind_and_move(directory: &File, place: &Path, gid: Option<u32>) -> io::Result<(UnixListener, (u64, u64))> {
    let private = new_directory(directory)?;
    let made = private.join("s");
    let bound = (|| {
        let listener = StdListener::bind(&made)?;
        if gid.is_some() {
            chown(&made, None, gid)?;
        }
        fs::set_permissions(&made, fs::Permissions::from_mode(0o660))?;
        let file = identity(&fs::symlink_metadata(&made)?);
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        fs::rename(&made, place)?;
        Ok((listener, file))
    })();
    // Nothing but what was made here.
    let _ = fs::remove_file(&made);
    let _ = fs::remove_dir(&private);
    bound
}

/// Makes a directory in `directory`, under a name that was free.
fn new_directory(directory: &File) -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let path = within(directory, format!(".{}.{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            made => return made.map(|()| path),
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
