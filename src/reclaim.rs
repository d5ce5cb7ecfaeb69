//! Giving the store's free pages back to the file system: look, decide, then do.
//!
//! ```text
//! attach ─ look (one snapshot, the disk) ─ decide ─┬─ skip, or a dry run: what would be done
//!                                                  ├─ VACUUM ──────────────────────────────┬─ checkpoint
//!                                                  └─ a step, a pause, a step, … ──────────┘
//! ```
//!
//! Deleted rows leave free pages in the file, which SQLite uses again but never gives back. `VACUUM` writes the store anew
//! without them, in one transaction that costs the bytes that are left, not those that went. A store with `auto_vacuum`
//! incremental can also be cut short from its end, page by page; this costs the bytes that went, so it is done in steps.
//!
//! # Why nothing can be lost
//!
//! * No row is read or written by this crate. What moves pages is SQLite's own `VACUUM` and `incremental_vacuum`, each in a
//!   transaction: whatever ends it early (an error, a full disk, an interrupt, the end of the process) leaves the store as
//!   it was, as it does with any other transaction, and the next one to open the store recovers it.
//! * A `VACUUM` copies into a temporary file, then back. In WAL mode it copies back into the WAL, so the file is as it was
//!   until a checkpoint after the commit; with a rollback journal, each page is saved there before it is overwritten. The
//!   file is cut short only once every page is in its place.
//! * Other writers wait; so they lose nothing, and what they committed before is copied. Readers keep their snapshot: the
//!   file is not cut short while one of them may still look at the old pages.
//! * What SQLite does not promise to keep is a row id that is no INTEGER PRIMARY KEY. hero_proc's tables refer to each other
//!   by ids that are. Where a virtual table or a trigger may refer to such a row id, by itself or through a view, no `VACUUM`
//!   is done (`rowids_in_use`).
//! * The journal mode, `auto_vacuum`, the page size and every other setting of the file are what `VACUUM` keeps. What is set
//!   on the connection ends with it; it is one of our own, even where the host has lent its own.
//!
//! # How long the lock is held
//!
//! Nobody else can write during a `VACUUM`. Its time follows from the live bytes, so it is predicted before anything is
//! touched, and skipped if that is too long ([`cost`]). A machine that is slower than predicted is noticed in its first half,
//! which can be ended; the second can't. The checkpoint after it works beside other writers, but for the emptying of the WAL.

mod cost;
mod decision;
mod work;

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::report::milliseconds;
use crate::store::{Access, Journal, Store, StoreError, StoreRef, Wal};
use decision::{Decision, decide, look, most_in_a_step};
use work::Did;

/// `within_ms` unless given, if the host lets callers have as much.
pub(crate) const DEFAULT_WITHIN: Duration = Duration::from_secs(1);
/// `min_free_percent` unless given.
pub(crate) const DEFAULT_MIN_FREE_PERCENT: u8 = 20;
/// `min_free_bytes` unless given.
pub(crate) const DEFAULT_MIN_FREE_BYTES: u64 = 16 << 20;

/// A request to give space back. A request that exists is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReclaimRequest {
    /// The longest that the write lock may be held: by one `VACUUM`, which may exceed it by a quarter, or by the sum of the
    /// steps. More than [`Host::longest_lock`] is not had.
    pub within: Duration,
    /// Give space back only if at least this share of the file is free, in percent.
    pub min_free_percent: u8,
    /// Give space back only if at least this many bytes of the file are free.
    pub min_free_bytes: u64,
    /// Whether anything is done.
    pub mode: ReclaimMode,
}

impl Default for ReclaimRequest {
    /// Within a second, if a fifth of the file and 16 MiB are free.
    fn default() -> Self {
        let (min_free_percent, min_free_bytes) = (DEFAULT_MIN_FREE_PERCENT, DEFAULT_MIN_FREE_BYTES);
        Self { within: DEFAULT_WITHIN, min_free_percent, min_free_bytes, mode: ReclaimMode::Reclaim }
    }
}

/// Whether space is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReclaimMode {
    /// Say what would be done; write nothing, take no lock.
    DryRun,
    /// Give space back.
    Reclaim,
}

/// What giving space back came to, or, in a dry run, would come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reclaimed {
    /// Whether this was a dry run, in which nothing is done.
    pub dry_run: bool,
    /// How much of the space was given back.
    pub outcome: ReclaimOutcome,
    /// Why it was done partly, or skipped.
    pub reason: Option<ReclaimReason>,
    /// How space is given back; none where there is no way, or no need.
    pub method: Option<ReclaimMethod>,
    /// The size of the file before; 0 for a store in memory.
    pub file_bytes_before: u64,
    /// The size of the file after; in a dry run, an estimate.
    pub file_bytes_after: u64,
    /// The size of the WAL after; 0 where there is none.
    pub wal_bytes_after: u64,
    /// Bytes in pages that held nothing before.
    pub free_bytes_before: u64,
    /// Bytes needed in the directory that SQLite uses for temporary files. If the store is on the same file system, the sum
    /// of both needs must be free there.
    pub temp_needed_bytes: Option<u64>,
    /// Bytes that are free there; none where the system does not say.
    pub temp_free_bytes: Option<u64>,
    /// Bytes needed beside the store.
    pub store_needed_bytes: Option<u64>,
    /// Bytes that are free there; none where the system does not say.
    pub store_free_bytes: Option<u64>,
    /// How long the write lock was expected to be held, in milliseconds.
    pub expected_lock_ms: Option<f64>,
    /// How long the write lock was held, in milliseconds, the emptying of the WAL included; none in a dry run.
    pub lock_ms: Option<f64>,
    /// How long the call took, in milliseconds.
    pub duration_ms: f64,
}

/// How much of the space was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReclaimOutcome {
    /// All of the space.
    Done,
    /// A part of the space; or all of it, but the file becomes short only later.
    Partly,
    /// No space. The store is as it was.
    Skipped,
}

/// Why space was given back partly, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReclaimReason {
    /// The time was up between two steps: the next call goes on from there.
    Time,
    /// Somebody reads an older state of the store: the file becomes short when they have ended.
    Reader,
    /// Too little of the file is free for it to be worth while.
    TooLittleFree,
    /// The store gives its free pages back by itself (`auto_vacuum` full), or has none.
    NothingToDo,
    /// The write lock would be held for too long, or was about to be: then it was given back with nothing changed.
    LockTooLong,
    /// There is too little room on disk.
    DiskTooFull,
    /// The store is in memory.
    InMemory,
    /// Others may rely on row ids that a `VACUUM` may change.
    RowidsInUse,
}

/// The word that results have.
impl Display for ReclaimOutcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The word that results have.
impl Display for ReclaimReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How space is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReclaimMethod {
    /// The store is written anew, at once.
    Vacuum,
    /// The file is cut short from its end, in steps with pauses between them.
    Incremental,
}

/// Gives the store's free pages back to the file system, if that is worth while, fits on the disk, and does not hold the
/// write lock for too long.
///
/// Blocks for as long as it takes: see [`Reclaimed::duration_ms`]. A store that the host lends as a connection is reached
/// through its file, by a connection of our own.
///
/// ```no_run
/// use hero_proc_cleanup::{Guard, Host, ReclaimRequest, reclaim};
///
/// let host = Host::new(Guard::codescaler());
/// let reclaimed = reclaim(std::path::Path::new("hero_proc.db"), &host, &ReclaimRequest::default())?;
/// println!("{} bytes, of which {} are left", reclaimed.file_bytes_before, reclaimed.file_bytes_after);
/// # Ok::<(), hero_proc_cleanup::StoreError>(())
/// ```
///
/// # Errors
///
/// [`StoreError::Busy`] if the write lock can't be had, and whatever else keeps the store from being used. No error leaves
/// anything lost.
pub fn reclaim<'s>(
    store: impl Into<StoreRef<'s>>,
    host: &Host,
    request: &ReclaimRequest,
) -> Result<Reclaimed, StoreError> {
    let started = Instant::now();
    let store = store.into();
    let access = match request.mode {
        ReclaimMode::DryRun => Access::Read,
        ReclaimMode::Reclaim => Access::Reclaim,
    };
    let file = store.file()?.map(ToOwned::to_owned);
    let mut store = Store::attach(file.as_deref().map_or(store, StoreRef::Path), access, host)?;
    reclaim_attached(&mut store, host, request, started).map_err(|error| store.explain(error))
}

fn reclaim_attached(
    store: &mut Store<'_>,
    host: &Host,
    request: &ReclaimRequest,
    started: Instant,
) -> Result<Reclaimed, StoreError> {
    let within = request.within.min(host.longest_lock);

    let file_bytes_before = store.space(host.lock_timeout).map_or(0, |space| space.file_bytes());
    let mut sight = look(store, host)?;
    let mut did = Did::default();
    let mut bytes_of_plan = None;
    if let Some(space) = store.space(host.lock_timeout)
        && space.journal() == Journal::Wal
        && space.file_bytes() > space.bytes()?
    {
        // A reader was in the way of an earlier call, whose checkpoint is made up for. Then the room of the WAL is free.
        bytes_of_plan = Some(space.bytes()?);
        match request.mode {
            ReclaimMode::DryRun => did.outcome = Some((ReclaimOutcome::Done, None)),
            ReclaimMode::Reclaim => {
                did.checkpoint(&space, Wal::Emptied)?;
                sight = look(store, host)?;
            }
        }
    }
    let Decision { method, cost, skip } = decide(&sight, request, within);
    if skip.is_none() {
        bytes_of_plan = Some(sight.pages.live * sight.pages.size);
    }
    let space = store.space(host.lock_timeout);
    if let Some(space) = &space {
        match (skip, method, &cost) {
            (Some(reason), ..) => did.leave(reason),
            _ if request.mode == ReclaimMode::DryRun => {}
            // Whatever is done now would make the WAL longer, and the file no shorter.
            _ if matches!(did.outcome, Some((ReclaimOutcome::Partly, _))) => {}
            (None, Some(ReclaimMethod::Vacuum), Some(cost)) => did.vacuum(space, cost.first_half(within))?,
            (None, Some(ReclaimMethod::Incremental), _) => {
                let give_up = Instant::now() + host.lock_timeout;
                did.steps(space, most_in_a_step(&sight), within, give_up)?;
            }
            _ => {}
        }
    }

    let (file_bytes_after, wal_bytes_after) =
        space.as_ref().map_or((0, 0), |space| (space.file_bytes(), space.wal_bytes()));
    let planned = skip.map_or((ReclaimOutcome::Done, None), |reason| (ReclaimOutcome::Skipped, Some(reason)));
    let (outcome, reason) = did.outcome.unwrap_or(planned);
    let reclaimed = Reclaimed {
        dry_run: request.mode == ReclaimMode::DryRun,
        outcome,
        reason,
        method,
        file_bytes_before,
        file_bytes_after: match request.mode {
            ReclaimMode::DryRun => bytes_of_plan.unwrap_or(file_bytes_after),
            ReclaimMode::Reclaim => file_bytes_after,
        },
        wal_bytes_after,
        free_bytes_before: sight.pages.free * sight.pages.size,
        temp_needed_bytes: cost.map(|cost| cost.temp_bytes),
        temp_free_bytes: cost.and(sight.disk).and_then(|disk| disk.temporary.free_bytes),
        store_needed_bytes: cost.map(|cost| cost.store_bytes),
        store_free_bytes: cost.and(sight.disk).and_then(|disk| disk.beside.free_bytes),
        expected_lock_ms: cost.map(|cost| milliseconds(cost.lock)),
        lock_ms: (request.mode == ReclaimMode::Reclaim).then(|| milliseconds(did.lock)),
        duration_ms: milliseconds(started.elapsed()),
    };
    if !reclaimed.dry_run {
        let Reclaimed { lock_ms, duration_ms, .. } = reclaimed;
        let reason = reason.map(tracing::field::display);
        tracing::info!(%outcome, reason, file_bytes_before, file_bytes_after, lock_ms, duration_ms, "space reclaimed");
    }
    Ok(reclaimed)
}
