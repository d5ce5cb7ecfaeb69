//! `jobs-cleanup`: calls `jobs.cleanup` at the gateway's socket, in as many calls as it takes.
//!
//! ```text
//! --dry-run                     one call
//! --limit N or --plan TOKEN     one call: never more than was asked for
//! otherwise                     call after call while the report says `more` and the last one deleted something
//! on a terminal, without --yes  before each call: dry run → question → the call, with that dry run's plan
//! ```

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use hero_proc_cleanup::client::{Client, JobsCleanupParams};
use hero_proc_cleanup::{Batches, DEFAULT_MAX_IDS, Kind, MAX_LIMIT, Next, Report, RpcError};
use indicatif::{ProgressBar, ProgressStyle};

use super::failure::Failure;
use super::interrupts::Interrupts;
use super::output::{self, Format, say};
use super::question::{self, Answer, Rest};
use super::{age, sockets, table};

/// What `jobs-cleanup` takes.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
On a terminal, without --dry-run or --yes, the dry run is shown and a question asked; then exactly that goes, or
nothing. Elsewhere nothing is asked. Without --limit and --plan, further batches follow until nothing is left; the
report is their sum. Ctrl-C ends after the running call.

Examples:
  hero_proc_cleanup jobs-cleanup --dry-run -o table
  hero_proc_cleanup jobs-cleanup --older-than 7d
  hero_proc_cleanup jobs-cleanup --kind build --actor ana --older-than 2h --yes
  hero_proc_cleanup jobs-cleanup --older-than 7d --plan 1790000000000.3f9a...")]
pub(crate) struct Args {
    /// Only jobs of this kind, such as build
    #[arg(long)]
    kind: Option<String>,
    /// Only jobs with this target
    #[arg(long)]
    target: Option<String>,
    /// Only jobs of this actor
    #[arg(long)]
    actor: Option<String>,
    /// Only jobs created at least so long ago: 250, 250ms, 3s, 10m, 2h or 7d
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    older_than: Option<i64>,
    /// Report what would go, delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Also delete jobs that have not finished: they are stopped first
    #[arg(long)]
    force: bool,
    /// At most so many jobs, in one call
    #[arg(long, value_name = "N", value_parser = at_most_max::<1>)]
    limit: Option<usize>,
    /// At most so many entries in each list of the report
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_IDS, value_parser = at_most_max::<0>)]
    max_ids: usize,
    /// Delete exactly what the dry run with this plan showed, or nothing
    #[arg(long, value_name = "TOKEN")]
    plan: Option<String>,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// How to print the report
    #[arg(short, long, value_enum, default_value_t = Format::Json)]
    output: Format,
    /// The gateway's socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// A number from `LEAST` to the most that the methods take.
fn at_most_max<const LEAST: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (LEAST..=MAX_LIMIT).contains(number));
    number.ok_or_else(|| format!("not a number from {LEAST} to {MAX_LIMIT}"))
}

/// Longer than the gateway waits for hero_proc, so that it is the gateway that says what became of the call.
const TIMEOUT: Duration = Duration::from_secs(90);

pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    let mut session = Session::new(args)?;
    if args.dry_run {
        let report = session.preview(args.plan.as_deref(), args.max_ids).await?;
        output::print_as(args.output, &report, table::report)?;
        return without_errors(&report);
    }

    let end = session.delete().await;
    session.progress.finish_and_clear();
    let (deleted, _) = session.deleted();
    let Some(report) = session.batches.into_report() else {
        return end;
    };
    output::print_as(args.output, &report, table::report)?;
    if end.is_err() && deleted > 0 {
        say("The report is of the calls before; what they deleted is gone.");
    }
    end.and_then(|()| without_errors(&report))
}

/// The dry run that `args` ask for, as [`run`] would have it.
pub(crate) async fn preview(args: &Args) -> Result<Report, Failure> {
    Session::new(args)?.preview(args.plan.as_deref(), args.max_ids).await
}

/// The one deletion that `args` ask for, as [`run`] would have it.
pub(crate) async fn delete_once(args: &Args) -> Result<Report, Failure> {
    Ok(Session::new(args)?.call(args.plan.as_deref(), args.max_ids).await?.0)
}

fn without_errors(report: &Report) -> Result<(), Failure> {
    if report.errors.is_empty() { Ok(()) } else { Err(Failure::WithErrors) }
}

/// The calls of one command.
struct Session<'a> {
    args: &'a Args,
    client: Client,
    interrupts: Interrupts,
    /// Hidden until it is known that there will be several calls, and wherever stderr is no terminal.
    progress: ProgressBar,
    batches: Batches,
}

/// Whether a signal came while a call was running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupted {
    Yes,
    No,
}

impl<'a> Session<'a> {
    fn new(args: &'a Args) -> Result<Self, Failure> {
        let mut client = Client::new(sockets::path(args.socket.clone(), sockets::GATEWAY));
        client.timeout = TIMEOUT;
        Ok(Self {
            args,
            client,
            interrupts: Interrupts::new()?,
            progress: ProgressBar::hidden(),
            batches: Batches::new(args.max_ids),
        })
    }

    /// Deletes, call after call, into the sum.
    async fn delete(&mut self) -> Result<(), Failure> {
        let asks = !self.args.yes && question::can_be_asked();
        let rest = if self.args.limit.is_some() || self.args.plan.is_some() { Rest::Stays } else { Rest::Follows };
        let mut plan = self.args.plan.clone();
        loop {
            if asks {
                plan = match self.ask(plan.take(), rest).await? {
                    Some(plan) => Some(plan),
                    None => return Ok(()),
                };
            }
            if self.interrupts.pending().await {
                return Err(self.interrupted());
            }
            let (report, interrupted) = self.call(plan.take().as_deref(), self.args.max_ids).await?;
            let left = match self.batches.add(report) {
                Next::Again { left } if rest == Rest::Follows => left,
                Next::Again { left } | Next::Stuck { left } => {
                    say(&format!("{} more jobs match: this call was not for them.", table::count(left)));
                    break;
                }
                Next::Done => break,
            };
            if interrupted == Interrupted::Yes {
                return Err(self.interrupted());
            }
            if !asks {
                self.show_progress(left);
            }
        }
        Ok(())
    }

    /// Shows the dry run and asks: its plan, or none if the answer was no.
    async fn ask(&mut self, plan: Option<String>, rest: Rest) -> Result<Option<String>, Failure> {
        let preview = self.preview(plan.as_deref(), self.args.max_ids).await?;
        if preview.jobs_planned == 0 {
            // With this plan the call deletes nothing, and says so.
            say("There is nothing to delete.");
            return Ok(Some(preview.plan));
        }
        match question::ask(&preview, rest, &mut self.interrupts).await {
            Answer::Yes => Ok(Some(preview.plan)),
            Answer::No => {
                say(&self.what_went());
                Ok(None)
            }
            Answer::Interrupted => Err(self.interrupted()),
        }
    }

    /// The dry run. It deletes nothing, so a signal ends it at once.
    async fn preview(&mut self, plan: Option<&str>, max_ids: usize) -> Result<Report, Failure> {
        let mut params = self.params(plan, max_ids);
        params.options.dry_run = Some(true);
        tokio::select! {
            answer = self.client.jobs_cleanup(&params) => Ok(answer?),
            () = self.interrupts.next() => Err(self.interrupted()),
        }
    }

    /// One call that deletes. The first signal lets it end, the second leaves it.
    async fn call(&mut self, plan: Option<&str>, max_ids: usize) -> Result<(Report, Interrupted), Failure> {
        let params = self.params(plan, max_ids);
        let mut call = pin!(self.client.jobs_cleanup(&params));
        tracing::debug!("the call begins");
        tokio::select! {
            biased;
            () = self.interrupts.next() => {}
            answer = &mut call => return Ok((answer?, Interrupted::No)),
        }
        self.progress.suspend(|| say("Waiting for the running call to end. Once more, and it is left to itself."));
        tokio::select! {
            answer = &mut call => Ok((answer?, Interrupted::Yes)),
            () = self.interrupts.next() => {
                Err(RpcError::new(Kind::OutcomeUnknown, "left before the answer: the call may still delete").into())
            }
        }
    }

    fn params(&self, plan: Option<&str>, max_ids: usize) -> JobsCleanupParams {
        let Args { kind, target, actor, older_than, force, limit, .. } = self.args;
        let mut params = JobsCleanupParams::default();
        params.kind.clone_from(kind);
        params.target.clone_from(target);
        params.actor.clone_from(actor);
        params.options.older_than_ms = *older_than;
        params.options.force = Some(*force);
        params.options.limit = *limit;
        params.options.max_ids = Some(max_ids);
        params.options.expect_plan = plan.map(ToOwned::to_owned);
        params
    }

    fn show_progress(&mut self, left: u64) {
        let (deleted, _) = self.deleted();
        if self.progress.length().is_none() {
            // Draws on stderr, and not at all where that is no terminal.
            self.progress = ProgressBar::new(deleted + left);
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} jobs, {eta} left") {
                self.progress.set_style(style);
            }
        }
        self.progress.set_length(deleted + left);
        self.progress.set_position(deleted);
    }

    /// How many jobs and actions have gone.
    fn deleted(&self) -> (u64, u64) {
        self.batches.report().map_or((0, 0), |sum| (sum.jobs_deleted, sum.actions_deleted))
    }

    fn interrupted(&self) -> Failure {
        Failure::Interrupted { what_went: self.what_went() }
    }

    fn what_went(&self) -> String {
        match self.deleted() {
            (0, _) => "nothing was deleted".to_owned(),
            (jobs, actions) => {
                format!("{} jobs and {} actions were deleted", table::count(jobs), table::count(actions))
            }
        }
    }
}
