//! Which of the actions that carry every tag have leaked: nothing refers to them any more.
//!
//! An action has leaked if all of these hold:
//!
//! 1. Its own spec carries every tag asked for and the root tag, and has no schedule.
//! 2. It was set at a usable time, and no later than [`GRACE_MS`] ago: who creates a job sets its action first.
//! 3. No job refers to it. What a job refers to that would go with the call is no leak: it goes with its job.
//! 4. No service of its context lists it.
//! 5. No action depends on it but those that have leaked themselves.

use super::Reading;
use crate::plan::references::{HashedMap, Keys};
use crate::plan::{FIRST_MS, context_of};
use crate::spec::{self, Spec};
use crate::store::{ActionRow, Snapshot, StoreError};

/// How long an action stays though nothing refers to it, in milliseconds.
const GRACE_MS: i64 = 60_000;

/// Actions that may have leaked, by the hashes of their names.
#[derive(Debug, Default)]
pub(super) struct Leaks {
    /// How many actions have this name: one, unless the host's table lets it stand twice.
    candidates: HashedMap<u64>,
    /// What candidates depend on.
    depends_on: HashedMap<Vec<u64>>,
    /// What is referred to by what has not leaked.
    held: Vec<u64>,
}

impl Leaks {
    /// Reads an action, whose `spec` was asked about every tag.
    pub(super) fn action(
        &mut self,
        action: &ActionRow<'_>,
        spec: &Spec<'_>,
        set_at: Option<i64>,
        reading: &Reading<'_>,
    ) {
        let context = context_of(action.context);
        let depends_on = spec.names.iter().flat_map(|name| reading.keys.meant(context, name));
        let old = set_at.is_some_and(|at| at >= FIRST_MS && at <= reading.now.saturating_sub(GRACE_MS));
        match (action.context, action.name) {
            (Some(_), Some(name)) if spec.tagged && !spec.scheduled && old => {
                let hash = reading.keys.hash(context, name);
                *self.candidates.entry(hash).or_default() += 1;
                let depends_on: Vec<u64> = depends_on.filter(|on| *on != hash).collect();
                if !depends_on.is_empty() {
                    self.depends_on.entry(hash).or_default().extend(depends_on);
                }
            }
            _ => self.held.extend(depends_on),
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        let Self { candidates, depends_on, held } = other;
        for (hash, count) in candidates {
            *self.candidates.entry(hash).or_default() += count;
        }
        for (hash, on) in depends_on {
            self.depends_on.entry(hash).or_default().extend(on);
        }
        self.held.extend(held);
    }

    /// Whether the action with this hash may have leaked, by what its own row says.
    pub(super) fn may_be(&self, hash: u64) -> bool {
        self.candidates.contains_key(&hash)
    }

    /// Takes down what jobs refer to.
    pub(super) fn referred_to(&mut self, hashes: Vec<u64>) {
        self.held.extend(hashes);
    }

    /// Takes down what every service lists.
    pub(super) fn services(&mut self, snapshot: &Snapshot<'_>, keys: &Keys) -> Result<(), StoreError> {
        snapshot.services(|service| {
            let context = context_of(service.context);
            let listed = spec::spec(service.spec, None).names.into_iter().chain(spec::names(service.actions));
            listed.for_each(|name| {
                self.held.extend(keys.meant(context, &name).filter(|hash| self.candidates.contains_key(hash)))
            });
            Ok(())
        })
    }

    /// How many actions have leaked.
    pub(super) fn count(self) -> u64 {
        let Self { mut candidates, depends_on, mut held } = self;
        // What has not leaked holds what it depends on.
        while let Some(hash) = held.pop() {
            if candidates.remove(&hash).is_some() {
                held.extend(depends_on.get(&hash).into_iter().flatten());
            }
        }
        candidates.values().sum()
    }
}
