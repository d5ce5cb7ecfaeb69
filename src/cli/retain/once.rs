//! `retain --once`: one pass now, and what came of it.

use std::fs::TryLockError;

use hero_proc_cleanup::policy::{Pass, PassEnd, Policy};
use hero_proc_cleanup::{JobsKept, Reclaimed, Report};
use serde::Serialize;

use super::log::Reason;
use super::pass::{self, Due, End, Kept, Made};
use super::session::Session;
use super::{log, show};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Format};
use crate::cli::{age, jobs_reclaim};

/// What came of a pass.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// How the pass ended: `done`, `failed`, `put_off`, `unknown`, `interrupted`.
    pub(super) outcome: &'static str,
    /// The policy's digest.
    pub(super) policy: String,
    pub(super) jobs_deleted: u64,
    pub(super) actions_deleted: u64,
    pub(super) bytes_freed: u64,
    pub(super) lock_ms: f64,
    pub(super) rules: Vec<RuleOutcome>,
    pub(super) reclaimed: Option<Reclaimed>,
    /// The last error, in words.
    pub(super) error: Option<String>,
}

/// What came of one rule.
#[derive(Debug, Serialize)]
pub(super) struct RuleOutcome {
    pub(super) rule: String,
    pub(super) jobs_deleted: u64,
    pub(super) actions_deleted: u64,
    pub(super) bytes_freed: u64,
    pub(super) lock_ms: f64,
    /// Why the other jobs stay; none if the rule was not carried out.
    pub(super) jobs_kept: Option<JobsKept>,
    /// Jobs that should have gone: the first reason.
    pub(super) errors: Vec<String>,
}

/// Makes a pass, of a policy that a human confirms if `yes`.
pub(super) async fn run(session: &mut Session, mut kept: Kept, policy: &Policy, yes: bool) -> Result<(), Failure> {
    let lock = match kept.place.lock() {
        Ok(lock) => lock,
        Err(TryLockError::WouldBlock) => return Err(Failure::PassRuns),
        Err(TryLockError::Error(error)) => {
            let what =
                "another pass on this gateway can't be ruled out: nothing in the state's directory can be locked";
            return Err(Failure::failed(what, error));
        }
    };
    kept.load(&session.client.socket);
    if !yes {
        warn_of_the_timer(session, &kept, policy);
    }
    let due = if yes { Due::Confirmed } else { Due::Now };
    let made = pass::make(session, &mut kept, policy, due, &lock).await;
    drop(lock);
    log::pass(&made, Reason::AtTheEnd);
    let format = Format::or_default(None);
    if let End::Waits(shown) = &made.end {
        output::print_as(format, shown, show::preview)?;
        return Err(Failure::Waits { takes: shown.takes, jobs: shown.jobs, digest: shown.policy.clone() });
    }
    let outcome = Outcome::new(policy, &made);
    let printed = output::print_as(format, &outcome, show::outcome);
    let end = end(made, session);
    match (printed, end) {
        (Ok(_), end) => end,
        (Err(error), Ok(())) => Err(error),
        // The exit code is that of the pass.
        (Err(error), Err(end)) => {
            error.say();
            Err(end)
        }
    }
}

/// The pass's end as the command's.
fn end(made: Made, session: &Session) -> Result<(), Failure> {
    let what_went = made.what_went();
    if let End::Interrupted = made.end {
        return Err(Failure::Interrupted { what_went });
    }
    if let Some(error) = made.error {
        let of = if made.was_dry_run { Failure::of_dry_run } else { Failure::of_call };
        return Err(of(error, &session.client.socket));
    }
    match made.end {
        End::Ended(Pass { end: PassEnd::Done, .. }) => {}
        _ => return Err(Failure::Failed { what: format!("the pass was not made: {what_went}"), source: None }),
    }
    if made.rules.iter().flatten().any(|report| !report.errors.is_empty()) {
        return Err(Failure::WithErrors);
    }
    made.reclaimed.as_ref().map_or(Ok(()), jobs_reclaim::in_full)
}

/// A timer that fires at other times than the policy says would make `--status` wrong.
fn warn_of_the_timer(session: &Session, kept: &Kept, policy: &Policy) {
    let Some(started) = kept.state.history.started_ms else { return };
    let every = i64::try_from(policy.every().as_millis()).unwrap_or(i64::MAX);
    let since = session.now().timestamp_millis().saturating_sub(started);
    if since >= 0 && (since < every / 2 || since > every.saturating_mul(2)) {
        // To the second, from a second on.
        let since = if since < 1_000 { since } else { since / 1_000 * 1_000 };
        tracing::warn!(
            every = age::text(every),
            since_the_last_pass = age::text(since),
            "`every` of the policy is not what the timer says, or a pass was begun by hand"
        );
    }
}

impl Outcome {
    fn new(policy: &Policy, made: &Made) -> Self {
        let sum = made.sum();
        let number = |of: fn(&Report) -> u64| sum.as_ref().map(of).unwrap_or_default();
        let rules = policy.rules().iter().zip(&made.rules).map(|(rule, report)| RuleOutcome {
            rule: rule.to_string(),
            jobs_deleted: report.as_ref().map(|report| report.jobs_deleted).unwrap_or_default(),
            actions_deleted: report.as_ref().map(|report| report.actions_deleted).unwrap_or_default(),
            bytes_freed: report.as_ref().map(|report| report.bytes_freed).unwrap_or_default(),
            lock_ms: report.as_ref().map(|report| report.lock_ms).unwrap_or_default(),
            jobs_kept: report.as_ref().map(|report| report.jobs_kept),
            errors: report.as_ref().map(|report| report.errors.clone()).unwrap_or_default(),
        });
        Self {
            outcome: match &made.end {
                End::Ended(pass) => log::end(pass.end),
                End::Interrupted => "interrupted",
                End::Waits(_) => "waits",
                End::NotDue => "failed",
            },
            policy: policy.digest().to_string(),
            jobs_deleted: number(|sum| sum.jobs_deleted),
            actions_deleted: number(|sum| sum.actions_deleted),
            bytes_freed: number(|sum| sum.bytes_freed),
            lock_ms: sum.as_ref().map(|sum| sum.lock_ms).unwrap_or_default()
                + made.reclaimed.as_ref().and_then(|reclaimed| reclaimed.lock_ms).unwrap_or_default(),
            rules: rules.collect(),
            reclaimed: made.reclaimed.clone(),
            error: made.error.as_ref().map(|error| error.message.clone()),
        }
    }
}
