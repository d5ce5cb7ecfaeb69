//! The policy's file: TOML, read whole, and either a policy or the line and the reason why it is none.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use hero_proc_cleanup::policy::{Policy, PolicyDraft, PolicyError};
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The most bytes of a policy's file.
const MOST_BYTES: u64 = 1 << 20;

/// Why a file holds no policy.
#[derive(Debug, Error)]
pub(super) enum FileError {
    #[error("the policy {file} can't be read: {source}")]
    Unread { file: String, source: io::Error },
    #[error("the policy {file} is larger than {MOST_BYTES} bytes")]
    TooLarge { file: String },
    #[error("the policy {file} is refused, line {line}: {reason}")]
    Refused { file: String, line: usize, reason: String },
}

/// The policy in `path`.
pub(super) fn read(path: &Path) -> Result<Policy, FileError> {
    let file = path.display().to_string();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|opened| opened.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    if let Err(source) = read {
        return Err(FileError::Unread { file, source });
    }
    if bytes.len() as u64 > MOST_BYTES {
        return Err(FileError::TooLarge { file });
    }
    parse(&bytes).map_err(|(line, reason)| FileError::Refused { file, line, reason })
}

/// The policy that `bytes` are, or the line and the reason.
fn parse(bytes: &[u8]) -> Result<Policy, (usize, String)> {
    let text = str::from_utf8(bytes)
        .map_err(|error| (line_at(&bytes[..error.valid_up_to()]), "this is no UTF-8".to_owned()))?;
    let draft: PolicyDraft = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start).min(bytes.len());
        (line_at(&bytes[..start]), error.message().trim().replace('\n', ", "))
    })?;
    draft.check().map_err(|error| (line_of(text, &error), error.to_string()))
}

/// The number of the line that follows `before`, from 1.
fn line_at(before: &[u8]) -> usize {
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// The line of the key that is wrong; if it is missing, that of its rule.
fn line_of(text: &str, error: &PolicyError) -> usize {
    let start = || {
        let table = DeTable::parse(text).ok()?;
        let top = table.get_ref();
        let Some(number) = error.rule() else { return key_in(top, error.key()) };
        let (_, rules) = top.get_key_value("rule")?;
        let DeValue::Array(rules) = rules.get_ref() else { return None };
        let rule: &Spanned<DeValue<'_>> = rules.get(number.checked_sub(1)?)?;
        let DeValue::Table(keys) = rule.get_ref() else { return None };
        key_in(keys, error.key()).or(Some(rule.span().start))
    };
    line_at(&text.as_bytes()[..start().unwrap_or(0).min(text.len())])
}

/// Where `key` stands.
fn key_in(table: &DeTable<'_>, key: &str) -> Option<usize> {
    table.get_key_value(key).map(|(key, _)| key.span().start)
}
