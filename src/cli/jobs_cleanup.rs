//! `jobs-cleanup`: calls `jobs.cleanup` at the gateway's socket, in as many calls as it takes.
//!
//! ```text
//! --dry-run                     one call
//! --limit N or --plan TOKEN     one call: never more than was asked for
//! otherwise                     call after call, as long as `Batches` says `Again`
//! without --yes                 before each call: dry run → question → the call, with that dry run's plan
//! --reclaim                     at the end, one call of `jobs.reclaim`
//! ```

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ValueEnum, ValueHint};
use hero_proc_cleanup::client::{Client, JobsCleanupParams, ReclaimParams};
use hero_proc_cleanup::{Batches, DEFAULT_MAX_IDS, Kind, MAX_LIMIT, Next, Reclaimed, Report, RpcError};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::failure::Failure;
use super::interrupts::Interrupts;
use super::output::{self, Format, Printed, say};
use super::question::{self, Answer, Rest};
use super::table::number;
use super::terminal::Terminal;
use super::text::{is_utf8, quoted};
use super::{age, jobs_reclaim, sockets, table};

/// What `jobs-cleanup` takes.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Without --dry-run or --yes, the dry run is shown on the terminal and a question asked; then exactly that goes, or \
nothing. Where there is no terminal, one of the two must be given.

Without --limit and --plan, further batches follow until nothing is left, and the report is their sum. Ctrl-C ends \
after the running call.

Examples:
  hero_proc_cleanup jobs-cleanup --dry-run
  hero_proc_cleanup jobs-cleanup --older-than 7d
  hero_proc_cleanup jobs-cleanup --kind build --actor ana --older-than 2h --yes
  hero_proc_cleanup jobs-cleanup --older-than 7d --plan 1790000000000.3f9a...")]
pub(crate) struct Args {
    /// Only jobs of this kind, such as build
    #[arg(long, value_hint = ValueHint::Other, value_parser = NonEmptyStringValueParser::new())]
    kind: Option<String>,
    /// Only jobs with this target
    #[arg(long, value_hint = ValueHint::Other, value_parser = NonEmptyStringValueParser::new())]
    target: Option<String>,
    /// Only jobs of this actor
    #[arg(long, value_hint = ValueHint::Other, value_parser = NonEmptyStringValueParser::new())]
    actor: Option<String>,
    /// Only jobs created at least this long ago: 250, 250ms, 3s, 10m, 2h or 7d
    #[arg(long, value_name = "D", value_hint = ValueHint::Other, value_parser = age::parse)]
    older_than: Option<i64>,
    /// Report what would go, delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Also delete jobs that have not finished: they are stopped first
    #[arg(long)]
    force: bool,
    /// At most this many jobs, in one call [default: 50000 in each call, call after call]
    #[arg(long, value_name = "N", value_hint = ValueHint::Other, value_parser = at_most_max::<1>)]
    limit: Option<usize>,
    /// At most this many entries in each list of the report [default: 10000, or 1000 for a table]
    #[arg(long, value_name = "N", value_hint = ValueHint::Other, value_parser = at_most_max::<0>)]
    max_ids: Option<usize>,
    /// Delete exactly what the dry run with this plan showed, or nothing
    #[arg(long, value_name = "TOKEN", value_hint = ValueHint::Other)]
    plan: Option<String>,
    /// Then give the space back to the file system; D is how long hero_proc may be kept from writing for that [default: 1s]
    #[arg(long, value_name = "D", num_args = 0..=1, require_equals = true, value_hint = ValueHint::Other, value_parser = age::parse_limit)]
    reclaim: Option<Option<i64>>,
    /// Delete without a question
    #[arg(long)]
    yes: bool,
    /// How to print the report [default: table on a terminal, json elsewhere]
    #[arg(short, long, value_enum)]
    output: Option<Format>,
    /// How long a call may take: 250, 250ms, 3s, 10m, 2h or 7d [default: until it is answered]
    #[arg(long, value_name = "D", value_hint = ValueHint::Other, value_parser = age::parse_limit)]
    timeout: Option<i64>,
    /// The gateway's socket [default: hero_codescalers_cleanup/rpc.sock in the directory of sockets]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
}

/// The most entries in each list of a report that becomes a table, which shows a few of them and counts the rest.
const TABLE_IDS: usize = 1_000;

impl Args {
    fn format(&self) -> Format {
        Format::or_default(self.output)
    }

    /// Lists are asked for as far as they are printed: a sum needs counts alone.
    fn max_ids(&self) -> usize {
        self.max_ids.unwrap_or(match self.format() {
            Format::Json => DEFAULT_MAX_IDS,
            Format::Table => TABLE_IDS,
        })
    }

    /// What decides which jobs go, as it is typed.
    fn filter(&self) -> Vec<String> {
        let Self { kind, target, actor, older_than, force, limit, .. } = self;
        let mut words = Vec::new();
        let mut option = |name: &str, value: Option<String>| words.extend(value.map(|value| [name.to_owned(), value]));
        option("--kind", kind.clone());
        option("--target", target.clone());
        option("--actor", actor.clone());
        option("--older-than", older_than.map(age::text));
        option("--limit", limit.map(|limit| limit.to_string()));
        let mut words: Vec<String> = words.into_iter().flatten().collect();
        words.extend(force.then(|| "--force".to_owned()));
        words
    }

    /// The command that deletes what the dry run with this `plan` has shown: the same flags, quoted for a shell.
    fn to_delete(&self, plan: &str) -> String {
        let Self { max_ids, output, timeout, socket, yes, reclaim, .. } = self;
        let program = std::env::args_os().next().unwrap_or_else(|| OsString::from(env!("CARGO_BIN_NAME")));
        let mut words = vec![program.to_string_lossy().into_owned(), "jobs-cleanup".to_owned()];
        words.extend(self.filter());
        let mut option = |name: &str, value: Option<String>| {
            words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        };
        option("--max-ids", max_ids.map(|max_ids| max_ids.to_string()));
        option("--output", output.and_then(|output| Some(output.to_possible_value()?.get_name().to_owned())));
        option("--timeout", timeout.map(age::text));
        option("--socket", socket.as_ref().map(|socket| socket.to_string_lossy().into_owned()));
        option("--plan", Some(plan.to_owned()));
        words.extend(yes.then(|| "--yes".to_owned()));
        words.extend(reclaim.map(|within| match within {
            Some(ms) => format!("--reclaim={}", age::text(ms)),
            None => "--reclaim".to_owned(),
        }));
        shell(&words)
    }

    /// The gateway. Without `--timeout` it is the gateway that answers, or the connection ends.
    fn client(&self) -> Client {
        let mut client = Client::new(sockets::path(self.socket.clone(), sockets::GATEWAY));
        client.timeout = self.timeout.map(|ms| Duration::from_millis(ms.unsigned_abs()));
        client
    }
}

fn shell(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A number from `LEAST` to the most that the methods take.
fn at_most_max<const LEAST: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (LEAST..=MAX_LIMIT).contains(number));
    number.ok_or_else(|| format!("not a number from {LEAST} to {MAX_LIMIT}"))
}

pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    // Before anything is sent.
    let terminal = if args.dry_run || args.yes { None } else { Some(Terminal::open()?) };
    let mut session = Session::new(args, args.max_ids())?;
    if args.dry_run {
        return session.dry_run().await;
    }
    let mut end = session.delete(terminal).await;
    session.progress.finish_and_clear();
    if end.is_ok() && !session.declined {
        end = session.reclaim().await;
    }
    session.report(end)
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
    /// Whether the answer to a question was no.
    declined: bool,
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
    /// Printed as `format`; the table ends as [`table::report`] has it.
    fn print(&self, format: Format, to_delete: Option<&str>) -> Result<Printed, Failure> {
        output::print_as(format, self, |whole, on| {
            let report = table::report(whole.report, on, to_delete);
            report + &whole.reclaimed.map(|reclaimed| table::reclaimed(reclaimed, on)).unwrap_or_default()
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
            interrupts: Interrupts::with_hang_up()?,
            progress: ProgressBar::hidden(),
            batches: Batches::new(max_ids),
            declined: false,
            reclaimed: None,
        })
    }

    /// Shows what would go, and how to delete it.
    async fn dry_run(&mut self) -> Result<(), Failure> {
        let report = self.preview(self.args.plan.as_deref()).await?;
        let to_delete = self.args.to_delete(&report.plan);
        let end = self.reclaim().await;
        let format = self.args.format();
        let whole = Whole { report: &report, reclaimed: self.reclaimed.as_ref() };
        whole.print(format, Some(&to_delete))?;
        if format == Format::Json && io::stderr().is_terminal() {
            say("To delete exactly this, or nothing:");
            say(format_args!("  {to_delete}"));
        }
        end.and_then(|()| without_errors(&report))
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

    /// Prints the sum of all calls, and says how it ended. If the sum can't be printed, stderr says what went.
    fn report(self, end: Result<(), Failure>) -> Result<(), Failure> {
        let what_went = self.what_went();
        let (deleted, _) = self.deleted();
        let Some(report) = self.batches.into_report() else {
            return end;
        };
        let whole = Whole { report: &report, reclaimed: self.reclaimed.as_ref() };
        let printed = whole.print(self.args.format(), None);
        match &printed {
            Ok(Printed::Whole) if end.is_err() && deleted > 0 => {
                say("The report is of the calls before; what they deleted is gone.");
            }
            Ok(Printed::Unread) => say(&what_went),
            _ => {}
        }
        let end = end.and_then(|()| without_errors(&report));
        match (printed, end) {
            (Ok(_), end) => end,
            (Err(source), Ok(())) => Err(Failure::NotReported { what_went, source: source.into() }),
            // The exit code is that of what was asked for.
            (Err(source), Err(end)) => {
                Failure::NotReported { what_went, source: source.into() }.say();
                Err(end)
            }
        }
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
                        self.declined = true;
                        say(self.what_went());
                        return Ok(());
                    }
                    (Answer::Interrupted, _) => return Err(self.interrupted()),
                }
            }
            if self.interrupts.pending().await {
                return Err(self.interrupted());
            }
            let (report, interrupted) = self.call(plan.take().as_deref()).await?;
            let left = match self.batches.add(report) {
                Next::Done => return Ok(()),
                Next::Again { left } if rest == Rest::Follows => left,
                Next::Again { left: 0 } => {
                    say("More actions are left: this call was not for them.");
                    return Ok(());
                }
                Next::Again { left } => {
                    let left = number(left, "more job matches", "more jobs match");
                    say(format_args!("{left}: this call was not for them."));
                    return Ok(());
                }
                Next::Stuck { left } => {
                    let left = number(left, "more job matches", "more jobs match");
                    say(format_args!("{left}, and none could go in this call."));
                    return Ok(());
                }
            };
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
        let filter = shell(&self.args.filter());
        let gateway = self.client.socket.display().to_string();
        let answer = question::ask(terminal, &preview, &filter, &gateway, rest, &mut self.interrupts).await;
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
        Ok(answer?)
    }

    /// One call that deletes. The first signal lets it end, the second leaves it.
    async fn call(&mut self, plan: Option<&str>) -> Result<(Report, Interrupted), Failure> {
        let params = self.params(plan);
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

    fn params(&self, plan: Option<&str>) -> JobsCleanupParams {
        let Args { kind, target, actor, older_than, force, limit, .. } = self.args;
        let mut params = JobsCleanupParams::default();
        params.kind.clone_from(kind);
        params.target.clone_from(target);
        params.actor.clone_from(actor);
        params.options.older_than_ms = *older_than;
        params.options.force = Some(*force);
        params.options.limit = *limit;
        params.options.max_ids = Some(self.max_ids);
        params.options.expect_plan = plan.map(ToOwned::to_owned);
        params
    }

    fn show_progress(&mut self, left: u64) {
        let (deleted, _) = self.deleted();
        if self.progress.length().is_none() {
            // Draws on stderr, and not at all where that is no terminal.
            self.progress = ProgressBar::new(deleted + left);
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} jobs, {eta} left") {
                self.progress.set_style(if is_utf8() { style } else { style.progress_chars("=> ") });
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
            (0, 0) => "nothing was deleted".to_owned(),
            (jobs, actions) => {
                let (jobs, actions) = (number(jobs, "job", "jobs"), number(actions, "action", "actions"));
                format!("{jobs} and {actions} were deleted")
            }
        }
    }
}
