//! Codescalers' side: the admin gate, the tags, one call to hero_proc, its report unchanged.
//!
//! It needs no server of ours: codescalers mounts [`Forwarder::call`] behind its own.

mod usage;

use std::time::Instant;

use chrono::Utc;
use serde::de::Deserializer;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::audit::audit;
use crate::client::Client;
use crate::method::{self, CLEANUP_BY_TAG, Params, RECLAIM};
use crate::rpc::{Kind, RpcError};
use crate::tag::{Guard, KIND_PREFIX, MAX_TAGS, TARGET_PREFIX, codescaler_tags};

/// The name of the method that deletes.
pub const JOBS_CLEANUP: &str = method::JOBS_CLEANUP;

/// The name of the method that says what jobs weigh.
pub const JOBS_USAGE: &str = "jobs.usage";

/// The name of the method that gives space back.
pub const JOBS_RECLAIM: &str = method::JOBS_RECLAIM;

/// The names of all methods of codescalers' side.
pub const METHODS: &[&str] = &[JOBS_CLEANUP, JOBS_USAGE, JOBS_RECLAIM];

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

/// Carries out each of [`METHODS`] by one call of hero_proc's side.
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

    /// Carries out `method`, one of [`METHODS`], with `params` for `caller`, if `gate` lets the caller; leaves a line in the log
    /// (target `audit`) for every call that changes something or is refused.
    ///
    /// # Errors
    ///
    /// [`Kind::NotAdmin`] before anything else; [`Kind::InvalidParams`]; whatever hero_proc answers, unchanged; and what
    /// [`Client`] says of a call that did not reach it, or was answered with something else. It is never sent twice.
    pub async fn call<'de>(
        &self,
        method: &str,
        gate: &dyn AdminGate,
        caller: &Caller,
        params: impl Deserializer<'de>,
    ) -> Result<Box<RawValue>, RpcError> {
        let started = Instant::now();
        // Params are read before anything is awaited: a deserializer need not be `Send`.
        let params = Params::read(params);
        let asked = params.as_ref().map(ToString::to_string).unwrap_or_default();
        let result = match (params, method) {
            (_, method) if !METHODS.contains(&method) => return Err(RpcError::no_method(method)),
            _ if !gate.is_admin(caller) => Err(RpcError::new(Kind::NotAdmin, "only admins may clean up jobs")),
            (Ok(params), JOBS_USAGE) => usage::forward(&self.hero_proc, params).await,
            (Ok(params), method) => match to_upstream(method, params) {
                Ok((method, call)) => self.hero_proc.call_raw(method, &call).await,
                Err(error) => Err(error),
            },
            (Err(error), _) => Err(error),
        };
        let outcome = result.and_then(|report| {
            let outcome = self.hero_proc.read_report(&report)?;
            audit(method, caller, &asked, Ok(&outcome), started);
            Ok(report)
        });
        outcome.inspect_err(|error| audit(method, caller, &asked, Err(error), started))
    }
}

/// The method of hero_proc's side that `method` becomes, and its params: as hero_proc would read them, or nothing is sent.
fn to_upstream(method: &str, params: Params) -> Result<(&'static str, Map<String, Value>), RpcError> {
    match method {
        JOBS_CLEANUP => Ok((CLEANUP_BY_TAG, to_cleanup_by_tag(params)?)),
        JOBS_RECLAIM => params.check_reclaim().map(|()| (RECLAIM, params.into())),
        other => Err(RpcError::no_method(other)),
    }
}

/// The params of `job.cleanup_by_tag` that those of `jobs.cleanup` stand for.
fn to_cleanup_by_tag(mut params: Params) -> Result<Map<String, Value>, RpcError> {
    let fields = [params.take_string("actor")?, params.take_string("kind")?, params.take_string("target")?];
    let [actor, kind, target] = &fields;
    params.add("tags", tags(actor, kind, target)?)?;

    let mut except = Vec::new();
    for (name, field) in [("except_actor", 0), ("except_kind", 1), ("except_target", 2)] {
        for value in params.take_strings(name)?.unwrap_or_default() {
            if value.is_empty() {
                return Err(RpcError::param(name, "holds an empty string"));
            }
            let mut one = [const { String::new() }; 3];
            one[field] = value;
            let [actor, kind, target] = &one;
            let mut tags = codescaler_tags(actor, kind, target)
                .map_err(|error| RpcError::new(Kind::InvalidParams, error).with("param", name))?;
            except.append(&mut tags.split_off(1));
            if except.len() > MAX_TAGS {
                return Err(RpcError::param(name, format_args!("makes more than {MAX_TAGS} excepted tags")));
            }
        }
    }
    if !except.is_empty() {
        params.add("except_tags", except)?;
    } else if params.has("except_tags") {
        return Err(RpcError::param("except_tags", "is no param of this method"));
    }

    let keep_by = match params.take_strings("keep_by")? {
        Some(fields) => Some(fields.iter().map(|field| prefix_of(field)).collect::<Result<Vec<_>, _>>()?),
        None => params.has("keep_last").then(|| vec![KIND_PREFIX.to_owned()]),
    };
    if let Some(keep_by) = keep_by {
        params.add("keep_by", keep_by)?;
    }
    params.check(&Guard::codescaler(), Utc::now())?;
    Ok(params.into())
}

fn tags(actor: &str, kind: &str, target: &str) -> Result<Vec<String>, RpcError> {
    codescaler_tags(actor, kind, target)
        .map_err(|error| RpcError::new(Kind::InvalidParams, error).with("param", error.field()))
}

fn prefix_of(field: &str) -> Result<String, RpcError> {
    match field {
        "kind" => Ok(KIND_PREFIX.to_owned()),
        "target" => Ok(TARGET_PREFIX.to_owned()),
        _ => Err(RpcError::param("keep_by", "must be an array of \"kind\" and \"target\"")),
    }
}
