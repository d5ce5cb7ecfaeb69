//! `gateway`: codescalers' side, for admins, in front of hero_proc's.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;
use hero_proc_cleanup::client::Client;
use hero_proc_cleanup::gateway::{Forwarder, JOBS_CLEANUP};
use hero_proc_cleanup::server::{GateError, PeerGate, Service};

use super::failure::Failure;
use super::interrupts::Interrupts;
use super::running::Running;
use super::sockets::At;
use super::{age, sockets};

/// What `gateway` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Admins are root, the user that this runs as, and those named with --admin. Who calls is what the kernel says.

Examples:
  hero_proc_cleanup gateway --admin ana --admin 1004
  hero_proc_cleanup gateway --socket /tmp/gateway.sock --hero-proc /tmp/cleanup.sock")]
pub(crate) struct Args {
    /// Where to listen [default: hero_codescalers_cleanup/rpc.sock in the directory of sockets]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
    /// The group that may open the socket, by name or number [default: that of the server's process]
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    socket_group: Option<String>,
    /// hero_proc's socket, or that of `serve` [default: hero_proc/rpc.sock in the directory of sockets]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    hero_proc: Option<PathBuf>,
    /// A user who may call, by name or uid; may be given several times
    #[arg(long, value_name = "USER", value_hint = ValueHint::Username)]
    admin: Vec<String>,
    /// How long hero_proc may take to answer: 250, 250ms, 3s, 10m, 2h or 7d
    #[arg(long, value_name = "AGE", value_hint = ValueHint::Other, default_value = "60s", value_parser = age::parse_limit)]
    timeout: i64,
    /// How long a client may take to send a request, and to take each 256 KiB of its answer
    #[arg(long, value_name = "AGE", value_hint = ValueHint::Other, default_value = "10s", value_parser = age::parse_limit, hide = true)]
    client_timeout: i64,
}

pub(crate) async fn run(args: Args, passed: Option<UnixListener>) -> Result<(), Failure> {
    let interrupts = Interrupts::new()?;
    let at = At::new(args.socket, sockets::GATEWAY, args.socket_group, passed)?;
    let mut hero_proc = Client::new(sockets::path(args.hero_proc, sockets::HERO_PROC));
    hero_proc.timeout = Some(Duration::from_millis(args.timeout.unsigned_abs()));
    tracing::info!(hero_proc = ?hero_proc.socket, "calls go to hero_proc");
    let mut service = service(hero_proc, &args.admin)?;
    service.client_timeout = Duration::from_millis(args.client_timeout.unsigned_abs());
    let running = Running::start(service, at, JOBS_CLEANUP)?;
    // hero_proc's answer has a limit of its own.
    running
        .until(interrupts, Duration::MAX, || tracing::warn!("waiting for hero_proc: what was sent can't be taken back"))
        .await
}

/// `jobs.cleanup` for `admins`, forwarded to `hero_proc`.
pub(crate) fn service(hero_proc: Client, admins: &[String]) -> Result<Service, Failure> {
    let gate = PeerGate::new(admins.iter().map(String::as_str)).map_err(|error| match error {
        GateError::Nobody => Failure::failed("can't serve", error),
        error => Failure::Usage(format!("--admin can't be: {error}")),
    })?;
    Ok(Service::jobs_cleanup(Forwarder::new(hero_proc), gate))
}
