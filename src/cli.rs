//! The command line: what is asked, who carries it out, and the exit code.
//!
//! Results go to stdout, everything else to stderr: see [`output`]. The exit code is decided in [`failure`].

mod age;
mod check;
mod demo;
mod failure;
mod gateway;
mod interrupts;
mod jobs_cleanup;
mod output;
mod processes;
mod question;
mod running;
mod serve;
mod sockets;
mod table;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use failure::Failure;

/// Parses the command line, carries the command out, and says how it ended.
pub(crate) fn main() -> ExitCode {
    let command = Cli::parse().command;
    log_to_stderr(command.log_level());
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.say();
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Bulk cleanup of hero_proc's jobs and actions by tag: previewed, in one transaction, behind a guard.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "\
Exit codes:
  0  done
  1  failed
  2  usage
  3  done, but the report's errors are not empty
  4  the set is no longer that of the plan; nothing was deleted
  5  refused, by the guard or by the admin gate
  6  unreachable, busy, or the outcome is unknown

Results go to stdout, everything else to stderr. RUST_LOG sets the log level.
Sockets live under $PATH_SOCKET, else $HERO_SOCKET_DIR, else ~/hero/var/sockets.

Example: watch a store being cleaned
  hero_proc_cleanup demo"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a temporary store, and clean it: preview, deletion, proof
    Demo(demo::Args),
    /// Serve `job.cleanup_by_tag` on a store: hero_proc's side
    Serve(serve::Args),
    /// Serve `jobs.cleanup` for admins, and forward it to hero_proc: codescalers' side
    Gateway(gateway::Args),
    /// Delete codescaler's jobs, and the actions that nothing refers to any more
    JobsCleanup(jobs_cleanup::Args),
    /// Say whether a store fits, and what stands in it
    Check(check::Args),
    /// Print a completion script for a shell
    #[command(after_help = "\
Example:
  hero_proc_cleanup completions bash > ~/.local/share/bash-completion/completions/hero_proc_cleanup")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    /// What is logged unless `RUST_LOG` says otherwise.
    fn log_level(&self) -> LevelFilter {
        match self {
            Self::Serve(_) | Self::Gateway(_) => LevelFilter::INFO,
            Self::Demo(_) | Self::JobsCleanup(_) | Self::Check(_) | Self::Completions { .. } => LevelFilter::WARN,
        }
    }
}

fn log_to_stderr(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().with_default_directive(level.into()).from_env_lossy())
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // It would report a stderr that is closed on stderr, and panic.
        .log_internal_errors(false)
        .init();
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Check(args) => return check::run(&args),
        Command::Completions { shell } => return output::print(&completions(shell)),
        Command::Demo(_) | Command::Serve(_) | Command::Gateway(_) | Command::JobsCleanup(_) => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("the runtime could not be started", error))?;
    runtime.block_on(async {
        match command {
            Command::Demo(args) => demo::run(&args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Gateway(args) => gateway::run(args).await,
            Command::JobsCleanup(args) => jobs_cleanup::run(&args).await,
            Command::Check(_) | Command::Completions { .. } => Ok(()),
        }
    })
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
