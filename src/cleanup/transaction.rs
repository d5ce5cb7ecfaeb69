//! The transaction: everything that is decided goes, or nothing.
//!
//! ```text
//! BEGIN IMMEDIATE ─┬─ nobody else has written since the plan: DELETE … ──────────────┬─ COMMIT
//!                  └─ others have: decide again, and meanwhile DELETE … ─ the rest ──┘
//! ```
//!
//! Deciding again is the same function as deciding. It looks at the whole store, if not at each row whole
//! ([`Seen`](crate::plan::Seen)): other writers would wait that long for nothing but a look. So the rows of the plan are
//! deleted meanwhile, where SQLite lets other connections read beside the one that writes (WAL). Those begin under the
//! lock and see nothing that isn't committed, so they read the store as this transaction found it. Two connections read:
//! while the lock is held, the host's writers wait anyway, and a second core makes that wait shorter. If the new decision
//! names everything that was deleted, the rest of what it names is deleted too. If not, all is undone, and done again one
//! after the other. Either way nothing is committed but what the last decision names, which was made about the store as
//! it is under the lock: [`plan`](crate::plan) says why nothing slips past it.

use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use tracing::info_span;

use super::Error;
use crate::plan::{self, Criteria, Plan, Seen};
use crate::store::{Committed, Layout, Locked, Store, StoreError};

/// A plan, and the store that it was made of.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// What the plan left alone, if deciding again may read less because of it.
    pub(super) seen: Option<Seen>,
    pub(super) layout: Layout,
    pub(super) version: i64,
}

/// Deletes what is planned, and empties the WAL. If others have written since, it is planned anew, and deleted if `expect`
/// agrees.
pub(super) fn run(
    store: &mut Store<'_>,
    criteria: &Criteria<'_>,
    planned: Planned,
    expect: impl Fn(&Plan) -> Result<(), Error>,
) -> Result<(Plan, Committed), Error> {
    let (again, committed) = commit(store, criteria, &planned, expect)?;
    // Before anything else, such as giving memory back: the next to commit would do this work, and wait for it.
    store.checkpoint();
    Ok((again.unwrap_or(planned.plan), committed))
}

/// Deletes and commits. Returns the plan that was carried out if it was made anew.
fn commit(
    store: &mut Store<'_>,
    criteria: &Criteria<'_>,
    planned: &Planned,
    expect: impl Fn(&Plan) -> Result<(), Error>,
) -> Result<(Option<Plan>, Committed), Error> {
    let Planned { plan, seen, layout, version } = planned;
    let seen = seen.as_ref();
    let beside = store.beside();
    let bytes_each = plan.bytes / (plan.jobs.len() + plan.actions.len()).max(1) as u64;
    let mut locked = store.lock(bytes_each)?;
    let mut held_before = Duration::ZERO;
    if plan.to_stop.is_empty() {
        if locked.version()? == *version {
            drop(beside);
            return Ok((None, delete_all(locked, plan)?));
        }
        if let Some(beside) = beside
            && layout.foreign_keys.none()
            && *locked.layout() == *layout
        {
            if let Some(again) = decide_and_delete(&mut locked, beside, criteria, (plan, seen), &expect)? {
                let committed = locked.commit(&again.jobs, &again.actions)?;
                return Ok((Some(again), committed));
            }
            held_before = locked.undo();
            locked = store.lock(bytes_each)?;
        }
    }
    let again = info_span!("decide again").in_scope(|| plan::decide_again(&locked, criteria, seen))?;
    expect(&again)?;
    let committed = delete_all(locked, &again)?;
    Ok((Some(again), Committed { lock: held_before + committed.lock, ..committed }))
}

/// Deletes what `plan` names while it is decided again on threads and connections of their own; then what the new plan names
/// beyond. None if the new plan lacks something that was deleted, or could not be made: then all is to be undone.
fn decide_and_delete(
    locked: &mut Locked<'_>,
    mut beside: Store<'_>,
    criteria: &Criteria<'_>,
    (plan, seen): (&Plan, Option<&Seen>),
    expect: impl Fn(&Plan) -> Result<(), Error>,
) -> Result<Option<Plan>, Error> {
    let _span = info_span!("decide again").entered();
    let both = thread::scope(|scope| {
        let decide = move || plan::decide_again(&beside.read()?, criteria, seen);
        let again = thread::Builder::new().spawn_scoped(scope, decide).ok()?;
        let deleted = locked.delete(&plan.jobs, &plan.actions);
        Some((again.join().unwrap_or_else(|panic| resume_unwind(panic)), deleted))
    });
    let (again, deleted) = match both {
        Some((Ok(again), deleted)) => (again, deleted),
        Some((Err(StoreError::Cancelled), _)) => return Err(StoreError::Cancelled.into()),
        // The other connection is a help, not a need.
        Some((Err(_), _)) | None => return Ok(None),
    };
    expect(&again)?;
    let (Some(jobs), Some(actions)) = (beyond(&plan.jobs, &again.jobs), beyond(&plan.actions, &again.actions)) else {
        return Ok(None);
    };
    deleted?;
    locked.delete(&jobs, &actions)?;
    Ok(Some(again))
}

/// The ids of `all` beyond those of `some`, if `all` holds every one of them. Both ascend.
fn beyond(some: &[i64], all: &[i64]) -> Option<Vec<i64>> {
    let mut some = some.iter().peekable();
    let beyond = all.iter().filter(|id| some.next_if_eq(id).is_none()).copied().collect();
    some.next().is_none().then_some(beyond)
}

/// Deletes what `plan` names, carries out the foreign keys on it, and commits.
fn delete_all(mut locked: Locked<'_>, plan: &Plan) -> Result<Committed, StoreError> {
    locked.carry_out_foreign_keys(&plan.jobs)?;
    locked.delete(&plan.jobs, &plan.actions)?;
    locked.commit(&plan.jobs, &plan.actions)
}
