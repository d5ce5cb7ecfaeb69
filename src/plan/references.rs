//! The references between jobs, services and actions, as hashes: a store may hold a million names, which as text would
//! fill memory.
//!
//! A candidate for deletion is named exactly: by two keyed hashes of its context and name, byte for byte (no two of a
//! million names collide by chance: p < 2^-88). A reference is read generously: without ASCII case and trailing spaces,
//! and it may mean every action whose name is the whole of it or the rest behind one of its dots, since it may be
//! `{service}.{action}` and both may hold dots. If two names collide as references, an action stays.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use crate::phase::Outcome;
use crate::spec;
use crate::store::{DEFAULT_CONTEXT, JobRow};

/// The keys of the hashes, new in each process, so that nobody can choose names that collide.
#[derive(Debug)]
pub(crate) struct Keys {
    target: RandomState,
    first: RandomState,
    second: RandomState,
    /// The hash of the default context, in which nearly all rows are.
    default_context: u64,
}

/// An action's context and name, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    first: u64,
    second: u64,
}

impl Name {
    pub(crate) fn of_hashes(first: u64, second: u64) -> Self {
        Self { first, second }
    }

    pub(crate) fn hashes(self) -> (u64, u64) {
        (self.first, self.second)
    }
}

/// An action's context and name, as a reference may spell them.
pub(crate) type Target = u64;

/// The target of a reference, and the id of the job that refers to it.
pub(crate) type Reference = (Target, i64);

impl Keys {
    pub(crate) fn new() -> Self {
        let target = RandomState::new();
        let default_context = folded_hash(&target, DEFAULT_CONTEXT.as_bytes(), 0);
        Self { target, first: RandomState::new(), second: RandomState::new(), default_context }
    }

    /// Keys for hashes of other things.
    pub(crate) fn hashes(&self) -> &RandomState {
        &self.target
    }

    pub(crate) fn name(&self, context: &str, name: &str) -> Name {
        Name { first: hash(&self.first, context, name), second: hash(&self.second, context, name) }
    }

    /// The target that stands for the action `name`; a row without a context is in the default one.
    pub(crate) fn target(&self, context: Option<&[u8]>, name: &[u8]) -> Target {
        let mut whole = 0;
        self.meant(context, name, |target| whole = target);
        whole
    }

    /// Calls `refer` with the target of every action that `reference` may mean: the whole of it last.
    ///
    /// Each part between two dots is hashed together with the hash of the rest behind it, so the cost is linear in the
    /// length, however many dots there are.
    pub(crate) fn meant(&self, context: Option<&[u8]>, reference: &[u8], mut refer: impl FnMut(Target)) {
        let context = context.map_or(DEFAULT_CONTEXT.as_bytes(), without_trailing_spaces);
        let mut rest = match context == DEFAULT_CONTEXT.as_bytes() {
            true => self.default_context,
            false => folded_hash(&self.target, context, 0),
        };
        for part in without_trailing_spaces(reference).rsplit(|byte| *byte == b'.') {
            rest = folded_hash(&self.target, part, rest);
            refer(rest);
        }
    }
}

/// The hash of `part` without ASCII case, and of the `rest` behind it.
fn folded_hash(key: &RandomState, part: &[u8], rest: u64) -> u64 {
    let mut hasher = key.build_hasher();
    for chunk in part.chunks(64) {
        // All bytes of an array of a known length are folded at once.
        let mut folded = [0; 64];
        folded[..chunk.len()].copy_from_slice(chunk);
        folded.make_ascii_lowercase();
        hasher.write(&folded[..chunk.len()]);
    }
    hasher.write_u64(rest);
    hasher.finish()
}

fn hash(key: &RandomState, context: &str, name: &str) -> u64 {
    let mut hasher = key.build_hasher();
    hasher.write(context.as_bytes());
    // In no text: where the one ends and the other begins.
    hasher.write_u8(0xff);
    hasher.write(name.as_bytes());
    hasher.finish()
}

fn without_trailing_spaces(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

/// Calls `refer` with the target of every action that `job`, whose outcome is none if it has not finished, may refer to.
pub(crate) fn each_reference(job: &JobRow<'_>, outcome: Option<Outcome>, keys: &Keys, refer: &mut dyn FnMut(Target)) {
    each_column_reference(job, keys, refer);
    // A job that has not finished may be waiting for what its own spec depends on; what can't be read may say anything.
    if outcome.is_none() {
        spec::read(job.spec(), &mut |_| {}, &mut |name| keys.meant(job.context(), name, &mut *refer));
    }
}

/// Calls `refer` with the target of every action that the columns of `job` may refer to.
pub(crate) fn each_column_reference(job: &JobRow<'_>, keys: &Keys, refer: &mut dyn FnMut(Target)) {
    let (action, action_id) = (job.action(), job.action_id());
    for reference in [action, action_id.filter(|id| action != Some(id))].into_iter().flatten() {
        keys.meant(job.context(), reference, &mut *refer);
    }
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

/// The actions that planned jobs refer to.
#[derive(Debug, Default)]
pub(crate) struct Doomed {
    /// In the order of the jobs.
    names: Vec<Name>,
    /// The places of the names, by their first hash.
    places: HashedMap<usize>,
}

impl Doomed {
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether the action `name` of `context` is one of them. `next` is where its place is looked for first: most actions
    /// were made in the order of their jobs, and each other one costs the processor a wait for memory.
    pub(crate) fn hold(&self, keys: &Keys, context: &str, name: &str, next: &mut usize) -> bool {
        let first = hash(&keys.first, context, name);
        let near = self.names[*next..].iter().take(NEAR).position(|name| name.first == first);
        let Some(place) = near.map(|near| *next + near).or_else(|| self.places.get(&first).copied()) else {
            return false;
        };
        *next = place + 1;
        self.names[place].second == hash(&keys.second, context, name)
    }
}

/// The names that are compared before one is looked up: as many as are loaded at once.
const NEAR: usize = 4;

impl From<Vec<Name>> for Doomed {
    fn from(names: Vec<Name>) -> Self {
        let mut places = HashedMap::default();
        for (place, name) in names.iter().enumerate() {
            // Should two names collide in the first hash, the second is hardly seen as a candidate: its action stays.
            places.entry(name.first).or_insert(place);
        }
        Self { names, places }
    }
}

/// The targets of the jobs that remain, each with the lowest id of a job that refers to it.
#[derive(Debug, Default)]
pub(crate) struct JobReferences(HashedMap<i64>);

impl JobReferences {
    pub(crate) fn by(&self, target: Target) -> Option<i64> {
        self.0.get(&target).copied()
    }
}

impl Extend<Reference> for JobReferences {
    fn extend<T: IntoIterator<Item = Reference>>(&mut self, references: T) {
        for (target, job) in references {
            self.0.entry(target).and_modify(|first| *first = job.min(*first)).or_insert(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(keys: &Keys, reference: &str) -> Vec<Target> {
        let mut targets = Vec::new();
        keys.meant(None, reference.as_bytes(), |target| targets.push(target));
        targets
    }

    #[test]
    fn a_reference_means_the_whole_and_what_follows_each_dot() {
        let keys = Keys::new();
        let target = |name: &str| keys.target(Some(b"core"), name.as_bytes());
        assert_eq!(meant(&keys, "a.b.c"), [target("c"), target("b.c"), target("a.b.c")]);
        assert_eq!(meant(&keys, ".a"), [target("a"), target(".a")]);
        assert_eq!(meant(&keys, "a."), [target(""), target("a.")]);
        assert_eq!(meant(&keys, ""), [target("")]);
    }

    #[test]
    fn case_and_trailing_spaces_are_no_difference_but_bytes_are() {
        let keys = Keys::new();
        let target = |name: &[u8]| keys.target(None, name);
        assert_eq!(target(b"Deploy.Web  "), target(b"deploy.web"));
        let [long, folded] = [vec![b'X'; 300], vec![b'x'; 300]];
        assert_eq!(target(&long), target(&folded));
        assert_ne!(target(b" a"), target(b"a"));
        assert_ne!(target(b"\xff"), target(b"\xfe"));
        assert_ne!(target("Ä".as_bytes()), target("ä".as_bytes()), "only ASCII is folded");
        assert_ne!(keys.target(Some(b"lab"), b"a"), keys.target(None, b"a"));
        assert_eq!(keys.target(Some(b"LAB"), b"a"), keys.target(Some(b"lab"), b"a"));
        assert_ne!(keys.name("core", "a"), keys.name("core", "A"), "a candidate is named exactly");
        assert_ne!(keys.name("a", "b"), keys.name("ab", ""));
    }
}
