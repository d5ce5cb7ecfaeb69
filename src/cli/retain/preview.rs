//! What each rule of a policy would take now, by dry runs; and what all of them would take together.

use std::collections::HashSet;

use hero_proc_cleanup::gateway::JOBS_CLEANUP;
use hero_proc_cleanup::policy::{History, Policy, Side};
use hero_proc_cleanup::{JobsKept, MAX_LIMIT, Report, RpcError};
use serde::Serialize;
use serde_json::{Value, json};

use super::session::{Interrupted, Session};

/// What a policy would take.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    /// The policy's digest, which confirms it.
    pub(super) policy: String,
    /// All jobs with the root tag.
    pub(super) jobs: u64,
    /// The jobs that go, each counted once; if they are too many to be listed, once for each rule that takes it.
    pub(super) takes: u64,
    /// Whether the policy is new, or has changed, and a human has to confirm it.
    pub(super) waits: bool,
    pub(super) rules: Vec<ShownRule>,
}

/// What one rule would take.
#[derive(Debug, Serialize)]
pub(super) struct ShownRule {
    pub(super) rule: String,
    pub(super) jobs: u64,
    pub(super) actions: u64,
    pub(super) bytes: u64,
    pub(super) jobs_kept: JobsKept,
}

impl Shown {
    pub(super) fn takes_more_than_half(&self) -> bool {
        self.takes.saturating_mul(2) > self.jobs
    }
}

/// Why nothing is shown.
#[derive(Debug)]
pub(super) enum Unshown {
    Interrupted,
    /// The error of a dry run.
    Failed(RpcError),
}

/// Asks for what `policy` would take, after `history`.
pub(super) async fn ask(session: &mut Session, policy: &Policy, history: &History) -> Result<Shown, Unshown> {
    let mut total = None;
    let mut reports = Vec::new();
    let calls: Vec<Value> = policy.dry_runs().iter().map(|call| call.params(Side::Codescalers)).collect();
    for params in &calls {
        let report = dry_run(session, params).await?;
        if ["kind", "target", "actor"].iter().all(|field| params.get(field).is_none()) {
            total = Some(report.jobs_matched);
        }
        reports.push(report);
    }
    let total = match total {
        Some(total) => total,
        // One job is enough: the report counts them all.
        None => dry_run(session, &json!({ "dry_run": true, "limit": 1, "max_ids": 0 })).await?.jobs_matched,
    };
    let each = |report: &Report| report.jobs_planned.saturating_add(report.jobs_kept.over_limit);
    let mut takes = reports.iter().map(each).fold(0, u64::saturating_add);
    if takes.saturating_mul(2) > total
        && reports.len() > 1
        && reports.iter().all(|report| report.jobs_kept.over_limit == 0)
    {
        takes = together(session, &calls).await?;
    }
    let digest = policy.digest();
    let known = history.accepted.as_ref() == Some(&digest) || policy.confirmed() == Some(&digest);
    let rules = policy.rules().iter().zip(reports).map(|(rule, report)| ShownRule {
        rule: rule.to_string(),
        jobs: each(&report),
        actions: report.actions_planned,
        bytes: report.bytes_planned,
        jobs_kept: report.jobs_kept,
    });
    let mut shown = Shown { policy: digest.to_string(), jobs: total, takes, waits: false, rules: rules.collect() };
    shown.waits = !known && shown.takes_more_than_half();
    Ok(shown)
}

/// How many jobs the dry runs `calls` take together, each counted once.
async fn together(session: &mut Session, calls: &[Value]) -> Result<u64, Unshown> {
    let mut jobs = HashSet::new();
    for params in calls {
        let mut params = params.clone();
        params["max_ids"] = json!(MAX_LIMIT);
        jobs.extend(dry_run(session, &params).await?.job_ids);
    }
    Ok(jobs.len() as u64)
}

async fn dry_run(session: &mut Session, params: &Value) -> Result<Report, Unshown> {
    let answer = session.ask(JOBS_CLEANUP, params).await.map_err(|Interrupted| Unshown::Interrupted)?;
    let report = answer.map_err(Unshown::Failed)?;
    serde_json::from_str(report.get()).map_err(|_| Unshown::Failed(RpcError::unreadable()))
}
