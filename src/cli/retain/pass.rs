//! One pass: the lock, the calls, and the state after each.

use std::path::Path;
use std::time::Duration;

use hero_proc_cleanup::policy::{Call, ClockJump, History, Pass, Policy, Retention, Step};
use hero_proc_cleanup::{Reclaimed, Report, RpcError};
use serde_json::value::RawValue;

use super::place::{Lock, Place};
use super::preview::{self, Shown, Unshown};
use super::session::{Interrupted, Session};
use super::state::State;
use crate::cli::table;

/// A pass that was made, or was to be.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) end: End,
    /// The sum of each rule's batches, in the order of the policy; none for a rule that had none.
    pub(super) rules: Vec<Option<Report>>,
    pub(super) reclaimed: Option<Reclaimed>,
    /// The last error of a call.
    pub(super) error: Option<RpcError>,
    /// Whether the call of that error was a dry run.
    pub(super) was_dry_run: bool,
}

/// How a pass ended.
#[derive(Debug)]
pub(super) enum End {
    /// As the library has it.
    Ended(Pass),
    /// The policy is new, and would take more than half of all jobs: a human has to confirm it.
    Waits(Shown),
    /// No pass was due: another process has made one.
    NotDue,
    /// A signal ended the pass, after the batch that was running.
    Interrupted,
}

impl Made {
    fn new(rules: usize) -> Self {
        Self { end: End::NotDue, rules: vec![None; rules], reclaimed: None, error: None, was_dry_run: false }
    }

    /// Adds the answer to `call`. The outcome of a call whose answer can't be read is unknown.
    fn add(&mut self, call: &Call, answer: &Result<Box<RawValue>, RpcError>) {
        let read = match answer {
            Err(error) => Err(error.clone()),
            Ok(answer) => self.read(call, answer.get()).map_err(|_| RpcError::unreadable()),
        };
        if let Err(error) = read {
            self.error = Some(error);
            self.was_dry_run = call.is_dry_run();
        }
    }

    fn read(&mut self, call: &Call, answer: &str) -> serde_json::Result<()> {
        if call.is_dry_run() {
            return serde_json::from_str::<Report>(answer).map(drop);
        }
        let Some(sum) = call.rule().and_then(|place| self.rules.get_mut(place)) else {
            self.reclaimed = Some(serde_json::from_str(answer)?);
            return Ok(());
        };
        let report: Report = serde_json::from_str(answer)?;
        let sum = match sum.take() {
            None => sum.insert(report),
            Some(mut earlier) => {
                earlier.append(report);
                sum.insert(earlier)
            }
        };
        // Numbers alone are of use here, and whether something went wrong.
        sum.truncate(0);
        Ok(())
    }

    /// The sum of all batches of all rules.
    pub(super) fn sum(&self) -> Option<Report> {
        self.rules.iter().flatten().cloned().reduce(|mut sum, report| {
            sum.append(report);
            sum
        })
    }

    /// What went, in words.
    pub(super) fn what_went(&self) -> String {
        table::what_went(self.sum().as_ref())
    }
}

/// What makes a pass due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The time, by the history.
    ByTime,
    Now,
    /// A human, who confirms the policy.
    Confirmed,
}

/// The place of the state, and the state itself as this process knows it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) place: Place,
    pub(super) state: State,
    /// Whether the file has that state, as far as it was written by this process.
    written: bool,
    /// Whether it was said that the file can't be written.
    said: bool,
}

impl Kept {
    pub(super) fn new(place: Place) -> Self {
        Self { place, state: State::default(), written: true, said: false }
    }

    /// Reads the state anew: another process may have made a pass. A state that this process could not write down stays
    /// in its memory.
    pub(super) fn load(&mut self, socket: &Path) {
        let (state, problem) = State::load(&self.place, socket);
        if let Some(problem) = problem {
            tracing::warn!("{problem}");
        }
        if self.written {
            self.state = state;
        }
    }

    /// Writes the state down. If that fails, the log says so, once.
    pub(super) fn save(&mut self, history: &History, socket: &Path) {
        self.state.history.clone_from(history);
        let saved = self.state.save(&self.place, socket);
        self.written = saved.is_ok();
        match saved {
            Err(error) if !self.said => {
                self.said = true;
                let state = self.place.file.display();
                tracing::warn!(
                    %error,
                    "the state {state} can't be written: passes go on, and after the next start every policy is new"
                );
            }
            Err(_) => {}
            Ok(()) => self.said = false,
        }
    }
}

/// Makes a pass by `policy`, if it is due. Whoever calls this has the lock for as long as it lasts.
pub(super) async fn make(session: &mut Session, kept: &mut Kept, policy: &Policy, due: Due, _lock: &Lock) -> Made {
    let mut made = Made::new(policy.rules().len());
    kept.state.every_ms = i64::try_from(policy.every().as_millis()).ok();
    let mut retention = Retention::new(policy.clone(), kept.state.history.clone(), 0.0);
    match due {
        Due::ByTime => {}
        Due::Now => retention.due_now(),
        Due::Confirmed => retention.confirm(),
    }
    let jump = retention.history().clock_jump;
    made.end = carry_out(session, kept, &mut retention, &mut made).await.unwrap_or(End::Interrupted);
    if let Some(ClockJump { by_ms, .. }) = retention.history().clock_jump.filter(|now| Some(*now) != jump) {
        tracing::warn!(by_ms, "the clock has gone back: the state told of passes in the future");
    }
    made
}

async fn carry_out(
    session: &mut Session,
    kept: &mut Kept,
    retention: &mut Retention,
    made: &mut Made,
) -> Result<End, Interrupted> {
    let socket = session.client.socket.clone();
    loop {
        match retention.next(session.now()) {
            Step::Wait { until } if retention.is_running() => session.wait(until, Duration::MAX).await?,
            Step::Call(call) => {
                let answer = session.call(&call).await?;
                made.add(&call, &answer);
                retention.answered(session.now(), answer);
                kept.save(retention.history(), &socket);
            }
            Step::NeedsConfirmation(_) => {
                kept.save(retention.history(), &socket);
                // The library counts a job in each rule that takes it.
                match preview::ask(session, retention.policy(), retention.history()).await {
                    Ok(shown) if shown.takes_more_than_half() => return Ok(End::Waits(shown)),
                    Ok(_) => retention.confirm(),
                    Err(Unshown::Interrupted) => return Err(Interrupted),
                    Err(Unshown::Failed(error)) => {
                        made.error = Some(error);
                        return Ok(retention.history().last.clone().map_or(End::NotDue, End::Ended));
                    }
                }
            }
            Step::Ended(pass) => {
                kept.save(retention.history(), &socket);
                return Ok(End::Ended(pass));
            }
            // Each call is answered before the next step.
            _ => return Ok(End::NotDue),
        }
    }
}
