//! The params of `jobs.usage`, and the question of `job.usage_by_tag` that they stand for.

use serde_json::{Map, Value};

use super::params::{Params, read_string, read_strings, unknown};
use super::usage_params::{MAX_PREFIXES, query};
use crate::rpc::{Kind, RpcError};
use crate::tag::{Guard, codescaler_tags};
use crate::usage::Usage;

/// What `jobs.usage` can count by: the fields of codescaler's tags, and the prefix that each has.
const FIELDS: [(&str, &str); 3] =
    [("kind", "codescaler_kind_"), ("target", "codescaler_target_"), ("actor", "codescaler_")];

/// A question of `jobs.usage`, as the one of `job.usage_by_tag` that it stands for.
pub(crate) struct UsageByFields {
    /// The params of `job.usage_by_tag`.
    pub(crate) params: Map<String, Value>,
    /// The fields that were asked for.
    fields: Vec<String>,
}

impl UsageByFields {
    /// Reads the params of `jobs.usage`: as hero_proc would read what they stand for, or nothing is sent.
    pub(crate) fn read(params: Params) -> Result<Self, RpcError> {
        let mut fields: Vec<String> = FIELDS.map(|(field, _)| field.to_owned()).into();
        let [mut kind, mut target, mut actor] = [const { String::new() }; 3];
        let mut upstream = Map::new();
        for (name, value) in Map::from(params) {
            let own = match name.as_str() {
                "kind" => &mut kind,
                "target" => &mut target,
                "actor" => &mut actor,
                "by" => {
                    if !value.is_null() {
                        fields = read_fields(&value)?;
                    }
                    continue;
                }
                "top" => {
                    upstream.insert(name, value);
                    continue;
                }
                _ => return Err(unknown(&name)),
            };
            if !value.is_null() {
                read_string(&name, &value)?.clone_into(own);
            }
        }
        let tags = codescaler_tags(&actor, &kind, &target)
            .map_err(|error| RpcError::new(Kind::InvalidParams, error).with("param", error.field()))?;
        upstream.insert("tags".to_owned(), tags.into());
        // Always all of them: a tag counts under the longest prefix, and an actor's begins as every other does.
        upstream.insert("by".to_owned(), FIELDS.map(|(_, prefix)| Value::from(prefix)).to_vec().into());
        query(upstream.clone(), &Guard::codescaler())?;
        Ok(Self { params: upstream, fields })
    }

    /// The answer `usage` by the fields that were asked for, instead of by their prefixes.
    pub(crate) fn answer(&self, mut usage: Usage) -> Usage {
        let asked = FIELDS.iter().filter(|(field, _)| self.fields.iter().any(|asked| asked == field));
        usage.by =
            asked.map(|(field, prefix)| ((*field).to_owned(), usage.by.remove(*prefix).unwrap_or_default())).collect();
        usage
    }
}

fn read_fields(value: &Value) -> Result<Vec<String>, RpcError> {
    let fields = read_strings("by", value)?;
    let known = |field: &String| FIELDS.iter().any(|(known, _)| known == field);
    if fields.len() > MAX_PREFIXES || !fields.iter().all(known) {
        return Err(RpcError::param("by", "must hold nothing but \"kind\", \"target\" and \"actor\""));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What enqueues jobs and what counts them have one grammar.
    #[test]
    fn each_prefix_is_that_of_its_field() {
        let tags = codescaler_tags("a", "k", "t").expect("tags");
        for ((field, prefix), value) in FIELDS.iter().zip(["k", "t", "a"]) {
            assert!(tags.contains(&format!("{prefix}{value}")), "{field}");
        }
    }
}
