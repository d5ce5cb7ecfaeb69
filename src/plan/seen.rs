//! The jobs that a plan saw and left alone, so that deciding again need not read them whole.
//!
//! Under the write lock, other writers wait for whatever is read. Nearly all of a large row lies on overflow pages, and nearly
//! all rows are those that the plan has just seen. So a finished job that the plan left alone is remembered: what the
//! decision made of it, and a hash of its [head](crate::store::Snapshot::heads).
//!
//! ```text
//! each head ─┬─ as it was, of a job that was left alone ─▶ what the plan made of the row ─┐
//!            └─ any other: planned, unfinished, new, changed ─▶ the row, read whole ──────┴─▶ the same decision
//! ```
//!
//! # What is exact
//!
//! The decision itself is the same, and whatever could keep a planned job or an action is read anew: what each job refers to
//! by its columns, each unfinished job with its run and what its spec depends on, runs, foreign keys, actions and services.
//! So is each planned job, and each of those jobs because of which `keep_last` lets a planned one go.
//!
//! A job that was left alone, has finished and still is in the same phase can only have changed unseen if its tags, its
//! spec, a time or, where no index leads from a run to its jobs, its run was replaced by another of the same type and
//! length. Such a change keeps nothing that is planned: the job is reported as if the change had come after the commit.
//! If a job would go now that has not been read whole, the decision falls back on reading everything: see
//! [`decide_again`](super::decide_again).
//!
//! # Memory
//!
//! A job takes 16 bytes, and about 180 more if it carries every tag. Nothing is remembered of a store whose jobs fill less than
//! a page each: there, reading a row whole takes hardly longer than reading its head.

use super::groups::Group;
use super::job::Matching;
use super::references::Keys;
use crate::store::Layout;

/// The fewest bytes of a store for each of its jobs, if any are remembered.
pub(super) const BYTES_EACH: u64 = 4096;

/// The jobs that a plan saw and left alone, and what it saw them with.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(super) keys: Keys,
    pub(super) layout: Layout,
    pub(super) jobs: SeenJobs,
}

/// The jobs that a plan saw and left alone.
#[derive(Debug, Default)]
pub(super) struct SeenJobs {
    /// Those that have finished, each with the hash of its head, ids ascending.
    heads: Vec<(i64, u64)>,
    /// Those of them that carry every tag, ids ascending.
    matching: Vec<Matching>,
    /// Whether `matching` tells the runs of those jobs which a run may keep.
    pub(super) runs_are_known: bool,
    /// The last of each group, with their groups, if such jobs are kept.
    pub(super) last: Vec<(i64, Group)>,
}

impl SeenJobs {
    /// Adds finished jobs, each with the hash of its head, and those of `matching` that have finished.
    pub(super) fn add(&mut self, heads: Vec<(i64, u64)>, matching: &[Matching]) {
        self.heads.extend(heads);
        self.matching.extend(matching.iter().filter(|job| job.outcome.is_some()));
    }

    /// Adds the run that each job belongs to.
    pub(super) fn add_runs(&mut self, run: impl Fn(i64) -> Option<i64>) {
        self.runs_are_known = true;
        for job in &mut self.matching {
            job.run = run(job.id);
        }
    }

    /// Forgets the jobs `ids`, which ascend: they are read whole.
    pub(super) fn forget(&mut self, ids: &[i64]) {
        self.heads.retain(|(id, _)| ids.binary_search(id).is_err());
    }

    /// What the plan made of the finished job `id`, if that has this head still; none if the job carries not every tag.
    pub(super) fn recall(&self, id: i64, head: u64) -> Option<Option<&Matching>> {
        let place = self.heads.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let matching = || self.matching.binary_search_by_key(&id, |job| job.id).ok().map(|place| &self.matching[place]);
        (self.heads[place].1 == head).then(matching)
    }
}
