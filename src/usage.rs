//! What a store holds under some tags, and what it weighs.
//!
//! # What is counted
//!
//! The jobs that carry every tag asked for and the root tag, as a cleanup matches them, and the actions whose own spec carries
//! them. A row weighs as many bytes as its text and blobs have ([`Weights`](crate::store::Weights)): pages, indexes and the
//! numbers in a row are not counted, so the sum is below the file's size.
//!
//! # How it reads
//!
//! One snapshot is read in passes: first the actions, then the jobs. If there is an action that no job names, what a
//! cleanup would decide about the snapshot ([`plan`](crate::plan)) tells whether that action has leaked. Two connections
//! read side by side where they can. No lock is taken, nothing is written, and a cancel ends the reading between two rows.
//!
//! # Memory
//!
//! The jobs are added up while they are read ([`tally`]). Each distinct value of a tag and each distinct phase takes about 70
//! bytes, however long its name is: names are looked up at the end, for the values that are listed.

mod tally;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::cleanup::criteria;
use crate::host::Host;
use crate::plan::references::HashedMap;
use crate::plan::{self, Unfinished};
use crate::report::StoreSize;
use crate::request::Request;
use crate::spec;
use crate::store::{Access, JobRow, JobTags, Snapshot, Store, StoreError, StoreRef};
use crate::tag::{Tag, Tags};

use tally::{Groups, Listed, Prefixes, Sum, Tally};

/// What a store holds under some tags, and what it weighs.
///
/// Bytes are those of the text and blobs in the rows. Lists are sorted by bytes, the largest first, except `by_age` and
/// `by_day`. Where two entries weigh the same, the one with more jobs comes first, and then the one whose first job has the
/// lower id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// The space that the store takes up.
    pub store: StoreSize,
    /// Jobs that carry every tag.
    pub jobs: u64,
    /// Jobs among them that have finished.
    pub finished: u64,
    /// Bytes of these jobs.
    pub bytes: u64,
    /// Actions whose spec carries every tag.
    pub actions: u64,
    /// Actions among them that a cleanup of the same tags, without a cut-off, would delete as leaked.
    pub actions_leaked: u64,
    /// Bytes of these actions.
    pub actions_bytes: u64,
    /// The creation of the oldest job, in milliseconds since the Unix epoch; none where no job has a usable time.
    pub oldest_ms: Option<i64>,
    /// The creation of the newest job.
    pub newest_ms: Option<i64>,
    /// The jobs by their tags: for each prefix that was asked for, what they have behind it.
    pub by: BTreeMap<String, Vec<TagUsage>>,
    /// The jobs by phase.
    pub by_phase: Vec<PhaseUsage>,
    /// The jobs that are at least 1 hour, 1, 7, 30 and 90 days old. A job counts in each step that it has reached.
    pub by_age: Vec<AgeUsage>,
    /// The jobs by the day of their creation, the newest day first: at most 400 days.
    pub by_day: Vec<DayUsage>,
    /// The columns of these jobs that hold any bytes.
    pub by_column: Vec<ColumnUsage>,
    /// The largest of these jobs.
    pub largest: Vec<JobUsage>,
}

/// The jobs that have one value behind a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TagUsage {
    /// The tag without the prefix; none for the jobs without such a tag.
    pub value: Option<String>,
    /// Jobs. A job that has two values counts in both.
    pub jobs: u64,
    /// Jobs among them that have finished.
    pub finished: u64,
    /// Bytes of these jobs.
    pub bytes: u64,
    /// The creation of the oldest of them, in milliseconds since the Unix epoch.
    pub oldest_ms: Option<i64>,
}

/// The jobs in one phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PhaseUsage {
    /// The phase as the store has it; none where the column holds no text.
    pub value: Option<String>,
    /// Jobs.
    pub jobs: u64,
    /// Bytes of these jobs.
    pub bytes: u64,
}

/// The jobs that have reached one age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgeUsage {
    /// The age in milliseconds.
    pub older_than_ms: i64,
    /// Jobs that were created at least that long ago.
    pub jobs: u64,
    /// Bytes of these jobs.
    pub bytes: u64,
}

/// The jobs that were created on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DayUsage {
    /// The beginning of the day in UTC, in milliseconds since the Unix epoch.
    pub day_ms: i64,
    /// Jobs.
    pub jobs: u64,
    /// Bytes of these jobs.
    pub bytes: u64,
}

/// One column of the jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ColumnUsage {
    /// The name of the column.
    pub value: String,
    /// Bytes of text and blobs in this column.
    pub bytes: u64,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobUsage {
    /// The row id of the job.
    pub job_id: i64,
    /// Bytes of the job.
    pub bytes: u64,
    /// The phase of the job; none where the column holds no text.
    pub phase: Option<String>,
    /// The action that the job refers to; `context/name` outside the context `core`.
    pub action_id: Option<String>,
}

/// A question about usage.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// The tags that a job must carry.
    pub(crate) tags: Tags,
    /// The prefixes behind which values are counted, each once.
    pub(crate) by: Vec<Tag>,
    /// The most entries in each list that is sorted by bytes.
    pub(crate) top: usize,
}

/// Answers `query`. Writes nothing and takes no write lock.
pub(crate) fn usage(store: StoreRef<'_>, host: &Host, query: &Query, now: DateTime<Utc>) -> Result<Usage, StoreError> {
    let mut store = Store::attach(store, Access::Read, host)?;
    let size = store.size()?;
    let snapshot = store.read()?;
    let reading = Reading::new(query, now.timestamp_millis());
    let (actions, named) = actions(&snapshot, &reading)?;
    let tally = jobs(&snapshot, &reading, &named)?;
    // An action that a job names either stays with that job or goes with it: it has not leaked.
    let may_have_leaked = named.into_values().any(|named| !named.into_inner());
    let actions_leaked = if may_have_leaked { leaked(&snapshot, host, query, now)? } else { 0 };
    let mut by: Vec<Listed> = tally.by.iter().map(|groups| groups.largest(query.top)).collect();
    let mut phases = tally.phases.largest(query.top);
    name(&snapshot, &reading, &mut by, &mut phases)?;
    let prefixes = reading.prefixes.iter().map(|prefix| prefix.as_str().to_owned());
    Ok(Usage {
        store: size,
        jobs: tally.all.rows,
        finished: tally.finished,
        bytes: tally.all.bytes,
        actions: actions.rows,
        actions_leaked,
        actions_bytes: actions.bytes,
        oldest_ms: tally.oldest,
        newest_ms: tally.newest,
        by: prefixes.zip(by.into_iter().map(Listed::tags)).collect(),
        by_phase: phases.phases(),
        by_age: tally.by_age(),
        by_day: tally.by_day(),
        by_column: by_column(snapshot.weighed_columns(), &tally.columns, query.top),
        largest: largest(&snapshot, &tally)?,
    })
}

/// What every row is read with.
struct Reading<'q> {
    query: &'q Query,
    prefixes: Prefixes<'q>,
    /// The key of the hashes by which values are counted, new for each call, so that nobody can choose values that collide.
    key: RandomState,
    /// In milliseconds since the Unix epoch.
    now: i64,
}

impl<'q> Reading<'q> {
    fn new(query: &'q Query, now: i64) -> Self {
        Self { query, prefixes: Prefixes::new(&query.by), key: RandomState::new(), now }
    }

    /// Whether `job` carries every tag asked for.
    fn matches(&self, job: &JobRow<'_>) -> bool {
        match job.tags() {
            JobTags::Column(tags) => spec::tags_hold(tags, &self.query.tags),
            JobTags::Spec(spec) => spec::spec_tags_hold(spec, &self.query.tags),
            JobTags::Unreadable => false,
        }
    }

    /// Calls `value` with each value that `job`, which matches, has behind a prefix: the place of the prefix, the hash
    /// that stands for the value while it is counted, and the value itself.
    fn each_value(&self, job: &JobRow<'_>, value: &mut dyn FnMut(usize, u64, &str)) {
        let mut tag = |tag: &str| {
            if let Some((prefix, rest)) = self.prefixes.split(tag) {
                value(prefix, self.key.hash_one((prefix, rest)), rest);
            }
        };
        match job.tags() {
            JobTags::Column(tags) => spec::each_tag(tags, &mut tag),
            JobTags::Spec(spec) => spec::each_tag_of_spec(spec, &mut tag),
            JobTags::Unreadable => false,
        };
    }

    /// The hash of an action's context and name.
    fn action(&self, name: (&str, &str)) -> u64 {
        self.key.hash_one(name)
    }

    /// The hash by which a phase is counted.
    fn phase(&self, phase: &str) -> u64 {
        self.key.hash_one(phase)
    }
}

/// The hash of each action that carries every tag, and whether a job names the action.
type Named = HashedMap<AtomicBool>;

/// Adds up the actions that carry every tag.
fn actions(snapshot: &Snapshot<'_>, reading: &Reading<'_>) -> Result<(Sum, Named), StoreError> {
    let (mut sum, mut named) = (Sum::default(), Named::default());
    snapshot.actions(
        |(sum, named): &mut (Sum, Vec<u64>), action| {
            let mut missing = reading.query.tags.all_missing();
            let spec = spec::read(action.spec(), &mut |tag| missing.found(tag), &mut |_| {});
            if spec.readable && missing.none() {
                sum.add(action.bytes());
                named.extend(action.text_name().map(|name| reading.action(name)));
            }
            Ok(())
        },
        |(batch, actions)| {
            sum.merge(batch);
            named.extend(actions.into_iter().map(|action| (action, AtomicBool::new(false))));
            Ok(())
        },
    )?;
    Ok((sum, named))
}

/// The number of actions that a cleanup of everything asked about, without a cut-off and without a limit, would delete as
/// leaked: what it would decide about this snapshot.
fn leaked(snapshot: &Snapshot<'_>, host: &Host, query: &Query, now: DateTime<Utc>) -> Result<u64, StoreError> {
    let mut request = Request::new(query.tags.clone());
    // Small enough for the factors that the plan multiplies it with.
    request.limit = NonZeroUsize::new(usize::MAX / 32);
    request.max_ids = 0;
    let plan = plan::decide(snapshot, &criteria(host, &request, Unfinished::Stay, now))?;
    Ok(plan.actions_leaked)
}

/// Adds up the jobs that carry every tag, and marks the actions that any job names.
fn jobs(snapshot: &Snapshot<'_>, reading: &Reading<'_>, named: &Named) -> Result<Tally, StoreError> {
    let mut tally = Tally::default();
    // Each prefix has its list, though no job may have anything behind it.
    tally.by.resize_with(reading.prefixes.len(), Groups::default);
    snapshot.weighed_jobs(
        |batch: &mut Tally, job, weights| {
            if let Some(named) = job.own_action().and_then(|name| named.get(&reading.action(name))) {
                named.store(true, Relaxed);
            }
            if reading.matches(&job) {
                batch.add(reading, &job, &weights);
            }
            Ok(())
        },
        |batch| {
            tally.merge(batch, reading.query.top);
            Ok(())
        },
    )?;
    Ok(tally)
}

/// Reads the name of each entry of the lists, from the first job that has it.
fn name(
    snapshot: &Snapshot<'_>,
    reading: &Reading<'_>,
    by: &mut [Listed],
    phases: &mut Listed,
) -> Result<(), StoreError> {
    let jobs: BTreeSet<i64> = by.iter().chain([&*phases]).flat_map(Listed::first_jobs).collect();
    snapshot.jobs_by_id(jobs, |job| {
        reading.each_value(&job, &mut |prefix, value, name| by[prefix].name(value, name));
        if let Some(phase) = job.phase() {
            phases.name(reading.phase(phase), phase);
        }
    })
}

/// The columns with the most bytes.
fn by_column<'c>(columns: impl Iterator<Item = &'c str>, bytes: &[u64], top: usize) -> Vec<ColumnUsage> {
    let columns = columns.zip(bytes).map(|(column, &bytes)| ColumnUsage { value: column.to_owned(), bytes });
    let mut columns: Vec<ColumnUsage> = columns.filter(|column| column.bytes > 0).collect();
    // Columns of equal weight stay in the order of the table.
    columns.sort_by_key(|column| Reverse(column.bytes));
    columns.truncate(top);
    columns
}

/// The largest jobs, as their rows have them.
fn largest(snapshot: &Snapshot<'_>, tally: &Tally) -> Result<Vec<JobUsage>, StoreError> {
    let bytes: HashMap<i64, u64> = tally.largest().map(|(bytes, id)| (id, bytes)).collect();
    let mut largest = Vec::new();
    snapshot.jobs_by_id(tally.largest().map(|(_, id)| id), |job| {
        largest.push(JobUsage {
            job_id: job.id,
            bytes: bytes.get(&job.id).copied().unwrap_or_default(),
            phase: job.phase().map(ToOwned::to_owned),
            action_id: job.display_action(),
        });
    })?;
    Ok(largest)
}
