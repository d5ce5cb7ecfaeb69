//! A pass: its beginning, its calls in their order, its end.

use std::collections::BTreeMap;

use super::{Retention, Step};
use crate::policy::{Call, Pass, PassEnd, Preview, RulePreview};

/// A pass that goes on.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) stage: Stage,
    /// The call that was not answered yet, and when it was made.
    pub(super) asked: Option<(Call, i64)>,
    pub(super) pass: Pass,
}

#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// The policy is new: what would each rule take, and of how many jobs?
    Preview { rules: Vec<RulePreview>, total: Option<u64> },
    /// The rule at this place is carried out; the first call of the rule in this pass is to come, or others.
    Rule { place: usize, first: bool },
    /// All rules were carried out, and space is given back.
    Reclaim,
    /// Nothing is left to do.
    Over(PassEnd),
}

impl Retention {
    pub(super) fn begin(&mut self, now: i64) -> Running {
        self.due_now = false;
        self.not_before = Some(now);
        if let Some(policy) = self.next_policy.take() {
            self.policy = policy;
        }
        self.history.started_ms = Some(now);
        let pass = Pass {
            started_ms: now,
            ended_ms: now,
            end: PassEnd::Done,
            calls: 0,
            jobs: 0,
            actions: 0,
            bytes: 0,
            lock_ms: 0.0,
            longest_lock_ms: 0.0,
            behind: false,
            error: None,
        };
        let digest = Some(self.policy.digest());
        let stage = if self.history.accepted == digest || self.policy.confirmed == digest {
            self.accept()
        } else {
            Stage::Preview { rules: Vec::new(), total: None }
        };
        Running { stage, asked: None, pass }
    }

    /// Lets the policy delete, and forgets the rules that it does not have.
    pub(super) fn accept(&mut self) -> Stage {
        self.history.accepted = Some(self.policy.digest());
        self.history.waits_for = None;
        let mut rules = BTreeMap::new();
        for rule in self.policy.rules() {
            let name = rule.to_string();
            let history = self.history.rules.remove(&name).unwrap_or_default();
            rules.insert(name, history);
        }
        self.history.rules = rules;
        Stage::Rule { place: 0, first: true }
    }

    /// The call that `running` is to make next; none if it is over.
    pub(super) fn call(&mut self, running: &mut Running, now: i64) -> Option<Call> {
        loop {
            match &running.stage {
                Stage::Preview { rules, .. } if rules.len() < self.policy.rules.len() => {
                    return Some(Call::dry_run(&self.policy, rules.len()));
                }
                Stage::Preview { total: None, .. } => return Some(Call::count()),
                Stage::Preview { rules, total: Some(total) } => {
                    let preview = Preview {
                        digest: self.policy.digest(),
                        at_ms: now,
                        jobs_total: *total,
                        jobs_planned: rules.iter().map(|rule| rule.jobs).fold(0, u64::saturating_add),
                        rules: rules.clone(),
                    };
                    running.stage = if preview.takes_more_than_half() {
                        self.history.waits_for = Some(preview);
                        Stage::Over(PassEnd::Unconfirmed)
                    } else {
                        self.accept()
                    };
                }
                Stage::Rule { place, .. } if *place < self.policy.rules.len() => {
                    let since_ms = now.saturating_sub(running.pass.started_ms);
                    return Some(Call::batch(&self.policy, *place, since_ms, self.history.pace.limit()));
                }
                Stage::Rule { .. } => {
                    running.stage = match self.policy.reclaim_ms {
                        Some(_) if self.history.reclaim.due => Stage::Reclaim,
                        _ => Stage::Over(PassEnd::Done),
                    };
                }
                Stage::Reclaim => return self.policy.reclaim_ms.map(Call::reclaim),
                Stage::Over(_) => return None,
            }
        }
    }

    pub(super) fn end(&mut self, running: Running, now: i64) -> Step {
        let mut pass = running.pass;
        // A pass that ended before it began would look like one that was ended by force.
        pass.ended_ms = now.max(pass.started_ms);
        pass.end = match running.stage {
            Stage::Over(PassEnd::Done) if pass.error.is_some() => PassEnd::Failed,
            Stage::Over(end) => end,
            Stage::Preview { .. } | Stage::Rule { .. } | Stage::Reclaim => PassEnd::Failed,
        };
        let history = &mut self.history;
        history.ended_ms = Some(pass.ended_ms);
        history.behind = pass.behind;
        if pass.end == PassEnd::Done {
            history.succeeded_ms = Some(pass.ended_ms);
            history.failures = 0;
        } else {
            history.failures = history.failures.saturating_add(1);
        }
        history.last = Some(pass.clone());
        if let Some(policy) = self.next_policy.take() {
            self.policy = policy;
        }
        match (pass.end, &self.history.waits_for) {
            (PassEnd::Unconfirmed, Some(preview)) => Step::NeedsConfirmation(preview.clone()),
            _ => Step::Ended(pass),
        }
    }
}
