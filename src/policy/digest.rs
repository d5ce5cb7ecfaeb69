//! The name of a policy.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::keep::Keep;
use super::{Policy, Rule, quoted};

/// The bytes of a SHA-256 that a digest shows.
const BYTES: usize = 16;

/// The name of a policy: 32 hexadecimal digits that change with anything that the policy takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct PolicyDigest(String);

/// A text that is no digest of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a digest of a policy is {} hexadecimal digits in lower case", 2 * BYTES)]
pub struct PolicyDigestError(());

impl PolicyDigest {
    pub(super) fn of(policy: &Policy) -> Self {
        let digest = Sha256::digest(canonical(policy));
        let mut hex = String::new();
        for byte in &digest[..BYTES] {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }

    /// The 32 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PolicyDigest {
    type Err = PolicyDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 2 * BYTES && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PolicyDigestError(()))
        }
    }
}

impl TryFrom<String> for PolicyDigest {
    type Error = PolicyDigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that `policy` takes, in one spelling: one line for each key that is set, the rules sorted.
fn canonical(policy: &Policy) -> String {
    // Every field is named here, so that the compiler asks about a new one.
    let Policy { every_ms, reclaim_ms, keep, except_kind, confirmed: _, rules } = policy;
    let mut lines = vec!["hero_proc_cleanup policy 1".to_owned(), format!("every {every_ms}")];
    lines.extend(reclaim_ms.map(|ms| format!("reclaim {ms}")));
    lines.extend(keep.map(line_of_keep));
    lines.extend(except_kind.iter().map(|kind| format!("except_kind {}", quoted(kind))));
    let mut rules: Vec<String> = rules.iter().map(line_of_rule).collect();
    rules.sort_unstable();
    lines.append(&mut rules);
    lines.join("\n")
}

fn line_of_rule(rule: &Rule) -> String {
    // What a call keeps follows from what the rule and the top keep.
    let Rule { kind, target, actor, phases, older_than_ms, own_keep, keep: _ } = rule;
    let mut line = "rule".to_owned();
    for (name, value) in [("kind", kind), ("target", target), ("actor", actor)] {
        if let Some(value) = value {
            line += &format!(" {name} {}", quoted(value));
        }
    }
    for phase in phases.iter().flatten() {
        line += &format!(" phase {}", quoted(phase));
    }
    line += &format!(" older_than {older_than_ms}");
    if let Some(keep) = own_keep {
        line += &format!(" {}", line_of_keep(*keep));
    }
    line
}

fn line_of_keep(keep: Keep) -> String {
    format!("keep_last {} by {}", keep.count, keep.by.names().join(","))
}
