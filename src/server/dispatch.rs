//! JSON-RPC 2.0: jsonrpsee reads calls, batches and notifications and writes the answers.
//!
//! Every error gets `data.kind`. jsonrpsee's own, for what is no request, come without: they are written anew here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{Method as Verb, Request as HttpRequest, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Body as _;
use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceT};
use jsonrpsee::server::http::call_with_service;
use jsonrpsee::server::{BatchRequestConfig, BatchResponseBuilder, MethodResponse, ResponsePayload};
use jsonrpsee::types::{ErrorObjectOwned, Id, Request};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::unix::UCred;

use super::room::{Room, Size};
use super::service::Service;
use crate::rpc::{Kind, RpcError};

/// The most calls in a batch.
const MOST_CALLS: u32 = 100;

const NO_JSON: &str = "the body is no JSON";

/// The answer to the body of a request, for which it takes `room`.
pub(super) async fn answer(service: Arc<Service>, peer: Option<UCred>, body: Bytes, room: Arc<Room>) -> Response {
    // jsonrpsee looks no further than 128 bytes for where it begins, and takes a form feed for white space.
    let white = body.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
    let body = body.slice(white..);
    // Serde does not look at what it skips.
    if body.first() == Some(&b'\x0c') || str::from_utf8(&body).is_err() {
        return refusal(&Value::Null, &RpcError::new(Kind::ParseError, NO_JSON));
    }
    if let Some(problem) = unread_id(&body) {
        return refusal(&Value::Null, &RpcError::new(Kind::InvalidRequest, problem));
    }
    let entries = serde_json::from_slice::<Vec<&RawValue>>(&body).unwrap_or_default();
    let unread_ids = entries.iter().map(|entry| unread_id(entry.get().as_bytes())).collect();
    let mut request = HttpRequest::new(Body::from(body.clone()));
    *request.method_mut() = Verb::POST;
    request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    let understood = Arc::new(AtomicBool::new(false));
    let rpc = Rpc { service, peer, room, unread_ids, understood: Arc::clone(&understood) };
    let batches = BatchRequestConfig::Limit(MOST_CALLS);
    let response = call_with_service(request, batches, u32::MAX, rpc).await;
    if understood.load(Ordering::Relaxed) {
        // Where nothing is to be answered, jsonrpsee writes a null.
        let nothing = response.body().size_hint().exact() == Some("null".len() as u64);
        return if nothing { StatusCode::NO_CONTENT.into_response() } else { response.map(Body::new).into_response() };
    }
    let answer = axum::body::to_bytes(Body::new(response.into_body()), usize::MAX).await.unwrap_or_default();
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    let error = if serde_json::from_slice::<IgnoredAny>(&body).is_err() {
        RpcError::new(Kind::ParseError, NO_JSON)
    } else if serde_json::from_slice::<Vec<IgnoredAny>>(&body).is_ok() {
        RpcError::new(Kind::InvalidRequest, format_args!("a batch holds at most {MOST_CALLS} requests"))
    } else {
        RpcError::new(Kind::InvalidRequest, "this is no JSON-RPC 2.0 request")
    };
    refusal(&answer["id"], &error)
}

/// What is wrong with the id of `request`, if anything: jsonrpsee takes a request whose id it can't read for a
/// notification, and would not answer.
fn unread_id(request: &[u8]) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Identified<'b> {
        #[serde(borrow)]
        id: Option<&'b RawValue>,
    }
    // Serde would read an array, too.
    if request.first() != Some(&b'{') {
        return None;
    }
    match serde_json::from_slice::<Identified<'_>>(request) {
        Ok(Identified { id }) => {
            let unread = serde_json::from_str::<Id<'_>>(id?.get()).is_err();
            unread.then_some("the id is neither a string, nor null, nor a number from 0 to 2^64-1")
        }
        Err(error) => error.is_data().then_some("the id is given twice"),
    }
}

fn refusal(id: &Value, error: &RpcError) -> Response {
    Json(json!({ "jsonrpc": "2.0", "id": id, "error": error })).into_response()
}

/// The service, as jsonrpsee calls it.
#[derive(Clone)]
struct Rpc {
    service: Arc<Service>,
    peer: Option<UCred>,
    room: Arc<Room>,
    /// Of a batch: what is wrong with the id of each entry.
    unread_ids: Vec<Option<&'static str>>,
    /// Whether what came was a request, a notification or a batch of them.
    understood: Arc<AtomicBool>,
}

impl RpcServiceT for Rpc {
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.understood.store(true, Ordering::Relaxed);
        let size = Size::of(request.params.as_deref());
        call(self.clone(), request, size)
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.understood.store(true, Ordering::Relaxed);
        let rpc = self.clone();
        async move {
            if batch.is_empty() {
                return error(Id::Null, &RpcError::new(Kind::InvalidRequest, "the batch is empty"));
            }
            let mut answers = BatchResponseBuilder::new_with_limit(usize::MAX);
            for (entry, unread_id) in batch.into_iter().zip(&rpc.unread_ids) {
                let answer = match entry {
                    Ok(BatchEntry::Call(request)) => call(rpc.clone(), request, Size::Large).await,
                    Ok(BatchEntry::Notification(_)) => match unread_id {
                        Some(problem) => error(Id::Null, &RpcError::new(Kind::InvalidRequest, problem)),
                        None => continue,
                    },
                    Err(unread) => {
                        let (_, id) = unread.into_parts();
                        error(id, &RpcError::new(Kind::InvalidRequest, "this is no JSON-RPC 2.0 request"))
                    }
                };
                if let Err(too_large) = answers.append(answer) {
                    return too_large;
                }
            }
            if answers.is_empty() {
                MethodResponse::notification()
            } else {
                MethodResponse::from_batch(answers.finish())
            }
        }
    }

    /// A notification is not carried out: nobody would read what was deleted.
    fn notification<'a>(&self, _: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.understood.store(true, Ordering::Relaxed);
        async { MethodResponse::notification() }
    }
}

async fn call(rpc: Rpc, request: Request<'_>, size: Size) -> MethodResponse {
    let Rpc { service, peer, room, .. } = rpc;
    match service.call(&request.method, request.params.as_deref(), peer, &room, size).await {
        Ok(result) => MethodResponse::response(request.id, ResponsePayload::success(result), usize::MAX),
        Err(refused) => error(request.id, &refused),
    }
}

fn error(id: Id<'_>, error: &RpcError) -> MethodResponse {
    let data = Some(&error.data).filter(|data| !data.is_null());
    MethodResponse::error(id, ErrorObjectOwned::owned(error.code, error.message.as_str(), data))
}
