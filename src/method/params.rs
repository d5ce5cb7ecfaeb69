//! The params of the methods: their names, their ranges, and the requests that they stand for.
//!
//! This is the only module that knows the names. A gateway takes its own params out, adds `tags`, and hands the rest on.

mod reclaim;

use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroUsize;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::cleanup::{Force, Mode, Request};
use crate::rpc::{Kind, RpcError};
use crate::tag::{Guard, MAX_TAG_BYTES, MAX_TAGS, TagError, Tags, TagsError};

#[cfg(feature = "client")]
pub use reclaim::ReclaimParams;

/// The highest `limit` and `max_ids`.
pub const MAX_LIMIT: usize = 1_000_000;
/// `max_ids` unless given.
pub const DEFAULT_MAX_IDS: usize = 10_000;

/// The optional params of a cleanup, for clients. A param that is none is left out, and has its default.
#[cfg(feature = "client")]
#[derive(Debug, Clone, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Options {
    /// Only jobs created at least this many milliseconds ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than_ms: Option<i64>,
    /// Report what would go; write nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Also delete jobs that have not finished, once they are stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// The most jobs in one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The most entries in each list of the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ids: Option<usize>,
    /// Delete exactly what the dry run with this plan showed, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_plan: Option<String>,
}

/// Params by name, in the order in which they came, each once.
pub(crate) struct Params(Vec<(String, Value)>);

impl Params {
    /// Params that are an object; null counts as an empty one, since JSON-RPC lets params be left out.
    pub(crate) fn read<'de>(params: impl Deserializer<'de>) -> Result<Self, RpcError> {
        let mut unread = None;
        let params = params.deserialize_any(Entries { unread: &mut unread }).map_err(|_| match unread {
            Some(name) => RpcError::param(&name, "can't be read"),
            None => RpcError::new(Kind::InvalidParams, "params must be an object, by name"),
        })?;
        let mut seen = HashSet::new();
        if let Some((twice, _)) = params.iter().find(|(name, _)| !seen.insert(name)) {
            return Err(RpcError::param(twice, "is given twice"));
        }
        Ok(Self(params))
    }

    /// The request for a cleanup, and its `max_ids`.
    pub(super) fn into_request(self, guard: &Guard) -> Result<(Request, usize), RpcError> {
        self.parse(guard, |name, plan| {
            let plan = plan.parse().map_err(|_| RpcError::param(name, "is no plan that a dry run could have given"));
            plan.map(Some)
        })
    }

    /// Whether hero_proc's side would take these params of a cleanup. A plan is opaque to all but the side that gave it.
    #[cfg(feature = "client")]
    pub(crate) fn check(&self, guard: &Guard) -> Result<(), RpcError> {
        Self(self.0.clone()).parse(guard, |_, _| Ok(None)).map(drop)
    }

    fn parse(
        self,
        guard: &Guard,
        plan: impl Fn(&str, &str) -> Result<Option<crate::PlanToken>, RpcError>,
    ) -> Result<(Request, usize), RpcError> {
        let mut tags = None;
        let mut max_ids = DEFAULT_MAX_IDS;
        let mut request = Request::new(guard.everything());
        for (name, value) in self.0 {
            match name.as_str() {
                "tags" => tags = Some(read_strings(&name, &value)?),
                "older_than_ms" => {
                    request.older_than_ms = Some(read_integer(&name, &value, 0, i64::MAX)?.unsigned_abs());
                }
                "dry_run" if read_bool(&name, &value)? => request.mode = Mode::DryRun,
                "force" if read_bool(&name, &value)? => request.force = Force::Stop,
                "dry_run" | "force" => {}
                "limit" => request.limit = read_limit(&name, &value)?,
                "max_ids" => max_ids = read_count(&name, &value, 0)?,
                "expect_plan" => request.expect_plan = plan(&name, read_string(&name, &value)?)?,
                _ => return Err(unknown(&name)),
            }
        }
        let tags = tags.ok_or_else(|| RpcError::param("tags", "is missing"))?;
        request.tags = admit(guard, &tags)?;
        Ok((request, max_ids))
    }

    /// Takes the param `name` out, a string; an absent one is empty.
    #[cfg(feature = "client")]
    pub(crate) fn take_string(&mut self, name: &str) -> Result<String, RpcError> {
        let Some(at) = self.0.iter().position(|(param, _)| param == name) else { return Ok(String::new()) };
        let (name, value) = self.0.remove(at);
        read_string(&name, &value).map(ToOwned::to_owned)
    }

    /// Adds the `tags` that a gateway's own params stand for. Its callers may not give any.
    #[cfg(feature = "client")]
    pub(crate) fn add_tags(&mut self, tags: Vec<String>) -> Result<(), RpcError> {
        const TAGS: &str = "tags";
        if self.0.iter().any(|(name, _)| name == TAGS) {
            return Err(unknown(TAGS));
        }
        self.0.push((TAGS.to_owned(), tags.into()));
        Ok(())
    }

    /// Whether `params` ask for longer lists than usual. Params that can't be read don't.
    #[cfg(feature = "server")]
    pub(crate) fn ask_for_long_lists(params: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Asked {
            max_ids: usize,
        }
        serde_json::from_str(params).is_ok_and(|Asked { max_ids }| max_ids > DEFAULT_MAX_IDS)
    }
}

impl From<Params> for Map<String, Value> {
    fn from(params: Params) -> Self {
        params.0.into_iter().collect()
    }
}

impl fmt::Display for Params {
    /// As the JSON object that they came as.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object: Value = self.0.iter().cloned().collect();
        object.fmt(f)
    }
}

fn unknown(name: &str) -> RpcError {
    RpcError::param(name, "is no param of this method")
}

fn admit(guard: &Guard, tags: &[String]) -> Result<Tags, RpcError> {
    guard.tags(tags).map_err(|error| match error {
        TagsError::None | TagsError::TooMany => {
            RpcError::param("tags", format_args!("must hold 1 to {MAX_TAGS} tags, not {}", tags.len()))
        }
        TagsError::Tag(TagError::TooLong { bytes }) => {
            RpcError::param("tags", format_args!("holds a tag of {bytes} bytes, more than {MAX_TAG_BYTES}"))
        }
        TagsError::Tag(TagError::Outside { tag }) => {
            let root = guard.root().as_str();
            let message =
                format!("tag {tag:?} is refused: only {root:?} and tags that begin with \"{root}_\" are allowed");
            RpcError::new(Kind::TagOutsideGuard, message).with("tag", tag)
        }
    })
}

fn read_strings(name: &str, value: &Value) -> Result<Vec<String>, RpcError> {
    let strings = value
        .as_array()
        .and_then(|array| array.iter().map(|string| string.as_str().map(ToOwned::to_owned)).collect::<Option<_>>());
    strings.ok_or_else(|| RpcError::param(name, "must be an array of strings"))
}

fn read_string<'v>(name: &str, value: &'v Value) -> Result<&'v str, RpcError> {
    value.as_str().ok_or_else(|| RpcError::param(name, "must be a string"))
}

fn read_integer(name: &str, value: &Value, lowest: i64, highest: i64) -> Result<i64, RpcError> {
    let in_range = value.as_i64().filter(|number| (lowest..=highest).contains(number));
    in_range.ok_or_else(|| RpcError::param(name, format_args!("must be an integer from {lowest} to {highest}")))
}

fn read_count(name: &str, value: &Value, lowest: i64) -> Result<usize, RpcError> {
    let count = read_integer(name, value, lowest, MAX_LIMIT as i64)?;
    usize::try_from(count).map_err(|error| RpcError::param(name, error))
}

fn read_limit(name: &str, value: &Value) -> Result<NonZeroUsize, RpcError> {
    NonZeroUsize::try_from(read_count(name, value, 1)?).map_err(|error| RpcError::param(name, error))
}

fn read_bool(name: &str, value: &Value) -> Result<bool, RpcError> {
    value.as_bool().ok_or_else(|| RpcError::param(name, "must be true or false"))
}

struct Entries<'u> {
    /// The name whose value can't be read, such as a number that is out of every range.
    unread: &'u mut Option<String>,
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key()? {
            *self.unread = Some(name);
            let value = map.next_value()?;
            entries.extend(self.unread.take().map(|name| (name, value)));
        }
        Ok(entries)
    }
}
