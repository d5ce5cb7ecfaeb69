//! The binary as a process: its stderr, its signals, its end.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::spawn;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_hero_proc_cleanup");

/// How long anything may take before the test gives up: never waited for when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn binary() -> Command {
    let mut command = Command::new(BINARY);
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().expect("the binary runs")
}

/// `jobs-cleanup` with `arguments`, at the gateway that listens on `socket`.
pub(crate) fn jobs_cleanup(socket: &Path, arguments: &[&str]) -> Output {
    binary().arg("jobs-cleanup").args(arguments).arg("--socket").arg(socket).output().expect("the binary runs")
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// A process whose stderr is read line by line; ended when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    /// The lines of stderr. They are taken from the process at once, since a full pipe would hold it up.
    lines: Mutex<Receiver<String>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
        let lines = Mutex::new(lines(child.stderr.take().expect("a pipe")));
        Self { child, lines }
    }

    /// Of a command whose stderr is a terminal: nothing can be heard from it here.
    pub(crate) fn on_terminal(command: &mut Command) -> Self {
        Self { child: command.spawn().expect("the binary runs"), lines: Mutex::new(channel().1) }
    }

    /// Waits for a line on stderr that holds `text`, and returns the line.
    pub(crate) fn says(&self, text: &str) -> String {
        let lines = self.lines.lock().expect("no panic");
        loop {
            let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never said {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// All lines on stderr up to one that holds `text`, or to the end.
    pub(crate) fn until(&self, text: &str) -> String {
        let (lines, mut said) = (self.lines.lock().expect("no panic"), String::new());
        while !said.contains(text) {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => said += &(line + "\n"),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("neither said {text:?} nor ended: {said}"),
            }
        }
        said
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The number of kilobytes that `/proc` reports under `name`, such as `VmHWM`.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect(name);
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// How many times the process has `file` open.
    pub(crate) fn opened(&self, file: &Path) -> usize {
        let descriptors = entries(Path::new(&format!("/proc/{}/fd", self.pid())));
        descriptors
            .iter()
            .filter(|descriptor| std::fs::read_link(descriptor).is_ok_and(|target| target == file))
            .count()
    }

    pub(crate) fn has_open(&self, file: &Path) -> bool {
        self.opened(file) > 0
    }

    /// The exit code and stdout, once the process has ended.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut stdout).expect("UTF-8");
        }
        (self.child.wait().expect("it ends").code(), stdout)
    }

    /// How the process ended, and the lines on stderr since the last one that was read.
    pub(crate) fn end_with_log(mut self) -> (ExitStatus, String) {
        let log: Vec<String> = self.lines.get_mut().expect("no panic").iter().collect();
        (self.child.wait().expect("it ends"), log.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, as they come.
pub(crate) fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// What stands in `dir`.
pub(crate) fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect()
}
