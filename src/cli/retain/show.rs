//! Retention for people: what rules would take, what a pass took, and how passes went.

use hero_proc_cleanup::JobsKept;
use indicatif::{DecimalBytes, HumanCount};

use super::log;
use super::once::Outcome;
use super::preview::Shown;
use super::status::Status;
use crate::cli::table::{Grid, Lines, Screen, excerpt, number, reclaimed};
use crate::cli::{age, moment};

fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

fn bytes(bytes: u64) -> String {
    DecimalBytes(bytes).to_string()
}

/// What each rule would take.
pub(super) fn preview(shown: &Shown, screen: Screen) -> String {
    let mut text = Lines::default();
    let mut grid = Grid::new(["rule", "jobs", "actions", "text", "jobs that stay"], screen);
    for rule in &shown.rules {
        grid.figures(
            excerpt(&rule.rule),
            [count(rule.jobs), count(rule.actions), bytes(rule.bytes), count(stays(&rule.jobs_kept))],
        );
    }
    text.grid(&grid);
    text.line(format_args!(
        "Together they would take {} of {}.",
        number(shown.takes, "job", "jobs"),
        count(shown.jobs)
    ));
    if shown.waits {
        text.line(
            "That is more than half, and the policy is new or has changed: the first pass waits to be confirmed.",
        );
    }
    text.line(format_args!("The digest of this policy: {}", shown.policy));
    text.into()
}

/// Jobs that a rule looks at and leaves.
fn stays(kept: &JobsKept) -> u64 {
    kept.sum().saturating_sub(kept.over_limit)
}

/// What a pass took.
pub(super) fn outcome(outcome: &Outcome, screen: Screen) -> String {
    let mut text = Lines::default();
    let mut grid = Grid::new(["rule", "jobs deleted", "actions", "freed", "lock"], screen);
    for rule in &outcome.rules {
        let lock = format!("{:.0} ms", rule.lock_ms);
        let figures = [count(rule.jobs_deleted), count(rule.actions_deleted), bytes(rule.bytes_freed), lock];
        grid.figures(excerpt(&rule.rule), figures);
    }
    text.grid(&grid);
    for error in outcome.rules.iter().flat_map(|rule| &rule.errors) {
        text.line(format_args!("Stays: {}", excerpt(error)));
    }
    let text = String::from(text);
    text + &outcome.reclaimed.as_ref().map(|given_back| reclaimed(given_back, screen)).unwrap_or_default()
}

/// How passes went, rule by rule.
pub(super) fn status(status: &Status, screen: Screen) -> String {
    let mut text = Lines::default();
    for problem in &status.problems {
        text.line(problem);
    }
    let time = |ms: Option<i64>| ms.map_or_else(|| "never".to_owned(), moment::text);
    text.line(format_args!("Last success: {}", time(status.last_success_ms)));
    if let Some(pass) = &status.last_pass {
        text.line(format_args!(
            "Last pass: {}, from {} to {}: {} and {} deleted, {} freed, lock held for {:.0} ms in {} (at most {:.0} ms).",
            log::end(pass.end),
            moment::text(pass.started_ms),
            moment::text(pass.ended_ms),
            number(pass.jobs, "job", "jobs"),
            number(pass.actions, "action", "actions"),
            bytes(pass.bytes),
            pass.lock_ms,
            number(pass.calls, "call", "calls"),
            pass.longest_lock_ms,
        ));
    }
    match (status.next_ms, status.every_ms) {
        (Some(next), Some(every)) => {
            text.line(format_args!("Next pass: {}, if a daemon runs; every {}.", moment::text(next), age::text(every)));
        }
        (None, Some(every)) => {
            text.line(format_args!("Next pass: at once, if a daemon runs; every {}.", age::text(every)))
        }
        _ => {}
    }
    let mut grid = Grid::new(["rule", "last success", "jobs", "actions", "freed", "jobs so far", "last error"], screen);
    for rule in &status.rules {
        let history = &rule.history;
        let error = history.error.as_ref().map(|error| error.kind.clone()).unwrap_or_default();
        grid.figures(
            excerpt(&rule.rule),
            [
                time(history.succeeded_ms),
                count(history.jobs),
                count(history.actions),
                bytes(history.bytes),
                count(history.jobs_ever),
                excerpt(&error).into_owned(),
            ],
        );
    }
    text.grid(&grid);
    if let Some(at) = status.reclaim.at_ms {
        text.line(format_args!(
            "Space was last asked for at {}: {} given back.",
            moment::text(at),
            bytes(status.reclaim.bytes)
        ));
    }
    if let Some(policy) = &status.policy {
        let accepted = if status.accepted { "may delete" } else { "is new" };
        text.line(format_args!("Policy: {policy}, which {accepted}."));
    }
    text.line(format_args!("Gateway: {}", status.gateway));
    text.line(format_args!("State: {}", status.state));
    text.into()
}
