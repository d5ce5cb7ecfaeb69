//! What a store is: whether it fits, what its columns were read as, and what stands in it.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::plan::references::{Candidates, Keys, Referrers};
use crate::plan::{FIRST_MS, is_finished};
use crate::spec::{self, Holds};
use crate::store::layout::Layout;
use crate::store::rows::{self, ActionRow, JobRow, JobTags};
use crate::store::{Access, Snapshot, Store, StoreError, StoreRef};
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
    /// What stands in `jobs`.
    pub jobs: JobCounts,
    /// What stands in `actions`.
    pub actions: ActionCounts,
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

/// Reads the store. Writes nothing and takes no write lock.
///
/// # Errors
///
/// [`StoreError::Unfit`] with every reason why the store does not fit.
pub fn inspect<'s>(store: impl Into<StoreRef<'s>>, host: &crate::Host) -> Result<Inspection, StoreError> {
    let mut store = Store::attach(store.into(), Access::Read, host.lock_timeout)?;
    let snapshot = store.read_by_two()?;
    let layout = snapshot.layout()?;
    let keys = Keys::new();
    let mut referrers = Referrers::default();
    let jobs = jobs(&snapshot, &layout, &host.guard, &keys, &mut referrers)?;
    let actions = actions(&snapshot, &layout, &host.guard, &keys, referrers)?;
    Ok(Inspection {
        sqlite: rusqlite::version().to_owned(),
        journal_mode: snapshot.pragma_query_value(None, "journal_mode", |row| row.get(0))?,
        page_size: snapshot.number("page_size")?,
        auto_vacuum: match snapshot.number("auto_vacuum")? {
            0 => "none",
            1 => "full",
            _ => "incremental",
        }
        .to_owned(),
        bytes: snapshot.bytes()?,
        free_bytes: snapshot.free_bytes()?,
        columns: layout.columns(),
        foreign_keys: layout.foreign_keys.descriptions,
        jobs,
        actions,
    })
}

fn jobs(
    snapshot: &Snapshot<'_>,
    layout: &Layout,
    guard: &Guard,
    keys: &Keys,
    referrers: &mut Referrers,
) -> Result<JobCounts, StoreError> {
    let mut all = JobCounts::default();
    let count = |(counts, referred_to): &mut (JobCounts, Vec<_>), connection: &Connection, job: JobRow<'_>| {
        keys.referred_to(&job, |hash| referred_to.push((hash, job.id)));
        counts.count(&job, tags(connection, layout, &job)?, guard);
        Ok::<_, StoreError>(())
    };
    rows::jobs(snapshot, layout, count, |(counts, referred_to)| {
        all.add(counts);
        referrers.remaining_jobs(referred_to);
        Ok(())
    })?;
    Ok(all)
}

impl JobCounts {
    /// Counts `job`, with its tags and whether they stand in its spec.
    fn count(&mut self, job: &JobRow<'_>, (tags, by_spec): (Option<Vec<String>>, bool), guard: &Guard) {
        self.total += 1;
        let phase = job.phase().unwrap_or_default();
        let phases = if is_finished(phase) { &mut self.finished } else { &mut self.not_finished };
        *phases.entry(phase.to_owned()).or_default() += 1;
        if job.created_at().is_none_or(|at| at < FIRST_MS) {
            self.undated += 1;
        }
        let Some(tags) = tags else {
            self.malformed += 1;
            return;
        };
        let mut families: Vec<String> = tags.iter().filter_map(|tag| family(guard, tag)).collect();
        families.sort_unstable();
        families.dedup();
        if families.first().is_some_and(|family| family == guard.root().as_str()) {
            self.tagged += 1;
            self.tagged_by_spec += u64::from(by_spec);
        }
        for family in families {
            *self.families.entry(family).or_default() += 1;
        }
    }

    fn add(&mut self, other: Self) {
        let Self { total, tagged, tagged_by_spec, families, finished, not_finished, undated, malformed } = other;
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

/// The tags of `job`, if they can be read, and whether they stand in its spec.
fn tags(connection: &Connection, layout: &Layout, job: &JobRow<'_>) -> Result<(Option<Vec<String>>, bool), StoreError> {
    Ok(match job.tags {
        JobTags::Column(tags) if spec::tags_hold(tags, &[]) == Holds::Null => {
            (rows::job_spec(connection, layout, job.id)?.and_then(|spec| spec::spec_tags(&spec)), true)
        }
        JobTags::Column(tags) => (spec::tags(tags), false),
        JobTags::Spec(spec) => (spec::spec_tags(spec), true),
        JobTags::Unreadable => (None, false),
    })
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

fn actions(
    snapshot: &Snapshot<'_>,
    layout: &Layout,
    guard: &Guard,
    keys: &Keys,
    mut referrers: Referrers,
) -> Result<ActionCounts, StoreError> {
    let mut counts = ActionCounts::default();
    let root = std::slice::from_ref(guard.root());
    let count = |(counts, names): &mut (ActionCounts, Vec<_>), action: ActionRow<'_>| {
        counts.total += 1;
        counts.tagged += u64::from(spec::spec(action.spec, root).tagged);
        names.extend(action.context.zip(action.name).map(|(context, name)| keys.name(context, name)));
        Ok::<_, StoreError>(())
    };
    let mut candidates = Candidates::default();
    let mut hashes = Vec::new();
    rows::actions(snapshot, layout, count, |(batch, names)| {
        counts.total += batch.total;
        counts.tagged += batch.tagged;
        hashes.extend(names.iter().map(|name| name.first));
        candidates.extend(names);
        Ok(())
    })?;
    referrers.all_jobs_read(&candidates);
    referrers.services(snapshot, layout, keys, &candidates)?;
    let depend = |dependents: &mut Vec<_>, action: ActionRow<'_>| {
        if let (Some(context), Some(name)) = (action.context, action.name) {
            let spec = spec::spec(action.spec, root);
            let on = candidates.depended_on(keys, context, keys.hash(context, name), &spec);
            if !on.is_empty() {
                dependents.push((name.to_owned(), on));
            }
        }
        Ok::<_, StoreError>(())
    };
    rows::actions(snapshot, layout, depend, |dependents| {
        for (name, on) in dependents {
            referrers.remaining_action(&name, &on);
        }
        Ok(())
    })?;
    counts.unreferenced = hashes.into_iter().filter(|hash| referrers.of(*hash).is_none()).count() as u64;
    Ok(counts)
}
