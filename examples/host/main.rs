//! A server in hero_proc's shape that has mounted the extension, and what that is worth: the story of
//! hero_codescalers#10, jobs that have to be stopped, and a scheduler that goes on ticking.
//!
//! ```text
//! cargo run --example host [-- --jobs N]
//! ```
//!
//! ```text
//! story      what is shown, through the host's socket alone, and asserted
//! server     JSON-RPC on a Unix socket; the extension is mounted between two marks    ← the lines to copy
//! retention  what a policy says is due, on a tick of its own                         ← the lines to copy
//! scheduler  the tick: writes the rows of what runs, starts what waits
//! children   one process group for each job; `JobControl`                             ← what `force` needs
//! census     every row of the store, to compare two moments
//! ```
#![expect(clippy::print_stdout, reason = "it tells people what it does")]

mod census;
mod children;
mod retention;
mod scheduler;
mod server;
mod story;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use rusqlite::Connection;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use children::Children;
use scheduler::Ticks;
use server::Server;

/// Errors are told, and nothing else is done with them.
type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Runs a host in hero_proc's shape, and the story of hero_codescalers#10 on it.
#[derive(Debug, Parser)]
struct Args {
    /// How many jobs have piled up in the store for the measurement
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    jobs: u32,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new().map_err(Into::into);
    match runtime.and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The story on a host in a temporary directory. Whatever happens, neither outlives it.
async fn run(args: &Args) -> Outcome {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let dir = tempfile::Builder::new().prefix("hero-host-").tempdir()?;
    let path = dir.path().to_owned();
    let host = Host::start(&path)?;
    let _ends = EndsWith(Arc::clone(&host.server.children));
    let told = tokio::select! {
        told = story::tell(&host, args.jobs) => told,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("interrupted".into()),
    };
    let stopped = host.stop().await;
    dir.close()?;
    told.and(stopped)?;
    println!("\nThe host has ended.");
    story::holds(!path.exists(), "nothing of it is left on the disk")?;
    // Orphans become children of this process: see `Children::new`.
    let children = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT);
    story::holds(matches!(children, Err(Errno::CHILD)), "none of its processes is left")
}

/// A host that runs.
struct Host {
    server: Arc<Server>,
    ticks: Arc<Ticks>,
    /// Where it listens.
    socket: std::path::PathBuf,
    ticking: JoinHandle<()>,
    retaining: JoinHandle<()>,
    serving: JoinHandle<std::io::Result<()>>,
    end: oneshot::Sender<()>,
}

impl Host {
    /// Makes a store in `dir`, and serves it there.
    fn start(dir: &Path) -> Outcome<Self> {
        let path = dir.join("hero_proc.db");
        let connection = Connection::open(&path)?;
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.execute_batch(include_str!("../../schema/hero_proc.sql"))?;
        let store = Arc::new(Mutex::new(connection));
        let children = Children::new(Arc::clone(&store), dir.join("logs"))?;
        let server = Arc::new(Server::new(path, store, children));

        let ticks = Arc::default();
        let ticking = tokio::spawn(scheduler::run(Arc::clone(&server), Arc::clone(&ticks)));
        let retaining = tokio::spawn(retention::run(Arc::clone(&server)));
        let socket = dir.join("rpc.sock");
        let (end, ended) = oneshot::channel::<()>();
        let ended = async {
            // A sender that is dropped means the same.
            let _ = ended.await;
        };
        let router = server::router(Arc::clone(&server));
        let serve = axum::serve(UnixListener::bind(&socket)?, router).with_graceful_shutdown(ended);
        let serving = tokio::spawn(serve.into_future());
        Ok(Self { server, ticks, socket, ticking, retaining, serving, end })
    }

    /// Stops every child, starts nothing more, and answers no more calls.
    async fn stop(self) -> Outcome {
        let children = Arc::clone(&self.server.children);
        tokio::task::spawn_blocking(move || children.close()).await?;
        self.ticking.abort();
        self.retaining.abort();
        // If it has ended by itself, its result says why.
        let _ = self.end.send(());
        Ok(self.serving.await??)
    }
}

/// Ends the children even if the story panics, as it does when nobody reads it any more.
struct EndsWith(Arc<Children>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.close();
    }
}
