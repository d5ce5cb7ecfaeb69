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

use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use chrono::{DateTime, Utc};
use thiserror::Error;
use tracing::info_span;

use crate::host::{ControlError, Host, JobControl};
use crate::plan::{self, Criteria, Plan, PlanToken, Runs, Unfinished};
use crate::report::{Report, StoreSize, milliseconds};
use crate::request::{Age, Force, Mode, Request};
use crate::store::{Access, Committed, Rows, Store, StoreError, StoreRef};
use transaction::Planned;

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
    /// The expected plan is one of other params.
    #[error("the plan is one of other params: a call must have those of its dry run")]
    PlanOfOtherParams,
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
/// use hero_proc_cleanup::{Age, Guard, Host, Mode, Request, cleanup};
///
/// let host = Host::new(Guard::codescaler());
/// let mut request = Request::new(host.guard.tags(["codescaler_kind_build"])?);
/// request.age = Age::OlderThan(7 * 24 * 3_600_000);
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
    if request.expect_plan.as_ref().is_some_and(|plan| !plan.is_of(request)) {
        return Err(Error::PlanOfOtherParams);
    }
    let criteria = criteria(host, request, unfinished, now);

    let access = match request.mode {
        Mode::DryRun => Access::Read,
        Mode::Delete => Access::Write,
    };
    let mut store = Store::attach(store.into(), access, host)?;
    let planned = plan(&mut store, &criteria).map_err(|error| store.explain(error))?;
    expect(request, &planned.plan)?;
    if request.mode == Mode::DryRun || planned.plan.is_empty() {
        let mut report = report(planned.plan, &criteria, Committed::default(), store.size()?, started);
        report.truncate(request.max_ids);
        return Ok(report);
    }

    let stops = control.map(|control| stop::stop(control, &planned.plan, &host.cancel)).unwrap_or_default();
    let unfinished = match request.force {
        Force::Off => Unfinished::Stay,
        Force::Stop => Unfinished::Stopped(&stops),
    };
    let criteria = Criteria { unfinished, ..criteria };
    let (rows, layout, wal_bytes) = (rows(&planned), planned.layout.clone(), wal_bytes(&store));
    let mut outcome = transaction::run(&mut store, &criteria, planned, |plan| expect(request, plan));
    if stops.stopped.is_empty()
        && let Err(Error::Store(StoreError::Full { .. })) = &outcome
    {
        store.checkpoint();
        if self::wal_bytes(&store) < wal_bytes {
            // What the WAL held is room now.
            let planned = plan(&mut store, &criteria).map_err(|error| store.explain(error))?;
            expect(request, &planned.plan)?;
            outcome = transaction::run(&mut store, &criteria, planned, |plan| expect(request, plan));
        }
    }
    if outcome.is_err() {
        // The WAL may hold a part of what was undone. A cancel has done its work.
        store.reach_no_more();
        store.checkpoint();
    }
    let (plan, done) = outcome.map_err(|error| match error {
        Error::Store(error) => stop::after(&stops, store.explain_deletion(error, rows, &layout).into()),
        error => stop::after(&stops, error),
    })?;
    // The deletion stands, whatever can be said of the file.
    let size = store.size().unwrap_or_default();
    let mut report = report(plan, &criteria, done, size, started);
    let Report { plan, jobs_deleted, actions_deleted, lock_ms, duration_ms, .. } = &report;
    tracing::info!(plan, jobs_deleted, actions_deleted, lock_ms, duration_ms, "jobs and actions deleted");
    if let Some(control) = control
        && let Err(error) = tell(control, &mut report)
    {
        tracing::error!(%error, plan = report.plan, "the host could not follow the deletion, which stands");
    }
    report.truncate(request.max_ids);
    Ok(report)
}

fn plan(store: &mut Store<'_>, criteria: &Criteria<'_>) -> Result<Planned, StoreError> {
    let _span = info_span!("plan").entered();
    let snapshot = store.read()?;
    // What a plan is bound to is looked at whole.
    let (plan, seen) = if criteria.request.mode == Mode::DryRun || criteria.request.expect_plan.is_some() {
        (plan::decide(&snapshot, criteria)?, None)
    } else {
        plan::decide_and_remember(&snapshot, criteria)?
    };
    Ok(Planned { plan, seen, version: snapshot.version()?, layout: snapshot.layout().clone() })
}

fn wal_bytes(store: &Store<'_>) -> u64 {
    store.size().map_or(0, |size| size.wal_bytes)
}

/// The rows that go; none where triggers of the host's write more than anybody knows.
fn rows(planned: &Planned) -> Option<Rows> {
    let Planned { plan, layout, .. } = planned;
    (!layout.triggers).then(|| Rows {
        jobs: plan.jobs.len() as u64,
        actions: plan.actions.len() as u64,
        leaked: plan.actions_leaked,
        others: plan.dependents.values().sum(),
        bytes: plan.bytes,
    })
}

/// The most ids in each list of a report that the host hears.
const CHUNK: usize = 10_000;

/// Tells the host what went, with every id, in chunks. The deletion stands, whatever the host does.
fn tell(control: &dyn JobControl, report: &mut Report) -> Result<(), ControlError> {
    let (job_ids, action_ids) = (take(&mut report.job_ids), take(&mut report.action_ids));
    let (mut jobs, mut actions) = (job_ids.chunks(CHUNK), action_ids.chunks(CHUNK));
    let mut chunk = report.clone();
    let told = (0..jobs.len().max(actions.len())).try_for_each(|_| {
        chunk.job_ids = jobs.next().unwrap_or_default().to_vec();
        chunk.action_ids = actions.next().unwrap_or_default().to_vec();
        catch_unwind(AssertUnwindSafe(|| control.deleted(&chunk))).unwrap_or_else(|_| Err("it panicked".into()))
    });
    (report.job_ids, report.action_ids) = (job_ids, action_ids);
    told
}

/// The criteria of `request` at `now`. An expected plan brings its own cut-off, and the moment from which the grace is counted.
pub(crate) fn criteria<'c>(
    host: &Host,
    request: &'c Request,
    unfinished: Unfinished<'c>,
    now: DateTime<Utc>,
) -> Criteria<'c> {
    let now_ms = now.timestamp_millis();
    let cutoff_ms = match request.age {
        Age::Any => None,
        Age::OlderThan(age) => Some(now_ms.saturating_sub_unsigned(age)),
        Age::Before(moment) => Some(moment),
    };
    let (cutoff_ms, now_ms) = match &request.expect_plan {
        // A plan from the future would take the grace away.
        Some(plan) => (cutoff_ms.and(plan.cutoff_ms()), plan.now_ms().min(now_ms)),
        None => (cutoff_ms, now_ms),
    };
    let grace = u64::try_from(host.grace.as_millis()).unwrap_or(u64::MAX);
    Criteria {
        request,
        cutoff_ms,
        now_ms,
        grace_from_ms: now_ms.saturating_sub_unsigned(grace),
        runs: if host.runs { Runs::Hold } else { Runs::Ignored },
        unfinished,
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

fn report(plan: Plan, criteria: &Criteria<'_>, did: Committed, size: StoreSize, started: Instant) -> Report {
    let (jobs, actions) = (plan.jobs.len() as u64, plan.actions.len() as u64);
    let mode = criteria.request.mode;
    let done = |count| if mode == Mode::Delete { count } else { 0 };
    Report {
        dry_run: mode == Mode::DryRun,
        asked: criteria.request.asked(),
        jobs_matched: plan.jobs_matched,
        jobs_planned: jobs,
        jobs_deleted: done(jobs),
        jobs_kept: plan.jobs_kept,
        actions_planned: actions,
        actions_deleted: done(actions),
        actions_leaked: plan.actions_leaked,
        ids_truncated: plan.actions_kept_count > plan.actions_kept.len() as u64,
        actions_kept_count: plan.actions_kept_count,
        actions_kept: plan.actions_kept,
        job_ids: plan.jobs,
        action_ids: plan.action_names,
        dependents: plan.dependents,
        errors: plan.errors,
        more: plan.more,
        cutoff_ms: criteria.cutoff_ms,
        plan: plan.token.to_string(),
        bytes_planned: plan.bytes,
        bytes_freed: did.bytes_freed,
        store: size,
        duration_ms: milliseconds(started.elapsed()),
        lock_ms: milliseconds(did.lock),
    }
}
