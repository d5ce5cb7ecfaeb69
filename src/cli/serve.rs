//! `serve`: hero_proc's side, on a store of its.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueHint;
use hero_proc_cleanup::server::Service;
use hero_proc_cleanup::{CLEANUP_BY_TAG, Cancel, Guard, Host, inspect};

use super::failure::Failure;
use super::interrupts::Interrupts;
use super::processes::Processes;
use super::running::Running;
use super::sockets::At;
use super::{age, sockets};

/// What `serve` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It stops nothing: with `force`, a job that has not finished goes only if the process that its row records is gone, \
which can be known only with --same-pids.
SIGTERM, SIGINT and SIGHUP let the running calls end; a second one, or --stop-timeout, ends them before their commit, \
with nothing deleted.

Examples:
  hero_proc_cleanup serve --store ~/hero/var/hero_proc.db
  hero_proc_cleanup serve --store hero_proc.db --socket /tmp/cleanup.sock")]
pub(crate) struct Args {
    /// The store: hero_proc's SQLite file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    store: PathBuf,
    /// Where to listen [default: hero_proc_cleanup/rpc.sock in the directory of sockets]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
    /// The group that may open the socket, by name or number [default: that of the server's process]
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    socket_group: Option<String>,
    /// hero_proc's processes are seen here under the pids that its rows name: a pid that isn't found is dead
    #[arg(long)]
    same_pids: bool,
    /// Let finished jobs go whose run goes on
    #[arg(long)]
    no_runs: bool,
    /// How long the running calls may take to end, once asked to: 250, 250ms, 3s, 10m, 2h or 7d
    #[arg(long, value_name = "AGE", value_hint = ValueHint::Other, default_value = "60s", value_parser = age::parse)]
    stop_timeout: i64,
    /// How long a client may take to send a request, and to take each 256 KiB of its answer
    #[arg(long, value_name = "AGE", value_hint = ValueHint::Other, default_value = "10s", value_parser = age::parse_limit, hide = true)]
    client_timeout: i64,
}

pub(crate) async fn run(args: Args, passed: Option<UnixListener>) -> Result<(), Failure> {
    let interrupts = Interrupts::new()?;
    let at = At::new(args.socket, sockets::SERVE, args.socket_group, passed)?;
    let mut host = Host::new(Guard::codescaler());
    host.control = Some(Arc::new(Processes { same_pids: args.same_pids }));
    host.runs = !args.no_runs;
    let cancel = host.cancel.clone();

    let looks = host.clone();
    let mut service = Service::cleanup_by_tag(args.store.clone(), host);
    service.client_timeout = Duration::from_millis(args.client_timeout.unsigned_abs());
    let stop_timeout = Duration::from_millis(args.stop_timeout.unsigned_abs());
    let running = Running::start(service, at, CLEANUP_BY_TAG)?;
    // Beside the server, and nobody waits for it: a store may be large, or locked.
    let look = move || look_at(&args.store, &looks);
    if let Err(error) = std::thread::Builder::new().name("look".to_owned()).spawn(look) {
        tracing::warn!(%error, "the store could not be looked at");
    }
    running
        .until(interrupts, stop_timeout, || {
            // Said once it holds.
            cancel.cancel();
            tracing::warn!("the running calls end before their commit: they delete nothing");
            tokio::spawn(keep_cancelling(cancel.clone()));
        })
        .await
}

/// A statement may have begun just after it was to be ended.
async fn keep_cancelling(cancel: Cancel) {
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    }
}

/// Says in the log whether the store fits. It may be made, or repaired, while this runs: each call looks again.
fn look_at(store: &Path, host: &Host) {
    match inspect(store, host) {
        Ok(found) => tracing::info!(jobs = found.jobs.total, tagged = found.jobs.tagged, "the store fits"),
        Err(_) if host.cancel.is_cancelled() => {}
        Err(error) => tracing::warn!(%error, "no call will succeed until the store fits"),
    }
}
