//! What the host lends a cleanup: a way to stop jobs, the news of what went, and a way to end it early.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::InterruptHandle;

use crate::report::Report;

/// A job that has not finished, as a forced cleanup shows it to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Job {
    /// Its row id.
    pub id: i64,
    /// Its phase, as the store has it; none where that is no text.
    pub phase: Option<String>,
    /// The process id that its row records; 0 where that is no integer.
    pub pid: Option<i64>,
    /// Its attempt, where the store counts them.
    pub attempt: Option<i64>,
    /// When that attempt started, in milliseconds since the Unix epoch.
    pub started_at_ms: Option<i64>,
}

/// Why a job could not be stopped, or why the host could not take the news: one line, for the report and the log.
pub type ControlError = Box<dyn std::error::Error + Send + Sync>;

/// The host's hold on its jobs.
///
/// [`stop`](Self::stop) and [`deleted`](Self::deleted) are called outside any lock of the store, on the thread that runs
/// the cleanup. Where the store was given as
/// the host's own connection, the caller holds that for the whole call: what is done here must do without it.
pub trait JobControl: Send + Sync {
    /// Stops `job`, and returns when it no longer runs. A job that has already ended is stopped.
    ///
    /// # Errors
    ///
    /// If it may still be running. The job then stays, with the error's text in the report.
    fn stop(&self, job: &Job) -> Result<(), ControlError>;

    /// Whether [`stop`](Self::stop) would be tried, without stopping anything: dry runs ask this, so that what they
    /// show is what goes. Asked while the store is being read: it must be quick, and must not write there.
    ///
    /// # Errors
    ///
    /// If it is already known that `job` can't be stopped.
    fn can_stop(&self, job: &Job) -> Result<(), ControlError> {
        let _ = job;
        Ok(())
    }

    /// Called once after the commit, with the report's lists whole, so that the host can drop what it keeps elsewhere
    /// (log files).
    ///
    /// # Errors
    ///
    /// If that failed. The deletion stands; the error is logged, as is a panic.
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
    /// The connections of the calls that run. One statement may take long: a trigger of the host's, a large child table.
    connections: Mutex<Vec<Arc<InterruptHandle>>>,
}

impl Cancel {
    /// Ends every running call, and every later one. May be called again: a statement that began just after is ended, too.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
        for connection in self.connections().iter() {
            connection.interrupt();
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Lets `connection` be interrupted until the guard is dropped.
    pub(crate) fn reach(&self, connection: InterruptHandle) -> Reached<'_> {
        let connection = Arc::new(connection);
        self.connections().push(Arc::clone(&connection));
        Reached { cancel: self, connection }
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<Arc<InterruptHandle>>> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

/// A connection that [`Cancel`] reaches.
pub(crate) struct Reached<'c> {
    cancel: &'c Cancel,
    connection: Arc<InterruptHandle>,
}

impl Drop for Reached<'_> {
    fn drop(&mut self) {
        self.cancel.connections().retain(|connection| !Arc::ptr_eq(connection, &self.connection));
    }
}
