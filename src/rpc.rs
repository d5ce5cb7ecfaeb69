//! The errors that callers see: one kind for each, its JSON-RPC code, and what helps.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The kinds of errors that this crate's methods answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The body is no JSON.
    ParseError,
    /// The JSON is no request.
    InvalidRequest,
    /// No such method.
    MethodNotFound,
    /// An unknown, missing, mistyped or out-of-range param (`data.param`), or an ambiguous actor.
    InvalidParams,
    /// Refused by the guard (`data.tag`).
    TagOutsideGuard,
    /// Refused by the admin gate.
    NotAdmin,
    /// The set differs from the expected plan (`data.jobs_planned`, `data.actions_planned`, `data.plan`).
    PlanChanged,
    /// The write lock, or room for the call in a server that is full or stopping, could not be had in time; nothing was
    /// deleted (`data.retryable`).
    StoreBusy,
    /// No store that this crate understands (`data.problems`).
    StoreUnfit,
    /// The gateway could not reach hero_proc; nothing was sent.
    UpstreamUnreachable,
    /// Sent, but no answer in time: it may have been applied.
    OutcomeUnknown,
    /// `force`, but the host gave no way to stop jobs.
    ForceUnavailable,
    /// There was no room; nothing was deleted (`data.free_bytes`, and, where they are known, `data.needed_bytes`, and as
    /// `data.limit` the highest limit that surely fits).
    DiskFull,
    /// Ended before the commit; nothing was deleted.
    Cancelled,
    /// Anything else; what it was stands in the log, under `data.incident`.
    Internal,
}

impl Kind {
    /// The JSON-RPC error code of this kind.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::ParseError => -32700,
            Self::InvalidRequest => -32600,
            Self::MethodNotFound => -32601,
            Self::InvalidParams => -32602,
            Self::TagOutsideGuard | Self::NotAdmin => -32002,
            Self::PlanChanged => -32020,
            Self::StoreBusy => -32021,
            Self::StoreUnfit => -32022,
            Self::UpstreamUnreachable => -32023,
            Self::OutcomeUnknown => -32024,
            Self::ForceUnavailable => -32025,
            Self::DiskFull => -32026,
            Self::Cancelled => -32027,
            Self::Internal => -32603,
        }
    }

    /// The stable word of this kind, as in `data.kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ParseError => "parse_error",
            Self::InvalidRequest => "invalid_request",
            Self::MethodNotFound => "method_not_found",
            Self::InvalidParams => "invalid_params",
            Self::TagOutsideGuard => "tag_outside_guard",
            Self::NotAdmin => "not_admin",
            Self::PlanChanged => "plan_changed",
            Self::StoreBusy => "store_busy",
            Self::StoreUnfit => "store_unfit",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::ForceUnavailable => "force_unavailable",
            Self::DiskFull => "disk_full",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// All kinds.
    pub const ALL: &'static [Self] = &[
        Self::ParseError,
        Self::InvalidRequest,
        Self::MethodNotFound,
        Self::InvalidParams,
        Self::TagOutsideGuard,
        Self::NotAdmin,
        Self::PlanChanged,
        Self::StoreBusy,
        Self::StoreUnfit,
        Self::UpstreamUnreachable,
        Self::OutcomeUnknown,
        Self::ForceUnavailable,
        Self::DiskFull,
        Self::Cancelled,
        Self::Internal,
    ];
}

/// A JSON-RPC error object. Its text and data hold no SQL and no path: what they leave out is for the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RpcError {
    /// The JSON-RPC error code: [`Kind::code`] for the errors of this crate.
    pub code: i32,
    /// The problem in words, for people.
    pub message: String,
    /// An object with `kind`, the stable word, and what helps. Whatever it is in an error of another server's.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
    /// The causes of an internal error, for the log.
    #[serde(skip)]
    causes: Option<String>,
}

impl RpcError {
    /// An error of `kind`, with its code and `data.kind`.
    #[must_use]
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self { code: kind.code(), message: message.to_string(), data: json!({ "kind": kind.as_str() }), causes: None }
    }

    /// The same error with `data.name` set to `value`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Value::Object(data) = &mut self.data {
            data.insert(name.to_owned(), value.into());
        }
        self
    }

    /// An error of [`Kind::InvalidParams`] about the param `name`.
    pub(crate) fn param(name: impl fmt::Display, problem: impl fmt::Display) -> Self {
        let name = name.to_string();
        let name = excerpt(&name);
        Self::new(Kind::InvalidParams, format_args!("param {name:?} {problem}")).with("param", name)
    }

    /// An error of [`Kind::MethodNotFound`].
    pub(crate) fn no_method(method: &str) -> Self {
        Self::new(Kind::MethodNotFound, format_args!("there is no method {:?}", excerpt(method)))
    }

    /// An error of [`Kind::StoreBusy`]: a later call may succeed.
    pub(crate) fn busy(message: impl fmt::Display) -> Self {
        Self::new(Kind::StoreBusy, message).with("retryable", true)
    }

    /// An error of [`Kind::Internal`] that says nothing about `cause`, which is for the log, under the same incident.
    #[must_use]
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        let causes: Vec<_> =
            std::iter::successors(Some(cause), |error| error.source()).map(ToString::to_string).collect();
        let mut error =
            Self::new(Kind::Internal, "internal error: its cause is in the server's log under this incident")
                .with("incident", incident());
        error.causes = Some(causes.join(": "));
        error
    }

    /// An error of [`Kind::OutcomeUnknown`], for an answer that can't be read as the result of its call.
    #[must_use]
    pub fn unreadable() -> Self {
        Self::new(Kind::OutcomeUnknown, "the answer can't be read as the result of this call")
    }

    /// Writes the causes of an internal error to the log. Whoever answers with an error calls this once.
    pub(crate) fn log(&self) {
        if let Some(causes) = &self.causes {
            tracing::error!(incident = self.data["incident"].as_str(), cause = causes, "internal error");
        }
    }

    /// The kind of this error, if it is one of this crate's.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        let word = self.data.get("kind")?.as_str()?;
        Kind::ALL.iter().copied().find(|kind| kind.as_str() == word && kind.code() == self.code)
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RpcError {}

/// The part of a caller's text that an error repeats: enough to recognize it.
pub(crate) fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MOST_REPEATED) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

const MOST_REPEATED: usize = 256;

/// Sixteen hexadecimal digits that stand for one failure, in the answer and in the log.
fn incident() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::time::SystemTime::now()))
}
