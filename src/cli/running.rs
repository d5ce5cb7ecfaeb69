//! A server that runs beside the command that started it.

use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use hero_proc_cleanup::server::{self, Service};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::sleep;

use super::failure::Failure;
use super::interrupts::Interrupts;
use super::sockets::At;
use super::supervisor::{READY, STOPPING, tell};

/// Ready once a server is to stop.
pub(crate) type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server on its socket.
#[derive(Debug)]
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    /// Serves `service`, which the log names by its `method`, on the socket `at`.
    pub(crate) fn start(service: Service, at: At, method: &str) -> Result<Self, Failure> {
        let socket = at.path.clone();
        let listener = at.listen()?;
        tracing::info!(?socket, "serving {method}");
        Ok(Self::spawn(|stopped| server::run(listener, service, stopped)))
    }

    /// Runs what `serve` makes of the future that is ready once it is to stop.
    pub(crate) fn spawn<F>(serve: impl FnOnce(Stopped) -> F) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let stopped = Box::pin(async {
            // A sender that is dropped means the same as a message.
            let _: Result<(), _> = stopped.await;
        });
        Self { stop, task: tokio::spawn(serve(stopped)) }
    }

    /// Removes the socket, lets the running calls end, and returns then.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        // If it has ended by itself, its result says why.
        let _ = self.stop.send(());
        ended(self.task.await)
    }

    /// Runs until the first of `interrupts`, then as [`stop`](Self::stop). Each further one calls `again`, and so does
    /// the end of `limit`. The service manager is told of the beginning and of the end.
    pub(crate) async fn until(
        self,
        mut interrupts: Interrupts,
        limit: Duration,
        again: impl Fn(),
    ) -> Result<(), Failure> {
        let Self { stop, mut task } = self;
        tell(READY);
        tokio::select! {
            end = &mut task => return ended(end),
            () = interrupts.next() => tracing::info!("stopping: the running calls end"),
        }
        tell(STOPPING);
        // If the server has ended by itself, its result says why.
        let _ = stop.send(());
        let mut late = false;
        let mut limit = pin!(sleep(limit));
        loop {
            tokio::select! {
                end = &mut task => return ended(end),
                () = interrupts.next() => again(),
                () = &mut limit, if !late => {
                    late = true;
                    again();
                }
            }
        }
    }
}

fn ended(end: Result<io::Result<()>, JoinError>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::failed("the server ended", error);
    end.map_err(|error| failed(error.into()))?.map_err(failed)
}
