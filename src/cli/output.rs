//! Where text goes: results to stdout, everything else to stderr.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::failure::Failure;
use super::text::{json, printable};
use super::{table, terminal};

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For programs
    Json,
    /// For people
    Table,
}

impl Format {
    /// `given`, else a table where stdout is a terminal, and JSON elsewhere.
    pub(crate) fn or_default(given: Option<Self>) -> Self {
        given.unwrap_or_else(|| if io::stdout().is_terminal() { Self::Table } else { Self::Json })
    }
}

/// Whether the reader of stdout took all that was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Printed {
    Whole,
    /// The reader left before the end, which is no failure.
    Unread,
}

/// Prints `result` on stdout: as JSON, or as `table` has it for a screen.
pub(crate) fn print_as<T: Serialize>(
    format: Format,
    result: &T,
    table: impl FnOnce(&T, table::Screen) -> String,
) -> Result<Printed, Failure> {
    let text = match format {
        Format::Json => serde_json::to_string_pretty(result)
            .map(|text| json(&text))
            .map_err(|error| Failure::failed("the result could not be written as JSON", error))?,
        Format::Table => table(result, screen()),
    };
    print(&text)
}

/// The end of a command that came to `end`, whether its report could be `printed` or not.
///
/// A report that could not be written leaves a line on stderr: `done`, which tells the work of the command. The exit code is then
/// that of `end`, or 1 if `end` was a success.
pub(crate) fn told(
    done: impl Into<String>,
    printed: Result<Printed, Failure>,
    end: Result<(), Failure>,
) -> Result<(), Failure> {
    let Err(source) = printed else { return end };
    let untold = Failure::NotReported { done: done.into(), source: source.into() };
    if end.is_err() {
        untold.say();
        return end;
    }
    Err(untold)
}

/// The screen behind stdout.
pub(crate) fn screen() -> table::Screen {
    table::Screen::wide(terminal::width(io::stdout()))
}

/// Prints `text`, which must be printable, on stdout, and a line break if it does not end with one.
pub(crate) fn print(text: &str) -> Result<Printed, Failure> {
    let mut stdout = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Printed::Whole),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Printed::Unread),
        Err(error) => Err(Failure::failed("the result could not be written to stdout", error)),
    }
}

/// Says `line` on stderr.
pub(crate) fn say(line: impl Display) {
    // There is nobody left to tell that stderr is closed.
    let _ = writeln!(io::stderr(), "{}", printable(line));
}
