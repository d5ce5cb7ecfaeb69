//! The page for admins, served on loopback to the one who started it.
//!
//! Other users of the machine can connect to the port, and pages of other sites can make the admin's browser do so. The
//! page's files are public; a call needs the token, which a tab gets once, for the secret in the link's fragment. Cookies
//! are not used, since a browser sends them to every port of a host.
//!
//! A request is refused before its body is read if its `Host` does not name this machine (a name that was rebound), if
//! another origin sent it, or if its media type is not that of JSON.

mod others;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rustix::fs::{Mode, OFlags};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::net::unix::UCred;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::dispatch::refusal;
use super::http::{self, APPLICATION_JSON, Memory};
use super::service::Service;
use super::{Accept, serve};
use crate::client::Client;
use crate::page::{HEADERS, file};
use crate::rpc::{Kind, RpcError};

/// The page for the admin who started it: its files, and the calls of one browser tab.
#[non_exhaustive]
pub struct Page {
    /// The client of the gateway, which gets the calls as this process's user.
    pub gateway: Client,
    /// The file in which retention keeps its status, if there is one to show.
    pub state: Option<PathBuf>,
    /// How long a browser may take to send the head of a request, to send its body, and to take each 256 KiB of the
    /// answer: 10 s unless set.
    pub client_timeout: Duration,
    /// How long nobody may use the page before it ends: an hour unless set. A use is a request that was let in.
    pub unused: Duration,
    secret: String,
    opened: watch::Sender<bool>,
}

/// The most bytes of retention's status.
const MOST_STATE_BYTES: u64 = 1 << 20;

impl Page {
    /// A page whose calls go to `gateway`, with a new secret.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes.
    pub fn new(gateway: Client) -> io::Result<Self> {
        let client_timeout = Duration::from_secs(10);
        let unused = Duration::from_secs(60 * 60);
        Ok(Self { gateway, state: None, client_timeout, unused, secret: random()?, opened: watch::Sender::new(false) })
    }

    /// The link to the page on `address`. Whoever opens it first has the page, and nobody has it after that.
    #[must_use]
    pub fn link(&self, address: SocketAddr) -> String {
        format!("http://{address}/#{}", self.secret)
    }

    /// Waits until the link has been opened, or can't be any more.
    pub fn opened(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut opened = self.opened.subscribe();
        async move {
            // A sender that is gone means the end.
            let _ = opened.wait_for(|opened| *opened).await;
        }
    }

    /// Serves the page on `listener`, which must listen on loopback, until `shutdown` is ready or nobody has used it for
    /// [`unused`](Self::unused). The running calls end, and are answered, as [`run`](super::run) says.
    ///
    /// # Errors
    ///
    /// If the listener is not on loopback, if the system gives no random bytes, or if the port can't be accepted from.
    pub async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the page is served on loopback only"));
        }
        let Self { gateway, state, client_timeout, unused, secret, opened } = self;
        let mut service = Service::of_gateway(gateway);
        service.client_timeout = client_timeout;
        let service = Arc::new(service);
        let token = random()?;
        let session = Session {
            secret: digest(&secret),
            token_digest: digest(&token),
            token: Mutex::new(Some(token)),
            opened,
            uses: watch::Sender::new(Uses { running: 0, last: Instant::now() }),
            state,
            client_timeout,
        };
        let session = Arc::new(session);
        let router = router(Arc::clone(&service), Arc::clone(&session));
        let end = async {
            tokio::select! {
                () = shutdown => {}
                () = session.is_unused_for(unused) => tracing::warn!("the page ends: nobody has used it for {unused:?}"),
            }
        };
        serve(listener, service, router, end).await
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn peer(_: &TcpStream) -> Option<UCred> {
        None
    }
}

/// 256 random bits.
fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    // So few bytes come whole.
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Stands for a secret where it is compared: how long that takes says something of the digest, and nothing of the secret.
fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// Who may call.
struct Session {
    secret: [u8; 32],
    token_digest: [u8; 32],
    /// The token, until a tab has it.
    token: Mutex<Option<String>>,
    opened: watch::Sender<bool>,
    uses: watch::Sender<Uses>,
    state: Option<PathBuf>,
    client_timeout: Duration,
}

impl Session {
    /// Waits until nobody has used the page for `limit`.
    async fn is_unused_for(&self, limit: Duration) {
        let mut uses = self.uses.subscribe();
        loop {
            // The sender is this session's own.
            let Ok(end) = uses.wait_for(|uses| uses.running == 0).await.map(|uses| uses.last + limit) else { return };
            tokio::select! {
                () = sleep_until(end) => return,
                _ = uses.changed() => {}
            }
        }
    }

    fn is_token(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter().map(|value| value.to_str().unwrap_or_default());
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let token = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        token.is_some_and(|(_, token)| digest(token) == self.token_digest)
    }

    /// The token, for the secret, once.
    fn trade(&self, secret: &str) -> Result<String, RpcError> {
        if digest(secret) != self.secret {
            return Err(not_admin("wrong_link", "this is not the link of the page that runs here: open its own"));
        }
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).take();
        token.ok_or_else(|| {
            tracing::warn!(
                "the link was used a second time, and refused: if the page is open in a tab that is not yours, end it here"
            );
            not_admin("link_used", "the link has been used: it opens the page once, and another start makes another link")
        })
    }
}

fn not_admin(reason: &str, problem: &str) -> RpcError {
    RpcError::new(Kind::NotAdmin, problem).with("reason", reason)
}

fn router(service: Arc<Service>, session: Arc<Session>) -> Router {
    let memory = Memory::default();
    let calls = Router::new()
        .route("/rpc", post(http::rpc))
        .with_state((service, memory.clone()))
        .route("/status", get(status))
        .with_state(Arc::clone(&session))
        .layer(from_fn_with_state(Arc::clone(&session), refuse_strangers));
    let files = get(async |uri: Uri| match uri.path().strip_prefix('/').and_then(file) {
        Some(file) => ([(header::CONTENT_TYPE, file.content_type)], file.bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    });
    Router::new()
        .route("/session", post(open))
        .with_state((session, memory))
        .merge(calls)
        .fallback_service(files)
        .layer(from_fn(others::refuse_others))
        .layer(from_fn(add_headers))
}

/// Adds the page's headers to every answer.
async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // A browser repeats even a POST whose connection, used before, ends without an answer. On a new connection it does not.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn refuse(status: StatusCode, error: &RpcError) -> Response {
    (status, APPLICATION_JSON, refusal(error)).into_response()
}

/// Refuses calls without the token.
async fn refuse_strangers(State(session): State<Arc<Session>>, request: Request, next: Next) -> Response {
    if !session.is_token(request.headers()) {
        let error = not_admin("no_session", "this tab has no session: open the link of the command that runs");
        let mut response = refuse(StatusCode::UNAUTHORIZED, &error);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    let _use = Use::begin(&session);
    next.run(request).await
}

/// The requests that were let in.
#[derive(Debug, Clone, Copy)]
struct Uses {
    running: usize,
    /// When one ended last.
    last: Instant,
}

/// A use of the page, which lasts until this is dropped.
struct Use<'s>(&'s Session);

impl<'s> Use<'s> {
    fn begin(session: &'s Session) -> Self {
        session.uses.send_modify(|uses| uses.running += 1);
        Self(session)
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.uses.send_modify(|uses| *uses = Uses { running: uses.running - 1, last: Instant::now() });
    }
}

/// What a tab sends for its token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    secret: String,
}

async fn open(State((session, memory)): State<(Arc<Session>, Memory)>, request: Request) -> Response {
    let (body, _place) = match http::read(request, session.client_timeout, memory.bodies).await {
        Ok(body) => body,
        Err((status, error)) => return refuse(status, &error),
    };
    let Ok(Open { secret }) = serde_json::from_slice(&body) else {
        let problem = r#"the body must be {"secret": "…"}"#;
        return refuse(StatusCode::BAD_REQUEST, &RpcError::new(Kind::InvalidRequest, problem));
    };
    match session.trade(&secret) {
        Ok(token) => {
            let _use = Use::begin(&session);
            session.opened.send_replace(true);
            (APPLICATION_JSON, json!({ "token": token }).to_string()).into_response()
        }
        Err(error) => refuse(StatusCode::FORBIDDEN, &error),
    }
}

/// Retention's status, as it keeps it.
async fn status(State(session): State<Arc<Session>>) -> Response {
    let Some(path) = session.state.clone() else { return no_status() };
    let found = spawn_blocking(move || read_state(&path)).await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    match found {
        Ok(state) => (APPLICATION_JSON, state).into_response(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => no_status(),
        Err(error) => {
            tracing::warn!(%error, "retention's status can't be read");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, &RpcError::internal(&error))
        }
    }
}

/// There is nothing to show. That is no error, which a browser would leave in its console.
fn no_status() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn read_state(path: &Path) -> io::Result<String> {
    let invalid = |problem| Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    let mut state = String::new();
    // If the path is that of a pipe, opening it waits for no writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return invalid("it is no file");
    }
    file.take(MOST_STATE_BYTES + 1).read_to_string(&mut state)?;
    if state.len() as u64 > MOST_STATE_BYTES {
        return invalid("it has more than 1 MiB");
    }
    serde_json::from_str::<&RawValue>(&state)?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    /// The hour begins when the last request has ended. It is no hour here.
    #[tokio::test]
    async fn a_request_that_runs_is_a_use() {
        let session = Session {
            secret: digest(""),
            token_digest: digest(""),
            token: Mutex::default(),
            opened: watch::Sender::new(false),
            uses: watch::Sender::new(Uses { running: 0, last: Instant::now() }),
            state: None,
            client_timeout: Duration::ZERO,
        };
        let (first, second) = (Use::begin(&session), Use::begin(&session));
        let mut unused = pin!(session.is_unused_for(Duration::ZERO));
        let mut context = Context::from_waker(Waker::noop());
        assert!(unused.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert!(unused.as_mut().poll(&mut context).is_pending());
        drop(second);
        unused.await;
    }
}
