//! What a call reports, dry runs included: what went, what stayed, and why. How the reports of several calls add up: `sum`.

mod sum;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use sum::{milliseconds, to_microseconds};

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
    /// The params that chose what goes, as they were understood, in canonical form.
    #[serde(default)]
    pub asked: Map<String, Value>,
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
    /// The planned actions that no job of this call referred to.
    #[serde(default)]
    pub actions_leaked: u64,
    /// Candidates that stay all the same, sorted by `action_id`.
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
    /// One line for each job that could not be stopped or is held by a foreign key; none if nothing went wrong.
    pub errors: Vec<String>,
    /// Whether the request's limit left jobs or leaked actions to further calls, and this call took something, or would.
    pub more: bool,
    /// The cut-off in milliseconds since the Unix epoch; none without an age.
    pub cutoff_ms: Option<i64>,
    /// The token of the plan: see [`PlanToken`](crate::PlanToken).
    pub plan: String,
    /// The bytes of text and blobs in the rows of jobs and actions that go: what a dry run can promise.
    #[serde(default)]
    pub bytes_planned: u64,
    /// Pages that the transaction put on the freelist, times the page size. Small rows scattered over many pages hardly fill
    /// any.
    pub bytes_freed: u64,
    /// The store's size after the call.
    #[serde(default)]
    pub store: StoreSize,
    /// The whole call, in milliseconds.
    pub duration_ms: f64,
    /// How long the store's write lock was held, in milliseconds.
    pub lock_ms: f64,
}

/// The size of a store, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct StoreSize {
    /// The file.
    pub file_bytes: u64,
    /// The WAL beside it, which holds what no checkpoint has moved into the file yet.
    pub wal_bytes: u64,
    /// The pages of the file that hold nothing.
    pub free_bytes: u64,
}

/// How many matching jobs stay, by reason. A job with several reasons counts once, under the first in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct JobsKept {
    /// Jobs that carry an excepted tag.
    pub excepted: u64,
    /// Jobs in a phase that was not asked for.
    pub other_phase: u64,
    /// Jobs without a usable creation time, though an age was asked for.
    pub undated: u64,
    /// Jobs that were created, or have ended, after the cut-off.
    pub recent: u64,
    /// Jobs that have not finished, where `force` was not asked for.
    pub active: u64,
    /// Jobs that have not finished and could not be stopped.
    pub unstoppable: u64,
    /// Jobs whose run goes on: another job of that run has not finished and does not go.
    pub run_active: u64,
    /// Jobs among the last of their group.
    pub kept_last: u64,
    /// Jobs that a row that stays holds by a foreign key.
    pub referenced: u64,
    /// Jobs left for the next call.
    pub over_limit: u64,
}

impl JobsKept {
    /// The number of jobs that stay, whatever the reason.
    #[must_use]
    pub fn sum(&self) -> u64 {
        // A new reason does not compile until it is added up here.
        let Self {
            excepted,
            other_phase,
            undated,
            recent,
            active,
            unstoppable,
            run_active,
            kept_last,
            referenced,
            over_limit,
        } = *self;
        let first = [excepted, other_phase, undated, recent, active];
        let last = [unstoppable, run_active, kept_last, referenced, over_limit];
        first.into_iter().chain(last).sum()
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
    /// One row that refers to the action; none for reasons other than a reference.
    pub by: Option<Referrer>,
}

/// Who refers to an action. In JSON it is a text such as `job 4711`, `service web` or `action deploy`.
///
/// Every text can be read, and is written again as it came: a client does not fail on a referrer of a kind that only a
/// newer server knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum Referrer {
    /// A job, by its id.
    Job(i64),
    /// A service, by its name.
    Service(String),
    /// An action, by its name: `context/name` outside the context `core`.
    Action(String),
    /// A text of another form, as it came.
    Other(String),
}

impl fmt::Display for Referrer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => write!(f, "job {id}"),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Action(name) => write!(f, "action {name}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl From<String> for Referrer {
    fn from(text: String) -> Self {
        match text.split_once(' ') {
            Some(("job", id)) => match id.parse() {
                // `job 007` and `job +7` are no ids as they are written here.
                Ok(number) if id == i64::to_string(&number) => Self::Job(number),
                _ => Self::Other(text),
            },
            Some(("service", name)) => Self::Service(name.to_owned()),
            Some(("action", name)) => Self::Action(name.to_owned()),
            _ => Self::Other(text),
        }
    }
}

impl From<Referrer> for String {
    fn from(referrer: Referrer) -> Self {
        match referrer {
            Referrer::Other(text) => text,
            known => known.to_string(),
        }
    }
}

/// Why an action stays, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Reason {
    /// A remaining job refers to the action.
    Job,
    /// A service lists the action.
    Service,
    /// A remaining action depends on this one.
    Action,
    /// The action has a schedule.
    Schedule,
    /// The action's own spec does not carry the root tag.
    Untagged,
    /// The action was set after the cut-off, or so recently that its job may not be there yet.
    Recent,
    /// No job refers to the action, and nothing says when it was set.
    Undated,
}
