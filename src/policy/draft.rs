//! A policy as somebody has written it, and the checks that make it one.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::keep::{self, Crossed, Fields, Keep};
use super::{Policy, PolicyDigest, Rule};
use crate::age;
use crate::phase;
use crate::rpc::excerpt;
use crate::tag::{MAX_TAGS, codescaler_tags};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// The least `every`.
const LEAST_EVERY: i64 = MINUTE;
/// The least `older_than`.
const LEAST_AGE: i64 = HOUR;
/// The least `reclaim`: the lowest `within_ms` of the method that gives space back.
const LEAST_RECLAIM: i64 = 10;
/// The highest `keep_last`.
const MOST_KEPT: i64 = 10_000;

/// A policy as somebody has written it: its keys are known, its values are not checked yet.
///
/// A draft is read from any self-describing format. [`check`](Self::check) then says which key of which rule is wrong,
/// so that the reader of a file can say in which line.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDraft {
    every: Option<Value>,
    reclaim: Option<Value>,
    keep_last: Option<Value>,
    keep_by: Option<Value>,
    except_kind: Option<Value>,
    confirmed: Option<Value>,
    #[serde(default)]
    rule: Vec<RuleDraft>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleDraft {
    kind: Option<Value>,
    target: Option<Value>,
    actor: Option<Value>,
    phases: Option<Value>,
    older_than: Option<Value>,
    keep_last: Option<Value>,
    keep_by: Option<Value>,
}

/// Why a draft is no policy: the rule, the key, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{key} {problem}", rule.map(|rule| format!("rule {rule}: ")).unwrap_or_default())]
pub struct PolicyError {
    rule: Option<usize>,
    key: &'static str,
    problem: String,
}

impl PolicyError {
    /// The number of the rule that is wrong, from 1; none for what stands at the top.
    #[must_use]
    pub fn rule(&self) -> Option<usize> {
        self.rule
    }

    /// The key that is wrong. It may be one that is missing.
    #[must_use]
    pub fn key(&self) -> &'static str {
        self.key
    }
}

impl PolicyDraft {
    /// The policy that this draft stands for.
    ///
    /// # Errors
    ///
    /// For the first key that is wrong: those at the top, then rule by rule.
    pub fn check(self) -> Result<Policy, PolicyError> {
        let top = Place(None);
        if self.rule.is_empty() {
            return Err(top.wrong("rule", "is missing: a policy has at least one [[rule]]"));
        }
        let every_ms = top.age("every", self.every, LEAST_EVERY)?;
        let every_ms = every_ms.ok_or_else(|| top.wrong("every", "is missing, such as every = \"1h\""))?;
        let reclaim_ms = top.age("reclaim", self.reclaim, LEAST_RECLAIM)?;
        let keep = top.keep(self.keep_last, self.keep_by)?;
        let except_kind = top.except_kind(self.except_kind)?;
        let confirmed = match self.confirmed {
            Some(value) => Some(top.digest(&value)?),
            None => None,
        };
        let mut rules: Vec<Rule> = Vec::new();
        for (number, draft) in (1..).zip(self.rule) {
            let rule = Place(Some(number)).rule(draft, keep, &except_kind)?;
            if let Some(alike) = rules.iter().position(|earlier| alike(earlier, &rule)) {
                let problem =
                    format!("is all that can tell it from rule {}: the lower age takes all that both take", alike + 1);
                return Err(Place(Some(number)).wrong(OLDER_THAN, problem));
            }
            rules.push(rule);
        }
        Ok(Policy { every_ms, reclaim_ms, keep, except_kind, confirmed, rules })
    }
}

impl TryFrom<PolicyDraft> for Policy {
    type Error = PolicyError;

    fn try_from(draft: PolicyDraft) -> Result<Self, Self::Error> {
        draft.check()
    }
}

const OLDER_THAN: &str = "older_than";

/// Whether two rules take the same jobs but for their age.
fn alike(one: &Rule, other: &Rule) -> bool {
    Rule { older_than_ms: 0, ..one.clone() } == Rule { older_than_ms: 0, ..other.clone() }
}

/// A place in a draft: the top, or the rule with this number.
#[derive(Clone, Copy)]
struct Place(Option<usize>);

impl Place {
    fn wrong(self, key: &'static str, problem: impl Into<String>) -> PolicyError {
        PolicyError { rule: self.0, key, problem: problem.into() }
    }

    fn rule(self, draft: RuleDraft, top: Option<Keep>, except_kind: &[String]) -> Result<Rule, PolicyError> {
        // The compiler asks about a new key.
        let RuleDraft { kind, target, actor, phases, older_than, keep_last, keep_by } = draft;
        let kind = self.text("kind", kind)?;
        let target = self.text("target", target)?;
        let actor = self.text("actor", actor)?;
        self.grammar("actor", actor.as_deref().unwrap_or_default(), "", "")?;
        self.grammar("kind", "", kind.as_deref().unwrap_or_default(), "")?;
        self.grammar("target", "", "", target.as_deref().unwrap_or_default())?;
        if let Some(kind) = &kind
            && except_kind.contains(kind)
        {
            return Err(self.wrong("kind", format!("is {:?}, which except_kind at the top keeps", excerpt(kind))));
        }
        let phases = self.phases(phases)?;
        let older_than_ms = self.age(OLDER_THAN, older_than, LEAST_AGE)?;
        let older_than_ms =
            older_than_ms.ok_or_else(|| self.wrong(OLDER_THAN, "is missing, such as older_than = \"14d\""))?;
        let own_keep = self.keep(keep_last, keep_by)?;
        let keep = keep::both(top, own_keep).map_err(|Crossed| self.crossed(top))?;
        Ok(Rule { kind, target, actor, phases, older_than_ms, own_keep, keep })
    }

    /// Refuses a rule of which one call can't keep what it and the top keep.
    fn crossed(self, top: Option<Keep>) -> PolicyError {
        let top = top.map(|top| top.to_string()).unwrap_or_default();
        let problem = format!(
            "and the top's last {top} can't be counted by one call: whichever groups by more fields must keep at least as many"
        );
        self.wrong("keep_last", problem)
    }

    fn grammar(self, key: &'static str, actor: &str, kind: &str, target: &str) -> Result<(), PolicyError> {
        codescaler_tags(actor, kind, target).map(drop).map_err(|error| {
            // The error names its field, as this one does.
            let problem = error.to_string();
            let problem = problem.strip_prefix(error.field()).unwrap_or(&problem).trim_start().to_owned();
            self.wrong(key, problem)
        })
    }

    fn text(self, key: &'static str, value: Option<Value>) -> Result<Option<String>, PolicyError> {
        match value {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(Value::String(_)) => Err(self.wrong(key, "is an empty string, which is not \"all\"")),
            Some(other) => Err(self.wrong(key, format!("must be a string, not {}", shown(&other)))),
        }
    }

    fn texts(self, key: &'static str, value: Value) -> Result<Vec<String>, PolicyError> {
        let problem = || format!("must be an array of strings, not {}", shown(&value));
        let Value::Array(entries) = &value else { return Err(self.wrong(key, problem())) };
        let texts = entries.iter().map(|entry| entry.as_str().map(ToOwned::to_owned)).collect::<Option<_>>();
        texts.ok_or_else(|| self.wrong(key, problem()))
    }

    /// A span of time from `least` on, in milliseconds.
    fn age(self, key: &'static str, value: Option<Value>, least: i64) -> Result<Option<i64>, PolicyError> {
        let Some(value) = value else { return Ok(None) };
        let problem = || {
            let least = age::text(least);
            format!(
                "must be digits and a unit (ms, s, m, h, d) in quotes, such as \"14d\", from {least}, not {}",
                shown(&value)
            )
        };
        // Digits alone would be milliseconds on the command line; whoever writes them into a file may mean seconds or
        // days.
        let text = value.as_str().filter(|text| !text.ends_with(|last: char| last.is_ascii_digit()));
        let ms = text.and_then(|text| age::parse(text).ok()).filter(|ms| *ms >= least);
        ms.map(Some).ok_or_else(|| self.wrong(key, problem()))
    }

    fn keep(self, keep_last: Option<Value>, keep_by: Option<Value>) -> Result<Option<Keep>, PolicyError> {
        let by = match keep_by {
            Some(value) => {
                let names = self.texts("keep_by", value)?;
                let fields = Fields::named(names.iter().map(String::as_str));
                Some(fields.ok_or_else(|| self.wrong("keep_by", "must be an array of \"kind\" and \"target\""))?)
            }
            None => None,
        };
        let Some(value) = keep_last else {
            return match by {
                Some(_) => Err(self.wrong("keep_by", "can only be given with keep_last")),
                None => Ok(None),
            };
        };
        let count = value.as_i64().filter(|count| (1..=MOST_KEPT).contains(count));
        let count = count.and_then(|count| NonZeroU32::new(u32::try_from(count).ok()?));
        let problem = || format!("must be an integer from 1 to {MOST_KEPT}, not {}", shown(&value));
        let count = count.ok_or_else(|| self.wrong("keep_last", problem()))?;
        Ok(Some(Keep { count, by: by.unwrap_or(Fields::KIND) }))
    }

    fn phases(self, value: Option<Value>) -> Result<Option<Vec<String>>, PolicyError> {
        let Some(value) = value else { return Ok(None) };
        let mut phases = BTreeSet::new();
        for phase in self.texts("phases", value)? {
            if phase::outcome(&phase).is_none() {
                let problem = format!("holds {:?}, which is none of: {}", excerpt(&phase), phase::TERMINAL.join(", "));
                return Err(self.wrong("phases", problem));
            }
            phases.insert(phase.to_ascii_lowercase());
        }
        if phases.is_empty() {
            return Err(self.wrong("phases", "is empty: leave it out for all terminal phases"));
        }
        Ok(Some(phases.into_iter().collect()))
    }

    fn except_kind(self, value: Option<Value>) -> Result<Vec<String>, PolicyError> {
        const KEY: &str = "except_kind";
        let Some(value) = value else { return Ok(Vec::new()) };
        let kinds: BTreeSet<String> = self.texts(KEY, value)?.into_iter().collect();
        if kinds.contains("") {
            return Err(self.wrong(KEY, "holds an empty string"));
        }
        if kinds.len() > MAX_TAGS {
            return Err(self.wrong(KEY, format!("holds more than {MAX_TAGS} kinds")));
        }
        for kind in &kinds {
            self.grammar(KEY, "", kind, "")?;
        }
        Ok(kinds.into_iter().collect())
    }

    fn digest(self, value: &Value) -> Result<PolicyDigest, PolicyError> {
        const KEY: &str = "confirmed";
        let text = value.as_str().ok_or_else(|| self.wrong(KEY, "must be a string"))?;
        text.parse().map_err(|error| self.wrong(KEY, format!("is no digest: {error}")))
    }
}

/// `value` as far as an error repeats it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", excerpt(text)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "a table".to_owned(),
        other => other.to_string(),
    }
}
