//! Whether the store of a server can be used, looked at anew for each `GET /health`.
//!
//! Nobody waits long for the answer. One check runs at a time, on a thread of its own, and all who ask meanwhile share
//! it. If the file system does not answer, that one thread hangs, and neither a runtime thread nor the server's end
//! waits for it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access as Right, access};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::host::Host;
use crate::store::{Access, Store, StoreError, StoreRef};

/// The longest wait for a check.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// From this age on, a check that still runs means that the store can't be reached. Until then the last answer stands.
const HUNG: Duration = Duration::from_secs(2);

/// The state of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreState {
    /// The store fits, or another connection has locked it.
    Fit,
    /// The file is no store that a call could use.
    Unfit,
    /// The file is not there, or can't be read.
    Unreachable,
}

impl StoreState {
    /// The word that `/health` has for the store.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Fit => "ok",
            Self::Unfit => "unfit",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The health of a server's store.
pub(super) struct Health {
    store: PathBuf,
    host: Host,
    checks: Mutex<Checks>,
}

#[derive(Clone)]
struct Checks {
    /// The answer of the last check that has ended.
    last: StoreState,
    /// The newest check: when it began, and its answer once there is one.
    begun: Instant,
    answer: watch::Receiver<Option<StoreState>>,
}

impl Health {
    /// The health of the file `store`, which `host` uses.
    pub(super) fn new(store: PathBuf, mut host: Host) -> Self {
        // A store that is locked is not waited for.
        host.lock_timeout = Duration::ZERO;
        let none = watch::channel(None).1;
        Self { store, host, checks: Mutex::new(Checks { last: StoreState::Fit, begun: Instant::now(), answer: none }) }
    }

    /// The state of the store as it is now, or, if that can't be found out quickly, as it was last.
    pub(super) async fn state(&self) -> StoreState {
        let Checks { last, begun, mut answer } = self.check();
        let answer = timeout(LONGEST_WAIT, answer.wait_for(Option::is_some)).await;
        match answer.ok().and_then(|answer| *answer.ok()?) {
            Some(state) => state,
            None if begun.elapsed() > HUNG => StoreState::Unreachable,
            None => last,
        }
    }

    /// The check that runs, which begins here if none does.
    fn check(&self) -> Checks {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = *checks.answer.borrow();
        checks.last = ended.unwrap_or(checks.last);
        // A check that ended without an answer has left its channel.
        if ended.is_some() || checks.answer.has_changed().is_err() {
            let (sender, answer) = watch::channel(None);
            let (store, host) = (self.store.clone(), self.host.clone());
            let look = move || _ = sender.send(Some(look(&store, &host)));
            if let Err(error) = thread::Builder::new().name("health".to_owned()).spawn(look) {
                tracing::warn!(%error, "the store could not be looked at");
            }
            (checks.begun, checks.answer) = (Instant::now(), answer);
        }
        checks.clone()
    }
}

/// The state of the file `store`. Its layout is read, and no row.
fn look(store: &Path, host: &Host) -> StoreState {
    // Never opened but by SQLite: closing a file gives up all of this process's locks on it.
    if access(store, Right::READ_OK).is_err() {
        return StoreState::Unreachable;
    }
    let layout = Store::attach(StoreRef::Path(store), Access::Read, host).and_then(|mut store| {
        store.read_alone()?;
        Ok(())
    });
    match layout {
        Ok(()) | Err(StoreError::Busy | StoreError::Cancelled) => StoreState::Fit,
        Err(StoreError::Unfit { .. }) => StoreState::Unfit,
        Err(
            StoreError::Unusable { .. }
            | StoreError::Full { .. }
            | StoreError::AtItsLargest { .. }
            | StoreError::Diverged { .. }
            | StoreError::Sqlite(_),
        ) => StoreState::Unreachable,
    }
}
