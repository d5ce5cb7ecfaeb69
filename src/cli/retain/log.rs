//! What the log says of a pass: one line.

use hero_proc_cleanup::policy::{Pass, PassEnd};

use super::pass::{End, Made};

/// The word for how a pass ended.
pub(super) fn end(end: PassEnd) -> &'static str {
    match end {
        PassEnd::Done => "done",
        PassEnd::Failed => "failed",
        PassEnd::PutOff => "put_off",
        PassEnd::Unknown => "unknown",
        PassEnd::Unconfirmed => "waits",
        _ => "other",
    }
}

/// Where the reason stands why a pass did not do everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// In the pass's line.
    InTheLine,
    /// In the error with which the command ends.
    AtTheEnd,
}

/// Leaves the line of the pass `made`.
pub(super) fn pass(made: &Made, reason: Reason) {
    match &made.end {
        End::Ended(pass) => {
            let Pass { calls, jobs, actions, bytes, longest_lock_ms, behind, .. } = *pass;
            let outcome = end(pass.end);
            let (lock_ms, longest_lock_ms) = (pass.lock_ms.round(), longest_lock_ms.round());
            let ms = pass.ended_ms.saturating_sub(pass.started_ms);
            let error = made.error.as_ref().filter(|_| reason == Reason::InTheLine);
            let kind = error.map(|error| error.kind().map_or("unknown", |kind| kind.as_str()));
            let error = error.map(|error| error.message.as_str());
            if pass.end == PassEnd::Done && !behind {
                tracing::info!(outcome, jobs, actions, bytes, calls, ms, lock_ms, longest_lock_ms, behind, "pass");
            } else {
                tracing::warn!(
                    outcome,
                    jobs,
                    actions,
                    bytes,
                    calls,
                    ms,
                    lock_ms,
                    longest_lock_ms,
                    behind,
                    kind,
                    error,
                    "pass"
                );
            }
        }
        End::Waits(shown) if reason == Reason::InTheLine => tracing::warn!(
            outcome = "waits",
            takes = shown.takes,
            of = shown.jobs,
            digest = shown.policy,
            "pass: nothing was deleted, as the policy is new or has changed and would take more than half of all jobs; \
             `retain --once --yes` or `confirmed` in the policy lets it delete"
        ),
        End::Interrupted if reason == Reason::InTheLine => {
            tracing::info!(outcome = "interrupted", "pass: {}; the next pass goes on", made.what_went());
        }
        End::Waits(_) | End::Interrupted => {}
        End::NotDue => tracing::debug!("no pass is due"),
    }
}
