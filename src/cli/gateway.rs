//! `gateway`: codescalers' side, for admins, in front of hero_proc's.

use std::path::{Path, PathBuf};

use hero_proc_cleanup::client::Client;
use hero_proc_cleanup::gateway::Forwarder;
use hero_proc_cleanup::server::{Listener, PeerGate, Service};

use super::failure::Failure;
use super::interrupts::Interrupts;
use super::running::Running;
use super::sockets;

/// What `gateway` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Admins are root, the user that this runs as, and those named with --admin. Who calls is what the kernel says.

Examples:
  hero_proc_cleanup gateway --admin ana --admin 1004
  hero_proc_cleanup gateway --socket /tmp/gateway.sock --hero-proc /tmp/cleanup.sock")]
pub(crate) struct Args {
    /// Where to listen [default: hero_codescalers_cleanup/rpc.sock in the directory of sockets]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// hero_proc's socket, or that of `serve` [default: hero_proc/rpc.sock in the directory of sockets]
    #[arg(long, value_name = "PATH")]
    hero_proc: Option<PathBuf>,
    /// A user who may call, by name or uid; may be given several times
    #[arg(long, value_name = "USER")]
    admin: Vec<String>,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let interrupts = Interrupts::new()?;
    let socket = sockets::path(args.socket, sockets::GATEWAY);
    let upstream = sockets::path(args.hero_proc, sockets::HERO_PROC);
    let running = start(&socket, &upstream, &args.admin)?;
    running.until(interrupts, || tracing::warn!("waiting for hero_proc: what was sent can't be taken back")).await
}

/// Serves `jobs.cleanup` at `socket` for `admins`, and forwards it to `upstream`, beside whoever called.
pub(crate) fn start(socket: &Path, upstream: &Path, admins: &[String]) -> Result<Running, Failure> {
    let gate = PeerGate::new(admins.iter().map(String::as_str))
        .map_err(|error| Failure::Usage(format!("--admin can't be: {error}")))?;
    let listener = Listener::bind(socket).map_err(|error| Failure::failed("can't serve", error))?;
    let service = Service::jobs_cleanup(Forwarder { hero_proc: Client::new(upstream) }, gate);
    tracing::info!(socket = %socket.display(), upstream = %upstream.display(), "serving jobs.cleanup");
    Ok(Running::start(listener, service))
}
