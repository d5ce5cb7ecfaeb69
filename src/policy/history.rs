//! What retention remembers from pass to pass: what a state file holds, and a status shows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Pace, Policy, PolicyDigest, Preview};
use crate::reclaim::{ReclaimOutcome, ReclaimReason};
use crate::rpc::{RpcError, excerpt};

/// The version of what is written.
const VERSION: u32 = 1;

/// The most by which a clock may go back without being noticed, in milliseconds: clocks are set by seconds every day.
pub(super) const SMALL_STEP: i64 = 60_000;

/// What retention remembers from pass to pass. Times are in milliseconds since the Unix epoch.
///
/// The history changes with each [`Retention::next`](super::Retention::next) and
/// [`Retention::answered`](super::Retention::answered). A host that writes it down after each answer forgets nothing,
/// wherever it is ended. A host that loses it begins anew: the policy then counts as new.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct History {
    /// The policy that may delete: it was confirmed, or took at most half of all jobs when it was new.
    pub accepted: Option<PolicyDigest>,
    /// What waits for a human to confirm it.
    pub waits_for: Option<Preview>,
    /// When retention was first asked for its next step.
    pub first_ms: Option<i64>,
    /// When the last pass began. It goes on, or was ended by force, if it is later than [`ended_ms`](Self::ended_ms).
    pub started_ms: Option<i64>,
    /// When the last pass ended, however it did.
    pub ended_ms: Option<i64>,
    /// When the last pass ended that did everything.
    pub succeeded_ms: Option<i64>,
    /// How many passes since then have not done everything.
    pub failures: u32,
    /// Whether retention does not keep up: a pass had not ended when the next one was due.
    pub behind: bool,
    /// The last pass that has ended.
    pub last: Option<Pass>,
    /// The rules, by their text.
    pub rules: BTreeMap<String, RuleHistory>,
    /// The space given back.
    pub reclaim: ReclaimHistory,
    /// What the batches so far say about the next one.
    pub pace: Pace,
    /// Until when the lock rests.
    pub rests_until_ms: Option<i64>,
    /// For how long it rests in all, in milliseconds.
    pub rest_ms: i64,
    /// The last time that the clock was found to have gone back.
    pub clock_jump: Option<ClockJump>,
}

/// What one rule has done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RuleHistory {
    /// When the rule last went through without an error.
    pub succeeded_ms: Option<i64>,
    /// Calls in the last pass that has come to this rule.
    pub calls: u64,
    /// Jobs deleted in that pass.
    pub jobs: u64,
    /// Actions deleted in that pass.
    pub actions: u64,
    /// Bytes freed in that pass.
    pub bytes: u64,
    /// Jobs that stayed at the end of that pass because a row that stays holds them by a foreign key.
    pub referenced: u64,
    /// How long its calls took in that pass, in milliseconds.
    pub duration_ms: f64,
    /// How long they held the lock in that pass, in milliseconds.
    pub lock_ms: f64,
    /// Jobs deleted since the rule was first carried out.
    pub jobs_ever: u64,
    /// Bytes freed since then.
    pub bytes_ever: u64,
    /// The last error; none since the rule went through.
    pub error: Option<Failure>,
}

/// What giving space back has come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ReclaimHistory {
    /// Whether something was deleted since space was last given back.
    pub due: bool,
    /// When the last call was answered.
    pub at_ms: Option<i64>,
    /// The outcome of that call.
    pub outcome: Option<ReclaimOutcome>,
    /// Why it was done partly, or skipped.
    pub reason: Option<ReclaimReason>,
    /// The bytes by which the file became shorter.
    pub bytes: u64,
    /// How long the lock was held, in milliseconds.
    pub lock_ms: f64,
    /// The last error; none since space was given back.
    pub error: Option<Failure>,
}

/// An error that retention remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// When it came, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The stable word of its kind; the number of its code, if the kind is unknown.
    pub kind: String,
    /// The problem in words. It may repeat what another server has said: escape it before it is shown.
    pub message: String,
}

impl Failure {
    pub(super) fn of(error: &RpcError, at_ms: i64) -> Self {
        let kind = error.kind().map_or_else(|| error.code.to_string(), |kind| kind.as_str().to_owned());
        Self { at_ms, kind, message: excerpt(&error.message).into_owned() }
    }
}

/// A pass that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pass {
    /// When it began, in milliseconds since the Unix epoch.
    pub started_ms: i64,
    /// When it ended.
    pub ended_ms: i64,
    /// How it ended.
    pub end: PassEnd,
    /// Calls, dry runs among them.
    pub calls: u64,
    /// Jobs deleted.
    pub jobs: u64,
    /// Actions deleted.
    pub actions: u64,
    /// Bytes freed in the store.
    pub bytes: u64,
    /// How long the lock was held, in milliseconds, that of giving space back included.
    pub lock_ms: f64,
    /// The longest that one call held the lock, in milliseconds.
    pub longest_lock_ms: f64,
    /// Whether the pass had not ended when the next one was due.
    pub behind: bool,
    /// The last error of the pass.
    pub error: Option<Failure>,
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PassEnd {
    /// Every rule went through.
    Done,
    /// All rules were tried, and at least one ended with an error.
    Failed,
    /// The store was busy, or hero_proc could not be reached, or calls were cancelled: it is tried again soon.
    PutOff,
    /// A call was sent, and no answer came: the next pass finds what is left.
    Unknown,
    /// A human has to confirm the policy: nothing was deleted.
    Unconfirmed,
}

/// A clock that went back: the history tells of a later time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClockJump {
    /// When it was noticed, by the clock as it is now, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// By how much the history is ahead, in milliseconds.
    pub by_ms: i64,
}

/// Why a text is no history.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The text is no JSON of a history.
    #[error("this is no history of retention")]
    Malformed(#[source] serde_json::Error),
    /// A newer version of this crate has written it.
    #[error("this history has version {version}, and up to {VERSION} is read here")]
    #[non_exhaustive]
    Version {
        /// The version.
        version: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct Versioned<H> {
    version: u32,
    #[serde(flatten)]
    history: H,
}

impl History {
    /// Reads what [`to_json`](Self::to_json) has written.
    ///
    /// # Errors
    ///
    /// If `text` is something else, or of a newer version of this crate.
    pub fn from_json(text: &str) -> Result<Self, HistoryError> {
        let Versioned::<IgnoredAny> { version, .. } = serde_json::from_str(text).map_err(HistoryError::Malformed)?;
        if version > VERSION {
            return Err(HistoryError::Version { version });
        }
        let Versioned { history, .. } = serde_json::from_str(text).map_err(HistoryError::Malformed)?;
        Ok(history)
    }

    /// The history as JSON, with the version of its form.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Every key is a string, and every number is finite.
        serde_json::to_string_pretty(&Versioned { version: VERSION, history: self }).unwrap_or_default()
    }

    /// When the next pass of `policy` is due; none if one is due at any time: none has ended yet, or one was ended by
    /// force.
    #[must_use]
    pub fn due(&self, policy: &Policy) -> Option<DateTime<Utc>> {
        self.due_ms(policy).and_then(DateTime::from_timestamp_millis)
    }

    pub(super) fn due_ms(&self, policy: &Policy) -> Option<i64> {
        let (started, ended) = (self.started_ms?, self.ended_ms?);
        if started > ended {
            return None;
        }
        let regular = started.saturating_add(policy.every_ms);
        let tried_again = ended.saturating_add(backoff(self.failures));
        match self.last.as_ref()?.end {
            PassEnd::Done | PassEnd::Failed | PassEnd::Unconfirmed => Some(regular),
            PassEnd::PutOff => Some(tried_again),
            PassEnd::Unknown => Some(regular.max(tried_again)),
        }
    }

    /// Whether retention does not do its work: no pass of `policy` has done everything for three times its `every`.
    #[must_use]
    pub fn overdue(&self, policy: &Policy, now: DateTime<Utc>) -> bool {
        let now = now.timestamp_millis();
        match self.succeeded_ms.or(self.first_ms) {
            // A success that is still to come is none.
            Some(since) if since <= now.saturating_add(SMALL_STEP) => {
                now.saturating_sub(since) > policy.every_ms.saturating_mul(3)
            }
            _ => true,
        }
    }
}

/// How long to wait after `failures` passes in a row that were put off: a minute, then twice as long each time, up to
/// an hour.
fn backoff(failures: u32) -> i64 {
    60_000_i64.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(3_600_000)
}
