//! The log, on stderr.
//!
//! Every field of every line goes through [`printable`], or through [`json`]: no text that somebody else chose begins a
//! line or moves a cursor.
//!
//! Servers hand their lines over to one thread, which writes them. If nobody reads stderr, that thread waits, and no
//! call, no `/health` and no end does: lines beyond [`MOST_BYTES`] are dropped, and their number is said in their place.
//! Commands write their lines at once, in order with everything else on stderr.
//!
//! `tracing-appender` is not used: it does not say what it dropped, prints on stdout where it can't end, and panics where
//! no thread can be started.

use std::collections::VecDeque;
use std::env;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use clap::ValueEnum;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::{MakeWriter, format};

use super::failure::Failure;
use super::text::{json, printable};

/// The most bytes of lines that wait to be written.
const MOST_BYTES: usize = 8 << 20;
/// How long the end waits for lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people, or for the journal if stderr is its stream
    Text,
    /// A JSON object on each line
    Json,
}

/// The thread that writes lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writing {
    /// The thread that logs.
    AtOnce,
    /// A thread of its own, for servers.
    Apart,
}

/// The log of this process, begun.
#[derive(Debug)]
pub(crate) struct Log {
    queue: Option<Arc<Queue>>,
    /// Whether lines are as people read them on a terminal.
    plain: bool,
}

impl Log {
    /// Begins the log. `filter` stands unless `RUST_LOG` says otherwise.
    pub(crate) fn start(filter: &str, format: LogFormat, writing: Writing) -> Result<Self, Failure> {
        let queue = match writing {
            Writing::AtOnce => None,
            Writing::Apart => Some(Queue::start()?),
        };
        let journal = is_journal();
        let lines = Lines { queue: queue.clone(), journal, format };
        let set = env::var("RUST_LOG").ok().filter(|set| !set.is_empty());
        let filter = EnvFilter::builder()
            .with_default_directive(LevelFilter::WARN.into())
            .parse_lossy(set.as_deref().unwrap_or(filter));
        // An internal error would be reported on stderr, and panic where that is closed.
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).log_internal_errors(false);
        match (format, journal) {
            (LogFormat::Json, false) => log.json().init(),
            (LogFormat::Json, true) => log.json().without_time().init(),
            (LogFormat::Text, journal) => {
                let log = log.with_ansi(!journal && has_colours()).fmt_fields(
                    format::debug_fn(|writer, field, value| {
                        let value = printable(format_args!("{value:?}"));
                        if field.name() == "message" {
                            write!(writer, "{value}")
                        } else {
                            write!(writer, "{field}={value}")
                        }
                    })
                    .delimited(" "),
                );
                if journal { log.without_time().init() } else { log.init() }
            }
        }
        if queue.is_some() {
            std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        }
        Ok(Self { queue, plain: format == LogFormat::Text && !journal })
    }

    /// Says why the command ends: a server's reason is a line of its log.
    pub(crate) fn say(&self, failure: &Failure) {
        let Some(queue) = &self.queue else { return failure.say() };
        let lines = failure.lines();
        if self.plain {
            lines.into_iter().for_each(|line| queue.push((line + "\n").into_bytes()));
        } else {
            tracing::error!("{}", lines.join("; "));
        }
    }

    /// Waits until everything is written, but not for long.
    pub(crate) fn end(&self) {
        if let Some(queue) = &self.queue {
            queue.wait();
        }
    }
}

/// Whether stderr is the journal's stream, which has times and levels of its own.
fn is_journal() -> bool {
    let stream = env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(io::stderr().as_fd()).is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// Whether stderr shows colours, and is wanted to.
fn has_colours() -> bool {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    io::stderr().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// Where lines go.
struct Lines {
    queue: Option<Arc<Queue>>,
    journal: bool,
    format: LogFormat,
}

/// The place of one line, of one level.
struct Line<'l> {
    lines: &'l Lines,
    level: Level,
}

impl<'l> MakeWriter<'l> for Lines {
    type Writer = Line<'l>;

    fn make_writer(&'l self) -> Line<'l> {
        Line { lines: self, level: Level::INFO }
    }

    fn make_writer_for(&'l self, of: &Metadata<'_>) -> Line<'l> {
        Line { lines: self, level: *of.level() }
    }
}

impl Write for Line<'_> {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut text = String::new();
        if self.lines.journal {
            text.push_str(priority(self.level));
        }
        let written = String::from_utf8_lossy(line);
        match self.lines.format {
            LogFormat::Json => text.push_str(&json(&written)),
            LogFormat::Text => text.push_str(&written),
        }
        match &self.lines.queue {
            Some(queue) if !queue.is_written_by(thread::current().id()) => queue.push(text.into_bytes()),
            _ => io::stderr().write_all(text.as_bytes())?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The priority of a line, as the journal reads it: see sd-daemon(3).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// Lines that wait to be written.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Told of the first line, and of the end of the last.
    changed: Condvar,
    writer: OnceLock<ThreadId>,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Whether a line is being written.
    writing: bool,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// In the place of this many lines.
    Dropped(u64),
}

impl Queue {
    /// An empty queue, and the thread that writes what is put into it.
    fn start() -> Result<Arc<Self>, Failure> {
        let queue = Arc::new(Self::default());
        let writer = Arc::clone(&queue);
        let started = thread::Builder::new().name("log".to_owned()).spawn(move || writer.write());
        let thread = started.map_err(|error| Failure::failed("the log's thread could not be started", error))?;
        let _ = queue.writer.set(thread.thread().id());
        Ok(queue)
    }

    fn is_written_by(&self, thread: ThreadId) -> bool {
        self.writer.get() == Some(&thread)
    }

    /// Puts a line at the end, or counts it where there is no room.
    fn push(&self, line: Vec<u8>) {
        let mut waiting = self.waiting();
        if waiting.bytes < MOST_BYTES {
            waiting.bytes += line.len();
            waiting.entries.push_back(Entry::Line(line));
        } else if let Some(Entry::Dropped(lines)) = waiting.entries.back_mut() {
            *lines += 1;
        } else {
            waiting.entries.push_back(Entry::Dropped(1));
        }
        drop(waiting);
        self.changed.notify_all();
    }

    /// Writes everything that is put into the queue, for as long as the process lasts.
    fn write(&self) {
        loop {
            match self.next() {
                Entry::Line(line) => {
                    // There is nobody left to tell that stderr is closed.
                    let _ = io::stderr().write_all(&line);
                }
                // From this thread it goes straight to stderr.
                Entry::Dropped(lines) => tracing::warn!(lines, "lines of this log were dropped: nobody read them"),
            }
        }
    }

    fn next(&self) -> Entry {
        let mut waiting = self.waiting();
        loop {
            if let Some(entry) = waiting.entries.pop_front() {
                if let Entry::Line(line) = &entry {
                    waiting.bytes -= line.len();
                }
                waiting.writing = true;
                return entry;
            }
            waiting.writing = false;
            self.changed.notify_all();
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until everything is written, but not for long.
    fn wait(&self) {
        let unwritten = |waiting: &mut Waiting| waiting.writing || !waiting.entries.is_empty();
        let _ = self.changed.wait_timeout_while(self.waiting(), LAST_LINES, unwritten);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
