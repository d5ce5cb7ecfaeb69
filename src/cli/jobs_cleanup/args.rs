//! What `jobs-cleanup` takes: its flags, the params that they stand for, and the same flags to be pasted into a shell.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use chrono::Utc;
use clap::builder::{NonEmptyStringValueParser, PossibleValue, TypedValueParser};
use clap::{Arg, Command, ValueEnum, ValueHint, value_parser};
use hero_proc_cleanup::client::{Client, JobsCleanupParams};
use hero_proc_cleanup::{DEFAULT_MAX_IDS, MAX_LIMIT, Report, TERMINAL_PHASES, codescaler_tags};

use super::close::Asked;
use crate::cli::failure::Failure;
use crate::cli::fields::{Fields, value_name};
use crate::cli::moment::MomentError;
use crate::cli::output::Format;
use crate::cli::text::quoted;
use crate::cli::{age, moment, sockets};

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
  hero_proc_cleanup jobs-cleanup --phase succeeded --older-than 14d --keep-last 10 --except-kind release
  hero_proc_cleanup jobs-cleanup --kind build --actor ana --before 2026-11-01 --yes
  hero_proc_cleanup jobs-cleanup --older-than 7d --plan 1790000000000.1790086400000.3f9a...")]
pub(crate) struct Args {
    #[command(flatten)]
    fields: Fields,
    /// No jobs of this kind (may be repeated)
    #[arg(long, value_name = "KIND", value_hint = ValueHint::Other, value_parser = NonEmptyStringValueParser::new())]
    pub(super) except_kind: Vec<String>,
    /// Only jobs created, and also ended, at least this long ago: 250, 250ms, 3s, 10m, 2h or 7d
    #[arg(long, value_name = "D", value_hint = ValueHint::Other, value_parser = age::parse)]
    older_than: Option<i64>,
    /// Only jobs created, and also ended, by this time: 2026-11-01T18:30:00+01:00, or a date (0:00 UTC)
    #[arg(long, value_name = "TIME", value_hint = ValueHint::Other, value_parser = past, conflicts_with = "older_than")]
    before: Option<i64>,
    /// Only jobs in this phase, such as failed (may be repeated)
    #[arg(long = "phase", value_name = "PHASE", hide_possible_values = true, value_parser = PhaseParser)]
    phases: Vec<String>,
    /// Of each group of jobs, the newest N that succeeded and the newest N that did not stay
    #[arg(long, value_name = "N", value_hint = ValueHint::Other, value_parser = value_parser!(u32).range(1..=MAX_KEEP_LAST))]
    keep_last: Option<u32>,
    /// What jobs are grouped by, separated by commas [default: kind]
    #[arg(long, value_name = "FIELDS", value_enum, value_delimiter = ',', requires = "keep_last")]
    keep_by: Vec<KeepBy>,
    /// Keep the actions that no job refers to
    #[arg(long)]
    no_leaked: bool,
    /// Report what would go, delete nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Also delete jobs that have not finished: they are stopped first
    #[arg(long)]
    force: bool,
    /// At most this many jobs, in one call [default: 50000 or 1 GiB in each call, call after call]
    #[arg(long, value_name = "N", value_hint = ValueHint::Other, value_parser = at_most_max::<1>)]
    pub(super) limit: Option<usize>,
    /// At most this many entries in each list of the report [default: 10000, or 1000 for a table]
    #[arg(long, value_name = "N", value_hint = ValueHint::Other, value_parser = at_most_max::<0>)]
    pub(super) max_ids: Option<usize>,
    /// Delete exactly what the dry run with this plan showed, or nothing
    #[arg(long, value_name = "TOKEN", value_hint = ValueHint::Other)]
    pub(super) plan: Option<String>,
    /// Then give the space back to the file system; D is how long hero_proc may be kept from writing for that [default: 1s]
    #[arg(long, value_name = "D", num_args = 0..=1, require_equals = true, value_hint = ValueHint::Other, value_parser = age::parse_limit)]
    pub(super) reclaim: Option<Option<i64>>,
    /// Delete without a question
    #[arg(long)]
    pub(super) yes: bool,
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

/// What jobs are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeepBy {
    /// Their kind, such as build
    Kind,
    /// Their target
    Target,
}

/// The highest `--keep-last`.
const MAX_KEEP_LAST: i64 = 10_000;
/// The most kinds that are excepted, and the most phases.
const MOST_REPEATED: usize = 16;
/// The most entries in each list of a report that becomes a table, which shows a few of them and counts the rest.
const TABLE_IDS: usize = 1_000;

impl Args {
    /// Refuses flags that are wrong together: the gateway would refuse them as well, but they are not sent.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let Self { fields: Fields { kind, target, actor }, except_kind, phases, force, .. } = self;
        let tags = |actor: Option<&str>, kind: Option<&str>, target: Option<&str>| {
            codescaler_tags(actor.unwrap_or_default(), kind.unwrap_or_default(), target.unwrap_or_default())
                .map_err(|error| Failure::Usage(error.to_string()))
        };
        tags(actor.as_deref(), kind.as_deref(), target.as_deref())?;
        for kind in except_kind {
            tags(None, Some(kind), None)?;
        }
        for (name, given) in [("--except-kind", except_kind.len()), ("--phase", phases.len())] {
            if given > MOST_REPEATED {
                let problem = format!("{name} is given {given} times, more than {MOST_REPEATED}");
                return Err(Failure::Usage(problem));
            }
        }
        let terminal = |phase: &str| TERMINAL_PHASES.iter().any(|terminal| terminal.eq_ignore_ascii_case(phase));
        match phases.iter().find(|phase| !force && !terminal(phase)) {
            Some(phase) => Err(Failure::Usage(format!(
                "--phase {}: no job has finished in this phase, so none goes without --force; a job has finished in: {}",
                quoted(phase),
                TERMINAL_PHASES.join(", "),
            ))),
            None => Ok(()),
        }
    }

    pub(super) fn format(&self) -> Format {
        Format::or_default(self.output)
    }

    /// Lists are asked for as far as they are printed: a sum needs counts alone.
    pub(super) fn max_ids(&self) -> usize {
        self.max_ids.unwrap_or(match self.format() {
            Format::Json => DEFAULT_MAX_IDS,
            Format::Table => TABLE_IDS,
        })
    }

    /// The params of a call that deletes.
    pub(super) fn params(&self, max_ids: usize, plan: Option<&str>) -> JobsCleanupParams {
        let mut params = JobsCleanupParams::default();
        params.kind.clone_from(&self.fields.kind);
        params.target.clone_from(&self.fields.target);
        params.actor.clone_from(&self.fields.actor);
        params.except_kind.clone_from(&self.except_kind);
        let options = &mut params.options;
        options.older_than_ms = self.older_than;
        options.before_ms = self.before;
        options.phases = given(&self.phases, Clone::clone);
        options.keep_last = self.keep_last;
        options.keep_by = given(&self.keep_by, |field| value_name(*field));
        options.leaked = self.no_leaked.then_some(false);
        options.force = Some(self.force);
        options.limit = self.limit;
        options.max_ids = Some(max_ids);
        options.expect_plan = plan.map(ToOwned::to_owned);
        params
    }

    /// What decides which jobs and actions go, as it is typed.
    pub(super) fn filter(&self) -> String {
        self.filter_flags().0.join(" ")
    }

    fn filter_flags(&self) -> Flags {
        let mut flags = Flags::default();
        flags.option("--kind", self.fields.kind.as_ref());
        flags.option("--target", self.fields.target.as_ref());
        flags.option("--actor", self.fields.actor.as_ref());
        flags.option("--except-kind", &self.except_kind);
        flags.option("--older-than", self.older_than.map(age::text));
        flags.option("--before", self.before.map(moment::text));
        flags.option("--phase", &self.phases);
        flags.option("--keep-last", self.keep_last.map(|count| count.to_string()));
        flags.option("--keep-by", given(&self.keep_by, |field| value_name(*field)).map(|fields| fields.join(",")));
        flags.switch("--no-leaked", self.no_leaked);
        flags.option("--limit", self.limit.map(|limit| limit.to_string()));
        flags.switch("--force", self.force);
        flags
    }

    /// The fields that a job must have.
    pub(super) fn asked(&self) -> Vec<Asked<'_>> {
        let fields = [("kind", &self.fields.kind), ("target", &self.fields.target), ("actor", &self.fields.actor)];
        fields.into_iter().filter_map(|(field, value)| Some(Asked { field, value: value.as_ref()? })).collect()
    }

    /// What the user of these flags may not have meant, by the report of the call.
    pub(super) fn warning(&self, report: &Report) -> Option<String> {
        let kinds = self.except_kind.join(" or ");
        let none = !kinds.is_empty() && report.jobs_kept.excepted == 0;
        none.then(|| format!("No job is excepted: none that matches is of kind {kinds}."))
    }

    /// The command that deletes what the dry run with this `plan` has shown: the same flags, quoted for a shell.
    pub(super) fn to_delete(&self, plan: &str) -> String {
        let program = std::env::args_os().next().unwrap_or_else(|| OsString::from(env!("CARGO_BIN_NAME")));
        let mut flags = self.filter_flags();
        flags.option("--max-ids", self.max_ids.map(|max_ids| max_ids.to_string()));
        flags.option("--output", self.output.map(value_name));
        flags.option("--timeout", self.timeout.map(age::text));
        flags.option("--socket", self.socket.as_ref().map(|socket| socket.to_string_lossy()));
        flags.option("--plan", Some(plan));
        flags.switch("--yes", self.yes);
        flags.switch("--reclaim", self.reclaim == Some(None));
        flags.0.extend(self.reclaim.flatten().map(|ms| format!("--reclaim={}", age::text(ms))));
        format!("{} jobs-cleanup {}", quoted(&program.to_string_lossy()), flags.0.join(" "))
    }

    /// The gateway. Without `--timeout` it is the gateway that answers, or the connection ends.
    pub(super) fn client(&self) -> Client {
        let mut client = Client::new(sockets::path(self.socket.clone(), sockets::GATEWAY));
        client.timeout = self.timeout.map(|ms| Duration::from_millis(ms.unsigned_abs()));
        client
    }
}

/// Flags with their values, quoted for a shell.
#[derive(Default)]
struct Flags(Vec<String>);

impl Flags {
    /// The flag `name` before each of `values`.
    fn option(&mut self, name: &str, values: impl IntoIterator<Item = impl AsRef<str>>) {
        for value in values {
            let value = value.as_ref();
            // A value by itself would be taken for a flag.
            let between = if value.starts_with('-') { '=' } else { ' ' };
            self.0.push(format!("{name}{between}{}", quoted(value)));
        }
    }

    fn switch(&mut self, name: &str, on: bool) {
        self.0.extend(on.then(|| name.to_owned()));
    }
}

/// The texts of `values`; none if there are none.
fn given<T>(values: &[T], text: impl Fn(&T) -> String) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.iter().map(text).collect())
}

/// A number from `LEAST` to the most that the methods take.
fn at_most_max<const LEAST: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (LEAST..=MAX_LIMIT).contains(number));
    number.ok_or_else(|| format!("not a number from {LEAST} to {MAX_LIMIT}"))
}

/// A moment up to now.
fn past(text: &str) -> Result<i64, MomentError> {
    moment::parse(text, Utc::now())
}

/// Any phase: the terminal ones are offered, and others are for `--force`.
#[derive(Debug, Clone)]
struct PhaseParser;

impl TypedValueParser for PhaseParser {
    type Value = String;

    fn parse_ref(&self, cmd: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        NonEmptyStringValueParser::new().parse_ref(cmd, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(TERMINAL_PHASES.iter().map(PossibleValue::new)))
    }
}
