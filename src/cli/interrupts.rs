//! The signals that ask a command to end.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// Signals that this process handles from the moment on that this exists.
#[derive(Debug)]
pub(crate) struct Interrupts(Vec<Signal>);

impl Interrupts {
    /// SIGINT and SIGTERM.
    pub(crate) fn new() -> Result<Self, Failure> {
        Self::on(&[SignalKind::interrupt(), SignalKind::terminate()])
    }

    /// SIGINT, SIGTERM and SIGHUP: for what must not leave anything behind when its terminal is closed.
    pub(crate) fn with_hang_up() -> Result<Self, Failure> {
        Self::on(&[SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()])
    }

    fn on(kinds: &[SignalKind]) -> Result<Self, Failure> {
        let signals = kinds.iter().map(|kind| signal(*kind)).collect::<Result<_, _>>();
        Ok(Self(signals.map_err(|error| Failure::failed("signals can't be handled", error))?))
    }

    /// Whether one has come that nobody has heard of.
    pub(crate) async fn pending(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.next() => true,
            () = std::future::ready(()) => false,
        }
    }

    /// Waits for the next one. None is lost if this is dropped before.
    pub(crate) async fn next(&mut self) {
        poll_fn(|context| {
            let any = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if any { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
