//! Typed calls of the methods about usage.

use serde::Serialize;

use super::Client;
use crate::rpc::RpcError;
use crate::usage::Usage;

/// Params of `job.usage_by_tag`.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct UsageByTagParams {
    /// A job must carry all of them.
    pub tags: Vec<String>,
    /// The prefixes of tags behind which values are counted; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<String>>,
    /// The most entries in each list that is sorted by bytes; 50 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<usize>,
}

impl UsageByTagParams {
    /// A question about the jobs that carry all of `tags`.
    #[must_use]
    pub fn new(tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { tags: tags.into_iter().map(Into::into).collect(), by: None, top: None }
    }
}

/// Params of `jobs.usage`: all of codescaler's jobs, unless some are named.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct JobsUsageParams {
    /// Only jobs of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only jobs with this target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Only jobs of this actor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What jobs are counted by, of `kind`, `target` and `actor`; all three unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<String>>,
    /// The most entries in each list that is sorted by bytes; 50 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<usize>,
}

impl Client {
    /// Calls `job.usage_by_tag`, hero_proc's side.
    ///
    /// # Errors
    ///
    /// As [`cleanup_by_tag`](Self::cleanup_by_tag). The call changes nothing, whatever became of it.
    pub async fn usage_by_tag(&self, params: &UsageByTagParams) -> Result<Usage, RpcError> {
        self.call(crate::method::USAGE_BY_TAG, params).await
    }

    /// Calls `jobs.usage`, codescalers' side.
    ///
    /// # Errors
    ///
    /// As [`usage_by_tag`](Self::usage_by_tag).
    pub async fn jobs_usage(&self, params: &JobsUsageParams) -> Result<Usage, RpcError> {
        self.call(crate::gateway::JOBS_USAGE, params).await
    }
}
