//! The question before a deletion, on a terminal.

use std::io::{self, IsTerminal, Write};

use hero_proc_cleanup::Report;
use tokio::sync::oneshot;

use super::interrupts::Interrupts;
use super::output::say;
use super::table;

/// Whether somebody is there to be asked. The question goes to stderr: who has sent that elsewhere still has to answer.
pub(crate) fn can_be_asked() -> bool {
    io::stdin().is_terminal()
}

/// What becomes of the jobs that match beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Further calls are for them, each decided anew and asked about.
    Follows,
    /// They stay.
    Stays,
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    /// A signal came instead.
    Interrupted,
}

/// Shows the dry run `preview`, and asks whether that is to go. Only `yes` and `y` are a yes.
pub(crate) async fn ask(preview: &Report, rest: Rest, interrupts: &mut Interrupts) -> Answer {
    say(&table::report(preview));
    if preview.more {
        let over = preview.jobs_kept.over_limit;
        let batches = match over.div_ceil(preview.jobs_planned.max(1)) {
            1 => "1 further batch".to_owned(),
            batches => format!("{} further batches", table::count(batches)),
        };
        say(&match rest {
            Rest::Follows => {
                format!("{} more in {batches}: each is decided anew, and asked about.", jobs(over))
            }
            Rest::Stays => format!("Not part of this: {} over the limit.", jobs(over)),
        });
    }
    let actions = preview.actions_planned;
    let actions = if actions == 1 { "1 action".to_owned() } else { format!("{} actions", table::count(actions)) };
    // There is nobody left to ask if stderr is closed: then reading fails as well.
    let _ = write!(io::stderr(), "Delete {} and {actions}? [yes/no] ", jobs(preview.jobs_planned));

    let answer = tokio::select! {
        answer = line() => answer,
        () = interrupts.next() => {
            say("");
            return Answer::Interrupted;
        }
    };
    let yes = |line: String| ["y", "yes"].iter().any(|yes| line.trim().eq_ignore_ascii_case(yes));
    if answer.is_some_and(yes) { Answer::Yes } else { Answer::No }
}

fn jobs(number: u64) -> String {
    if number == 1 { "1 job".to_owned() } else { format!("{} jobs", table::count(number)) }
}

/// A line from stdin; none at its end. It is read on a thread of its own, which the process does not wait for when it
/// ends.
async fn line() -> Option<String> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line);
        // Nobody waits any more if a signal came.
        let _ = sender.send(read.ok().filter(|bytes| *bytes > 0).map(|_| line));
    });
    receiver.await.ok().flatten()
}
