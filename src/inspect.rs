//! What a store is: whether it fits, what its columns were read as, and what stands in it.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::plan::references::{Keys, Referrers};
use crate::plan::{FIRST_MS, is_finished};
use crate::spec::{self, Holds};
use crate::store::layout::Layout;
use crate::store::rows::{self, JobRow, JobTags};
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
    let snapshot = store.read()?;
    let layout = snapshot.layout()?;
    let keys = Keys::new();
    let mut referrers = Referrers::default();
    let jobs = jobs(&snapshot, &layout, &host.guard, &keys, &mut referrers)?;
    let actions = actions(&snapshot, &layout, &host.guard, &keys, referrers)?;
    let pages = pragma(&snapshot, "page_count")?;
    let page_size = pragma(&snapshot, "page_size")?;
    Ok(Inspection {
        sqlite: rusqlite::version().to_owned(),
        journal_mode: snapshot.pragma_query_value(None, "journal_mode", |row| row.get(0))?,
        page_size,
        auto_vacuum: match pragma(&snapshot, "auto_vacuum")? {
            0 => "none",
            1 => "full",
            _ => "incremental",
        }
        .to_owned(),
        bytes: pages * page_size,
        free_bytes: snapshot.free_bytes()?,
        columns: layout.columns(),
        foreign_keys: layout.foreign_keys.descriptions,
        jobs,
        actions,
    })
}

fn pragma(snapshot: &Snapshot<'_>, name: &str) -> Result<u64, StoreError> {
    let value: i64 = snapshot.pragma_query_value(None, name, |row| row.get(0))?;
    Ok(value.unsigned_abs())
}

fn jobs(
    connection: &Connection,
    layout: &Layout,
    guard: &Guard,
    keys: &Keys,
    referrers: &mut Referrers,
) -> Result<JobCounts, StoreError> {
    let mut counts = JobCounts::default();
    rows::jobs(connection, layout, |job| {
        referrers.remaining_job(keys, &job);
        counts.total += 1;
        let phase = job.phase().unwrap_or_default();
        let phases = if is_finished(phase) { &mut counts.finished } else { &mut counts.not_finished };
        *phases.entry(phase.to_owned()).or_default() += 1;
        if job.created_at().is_none_or(|at| at < FIRST_MS) {
            counts.undated += 1;
        }
        let (tags, by_spec) = tags(connection, layout, &job)?;
        let Some(tags) = tags else {
            counts.malformed += 1;
            return Ok(());
        };
        let mut families: Vec<String> = tags.iter().filter_map(|tag| family(guard, tag)).collect();
        families.sort_unstable();
        families.dedup();
        if families.first().is_some_and(|family| family == guard.root().as_str()) {
            counts.tagged += 1;
            counts.tagged_by_spec += u64::from(by_spec);
        }
        for family in families {
            *counts.families.entry(family).or_default() += 1;
        }
        Ok::<_, StoreError>(())
    })?;
    Ok(counts)
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
    connection: &Connection,
    layout: &Layout,
    guard: &Guard,
    keys: &Keys,
    mut referrers: Referrers,
) -> Result<ActionCounts, StoreError> {
    let mut counts = ActionCounts::default();
    let root = std::slice::from_ref(guard.root());
    let mut all = Vec::new();
    rows::actions(connection, layout, |action| {
        counts.total += 1;
        counts.tagged += u64::from(spec::spec(action.spec, root).tagged);
        if let (Some(context), Some(name)) = (action.context, action.name) {
            referrers.candidate(keys, context, name);
            all.push(keys.hash(context, name));
        }
        Ok::<_, StoreError>(())
    })?;
    referrers.all_jobs_read();
    referrers.services(connection, layout, keys)?;
    rows::actions(connection, layout, |action| {
        if let (Some(context), Some(name)) = (action.context, action.name) {
            let spec = spec::spec(action.spec, root);
            let depends_on = referrers.depends_on(keys, context, keys.hash(context, name), &spec);
            referrers.remaining_action(name, &depends_on);
        }
        Ok::<_, StoreError>(())
    })?;
    counts.unreferenced = all.into_iter().filter(|hash| referrers.of(*hash).is_none()).count() as u64;
    Ok(counts)
}
