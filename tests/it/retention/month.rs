//! A month in a minute: random histories of jobs, a real store, a simulated clock, faults and restarts, against a model
//! that knows nothing of the code: what must have gone is gone, what must stay has stayed.
//!
//! The long form: `PROPTEST_CASES=1000 cargo test --release month`.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;
use hero_proc_cleanup::policy::{Call, History, PassEnd, Policy, Retention, Side, Step};
use hero_proc_cleanup::{Kind, RpcError, call};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::{Connection, named_params};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::{HOUR, MINUTE, START, at};
use crate::support::call::host;
use crate::support::sample::{SCHEMA, column};

const DAY: i64 = 24 * HOUR;

/// A job as it is from its creation on.
#[derive(Debug, Clone)]
struct Job {
    /// After the beginning of the month, or before it.
    created: i64,
    /// How long it runs; none: until the end of time.
    runs: Option<i64>,
    /// The phase in which it ends.
    ends: &'static str,
    kind: &'static str,
    target: &'static str,
    actor: &'static str,
    /// It is not codescaler's.
    foreign: bool,
}

/// A rule, as the model has it.
#[derive(Debug, Clone)]
struct Rule {
    kind: &'static str,
    target: &'static str,
    actor: &'static str,
    phases: Vec<&'static str>,
    hours: i64,
    keep: Option<Keep>,
}

#[derive(Debug, Clone, Copy)]
struct Keep {
    count: usize,
    by: &'static [&'static str],
}

#[derive(Debug, Clone)]
struct Month {
    jobs: Vec<Job>,
    rules: Vec<Rule>,
    keep: Option<Keep>,
    except: Vec<&'static str>,
    every_hours: i64,
    /// Of what happens at each call, in turn.
    faults: Vec<Fault>,
    /// Jobs in the first batch.
    limit: u64,
    /// For how long each job holds the lock, in milliseconds.
    each_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    Busy,
    Unreachable,
    /// The answer is lost; the call was carried out.
    Lost,
    /// The process ends before it hears the answer, and begins anew.
    Killed,
    Internal,
}

fn job() -> impl Strategy<Value = Job> {
    (
        prop_oneof![-25 * DAY..0, 0..30 * DAY],
        prop::option::weighted(0.9, prop_oneof![4 => 0..HOUR, 1 => 0..9 * DAY]),
        select(&["succeeded", "failed", "cancelled", "Done"][..]),
        select(&["", "build", "test", "release"][..]),
        select(&["", "web", "app"][..]),
        select(&["ana", "ben"][..]),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(created, runs, ends, kind, target, actor, foreign)| Job {
            created,
            runs,
            ends,
            kind,
            target,
            actor,
            foreign,
        })
}

fn keep() -> impl Strategy<Value = Keep> {
    const BY: [&[&str]; 4] = [&["kind"], &["target"], &["kind", "target"], &[]];
    (1..6_usize, select(&BY[..])).prop_map(|(count, by)| Keep { count, by })
}

fn rule() -> impl Strategy<Value = Rule> {
    let phases = prop::collection::vec(select(&["succeeded", "done", "failed", "cancelled"][..]), 0..3);
    (
        select(&["", "", "build", "test"][..]),
        select(&["", "", "", "web"][..]),
        select(&["", "", "", "ana"][..]),
        phases,
        prop_oneof![1..48_i64, 1..400_i64],
        prop::option::weighted(0.6, keep()),
    )
        .prop_map(|(kind, target, actor, phases, hours, keep)| Rule { kind, target, actor, phases, hours, keep })
}

fn month() -> impl Strategy<Value = Month> {
    let fault = prop_oneof![
        20 => Just(Fault::None), 1 => Just(Fault::Busy), 1 => Just(Fault::Unreachable), 1 => Just(Fault::Lost),
        1 => Just(Fault::Killed), 1 => Just(Fault::Internal),
    ];
    (
        prop::collection::vec(job(), 20..160),
        prop::collection::vec(rule(), 1..4),
        prop::option::of(keep()),
        prop::collection::vec(select(&["release", "test"][..]), 0..2),
        prop_oneof![Just(3_i64), Just(8), Just(24)],
        prop::collection::vec(fault, 1..60),
        // With 25 minutes for a job, more comes of age than 2 % of the time can delete.
        select(&[(2_u64, 0_i64), (250, 0), (2, 5_000), (250, 5_000), (1, 25 * MINUTE)][..]),
    )
        .prop_map(|(mut jobs, rules, keep, except, every_hours, faults, (limit, each_ms))| {
            jobs.sort_by_key(|job| job.created);
            Month { jobs, rules, keep, except, every_hours, faults, limit, each_ms }
        })
}

impl Month {
    /// The policy in words; none if the library refuses it.
    fn policy(&self) -> Option<Policy> {
        let keep = |table: &mut Value, keep: Option<Keep>| {
            if let Some(Keep { count, by }) = keep {
                (table["keep_last"], table["keep_by"]) = (json!(count), json!(by));
            }
        };
        let mut policy = json!({ "every": format!("{}h", self.every_hours), "except_kind": self.except });
        keep(&mut policy, self.keep);
        let mut rules = Vec::new();
        for rule in &self.rules {
            let mut table = json!({ "older_than": format!("{}h", rule.hours) });
            for (name, value) in [("kind", rule.kind), ("target", rule.target), ("actor", rule.actor)] {
                if !value.is_empty() {
                    table[name] = json!(value);
                }
            }
            if !rule.phases.is_empty() {
                table["phases"] = json!(rule.phases);
            }
            keep(&mut table, rule.keep);
            rules.push(table);
        }
        policy["rule"] = json!(rules);
        serde_json::from_value(policy).ok()
    }
}

/// What is in the store, as the model has it: each job that is there, with its end so far.
#[derive(Debug, Default)]
struct World {
    rows: BTreeMap<i64, Row>,
}

#[derive(Debug, Clone)]
struct Row {
    job: Job,
    ended: Option<i64>,
}

impl Row {
    fn group(&self, by: &[&str]) -> Vec<&'static str> {
        by.iter().map(|field| if *field == "kind" { self.job.kind } else { self.job.target }).collect()
    }

    fn succeeded(&self) -> bool {
        matches!(self.job.ends, "succeeded" | "Done")
    }

    fn is_of(&self, rule: &Rule) -> bool {
        let is = |asked: &str, own: &str| asked.is_empty() || asked == own;
        !self.job.foreign
            && is(rule.kind, self.job.kind)
            && is(rule.target, self.job.target)
            && is(rule.actor, self.job.actor)
    }
}

impl World {
    /// The last jobs of each group among those of `rows` that have ended.
    fn last<'r>(rows: impl Iterator<Item = (&'r i64, &'r Row)>, keep: Option<Keep>) -> BTreeSet<i64> {
        let Some(Keep { count, by }) = keep else { return BTreeSet::new() };
        let mut groups: BTreeMap<_, Vec<i64>> = BTreeMap::new();
        for (id, row) in rows.filter(|(_, row)| row.ended.is_some()) {
            groups.entry((row.group(by), row.succeeded())).or_default().push(*id);
        }
        groups.into_values().flat_map(|ids| ids.into_iter().rev().take(count)).collect()
    }

    /// What `rule` takes of the jobs that had ended by `known`, if the rule's age is counted back from `now`.
    fn taken(&self, month: &Month, rule: &Rule, now: i64, known: i64) -> BTreeSet<i64> {
        let there =
            || self.rows.iter().filter(|(_, row)| row.ended.is_none_or(|ended| ended <= known) && !row.job.foreign);
        let kept_by_the_top = Self::last(there(), month.keep);
        // A rule counts among its own jobs: what it keeps itself, and, anew, what the top keeps.
        let own = || there().filter(|(_, row)| row.is_of(rule));
        let kept_by_the_rule = &Self::last(own(), rule.keep) | &Self::last(own(), month.keep);
        let until = now - rule.hours * HOUR;
        there()
            .filter(|(_, row)| row.is_of(rule) && !month.except.contains(&row.job.kind))
            .filter(|(_, row)| {
                rule.phases.is_empty() || rule.phases.iter().any(|phase| phase.eq_ignore_ascii_case(row.job.ends))
            })
            .filter(|(_, row)| START + row.job.created <= until && row.ended.is_some_and(|ended| ended <= until))
            .map(|(id, _)| *id)
            .filter(|id| !kept_by_the_top.contains(id) && !kept_by_the_rule.contains(id))
            .collect()
    }
}

/// The store, and the world that it is to be like.
struct Simulation<'m> {
    month: &'m Month,
    store: Connection,
    world: World,
    /// What happens to jobs, at which moments.
    coming: Vec<(i64, usize)>,
    now: i64,
}

impl Simulation<'_> {
    /// Lets everything happen up to `now`.
    fn go_to(&mut self, now: i64) {
        self.now = self.now.max(now);
        while let Some((when, number)) = self.coming.last().copied().filter(|(when, _)| *when <= self.now) {
            self.coming.pop();
            let id = number as i64 + 1;
            let job = &self.month.jobs[number];
            if self.world.rows.contains_key(&id) {
                let sql = "UPDATE jobs SET phase = :phase, finished_at_ms = :at WHERE id = :id";
                self.store.execute(sql, named_params! { ":phase": job.ends, ":at": when, ":id": id }).unwrap();
                self.world.rows.get_mut(&id).unwrap().ended = Some(when);
                continue;
            }
            let mut tags = vec![if job.foreign { "ops".to_owned() } else { "codescaler".to_owned() }];
            tags.push(format!("codescaler_{}", job.actor));
            for (prefix, value) in [("kind", job.kind), ("target", job.target)] {
                if !value.is_empty() {
                    tags.push(format!("codescaler_{prefix}_{value}"));
                }
            }
            let sql = "INSERT INTO jobs (id, action, action_id, spec_json, phase, tags, created_at_ms)
                       VALUES (:id, :action, :action, '{}', 'running', :tags, :at)";
            let action = format!("codescaler_{number}");
            self.store
                .execute(
                    sql,
                    named_params! { ":id": id, ":action": action, ":tags": json!(tags).to_string(), ":at": when },
                )
                .unwrap();
            self.world.rows.insert(id, Row { job: job.clone(), ended: None });
        }
    }

    /// Makes `due`, and holds it against the model: nothing goes that no rule takes, or that is kept.
    fn call(&mut self, due: &Call) -> Result<Box<serde_json::value::RawValue>, RpcError> {
        let params = due.params(Side::HeroProc);
        let answer = call(due.method(Side::HeroProc), &params, &mut self.store, &host(), at(self.now));
        let left: BTreeSet<i64> = column(&self.store, "SELECT id FROM jobs").into_iter().collect();
        let gone: BTreeSet<i64> = self.world.rows.keys().copied().filter(|id| !left.contains(id)).collect();
        if let Some(place) = due.rule().filter(|_| !due.is_dry_run()) {
            let may_go = self.world.taken(self.month, &self.month.rules[place], self.now, i64::MAX);
            assert!(gone.is_subset(&may_go), "{due:?} took {gone:?} of {may_go:?}");
        } else {
            assert_eq!(gone, BTreeSet::new(), "{due:?}");
        }
        self.world.rows.retain(|id, _| left.contains(id));
        assert_eq!(self.world.rows.len(), left.len());
        answer
    }
}

fn simulate(month: &Month, policy: &Policy) -> u64 {
    let store = Connection::open_in_memory().unwrap();
    store.execute_batch(SCHEMA).unwrap();
    let mut coming: Vec<(i64, usize)> = Vec::new();
    for (number, job) in month.jobs.iter().enumerate() {
        let created = START + job.created;
        coming.push((created, number));
        coming.extend(job.runs.map(|runs| (created + runs, number)));
    }
    coming.sort_unstable_by_key(|(when, number)| (std::cmp::Reverse(*when), std::cmp::Reverse(*number)));
    let mut simulation = Simulation { month, store, world: World::default(), coming, now: START };
    simulation.go_to(START);

    let first = json!({ "version": 1, "pace": { "limit": month.limit } }).to_string();
    let mut retention = Retention::new(policy.clone(), History::from_json(&first).unwrap(), 0.0);
    let mut faults = month.faults.iter().copied().cycle();
    let (mut confirmations, mut rests_until, mut passes, mut ended) = (0, 0, 0, 0);
    while simulation.now < START + 31 * DAY {
        let step = retention.next(at(simulation.now));
        let (now, history) = (simulation.now, retention.history());
        let began = history.started_ms.unwrap_or(now);
        let late = now - began >= month.every_hours * HOUR;
        if retention.is_running() {
            assert!(began >= ended, "a pass has begun at {began}, before the one that ended at {ended}");
            assert!(history.behind || !late, "the pass of {began} goes on at {now}");
        }
        match step {
            Step::Wait { until } => {
                assert!(until.timestamp_millis() > now);
                simulation.go_to(until.timestamp_millis());
            }
            Step::NeedsConfirmation(preview) => {
                assert!(preview.jobs_planned * 2 > preview.jobs_total);
                confirmations += 1;
                // A human comes a day later.
                simulation.go_to(now + DAY);
                retention.confirm();
            }
            Step::Ended(pass) => {
                assert_eq!((pass.started_ms, pass.ended_ms, pass.behind, history.behind), (began, now, late, late));
                (passes, ended) = (passes + 1, now);
                if pass.end == PassEnd::Done {
                    for rule in &month.rules {
                        let left = simulation.world.taken(month, rule, began, began);
                        assert_eq!(left, BTreeSet::new(), "{rule:?} is done, at {began}");
                    }
                }
            }
            Step::Call(due) => {
                if !due.is_dry_run() {
                    assert!(now >= rests_until, "the lock rests until {rests_until}: {now}");
                }
                let fault = faults.next().unwrap_or(Fault::None);
                let there = simulation.world.rows.len();
                let answer = match fault {
                    Fault::Busy => Err(RpcError::new(Kind::StoreBusy, "busy")),
                    Fault::Unreachable => Err(RpcError::new(Kind::UpstreamUnreachable, "unreachable")),
                    Fault::Internal => Err(RpcError::new(Kind::Internal, "internal")),
                    Fault::None | Fault::Lost | Fault::Killed => simulation.call(&due),
                };
                let lock_ms = month.each_ms * (there - simulation.world.rows.len()) as i64;
                simulation.go_to(now + 7 + lock_ms);
                let now = simulation.now;
                match (fault, answer) {
                    // Nobody knows for how long this call held the lock.
                    (Fault::Killed, _) => {
                        let written = retention.history().to_json();
                        retention = Retention::new(policy.clone(), History::from_json(&written).unwrap(), 0.5);
                        simulation.go_to(now + MINUTE);
                    }
                    (Fault::Lost, _) => {
                        let lost = RpcError::new(Kind::OutcomeUnknown, "no answer");
                        retention.answered(at(now), Err(lost));
                        rests_until = now + (49 * (7 + lock_ms)).min(2 * HOUR);
                    }
                    (_, Ok(answer)) => {
                        let mut report: Value = serde_json::from_str(answer.get()).unwrap();
                        if month.each_ms > 0 {
                            report["lock_ms"] = json!(lock_ms);
                        }
                        retention.answered(at(now), Ok(to_raw_value(&report).unwrap()));
                        rests_until = now + (49.0 * report["lock_ms"].as_f64().unwrap()).ceil() as i64;
                    }
                    (_, error) => retention.answered(at(now), error),
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(confirmations <= 1, "a policy is confirmed once");
    // A pass that takes longer than the month, or is killed time and again, does not end. Retention then says so.
    assert!(passes > 0 || retention.history().overdue(policy, at(simulation.now)), "no pass has ended");
    let foreign = simulation.month.jobs.iter().filter(|job| job.foreign).count();
    assert_eq!(
        simulation.world.rows.values().filter(|row| row.job.foreign).count(),
        foreign,
        "what is not codescaler's"
    );
    simulation.month.jobs.len() as u64 - simulation.world.rows.len() as u64
}

#[test]
fn a_month_in_a_minute() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(20);
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, max_global_rejects: 10_000, ..Config::default() });
    let started = Utc::now();
    let counted = std::cell::Cell::new((0_u64, 0_u64));
    runner
        .run(&month(), |month| {
            let (refused, taken) = counted.get();
            match month.policy() {
                Some(policy) => counted.set((refused, taken + simulate(&month, &policy))),
                None => {
                    counted.set((refused + 1, taken));
                    return Err(TestCaseError::reject("one call can't keep both"));
                }
            }
            Ok(())
        })
        .unwrap();
    let (refused, taken) = counted.get();
    assert!(taken > 100, "{taken} jobs went, {refused} policies were refused, in {}", Utc::now() - started);
}
