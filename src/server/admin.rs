//! Who is at the other end of a connection, by the kernel's word, and who of these is an admin.

use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;

use thiserror::Error;
use tokio::net::unix::UCred;
use uzers::{get_user_by_name, get_user_by_uid};

use crate::gateway::{AdminGate, Caller};

/// Admins are root, the user of this process, and those named. The kernel's overflow uid is never an admin.
#[derive(Debug, Clone)]
pub struct PeerGate {
    admins: BTreeSet<u32>,
}

/// Why there is no gate for the users that were named.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GateError {
    /// A user was named who does not exist.
    #[error("there is no user {0:?}")]
    UnknownUser(String),
    /// The kernel's overflow uid was named.
    #[error("{0:?} is the kernel's overflow uid: every user whom this system does not know bears it")]
    OverflowUid(String),
    /// This process runs as the kernel's overflow uid, so that every unknown user would count as its own.
    #[error("{Nobody}")]
    Nobody,
}

/// The text of every refusal to run as nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this process runs as the kernel's overflow uid, which every user bears whom this system does not know")]
pub(super) struct Nobody;

impl PeerGate {
    /// A gate for `users` too, names or user ids. They are resolved now.
    ///
    /// # Errors
    ///
    /// If one of them is neither a user's name nor a number, or is the kernel's overflow uid; or if this process runs as
    /// the overflow uid.
    pub fn new<'u>(users: impl IntoIterator<Item = &'u str>) -> Result<Self, GateError> {
        let own = own_uid().map_err(|Nobody| GateError::Nobody)?;
        let mut admins = BTreeSet::from([0, own]);
        for user in users {
            let uid = match get_user_by_name(user) {
                Some(found) => found.uid(),
                None => id(user).ok_or_else(|| GateError::UnknownUser(user.to_owned()))?,
            };
            if uid == *OVERFLOW_UID {
                return Err(GateError::OverflowUid(user.to_owned()));
            }
            admins.insert(uid);
        }
        Ok(Self { admins })
    }
}

impl AdminGate for PeerGate {
    fn is_admin(&self, caller: &Caller) -> bool {
        caller.uid.is_some_and(|uid| self.admins.contains(&uid) && uid != *OVERFLOW_UID)
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// What the kernel says: headers are no identity.
    pub(super) credentials: Option<UCred>,
    /// Whether the request says that it came through a proxy: then the credentials are the proxy's, whoever calls.
    pub(super) proxied: bool,
}

impl Peer {
    /// The caller, under the user's name, or under the number where the user has none.
    ///
    /// Blocks: names may come from another machine.
    pub(super) fn caller(self) -> Caller {
        let mut caller = Caller::new("unknown");
        if let Some(peer) = self.credentials {
            let uid = peer.uid();
            let named = get_user_by_uid(uid).map(|user| user.name().to_string_lossy().into_owned());
            caller.name = named.unwrap_or_else(|| uid.to_string());
            caller.uid = Some(uid);
            // The kernel writes 0 for a process that is not seen from here.
            caller.pid = peer.pid().filter(|pid| *pid > 0);
        }
        caller
    }
}

/// The number of a user or a group. The highest is -1, by which the system means nobody, or that something stays as it is.
pub(super) fn id(number: &str) -> Option<u32> {
    number.parse().ok().filter(|id| *id != u32::MAX)
}

/// The uid that the kernel reports for every user whom this user namespace does not map.
static OVERFLOW_UID: LazyLock<u32> = LazyLock::new(|| {
    let set = fs::read_to_string("/proc/sys/kernel/overflowuid");
    set.ok().and_then(|uid| uid.trim().parse().ok()).unwrap_or(65534)
});

/// The user that this process runs as, unless it runs as nobody.
pub(super) fn own_uid() -> Result<u32, Nobody> {
    let own = rustix::process::geteuid().as_raw();
    if own == *OVERFLOW_UID { Err(Nobody) } else { Ok(own) }
}
