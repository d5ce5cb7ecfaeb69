//! Where sockets are unless the command line says so.

use std::path::PathBuf;

use hero_proc_cleanup::server::socket_dir;

/// hero_proc.
pub(crate) const HERO_PROC: &str = "hero_proc";
/// What `serve` serves.
pub(crate) const SERVE: &str = "hero_proc_cleanup";
/// What `gateway` serves.
pub(crate) const GATEWAY: &str = "hero_codescalers_cleanup";

/// `given`, else the socket of `service` in the directory of sockets.
pub(crate) fn path(given: Option<PathBuf>, service: &str) -> PathBuf {
    given.unwrap_or_else(|| socket_dir().join(service).join("rpc.sock"))
}
