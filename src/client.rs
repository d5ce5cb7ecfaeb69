//! Typed clients of both methods: JSON-RPC 2.0 over HTTP/1.1 over a Unix socket.
//!
//! A call is sent once and never again: a deletion whose answer was lost may have been carried out.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::net::UnixStream;

pub use crate::method::Options;
use crate::report::Report;
use crate::rpc::{Kind, RpcError};

/// A client of the server that listens on one socket. Each call opens a connection of its own.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Client {
    /// The socket.
    pub socket: PathBuf,
    /// How long a call may take, from connecting to the last byte of its answer: 60 s unless set.
    pub timeout: Duration,
}

/// Params of `job.cleanup_by_tag`.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct CleanupByTagParams {
    /// A job must carry all of them.
    pub tags: Vec<String>,
    /// What both methods take.
    #[serde(flatten)]
    pub options: Options,
}

impl CleanupByTagParams {
    /// A call for the jobs that carry all of `tags`.
    #[must_use]
    pub fn new(tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { tags: tags.into_iter().map(Into::into).collect(), options: Options::default() }
    }
}

/// Params of `jobs.cleanup`: all of codescaler's jobs, unless some are named.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct JobsCleanupParams {
    /// Only jobs of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only jobs with this target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Only jobs of this actor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What both methods take.
    #[serde(flatten)]
    pub options: Options,
}

impl Client {
    /// A client of the server that listens on `socket`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), timeout: Duration::from_secs(60) }
    }

    /// Calls `job.cleanup_by_tag`, hero_proc's side.
    ///
    /// # Errors
    ///
    /// What the server answers, unchanged; and, of the client's own, [`Kind::UpstreamUnreachable`] if nothing was sent,
    /// [`Kind::OutcomeUnknown`] if the call was sent and no whole answer came in time, [`Kind::Internal`] if the answer
    /// is none of JSON-RPC, or no report.
    pub async fn cleanup_by_tag(&self, params: &CleanupByTagParams) -> Result<Report, RpcError> {
        self.call(crate::method::CLEANUP_BY_TAG, params).await
    }

    /// Calls `jobs.cleanup`, codescalers' side.
    ///
    /// # Errors
    ///
    /// As [`cleanup_by_tag`](Self::cleanup_by_tag).
    pub async fn jobs_cleanup(&self, params: &JobsCleanupParams) -> Result<Report, RpcError> {
        self.call(crate::gateway::JOBS_CLEANUP, params).await
    }

    async fn call(&self, method: &str, params: &impl Serialize) -> Result<Report, RpcError> {
        let result = self.call_raw(method, params).await?;
        self.read_report(&result)
    }

    /// Reads `result` as a report, or as that part of one which is of interest.
    pub(crate) fn read_report<'r, R: Deserialize<'r>>(&self, result: &'r RawValue) -> Result<R, RpcError> {
        // Serde would read an array, too.
        let report = if result.get().starts_with('{') { result.get() } else { "null" };
        serde_json::from_str(report).map_err(|error| self.strange(&CallError::Report(error)))
    }

    /// Calls `method`, and returns its result as it came.
    ///
    /// # Errors
    ///
    /// As [`cleanup_by_tag`](Self::cleanup_by_tag).
    pub async fn call_raw(&self, method: &str, params: &impl Serialize) -> Result<Box<RawValue>, RpcError> {
        let answer = tokio::time::timeout(self.timeout, self.exchange(method, params)).await;
        match answer.unwrap_or(Err(CallError::Timeout(self.timeout))) {
            Ok(body) => self.read(&body),
            Err(error) => Err(self.strange(&error)),
        }
    }

    /// Sends the call, and returns the body of the answer.
    async fn exchange(&self, method: &str, params: &impl Serialize) -> Result<Bytes, CallError> {
        let call = serde_json::to_vec(&Call { jsonrpc: "2.0", id: ID, method, params }).map_err(CallError::Params)?;
        let stream = UnixStream::connect(&self.socket).await.map_err(CallError::Connect)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(CallError::broken)?;
        let request = Request::post("/rpc")
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(call)))
            .map_err(CallError::Http)?;
        let answer = async {
            let (head, body) = sender.send_request(request).await.map_err(CallError::broken)?.into_parts();
            if body.size_hint().lower() > MOST_ANSWER_BYTES as u64 {
                return Err(CallError::TooLarge);
            }
            let body = Limited::new(body, MOST_ANSWER_BYTES).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { CallError::TooLarge } else { CallError::Broken(error) }
            })?;
            Ok((head.status, body.to_bytes()))
        };
        // The connection has to be driven for the answer to come; it may end before the answer has been read, or after.
        let mut answer = std::pin::pin!(answer);
        let (status, body) = tokio::select! {
            answer = &mut answer => answer?,
            ended = connection => {
                ended.map_err(CallError::broken)?;
                answer.await?
            }
        };
        if status == StatusCode::OK || body.first() == Some(&b'{') { Ok(body) } else { Err(CallError::Status(status)) }
    }

    fn read(&self, body: &[u8]) -> Result<Box<RawValue>, RpcError> {
        let answer: Answer<'_> =
            serde_json::from_slice(body).map_err(|error| self.strange(&CallError::Answer(error)))?;
        match answer {
            Answer { jsonrpc: "2.0", id: Some(ID), result: Some(result), error: None } => Ok(result.to_owned()),
            // An error that comes before the request was understood has no id.
            Answer { jsonrpc: "2.0", id: Some(ID) | None, result: None, error: Some(error) } => Err(error),
            _ => Err(self.strange(&CallError::Envelope)),
        }
    }

    /// What the caller may know of a call that went wrong on this side; the rest goes to the log.
    fn strange(&self, error: &CallError) -> RpcError {
        match error {
            CallError::Connect(_) => {
                tracing::warn!(socket = %self.socket.display(), %error, cause = cause(error).as_deref(), "call not sent");
                RpcError::new(Kind::UpstreamUnreachable, error)
            }
            CallError::Timeout(_) | CallError::Broken(_) => {
                tracing::error!(socket = %self.socket.display(), %error, cause = cause(error).as_deref(), "call without answer");
                RpcError::new(Kind::OutcomeUnknown, format_args!("{error}: the call may have been carried out"))
            }
            CallError::NoHttp(_)
            | CallError::Status(_)
            | CallError::TooLarge
            | CallError::Answer(_)
            | CallError::Report(_)
            | CallError::Envelope => {
                let mut object = RpcError::internal(error);
                object.message = format!("{error}: this is not the server that was expected, what it did is unknown");
                object.with("sent", true)
            }
            CallError::Params(_) | CallError::Http(_) => RpcError::internal(error),
        }
    }
}

/// The most bytes of an answer: several times what a report of a million jobs and their actions takes.
const MOST_ANSWER_BYTES: usize = 256 << 20;

/// The one id in use: there is one call on each connection.
const ID: u64 = 1;

#[derive(Serialize)]
struct Call<'c, P> {
    jsonrpc: &'static str,
    id: u64,
    method: &'c str,
    params: &'c P,
}

/// An answer, its result as it came: a report may name a million rows.
#[derive(Deserialize)]
struct Answer<'a> {
    jsonrpc: &'a str,
    id: Option<u64>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<RpcError>,
}

/// What can go wrong between sending a call and having its answer.
#[derive(Debug, Error)]
enum CallError {
    #[error("the server can't be reached: nothing was sent")]
    Connect(#[source] io::Error),
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("the connection broke before the answer was whole")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is no HTTP")]
    NoHttp(#[source] hyper::Error),
    #[error("the answer has HTTP status {0} and is no JSON")]
    Status(StatusCode),
    #[error("the answer has more than {MOST_ANSWER_BYTES} bytes")]
    TooLarge,
    #[error("the answer is no JSON-RPC response")]
    Answer(#[source] serde_json::Error),
    #[error("the answer is no report of a cleanup")]
    Report(#[source] serde_json::Error),
    #[error("the answer is no JSON-RPC response to this call")]
    Envelope,
    #[error("the params can't be written as JSON")]
    Params(#[source] serde_json::Error),
    #[error("the request can't be built")]
    Http(#[source] hyper::http::Error),
}

impl CallError {
    fn broken(error: hyper::Error) -> Self {
        if error.is_parse() { Self::NoHttp(error) } else { Self::Broken(error.into()) }
    }
}

fn cause(error: &CallError) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}
