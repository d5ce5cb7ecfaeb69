//! The host's server: JSON-RPC over HTTP on a Unix socket, a `match` on the method's name, one connection behind it all.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use hero_proc_cleanup::policy::Retention;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinError;

use crate::children::{Children, SharedStore, lock, now_ms};

/// What the handlers share.
pub(crate) struct Server {
    /// The store's file.
    pub(crate) path: PathBuf,
    /// The one connection. While it is held, every handler and the scheduler wait.
    pub(crate) store: SharedStore,
    pub(crate) children: Arc<Children>,
    /// The extension's settings, made once.
    pub(crate) cleanup: hero_proc_cleanup::Host,
    /// What goes by itself: nothing, until a policy is given.
    pub(crate) retention: Mutex<Option<Retention>>,
}

/// A JSON-RPC error object, as this host has them.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    code: i32,
    message: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    data: Value,
}

/// Routes to `server`.
pub(crate) fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/rpc", post(rpc))
        .route("/health", get(async || Json(json!({ "status": "ok", "service": "example_host" }))))
        .with_state(server)
}

#[derive(Deserialize)]
struct Call {
    id: Value,
    method: String,
    #[serde(default)]
    params: Value,
}

async fn rpc(State(server): State<Arc<Server>>, Json(call): Json<Call>) -> Json<Value> {
    Json(match server.dispatch(&call.method, call.params).await {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": call.id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": call.id, "error": error }),
    })
}

impl Server {
    pub(crate) fn new(path: PathBuf, store: SharedStore, children: Arc<Children>) -> Self {
        // mounting the extension: begin
        let mut cleanup = hero_proc_cleanup::Host::new(hero_proc_cleanup::Guard::codescaler());
        cleanup.control = Some(children.clone());
        // mounting the extension: end
        Self { path, store, children, cleanup, retention: Mutex::default() }
    }

    async fn dispatch(&self, method: &str, params: Value) -> Result<Value, Failure> {
        match method {
            "job.create" => create_job(&lock(&self.store), read(params)?),
            "job.list" => list_jobs(&lock(&self.store), read(params)?),
            "job.cancel" => self.cancel_job(read(params)?).await,
            "job.delete" => delete_job(&lock(&self.store), read(params)?),
            // mounting the extension: begin
            method if hero_proc_cleanup::METHODS.contains(&method) => {
                let (method, store, host) = (method.to_owned(), self.path.clone(), self.cleanup.clone());
                let result = tokio::task::spawn_blocking(move || {
                    hero_proc_cleanup::call(&method, &params, store.as_path(), &host, chrono::Utc::now())
                });
                match result.await? {
                    Ok(result) => Ok(json!(result)),
                    Err(error) => Err(Failure { code: error.code, message: error.message, data: error.data }),
                }
            }
            // mounting the extension: end
            "action.set" => set_action(&lock(&self.store), &read(params)?),
            "action.delete" => delete_action(&lock(&self.store), &read(params)?),
            "stats" => stats(&lock(&self.store), &self.children),
            "rpc.discover" => document(),
            _ => Err(Failure::new(-32601, format!("there is no method {method:?}"))),
        }
    }

    async fn cancel_job(&self, params: JobId) -> Result<Value, Failure> {
        let children = Arc::clone(&self.children);
        let pid = lock(&self.store)
            .query_row("SELECT pid FROM jobs WHERE id = :id", named_params! { ":id": params.id }, |row| row.get(0))
            .optional()?
            .ok_or_else(|| no_job(params.id))?;
        let stopped = tokio::task::spawn_blocking(move || children.stop(params.id, pid)).await?;
        stopped.map_err(|error| Failure::new(-32000, error.to_string()))?;
        Ok(json!({}))
    }
}

/// The host's OpenRPC document.
fn document() -> Result<Value, Failure> {
    let schema = |kind: &str| json!({ "type": kind });
    let method = |name: &str, params: &[(&str, &str)], result: &str| {
        let params = params.iter().map(|(name, kind)| json!({ "name": name, "schema": schema(kind) }));
        let result = json!({ "name": "result", "schema": schema(result) });
        json!({ "name": name, "paramStructure": "by-name", "params": params.collect::<Vec<_>>(), "result": result })
    };
    let mut document = json!({
        "openrpc": "1.2.6",
        "info": { "title": "a host in hero_proc's shape", "version": "0.0.0" },
        "methods": [
            method("job.create", &[("action", "string")], "object"),
            method("job.list", &[("filter", "object")], "array"),
            method("job.cancel", &[("id", "integer")], "object"),
            method("job.delete", &[("id", "integer")], "object"),
            method("action.set", &[("name", "string"), ("spec", "object")], "object"),
            method("action.delete", &[("name", "string")], "object"),
            method("stats", &[], "object"),
            method("rpc.discover", &[], "object"),
        ],
    });
    // mounting the extension: begin
    hero_proc_cleanup::openrpc::merge(&mut document, hero_proc_cleanup::openrpc::HERO_PROC)?;
    // mounting the extension: end
    Ok(document)
}

#[derive(Deserialize)]
struct CreateJob {
    /// The name of the action that this is a run of. Its spec is the job's.
    action: String,
}

/// Creates a job; the scheduler starts it.
fn create_job(store: &Connection, params: CreateJob) -> Result<Value, Failure> {
    let spec: Option<String> = store
        .query_row(
            "SELECT spec_json FROM actions WHERE name = :name",
            named_params! { ":name": params.action },
            |row| row.get(0),
        )
        .optional()?;
    let Some(spec) = spec else { return Err(Failure::new(-32001, format!("there is no action {:?}", params.action))) };
    let spec: Value = serde_json::from_str(&spec)?;
    // As since hero_proc#50: the tags of the spec are those of the job.
    let tags = spec.get("tags").map(Value::to_string);
    store.execute(
        "INSERT INTO jobs (action, action_id, spec_json, script, tags, created_at_ms)
         VALUES (:action, :action, :spec, :script, :tags, :now)",
        named_params! {
            ":action": params.action,
            ":spec": spec.to_string(),
            ":script": spec["script"].as_str(),
            ":tags": tags,
            ":now": now_ms(),
        },
    )?;
    Ok(json!({ "id": store.last_insert_rowid() }))
}

#[derive(Deserialize)]
struct ListJobs {
    #[serde(default)]
    filter: JobFilter,
}

#[derive(Default, Deserialize)]
struct JobFilter {
    /// One tag; a job must carry it.
    tag: Option<String>,
    limit: Option<u32>,
}

fn list_jobs(store: &Connection, params: ListJobs) -> Result<Value, Failure> {
    let JobFilter { tag, limit } = params.filter;
    let mut jobs = store.prepare(
        "SELECT id, action_id, phase, tags, pid, created_at_ms
         FROM jobs
         WHERE :tag IS NULL OR EXISTS (SELECT 1 FROM json_each(jobs.tags) WHERE value = :tag)
         ORDER BY id
         LIMIT :limit",
    )?;
    let summary = |row: &Row<'_>| {
        let tags: Option<String> = row.get("tags")?;
        Ok(json!({
            "id": row.get::<_, i64>("id")?,
            "action_id": row.get::<_, Option<String>>("action_id")?,
            "phase": row.get::<_, String>("phase")?,
            "tags": tags.and_then(|tags| serde_json::from_str::<Value>(&tags).ok()),
            "pid": row.get::<_, Option<i64>>("pid")?,
            "created_at_ms": row.get::<_, Option<i64>>("created_at_ms")?,
        }))
    };
    let jobs = jobs.query_map(named_params! { ":tag": tag, ":limit": limit.unwrap_or(10_000) }, summary)?;
    Ok(Value::Array(jobs.collect::<Result<_, _>>()?))
}

#[derive(Deserialize)]
struct JobId {
    id: i64,
}

/// Deletes the row of one job that does not run.
fn delete_job(store: &Connection, params: JobId) -> Result<Value, Failure> {
    let deleted = store.execute(
        "DELETE FROM jobs WHERE id = :id AND phase NOT IN ('pending', 'running')",
        named_params! { ":id": params.id },
    )?;
    if deleted == 1 { Ok(json!({})) } else { Err(no_job(params.id)) }
}

fn no_job(id: i64) -> Failure {
    Failure::new(-32001, format!("there is no job {id}, or it runs"))
}

#[derive(Deserialize)]
struct SetAction {
    name: String,
    spec: Value,
}

fn set_action(store: &Connection, params: &SetAction) -> Result<Value, Failure> {
    store.execute(
        "INSERT INTO actions (name, spec_json, created_at_ms, updated_at_ms)
         VALUES (:name, :spec, :now, :now)
         ON CONFLICT (context_name, name)
         DO UPDATE SET spec_json = :spec, updated_at_ms = :now",
        named_params! { ":name": params.name, ":spec": params.spec.to_string(), ":now": now_ms() },
    )?;
    Ok(json!({}))
}

#[derive(Deserialize)]
struct ActionName {
    name: String,
}

fn delete_action(store: &Connection, params: &ActionName) -> Result<Value, Failure> {
    let deleted = store.execute("DELETE FROM actions WHERE name = :name", named_params! { ":name": params.name })?;
    if deleted == 1 {
        Ok(json!({}))
    } else {
        Err(Failure::new(-32001, format!("there is no action {:?}", params.name)))
    }
}

fn stats(store: &Connection, children: &Children) -> Result<Value, Failure> {
    let count = |sql| store.query_row(sql, (), |row| row.get::<_, i64>(0));
    Ok(json!({
        "job_count": count("SELECT count(*) FROM jobs")?,
        "action_count": count("SELECT count(*) FROM actions")?,
        "children": children.running().len(),
    }))
}

fn read<P: serde::de::DeserializeOwned>(params: Value) -> Result<P, Failure> {
    let params = if params.is_null() { json!({}) } else { params };
    serde_json::from_value(params).map_err(|error| Failure::new(-32602, error.to_string()))
}

impl Failure {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: Value::Null }
    }

    /// The cause goes to the log.
    fn internal(cause: &dyn std::error::Error) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(-32603, "internal error")
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<hero_proc_cleanup::openrpc::MergeError> for Failure {
    fn from(error: hero_proc_cleanup::openrpc::MergeError) -> Self {
        Self::internal(&error)
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        Self::internal(&error)
    }
}
