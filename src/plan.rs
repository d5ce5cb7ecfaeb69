//! The decision: which jobs and which actions go, why the others stay, and the token that binds a later call to it.
//!
//! The same code decides for a dry run, before the write lock, and under it. It reads the whole of one snapshot and
//! writes nothing. Rows may be gathered on two threads; the decision is made on one, in the order of the ids.
//!
//! # A scenario
//!
//! A build of kind `web` runs each hour. Its creator sets the action, and creates the job a second later. The job ends, and
//! eight days later `--older-than 7d --keep-last 10` comes by. The job goes, since it has ended long ago and ten younger ones
//! succeeded; its action goes with it, since nothing else refers to it. An action whose job went in April, and which that
//! cleanup forgot, goes as *leaked*. The action that was set a second ago stays: its job is not there yet.
//!
//! # A job goes only if all of these hold
//!
//! 1. Its tags hold every tag asked for and the root tag: those in its column `tags`, or, where that is NULL or a JSON
//!    null, those in its spec (hero_proc#50). Malformed tags hold nothing.
//! 2. It carries no excepted tag (`excepted`).
//! 3. Its phase is one of those asked for (`other_phase`).
//! 4. With a cut-off: its creation time is usable, an integer of at least [`FIRST_MS`] (`undated`), and neither that nor the
//!    end that its row names is after the cut-off (`recent`). A job that ended a minute ago has not been read by anyone yet,
//!    however long ago it was created.
//! 5. Its phase is one of the terminal phases (`active`). With `force`, instead: the host has stopped it in this call, and its
//!    row has not been started again since (`unstoppable`).
//! 6. No other job of its run is unfinished and stays (`run_active`): the finished half of a run is what the other half may be
//!    waiting for.
//! 7. It is not among the last of its group (`kept_last`), of which successes and failures are counted apart.
//! 8. No row that stays holds on to it by a foreign key (`referenced`). A job that goes in the same call holds nothing.
//! 9. Fewer than `limit` jobs are taken before it, and none of those that it waits for is left (`over_limit`). Where no limit
//!    was given, those before it and itself, with their actions, weigh no more than 1 GiB, too.
//!
//! The first condition that fails is the reason under which it is counted. A job that this call has stopped is judged as it
//! was before. Conditions 1 to 5 are decided by the row alone ([`job`]), 6 to 8 by all rows together, and the order in which
//! jobs are taken by what waits for what ([`choice`], [`order`]).
//!
//! # An action goes only if all of these hold
//!
//! 1. A job that goes in this call refers to it: in the same context, byte for byte, by its `action_id`, else by its `action`.
//!    Or it is *leaked*: no job that remains refers to it, and its own spec carries every tag asked for and no excepted one.
//! 2. No job that remains refers to it (`job`), whatever its age, phase and tags; nor does the spec of one that has not
//!    finished.
//! 3. No service of its context lists it (`service`).
//! 4. No action of its context that remains depends on it (`action`). This is taken to a fixed point: an action that stays for
//!    one reason keeps what it depends on, and two that depend only on each other both go.
//! 5. It has no schedule (`schedule`).
//! 6. Its own spec carries the root tag (`untagged`).
//! 7. It was set neither after the cut-off nor within the host's grace (`recent`). A leaked action says when it was set
//!    (`undated`).
//! 8. If it is leaked: fewer than `limit` leaked ones go before it, and none that depends on it is left.
//!
//! The first of 2 to 7 that fails is its [`Reason`](crate::Reason), with the referrer that comes first: the job with the lowest
//! id, the service with the first name, the action with the lowest id. A reference is read generously ([`references`]), since
//! a reference that is overlooked deletes something that is needed.
//!
//! # Why no interleaving breaks this
//!
//! What is deleted is what the last decision names, and that decision holds at the moment of the commit: it was made
//! under the write lock, or on a snapshot after which no other connection has committed, which SQLite's `data_version`
//! tells once the lock is held. Between lock and commit nobody else writes. So a job or a reference that was created,
//! changed or removed at any time is either seen by that decision or comes after the commit.
//!
//! The decision under the lock may read less than the one before ([`seen`]): other writers wait for it. It still reads whole
//! whatever goes, and whatever could keep that from going.
//!
//! A reference that comes after the commit can miss its action only if its creator has set the action before: setting is an
//! upsert, so a creator that sets the action later makes it anew. An action that was set less than the grace ago stays
//! (condition 7), so a creator is safe if its second step follows the first within the grace. An action that somebody set
//! again while the call ran was set after the call's moment, and is recent as well.

mod actions;
mod choice;
mod groups;
mod job;
mod jobs;
mod order;
pub(crate) mod references;
mod seen;
mod token;

use std::collections::{BTreeMap, HashMap};

use crate::host::{Job, JobControl};
use crate::report::{JobsKept, KeptAction};
use crate::request::{KeepLast, Request};
use crate::store::{Snapshot, StoreError};

use references::Keys;
pub(crate) use seen::Seen;
use seen::SeenJobs;
pub use token::{PlanToken, PlanTokenError};

/// The lowest time that can be one in milliseconds: anything below would be before 1973.
pub(crate) const FIRST_MS: i64 = 100_000_000_000;

/// The criteria by which jobs and actions are chosen: the request, and the call's moments and means.
pub(crate) struct Criteria<'c> {
    pub(crate) request: &'c Request,
    /// No job may have been created or have ended after this moment, and no action may have been set.
    pub(crate) cutoff_ms: Option<i64>,
    /// The moment from which the grace is counted.
    pub(crate) now_ms: i64,
    /// An action that was set after this moment stays: its job may not be there yet.
    pub(crate) grace_from_ms: i64,
    /// Whether an unfinished job keeps the others of its run.
    pub(crate) runs: Runs,
    pub(crate) unfinished: Unfinished<'c>,
}

/// Whether jobs of one run belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    Hold,
    Ignored,
}

impl Criteria<'_> {
    fn runs_hold(&self) -> bool {
        self.runs == Runs::Hold
    }

    /// The job `id` as it was before this call stopped it, if it did.
    fn stopped(&self, id: i64) -> Option<&Stopped> {
        match self.unfinished {
            Unfinished::Stopped(stops) => stops.stopped.get(&id),
            Unfinished::Stay | Unfinished::Stop(_) => None,
        }
    }

    /// Whether this call could not stop the job `id`.
    fn tried_in_vain(&self, id: i64) -> bool {
        matches!(self.unfinished, Unfinished::Stopped(stops) if stops.failed.contains_key(&id))
    }

    /// The jobs that this call has stopped.
    fn all_stopped(&self) -> impl Iterator<Item = i64> {
        let stops = match self.unfinished {
            Unfinished::Stopped(stops) => Some(stops),
            Unfinished::Stay | Unfinished::Stop(_) => None,
        };
        stops.into_iter().flat_map(|stops| stops.stopped.keys().copied())
    }

    /// Whether jobs are grouped by `tag`.
    fn groups_by(&self, tag: &str) -> bool {
        match &self.request.keep_last {
            Some(KeepLast { by: Some(prefixes), .. }) => prefixes.iter().any(|prefix| tag.starts_with(prefix.as_str())),
            Some(KeepLast { by: None, .. }) => true,
            None => false,
        }
    }
}

/// The fate of jobs that have not finished.
#[derive(Clone, Copy)]
pub(crate) enum Unfinished<'c> {
    /// They stay.
    Stay,
    /// They go if the host can stop them.
    Stop(&'c dyn JobControl),
    /// Those go that the host has stopped.
    Stopped(&'c Stops),
}

/// The outcome of stopping jobs.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    /// The stopped jobs, as they were before.
    pub(crate) stopped: HashMap<i64, Stopped>,
    /// Why each of the others could not be stopped.
    pub(crate) failed: HashMap<i64, String>,
}

/// A job that has not finished, before it is stopped.
#[derive(Debug, Clone)]
pub(crate) struct Stopped {
    pub(crate) job: Job,
    pub(crate) finished_at: Option<i64>,
    pub(crate) run: Option<i64>,
}

/// The decision about one snapshot.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) jobs_matched: u64,
    /// Ids, ascending.
    pub(crate) jobs: Vec<i64>,
    pub(crate) jobs_kept: JobsKept,
    /// Those of `jobs` that have not finished.
    pub(crate) to_stop: Vec<Stopped>,
    /// Why each other job that has not finished can't be stopped.
    pub(crate) unstoppable: HashMap<i64, String>,
    /// Row ids, ascending.
    pub(crate) actions: Vec<i64>,
    /// The names of `actions`, sorted.
    pub(crate) action_names: Vec<String>,
    /// The number of `actions` that no planned job refers to.
    pub(crate) actions_leaked: u64,
    /// The candidates that stay, sorted by name, as far as they are listed.
    pub(crate) actions_kept: Vec<KeptAction>,
    /// The number of candidates that stay.
    pub(crate) actions_kept_count: u64,
    /// Rows of other tables that foreign keys on the planned jobs take along or set to NULL, by table.
    pub(crate) dependents: BTreeMap<String, u64>,
    pub(crate) errors: Vec<String>,
    /// The bytes of text and blobs in the rows of jobs and actions that go.
    pub(crate) bytes: u64,
    /// The limit left jobs or leaked actions to further calls, and this call takes something.
    pub(crate) more: bool,
    pub(crate) token: PlanToken,
}

impl Plan {
    /// Whether nothing goes.
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.actions.is_empty()
    }
}

/// How a decision reads the jobs.
#[derive(Clone, Copy)]
enum Reading<'s> {
    /// Whole.
    Whole,
    /// Whole, and what is left alone is remembered.
    Remember,
    /// Whole where it must be, else by what is remembered.
    Again(&'s SeenJobs),
}

/// Decides about `snapshot`.
pub(crate) fn decide(snapshot: &Snapshot<'_>, criteria: &Criteria<'_>) -> Result<Plan, StoreError> {
    Ok(decide_by(snapshot, criteria, &Keys::new(), Reading::Whole)?.0)
}

/// Decides about `snapshot`, and remembers the jobs that are left alone, if a later decision about the same store has to read
/// less because of it.
pub(crate) fn decide_and_remember(
    snapshot: &Snapshot<'_>,
    criteria: &Criteria<'_>,
) -> Result<(Plan, Option<Seen>), StoreError> {
    let keys = Keys::new();
    let (plan, jobs) = decide_by(snapshot, criteria, &keys, Reading::Remember)?;
    Ok((plan, jobs.map(|jobs| Seen { keys, layout: snapshot.layout().clone(), jobs })))
}

/// Decides about `snapshot`, of a store of which `seen` is remembered, and reads no more than it must.
///
/// The decision falls back on reading everything if it would take a job that has not been read whole, since the job was over
/// the limit or kept before; or if a job because of which `keep_last` let others go is no longer a member of its group.
pub(crate) fn decide_again(
    snapshot: &Snapshot<'_>,
    criteria: &Criteria<'_>,
    seen: Option<&Seen>,
) -> Result<Plan, StoreError> {
    match seen.filter(|seen| seen.layout == *snapshot.layout()) {
        Some(seen) => Ok(decide_by(snapshot, criteria, &seen.keys, Reading::Again(&seen.jobs))?.0),
        None => decide(snapshot, criteria),
    }
}

fn decide_by(
    snapshot: &Snapshot<'_>,
    criteria: &Criteria<'_>,
    keys: &Keys,
    reading: Reading<'_>,
) -> Result<(Plan, Option<SeenJobs>), StoreError> {
    let mut jobs = jobs::decide(snapshot, criteria, keys, reading)?;
    let seen = jobs.seen.take();
    let actions = actions::decide(snapshot, criteria, keys, &mut jobs)?;
    let token = jobs.digest.token(criteria, jobs.ids.len(), &actions, &jobs.dependents);
    let takes = !jobs.ids.is_empty() || !actions.ids.is_empty();
    let plan = Plan {
        jobs_matched: jobs.matched,
        bytes: jobs.bytes + actions.bytes,
        more: takes && (jobs.kept.over_limit > 0 || actions.left > 0),
        jobs: jobs.ids,
        jobs_kept: jobs.kept,
        to_stop: jobs.to_stop,
        unstoppable: jobs.unstoppable,
        actions: actions.ids,
        action_names: actions.names,
        actions_leaked: actions.leaked,
        actions_kept: actions.kept,
        actions_kept_count: actions.kept_count,
        dependents: jobs.dependents,
        errors: jobs.errors.into_values().collect(),
        token,
    };
    Ok((plan, seen))
}
