//! `retain`: deletes what a policy says at the gateway's socket: pass after pass, or one pass for a timer.
//!
//! ```text
//! retain            daemon   passes, each after the time that the policy says
//! retain --once     once     one pass
//! retain --dry-run  show     what each rule would take; nothing is written
//! retain --status   status   what the state says of the passes so far
//! ```
//!
//! ```text
//! file      the policy's file → Policy, or the line and the reason
//! place     where the state lies, and the lock that keeps two passes apart
//! state     what is kept from pass to pass, in a file
//! session   the gateway, the clock, and the signals that end a wait for either
//! pass      what the library's `Retention` says is next, carried out; the state after each call
//! preview   what a policy would take, each job counted once
//! show      tables; log: the line of a pass
//! ```

mod daemon;
mod file;
mod log;
mod once;
mod pass;
mod place;
mod preview;
mod session;
mod show;
mod state;
mod status;

use std::path::PathBuf;

use clap::{ArgGroup, ValueHint};
use hero_proc_cleanup::policy::Policy;

use super::failure::Failure;
use super::log::Writing;
use super::output::{self, Format};
use super::{age, sockets};
use pass::Kept;
use place::Place;
use preview::Unshown;
use session::Session;
use state::State;

/// What `retain` takes.
#[derive(Debug, clap::Args)]
#[command(
    group = ArgGroup::new("mode"),
    after_help = "\
Without a mode this is a daemon. It makes a pass each time that `every` of the policy has gone by, and reads the \
policy's file again before each. SIGTERM, SIGINT and SIGHUP end it after the running batch.

If the first pass of a policy that is new, or has changed, would take more than half of all of codescaler's jobs, it \
deletes nothing, and shows what it would take: --once exits with 4. Then --once --yes, or the policy's digest as \
`confirmed` in the policy, lets it delete.

Examples:
  hero_proc_cleanup retain --policy retention.toml --dry-run
  hero_proc_cleanup retain --policy retention.toml
  hero_proc_cleanup retain --policy retention.toml --once
  hero_proc_cleanup retain --policy retention.toml --status"
)]
pub(crate) struct Args {
    /// The policy: a TOML file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    policy: PathBuf,
    /// Show what each rule would take, delete nothing
    #[arg(long, group = "mode")]
    dry_run: bool,
    /// Make one pass, for timers: `every` of the policy must be what the timer says
    #[arg(long, group = "mode")]
    once: bool,
    /// Also if this takes more than half of all jobs under a policy that is new, or has changed
    #[arg(long, requires = "once", conflicts_with_all = ["dry_run", "status"])]
    yes: bool,
    /// Say when passes have succeeded and what they took; exit with 1 if none has for three times `every`
    #[arg(long, group = "mode")]
    status: bool,
    /// Where the state is kept [default: a file for each gateway under $XDG_STATE_HOME, or ~/.local/state]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    state: Option<PathBuf>,
    /// The gateway's socket [default: hero_codescalers_cleanup/rpc.sock in the directory of sockets]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
    /// No wait is longer than this: the clock then goes on by the rest of it
    #[arg(long, value_name = "D", value_hint = ValueHint::Other, value_parser = age::parse_limit, hide = true)]
    longest_wait: Option<i64>,
}

impl Args {
    /// What is logged unless `RUST_LOG` says otherwise, and who writes it. A pass has a line that says what the client
    /// would log.
    pub(super) fn log(&self) -> (&'static str, Writing) {
        let writing = if self.dry_run || self.once || self.status { Writing::AtOnce } else { Writing::Apart };
        ("info,hero_proc_cleanup::client=off", writing)
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let socket = sockets::path(args.socket, sockets::GATEWAY);
    let place = Place::new(args.state.as_deref(), &socket)?;
    let policy = file::read(&args.policy);
    if args.status {
        return status::run(&place, &socket, policy);
    }
    let policy = policy.map_err(|error| Failure::Usage(error.to_string()))?;
    let mut session = Session::new(socket, args.longest_wait)?;
    if args.dry_run {
        return dry_run(&mut session, &place, &policy).await;
    }
    let kept = Kept::new(place);
    if args.once {
        once::run(&mut session, kept, &policy, args.yes).await
    } else {
        daemon::run(&mut session, kept, &args.policy, policy).await
    }
}

/// Shows what each rule would take.
async fn dry_run(session: &mut Session, place: &Place, policy: &Policy) -> Result<(), Failure> {
    let (state, problem) = State::load(place, &session.client.socket);
    if let Some(problem) = problem {
        output::say(problem);
    }
    let shown = match preview::ask(session, policy, &state.history).await {
        Ok(shown) => shown,
        Err(Unshown::Failed(error)) => return Err(Failure::of_dry_run(error, &session.client.socket)),
        Err(Unshown::Interrupted) => return Err(Failure::Interrupted { what_went: "nothing was deleted".to_owned() }),
    };
    output::print_as(Format::or_default(None), &shown, show::preview).map(drop)
}
