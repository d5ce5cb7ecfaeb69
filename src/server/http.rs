//! The endpoints that every Hero service has.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::unix::UCred;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::admin::Peer;
use super::dispatch::{Rpc, refusal};
use super::health::StoreState;
use super::room::{Answers, Room};
use super::service::{STOPPING, Service};
use crate::rpc::{Kind, RpcError};

/// The most bytes of a request's body.
const MOST_BODY_BYTES: usize = 1024 * 1024;
/// The most bytes of a body that is too large which are taken before it is refused.
const MOST_PASSED_OVER: usize = 16 * MOST_BODY_BYTES;
/// A body that declares no more bytes than these is read at once. Nobody waits for its sender.
const SMALL_BODY_BYTES: u64 = 16 * 1024;
/// The most larger bodies, and bodies of unknown length, in memory at once: they take up memory before anything is done
/// for them. A body counts until its request is answered, as answers repeat ids.
const MOST_LARGE_BODIES: usize = 32;

/// Routes to `service`.
pub(super) fn router(service: Arc<Service>) -> Router {
    let Service { name, title, description, openrpc, .. } = *service;
    let version = env!("CARGO_PKG_VERSION");
    let manifest = json!({
        "protocol": "openrpc", "name": name, "title": title, "version": version, "description": description,
        "socket": "rpc",
    });
    let memory = Memory::default();
    Router::new()
        .route("/rpc", post(rpc))
        .route("/openrpc.json", get(async move || (APPLICATION_JSON, openrpc)))
        .route("/health", get(health))
        .route("/.well-known/heroservice.json", get(async move || Json(manifest)))
        .with_state((service, memory))
        .layer(from_fn(refuse_browsers))
}

/// The server's own health is never in doubt, as it answers; its store may be degraded.
async fn health(State((service, _)): State<(Arc<Service>, Memory)>) -> Json<Value> {
    let mut health = json!({ "status": "ok", "service": service.name, "version": env!("CARGO_PKG_VERSION") });
    if let Some(store) = &service.health {
        let state = store.state().await;
        health["store"] = state.word().into();
        if state != StoreState::Fit {
            health["status"] = "degraded".into();
        }
    }
    Json(health)
}

/// Refuses what a browser sends on behalf of a page, whatever its path, before its body is read.
///
/// A page of any origin can make a browser send a request, unless that needs the server's consent beforehand: a `POST`
/// with the media type of JSON does, and is never given it. The other headers are a browser's own, which no page can
/// forge.
async fn refuse_browsers(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter().map(|value| value.to_str().unwrap_or_default());
    let (status, problem) = if headers.contains_key(header::ORIGIN) {
        (StatusCode::FORBIDDEN, "a request with an Origin comes from a page, and pages may not call this server")
    } else if sites.any(|site| !["same-origin", "none"].contains(&site)) {
        (StatusCode::FORBIDDEN, "a request from another site comes from a page, and pages may not call this server")
    } else if request.method() == Method::POST && !has_json(headers) {
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, NO_JSON_TYPE)
    } else {
        return next.run(request).await;
    };
    (status, APPLICATION_JSON, refusal(&RpcError::new(Kind::InvalidRequest, problem))).into_response()
}

/// What a `POST` with another media type hears.
pub(super) const NO_JSON_TYPE: &str = "the media type of a request (its header content-type) must be that of JSON";

pub(super) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the header `content-type` is there, and is that of JSON each time.
pub(super) fn has_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter().map(|value| value.to_str().unwrap_or_default());
    headers.contains_key(header::CONTENT_TYPE) && values.all(is_json)
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// Whether a request says that it came through a proxy.
fn is_proxied(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .map(HeaderName::as_str)
        .any(|name| ["forwarded", "via", "x-real-ip"].contains(&name) || name.starts_with("x-forwarded"))
}

/// What bounds the memory that requests take up.
#[derive(Clone)]
pub(super) struct Memory {
    pub(super) bodies: Arc<Semaphore>,
    answers: Answers,
}

impl Default for Memory {
    fn default() -> Self {
        Self { bodies: Arc::new(Semaphore::new(MOST_LARGE_BODIES)), answers: Answers::default() }
    }
}

pub(super) async fn rpc(
    State((service, memory)): State<(Arc<Service>, Memory)>,
    Extension(credentials): Extension<Option<UCred>>,
    request: Request,
) -> Response {
    let peer = Peer { credentials, proxied: is_proxied(request.headers()) };
    let (body, place) = match read(request, service.client_timeout, memory.bodies).await {
        Ok(body) => body,
        // The rest of it may have been on its way.
        Err((StatusCode::BAD_REQUEST, _)) if service.is_stopping() => {
            let answer = refusal(&RpcError::busy(STOPPING));
            return (StatusCode::SERVICE_UNAVAILABLE, APPLICATION_JSON, answer).into_response();
        }
        Err((status, error)) => return (status, APPLICATION_JSON, refusal(&error)).into_response(),
    };
    let room = memory.answers.room();
    let rpc = Rpc { service, peer, room: Arc::clone(&room) };
    let Some(answer) = rpc.answer(&body).await else { return StatusCode::NO_CONTENT.into_response() };
    (APPLICATION_JSON, Bytes::from_owner(Answer { answer, _room: room, _place: place })).into_response()
}

pub(super) const APPLICATION_JSON: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

/// An answer, which takes up its room, and its request's place, until its last byte has been written.
struct Answer {
    answer: Vec<u8>,
    _room: Arc<Room>,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

/// The body of a request, with its place if it is large.
pub(super) async fn read(
    request: Request,
    client_timeout: Duration,
    bodies: Arc<Semaphore>,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), (StatusCode, RpcError)> {
    let refused = |status, problem: &str| Err((status, RpcError::new(Kind::InvalidRequest, problem)));
    let too_large = || {
        let problem = format!("the body has more than {MOST_BODY_BYTES} bytes");
        refused(StatusCode::PAYLOAD_TOO_LARGE, &problem)
    };
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > MOST_BODY_BYTES as u64) {
        // Many clients read no answer before they have sent everything.
        let _ = timeout(client_timeout, pass_over(request.into_body())).await;
        return too_large();
    }
    let place = if declared.is_some_and(|length| length <= SMALL_BODY_BYTES) {
        None
    } else {
        let Ok(place) = timeout(client_timeout, bodies.acquire_owned()).await else {
            let busy = RpcError::busy("too many large requests at once: nothing was deleted");
            return Err((StatusCode::SERVICE_UNAVAILABLE, busy));
        };
        place.ok()
    };
    let read = axum::body::to_bytes(Body::new(request.into_body()), MOST_BODY_BYTES);
    match timeout(client_timeout, read).await {
        Ok(Ok(body)) => Ok((body, place)),
        Ok(Err(error)) if is_too_large(&error) => too_large(),
        Ok(Err(_)) => refused(StatusCode::BAD_REQUEST, "the body could not be read"),
        Err(_) => refused(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    }
}

/// Reads a body to its end, or to the end of patience with it, and keeps nothing.
async fn pass_over(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > MOST_PASSED_OVER {
            break;
        }
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}
