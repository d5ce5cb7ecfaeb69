//! The signals that ask a command to end, and the one that must not end it.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{flag, low_level::pipe};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::failure::Failure;

/// SIGINT, SIGTERM and SIGHUP, handled by this process from the moment on that this exists.
///
/// A handler writes one byte for each signal, so that two of them are two however soon the second comes. tokio makes one
/// of two signals if the second comes before it has told of the first.
#[derive(Debug)]
pub(crate) struct Interrupts(UnixStream);

impl Interrupts {
    /// Handles the signals. A hang-up that whoever started this process has had ignored (`nohup`) stays ignored.
    pub(crate) fn new() -> Result<Self, Failure> {
        let handled = || {
            let (reader, writer) = StdStream::pair()?;
            let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
            for signal in [SIGINT, SIGTERM].into_iter().chain(hang_up) {
                pipe::register(signal, writer.try_clone()?)?;
            }
            reader.set_nonblocking(true)?;
            UnixStream::from_std(reader)
        };
        handled().map(Self).map_err(|error: io::Error| Failure::failed("signals can't be handled", error))
    }

    /// Whether a signal has come that nobody has heard of.
    pub(crate) async fn pending(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.next() => true,
            () = std::future::ready(()) => false,
        }
    }

    /// Waits for the next signal. No signal is lost if this is dropped before.
    pub(crate) async fn next(&mut self) {
        // The other end is never closed: handlers are there for good.
        let _ = self.0.read_u8().await;
    }
}

/// Lets a write beyond the limit of file sizes fail, where SIGXFSZ would end the process.
pub(crate) fn survive_file_limit() -> Result<(), Failure> {
    // A handler that does nothing of use: to ignore a signal takes unsafe code.
    let handled = flag::register(SIGXFSZ, Arc::default());
    handled.map(drop).map_err(|error| Failure::failed("signals can't be handled", error))
}

/// Whether this process ignores `signal`.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set >> (signal - 1) & 1 == 1)
}
