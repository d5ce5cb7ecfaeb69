//! The names of all params of hero_proc's side, each written once.

use std::fmt;

use serde::de::IntoDeserializer;
use serde::de::value::Error as Unknown;
use serde::{Deserialize, Serialize};

/// A param of hero_proc's side; its name is that of the variant, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Param {
    // All methods that ask for jobs.
    Tags,
    // `job.cleanup_by_tag`.
    ExceptTags,
    OlderThanMs,
    BeforeMs,
    Phases,
    KeepLast,
    KeepBy,
    Leaked,
    DryRun,
    Force,
    Limit,
    MaxIds,
    ExpectPlan,
    // `job.usage_by_tag`.
    By,
    Top,
    // `store.reclaim`, beside `dry_run`.
    WithinMs,
    MinFreePercent,
    MinFreeBytes,
}

impl Param {
    /// The param of this name, if any method has one.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::deserialize(name.into_deserializer()).map_err(|_: Unknown| ()).ok()
    }
}

impl fmt::Display for Param {
    /// The name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
