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

    /// The same report with empty lists of ids.
    pub(crate) fn without_ids(&self) -> Self {
        let (job_ids, action_ids) = (Vec::new(), Vec::new());
        let Self { actions_kept, dependents, errors, plan, asked, .. } = self;
        Self {
            job_ids,
            action_ids,
            actions_kept: actions_kept.clone(),
            dependents: dependents.clone(),
            errors: errors.clone(),
            plan: plan.clone(),
            asked: asked.clone(),
            ..*self
        }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_was_done_adds_up_and_what_is_left_is_what_the_last_left() {
        let mut sum = first();
        sum.append(last());
        assert_eq!(
            serde_json::to_value(&sum).expect("JSON"),
            json!({
                "dry_run": false,
                "jobs_matched": 7, "jobs_planned": 5, "jobs_deleted": 5,
                "jobs_kept": {
                    "excepted": 0, "other_phase": 0, "undated": 0, "recent": 0, "active": 1, "unstoppable": 1,
                    "run_active": 0, "kept_last": 0, "referenced": 0, "over_limit": 0,
                },
                "asked": { "tags": ["codescaler"] },
                "actions_planned": 3, "actions_deleted": 3, "actions_leaked": 1,
                // No referrer is named that the last call deleted, and no action that it deleted is listed.
                "actions_kept": [
                    { "action_id": "codescaler_c", "reason": "schedule", "by": null },
                    { "action_id": "codescaler_d", "reason": "job", "by": "job 9" },
                ],
                "actions_kept_count": 2,
                "job_ids": [1, 2, 3, 4, 5], "action_ids": ["codescaler_a", "codescaler_b", "codescaler_e"],
                "ids_truncated": false,
                "dependents": { "job_notes": 3, "job_files": 1 },
                "errors": ["job 8: alive", "job 7: alive"],
                "more": false,
                "cutoff_ms": 1_790_000_000_500_i64,
                "plan": "second",
                "bytes_planned": 500, "bytes_freed": 12288,
                "store": { "file_bytes": 3000, "wal_bytes": 20, "free_bytes": 200 },
                "duration_ms": 3.3, "lock_ms": 1.5,
            })
        );
        assert_eq!(sum.jobs_matched, sum.jobs_planned + sum.jobs_kept.sum());
    }

    #[test]
    fn a_sum_needs_no_whole_lists() {
        let counts = |report: &Report| {
            let Report { jobs_deleted, actions_deleted, actions_kept_count, jobs_matched, .. } = *report;
            (jobs_deleted, actions_deleted, actions_kept_count, jobs_matched)
        };
        let (mut whole, mut cut) = (first(), first());
        cut.truncate(0);
        whole.append(last());
        let mut second = last();
        second.truncate(1);
        cut.append(second);
        assert_eq!(counts(&cut), counts(&whole));
        assert_eq!((cut.job_ids, cut.action_ids.len(), cut.actions_kept.len()), (vec![2], 1, 1));
        assert!(cut.ids_truncated, "an earlier list was cut");
    }

    #[test]
    fn lists_are_cut_and_one_error_stays() {
        let mut report = first();
        report.truncate(5);
        assert_eq!(report, first(), "no list is longer");
        report.truncate(1);
        assert_eq!((&report.job_ids[..], &report.action_ids[..]), (&[1][..], &["codescaler_a".to_owned()][..]));
        assert_eq!((report.actions_kept.len(), report.actions_kept_count), (1, 5));
        assert!(report.ids_truncated);
        report.truncate(10);
        assert!(report.ids_truncated, "it stays cut");

        let mut report = first();
        report.truncate(0);
        assert_eq!((report.job_ids.len(), report.errors.len(), report.ids_truncated), (0, 1, true));
    }

    fn first() -> Report {
        report(json!({
            "jobs_matched": 7, "jobs_planned": 3, "jobs_deleted": 3,
            "jobs_kept": { "undated": 0, "recent": 0, "active": 1, "unstoppable": 1, "referenced": 0, "over_limit": 2 },
            "actions_planned": 2, "actions_deleted": 2, "actions_leaked": 1, "asked": { "tags": ["codescaler"] },
            "actions_kept": [
                { "action_id": "codescaler_b", "reason": "job", "by": "job 2" },
                { "action_id": "codescaler_c", "reason": "job", "by": "job 5" },
                { "action_id": "codescaler_f", "reason": "action", "by": "action codescaler_b" },
                { "action_id": "codescaler_g", "reason": "job", "by": "job 2" },
                { "action_id": "codescaler_h", "reason": "job", "by": "job 6" },
            ],
            "actions_kept_count": 5,
            "job_ids": [1, 3, 4], "action_ids": ["codescaler_a", "codescaler_e"],
            "dependents": { "job_notes": 1 },
            "errors": ["job 8: alive"], "more": true, "cutoff_ms": 1_790_000_000_000_i64, "plan": "first",
            "bytes_planned": 200, "bytes_freed": 8192,
            "store": { "file_bytes": 4000, "wal_bytes": 10, "free_bytes": 100 }, "duration_ms": 1.1, "lock_ms": 0.5,
        }))
    }

    fn last() -> Report {
        report(json!({
            "jobs_matched": 4, "jobs_planned": 2, "jobs_deleted": 2,
            "jobs_kept": { "undated": 0, "recent": 0, "active": 1, "unstoppable": 1, "referenced": 0, "over_limit": 0 },
            "actions_planned": 1, "actions_deleted": 1,
            "actions_kept": [
                { "action_id": "codescaler_c", "reason": "schedule", "by": null },
                { "action_id": "codescaler_d", "reason": "job", "by": "job 9" },
            ],
            "actions_kept_count": 2,
            "job_ids": [2, 5], "action_ids": ["codescaler_b"],
            "dependents": { "job_notes": 2, "job_files": 1 },
            "errors": ["job 8: alive", "job 7: alive"], "more": false, "cutoff_ms": 1_790_000_000_500_i64,
            "plan": "second",
            "bytes_planned": 300, "bytes_freed": 4096,
            "store": { "file_bytes": 3000, "wal_bytes": 20, "free_bytes": 200 }, "duration_ms": 2.2, "lock_ms": 1.0,
        }))
    }

    fn report(mut json: Value) -> Report {
        json["dry_run"] = false.into();
        json["ids_truncated"] = false.into();
        serde_json::from_value(json).expect("a report")
    }
}
