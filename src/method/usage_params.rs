//! The params of `job.usage_by_tag`.

use chrono::{DateTime, Utc};
use serde::de::Deserializer;
use serde_json::{Map, Value};

use super::errors;
use super::params::{Params, admit_all, read_integer, read_strings, read_tags, unknown};
use crate::host::Host;
use crate::rpc::RpcError;
use crate::store::StoreRef;
use crate::tag::{Guard, Tag};
use crate::usage::{Query, Usage, usage};

/// `top` unless given.
const DEFAULT_TOP: usize = 50;
/// The highest `top`.
const MAX_TOP: i64 = 1000;
/// The most prefixes in `by`.
pub(super) const MAX_PREFIXES: usize = 8;

/// The answer of `job.usage_by_tag`.
pub(super) fn answer<'de>(
    params: impl Deserializer<'de>,
    store: StoreRef<'_>,
    host: &Host,
    now: DateTime<Utc>,
) -> Result<Usage, RpcError> {
    let query = query(Params::read(params)?.into(), &host.guard)?;
    usage(store, host, &query, now).map_err(|error| errors::object(&error.into()))
}

/// What `params` ask. A param that is null counts as absent; `tags` must be there.
pub(super) fn query(params: Map<String, Value>, guard: &Guard) -> Result<Query, RpcError> {
    let (mut tags, mut by, mut top) = (None, Vec::new(), DEFAULT_TOP);
    for (name, value) in params {
        match (name.as_str(), &value) {
            ("tags", value) => tags = Some(read_strings(&name, value)?),
            ("by" | "top", Value::Null) => {}
            ("by", value) => by = read_prefixes(guard, value)?,
            ("top", value) => top = read_top(value)?,
            _ => return Err(unknown(&name)),
        }
    }
    let tags = tags.ok_or_else(|| RpcError::param("tags", "is missing"))?;
    Ok(Query { tags: admit_all(guard, &tags)?, by, top })
}

/// Prefixes, each once, which the guard admits as it admits tags.
fn read_prefixes(guard: &Guard, value: &Value) -> Result<Vec<Tag>, RpcError> {
    let mut prefixes = read_tags(guard, "by", value, MAX_PREFIXES)?;
    prefixes.sort_unstable();
    prefixes.dedup();
    Ok(prefixes)
}

fn read_top(value: &Value) -> Result<usize, RpcError> {
    let top = read_integer("top", value, 1, MAX_TOP)?;
    usize::try_from(top).map_err(|error| RpcError::param("top", error))
}
