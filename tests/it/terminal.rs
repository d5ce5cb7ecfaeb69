//! The question, in a real pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::spawn;

use hero_proc_cleanup::Report;
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::process::{PATIENCE, Running};
use crate::support::sides::{Sides, old_jobs};

const QUESTION: &str = "[yes/no] ";

#[test]
fn yes_deletes_what_was_shown() {
    let sides = Sides::with(&old_jobs(1, 3));
    let mut terminal = Terminal::run(&sides, &[]);
    let shown = terminal.until(QUESTION);
    assert!(shown.contains("would go") && shown.contains("Delete 3 jobs and their 3 actions?"), "{shown}");
    assert_eq!(sides.jobs(), [1, 2, 3]);
    terminal.types("yes\n");
    let (code, stdout, _) = terminal.end();
    let report: Report = serde_json::from_str(&stdout).expect("a report");
    assert_eq!((code, report.jobs_deleted, report.dry_run), (Some(0), 3, false));
    assert!(sides.jobs().is_empty());
}

#[test]
fn anything_else_deletes_nothing() {
    // Ctrl-D is the end of what is typed.
    for answer in ["no\n", "\n", "n\n", "yess\n", "yes please\n", "\u{4}"] {
        let sides = Sides::with(&old_jobs(1, 2));
        let mut terminal = Terminal::run(&sides, &[]);
        terminal.until(QUESTION);
        terminal.types(answer);
        let (code, stdout, rest) = terminal.end();
        assert_eq!((code, stdout.as_str()), (Some(0), ""), "{answer:?}");
        assert!(rest.contains("nothing was deleted"), "{answer:?}: {rest}");
        assert_eq!(sides.jobs(), [1, 2], "{answer:?}");
    }
}

/// The question is where somebody sees it, wherever stderr goes.
#[test]
fn who_sends_stderr_elsewhere_is_asked_on_the_terminal() {
    let sides = Sides::with(&old_jobs(1, 2));
    let log = sides.path("log");
    let mut terminal = Terminal::run_with(&sides, &[], Some(File::create(&log).expect("a file")));
    let shown = terminal.until(QUESTION);
    assert!(shown.contains("Delete 2 jobs and their 2 actions?"), "{shown}");
    terminal.types("no\n");
    let (code, stdout, _) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(0), ""));
    assert_eq!(std::fs::read_to_string(&log).expect("a file"), "nothing was deleted\n");
    assert_eq!(sides.jobs(), [1, 2]);
}

#[test]
fn ctrl_c_deletes_nothing() {
    let sides = Sides::with(&old_jobs(1, 2));
    let mut terminal = Terminal::run(&sides, &[]);
    terminal.until(QUESTION);
    terminal.types("\u{3}");
    let (code, stdout, rest) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(rest.contains("interrupted: nothing was deleted"), "{rest}");
    assert_eq!(sides.jobs(), [1, 2]);
}

#[test]
fn what_changed_after_the_question_is_not_deleted() {
    let sides = Sides::with(&old_jobs(1, 2));
    let mut terminal = Terminal::run(&sides, &[]);
    terminal.until(QUESTION);
    sides.store().execute_batch(&old_jobs(3, 3)).expect("rows");
    terminal.types("yes\n");
    let (code, stdout, rest) = terminal.end();
    assert_eq!((code, stdout.as_str()), (Some(4), ""));
    assert!(rest.contains("the set is no longer that of the plan"), "{rest}");
    assert_eq!(sides.jobs(), [1, 2, 3]);
}

#[test]
fn each_batch_is_asked_about() {
    let sides = Sides::with(&old_jobs(1, 50_002));
    let mut terminal = Terminal::run(&sides, &[]);
    let shown = terminal.until("[yes/no/all] ");
    assert!(shown.contains("Left to 1 further batch: 2 more jobs."), "{shown}");
    terminal.types("yes\n");
    let shown = terminal.until(QUESTION);
    assert!(shown.contains("Delete 2 jobs and their 2 actions?"), "{shown}");
    terminal.types("no\n");
    let (code, stdout, rest) = terminal.end();
    let report: Report = serde_json::from_str(&stdout).expect("a report");
    assert_eq!((code, report.jobs_deleted, report.more), (Some(0), 50_000, true));
    assert!(rest.contains("50,000 jobs and their 50,000 actions were deleted"), "{rest}");
    assert_eq!(sides.jobs(), [50_001, 50_002]);
}

#[test]
fn nothing_is_asked_where_nothing_goes_or_nobody_wants_it() {
    let sides = Sides::with("");
    let (code, stdout, rest) = Terminal::run(&sides, &[]).end();
    assert!(code == Some(0) && stdout.contains("\"dry_run\": false") && !rest.contains(QUESTION), "{rest}");

    let sides = Sides::with(&old_jobs(1, 2));
    let (code, _, rest) = Terminal::run(&sides, &["--dry-run"]).end();
    assert_eq!((code, sides.jobs().len()), (Some(0), 2));
    assert!(rest.starts_with("To delete exactly this, or nothing:") && !rest.contains(QUESTION), "{rest}");
    let (code, _, rest) = Terminal::run(&sides, &["--yes"]).end();
    assert_eq!((code, rest.as_str(), sides.jobs().len()), (Some(0), "", 0));
}

#[test]
fn several_batches_show_their_progress() {
    let sides = Sides::with(&old_jobs(1, 50_002));
    let (code, _, rest) = Terminal::run(&sides, &["--yes"]).end();
    assert_eq!(code, Some(0));
    assert!(rest.contains("50,000 of 50,002 jobs"), "{rest:?}");
}

/// A command on a terminal that controls it.
pub(crate) struct Terminal {
    command: Running,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Terminal {
    /// `jobs-cleanup` with its stdin and stderr on the terminal, and its stdout on a pipe.
    pub(crate) fn run(sides: &Sides, arguments: &[&str]) -> Self {
        Self::run_with(sides, arguments, None)
    }

    /// The same, with stderr sent to a file.
    fn run_with(sides: &Sides, arguments: &[&str], stderr: Option<File>) -> Self {
        let command = sides.cleanup_as(Self::session(), arguments);
        Self::start(command, 80, [Some(Stdio::piped()), stderr.map(Stdio::from)])
    }

    /// The binary, without arguments yet, to be started on a terminal: setsid makes it the command's own, so that Ctrl-C
    /// reaches it, and becomes the command.
    pub(crate) fn session() -> Command {
        let mut setsid = Command::new("setsid");
        setsid.arg("-c").arg(env!("CARGO_BIN_EXE_hero_proc_cleanup")).env_remove("RUST_LOG").env("TERM", "xterm");
        setsid.env("LC_ALL", "C.UTF-8");
        setsid
    }

    /// `command` on a terminal of that many columns, which has its stdin, and its stdout and stderr if they are not
    /// elsewhere.
    pub(crate) fn start(mut command: Command, columns: u16, elsewhere: [Option<Stdio>; 2]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&ours).expect("granted");
        unlockpt(&ours).expect("unlocked");
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).expect("a size");
        let name = ptsname(&ours, Vec::new()).expect("a name");
        let theirs: OwnedFd =
            open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).expect("its other end");
        let [stdout, stderr] =
            elsewhere.map(|place| place.unwrap_or_else(|| theirs.try_clone().expect("a copy").into()));
        command.stdin(theirs).stdout(stdout).stderr(stderr);
        let running = Running::on_terminal(&mut command);
        // Its copies of the terminal's other end would keep that open.
        drop(command);

        let keyboard = File::from(ours);
        let mut screen = keyboard.try_clone().expect("a copy");
        let (sender, receiver) = channel();
        spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails once nobody has the other end open.
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                let _ = sender.send(bytes[..read].to_vec());
            }
        });
        Self { command: running, keyboard, screen: receiver, seen: Vec::new() }
    }

    /// What is shown up to `text`, which must come.
    pub(crate) fn until(&mut self, text: &str) -> String {
        loop {
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            if seen.contains(text) {
                self.seen.clear();
                return seen;
            }
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(_) => panic!("never showed {text:?}: {seen}"),
            }
        }
    }

    pub(crate) fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("typed");
    }

    /// The exit code, stdout, and what was shown since.
    pub(crate) fn end(mut self) -> (Option<i32>, String, String) {
        let (code, stdout) = self.command.end();
        while let Ok(bytes) = self.screen.recv_timeout(PATIENCE) {
            self.seen.extend(bytes);
        }
        (code, stdout, String::from_utf8_lossy(&self.seen).into_owned())
    }
}
