//! A server in codescalers' shape that has mounted `jobs.cleanup` and the page for admins behind its own
//! `require_admin`, and calls of it, all the way to hero_proc's store and back.
//!
//! ```text
//! cargo run --example codescalers
//! cargo run --example codescalers -- serve
//! ```
//!
//! The second command serves until its stdin ends, for a proxy with a browser in front. What stands between the marks is
//! what there is to copy: mounting the methods and the page, and running a policy. It needs the feature `client` alone. In
//! hero_proc's place stands a server that knows the extension's methods.
#![expect(clippy::print_stdout, reason = "it tells people what it does")]

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use chrono::Utc;
use hero_proc_cleanup::client::{Client, JobsCleanupParams};
use hero_proc_cleanup::policy::{History, Retention, Side, Step};
use hero_proc_cleanup::{Guard, Host, Kind, RpcError, codescaler_tags};
use rusqlite::{Connection, named_params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

/// Errors are told, and nothing else is done with them.
type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// What the handlers share.
struct Codescalers {
    /// hero_proc's socket.
    hero_proc: PathBuf,
    /// The users who are admins, by name.
    admins: Mutex<BTreeSet<String>>,
}

/// Who calls: the user at the other end of the socket, as the kernel says.
#[derive(Clone)]
struct User {
    name: String,
    uid: Option<u32>,
}

/// A JSON-RPC error object, as this server has them.
#[derive(Debug, Serialize)]
struct Failure {
    code: i32,
    message: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    data: Value,
}

impl Codescalers {
    /// The check that stands before everything that only admins may do.
    fn require_admin(&self, user: &str) -> Result<(), Failure> {
        if self.admins().contains(user) {
            return Ok(());
        }
        Err(Failure { code: -32002, message: format!("{user} is no admin"), data: Value::Null })
    }

    fn admins(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.admins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dispatch(&self, user: &User, method: &str, params: Value) -> Result<Value, Failure> {
        match method {
            "admin.list" => {
                self.require_admin(&user.name)?;
                Ok(json!({ "admins": *self.admins() }))
            }
            // mounting the extension: begin
            method if hero_proc_cleanup::gateway::METHODS.contains(&method) => {
                let hero_proc = hero_proc_cleanup::client::Client::new(&self.hero_proc);
                let forwarder = hero_proc_cleanup::gateway::Forwarder::new(hero_proc);
                let mut caller = hero_proc_cleanup::gateway::Caller::new(&user.name);
                caller.uid = user.uid;
                match forwarder.call(method, self, &caller, &params).await {
                    Ok(report) => Ok(json!(report)),
                    Err(error) => Err(Failure { code: error.code, message: error.message, data: error.data }),
                }
            }
            // mounting the extension: end
            _ => Err(Failure { code: -32601, message: format!("there is no method {method:?}"), data: Value::Null }),
        }
    }
}

// mounting the extension: begin
impl hero_proc_cleanup::gateway::AdminGate for Codescalers {
    fn is_admin(&self, caller: &hero_proc_cleanup::gateway::Caller) -> bool {
        self.require_admin(&caller.name).is_ok()
    }
}
// mounting the extension: end

/// The server itself, which carries out its policy. Nobody else has this gate.
struct Itself;

// running a policy: begin
impl hero_proc_cleanup::gateway::AdminGate for Itself {
    fn is_admin(&self, _: &hero_proc_cleanup::gateway::Caller) -> bool {
        true
    }
}

impl Codescalers {
    /// Does what is due by the policy of `retention`: called on each tick.
    async fn retain(&self, retention: &mut Retention) {
        let hero_proc = hero_proc_cleanup::client::Client::new(&self.hero_proc);
        let forwarder = hero_proc_cleanup::gateway::Forwarder::new(hero_proc);
        let caller = hero_proc_cleanup::gateway::Caller::new("retention");
        while let Step::Call(due) = retention.next(Utc::now()) {
            let (method, params) = (due.method(Side::Codescalers), due.params(Side::Codescalers));
            retention.answered(Utc::now(), forwarder.call(method, &Itself, &caller, &params).await);
        }
    }
}
// running a policy: end

#[derive(Deserialize)]
struct Call {
    id: Value,
    method: String,
    #[serde(default)]
    params: Value,
}

async fn rpc(
    State(codescalers): State<Arc<Codescalers>>,
    ConnectInfo(user): ConnectInfo<User>,
    Json(call): Json<Call>,
) -> Json<Value> {
    Json(match codescalers.dispatch(&user, &call.method, call.params).await {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": call.id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": call.id, "error": error }),
    })
}

// mounting the page: begin
/// A file of the page under `/cleanup/`, for admins. Its calls go to `/cleanup/rpc`, which is `rpc`.
async fn page(State(codescalers): State<Arc<Codescalers>>, ConnectInfo(user): ConnectInfo<User>, uri: Uri) -> Response {
    let path = uri.path().strip_prefix("/cleanup/").unwrap_or_default();
    let mut response = match (codescalers.require_admin(&user.name), hero_proc_cleanup::page::file(path)) {
        (Err(error), _) => (StatusCode::FORBIDDEN, error.message).into_response(),
        (Ok(()), None) => StatusCode::NOT_FOUND.into_response(),
        (Ok(()), Some(file)) => ([(header::CONTENT_TYPE, file.content_type)], file.bytes).into_response(),
    };
    for (name, value) in hero_proc_cleanup::page::HEADERS {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// The page's addresses are relative, so `/cleanup` leads to `/cleanup/`, behind a proxy as well.
async fn to_page(headers: HeaderMap) -> Response {
    let prefix = headers.get("x-forwarded-prefix").and_then(|prefix| prefix.to_str().ok());
    let location = hero_proc_cleanup::page::with_slash("/cleanup", prefix);
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
}
// mounting the page: end

/// In hero_proc's place: the extension's methods, on a store of hero_proc's.
async fn hero_proc(State(store): State<Arc<Path>>, Json(call): Json<Call>) -> Json<Value> {
    let Call { id, method, params } = call;
    let report = tokio::task::spawn_blocking(move || {
        hero_proc_cleanup::call(&method, &params, &*store, &Host::new(Guard::codescaler()), chrono::Utc::now())
    });
    Json(match report.await.unwrap_or_else(|error| Err(RpcError::internal(&error))) {
        Ok(report) => json!({ "jsonrpc": "2.0", "id": id, "result": report }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
    })
}

impl User {
    fn of(stream: &UnixStream) -> Self {
        let uid = stream.peer_cred().ok().map(|peer| peer.uid());
        let name = uid.map(|uid| match uzers::get_user_by_uid(uid) {
            Some(user) => user.name().to_string_lossy().into_owned(),
            None => uid.to_string(),
        });
        // Of whom the kernel says nothing has no name: no admin is called so.
        Self { name: name.unwrap_or_default(), uid }
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for User {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self::of(stream.io())
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().map_err(Into::into);
    match runtime.and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Both servers in a temporary directory, and the story on them.
async fn run() -> Outcome {
    let dir = tempfile::Builder::new().prefix("hero-codescalers-").tempdir()?;
    let path = dir.path().to_owned();
    let store = path.join("hero_proc.db");
    make_store(&store)?;

    let upstream = path.join("hero_proc.sock");
    let (end_upstream, upstream_ends) = oneshot::channel::<()>();
    let router = Router::new().route("/rpc", post(hero_proc)).with_state(Arc::from(store.as_path()));
    let upstream_runs = tokio::spawn(
        axum::serve(UnixListener::bind(&upstream)?, router)
            .with_graceful_shutdown(async {
                let _ = upstream_ends.await;
            })
            .into_future(),
    );

    let socket = path.join("codescalers.sock");
    let codescalers = Arc::new(Codescalers { hero_proc: upstream.clone(), admins: Mutex::default() });
    let router = Router::new()
        .route("/rpc", post(rpc))
        // mounting the page: begin
        .route("/cleanup", get(to_page))
        .route("/cleanup/", get(page))
        .route("/cleanup/{file}", get(page))
        .route("/cleanup/rpc", post(rpc))
        // mounting the page: end
        .with_state(Arc::clone(&codescalers));
    let (end, ends) = oneshot::channel::<()>();
    let serve = axum::serve(UnixListener::bind(&socket)?, router.into_make_service_with_connect_info::<User>());
    let runs = tokio::spawn(
        serve
            .with_graceful_shutdown(async {
                let _ = ends.await;
            })
            .into_future(),
    );

    println!("A server in codescalers' shape listens on {},", socket.display());
    println!("in front of job.cleanup_by_tag on {}.\n", upstream.display());
    let told = if std::env::args().nth(1).as_deref() == Some("serve") {
        serve_on(&codescalers, &socket).await
    } else {
        tell(&codescalers, &socket, &store).await
    };
    // If they have ended by themselves, their results say why.
    let _ = (end.send(()), end_upstream.send(()));
    runs.await??;
    upstream_runs.await??;
    dir.close()?;
    told?;
    holds(!path.exists(), "nothing is left on the disk")
}

/// Lets this user in, until stdin ends.
async fn serve_on(codescalers: &Codescalers, socket: &Path) -> Outcome {
    let user = User::of(&UnixStream::connect(socket).await?).name;
    codescalers.admins().insert(user);
    println!("serving the page under /cleanup/ on {}", socket.display());
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(())
}

async fn tell(codescalers: &Codescalers, socket: &Path, store: &Path) -> Outcome {
    let client = Client::new(socket);
    let user = User::of(&UnixStream::connect(socket).await?).name;
    let all = jobs(store)?;
    println!("The store holds jobs {all:?}: 1 to 3 are ana's builds, 4 is ben's, 5 is not codescaler's.\n");

    println!("{user} calls, and is no admin:");
    let mut params = JobsCleanupParams::default();
    params.actor = Some("ana".to_owned());
    let refused = client.jobs_cleanup(&params).await.err().ok_or("a call was not refused")?;
    println!("  {} {}: {}", refused.code, refused.data["kind"], refused.message);
    holds(refused.code == -32002 && refused.kind() == Some(Kind::NotAdmin), "jobs.cleanup refuses with -32002")?;
    let refused = client.call_raw("admin.list", &json!({})).await.err().ok_or("a call was not refused")?;
    holds(refused.code == -32002, "as does every other method behind require_admin")?;
    holds(jobs(store)? == all, "every job is still there")?;
    let answer = fetch(socket, "/cleanup/", "").await?;
    holds(answer.starts_with("HTTP/1.1 403") && !answer.contains("<html"), "the page is for admins only")?;

    println!("\n{user} is made an admin, and calls:");
    codescalers.admins().insert(user.clone());
    params.options.dry_run = Some(true);
    let preview = client.jobs_cleanup(&params).await?;
    println!("  the dry run would delete jobs {:?} and actions {:?}", preview.job_ids, preview.action_ids);
    holds(preview.job_ids == [1, 2, 3] && jobs(store)? == all, "it names ana's jobs, and deletes nothing")?;
    params.options.dry_run = None;
    params.options.expect_plan = Some(preview.plan.clone());
    let report = client.jobs_cleanup(&params).await?;
    println!("  deleted: {} jobs and {} actions", report.jobs_deleted, report.actions_deleted);
    holds((report.jobs_deleted, report.actions_deleted) == (3, 3), "hero_proc's report comes back")?;
    holds(jobs(store)? == [4, 5], "ana's jobs are gone, ben's and the one that is not codescaler's are there")?;

    println!("\n{user} opens the page:");
    let answer = fetch(socket, "/cleanup/", "").await?;
    holds(answer.starts_with("HTTP/1.1 200") && answer.contains("<html"), "it is served under the host's prefix")?;
    holds(answer.contains("default-src 'none'"), "and nothing is loaded but the page's own files")?;
    let answer = fetch(socket, "/cleanup", "x-forwarded-prefix: /apps\r\n").await?;
    holds(answer.contains("\r\nlocation: /apps/cleanup/\r\n"), "a proxy's prefix is kept where a slash is added")?;

    println!("\nWhat hero_proc refuses comes back as it is:");
    let wrong =
        client.call_raw("jobs.cleanup", &json!({ "expect_plan": "x" })).await.err().ok_or("a call was not refused")?;
    println!("  {} {}: {}", wrong.code, wrong.data, wrong.message);
    holds(wrong.code == -32602 && wrong.data["param"] == "expect_plan", "code, message and data")?;

    println!("\nA policy that keeps the last success takes the older one by itself, and asks nobody:");
    let policy = json!({ "every": "1h", "rule": [{ "actor": "ben", "older_than": "14d", "keep_last": 1 }] });
    let mut retention = Retention::new(serde_json::from_value(policy)?, History::default(), 0.0);
    Connection::open(store)?.execute(
        "INSERT INTO jobs (id, action, spec_json, phase, tags, created_at_ms)
         SELECT 3, action, spec_json, phase, tags, 1700000000000 FROM jobs WHERE id = 4",
        (),
    )?;
    // The job is half of all that are codescaler's: a policy may take as much without being confirmed.
    while retention.history().succeeded_ms.is_none() {
        codescalers.retain(&mut retention).await;
        holds(retention.history().failures == 0, "each call was answered")?;
    }
    holds(jobs(store)? == [4, 5], "ben's old job is gone, his last one is there")
}

/// The whole answer to a GET, with one more `header`.
async fn fetch(socket: &Path, path: &str, header: &str) -> Outcome<String> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A store in hero_proc's layout: four finished jobs of codescaler's, each with an action of its own, and another's.
fn make_store(store: &Path) -> Outcome {
    let connection = Connection::open(store)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.execute_batch(include_str!("../schema/hero_proc.sql"))?;
    for (number, actor) in (1..).zip(["ana", "ana", "ana", "ben", ""]) {
        let (action, tags) = match actor {
            "" => ("books_export".to_owned(), vec!["books".to_owned()]),
            actor => (format!("codescaler_build_{number}"), codescaler_tags(actor, "build", "web")?),
        };
        let spec = json!({ "tags": tags }).to_string();
        connection.execute(
            "INSERT INTO jobs (action, action_id, spec_json, phase, tags, created_at_ms)
             VALUES (:action, :action, :spec, 'succeeded', :tags, :now)",
            named_params! {
                ":action": action,
                ":spec": spec,
                ":tags": json!(tags).to_string(),
                ":now": chrono::Utc::now().timestamp_millis(),
            },
        )?;
        connection.execute(
            "INSERT INTO actions (name, spec_json) VALUES (:name, :spec)",
            named_params! { ":name": action, ":spec": spec },
        )?;
    }
    Ok(())
}

/// The jobs in the store, read beside everyone.
fn jobs(store: &Path) -> Outcome<Vec<i64>> {
    let connection = Connection::open(store)?;
    let mut ids = connection.prepare("SELECT id FROM jobs ORDER BY id")?;
    let ids = ids.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(ids)
}

/// Prints `claim`, or fails with it.
fn holds(holds: bool, claim: &str) -> Outcome {
    if !holds {
        return Err(format!("this does not hold: {claim}").into());
    }
    println!("holds: {claim}");
    Ok(())
}
