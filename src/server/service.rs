//! The services: the methods of hero_proc's side, those of codescalers' side, and the page's, each with `rpc.discover`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::value::RawValue;
use tokio::sync::{OwnedRwLockReadGuard, OwnedSemaphorePermit, RwLock, Semaphore};
use tokio::task::{spawn, spawn_blocking};

use super::admin::Peer;
use super::health::Health;
use super::room::{Room, Size};
use crate::audit::audit;
use crate::client::Client;
use crate::gateway::{self, AdminGate, Forwarder};
use crate::host::Host;
use crate::method;
use crate::rpc::{Kind, RpcError};

/// A service: the methods of one side, and what it says of itself.
pub struct Service {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    /// The OpenRPC document, served as it is.
    pub(super) openrpc: &'static str,
    /// How long a client may take to send the head of a request, to send its body, and to take each 256 KiB of the answer:
    /// 10 s unless set.
    pub client_timeout: Duration,
    /// The health of its store, where it has one.
    pub(super) health: Option<Health>,
    backend: Backend,
    /// Places for calls that run; none are given away any more once the server stops.
    places: Arc<Semaphore>,
    /// Read by every call that runs or waits, whether its caller is still there or not.
    calls: Arc<RwLock<()>>,
}

/// What carries out a service's calls.
enum Backend {
    HeroProc {
        store: PathBuf,
        host: Host,
    },
    Codescalers {
        forwarder: Forwarder,
        gate: Arc<dyn AdminGate>,
    },
    /// The gateway, called as the user of this process.
    Gateway(Client),
}

/// What a call holds for as long as it runs.
struct Place {
    room: Arc<Room>,
    _place: OwnedSemaphorePermit,
    _call: OwnedRwLockReadGuard<()>,
}

impl Place {
    /// Gives the place up, and takes the room that `answer` needs.
    fn leave(self, answer: Box<RawValue>) -> Box<RawValue> {
        self.room.take(answer.get().len());
        answer
    }
}

/// What callers hear of a server that stops.
pub(super) const STOPPING: &str = "the server is stopping: nothing was deleted";

const DISCOVER: &str = "rpc.discover";
/// All that is sent on to a gateway.
const OF_GATEWAY: &[&str] = &[gateway::JOBS_CLEANUP, gateway::JOBS_USAGE, gateway::JOBS_RECLAIM, DISCOVER];

const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Cleanups at once; further ones wait. One at a time can write anyhow, and each takes memory.
const MOST_CLEANUPS: usize = 4;
/// Calls to hero_proc at once; further ones wait.
const MOST_FORWARDED: usize = 16;

impl Service {
    /// The methods of hero_proc's side on the file `store`, which need not exist yet.
    #[must_use]
    pub fn cleanup_by_tag(store: PathBuf, host: Host) -> Self {
        Self {
            name: "hero_proc_cleanup",
            title: "hero_proc cleanup",
            description: "Bulk cleanup of hero_proc's jobs and actions by tag",
            openrpc: crate::openrpc::HERO_PROC,
            client_timeout: CLIENT_TIMEOUT,
            health: Some(Health::new(store.clone(), host.clone())),
            backend: Backend::HeroProc { store, host },
            places: Arc::new(Semaphore::new(MOST_CLEANUPS)),
            calls: Arc::default(),
        }
    }

    /// The methods of codescalers' side for those whom `gate` lets in.
    #[must_use]
    pub fn jobs_cleanup(forwarder: Forwarder, gate: impl AdminGate + 'static) -> Self {
        Self {
            name: "hero_codescalers_cleanup",
            title: "hero_codescalers cleanup",
            description: "Bulk cleanup of codescaler's jobs in hero_proc, for admins",
            openrpc: crate::openrpc::CODESCALERS,
            client_timeout: CLIENT_TIMEOUT,
            health: None,
            backend: Backend::Codescalers { forwarder, gate: Arc::new(gate) },
            places: Arc::new(Semaphore::new(MOST_FORWARDED)),
            calls: Arc::default(),
        }
    }

    /// The methods of the gateway that `gateway` calls, each answered as it answers.
    pub(super) fn of_gateway(gateway: Client) -> Self {
        Self {
            name: "hero_proc_cleanup_page",
            title: "hero_proc cleanup page",
            description: "Bulk cleanup of codescaler's jobs in hero_proc, for the admin who started it",
            openrpc: crate::openrpc::CODESCALERS,
            client_timeout: CLIENT_TIMEOUT,
            health: None,
            backend: Backend::Gateway(gateway),
            places: Arc::new(Semaphore::new(MOST_FORWARDED)),
            calls: Arc::default(),
        }
    }

    /// Lets no further call begin.
    pub(super) fn stop(&self) {
        self.places.close();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.places.is_closed()
    }

    /// Waits for the calls that run. Some of their callers may have left.
    pub(super) async fn ended(&self) {
        drop(self.calls.write().await);
    }

    /// The methods that this service carries out. It answers `rpc.discover` itself unless that is among them.
    fn methods(&self) -> &'static [&'static str] {
        match self.backend {
            Backend::HeroProc { .. } => method::METHODS,
            Backend::Codescalers { .. } => gateway::METHODS,
            Backend::Gateway(_) => OF_GATEWAY,
        }
    }

    /// Carries out a call. Once it has begun it goes on to its end, whether this is dropped or not.
    ///
    /// A call that is refused here leaves its line in the log here; a call that has begun leaves it when it ends.
    pub(super) async fn call(
        &self,
        method: &str,
        params: Option<&RawValue>,
        peer: Peer,
        room: &Arc<Room>,
        size: Size,
    ) -> Result<Box<RawValue>, RpcError> {
        let started = Instant::now();
        let known = self.methods().iter().find(|known| **known == method);
        if method == DISCOVER && known.is_none() {
            room.admit(size)?;
            room.take(self.openrpc.len());
            return RawValue::from_string(self.openrpc.to_owned()).map_err(|error| RpcError::internal(&error));
        }
        let params = params.unwrap_or(RawValue::NULL).to_owned();
        let place = if peer.proxied {
            Err(RpcError::new(Kind::NotAdmin, "a call through a proxy is nobody's: call the socket itself"))
        } else if known.is_none() {
            return Err(RpcError::no_method(method));
        } else {
            self.begin(room, size).await
        };
        let method = known.copied().unwrap_or("unknown method");
        let done = match (place, &self.backend) {
            (Err(error), _) => spawn_blocking(move || {
                audit(method, &peer.caller(), params.get(), Err(&error), started);
                Err(error)
            }),
            (Ok(place), Backend::HeroProc { store, host }) => {
                let (store, host) = (store.clone(), host.clone());
                spawn_blocking(move || {
                    let report = method::call(method, &*params, store.as_path(), &host, Utc::now());
                    let outcome =
                        report.as_deref().map(|report| serde_json::from_str(report.get()).unwrap_or_default());
                    audit(method, &peer.caller(), params.get(), outcome.as_ref().map_err(|error| *error), started);
                    Ok(place.leave(report?))
                })
            }
            (Ok(place), Backend::Codescalers { forwarder, gate }) => {
                let (forwarder, gate) = (forwarder.clone(), Arc::clone(gate));
                spawn(async move {
                    let caller = spawn_blocking(move || peer.caller()).await;
                    let caller = caller.map_err(|panic| RpcError::internal(&panic))?;
                    Ok(place.leave(forwarder.call(method, gate.as_ref(), &caller, &*params).await?))
                })
            }
            (Ok(place), Backend::Gateway(gateway)) => {
                let gateway = gateway.clone();
                // The gateway leaves the line in its log.
                spawn(async move { Ok(place.leave(gateway.call_raw(method, &params).await?)) })
            }
        };
        done.await.unwrap_or_else(|panic| Err(RpcError::internal(&panic)))
    }

    /// The place of a call, once there is one. If the caller leaves before, nothing has begun.
    async fn begin(&self, room: &Arc<Room>, size: Size) -> Result<Place, RpcError> {
        let call = Arc::clone(&self.calls).read_owned().await;
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| RpcError::busy(STOPPING))?;
        // Only now: the calls that ran before may have left little room.
        room.admit(size)?;
        Ok(Place { room: Arc::clone(room), _place: place, _call: call })
    }
}
