//! Who is an admin, by the credentials that the kernel reports for the other end of a Unix socket.

use std::collections::BTreeSet;

use thiserror::Error;
use tokio::net::unix::UCred;
use uzers::{get_user_by_name, get_user_by_uid};

use crate::gateway::{AdminGate, Caller};

/// Admins are root, the user of this process, and those named.
#[derive(Debug, Clone)]
pub struct PeerGate {
    admins: BTreeSet<u32>,
}

/// A user named as an admin who does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no user {0:?}")]
pub struct UnknownUser(String);

impl PeerGate {
    /// A gate for `users` too, names or user ids. They are resolved now.
    ///
    /// # Errors
    ///
    /// If one of them is neither a user's name nor a number.
    pub fn new<'u>(users: impl IntoIterator<Item = &'u str>) -> Result<Self, UnknownUser> {
        let mut admins = BTreeSet::from([0, rustix::process::geteuid().as_raw()]);
        for user in users {
            let uid = match get_user_by_name(user) {
                Some(found) => found.uid(),
                None => user.parse().map_err(|_| UnknownUser(user.to_owned()))?,
            };
            admins.insert(uid);
        }
        Ok(Self { admins })
    }
}

impl AdminGate for PeerGate {
    fn is_admin(&self, caller: &Caller) -> bool {
        caller.uid.is_some_and(|uid| self.admins.contains(&uid))
    }
}

/// Who is at the other end, with the user's name, or the number where it has none.
///
/// Blocks: names may come from another machine.
pub(super) fn caller(peer: Option<UCred>) -> Caller {
    let Some(peer) = peer else { return Caller { name: "unknown".to_owned(), uid: None, pid: None } };
    let uid = peer.uid();
    let name = get_user_by_uid(uid).map_or_else(|| uid.to_string(), |user| user.name().to_string_lossy().into_owned());
    Caller { name, uid: Some(uid), pid: peer.pid() }
}
