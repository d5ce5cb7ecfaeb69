//! The calls of one cleanup that is larger than a call's limit: whether another one follows, and the report of them all.
//!
//! Neither I/O nor async is in here: whoever makes the calls feeds their reports.

use crate::report::Report;

/// The reports of calls that followed each other, each of which went on where the one before stopped.
///
/// ```
/// use hero_proc_cleanup::{Batches, Guard, Host, Next, Request, cleanup};
/// # let mut store = rusqlite::Connection::open_in_memory()?;
/// # store.execute_batch(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/schema/hero_proc.sql")))?;
/// # let host = Host::new(Guard::codescaler());
/// let request = Request::new(host.guard.everything());
/// let mut batches = Batches::new(10_000);
/// loop {
///     match batches.add(cleanup(&mut store, &host, &request, chrono::Utc::now())?) {
///         Next::Again { .. } => continue,
///         Next::Done | Next::Stuck { .. } => break,
///     }
/// }
/// assert!(batches.into_report().is_some_and(|sum| !sum.more));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Batches {
    max_ids: usize,
    sum: Option<Report>,
}

/// What is to follow after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another call: this one reached its limit, and took something.
    Again {
        /// How many matching jobs this call left to further calls.
        left: u64,
    },
    /// Nothing: no job is left to further calls.
    Done,
    /// Nothing, although jobs are left: this call took none, and another one would not either.
    Stuck {
        /// How many matching jobs are left.
        left: u64,
    },
}

impl Batches {
    /// No calls yet. Their sum will hold at most `max_ids` entries in each list: see [`Report::truncate`].
    #[must_use]
    pub fn new(max_ids: usize) -> Self {
        Self { max_ids, sum: None }
    }

    /// Takes the report of the call that has just ended, which was no dry run, and says what is to follow.
    pub fn add(&mut self, report: Report) -> Next {
        let (more, left) = (report.more, report.jobs_kept.over_limit);
        let took = report.jobs_deleted > 0 || report.actions_deleted > 0;
        let sum = match self.sum.take() {
            None => report,
            Some(mut earlier) => {
                earlier.append(report);
                earlier
            }
        };
        self.sum.insert(sum).truncate(self.max_ids);
        match (more, took) {
            (true, true) => Next::Again { left },
            (true, false) => Next::Stuck { left },
            (false, _) if left > 0 => Next::Stuck { left },
            (false, _) => Next::Done,
        }
    }

    /// The report of all calls so far; none before the first.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        self.sum.as_ref()
    }

    /// The report of all calls; none if there was no call.
    #[must_use]
    pub fn into_report(self) -> Option<Report> {
        self.sum
    }
}
