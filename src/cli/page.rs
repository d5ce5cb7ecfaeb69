//! `page`: the page for admins, on loopback, for the one who starts it.

use std::env;
use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueHint;
use hero_proc_cleanup::client::Client;
use hero_proc_cleanup::server::Page;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::failure::Failure;
use super::interrupts::Interrupts;
use super::running::Running;
use super::{age, output, sockets};

/// What `page` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The link on stdout opens the page once, in one tab. Its calls go to the gateway as the user that this runs as. \
Ctrl-C ends it, and so does an hour in which nobody uses it.

Examples:
  hero_proc_cleanup page --open
  ssh -t -L 8080:127.0.0.1:8080 node hero_proc_cleanup page --listen 127.0.0.1:8080")]
pub(crate) struct Args {
    /// Where to listen: a port of 127.0.0.1 or [::1]
    #[arg(long, value_name = "ADDRESS", value_hint = ValueHint::Other, default_value = "127.0.0.1:0", value_parser = loopback)]
    listen: SocketAddr,
    /// The gateway's socket [default: hero_codescalers_cleanup/rpc.sock in the directory of sockets]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
    /// The file in which `retain` keeps its status, to show that
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    state: Option<PathBuf>,
    /// Open the link in a browser: $BROWSER, or the one that xdg-open finds
    #[arg(long)]
    open: bool,
    /// How long nobody may use the page before it ends
    #[arg(long, value_name = "AGE", value_hint = ValueHint::Other, default_value = "1h", value_parser = age::parse_limit, hide = true)]
    unused: i64,
    /// How long a browser may take to send a request, and to take each 256 KiB of its answer
    #[arg(long, value_name = "AGE", value_hint = ValueHint::Other, default_value = "10s", value_parser = age::parse_limit, hide = true)]
    client_timeout: i64,
}

/// A port of loopback, under the two addresses that the page answers to.
fn loopback(address: &str) -> Result<SocketAddr, String> {
    match address.parse::<SocketAddr>() {
        Ok(address) if address.ip() == Ipv4Addr::LOCALHOST || address.ip() == Ipv6Addr::LOCALHOST => Ok(address),
        Ok(_) => Err("the page is served on loopback only, which is 127.0.0.1 or [::1]".to_owned()),
        Err(_) => Err("this is no address with a port, such as 127.0.0.1:8080 or [::1]:0".to_owned()),
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let interrupts = Interrupts::new()?;
    let cant_serve = |error| Failure::failed("can't serve the page", error);
    let mut gateway = Client::new(sockets::path(args.socket, sockets::GATEWAY));
    // The gateway answers, or the connection ends.
    gateway.timeout = None;
    tracing::info!(gateway = ?gateway.socket, "calls go to the gateway");
    let mut page = Page::new(gateway).map_err(cant_serve)?;
    page.state = args.state;
    page.unused = Duration::from_millis(args.unused.unsigned_abs());
    page.client_timeout = Duration::from_millis(args.client_timeout.unsigned_abs());

    let listener = TcpListener::bind(args.listen).await.map_err(cant_serve)?;
    let address = listener.local_addr().map_err(cant_serve)?;
    let (link, opened) = (page.link(address), page.opened());
    let running = Running::spawn(|stopped| page.run(listener, stopped));
    tracing::info!(%address, "serving the page");
    output::print(&link)?;
    let handover = args.open.then(|| Handover::new(&link)).transpose()?;
    let handed_over = async {
        opened.await;
        drop(handover);
    };
    let (end, ()) = tokio::join!(
        running.until(interrupts, Duration::MAX, || tracing::warn!("waiting: what was sent can't be taken back")),
        handed_over,
    );
    end
}

/// The link on its way to a browser: in a file that nobody else can read, since all users can read arguments.
///
/// The file goes with this.
#[derive(Debug)]
struct Handover(#[expect(dead_code, reason = "it is kept until it is dropped")] TempDir);

impl Handover {
    /// Writes the file, and has a browser open it.
    fn new(link: &str) -> Result<Self, Failure> {
        let written = || {
            // Only its owner can enter it.
            let mut private = tempfile::Builder::new();
            private.prefix("hero_proc_cleanup-page-").permissions(Permissions::from_mode(0o700));
            let directory = private.tempdir()?;
            let path = directory.path().join("open.html");
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            // The link holds nothing that HTML reads otherwise.
            let html = "<!doctype html><meta charset=utf-8><title>hero_proc cleanup</title>";
            writeln!(
                file,
                "{html}<meta http-equiv=refresh content=\"0;url={link}\"><a href=\"{link}\">Open the page</a>"
            )?;
            Ok((directory, path))
        };
        let (directory, path) =
            written().map_err(|error: io::Error| Failure::failed("the link can't be handed over", error))?;
        let browser = env::var("BROWSER").ok().filter(|browser| !browser.trim().is_empty());
        let browser = browser.unwrap_or_else(|| "xdg-open".to_owned());
        // The first of several.
        let mut words = browser.split(':').next().unwrap_or_default().split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words.filter(|word| *word != "%s")).arg(path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(mut browser) => {
                // The command may last as long as the browser does.
                let wait = move || match browser.wait() {
                    Ok(end) if end.success() => {}
                    _ => tracing::warn!("the browser could not be started: open the link yourself"),
                };
                if let Err(error) = std::thread::Builder::new().name("browser".to_owned()).spawn(wait) {
                    tracing::debug!(%error, "nobody waits for the browser");
                }
            }
            Err(error) => tracing::warn!(%error, "the browser could not be started: open the link yourself"),
        }
        Ok(Self(directory))
    }
}
