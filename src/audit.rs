//! The audit line: who called what, and what came of it. Both sides write it here, under the log's target `audit`.
//!
//! Every call that changes something or is refused leaves one line; a dry run that succeeds leaves none. At the level
//! `debug`, further lines name the ids of what went. Text that somebody else chose is written as Rust would write it, so
//! that it can neither end the line nor move the cursor of a terminal, and is cut.

use std::time::Instant;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::gateway::Caller;
use crate::rpc::{Kind, RpcError};

/// The most characters that a line holds of what a caller, or another server, wrote.
const MOST_WRITTEN: usize = 2000;
/// The most characters of an id.
const MOST_OF_AN_ID: usize = 256;
/// The most ids on one line.
const MOST_IDS: usize = 100;

/// The part of a report that the log repeats; a report may name a million rows. What a report lacks is not said.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome<'r> {
    dry_run: bool,
    plan: Option<String>,
    jobs_deleted: Option<u64>,
    actions_deleted: Option<u64>,
    errors: Option<Vec<IgnoredAny>>,
    #[serde(rename = "outcome")]
    reclaim: Option<String>,
    reason: Option<String>,
    file_bytes_before: Option<u64>,
    file_bytes_after: Option<u64>,
    #[serde(borrow)]
    job_ids: Option<&'r RawValue>,
    #[serde(borrow)]
    action_ids: Option<&'r RawValue>,
}

/// Writes the line of a call of `method` with the params `asked`, which `caller` made at `started`.
pub(crate) fn audit(
    method: &str,
    caller: &Caller,
    asked: &str,
    outcome: Result<&Outcome<'_>, &RpcError>,
    started: Instant,
) {
    let Caller { name, uid, pid } = caller;
    let asked = cut(asked, MOST_WRITTEN);
    let duration_ms = started.elapsed().as_secs_f64() * 1000.0;
    match outcome {
        Ok(Outcome { dry_run: true, .. }) => {}
        Ok(outcome) => {
            let Outcome { jobs_deleted, actions_deleted, job_ids, action_ids, .. } = outcome;
            let Outcome { file_bytes_before, file_bytes_after, .. } = outcome;
            let [plan, reclaim, reason] = [&outcome.plan, &outcome.reclaim, &outcome.reason]
                .map(|text| text.as_deref().map(|text| cut(text, MOST_WRITTEN)));
            let [shown, reclaim, reason] =
                [&plan, &reclaim, &reason].map(|text| text.as_ref().map(tracing::field::debug));
            let errors = outcome.errors.as_ref().map(Vec::len);
            tracing::info!(
                target: "audit", user = ?name, uid, pid, ?asked, outcome = "ok", plan = shown, jobs_deleted,
                actions_deleted, errors, reclaim, reason, file_bytes_before, file_bytes_after, duration_ms, "{method}",
            );
            if tracing::enabled!(target: "audit", tracing::Level::DEBUG) {
                name_ids(method, plan.as_deref(), "job_ids", *job_ids);
                name_ids(method, plan.as_deref(), "action_ids", *action_ids);
            }
        }
        Err(error) => {
            let outcome = error.kind().map_or("other", Kind::as_str);
            let (code, message) = (error.code, cut(&error.message, MOST_WRITTEN));
            tracing::warn!(
                target: "audit", user = ?name, uid, pid, ?asked, outcome, code, ?message, duration_ms, "{method}",
            );
        }
    }
}

fn name_ids(method: &str, plan: Option<&str>, list: &str, ids: Option<&RawValue>) {
    let ids = ids.and_then(|ids| serde_json::from_str::<Vec<&RawValue>>(ids.get()).ok()).unwrap_or_default();
    for some in ids.chunks(MOST_IDS) {
        let ids: Vec<String> = some.iter().map(|id| cut(id.get(), MOST_OF_AN_ID)).collect();
        tracing::debug!(target: "audit", plan, ids = ?ids.join(" "), "{method}: {list}");
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
