//! The audit line: who called what, and what came of it. Both sides write it here, under the log's target `audit`.
//!
//! Every call that changes something or is refused leaves one line; a dry run that succeeds leaves none, nor does a method
//! that only reads. At the level `debug`, further lines name the ids of what went. Text that somebody else chose is cut, and
//! escaped as Rust writes it, so that it can neither end the line nor move the cursor of a terminal, whatever writes the log.

use std::time::Instant;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::gateway::Caller;
use crate::method::{Method, Side};
use crate::report::milliseconds;
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
    let (name, asked) = (shown(name, MOST_OF_AN_ID), shown(asked, MOST_WRITTEN));
    let duration_ms = milliseconds(started.elapsed());
    match outcome {
        Ok(_) if only_reads(method) => {}
        Ok(Outcome { dry_run: true, .. }) => {}
        Ok(outcome) => {
            let Outcome { jobs_deleted, actions_deleted, file_bytes_before, file_bytes_after, .. } = outcome;
            let [plan, reclaim, reason] = [&outcome.plan, &outcome.reclaim, &outcome.reason]
                .map(|text| text.as_deref().map(|text| shown(text, MOST_WRITTEN)));
            let errors = outcome.errors.as_ref().map(Vec::len);
            tracing::info!(
                target: "audit", user = name, uid, pid, asked, outcome = "ok", plan, jobs_deleted, actions_deleted,
                errors, reclaim, reason, file_bytes_before, file_bytes_after, duration_ms, "{method}",
            );
            if tracing::enabled!(target: "audit", tracing::Level::DEBUG) {
                name_ids(method, plan.as_deref(), "job_ids", outcome.job_ids);
                name_ids(method, plan.as_deref(), "action_ids", outcome.action_ids);
            }
        }
        Err(error) => {
            let outcome = error.kind().map_or("other", Kind::as_str);
            let (code, error) = (error.code, shown(&error.message, MOST_WRITTEN));
            tracing::warn!(
                target: "audit", user = name, uid, pid, asked, outcome, code, error, duration_ms, "{method}",
            );
        }
    }
}

fn name_ids(method: &str, plan: Option<&str>, list: &str, ids: Option<&RawValue>) {
    let ids = ids.and_then(|ids| serde_json::from_str::<Vec<&RawValue>>(ids.get()).ok()).unwrap_or_default();
    for some in ids.chunks(MOST_IDS) {
        let ids: Vec<String> = some.iter().map(|id| shown(id.get(), MOST_OF_AN_ID)).collect();
        tracing::debug!(target: "audit", plan, ids = ids.join(" "), "{method}: {list}");
    }
}

/// Whether `method` changes nothing, whatever its params. A report that does not say that it is one of a dry run stands for
/// a change: it may be another server's.
fn only_reads(method: &str) -> bool {
    let method = Method::named(method, Side::HeroProc).or_else(|| Method::named(method, Side::Codescalers));
    method.is_some_and(Method::only_reads)
}

/// The beginning of `text`, with every character escaped that does not show as itself.
fn shown(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for char in text.chars().take(most) {
        match char {
            '"' | '\'' | '\\' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::sync::Mutex;

    use super::*;

    /// What a call of `method` leaves in the log.
    fn audited(method: &str, outcome: Result<&Outcome<'_>, &RpcError>) -> String {
        let (mut reader, writer) = pipe().expect("a pipe");
        let log = tracing_subscriber::fmt().with_writer(Mutex::new(writer)).with_ansi(false).finish();
        tracing::subscriber::with_default(log, || audit(method, &Caller::new("ana"), "{}", outcome, Instant::now()));
        let mut lines = String::new();
        reader.read_to_string(&mut lines).expect("UTF-8");
        lines
    }

    #[test]
    fn what_changes_something_or_is_refused_leaves_a_line() {
        let (changed, dry) = (Outcome::default(), Outcome { dry_run: true, ..Outcome::default() });
        let refused = RpcError::new(Kind::NotAdmin, "no");
        for (method, changes) in [
            ("job.cleanup_by_tag", true),
            ("jobs.cleanup", true),
            ("store.reclaim", true),
            ("jobs.reclaim", true),
            ("job.usage_by_tag", false),
            ("jobs.usage", false),
        ] {
            assert_eq!(audited(method, Ok(&changed)).lines().count(), usize::from(changes), "{method}");
            assert_eq!(audited(method, Ok(&dry)), "", "{method}");
            assert_eq!(audited(method, Err(&refused)).lines().count(), 1, "{method}");
        }
    }

    #[test]
    fn durations_are_to_the_microsecond() {
        let line = audited("jobs.cleanup", Ok(&Outcome::default()));
        let duration = line.split_once("duration_ms=").expect(&line).1;
        let decimals = duration.split_whitespace().next().and_then(|duration| duration.split_once('.')).expect(&line).1;
        assert!(decimals.len() <= 3, "{line}");
    }
}
