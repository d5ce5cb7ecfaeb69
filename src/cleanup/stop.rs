//! Stopping jobs that have not finished, through the host and outside any lock.

use tracing::info_span;

use super::Error;
use crate::host::{Cancel, JobControl};
use crate::plan::{Plan, Stops};

/// Stops the jobs of `plan` that have not finished, until the call is cancelled.
pub(super) fn stop(control: &dyn JobControl, plan: &Plan, cancel: &Cancel) -> Stops {
    let _span = info_span!("stop", jobs = plan.to_stop.len()).entered();
    let mut stops = Stops { failed: plan.unstoppable.clone(), ..Stops::default() };
    for stopped in &plan.to_stop {
        if cancel.is_cancelled() {
            break;
        }
        let id = stopped.job.id;
        match control.stop(&stopped.job) {
            Ok(()) => drop(stops.stopped.insert(id, stopped.clone())),
            Err(error) => drop(stops.failed.insert(id, error.to_string())),
        }
    }
    stops
}

/// `error`, with the jobs that had been stopped before it.
pub(super) fn after(stops: &Stops, error: Error) -> Error {
    if stops.stopped.is_empty() {
        return error;
    }
    let mut stopped: Vec<i64> = stops.stopped.keys().copied().collect();
    stopped.sort_unstable();
    Error::AfterStop { stopped, source: Box::new(error) }
}
