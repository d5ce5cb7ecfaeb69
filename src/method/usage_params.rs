//! The params of `job.usage_by_tag`.

use chrono::{DateTime, Utc};
use serde::de::Deserializer;
use serde_json::{Map, Value};

use super::errors;
use super::params::{Params, admit, read_integer, read_strings, unknown};
use crate::host::Host;
use crate::rpc::{Kind, RpcError};
use crate::store::StoreRef;
use crate::tag::{Guard, MAX_TAG_BYTES, Tag, TagError};
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
    usage(store, host, &query, now).map_err(|error| errors::object(&error.into())).inspect_err(RpcError::log)
}

/// What `params` ask. A param that is null counts as absent; `tags` must be there.
pub(super) fn query(params: Map<String, Value>, guard: &Guard) -> Result<Query, RpcError> {
    let (mut tags, mut by, mut top) = (None, Vec::new(), DEFAULT_TOP);
    for (name, value) in params {
        match (name.as_str(), &value) {
            ("tags", value) => tags = Some(read_strings(&name, value)?),
            ("by" | "top", Value::Null) => {}
            ("by", value) => by = prefixes(guard, &read_strings(&name, value)?)?,
            ("top", value) => top = read_top(value)?,
            _ => return Err(unknown(&name)),
        }
    }
    let tags = tags.ok_or_else(|| RpcError::param("tags", "is missing"))?;
    Ok(Query { tags: admit(guard, &tags)?, by, top })
}

/// The prefixes in `by`, each once, which the guard admits as it admits tags.
fn prefixes(guard: &Guard, by: &[String]) -> Result<Vec<Tag>, RpcError> {
    if by.len() > MAX_PREFIXES {
        return Err(RpcError::param("by", format_args!("must hold 0 to {MAX_PREFIXES} prefixes, not {}", by.len())));
    }
    let root = guard.root().as_str();
    let admit = |prefix: &String| {
        guard.admit(prefix).map_err(|error| match error {
            TagError::TooLong { bytes } => {
                RpcError::param("by", format_args!("holds a prefix of {bytes} bytes, more than {MAX_TAG_BYTES}"))
            }
            TagError::Outside { tag } => {
                let only = format_args!("only {root:?} and what begins with \"{root}_\" is allowed");
                RpcError::new(Kind::TagOutsideGuard, format_args!("prefix {tag:?} is refused: {only}")).with("tag", tag)
            }
        })
    };
    let mut prefixes = by.iter().map(admit).collect::<Result<Vec<_>, _>>()?;
    prefixes.sort_unstable();
    prefixes.dedup();
    Ok(prefixes)
}

fn read_top(value: &Value) -> Result<usize, RpcError> {
    let top = read_integer("top", value, 1, MAX_TOP)?;
    usize::try_from(top).map_err(|error| RpcError::param("top", error))
}
