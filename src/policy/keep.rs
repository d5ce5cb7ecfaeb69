//! `keep_last` at the top of a policy and in a rule, and the one of both that a call can carry.
//!
//! A group is a set of kinds, of targets, or of both. Of two ways to group, the *finer* is the one by more fields: each
//! of its groups lies within one group of the other. The last 10 of each fine group then hold the last 10 of each
//! coarse group: a job with fewer than 10 newer ones in the coarse group has fewer than 10 newer ones in its fine
//! group.
//!
//! A call counts only the jobs that carry the tags of its rule. If the rule names a field by which is not grouped, or
//! an actor, a call of the rule counts in a part of each group, and would keep more than the groups' last jobs.
//!
//! So one call keeps exactly the jobs that the top or the rule keeps, in two cases:
//!
//! * The rule's own groups are as fine as the top's, and it keeps at least as many of each: the rule's count holds the
//!   top's.
//! * The top's groups are as fine as the rule's, and it keeps at least as many of each, or the rule keeps none; and
//!   each field that the rule names is one by which the top groups: the top's count holds the rule's, and is not
//!   narrowed by the rule.

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

/// Why no single call can keep what the top and a rule keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Apart {
    /// The rule narrows the top's groups, and keeps none itself.
    Narrowed,
    /// Neither count holds the other.
    Crossed,
}

/// What one call of a rule must keep, if the policy keeps `top` and the rule `own`. `named` are the fields that the
/// rule names; `actor` says whether it names an actor.
pub(super) fn both(top: Option<Keep>, own: Option<Keep>, named: Fields, actor: bool) -> Result<Option<Keep>, Apart> {
    let Some(top) = top else { return Ok(own) };
    let whole = top.by.hold(named) && !actor;
    match own {
        Some(own) if own.by.hold(top.by) && own.count >= top.count => Ok(Some(own)),
        Some(own) if top.by.hold(own.by) && top.count >= own.count && whole => Ok(Some(top)),
        Some(_) => Err(Apart::Crossed),
        None if whole => Ok(Some(top)),
        None => Err(Apart::Narrowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Fields = Fields { kind: false, target: false };
    const TARGET: Fields = Fields { kind: false, target: true };
    const BOTH: Fields = Fields { kind: true, target: true };

    fn keep(count: u32, by: Fields) -> Option<Keep> {
        Some(Keep { count: NonZeroU32::new(count).expect("not zero"), by })
    }

    #[test]
    fn a_rule_that_names_what_is_grouped_by_counts_whole_groups() {
        let top = keep(10, Fields::KIND);
        assert_eq!(both(top, None, NONE, false), Ok(top));
        assert_eq!(both(top, None, Fields::KIND, false), Ok(top));
        assert_eq!(both(top, None, TARGET, false), Err(Apart::Narrowed));
        assert_eq!(both(top, None, NONE, true), Err(Apart::Narrowed), "an actor");
        assert_eq!(both(keep(10, BOTH), None, BOTH, false), Ok(keep(10, BOTH)));
        assert_eq!(both(keep(10, NONE), None, Fields::KIND, false), Err(Apart::Narrowed));
    }

    #[test]
    fn the_count_that_holds_the_other_stands_for_both() {
        let top = keep(10, Fields::KIND);
        assert_eq!(both(top, keep(3, Fields::KIND), NONE, false), Ok(top));
        assert_eq!(both(top, keep(30, Fields::KIND), NONE, false), Ok(keep(30, Fields::KIND)));
        assert_eq!(both(top, keep(10, BOTH), NONE, true), Ok(keep(10, BOTH)), "an actor narrows what the rule says");
        assert_eq!(both(top, keep(3, NONE), Fields::KIND, false), Ok(top), "the top is finer, and keeps more");
        assert_eq!(both(None, keep(3, NONE), BOTH, true), Ok(keep(3, NONE)));
        assert_eq!(both(None, None, BOTH, true), Ok(None));
    }

    #[test]
    fn counts_of_which_neither_holds_the_other_are_refused() {
        let top = keep(10, Fields::KIND);
        assert_eq!(both(top, keep(3, BOTH), NONE, false), Err(Apart::Crossed), "finer, but fewer");
        assert_eq!(both(top, keep(30, NONE), NONE, false), Err(Apart::Crossed), "more, but coarser");
        assert_eq!(both(top, keep(30, TARGET), NONE, false), Err(Apart::Crossed));
        assert_eq!(both(top, keep(3, Fields::KIND), TARGET, false), Err(Apart::Crossed), "narrowed");
    }
}
