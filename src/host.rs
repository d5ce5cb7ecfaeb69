//! The host's side of a call: its guard, its hold on jobs, and how it ends a call early.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::report::Report;
use crate::tag::Guard;

/// The settings of a host, made once and used for every call.
#[derive(Clone)]
#[non_exhaustive]
pub struct Host {
    /// The bound on the tags that callers may name.
    pub guard: Guard,
    /// The host's hold on its jobs. None (the default): [`Force::Stop`](crate::Force::Stop) is refused.
    pub control: Option<Arc<dyn JobControl>>,
    /// The longest wait for the store's write lock: 5 s unless set.
    pub lock_timeout: Duration,
    /// The longest time for which a caller may have the write lock held to give space back: 2 s unless set.
    pub longest_lock: Duration,
    /// The time within which an action that was set stays, whatever refers to it: 60 s unless set. Creators set the action
    /// first, and create its job later.
    pub grace: Duration,
    /// Whether an unfinished job keeps the finished jobs of its run: so unless set.
    pub runs: bool,
    /// Whether deleted text is overwritten in the store's file, rather than left in pages that are free. If unset, as it is
    /// at first, the setting of the SQLite that is linked decides.
    pub secure_delete: bool,
    /// Ends every running call before its commit, with nothing deleted.
    pub cancel: Cancel,
}

impl Host {
    /// A host that bounds callers by `guard`, and has no way to stop jobs.
    #[must_use]
    pub fn new(guard: Guard) -> Self {
        Self {
            guard,
            control: None,
            lock_timeout: Duration::from_secs(5),
            longest_lock: Duration::from_secs(2),
            grace: Duration::from_secs(60),
            runs: true,
            secure_delete: false,
            cancel: Cancel::default(),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guard, control, lock_timeout, longest_lock, grace, runs, secure_delete, cancel } = self;
        f.debug_struct("Host")
            .field("guard", guard)
            .field("control", &control.is_some())
            .field("lock_timeout", lock_timeout)
            .field("longest_lock", longest_lock)
            .field("grace", grace)
            .field("runs", runs)
            .field("secure_delete", secure_delete)
            .field("cancel", cancel)
            .finish()
    }
}

/// A job that has not finished, as a forced cleanup shows it to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Job {
    /// The row id of the job.
    pub id: i64,
    /// The phase as the store has it; none where the column holds no text.
    pub phase: Option<String>,
    /// The process id that the row records; none where it records none, 0 where the column holds something else.
    pub pid: Option<i64>,
    /// The attempt, where the store counts attempts.
    pub attempt: Option<i64>,
    /// The start of that attempt, in milliseconds since the Unix epoch.
    pub started_at_ms: Option<i64>,
}

/// Why a job could not be stopped, or why the host could not follow a deletion: one line, for the report and the log.
pub type ControlError = Box<dyn std::error::Error + Send + Sync>;

/// The host's hold on its jobs.
///
/// A cleanup calls [`stop`](Self::stop) and [`deleted`](Self::deleted) on its own thread, outside any lock of the store.
/// If the store was given as the host's own connection, the caller holds that connection for the whole call: an
/// implementation must then do without it.
pub trait JobControl: Send + Sync {
    /// Stops `job`, and returns when it no longer runs. A job that has already ended is stopped.
    ///
    /// # Errors
    ///
    /// If the job may still be running. The job then stays, with the error's text in the report.
    fn stop(&self, job: &Job) -> Result<(), ControlError>;

    /// Whether [`stop`](Self::stop) would be tried, without stopping anything. Dry runs ask this, so that they show what
    /// a deletion would do. The store is being read meanwhile: an implementation must be quick, and must not write there.
    ///
    /// # Errors
    ///
    /// If the host already knows that `job` can't be stopped.
    fn can_stop(&self, job: &Job) -> Result<(), ControlError> {
        let _ = job;
        Ok(())
    }

    /// Hears what a call has deleted, after the commit, so that the host can drop what it keeps elsewhere (log files): every
    /// id once, whatever the report for the caller lists, in as many calls as it takes for 10,000 ids of each list at a time.
    ///
    /// # Errors
    ///
    /// If the host could not follow. The deletion stands; the error is logged, as is a panic.
    fn deleted(&self, report: &Report) -> Result<(), ControlError> {
        let _ = report;
        Ok(())
    }
}

/// Ends running calls before their commit, with nothing deleted. Clones end the same calls.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Running>);

#[derive(Default)]
struct Running {
    cancelled: AtomicBool,
    /// What interrupts each open connection. One statement may take long: a trigger of the host's, a large child table.
    connections: Mutex<Vec<Interrupt>>,
}

type Interrupt = Arc<dyn Fn() + Send + Sync>;

impl Cancel {
    /// Ends every running call, and every later one. A repeated call also ends the statements that began meanwhile.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
        for interrupt in self.connections().iter() {
            interrupt();
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Lets a cancel call `interrupt` until the returned value is dropped.
    pub(crate) fn reach(&self, interrupt: impl Fn() + Send + Sync + 'static) -> Reached {
        let interrupt: Interrupt = Arc::new(interrupt);
        self.connections().push(Arc::clone(&interrupt));
        Reached { cancel: self.clone(), interrupt }
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Interrupt>> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

/// A connection that a [`Cancel`] reaches.
pub(crate) struct Reached {
    cancel: Cancel,
    interrupt: Interrupt,
}

impl Drop for Reached {
    fn drop(&mut self) {
        self.cancel.connections().retain(|interrupt| !Arc::ptr_eq(interrupt, &self.interrupt));
    }
}
