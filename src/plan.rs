//! The decision: which jobs and which actions go, why the others stay, and the token that binds a later call to it.
//!
//! The same code decides for a dry run, before the write lock, and under it. It reads the whole of one snapshot and
//! writes nothing. What one row says by itself may be gathered on two threads; it is decided on one, in the order of the ids.
//!
//! # A job goes only if all of these hold
//!
//! 1. Its tags hold every tag asked for and the root tag: those in its column `tags`, or, where that is NULL or a JSON
//!    null, those in its spec (hero_proc#50). Malformed tags hold nothing.
//! 2. With an age: its creation time is usable (an integer of at least [`FIRST_MS`]), and not after the cut-off.
//! 3. Its phase is one of the terminal phases ([`is_finished`]). With `force`, instead: the host has stopped it in this
//!    call, and its row has not been started again since.
//! 4. No row of another table holds on to it by a foreign key.
//! 5. Fewer than `limit` jobs with lower ids go.
//!
//! The first condition that fails is the reason under which it is counted.
//!
//! # An action goes only if all of these hold
//!
//! 1. A job that goes in this call refers to it: in the same context, by its `action_id`, else by its `action`.
//! 2. No job that remains refers to it, by either, whatever its age, phase and tags.
//! 3. No service of its context lists it.
//! 4. No action of its context that remains depends on it. This is taken to a fixed point: an action that stays for one
//!    reason keeps what it depends on, and two that depend only on each other both go.
//! 5. It has no schedule.
//! 6. Its own spec carries the root tag.
//!
//! The first of 2 to 6 that fails is its [`Reason`]; it names the referrer that comes first (the job with the lowest id,
//! the service with the first name, the action with the lowest id). A reference is read generously: as the whole name
//! and as what follows each dot in it, since a job's `action` may be `{service}.{action}`; and a spec that lists something
//! but can't be read may refer to every word in it.
//!
//! # Why no interleaving breaks this
//!
//! What is deleted is what the last decision names, and that decision holds at the moment of the commit: it was made
//! under the write lock, or on a snapshot after which no other connection has committed, which SQLite's `data_version`
//! tells once the lock is held. Between lock and commit nobody else writes. So a job or a reference that was created,
//! changed or removed at any time is either seen by that decision or comes after the commit.

pub(crate) mod references;
mod token;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::control::{Job, JobControl};
use crate::report::{JobsKept, KeptAction, Reason, Referrer};
use crate::spec::{self, Holds};
use crate::store::layout::Layout;
use crate::store::rows::{self, ActionRow, JobRow, JobTags};
use crate::store::{Snapshot, StoreError};
use crate::tag::Tag;
use rusqlite::Connection;

use references::{Candidates, Keys, Name, Referrers};
use token::Digest;
pub use token::{PlanToken, PlanTokenError};

/// The lowest creation time that can be one in milliseconds: anything below would be before 1973.
pub(crate) const FIRST_MS: i64 = 100_000_000_000;

/// The terminal phases that are known or plausible, compared without case. Anything else is not finished.
const TERMINAL: [&str; 15] = [
    "succeeded",
    "success",
    "completed",
    "done",
    "ok",
    "failed",
    "error",
    "cancelled",
    "canceled",
    "stopped",
    "halted",
    "killed",
    "timeout",
    "timed_out",
    "skipped",
];

/// Whether a job in `phase` has finished.
pub(crate) fn is_finished(phase: &str) -> bool {
    TERMINAL.iter().any(|terminal| phase.eq_ignore_ascii_case(terminal))
}

/// What is asked for.
pub(crate) struct Criteria<'c> {
    /// Sorted, without duplicates, the root tag among them.
    pub(crate) tags: &'c [Tag],
    pub(crate) root: &'c Tag,
    pub(crate) older_than_ms: Option<i64>,
    pub(crate) cutoff_ms: Option<i64>,
    pub(crate) limit: usize,
    pub(crate) unfinished: Unfinished<'c>,
}

/// What becomes of jobs that have not finished.
#[derive(Clone, Copy)]
pub(crate) enum Unfinished<'c> {
    /// They stay.
    Stay,
    /// They go if they can be stopped.
    Stop(&'c dyn JobControl),
    /// Those go that were stopped.
    Stopped(&'c Stops),
}

/// What came of stopping jobs.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    /// As they were before they were stopped.
    pub(crate) stopped: HashMap<i64, Job>,
    /// Why they could not be stopped.
    pub(crate) failed: HashMap<i64, String>,
}

/// The decision about one snapshot.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) jobs_matched: u64,
    /// Ids, ascending.
    pub(crate) jobs: Vec<i64>,
    pub(crate) jobs_kept: JobsKept,
    /// Those of `jobs` that have not finished.
    pub(crate) to_stop: Vec<Job>,
    /// Why others that have not finished can't be stopped.
    pub(crate) unstoppable: HashMap<i64, String>,
    /// Row ids, ascending.
    pub(crate) actions: Vec<i64>,
    /// Their names, sorted.
    pub(crate) action_names: Vec<String>,
    /// Sorted by name.
    pub(crate) actions_kept: Vec<KeptAction>,
    /// Rows of other tables that foreign keys on the planned jobs take along or set to NULL, by table.
    pub(crate) dependents: BTreeMap<String, u64>,
    pub(crate) errors: Vec<String>,
    pub(crate) token: PlanToken,
}

/// Decides about `snapshot`.
pub(crate) fn decide<E: From<StoreError> + Send>(
    snapshot: &Snapshot<'_>,
    layout: &Layout,
    criteria: &Criteria<'_>,
    go_on: impl Fn() -> Result<(), E> + Sync,
) -> Result<Plan, E> {
    let keys = Keys::new();
    let mut digest = Digest::of(criteria);
    let jobs = jobs(snapshot, layout, criteria, &keys, &mut digest, &go_on)?;
    let mut actions = actions(snapshot, layout, criteria, &keys, &jobs.candidates, jobs.referrers, &go_on)?;

    let dependents = layout.foreign_keys.count(snapshot, &jobs.planned)?;

    actions.names.sort_unstable();
    actions.kept.sort_unstable_by(|a, b| a.action_id.cmp(&b.action_id));
    for id in &actions.ids {
        digest.number(*id);
    }
    for name in &actions.names {
        digest.text(Some(name));
    }
    for (table, rows) in &dependents {
        digest.text(Some(table));
        digest.number(rows.cast_signed());
    }
    // Where each list ends.
    for length in [jobs.planned.len(), actions.ids.len(), dependents.len()] {
        digest.number(length as i64);
    }
    Ok(Plan {
        jobs_matched: jobs.matched,
        jobs: jobs.planned,
        jobs_kept: jobs.kept,
        to_stop: jobs.to_stop,
        unstoppable: jobs.unstoppable,
        actions: actions.ids,
        action_names: actions.names,
        actions_kept: actions.kept,
        dependents,
        errors: jobs.errors,
        token: digest.token(criteria.cutoff_ms),
    })
}

/// The decision about the jobs, and what those that go and those that remain refer to.
#[derive(Default)]
struct Jobs {
    matched: u64,
    planned: Vec<i64>,
    kept: JobsKept,
    to_stop: Vec<Job>,
    unstoppable: HashMap<i64, String>,
    errors: Vec<String>,
    candidates: Candidates,
    referrers: Referrers,
}

/// What some jobs say, each by itself.
#[derive(Default)]
struct JobBatch {
    matching: Vec<Matching>,
    /// What the others refer to, and their ids.
    remaining: Vec<(u64, i64)>,
}

/// A job that carries every tag.
struct Matching {
    id: i64,
    created_at: Option<i64>,
    finished: bool,
    /// Every action that it may refer to.
    refers_to: Vec<u64>,
    /// None if as many were planned as may be when it was read.
    shown: Option<Shown>,
}

/// What only a planned job is asked for.
struct Shown {
    /// The action that may go with it.
    action: Option<Name>,
    /// A digest of what the plan shows of it.
    digest: [u8; 32],
}

fn jobs<E: From<StoreError> + Send>(
    snapshot: &Snapshot<'_>,
    layout: &Layout,
    criteria: &Criteria<'_>,
    keys: &Keys,
    digest: &mut Digest,
    go_on: &(impl Fn() -> Result<(), E> + Sync),
) -> Result<Jobs, E> {
    let held = layout.foreign_keys.held(snapshot)?;
    let mut jobs = Jobs::default();
    // Set once as many are planned as may be: none goes that is read from then on.
    let full = AtomicBool::new(false);
    let gather = |batch: &mut JobBatch, connection: &Connection, job: JobRow<'_>| {
        go_on()?;
        match matching_tags(connection, layout, criteria, &job)? {
            Some(tags) => {
                let shown = (!full.load(Relaxed)).then(|| Shown::new(&job, &tags, criteria, keys));
                batch.matching.push(Matching::new(&job, keys, shown));
            }
            None => keys.referred_to(&job, |hash| batch.remaining.push((hash, job.id))),
        }
        Ok::<_, E>(())
    };
    rows::jobs(snapshot, layout, gather, |batch| {
        jobs.referrers.remaining_jobs(batch.remaining);
        for job in batch.matching {
            go_on()?;
            jobs.matched += 1;
            let verdict = judge(snapshot, layout, criteria, &job)?;
            let shown = job.shown.filter(|_| jobs.planned.len() < criteria.limit);
            let verdict = match (verdict, held.get(&job.id)) {
                (Verdict::Go | Verdict::GoStopped(_) | Verdict::Later, Some(table)) => {
                    jobs.errors.push(format!("job {}: held by a foreign key of table {table}", job.id));
                    Verdict::Stay(Why::Referenced)
                }
                (Verdict::Go | Verdict::GoStopped(_), None) if shown.is_none() => {
                    full.store(true, Relaxed);
                    Verdict::Stay(Why::OverLimit)
                }
                (verdict, _) => verdict,
            };
            let goes = jobs.count(job.id, verdict);
            match shown.filter(|_| goes) {
                Some(shown) => {
                    digest.job(job.id, &shown.digest);
                    jobs.candidates.extend(shown.action);
                    jobs.planned.push(job.id);
                }
                None => jobs.referrers.remaining_jobs(job.refers_to.into_iter().map(|hash| (hash, job.id))),
            }
        }
        Ok(())
    })?;
    Ok(jobs)
}

/// The JSON in which the tags of `job` stand, if they hold all that is asked for.
fn matching_tags<'r>(
    connection: &Connection,
    layout: &Layout,
    criteria: &Criteria<'_>,
    job: &JobRow<'r>,
) -> Result<Option<Cow<'r, str>>, StoreError> {
    Ok(match job.tags {
        JobTags::Column(tags) => match spec::tags_hold(tags, criteria.tags) {
            Holds::All => Some(Cow::Borrowed(tags)),
            Holds::NotAll => None,
            Holds::Null => {
                let spec = rows::job_spec(connection, layout, job.id)?;
                spec.filter(|spec| spec::spec_tags_hold(spec, criteria.tags)).map(Cow::Owned)
            }
        },
        JobTags::Spec(spec) => spec::spec_tags_hold(spec, criteria.tags).then_some(Cow::Borrowed(spec)),
        JobTags::Unreadable => None,
    })
}

impl Matching {
    fn new(job: &JobRow<'_>, keys: &Keys, shown: Option<Shown>) -> Self {
        let mut refers_to = Vec::new();
        keys.referred_to(job, |hash| refers_to.push(hash));
        let finished = job.phase().is_some_and(is_finished);
        Self { id: job.id, created_at: job.created_at(), finished, refers_to, shown }
    }
}

impl Shown {
    /// What is shown of `job`, whose tags stand in `tags`.
    fn new(job: &JobRow<'_>, tags: &str, criteria: &Criteria<'_>, keys: &Keys) -> Self {
        let stopped = match criteria.unfinished {
            Unfinished::Stopped(stops) => stops.stopped.get(&job.id),
            Unfinished::Stay | Unfinished::Stop(_) => None,
        };
        // A plan shows a job as it was before it was stopped.
        let phase = stopped.map_or(job.phase(), |before| before.phase.as_deref());
        let mut digest = Digest::new();
        for field in [phase, job.context, job.action, job.action_id, Some(tags)] {
            digest.text(field);
        }
        let action = job.context.zip(job.action_id.or(job.action)).map(|(context, action)| keys.name(context, action));
        Self { action, digest: digest.finish() }
    }
}

/// What becomes of one matching job.
enum Verdict {
    Go,
    /// Not finished: it goes if it can be stopped, or because it was.
    GoStopped(Job),
    Stay(Why),
    /// Not finished and not stopped: it stays, for this reason.
    Unstoppable(String),
    /// Not finished, and nobody has tried to stop it: it was over the limit or held, or has been created or started
    /// since. The next call may stop it.
    Later,
}

/// Why a job stays.
enum Why {
    Undated,
    Recent,
    Active,
    Referenced,
    OverLimit,
}

/// The verdict by a job's own row: its age and its phase.
fn judge(
    connection: &Connection,
    layout: &Layout,
    criteria: &Criteria<'_>,
    job: &Matching,
) -> Result<Verdict, StoreError> {
    if let Some(cutoff) = criteria.cutoff_ms {
        match job.created_at {
            Some(at) if at >= FIRST_MS && at <= cutoff => {}
            Some(at) if at >= FIRST_MS => return Ok(Verdict::Stay(Why::Recent)),
            _ => return Ok(Verdict::Stay(Why::Undated)),
        }
    }
    match criteria.unfinished {
        Unfinished::Stopped(stops) => match (stops.stopped.get(&job.id), stops.failed.get(&job.id)) {
            (Some(before), _) if job.finished || rows::job(connection, layout, job.id)? == *before => {
                Ok(Verdict::GoStopped(before.clone()))
            }
            (Some(_), _) => Ok(Verdict::Unstoppable("started again after it was stopped".to_owned())),
            _ if job.finished => Ok(Verdict::Go),
            (None, Some(error)) => Ok(Verdict::Unstoppable(error.clone())),
            (None, None) => Ok(Verdict::Later),
        },
        _ if job.finished => Ok(Verdict::Go),
        Unfinished::Stay => Ok(Verdict::Stay(Why::Active)),
        Unfinished::Stop(control) => {
            let job = rows::job(connection, layout, job.id)?;
            Ok(match control.can_stop(&job) {
                Ok(()) => Verdict::GoStopped(job),
                Err(error) => Verdict::Unstoppable(error.to_string()),
            })
        }
    }
}

impl Jobs {
    /// Counts the job `id`, and says whether it goes.
    fn count(&mut self, id: i64, verdict: Verdict) -> bool {
        let kept = match verdict {
            Verdict::Go => return true,
            Verdict::GoStopped(before) => {
                self.to_stop.push(before);
                return true;
            }
            Verdict::Stay(Why::Undated) => &mut self.kept.undated,
            Verdict::Stay(Why::Recent) => &mut self.kept.recent,
            Verdict::Stay(Why::Active) => &mut self.kept.active,
            Verdict::Stay(Why::Referenced) => &mut self.kept.referenced,
            Verdict::Stay(Why::OverLimit) | Verdict::Later => &mut self.kept.over_limit,
            Verdict::Unstoppable(error) => {
                self.errors.push(format!("job {id}: {error}"));
                self.unstoppable.insert(id, error);
                &mut self.kept.unstoppable
            }
        };
        *kept += 1;
        false
    }
}

/// The decision about the actions that planned jobs refer to.
#[derive(Default)]
struct Actions {
    ids: Vec<i64>,
    names: Vec<String>,
    kept: Vec<KeptAction>,
}

/// An action that a planned job refers to.
struct Candidate {
    id: i64,
    /// Its first hash: see [`Keys`].
    hash: u64,
    name: Box<str>,
    tagged: bool,
    scheduled: bool,
}

/// What some actions say, each by itself.
#[derive(Default)]
struct ActionBatch {
    candidates: Vec<Candidate>,
    /// Which of them depend on which others: the index of the one, the hash of the other.
    dependencies: Vec<(usize, u64)>,
    /// The names of others that depend on candidates, and on which.
    remaining: Vec<(String, Vec<u64>)>,
}

fn actions<E: From<StoreError> + Send>(
    snapshot: &Snapshot<'_>,
    layout: &Layout,
    criteria: &Criteria<'_>,
    keys: &Keys,
    candidates: &Candidates,
    mut referrers: Referrers,
    go_on: &(impl Fn() -> Result<(), E> + Sync),
) -> Result<Actions, E> {
    referrers.all_jobs_read(candidates);
    if candidates.is_empty() {
        return Ok(Actions::default());
    }
    referrers.services(snapshot, layout, keys, candidates)?;

    let root = std::slice::from_ref(criteria.root);
    let gather = |batch: &mut ActionBatch, action: ActionRow<'_>| {
        go_on()?;
        let readable = action.context.is_some() && action.name.is_some();
        let context = action.context.unwrap_or(DEFAULT_CONTEXT);
        let name = action.name.unwrap_or_default();
        let hash = keys.hash(context, name);
        let candidate = readable && candidates.hold(keys, hash, context, name);
        if !candidate && !spec::may_depend(action.spec) {
            return Ok(());
        }
        let spec = spec::spec(action.spec, root);
        let depends_on = candidates.depended_on(keys, context, hash, &spec);
        let name = display(context, name);
        if candidate {
            let index = batch.candidates.len();
            batch.dependencies.extend(depends_on.into_iter().map(|on| (index, on)));
            let (tagged, scheduled) = (spec.tagged, spec.scheduled);
            batch.candidates.push(Candidate { id: action.id, hash, name: name.into(), tagged, scheduled });
        } else if !depends_on.is_empty() {
            batch.remaining.push((name, depends_on));
        }
        Ok::<_, E>(())
    };
    let mut all = Vec::new();
    let mut dependencies = Vec::new();
    rows::actions(snapshot, layout, gather, |batch| {
        dependencies.extend(batch.dependencies.into_iter().map(|(index, on)| (all.len() + index, on)));
        all.extend(batch.candidates);
        for (name, on) in batch.remaining {
            referrers.remaining_action(&name, &on);
        }
        Ok(())
    })?;
    Ok(settle(all, dependencies, referrers))
}

/// Divides the candidates into those that go and those that stay: `dependencies` is which depend on which others, the index of
/// the one, the hash of the other.
fn settle(all: Vec<Candidate>, dependencies: Vec<(usize, u64)>, mut referrers: Referrers) -> Actions {
    // What each candidate depends on, for the few that depend on anything.
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

    // Whatever stays keeps what it depends on.
    let mut followed = vec![false; all.len()];
    let mut to_follow: Vec<usize> =
        depends_on.keys().copied().filter(|&index| stays(&all[index], &referrers)).collect();
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
        match reason(&candidate, &referrers) {
            Some((reason, by)) => actions.kept.push(KeptAction { action_id: candidate.name.into(), reason, by }),
            None => {
                actions.ids.push(candidate.id);
                actions.names.push(candidate.name.into());
            }
        }
    }
    actions
}

fn stays(candidate: &Candidate, referrers: &Referrers) -> bool {
    reason(candidate, referrers).is_some()
}

/// Why `candidate` stays, if it does, and who refers to it.
fn reason(candidate: &Candidate, referrers: &Referrers) -> Option<(Reason, Option<Referrer>)> {
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

/// The context of what is in no other. What refers to an action from a context that can't be read refers to this one's.
pub(crate) const DEFAULT_CONTEXT: &str = "core";

/// An action's name for people: alone in the context `core`, else behind its context.
pub(crate) fn display(context: &str, name: &str) -> String {
    if context == DEFAULT_CONTEXT { name.to_owned() } else { format!("{context}/{name}") }
}
