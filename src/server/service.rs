//! What is called: one of the two methods, and `rpc.discover`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde_json::value::RawValue;
use tokio::net::unix::UCred;
use tokio::sync::{OwnedRwLockReadGuard, OwnedSemaphorePermit, RwLock, Semaphore};
use tokio::task::{spawn, spawn_blocking};

use super::admin::caller;
use super::room::{Room, Size};
use crate::gateway::{AdminGate, Forwarder, JOBS_CLEANUP};
use crate::host::Host;
use crate::method::{self, METHODS};
use crate::rpc::{Kind, RpcError, excerpt};

/// A service: its method, and what it says of itself.
pub struct Service {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    /// The OpenRPC document, served as it is.
    pub(super) openrpc: &'static str,
    /// How long a client may take to send the head of a request, its body, and to take the answer, each: 10 s unless set.
    pub client_timeout: Duration,
    method: Method,
    /// Places for calls that run; none are given away any more once the server stops.
    places: Arc<Semaphore>,
    /// Read by every call that runs or waits, whether its caller is still there or not.
    calls: Arc<RwLock<()>>,
}

/// The method that a service offers.
enum Method {
    CleanupByTag { store: PathBuf, host: Host },
    JobsCleanup { forwarder: Forwarder, gate: Arc<dyn AdminGate> },
}

/// What a call holds for as long as it runs.
struct Place {
    room: Arc<Room>,
    _place: OwnedSemaphorePermit,
    _call: OwnedRwLockReadGuard<()>,
}

impl Place {
    /// Gives it up for the room that `answer` takes.
    fn leave(self, answer: &RawValue) {
        self.room.take(answer.get().len());
    }
}

const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Cleanups at once; further ones wait. One at a time can write anyhow, and each takes memory.
const MOST_CLEANUPS: usize = 4;
/// Calls to hero_proc at once; further ones wait.
const MOST_FORWARDED: usize = 16;

impl Service {
    /// `job.cleanup_by_tag` on the file `store`, which need not exist yet.
    #[must_use]
    pub fn cleanup_by_tag(store: PathBuf, host: Host) -> Self {
        Self {
            name: "hero_proc_cleanup",
            title: "hero_proc cleanup",
            description: "Bulk cleanup of hero_proc's jobs and actions by tag",
            openrpc: crate::openrpc::HERO_PROC,
            client_timeout: CLIENT_TIMEOUT,
            method: Method::CleanupByTag { store, host },
            places: Arc::new(Semaphore::new(MOST_CLEANUPS)),
            calls: Arc::default(),
        }
    }

    /// `jobs.cleanup` for those whom `gate` lets in.
    #[must_use]
    pub fn jobs_cleanup(forwarder: Forwarder, gate: impl AdminGate + 'static) -> Self {
        Self {
            name: "hero_codescalers_cleanup",
            title: "hero_codescalers cleanup",
            description: "Bulk cleanup of codescaler's jobs in hero_proc, for admins",
            openrpc: crate::openrpc::CODESCALERS,
            client_timeout: CLIENT_TIMEOUT,
            method: Method::JobsCleanup { forwarder, gate: Arc::new(gate) },
            places: Arc::new(Semaphore::new(MOST_FORWARDED)),
            calls: Arc::default(),
        }
    }

    /// Lets no further call begin.
    pub(super) fn stop(&self) {
        self.places.close();
    }

    /// Waits for the calls that run. Some of their callers may have left.
    pub(super) async fn ended(&self) {
        drop(self.calls.write().await);
    }

    /// A call's place. A caller who leaves before there is one leaves nothing undone.
    async fn begin(&self, room: &Arc<Room>, size: Size) -> Result<Place, RpcError> {
        let call = Arc::clone(&self.calls).read_owned().await;
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| RpcError::busy("the server is stopping: nothing was deleted"))?;
        // Only now: those that ran before may have left little.
        room.admit(size)?;
        Ok(Place { room: Arc::clone(room), _place: place, _call: call })
    }

    /// Carries out a call. Once it has begun it goes on to its end, whether this is dropped or not.
    pub(super) async fn call(
        &self,
        method: &str,
        params: Option<&RawValue>,
        peer: Option<UCred>,
        room: &Arc<Room>,
        size: Size,
    ) -> Result<Box<RawValue>, RpcError> {
        let params = params.unwrap_or(RawValue::NULL).to_owned();
        match &self.method {
            _ if method == "rpc.discover" => {
                room.admit(size)?;
                room.take(self.openrpc.len());
                RawValue::from_string(self.openrpc.to_owned()).map_err(|error| RpcError::internal(&error))
            }
            Method::CleanupByTag { store, host } if METHODS.contains(&method) => {
                let method = method.to_owned();
                let (store, host, place) = (store.clone(), host.clone(), self.begin(room, size).await?);
                let report = spawn_blocking(move || {
                    let report = method::call(&method, &*params, store.as_path(), &host, Utc::now())?;
                    place.leave(&report);
                    Ok(report)
                });
                report.await.unwrap_or_else(|panic| Err(RpcError::internal(&panic)))
            }
            Method::JobsCleanup { forwarder, gate } if method == JOBS_CLEANUP => {
                let (forwarder, gate) = (forwarder.clone(), Arc::clone(gate));
                let place = self.begin(room, size).await?;
                let report = spawn(async move {
                    let caller =
                        spawn_blocking(move || caller(peer)).await.map_err(|panic| RpcError::internal(&panic))?;
                    let report = forwarder.jobs_cleanup(gate.as_ref(), &caller, &*params).await?;
                    place.leave(&report);
                    Ok(report)
                });
                report.await.unwrap_or_else(|panic| Err(RpcError::internal(&panic)))
            }
            Method::CleanupByTag { .. } | Method::JobsCleanup { .. } => {
                Err(RpcError::new(Kind::MethodNotFound, format_args!("there is no method {:?}", excerpt(method))))
            }
        }
    }
}
