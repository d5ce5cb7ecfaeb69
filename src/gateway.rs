//! Codescalers' side: the admin gate, the tags, one call to hero_proc, its report unchanged.
//!
//! This side needs no server of this crate: codescalers mounts [`Forwarder::call`] behind its own.

mod usage;

use std::time::Instant;

use chrono::Utc;
use serde::de::Deserializer;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::audit::audit;
use crate::client::Client;
use crate::method::{Method, Param, Params, Side};
use crate::rpc::{Kind, RpcError};
use crate::tag::{Field, Guard, MAX_TAGS, codescaler_tags};

/// The name of the method that deletes.
pub const JOBS_CLEANUP: &str = Method::Cleanup.name(Side::Codescalers);

/// The name of the method that says what jobs weigh.
pub const JOBS_USAGE: &str = Method::Usage.name(Side::Codescalers);

/// The name of the method that gives space back.
pub const JOBS_RECLAIM: &str = Method::Reclaim.name(Side::Codescalers);

/// The names of all methods of codescalers' side.
pub const METHODS: &[&str] = &Method::names(Side::Codescalers);

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
        let Some(known) = Method::named(method, Side::Codescalers) else { return Err(RpcError::no_method(method)) };
        // Params are read before anything is awaited: a deserializer need not be `Send`.
        let params = Params::read(params);
        let asked = params.as_ref().map(ToString::to_string).unwrap_or_default();
        let result = match params {
            _ if !gate.is_admin(caller) => Err(RpcError::new(Kind::NotAdmin, "only admins may clean up jobs")),
            Ok(params) => self.forward(known, params).await,
            Err(error) => Err(error),
        };
        let outcome = result.and_then(|report| {
            let outcome = self.hero_proc.read_report(&report)?;
            audit(method, caller, &asked, Ok(&outcome), started);
            Ok(report)
        });
        outcome.inspect_err(|error| audit(method, caller, &asked, Err(error), started))
    }

    /// Makes the one call of hero_proc's side: with params as hero_proc would read them, or nothing is sent.
    async fn forward(&self, method: Method, params: Params) -> Result<Box<RawValue>, RpcError> {
        let name = method.name(Side::HeroProc);
        match method {
            Method::Cleanup => self.hero_proc.call_raw(name, &to_cleanup_by_tag(params)?).await,
            Method::Usage => usage::forward(&self.hero_proc, name, params).await,
            Method::Reclaim => {
                params.check_reclaim()?;
                self.hero_proc.call_raw(name, &Map::from(params)).await
            }
        }
    }
}

/// The params of `job.cleanup_by_tag` that those of `jobs.cleanup` stand for.
fn to_cleanup_by_tag(mut params: Params) -> Result<Map<String, Value>, RpcError> {
    let tags = take_tags(&mut params)?;
    params.add(Param::Tags, tags)?;

    let mut except = Vec::new();
    for field in [Field::Actor, Field::Kind, Field::Target] {
        let name = format!("except_{}", field.name());
        for value in params.take_strings(&name)?.unwrap_or_default() {
            if value.is_empty() {
                return Err(RpcError::param(name, "holds an empty string"));
            }
            let of = |other| if field == other { value.as_str() } else { "" };
            let mut tags = codescaler_tags(of(Field::Actor), of(Field::Kind), of(Field::Target))
                .map_err(|error| RpcError::new(Kind::InvalidParams, error).with("param", &*name))?;
            except.append(&mut tags.split_off(1));
            if except.len() > MAX_TAGS {
                return Err(RpcError::param(name, format_args!("makes more than {MAX_TAGS} excepted tags")));
            }
        }
    }
    if !except.is_empty() {
        params.add(Param::ExceptTags, except)?;
    } else if params.has(Param::ExceptTags) {
        return Err(RpcError::param(Param::ExceptTags, "is no param of this method"));
    }

    let keep_by = match params.take_strings(Param::KeepBy)? {
        Some(fields) => Some(fields.iter().map(|field| group_prefix(field)).collect::<Result<Vec<_>, _>>()?),
        None => params.has(Param::KeepLast).then(|| vec![Field::Kind.prefix().to_owned()]),
    };
    if let Some(keep_by) = keep_by {
        params.add(Param::KeepBy, keep_by)?;
    }
    params.check(&Guard::codescaler(), Utc::now())?;
    Ok(params.into())
}

/// Takes out `actor`, `kind` and `target`: the tags that they stand for.
fn take_tags(params: &mut Params) -> Result<Vec<String>, RpcError> {
    let mut take = |field: Field| params.take_string(field.name());
    let (actor, kind, target) = (take(Field::Actor)?, take(Field::Kind)?, take(Field::Target)?);
    codescaler_tags(&actor, &kind, &target)
        .map_err(|error| RpcError::new(Kind::InvalidParams, error).with("param", error.field()))
}

/// The prefix by which jobs are grouped that an entry of `keep_by` stands for.
fn group_prefix(field: &str) -> Result<String, RpcError> {
    match Field::named(field) {
        Some(field @ (Field::Kind | Field::Target)) => Ok(field.prefix().to_owned()),
        _ => Err(RpcError::param(Param::KeepBy, "must be an array of \"kind\" and \"target\"")),
    }
}
