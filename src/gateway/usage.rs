//! `jobs.usage`: one call of `job.usage_by_tag`, and its answer by codescalers' fields.

use serde_json::Map;
use serde_json::value::{RawValue, to_raw_value};

use super::take_tags;
use crate::client::Client;
use crate::method::{MAX_PREFIXES, Param, Params};
use crate::rpc::RpcError;
use crate::tag::{Field, Guard};
use crate::usage::Usage;

/// Asks `hero_proc`, by its method `name`, what the `params` of `jobs.usage` ask.
pub(super) async fn forward(hero_proc: &Client, name: &str, mut params: Params) -> Result<Box<RawValue>, RpcError> {
    let tags = take_tags(&mut params)?;
    params.add(Param::Tags, tags)?;
    let fields = take_fields(&mut params)?;
    // Always by all of them: a tag counts under the longest prefix, and an actor's begins as every other does.
    params.add(Param::By, Field::ALL.map(|field| field.prefix().to_owned()).into())?;
    params.check_usage(&Guard::codescaler())?;
    let answer = hero_proc.call_raw(name, &Map::from(params)).await?;
    let usage = by_fields(hero_proc.read_report(&answer)?, &fields);
    to_raw_value(&usage).map_err(|error| RpcError::internal(&error))
}

/// Takes out `by`: the fields by which jobs are to be counted, all unless given.
fn take_fields(params: &mut Params) -> Result<Vec<Field>, RpcError> {
    let Some(names) = params.take_strings(Param::By)? else { return Ok(Field::ALL.into()) };
    let fields = names.iter().map(|name| Field::named(name)).collect::<Option<Vec<_>>>();
    fields
        .filter(|fields| fields.len() <= MAX_PREFIXES)
        .ok_or_else(|| RpcError::param(Param::By, "must hold nothing but \"kind\", \"target\" and \"actor\""))
}

/// The answer `usage` by `fields` instead of by their prefixes.
fn by_fields(mut usage: Usage, fields: &[Field]) -> Usage {
    let asked = Field::ALL.into_iter().filter(|field| fields.contains(field));
    usage.by =
        asked.map(|field| (field.name().to_owned(), usage.by.remove(field.prefix()).unwrap_or_default())).collect();
    usage
}
