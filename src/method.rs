//! The method `job.cleanup_by_tag`: params in, report or error object out.
//!
//! This is the only module that knows them as JSON. Params are parsed once, into a [`Request`] that can't be wrong.

use std::collections::HashSet;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::cleanup::{Error, Force, Host, Mode, Request, cleanup};
use crate::report::Report;
use crate::rpc::{Kind, RpcError, excerpt};
use crate::store::{StoreError, StoreRef};
use crate::tag::{Guard, MAX_TAG_BYTES, Tag, TagError};

/// The method's name.
pub const CLEANUP_BY_TAG: &str = "job.cleanup_by_tag";

/// The most tags that a request may name.
const MAX_TAGS: usize = 16;
/// The highest `limit` and `max_ids`.
pub const MAX_LIMIT: usize = 1_000_000;
/// `max_ids` unless given.
pub const DEFAULT_MAX_IDS: usize = 10_000;
/// The most stopped jobs that an error lists.
const MOST_STOPPED: usize = 1000;

/// Carries out `job.cleanup_by_tag` with `params`: a `&serde_json::Value`, a `&RawValue`, or any other deserializer of
/// JSON. From text, repeated names are seen and refused; a `Value` has already dropped them.
///
/// Blocks: call it where blocking is allowed.
///
/// # Errors
///
/// The error object to answer with. It means that nothing was deleted.
///
/// ```
/// use hero_proc_cleanup::{Guard, Host, cleanup_by_tag};
///
/// let host = Host::new(Guard::codescaler());
/// let params = serde_json::json!({ "tags": ["hero"], "dry_run": true });
/// let error = cleanup_by_tag(std::path::Path::new("hero_proc.db"), &host, &params, chrono::Utc::now()).unwrap_err();
/// assert_eq!((error.code, error.data["kind"].as_str()), (-32002, Some("tag_outside_guard")));
/// ```
pub fn cleanup_by_tag<'s, 'de>(
    store: impl Into<StoreRef<'s>>,
    host: &Host,
    params: impl Deserializer<'de>,
    now: DateTime<Utc>,
) -> Result<Report, RpcError> {
    let (request, max_ids) = Params::read(params)?.into_request(&host.guard)?;
    let mut report = cleanup(store, host, &request, now).map_err(|error| error_object(&error))?;
    report.truncate(max_ids);
    Ok(report)
}

/// Params by name, in the order in which they came, repetitions included.
pub(crate) struct Params(Vec<(String, Value)>);

impl Params {
    /// Params that are an object; null counts as an empty one, since JSON-RPC lets params be left out.
    pub(crate) fn read<'de>(params: impl Deserializer<'de>) -> Result<Self, RpcError> {
        let mut unread = None;
        let params = params.deserialize_any(Entries { unread: &mut unread }).map_err(|_| match unread {
            Some(name) => invalid(&name, "can't be read"),
            None => RpcError::new(Kind::InvalidParams, "params must be an object, by name"),
        })?;
        let mut seen = HashSet::new();
        if let Some((twice, _)) = params.iter().find(|(name, _)| !seen.insert(name)) {
            return Err(invalid(twice, "is given twice"));
        }
        Ok(Self(params))
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = (String, Value)> {
        self.0.into_iter()
    }

    pub(crate) fn into_request(self, guard: &Guard) -> Result<(Request, usize), RpcError> {
        let mut tags = None;
        let mut max_ids = DEFAULT_MAX_IDS;
        let mut request = Request::new(Vec::new());
        for (name, value) in self.into_iter() {
            match name.as_str() {
                "tags" => tags = Some(read_tags(&value)?),
                "older_than_ms" => request.older_than_ms = Some(read_integer(&name, &value, 0, i64::MAX)?),
                "dry_run" if read_bool(&name, &value)? => request.mode = Mode::DryRun,
                "force" if read_bool(&name, &value)? => request.force = Force::Stop,
                "dry_run" | "force" => {}
                "limit" => request.limit = read_count(&name, &value, 1)?,
                "max_ids" => max_ids = read_count(&name, &value, 0)?,
                "expect_plan" => {
                    let plan = value.as_str().ok_or_else(|| invalid(&name, "must be a string"))?;
                    let plan = plan.parse().map_err(|_| invalid(&name, "is no plan that a dry run could have given"));
                    request.expect_plan = Some(plan?);
                }
                _ => return Err(invalid(&name, "is no param of this method")),
            }
        }
        let tags = tags.ok_or_else(|| invalid("tags", "is missing"))?;
        request.tags = tags.iter().map(|tag| admit(guard, tag)).collect::<Result<_, _>>()?;
        Ok((request, max_ids))
    }
}

impl From<Map<String, Value>> for Params {
    fn from(params: Map<String, Value>) -> Self {
        Self(params.into_iter().collect())
    }
}

impl fmt::Display for Params {
    /// As the JSON object that they came as.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object: Value = self.0.iter().cloned().collect();
        object.fmt(f)
    }
}

fn read_tags(value: &Value) -> Result<Vec<String>, RpcError> {
    let tags = value.as_array().ok_or_else(|| invalid("tags", "must be an array of strings"))?;
    if tags.is_empty() || tags.len() > MAX_TAGS {
        return Err(invalid("tags", format_args!("must hold 1 to {MAX_TAGS} tags, not {}", tags.len())));
    }
    let strings = tags.iter().map(|tag| tag.as_str().map(ToOwned::to_owned)).collect::<Option<_>>();
    strings.ok_or_else(|| invalid("tags", "must be an array of strings"))
}

fn admit(guard: &Guard, tag: &str) -> Result<Tag, RpcError> {
    guard.admit(tag).map_err(|error| match error {
        TagError::TooLong { bytes } => {
            invalid("tags", format_args!("holds a tag of {bytes} bytes, more than {MAX_TAG_BYTES}"))
        }
        TagError::Outside { tag } => {
            let root = guard.root().as_str();
            let message =
                format!("tag {tag:?} is refused: only {root:?} and tags that begin with \"{root}_\" are allowed");
            RpcError::new(Kind::TagOutsideGuard, message).with("tag", tag)
        }
    })
}

fn read_integer(name: &str, value: &Value, lowest: i64, highest: i64) -> Result<i64, RpcError> {
    let in_range = value.as_i64().filter(|number| (lowest..=highest).contains(number));
    in_range.ok_or_else(|| invalid(name, format_args!("must be an integer from {lowest} to {highest}")))
}

fn read_count(name: &str, value: &Value, lowest: i64) -> Result<usize, RpcError> {
    let count = read_integer(name, value, lowest, MAX_LIMIT as i64)?;
    usize::try_from(count).map_err(|error| invalid(name, error))
}

fn read_bool(name: &str, value: &Value) -> Result<bool, RpcError> {
    value.as_bool().ok_or_else(|| invalid(name, "must be true or false"))
}

/// The error for the param `name`.
pub(crate) fn invalid(name: &str, problem: impl fmt::Display) -> RpcError {
    let name = excerpt(name);
    RpcError::new(Kind::InvalidParams, format_args!("param {name:?} {problem}")).with("param", name)
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

/// What the caller may see of `error`; the rest goes to the log.
fn error_object(error: &Error) -> RpcError {
    match error {
        Error::PlanChanged { jobs_planned, actions_planned, plan } => RpcError::new(Kind::PlanChanged, error)
            .with("jobs_planned", *jobs_planned)
            .with("actions_planned", *actions_planned)
            .with("plan", plan.to_string()),
        Error::ForceUnavailable => RpcError::new(Kind::ForceUnavailable, error),
        Error::Store(StoreError::Busy) => {
            RpcError::new(Kind::StoreBusy, format_args!("{error}: nothing was deleted")).with("retryable", true)
        }
        Error::Store(StoreError::Unfit { problems }) => {
            RpcError::new(Kind::StoreUnfit, error).with("problems", problems.clone())
        }
        Error::Store(StoreError::Sqlite(_)) | Error::Diverged { .. } => RpcError::internal(error),
        Error::Cancelled => {
            let mut object = RpcError::internal(error);
            object.message = error.to_string();
            object
        }
        Error::AfterStop { stopped, source } => {
            let mut object = error_object(source)
                .with("jobs_stopped", &stopped[..stopped.len().min(MOST_STOPPED)])
                .with("jobs_stopped_count", stopped.len());
            object.message =
                format!("{}; {} jobs had been stopped, their rows are all there", object.message, stopped.len());
            object
        }
    }
}
