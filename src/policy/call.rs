//! A call that is due, as each side takes it.

use serde_json::{Map, Value, json};

use super::keep::Keep;
use super::{Policy, Rule};
use crate::method::{MAX_LIMIT, Method, Side};
use crate::tag::{CODESCALER, Field, codescaler_tags};

/// A call that is due. It is never forced.
#[derive(Debug, Clone, PartialEq)]
pub struct Call(Kind);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A dry run or a batch of a rule.
    Rule(Cleanup),
    /// A dry run that counts the jobs with the root tag.
    Count,
    /// Space is given back, within this many milliseconds.
    Reclaim { within_ms: i64 },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cleanup {
    /// The place of the rule in the policy.
    pub(super) place: usize,
    rule: Rule,
    except_kind: Vec<String>,
    older_than_ms: i64,
    pub(super) limit: usize,
    pub(super) dry_run: bool,
}

impl Call {
    /// A dry run of the rule at `place`.
    pub(super) fn dry_run(policy: &Policy, place: usize) -> Self {
        Self::cleanup(policy, place, policy.rules[place].older_than_ms, MAX_LIMIT, true)
    }

    /// A batch of the rule at `place`: at most `limit` jobs, those that had reached the rule's age `since_ms` ago.
    pub(super) fn batch(policy: &Policy, place: usize, since_ms: i64, limit: usize) -> Self {
        let older_than_ms = policy.rules[place].older_than_ms.saturating_add(since_ms.max(0));
        Self::cleanup(policy, place, older_than_ms, limit, false)
    }

    fn cleanup(policy: &Policy, place: usize, older_than_ms: i64, limit: usize, dry_run: bool) -> Self {
        let (rule, except_kind) = (policy.rules[place].clone(), policy.except_kind.clone());
        Self(Kind::Rule(Cleanup { place, rule, except_kind, older_than_ms, limit, dry_run }))
    }

    pub(super) fn count() -> Self {
        Self(Kind::Count)
    }

    pub(super) fn reclaim(within_ms: i64) -> Self {
        Self(Kind::Reclaim { within_ms })
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.0
    }

    /// The place of the rule in [`Policy::rules`]; none for a call that is no rule's.
    #[must_use]
    pub fn rule(&self) -> Option<usize> {
        match &self.0 {
            Kind::Rule(cleanup) => Some(cleanup.place),
            Kind::Count | Kind::Reclaim { .. } => None,
        }
    }

    /// Whether the call writes nothing and takes no lock.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        match &self.0 {
            Kind::Rule(cleanup) => cleanup.dry_run,
            Kind::Count => true,
            Kind::Reclaim { .. } => false,
        }
    }

    /// The name of the method that `side` has for this call.
    #[must_use]
    pub fn method(&self, side: Side) -> &'static str {
        let method = match self.0 {
            Kind::Rule(_) | Kind::Count => Method::Cleanup,
            Kind::Reclaim { .. } => Method::Reclaim,
        };
        method.name(side)
    }

    /// The params of that method, an object. `force` is never among them.
    #[must_use]
    pub fn params(&self, side: Side) -> Value {
        match (&self.0, side) {
            (Kind::Reclaim { within_ms }, _) => json!({ "within_ms": within_ms }),
            // One job is enough: the report counts them all.
            (Kind::Count, Side::HeroProc) => json!({ "tags": [CODESCALER], "dry_run": true, "limit": 1, "max_ids": 0 }),
            (Kind::Count, Side::Codescalers) => json!({ "dry_run": true, "limit": 1, "max_ids": 0 }),
            (Kind::Rule(cleanup), side) => Value::Object(cleanup.params(side)),
        }
    }
}

impl Cleanup {
    fn params(&self, side: Side) -> Map<String, Value> {
        // Every field is named here, so that the compiler asks about a new one.
        let Self { place: _, rule, except_kind, older_than_ms, limit, dry_run } = self;
        let Rule { kind, target, actor, phases, older_than_ms: _, own_keep: _, keep } = rule;
        let mut params = Map::new();
        let mut set = |name: &str, value: Value| drop(params.insert(name.to_owned(), value));
        match side {
            Side::HeroProc => {
                let [actor, kind, target] = [actor, kind, target].map(|value| value.as_deref().unwrap_or_default());
                // A rule that exists keeps to the grammar. Were there no tags, the call would be refused.
                set("tags", json!(codescaler_tags(actor, kind, target).unwrap_or_default()));
                if !except_kind.is_empty() {
                    set(
                        "except_tags",
                        except_kind.iter().map(|kind| format!("{}{kind}", Field::Kind.prefix())).collect(),
                    );
                }
            }
            Side::Codescalers => {
                for (name, value) in [("kind", kind), ("target", target), ("actor", actor)] {
                    if let Some(value) = value {
                        set(name, json!(value));
                    }
                }
                if !except_kind.is_empty() {
                    set("except_kind", json!(except_kind));
                }
            }
        }
        if let Some(phases) = phases {
            set("phases", json!(phases));
        }
        set("older_than_ms", json!(older_than_ms));
        if let Some(Keep { count, by }) = keep {
            set("keep_last", json!(count));
            let by = match side {
                Side::HeroProc => by.prefixes(),
                Side::Codescalers => by.names(),
            };
            set("keep_by", json!(by));
        }
        if *dry_run {
            set("dry_run", json!(true));
        }
        set("limit", json!(limit));
        // Retention remembers numbers alone.
        set("max_ids", json!(0));
        params
    }
}
