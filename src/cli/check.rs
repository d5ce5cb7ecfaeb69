//! `check`: whether a store fits, and what stands in it. Reads it, and writes nothing.

use std::path::PathBuf;

use clap::ValueHint;
use hero_proc_cleanup::{Guard, Host, Inspection, Kind, RpcError, StoreError, inspect};
use serde::Serialize;
use serde_json::json;

use super::failure::Failure;
use super::output::{self, Format};
use super::table;

/// What `check` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A store that does not fit is reported as {\"fits\": false, \"problems\": [...]}, and one that can't be used by whoever
asks with \"fits\": null. The exit code of both is 1.

Examples:
  hero_proc_cleanup check --store hero_proc.db -o table
  hero_proc_cleanup check --store hero_proc.db | jq .jobs.families")]
pub(crate) struct Args {
    /// The store: hero_proc's SQLite file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    store: PathBuf,
    /// How to print what was found [default: table on a terminal, json elsewhere]
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// What is printed of a store that fits.
#[derive(Debug, Serialize)]
struct Found {
    fits: bool,
    #[serde(flatten)]
    inspection: Inspection,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let format = Format::or_default(args.output);
    match inspect(args.store.as_path(), &Host::new(Guard::codescaler())) {
        Ok(inspection) => {
            let found = Found { fits: true, inspection };
            output::print_as(format, &found, |found, on| table::inspection(&found.inspection, on)).map(drop)
        }
        Err(StoreError::Unfit { problems }) => {
            let json = json!({ "fits": false, "problems": problems });
            output::print_as(format, &json, |_, _| table::problems("The store does not fit", &problems))?;
            Err(Failure::Unfit)
        }
        Err(StoreError::Unusable { problem, .. }) => {
            let problems = [problem];
            let json = json!({ "fits": null, "problems": problems });
            output::print_as(format, &json, |_, _| table::problems("The store can't be used", &problems))?;
            Err(Failure::failed("the store can't be used", problems.concat()))
        }
        Err(error @ StoreError::Busy) => Err(RpcError::new(Kind::StoreBusy, error).into()),
        Err(error) => Err(Failure::failed("the store could not be read", error)),
    }
}
