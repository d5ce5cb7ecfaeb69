//! The endpoints that every Hero service has.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::json;
use tokio::sync::Semaphore;

use super::dispatch;
use super::service::Service;
use crate::gateway::Caller;
use crate::rpc::{Kind, RpcError};

/// The most bytes of a request's body.
const MOST_BODY_BYTES: usize = 1024 * 1024;
/// Bodies that are read at once: they may take up memory without anything being done for them.
const MOST_BODIES: usize = 64;

/// Routes to `service`.
pub(super) fn router(service: Arc<Service>) -> Router {
    let Service { name, title, description, openrpc, .. } = *service;
    let version = env!("CARGO_PKG_VERSION");
    let health = json!({ "status": "ok", "service": name, "version": version });
    let manifest = json!({
        "protocol": "openrpc", "name": name, "title": title, "version": version, "description": description,
        "socket": "rpc",
    });
    let bodies = Arc::new(Semaphore::new(MOST_BODIES));
    Router::new()
        .route("/rpc", post(rpc))
        .route("/openrpc.json", get(async move || ([(header::CONTENT_TYPE, "application/json")], openrpc)))
        .route("/health", get(async move || Json(health)))
        .route("/.well-known/heroservice.json", get(async move || Json(manifest)))
        .with_state((service, bodies))
}

async fn rpc(
    State((service, bodies)): State<(Arc<Service>, Arc<Semaphore>)>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    match read(request, service.client_timeout, &bodies).await {
        Ok(body) => dispatch::answer(service, caller, body).await,
        Err((status, message)) => {
            let error = RpcError::new(Kind::InvalidRequest, message);
            (status, Json(json!({ "jsonrpc": "2.0", "id": null, "error": error }))).into_response()
        }
    }
}

async fn read(request: Request, client_timeout: Duration, bodies: &Semaphore) -> Result<Bytes, (StatusCode, String)> {
    let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {MOST_BODY_BYTES} bytes"));
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > MOST_BODY_BYTES as u64) {
        return Err(too_large());
    }
    let _place = bodies.acquire().await;
    let read = axum::body::to_bytes(Body::new(request.into_body()), MOST_BODY_BYTES);
    match tokio::time::timeout(client_timeout, read).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_too_large(&error) => Err(too_large()),
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body could not be read".to_owned())),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body did not come in time".to_owned())),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}
