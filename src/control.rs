//! What the host lends a cleanup: a way to stop jobs, and the news of what went.

use crate::report::Report;

/// A job that has not finished, as a forced cleanup shows it to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Job {
    /// Its row id.
    pub id: i64,
    /// Its phase, as the store has it; none where that is no text.
    pub phase: Option<String>,
    /// The process id that its row records.
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
/// Every method is called outside any lock of the store, on the thread that runs the cleanup.
pub trait JobControl: Send + Sync {
    /// Stops `job`, and returns when it no longer runs. A job that has already ended is stopped.
    ///
    /// # Errors
    ///
    /// If it may still be running. The job then stays, with the error's text in the report.
    fn stop(&self, job: &Job) -> Result<(), ControlError>;

    /// Whether [`stop`](Self::stop) would be tried, without stopping anything: dry runs ask this, so that what they
    /// show is what goes. Must be quick.
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
    /// If that failed. The deletion stands; the error is logged.
    fn deleted(&self, report: &Report) -> Result<(), ControlError> {
        let _ = report;
        Ok(())
    }
}
