//! Which jobs go, why the others stay, and which actions both refer to.
//!
//! ```text
//! each row ─ gather ─┬─▶ Matching, if it carries every tag ─ judge ─┬─▶ stays, by its own row
//!                    │                                              └─▶ Applicant ─┐
//!                    └─▶ what the other jobs refer to, and their runs              ├─ choose ─ take, up to the limit
//!                                                     foreign keys, groups ────────┘
//! ```

mod take;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;

use super::choice::{Against, Applicant, Relations, choose};
use super::groups::Groups;
use super::job::{Batch, JobReader, Matching, Shown, Stopping, Verdict, Why, judge};
use super::references::{JobReferences, Keys, Name, Reference, each_reference};
use super::seen::{BYTES_EACH, SeenJobs};
use super::token::Digest;
use super::{Criteria, Reading, Stopped};
use crate::report::JobsKept;
use crate::store::{Heads, JobRow, Snapshot, StoreError, Weigh};

/// The decision about the jobs.
#[derive(Default)]
pub(super) struct Jobs {
    pub(super) matched: u64,
    /// The jobs that go, ascending.
    pub(super) ids: Vec<i64>,
    pub(super) kept: JobsKept,
    /// Those of `ids` that have not finished.
    pub(super) to_stop: Vec<Stopped>,
    /// Why each other job that has not finished can't be stopped.
    pub(super) unstoppable: HashMap<i64, String>,
    /// One line for each job that could not be stopped or is held, by id.
    pub(super) errors: BTreeMap<i64, String>,
    /// Rows of other tables that foreign keys on `ids` take along or set to NULL, by table.
    pub(super) dependents: BTreeMap<String, u64>,
    /// The bytes of the rows of `ids`.
    pub(super) bytes: u64,
    /// The actions that may go with `ids`.
    pub(super) actions: Vec<Name>,
    /// The actions that the other jobs refer to.
    pub(super) references: JobReferences,
    /// What `ids` are named by.
    pub(super) digest: Digest,
    /// One of `ids` was not read whole.
    recalled: bool,
    /// The jobs that were left alone, if they are to be remembered.
    pub(super) seen: Option<SeenJobs>,
}

/// Decides about the jobs.
pub(super) fn decide(
    snapshot: &Snapshot<'_>,
    criteria: &Criteria<'_>,
    keys: &Keys,
    reading: Reading<'_>,
) -> Result<Jobs, StoreError> {
    let remember = matches!(reading, Reading::Remember) && snapshot.has_heads();
    // Without an index, counting jobs takes as long as reading what small ones hold.
    let asked = remember || criteria.cutoff_ms.is_some() && snapshot.layout().jobs.phases_are_indexed;
    let large = asked && snapshot.bytes()? / BYTES_EACH >= snapshot.job_count()?;
    let heads = if remember && large { Heads::Read } else { Heads::NotAsked };
    let reader =
        JobReader { layout: snapshot.layout(), criteria, keys, large, heads, weigh: true.into(), small: false.into() };
    if let Reading::Again(seen) = reading {
        let mut found = FoundJobs::default();
        found.read_again(snapshot, &reader, seen)?;
        let stand = seen.last.iter().all(|(id, group)| found.groups.hold(*id, *group));
        if stand {
            let jobs = found.settle(snapshot, &reader)?;
            if !jobs.recalled {
                return Ok(jobs);
            }
        }
    }
    let mut found = FoundJobs::default();
    found.read(snapshot, &reader)?;
    found.settle(snapshot, &reader)
}

/// What all rows together say.
#[derive(Default)]
struct FoundJobs {
    jobs: Jobs,
    /// The number of rows that were read whole.
    rows: usize,
    applicants: Vec<Applicant>,
    /// What a plan shows of applicants, by their places; of those that were not weighed, once they go.
    shown: Vec<Option<Shown>>,
    /// The bytes of those that were weighed.
    weighed: u64,
    /// The applicants that have not finished, if they can be stopped.
    to_stop: HashMap<i64, Stopped>,
    /// What the matching jobs refer to, by ascending id.
    references: Vec<Reference>,
    relations: Relations,
    groups: Groups,
    /// Whether those applicants which are recalled have their runs.
    runs_are_known: bool,
}

impl FoundJobs {
    /// Reads all jobs.
    fn read(&mut self, snapshot: &Snapshot<'_>, reader: &JobReader<'_>) -> Result<(), StoreError> {
        let mut seen = (reader.heads == Heads::Read).then(SeenJobs::default);
        let gather = |batch: &mut Batch, job: JobRow<'_>| {
            reader.gather(batch, &job);
            Ok(())
        };
        let weigh = || match (reader.weigh.load(Relaxed), reader.small.load(Relaxed)) {
            (false, _) => Weigh::NotAsked,
            (true, false) => Weigh::ByHeader,
            (true, true) => Weigh::ByValues,
        };
        snapshot.jobs((reader.times_of_all(), reader.heads), weigh, gather, |mut batch| {
            if let Some(seen) = &mut seen {
                seen.add(std::mem::take(&mut batch.heads), &batch.matching);
            }
            self.add(snapshot, reader, batch)
        })?;
        self.jobs.seen = seen;
        Ok(())
    }

    /// Reads the heads of all jobs, and those jobs whole that `seen` does not know as they are.
    fn read_again(
        &mut self,
        snapshot: &Snapshot<'_>,
        reader: &JobReader<'_>,
        seen: &SeenJobs,
    ) -> Result<(), StoreError> {
        self.runs_are_known = seen.runs_are_known;
        let phases = snapshot.phases(reader.keys.hashes())?;
        let gather = |batch: &mut Batch, job: JobRow<'_>| {
            reader.recall(batch, &job, seen, phases.as_ref());
            Ok(())
        };
        snapshot.heads(gather, |mut batch| {
            let unread = std::mem::take(&mut batch.unread);
            snapshot.whole_jobs(reader.times(), &unread, |job| reader.gather(&mut batch, &job))?;
            batch.matching.sort_unstable_by_key(|job| job.id);
            self.add(snapshot, reader, batch)
        })
    }

    fn add(&mut self, snapshot: &Snapshot<'_>, reader: &JobReader<'_>, batch: Batch) -> Result<(), StoreError> {
        self.rows += batch.rows;
        self.jobs.references.extend(batch.remaining);
        self.references.extend(batch.references);
        self.relations.active_runs.extend(batch.active_runs);
        for job in batch.matching {
            snapshot.go_on()?;
            self.jobs.matched += 1;
            if let Some(group) = job.group {
                self.groups.add(job.id, group);
            }
            let stopping = reader.stopping(snapshot, &job)?;
            match judge(&job, reader.criteria, &stopping) {
                Verdict::Applies => self.apply(job, stopping),
                Verdict::Stays(why) => {
                    if job.outcome.is_none() {
                        self.relations.active_runs.extend(job.run);
                    }
                    self.jobs.keep(job.id, why);
                }
            }
        }
        let many = self.applicants.len() * RARE >= self.rows;
        reader.weigh.store(many && self.applicants.len() < reader.criteria.request.limit(), Relaxed);
        let weighed = self.shown.len() as u64;
        reader.small.store(weighed > 0 && self.weighed / weighed < SMALL, Relaxed);
        Ok(())
    }

    fn apply(&mut self, job: Matching, stopping: Stopping) {
        if let Some(shown) = job.shown {
            self.weighed += shown.bytes;
            self.shown.resize(self.applicants.len(), None);
            self.shown.push(job.shown);
        }
        let untried = matches!(stopping, Stopping::Untried);
        if let Stopping::Possible(stopped) = stopping {
            self.to_stop.insert(job.id, stopped);
        }
        self.applicants.push(Applicant {
            id: job.id,
            run: job.run,
            unfinished: job.outcome.is_none(),
            untried,
            recalled: job.recalled,
            ..Applicant::default()
        });
    }

    /// The decision, once all rows have been read.
    fn settle(mut self, snapshot: &Snapshot<'_>, reader: &JobReader<'_>) -> Result<Jobs, StoreError> {
        let criteria = reader.criteria;
        let held_by = snapshot.held()?;
        self.relations.holders = snapshot.held_by_jobs()?;
        if let Some(keep_last) = &criteria.request.keep_last {
            let last = || self.groups.last(keep_last.count);
            if let Some(seen) = &mut self.jobs.seen {
                let groups = self.groups.by_number();
                seen.last.extend(last().filter_map(|(id, number)| Some((id, *groups.get(&number)?))));
                seen.last.sort_unstable_by_key(|(id, _)| *id);
            }
            for (id, _) in last() {
                if let Some(place) = place_of(id, &self.applicants) {
                    self.applicants[place].kept_last = true;
                }
            }
        }
        for applicant in &mut self.applicants {
            applicant.held = held_by.contains_key(&applicant.id);
        }

        self.find_runs(snapshot)?;
        let applicants = std::mem::take(&mut self.applicants);
        let choice = choose(&applicants, &self.relations);
        for (applicant, against) in applicants.iter().zip(choice.against()) {
            let Some(against) = against else { continue };
            // The table of a job that another job holds is that of jobs itself.
            self.jobs.keep_against(applicant.id, *against, held_by.get(&applicant.id).copied().unwrap_or("jobs"));
        }
        let taken = self.take(snapshot, reader, &choice, &applicants)?;
        for index in &taken {
            let (id, shown) = (applicants[*index].id, self.shown_at(*index)?);
            self.jobs.digest.job(id, &shown.digest);
            self.jobs.recalled |= applicants[*index].recalled;
            self.jobs.bytes += shown.bytes;
            self.jobs.actions.extend(shown.action);
            self.jobs.to_stop.extend(self.to_stop.remove(&id));
            self.jobs.ids.push(id);
        }
        let goes = choice.against().iter().filter(|against| against.is_none()).count();
        self.jobs.kept.over_limit = (goes - taken.len()) as u64;

        if let Some(seen) = &mut self.jobs.seen {
            let last: Vec<i64> = seen.last.iter().map(|(id, _)| *id).collect();
            seen.forget(&self.jobs.ids);
            seen.forget(&last);
        }

        // A job that was stopped and stays may be started again: what it depended on stays.
        let ids = &self.jobs.ids;
        let staying = criteria.all_stopped().filter(|id| ids.binary_search(id).is_err());
        let references = &mut self.references;
        snapshot.jobs_by_id(staying, |job| {
            each_reference(&job, None, reader.keys, &mut |target| references.push((target, job.id)));
        })?;
        self.references.sort_unstable_by_key(|(_, id)| *id);

        // What does not go refers to its actions still.
        let mut going = self.jobs.ids.iter().copied().peekable();
        let remaining = self.references.drain(..).filter(|(_, id)| {
            while going.next_if(|gone| gone < id).is_some() {}
            going.peek() != Some(id)
        });
        self.jobs.references.extend(remaining);
        Ok(self.jobs)
    }
}

impl FoundJobs {
    /// Finds the runs of those applicants that have finished, if any run has an unfinished job.
    fn find_runs(&mut self, snapshot: &Snapshot<'_>) -> Result<(), StoreError> {
        let unfinished = self.applicants.iter().filter(|applicant| applicant.unfinished);
        let runs: HashSet<i64> = self
            .relations
            .active_runs
            .iter()
            .copied()
            .chain(unfinished.filter_map(|applicant| applicant.run))
            .collect();
        if runs.is_empty() {
            return Ok(());
        }
        let applicants = &mut self.applicants;
        let whole: Vec<i64> =
            applicants.iter().filter(|applicant| !applicant.recalled).map(|applicant| applicant.id).collect();
        let belongs = |id, run| {
            if let Some(place) = place_of(id, applicants) {
                applicants[place].run = Some(run);
            }
        };
        if self.runs_are_known {
            return snapshot.runs_of_jobs(whole, belongs);
        }
        snapshot.jobs_of_runs(&runs, belongs)?;
        if let Some(seen) = self.jobs.seen.as_mut().filter(|_| !snapshot.layout().jobs.runs_are_indexed) {
            seen.add_runs(|id| place_of(id, applicants).and_then(|place| applicants[place].run));
        }
        Ok(())
    }
}

fn place_of(id: i64, applicants: &[Applicant]) -> Option<usize> {
    applicants.binary_search_by_key(&id, |applicant| applicant.id).ok()
}

/// If fewer than one in 8 of the jobs read so far may go, each of these is weighed by a look-up of its own.
const RARE: usize = 8;

/// Where jobs have fewer bytes than this on average, nearly all of them are on one page each.
const SMALL: u64 = 2048;

impl Jobs {
    fn keep(&mut self, id: i64, why: Why) {
        *match why {
            Why::Excepted => &mut self.kept.excepted,
            Why::OtherPhase => &mut self.kept.other_phase,
            Why::Undated => &mut self.kept.undated,
            Why::Recent => &mut self.kept.recent,
            Why::Active => &mut self.kept.active,
            Why::Unstoppable(error) => {
                self.fail(id, &error);
                self.unstoppable.insert(id, error);
                &mut self.kept.unstoppable
            }
        } += 1;
    }

    fn keep_against(&mut self, id: i64, against: Against, table: &str) {
        *match against {
            Against::RunActive => &mut self.kept.run_active,
            Against::KeptLast => &mut self.kept.kept_last,
            Against::Referenced => {
                self.fail(id, &format!("held by a foreign key of table {table}"));
                &mut self.kept.referenced
            }
        } += 1;
    }

    /// The one place where an error is told.
    fn fail(&mut self, id: i64, error: &str) {
        self.errors.insert(id, format!("job {id}: {error}"));
    }
}
