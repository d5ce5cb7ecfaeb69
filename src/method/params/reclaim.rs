//! The params of `store.reclaim`.

use std::time::Duration;

use serde_json::Value;

use super::{Param, Params, read_bool, read_integer, unknown};
use crate::reclaim::{DEFAULT_WITHIN, ReclaimMode, ReclaimRequest};
use crate::rpc::RpcError;

/// The lowest `within_ms`.
const LEAST_WITHIN_MS: i64 = 10;

/// The params of `store.reclaim` and of `jobs.reclaim`, for clients. A param that is none is left out, and has its default.
#[cfg(feature = "client")]
#[derive(Debug, Clone, Default, serde::Serialize)]
#[non_exhaustive]
pub struct ReclaimParams {
    /// The longest that the write lock may be held, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<i64>,
    /// Give space back only if at least this share of the file is free, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_free_percent: Option<u8>,
    /// Give space back only if at least this many bytes of the file are free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_free_bytes: Option<i64>,
    /// Say what would be done; write nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

impl Params {
    /// The request to give space back. A host that lets nobody have the lock for a second has its own bound as the default.
    pub(in crate::method) fn into_reclaim_request(self, longest_lock: Duration) -> Result<ReclaimRequest, RpcError> {
        let longest_ms = i64::try_from(longest_lock.as_millis()).unwrap_or(i64::MAX).max(LEAST_WITHIN_MS);
        let mut request = ReclaimRequest { within: DEFAULT_WITHIN.min(longest_lock), ..ReclaimRequest::default() };
        for (name, value) in self.0 {
            let whole = |lowest, highest| read_integer(&name, &value, lowest, highest).map(i64::unsigned_abs);
            match (Param::named(&name), &value) {
                (Some(Param::WithinMs | Param::MinFreePercent | Param::MinFreeBytes | Param::DryRun), Value::Null) => {}
                (Some(Param::WithinMs), _) => {
                    request.within = Duration::from_millis(whole(LEAST_WITHIN_MS, longest_ms)?)
                }
                (Some(Param::MinFreePercent), _) => {
                    request.min_free_percent = u8::try_from(whole(0, 100)?).unwrap_or(100)
                }
                (Some(Param::MinFreeBytes), _) => request.min_free_bytes = whole(0, i64::MAX)?,
                (Some(Param::DryRun), value) => {
                    request.mode = if read_bool(&name, value)? { ReclaimMode::DryRun } else { ReclaimMode::Reclaim };
                }
                _ => return Err(unknown(&name)),
            }
        }
        Ok(request)
    }

    /// Whether hero_proc's side would take these params to give space back. How long its lock may be held is its own to say.
    #[cfg(feature = "client")]
    pub(crate) fn check_reclaim(&self) -> Result<(), RpcError> {
        Self(self.0.clone()).into_reclaim_request(Duration::MAX).map(drop)
    }
}
