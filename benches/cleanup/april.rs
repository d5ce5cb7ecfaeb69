//! April's way (hero_codescalers PR 14): list over RPC, then one `job.delete` and one `action.delete` for each, autocommit,
//! over a keep-alive socket. The server is built like hero_proc (see `examples/host`): axum, and one connection behind a
//! mutex. It does no more than it must, and lists all jobs where April listed 10,000 at most.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use serde_json::{Map, Value, json};
use tokio::net::{UnixListener, UnixStream};

/// Cleans the store at `path`, and returns how many jobs and actions went.
pub(crate) async fn clean(path: &Path, socket: &Path) -> (usize, usize) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA synchronous = normal").unwrap();
    let router = Router::new().route("/rpc", post(rpc)).with_state(Arc::new(Mutex::new(connection)));
    let listener = UnixListener::bind(socket).unwrap();
    let server = tokio::spawn(async { axum::serve(listener, router).await });

    let mut client = Client::connect(socket).await;
    let listed = client.call("job.list", json!({ "filter": { "tag": "codescaler" } })).await;
    let mut actions = BTreeSet::new();
    let mut jobs = 0;
    for job in listed.as_array().unwrap() {
        if job["phase"] == "succeeded" {
            client.call("job.delete", json!({ "id": job["id"], "force": true })).await;
            actions.insert(job["action_id"].as_str().unwrap().to_owned());
            jobs += 1;
        }
    }
    for action in &actions {
        client.call("action.delete", json!({ "name": action })).await;
    }
    server.abort();
    (jobs, actions.len())
}

async fn rpc(State(store): State<Arc<Mutex<Connection>>>, Json(call): Json<Value>) -> Json<Value> {
    let store = store.lock().unwrap();
    let params = &call["params"];
    let result = match call["method"].as_str().unwrap() {
        "job.list" => {
            let mut jobs = store.prepare("SELECT jobs.* FROM jobs, json_each(jobs.tags) WHERE value = ?1").unwrap();
            let jobs = jobs.query_map([params["filter"]["tag"].as_str()], object).unwrap();
            Value::Array(jobs.map(Result::unwrap).collect())
        }
        "job.delete" => json!(store.execute("DELETE FROM jobs WHERE id = ?1", [params["id"].as_i64()]).unwrap()),
        "action.delete" => {
            let delete = "DELETE FROM actions WHERE context_name = 'core' AND name = ?1";
            json!(store.execute(delete, [params["name"].as_str()]).unwrap())
        }
        method => panic!("{method}"),
    };
    Json(json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }))
}

/// A job as `job.list` gives it: every column.
fn object(row: &Row<'_>) -> rusqlite::Result<Value> {
    let columns = row.as_ref().column_names().enumerate().map(|(index, name)| {
        let value = match row.get_ref(index)? {
            ValueRef::Integer(number) => json!(number),
            ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
            _ => Value::Null,
        };
        Ok((name.to_owned(), value))
    });
    Ok(Value::Object(columns.collect::<rusqlite::Result<Map<_, _>>>()?))
}

/// A client over one keep-alive connection.
struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn connect(socket: &Path) -> Self {
        let (sender, connection) = handshake(TokioIo::new(UnixStream::connect(socket).await.unwrap())).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = hyper::Request::post("/rpc")
            .header("host", "hero_proc")
            .header("content-type", "application/json")
            .body(Full::from(body))
            .unwrap();
        self.0.ready().await.unwrap();
        let answer = self.0.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&answer).unwrap()["result"].take()
    }
}
