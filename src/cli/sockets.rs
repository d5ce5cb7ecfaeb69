//! Where sockets are unless the command line says so.

use std::path::PathBuf;

use clap::Command;
use hero_proc_cleanup::server::socket_dir;

use super::text::printable;

/// hero_proc.
pub(crate) const HERO_PROC: &str = "hero_proc";
/// What `serve` serves.
pub(crate) const SERVE: &str = "hero_proc_cleanup";
/// What `gateway` serves.
pub(crate) const GATEWAY: &str = "hero_codescalers_cleanup";

/// The command `cli` with help that names the default sockets in full, for people. What is generated for packages must
/// not name the home of whoever built it.
pub(crate) fn in_help(cli: Command) -> Command {
    [("serve", SERVE), ("gateway", GATEWAY), ("jobs-cleanup", GATEWAY), ("jobs-usage", GATEWAY)].into_iter().fold(
        cli,
        |cli, (name, service)| {
            let default = printable(path(None, service).display());
            cli.mut_subcommand(name, |command| {
                command.mut_arg("socket", |arg| {
                    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                    let what = help.split(" [default").next().unwrap_or_default();
                    let help = format!("{what} [default: {default}]");
                    arg.help(help)
                })
            })
        },
    )
}

/// `given`, else the socket of `service` in the directory of sockets.
pub(crate) fn path(given: Option<PathBuf>, service: &str) -> PathBuf {
    given.unwrap_or_else(|| socket_dir().join(service).join("rpc.sock"))
}
