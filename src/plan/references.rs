//! The references between jobs, services and actions.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use super::context_of;
use crate::report::{Reason, Referrer};
use crate::spec::{self, Spec};
use crate::store::{JobRow, Snapshot, StoreError};

/// The hash of an action that a job may refer to, and the job's id.
pub(crate) type Reference = (u64, i64);

/// Turns an action's context and name into 128 bits: a store may hold a million names, which as text would fill memory.
///
/// They are two keyed hashes, with keys that are new in each process, so that nobody can choose names that collide.
/// Whether an action is a candidate for deletion is decided by both (no two of a million collide by chance: p < 2^-88).
/// Whether something refers to it is decided by the first: if two names collide there, an action stays.
pub(crate) struct Keys {
    first: RandomState,
    second: RandomState,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self { first: RandomState::new(), second: RandomState::new() }
    }

    /// The first hash of the action `name`: what it is looked up by.
    pub(crate) fn hash(&self, context: &str, name: &str) -> u64 {
        hash(&self.first, context, name)
    }

    /// The second hash, which only candidates need.
    fn second(&self, context: &str, name: &str) -> u64 {
        hash(&self.second, context, name)
    }

    /// Both hashes of the action `name`.
    pub(crate) fn name(&self, context: &str, name: &str) -> Name {
        Name { first: self.hash(context, name), second: self.second(context, name) }
    }

    /// Calls `refer` with the hash of every action that `job` may refer to.
    pub(crate) fn referred_to(&self, job: &JobRow<'_>, mut refer: impl FnMut(u64)) {
        let context = context_of(job.context);
        let action_id = job.action_id.filter(|id| job.action != Some(id));
        for reference in [job.action, action_id].into_iter().flatten() {
            self.meant(context, reference).for_each(&mut refer);
        }
    }

    /// The hashes of every action that `reference` may mean: the whole of it, and the rest behind each dot, since a reference may
    /// be `{service}.{action}` and both may hold dots.
    pub(crate) fn meant(&self, context: &str, reference: &str) -> impl Iterator<Item = u64> {
        let after_dots = reference.match_indices('.').map(|(dot, _)| &reference[dot + 1..]);
        std::iter::once(reference).chain(after_dots).map(|name| self.hash(context, name))
    }
}

fn hash(state: &RandomState, context: &str, name: &str) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write(context.as_bytes());
    // In no text: where the one ends and the other begins.
    hasher.write_u8(0xff);
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// An action's context and name, as both hashes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    pub(crate) first: u64,
    second: u64,
}

/// A map whose keys are hashes already.
pub(crate) type HashedMap<V> = HashMap<u64, V, BuildHasherDefault<Hashed>>;

/// Passes a hash on.
#[derive(Debug, Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are looked up, as one u64")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The actions that planned jobs refer to: the second hash by the first.
#[derive(Debug, Default)]
pub(crate) struct Candidates(HashedMap<u64>);

impl Candidates {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them may have this first hash.
    fn may_hold(&self, first: u64) -> bool {
        self.0.contains_key(&first)
    }

    /// Whether the action `name`, whose first hash is `first`, is one.
    pub(crate) fn hold(&self, keys: &Keys, first: u64, context: &str, name: &str) -> bool {
        self.0.get(&first).is_some_and(|second| *second == keys.second(context, name))
    }

    /// The candidates on which the action with this hash depends, itself aside: each once.
    pub(crate) fn depended_on(&self, keys: &Keys, context: &str, hash: u64, spec: &Spec<'_>) -> Vec<u64> {
        let on = spec.names.iter().flat_map(|name| keys.meant(context, name));
        let mut on: Vec<u64> = on.filter(|on| *on != hash && self.may_hold(*on)).collect();
        on.sort_unstable();
        on.dedup();
        on.shrink_to_fit();
        on
    }
}

impl FromIterator<Name> for Candidates {
    fn from_iter<T: IntoIterator<Item = Name>>(names: T) -> Self {
        let mut candidates = Self::default();
        for name in names {
            // Should two names collide in the first hash, the second is not seen as a candidate: its action stays.
            candidates.0.entry(name.first).or_insert(name.second);
        }
        candidates
    }
}

/// The referrers of candidates: of each kind, the first.
#[derive(Debug, Default)]
pub(crate) struct Referrers {
    /// Every reference of a remaining job. Which of them are to a candidate is known only when all jobs have been read.
    remaining_jobs: Vec<Reference>,
    jobs: HashedMap<i64>,
    services: HashedMap<String>,
    actions: HashedMap<String>,
}

impl Referrers {
    /// Takes down the references of remaining jobs.
    pub(crate) fn remaining_jobs(&mut self, references: impl IntoIterator<Item = Reference>) {
        self.remaining_jobs.extend(references);
    }

    /// Takes down which candidates remaining jobs refer to, once all jobs have been read.
    pub(crate) fn all_jobs_read(&mut self, candidates: &Candidates) {
        for (hash, job) in std::mem::take(&mut self.remaining_jobs) {
            if candidates.may_hold(hash) {
                self.jobs.entry(hash).and_modify(|first| *first = job.min(*first)).or_insert(job);
            }
        }
    }

    /// Takes down every service's references to candidates.
    pub(crate) fn services(
        &mut self,
        snapshot: &Snapshot<'_>,
        keys: &Keys,
        candidates: &Candidates,
    ) -> Result<(), StoreError> {
        snapshot.services(|service| {
            let context = context_of(service.context);
            let references = spec::spec(service.spec, None).names.into_iter().chain(spec::names(service.actions));
            for reference in references {
                for hash in keys.meant(context, &reference).filter(|hash| candidates.may_hold(*hash)) {
                    self.services.entry(hash).or_insert_with(|| service.name.unwrap_or_default().to_owned());
                }
            }
            Ok(())
        })
    }

    /// Takes down that the remaining action `name` depends on candidates.
    pub(crate) fn remaining_action(&mut self, name: &str, depends_on: &[u64]) {
        for hash in depends_on {
            self.actions.entry(*hash).or_insert_with(|| name.to_owned());
        }
    }

    /// The first referrer of the action with this hash: a job before a service before an action.
    pub(crate) fn of(&self, hash: u64) -> Option<(Reason, Referrer)> {
        if let Some(job) = self.jobs.get(&hash) {
            Some((Reason::Job, Referrer::Job(*job)))
        } else if let Some(service) = self.services.get(&hash) {
            Some((Reason::Service, Referrer::Service(service.clone())))
        } else {
            self.actions.get(&hash).map(|action| (Reason::Action, Referrer::Action(action.clone())))
        }
    }
}
