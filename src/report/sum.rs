//! The report of several calls that followed each other.

use std::collections::HashSet;
use std::time::Duration;

use super::Report;

impl Report {
    /// Cuts every list to `max_ids` entries, and sets `ids_truncated` if a list was longer.
    ///
    /// One line of `errors` always remains: an empty list would mean that nothing went wrong. The counts stay as they
    /// are.
    pub fn truncate(&mut self, max_ids: usize) {
        let Self { job_ids, action_ids, actions_kept, errors, ids_truncated, .. } = self;
        let longest = [job_ids.len(), action_ids.len(), actions_kept.len(), errors.len()];
        *ids_truncated |= longest.into_iter().any(|entries| entries > max_ids);
        job_ids.truncate(max_ids);
        action_ids.truncate(max_ids);
        actions_kept.truncate(max_ids);
        errors.truncate(max_ids.max(1));
    }

    /// Adds `later`, the report of a call that went on where this one stopped: this becomes the report of both.
    ///
    /// Work adds up: jobs and actions planned and deleted, dependents, bytes and durations. The state at the end is the
    /// later call's: `jobs_kept`, `actions_kept` with its count, `more` and `plan`. `jobs_matched` is the sum of the
    /// jobs planned and of the later call's `jobs_kept`, so the equations of a single report hold for a sum as well.
    /// `job_ids` and `action_ids` are joined and sorted; each error is listed once. `cutoff_ms` is the later of the two
    /// cut-offs: no job that went was created after it.
    ///
    /// Neither report needs to hold its lists whole. `actions_kept` is the later call's alone, because only that call
    /// can say that a referrer is still there: an earlier call's referrer, or its kept action itself, may have gone
    /// since.
    pub fn append(&mut self, later: Self) {
        // A new field does not compile until it is added up here.
        let Self {
            dry_run,
            asked: _,
            jobs_matched: _,
            jobs_planned,
            jobs_deleted,
            jobs_kept,
            actions_planned,
            actions_deleted,
            actions_leaked,
            actions_kept,
            actions_kept_count,
            job_ids,
            action_ids,
            ids_truncated,
            dependents,
            errors,
            more,
            cutoff_ms,
            plan,
            bytes_planned,
            bytes_freed,
            store,
            duration_ms,
            lock_ms,
        } = later;
        self.dry_run &= dry_run;
        self.jobs_planned += jobs_planned;
        self.jobs_deleted += jobs_deleted;
        self.jobs_kept = jobs_kept;
        self.jobs_matched = self.jobs_planned + self.jobs_kept.sum();
        self.actions_planned += actions_planned;
        self.actions_deleted += actions_deleted;
        self.actions_leaked += actions_leaked;
        self.actions_kept = actions_kept;
        self.actions_kept_count = actions_kept_count;
        self.job_ids.extend(job_ids);
        self.job_ids.sort_unstable();
        self.action_ids.extend(action_ids);
        self.action_ids.sort_unstable();
        self.ids_truncated |= ids_truncated;
        for (table, rows) in dependents {
            *self.dependents.entry(table).or_default() += rows;
        }
        let listed: HashSet<&String> = self.errors.iter().collect();
        let new: Vec<String> = errors.into_iter().filter(|error| !listed.contains(error)).collect();
        self.errors.extend(new);
        self.more = more;
        self.cutoff_ms = self.cutoff_ms.max(cutoff_ms);
        self.plan = plan;
        self.bytes_planned += bytes_planned;
        self.bytes_freed += bytes_freed;
        self.store = store;
        self.duration_ms = to_microseconds(self.duration_ms + duration_ms);
        self.lock_ms = to_microseconds(self.lock_ms + lock_ms);
    }
}

/// `duration` in milliseconds, to the microsecond.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// `ms` rounded to the microsecond, which is as exact as a duration in a report is.
pub(crate) fn to_microseconds(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}
