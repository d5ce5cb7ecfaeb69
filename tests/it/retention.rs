//! Retention as a host carries it out: when passes are due, how they end, what is remembered, and how long the lock
//! rests.
//!
//! The answers are written here, so that they come at the moments and with the times that a test is about; `month` has
//! answers of real stores.

mod month;
mod pace;

use chrono::{DateTime, Utc};
use hero_proc_cleanup::policy::{Call, History, HistoryError, PassEnd, Policy, Preview, Retention, Side, Step};
use hero_proc_cleanup::{Kind, RpcError};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

type Answer = Result<Box<RawValue>, RpcError>;

const START: i64 = 1_790_000_000_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap()
}

fn policy(written: &Value) -> Policy {
    serde_json::from_value(written.clone()).unwrap()
}

/// Two rules, of which the first names a kind.
fn two_rules() -> Policy {
    policy(&json!({ "every": "1h", "rule": [{ "kind": "build", "older_than": "14d" }, { "older_than": "60d" }] }))
}

/// The report of a call that deleted, or in a dry run would delete, `jobs`, and left `left` to further calls.
fn report(jobs: u64, left: u64, lock_ms: f64) -> Value {
    json!({
        "dry_run": false, "jobs_matched": jobs + left, "jobs_planned": jobs, "jobs_deleted": jobs,
        "jobs_kept": { "over_limit": left }, "actions_planned": jobs, "actions_deleted": jobs, "actions_kept": [],
        "actions_kept_count": 0, "job_ids": [], "action_ids": [], "ids_truncated": false, "dependents": {}, "errors": [],
        "more": left > 0, "cutoff_ms": 1, "plan": "1", "bytes_freed": 4096 * jobs, "duration_ms": lock_ms, "lock_ms": lock_ms,
    })
}

/// The report of a dry run that would take `jobs` of `matched`.
fn shown(jobs: u64, matched: u64) -> Value {
    let mut report = report(jobs, 0, 0.0);
    (report["dry_run"], report["jobs_deleted"], report["jobs_matched"]) = (json!(true), json!(0), json!(matched));
    report
}

fn ok(result: Value) -> Answer {
    Ok(to_raw_value(&result).unwrap())
}

fn error(kind: Kind) -> Answer {
    Err(RpcError::new(kind, "it was so"))
}

/// Retention beside a clock that stands still unless it is set.
struct Host {
    retention: Retention,
    now: i64,
}

impl Host {
    fn new(policy: Policy) -> Self {
        Self { retention: Retention::new(policy, History::default(), 0.0), now: START }
    }

    /// One whose policy was confirmed.
    fn confirmed(policy: Policy) -> Self {
        let mut host = Self::new(policy);
        host.retention.confirm();
        host
    }

    fn next(&mut self) -> Step {
        self.retention.next(at(self.now))
    }

    fn answer(&mut self, answer: Answer) {
        self.retention.answered(at(self.now), answer);
    }

    #[track_caller]
    fn call(&mut self) -> Call {
        match self.next() {
            Step::Call(call) => call,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn ended(&mut self) -> hero_proc_cleanup::policy::Pass {
        match self.next() {
            Step::Ended(pass) => pass,
            other => panic!("{other:?}"),
        }
    }

    /// For how long nothing is to be done, in milliseconds.
    #[track_caller]
    fn waits(&mut self) -> i64 {
        match self.next() {
            Step::Wait { until } => until.timestamp_millis() - self.now,
            other => panic!("{other:?}"),
        }
    }

    /// A pass in which every call finds nothing.
    #[track_caller]
    fn idle_pass(&mut self) {
        for place in 0..self.retention.policy().rules().len() {
            assert_eq!(self.call().rule(), Some(place));
            self.answer(ok(report(0, 0, 0.0)));
        }
        assert_eq!(self.ended().end, PassEnd::Done);
    }

    /// The process ends and begins anew, with what it has written down.
    fn restart(&mut self) {
        let history = History::from_json(&self.retention.history().to_json()).unwrap();
        assert_eq!(&history, self.retention.history());
        self.retention = Retention::new(self.retention.policy().clone(), history, 0.0);
    }
}

/// A pass that finds nothing is one call for each rule, and takes no lock; until the next one is due, there is no call
/// at all.
#[test]
fn idle_costs_nothing() {
    let mut host = Host::confirmed(two_rules());
    host.idle_pass();
    assert_eq!(host.waits(), HOUR);
    host.now += HOUR - 1;
    assert_eq!(host.waits(), 1);
    host.now += 1;
    host.idle_pass();
    assert_eq!(host.waits(), HOUR);
    let history = host.retention.history();
    assert_eq!((history.succeeded_ms, history.failures, history.behind), (Some(START + HOUR), 0, false));
}

#[test]
fn nothing_is_asked_while_a_call_is_not_answered() {
    let mut host = Host::confirmed(two_rules());
    host.answer(ok(report(9, 0, 1.0)));
    assert_eq!(host.retention.history().rules.len(), 0, "an answer to no call is none");
    host.call();
    for _ in 0..3 {
        host.now += 10 * HOUR;
        assert_eq!(host.next(), Step::Unanswered);
    }
    host.answer(ok(report(0, 0, 0.0)));
    assert_eq!(host.call().rule(), Some(1));
}

#[test]
fn a_rule_goes_on_while_there_is_more_and_is_never_forced() {
    let mut host = Host::confirmed(two_rules());
    for (jobs, left, place) in [(250, 100, 0), (100, 0, 0), (7, 0, 1)] {
        let call = host.call();
        assert_eq!((call.rule(), call.is_dry_run()), (Some(place), false));
        assert_eq!(
            [Side::HeroProc, Side::Codescalers].map(|side| call.params(side).get("force").cloned()),
            [None, None]
        );
        host.answer(ok(report(jobs, left, 0.0)));
    }
    let pass = host.ended();
    assert_eq!((pass.end, pass.calls, pass.jobs, pass.actions, pass.bytes), (PassEnd::Done, 3, 357, 357, 357 * 4096));
    let rules = &host.retention.history().rules;
    let build = &rules[r#"kind "build", older than 14d"#];
    assert_eq!((build.calls, build.jobs, build.jobs_ever, build.succeeded_ms), (2, 350, 350, Some(START)));
    assert_eq!(rules["older than 60d"].jobs, 7);
    // The next pass has numbers of its own.
    host.now += HOUR;
    host.idle_pass();
    let build = &host.retention.history().rules[r#"kind "build", older than 14d"#];
    assert_eq!((build.calls, build.jobs, build.jobs_ever), (1, 0, 350));
}

/// Jobs that stay, although the limit is not in their way, are not asked for again and again.
#[test]
fn a_call_that_takes_nothing_is_not_repeated() {
    let mut host = Host::confirmed(two_rules());
    host.call();
    host.answer(ok(report(0, 5, 0.0)));
    assert_eq!(host.call().rule(), Some(1));
}

/// The cut-off stays where it was when the pass began: jobs that come of age meanwhile are the next pass's.
#[test]
fn a_pass_ends_whatever_comes_of_age_meanwhile() {
    let mut host = Host::confirmed(two_rules());
    let age = |call: &Call| call.params(Side::HeroProc)["older_than_ms"].as_i64().unwrap();
    let day = 24 * HOUR;
    assert_eq!(age(&host.call()), 14 * day);
    host.now += 5000;
    host.answer(ok(report(250, 1, 0.0)));
    assert_eq!(age(&host.call()), 14 * day + 5000);
    // A clock that goes back makes nobody older.
    host.now -= 20_000;
    host.answer(ok(report(1, 0, 0.0)));
    assert_eq!(age(&host.call()), 60 * day);
}

/// After a call that held the lock for t, nothing that may take it is called for 49 t, in this process or the next.
#[test]
fn the_lock_rests() {
    let mut host =
        Host::confirmed(policy(&json!({ "every": "1h", "reclaim": "1s", "rule": [{ "older_than": "14d" }] })));
    host.call();
    host.answer(ok(report(250, 9, 100.0)));
    assert_eq!(host.waits(), 4900);
    host.restart();
    assert_eq!(host.waits(), 4900, "the pass that was ended by force begins anew, and rests as well");
    host.now += 4900;
    host.call();
    host.answer(ok(report(9, 0, 0.25)));
    assert_eq!(host.waits(), 13);
    host.now += 13;
    let reclaim = host.call();
    assert_eq!(
        (reclaim.method(Side::HeroProc), reclaim.params(Side::HeroProc)),
        ("store.reclaim", json!({ "within_ms": 1000 }))
    );
    assert_eq!(reclaim.method(Side::Codescalers), "jobs.reclaim");
    host.answer(ok(reclaimed("done", 500.0)));
    assert_eq!(host.ended().end, PassEnd::Done);
    host.retention.due_now();
    assert_eq!(host.waits(), 24_500);
}

fn reclaimed(outcome: &str, lock_ms: f64) -> Value {
    json!({
        "dry_run": false, "outcome": outcome, "reason": null, "method": "vacuum", "file_bytes_before": 5000,
        "file_bytes_after": 1000, "wal_bytes_after": 0, "free_bytes_before": 4000, "temp_needed_bytes": null,
        "temp_free_bytes": null, "store_needed_bytes": null, "store_free_bytes": null, "expected_lock_ms": null,
        "lock_ms": lock_ms, "duration_ms": lock_ms,
    })
}

#[test]
fn space_is_given_back_after_something_went() {
    let written = json!({ "every": "1h", "reclaim": "1s", "rule": [{ "older_than": "14d" }] });
    let mut host = Host::confirmed(policy(&written));
    host.idle_pass();
    host.now += HOUR;
    host.call();
    host.answer(ok(report(1, 0, 0.0)));
    for outcome in ["partly", "done"] {
        assert_eq!(host.call().rule(), None);
        host.answer(ok(reclaimed(outcome, 0.0)));
        assert_eq!(host.ended().end, PassEnd::Done);
        assert_eq!(host.retention.history().reclaim.bytes, 4000);
        host.now += HOUR;
        // What was done partly goes on with the next pass, though that finds nothing.
        host.call();
        host.answer(ok(report(0, 0, 0.0)));
    }
    assert_eq!(host.ended().end, PassEnd::Done);
    // Space that was not given back is still to be.
    host.now += HOUR;
    host.call();
    host.answer(ok(report(1, 0, 0.0)));
    host.call();
    host.answer(error(Kind::StoreBusy));
    assert_eq!(host.ended().end, PassEnd::PutOff);
    assert!(host.retention.history().reclaim.due);
    assert_eq!(host.retention.history().reclaim.error.as_ref().unwrap().kind, "store_busy");
}

#[test]
fn a_store_that_is_busy_is_left_for_an_hour_at_most() {
    for kind in [Kind::StoreBusy, Kind::UpstreamUnreachable, Kind::Cancelled] {
        let mut host = Host::confirmed(two_rules());
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            host.call();
            host.answer(error(kind));
            let pass = host.ended();
            assert_eq!((pass.end, pass.error.unwrap().kind), (PassEnd::PutOff, kind.as_str().to_owned()));
            assert_eq!(host.waits(), minutes * MINUTE, "{kind:?}");
            host.restart();
            assert_eq!(host.waits(), minutes * MINUTE, "{kind:?}");
            host.now += minutes * MINUTE;
        }
        host.idle_pass();
        assert_eq!((host.waits(), host.retention.history().failures), (HOUR, 0));
        host.now += HOUR;
        host.call();
        host.answer(error(kind));
        host.ended();
        assert_eq!(host.waits(), MINUTE);
    }
}

/// It may have been carried out: the pass ends, and the next one, at its usual time, finds what is left.
#[test]
fn a_call_whose_outcome_is_unknown_is_not_made_again() {
    for answer in [error(Kind::OutcomeUnknown), ok(json!({ "jobs": 1 })), ok(json!(null))] {
        let mut host = Host::confirmed(two_rules());
        host.call();
        host.now += 40;
        host.answer(answer);
        let pass = host.ended();
        assert_eq!((pass.end, pass.error.unwrap().kind.as_str()), (PassEnd::Unknown, "outcome_unknown"));
        assert_eq!(host.waits(), HOUR - 40);
        host.now += HOUR - 40;
        host.idle_pass();
    }
}

/// It may have held the lock for as long as it took. A call is waited for two minutes.
#[test]
fn the_lock_rests_after_a_call_whose_outcome_is_unknown() {
    let mut host = Host::confirmed(policy(&json!({ "every": "1m", "rule": [{ "older_than": "14d" }] })));
    host.call();
    host.now += 2 * MINUTE;
    host.answer(error(Kind::OutcomeUnknown));
    host.ended();
    host.now += MINUTE;
    assert_eq!(host.waits(), 49 * 2 * MINUTE - MINUTE);
    // A machine that was asleep meanwhile is no reason to rest for days.
    host.now += 2 * HOUR;
    host.call();
    host.now += 10 * HOUR;
    host.answer(error(Kind::OutcomeUnknown));
    host.ended();
    host.now += 2 * MINUTE;
    assert_eq!(host.waits(), 2 * HOUR - 2 * MINUTE);
}

#[test]
fn another_error_ends_its_rule_and_is_remembered() {
    let mut host = Host::confirmed(two_rules());
    host.call();
    host.answer(error(Kind::Internal));
    assert_eq!(host.call().rule(), Some(1));
    host.answer(ok(report(0, 0, 0.0)));
    let pass = host.ended();
    assert_eq!((pass.end, host.waits()), (PassEnd::Failed, HOUR));
    let history = host.retention.history();
    let failure = history.rules[r#"kind "build", older than 14d"#].error.as_ref().unwrap();
    assert_eq!((failure.kind.as_str(), failure.message.as_str(), failure.at_ms), ("internal", "it was so", START));
    assert_eq!(history.rules["older than 60d"].error, None);
    assert_eq!((history.succeeded_ms, history.failures), (None, 1));
    host.now += HOUR;
    host.idle_pass();
    assert_eq!(host.retention.history().rules[r#"kind "build", older than 14d"#].error, None);
}

#[test]
fn a_full_disk_makes_batches_smaller() {
    let mut host = Host::confirmed(two_rules());
    let limit = |call: &Call| call.params(Side::HeroProc)["limit"].as_u64().unwrap();
    let before = limit(&host.call());
    host.answer(error(Kind::DiskFull));
    assert_eq!(limit(&host.call()), before / 4);
}

/// Dry runs come first. What would take more than half of all jobs waits for a human, and nothing is deleted.
#[test]
fn a_new_policy_that_would_take_more_than_half_is_only_shown() {
    let mut host = Host::new(two_rules());
    for pass in 0..3 {
        for matched in [60, 100] {
            let call = host.call();
            assert!(call.is_dry_run() && call.params(Side::HeroProc)["dry_run"] == json!(true));
            host.answer(ok(shown(if matched == 100 { 21 } else { 30 }, matched)));
        }
        let Step::NeedsConfirmation(preview) = host.next() else { panic!() };
        let Preview { jobs_total, jobs_planned, ref rules, .. } = preview;
        assert_eq!((jobs_total, jobs_planned, rules[0].jobs, rules[1].jobs), (100, 51, 30, 21));
        assert_eq!(preview.digest, host.retention.policy().digest());
        assert_eq!(host.retention.history().waits_for.as_ref(), Some(&preview));
        assert_eq!(host.retention.history().last.as_ref().unwrap().end, PassEnd::Unconfirmed);
        assert_eq!(host.waits(), HOUR, "pass {pass}");
        host.restart();
        host.now += HOUR;
    }
    host.retention.confirm();
    assert!(!host.call().is_dry_run());
    assert_eq!(host.retention.history().waits_for, None);
}

#[test]
fn a_new_policy_that_takes_at_most_half_goes_on_at_once() {
    let mut host = Host::new(two_rules());
    host.call();
    host.answer(ok(shown(30, 60)));
    host.call();
    host.answer(ok(shown(20, 100)));
    assert!(!host.call().is_dry_run());
    host.answer(ok(report(0, 0, 0.0)));
    host.call();
    host.answer(ok(report(0, 0, 0.0)));
    assert_eq!(host.ended().calls, 4);
    host.now += HOUR;
    host.restart();
    host.idle_pass();
}

/// What the limit of a dry run leaves out would go as well; where no rule matches every job, they are counted apart.
#[test]
fn everything_that_would_go_is_counted() {
    let one = policy(&json!({ "every": "1h", "rule": [{ "kind": "build", "older_than": "14d" }] }));
    for (total, confirmed) in [(120, true), (119, false)] {
        let mut host = Host::new(one.clone());
        host.call();
        let mut half = shown(40, 70);
        half["jobs_kept"]["over_limit"] = json!(20);
        host.answer(ok(half));
        let count = host.call();
        assert!(count.is_dry_run() && count.rule().is_none());
        assert_eq!(
            count.params(Side::HeroProc),
            json!({ "tags": ["codescaler"], "dry_run": true, "limit": 1, "max_ids": 0 })
        );
        assert_eq!(count.params(Side::Codescalers), json!({ "dry_run": true, "limit": 1, "max_ids": 0 }));
        host.answer(ok(shown(1, total)));
        assert_eq!(matches!(host.next(), Step::Call(_)), confirmed);
    }
    // A store without jobs is no reason to ask.
    let mut host = Host::new(one);
    for _ in 0..2 {
        host.call();
        host.answer(ok(shown(0, 0)));
    }
    assert!(!host.call().is_dry_run());
}

#[test]
fn nothing_is_deleted_by_a_policy_that_can_not_be_shown() {
    for (kind, end) in [
        (Kind::StoreBusy, PassEnd::PutOff),
        (Kind::OutcomeUnknown, PassEnd::Unknown),
        (Kind::NotAdmin, PassEnd::Failed),
    ] {
        let mut host = Host::new(two_rules());
        host.call();
        host.answer(error(kind));
        assert_eq!(host.ended().end, end);
        assert_eq!(host.retention.history().accepted, None);
    }
}

#[test]
fn a_policy_confirms_itself_by_its_name_alone() {
    let written = json!({ "every": "1h", "rule": [{ "older_than": "14d" }] });
    let mut confirmed = written.clone();
    confirmed["confirmed"] = json!(policy(&written).digest());
    let mut host = Host::new(policy(&confirmed));
    assert!(!host.call().is_dry_run());
    // Changed, it is another one.
    confirmed["rule"][0]["older_than"] = json!("13d");
    let mut host = Host::new(policy(&confirmed));
    assert!(host.call().is_dry_run());
}

/// A pass ends by the policy with which it began. A policy that has changed is shown before it deletes.
#[test]
fn a_policy_that_changes_is_in_force_from_the_next_pass_on() {
    let mut host = Host::confirmed(two_rules());
    host.call();
    let changed = policy(&json!({ "every": "30m", "rule": [{ "older_than": "60d" }] }));
    host.retention.set_policy(changed.clone());
    host.answer(ok(report(3, 0, 0.0)));
    assert_eq!(host.call().rule(), Some(1));
    host.answer(ok(report(4, 0, 0.0)));
    host.ended();
    assert_eq!(host.retention.policy(), &changed);
    assert_eq!(host.waits(), 30 * MINUTE);
    host.now += 30 * MINUTE;
    assert!(host.call().is_dry_run());
    host.answer(ok(shown(1, 100)));
    host.call();
    host.answer(ok(report(1, 0, 0.0)));
    host.ended();
    let rules: Vec<(&str, u64)> =
        host.retention.history().rules.iter().map(|(name, rule)| (name.as_str(), rule.jobs_ever)).collect();
    assert_eq!(rules, [("older than 60d", 5)], "the rule that is still there is remembered");
    // And back: nobody knows what has become of the jobs meanwhile.
    host.retention.set_policy(two_rules());
    host.now += HOUR;
    assert!(host.call().is_dry_run());
}

/// A pass that has not ended when the next one is due is behind; the next one then begins at once.
#[test]
fn behind_is_said_until_a_pass_ends_in_time() {
    let mut host = Host::confirmed(two_rules());
    host.call();
    host.now += HOUR;
    host.answer(ok(report(9, 9, 0.0)));
    host.call();
    assert!(host.retention.history().behind);
    host.answer(ok(report(0, 0, 0.0)));
    host.call();
    host.answer(ok(report(0, 0, 0.0)));
    assert!(host.ended().behind && host.retention.history().behind);
    host.restart();
    host.idle_pass();
    assert!(!host.retention.history().behind);
}

#[test]
fn passes_that_are_missing_are_overdue() {
    let policy = two_rules();
    let mut host = Host::confirmed(policy.clone());
    let overdue = |host: &Host, after: i64| host.retention.history().overdue(&policy, at(START + after));
    assert!(overdue(&host, 0), "a loop that was never started");
    host.call();
    assert!(!overdue(&host, 3 * HOUR));
    assert!(overdue(&host, 3 * HOUR + 1), "no pass has ever ended");
    host.answer(ok(report(0, 0, 0.0)));
    host.call();
    host.answer(ok(report(0, 0, 0.0)));
    host.now += HOUR;
    host.ended();
    assert!(!overdue(&host, 4 * HOUR));
    assert!(overdue(&host, 4 * HOUR + 1));
    assert!(overdue(&host, -HOUR), "a success that is still to come is none");
}

/// A clock that goes back, in a process or between two, is said. The next pass is not waited for.
#[test]
fn a_clock_that_jumps_back_is_noticed() {
    let mut host = Host::confirmed(two_rules());
    host.idle_pass();
    host.now -= 30 * 24 * HOUR;
    host.restart();
    host.idle_pass();
    let jump = host.retention.history().clock_jump.unwrap();
    assert_eq!((jump.at_ms, jump.by_ms), (host.now, 30 * 24 * HOUR));
    assert_eq!(host.waits(), HOUR);
    // In a pass, and in a rest: neither is longer than it was.
    host.now += HOUR;
    host.call();
    host.answer(ok(report(9, 9, 100.0)));
    host.now -= 10 * HOUR;
    assert_eq!(host.waits(), 4900);
    host.now += 4900;
    host.call();
    host.answer(ok(report(0, 0, 0.0)));
    host.call();
    host.answer(ok(report(0, 0, 0.0)));
    assert!(!host.ended().behind);
    assert_eq!(host.waits(), HOUR - 4900);
    assert_eq!(host.retention.history().clock_jump.unwrap().by_ms, 10 * HOUR);
    // Clocks are set by seconds every day.
    host.now -= 30_000;
    assert_eq!(host.waits(), HOUR - 4900 + 30_000);
    assert_eq!(host.retention.history().clock_jump.unwrap().by_ms, 10 * HOUR);
}

#[test]
fn a_clock_that_jumps_forward_makes_one_pass_due() {
    let mut host = Host::confirmed(two_rules());
    host.idle_pass();
    host.now += 3650 * 24 * HOUR;
    host.idle_pass();
    assert_eq!(host.waits(), HOUR);
}

#[test]
fn the_first_pass_of_a_process_is_put_off_by_its_jitter() {
    let first = |jitter, every: &str| {
        let policy = policy(&json!({ "every": every, "rule": [{ "older_than": "14d" }] }));
        let mut host = Host { retention: Retention::new(policy, History::default(), jitter), now: START };
        match host.next() {
            Step::Wait { until } => until.timestamp_millis() - START,
            Step::Call(_) => 0,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(first(0.0, "1h"), 0);
    assert_eq!(first(0.5, "10m"), 30_000);
    assert_eq!(
        [first(1.0, "7d"), first(9.0, "7d"), first(f64::NAN, "7d"), first(-1.0, "7d")],
        [300_000, 300_000, 0, 0]
    );
    // A pass for which somebody has asked is due at once.
    let mut retention = Retention::new(two_rules(), History::default(), 1.0);
    retention.due_now();
    assert!(matches!(retention.next(at(START)), Step::Call(_)));
}

/// The numbers of a report are another process's: none makes retention wait for ever, or forget how to write.
#[test]
fn numbers_that_mean_nothing_are_survived() {
    for lock_ms in [f64::MAX, -1.0] {
        let mut host = Host::confirmed(two_rules());
        host.call();
        let mut answer = report(u64::MAX / 4096, 3, lock_ms);
        answer["bytes_freed"] = json!(u64::MAX);
        answer["jobs_deleted"] = json!(u64::MAX);
        host.answer(ok(answer.clone()));
        host.now += 24 * HOUR;
        host.call();
        host.answer(ok(answer));
        host.restart();
        host.now += 24 * HOUR;
        host.call();
    }
}

#[test]
fn a_history_of_another_form_is_told_from_one_that_is_torn() {
    let mut host = Host::confirmed(two_rules());
    host.idle_pass();
    let written = host.retention.history().to_json();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap()["version"], 1);
    for torn in ["", "{}", &written[..written.len() / 2], "[]", "null", "\0\0\0"] {
        assert!(matches!(History::from_json(torn), Err(HistoryError::Malformed(_))), "{torn:?}");
    }
    let newer = written.replacen("\"version\": 1", "\"version\": 2", 1);
    assert!(matches!(History::from_json(&newer), Err(HistoryError::Version { version: 2, .. })));
    // What an older version has not known yet has its default.
    assert_eq!(History::from_json(r#"{ "version": 1 }"#).unwrap(), History::default());
}
