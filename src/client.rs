//! Typed clients of all methods: JSON-RPC 2.0 over HTTP/1.1 over a Unix socket.
//!
//! A call is sent once and never again: a deletion whose answer was lost may have been carried out.

mod usage;

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustix::fs::{Mode, OFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::method::Side;
pub use crate::method::{Options, ReclaimParams};
use crate::reclaim::Reclaimed;
use crate::report::Report;
use crate::rpc::{Kind, RpcError};
pub use usage::{JobsUsageParams, UsageByTagParams};

/// A client of the server that listens on one socket. Each call opens a connection of its own.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Client {
    /// The socket.
    pub socket: PathBuf,
    /// How long a call may take, from connecting to the last byte of its answer: 60 s unless set, and as long as the
    /// connection lasts if none.
    pub timeout: Option<Duration>,
}

/// Params of `job.cleanup_by_tag`.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct CleanupByTagParams {
    /// A job must carry all of them.
    pub tags: Vec<String>,
    /// A job that carries one of these stays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except_tags: Vec<String>,
    /// The params that both sides take.
    #[serde(flatten)]
    pub options: Options,
}

impl CleanupByTagParams {
    /// A call for the jobs that carry all of `tags`.
    #[must_use]
    pub fn new(tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { tags: tags.into_iter().map(Into::into).collect(), ..Self::default() }
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
    /// No jobs of these kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except_kind: Vec<String>,
    /// No jobs with these targets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except_target: Vec<String>,
    /// No jobs of these actors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except_actor: Vec<String>,
    /// The params that both sides take.
    #[serde(flatten)]
    pub options: Options,
}

impl Client {
    /// A client of the server that listens on `socket`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), timeout: Some(Duration::from_secs(60)) }
    }

    /// Calls `job.cleanup_by_tag`, hero_proc's side.
    ///
    /// # Errors
    ///
    /// What the server answers, unchanged; and, of the client's own:
    ///
    /// * [`Kind::UpstreamUnreachable`] if nothing was sent. `data.socket` is the socket's path, and `data.cause` is
    ///   `not_found`, `connection_refused`, `permission_denied`, `busy`, or the system's own words;
    /// * [`Kind::OutcomeUnknown`] if the call was sent and no answer came that could be read: in time, of JSON-RPC, and with
    ///   a report;
    /// * [`Kind::Internal`] if the call was not carried out: the server refused it by an HTTP status of 400 to 499, or it
    ///   could not be written.
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

    /// Calls `store.reclaim`, hero_proc's side.
    ///
    /// # Errors
    ///
    /// As [`cleanup_by_tag`](Self::cleanup_by_tag).
    pub async fn reclaim(&self, params: &ReclaimParams) -> Result<Reclaimed, RpcError> {
        self.call(crate::method::RECLAIM, params).await
    }

    /// Calls `jobs.reclaim`, codescalers' side.
    ///
    /// # Errors
    ///
    /// As [`cleanup_by_tag`](Self::cleanup_by_tag).
    pub async fn jobs_reclaim(&self, params: &ReclaimParams) -> Result<Reclaimed, RpcError> {
        self.call(crate::gateway::JOBS_RECLAIM, params).await
    }

    async fn call<R: DeserializeOwned>(&self, method: &str, params: &impl Serialize) -> Result<R, RpcError> {
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
        let exchange = self.exchange(method, params);
        let answer = match self.timeout {
            Some(limit) => timeout(limit, exchange).await.unwrap_or(Err(CallError::Timeout(limit))),
            None => exchange.await,
        };
        let read = answer.and_then(|(status, body)| read(status, &body));
        read.unwrap_or_else(|error| Err(self.strange(&error)))
    }

    /// Sends the call, and returns the status and the body of the answer.
    async fn exchange(&self, method: &str, params: &impl Serialize) -> Result<(StatusCode, Bytes), CallError> {
        let call = serde_json::to_vec(&Call { jsonrpc: "2.0", id: ID, method, params }).map_err(CallError::Params)?;
        let stream = connect(&self.socket).await;
        let stream = stream.map_err(|source| CallError::Connect { side: Side::of(method), source })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(CallError::broken)?;
        let mut request = Request::new(Full::new(Bytes::from(call)));
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, Uri::from_static("/rpc"));
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = async {
            let (head, body) = sender.send_request(request).await.map_err(CallError::broken)?.into_parts();
            if body.size_hint().lower() > MOST_ANSWER_BYTES as u64 {
                return Err(CallError::TooLarge);
            }
            let body = Limited::new(body, MOST_ANSWER_BYTES).collect().await.map_err(|error| match head.status {
                status if status.is_client_error() => CallError::Refused(status),
                _ if error.is::<LengthLimitError>() => CallError::TooLarge,
                _ => CallError::Broken(error),
            })?;
            Ok((head.status, body.to_bytes()))
        };
        // The connection has to be driven for the answer to come; it may end before the answer has been read, or after.
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => {
                ended.map_err(CallError::broken)?;
                answer.await
            }
        }
    }

    /// The part of what went wrong on this side that the caller may know; the rest goes to the log.
    fn strange(&self, error: &CallError) -> RpcError {
        let socket = self.socket.to_string_lossy();
        let cause = std::error::Error::source(error).map(ToString::to_string);
        match error {
            CallError::Connect { source, .. } => {
                tracing::warn!(?socket, %error, cause, "call not sent");
                RpcError::new(Kind::UpstreamUnreachable, format_args!("{error}: nothing was sent"))
                    .with("socket", &*socket)
                    .with("cause", cause_word(source))
            }
            CallError::Timeout(_) | CallError::Broken(_) => {
                tracing::error!(?socket, %error, cause, "call without answer");
                RpcError::new(Kind::OutcomeUnknown, format_args!("{error}: the call may have been carried out"))
            }
            CallError::NoHttp(_)
            | CallError::Status(_)
            | CallError::TooLarge
            | CallError::Answer(_)
            | CallError::Report(_)
            | CallError::Envelope => {
                tracing::error!(?socket, %error, cause, "call with an answer that can't be read");
                let unknown = "this is not the server that was expected, what it did is unknown";
                RpcError::new(Kind::OutcomeUnknown, format_args!("{error}: {unknown}"))
            }
            CallError::Refused(_) => {
                let mut object = RpcError::internal(error);
                object.message = format!("{error}: nothing was carried out");
                object
            }
            CallError::Params(_) => RpcError::internal(error),
        }
    }
}

/// Connects to the socket at `path`, however long that is: an address takes 107 bytes.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() <= 107 {
        return UnixStream::connect(path).await;
    }
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    UnixStream::connect(short_path(&file)).await
}

/// A path of an open file that is short, however long the file's own is.
pub(crate) fn short_path(file: &impl AsRawFd) -> PathBuf {
    Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
}

/// The answer in a body: the result as it came, or the server's error.
fn read(status: StatusCode, body: &[u8]) -> Result<Result<Box<RawValue>, RpcError>, CallError> {
    let answer = serde_json::from_slice(body).map_err(CallError::Answer).and_then(|answer| match answer {
        Answer { jsonrpc: "2.0", id: Some(ID), result: Some(result), error: None } => Ok(Ok(result.to_owned())),
        // An error that comes before the request was understood has no id.
        Answer { jsonrpc: "2.0", id: Some(ID) | None, result: None, error: Some(error) } => Ok(Err(error)),
        _ => Err(CallError::Envelope),
    });
    match answer {
        Err(_) if status.is_client_error() => Err(CallError::Refused(status)),
        Err(_) if status != StatusCode::OK => Err(CallError::Status(status)),
        answer => answer,
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
    #[error("{}", unreached(*side, source))]
    Connect { side: Option<Side>, source: io::Error },
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("the connection broke before the answer was whole")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is no HTTP")]
    NoHttp(#[source] hyper::Error),
    #[error("the server refused the call with HTTP status {0}")]
    Refused(StatusCode),
    #[error("the answer has HTTP status {0} and is no JSON-RPC response")]
    Status(StatusCode),
    #[error("the answer has more than {MOST_ANSWER_BYTES} bytes")]
    TooLarge,
    #[error("the answer is no JSON-RPC response")]
    Answer(#[source] serde_json::Error),
    #[error("the answer is no report of this method")]
    Report(#[source] serde_json::Error),
    #[error("the answer is no JSON-RPC response to this call")]
    Envelope,
    #[error("the params can't be written as JSON")]
    Params(#[source] serde_json::Error),
}

impl CallError {
    fn broken(error: hyper::Error) -> Self {
        if error.is_parse() { Self::NoHttp(error) } else { Self::Broken(error.into()) }
    }
}

/// Why `side` can't be reached, and how it is started where it is not there: either may be absent, and an error must tell
/// which. None: the method is one that both have.
fn unreached(side: Option<Side>, error: &io::Error) -> String {
    let (name, start) = match side {
        Some(Side::HeroProc) => ("hero_proc", "hero_proc, or `hero_proc_cleanup serve`"),
        Some(Side::Codescalers) => ("the gateway", "`hero_proc_cleanup gateway`"),
        None => ("the server", "`hero_proc_cleanup gateway`, or hero_proc"),
    };
    match error.kind() {
        ErrorKind::NotFound => format!("{name} can't be reached, as its socket does not exist (start {start})"),
        ErrorKind::ConnectionRefused => {
            format!("{name} can't be reached, as nobody listens on its socket (start {start})")
        }
        ErrorKind::PermissionDenied => format!("{name} can't be reached, as this user has no permission on its socket"),
        ErrorKind::WouldBlock => format!("{name} can't be reached, as its queue of callers is full"),
        _ => format!("{name} can't be reached: {error}"),
    }
}

/// The word of `data.cause` for an error of connecting.
fn cause_word(error: &io::Error) -> String {
    let word = match error.kind() {
        ErrorKind::NotFound => "not_found",
        ErrorKind::ConnectionRefused => "connection_refused",
        ErrorKind::PermissionDenied => "permission_denied",
        ErrorKind::WouldBlock => "busy",
        _ => return error.to_string(),
    };
    word.to_owned()
}
