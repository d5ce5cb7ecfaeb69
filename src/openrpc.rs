//! The OpenRPC documents of both sides, as they are served, and how a host merges one into its own.

use serde_json::{Map, Value};
use thiserror::Error;

/// `job.cleanup_by_tag`, hero_proc's side.
pub const HERO_PROC: &str = include_str!("../openrpc/hero_proc.json");

/// `jobs.cleanup`, codescalers' side.
pub const CODESCALERS: &str = include_str!("../openrpc/codescalers.json");

/// Why two documents can't be merged. The host's is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MergeError {
    /// The host's document has no list of methods.
    #[error("the host's document is no OpenRPC document")]
    Host,
    /// The document to add is not JSON, or has no list of methods.
    #[error("the document to add is no OpenRPC document")]
    Added,
    /// The host's document already has a method of this name.
    #[error("there already is a method {0}")]
    MethodTaken(String),
}

/// Adds the methods of `added` ([`HERO_PROC`] or [`CODESCALERS`]) to `document`, a host's own OpenRPC document, with the
/// schemas that it refers to. A schema whose name the host uses for something else gets another; `rpc.discover` and
/// everything else of the host's stays as it is.
///
/// ```
/// let mut document = serde_json::json!({
///     "openrpc": "1.2.6", "info": { "title": "hero_proc", "version": "0.7.0" }, "methods": [],
/// });
/// hero_proc_cleanup::openrpc::merge(&mut document, hero_proc_cleanup::openrpc::HERO_PROC)?;
/// assert_eq!(document["methods"][0]["name"], "job.cleanup_by_tag");
/// # Ok::<(), hero_proc_cleanup::openrpc::MergeError>(())
/// ```
///
/// # Errors
///
/// If the host has one of the methods already, or one of the two is no OpenRPC document.
pub fn merge(document: &mut Value, added: &str) -> Result<(), MergeError> {
    let added: Value = serde_json::from_str(added).map_err(|_| MergeError::Added)?;
    let mut methods = methods(&added).ok_or(MergeError::Added)?.clone();
    methods.retain(|method| method["name"] != "rpc.discover");
    let theirs = self::methods(document).ok_or(MergeError::Host)?;
    if let Some(taken) = methods.iter().find(|method| theirs.iter().any(|their| their["name"] == method["name"])) {
        return Err(MergeError::MethodTaken(taken["name"].as_str().unwrap_or_default().to_owned()));
    }
    let mut schemas = schemas(&added).cloned().unwrap_or_default();
    let theirs = document
        .as_object_mut()
        .and_then(|document| object(document, "components"))
        .and_then(|components| object(components, "schemas"))
        .ok_or(MergeError::Host)?;
    let prefix = free_prefix(&schemas, theirs);
    methods.iter_mut().chain(schemas.values_mut()).for_each(|value| rename(value, &prefix));
    theirs.extend(schemas.into_iter().map(|(name, schema)| (format!("{prefix}{name}"), schema)));
    if let Some(theirs) = document["methods"].as_array_mut() {
        theirs.append(&mut methods);
    }
    Ok(())
}

const SCHEMAS: &str = "#/components/schemas/";

fn methods(document: &Value) -> Option<&Vec<Value>> {
    document.get("methods")?.as_array()
}

fn schemas(document: &Value) -> Option<&Map<String, Value>> {
    document.get("components")?.get("schemas")?.as_object()
}

/// The object under `key`, made if there is nothing.
fn object<'v>(of: &'v mut Map<String, Value>, key: &str) -> Option<&'v mut Map<String, Value>> {
    of.entry(key).or_insert_with(|| Map::new().into()).as_object_mut()
}

/// What goes before the names of `schemas`, so that none is the name of another schema of `theirs`.
fn free_prefix(schemas: &Map<String, Value>, theirs: &Map<String, Value>) -> String {
    let mut prefix = String::new();
    let taken = |prefix: &str, name: &str, schema: &Value| {
        theirs.get(&format!("{prefix}{name}")).is_some_and(|their| !prefix.is_empty() || their != schema)
    };
    while schemas.iter().any(|(name, schema)| taken(&prefix, name, schema)) {
        prefix.push_str("Cleanup");
    }
    prefix
}

/// Puts `prefix` before the name of every schema that `value` refers to.
fn rename(value: &mut Value, prefix: &str) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(SCHEMAS)
            {
                *reference = format!("{SCHEMAS}{prefix}{name}");
            }
            object.values_mut().for_each(|value| rename(value, prefix));
        }
        Value::Array(array) => array.iter_mut().for_each(|value| rename(value, prefix)),
        _ => {}
    }
}
