//! What a store is: whether it fits, what its columns were read as, and what stands in it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::phase::outcome;
use crate::plan::FIRST_MS;
use crate::plan::references::{JobReferences, Keys, Target, each_reference};
use crate::spec;
use crate::store::{
    Access, ActionRow, Facts, Heads, JobRow, JobTags, Layout, Snapshot, Store, StoreError, StoreRef, Times, Weigh,
};
use crate::tag::Guard;

/// A store that fits, as it is at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The version of the SQLite that read it.
    pub sqlite: String,
    /// `wal`, `delete`, …
    pub journal_mode: String,
    /// In bytes.
    pub page_size: u64,
    /// `none`, `full` or `incremental`.
    pub auto_vacuum: String,
    /// The size of the database, in bytes, free pages included.
    pub bytes: u64,
    /// Bytes in pages that hold nothing.
    pub free_bytes: u64,
    /// What each column was read as: what it means → its name in the store.
    pub columns: BTreeMap<String, String>,
    /// The foreign keys of other tables that a deletion of jobs meets.
    pub foreign_keys: Vec<String>,
    /// The protections that the store's layout can't give, each by the column that is missing.
    pub lacks: Vec<String>,
    /// What stands in `jobs`.
    pub jobs: JobCounts,
    /// What stands in `actions`.
    pub actions: ActionCounts,
    /// What stands in `runs`; none where there is no such table, or where no job names its run.
    pub runs: Option<RunCounts>,
}

/// Jobs, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobCounts {
    /// All of them.
    pub total: u64,
    /// Those that carry the root tag.
    pub tagged: u64,
    /// Of these, those that carry it in their spec only: from before hero_proc#50.
    pub tagged_by_spec: u64,
    /// Jobs with a tag of each family: `codescaler` itself, `codescaler_kind_*`, `codescaler_target_*`, and every other
    /// `codescaler_*` (with a guard around that root).
    pub families: BTreeMap<String, u64>,
    /// Jobs in each terminal phase.
    pub finished: BTreeMap<String, u64>,
    /// Jobs in each other phase; `""` where that is no text.
    pub not_finished: BTreeMap<String, u64>,
    /// Jobs without a usable creation time.
    pub undated: u64,
    /// Jobs whose tags can't be read, or whose spec can't where that holds the tags.
    pub malformed: u64,
    /// Finished jobs whose run goes on: they stay.
    pub held_by_runs: u64,
    /// The unfinished jobs that hold them, lowest ids first, at most 20.
    pub holders: Vec<i64>,
}

/// Actions, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ActionCounts {
    /// All of them.
    pub total: u64,
    /// Those that carry the root tag.
    pub tagged: u64,
    /// Those to which no job, service or other action refers.
    pub unreferenced: u64,
}

/// Runs, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunCounts {
    /// All of them.
    pub total: u64,
    /// Those that no job names, or none any more: a cleanup leaves them.
    pub unreferenced: u64,
}

/// Reads the store. Writes nothing and takes no write lock.
///
/// # Errors
///
/// [`StoreError::Unfit`] with every reason why the store does not fit; [`StoreError::Unusable`] if that can't be told.
pub fn inspect<'s>(store: impl Into<StoreRef<'s>>, host: &Host) -> Result<Inspection, StoreError> {
    let mut store = Store::attach(store.into(), Access::Read, host)?;
    let snapshot = store.read()?;
    let keys = Keys::new();
    let mut references = JobReferences::default();
    let jobs = jobs(&snapshot, &host.guard, &keys, &mut references)?;
    let actions = actions(&snapshot, &host.guard, &keys, &references)?;
    let Facts { sqlite, journal_mode, page_size, auto_vacuum, bytes, free_bytes } = snapshot.facts()?;
    Ok(Inspection {
        sqlite,
        journal_mode,
        page_size,
        auto_vacuum: auto_vacuum.to_owned(),
        bytes,
        free_bytes,
        columns: snapshot.layout().columns(),
        foreign_keys: snapshot.layout().foreign_keys.descriptions.clone(),
        lacks: lacks(snapshot.layout()),
        jobs,
        actions,
        runs: snapshot.runs()?.map(|(total, unreferenced)| RunCounts { total, unreferenced }),
    })
}

/// The protections that `layout` can't give, in the order of the rules.
fn lacks(layout: &Layout) -> Vec<String> {
    let Layout { jobs, actions, .. } = layout;
    let when_it_ran = jobs.started_at.or(jobs.finished_at);
    let lacks = [
        (
            jobs.finished_at.is_none(),
            "jobs have no finished_at_ms: a job's age counts from its creation, even if the job ended a moment ago",
        ),
        (jobs.run_id.is_none(), "jobs have no run_id: a run that goes on keeps none of its finished jobs"),
        (
            jobs.attempt.is_none() && when_it_ran.is_some(),
            "jobs have no attempt: a plan notices that a job ran again by the job's times alone",
        ),
        (
            jobs.attempt.is_none() && when_it_ran.is_none(),
            "jobs have no attempt, and no times but the creation: a plan does not notice that a job ran again",
        ),
        (
            !jobs.autoincrement,
            "jobs.id is no AUTOINCREMENT: a plan tells a job from another that took its id by the creation time alone",
        ),
        (
            actions.updated_at.or(actions.created_at).is_none(),
            "actions have no times: the grace keeps no action, and an action that no job refers to stays for ever",
        ),
        (
            actions.updated_at.is_none() && actions.created_at.is_some(),
            "actions have no updated_at_ms: an action that was set again counts as old as when it was first set",
        ),
    ];
    lacks.into_iter().filter(|(lacks, _)| *lacks).map(|(_, what)| what.to_owned()).collect()
}

fn jobs(
    snapshot: &Snapshot<'_>,
    guard: &Guard,
    keys: &Keys,
    references: &mut JobReferences,
) -> Result<JobCounts, StoreError> {
    let mut all = JobCounts::default();
    let count = |(counts, referred_to, running): &mut (JobCounts, Vec<_>, Vec<_>), job: JobRow<'_>| {
        each_reference(&job, job.phase().and_then(outcome), keys, &mut |target| referred_to.push((target, job.id)));
        running.extend(job.run().map(|run| (job.id, run)));
        counts.count(&job, guard);
        Ok(())
    };
    // Of each run that goes on, the first unfinished job.
    let mut runs: HashMap<i64, i64> = HashMap::new();
    let mut unfinished = HashSet::new();
    snapshot.jobs(
        (Times::Read, Heads::NotAsked),
        || Weigh::NotAsked,
        count,
        |(counts, referred_to, running)| {
            all.add(counts);
            references.extend(referred_to);
            for (id, run) in running {
                runs.entry(run).or_insert(id);
                unfinished.insert(id);
            }
            Ok(())
        },
    )?;
    let mut holders = BTreeSet::new();
    snapshot.jobs_of_runs(&runs.keys().copied().collect(), |id, run| {
        if let Some(holder) = runs.get(&run).filter(|_| !unfinished.contains(&id)) {
            all.held_by_runs += 1;
            holders.insert(*holder);
        }
    })?;
    all.holders = holders.into_iter().take(MOST_HOLDERS).collect();
    Ok(all)
}

/// The most jobs that are named because they hold others.
const MOST_HOLDERS: usize = 20;

impl JobCounts {
    fn count(&mut self, job: &JobRow<'_>, guard: &Guard) {
        self.total += 1;
        let phase = job.phase().unwrap_or_default();
        let phases = if outcome(phase).is_some() { &mut self.finished } else { &mut self.not_finished };
        *phases.entry(phase.to_owned()).or_default() += 1;
        if job.created_at().is_none_or(|at| at < FIRST_MS) {
            self.undated += 1;
        }
        let mut families = Vec::new();
        let mut tag = |tag: &str| families.extend(family(guard, tag));
        let readable = match job.tags() {
            JobTags::Column(tags) => spec::each_tag(tags, &mut tag),
            JobTags::Spec(spec) => spec::each_tag_of_spec(spec, &mut tag),
            JobTags::Unreadable => false,
        };
        if !readable {
            self.malformed += 1;
            return;
        }
        families.sort_unstable();
        families.dedup();
        if families.first().is_some_and(|family| family == guard.root().as_str()) {
            self.tagged += 1;
            self.tagged_by_spec += u64::from(matches!(job.tags(), JobTags::Spec(_)));
        }
        for family in families {
            *self.families.entry(family).or_default() += 1;
        }
    }

    fn add(&mut self, other: Self) {
        let Self { total, tagged, tagged_by_spec, families, finished, not_finished, undated, malformed, .. } = other;
        self.total += total;
        self.tagged += tagged;
        self.tagged_by_spec += tagged_by_spec;
        self.undated += undated;
        self.malformed += malformed;
        for (all, counts) in
            [(&mut self.families, families), (&mut self.finished, finished), (&mut self.not_finished, not_finished)]
        {
            for (name, count) in counts {
                *all.entry(name).or_default() += count;
            }
        }
    }
}

/// The family of a tag inside the guard.
fn family(guard: &Guard, tag: &str) -> Option<String> {
    guard.admit(tag).ok()?;
    let root = guard.root().as_str();
    let field = tag.strip_prefix(root)?;
    Some(if field.is_empty() {
        root.to_owned()
    } else if field.starts_with("_kind_") {
        format!("{root}_kind_*")
    } else if field.starts_with("_target_") {
        format!("{root}_target_*")
    } else {
        format!("{root}_*")
    })
}

/// The actions of one batch.
#[derive(Default)]
struct Batch {
    total: u64,
    tagged: u64,
    /// The actions, each by its own target.
    actions: Vec<Target>,
    /// The targets that they depend on.
    on: Vec<Target>,
}

fn actions(
    snapshot: &Snapshot<'_>,
    guard: &Guard,
    keys: &Keys,
    references: &JobReferences,
) -> Result<ActionCounts, StoreError> {
    let root = guard.root().as_str();
    let count = |batch: &mut Batch, action: ActionRow<'_>| {
        let own = keys.target(action.context(), action.name());
        let mut tagged = false;
        let spec = spec::read(action.spec(), &mut |tag| tagged |= tag == root, &mut |name| {
            keys.meant(action.context(), name, |target| batch.on.extend((target != own).then_some(target)));
        });
        batch.total += 1;
        batch.tagged += u64::from(tagged && spec.readable);
        batch.actions.push(own);
        Ok(())
    };
    let mut counts = ActionCounts::default();
    let (mut actions, mut referred_to) = (Vec::new(), HashSet::new());
    snapshot.actions(count, |batch| {
        counts.total += batch.total;
        counts.tagged += batch.tagged;
        actions.extend(batch.actions);
        referred_to.extend(batch.on);
        Ok(())
    })?;
    snapshot.services(|service| {
        let mut list = |name: &[u8]| keys.meant(service.context, name, |target| referred_to.extend([target]));
        spec::read(service.spec, &mut |_| {}, &mut list);
        spec::names(service.actions, &mut list);
        Ok(())
    })?;
    let unreferenced = |target: &&Target| references.by(**target).is_none() && !referred_to.contains(*target);
    counts.unreferenced = actions.iter().filter(unreferenced).count() as u64;
    Ok(counts)
}
