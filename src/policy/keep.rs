//! `keep_last` at the top of a policy and in a rule, and the one of both that a call can carry.
//!
//! A group is a set of kinds, of targets, or of both. Of two ways to group, the *finer* is the one by more fields: each
//! of its groups lies within one group of the other. The last 10 of each fine group then hold the last 10 of each
//! coarse group: a job with fewer than 10 newer ones in the coarse group has fewer than 10 newer ones in its fine
//! group.
//!
//! A call counts only the jobs that carry the tags of its rule. If the rule names an actor, or a field by which is not
//! grouped, its call counts in a part of each group, and keeps at least what the whole groups' count would keep of these jobs.
//!
//! So one call keeps the jobs that the top or the rule keeps, in two cases:
//!
//! * The rule's own groups are as fine as the top's, and it keeps at least as many of each: the rule's count holds the
//!   top's.
//! * The top's groups are as fine as the rule's, and it keeps at least as many of each, or the rule keeps none: the top's
//!   count holds the rule's.

use std::fmt;
use std::num::NonZeroU32;

use crate::tag::Field;

/// The last jobs of each group, which stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keep {
    pub(super) count: NonZeroU32,
    pub(super) by: Fields,
}

/// The fields by which jobs are grouped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) kind: bool,
    pub(super) target: bool,
}

impl Fields {
    pub(super) const KIND: Self = Self { kind: true, target: false };

    /// The fields called `names`; none if one is not known.
    pub(super) fn named<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        let mut fields = Self::default();
        for name in names {
            match name {
                "kind" => fields.kind = true,
                "target" => fields.target = true,
                _ => return None,
            }
        }
        Some(fields)
    }

    fn hold(self, other: Self) -> bool {
        (self.kind || !other.kind) && (self.target || !other.target)
    }

    /// The names of the fields, as codescalers' side takes them.
    pub(super) fn names(self) -> Vec<&'static str> {
        self.choose(Field::name)
    }

    /// The prefixes of the fields' tags, as hero_proc's side takes them.
    pub(super) fn prefixes(self) -> Vec<&'static str> {
        self.choose(Field::prefix)
    }

    fn choose(self, text: fn(Field) -> &'static str) -> Vec<&'static str> {
        let fields = [(Field::Kind, self.kind), (Field::Target, self.target)];
        fields.into_iter().filter(|(_, chosen)| *chosen).map(|(field, _)| text(field)).collect()
    }
}

/// `10 by kind and target`.
impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.by.names();
        write!(
            f,
            "{} {}",
            self.count,
            if by.is_empty() { "of all".to_owned() } else { format!("by {}", by.join(" and ")) }
        )
    }
}

/// No single call can keep what the top and a rule keep: neither count holds the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crossed;

/// What one call of a rule must keep, if the policy keeps `top` and the rule `own`.
pub(super) fn both(top: Option<Keep>, own: Option<Keep>) -> Result<Option<Keep>, Crossed> {
    match (top, own) {
        (Some(top), Some(own)) if own.by.hold(top.by) && own.count >= top.count => Ok(Some(own)),
        (Some(top), Some(own)) if top.by.hold(own.by) && top.count >= own.count => Ok(Some(top)),
        (Some(_), Some(_)) => Err(Crossed),
        (top, own) => Ok(own.or(top)),
    }
}
