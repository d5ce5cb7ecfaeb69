//! What giving space back costs: the time under the write lock, and the room on disk, from the size of the store alone.
//!
//! The figures are for a store that is in the page cache, and on the safe side: on the machine where they were taken
//! (2 cores, ext4, SQLite 3.54; rows of 50 B, 1 KB and 145 KB, pages of 512 B to 64 KiB), a `VACUUM` took 0.5 to 1.0 times
//! as long as is expected here. A slower machine is noticed while its first half runs: [`Cost::first_half`].

use std::time::Duration;

use crate::store::Journal;

/// What one of the methods costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cost {
    /// Bytes in the directory for temporary files.
    pub(super) temp_bytes: u64,
    /// Bytes beside the store, in its WAL or its journal.
    pub(super) store_bytes: u64,
    /// How long the write lock is held, in all.
    pub(super) lock: Duration,
    /// The share of that time after which a `VACUUM` copies back.
    share: f64,
}

/// The pages of a store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pages {
    /// In bytes.
    pub(super) size: u64,
    pub(super) free: u64,
    /// Pages that hold something.
    pub(super) live: u64,
}

/// By how much `within` may be exceeded.
const EXCESS: f64 = 1.25;

impl Cost {
    /// Of a `VACUUM`: it writes the live pages to a temporary file, then from there back into the store, which keeps as many
    /// in its WAL, or in its journal, until that is done.
    pub(super) fn of_vacuum(pages: Pages, journal: Journal) -> Self {
        let (at_all_ms, per_page_us, per_byte_us, share) = match journal {
            Journal::Wal => (2.0, 6.5, 0.0035, 0.45),
            // A rollback journal waits for the disk, three times.
            Journal::Rollback => (30.0, 6.5, 0.0085, 0.26),
        };
        let (live, size) = (pages.live as f64, pages.size as f64);
        Self {
            temp_bytes: pages.live * pages.size,
            store_bytes: pages.live * (pages.size + OF_A_FRAME),
            lock: Duration::from_secs_f64(at_all_ms / 1e3 + live * (per_page_us + per_byte_us * size) / 1e6),
            share,
        }
    }

    /// The cost of all steps. Their room is that of the first step: the next ones take no more than there is.
    pub(super) fn of_steps(pages: Pages, journal: Journal, first_step: u64) -> Self {
        let (per_page_us, per_byte_us) = match journal {
            Journal::Wal => (4.0, 0.0012),
            Journal::Rollback => (8.0, 0.0035),
        };
        Self {
            temp_bytes: 0,
            store_bytes: WRITTEN_FOR_ONE * pages.free.min(first_step) * (pages.size + OF_A_FRAME),
            lock: Duration::from_secs_f64(pages.free as f64 * (per_page_us + per_byte_us * pages.size as f64) / 1e6),
            share: 1.0,
        }
    }

    /// The longest that the first half of a `VACUUM` may take, if the second, which can't be ended, is to end in time as well,
    /// on a machine that is slower than expected by as much.
    pub(super) fn first_half(&self, within: Duration) -> Duration {
        within.mul_f64(EXCESS * self.share)
    }
}

/// How many pages are written to free one, at most: the last page of the file takes its place, the page that leads to that one
/// changes, and so do the map of such pages and the list of free ones.
pub(super) const WRITTEN_FOR_ONE: u64 = 4;
/// What a WAL, or a journal, holds beside a page, at most.
const OF_A_FRAME: u64 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    /// Each time that was measured (in milliseconds) is less than the expected one, and not by far.
    #[test]
    fn what_was_measured_is_expected() {
        for (journal, size, live_mb, took_ms) in [
            (Journal::Wal, 4096, 54.4, 162.0),
            (Journal::Wal, 4096, 61.8, 248.0),
            (Journal::Wal, 4096, 82.2, 398.0),
            (Journal::Wal, 4096, 320.0, 1016.0),
            (Journal::Wal, 4096, 0.8, 3.9),
            (Journal::Wal, 512, 12.9, 205.0),
            (Journal::Wal, 512, 56.9, 805.0),
            (Journal::Wal, 65_536, 53.9, 195.0),
            (Journal::Rollback, 4096, 54.4, 326.0),
            (Journal::Rollback, 4096, 61.8, 554.0),
            (Journal::Rollback, 4096, 327.0, 1919.0),
            (Journal::Rollback, 512, 56.9, 864.0),
        ] {
            let live = (live_mb * 1e6 / size as f64) as u64;
            let expected = Cost::of_vacuum(Pages { size, free: 0, live }, journal).lock.as_secs_f64() * 1e3;
            assert!((1.0..2.5).contains(&(expected / took_ms)), "{size} {live_mb}: {expected} and {took_ms}");
        }
    }
}
