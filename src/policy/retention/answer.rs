//! What the answer to a call means: for the pass, for the history, and for how long the lock rests.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Retention;
use super::pass::{Running, Stage};
use crate::policy::call::Kind as CallKind;
use crate::policy::{Failure, Pass, PassEnd, ReclaimHistory, RuleHistory, RulePreview};
use crate::reclaim::{ReclaimOutcome, Reclaimed};
use crate::report::{Report, to_microseconds};
use crate::rpc::{Kind, RpcError};

/// How many times as long as it was held the lock rests: it is then held for 2 % of the time.
const REST: f64 = 49.0;
/// The longest rest, in milliseconds, whatever a report says.
const LONGEST_REST: f64 = 86_400_000.0;
/// The longest rest after a call that did not say for how long it held the lock, in milliseconds: two hours, so that the
/// two minutes count in full for which `retain` waits for an answer.
const LONGEST_UNKNOWN_REST: f64 = 7_200_000.0;

/// The result of a call. One that can't be read is that of a call whose outcome is unknown.
pub(super) fn read<R: DeserializeOwned>(answer: Result<Box<RawValue>, RpcError>) -> Result<R, RpcError> {
    serde_json::from_str(answer?.get()).map_err(|_| RpcError::unreadable())
}

impl Retention {
    pub(super) fn previewed(&mut self, running: &mut Running, place: usize, report: &Report) {
        let Stage::Preview { rules, total } = &mut running.stage else { return };
        let rule = &self.policy.rules[place];
        rules.push(RulePreview {
            rule: rule.to_string(),
            jobs: report.jobs_planned.saturating_add(report.jobs_kept.over_limit),
            actions: report.actions_planned,
            bytes: report.bytes_planned,
        });
        if rule.matches_every_job() {
            *total = Some(report.jobs_matched);
        }
    }

    pub(super) fn deleted(&mut self, running: &mut Running, limit: usize, report: &Report, now: i64) {
        let Stage::Rule { place, first } = running.stage else { return };
        let (jobs, actions, lock_ms) = (report.jobs_deleted, report.actions_deleted, sane(report.lock_ms));
        let rule = self.rule(place, first);
        rule.calls += 1;
        rule.jobs = rule.jobs.saturating_add(jobs);
        rule.actions = rule.actions.saturating_add(actions);
        rule.bytes = rule.bytes.saturating_add(report.bytes_freed);
        rule.referenced = report.jobs_kept.referenced;
        rule.duration_ms = to_microseconds(rule.duration_ms + sane(report.duration_ms));
        rule.lock_ms = to_microseconds(rule.lock_ms + lock_ms);
        rule.jobs_ever = rule.jobs_ever.saturating_add(jobs);
        rule.bytes_ever = rule.bytes_ever.saturating_add(report.bytes_freed);
        let took = jobs > 0 || actions > 0;
        running.stage = if report.more && took {
            Stage::Rule { place, first: false }
        } else {
            rule.succeeded_ms = Some(now);
            rule.error = None;
            Stage::Rule { place: place + 1, first: true }
        };
        let pass = &mut running.pass;
        pass.jobs = pass.jobs.saturating_add(jobs);
        pass.actions = pass.actions.saturating_add(actions);
        pass.bytes = pass.bytes.saturating_add(report.bytes_freed);
        // A leaked action goes beside the jobs, and takes as long.
        self.history.pace.learn(limit, jobs.saturating_add(report.actions_leaked), lock_ms);
        self.history.reclaim.due |= took;
        self.locked(pass, lock_ms, now);
    }

    pub(super) fn reclaimed(&mut self, running: &mut Running, reclaimed: &Reclaimed, now: i64) {
        let lock_ms = sane(reclaimed.lock_ms.unwrap_or_default());
        self.history.reclaim = ReclaimHistory {
            // A reclaim that was done in part goes on with the next pass.
            due: reclaimed.outcome == ReclaimOutcome::Partly,
            at_ms: Some(now),
            outcome: Some(reclaimed.outcome),
            reason: reclaimed.reason,
            bytes: reclaimed.file_bytes_before.saturating_sub(reclaimed.file_bytes_after),
            lock_ms,
            error: None,
        };
        running.stage = Stage::Over(PassEnd::Done);
        self.locked(&mut running.pass, lock_ms, now);
    }

    pub(super) fn failed(&mut self, running: &mut Running, call: &CallKind, error: &RpcError, asked_ms: i64, now: i64) {
        let failure = Failure::of(error, now);
        running.pass.error = Some(failure.clone());
        let put_off = match error.kind() {
            Some(Kind::StoreBusy | Kind::UpstreamUnreachable | Kind::Cancelled) => Some(PassEnd::PutOff),
            Some(Kind::OutcomeUnknown) => Some(PassEnd::Unknown),
            _ => None,
        };
        running.stage = match (call, &running.stage) {
            (CallKind::Rule(cleanup), Stage::Rule { place, first }) => {
                let (place, first) = (*place, *first);
                self.rule(place, first).error = Some(failure);
                if error.kind() == Some(Kind::DiskFull) {
                    self.history.pace.shrink(cleanup.limit);
                }
                put_off.map_or(Stage::Rule { place: place + 1, first: true }, Stage::Over)
            }
            (CallKind::Reclaim { .. }, _) => {
                self.history.reclaim.error = Some(failure);
                Stage::Over(put_off.unwrap_or(PassEnd::Failed))
            }
            // A policy that can't be shown deletes nothing.
            _ => Stage::Over(put_off.unwrap_or(PassEnd::Failed)),
        };
        // The lock was not had, or nobody knows for how long: it was not longer than the call.
        if put_off != Some(PassEnd::PutOff) {
            self.rest(now.saturating_sub(asked_ms).max(0) as f64, LONGEST_UNKNOWN_REST, now);
        }
    }

    /// What is remembered of the rule at `place`, of this pass alone.
    fn rule(&mut self, place: usize, first: bool) -> &mut RuleHistory {
        let rule = self.history.rules.entry(self.policy.rules[place].to_string()).or_default();
        if first {
            let RuleHistory { succeeded_ms, jobs_ever, bytes_ever, error, .. } = std::mem::take(rule);
            *rule = RuleHistory { succeeded_ms, jobs_ever, bytes_ever, error, ..RuleHistory::default() };
        }
        rule
    }

    /// The lock was held for `lock_ms` by a call that has just been answered.
    fn locked(&mut self, pass: &mut Pass, lock_ms: f64, now: i64) {
        pass.lock_ms = to_microseconds(pass.lock_ms + lock_ms);
        pass.longest_lock_ms = pass.longest_lock_ms.max(lock_ms);
        self.rest(lock_ms, LONGEST_REST, now);
    }

    fn rest(&mut self, lock_ms: f64, longest: f64, now: i64) {
        let rest_ms = (lock_ms * REST).min(longest).ceil() as i64;
        self.history.rest_ms = rest_ms;
        self.history.rests_until_ms = Some(now.saturating_add(rest_ms));
    }
}

/// A time in milliseconds as a report may have it. Nobody has to have sent a number that means something.
fn sane(ms: f64) -> f64 {
    if ms.is_finite() { ms.clamp(0.0, LONGEST_REST) } else { 0.0 }
}
