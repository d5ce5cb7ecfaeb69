//! Random stores in every layout, random requests: what happens is what the model says, and nothing else.
//!
//! The long form: `PROPTEST_CASES=10000 cargo test --release property`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use hero_proc_cleanup::{
    ControlError, Guard, Host, Job as HostJob, JobControl, Kind, Reason, Report, RpcError, cleanup_by_tag,
};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::model::{
    Action, Asked, Created, Expected, Job, OnDelete, Row, Service, Stop, TABLES, Table, World, expected,
    expected_after_stops, shown, stop,
};
use crate::support::sample::{SCHEMA, dump};

const NOW: i64 = 1_790_000_000_000;

#[test]
fn what_happens_is_what_the_model_says() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let directory = TempDir::new().unwrap();
    TestRunner::new(config)
        .run(&(world(), variant(), request()), |(world, variant, request)| {
            case(&directory, &world, &variant, &request);
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
    let asked = Asked {
        tags: request.tags.clone(),
        cutoff: request.older_than.map(|age| NOW.saturating_sub(age)),
        force: request.force,
        limit: request.limit,
    };
    let would = expected(&world, &asked);
    let goes = expected_after_stops(&world, &asked, &would);
    let before = dump(&path);

    let host = Arc::new(Supervisor::new(&path));
    let dry = host.call(&request.params(true, None)).unwrap();
    assert_eq!(dump(&path), before, "a dry run writes nothing");
    assert_report(&dry, &would, request);
    assert_eq!((dry.jobs_deleted, dry.actions_deleted, dry.bytes_freed), (0, 0, 0));
    assert_eq!(host.call(&request.params(true, None)).unwrap().plan, dry.plan, "the plan is stable");
    assert_eq!(host.stopped(), [0_i64; 0], "a dry run stops nothing");

    let real = host.call(&request.params(false, request.bind.then_some(&dry.plan)));
    assert_eq!(host.stopped(), would.unfinished.iter().copied().collect::<Vec<_>>(), "each of them once");
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
    assert_report(&real, &goes, request);
    assert_eq!((real.jobs_deleted, real.actions_deleted), (real.jobs_planned, real.actions_planned));
    assert_eq!(real.plan == dry.plan, goes.jobs == would.jobs);
    assert_eq!(dump(&path), without(&before, &world, &goes), "everything else is as it was");
    assert_intact(&path);

    // A job that was held by a row which has gone meanwhile is free.
    if !real.more && real.jobs_kept.referenced == 0 {
        let again = host.call(&request.params(false, None)).unwrap();
        assert_eq!((again.jobs_deleted, again.actions_deleted), (0, 0), "there is nothing more");
    }
}

/// The plan is refused, the new one is that of now, and it is said which jobs have been stopped.
#[track_caller]
fn assert_refused(error: &RpcError, host: &Supervisor, goes: &Expected) {
    assert_eq!(error.kind(), Some(Kind::PlanChanged), "{error:?}");
    let planned = (&error.data["jobs_planned"], &error.data["actions_planned"]);
    assert_eq!(planned, (&json!(goes.jobs.len()), &json!(goes.actions.len())));
    let stopped: Vec<i64> = host.stopped().into_iter().filter(|id| stop(*id) != Stop::Fails).collect();
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
fn assert_report(report: &Report, expected: &Expected, request: &Request) {
    let kept = report.jobs_kept;
    assert_eq!(
        [kept.undated, kept.recent, kept.active, kept.unstoppable, kept.referenced, kept.over_limit],
        expected.kept
    );
    assert_eq!(report.jobs_planned, expected.jobs.len() as u64);
    assert_eq!(report.jobs_matched, report.jobs_planned + expected.kept.iter().sum::<u64>());
    assert_eq!(report.more, kept.over_limit > 0);
    let jobs: Vec<i64> = expected.jobs.iter().copied().take(request.max_ids).collect();
    assert_eq!(report.job_ids, jobs);
    assert_eq!(report.actions_planned, expected.actions.len() as u64);
    let actions: BTreeSet<String> = expected.actions.iter().map(|(context, name)| shown(context, name)).collect();
    assert_eq!(report.action_ids, actions.into_iter().take(request.max_ids).collect::<Vec<_>>());
    assert_eq!(report.actions_kept_count, expected.actions_kept.len() as u64);
    let kept: BTreeMap<String, _> =
        expected.actions_kept.iter().map(|((context, name), why)| (shown(context, name), why)).collect();
    assert_eq!(report.actions_kept.len(), kept.len().min(request.max_ids));
    for (found, (name, (reason, by))) in report.actions_kept.iter().zip(kept) {
        assert_eq!(found.action_id, name);
        assert_eq!(word(found.reason), *reason, "{name}");
        match &found.by {
            Some(referrer) => assert!(by.contains(&referrer.to_string()), "{name}: {referrer} is none of {by:?}"),
            None => assert!(by.is_empty(), "{name}"),
        }
    }
    let dependents: BTreeMap<&str, u64> =
        report.dependents.iter().map(|(table, rows)| (table.as_str(), *rows)).collect();
    assert_eq!(dependents, expected.dependents);
    let errors = expected.errors.len();
    assert_eq!(report.errors.len(), errors.min(request.max_ids.max(1)));
    for (error, may_be_said) in report.errors.iter().zip(&expected.errors) {
        assert!(may_be_said.contains(error), "{error:?} is none of {may_be_said:?}");
    }
    let longest = [expected.jobs.len(), expected.actions.len(), expected.actions_kept.len(), errors];
    assert_eq!(report.ids_truncated, longest.iter().any(|entries| *entries > request.max_ids));
    assert_eq!(report.cutoff_ms, request.older_than.map(|age| NOW.saturating_sub(age)));
}

fn word(reason: Reason) -> String {
    serde_json::to_value(reason).unwrap().as_str().unwrap().to_owned()
}

/// `dump` without the rows that must be gone.
fn without(dump: &str, world: &World, expected: &Expected) -> String {
    let lines = dump.lines().filter_map(|line| {
        let (table, row) = line.split_once(": ").unwrap_or(("", line));
        let id = || row.strip_prefix("Integer(")?.split(')').next()?.parse().ok();
        match table {
            "jobs" => id().is_none_or(|id: i64| !expected.jobs.contains(&id)).then(|| line.to_owned()),
            "actions" => {
                let goes = id().is_some_and(|id: i64| {
                    let action = &world.actions[usize::try_from(id / world.apart).unwrap() - 1];
                    expected.actions.contains(&(action.context.clone(), action.name.clone()))
                });
                (!goes).then(|| line.to_owned())
            }
            _ => match (world.tables.iter().find(|child| child.name == table), id()) {
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

fn assert_intact(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let integrity: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    assert!(!connection.prepare("PRAGMA foreign_key_check").unwrap().exists(()).unwrap());
}

/// A host that does to jobs what [`stop`] says, and writes down which.
struct Supervisor {
    store: PathBuf,
    stopped: Mutex<Vec<i64>>,
    /// The store's dump as it left it.
    left: Mutex<Option<String>>,
}

impl Supervisor {
    fn new(store: &Path) -> Self {
        Self { store: store.to_owned(), stopped: Mutex::default(), left: Mutex::default() }
    }

    fn call(self: &Arc<Self>, params: &Value) -> Result<Report, RpcError> {
        let mut host = Host::new(Guard::codescaler());
        host.control = Some(Arc::clone(self) as Arc<dyn JobControl>);
        let now = DateTime::<Utc>::from_timestamp_millis(NOW).unwrap();
        cleanup_by_tag(self.store.as_path(), &host, params, now)
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
        let (assignment, outcome) = match stop(job.id) {
            Stop::Refuses => panic!("it said so"),
            Stop::Fails => ("phase = 'stopping', attempt = attempt + 1", Err("would not stop".into())),
            Stop::Stops => ("id = id", Ok(())),
            Stop::Writes => ("phase = 'cancelled', pid = NULL, attempt = attempt + 1", Ok(())),
            Stop::Restarts => ("attempt = attempt + 1, started_at_ms = 1790000000000", Ok(())),
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
    older_than: Option<i64>,
    force: bool,
    limit: usize,
    max_ids: usize,
    /// Whether the deletion is bound to the dry run's plan.
    bind: bool,
}

impl Request {
    fn params(&self, dry_run: bool, plan: Option<&String>) -> Value {
        let mut params = json!({
            "tags": self.tags, "dry_run": dry_run, "force": self.force, "limit": self.limit, "max_ids": self.max_ids,
        });
        if let Some(age) = self.older_than {
            params["older_than_ms"] = age.into();
        }
        if let Some(plan) = plan {
            params["expect_plan"] = plan.as_str().into();
        }
        params
    }
}

fn request() -> impl Strategy<Value = Request> {
    let tags = subsequence(vec!["codescaler", "codescaler_ana", "codescaler_kind_x"], 1..=3);
    let age = prop_oneof![3 => Just(None), 2 => select(vec![0, 1, 1000, NOW - 100_000_000_000, NOW, i64::MAX]).prop_map(Some)];
    let limit = prop_oneof![2 => Just(50_000_usize), 1 => 1..6_usize];
    let max_ids = prop_oneof![2 => Just(10_000_usize), 1 => 0..6_usize];
    (tags, age, any::<bool>(), limit, max_ids, any::<bool>()).prop_map(
        |(tags, older_than, force, limit, max_ids, bind)| Request {
            tags: tags.into_iter().map(ToOwned::to_owned).collect(),
            older_than,
            force,
            limit,
            max_ids,
            bind,
        },
    )
}

/// None is the beginning of a word that every spec holds: one that is torn there would seem to name it.
const NAMES: [&str; 6] = ["a", "b", "e", "web.a", "x.web.b", "Ä"];

fn context() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just("core"), 1 => Just("lab")].prop_map(ToOwned::to_owned)
}

fn name() -> impl Strategy<Value = String> {
    select(NAMES.to_vec()).prop_map(ToOwned::to_owned)
}

/// Tags of a job: mostly codescaler's, some hard to read, some not tags at all.
fn tags() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        3 => Just(Some(r#"["codescaler","codescaler_ana","codescaler_kind_x"]"#)),
        2 => Just(Some(r#"["codescaler"]"#)),
        2 => Just(None),
        1 => select(vec![
            "null", " null\n", "", "[", "codescaler", r#""codescaler""#, r#"{"codescaler":1}"#, r#"[["codescaler"]]"#,
            r#"["codescaler",null]"#, r#"["codescaler"]x"#, r#"["codescaler","codescaler"]"#, r#"["c\u006fdescaler"]"#,
            r#" [ "x" , "codescaler" ] "#, r#"["codescalers"]"#, r#"["codescaler_ana"]"#, r#"["codescaler%"]"#,
            r#"["Codescaler"]"#, r#"["codescaler_ana","codescaler_kind_x"]"#, "[]", r#"["ops"]"#,
        ]).prop_map(Some),
    ]
    .prop_map(|tags| tags.map(ToOwned::to_owned))
}

/// `text`, or what is left of it once its end is lost.
fn torn(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (text, prop_oneof![2 => Just(None), 1 => any::<Index>().prop_map(Some)]).prop_map(|(text, cut)| {
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
    torn(spec.prop_map(ToOwned::to_owned))
}

fn job() -> impl Strategy<Value = Job> {
    let phase = prop_oneof![
        2 => select(vec!["succeeded", "failed", "Done", "TIMED_OUT"]),
        1 => select(vec!["running", "pending", "", "succeeded ", "stopping", "ﬁnished", "retrying"]),
    ];
    let created_at = prop_oneof![
        3 => (NOW - 5000..NOW + 5000).prop_map(Created::At),
        1 => select(vec![-1, 0, 99_999_999_999, 100_000_000_000, i64::MAX, i64::MIN]).prop_map(Created::At),
        1 => prop_oneof![Just(Created::Null), Just(Created::Text)],
    ];
    let action_id = prop_oneof![2 => Just(None), 2 => name().prop_map(Some)];
    (context(), name(), action_id, tags(), job_spec(), phase, created_at).prop_map(
        |(context, action, action_id, tags, spec, phase, created_at)| Job {
            id: 0,
            context,
            action,
            action_id,
            tags,
            spec,
            phase: phase.to_owned(),
            created_at,
        },
    )
}

/// How an action or a service refers to others.
fn references() -> impl Strategy<Value = Value> {
    let one = (name(), 0..4).prop_map(|(name, form)| match form {
        0 | 1 => json!(name),
        2 => json!({ "name": name, "optional": true }),
        _ => json!({ name: { "after": 1.5 } }),
    });
    prop_oneof![3 => Just(json!([])), 2 => prop::collection::vec(one, 1..3).prop_map(Value::Array), 1 => name().prop_map(Value::String)]
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let spec = (0..8, references()).prop_map(|(form, depends_on)| {
        let mut spec =
            json!({ "tags": ["codescaler"], "schedule_policy": null, "depends_on": depends_on, "script": "x" });
        match form {
            0 => spec["schedule_policy"] = json!({ "cron": "@daily" }),
            1 => spec["tags"] = json!(["codescaler_ana"]),
            2 => drop(spec.as_object_mut().unwrap().remove("schedule_policy")),
            3 => spec["tags"] = json!(["ops", "codescaler"]),
            _ => {}
        }
        spec.to_string()
    });
    let action = (context(), name(), torn(spec)).prop_map(|(context, name, spec)| Action { context, name, spec });
    prop::collection::vec(action, 0..8).prop_map(|actions| {
        let mut seen = BTreeSet::new();
        actions.into_iter().filter(|action| seen.insert((action.context.clone(), action.name.clone()))).collect()
    })
}

fn services() -> impl Strategy<Value = Vec<Service>> {
    let torn = prop_oneof![2 => Just(false), 1 => Just(true)];
    let service = (context(), select(vec!["s", "t"]), references(), torn)
        .prop_map(|(context, name, actions, torn)| Service { context, name: name.to_owned(), actions, torn });
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
        2 => (select(TABLES.to_vec()), prop::collection::vec(row, 0..12)),
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
    (apart, prop::collection::vec(job(), 0..15), actions(), services(), tables()).prop_map(
        |(apart, mut jobs, actions, services, (tables, chosen))| {
            (1..).zip(&mut jobs).for_each(|(number, job)| job.id = number * apart);
            let rows = rows(tables, &jobs, &chosen);
            World { apart, jobs, actions, services, tables, rows }
        },
    )
}

/// One of the layouts that must work.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    action_id: bool,
    archived: bool,
    pub(crate) context: &'static str,
    pub(crate) spec: &'static str,
    created_at: &'static str,
    pub(crate) services: Services,
    indexes: bool,
    journal_mode: &'static str,
    page_size: u32,
    auto_vacuum: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Services {
    None,
    Spec,
    Column,
}

fn variant() -> impl Strategy<Value = Variant> {
    (
        (any::<bool>(), any::<bool>(), select(vec!["context_name", "context"]), select(vec!["spec_json", "spec"])),
        select(vec!["created_at_ms", "created_at"]),
        select(vec![Services::None, Services::Spec, Services::Column]),
        any::<bool>(),
        select(vec!["wal", "delete"]),
        (select(vec![512, 4096, 65536]), 0..3_u32),
    )
        .prop_map(|(columns, created_at, services, indexes, journal_mode, (page_size, auto_vacuum))| {
            let (action_id, archived, context, spec) = columns;
            Variant {
                action_id,
                archived,
                context,
                spec,
                created_at,
                services,
                indexes,
                journal_mode,
                page_size,
                auto_vacuum,
            }
        })
}

/// Creates `tables`, whose keys are on jobs and on each other.
pub(crate) fn create(connection: &Connection, tables: &[Table]) {
    for table in tables {
        let keys = table.keys.iter().map(|(column, parent, on_delete)| {
            let action = match on_delete {
                OnDelete::Cascade => "ON DELETE CASCADE",
                OnDelete::SetNull => "ON DELETE SET NULL",
                OnDelete::Restrict => "ON DELETE RESTRICT",
                OnDelete::NoAction => "",
                OnDelete::SetDefault => "ON DELETE SET DEFAULT",
            };
            format!(", {column} INTEGER REFERENCES {parent} (id) {action}")
        });
        let keys: String = keys.collect();
        connection.execute_batch(&format!("CREATE TABLE {} (id INTEGER PRIMARY KEY{keys})", table.name)).unwrap();
    }
}

/// Each of them, all else as usual.
pub(crate) fn every_layout() -> Vec<Variant> {
    let mut layouts = Vec::new();
    for bits in 0..32_u8 {
        let bit = |bit: u8| bits & 1 << bit != 0;
        for services in [Services::None, Services::Spec, Services::Column] {
            for indexes in [true, false] {
                layouts.push(Variant {
                    action_id: bit(0),
                    archived: bit(1),
                    context: if bit(2) { "context_name" } else { "context" },
                    spec: if bit(3) { "spec_json" } else { "spec" },
                    created_at: if bit(4) { "created_at_ms" } else { "created_at" },
                    services,
                    indexes,
                    journal_mode: "wal",
                    page_size: 4096,
                    auto_vacuum: 0,
                });
            }
        }
    }
    layouts
}

impl Variant {
    pub(crate) fn schema(&self) -> String {
        let mut schema = SCHEMA.to_owned();
        let mut replace = |from: &str, to: &str| {
            assert!(schema.contains(from), "{from}");
            schema = schema.replace(from, to);
        };
        if !self.archived {
            replace(",\n    archived       INTEGER NOT NULL DEFAULT 0\n", "\n");
            replace("CREATE INDEX idx_jobs_archived ON jobs(archived);", "");
        }
        replace("created_at_ms  INTEGER", &format!("{}  INTEGER", self.created_at));
        replace("jobs(created_at_ms)", &format!("jobs({})", self.created_at));
        match self.services {
            Services::Spec => {}
            Services::Column => replace(
                "spec_json      TEXT    NOT NULL,              -- {\"actions\":[\"name\",..],\"status\":\"start\",\"class\":\"user\",..}",
                "actions        TEXT,",
            ),
            Services::None => {
                replace("CREATE TABLE services (", "CREATE TABLE other_services (");
            }
        }
        replace("context_name", self.context);
        replace("spec_json", self.spec);
        if !self.action_id {
            replace("    action_id      TEXT,", "--");
        }
        if !self.indexes {
            replace("CREATE INDEX", "-- CREATE INDEX");
        }
        schema
    }

    fn make(&self, path: &Path, world: &World) {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {}; PRAGMA auto_vacuum = {}; PRAGMA journal_mode = {}; PRAGMA synchronous = off;
                 PRAGMA foreign_keys = off; BEGIN; {}",
                self.page_size,
                self.auto_vacuum,
                self.journal_mode,
                self.schema()
            ))
            .unwrap();
        if world.apart > 1 {
            // Only a store of some size is read by two connections. What an index holds is in no dump.
            connection
                .execute_batch("INSERT INTO runs DEFAULT VALUES; CREATE INDEX large ON runs (zeroblob(2500000))")
                .unwrap();
        }
        let Self { context, spec, created_at, .. } = self;
        for job in &world.jobs {
            let created: Option<String> = match job.created_at {
                Created::Null => None,
                Created::Text => Some("yesterday".to_owned()),
                Created::At(at) => Some(at.to_string()),
            };
            connection
                .execute(
                    &format!("INSERT INTO jobs (id, {context}, action, tags, {spec}, phase, {created_at}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"),
                    (job.id, &job.context, &job.action, &job.tags, &job.spec, &job.phase, created),
                )
                .unwrap();
            if self.action_id {
                connection.execute("UPDATE jobs SET action_id = ?2 WHERE id = ?1", (job.id, &job.action_id)).unwrap();
            }
        }
        for (number, action) in (1..).zip(&world.actions) {
            connection
                .execute(
                    &format!("INSERT INTO actions (id, {context}, name, {spec}) VALUES (?1, ?2, ?3, ?4)"),
                    (number * world.apart, &action.context, &action.name, &action.spec),
                )
                .unwrap();
        }
        for service in &world.services {
            let (column, json) = match self.services {
                Services::None => break,
                Services::Spec => (*spec, service.text(&json!({ "status": "start", "actions": service.actions }))),
                Services::Column => ("actions", service.text(&service.actions)),
            };
            connection
                .execute(
                    &format!("INSERT INTO services ({context}, name, {column}) VALUES (?1, ?2, ?3)"),
                    (&service.context, &service.name, json),
                )
                .unwrap();
        }
        create(&connection, world.tables);
        for row in &world.rows {
            let keys = row.keys.iter().map(|key| format!(", {}", key.map_or("NULL".to_owned(), |key| key.to_string())));
            let keys: String = keys.collect();
            connection.execute(&format!("INSERT INTO {} VALUES ({}{keys})", row.table.name, row.id), ()).unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
    }

    /// What of `world` this layout can hold.
    fn seen(&self, world: &World) -> World {
        let mut world = world.clone();
        if !self.action_id {
            world.jobs.iter_mut().for_each(|job| job.action_id = None);
        }
        if self.services == Services::None {
            world.services.clear();
        }
        world
    }
}
