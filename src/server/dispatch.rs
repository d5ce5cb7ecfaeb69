//! JSON-RPC 2.0: reads the requests of a body, has each called, and writes the answers.
//!
//! A notification is not carried out: nobody would read what was deleted. The calls of a batch are carried out one after
//! the other. An id is echoed as it was written, since other languages read numbers in other ways.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::admin::Peer;
use super::room::{Room, Size};
use super::service::Service;
use crate::rpc::{Kind, RpcError};

/// The most calls in a batch.
const MOST_CALLS: usize = 100;

const NO_JSON: &str = "the body is no JSON";
const NO_REQUEST: &str = "this is no JSON-RPC 2.0 request";

/// Calls `service` for one client.
pub(super) struct Rpc {
    pub(super) service: Arc<Service>,
    pub(super) peer: Peer,
    pub(super) room: Arc<Room>,
}

impl Rpc {
    /// The answer to the body of a request; none if the body holds nothing but notifications.
    pub(super) async fn answer(&self, body: &[u8]) -> Option<Vec<u8>> {
        // Serde does not look at the bytes that it skips, so UTF-8 is checked first.
        let body = str::from_utf8(body).ok().and_then(|body| serde_json::from_str::<&RawValue>(body).ok());
        let Some(body) = body else { return Some(refusal(&RpcError::new(Kind::ParseError, NO_JSON))) };
        if !body.get().starts_with('[') {
            return self.answer_one(body, Size::of).await;
        }
        let entries = serde_json::from_str::<Vec<&RawValue>>(body.get()).unwrap_or_default();
        if entries.is_empty() {
            return Some(refusal(&RpcError::new(Kind::InvalidRequest, "the batch is empty")));
        }
        if entries.len() > MOST_CALLS {
            let problem = format_args!("a batch holds at most {MOST_CALLS} requests");
            return Some(refusal(&RpcError::new(Kind::InvalidRequest, problem)));
        }
        let mut answers = Vec::new();
        for entry in entries {
            if let Some(answer) = self.answer_one(entry, |_| Size::Large).await {
                answers.push(if answers.is_empty() { b'[' } else { b',' });
                answers.extend(answer);
            }
        }
        if answers.is_empty() {
            return None;
        }
        answers.push(b']');
        Some(answers)
    }

    async fn answer_one(&self, request: &RawValue, size: fn(Option<&RawValue>) -> Size) -> Option<Vec<u8>> {
        match Request::read(request.get()) {
            Ok((None, _)) => None,
            Ok((Some(id), Request { method, params, .. })) => {
                let answer = self.service.call(&method, params, self.peer, &self.room, size(params)).await;
                Some(write(id, answer.as_deref()))
            }
            Err((id, problem)) => Some(write(id, Err(&RpcError::new(Kind::InvalidRequest, problem)))),
        }
    }
}

#[derive(Deserialize)]
struct Request<'b> {
    #[serde(borrow)]
    jsonrpc: Cow<'b, str>,
    #[serde(borrow)]
    method: Cow<'b, str>,
    #[serde(borrow)]
    params: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Identified<'b> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'b RawValue>,
}

/// Reads a member that is there, so that null is not taken for a missing one.
fn present<'de: 'b, 'b, D: Deserializer<'de>>(id: D) -> Result<Option<&'b RawValue>, D::Error> {
    Deserialize::deserialize(id).map(Some)
}

impl<'b> Request<'b> {
    /// Reads a request, with its id unless it is a notification; else says which id to answer, and what is wrong.
    fn read(request: &'b str) -> Result<(Option<&'b RawValue>, Self), (&'b RawValue, &'static str)> {
        // Serde would read an array as a struct, too.
        if !request.starts_with('{') {
            return Err((RawValue::NULL, NO_REQUEST));
        }
        let Identified { id } = serde_json::from_str(request).map_err(|error: serde_json::Error| {
            (RawValue::NULL, if error.is_data() { "the id is given twice" } else { NO_REQUEST })
        })?;
        if id.is_some_and(|id| id.get().starts_with(['{', '[', 't', 'f'])) {
            return Err((RawValue::NULL, "the id is neither a string, nor a number, nor null"));
        }
        match serde_json::from_str::<Self>(request) {
            Ok(read) if read.jsonrpc == "2.0" => Ok((id, read)),
            _ => Err((id.unwrap_or(RawValue::NULL), NO_REQUEST)),
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RpcError>,
}

/// The answer to a body that holds no request.
pub(super) fn refusal(error: &RpcError) -> Vec<u8> {
    write(RawValue::NULL, Err(error))
}

fn write(id: &RawValue, outcome: Result<&RawValue, &RpcError>) -> Vec<u8> {
    let answer = Answer { jsonrpc: "2.0", id, result: outcome.ok(), error: outcome.err() };
    serde_json::to_vec(&answer).unwrap_or_default()
}
