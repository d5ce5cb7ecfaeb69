//! The command line: what is asked, who carries it out, and the exit code.
//!
//! Results go to stdout, everything else to stderr: see [`output`]. The exit code is decided in [`failure`].

mod age;
mod check;
mod completions;
mod demo;
mod failure;
mod fields;
mod gateway;
mod interrupts;
mod jobs_cleanup;
mod jobs_reclaim;
mod jobs_usage;
mod limits;
mod log;
mod moment;
mod output;
mod page;
mod processes;
mod question;
mod retain;
mod running;
mod serve;
mod sockets;
mod supervisor;
mod table;
mod terminal;
mod text;
mod usage;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use failure::Failure;
use log::{Log, LogFormat, Writing};

/// Parses the command line, carries the command out, and says how it ended.
pub(crate) fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    let (filter, writing) = cli.command.log();
    let log = match Log::start(filter, cli.log_format, writing) {
        Ok(log) => log,
        Err(failure) => {
            failure.say();
            return ExitCode::from(failure.exit_code());
        }
    };
    let end = interrupts::survive_file_limit().and_then(|()| run(cli.command));
    if let Err(failure) = &end {
        log.say(failure);
    }
    log.end();
    end.map_or_else(|failure| ExitCode::from(failure.exit_code()), |()| ExitCode::SUCCESS)
}

fn parse() -> Result<Cli, clap::Error> {
    let understood = |args: Vec<OsString>| {
        let matches = sockets::in_help(Cli::command()).try_get_matches_from(args)?;
        Cli::from_arg_matches(&matches)
    };
    understood(env::args_os().collect()).map_err(|error: clap::Error| {
        // An error repeats what was given: this is the same error, of what can be printed.
        let args = env::args_os().map(|arg| text::printable(arg.to_string_lossy()).into());
        understood(args.collect()).err().unwrap_or(error)
    })
}

/// Prints help or the version, or says what is wrong with the command line.
fn not_parsed(error: &clap::Error) -> ExitCode {
    // There is nobody left to tell that the stream is closed.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

/// Bulk cleanup of hero_proc's jobs and actions by tag: previewed, in one transaction, behind a guard.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "\
Exit codes:
  0  done
  1  failed
  2  usage
  3  done, but the report's errors are not empty, or not all space was given back
  4  the set is no longer that of the plan, or a policy waits for a human; nothing was deleted
  5  refused: the guard, no admin, or no permission on the socket
  6  unreachable, busy, or the outcome is unknown

Results go to stdout, everything else to stderr. RUST_LOG sets the log level.
Sockets live under $PATH_SOCKET, else $HERO_SOCKET_DIR, else ~/hero/var/sockets.

Example: watch a store being cleaned
  hero_proc_cleanup demo"
)]
pub(crate) struct Cli {
    /// How the log is written on stderr
    #[arg(long, global = true, display_order = 900, value_name = "FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
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
    /// Say which of codescaler's jobs take the space
    JobsUsage(jobs_usage::Args),
    /// Give the space of deleted jobs back to the file system
    JobsReclaim(jobs_reclaim::Args),
    /// Serve the page for admins on loopback: look, preview, confirm
    Page(page::Args),
    /// Delete what a policy says, again and again, without anybody who remembers
    Retain(retain::Args),
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
    /// Write the manual pages into a directory
    #[command(after_help = "\
Example:
  hero_proc_cleanup man ~/.local/share/man/man1")]
    Man {
        /// Where to: it is made if it is not there
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}

impl Command {
    /// What is logged unless `RUST_LOG` says otherwise, and who writes it.
    fn log(&self) -> (&'static str, Writing) {
        match self {
            Self::Serve(_) | Self::Gateway(_) => ("info", Writing::Apart),
            // A call that does not reach the gateway is an error that the page shows.
            Self::Page(_) => ("warn,hero_proc_cleanup::client=error", Writing::Apart),
            Self::Retain(args) => args.log(),
            Self::Demo(_)
            | Self::JobsCleanup(_)
            | Self::JobsUsage(_)
            | Self::JobsReclaim(_)
            | Self::Check(_)
            | Self::Completions { .. }
            | Self::Man { .. } => {
                // What the client would log is the command's error, which is said anyhow.
                ("warn,hero_proc_cleanup::client=off", Writing::AtOnce)
            }
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => limits::for_server()?.block_on(demo::run(&args)),
        Command::Serve(args) => {
            let passed = sockets::passed()?;
            limits::for_server()?.block_on(serve::run(args, passed))
        }
        Command::Gateway(args) => {
            let passed = sockets::passed()?;
            limits::for_server()?.block_on(gateway::run(args, passed))
        }
        Command::JobsCleanup(args) => limits::for_client()?.block_on(jobs_cleanup::run(&args)),
        Command::JobsUsage(args) => limits::for_client()?.block_on(jobs_usage::run(&args)),
        Command::JobsReclaim(args) => limits::for_client()?.block_on(jobs_reclaim::run(&args)),
        Command::Page(args) => limits::for_server()?.block_on(page::run(args)),
        Command::Retain(args) => limits::for_client()?.block_on(retain::run(args)),
        Command::Check(args) => check::run(&args),
        Command::Completions { shell } => output::print(&completions::script(shell, Cli::command())).map(drop),
        Command::Man { dir } => man(&dir),
    }
}

fn man(dir: &Path) -> Result<(), Failure> {
    let written = fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    written
        .map_err(|error| Failure::failed(format!("the manual pages could not be written to {}", dir.display()), error))
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory, ValueHint};

    use super::Cli;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Shells offer file names for whatever has no hint.
    #[test]
    fn every_value_says_how_it_is_completed() {
        fn look_at(command: &Command) {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let name = format!("{} {}", command.get_name(), arg.get_id());
                let path =
                    ["PATH", "FILE", "DIR"].map(Into::into).contains(&arg.get_value_names().unwrap_or_default()[0]);
                let hint = arg.get_value_hint();
                let is_path = [ValueHint::FilePath, ValueHint::DirPath].contains(&hint);
                assert_eq!(is_path, path, "{name}");
                assert!(hint != ValueHint::Unknown || !arg.get_possible_values().is_empty(), "{name}");
            }
            command.get_subcommands().for_each(look_at);
        }
        let mut command = Cli::command();
        command.build();
        look_at(&command);
    }
}
