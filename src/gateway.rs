//! `jobs.cleanup`, codescalers' side: the admin gate, the tags, one call to hero_proc, its report unchanged.
//!
//! It needs no server of ours: codescalers mounts [`Forwarder::jobs_cleanup`] behind its own.

use std::time::Instant;

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::client::Client;
use crate::method::{CLEANUP_BY_TAG, Params};
use crate::rpc::{Kind, RpcError};
use crate::tag::{Guard, codescaler_tags};

/// The method's name.
pub const JOBS_CLEANUP: &str = "jobs.cleanup";

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caller {
    /// The name under which the caller stands in the log.
    pub name: String,
    /// The user id, where the kernel vouches for it.
    pub uid: Option<u32>,
    /// The process id, likewise.
    pub pid: Option<i32>,
}

impl Caller {
    /// A caller of whom no more is known than the name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), uid: None, pid: None }
    }
}

/// Who may clean up.
pub trait AdminGate: Send + Sync {
    /// Whether `caller` is an admin.
    fn is_admin(&self, caller: &Caller) -> bool;
}

/// Carries out `jobs.cleanup` by one call of `job.cleanup_by_tag`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Forwarder {
    /// The client of hero_proc's socket.
    pub hero_proc: Client,
}

impl Forwarder {
    /// Forwards to the hero_proc that `hero_proc` calls.
    #[must_use]
    pub fn new(hero_proc: Client) -> Self {
        Self { hero_proc }
    }

    /// Carries out `jobs.cleanup` with `params` for `caller`, if `gate` lets it; leaves a line in the log (target
    /// `audit`) for every call that changes something or is refused.
    ///
    /// # Errors
    ///
    /// [`Kind::NotAdmin`] before anything else; [`Kind::InvalidParams`]; whatever hero_proc answers, unchanged; and what
    /// [`Client`] says of a call that did not reach it, or was answered with something else. It is never sent twice.
    pub async fn jobs_cleanup<'de>(
        &self,
        gate: &dyn AdminGate,
        caller: &Caller,
        params: impl Deserializer<'de>,
    ) -> Result<Box<RawValue>, RpcError> {
        let started = Instant::now();
        // Params are read before anything is awaited: a deserializer need not be `Send`.
        let params = Params::read(params);
        let asked = params.as_ref().ok().map(ToString::to_string);
        let result = match params {
            _ if !gate.is_admin(caller) => Err(RpcError::new(Kind::NotAdmin, "only admins may clean up jobs")),
            Ok(params) => match to_upstream(params) {
                Ok(call) => self.forward(&call).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        audit(caller, asked.as_deref(), result.as_ref().map(|(_, counts)| counts), started);
        result.map(|(report, _)| report)
    }

    /// hero_proc's report, as it came, and what the log says of it.
    async fn forward(&self, call: &Map<String, Value>) -> Result<(Box<RawValue>, Counts), RpcError> {
        let report = self.hero_proc.call_raw(CLEANUP_BY_TAG, call).await?;
        let counts = self.hero_proc.read_report(&report)?;
        Ok((report, counts))
    }
}

/// The params of `job.cleanup_by_tag` that those of `jobs.cleanup` stand for: as hero_proc would read them, or nothing is
/// sent.
fn to_upstream(mut params: Params) -> Result<Map<String, Value>, RpcError> {
    let (actor, kind, target) =
        (params.take_string("actor")?, params.take_string("kind")?, params.take_string("target")?);
    let tags = codescaler_tags(&actor, &kind, &target)
        .map_err(|error| RpcError::new(Kind::InvalidParams, error).with("param", error.field()))?;
    params.add_tags(tags)?;
    params.check(&Guard::codescaler())?;
    Ok(params.into())
}

/// One line in the log. What others chose is written as Rust would, so that it can't end the line.
fn audit(caller: &Caller, asked: Option<&str>, outcome: Result<&Counts, &RpcError>, started: Instant) {
    let Caller { name, uid, pid } = caller;
    let cut = |text: &str| text.chars().take(MOST_WRITTEN).collect::<String>();
    let asked = asked.map(cut).unwrap_or_default();
    let duration_ms = started.elapsed().as_secs_f64() * 1000.0;
    match outcome {
        Ok(Counts { dry_run, plan, jobs_deleted, actions_deleted, errors }) => {
            if !dry_run {
                let plan = plan.as_deref().map(cut);
                let (plan, errors) = (plan.as_ref().map(tracing::field::debug), errors.as_ref().map(Vec::len));
                tracing::info!(
                    target: "audit", user = ?name, uid, pid, ?asked, outcome = "ok", plan, jobs_deleted,
                    actions_deleted, errors, duration_ms, "{JOBS_CLEANUP}",
                );
            }
        }
        Err(error) => {
            let outcome = error.kind().map_or("other", Kind::as_str);
            let (code, message) = (error.code, cut(&error.message));
            tracing::warn!(
                target: "audit", user = ?name, uid, pid, ?asked, outcome, code, ?message, duration_ms, "{JOBS_CLEANUP}",
            );
        }
    }
}

/// The most characters that a line in the log holds of what a caller, or another server, wrote.
const MOST_WRITTEN: usize = 2000;

/// What the log says of a report, which may name a million rows. What a report lacks is not said.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Counts {
    dry_run: bool,
    plan: Option<String>,
    jobs_deleted: Option<u64>,
    actions_deleted: Option<u64>,
    errors: Option<Vec<serde::de::IgnoredAny>>,
}
