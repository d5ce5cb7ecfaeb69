//! `jobs-usage`: calls `jobs.usage` at the gateway's socket, and shows what jobs weigh. It changes nothing.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{ValueEnum, ValueHint};
use hero_proc_cleanup::client::{Client, JobsUsageParams};

use super::failure::Failure;
use super::fields::{Fields, value_name};
use super::output::{self, Format};
use super::{sockets, usage};

/// What `jobs-usage` takes.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Bytes are those of the text and blobs in the rows. Pages, indexes and numbers are not counted, so the sum is less than \
the file's size.

Examples:
  hero_proc_cleanup jobs-usage
  hero_proc_cleanup jobs-usage --kind build --by target --top 20
  hero_proc_cleanup jobs-usage -o json | jq '.by.kind[] | [.value, .bytes]'")]
pub(crate) struct Args {
    #[command(flatten)]
    fields: Fields,
    /// What jobs are counted by, separated by commas [default: kind,target,actor]
    #[arg(long, value_enum, value_name = "FIELDS", value_delimiter = ',')]
    by: Option<Vec<Field>>,
    /// At most this many entries in each list, the largest [default: 50, or 10 for a table]
    #[arg(
        long, value_name = "N", value_hint = ValueHint::Other,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000),
    )]
    top: Option<usize>,
    /// How to print the answer [default: table on a terminal, json elsewhere]
    #[arg(short, long, value_enum)]
    output: Option<Format>,
    /// The gateway's socket [default: hero_codescalers_cleanup/rpc.sock in the directory of sockets]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
}

/// What jobs are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Field {
    /// Their kind, such as build
    Kind,
    /// Their target
    Target,
    /// Their actor
    Actor,
}

/// The entries of a list that fit on a screen beside the other lists.
const TABLE_TOP: usize = 10;

pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    let Args { fields: Fields { kind, target, actor }, by, top, output, socket } = args;
    let format = Format::or_default(*output);
    let mut params = JobsUsageParams::default();
    params.kind.clone_from(kind);
    params.target.clone_from(target);
    params.actor.clone_from(actor);
    params.by = by.as_ref().map(|fields| fields.iter().map(|field| value_name(*field)).collect());
    params.top = top.or(match format {
        Format::Json => None,
        Format::Table => Some(TABLE_TOP),
    });

    let mut client = Client::new(sockets::path(socket.clone(), sockets::GATEWAY));
    // The gateway answers, or the connection ends.
    client.timeout = None;
    let answer = client.jobs_usage(&params).await.map_err(|error| Failure::of_call(error, &client.socket))?;
    let lines = params.top.unwrap_or(TABLE_TOP);
    output::print_as(format, &answer, |answer, screen| usage::table(answer, screen, lines)).map(drop)
}
