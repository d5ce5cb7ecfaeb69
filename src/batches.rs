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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_call_has_no_report() {
        assert_eq!(Batches::new(10).report(), None);
        assert_eq!(Batches::new(10).into_report(), None);
    }

    #[test]
    fn the_sum_of_one_report_is_that_report() {
        let report = report(2, 2, 5);
        let mut batches = Batches::new(10);
        batches.add(report.clone());
        assert_eq!(batches.report(), Some(&report));
        assert_eq!(batches.into_report(), Some(report));
    }

    #[test]
    fn calls_follow_while_there_is_more_and_something_went() {
        let mut batches = Batches::new(3);
        assert_eq!(batches.add(report(2, 2, 5)), Next::Again { left: 5 });
        // Leaked actions alone.
        assert_eq!(batches.add(report(0, 2, 5)), Next::Again { left: 5 });
        assert_eq!(batches.add(report(2, 0, 0)), Next::Done);
        let sum = batches.into_report().expect("a report");
        assert_eq!((sum.jobs_deleted, sum.actions_deleted, sum.more), (4, 4, false));
        assert_eq!((sum.job_ids.len(), sum.action_ids.len(), sum.ids_truncated), (3, 3, true));
    }

    #[test]
    fn a_call_that_takes_nothing_is_not_repeated() {
        let mut batches = Batches::new(10);
        assert_eq!(batches.add(report(0, 0, 5)), Next::Stuck { left: 5 });
        // Jobs that wait for others: the limit is not what is in their way.
        assert_eq!(batches.add(Report { more: false, ..report(0, 0, 5) }), Next::Stuck { left: 5 });
        assert_eq!(batches.add(report(0, 0, 0)), Next::Done);
    }

    /// The report of a call that deleted `jobs` and `actions`, and left `left` jobs.
    fn report(jobs: u64, actions: u64, left: u64) -> Report {
        let ids: Vec<u64> = (0..jobs).collect();
        let names: Vec<String> = (0..actions).map(|number| format!("codescaler_{number}")).collect();
        let kept = json!({
            "undated": 0, "recent": 0, "active": 0, "unstoppable": 0, "referenced": 0, "over_limit": left,
        });
        let report = json!({
            "dry_run": false, "jobs_matched": jobs + left, "jobs_planned": jobs, "jobs_deleted": jobs,
            "jobs_kept": kept, "actions_planned": actions, "actions_deleted": actions,
            "actions_kept": [], "actions_kept_count": 0, "job_ids": ids, "action_ids": names, "ids_truncated": false,
            "dependents": {}, "errors": [], "more": left > 0, "cutoff_ms": null, "plan": "1",
            "bytes_freed": 0, "duration_ms": 1.0, "lock_ms": 1.0,
        });
        serde_json::from_value(report).expect("a report")
    }
}
