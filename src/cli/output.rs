//! Where text goes: results to stdout, everything else to stderr. A reader that has gone away is no failure.

use std::io::{self, ErrorKind, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::failure::Failure;

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For programs
    Json,
    /// For people
    Table,
}

/// Prints `result` on stdout: as JSON, or as `table` has it.
pub(crate) fn print_as<T: Serialize>(
    format: Format,
    result: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let text = match format {
        Format::Json => serde_json::to_string_pretty(result)
            .map_err(|error| Failure::failed("the result could not be written as JSON", error))?,
        Format::Table => table(result),
    };
    print(&text)
}

/// Prints `text` on stdout, and a line break if it does not end with one.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let written = write!(stdout, "{text}{end}").and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed("the result could not be written to stdout", error))
        }
        _ => Ok(()),
    }
}

/// Says `text` on stderr.
pub(crate) fn say(text: &str) {
    // There is nobody left to tell that stderr is closed.
    let _ = writeln!(io::stderr(), "{}", printable(text));
}

/// `text` without the control characters that would move a terminal's cursor or change its colours: names and errors
/// come from a store that others write to. Line breaks stay.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() && char != '\n' {
            printable.extend(char.escape_default());
        } else {
            printable.push(char);
        }
    }
    printable
}
