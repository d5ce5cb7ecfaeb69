//! How many jobs a batch takes, found from how long batches held the lock.
//!
//! A batch of `n` jobs holds the lock for a part that is the same whatever its size (the store is read anew under the lock if
//! others have written since the plan), and a part for each job: `fixed + n × each`. Two sizes tell the parts apart. The time
//! aimed at is 100 ms, or twice the fixed part if that is more: then at least half of it is spent deleting.
//!
//! Batches are remembered by size, in classes of a factor of four, each with what was seen lately. A line through the classes,
//! the recent ones weighing more, has the two parts as its height and its slope.

use serde::{Deserialize, Serialize};

/// The time for which a batch is to hold the lock, in milliseconds.
const AIM_MS: f64 = 100.0;
/// The first batch of all.
const FIRST: u64 = 250;
/// The largest batch.
const MOST: u64 = crate::method::MAX_LIMIT as u64;

/// What the batches so far say about the next one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// Jobs in the next batch.
    limit: u64,
    /// The batches so far.
    batches: u64,
    /// What was seen of each class of sizes.
    sizes: Vec<Size>,
}

/// What was seen of batches of about one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Size {
    jobs: f64,
    lock_ms: f64,
    /// The number of the last of these batches.
    last: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { limit: FIRST, batches: 0, sizes: Vec::new() }
    }
}

impl Pace {
    /// The number of jobs in the next batch.
    #[must_use]
    pub fn limit(&self) -> usize {
        usize::try_from(self.limit.clamp(1, MOST)).unwrap_or(1)
    }

    /// Learns from a batch of at most `limit` jobs that took `jobs` and held the lock for `lock_ms`.
    pub(super) fn learn(&mut self, limit: usize, jobs: u64, lock_ms: f64) {
        if jobs == 0 || !lock_ms.is_finite() || lock_ms <= 0.0 {
            return;
        }
        self.see(jobs, lock_ms);
        let limit = limit as u64;
        // A batch that was not full says nothing about larger ones.
        let most = match jobs >= limit {
            true if lock_ms < AIM_MS => limit.saturating_mul(4),
            true => limit.saturating_mul(2),
            false => limit,
        };
        let Some((fixed, each)) = self.parts() else {
            // One size does not tell the parts apart: another one will.
            if jobs >= limit {
                self.limit = if lock_ms < AIM_MS { most } else { limit / 4 }.clamp(1, MOST);
            }
            return;
        };
        let aim = AIM_MS.max(2.0 * fixed);
        // Without a part for each job, a larger batch costs nothing.
        let wanted = if each > 0.0 { (aim - fixed) / each } else { f64::MAX };
        self.limit = (wanted as u64).min(most).clamp(1, MOST);
    }

    /// The store had no room for a batch of `limit` jobs.
    pub(super) fn shrink(&mut self, limit: usize) {
        self.limit = (limit as u64 / 4).clamp(1, MOST);
    }

    fn see(&mut self, jobs: u64, lock_ms: f64) {
        let class = |jobs: f64| (jobs.log2() / 2.0).floor() as i64;
        let seen = Size { jobs: jobs as f64, lock_ms, last: self.batches };
        match self.sizes.iter_mut().find(|size| class(size.jobs) == class(seen.jobs)) {
            Some(size) => {
                size.jobs = f64::midpoint(size.jobs, seen.jobs);
                size.lock_ms = f64::midpoint(size.lock_ms, seen.lock_ms);
                size.last = seen.last;
            }
            None => self.sizes.push(seen),
        }
        self.batches += 1;
    }

    /// The fixed part and the part for each job, in milliseconds; none as long as only one size was seen.
    fn parts(&self) -> Option<(f64, f64)> {
        if self.sizes.len() < 2 {
            return None;
        }
        let mut sums = [0.0; 5];
        for size in &self.sizes {
            let age = self.batches.saturating_sub(size.last).min(40);
            let weight = f64::exp2(-(age as f64) / 4.0);
            let terms = [1.0, size.jobs, size.jobs * size.jobs, size.lock_ms, size.jobs * size.lock_ms];
            for (sum, term) in sums.iter_mut().zip(terms) {
                *sum += weight * term;
            }
        }
        let [weights, jobs, squares, locks, products] = sums;
        let each = (weights * products - jobs * locks) / (weights * squares - jobs * jobs);
        let fixed = (locks - each * jobs) / weights;
        if !each.is_finite() || each <= 0.0 {
            return Some((locks / weights, 0.0));
        }
        // A line that begins below zero is one through zero.
        if fixed < 0.0 { Some((0.0, products / squares)) } else { Some((fixed, each)) }
    }
}
