//! Retention: rules of what goes by itself, and what is to be done about them at a moment.
//!
//! ```text
//! draft      what a file says, key by key → Policy or PolicyError    ← the only checks
//! keep       the groups of which the last jobs stay, at the top and in a rule
//! digest     the name of a policy, by which a human confirms it
//! call       a call that is due, as both sides take it
//! retention  policy, history and clock → the next step               ← the state machine; no I/O
//! pace       how many jobs a call takes, and how long the lock rests after it
//! preview    what the first pass of a policy would take
//! history    what is remembered from pass to pass
//! ```
//!
//! Nothing in here does any I/O, waits, or reads a clock: a host asks [`Retention::next`] on its own tick, carries out
//! the call that it gets, and says how it ended.
//!
//! # What a policy takes
//!
//! Each rule is one cleanup of finished jobs, by kind, target, actor, phase and age. A job goes if a rule takes it and
//! nothing at the top of the policy keeps it. Nothing is forced: a job that has not finished stays. Without a policy
//! nothing goes.
//!
//! # What the top keeps, and what a rule keeps
//!
//! `keep_last` counts in groups of finished jobs, whatever their phase and age. One call counts in one way, among the jobs
//! that its rule's kind, target and actor name. A rule is refused if one call can't keep both what the rule's own `keep_last`
//! keeps and what the top's keeps: the module `keep` says when. No rule ever takes a job that the top keeps.
//!
//! # What always holds
//!
//! * A policy that was never in force, or that has changed, deletes nothing before dry runs have shown that it takes at
//!   most half of all jobs, or a human has confirmed it.
//! * The lock is held for at most 2 % of the time: after a call that held it for `t`, nothing that may take it is
//!   called for `49 t`.
//! * A pass ends: the cut-off of each rule stays where it was when the pass began, so a pass takes no job that came of
//!   age since.
//! * A call whose outcome is unknown is not made again. The next pass finds what is left.

mod call;
mod digest;
mod draft;
mod history;
mod keep;
mod pace;
mod preview;
mod retention;

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::age;
use keep::Keep;

pub use crate::method::Side;
pub use call::Call;
pub use digest::{PolicyDigest, PolicyDigestError};
pub use draft::{PolicyDraft, PolicyError};
pub use history::{ClockJump, Failure, History, HistoryError, Pass, PassEnd, ReclaimHistory, RuleHistory};
pub use pace::Pace;
pub use preview::{Preview, RulePreview};
pub use retention::{Retention, Step};

/// The rules of what goes by itself. A policy that exists is valid.
///
/// A policy is read from any self-describing format, or, to have errors that name the rule and the key, by way of a
/// [`PolicyDraft`].
///
/// ```
/// use hero_proc_cleanup::policy::Policy;
/// use serde_json::json;
///
/// let policy: Policy = serde_json::from_value(json!({
///     "every": "1h",
///     "keep_last": 10,
///     "rule": [{ "phases": ["succeeded"], "older_than": "14d" }, { "older_than": "60d" }],
/// }))?;
/// assert_eq!(policy.rules()[0].to_string(), r#"phases "succeeded", older than 14d"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PolicyDraft")]
pub struct Policy {
    every_ms: i64,
    reclaim_ms: Option<i64>,
    keep: Option<Keep>,
    /// Sorted, each once.
    except_kind: Vec<String>,
    confirmed: Option<PolicyDigest>,
    /// At least one, no two alike.
    rules: Vec<Rule>,
}

impl Policy {
    /// The time from the beginning of a pass to the beginning of the next one.
    #[must_use]
    pub fn every(&self) -> Duration {
        Duration::from_millis(self.every_ms.unsigned_abs())
    }

    /// The longest that the lock may be held to give space back after a pass; none if no space is given back.
    #[must_use]
    pub fn reclaim(&self) -> Option<Duration> {
        self.reclaim_ms.map(|ms| Duration::from_millis(ms.unsigned_abs()))
    }

    /// The digest that a human has written into the policy, of the policy that may take more than half of all jobs.
    #[must_use]
    pub fn confirmed(&self) -> Option<&PolicyDigest> {
        self.confirmed.as_ref()
    }

    /// The rules, in the order in which they are carried out.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The name of this policy: equal for two policies that take the same, whatever stands in `confirmed`, and however
    /// rules, phases and kinds are ordered.
    #[must_use]
    pub fn digest(&self) -> PolicyDigest {
        PolicyDigest::of(self)
    }

    /// A dry run of each rule, in their order: it shows what the rule would take, and deletes nothing.
    #[must_use]
    pub fn dry_runs(&self) -> Vec<Call> {
        (0..self.rules.len()).map(|rule| Call::dry_run(self, rule)).collect()
    }
}

/// One rule of a [`Policy`]. Its text names it: `kind "build", older than 60d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    kind: Option<String>,
    target: Option<String>,
    actor: Option<String>,
    /// In lower case, sorted, each once; none: any.
    phases: Option<Vec<String>>,
    older_than_ms: i64,
    /// What the rule itself keeps.
    own_keep: Option<Keep>,
    /// What a call of this rule keeps: the rule's own, and the top's.
    keep: Option<Keep>,
}

impl Rule {
    /// The age that a job must have reached, in milliseconds.
    #[must_use]
    pub fn older_than_ms(&self) -> i64 {
        self.older_than_ms
    }

    /// Whether the rule names no kind, no target and no actor: its calls then match every job with the root tag.
    fn matches_every_job(&self) -> bool {
        self.kind.is_none() && self.target.is_none() && self.actor.is_none()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in [("kind", &self.kind), ("target", &self.target), ("actor", &self.actor)] {
            if let Some(value) = value {
                write!(f, "{name} {}, ", quoted(value))?;
            }
        }
        if let Some(phases) = &self.phases {
            let phases: Vec<String> = phases.iter().map(|phase| quoted(phase)).collect();
            write!(f, "phases {}, ", phases.join(" "))?;
        }
        write!(f, "older than {}", age::text(self.older_than_ms))?;
        if let Some(keep) = &self.own_keep {
            write!(f, ", but the last {keep}")?;
        }
        Ok(())
    }
}

/// `text` as JSON has it: the same in every version of every compiler.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
