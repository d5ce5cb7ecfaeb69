//! A connection whose other end has to take what is written to it, and may close its own side meanwhile.

use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// The fewest bytes that a client has to take within each time limit: 26 kB a second, where the limit is 10 s.
const LEAST_TAKEN: usize = 256 * 1024;

/// A stream that fails if its other end takes too little of what is written, and that ends when the server stops.
///
/// A client that never reads would hold its answer in memory for as long as it likes. So would one that reads a byte now
/// and then, which is why progress has a floor here; `tokio-io-timeout`, which does the rest, has none.
pub(super) struct Patient<S> {
    stream: S,
    limit: Duration,
    /// Set while something waits to be taken.
    waiting: Option<Waiting>,
    /// Ready once nothing more is to be read; none after that.
    stopped: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// One time limit, and the bytes that were taken within it.
struct Waiting {
    deadline: Pin<Box<Sleep>>,
    taken: usize,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, limit: Duration, stopped: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { stream, limit, waiting: None, stopped: Some(Box::pin(stopped)) }
    }

    fn in_time(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let limit = self.limit;
        match (&written, &mut self.waiting) {
            (Poll::Ready(Ok(bytes)), Some(waiting)) => waiting.taken += bytes,
            (Poll::Ready(_), _) => {}
            (Poll::Pending, waiting) => {
                let waiting = waiting.get_or_insert_with(|| Waiting { deadline: Box::pin(sleep(limit)), taken: 0 });
                while waiting.deadline.as_mut().poll(context).is_ready() {
                    if waiting.taken < LEAST_TAKEN {
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    waiting.deadline.as_mut().reset(Instant::now() + limit);
                    waiting.taken = 0;
                }
            }
        }
        written
    }

    /// Whether nothing more is to be read.
    fn is_stopped(&mut self, context: &mut Context<'_>) -> bool {
        let stopped = self.stopped.as_mut().is_none_or(|stopped| stopped.as_mut().poll(context).is_ready());
        if stopped {
            self.stopped = None;
        }
        stopped
    }
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() && self.is_stopped(context) {
            // As if the other end had said all that it will.
            return Poll::Ready(Ok(()));
        }
        // The end of what the other end says. If it only closed its side, it may well wait for an answer.
        let ended = matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before && buffer.remaining() > 0;
        if ended && has_left(&self.stream) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        read
    }
}

/// Whether the other end is closed, for reading as well.
fn has_left(stream: &impl AsFd) -> bool {
    let mut ends = [PollFd::new(stream, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut ends, Some(&now)).is_err() || ends[0].revents().contains(PollFlags::HUP)
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Only asked for once everything is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting = None;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
