//! The transaction: everything that is decided goes, or nothing.
//!
//! ```text
//! BEGIN IMMEDIATE ─┬─ nobody else has written since the plan: DELETE … ──────────────┬─ COMMIT
//!                  └─ others have: decide again, and meanwhile DELETE … ─ the rest ──┘
//! ```
//!
//! Deciding again is the same function as deciding, and reads the whole store: as long as that takes, others would wait
//! for nothing but a look. So the rows of the plan are deleted meanwhile, where SQLite lets a second connection read beside
//! the one that writes (WAL). What it reads is what this transaction began with: it begins under the lock, and sees nothing
//! that isn't committed. If the new decision names everything that was deleted, what it names beyond that is deleted too.
//! If not, all is undone, and done again one after the other. Either way nothing is committed but what the last decision
//! names, which was made about the store as it is under the lock: [`plan`](crate::plan) says why nothing slips past it.

use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use tracing::info_span;

use super::Error;
use crate::plan::{self, Criteria, Plan};
use crate::store::layout::Layout;
use crate::store::rows::{self, Doomed};
use crate::store::{Snapshot, Store, StoreError};

/// A plan, and the version of the store that it was made of.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) layout: Layout,
    pub(super) version: i64,
}

/// What a transaction did beside deleting what its plan names.
#[derive(Default)]
pub(super) struct Done {
    pub(super) bytes_freed: u64,
    /// For how long the write lock was held.
    pub(super) lock: Duration,
}

/// Deletes what is planned or, once others have written, what would be planned now, if that is what is expected.
pub(super) fn run(
    store: &mut Store<'_>,
    criteria: &Criteria<'_>,
    planned: Planned,
    expect: impl Fn(&Plan) -> Result<(), Error>,
    go_on: impl Fn() -> Result<(), Error> + Sync,
) -> Result<(Plan, Done), Error> {
    let Planned { plan, layout, version } = planned;
    let beside = store.beside();
    let mut locked = Locked::begin(store)?;
    if plan.to_stop.is_empty() {
        if locked.snapshot.version()? == version {
            delete_all(&locked.snapshot, &layout, &plan, &go_on)?;
            return Ok((plan, locked.commit(&go_on)?));
        }
        if let Some(beside) = beside
            && layout.foreign_keys.none()
            && locked.snapshot.layout()? == layout
        {
            let again = decide_and_delete(&locked.snapshot, beside, &layout, criteria, &plan, &expect, &go_on)?;
            if let Some(again) = again {
                return Ok((again, locked.commit(&go_on)?));
            }
            let lock = locked.undo();
            locked = Locked { lock, ..Locked::begin(store)? };
        }
    }
    let (plan, layout) = info_span!("decide again").in_scope(|| {
        let layout = locked.snapshot.layout()?;
        let plan = plan::decide(&locked.snapshot, &layout, criteria, &go_on)?;
        expect(&plan)?;
        Ok::<_, Error>((plan, layout))
    })?;
    delete_all(&locked.snapshot, &layout, &plan, &go_on)?;
    Ok((plan, locked.commit(&go_on)?))
}

/// The store under the write lock.
struct Locked<'s> {
    snapshot: Snapshot<'s>,
    since: Instant,
    /// For how long it was held before.
    lock: Duration,
    /// Bytes in pages that held nothing when it began.
    free: u64,
}

impl<'s> Locked<'s> {
    fn begin(store: &'s mut Store<'_>) -> Result<Self, StoreError> {
        let snapshot = info_span!("lock").in_scope(|| store.lock())?;
        Ok(Self { since: Instant::now(), lock: Duration::ZERO, free: snapshot.free_bytes()?, snapshot })
    }

    /// Lets go of the lock with nothing deleted, and says for how long it was held.
    fn undo(self) -> Duration {
        drop(self.snapshot);
        self.lock + self.since.elapsed()
    }

    fn commit(self, go_on: impl Fn() -> Result<(), Error>) -> Result<Done, Error> {
        let bytes_freed = self.snapshot.free_bytes()?.saturating_sub(self.free);
        go_on()?;
        info_span!("commit").in_scope(|| self.snapshot.commit())?;
        Ok(Done { bytes_freed, lock: self.lock + self.since.elapsed() })
    }
}

/// Deletes what `plan` names while it is decided again on a thread and a connection of its own; then what the new plan names
/// beyond. None if the new plan lacks something that was deleted, or could not be made: then all is to be undone.
fn decide_and_delete(
    snapshot: &Snapshot<'_>,
    mut beside: Store<'_>,
    layout: &Layout,
    criteria: &Criteria<'_>,
    plan: &Plan,
    expect: impl Fn(&Plan) -> Result<(), Error>,
    go_on: impl Fn() -> Result<(), Error> + Sync,
) -> Result<Option<Plan>, Error> {
    let _span = info_span!("decide again").entered();
    let deciding = &go_on;
    let both = thread::scope(|scope| {
        let decide = move || plan::decide(&beside.read()?, layout, criteria, deciding);
        let again = thread::Builder::new().spawn_scoped(scope, decide).ok()?;
        let deleted = delete(snapshot, &plan.jobs, &plan.actions, &go_on);
        Some((again.join().unwrap_or_else(|panic| resume_unwind(panic)), deleted))
    });
    let (again, deleted) = match both {
        Some((Ok(again), deleted)) => (again, deleted),
        Some((Err(Error::Cancelled), _)) => return Err(Error::Cancelled),
        // The other connection is a help, not a need.
        Some((Err(_), _)) | None => return Ok(None),
    };
    expect(&again)?;
    let (Some(jobs), Some(actions)) = (beyond(&plan.jobs, &again.jobs), beyond(&plan.actions, &again.actions)) else {
        return Ok(None);
    };
    deleted?.and(delete(snapshot, &jobs, &actions, &go_on)?).check(&again)?;
    Ok(Some(again))
}

/// What `all` holds beyond `some`, if it holds all of that. Both ascend.
fn beyond(some: &[i64], all: &[i64]) -> Option<Vec<i64>> {
    let mut some = some.iter().peekable();
    let beyond = all.iter().filter(|id| some.next_if_eq(id).is_none()).copied().collect();
    some.next().is_none().then_some(beyond)
}

/// Deletes what `plan` names, and carries out the foreign keys on it.
fn delete_all(
    snapshot: &Snapshot<'_>,
    layout: &Layout,
    plan: &Plan,
    go_on: impl Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    layout.foreign_keys.carry_out(snapshot, &plan.jobs)?;
    delete(snapshot, &plan.jobs, &plan.actions, go_on)?.check(plan)
}

/// How many rows went.
struct Deleted {
    jobs: usize,
    actions: usize,
}

fn delete(
    snapshot: &Snapshot<'_>,
    jobs: &[i64],
    actions: &[i64],
    go_on: impl Fn() -> Result<(), Error>,
) -> Result<Deleted, Error> {
    let _span = info_span!("delete", jobs = jobs.len(), actions = actions.len()).entered();
    Ok(Deleted {
        jobs: rows::delete(snapshot, Doomed::Jobs, jobs, &go_on)?,
        actions: rows::delete(snapshot, Doomed::Actions, actions, &go_on)?,
    })
}

impl Deleted {
    fn and(self, rest: Self) -> Self {
        Self { jobs: self.jobs + rest.jobs, actions: self.actions + rest.actions }
    }

    /// That everything went which `plan` names.
    fn check(self, plan: &Plan) -> Result<(), Error> {
        for (table, planned, deleted) in
            [("jobs", plan.jobs.len(), self.jobs), ("actions", plan.actions.len(), self.actions)]
        {
            if planned != deleted {
                return Err(Error::Diverged { table, planned, deleted });
            }
        }
        Ok(())
    }
}
