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
mod names;
mod params;

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
use crate::usage::{Usage, usage};

pub(crate) use names::Method;
pub use names::Side;
pub use params::MAX_LIMIT;
#[cfg(feature = "client")]
pub(crate) use params::MAX_PREFIXES;
#[cfg(feature = "client")]
pub use params::{Options, ReclaimParams};
pub(crate) use params::{Param, Params};

/// The name of the method that deletes.
pub const CLEANUP_BY_TAG: &str = Method::Cleanup.name(Side::HeroProc);

/// The name of the method that says what jobs weigh.
pub const USAGE_BY_TAG: &str = Method::Usage.name(Side::HeroProc);

/// The name of the method that gives space back.
pub const RECLAIM: &str = Method::Reclaim.name(Side::HeroProc);

/// The names of all methods of the extension.
pub const METHODS: &[&str] = &Method::names(Side::HeroProc);

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
    let store = store.into();
    let result = match Method::named(method, Side::HeroProc) {
        Some(Method::Cleanup) => cleanup_by_tag(params, store, host, now).and_then(|report| json(&report)),
        Some(Method::Usage) => usage_by_tag(params, store, host, now).and_then(|usage| json(&usage)),
        Some(Method::Reclaim) => store_reclaim(params, store, host).and_then(|reclaimed| json(&reclaimed)),
        None => Err(RpcError::no_method(method)),
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

fn usage_by_tag<'de>(
    params: impl Deserializer<'de>,
    store: StoreRef<'_>,
    host: &Host,
    now: DateTime<Utc>,
) -> Result<Usage, RpcError> {
    let query = Params::read(params)?.into_usage_query(&host.guard)?;
    usage(store, host, &query, now).map_err(|error| errors::object(&error.into()))
}

fn store_reclaim<'de>(params: impl Deserializer<'de>, store: StoreRef<'_>, host: &Host) -> Result<Reclaimed, RpcError> {
    let request = Params::read(params)?.into_reclaim_request(host.longest_lock)?;
    reclaim(store, host, &request).map_err(|error| errors::of_reclaim(&error))
}

fn json(result: &impl Serialize) -> Result<Box<RawValue>, RpcError> {
    to_raw_value(result).map_err(|error| RpcError::internal(&error))
}
