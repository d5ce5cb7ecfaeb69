//! How many jobs a batch takes, found from how long batches held the lock.
//!
//! A batch of `n` jobs holds the lock for a part that is the same whatever its size (the store is read anew under the
//! lock if others have written since the plan), and a part for each job: `fixed + n × each`. Two sizes tell the parts
//! apart. The time aimed at is 100 ms, or two and a half times the fixed part if that is more: three fifths of it are
//! then spent deleting, and half of it where the parts were misjudged.
//!
//! Batches are remembered by size, in classes of a factor of four, each with the mean of what was seen lately. A line
//! through the classes, the recent ones weighing more, has the two parts as its height and its slope.
//!
//! Times vary. If the line may be flatter than it seems, because its sizes are too close to each other to tell, the
//! next batch is larger: this moves the sizes apart. Only a batch that was clearly too long, and clearly spent
//! deleting, is followed by a smaller one without this caution.

use serde::{Deserialize, Serialize};

/// The time for which a batch is to hold the lock, in milliseconds.
const AIM_MS: f64 = 100.0;
/// The least time for which a batch is to hold the lock, as a multiple of the fixed part.
const AIM_FIXED: f64 = 2.5;
/// The first batch of all.
const FIRST: u64 = 100;
/// The largest batch.
const MOST: u64 = crate::method::MAX_LIMIT as u64;
/// The most batches of one size whose mean is remembered.
const REMEMBERED: u32 = 16;
/// The number of batches after which a size weighs half as much.
const HALF_LIFE: f64 = 16.0;
/// The share by which the lock's time varies between batches of one size, at least.
const VARIES: f64 = 0.1;
/// The standard deviations by which the line may be flatter than it seems.
const CAUTION: f64 = 1.5;
/// A batch that held the lock for this multiple of the time aimed at was clearly too long.
const TOO_LONG: f64 = 2.0;
/// A batch with less than this share of a fixed part was clearly spent deleting.
const DELETING: f64 = 0.3;

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

/// The mean of the last batches of about one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Size {
    jobs: f64,
    lock_ms: f64,
    /// Batches in the mean.
    count: u32,
    /// The number of the last of these batches.
    last: u64,
}

/// The parts of the time for which a batch holds the lock, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Parts {
    fixed: f64,
    each: f64,
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
        let (seen, cautious) = (self.parts(0.0), self.parts(CAUTION));
        // A batch that was not full says nothing about larger ones.
        let most = match jobs >= limit {
            true if lock_ms < seen.map_or(AIM_MS, Parts::aim) => limit.saturating_mul(4),
            true => limit.saturating_mul(2),
            false => limit,
        };
        let wanted = match (seen, cautious) {
            (Some(seen), _) if lock_ms > TOO_LONG * seen.aim() && seen.fixed < DELETING * lock_ms => seen.jobs(),
            (_, Some(cautious)) => cautious.jobs(),
            // One size does not tell the parts apart: another one will.
            _ if lock_ms < AIM_MS => most,
            _ if jobs >= limit => limit / 4,
            _ => limit,
        };
        self.limit = wanted.min(most).clamp(1, MOST);
    }

    /// The store had no room for a batch of `limit` jobs.
    pub(super) fn shrink(&mut self, limit: usize) {
        self.limit = (limit as u64 / 4).clamp(1, MOST);
    }

    fn see(&mut self, jobs: u64, lock_ms: f64) {
        let class = |jobs: f64| (jobs.log2() / 2.0).floor() as i64;
        let seen = Size { jobs: jobs as f64, lock_ms, count: 1, last: self.batches };
        match self.sizes.iter_mut().find(|size| class(size.jobs) == class(seen.jobs)) {
            Some(size) => {
                let count = (size.count + 1).min(REMEMBERED);
                let share = 1.0 / f64::from(count);
                let jobs = size.jobs + share * (seen.jobs - size.jobs);
                *size = Size { jobs, lock_ms: size.lock_ms + share * (lock_ms - size.lock_ms), count, last: seen.last };
            }
            None => self.sizes.push(seen),
        }
        self.batches = self.batches.saturating_add(1);
    }

    /// The parts by a line that is flatter than the one seen by `caution` standard deviations; none as long as only one
    /// size was seen.
    fn parts(&self, caution: f64) -> Option<Parts> {
        if self.sizes.len() < 2 {
            return None;
        }
        let weight = |size: &Size| {
            let age = self.batches.saturating_sub(size.last).min(160);
            f64::from(size.count) * f64::exp2(-(age as f64) / HALF_LIFE)
        };
        let sum =
            |term: &dyn Fn(&Size) -> f64| -> f64 { self.sizes.iter().map(|size| weight(size) * term(size)).sum() };
        let all = sum(&|_| 1.0);
        let (jobs, lock_ms) = (sum(&|size| size.jobs) / all, sum(&|size| size.lock_ms) / all);
        let spread = sum(&|size| (size.jobs - jobs).powi(2));
        let slope = sum(&|size| (size.jobs - jobs) * (size.lock_ms - lock_ms)) / spread;
        let error = |size: &Size| VARIES * size.lock_ms / f64::from(size.count).sqrt();
        let variance = sum(&|size| weight(size) * ((size.jobs - jobs) * error(size)).powi(2));
        let each = slope - caution * variance.sqrt() / spread;
        if !each.is_finite() || each <= 0.0 {
            return Some(Parts { fixed: lock_ms, each: 0.0 });
        }
        let fixed = lock_ms - each * jobs;
        if fixed >= 0.0 {
            return Some(Parts { fixed, each });
        }
        // A line that begins below zero is one through zero.
        let each = sum(&|size| size.jobs * size.lock_ms) / sum(&|size| size.jobs.powi(2));
        Some(Parts { fixed: 0.0, each })
    }
}

impl Parts {
    /// The time for which a batch is to hold the lock, in milliseconds.
    fn aim(self) -> f64 {
        AIM_MS.max(AIM_FIXED * self.fixed)
    }

    /// The number of jobs that take as long. Without a part for each job, a larger batch costs nothing.
    fn jobs(self) -> u64 {
        if self.each > 0.0 { ((self.aim() - self.fixed) / self.each) as u64 } else { u64::MAX }
    }
}
