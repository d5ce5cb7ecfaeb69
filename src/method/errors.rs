//! The error objects of operations that failed: what the caller may see, and what is for the log.

use crate::cleanup::Error;
use crate::rpc::{Kind, RpcError};
use crate::store::StoreError;

/// The most stopped jobs that an error lists.
const MOST_STOPPED: usize = 1000;

/// The error object of `error`.
pub(super) fn object(error: &Error) -> RpcError {
    match error {
        Error::PlanChanged { jobs_planned, actions_planned, plan } => RpcError::new(Kind::PlanChanged, error)
            .with("reason", "set")
            .with("jobs_planned", *jobs_planned)
            .with("actions_planned", *actions_planned)
            .with("plan", plan.to_string()),
        Error::PlanOfOtherParams => RpcError::new(Kind::PlanChanged, error).with("reason", "params"),
        Error::ForceUnavailable => RpcError::new(Kind::ForceUnavailable, error),
        Error::Store(StoreError::Busy) => RpcError::busy(format_args!("{error}: nothing was deleted")),
        Error::Store(StoreError::Unfit { problems }) => {
            RpcError::new(Kind::StoreUnfit, error).with("problems", problems.clone())
        }
        Error::Store(StoreError::Unusable { problem }) => {
            RpcError::new(Kind::StoreUnfit, error).with("problems", [problem.as_str()].as_slice())
        }
        Error::Store(StoreError::Full { needed, free, limit }) => no_room(error, *free, *needed, *limit),
        Error::Store(StoreError::AtItsLargest { free }) => no_room(error, *free, None, None),
        Error::Store(StoreError::Cancelled) => RpcError::new(Kind::Cancelled, error),
        Error::Store(StoreError::Sqlite(_) | StoreError::Diverged { .. }) => RpcError::internal(error),
        Error::AfterStop { stopped, source } => {
            let mut object = object(source)
                .with("jobs_stopped", &stopped[..stopped.len().min(MOST_STOPPED)])
                .with("jobs_stopped_count", stopped.len());
            object.message =
                format!("{}; {} jobs had been stopped, their rows are all there", object.message, stopped.len());
            object
        }
    }
}

/// The error object of `error`, which has kept space from being given back. No row is touched by that in any case.
pub(super) fn of_reclaim(error: &StoreError) -> RpcError {
    match error {
        StoreError::Busy => RpcError::busy(format_args!("{error}: nothing was changed")),
        StoreError::Unfit { problems } => RpcError::new(Kind::StoreUnfit, error).with("problems", problems.clone()),
        StoreError::Unusable { problem } => {
            RpcError::new(Kind::StoreUnfit, error).with("problems", [problem.as_str()].as_slice())
        }
        StoreError::Full { free, .. } | StoreError::AtItsLargest { free } => {
            RpcError::new(Kind::DiskFull, format_args!("{error}: no row was changed")).with("free_bytes", *free)
        }
        StoreError::Cancelled => RpcError::new(Kind::Cancelled, "cancelled: no row was changed"),
        StoreError::Sqlite(_) | StoreError::Diverged { .. } => RpcError::internal(error),
    }
}

fn no_room(error: &Error, free: u64, needed: Option<u64>, limit: Option<u64>) -> RpcError {
    let helps =
        limit.map_or_else(|| "a smaller limit needs less".to_owned(), |limit| format!("a limit of {limit} fits"));
    let mut object =
        RpcError::new(Kind::DiskFull, format_args!("{error}: nothing was deleted, {helps}")).with("free_bytes", free);
    for (name, value) in [("needed_bytes", needed), ("limit", limit)] {
        if let Some(value) = value {
            object = object.with(name, value);
        }
    }
    object
}
