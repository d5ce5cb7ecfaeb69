//! The operation: plan, stop, lock, decide again, delete, commit.
//!
//! ```text
//! attach ─ plan (one snapshot) ─┬─ dry run: report
//!                               └─ stop jobs ─ transaction ─ checkpoint ─ report
//!                                  (force)
//! ```
//!
//! Whatever fails before the commit leaves the store as it was: the transaction is dropped, which undoes it.

mod transaction;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use thiserror::Error;
use tracing::info_span;

use crate::control::{Cancel, ControlError, JobControl};
use crate::plan::{self, Criteria, Plan, PlanToken, Stops, Unfinished};
use crate::report::Report;
use crate::store::{Access, Store, StoreError, StoreRef};
use crate::tag::{Guard, Tag};
use transaction::{Done, Planned};

/// What is asked of a cleanup, once it can't be wrong any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// A job must carry all of them.
    pub tags: Vec<Tag>,
    /// Only jobs created at least so many milliseconds ago.
    pub older_than_ms: Option<i64>,
    /// Whether anything is written.
    pub mode: Mode,
    /// What becomes of jobs that have not finished.
    pub force: Force,
    /// At most so many jobs, lowest id first.
    pub limit: usize,
    /// Delete exactly what the dry run with this plan showed, or nothing.
    pub expect_plan: Option<PlanToken>,
}

impl Request {
    /// The deletion of the finished jobs that carry all of `tags`, whatever their age, 50,000 of them at most.
    #[must_use]
    pub fn new(tags: Vec<Tag>) -> Self {
        let (mode, force) = (Mode::Delete, Force::Off);
        Self { tags, older_than_ms: None, mode, force, limit: DEFAULT_LIMIT, expect_plan: None }
    }
}

/// `limit` unless given.
pub(crate) const DEFAULT_LIMIT: usize = 50_000;

/// Whether a cleanup writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Report what would go; write nothing, take no write lock.
    DryRun,
    /// Delete.
    Delete,
}

/// What becomes of jobs that have not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Force {
    /// They stay.
    Off,
    /// They are stopped through the host's [`JobControl`], then deleted; those that can't be stopped stay.
    Stop,
}

/// What the host decides, once.
#[derive(Clone)]
#[non_exhaustive]
pub struct Host {
    /// The bound on what callers may name.
    pub guard: Guard,
    /// How jobs are stopped. None (the default): [`Force::Stop`] is refused.
    pub control: Option<Arc<dyn JobControl>>,
    /// How long to wait for the store's write lock: 5 s unless set.
    pub lock_timeout: Duration,
    /// Ends every running call before its commit, with nothing deleted.
    pub cancel: Cancel,
}

impl Host {
    /// A host that bounds callers by `guard`, and has no way to stop jobs.
    #[must_use]
    pub fn new(guard: Guard) -> Self {
        Self { guard, control: None, lock_timeout: Duration::from_secs(5), cancel: Cancel::default() }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guard, control, lock_timeout, cancel } = self;
        f.debug_struct("Host")
            .field("guard", guard)
            .field("control", &control.is_some())
            .field("lock_timeout", lock_timeout)
            .field("cancel", cancel)
            .finish()
    }
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
    /// Jobs were to be stopped, but the host gave no [`JobControl`].
    #[error("this host has no way to stop jobs: force is not available")]
    ForceUnavailable,
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// [`Host::cancel`] was called for.
    #[error("cancelled before the commit: nothing was deleted")]
    Cancelled,
    /// Fewer or more rows went than were decided on: a trigger of the host's interferes.
    #[non_exhaustive]
    #[error("{deleted} of {planned} {table} would have been deleted")]
    Diverged {
        /// `jobs` or `actions`.
        table: &'static str,
        /// Rows that were to go.
        planned: usize,
        /// Rows that went, before all was undone.
        deleted: usize,
    },
    /// The call failed after jobs had been stopped. Their rows are all there.
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
/// let mut request = Request::new(vec![host.guard.admit("codescaler_kind_build")?]);
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
    let mut tags = request.tags.clone();
    tags.push(host.guard.root().clone());
    tags.sort_unstable();
    tags.dedup();
    let criteria = Criteria {
        tags: &tags,
        root: host.guard.root(),
        older_than_ms: request.older_than_ms,
        cutoff_ms: cutoff(request, now),
        limit: request.limit,
        unfinished,
    };
    let go_on = || if host.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) };
    let name = |error| match error {
        Error::Store(error) if error.is_interrupted() && host.cancel.is_cancelled() => Error::Cancelled,
        error => error,
    };

    let access = match request.mode {
        Mode::DryRun => Access::Read,
        Mode::Delete => Access::Write,
    };
    let mut store = Store::attach(store.into(), access, host.lock_timeout)?;
    let _reached = host.cancel.reach(store.interrupt_handle());
    let planned = info_span!("plan").in_scope(|| {
        let snapshot = store.read_by_two()?;
        let layout = snapshot.layout()?;
        let plan = plan::decide(&snapshot, &layout, &criteria, go_on)?;
        Ok::<_, Error>(Planned { version: snapshot.version()?, layout, plan })
    });
    let planned = planned.map_err(name)?;
    expect(request, &planned.plan)?;
    if request.mode == Mode::DryRun || planned.plan.jobs.is_empty() {
        return Ok(report(planned.plan, &criteria, request.mode, Done::default(), started));
    }

    let stops = control.map(|control| stop(control, &planned.plan, go_on)).unwrap_or_default();
    let unfinished = match request.force {
        Force::Off => Unfinished::Stay,
        Force::Stop => Unfinished::Stopped(&stops),
    };
    let criteria = Criteria { unfinished, ..criteria };
    let expect = |plan: &Plan| expect(request, plan);
    let (plan, done) =
        transaction::run(&mut store, &criteria, planned, expect, go_on).map_err(|error| stops.name(name(error)))?;
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

/// Tells the host what went. Whatever becomes of that, it has gone.
fn tell(control: &dyn JobControl, report: &Report) -> Result<(), ControlError> {
    catch_unwind(AssertUnwindSafe(|| control.deleted(report))).unwrap_or_else(|_| Err("it panicked".into()))
}

/// Jobs created after this moment stay. A plan brings its own.
fn cutoff(request: &Request, now: DateTime<Utc>) -> Option<i64> {
    let older_than = request.older_than_ms?;
    match &request.expect_plan {
        Some(plan) if plan.cutoff_ms().is_some() => plan.cutoff_ms(),
        _ => Some(now.timestamp_millis().saturating_sub(older_than)),
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

/// Stops what has to be stopped, outside any lock.
fn stop(control: &dyn JobControl, plan: &Plan, go_on: impl Fn() -> Result<(), Error>) -> Stops {
    let _span = info_span!("stop", jobs = plan.to_stop.len()).entered();
    let mut stops = Stops { failed: plan.unstoppable.clone(), ..Stops::default() };
    for job in &plan.to_stop {
        if go_on().is_err() {
            break;
        }
        match control.stop(job) {
            Ok(()) => {
                stops.stopped.insert(job.id, job.clone());
            }
            Err(error) => {
                stops.failed.insert(job.id, error.to_string());
            }
        }
    }
    stops
}

impl Stops {
    /// `error`, saying which jobs had been stopped before it.
    fn name(&self, error: Error) -> Error {
        if self.stopped.is_empty() {
            return error;
        }
        let mut stopped: Vec<i64> = self.stopped.keys().copied().collect();
        stopped.sort_unstable();
        Error::AfterStop { stopped, source: Box::new(error) }
    }
}

fn report(plan: Plan, criteria: &Criteria<'_>, mode: Mode, did: Done, started: Instant) -> Report {
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
