//! The groups of finished jobs of which the last ones stay.
//!
//! A group is a set of tags; in each, jobs that succeeded and jobs that did not are counted apart, so that a crash loop does
//! not push the last success out. *Last* means the highest ids.

use std::collections::HashMap;
use std::num::NonZeroU32;

use super::references::{Keys, Name};
use crate::phase::Outcome;

/// A group, and the outcome that is counted in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    tags: Name,
    outcome: Outcome,
}

impl Group {
    /// The group of the jobs that carry `tags`, of those by which jobs are grouped.
    pub(super) fn of(keys: &Keys, mut tags: Vec<String>, outcome: Outcome) -> Self {
        tags.sort_unstable();
        tags.dedup();
        // A tag may hold anything: each stands behind its length.
        let set: String = tags.iter().map(|tag| format!("{}:{tag}", tag.len())).collect();
        Self { tags: keys.name("", &set), outcome }
    }
}

/// The members of all groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    numbers: HashMap<(u64, u64, Outcome), u32>,
    /// Each member with the number of its group, ids ascending.
    members: Vec<(i64, u32)>,
}

impl Groups {
    /// Adds the job `id`, which is higher than those before.
    pub(super) fn add(&mut self, id: i64, group: Group) {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        let (first, second) = group.tags.hashes();
        let number = *self.numbers.entry((first, second, group.outcome)).or_insert(next);
        self.members.push((id, number));
    }

    /// The groups by their numbers.
    pub(super) fn by_number(&self) -> HashMap<u32, Group> {
        let of = |first, second, outcome| Group { tags: Name::of_hashes(first, second), outcome };
        self.numbers.iter().map(|((first, second, outcome), number)| (*number, of(*first, *second, *outcome))).collect()
    }

    /// Whether the job `id` is a member of `group`.
    pub(super) fn hold(&self, id: i64, group: Group) -> bool {
        let (first, second) = group.tags.hashes();
        let number = self.numbers.get(&(first, second, group.outcome));
        let place = self.members.binary_search_by_key(&id, |(id, _)| *id);
        place.is_ok_and(|place| Some(&self.members[place].1) == number)
    }

    /// The last `count` of each group, with the number of their group.
    pub(super) fn last(&self, count: NonZeroU32) -> impl Iterator<Item = (i64, u32)> {
        let mut left = vec![count.get(); self.numbers.len()];
        self.members.iter().rev().filter_map(move |(id, number)| {
            let left = left.get_mut(*number as usize)?;
            *left = left.checked_sub(1)?;
            Some((*id, *number))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(count: u32, members: &[(i64, &[&str], Outcome)]) -> Vec<i64> {
        let (keys, mut groups) = (Keys::new(), Groups::default());
        for (id, tags, outcome) in members {
            groups.add(*id, Group::of(&keys, tags.iter().map(ToString::to_string).collect(), *outcome));
        }
        let last = groups.last(NonZeroU32::new(count).expect("not zero"));
        let mut last: Vec<i64> = last.map(|(id, _)| id).collect();
        last.sort_unstable();
        last
    }

    #[test]
    fn the_last_of_each_group_and_outcome_stay() {
        use Outcome::{DidNotSucceed, Succeeded};
        let yearly = (1, &["yearly"][..], Succeeded);
        let minutely = (2..10).map(|id| (id, &["minutely"][..], Succeeded));
        let crash_loop = (10..20).map(|id| (id, &["minutely"][..], DidNotSucceed));
        let all: Vec<_> = std::iter::once(yearly).chain(minutely).chain(crash_loop).collect();
        assert_eq!(last(1, &all), [1, 9, 19]);
        assert_eq!(last(3, &all), [1, 7, 8, 9, 17, 18, 19]);
        assert_eq!(last(100, &all).len(), 19);
    }

    #[test]
    fn a_group_is_a_set() {
        let outcome = Outcome::Succeeded;
        assert_eq!(last(1, &[(1, &["a", "b"], outcome), (2, &["b", "a", "b"], outcome)]), [2]);
        assert_eq!(last(1, &[(1, &["a", "b"], outcome), (2, &["ab"], outcome), (3, &[], outcome)]), [1, 2, 3]);
        assert_eq!(last(1, &[(1, &["1:a1:b"], outcome), (2, &["a", "b"], outcome)]), [1, 2]);
    }
}
