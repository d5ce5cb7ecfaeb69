//! The size of the batches, where the store's disk has no room for what a larger one writes.

use hero_proc_cleanup::{Kind, RpcError};

/// The limit of a call that has none.
const UNLIMITED: usize = 50_000;
/// By how much a batch becomes smaller where the error does not say what fits.
const SMALLER: usize = 4;

/// The room that calls have found so far.
#[derive(Debug, Default)]
pub(super) struct Room {
    limit: Option<usize>,
    too_many: Option<usize>,
}

impl Room {
    /// The most jobs of the next call; none as long as no call was too large.
    pub(super) fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// The limit with which to go on after `error`: none if it is about something else, or no smaller batch is left, or jobs
    /// were stopped, which the user must hear of.
    pub(super) fn after(&mut self, error: &RpcError) -> Option<usize> {
        if error.kind() != Some(Kind::DiskFull) || error.data.get("jobs_stopped").is_some() {
            return None;
        }
        let tried = self.limit.unwrap_or(UNLIMITED);
        let fits = error.data.get("limit").and_then(|limit| usize::try_from(limit.as_u64()?).ok());
        if tried == 1 {
            return None;
        }
        let next = fits.filter(|fits| (1..tried).contains(fits)).unwrap_or((tried / SMALLER).max(1));
        (self.limit, self.too_many) = (Some(next), Some(tried));
        self.limit
    }

    /// A call has ended well: the next one may be larger, as long as none of that size has failed. What an error says of the
    /// room is on the safe side.
    pub(super) fn was_enough(&mut self) {
        let larger = self.limit.map(|limit| limit * 2);
        if larger < self.too_many {
            self.limit = larger;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> RpcError {
        RpcError::new(Kind::DiskFull, "")
    }

    #[test]
    fn batches_are_as_large_as_has_been_seen_to_fit() {
        let mut room = Room::default();
        room.was_enough();
        assert_eq!(room.limit(), None);
        assert_eq!(room.after(&full().with("limit", 300)), Some(300));
        room.was_enough();
        assert_eq!(room.limit(), Some(600));
        // What the error calls certain was too much already.
        assert_eq!(room.after(&full().with("limit", 700)), Some(150));
        room.was_enough();
        room.was_enough();
        assert_eq!(room.limit(), Some(300));
        room.was_enough();
        assert_eq!(room.limit(), Some(300), "600 were too many");
    }

    #[test]
    fn it_ends_where_not_even_one_job_fits() {
        let mut room = Room::default();
        let limits: Vec<usize> = std::iter::from_fn(|| room.after(&full())).collect();
        assert_eq!(limits, [12_500, 3_125, 781, 195, 48, 12, 3, 1]);
        assert_eq!(Room::default().after(&full().with("jobs_stopped", [1].as_slice())), None);
        assert_eq!(Room::default().after(&RpcError::new(Kind::StoreBusy, "")), None);
    }
}
