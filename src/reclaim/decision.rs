//! Whether and how space is given back: from the size of the store, its settings, and the room on disk.

use std::time::Duration;

use super::cost::{self, Cost, Pages};
use super::{ReclaimMethod, ReclaimReason, ReclaimRequest};
use crate::host::Host;
use crate::store::{Facts, Journal, Room, Store, StoreError};

/// The most bytes that a step frees, if the disk has the room.
const MOST_IN_A_STEP: u64 = 8 << 20;
/// The pages of the first step, for which there must be room; how many the next ones take follows from how long it took.
pub(super) const FIRST_STEP: u64 = 16;

/// What decides whether and how space is given back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    pub(super) pages: Pages,
    auto_vacuum: &'static str,
    row_ids_are_used: bool,
    /// None for a store in memory.
    pub(super) disk: Option<Disk>,
}

/// How a store is on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disk {
    journal: Journal,
    /// Where SQLite makes temporary files.
    pub(super) temporary: Room,
    /// Where the store's WAL or journal is.
    pub(super) beside: Room,
}

pub(super) fn look(store: &mut Store<'_>, host: &Host) -> Result<Sight, StoreError> {
    let snapshot = store.read_alone()?;
    snapshot.go_on()?;
    let Facts { page_size, auto_vacuum, bytes, free_bytes, .. } = snapshot.facts()?;
    let row_ids_are_used = snapshot.row_ids_are_used()?;
    drop(snapshot);
    let pages =
        Pages { size: page_size, free: free_bytes / page_size, live: bytes.saturating_sub(free_bytes) / page_size };
    let disk = match store.space(host.lock_timeout) {
        Some(space) => {
            Some(Disk { journal: space.journal(), temporary: space.temporary_room()?, beside: space.room_beside() })
        }
        None => None,
    };
    Ok(Sight { pages, auto_vacuum, row_ids_are_used, disk })
}

/// The way in which space is given back, its cost, and the reason if nothing is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Decision {
    pub(super) method: Option<ReclaimMethod>,
    pub(super) cost: Option<Cost>,
    pub(super) skip: Option<ReclaimReason>,
}

/// The rules, in the order in which a reason is given.
pub(super) fn decide(sight: &Sight, request: &ReclaimRequest, within: Duration) -> Decision {
    let Sight { pages, auto_vacuum, row_ids_are_used, disk } = *sight;
    let nothing = |reason| Decision { method: None, cost: None, skip: Some(reason) };
    let Some(disk) = disk else { return nothing(ReclaimReason::InMemory) };
    let (method, cost) = match auto_vacuum {
        "full" => return nothing(ReclaimReason::NothingToDo),
        "incremental" => (ReclaimMethod::Incremental, Cost::of_steps(pages, disk.journal, FIRST_STEP)),
        _ => (ReclaimMethod::Vacuum, Cost::of_vacuum(pages, disk.journal)),
    };
    let is_vacuum = method == ReclaimMethod::Vacuum;
    let skip = if is_too_little(pages, request) {
        Some(ReclaimReason::TooLittleFree)
    } else if !is_vacuum && pages.free == 0 {
        Some(ReclaimReason::NothingToDo)
    } else if is_vacuum && row_ids_are_used {
        Some(ReclaimReason::RowidsInUse)
    } else if is_vacuum && cost.lock > within {
        Some(ReclaimReason::LockTooLong)
    } else if !has_room(&disk, &cost) {
        Some(ReclaimReason::DiskTooFull)
    } else {
        None
    };
    Decision { method: Some(method), cost: Some(cost), skip }
}

fn is_too_little(pages: Pages, request: &ReclaimRequest) -> bool {
    let all = u128::from(pages.free + pages.live);
    pages.free * pages.size < request.min_free_bytes
        || u128::from(pages.free) * 100 < all * u128::from(request.min_free_percent)
}

/// Whether the disk has the room. Where the system does not say how much there is, SQLite finds out, and undoes what it did.
fn has_room(disk: &Disk, cost: &Cost) -> bool {
    let fits = |room: Room, needed: u64| room.free_bytes.is_none_or(|free| needed <= free);
    if disk.temporary.is_shared_with(&disk.beside) {
        fits(disk.temporary, cost.temp_bytes + cost.store_bytes)
    } else {
        (cost.temp_bytes == 0 || fits(disk.temporary, cost.temp_bytes)) && fits(disk.beside, cost.store_bytes)
    }
}

/// The most pages of a step: as many as the disk has room for.
pub(super) fn most_in_a_step(sight: &Sight) -> u64 {
    let room = sight.disk.and_then(|disk| disk.beside.free_bytes).unwrap_or(u64::MAX);
    let pages = (room / cost::WRITTEN_FOR_ONE).min(MOST_IN_A_STEP) / sight.pages.size;
    pages.max(FIRST_STEP)
}
