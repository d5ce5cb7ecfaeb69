//! Where sockets are unless the command line says so, and how servers listen on them.

use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use clap::Command;
use hero_proc_cleanup::server::{BindError, Listener, socket_dir};
use listenfd::ListenFd;
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
    let commands = [("serve", SERVE), ("gateway", GATEWAY)];
    let of_gateway = ["jobs-cleanup", "jobs-usage", "jobs-reclaim", "retain", "page"].map(|name| (name, GATEWAY));
    commands.into_iter().chain(of_gateway).fold(cli, |cli, (name, service)| {
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

/// Where a server listens.
#[derive(Debug)]
pub(crate) struct At {
    pub(crate) path: PathBuf,
    /// The group that may open the socket, unless it is that of this process.
    group: Option<String>,
    /// The socket, where the service manager has it already.
    passed: Option<StdListener>,
}

impl At {
    /// The place that the command line asks for, or that of the socket that the service manager has passed.
    pub(crate) fn new(
        given: Option<PathBuf>,
        service: &str,
        group: Option<String>,
        passed: Option<StdListener>,
    ) -> Result<Self, Failure> {
        let Some(passed) = passed else { return Ok(Self { path: path(given, service), group, passed }) };
        if group.is_some() {
            let problem =
                "--socket-group can't be given for a socket that is passed: its .socket unit has SocketGroup=";
            return Err(Failure::Usage(problem.to_owned()));
        }
        let address = passed.local_addr().map_err(|error| Failure::failed(CANT_SERVE, error))?;
        let path = address.as_pathname().unwrap_or(Path::new("a socket without a path")).to_owned();
        match given {
            Some(given) if given != path => {
                let (given, path) = (given.display(), path.display());
                Err(Failure::Usage(format!("--socket is {given}, and the socket that is passed is {path}")))
            }
            _ => Ok(Self { path, group, passed: Some(passed) }),
        }
    }

    /// The socket at `path`, of this process's group.
    pub(crate) fn path(path: &Path) -> Self {
        Self { path: path.to_owned(), group: None, passed: None }
    }

    /// Listens there.
    pub(crate) fn listen(self) -> Result<Listener, Failure> {
        // The modes of the socket and its directories do not depend on the umask of whoever started this.
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let listener = match (self.passed, &self.group) {
            (Some(passed), _) => Listener::passed(passed),
            (None, Some(group)) => Listener::bind_for(&self.path, group),
            (None, None) => Listener::bind(&self.path),
        };
        listener.map_err(|error| match error {
            BindError::UnknownGroup(_) => Failure::Usage(format!("--socket-group can't be: {error}")),
            error => Failure::failed(CANT_SERVE, error),
        })
    }
}

const CANT_SERVE: &str = "can't serve";

/// The socket that the service manager listens on for this process, if there is one: see sd_listen_fds(3).
///
/// The socket is taken before there are other threads: taking it changes the environment, which they could read.
pub(crate) fn passed() -> Result<Option<StdListener>, Failure> {
    let mut passed = ListenFd::from_env();
    if passed.len() > 1 {
        let what = format!("{CANT_SERVE}: {} sockets are passed, and there is one to serve on", passed.len());
        return Err(Failure::Failed { what, source: None });
    }
    passed.take_unix_listener(0).map_err(|error| Failure::failed(CANT_SERVE, error))
}
