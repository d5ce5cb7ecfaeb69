//! What the service manager is told: see sd_notify(3).

use std::convert::Infallible;
use std::env;
use std::ffi::OsStr;
use std::future::pending;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// Calls are answered.
pub(crate) const READY: &str = "READY=1";
/// The end has begun.
pub(crate) const STOPPING: &str = "STOPPING=1";
/// The process is alive.
const WATCHDOG: &str = "WATCHDOG=1";

/// The signs of life that the service manager asks for: see sd_watchdog_enabled(3).
#[derive(Debug)]
pub(crate) struct Watchdog(Option<Interval>);

impl Watchdog {
    /// As often as the environment asks this process for a sign; never if it does not.
    pub(crate) fn new() -> Self {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let ours = set("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let limit = set("WATCHDOG_USEC").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0 && ours);
        Self(limit.map(|limit| {
            // Half of the limit is what the manual recommends.
            let mut interval = interval(Duration::from_micros(limit) / 2);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    /// Gives signs of life for as long as this is polled.
    pub(crate) async fn alive(&mut self) -> Infallible {
        let Some(interval) = &mut self.0 else { return pending().await };
        loop {
            interval.tick().await;
            tell(WATCHDOG);
        }
    }
}

/// Tells `state` to the service manager, if there is one that listens.
///
/// The crate `sd-notify` does not know sockets of the abstract namespace, which are named with an `@`.
pub(crate) fn tell(state: &str) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())
        && let Err(error) = send(&socket, state)
    {
        tracing::warn!(%error, state, "the service manager was not told");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address?)?;
    Ok(())
}
