//! The question before a deletion, on the terminal.

use hero_proc_cleanup::Report;

use super::interrupts::Interrupts;
use super::table::{self, Screen, jobs_and_actions, number};
use super::terminal::Terminal;
use super::text::printable;

/// What becomes of the jobs that match beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Further calls are for them, each decided anew and asked about.
    Follows,
    /// The jobs stay.
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

/// Shows the dry run `preview` with the lines `about` it, and asks whether that is to go.
///
/// Only `yes` and `y` are a yes, and, if batches may follow, `all` and `a`.
pub(crate) async fn ask(
    terminal: &Terminal,
    preview: &Report,
    about: Vec<String>,
    rest: Rest,
    interrupts: &mut Interrupts,
) -> Answer {
    let mut text = table::preview(preview, Screen::wide(terminal.width()));
    let mut line = |line: String| text.push_str(&(printable(line) + "\n"));
    about.into_iter().for_each(&mut line);
    let all = preview.more && rest == Rest::Follows;
    if preview.more {
        line(beyond(preview, all));
    }
    let Report { jobs_planned, actions_planned, actions_leaked, .. } = *preview;
    let what = jobs_and_actions(jobs_planned, actions_planned, actions_leaked);
    let answers = if all { "yes/no/all" } else { "yes/no" };
    text.push_str(&format!("Delete {what}? [{answers}] "));

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
        // Ctrl-C ends the line, too, and that may be seen first.
        _ if interrupts.pending().await => Answer::Interrupted,
        _ => Answer::No,
    }
}

/// What the limit leaves, and, if batches `follow`, what becomes of it.
fn beyond(preview: &Report, follow: bool) -> String {
    let over = preview.jobs_kept.over_limit;
    let left = match over {
        0 => "more actions that no job refers to".to_owned(),
        _ => number(over, "more job", "more jobs"),
    };
    if !follow {
        return format!("Not part of this: {left}, over the limit.");
    }
    let batches = match (over, preview.jobs_planned) {
        (0, _) | (_, 0) => "further batches".to_owned(),
        (over, planned) => number(over.div_ceil(planned), "further batch", "further batches"),
    };
    format!("Left to {batches}: {left}. Each batch is decided anew, and asked about.")
}
