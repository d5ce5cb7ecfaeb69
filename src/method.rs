//! The methods of the extension, as JSON-RPC has them: params in, result or error object out.
//!
//! ```text
//! call ─ name ─▶ params → request ─▶ cleanup, usage, reclaim ─▶ Report, Usage, Reclaimed → JSON
//!                                              └─▶ errors → error object, logged here
//! ```
//!
//! A host mounts them all with one arm: [`METHODS`] says which there are, [`call`] answers each. Params are known to
//! [`params`] alone, which parses them once, into requests that can't be wrong.

mod errors;
mod params;
#[cfg(feature = "client")]
mod usage_fields;
mod usage_params;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::Deserializer;
use serde_json::value::{RawValue, to_raw_value};

use crate::cleanup::cleanup;
use crate::host::Host;
use crate::reclaim::{Reclaimed, reclaim};
use crate::report::Report;
use crate::rpc::RpcError;
use crate::store::StoreRef;

pub use params::MAX_LIMIT;
pub(crate) use params::Params;
#[cfg(feature = "client")]
pub use params::{Options, ReclaimParams};
#[cfg(feature = "client")]
pub(crate) use usage_fields::UsageByFields;

/// The name of the method that deletes.
pub const CLEANUP_BY_TAG: &str = "job.cleanup_by_tag";

/// The name of the method that says what jobs weigh.
pub const USAGE_BY_TAG: &str = "job.usage_by_tag";

/// The name of the method that gives space back.
pub const RECLAIM: &str = "store.reclaim";

/// The name that codescalers' side has for the method that deletes.
pub(crate) const JOBS_CLEANUP: &str = "jobs.cleanup";

/// The name that codescalers' side has for the method that gives space back.
pub(crate) const JOBS_RECLAIM: &str = "jobs.reclaim";

/// The names of all methods of the extension.
pub const METHODS: &[&str] = &[CLEANUP_BY_TAG, USAGE_BY_TAG, RECLAIM];

/// Answers a call of `method`, one of [`METHODS`], with `params`: a `&serde_json::Value`, a `&RawValue`, or any other
/// deserializer of JSON. From text, repeated names are seen and refused; a `Value` has already dropped them.
///
/// Blocks: call it where blocking is allowed.
///
/// # Errors
///
/// The error object to answer with. It means that nothing was deleted. The log says more about an internal error, under
/// the incident that the object names.
///
/// ```
/// use hero_proc_cleanup::{Guard, Host, METHODS, call};
///
/// let host = Host::new(Guard::codescaler());
/// let params = serde_json::json!({ "tags": ["hero"], "dry_run": true });
/// let store = std::path::Path::new("hero_proc.db");
/// let error = call(METHODS[0], &params, store, &host, chrono::Utc::now()).unwrap_err();
/// assert_eq!((error.code, error.data["kind"].as_str()), (-32002, Some("tag_outside_guard")));
/// ```
pub fn call<'s, 'de>(
    method: &str,
    params: impl Deserializer<'de>,
    store: impl Into<StoreRef<'s>>,
    host: &Host,
    now: DateTime<Utc>,
) -> Result<Box<RawValue>, RpcError> {
    let result = match method {
        CLEANUP_BY_TAG => cleanup_by_tag(params, store.into(), host, now).and_then(|report| json(&report)),
        USAGE_BY_TAG => usage_params::answer(params, store.into(), host, now).and_then(|usage| json(&usage)),
        RECLAIM => store_reclaim(params, store.into(), host).and_then(|reclaimed| json(&reclaimed)),
        _ => Err(RpcError::no_method(method)),
    };
    result.inspect_err(RpcError::log)
}

fn cleanup_by_tag<'de>(
    params: impl Deserializer<'de>,
    store: StoreRef<'_>,
    host: &Host,
    now: DateTime<Utc>,
) -> Result<Report, RpcError> {
    let request = Params::read(params)?.into_request(&host.guard, now)?;
    cleanup(store, host, &request, now).map_err(|error| errors::object(&error))
}

fn store_reclaim<'de>(params: impl Deserializer<'de>, store: StoreRef<'_>, host: &Host) -> Result<Reclaimed, RpcError> {
    let request = Params::read(params)?.into_reclaim_request(host.longest_lock)?;
    reclaim(store, host, &request).map_err(|error| errors::of_reclaim(&error))
}

fn json(result: &impl Serialize) -> Result<Box<RawValue>, RpcError> {
    to_raw_value(result).map_err(|error| RpcError::internal(&error))
}
