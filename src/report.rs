//! What a call reports, dry runs included: what went, what stayed, and why; and how the reports of several calls add up.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The result of a cleanup.
///
/// `jobs_matched` is always `jobs_planned` plus the sum of `jobs_kept`. Outside a dry run `jobs_deleted` is
/// `jobs_planned` and `actions_deleted` is `actions_planned`; in a dry run both are 0, as are `bytes_freed` and
/// `lock_ms`, and the lists name what would go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// The params that chose what goes, as they were understood, in canonical form.
    #[serde(default)]
    pub asked: Map<String, Value>,
    /// Jobs that carry every tag, whatever their age or phase.
    pub jobs_matched: u64,
    /// Jobs that go.
    pub jobs_planned: u64,
    /// Jobs that went.
    pub jobs_deleted: u64,
    /// Matching jobs that stay, by the first reason that applies.
    pub jobs_kept: JobsKept,
    /// Actions that go.
    pub actions_planned: u64,
    /// Actions that went.
    pub actions_deleted: u64,
    /// The planned actions that no job of this call referred to.
    #[serde(default)]
    pub actions_leaked: u64,
    /// Candidates that stay all the same, sorted by `action_id`.
    pub actions_kept: Vec<KeptAction>,
    /// How many such actions there are, however many are listed.
    pub actions_kept_count: u64,
    /// The planned jobs, ascending.
    pub job_ids: Vec<i64>,
    /// The planned actions, sorted; one outside the context `core` is written `context/name`.
    pub action_ids: Vec<String>,
    /// Whether a list was cut to the request's `max_ids`.
    pub ids_truncated: bool,
    /// Rows of other tables that go, or are set to NULL, because their foreign key on a planned job says so, by table.
    pub dependents: BTreeMap<String, u64>,
    /// One line for each job that could not be stopped or is held by a foreign key. Empty: nothing went wrong.
    pub errors: Vec<String>,
    /// Whether the request's limit left jobs or leaked actions to further calls, and this call took something, or would.
    pub more: bool,
    /// The cut-off in milliseconds since the Unix epoch; none without an age.
    pub cutoff_ms: Option<i64>,
    /// The token of the plan: see [`PlanToken`](crate::PlanToken).
    pub plan: String,
    /// The bytes of text and blobs in the rows of jobs and actions that go: what a dry run can promise.
    #[serde(default)]
    pub bytes_planned: u64,
    /// Pages that the transaction put on the freelist, times the page size. Small rows scattered over many pages hardly fill
    /// any.
    pub bytes_freed: u64,
    /// The store's size after the call.
    #[serde(default)]
    pub store: StoreSize,
    /// The whole call, in milliseconds.
    pub duration_ms: f64,
    /// How long the store's write lock was held, in milliseconds.
    pub lock_ms: f64,
}

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

/// `ms` rounded to the microsecond, which is as exact as a duration in a report is.
fn to_microseconds(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

/// The size of a store, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct StoreSize {
    /// The file.
    pub file_bytes: u64,
    /// The WAL beside it, which holds what no checkpoint has moved into the file yet.
    pub wal_bytes: u64,
    /// The pages of the file that hold nothing.
    pub free_bytes: u64,
}

/// How many matching jobs stay, by reason. A job with several reasons counts once, under the first in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct JobsKept {
    /// They carry a tag that was excepted.
    pub excepted: u64,
    /// Their phase was not asked for.
    pub other_phase: u64,
    /// No usable creation time, though an age was asked for.
    pub undated: u64,
    /// Created after the cut-off, or ended after it.
    pub recent: u64,
    /// Not finished, and `force` was not asked for.
    pub active: u64,
    /// Not finished, and could not be stopped.
    pub unstoppable: u64,
    /// Their run goes on: another job of it has not finished and does not go.
    pub run_active: u64,
    /// Among the last of their group.
    pub kept_last: u64,
    /// A row that stays holds them by a foreign key.
    pub referenced: u64,
    /// Left for the next call.
    pub over_limit: u64,
}

impl JobsKept {
    /// The number of jobs that stay, whatever the reason.
    #[must_use]
    pub fn sum(&self) -> u64 {
        // A new reason does not compile until it is added up here.
        let Self {
            excepted,
            other_phase,
            undated,
            recent,
            active,
            unstoppable,
            run_active,
            kept_last,
            referenced,
            over_limit,
        } = self;
        excepted
            + other_phase
            + undated
            + recent
            + active
            + unstoppable
            + run_active
            + kept_last
            + referenced
            + over_limit
    }
}

/// An action that a planned job refers to and that stays all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeptAction {
    /// Its name, `context/name` outside the context `core`.
    pub action_id: String,
    /// Why it stays: the first that applies, in the order of [`Reason`].
    pub reason: Reason,
    /// One of its referrers; none for the reasons that need none.
    pub by: Option<Referrer>,
}

/// Who refers to an action. In JSON it is a text such as `job 4711`, `service web` or `action deploy`.
///
/// Every text can be read, and is written again as it came: a client does not fail on a referrer of a kind that only a
/// newer server knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum Referrer {
    /// A job, by its id.
    Job(i64),
    /// A service, by its name.
    Service(String),
    /// An action, by its name: `context/name` outside the context `core`.
    Action(String),
    /// A text of another form, as it came.
    Other(String),
}

impl fmt::Display for Referrer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => write!(f, "job {id}"),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Action(name) => write!(f, "action {name}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl From<String> for Referrer {
    fn from(text: String) -> Self {
        match text.split_once(' ') {
            Some(("job", id)) => match id.parse() {
                // `job 007` and `job +7` are no ids as they are written here.
                Ok(number) if id == i64::to_string(&number) => Self::Job(number),
                _ => Self::Other(text),
            },
            Some(("service", name)) => Self::Service(name.to_owned()),
            Some(("action", name)) => Self::Action(name.to_owned()),
            _ => Self::Other(text),
        }
    }
}

impl From<Referrer> for String {
    fn from(referrer: Referrer) -> Self {
        match referrer {
            Referrer::Other(text) => text,
            known => known.to_string(),
        }
    }
}

/// Why an action stays, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Reason {
    /// A remaining job refers to it.
    Job,
    /// A service lists it.
    Service,
    /// A remaining action depends on it.
    Action,
    /// It has a schedule.
    Schedule,
    /// Its own spec does not carry the root tag.
    Untagged,
    /// It was set after the cut-off, or so recently that its job may not be there yet.
    Recent,
    /// No job refers to it, and nothing says when it was set.
    Undated,
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

    #[test]
    fn a_referrer_is_read_from_any_text_and_written_as_it_came() {
        let known = [
            ("job 4711", Referrer::Job(4711)),
            ("job -1", Referrer::Job(-1)),
            ("service web", Referrer::Service("web".to_owned())),
            ("service ", Referrer::Service(String::new())),
            ("action lab/build two", Referrer::Action("lab/build two".to_owned())),
        ];
        let others = ["", "job", "job x", "job 007", "job +7", "job  7", "job 9223372036854775808", "run 7", "Job 7"];
        let others = others.map(|text| (text, Referrer::Other(text.to_owned())));
        for (text, referrer) in known.into_iter().chain(others) {
            let read: Referrer = serde_json::from_value(text.into()).expect("any text is one");
            assert_eq!((&read, read.to_string().as_str()), (&referrer, text));
            assert_eq!(serde_json::to_value(&read).expect("JSON"), text);
        }
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
