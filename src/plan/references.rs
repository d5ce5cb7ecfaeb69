//! Who refers to which action.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

use rusqlite::Connection;

use crate::report::Reason;
use crate::spec::{self, Spec};
use crate::store::StoreError;
use crate::store::layout::Layout;
use crate::store::rows::{self, JobRow};

/// An action's context and name, as 128 bits.
///
/// A store may hold a million names: as text they would fill memory. Two keyed hashes make up a key, with keys that are
/// new in each process, so that nobody can choose names that collide, and no two of a million do so by chance
/// (p < 2^-88).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64, u64);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Makes keys.
pub(crate) struct Keys(RandomState, RandomState);

impl Keys {
    pub(crate) fn new() -> Self {
        Self(RandomState::new(), RandomState::new())
    }

    /// The key of the action `name`.
    pub(crate) fn key(&self, context: &str, name: &str) -> Key {
        Key(self.0.hash_one((context, name)), self.1.hash_one((context, name)))
    }

    /// The keys of every action that `reference` may mean: the whole of it, and what follows each dot, since it may be
    /// `{service}.{action}` and both may hold dots.
    pub(crate) fn names(&self, context: &str, reference: &str) -> impl Iterator<Item = Key> {
        let after_dots = reference.match_indices('.').map(|(dot, _)| &reference[dot + 1..]);
        std::iter::once(reference).chain(after_dots).map(|name| self.key(context, name))
    }
}

/// Keys are hashes already.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is hashed as one u64")
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

type KeyMap<V> = HashMap<Key, V, BuildHasherDefault<KeyHasher>>;

/// The candidates, and who else refers to them: of each kind, the first.
#[derive(Default)]
pub(crate) struct Referrers {
    /// What planned jobs refer to.
    candidates: HashSet<Key, BuildHasherDefault<KeyHasher>>,
    /// Of all remaining jobs: which of them refer to a candidate is known only when all have been read.
    jobs: KeyMap<i64>,
    services: KeyMap<String>,
    actions: KeyMap<String>,
}

impl Referrers {
    pub(crate) fn candidate(&mut self, key: Key) {
        self.candidates.insert(key);
    }

    pub(crate) fn planned_job(&mut self, keys: &Keys, job: &JobRow<'_>) {
        if let (Some(context), Some(action)) = (job.context, job.action_id.or(job.action)) {
            self.candidate(keys.key(context, action));
        }
    }

    pub(crate) fn remaining_job(&mut self, keys: &Keys, job: &JobRow<'_>) {
        let Some(context) = job.context else { return };
        let action_id = job.action_id.filter(|id| job.action != Some(id));
        for key in [job.action, action_id].into_iter().flatten().flat_map(|name| keys.names(context, name)) {
            self.jobs.entry(key).or_insert(job.id);
        }
    }

    /// Takes down every service's references to candidates.
    pub(crate) fn services(&mut self, connection: &Connection, layout: &Layout, keys: &Keys) -> Result<(), StoreError> {
        rows::services(connection, layout, |service| {
            let Some(context) = service.context else { return Ok(()) };
            let references = spec::spec(service.spec, &[]).names.into_iter().chain(spec::names(service.actions));
            for reference in references {
                for key in keys.names(context, &reference).filter(|key| self.candidates.contains(key)) {
                    self.services.entry(key).or_insert_with(|| service.name.unwrap_or_default().to_owned());
                }
            }
            Ok(())
        })
    }

    /// The candidates on which the action `key` depends, itself aside.
    pub(crate) fn depends_on(&self, keys: &Keys, context: &str, key: Key, spec: &Spec<'_>) -> Vec<Key> {
        let names = spec.names.iter().flat_map(|name| keys.names(context, name));
        names.filter(|on| *on != key && self.candidates.contains(on)).collect()
    }

    /// `name` is for people; `depends_on` are candidates.
    pub(crate) fn remaining_action(&mut self, name: &str, depends_on: &[Key]) {
        for key in depends_on {
            self.actions.entry(*key).or_insert_with(|| name.to_owned());
        }
    }

    pub(crate) fn no_candidates(&self) -> bool {
        self.candidates.is_empty()
    }

    pub(crate) fn is_candidate(&self, key: Key) -> bool {
        self.candidates.contains(&key)
    }

    /// Who refers to the action `key`: a job before a service before an action.
    pub(crate) fn of(&self, key: Key) -> Option<(Reason, String)> {
        if let Some(job) = self.jobs.get(&key) {
            Some((Reason::Job, format!("job {job}")))
        } else if let Some(service) = self.services.get(&key) {
            Some((Reason::Service, format!("service {service}")))
        } else {
            self.actions.get(&key).map(|action| (Reason::Action, format!("action {action}")))
        }
    }
}
