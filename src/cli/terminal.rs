//! Terminals: their width, and the terminal at which the user sits.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;

use rustix::process::getpgrp;
use rustix::termios::{QueueSelector, tcflush, tcgetpgrp, tcgetwinsize};
use tokio::sync::oneshot;

use super::failure::Failure;

/// How many columns `terminal` has; none if it is no terminal, or does not say.
pub(crate) fn width(terminal: impl AsFd) -> Option<u16> {
    tcgetwinsize(terminal).ok().map(|size| size.ws_col).filter(|columns| *columns > 0)
}

/// The terminal that controls this process, wherever its streams go: `/dev/tty`.
#[derive(Debug)]
pub(crate) struct Terminal(File);

impl Terminal {
    /// Opens the terminal that controls this process.
    ///
    /// A process without a terminal, or in the background of its terminal, can ask nobody: that is a usage error. In the
    /// background, who sits at the terminal would not know what they answer, and reading would stop the process.
    pub(crate) fn open() -> Result<Self, Failure> {
        let nobody = |why: String| {
            Failure::Usage(format!(
                "nobody can be asked: {why}; --yes deletes without a question, --dry-run shows what would go"
            ))
        };
        let terminal = File::options().read(true).write(true).open("/dev/tty");
        let terminal = terminal.map_err(|error| nobody(format!("there is no terminal (/dev/tty: {error})")))?;
        match tcgetpgrp(&terminal) {
            Ok(foreground) if foreground == getpgrp() => Ok(Self(terminal)),
            Ok(_) => Err(nobody("this runs in the background of its terminal".to_owned())),
            Err(error) => Err(nobody(format!("the terminal can't be used: {error}"))),
        }
    }

    pub(crate) fn width(&self) -> Option<u16> {
        width(&self.0)
    }

    /// Writes `text`, which must be printable.
    pub(crate) fn show(&self, text: &str) {
        // A terminal that has gone away gives no answer, and no answer deletes nothing.
        let _ = (&self.0).write_all(text.as_bytes());
    }

    /// Writes `text`, which must be printable, and waits for the line that is typed then; none at the end of the
    /// terminal's input, or if the terminal can't be read. Input from before the question is dropped, since it can't be
    /// an answer.
    ///
    /// The line is read on a thread of its own, which the process does not wait for when it ends.
    pub(crate) async fn ask(&self, text: &str) -> Option<String> {
        // A terminal that can't be flushed can't be read either.
        let _ = tcflush(&self.0, QueueSelector::IFlush);
        self.show(text);
        let terminal = self.0.try_clone();
        let (sender, receiver) = oneshot::channel();
        // Without a thread there is no answer.
        let _ = std::thread::Builder::new().spawn(move || {
            // Nobody waits any more if a signal came.
            let _ = sender.send(read_line(terminal));
        });
        receiver.await.ok()?.ok().filter(|line| !line.is_empty())
    }
}

fn read_line(terminal: io::Result<File>) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(terminal?).read_line(&mut line)?;
    Ok(line)
}
