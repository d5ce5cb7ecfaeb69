//! The operation: plan, stop, lock, decide again, delete, commit.
//!
//! ```text
//! attach ─ plan (one snapshot) ─┬─ dry run: report
//!                               └─ stop jobs ─ transaction ─ checkpoint ─ report
//!                                  (force)
//! ```
//!
//! Whatever fails before the commit leaves the store as it was: the transaction is dropped, and so undone.

mod stop;
mod transaction;

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use thiserror::Error;
use tracing::info_span;

use crate::host::{ControlError, Host, JobControl};
use crate::plan::{self, Criteria, Plan, PlanToken, Unfinished};
use crate::report::Report;
use crate::store::{Access, Committed, Store, StoreError, StoreRef};
use crate::tag::Tags;
use transaction::Planned;

/// A request for a cleanup. A request that exists is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The tags that a job must carry, all of them.
    pub tags: Tags,
    /// The least age of a job, in milliseconds since its creation; none: any.
    pub older_than_ms: Option<u64>,
    /// Whether anything is written.
    pub mode: Mode,
    /// The fate of jobs that have not finished.
    pub force: Force,
    /// The most jobs in one call, lowest id first.
    pub limit: NonZeroUsize,
    /// Delete exactly what the dry run with this plan showed, or nothing.
    pub expect_plan: Option<PlanToken>,
}

impl Request {
    /// The deletion of the finished jobs that carry all of `tags`, whatever their age, at most 50,000 of them.
    #[must_use]
    pub fn new(tags: Tags) -> Self {
        let (mode, force) = (Mode::Delete, Force::Off);
        Self { tags, older_than_ms: None, mode, force, limit: DEFAULT_LIMIT, expect_plan: None }
    }
}

/// `limit` unless given.
pub(crate) const DEFAULT_LIMIT: NonZeroUsize = NonZeroUsize::new(50_000).expect("not zero");

/// Whether a cleanup writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Report what would go; write nothing, take no write lock.
    DryRun,
    /// Delete.
    Delete,
}

/// The fate of jobs that have not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Force {
    /// They stay.
    Off,
    /// They are stopped through the host's [`JobControl`], then deleted; those that can't be stopped stay.
    Stop,
}

/// Why nothing was deleted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The set differs from the plan that was expected.
    #[non_exhaustive]
    #[error("the set is no longer that of the plan: {jobs_planned} jobs and {actions_planned} actions would go now")]
    PlanChanged {
        /// Jobs that would go now.
        jobs_planned: u64,
        /// Actions that would go now.
        actions_planned: u64,
        /// The plan as it would be now.
        plan: PlanToken,
    },
    /// [`Force::Stop`] was asked for, and the host has no [`JobControl`].
    #[error("this host has no way to stop jobs: force is not available")]
    ForceUnavailable,
    /// The store failed, could not be had, or the call was cancelled.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing was deleted, but jobs had been stopped by then. Their rows are all there.
    #[non_exhaustive]
    #[error("{source}; {} jobs had been stopped by then, their rows are all there", stopped.len())]
    AfterStop {
        /// The stopped jobs, ascending.
        stopped: Vec<i64>,
        /// Why nothing was deleted.
        source: Box<Error>,
    },
}

/// Deletes the jobs that `request` names and the actions that nothing refers to any more, or reports what would go.
///
/// Ages are measured against `now`. Blocks for as long as it takes: see [`Report::duration_ms`].
///
/// This is `job.cleanup_by_tag` without the JSON: for a host that cleans up on a clock of its own.
///
/// ```no_run
/// use hero_proc_cleanup::{Guard, Host, Mode, Request, cleanup};
///
/// let host = Host::new(Guard::codescaler());
/// let mut request = Request::new(host.guard.tags(["codescaler_kind_build"])?);
/// request.older_than_ms = Some(7 * 24 * 3_600_000);
/// request.mode = Mode::DryRun;
/// let report = cleanup(std::path::Path::new("hero_proc.db"), &host, &request, chrono::Utc::now())?;
/// println!("{} jobs would go", report.jobs_planned);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Any error means that nothing was deleted. With [`Force::Stop`], jobs may have been stopped: [`Error::AfterStop`].
pub fn cleanup<'s>(
    store: impl Into<StoreRef<'s>>,
    host: &Host,
    request: &Request,
    now: DateTime<Utc>,
) -> Result<Report, Error> {
    let started = Instant::now();
    let control = host.control.as_deref();
    let unfinished = match (request.force, control) {
        (Force::Off, _) => Unfinished::Stay,
        (Force::Stop, Some(control)) => Unfinished::Stop(control),
        (Force::Stop, None) => return Err(Error::ForceUnavailable),
    };
    let criteria = Criteria {
        tags: &request.tags,
        older_than_ms: request.older_than_ms,
        cutoff_ms: cutoff(request, now),
        limit: request.limit,
        unfinished,
    };

    let access = match request.mode {
        Mode::DryRun => Access::Read,
        Mode::Delete => Access::Write,
    };
    let mut store = Store::attach(store.into(), access, host)?;
    let planned = info_span!("plan").in_scope(|| {
        let snapshot = store.read()?;
        let plan = plan::decide(&snapshot, &criteria)?;
        Ok::<_, StoreError>(Planned { plan, version: snapshot.version()?, layout: snapshot.layout().clone() })
    });
    let planned = planned.map_err(|error| store.explain(error))?;
    expect(request, &planned.plan)?;
    if request.mode == Mode::DryRun || planned.plan.jobs.is_empty() {
        return Ok(report(planned.plan, &criteria, request.mode, Committed::default(), started));
    }

    let stops = control.map(|control| stop::stop(control, &planned.plan, &host.cancel)).unwrap_or_default();
    let unfinished = match request.force {
        Force::Off => Unfinished::Stay,
        Force::Stop => Unfinished::Stopped(&stops),
    };
    let criteria = Criteria { unfinished, ..criteria };
    let outcome = transaction::run(&mut store, &criteria, planned, |plan| expect(request, plan));
    let (plan, done) = outcome.map_err(|error| match error {
        Error::Store(error) => stop::after(&stops, store.explain(error).into()),
        error => stop::after(&stops, error),
    })?;
    store.checkpoint();
    let report = report(plan, &criteria, request.mode, done, started);
    let Report { plan, jobs_deleted, actions_deleted, lock_ms, duration_ms, .. } = &report;
    tracing::info!(plan, jobs_deleted, actions_deleted, lock_ms, duration_ms, "jobs and actions deleted");
    if let Some(control) = control
        && let Err(error) = tell(control, &report)
    {
        tracing::error!(%error, plan = report.plan, "the host could not follow the deletion, which stands");
    }
    Ok(report)
}

/// Tells the host what went. The deletion stands, whatever the host does.
fn tell(control: &dyn JobControl, report: &Report) -> Result<(), ControlError> {
    catch_unwind(AssertUnwindSafe(|| control.deleted(report))).unwrap_or_else(|_| Err("it panicked".into()))
}

/// The moment after which no job may have been created. A plan brings its own.
fn cutoff(request: &Request, now: DateTime<Utc>) -> Option<i64> {
    let older_than = request.older_than_ms?;
    match &request.expect_plan {
        Some(plan) if plan.cutoff_ms().is_some() => plan.cutoff_ms(),
        _ => Some(now.timestamp_millis().saturating_sub_unsigned(older_than)),
    }
}

/// Refuses a plan that is not the expected one.
fn expect(request: &Request, plan: &Plan) -> Result<(), Error> {
    match &request.expect_plan {
        Some(expected) if *expected != plan.token => Err(Error::PlanChanged {
            jobs_planned: plan.jobs.len() as u64,
            actions_planned: plan.actions.len() as u64,
            plan: plan.token.clone(),
        }),
        _ => Ok(()),
    }
}

fn report(plan: Plan, criteria: &Criteria<'_>, mode: Mode, did: Committed, started: Instant) -> Report {
    let (jobs, actions) = (plan.jobs.len() as u64, plan.actions.len() as u64);
    let done = |count| if mode == Mode::Delete { count } else { 0 };
    Report {
        dry_run: mode == Mode::DryRun,
        jobs_matched: plan.jobs_matched,
        jobs_planned: jobs,
        jobs_deleted: done(jobs),
        jobs_kept: plan.jobs_kept,
        actions_planned: actions,
        actions_deleted: done(actions),
        actions_kept_count: plan.actions_kept.len() as u64,
        actions_kept: plan.actions_kept,
        job_ids: plan.jobs,
        action_ids: plan.action_names,
        ids_truncated: false,
        dependents: plan.dependents,
        errors: plan.errors,
        more: plan.jobs_kept.over_limit > 0,
        cutoff_ms: criteria.cutoff_ms,
        plan: plan.token.to_string(),
        bytes_freed: did.bytes_freed,
        duration_ms: milliseconds(started.elapsed()),
        lock_ms: milliseconds(did.lock),
    }
}

/// To the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
