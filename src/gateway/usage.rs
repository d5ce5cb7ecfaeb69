//! `jobs.usage`: one call of `job.usage_by_tag`, and its answer by codescalers' fields.

use serde_json::value::{RawValue, to_raw_value};

use crate::client::Client;
use crate::method::{Params, USAGE_BY_TAG, UsageByFields};
use crate::rpc::RpcError;
use crate::usage::Usage;

/// Asks `hero_proc` what the `params` of `jobs.usage` ask.
pub(super) async fn forward(hero_proc: &Client, params: Params) -> Result<Box<RawValue>, RpcError> {
    let asked = UsageByFields::read(params)?;
    let answer = hero_proc.call_raw(USAGE_BY_TAG, &asked.params).await?;
    let usage: Usage = hero_proc.read_report(&answer)?;
    to_raw_value(&asked.answer(usage)).map_err(|error| RpcError::internal(&error))
}
