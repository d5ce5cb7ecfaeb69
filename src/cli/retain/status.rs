//! `retain --status`: what the state says of the passes so far, and what is wrong.

use std::path::Path;

use chrono::{DateTime, Utc};
use hero_proc_cleanup::policy::{History, Pass, PassEnd, Policy, Preview, ReclaimHistory, RuleHistory};
use serde::Serialize;

use super::file::FileError;
use super::place::Place;
use super::show;
use super::state::State;
use crate::cli::failure::Failure;
use crate::cli::output::{self, Format};
use crate::cli::{age, moment};

/// What is known of the retention of one gateway.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) gateway: String,
    pub(super) state: String,
    /// The digest of the policy in the file; none if the file is refused.
    pub(super) policy: Option<String>,
    /// Whether that policy may delete.
    pub(super) accepted: bool,
    pub(super) every_ms: Option<i64>,
    /// When the last pass succeeded, in milliseconds since the Unix epoch.
    pub(super) last_success_ms: Option<i64>,
    /// When the next pass of a daemon is due.
    pub(super) next_ms: Option<i64>,
    /// Whether no pass has succeeded for three times `every`.
    pub(super) overdue: bool,
    /// Whether passes do not end before the next one is due.
    pub(super) behind: bool,
    /// What waits for a human to confirm it.
    pub(super) waits: Option<Preview>,
    /// What is wrong, in words.
    pub(super) problems: Vec<String>,
    pub(super) last_pass: Option<Pass>,
    pub(super) rules: Vec<RuleStatus>,
    pub(super) reclaim: ReclaimHistory,
}

/// What is known of one rule.
#[derive(Debug, Serialize)]
pub(super) struct RuleStatus {
    pub(super) rule: String,
    #[serde(flatten)]
    pub(super) history: RuleHistory,
}

/// Prints the status, and fails if no pass has succeeded in time.
pub(super) fn run(place: &Place, socket: &Path, policy: Result<Policy, FileError>) -> Result<(), Failure> {
    let (state, unread) = State::load(place, socket);
    // Where no pass was ever made, nothing is in force but what the file says.
    let policy = match policy {
        Err(error) if state.history == History::default() => return Err(Failure::Usage(error.to_string())),
        policy => policy,
    };
    let now = Utc::now();
    let mut status = Status::new(place, socket, &state, policy.as_ref().ok(), now);
    status.problems = problems(&status, &state, policy.as_ref(), unread, now);
    output::print_as(Format::or_default(None), &status, show::status)?;
    if status.overdue { Err(Failure::Overdue) } else { Ok(()) }
}

impl Status {
    fn new(place: &Place, socket: &Path, state: &State, policy: Option<&Policy>, now: DateTime<Utc>) -> Self {
        let history = &state.history;
        let digest = policy.map(Policy::digest);
        // A policy that is refused leaves the one of the last pass in force.
        let every_ms = policy.map_or(state.every_ms, |policy| i64::try_from(policy.every().as_millis()).ok());
        let names: Vec<String> = match policy {
            Some(policy) => policy.rules().iter().map(ToString::to_string).collect(),
            None => history.rules.keys().cloned().collect(),
        };
        let rules = names.into_iter().map(|rule| {
            let history = history.rules.get(&rule).cloned().unwrap_or_default();
            RuleStatus { rule, history }
        });
        Self {
            gateway: socket.to_string_lossy().into_owned(),
            state: place.file.to_string_lossy().into_owned(),
            accepted: digest.is_some()
                && (digest == history.accepted || policy.and_then(Policy::confirmed) == digest.as_ref()),
            policy: digest.map(|digest| digest.to_string()),
            every_ms,
            last_success_ms: history.succeeded_ms,
            next_ms: policy.and_then(|policy| history.due(policy)).map(|due| due.timestamp_millis()),
            overdue: overdue(history.succeeded_ms, every_ms, now.timestamp_millis()),
            behind: history.behind,
            waits: history.waits_for.clone(),
            problems: Vec::new(),
            last_pass: history.last.clone(),
            rules: rules.collect(),
            reclaim: history.reclaim.clone(),
        }
    }
}

/// Whether no pass has succeeded for three times `every`: also if none ever has, or if the last one is still to come.
fn overdue(succeeded_ms: Option<i64>, every_ms: Option<i64>, now_ms: i64) -> bool {
    /// Clocks are set by seconds every day.
    const SMALL_STEP: i64 = 60_000;
    let (Some(succeeded), Some(every)) = (succeeded_ms, every_ms) else { return true };
    let since = now_ms.saturating_sub(succeeded);
    since < -SMALL_STEP || since > every.saturating_mul(3)
}

/// For how long a clock that has gone back is a problem, in milliseconds. A pass is made at once, and nothing is left to do.
const DAY: i64 = 86_400_000;

/// What is wrong, the gravest first.
fn problems(
    status: &Status,
    state: &State,
    policy: Result<&Policy, &FileError>,
    unread: Option<String>,
    now: DateTime<Utc>,
) -> Vec<String> {
    let history = &state.history;
    let now = now.timestamp_millis();
    let mut problems: Vec<String> = unread.into_iter().collect();
    match (status.overdue, status.last_success_ms) {
        (true, None) => problems.push("No pass has succeeded yet.".to_owned()),
        (true, Some(last)) if last > now => problems.push(format!(
            "By this clock the last pass will succeed at {}: the clock has gone back.",
            moment::text(last)
        )),
        (true, Some(last)) => {
            problems.push(format!(
                "No pass has succeeded for three times `every`: the last did at {}.",
                moment::text(last)
            ));
        }
        (false, _) => {}
    }
    if let Some(waits) = &status.waits {
        problems.push(format!(
            "The policy {} waits to be confirmed: it would take more than half of all {} jobs. `retain --once --yes` \
             confirms it, or confirmed = \"{}\" in the policy.",
            waits.digest, waits.jobs_total, waits.digest
        ));
    }
    match (policy, &state.refused) {
        (Err(error), _) => problems.push(format!(
            "The next pass will refuse the policy's file: {error}. Then a daemon goes on with the policy that it had, \
             --once makes no pass."
        )),
        (Ok(_), Some(refused)) => problems.push(format!(
            "At {} the daemon went on with the policy that it had: {}. The next pass reads the file again.",
            moment::text(refused.at_ms),
            refused.reason
        )),
        (Ok(policy), None) if history.accepted.as_ref().is_some_and(|accepted| *accepted != policy.digest()) => {
            problems.push("The policy has changed since the last pass.".to_owned());
        }
        _ => {}
    }
    if status.behind {
        let every = status.every_ms.map(|ms| format!(" ({})", age::text(ms))).unwrap_or_default();
        problems.push(format!("Retention is behind: a pass had not ended when the next one was due{every}."));
    }
    if let (Some(started), ended) = (history.started_ms, history.ended_ms)
        && ended.is_none_or(|ended| started > ended)
    {
        problems
            .push(format!("The pass that began at {} goes on, or was stopped before its end.", moment::text(started)));
    }
    if let Some(pass) = history.last.as_ref().filter(|pass| pass.end != PassEnd::Done)
        && let Some(error) = &pass.error
    {
        problems.push(format!(
            "The last pass did not succeed: {} ({}), at {}.",
            error.message,
            error.kind,
            moment::text(error.at_ms)
        ));
    }
    for RuleStatus { rule, history } in &status.rules {
        if history.referenced > 0 {
            problems.push(format!("{} jobs stay that should have gone by the rule: {rule}.", history.referenced));
        }
    }
    if let Some(jump) = history.clock_jump.as_ref().filter(|jump| now.saturating_sub(jump.at_ms) < DAY) {
        problems.push(format!(
            "At {} the clock had gone back by {}.",
            moment::text(jump.at_ms),
            age::text(jump.by_ms / 1_000 * 1_000)
        ));
    }
    problems
}
