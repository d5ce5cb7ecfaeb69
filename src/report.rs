//! What a call reports, dry runs included: what went, what stayed, and why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The result of a cleanup.
///
/// `jobs_matched` is always `jobs_planned` plus the sum of `jobs_kept`. Outside a dry run `jobs_deleted` is
/// `jobs_planned` and `actions_deleted` is `actions_planned`; in a dry run both are 0, as are `bytes_freed` and
/// `lock_ms`, and the lists name what would go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// Jobs that carry every tag, whatever their age or phase.
    pub jobs_matched: u64,
    /// Jobs that go.
    pub jobs_planned: u64,
    /// Jobs that went.
    pub jobs_deleted: u64,
    /// Matching jobs that stay, by the first reason that applies.
    pub jobs_kept: JobsKept,
    /// Actions that go.
    pub actions_planned: u64,
    /// Actions that went.
    pub actions_deleted: u64,
    /// Actions that a planned job refers to and that stay all the same, sorted by `action_id`.
    pub actions_kept: Vec<KeptAction>,
    /// How many such actions there are, however many are listed.
    pub actions_kept_count: u64,
    /// The planned jobs, ascending.
    pub job_ids: Vec<i64>,
    /// The planned actions, sorted; one outside the context `core` is written `context/name`.
    pub action_ids: Vec<String>,
    /// Whether a list was cut to the request's `max_ids`.
    pub ids_truncated: bool,
    /// Rows of other tables that go, or are set to NULL, because their foreign key on a planned job says so, by table.
    pub dependents: BTreeMap<String, u64>,
    /// One line for each job that could not be stopped or is held by a foreign key. Empty: nothing went wrong.
    pub errors: Vec<String>,
    /// Whether jobs were left only because of the request's limit.
    pub more: bool,
    /// The cut-off in milliseconds since the Unix epoch; none without an age.
    pub cutoff_ms: Option<i64>,
    /// The token of the plan: see [`PlanToken`](crate::PlanToken).
    pub plan: String,
    /// Pages that the transaction put on the freelist, times the page size.
    pub bytes_freed: u64,
    /// The whole call, in milliseconds.
    pub duration_ms: f64,
    /// How long the store's write lock was held, in milliseconds.
    pub lock_ms: f64,
}

impl Report {
    /// Cuts every list to `max_ids` entries, and says so in `ids_truncated`.
    ///
    /// Of `errors`, one line always remains: empty would mean that nothing went wrong.
    pub(crate) fn truncate(&mut self, max_ids: usize) {
        let errors = self.errors.len();
        self.ids_truncated = self.job_ids.len() > max_ids
            || self.action_ids.len() > max_ids
            || self.actions_kept.len() > max_ids
            || errors > max_ids;
        self.job_ids.truncate(max_ids);
        self.action_ids.truncate(max_ids);
        self.actions_kept.truncate(max_ids);
        if errors > max_ids {
            self.errors.truncate(max_ids.max(1));
        }
    }
}

/// How many matching jobs stay, by reason. A job with several reasons counts once, under the first in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobsKept {
    /// No usable creation time, though an age was asked for.
    pub undated: u64,
    /// Created after the cut-off.
    pub recent: u64,
    /// Not finished, and `force` was not asked for.
    pub active: u64,
    /// Not finished, and could not be stopped.
    pub unstoppable: u64,
    /// Another table holds on to them by a foreign key that forbids the deletion.
    pub referenced: u64,
    /// Left for the next call.
    pub over_limit: u64,
}

impl JobsKept {
    /// All of them.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let Self { undated, recent, active, unstoppable, referenced, over_limit } = self;
        undated + recent + active + unstoppable + referenced + over_limit
    }
}

/// An action that a planned job refers to and that stays all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeptAction {
    /// Its name, `context/name` outside the context `core`.
    pub action_id: String,
    /// Why it stays: the first that applies, in the order of [`Reason`].
    pub reason: Reason,
    /// One referrer, such as `job 4711`, `service web` or `action deploy`; none for the reasons that need none.
    pub by: Option<String>,
}

/// Why an action stays, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Reason {
    /// A remaining job refers to it.
    Job,
    /// A service lists it.
    Service,
    /// A remaining action depends on it.
    Action,
    /// It has a schedule.
    Schedule,
    /// Its own spec does not carry the root tag.
    Untagged,
}
