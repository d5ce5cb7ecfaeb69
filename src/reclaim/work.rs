//! The work: a `VACUUM` or steps, and the checkpoints that cut the file short.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::decision::FIRST_STEP;
use super::{ReclaimOutcome, ReclaimReason};
use crate::store::{Checkpointed, Freed, Space, StoreError, Vacuumed, Wal};

/// The longest that a step holds the write lock.
const STEP: Duration = Duration::from_millis(50);

/// The work that was done so far.
#[derive(Debug, Default)]
pub(super) struct Did {
    pub(super) lock: Duration,
    /// None if nothing was done.
    pub(super) outcome: Option<(ReclaimOutcome, Option<ReclaimReason>)>,
}

impl Did {
    /// Moves the WAL into the file; the outcome is that of the file.
    pub(super) fn checkpoint(&mut self, space: &Space<'_>, wal: Wal) -> Result<(), StoreError> {
        let (ended, lock) = space.checkpoint(wal)?;
        self.lock += lock;
        self.outcome = Some(match ended {
            Checkpointed::Whole => (ReclaimOutcome::Done, None),
            Checkpointed::Prevented => (ReclaimOutcome::Partly, Some(ReclaimReason::Reader)),
            Checkpointed::Full => (ReclaimOutcome::Partly, Some(ReclaimReason::DiskTooFull)),
        });
        Ok(())
    }

    /// Does nothing further, for `reason`. What a checkpoint has done by then is a part, or all that was to be done.
    pub(super) fn leave(&mut self, reason: ReclaimReason) {
        let nothing_more = matches!(reason, ReclaimReason::TooLittleFree | ReclaimReason::NothingToDo);
        match self.outcome {
            None => self.outcome = Some((ReclaimOutcome::Skipped, Some(reason))),
            Some((ReclaimOutcome::Done, _)) if !nothing_more => {
                self.outcome = Some((ReclaimOutcome::Partly, Some(reason)));
            }
            Some(_) => {}
        }
    }

    /// `VACUUM`, and the checkpoint that cuts the file short.
    pub(super) fn vacuum(&mut self, space: &Space<'_>, first_half: Duration) -> Result<(), StoreError> {
        let before = self.outcome;
        let vacuumed = space.vacuum(first_half);
        // Also if nothing came of it: the WAL may have grown.
        let checkpointed = self.checkpoint(space, Wal::Emptied);
        let (left, lock) = match vacuumed {
            Ok((Vacuumed::Done, lock)) => (None, lock),
            Ok((Vacuumed::TooLong, lock)) => (Some(ReclaimReason::LockTooLong), lock),
            Ok((Vacuumed::Full, lock)) => (Some(ReclaimReason::DiskTooFull), lock),
            Err(StoreError::Busy) if before.is_some() => (Some(ReclaimReason::Time), Duration::ZERO),
            Err(error) => return Err(error),
        };
        checkpointed?;
        self.lock += lock;
        if let Some(reason) = left {
            self.outcome = before;
            self.leave(reason);
        }
        Ok(())
    }

    /// Step by step, with a pause after each that is as long, until `within` is used up. Readers who keep a step from being
    /// committed (rollback journal) are waited for until `give_up`.
    pub(super) fn steps(
        &mut self,
        space: &Space<'_>,
        most: u64,
        within: Duration,
        give_up: Instant,
    ) -> Result<(), StoreError> {
        let (mut pages, mut begun) = (FIRST_STEP, self.outcome.is_some());
        let ended = loop {
            let (freed, left, lock) = match space.free(pages, STEP / 2) {
                Ok((Freed::Done { pages, left }, lock)) => (pages, left, lock),
                Ok((Freed::Prevented, lock)) => {
                    self.lock += lock;
                    if self.lock + lock <= within && Instant::now() < give_up {
                        sleep(lock);
                        continue;
                    }
                    if begun {
                        break Some(ReclaimReason::Time);
                    }
                    return Err(StoreError::Busy);
                }
                Ok((Freed::Full, lock)) => {
                    self.lock += lock;
                    break Some(ReclaimReason::DiskTooFull);
                }
                Err(StoreError::Busy) if begun => break Some(ReclaimReason::Time),
                Err(error) => return Err(error),
            };
            begun = true;
            self.lock += lock;
            if left == 0 {
                break None;
            }
            self.checkpoint(space, Wal::Kept)?;
            if self.outcome != Some((ReclaimOutcome::Done, None)) {
                // Every further step would make the WAL longer.
                return Ok(());
            }
            let quicker = (STEP.as_secs_f64() * 0.7 / lock.as_secs_f64()).clamp(0.25, 4.0);
            let next = ((pages as f64 * quicker) as u64).clamp(1, most);
            let expected = lock.mul_f64(next as f64 / pages as f64);
            if freed == 0 || self.lock + expected > within {
                break Some(ReclaimReason::Time);
            }
            pages = next;
            sleep(lock);
        };
        self.checkpoint(space, Wal::Emptied)?;
        if ended.is_some() {
            self.outcome = Some((if begun { ReclaimOutcome::Partly } else { ReclaimOutcome::Skipped }, ended));
        }
        Ok(())
    }
}
