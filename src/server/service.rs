//! What is called: one of the two methods, and `rpc.discover`.

use std::path::PathBuf;
use std::time::Duration;

use chrono::Utc;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::cleanup::Host;
use crate::gateway::{AdminGate, Caller, Forwarder, JOBS_CLEANUP};
use crate::method::{CLEANUP_BY_TAG, cleanup_by_tag};
use crate::rpc::{Kind, RpcError};

/// A service: its method, and what it says of itself.
pub struct Service {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    /// The OpenRPC document, served as it is.
    pub(super) openrpc: &'static str,
    /// How long a client may take to send the head of a request, and how long to send its body: 10 s unless set.
    pub client_timeout: Duration,
    method: Method,
}

/// The method that a service offers.
enum Method {
    CleanupByTag { store: PathBuf, host: Host, places: Semaphore },
    JobsCleanup { forwarder: Forwarder, gate: Box<dyn AdminGate> },
}

const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Cleanups at once; further ones wait. One at a time can write anyhow, and each takes memory.
const MOST_CLEANUPS: usize = 4;

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
            method: Method::CleanupByTag { store, host, places: Semaphore::new(MOST_CLEANUPS) },
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
            method: Method::JobsCleanup { forwarder, gate: Box::new(gate) },
        }
    }

    pub(super) async fn call(
        &self,
        method: &str,
        params: Option<&RawValue>,
        caller: &Caller,
    ) -> Result<Box<RawValue>, RpcError> {
        let params = params.unwrap_or(RawValue::NULL);
        match &self.method {
            _ if method == "rpc.discover" => {
                RawValue::from_string(self.openrpc.to_owned()).map_err(|error| RpcError::internal(&error))
            }
            Method::CleanupByTag { store, host, places } if method == CLEANUP_BY_TAG => {
                let _place = places.acquire().await;
                let (store, host, params) = (store.clone(), host.clone(), params.to_owned());
                let report = spawn_blocking(move || {
                    let report = cleanup_by_tag(store.as_path(), &host, &*params, Utc::now())?;
                    to_raw_value(&report).map_err(|error| RpcError::internal(&error))
                });
                report.await.unwrap_or_else(|panic| Err(RpcError::internal(&panic)))
            }
            Method::JobsCleanup { forwarder, gate } if method == JOBS_CLEANUP => {
                forwarder.jobs_cleanup(gate.as_ref(), caller, params).await
            }
            Method::CleanupByTag { .. } | Method::JobsCleanup { .. } => {
                Err(RpcError::new(Kind::MethodNotFound, format_args!("there is no method {method:?}")))
            }
        }
    }
}
