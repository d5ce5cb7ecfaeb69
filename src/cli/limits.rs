//! What the system lets this process have: files and threads, found out before anything depends on them.

use std::io;
use std::sync::Mutex;
use std::thread::{self, Builder};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{self, Runtime};

use super::failure::Failure;

/// The fewest files that a command needs at once.
const LEAST_FILES: u64 = 32;
/// Threads beside the runtime's workers that a server needs at once: for a call, for `/health`, for its first look at the
/// store.
const OTHER_THREADS: usize = 3;
/// The most threads for calls: more than run at once, since the names of callers may come from other machines.
const MOST_BLOCKING: usize = 64;

/// The runtime of a command that calls others: this thread.
pub(crate) fn for_client() -> Result<Runtime, Failure> {
    raise_file_limit()?;
    runtime::Builder::new_current_thread().enable_all().build().map_err(not_started)
}

/// The runtime of a server, whose threads can all be had at this moment. Its first thread for calls stays, so that a call
/// finds one even if there is none to be had later.
pub(crate) fn for_server() -> Result<Runtime, Failure> {
    raise_file_limit()?;
    let workers = thread::available_parallelism().map_or(1, usize::from);
    try_threads(workers + OTHER_THREADS).map_err(|error| {
        let needed = workers + OTHER_THREADS;
        Failure::failed(format!("{needed} threads are needed, and can't be had (ulimit -u, or TasksMax)"), error)
    })?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(MOST_BLOCKING)
        .thread_keep_alive(Duration::MAX)
        .enable_all()
        .build()
        .map_err(not_started)?;
    drop(runtime.spawn_blocking(|| ()));
    Ok(runtime)
}

fn not_started(error: io::Error) -> Failure {
    Failure::failed("the runtime could not be started", error)
}

/// Lets this process have as many files open as the system allows: each connection is one, and the usual limit of 1024
/// is there for programs that can't count further.
fn raise_file_limit() -> Result<(), Failure> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, current, maximum, "the limit of open files stays as it is");
    }
    match getrlimit(Resource::Nofile).current {
        Some(files) if files < LEAST_FILES => {
            let what = format!("{LEAST_FILES} open files are needed, and only {files} can be had (ulimit -n)");
            Err(Failure::Failed { what, source: None })
        }
        _ => Ok(()),
    }
}

/// Starts `threads` threads at once, and ends them. The runtime would panic where one of its own can't be started.
fn try_threads(threads: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    let closed = gate.lock();
    thread::scope(|scope| {
        // Opened at the end, whether all have been started or not.
        let _closed = closed;
        for _ in 0..threads {
            Builder::new().spawn_scoped(scope, || drop(gate.lock()))?;
        }
        Ok(())
    })
}
