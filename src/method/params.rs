//! The params of the methods: their names, their ranges, and the requests that they stand for.
//!
//! Both sides read params by this module: a gateway takes its own params out, adds `tags`, and hands the rest on.

mod names;
mod reclaim;
mod usage;

use std::collections::HashSet;
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};

use chrono::{DateTime, Utc};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::phase;
use crate::plan::{FIRST_MS, PlanToken};
use crate::request::{Age, Force, KeepLast, Leaked, Mode, Phases, Request};
use crate::rpc::{Kind, RpcError, excerpt};
use crate::tag::{Guard, MAX_TAG_BYTES, MAX_TAGS, Tag, TagError, Tags, TagsError};

pub(crate) use names::Param;
#[cfg(feature = "client")]
pub use reclaim::ReclaimParams;

/// The highest `limit` and `max_ids`.
pub const MAX_LIMIT: usize = 1_000_000;
/// The highest `keep_last`.
const MAX_KEEP_LAST: i64 = 10_000;
/// The most prefixes in `keep_by` and in `by`.
pub(crate) const MAX_PREFIXES: usize = 8;
/// The most entries in `phases`.
const MAX_PHASES: usize = 16;

/// The optional params of a cleanup that both sides share, for clients. A param that is none is left out, and has its
/// default.
#[cfg(feature = "client")]
#[derive(Debug, Clone, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Options {
    /// Only jobs created, and, where they say when they ended, also ended, at least this many milliseconds ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than_ms: Option<i64>,
    /// The same, by a moment in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_ms: Option<i64>,
    /// Only jobs in one of these phases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phases: Option<Vec<String>>,
    /// The number of jobs of each group that stay, those that succeeded and those that did not each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// The tags by which jobs are grouped: prefixes on hero_proc's side, `kind` and `target` on codescalers'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_by: Option<Vec<String>>,
    /// Also delete the actions that no job refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaked: Option<bool>,
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

    /// The request for a cleanup at `now`.
    pub(super) fn into_request(self, guard: &Guard, now: DateTime<Utc>) -> Result<Request, RpcError> {
        self.parse(guard, now, |name, plan| {
            let plan = plan.parse().map_err(|_| RpcError::param(name, "is no plan that a dry run could have given"));
            plan.map(Some)
        })
    }

    /// Whether hero_proc's side would take these params of a cleanup. A plan is opaque to all but the side that gave it.
    #[cfg(feature = "client")]
    pub(crate) fn check(&self, guard: &Guard, now: DateTime<Utc>) -> Result<(), RpcError> {
        Self(self.0.clone()).parse(guard, now, |_, _| Ok(None)).map(drop)
    }

    fn parse(
        self,
        guard: &Guard,
        now: DateTime<Utc>,
        plan: impl Fn(&str, &str) -> Result<Option<PlanToken>, RpcError>,
    ) -> Result<Request, RpcError> {
        let mut tags = None;
        let (mut older_than, mut before) = (None, None);
        let (mut keep_last, mut keep_by) = (None, None);
        let mut phases = None;
        let mut request = Request::new(guard.everything());
        for (name, value) in self.0 {
            match (Param::named(&name), &value) {
                (Some(Param::Tags), value) => tags = Some(read_strings(&name, value)?),
                (
                    Some(Param::By | Param::Top | Param::WithinMs | Param::MinFreePercent | Param::MinFreeBytes) | None,
                    _,
                ) => return Err(unknown(&name)),
                // Clients that were generated write an absent optional as null.
                (Some(_), Value::Null) => {}
                (Some(Param::ExceptTags), value) => request.except_tags = read_tags(guard, &name, value, MAX_TAGS)?,
                (Some(Param::OlderThanMs), value) => {
                    older_than = Some(read_integer(&name, value, 0, i64::MAX)?.unsigned_abs());
                }
                (Some(Param::BeforeMs), value) => before = Some(read_before(&name, value, now)?),
                (Some(Param::Phases), value) => phases = Some(read_phases(&name, value)?),
                (Some(Param::KeepLast), value) => keep_last = Some(read_keep_last(&name, value)?),
                (Some(Param::KeepBy), value) => keep_by = Some(read_tags(guard, &name, value, MAX_PREFIXES)?),
                (Some(Param::Leaked), value) => {
                    request.leaked = if read_bool(&name, value)? { Leaked::Go } else { Leaked::Stay };
                }
                (Some(Param::DryRun), value) => {
                    request.mode = if read_bool(&name, value)? { Mode::DryRun } else { Mode::Delete };
                }
                (Some(Param::Force), value) => {
                    request.force = if read_bool(&name, value)? { Force::Stop } else { Force::Off };
                }
                (Some(Param::Limit), value) => request.limit = Some(read_limit(&name, value)?),
                (Some(Param::MaxIds), value) => request.max_ids = read_count(&name, value, 0)?,
                (Some(Param::ExpectPlan), value) => request.expect_plan = plan(&name, read_string(&name, value)?)?,
            }
        }
        request.tags = admit_all(guard, tags)?;
        request.age = match (older_than, before) {
            (None, None) => Age::Any,
            (Some(age), None) => Age::OlderThan(age),
            (None, Some(moment)) => Age::Before(moment),
            (Some(_), Some(_)) => {
                return Err(RpcError::param(
                    Param::BeforeMs,
                    format_args!("can't be given with \"{}\"", Param::OlderThanMs),
                ));
            }
        };
        request.keep_last = match (keep_last, keep_by) {
            (Some(count), by) => Some(KeepLast { by, ..KeepLast::new(count) }),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(RpcError::param(
                    Param::KeepBy,
                    format_args!("can only be given with \"{}\"", Param::KeepLast),
                ));
            }
        };
        if let Some(phases) = phases {
            if request.force == Force::Off
                && let Some(phase) = phases.iter().find(|phase| phase::outcome(phase).is_none())
            {
                let problem =
                    format!("holds {:?}, which is no terminal phase, without \"{}\"", excerpt(phase), Param::Force);
                return Err(RpcError::param(Param::Phases, problem));
            }
            request.phases = Phases::new(phases);
        }
        Ok(request)
    }

    /// Takes the param `name` out; a null counts as absent.
    #[cfg(feature = "client")]
    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(param, _)| param == name)?;
        Some(self.0.remove(at).1).filter(|value| !value.is_null())
    }

    /// Takes the param `name` out, a string; an absent one is empty.
    #[cfg(feature = "client")]
    pub(crate) fn take_string(&mut self, name: &str) -> Result<String, RpcError> {
        match self.take(name) {
            Some(value) => read_string(name, &value).map(ToOwned::to_owned),
            None => Ok(String::new()),
        }
    }

    /// Takes the param `name` out, an array of strings, if it is there.
    #[cfg(feature = "client")]
    pub(crate) fn take_strings(&mut self, name: impl fmt::Display) -> Result<Option<Vec<String>>, RpcError> {
        let name = name.to_string();
        self.take(&name).map(|value| read_strings(&name, &value)).transpose()
    }

    /// Whether `param` is there, and is no null.
    #[cfg(feature = "client")]
    pub(crate) fn has(&self, param: Param) -> bool {
        self.0.iter().any(|(name, value)| Param::named(name) == Some(param) && !value.is_null())
    }

    /// Adds a param that a gateway's own stand for. Its callers may not give this param themselves.
    #[cfg(feature = "client")]
    pub(crate) fn add(&mut self, param: Param, value: Vec<String>) -> Result<(), RpcError> {
        let name = param.to_string();
        if self.0.iter().any(|(own, _)| *own == name) {
            return Err(unknown(&name));
        }
        self.0.push((name, value.into()));
        Ok(())
    }

    /// Whether `params` ask for longer lists than usual. Params that can't be read don't.
    #[cfg(feature = "server")]
    pub(crate) fn ask_for_long_lists(params: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Asked {
            max_ids: usize,
        }
        serde_json::from_str(params).is_ok_and(|Asked { max_ids }| max_ids > crate::request::DEFAULT_MAX_IDS)
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

/// The tags that a job must carry, which must be given.
fn admit_all(guard: &Guard, tags: Option<Vec<String>>) -> Result<Tags, RpcError> {
    let tags = tags.ok_or_else(|| RpcError::param(Param::Tags, "is missing"))?;
    guard.tags(&tags).map_err(|error| match error {
        TagsError::None | TagsError::TooMany => {
            RpcError::param(Param::Tags, format_args!("must hold 1 to {MAX_TAGS} tags, not {}", tags.len()))
        }
        TagsError::Tag(error) => refused(guard, Param::Tags, error),
    })
}

fn refused(guard: &Guard, name: impl fmt::Display, error: TagError) -> RpcError {
    match error {
        TagError::TooLong { bytes } => {
            RpcError::param(name, format_args!("holds a tag of {bytes} bytes, more than {MAX_TAG_BYTES}"))
        }
        TagError::Outside { tag } => {
            let root = guard.root().as_str();
            let message =
                format!("tag {tag:?} is refused: only {root:?} and tags that begin with \"{root}_\" are allowed");
            RpcError::new(Kind::TagOutsideGuard, message).with("tag", tag)
        }
    }
}

/// Up to `most` tags inside the guard.
fn read_tags(guard: &Guard, name: &str, value: &Value, most: usize) -> Result<Vec<Tag>, RpcError> {
    let tags = read_strings(name, value)?;
    if tags.len() > most {
        return Err(RpcError::param(name, format_args!("must hold at most {most} strings, not {}", tags.len())));
    }
    tags.iter().map(|tag| guard.admit(tag).map_err(|error| refused(guard, name, error))).collect()
}

fn read_before(name: &str, value: &Value, now: DateTime<Utc>) -> Result<i64, RpcError> {
    let now = now.timestamp_millis();
    let moment = value.as_i64().filter(|moment| (FIRST_MS..=now).contains(moment));
    moment.ok_or_else(|| RpcError::param(name, format_args!("must be an integer from {FIRST_MS} to now, {now}")))
}

fn read_phases(name: &str, value: &Value) -> Result<Vec<String>, RpcError> {
    let phases = read_strings(name, value)?;
    if phases.is_empty() || phases.len() > MAX_PHASES {
        let problem = format!("must hold 1 to {MAX_PHASES} phases, not {}", phases.len());
        return Err(RpcError::param(name, problem));
    }
    Ok(phases)
}

fn read_keep_last(name: &str, value: &Value) -> Result<NonZeroU32, RpcError> {
    let count = read_integer(name, value, 1, MAX_KEEP_LAST)?;
    u32::try_from(count).and_then(NonZeroU32::try_from).map_err(|error| RpcError::param(name, error))
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
