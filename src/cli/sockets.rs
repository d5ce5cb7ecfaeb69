//! Where sockets are unless the command line says so, and how servers listen on them.

use std::path::{Path, PathBuf};

use clap::Command;
use hero_proc_cleanup::server::{BindError, Listener, socket_dir};
use rustix::fs::Mode;

use super::failure::Failure;
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
    [("serve", SERVE), ("gateway", GATEWAY), ("jobs-cleanup", GATEWAY)].into_iter().fold(cli, |cli, (name, service)| {
        let default = printable(path(None, service).display());
        cli.mut_subcommand(name, |command| {
            command.mut_arg("socket", |arg| {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                let what = help.split(" [default").next().unwrap_or_default();
                let help = format!("{what} [default: {default}]");
                arg.help(help)
            })
        })
    })
}

/// `given`, else the socket of `service` in the directory of sockets.
pub(crate) fn path(given: Option<PathBuf>, service: &str) -> PathBuf {
    given.unwrap_or_else(|| socket_dir().join(service).join("rpc.sock"))
}

/// Listens on `socket`, for `group` if one is named.
pub(crate) fn listen(socket: &Path, group: Option<&str>) -> Result<Listener, Failure> {
    // What is made for the socket has modes that are meant, whoever started this.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let listener = match group {
        Some(group) => Listener::bind_for(socket, group),
        None => Listener::bind(socket),
    };
    listener.map_err(|error| match error {
        BindError::UnknownGroup(_) => Failure::Usage(format!("--socket-group can't be: {error}")),
        error => Failure::failed("can't serve", error),
    })
}
