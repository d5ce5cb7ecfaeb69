//! `demo`: a temporary store, cleaned the whole way, and made short: command → gateway → hero_proc's side → store.
//!
//! The demo believes nobody: what went and what stayed is read from the tables before and after, row by row, and
//! compared with what the store's maker knows and with what the report says.

mod census;
mod seed;

use std::path::Path;
use std::pin::pin;

use chrono::Utc;
use clap::{Parser, ValueHint, value_parser};
use hero_proc_cleanup::client::Client;
use hero_proc_cleanup::gateway::JOBS_CLEANUP;
use hero_proc_cleanup::server::Service;
use hero_proc_cleanup::{CLEANUP_BY_TAG, Cancel, DEFAULT_MAX_IDS, Guard, Host, ReclaimOutcome, Report};
use indicatif::{DecimalBytes, HumanCount};

use super::failure::Failure;
use super::interrupts::Interrupts;
use super::output::{print, screen};
use super::running::Running;
use super::sockets::At;
use super::table::{self, Grid};
use super::text::printable;
use super::{gateway, jobs_cleanup, jobs_reclaim};
use census::Census;
use seed::{Seeded, seed};

/// What `demo` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It makes a store in a temporary directory, and removes it at the end, and on Ctrl-C. No other store is touched.

Examples:
  hero_proc_cleanup demo
  hero_proc_cleanup demo --jobs 100000")]
pub(crate) struct Args {
    /// How many jobs the store holds, at most 200000
    #[arg(
        long, value_name = "N", value_hint = ValueHint::Other, default_value_t = 5_000,
        value_parser = value_parser!(u32).range(1..=200_000),
    )]
    jobs: u32,
}

pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    let mut interrupts = Interrupts::new()?;
    let dir = tempfile::Builder::new()
        .prefix("hero-demo-")
        .tempdir()
        .map_err(|error| Failure::failed("there is no place for the demo's store", error))?;
    let cancel = Cancel::default();
    let end = {
        let mut demo = pin!(show(args, dir.path(), &cancel));
        tokio::select! {
            end = &mut demo => end,
            () = interrupts.next() => {
                // Whatever still writes into the directory ends before it is removed.
                cancel.cancel();
                let _ = demo.await;
                Err(Failure::Interrupted { what_went: "the demo's store is removed".to_owned() })
            }
        }
    };
    dir.close().map_err(|error| Failure::failed("the demo's directory could not be removed", error))?;
    end
}

async fn show(args: &Args, dir: &Path, cancel: &Cancel) -> Result<(), Failure> {
    let store = dir.join("hero_proc.db");
    print(&format!("Making a store in hero_proc's layout: {}", printable(store.display())))?;
    let (path, jobs, stop) = (store.clone(), args.jobs, cancel.clone());
    let seeded =
        blocking("the store could not be made", move || seed(&path, jobs, Utc::now().timestamp_millis(), &stop));
    let seeded = seeded.await?.ok_or_else(cancelled)?;
    let before = take_census(&store, cancel).await?;
    print(&format!(
        "It holds {} jobs, {} of them codescaler's, and {} actions.",
        HumanCount(before.count("jobs", |_| true)),
        HumanCount(seeded.jobs.len() as u64),
        HumanCount(before.count("actions", |_| true)),
    ))?;

    let mut host = Host::new(Guard::codescaler());
    host.cancel = cancel.clone();
    let upstream = dir.join("hero_proc.sock");
    let socket = dir.join("gateway.sock");
    let hero_proc = Running::start(Service::cleanup_by_tag(store.clone(), host), At::path(&upstream), CLEANUP_BY_TAG)?;
    let gateway = Running::start(gateway::service(Client::new(&upstream), &[])?, At::path(&socket), JOBS_CLEANUP)?;
    let end = clean(args, &store, &socket, &before, &seeded, cancel).await;
    let stopped = (gateway.stop().await, hero_proc.stop().await);
    end.and(stopped.0).and(stopped.1)
}

/// The calls, and the proof.
async fn clean(
    args: &Args,
    store: &Path,
    socket: &Path,
    before: &Census,
    seeded: &Seeded,
    cancel: &Cancel,
) -> Result<(), Failure> {
    print("\n1. What would go\n")?;
    let preview = jobs_cleanup::preview(&cleanup(args, socket, &["--dry-run"])?).await?;
    print(&table::report(&preview, screen()))?;
    let unchanged = before.until(&take_census(store, cancel).await?) == census::Difference::default();
    expect(unchanged, "The dry run changed nothing: every row of every table is as it was.")?;

    print("\n2. That goes, or nothing\n")?;
    let report = jobs_cleanup::delete_once(&cleanup(args, socket, &["--plan", &preview.plan, "--yes"])?).await?;
    print(&table::report(&report, screen()))?;

    print("\n3. The space is given back\n")?;
    // The demo's store is small: by itself, so little would not be given back.
    let command = understood("jobs-reclaim", socket, &["--always", "--within", "2s"])?;
    let reclaimed = jobs_reclaim::once(&command).await?;
    print(&table::reclaimed(&reclaimed, screen()))?;

    print("\n4. Before and after\n")?;
    let after = take_census(store, cancel).await?;
    print(&before_and_after(before, &after, seeded))?;

    print("\n5. What is proved, from the tables themselves\n")?;
    prove(before, &after, seeded, &preview, &report)?;
    if reclaimed.outcome != ReclaimOutcome::Done {
        // As the result says: on a machine that is too slow, or where a disk is full.
        return Ok(());
    }
    let long = std::fs::metadata(store).map_err(|error| Failure::failed("the store could not be found", error))?.len();
    expect(long == after.file && after.free == 0, "The file is as long as its rows need: none of its pages is free.")
}

/// The arguments of `jobs-cleanup`, with `more`.
fn cleanup(args: &Args, socket: &Path, more: &[&str]) -> Result<jobs_cleanup::Args, Failure> {
    let jobs = args.jobs.to_string();
    let mut words = vec!["--older-than", "7d"];
    if args.jobs as usize > DEFAULT_MAX_IDS {
        // The proof needs the lists whole.
        words.extend(["--limit", &jobs, "--max-ids", &jobs]);
    }
    words.extend(more);
    understood("jobs-cleanup", socket, &words)
}

/// The arguments of `command` as they are typed, which are shown, and as they are understood.
fn understood<A: clap::Args>(command: &str, socket: &Path, words: &[&str]) -> Result<A, Failure> {
    let socket = socket.display().to_string();
    let words = [words, ["-o", "table", "--socket", &socket].as_slice()].concat();
    print(&printable(format_args!("$ hero_proc_cleanup {command} {}", words.join(" "))))?;
    let parsed = Command::try_parse_from(words);
    parsed.map(|Command { args }| args).map_err(|error| Failure::failed("the demo's own command is wrong", error))
}

/// A command's arguments by themselves.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Command<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

fn before_and_after(before: &Census, after: &Census, seeded: &Seeded) -> String {
    let mut text = Grid::new(["", "before", "after"], screen());
    let mut row = |what: &str, of: &dyn Fn(&Census) -> String| text.figures(what, [of(before), of(after)]);
    let count = |rows: u64| HumanCount(rows).to_string();
    let (jobs, actions) = (&seeded.jobs, &seeded.actions);
    row("jobs: codescaler's", &|census| count(census.count("jobs", |id| jobs.contains(&id))));
    row("jobs: others'", &|census| count(census.count("jobs", |id| !jobs.contains(&id))));
    row("actions: codescaler's", &|census| count(census.count("actions", |id| actions.contains(&id))));
    row("actions: others'", &|census| count(census.count("actions", |id| !actions.contains(&id))));
    for table in ["services", "runs", "secrets"] {
        row(table, &|census| count(census.count(table, |_| true)));
    }
    row("the store's file", &|census| DecimalBytes(census.file).to_string());
    row("of it, free pages", &|census| DecimalBytes(census.free).to_string());
    text.to_string()
}

fn prove(before: &Census, after: &Census, seeded: &Seeded, preview: &Report, report: &Report) -> Result<(), Failure> {
    let gone = before.until(after);
    expect(
        report.job_ids == preview.job_ids && report.action_ids == preview.action_ids,
        "What went is what the dry run showed.",
    )?;
    expect(
        gone.jobs == report.job_ids && gone.actions.len() as u64 == report.actions_deleted,
        "What the report says is gone is what is gone.",
    )?;
    expect(
        gone.jobs.iter().all(|id| seeded.jobs.contains(id))
            && gone.actions.iter().all(|id| seeded.actions.contains(id)),
        "No row is gone that does not carry the tag.",
    )?;
    expect(gone.other.is_empty(), "Every other row of every table is as it was, byte for byte; none was added.")
}

/// Prints `claim`, or fails with it.
fn expect(holds: bool, claim: &str) -> Result<(), Failure> {
    if holds {
        return print(&format!("holds: {claim}")).map(drop);
    }
    Err(Failure::Failed { what: format!("this does not hold: {claim}"), source: None })
}

async fn take_census(store: &Path, cancel: &Cancel) -> Result<Census, Failure> {
    if cancel.is_cancelled() {
        return Err(cancelled());
    }
    let store = store.to_owned();
    blocking("the store could not be read", move || Census::take(&store)).await
}

async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::failed(what, error))?.map_err(|error| Failure::failed(what, error))
}

fn cancelled() -> Failure {
    Failure::Failed { what: "cancelled".to_owned(), source: None }
}
