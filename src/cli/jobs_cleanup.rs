//! `jobs-cleanup`: calls `jobs.cleanup` at the gateway's socket, in as many calls as it takes.
//!
//! ```text
//! --dry-run                     one call
//! --limit N or --plan TOKEN     one call: never more than was asked for
//! otherwise                     call after call, as long as `Batches` says `Again`
//! without --yes                 before each call: dry run → question → the call, with that dry run's plan
//! a full disk                   smaller batches, unless the size was given
//! --reclaim                     at the end, one call of `jobs.reclaim`; with D, first of all a dry run of it
//! ```

mod args;
mod close;
mod room;

use std::io::{self, IsTerminal};
use std::pin::pin;

use hero_proc_cleanup::client::{Client, JobsCleanupParams, JobsUsageParams, ReclaimParams};
use hero_proc_cleanup::{Batches, DEFAULT_MAX_IDS, Kind, Next, Reclaimed, Report, RpcError};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::failure::Failure;
use super::interrupts::Interrupts;
use super::output::{self, Format, Printed, say};
use super::question::{self, Answer, Rest};
use super::table::{Screen, number};
use super::terminal::Terminal;
use super::text::is_utf8;
use super::{jobs_reclaim, table};
pub(crate) use args::Args;
use room::Room;

pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    // Before anything is sent.
    args.check()?;
    let terminal = if args.dry_run || args.yes { None } else { Some(Terminal::open()?) };
    let mut session = Session::new(args, args.max_ids())?;
    if args.dry_run {
        return session.dry_run().await;
    }
    session.check_reclaim().await?;
    let mut end = session.delete(terminal).await;
    session.progress.finish_and_clear();
    let close = match session.batches.report() {
        Some(report) if matched_nothing(report) && end.is_ok() => session.what_came_close().await,
        _ => Vec::new(),
    };
    if end.is_ok() && !session.enough {
        end = session.reclaim().await;
    }
    let end = session.report(end);
    close.into_iter().for_each(say);
    end
}

/// The dry run that `args` ask for, as [`run`] would have it.
pub(crate) async fn preview(args: &Args) -> Result<Report, Failure> {
    let max_ids = args.max_ids.unwrap_or(DEFAULT_MAX_IDS);
    Session::new(args, max_ids)?.preview(args.plan.as_deref()).await
}

/// The one deletion that `args` ask for, as [`run`] would have it.
pub(crate) async fn delete_once(args: &Args) -> Result<Report, Failure> {
    let max_ids = args.max_ids.unwrap_or(DEFAULT_MAX_IDS);
    Ok(Session::new(args, max_ids)?.call(args.plan.as_deref()).await?.0)
}

/// Whether no job carries the tags, and no action goes either.
fn matched_nothing(report: &Report) -> bool {
    report.jobs_matched == 0 && report.actions_planned == 0
}

fn without_errors(report: &Report) -> Result<(), Failure> {
    if report.errors.is_empty() { Ok(()) } else { Err(Failure::WithErrors) }
}

/// The calls of one command.
struct Session<'a> {
    args: &'a Args,
    client: Client,
    max_ids: usize,
    interrupts: Interrupts,
    /// Hidden until it is known that there will be several calls, and wherever stderr is no terminal.
    progress: ProgressBar,
    batches: Batches,
    room: Room,
    /// Whether the user wants no more: the answer to a question was no, or the last call was interrupted.
    enough: bool,
    /// What giving space back came to, if it was asked for.
    reclaimed: Option<Reclaimed>,
}

/// A report, and what giving space back came to.
#[derive(Serialize)]
struct Whole<'r> {
    #[serde(flatten)]
    report: &'r Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    reclaimed: Option<&'r Reclaimed>,
}

impl Whole<'_> {
    /// Printed as `format`: in a table, what was given back stands under the `report`.
    fn print(&self, format: Format, report: impl Fn(&Report, Screen) -> String) -> Result<Printed, Failure> {
        output::print_as(format, self, |whole, screen| {
            let reclaimed = whole.reclaimed.map(|reclaimed| table::reclaimed(reclaimed, screen));
            report(whole.report, screen) + &reclaimed.unwrap_or_default()
        })
    }
}

/// Whether a signal came while a call was running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupted {
    Yes,
    No,
}

impl<'a> Session<'a> {
    fn new(args: &'a Args, max_ids: usize) -> Result<Self, Failure> {
        Ok(Self {
            args,
            client: args.client(),
            max_ids,
            interrupts: Interrupts::new()?,
            progress: ProgressBar::hidden(),
            batches: Batches::new(max_ids),
            room: Room::default(),
            enough: false,
            reclaimed: None,
        })
    }

    /// Shows what would go, and how to delete it.
    async fn dry_run(&mut self) -> Result<(), Failure> {
        let report = self.preview(self.args.plan.as_deref()).await?;
        let goes = report.jobs_planned > 0 || report.actions_planned > 0;
        let to_delete = goes.then(|| self.args.to_delete(&report.plan));
        let end = self.reclaim().await;
        let format = self.args.format();
        let whole = Whole { report: &report, reclaimed: self.reclaimed.as_ref() };
        let printed = whole.print(format, |report, screen| table::dry_run(report, screen, to_delete.as_deref()));
        if let (Format::Json, true, Some(command)) = (format, io::stderr().is_terminal(), to_delete) {
            say("To delete exactly this, or nothing:");
            say(format_args!("  {command}"));
        }
        self.args.warning(&report).into_iter().for_each(say);
        if matched_nothing(&report) {
            self.what_came_close().await.into_iter().for_each(say);
        }
        output::told("nothing was deleted", printed, end.and_then(|()| without_errors(&report)))
    }

    /// Refuses a time for giving space back that hero_proc's side would refuse at the end, with everything deleted. Other
    /// errors are for the end.
    async fn check_reclaim(&mut self) -> Result<(), Failure> {
        let Some(within_ms @ Some(_)) = self.args.reclaim else { return Ok(()) };
        let mut params = ReclaimParams::default();
        params.within_ms = within_ms;
        params.dry_run = Some(true);
        match jobs_reclaim::call(&self.client, &params, &mut self.interrupts).await {
            Err(Failure::Call(error)) if error.kind() == Some(Kind::InvalidParams) => Err(error.into()),
            Err(Failure::Interrupted { .. }) => Err(self.interrupted()),
            _ => Ok(()),
        }
    }

    /// Gives space back, or says in a dry run what would be done, if that was asked for.
    async fn reclaim(&mut self) -> Result<(), Failure> {
        let Some(within_ms) = self.args.reclaim else { return Ok(()) };
        let mut params = ReclaimParams::default();
        params.within_ms = within_ms;
        params.dry_run = Some(self.args.dry_run);
        let reclaimed = jobs_reclaim::call(&self.client, &params, &mut self.interrupts).await?;
        let end = jobs_reclaim::in_full(&reclaimed);
        self.reclaimed = Some(reclaimed);
        end
    }

    /// Why nothing matched, as far as the gateway can say. The question is one of kindness: nothing depends on its answer.
    async fn what_came_close(&mut self) -> Vec<String> {
        let asked = self.args.asked();
        if asked.is_empty() {
            return Vec::new();
        }
        let mut params = JobsUsageParams::default();
        params.by = Some(asked.iter().map(|asked| asked.field.to_owned()).collect());
        params.top = Some(close::MOST_ASKED);
        let usage = tokio::select! {
            usage = self.client.jobs_usage(&params) => usage,
            () = self.interrupts.next() => return Vec::new(),
        };
        match usage {
            Ok(usage) => close::lines(&asked, &usage),
            Err(error) => {
                tracing::debug!(%error, "nobody says what came close");
                Vec::new()
            }
        }
    }

    /// Prints the sum of all calls, and says how it ended. If the sum can't be printed, stderr says what went.
    fn report(self, end: Result<(), Failure>) -> Result<(), Failure> {
        let mut what_went = self.what_went();
        if let Some(reclaimed) = &self.reclaimed {
            what_went.push_str(", and ");
            what_went.push_str(&table::file_length(reclaimed));
        }
        let Some(report) = self.batches.into_report() else {
            return end;
        };
        let deleted = report.jobs_deleted + report.actions_deleted;
        let whole = Whole { report: &report, reclaimed: self.reclaimed.as_ref() };
        let printed = whole.print(self.args.format(), table::report);
        match &printed {
            Ok(Printed::Whole) if end.is_err() && deleted > 0 => {
                say("The report is of the calls before; what they deleted is gone.");
            }
            Ok(Printed::Unread) => say(&what_went),
            _ => {}
        }
        self.args.warning(&report).into_iter().for_each(say);
        output::told(what_went, printed, end.and_then(|()| without_errors(&report)))
    }

    /// Deletes, call after call, each after a question on `terminal` if there is one.
    async fn delete(&mut self, mut terminal: Option<Terminal>) -> Result<(), Failure> {
        let rest = if self.args.limit.is_some() || self.args.plan.is_some() { Rest::Stays } else { Rest::Follows };
        let mut plan = self.args.plan.clone();
        loop {
            if let Some(asked) = &terminal {
                match self.ask(asked, plan.take(), rest).await? {
                    (Answer::Yes, shown) => plan = Some(shown),
                    (Answer::All, shown) => {
                        plan = Some(shown);
                        terminal = None;
                    }
                    (Answer::No, _) => {
                        self.enough = true;
                        say(self.what_went());
                        return Ok(());
                    }
                    (Answer::Interrupted, _) => return Err(self.interrupted()),
                }
            }
            if self.interrupts.pending().await {
                return Err(self.interrupted());
            }
            let (report, interrupted) = match self.call(plan.take().as_deref()).await {
                Err(Failure::Call(error)) if rest == Rest::Follows && !self.enough => {
                    let Some(limit) = self.room.after(&error) else { return Err(error.into()) };
                    let jobs = number(limit as u64, "job", "jobs");
                    let smaller = format!("The store's disk has no room for that at once: a batch of {jobs} is next.");
                    self.progress.suspend(|| say(smaller));
                    continue;
                }
                ended => ended?,
            };
            self.room.was_enough();
            let next = self.batches.add(report);
            let left = match next {
                Next::Done => return Ok(()),
                Next::Again { left } | Next::Stuck { left } => left,
            };
            if next == (Next::Stuck { left }) || rest == Rest::Stays {
                let left = match left {
                    0 => "More actions that no job refers to are left".to_owned(),
                    left => number(left, "more job matches", "more jobs match"),
                };
                say(match next {
                    Next::Stuck { .. } => format!("{left}, and none could go in this call."),
                    _ => format!("{left}: this call was not for them."),
                });
                return Ok(());
            }
            if interrupted == Interrupted::Yes {
                return Err(self.interrupted());
            }
            if terminal.is_none() {
                self.show_progress(left);
            }
        }
    }

    /// Shows the dry run on `terminal` and asks: the answer, and the dry run's plan.
    async fn ask(
        &mut self,
        terminal: &Terminal,
        plan: Option<String>,
        rest: Rest,
    ) -> Result<(Answer, String), Failure> {
        let preview = self.preview(plan.as_deref()).await?;
        if preview.jobs_planned == 0 && preview.actions_planned == 0 {
            // With this plan the call deletes nothing, and says so.
            say("There is nothing to delete.");
            return Ok((Answer::Yes, preview.plan));
        }
        let filter = self.args.filter();
        let mut about =
            vec![format!("Filter: {}", if filter.is_empty() { "none, all of codescaler's jobs" } else { &filter })];
        about.extend(table::asked(&preview));
        about.push(format!("Gateway: {}", self.client.socket.display()));
        about.extend(self.args.warning(&preview));
        let answer = question::ask(terminal, &preview, about, rest, &mut self.interrupts).await;
        Ok((answer, preview.plan))
    }

    /// The dry run. It deletes nothing, so a signal ends it at once.
    async fn preview(&mut self, plan: Option<&str>) -> Result<Report, Failure> {
        let mut params = self.params(plan);
        params.options.dry_run = Some(true);
        let answer = tokio::select! {
            answer = self.client.jobs_cleanup(&params) => answer,
            () = self.interrupts.next() => return Err(self.interrupted()),
        };
        answer.map_err(|error| Failure::of_dry_run(error, &self.client.socket))
    }

    /// One call that deletes. The first signal lets it end, the second leaves it.
    async fn call(&mut self, plan: Option<&str>) -> Result<(Report, Interrupted), Failure> {
        let params = self.params(plan);
        let mut call = pin!(self.client.jobs_cleanup(&params));
        tracing::debug!("the call begins");
        let (answer, interrupted) = tokio::select! {
            biased;
            () = self.interrupts.next() => {
                self.enough = true;
                self.progress.suspend(|| say("Waiting for the running call to end. Once more, and it is left to itself."));
                tokio::select! {
                    answer = &mut call => (answer, Interrupted::Yes),
                    () = self.interrupts.next() => {
                        let left = "left before the answer: the call may still delete";
                        return Err(RpcError::new(Kind::OutcomeUnknown, left).into());
                    }
                }
            }
            answer = &mut call => (answer, Interrupted::No),
        };
        match answer {
            Ok(report) => Ok((report, interrupted)),
            Err(error) => Err(Failure::of_call(error, &self.client.socket)),
        }
    }

    fn params(&self, plan: Option<&str>) -> JobsCleanupParams {
        let mut params = self.args.params(self.max_ids, plan);
        params.options.limit = self.room.limit().or(params.options.limit);
        params
    }

    /// Shows how many jobs have gone, and how many are `left`. Where actions alone are left, nobody knows their number.
    fn show_progress(&mut self, left: u64) {
        let Some(sum) = self.batches.report() else { return };
        let (template, done, left) = match left {
            0 => ("{human_pos} actions deleted, and more are left", sum.actions_deleted, 0),
            _ => ("{wide_bar} {human_pos} of {human_len} jobs, {eta} left", sum.jobs_deleted, left),
        };
        if self.progress.length().is_none() {
            // Draws on stderr, and not at all where that is no terminal.
            self.progress = ProgressBar::new(done + left);
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.progress.set_style(if is_utf8() { style } else { style.progress_chars("=> ") });
        }
        self.progress.set_length(done + left);
        self.progress.set_position(done);
    }

    fn interrupted(&self) -> Failure {
        Failure::Interrupted { what_went: self.what_went() }
    }

    fn what_went(&self) -> String {
        table::what_went(self.batches.report())
    }
}
