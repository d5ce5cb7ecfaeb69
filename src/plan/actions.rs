//! Which of the actions that planned jobs refer to go, and why the others stay.

use std::collections::HashMap;

use super::jobs::Jobs;
use super::references::{Candidates, Keys, Referrers};
use super::{Criteria, context_of, display};
use crate::report::{KeptAction, Reason, Referrer};
use crate::spec;
use crate::store::{ActionRow, Snapshot, StoreError};
use crate::tag::Tags;

/// The decision about the actions.
#[derive(Default)]
pub(super) struct Actions {
    /// The row ids of the actions that go, ascending.
    pub(super) ids: Vec<i64>,
    /// Their names, sorted.
    pub(super) names: Vec<String>,
    /// The candidates that stay, sorted by name.
    pub(super) kept: Vec<KeptAction>,
}

/// Decides about the actions that the planned jobs refer to.
pub(super) fn decide(
    snapshot: &Snapshot<'_>,
    criteria: &Criteria<'_>,
    keys: &Keys,
    jobs: &mut Jobs,
) -> Result<Actions, StoreError> {
    let candidates: Candidates = std::mem::take(&mut jobs.actions).into_iter().collect();
    let mut referrers = std::mem::take(&mut jobs.referrers);
    referrers.all_jobs_read(&candidates);
    if candidates.is_empty() {
        return Ok(Actions::default());
    }
    referrers.services(snapshot, keys, &candidates)?;

    let root = criteria.tags.root_alone();
    let gather = |batch: &mut Batch, action: ActionRow<'_>| {
        batch.add(&action, keys, &candidates, &root);
        Ok(())
    };
    let mut all = Vec::new();
    let mut dependencies = Vec::new();
    snapshot.actions(gather, |batch| {
        dependencies.extend(batch.dependencies.into_iter().map(|(index, on)| (all.len() + index, on)));
        all.extend(batch.candidates);
        for (name, on) in batch.remaining {
            referrers.remaining_action(&name, &on);
        }
        Ok(())
    })?;
    Ok(settle(all, dependencies, referrers))
}

/// The content of some rows, each taken by itself.
#[derive(Default)]
struct Batch {
    candidates: Vec<Candidate>,
    /// Which candidates depend on which others: the index of the one, the hash of the other.
    dependencies: Vec<(usize, u64)>,
    /// The names of other actions that depend on candidates, and the hashes of these.
    remaining: Vec<(String, Vec<u64>)>,
}

/// An action that a planned job refers to.
#[derive(Debug, Clone)]
struct Candidate {
    id: i64,
    /// The first hash of its name: see [`Keys`].
    hash: u64,
    name: Box<str>,
    tagged: bool,
    scheduled: bool,
}

impl Batch {
    fn add(&mut self, action: &ActionRow<'_>, keys: &Keys, candidates: &Candidates, root: &Tags) {
        let readable = action.context.is_some() && action.name.is_some();
        let context = context_of(action.context);
        let name = action.name.unwrap_or_default();
        let hash = keys.hash(context, name);
        let candidate = readable && candidates.hold(keys, hash, context, name);
        if !candidate && !spec::may_depend(action.spec) {
            return;
        }
        let spec = spec::spec(action.spec, Some(root));
        let depends_on = candidates.depended_on(keys, context, hash, &spec);
        let name = display(context, name);
        if candidate {
            let index = self.candidates.len();
            self.dependencies.extend(depends_on.into_iter().map(|on| (index, on)));
            let (tagged, scheduled) = (spec.tagged, spec.scheduled);
            self.candidates.push(Candidate { id: action.id, hash, name: name.into(), tagged, scheduled });
        } else if !depends_on.is_empty() {
            self.remaining.push((name, depends_on));
        }
    }
}

/// Divides the candidates into those that go and those that stay. `dependencies` says which depend on which others: the
/// index of the one, the hash of the other.
fn settle(all: Vec<Candidate>, dependencies: Vec<(usize, u64)>, mut referrers: Referrers) -> Actions {
    // The few candidates that depend on others, and what they depend on.
    let mut depends_on: HashMap<usize, Vec<u64>> = HashMap::new();
    let mut depended_on: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, on) in dependencies {
        depends_on.entry(index).or_default().push(on);
        depended_on.entry(on).or_default();
    }
    for (index, candidate) in all.iter().enumerate() {
        if let Some(indexes) = depended_on.get_mut(&candidate.hash) {
            indexes.push(index);
        }
    }

    // An action that stays keeps what it depends on.
    let mut followed = vec![false; all.len()];
    let mut to_follow: Vec<usize> =
        depends_on.keys().copied().filter(|&index| why(&all[index], &referrers).is_some()).collect();
    to_follow.sort_unstable_by(|a, b| b.cmp(a));
    while let Some(index) = to_follow.pop() {
        if std::mem::replace(&mut followed[index], true) {
            continue;
        }
        let on = depends_on.get(&index).map(Vec::as_slice).unwrap_or_default();
        referrers.remaining_action(&all[index].name, on);
        to_follow.extend(on.iter().filter_map(|hash| depended_on.get(hash)).flatten());
    }

    let mut actions = Actions::default();
    for candidate in all {
        match why(&candidate, &referrers) {
            Some((reason, by)) => actions.kept.push(KeptAction { action_id: candidate.name.into(), reason, by }),
            None => {
                actions.ids.push(candidate.id);
                actions.names.push(candidate.name.into());
            }
        }
    }
    actions.names.sort_unstable();
    actions.kept.sort_unstable_by(|a, b| a.action_id.cmp(&b.action_id));
    actions
}

/// Why `candidate` stays, if it does, and who refers to it.
fn why(candidate: &Candidate, referrers: &Referrers) -> Option<(Reason, Option<Referrer>)> {
    if let Some((reason, by)) = referrers.of(candidate.hash) {
        Some((reason, Some(by)))
    } else if candidate.scheduled {
        Some((Reason::Schedule, None))
    } else if !candidate.tagged {
        Some((Reason::Untagged, None))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: i64, name: &str) -> Candidate {
        Candidate { id, hash: id.unsigned_abs(), name: name.into(), tagged: true, scheduled: false }
    }

    fn kept(actions: &Actions) -> Vec<(&str, Reason, Option<String>)> {
        let by = |kept: &KeptAction| kept.by.as_ref().map(ToString::to_string);
        actions.kept.iter().map(|kept| (kept.action_id.as_str(), kept.reason, by(kept))).collect()
    }

    #[test]
    fn each_reason_by_itself_keeps_a_candidate() {
        let all = vec![
            candidate(1, "goes"),
            Candidate { scheduled: true, ..candidate(2, "nightly") },
            Candidate { tagged: false, ..candidate(3, "other") },
            Candidate { tagged: false, scheduled: true, ..candidate(4, "both") },
            candidate(5, "needed"),
        ];
        let mut referrers = Referrers::default();
        referrers.remaining_action("web", &[5]);
        let actions = settle(all, Vec::new(), referrers);
        assert_eq!((actions.ids.as_slice(), actions.names.as_slice()), (&[1][..], &["goes".to_owned()][..]));
        assert_eq!(
            kept(&actions),
            [
                ("both", Reason::Schedule, None),
                ("needed", Reason::Action, Some("action web".to_owned())),
                ("nightly", Reason::Schedule, None),
                ("other", Reason::Untagged, None),
            ]
        );
    }

    #[test]
    fn an_action_that_stays_keeps_all_that_it_depends_on() {
        let chain = |last: Candidate| vec![candidate(1, "a"), candidate(2, "b"), last];
        let dependencies = || vec![(2, 2), (1, 1)];
        let actions = settle(chain(candidate(3, "c")), dependencies(), Referrers::default());
        assert_eq!(actions.ids, [1, 2, 3], "nothing else needs the chain");
        let scheduled = Candidate { scheduled: true, ..candidate(3, "c") };
        let actions = settle(chain(scheduled), dependencies(), Referrers::default());
        assert_eq!(actions.ids, [0_i64; 0]);
        let by = |name: &str| Some(format!("action {name}"));
        assert_eq!(
            kept(&actions),
            [("a", Reason::Action, by("b")), ("b", Reason::Action, by("c")), ("c", Reason::Schedule, None)]
        );
    }

    #[test]
    fn two_that_depend_on_each_other_alone_go() {
        let actions = settle(vec![candidate(1, "a"), candidate(2, "b")], vec![(0, 2), (1, 1)], Referrers::default());
        assert_eq!(actions.ids, [1, 2]);
    }
}
