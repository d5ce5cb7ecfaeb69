//! What the first pass of a policy would take, and whether a human has to confirm it.

use serde::{Deserialize, Serialize};

use super::PolicyDigest;

/// What the first pass of a policy would take: it is more than half of all jobs, so nothing was deleted.
///
/// A human who wants it writes `confirmed = "<digest>"` into the policy, or says so to the host, which then calls
/// [`Retention::confirm`](super::Retention::confirm).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Preview {
    /// The name of the policy, which confirms it.
    pub digest: PolicyDigest,
    /// When this was found, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The jobs with the root tag.
    pub jobs_total: u64,
    /// The most jobs that the rules would take together: a job that several rules take counts in each of them.
    pub jobs_planned: u64,
    /// What each rule would take, in the order of the policy.
    pub rules: Vec<RulePreview>,
}

/// What one rule would take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RulePreview {
    /// The rule in words.
    pub rule: String,
    /// Jobs.
    pub jobs: u64,
    /// Actions: those of the first million jobs.
    pub actions: u64,
    /// The bytes of the text and blobs of these jobs and actions.
    pub bytes: u64,
}

impl Preview {
    /// Whether the policy would take more than half of all jobs, so that a human has to confirm it.
    pub(super) fn takes_more_than_half(&self) -> bool {
        self.jobs_planned.saturating_mul(2) > self.jobs_total
    }
}
