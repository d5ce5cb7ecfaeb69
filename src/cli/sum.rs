//! Several calls of one cleanup, as one report.

use std::collections::{BTreeMap, HashSet};

use hero_proc_cleanup::{KeptAction, Report};

/// The sum of the reports of calls that followed each other, each of which went on where the one before stopped.
///
/// What was done adds up: jobs and actions planned and deleted, dependents, bytes, durations. What is left is what the
/// last call left: `jobs_kept`, `more`, `plan`. `jobs_matched` is what was planned plus what is left, so every sum of a
/// single report holds. Lists are joined, sorted as in a single report, and cut at the end. An action that an earlier
/// call kept and a later one deleted is no kept action; one that several kept is listed as the last has it, and one whose
/// referrer a later call deleted names none any more. Each error is listed once. `cutoff_ms` is the latest, since each call has its own: no job that went was created after it.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    total: Option<Report>,
    /// By `action_id`, so that they stay sorted.
    actions_kept: BTreeMap<String, KeptAction>,
}

impl Sum {
    pub(crate) fn add(&mut self, mut report: Report) {
        for action in &report.action_ids {
            self.actions_kept.remove(action);
        }
        for action in report.actions_kept.drain(..) {
            self.actions_kept.insert(action.action_id.clone(), action);
        }
        self.total = Some(match self.total.take() {
            None => report,
            Some(earlier) => join(earlier, report),
        });
    }

    pub(crate) fn jobs_deleted(&self) -> u64 {
        self.total.as_ref().map_or(0, |total| total.jobs_deleted)
    }

    pub(crate) fn actions_deleted(&self) -> u64 {
        self.total.as_ref().map_or(0, |total| total.actions_deleted)
    }

    /// The report of all calls, each list cut to `max_ids`; none if there was no call.
    ///
    /// If several reports were added, they must hold their lists whole.
    pub(crate) fn into_report(self, max_ids: usize) -> Option<Report> {
        let mut total = self.total?;
        // A single report may come with its lists cut: its count is right then.
        total.actions_kept_count = total.actions_kept_count.max(self.actions_kept.len() as u64);
        total.actions_kept = self.actions_kept.into_values().collect();
        for action in &mut total.actions_kept {
            let gone = |by: &String| match by.split_once(' ') {
                Some(("job", id)) => id.parse().is_ok_and(|id| total.job_ids.binary_search(&id).is_ok()),
                Some(("action", name)) => total.action_ids.binary_search_by(|gone| gone.as_str().cmp(name)).is_ok(),
                _ => false,
            };
            action.by = action.by.take().filter(|by| !gone(by));
        }
        let longest = [total.job_ids.len(), total.action_ids.len(), total.actions_kept.len(), total.errors.len()];
        total.ids_truncated |= longest.into_iter().any(|entries| entries > max_ids);
        total.job_ids.truncate(max_ids);
        total.action_ids.truncate(max_ids);
        total.actions_kept.truncate(max_ids);
        // As in a single report: no errors at all would mean that nothing went wrong.
        total.errors.truncate(max_ids.max(1));
        Some(total)
    }
}

fn join(earlier: Report, later: Report) -> Report {
    let mut sum = later;
    sum.jobs_planned += earlier.jobs_planned;
    sum.jobs_deleted += earlier.jobs_deleted;
    sum.jobs_matched = sum.jobs_planned + sum.jobs_kept.sum();
    sum.actions_planned += earlier.actions_planned;
    sum.actions_deleted += earlier.actions_deleted;
    sum.job_ids.extend(earlier.job_ids);
    sum.job_ids.sort_unstable();
    sum.action_ids.extend(earlier.action_ids);
    sum.action_ids.sort_unstable();
    sum.ids_truncated |= earlier.ids_truncated;
    for (table, rows) in earlier.dependents {
        *sum.dependents.entry(table).or_default() += rows;
    }
    let mut seen = HashSet::new();
    let errors = earlier.errors.into_iter().chain(std::mem::take(&mut sum.errors));
    sum.errors = errors.filter(|error| seen.insert(error.clone())).collect();
    sum.cutoff_ms = sum.cutoff_ms.max(earlier.cutoff_ms);
    sum.bytes_freed += earlier.bytes_freed;
    sum.duration_ms += earlier.duration_ms;
    sum.lock_ms += earlier.lock_ms;
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn no_call_has_no_report() {
        assert_eq!(Sum::default().into_report(10), None);
    }

    #[test]
    fn the_sum_of_one_report_is_that_report() {
        let report = first();
        let mut sum = Sum::default();
        sum.add(report.clone());
        assert_eq!(sum.into_report(10), Some(report));
    }

    #[test]
    fn what_was_done_adds_up_and_what_is_left_is_what_the_last_left() {
        let mut sum = Sum::default();
        sum.add(first());
        sum.add(last());
        assert_eq!((sum.jobs_deleted(), sum.actions_deleted()), (5, 3));
        let sum = sum.into_report(10).expect("a report");
        assert_eq!(
            serde_json::to_value(&sum).expect("JSON"),
            json!({
                "dry_run": false,
                "jobs_matched": 7, "jobs_planned": 5, "jobs_deleted": 5,
                "jobs_kept": {
                    "undated": 0, "recent": 0, "active": 1, "unstoppable": 1, "referenced": 0, "over_limit": 0,
                },
                "actions_planned": 3, "actions_deleted": 3,
                "actions_kept": [
                    { "action_id": "codescaler_c", "reason": "schedule", "by": null },
                    { "action_id": "codescaler_d", "reason": "job", "by": "job 9" },
                    // What referred to them has gone since; they are no candidates any more, and stay.
                    { "action_id": "codescaler_f", "reason": "action", "by": null },
                    { "action_id": "codescaler_g", "reason": "job", "by": null },
                    { "action_id": "codescaler_h", "reason": "job", "by": "job 6" },
                ],
                "actions_kept_count": 5,
                "job_ids": [1, 2, 3, 4, 5], "action_ids": ["codescaler_a", "codescaler_b", "codescaler_e"],
                "ids_truncated": false,
                "dependents": { "job_notes": 3, "job_files": 1 },
                "errors": ["job 8: alive", "job 7: alive"],
                "more": false,
                "cutoff_ms": 1_790_000_000_500_i64,
                "plan": "second",
                "bytes_freed": 12288,
                "duration_ms": 3.5, "lock_ms": 1.5,
            })
        );
        assert_eq!(sum.jobs_matched, sum.jobs_planned + sum.jobs_kept.sum());
    }

    #[test]
    fn lists_are_cut_after_they_were_joined() {
        let mut sum = Sum::default();
        sum.add(first());
        sum.add(last());
        let sum = sum.into_report(1).expect("a report");
        assert_eq!((sum.job_ids, sum.action_ids), (vec![1], vec!["codescaler_a".to_owned()]));
        assert_eq!((sum.actions_kept.len(), sum.actions_kept_count, sum.errors.len()), (1, 5, 1));
        assert!(sum.ids_truncated);

        let mut sum = Sum::default();
        sum.add(first());
        let sum = sum.into_report(0).expect("a report");
        assert_eq!((sum.job_ids.len(), sum.errors.len(), sum.ids_truncated), (0, 1, true));
    }

    fn first() -> Report {
        report(json!({
            "jobs_matched": 7, "jobs_planned": 3, "jobs_deleted": 3,
            "jobs_kept": { "undated": 0, "recent": 0, "active": 1, "unstoppable": 1, "referenced": 0, "over_limit": 2 },
            "actions_planned": 2, "actions_deleted": 2,
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
            "bytes_freed": 8192, "duration_ms": 1.5, "lock_ms": 0.5,
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
            "bytes_freed": 4096, "duration_ms": 2.0, "lock_ms": 1.0,
        }))
    }

    fn report(mut json: Value) -> Report {
        json["dry_run"] = false.into();
        json["ids_truncated"] = false.into();
        serde_json::from_value(json).expect("a report")
    }
}
