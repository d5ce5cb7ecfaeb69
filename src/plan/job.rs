//! One job: what its row says, and the verdict by that row alone.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use super::groups::Group;
use super::references::{Keys, Name, Reference, each_column_reference, each_reference};
use super::seen::SeenJobs;
use super::token::JobDigest;
use super::{Criteria, FIRST_MS, Stopped, Unfinished};
use crate::phase::{Outcome, outcome};
use crate::spec;
use crate::store::{Heads, JobRow, JobTags, Layout, Snapshot, StoreError, Times};

/// What the rows are read with.
pub(super) struct JobReader<'d> {
    pub(super) layout: &'d Layout,
    pub(super) criteria: &'d Criteria<'d>,
    pub(super) keys: &'d Keys,
    /// Whether jobs are known to fill more than a page each.
    pub(super) large: bool,
    /// Whether the heads of finished jobs are taken down.
    pub(super) heads: Heads,
    /// Whether jobs are weighed as they are read, for what a plan shows of those that go. It takes longer than looking up a
    /// few that go, and what is shown of jobs beyond the limit is hardly ever asked for.
    pub(super) weigh: AtomicBool,
    /// Whether the jobs weighed so far are small.
    pub(super) small: AtomicBool,
}

/// The content of some rows, each taken by itself.
#[derive(Default)]
pub(super) struct Batch {
    /// The number of rows.
    pub(super) rows: usize,
    pub(super) matching: Vec<Matching>,
    /// What the matching jobs refer to.
    pub(super) references: Vec<Reference>,
    /// What the other jobs refer to.
    pub(super) remaining: Vec<Reference>,
    /// The runs of other jobs that have not finished.
    pub(super) active_runs: Vec<i64>,
    /// The finished jobs, each with the hash of its head, if heads are taken down.
    pub(super) heads: Vec<(i64, u64)>,
    /// The jobs of which only the head was read, and that must be read whole.
    pub(super) unread: Vec<i64>,
}

/// A job that carries every tag, as its row has it; one that was stopped in this call, as it was before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matching {
    pub(super) id: i64,
    pub(super) excepted: bool,
    /// Its phase is one of those asked for.
    pub(super) phase_asked: bool,
    pub(super) outcome: Option<Outcome>,
    pub(super) created_at: Option<i64>,
    pub(super) finished_at: Option<i64>,
    /// The run of a job that has not finished, or that is recalled.
    pub(super) run: Option<i64>,
    pub(super) group: Option<Group>,
    pub(super) shown: Option<Shown>,
    /// It was stopped, and its row says now that it has finished.
    pub(super) finished_since: bool,
    /// It is what a plan made of its row before; only its head has been read since.
    pub(super) recalled: bool,
}

/// What a plan shows of a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// The action that may go with it.
    pub(super) action: Option<Name>,
    pub(super) digest: JobDigest,
    /// The bytes of its row.
    pub(super) bytes: u64,
}

impl JobReader<'_> {
    /// Whether the decision looks at times.
    pub(super) fn times(&self) -> Times<'static> {
        if self.criteria.cutoff_ms.is_some() { Times::Read } else { Times::NotAsked }
    }

    /// The times that are read of all jobs. Where these are large, times stand behind many overflow pages.
    pub(super) fn times_of_all(&self) -> Times<'_> {
        match self.times() {
            Times::Read if self.large => Times::OfTagged(self.criteria.request.tags.rarest()),
            times => times,
        }
    }

    pub(super) fn gather(&self, batch: &mut Batch, job: &JobRow<'_>) {
        batch.rows += 1;
        // A job that was stopped in this call is taken as it was before.
        let outcome = job.phase().and_then(outcome).filter(|_| self.criteria.stopped(job.id).is_none());
        if self.heads == Heads::Read && outcome.is_some() {
            batch.heads.push((job.id, self.head(job, self.phase_in_row(job))));
        }
        let tags = job.tags();
        let references = if self.matches(tags) {
            batch.matching.push(self.matching(job, tags, outcome));
            &mut batch.references
        } else {
            if outcome.is_none() && self.criteria.runs_hold() {
                batch.active_runs.extend(job.run());
            }
            &mut batch.remaining
        };
        each_reference(job, outcome, self.keys, &mut |target| references.push((target, job.id)));
    }

    /// Takes what `seen` remembers of the job, of which only the head was read. `phases` are those that an index tells.
    pub(super) fn recall(
        &self,
        batch: &mut Batch,
        job: &JobRow<'_>,
        seen: &SeenJobs,
        phases: Option<&HashMap<i64, u64>>,
    ) {
        let phase = match phases {
            Some(phases) => phases.get(&job.id).copied(),
            None => Some(0),
        };
        let Some(seen) = phase.and_then(|phase| seen.recall(job.id, self.head(job, phase))) else {
            batch.unread.push(job.id);
            return;
        };
        let references = match seen {
            Some(seen) => {
                batch.matching.push(Matching { recalled: true, ..*seen });
                &mut batch.references
            }
            None => &mut batch.remaining,
        };
        each_column_reference(job, self.keys, &mut |target| references.push((target, job.id)));
    }

    fn head(&self, job: &JobRow<'_>, phase: u64) -> u64 {
        job.head(self.keys.hashes(), phase)
    }

    /// The hash of the phase, where an index tells it as well.
    fn phase_in_row(&self, job: &JobRow<'_>) -> u64 {
        if self.layout.jobs.phases_are_indexed { job.phase_hash(self.keys.hashes()) } else { 0 }
    }

    fn matches(&self, tags: JobTags<'_>) -> bool {
        match tags {
            JobTags::Column(tags) => spec::tags_hold(tags, &self.criteria.request.tags),
            JobTags::Spec(spec) => spec::spec_tags_hold(spec, &self.criteria.request.tags),
            JobTags::Unreadable => false,
        }
    }

    fn matching(&self, job: &JobRow<'_>, tags: JobTags<'_>, outcome: Option<Outcome>) -> Matching {
        let criteria = self.criteria;
        let before = criteria.stopped(job.id);
        let (phase, finished_at, run) = match before {
            Some(before) => (before.job.phase.as_deref(), before.finished_at, before.run),
            None => (job.phase(), job.finished_at(), job.run()),
        };
        let mut excepted = false;
        let mut group = criteria.request.keep_last.as_ref().filter(|_| outcome.is_some()).map(|_| Vec::new());
        if !criteria.request.except_tags.is_empty() || group.is_some() {
            each_tag(tags, &mut |tag| {
                excepted |= criteria.request.except_tags.iter().any(|except| except.as_str() == tag);
                if let Some(group) = &mut group
                    && criteria.groups_by(tag)
                {
                    group.push(tag.to_owned());
                }
            });
        }
        let phases = criteria.request.phases.as_ref();
        let phase_asked = phases.is_none_or(|phases| phase.is_some_and(|phase| phases.hold(phase)));
        Matching {
            id: job.id,
            excepted,
            // The trial to stop a job may have moved it to a phase in between.
            phase_asked: phase_asked || outcome.is_none() && criteria.tried_in_vain(job.id),
            outcome,
            created_at: job.created_at(),
            finished_at,
            run: run.filter(|_| criteria.runs_hold()),
            group: group.zip(outcome).map(|(tags, outcome)| Group::of(self.keys, tags, outcome)),
            shown: job.bytes().map(|bytes| self.shown(job, bytes)),
            finished_since: before.is_some() && job.phase().and_then(crate::phase::outcome).is_some(),
            recalled: false,
        }
    }

    pub(super) fn shown(&self, job: &JobRow<'_>, bytes: u64) -> Shown {
        // A reference from a row without a context protects an action, but makes none a candidate.
        let action = job.own_action().map(|(context, action)| self.keys.name(context, action));
        Shown { action, digest: JobDigest::of(job, self.criteria.stopped(job.id), self.layout), bytes }
    }
}

fn each_tag(tags: JobTags<'_>, tag: &mut dyn FnMut(&str)) {
    match tags {
        JobTags::Column(tags) => spec::each_tag(tags, tag),
        JobTags::Spec(spec) => spec::each_tag_of_spec(spec, tag),
        JobTags::Unreadable => false,
    };
}

/// What is known about stopping one job.
#[derive(Debug)]
pub(super) enum Stopping {
    /// It need not be stopped, or must not be.
    NotAsked,
    /// The host can stop it, or has stopped it.
    Possible(Stopped),
    /// It can't be, or could not be, stopped; and why.
    Failed(String),
    /// Nobody has tried: it was over the limit or kept when the plan was made, or it was created or started since.
    Untried,
}

/// The verdict by a job's own row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Applies,
    Stays(Why),
}

/// Why a job's own row keeps it, in order of precedence.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Why {
    Excepted,
    OtherPhase,
    Undated,
    Recent,
    Active,
    Unstoppable(String),
}

/// The verdict by a job's own row, the criteria, and what is known about stopping it.
pub(super) fn judge(job: &Matching, criteria: &Criteria<'_>, stopping: &Stopping) -> Verdict {
    if let Some(why) = kept_by_row(job, criteria) {
        return Verdict::Stays(why);
    }
    match stopping {
        _ if job.outcome.is_some() => Verdict::Applies,
        Stopping::Possible(_) | Stopping::Untried => Verdict::Applies,
        Stopping::NotAsked => Verdict::Stays(Why::Active),
        Stopping::Failed(error) => Verdict::Stays(Why::Unstoppable(error.clone())),
    }
}

/// The reason that keeps a job whatever can be stopped, if there is one.
fn kept_by_row(job: &Matching, criteria: &Criteria<'_>) -> Option<Why> {
    if job.excepted {
        return Some(Why::Excepted);
    }
    if !job.phase_asked {
        return Some(Why::OtherPhase);
    }
    let cutoff = criteria.cutoff_ms?;
    let usable = |time: Option<i64>| time.filter(|time| *time >= FIRST_MS);
    match usable(job.created_at) {
        None => Some(Why::Undated),
        Some(created_at) => {
            let last = usable(job.finished_at).map_or(created_at, |finished_at| finished_at.max(created_at));
            (last > cutoff).then_some(Why::Recent)
        }
    }
}

impl JobReader<'_> {
    pub(super) fn stopping(&self, snapshot: &Snapshot<'_>, job: &Matching) -> Result<Stopping, StoreError> {
        if kept_by_row(job, self.criteria).is_some() {
            return Ok(Stopping::NotAsked);
        }
        Ok(match self.criteria.unfinished {
            Unfinished::Stay => Stopping::NotAsked,
            Unfinished::Stop(_) | Unfinished::Stopped(_) if job.outcome.is_some() => Stopping::NotAsked,
            Unfinished::Stop(control) => {
                let stopped = Stopped { job: snapshot.job(job.id)?, finished_at: job.finished_at, run: job.run };
                match control.can_stop(&stopped.job) {
                    Ok(()) => Stopping::Possible(stopped),
                    Err(error) => Stopping::Failed(error.to_string()),
                }
            }
            Unfinished::Stopped(stops) => match (stops.stopped.get(&job.id), stops.failed.get(&job.id)) {
                (Some(before), _) if job.finished_since || snapshot.job(job.id)? == before.job => {
                    Stopping::Possible(before.clone())
                }
                (Some(_), _) => Stopping::Failed("started again after it was stopped".to_owned()),
                (None, Some(error)) => Stopping::Failed(error.clone()),
                (None, None) => Stopping::Untried,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;
    use crate::{Age, Guard, Job};

    const CUTOFF: i64 = 1_790_000_000_000;

    /// A job that has finished, and that nothing keeps.
    fn finished() -> Matching {
        Matching {
            id: 7,
            excepted: false,
            phase_asked: true,
            outcome: Some(Outcome::Succeeded),
            created_at: Some(CUTOFF),
            finished_at: Some(CUTOFF),
            run: None,
            group: None,
            shown: None,
            finished_since: false,
            recalled: false,
        }
    }

    fn stopped() -> Stopped {
        let job = Job { id: 7, phase: Some("running".to_owned()), pid: Some(1), attempt: None, started_at_ms: None };
        Stopped { job, finished_at: None, run: None }
    }

    /// The verdict about `job`, with a cut-off or without.
    fn verdict(job: &Matching, cutoff_ms: Option<i64>, stopping: &Stopping) -> Verdict {
        let mut request = Request::new(Guard::codescaler().everything());
        request.age = cutoff_ms.map_or(Age::Any, Age::Before);
        let criteria = Criteria {
            request: &request,
            cutoff_ms,
            now_ms: CUTOFF,
            grace_from_ms: CUTOFF,
            runs: super::super::Runs::Hold,
            unfinished: Unfinished::Stay,
        };
        judge(job, &criteria, stopping)
    }

    #[test]
    fn a_finished_job_goes_unless_the_cutoff_keeps_it() {
        let stays = Verdict::Stays;
        for (created_at, finished_at, cutoff, expected) in [
            (None, None, None, Verdict::Applies),
            (Some(CUTOFF + 1), Some(CUTOFF + 1), None, Verdict::Applies),
            (None, Some(CUTOFF), Some(CUTOFF), stays(Why::Undated)),
            (Some(FIRST_MS - 1), None, Some(CUTOFF), stays(Why::Undated)),
            (Some(i64::MIN), None, Some(CUTOFF), stays(Why::Undated)),
            (Some(FIRST_MS), None, Some(CUTOFF), Verdict::Applies),
            (Some(CUTOFF), Some(CUTOFF), Some(CUTOFF), Verdict::Applies),
            (Some(CUTOFF + 1), None, Some(CUTOFF), stays(Why::Recent)),
            (Some(FIRST_MS), Some(CUTOFF + 1), Some(CUTOFF), stays(Why::Recent)),
            (Some(FIRST_MS), Some(FIRST_MS - 1), Some(CUTOFF), Verdict::Applies),
            (Some(FIRST_MS), None, Some(i64::MIN), stays(Why::Recent)),
        ] {
            let job = Matching { created_at, finished_at, ..finished() };
            assert_eq!(
                verdict(&job, cutoff, &Stopping::NotAsked),
                expected,
                "{created_at:?} {finished_at:?} {cutoff:?}"
            );
        }
    }

    #[test]
    fn an_unfinished_job_goes_only_if_it_is_stopped() {
        let running = Matching { outcome: None, finished_at: None, ..finished() };
        for (stopping, expected) in [
            (Stopping::NotAsked, Verdict::Stays(Why::Active)),
            (Stopping::Possible(stopped()), Verdict::Applies),
            (Stopping::Untried, Verdict::Applies),
            (Stopping::Failed("alive".to_owned()), Verdict::Stays(Why::Unstoppable("alive".to_owned()))),
        ] {
            assert_eq!(verdict(&running, None, &stopping), expected);
        }
        assert_eq!(verdict(&finished(), None, &Stopping::Failed("alive".to_owned())), Verdict::Applies);
    }

    #[test]
    fn the_first_reason_is_named() {
        let all = Matching { excepted: true, phase_asked: false, created_at: None, outcome: None, ..finished() };
        let cutoff = Some(CUTOFF);
        let why = |job: &Matching| match verdict(job, cutoff, &Stopping::NotAsked) {
            Verdict::Stays(why) => Some(why),
            Verdict::Applies => None,
        };
        assert_eq!(why(&all), Some(Why::Excepted));
        let all = Matching { excepted: false, ..all };
        assert_eq!(why(&all), Some(Why::OtherPhase));
        let all = Matching { phase_asked: true, ..all };
        assert_eq!(why(&all), Some(Why::Undated));
        let all = Matching { created_at: Some(CUTOFF + 1), ..all };
        assert_eq!(why(&all), Some(Why::Recent));
        let all = Matching { created_at: Some(CUTOFF), ..all };
        assert_eq!(why(&all), Some(Why::Active));
    }
}
