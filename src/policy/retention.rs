//! The next step: out of a policy, a history, and the time.
//!
//! ```text
//! wait until due ─ begin ─┬─ accepted ──────────────────────────────┬─ each rule: batch, rest, batch, … ─ reclaim ─ end
//!                         └─ new: dry runs ─ count ─┬─ at most half ┘
//!                                                   └─ more ─ needs confirmation
//! ```

mod answer;
mod pass;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::call::Kind as CallKind;
use super::history::SMALL_STEP;
use super::{Call, ClockJump, History, Pass, Policy, Preview};
use crate::report::Report;
use crate::rpc::RpcError;
use answer::read;
use pass::{Running, Stage};

/// The longest that the first pass of a process is put off by jitter, in milliseconds.
const LONGEST_JITTER: i64 = 300_000;

/// Retention as a host carries it out: it says what is to be done next, and hears how that ended.
///
/// ```
/// use hero_proc_cleanup::policy::{History, Policy, Retention, Side, Step};
/// use hero_proc_cleanup::{Guard, Host, call};
/// # let mut store = rusqlite::Connection::open_in_memory()?;
/// # store.execute_batch(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/schema/hero_proc.sql")))?;
///
/// let policy: Policy = serde_json::from_str(r#"{ "every": "1h", "rule": [{ "older_than": "14d" }] }"#)?;
/// let mut retention = Retention::new(policy, History::default(), 0.0);
/// let host = Host::new(Guard::codescaler());
/// // On each tick:
/// loop {
///     match retention.next(chrono::Utc::now()) {
///         Step::Call(due) => {
///             let (method, params) = (due.method(Side::HeroProc), due.params(Side::HeroProc));
///             let answer = call(method, &params, &mut store, &host, chrono::Utc::now());
///             retention.answered(chrono::Utc::now(), answer);
///         }
///         Step::NeedsConfirmation(preview) => println!("{} would go: to be confirmed", preview.jobs_planned),
///         Step::Ended(pass) => println!("{} jobs went", pass.jobs),
///         // To be asked again on the next tick.
///         _ => break,
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Retention {
    policy: Policy,
    /// The policy from the next pass on, if it is another one.
    next_policy: Option<Policy>,
    history: History,
    /// From 0 to 1: the share of the longest delay by which the first pass is put off.
    jitter: f64,
    /// The first moment at which a pass may begin, in milliseconds since the Unix epoch.
    not_before: Option<i64>,
    /// A pass is due, whatever the history says.
    due_now: bool,
    running: Option<Running>,
}

/// The step that is next.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// Nothing is to be done until then.
    Wait {
        /// When to ask again. Asking earlier or later is harmless.
        until: DateTime<Utc>,
    },
    /// A call is to be made, and [`Retention::answered`] to be told how it ended.
    Call(Call),
    /// The last call has not been answered yet.
    Unanswered,
    /// A pass has ended without deleting anything: its policy is new, and would take more than half of all jobs.
    NeedsConfirmation(Preview),
    /// A pass has ended.
    Ended(Pass),
}

impl Retention {
    /// Retention by `policy`, which goes on where `history` ends.
    ///
    /// `jitter`, from 0 to 1, puts the first pass off by this share of a tenth of [`Policy::every`], or of five minutes
    /// if that is less, so that hosts that start together don't all call together.
    #[must_use]
    pub fn new(policy: Policy, history: History, jitter: f64) -> Self {
        Self {
            policy,
            next_policy: None,
            history,
            jitter: if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 },
            not_before: None,
            due_now: false,
            running: None,
        }
    }

    /// The policy that is in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What is remembered: what a host writes down.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Whether a pass goes on.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Has `policy` in force from the next pass on. A pass that goes on ends by the policy with which it began.
    pub fn set_policy(&mut self, policy: Policy) {
        if self.running.is_some() {
            self.next_policy = Some(policy);
        } else {
            self.policy = policy;
        }
    }

    /// Makes a pass due now, if none goes on, for a host that is started for one pass.
    pub fn due_now(&mut self) {
        self.due_now = true;
    }

    /// Confirms the policy for a human: it may delete, whatever it takes. A pass is then due.
    pub fn confirm(&mut self) {
        let policy = self.next_policy.as_ref().unwrap_or(&self.policy);
        self.history.accepted = Some(policy.digest());
        self.history.waits_for = None;
        self.due_now = true;
    }

    /// The next step at `now`.
    pub fn next(&mut self, now: DateTime<Utc>) -> Step {
        let now = now.timestamp_millis();
        self.notice_the_clock(now);
        let mut running = match self.running.take() {
            Some(running) if running.asked.is_some() => {
                self.running = Some(running);
                return Step::Unanswered;
            }
            Some(running) => running,
            None => {
                let due = self.due(now);
                if due > now {
                    return wait_until(due);
                }
                self.begin(now)
            }
        };
        if now.saturating_sub(running.pass.started_ms) >= self.policy.every_ms {
            running.pass.behind = true;
            self.history.behind = true;
        }
        let Some(call) = self.call(&mut running, now) else { return self.end(running, now) };
        match self.history.rests_until_ms.filter(|until| *until > now) {
            Some(until) if !call.is_dry_run() => {
                self.running = Some(running);
                wait_until(until)
            }
            _ => {
                running.asked = Some((call.clone(), now));
                running.pass.calls += 1;
                self.running = Some(running);
                Step::Call(call)
            }
        }
    }

    /// Hears how the call ended that [`next`](Self::next) last gave: the result as it came, or the error. An answer to
    /// no call is ignored.
    pub fn answered(&mut self, now: DateTime<Utc>, answer: Result<Box<RawValue>, RpcError>) {
        let now = now.timestamp_millis();
        let Some(mut running) = self.running.take() else { return };
        let Some((call, asked_ms)) = running.asked.take() else {
            self.running = Some(running);
            return;
        };
        let heard = match call.kind() {
            CallKind::Rule(cleanup) if cleanup.dry_run => {
                read(answer).map(|report| self.previewed(&mut running, cleanup.place, &report))
            }
            CallKind::Count => read(answer).map(|report: Report| {
                if let Stage::Preview { total, .. } = &mut running.stage {
                    *total = Some(report.jobs_matched);
                }
            }),
            CallKind::Rule(cleanup) => {
                read(answer).map(|report| self.deleted(&mut running, cleanup.limit, &report, now))
            }
            CallKind::Reclaim { .. } => read(answer).map(|reclaimed| self.reclaimed(&mut running, &reclaimed, now)),
        };
        if let Err(error) = heard {
            self.failed(&mut running, call.kind(), &error, asked_ms, now);
        }
        self.running = Some(running);
    }

    /// When the next pass is due.
    fn due(&mut self, now: i64) -> i64 {
        self.history.first_ms.get_or_insert(now);
        let jitter = (self.policy.every_ms / 10).min(LONGEST_JITTER) as f64 * self.jitter;
        let not_before = *self.not_before.get_or_insert(now.saturating_add(jitter as i64));
        if self.due_now {
            return now;
        }
        self.history.due_ms(&self.policy).unwrap_or(now).max(not_before)
    }

    /// Times that are still to come are set to now, and a pass is due: nobody knows how long ago the last one was.
    fn notice_the_clock(&mut self, now: i64) {
        let History { first_ms, started_ms, ended_ms, succeeded_ms, rests_until_ms, rest_ms, .. } = &mut self.history;
        // A rest begins when a call ends; none is longer than it was.
        if let Some(until) = rests_until_ms {
            *until = (*until).min(now.saturating_add(*rest_ms));
        }
        if let Some(not_before) = &mut self.not_before {
            *not_before = (*not_before).min(now.saturating_add(LONGEST_JITTER));
        }
        let latest = [*first_ms, *started_ms, *ended_ms, *succeeded_ms].into_iter().flatten().max();
        let Some(by_ms) = latest.map(|latest| latest.saturating_sub(now)).filter(|ahead| *ahead > SMALL_STEP) else {
            return;
        };
        for time in [first_ms, started_ms, ended_ms, succeeded_ms].into_iter().flatten() {
            *time = (*time).min(now);
        }
        if let Some(running) = &mut self.running {
            running.pass.started_ms = running.pass.started_ms.min(now);
        } else {
            self.due_now = true;
        }
        self.history.clock_jump = Some(ClockJump { at_ms: now, by_ms });
    }
}

fn wait_until(ms: i64) -> Step {
    Step::Wait { until: DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::<Utc>::MAX_UTC) }
}
