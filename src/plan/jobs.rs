//! Which jobs go, why the others stay, and which actions both refer to.
//!
//! ```text
//! each row ─ gather ─▶ Matching, if it carries every tag; else its references
//! each Matching ─ judge ─▶ Verdict ─ settle ─▶ counted; or a job that goes
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::references::{Keys, Name, Reference, Referrers};
use super::token::{Digest, JobDigest};
use super::{Criteria, FIRST_MS, Unfinished, is_finished};
use crate::host::Job;
use crate::report::JobsKept;
use crate::spec;
use crate::store::{JobRow, JobTags, Snapshot, StoreError};

/// The decision about the jobs.
#[derive(Default)]
pub(super) struct Jobs {
    pub(super) matched: u64,
    /// The jobs that go, ascending.
    pub(super) ids: Vec<i64>,
    pub(super) kept: JobsKept,
    /// Those of `ids` that have not finished.
    pub(super) to_stop: Vec<Job>,
    /// Why each other job that has not finished can't be stopped.
    pub(super) unstoppable: HashMap<i64, String>,
    pub(super) errors: Vec<String>,
    /// The actions that may go with `ids`.
    pub(super) actions: Vec<Name>,
    /// The actions that the other jobs refer to.
    pub(super) referrers: Referrers,
}

/// Decides about the jobs, and adds those that go to `digest`.
pub(super) fn decide(
    snapshot: &Snapshot<'_>,
    criteria: &Criteria<'_>,
    keys: &Keys,
    digest: &mut Digest,
) -> Result<Jobs, StoreError> {
    let held = snapshot.held()?;
    let mut jobs = Jobs::default();
    // Set once `limit` jobs go: no job goes that is read from then on.
    let full = AtomicBool::new(false);
    let gather = |batch: &mut Batch, job: JobRow<'_>| {
        batch.add(&job, criteria, keys, &full);
        Ok(())
    };
    snapshot.jobs(gather, |batch| {
        jobs.referrers.remaining_jobs(batch.remaining);
        for job in batch.matching {
            snapshot.go_on()?;
            let stopping = stopping(snapshot, criteria, &job)?;
            let mut verdict = judge(&job, criteria, stopping);
            if matches!(verdict, Verdict::Goes(_) | Verdict::Stays(Why::Untried)) {
                if let Some(table) = held.get(&job.id) {
                    verdict = Verdict::Stays(Why::Referenced((*table).to_owned()));
                } else if jobs.ids.len() == criteria.limit.get() {
                    full.store(true, Relaxed);
                    verdict = Verdict::Stays(Why::OverLimit);
                }
            }
            jobs.settle(job, verdict, digest);
        }
        Ok(())
    })?;
    Ok(jobs)
}

/// The content of some rows, each taken by itself.
#[derive(Default)]
struct Batch {
    matching: Vec<Matching>,
    /// The references of the other jobs.
    remaining: Vec<Reference>,
}

/// A job that carries every tag, as its row has it.
#[derive(Debug)]
struct Matching {
    id: i64,
    created_at: Option<i64>,
    finished: bool,
    /// Every action that it may refer to.
    refers_to: Vec<u64>,
    /// None if `limit` jobs went when it was read.
    shown: Option<Box<Shown>>,
}

/// What a plan shows of a job.
#[derive(Debug)]
struct Shown {
    /// The action that may go with it.
    action: Option<Name>,
    digest: JobDigest,
}

impl Batch {
    fn add(&mut self, job: &JobRow<'_>, criteria: &Criteria<'_>, keys: &Keys, full: &AtomicBool) {
        let Some(tags) = matching_tags(job.tags, criteria) else {
            keys.referred_to(job, |hash| self.remaining.push((hash, job.id)));
            return;
        };
        let mut refers_to = Vec::new();
        keys.referred_to(job, |hash| refers_to.push(hash));
        let finished = job.phase().is_some_and(is_finished);
        let shown = (!full.load(Relaxed)).then(|| Box::new(Shown::new(job, tags, criteria, keys)));
        self.matching.push(Matching { id: job.id, created_at: job.created_at(), finished, refers_to, shown });
    }
}

/// The JSON in which a job's tags stand, if they hold every tag asked for.
fn matching_tags<'r>(tags: JobTags<'r>, criteria: &Criteria<'_>) -> Option<&'r str> {
    match tags {
        JobTags::Column(tags) => spec::tags_hold(tags, criteria.tags).then_some(tags),
        JobTags::Spec(spec) => spec::spec_tags_hold(spec, criteria.tags).then_some(spec),
        JobTags::Unreadable => None,
    }
}

impl Shown {
    /// What a plan shows of `job`, whose tags stand in `tags`.
    fn new(job: &JobRow<'_>, tags: &str, criteria: &Criteria<'_>, keys: &Keys) -> Self {
        let stopped = match criteria.unfinished {
            Unfinished::Stopped(stops) => stops.stopped.get(&job.id),
            Unfinished::Stay | Unfinished::Stop(_) => None,
        };
        // A plan shows a job as it was before it was stopped.
        let phase = stopped.map_or(job.phase(), |before| before.phase.as_deref());
        let digest = JobDigest::of([phase, job.context, job.action, job.action_id, Some(tags)]);
        // A reference from a row without a context protects an action, but makes none a candidate.
        let action = job.context.zip(job.action_id.or(job.action)).map(|(context, action)| keys.name(context, action));
        Self { action, digest }
    }
}

/// What is known about stopping one job.
#[derive(Debug)]
enum Stopping {
    /// It need not be stopped, or must not be.
    NotAsked,
    /// The host can stop it.
    CanBeStopped(Job),
    /// It can't be, or could not be, stopped; and why.
    Failed(String),
    /// It was stopped in this call, and runs no more; as it was before.
    Stopped(Job),
    /// It was started again after it was stopped.
    StartedAgain,
    /// Nobody has tried: it was over the limit or held when the plan was made, or it was created or started since.
    Untried,
}

fn stopping(snapshot: &Snapshot<'_>, criteria: &Criteria<'_>, job: &Matching) -> Result<Stopping, StoreError> {
    if age(job.created_at, criteria.cutoff_ms).is_some() {
        return Ok(Stopping::NotAsked);
    }
    Ok(match criteria.unfinished {
        Unfinished::Stay => Stopping::NotAsked,
        Unfinished::Stop(_) if job.finished => Stopping::NotAsked,
        Unfinished::Stop(control) => {
            let job = snapshot.job(job.id)?;
            match control.can_stop(&job) {
                Ok(()) => Stopping::CanBeStopped(job),
                Err(error) => Stopping::Failed(error.to_string()),
            }
        }
        Unfinished::Stopped(stops) => match (stops.stopped.get(&job.id), stops.failed.get(&job.id)) {
            (Some(before), _) if job.finished || snapshot.job(job.id)? == *before => Stopping::Stopped(before.clone()),
            (Some(_), _) => Stopping::StartedAgain,
            (None, _) if job.finished => Stopping::NotAsked,
            (None, Some(error)) => Stopping::Failed(error.clone()),
            (None, None) => Stopping::Untried,
        },
    })
}

/// The fate of one matching job.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It goes; if it had not finished, with what the host knows of it.
    Goes(Option<Job>),
    Stays(Why),
}

/// Why a job stays, in order of precedence.
#[derive(Debug, PartialEq, Eq)]
enum Why {
    Undated,
    Recent,
    Active,
    Unstoppable(String),
    /// A row of this table holds on to it.
    Referenced(String),
    OverLimit,
    /// It has not finished, and nobody has tried to stop it: the next call may.
    Untried,
}

/// The verdict by a job's own row, the criteria, and what is known about stopping it.
fn judge(job: &Matching, criteria: &Criteria<'_>, stopping: Stopping) -> Verdict {
    if let Some(why) = age(job.created_at, criteria.cutoff_ms) {
        return Verdict::Stays(why);
    }
    match stopping {
        Stopping::CanBeStopped(job) | Stopping::Stopped(job) => Verdict::Goes(Some(job)),
        Stopping::StartedAgain => Verdict::Stays(Why::Unstoppable("started again after it was stopped".to_owned())),
        _ if job.finished => Verdict::Goes(None),
        Stopping::NotAsked => Verdict::Stays(Why::Active),
        Stopping::Failed(error) => Verdict::Stays(Why::Unstoppable(error)),
        Stopping::Untried => Verdict::Stays(Why::Untried),
    }
}

/// Why a job created at this time is kept by the cut-off, if it is.
fn age(created_at: Option<i64>, cutoff_ms: Option<i64>) -> Option<Why> {
    match (cutoff_ms?, created_at) {
        (cutoff, Some(at)) if at >= FIRST_MS => (at > cutoff).then_some(Why::Recent),
        _ => Some(Why::Undated),
    }
}

impl Jobs {
    /// Carries `verdict` out: the one place where a job is counted, and where an error is told.
    fn settle(&mut self, job: Matching, verdict: Verdict, digest: &mut Digest) {
        self.matched += 1;
        let Matching { id, refers_to, shown, .. } = job;
        let kept = match verdict {
            Verdict::Goes(stopped) => {
                self.ids.push(id);
                self.to_stop.extend(stopped);
                if let Some(shown) = shown {
                    digest.job(id, &shown.digest);
                    self.actions.extend(shown.action);
                }
                return;
            }
            Verdict::Stays(why) => match why {
                Why::Undated => &mut self.kept.undated,
                Why::Recent => &mut self.kept.recent,
                Why::Active => &mut self.kept.active,
                Why::OverLimit | Why::Untried => &mut self.kept.over_limit,
                Why::Referenced(table) => {
                    self.errors.push(format!("job {id}: held by a foreign key of table {table}"));
                    &mut self.kept.referenced
                }
                Why::Unstoppable(error) => {
                    self.errors.push(format!("job {id}: {error}"));
                    self.unstoppable.insert(id, error);
                    &mut self.kept.unstoppable
                }
            },
        };
        *kept += 1;
        self.referrers.remaining_jobs(refers_to.into_iter().map(|hash| (hash, id)));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::Guard;

    const CUTOFF: i64 = 1_790_000_000_000;

    fn matching(created_at: Option<i64>, finished: bool) -> Matching {
        Matching { id: 7, created_at, finished, refers_to: Vec::new(), shown: None }
    }

    fn host_job() -> Job {
        Job { id: 7, phase: Some("running".to_owned()), pid: Some(1), attempt: None, started_at_ms: None }
    }

    /// The verdict about `job` with this cut-off.
    fn verdict(job: &Matching, cutoff_ms: Option<i64>, stopping: Stopping) -> Verdict {
        let tags = Guard::codescaler().everything();
        let (older_than_ms, limit) = (cutoff_ms.map(|_| 1), NonZeroUsize::MIN);
        let criteria = Criteria { tags: &tags, older_than_ms, cutoff_ms, limit, unfinished: Unfinished::Stay };
        judge(job, &criteria, stopping)
    }

    #[test]
    fn a_finished_job_goes_unless_the_cutoff_keeps_it() {
        let goes = || Verdict::Goes(None);
        let stays = Verdict::Stays;
        for (created_at, cutoff, expected) in [
            (None, None, goes()),
            (Some(CUTOFF + 1), None, goes()),
            (None, Some(CUTOFF), stays(Why::Undated)),
            (Some(FIRST_MS - 1), Some(CUTOFF), stays(Why::Undated)),
            (Some(i64::MIN), Some(CUTOFF), stays(Why::Undated)),
            (Some(FIRST_MS), Some(CUTOFF), goes()),
            (Some(CUTOFF), Some(CUTOFF), goes()),
            (Some(CUTOFF + 1), Some(CUTOFF), stays(Why::Recent)),
            (Some(FIRST_MS), Some(i64::MIN), stays(Why::Recent)),
        ] {
            assert_eq!(verdict(&matching(created_at, true), cutoff, Stopping::NotAsked), expected, "{created_at:?}");
        }
    }

    #[test]
    fn an_unfinished_job_goes_only_if_it_is_stopped() {
        let stays = Verdict::Stays;
        for (stopping, expected) in [
            (Stopping::NotAsked, stays(Why::Active)),
            (Stopping::CanBeStopped(host_job()), Verdict::Goes(Some(host_job()))),
            (Stopping::Stopped(host_job()), Verdict::Goes(Some(host_job()))),
            (Stopping::Failed("alive".to_owned()), stays(Why::Unstoppable("alive".to_owned()))),
            (Stopping::StartedAgain, stays(Why::Unstoppable("started again after it was stopped".to_owned()))),
            (Stopping::Untried, stays(Why::Untried)),
        ] {
            assert_eq!(verdict(&matching(Some(CUTOFF), false), Some(CUTOFF), stopping), expected);
        }
        let young = matching(Some(CUTOFF + 1), false);
        assert_eq!(verdict(&young, Some(CUTOFF), Stopping::CanBeStopped(host_job())), stays(Why::Recent));
    }

    #[test]
    fn a_job_that_finished_before_it_could_be_stopped_goes_as_any_finished_job() {
        let finished = matching(None, true);
        assert_eq!(verdict(&finished, None, Stopping::Failed("alive".to_owned())), Verdict::Goes(None));
        assert_eq!(verdict(&finished, None, Stopping::Untried), Verdict::Goes(None));
        assert_eq!(verdict(&finished, None, Stopping::Stopped(host_job())), Verdict::Goes(Some(host_job())));
    }
}
