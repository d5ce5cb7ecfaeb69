//! `jobs-reclaim`: calls `jobs.reclaim` at the gateway's socket.

use std::path::PathBuf;

use clap::ValueHint;
use hero_proc_cleanup::client::{Client, ReclaimParams};
use hero_proc_cleanup::{ReclaimOutcome, ReclaimReason, Reclaimed};

use super::failure::Failure;
use super::interrupts::Interrupts;
use super::output::{self, Format, Printed, say};
use super::{age, sockets, table};

/// What `jobs-reclaim` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Deleting jobs frees pages inside the store's file, which hero_proc uses again; the file stays as long as it is. This makes \
it short. hero_proc can't write meanwhile: how long that takes is known beforehand, and if it is longer than --within, \
nothing is done.

Examples:
  hero_proc_cleanup jobs-reclaim --dry-run
  hero_proc_cleanup jobs-reclaim --within 500ms")]
pub(crate) struct Args {
    /// How long hero_proc may be kept from writing: 250, 250ms or 2s [default: 1s]
    #[arg(long, value_name = "D", value_hint = ValueHint::Other, value_parser = age::parse_limit)]
    within: Option<i64>,
    /// Also if little of the file is free [default: if a fifth of it and 16 MiB are]
    #[arg(long)]
    always: bool,
    /// Say what would be done, change nothing
    #[arg(long)]
    dry_run: bool,
    /// How to print the result [default: table on a terminal, json elsewhere]
    #[arg(short, long, value_enum)]
    output: Option<Format>,
    /// The gateway's socket [default: hero_codescalers_cleanup/rpc.sock in the directory of sockets]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
}

pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    let reclaimed = once(args).await?;
    let printed = output::print_as(Format::or_default(args.output), &reclaimed, table::reclaimed);
    let done = table::file_length(&reclaimed);
    if let (Ok(Printed::Unread), false) = (&printed, args.dry_run) {
        say(&done);
    }
    output::told(done, printed, in_full(&reclaimed))
}

/// The call that `args` ask for, as [`run`] would have it.
pub(crate) async fn once(args: &Args) -> Result<Reclaimed, Failure> {
    let mut client = Client::new(sockets::path(args.socket.clone(), sockets::GATEWAY));
    client.timeout = None;
    let mut params = ReclaimParams::default();
    params.within_ms = args.within;
    params.dry_run = Some(args.dry_run);
    if args.always {
        (params.min_free_percent, params.min_free_bytes) = (Some(0), Some(0));
    }
    call(&client, &params, &mut Interrupts::new()?).await
}

/// The call. A signal leaves it, as nothing depends on its end.
pub(crate) async fn call(
    client: &Client,
    params: &ReclaimParams,
    interrupts: &mut Interrupts,
) -> Result<Reclaimed, Failure> {
    tokio::select! {
        reclaimed = client.jobs_reclaim(params) => reclaimed.map_err(|error| Failure::of_call(error, &client.socket)),
        () = interrupts.next() => {
            let dry_run = params.dry_run == Some(true);
            let what_went = if dry_run { "nothing was changed" } else { "space may still be given back" };
            Err(Failure::Interrupted { what_went: what_went.to_owned() })
        }
    }
}

/// Whether all was given back that was to be; also if there was too little, or no need.
pub(crate) fn in_full(reclaimed: &Reclaimed) -> Result<(), Failure> {
    use ReclaimReason::{DiskTooFull, LockTooLong, RowidsInUse};
    match (reclaimed.outcome, reclaimed.reason) {
        (ReclaimOutcome::Partly, Some(reason))
        | (ReclaimOutcome::Skipped, Some(reason @ (LockTooLong | DiskTooFull | RowidsInUse))) => {
            Err(Failure::NotReclaimed { why: table::reclaim_reason(reason) })
        }
        _ => Ok(()),
    }
}
