//! Random stores in every layout, random requests: what happens is what the model says, and nothing else.
//!
//! The long form: `PROPTEST_CASES=10000 cargo test --release property`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use hero_proc_cleanup::{ControlError, Job as HostJob, JobControl, Kind, RpcError};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::call::{call_for_json, host};
use crate::support::layout::{Services, Variant};
use crate::support::model::{
    Action, Asked, Expected, Job, Number, OnDelete, REASONS, Row, Service, Stop, TABLES, Table, World, expected,
    expected_after_stops, shown, stop,
};
use crate::support::sample::{assert_intact, dump};

const NOW: i64 = 1_790_000_000_000;
fn runner() -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn what_happens_is_what_the_model_says() {
    let directory = TempDir::new().unwrap();
    runner()
        .run(&(world(), variant(), request()), |(world, variant, request)| {
            case(&directory, &world, &variant, &request);
            Ok(())
        })
        .unwrap();
}

/// The model by itself: batches end, take what one call without a limit takes, and leave nothing for a second call.
#[test]
fn the_model_ends_in_batches() {
    runner()
        .run(&(world(), request()), |(world, request)| {
            let asked = Asked { force: false, ..request.asked() };
            let whole = expected(&world, &Asked { limit: usize::MAX / 20, ..asked.clone() });
            assert!(!whole.more);
            let (mut world, mut jobs) = (world, BTreeSet::new());
            loop {
                let batch = expected(&world, &asked);
                jobs.extend(&batch.jobs);
                world = world.after(&batch);
                if !batch.more {
                    break;
                }
            }
            // A job that is held by a row of another table is free once that row has gone with another job.
            assert!(whole.jobs.is_subset(&jobs));
            if !whole.kept.contains_key("referenced") {
                assert_eq!(jobs, whole.jobs);
                let second = expected(&world, &asked);
                assert_eq!((second.jobs, second.actions), (BTreeSet::new(), BTreeSet::new()));
            }
            Ok(())
        })
        .unwrap();
}

fn case(directory: &TempDir, world: &World, variant: &Variant, request: &Request) {
    let path = directory.path().join("hero_proc.db");
    for file in [path.clone(), directory.path().join("hero_proc.db-wal"), directory.path().join("hero_proc.db-shm")] {
        let _ = std::fs::remove_file(file);
    }
    variant.make(&path, world);
    let world = variant.seen(world);
    let asked = request.asked();
    let would = expected(&world, &asked);
    let goes = expected_after_stops(&world, &asked, &would);
    let before = dump(&path);

    let host = Arc::new(Supervisor::new(&path, variant, request));
    let dry = host.call(&request.params(true, None)).unwrap();
    assert_eq!(dump(&path), before, "a dry run writes nothing");
    assert_report(&dry, &would, request);
    assert_eq!([&dry["jobs_deleted"], &dry["actions_deleted"], &dry["bytes_freed"]], [0, 0, 0]);
    assert_eq!(host.call(&request.params(true, None)).unwrap()["plan"], dry["plan"], "the plan is stable");
    assert_eq!(host.stopped(), [0_i64; 0], "a dry run stops nothing");

    let real = host.call(&request.params(false, request.bind.then_some(&dry["plan"])));
    let mut stopped = host.stopped();
    stopped.sort_unstable();
    assert_eq!(stopped, would.unfinished.iter().copied().collect::<Vec<_>>(), "each of them once");
    // What the host itself has done to the rows is there, whatever comes of the call.
    let before = host.left().unwrap_or(before);
    let real = match real {
        Ok(real) => real,
        Err(error) => {
            assert!(request.bind && goes.jobs != would.jobs, "{error:?}");
            assert_refused(&error, &host, &goes);
            assert_eq!(dump(&path), before, "an error changes nothing");
            return;
        }
    };
    assert!(!request.bind || goes.jobs == would.jobs, "a plan binds");
    assert_deleted(&real, &goes, request);
    assert_eq!(real["plan"] == dry["plan"], goes.jobs == would.jobs);
    assert_eq!(dump(&path), without(&before, &world, &goes), "everything else is as it was");
    assert_intact(&path);

    // The next batches, up to one that finds nothing. What the host has done to jobs that stay is not in the model.
    let (mut world, mut last) = (world.after(&goes), goes);
    let mut stopped = would.unfinished;
    while stopped.is_subset(&last.jobs) {
        let would = expected(&world, &asked);
        let goes = expected_after_stops(&world, &asked, &would);
        let report = host.call(&request.params(false, None)).unwrap();
        assert_deleted(&report, &goes, request);
        assert_intact(&path);
        // A job that was held by a row which has gone meanwhile is free.
        if !last.more && !last.kept.contains_key("referenced") {
            assert_eq!([&report["jobs_deleted"], &report["actions_deleted"]], [0, 0], "there is nothing more");
        }
        if goes.jobs.is_empty() && goes.actions.is_empty() {
            return;
        }
        world = world.after(&goes);
        (last, stopped) = (goes, would.unfinished);
    }
}

/// The plan is refused, the new one is that of now, and it is said which jobs have been stopped.
#[track_caller]
fn assert_refused(error: &RpcError, host: &Supervisor, goes: &Expected) {
    assert_eq!(error.kind(), Some(Kind::PlanChanged), "{error:?}");
    let planned = (&error.data["jobs_planned"], &error.data["actions_planned"]);
    assert_eq!(planned, (&json!(goes.jobs.len()), &json!(goes.actions.len())));
    let mut stopped: Vec<i64> = host.stopped().into_iter().filter(|id| stop(*id) != Stop::Fails).collect();
    stopped.sort_unstable();
    assert_eq!(error.data.get("jobs_stopped"), (!stopped.is_empty()).then_some(&json!(stopped)));
    let mut message = format!(
        "the set is no longer that of the plan: {} jobs and {} actions would go now",
        goes.jobs.len(),
        goes.actions.len()
    );
    if !stopped.is_empty() {
        message += &format!("; {} jobs had been stopped, their rows are all there", stopped.len());
    }
    assert_eq!(error.message, message);
}

#[track_caller]
fn assert_deleted(report: &Value, expected: &Expected, request: &Request) {
    assert_report(report, expected, request);
    assert_eq!(report["jobs_deleted"], report["jobs_planned"]);
    assert_eq!(report["actions_deleted"], report["actions_planned"]);
}

#[track_caller]
fn assert_report(report: &Value, expected: &Expected, request: &Request) {
    let kept: BTreeMap<&str, u64> =
        REASONS.map(|reason| (reason, expected.kept.get(reason).copied().unwrap_or(0))).into();
    assert_eq!(report["jobs_kept"], json!(kept));
    assert_eq!(report["jobs_planned"], expected.jobs.len());
    assert_eq!(report["jobs_matched"], expected.jobs.len() as u64 + kept.values().sum::<u64>());
    assert_eq!(report["more"], expected.more);
    let jobs: Vec<i64> = expected.jobs.iter().copied().take(request.max_ids).collect();
    assert_eq!(report["job_ids"], json!(jobs));
    assert_eq!(report["actions_planned"], expected.actions.len());
    assert_eq!(report["actions_leaked"], expected.leaked);
    let actions: BTreeSet<String> = expected.actions.iter().map(|(context, name)| shown(context, name)).collect();
    assert_eq!(report["action_ids"], json!(actions.into_iter().take(request.max_ids).collect::<Vec<_>>()));
    assert_eq!(report["actions_kept_count"], expected.actions_kept.len());
    let kept: BTreeMap<String, _> =
        expected.actions_kept.iter().map(|((context, name), why)| (shown(context, name), why)).collect();
    let found = report["actions_kept"].as_array().unwrap();
    assert_eq!(found.len(), kept.len().min(request.max_ids));
    for (found, (name, (reason, by))) in found.iter().zip(kept) {
        assert_eq!((&found["action_id"], &found["reason"]), (&json!(name), &json!(reason)));
        match found["by"].as_str() {
            Some(referrer) => assert!(by.contains(referrer), "{name}: {referrer} is none of {by:?}"),
            None => assert!(by.is_empty(), "{name}"),
        }
    }
    assert_eq!(report["dependents"], json!(expected.dependents));
    let (errors, said) = (expected.errors.len(), report["errors"].as_array().unwrap());
    assert_eq!(said.len(), errors.min(request.max_ids.max(1)));
    for (error, may_be_said) in said.iter().zip(&expected.errors) {
        assert!(may_be_said.contains(error.as_str().unwrap()), "{error:?} is none of {may_be_said:?}");
    }
    let longest = [expected.jobs.len(), expected.actions.len(), expected.actions_kept.len(), errors];
    assert_eq!(report["ids_truncated"], longest.iter().any(|entries| *entries > request.max_ids));
    assert_eq!(report["cutoff_ms"], json!(request.asked().cutoff));
}

/// `dump` without the rows that must be gone.
fn without(dump: &str, world: &World, expected: &Expected) -> String {
    let lines = dump.lines().filter_map(|line| {
        let (table, row) = line.split_once(": ").unwrap_or(("", line));
        let id = || row.strip_prefix("Integer(")?.split(')').next()?.parse().ok();
        match (table, id()) {
            ("jobs", Some(id)) if expected.jobs.contains(&id) => None,
            // The foreign key is the last column.
            ("jobs", Some(id)) if expected.nulls.contains(&("jobs", id, 0)) => {
                Some(format!("{}, Null", line.rsplit_once(", ")?.0))
            }
            ("actions", Some(id)) => {
                let action = world.actions.iter().find(|action| action.number * world.apart == id)?;
                (!expected.actions.contains(&action.key())).then(|| line.to_owned())
            }
            (_, id) => match (world.tables.iter().find(|child| child.name == table), id) {
                (Some(child), Some(id)) => without_keys(line, child, id, expected),
                _ => Some(line.to_owned()),
            },
        }
    });
    lines.map(|line| line + "\n").collect()
}

/// The `line` of the row `id` of `table` with those keys NULL that must be; none if it must be gone.
fn without_keys(line: &str, table: &Table, id: i64, expected: &Expected) -> Option<String> {
    if expected.rows.contains(&(table.name, id)) {
        return None;
    }
    let cells = line.split(", ").enumerate().map(|(cell, text)| {
        let null = cell > 0 && expected.nulls.contains(&(table.name, id, cell - 1));
        if null { "Null" } else { text }
    });
    Some(cells.collect::<Vec<_>>().join(", "))
}

/// A host that does to jobs what [`stop`] says, and writes down which.
struct Supervisor {
    store: PathBuf,
    /// What it sets of a job that it has stopped, and says so in the row.
    stopped_row: String,
    /// The name of the time of a job's start.
    started_at: String,
    grace: Duration,
    runs: bool,
    stopped: Mutex<Vec<i64>>,
    /// The store's dump as it left it.
    left: Mutex<Option<String>>,
}

impl Supervisor {
    fn new(store: &Path, variant: &Variant, request: &Request) -> Self {
        let mut stopped_row = "phase = 'cancelled', pid = NULL, attempt = attempt + 1".to_owned();
        if variant.ended_at {
            stopped_row += &format!(", {} = {NOW}", variant.time("finished"));
        }
        let (stopped, left) = (Mutex::default(), Mutex::default());
        let (grace, runs) = (Duration::from_millis(request.grace.unsigned_abs()), request.runs);
        Self { store: store.to_owned(), stopped_row, started_at: variant.time("started"), grace, runs, stopped, left }
    }

    fn call(self: &Arc<Self>, params: &Value) -> Result<Value, RpcError> {
        let mut host = host();
        host.control = Some(Arc::clone(self) as Arc<dyn JobControl>);
        (host.grace, host.runs) = (self.grace, self.runs);
        let now = DateTime::<Utc>::from_timestamp_millis(NOW).unwrap();
        call_for_json(self.store.as_path(), &host, params, now)
    }

    fn stopped(&self) -> Vec<i64> {
        self.stopped.lock().unwrap().clone()
    }

    fn left(&self) -> Option<String> {
        self.left.lock().unwrap().clone()
    }
}

impl JobControl for Supervisor {
    fn stop(&self, job: &HostJob) -> Result<(), ControlError> {
        self.stopped.lock().unwrap().push(job.id);
        let restarted = format!("attempt = attempt + 1, {} = {NOW}", self.started_at);
        let (assignment, outcome) = match stop(job.id) {
            Stop::Refuses => panic!("it said so"),
            Stop::Fails => ("phase = 'stopping', attempt = attempt + 1", Err("would not stop".into())),
            Stop::Stops => ("id = id", Ok(())),
            Stop::Writes => (self.stopped_row.as_str(), Ok(())),
            Stop::Restarts => (restarted.as_str(), Ok(())),
        };
        // That it can write shows that no lock is held, and no snapshot where that would be one.
        let connection = Connection::open(&self.store).unwrap();
        connection.pragma_update(None, "synchronous", "off").unwrap();
        connection.execute(&format!("UPDATE jobs SET {assignment} WHERE id = ?1"), [job.id]).unwrap();
        *self.left.lock().unwrap() = Some(dump(&self.store));
        outcome
    }

    fn can_stop(&self, job: &HostJob) -> Result<(), ControlError> {
        if stop(job.id) == Stop::Refuses { Err("refused".into()) } else { Ok(()) }
    }
}

#[derive(Debug, Clone)]
struct Request {
    tags: Vec<String>,
    except_tags: Option<Vec<String>>,
    age: Age,
    phases: Option<Vec<String>>,
    keep_last: Option<usize>,
    keep_by: Option<Vec<String>>,
    leaked: Option<bool>,
    force: bool,
    limit: usize,
    max_ids: usize,
    /// Whether params that are not given are null.
    nulls: bool,
    /// Whether the deletion is bound to the dry run's plan.
    bind: bool,
    /// The host's, as are its runs.
    grace: i64,
    runs: bool,
}

#[derive(Debug, Clone, Copy)]
enum Age {
    Any,
    OlderThan(i64),
    Before(i64),
}

impl Request {
    fn asked(&self) -> Asked {
        let cutoff = match self.age {
            Age::Any => None,
            Age::OlderThan(age) => Some(NOW.saturating_sub(age)),
            Age::Before(at) => Some(at),
        };
        Asked {
            tags: self.tags.clone(),
            except_tags: self.except_tags.clone().unwrap_or_default(),
            cutoff,
            phases: self.phases.clone(),
            keep_last: self.keep_last,
            keep_by: self.keep_by.clone(),
            leaked: self.leaked.unwrap_or(true),
            force: self.force,
            limit: self.limit,
            now: NOW,
            grace: self.grace,
            runs: self.runs,
        }
    }

    fn params(&self, dry_run: bool, plan: Option<&Value>) -> Value {
        let (older_than_ms, before_ms) = match self.age {
            Age::Any => (None, None),
            Age::OlderThan(age) => (Some(age), None),
            Age::Before(at) => (None, Some(at)),
        };
        let mut params = json!({
            "tags": self.tags, "except_tags": self.except_tags, "older_than_ms": older_than_ms, "before_ms": before_ms,
            "phases": self.phases, "keep_last": self.keep_last, "keep_by": self.keep_by, "leaked": self.leaked,
            "dry_run": dry_run, "force": self.force, "limit": self.limit, "max_ids": self.max_ids, "expect_plan": plan,
        });
        if !self.nulls {
            params.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        }
        params
    }
}

fn strings(of: &[&str]) -> Vec<String> {
    of.iter().map(ToString::to_string).collect()
}

/// Some of `of`, of at least `least`.
fn some_of(of: &[&'static str], least: usize) -> impl Strategy<Value = Vec<String>> + use<> {
    subsequence(of.to_vec(), least..=of.len()).prop_map(|some| strings(&some))
}

/// None, five times out of six.
fn rarely<T: std::fmt::Debug + Clone>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop_oneof![5 => Just(None), 1 => of.prop_map(Some)]
}

fn request() -> impl Strategy<Value = Request> {
    let tags = prop_oneof![
        3 => Just(strings(&["codescaler"])),
        1 => some_of(&["codescaler", "codescaler_ana", "codescaler_kind_x"], 1),
    ];
    let except_tags = rarely(some_of(&["codescaler_ana", "codescaler_kind_y", "codescaler_target_z"], 0));
    let age = prop_oneof![
        6 => Just(Age::Any),
        2 => select(vec![0, 1, 1000, 59_999, 60_000, 120_000, NOW - 100_000_000_000, NOW, i64::MAX]).prop_map(Age::OlderThan),
        1 => select(vec![100_000_000_000, NOW - 120_000, NOW - 1000, NOW]).prop_map(Age::Before),
    ];
    let phases = (
        some_of(&["succeeded", "SUCCEEDED", "Failed", "done", "timed_out"], 1),
        some_of(&["running", "Pending", "stopping"], 0),
    );
    let prefixes = ["codescaler", "codescaler_", "codescaler_ana", "codescaler_kind_", "codescaler_target_"];
    let keep = rarely((1..4_usize, prop::option::of(some_of(&prefixes, 0))));
    let leaked = prop_oneof![2 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let limit = prop_oneof![1 => Just(50_000_usize), 1 => 1..4_usize];
    let max_ids = prop_oneof![2 => Just(10_000_usize), 1 => 0..6_usize];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let host = (prop_oneof![3 => Just(60_000), 1 => select(vec![0, 1000, 120_000])], prop::bool::weighted(0.8));
    (tags, except_tags, age, rarely(phases), keep, leaked, flags, (limit, max_ids), host).prop_map(
        |(tags, except_tags, age, phases, keep, leaked, (force, nulls, bind), (limit, max_ids), (grace, runs))| {
            // Without `force`, a phase that is not terminal is refused.
            let unfinished = |unfinished: Vec<String>| if force { unfinished } else { Vec::new() };
            let phases = phases.map(|(terminal, others)| [terminal, unfinished(others)].concat());
            let (keep_last, keep_by) = keep.unzip();
            let keep_by = keep_by.flatten();
            Request {
                tags,
                except_tags,
                age,
                phases,
                keep_last,
                keep_by,
                leaked,
                force,
                limit,
                max_ids,
                nulls,
                bind,
                grace,
                runs,
            }
        },
    )
}

/// None is the beginning of a word that every spec holds: one that is torn there would seem to name it. Some mean each
/// other, if a reference is read generously.
const NAMES: [&str; 9] = ["a", "A", "a  ", "b", "e", "web.a", "Web.B ", "x.web.b", "Ä"];
/// Names of actions to which hardly anything refers.
const LONELY: [&str; 5] = ["l1", "l2", "l3", "l4", "l5"];

fn context() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just("core"), 1 => Just("lab")].prop_map(ToOwned::to_owned)
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![8 => select(vec!["a", "b"]), 8 => select(NAMES.to_vec()), 1 => select(LONELY.to_vec())]
        .prop_map(ToOwned::to_owned)
}

/// Tags of a job: mostly codescaler's, some hard to read, some not tags at all.
fn tags() -> impl Strategy<Value = Option<String>> {
    let more = ["codescaler_ana", "codescaler_kind_x", "codescaler_kind_y", "codescaler_target_z", "x"];
    prop_oneof![
        2 => Just(Some(r#"["codescaler","codescaler_ana","codescaler_kind_x"]"#.to_owned())),
        4 => some_of(&more, 0).prop_map(|tags| Some(json!([strings(&["codescaler"]), tags].concat()).to_string())),
        2 => Just(Some(r#"["codescaler"]"#.to_owned())),
        2 => Just(None),
        1 => select(vec![
            "null", " null\n", "", "[", "codescaler", r#""codescaler""#, r#"{"codescaler":1}"#, r#"[["codescaler"]]"#,
            r#"["codescaler",null]"#, r#"["codescaler"]x"#, r#"["codescaler","codescaler"]"#, r#"["c\u006fdescaler"]"#,
            r#" [ "x" , "codescaler" ] "#, r#"["codescalers"]"#, r#"["codescaler_ana"]"#, r#"["codescaler%"]"#,
            r#"["Codescaler"]"#, r#"["codescaler_ana","codescaler_kind_x"]"#, "[]", r#"["ops"]"#,
        ]).prop_map(|tags| Some(tags.to_owned())),
    ]
}

/// `text`, or what is left of it once its end is lost.
fn torn(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (text, prop::option::weighted(0.2, any::<Index>())).prop_map(|(text, cut)| {
        let end = cut.map_or(usize::MAX, |cut| cut.index(text.chars().count().max(1)));
        text.chars().take(end).collect()
    })
}

fn job_spec() -> impl Strategy<Value = String> {
    let spec = select(vec![
        "{}",
        r#"{"tags":["codescaler"]}"#,
        r#"{"script":"x","tags":["codescaler","codescaler_ana"],"env":{}}"#,
        r#"{"tags":"codescaler"}"#,
        r#"{"tags":null}"#,
        r#"{"tags":["codescaler"]"#,
        r#"{"env":{"tags":["codescaler"]}}"#,
        "[]",
        "",
    ]);
    let depends = (any::<bool>(), references()).prop_map(|(tagged, depends_on)| {
        let tags = if tagged { json!(["codescaler"]) } else { Value::Null };
        json!({ "tags": tags, "depends_on": depends_on }).to_string()
    });
    torn(prop_oneof![2 => spec.prop_map(ToOwned::to_owned), 1 => depends])
}

/// When something happened, if that is known: about now, about a limit of theirs, or at no time at all.
fn time() -> impl Strategy<Value = Number> {
    let about = select(vec![NOW - 120_000, NOW - 60_000, NOW - 1000, NOW]);
    prop_oneof![
        1 => (NOW - 5000..NOW + 5000).prop_map(Number::Is),
        2 => (about, -1..=1_i64).prop_map(|(about, more)| Number::Is(about + more)),
        5 => Just(Number::Is(1_700_000_000_000)),
        1 => select(vec![-1, 0, 99_999_999_999, 100_000_000_000, i64::MAX, i64::MIN]).prop_map(Number::Is),
        1 => select(vec![Number::Null, Number::Text]),
    ]
}

fn job() -> impl Strategy<Value = Job> {
    let phase = prop_oneof![
        3 => select(vec!["succeeded", "failed", "Done", "TIMED_OUT"]),
        1 => select(vec!["running", "pending", "", "succeeded ", "stopping", "ﬁnished", "retrying"]),
    ];
    let ended_at = prop_oneof![1 => Just(Number::Null), 1 => time()];
    let run_id = prop_oneof![
        6 => Just(Number::Null),
        3 => (1..5_i64).prop_map(Number::Is),
        1 => select(vec![Number::Is(0), Number::Is(-1), Number::Text]),
    ];
    let action_id = prop_oneof![4 => Just(None), 4 => name().prop_map(Some), 1 => Just(Some(String::new()))];
    let bytes = prop::bool::weighted(0.1);
    (context(), (name(), action_id, bytes), tags(), job_spec(), phase, (time(), ended_at), run_id).prop_map(
        |(context, (action, action_id, bytes), tags, spec, phase, (created_at, ended_at), run_id)| Job {
            id: 0,
            context,
            action,
            action_id,
            bytes,
            // What a job that goes refers to by bytes is not defined.
            tags: if bytes { Some(r#"["ops"]"#.to_owned()) } else { tags },
            spec,
            phase: phase.to_owned(),
            created_at,
            ended_at,
            run_id,
            retry_of: None,
        },
    )
}

/// How an action or a service refers to others.
fn references() -> impl Strategy<Value = Value> {
    let one = (name(), 0..5).prop_map(|(name, form)| match form {
        0 | 1 => json!(name),
        2 => json!({ "name": name, "optional": true }),
        3 => json!({ name: { "after": 1.5 } }),
        _ => json!(format!("s.{}  ", name.to_uppercase())),
    });
    prop_oneof![3 => Just(json!([])), 2 => prop::collection::vec(one, 1..3).prop_map(Value::Array), 1 => name().prop_map(Value::String)]
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let spec = (0..16, references()).prop_map(|(form, depends_on)| {
        let mut spec =
            json!({ "tags": ["codescaler"], "schedule_policy": null, "depends_on": depends_on, "script": "x" });
        match form {
            0 => spec["schedule_policy"] = json!({ "cron": "@daily" }),
            1 => spec["tags"] = json!(["codescaler_ana"]),
            2 => drop(spec.as_object_mut().unwrap().remove("schedule_policy")),
            3 => spec["tags"] = json!(["ops", "codescaler"]),
            4 => spec["tags"] = json!(["codescaler", "codescaler_ana", "codescaler_kind_x"]),
            5 => spec["tags"] = json!(["codescaler", "codescaler_kind_x", "codescaler_kind_y"]),
            _ => {}
        }
        spec.to_string()
    });
    let bytes = prop::bool::weighted(0.1);
    let name = prop_oneof![name(), select(LONELY.to_vec()).prop_map(ToOwned::to_owned)];
    let action = (context(), name, torn(spec), bytes, time(), prop_oneof![Just(Number::Null), time()]).prop_map(
        |(context, name, spec, bytes, created_at, updated_at)| Action {
            number: 0,
            context,
            name,
            spec,
            bytes,
            created_at,
            updated_at,
        },
    );
    prop::collection::vec(action, 0..12).prop_map(|actions| {
        let mut seen = BTreeSet::new();
        let mut actions: Vec<Action> = actions.into_iter().filter(|action| seen.insert(action.key())).collect();
        (1..).zip(&mut actions).for_each(|(number, action)| action.number = number);
        actions
    })
}

fn services() -> impl Strategy<Value = Vec<Service>> {
    let torn = prop_oneof![2 => Just(false), 1 => Just(true)];
    let service = (context(), select(vec!["s", "t"]), references(), torn, prop::bool::weighted(0.2)).prop_map(
        |(context, name, actions, torn, bytes)| Service { context, name: name.to_owned(), actions, torn, bytes },
    );
    prop::collection::vec(service, 0..3).prop_map(|services| {
        let mut seen = BTreeSet::new();
        services.into_iter().filter(|service| seen.insert((service.context.clone(), service.name.clone()))).collect()
    })
}

/// Rows of further tables: a table for each, and what each of its keys refers to.
type Chosen = Vec<(Index, [Option<Index>; 3])>;

fn tables() -> impl Strategy<Value = (&'static [Table], Chosen)> {
    let key = || prop_oneof![3 => any::<Index>().prop_map(Some), 1 => Just(None)];
    let row = (any::<Index>(), [key(), key(), key()]);
    prop_oneof![
        1 => Just((&[][..], Vec::new())),
        2 => (select(TABLES.to_vec()), prop::collection::vec(row.clone(), 0..12)),
        // Enough rows to end a batch; none of them holds a job.
        1 => (Just(TABLES[4]), prop::collection::vec(row, 60..160)),
    ]
}

/// The rows, those of each table with ids of their own, each key on a row that is there.
fn rows(tables: &'static [Table], jobs: &[Job], chosen: &Chosen) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (number, table) in tables.iter().enumerate() {
        for (_, keys) in chosen.iter().filter(|(index, _)| index.index(tables.len()) == number) {
            let id = 1 + rows.iter().filter(|row| row.table.name == table.name).count() as i64;
            let keys = table.keys.iter().zip(keys).map(|((_, parent, _), key)| {
                let parents: Vec<i64> = match *parent {
                    "jobs" => jobs.iter().map(|job| job.id).collect(),
                    _ => rows.iter().filter(|row| row.table.name == *parent).map(|row| row.id).collect(),
                };
                key.filter(|_| !parents.is_empty()).map(|key| *key.get(&parents))
            });
            let keys = keys.collect();
            rows.push(Row { table, id, keys });
        }
    }
    rows
}

fn world() -> impl Strategy<Value = World> {
    // Next to each other, a few in each range that a connection reads, and one.
    let apart = select(vec![1, 400, 1500]);
    let retry_key = prop_oneof![
        3 => Just(None),
        2 => Just(Some(OnDelete::NoAction)),
        1 => select(vec![OnDelete::Restrict, OnDelete::SetDefault, OnDelete::SetNull]).prop_map(Some),
    ];
    // A job may refer to itself. The first ones may refer to each other, in a circle.
    let retries = (prop::collection::vec(prop::option::weighted(0.2, any::<Index>()), 15), 0..5_usize);
    let jobs = prop::collection::vec(job(), 0..15);
    (apart, jobs, actions(), services(), tables(), (retry_key, retries)).prop_map(
        |(apart, mut jobs, actions, services, (tables, chosen), (retry_key, (retries, circle)))| {
            (1..).zip(&mut jobs).for_each(|(number, job)| job.id = number * apart);
            let ids: Vec<i64> = jobs.iter().map(|job| job.id).collect();
            let circle = circle.min(ids.len());
            for (number, (job, retry)) in jobs.iter_mut().zip(retries).enumerate().filter(|_| retry_key.is_some()) {
                let next = (number < circle).then(|| ids[(number + 1) % circle]);
                job.retry_of = next.or_else(|| retry.map(|index| *index.get(&ids)));
            }
            let rows = rows(tables, &jobs, &chosen);
            World { apart, jobs, actions, services, tables, rows, retry_key }
        },
    )
}

fn variant() -> impl Strategy<Value = Variant> {
    (
        (any::<bool>(), any::<bool>(), select(vec!["context_name", "context"]), select(vec!["spec_json", "spec"])),
        (
            select(vec!["_at_ms", "_at"]),
            prop::bool::weighted(0.8),
            prop::bool::weighted(0.8),
            prop::bool::weighted(0.8),
        ),
        select(vec![Services::None, Services::Spec, Services::Column]),
        any::<bool>(),
        select(vec!["wal", "delete"]),
        (select(vec![512, 4096, 65536]), 0..3_u32),
    )
        .prop_map(|(columns, times, services, indexes, journal_mode, (page_size, auto_vacuum))| {
            let (action_id, archived, context, spec) = columns;
            let (times, ended_at, run_id, set_at) = times;
            Variant {
                action_id,
                archived,
                context,
                spec,
                times,
                ended_at,
                run_id,
                set_at,
                services,
                indexes,
                journal_mode,
                page_size,
                auto_vacuum,
            }
        })
}
