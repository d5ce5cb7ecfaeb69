//! The methods of one side over HTTP/1.1 over a Unix socket, as every Hero service serves its own; and the page for
//! admins on loopback.
//!
//! ```text
//! socket    Listener: bound with its mode from the first moment, removed when it goes
//! directory the way to a socket: who could swap a part of it
//! server    run: accept, limits, shutdown                        ← this file
//! patient   the time that a client has to take its answer
//! http      POST /rpc, GET /health, /openrpc.json, the manifest
//! dispatch  JSON-RPC 2.0: calls, batches, notifications
//! service   what is called: the methods of hero_proc's side, or of codescalers'
//! health    whether the store can be used
//! room      the answers in memory, and which calls may add to them
//! page      the page for admins: its files, its one link, its calls, which go to the gateway
//! ```

mod admin;
mod directory;
mod dispatch;
mod health;
mod http;
mod page;
mod patient;
mod room;
mod service;
mod socket;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

pub use admin::{GateError, PeerGate};
pub use page::Page;
pub use service::Service;
pub use socket::{BindError, Listener, socket_dir};

use patient::Patient;

/// Connections at once; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 2048;
/// File descriptors that connections leave to everything else: the store's files, connections to hero_proc, the log.
const OTHER_FILES: usize = 64;
/// The most bytes of a request's head.
const MOST_HEAD_BYTES: usize = 64 * 1024;

/// How long, once the server stops, a client may still take to send the rest of a request.
const LAST_REQUESTS: Duration = Duration::from_secs(2);
/// How long, once the last call has ended, a client may still take to take its answer.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What connections may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// Nothing more is read from connections.
    Answering,
    /// Connections are closed.
    Over,
}

/// Serves `service` on `listener` until `shutdown` is ready. Then new connections and calls are refused, running calls end
/// and are answered, and the socket is removed. Calls whose callers have left are waited for as well. Clients that send
/// half a request, or do not take an answer, have a few seconds.
///
/// # Errors
///
/// If the socket can't be accepted from at all. A single connection that can't be accepted is no error.
pub async fn run(listener: Listener, service: Service, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let Listener { listener, file } = listener;
    let service = Arc::new(service);
    let router = http::router(Arc::clone(&service));
    serve(listener, service, router, shutdown).await?;
    drop(file);
    Ok(())
}

/// Serves `router`, whose calls `service` carries out, as [`run`] says.
async fn serve<L: Accept>(
    listener: L,
    service: Arc<Service>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let client_timeout = service.client_timeout;
    let mut connection = hyper::server::conn::http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(client_timeout).max_buf_size(MOST_HEAD_BYTES);
    connection.half_close(true);
    let graceful = GracefulShutdown::new();
    let stage = watch::Sender::new(Stage::Serving);
    let places = Arc::new(Semaphore::new(most_connections()));
    let mut shutdown = std::pin::pin!(shutdown);

    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await, place))
        };
        let (stream, place) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept => accepted?,
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: others will be closed.
                tracing::warn!(%error, "a connection was not accepted");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let router = router.clone().layer(axum::Extension(L::peer(&stream)));
        let stream = Patient::new(stream, client_timeout, reached(&stage, Stage::Answering));
        let serving = connection.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        let serving = graceful.watch(serving);
        let over = reached(&stage, Stage::Over);
        tokio::spawn(async move {
            tokio::select! {
                ended = serving => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                },
                () = over => tracing::debug!("a client did not take its answer in time"),
            }
            drop(place);
        });
    }
    service.stop();
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = async {
            sleep(LAST_REQUESTS).await;
            stage.send_replace(Stage::Answering);
            service.ended().await;
            sleep(LAST_ANSWERS).await;
        } => {}
    }
    stage.send_replace(Stage::Over);
    service.ended().await;
    Ok(())
}

/// A listener whose connections are served.
trait Accept {
    type Stream: AsyncRead + AsyncWrite + AsFd + Send + Unpin + 'static;

    async fn accept(&self) -> io::Result<Self::Stream>;

    /// Who is at the other end, as the kernel says: headers are no identity.
    fn peer(stream: &Self::Stream) -> Option<UCred>;
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        UnixListener::accept(self).await.map(|(stream, _)| stream)
    }

    fn peer(stream: &UnixStream) -> Option<UCred> {
        let peer = stream.peer_cred().inspect_err(|error| tracing::warn!(%error, "the kernel does not say who calls"));
        peer.ok()
    }
}

/// Waits until `stage` is at least `at`.
fn reached(stage: &watch::Sender<Stage>, at: Stage) -> impl Future<Output = ()> + Send + 'static {
    let mut stage = stage.subscribe();
    async move {
        // A sender that is gone means the end.
        let _ = stage.wait_for(|stage| *stage >= at).await;
    }
}

/// As many connections as there are file descriptors for.
fn most_connections() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    files.saturating_sub(OTHER_FILES).clamp(1, MOST_CONNECTIONS)
}
