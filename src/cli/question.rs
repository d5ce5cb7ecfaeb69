//! The question before a deletion, on the terminal.

use hero_proc_cleanup::Report;

use super::interrupts::Interrupts;
use super::table::{self, Screen, number};
use super::terminal::Terminal;
use super::text::printable;

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
    /// Yes, to this and to all batches that follow.
    All,
    No,
    /// A signal came instead.
    Interrupted,
}

/// Shows the dry run `preview` with its `filter` and `gateway`, and asks whether that is to go.
///
/// Only `yes` and `y` are a yes, and, if batches may follow, `all` and `a`.
pub(crate) async fn ask(
    terminal: &Terminal,
    preview: &Report,
    filter: &str,
    gateway: &str,
    rest: Rest,
    interrupts: &mut Interrupts,
) -> Answer {
    let mut text = table::preview(preview, Screen::wide(terminal.width()));
    let mut line = |line: String| text.push_str(&(printable(line) + "\n"));
    line(format!("Filter: {}", if filter.is_empty() { "none, all of codescaler's jobs" } else { filter }));
    line(format!("Gateway: {gateway}"));
    let all = preview.more && rest == Rest::Follows;
    if preview.more {
        let over = preview.jobs_kept.over_limit;
        line(if all {
            let batches = over.div_ceil(preview.jobs_planned.max(1));
            let batches = number(batches, "further batch", "further batches");
            format!("{} more in {batches}: each is decided anew, and asked about.", jobs(over))
        } else {
            format!("Not part of this: {} over the limit.", jobs(over))
        });
    }
    let actions = number(preview.actions_planned, "action", "actions");
    let answers = if all { "yes/no/all" } else { "yes/no" };
    text.push_str(&format!("Delete {} and {actions}? [{answers}] ", jobs(preview.jobs_planned)));

    let answer = tokio::select! {
        answer = terminal.ask(&text) => answer.unwrap_or_default(),
        () = interrupts.next() => {
            terminal.show("\n");
            return Answer::Interrupted;
        }
    };
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Answer::Yes,
        "a" | "all" if all => Answer::All,
        _ => Answer::No,
    }
}

fn jobs(count: u64) -> String {
    number(count, "job", "jobs")
}
