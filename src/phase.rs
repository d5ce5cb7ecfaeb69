//! The phases in which a job has finished.

/// The terminal phases that are known or plausible, compared without case. A job in any other phase has not finished.
pub const TERMINAL: [&str; 15] = [
    "succeeded",
    "success",
    "completed",
    "done",
    "ok",
    "failed",
    "error",
    "cancelled",
    "canceled",
    "stopped",
    "halted",
    "killed",
    "timeout",
    "timed_out",
    "skipped",
];

/// The number of phases at the head of [`TERMINAL`] in which a job has succeeded.
const SUCCEEDED: usize = 5;

/// How a job finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Outcome {
    Succeeded,
    DidNotSucceed,
}

/// How a job in `phase` finished; none if it has not.
pub(crate) fn outcome(phase: &str) -> Option<Outcome> {
    let place = TERMINAL.iter().position(|terminal| phase.eq_ignore_ascii_case(terminal))?;
    Some(if place < SUCCEEDED { Outcome::Succeeded } else { Outcome::DidNotSucceed })
}
