//! What a store holds and weighs, against a model that reads every row whole and counts in plain Rust sets.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use hero_proc_cleanup::{Cancel, Guard, Host, Kind, RpcError, StoreRef, USAGE_BY_TAG, Usage, call};
use rusqlite::Connection;
use rusqlite::types::{Value as Cell, ValueRef};
use serde_json::{Value, json};

use crate::support::layout::every_layout;
use crate::support::process::{BINARY, binary, text};
use crate::support::sample::{SCHEMA, Sample};
use crate::support::scripted::path_text;
use crate::support::server::Server;
use crate::terminal::Terminal;

const NOW: i64 = 1_790_000_000_000;
const DAY: i64 = 86_400_000;

fn usage<'s>(store: impl Into<StoreRef<'s>>, params: &Value) -> Result<Usage, RpcError> {
    let now = DateTime::<Utc>::from_timestamp_millis(NOW).unwrap();
    let answer = call(USAGE_BY_TAG, params, store, &Host::new(Guard::codescaler()), now)?;
    Ok(serde_json::from_str(answer.get()).unwrap())
}

// ---- the model -------------------------------------------------------------------------------------------------------------

/// Rows as SQLite gives them, by the names of their columns in lower case.
type Row = BTreeMap<String, Cell>;

fn rows(store: &Connection, table: &str) -> Vec<Row> {
    let mut statement = store.prepare(&format!("SELECT * FROM {table} ORDER BY id")).unwrap();
    let names = names(&statement);
    let read = |row: &rusqlite::Row<'_>| {
        let cell = |(index, name): (usize, &String)| Ok((name.clone(), cell(row.get_ref(index)?)));
        names.iter().enumerate().map(cell).collect::<rusqlite::Result<Row>>()
    };
    statement.query_map((), read).unwrap().map(Result::unwrap).collect()
}

/// A text that is no UTF-8 is as good as a blob here: neither is read as text, and both have their bytes.
fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(integer) => Cell::Integer(integer),
        ValueRef::Real(real) => Cell::Real(real),
        ValueRef::Text(bytes) => match str::from_utf8(bytes) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => Cell::Blob(bytes.to_vec()),
        },
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
    }
}

/// The names of what `statement` selects. Whether they come as a list depends on rusqlite's version.
fn names(statement: &rusqlite::Statement<'_>) -> Vec<String> {
    (0..statement.column_count()).map(|index| statement.column_name(index).unwrap().to_owned()).collect()
}

fn one_of<'r>(row: &'r Row, names: &[&str]) -> &'r Cell {
    names.iter().find_map(|name| row.get(*name)).unwrap_or(&Cell::Null)
}

fn word<'r>(row: &'r Row, names: &[&str]) -> Option<&'r str> {
    match one_of(row, names) {
        Cell::Text(text) => Some(text),
        _ => None,
    }
}

fn time(row: &Row, names: &[&str]) -> Option<i64> {
    match one_of(row, names) {
        Cell::Integer(at) if *at >= 100_000_000_000 => Some(*at),
        _ => None,
    }
}

fn bytes(cell: &Cell) -> u64 {
    match cell {
        Cell::Text(text) => text.len() as u64,
        Cell::Blob(bytes) => bytes.len() as u64,
        _ => 0,
    }
}

/// The computed column of [`HOSTILE`] stands in no row.
fn weight(row: &Row) -> u64 {
    row.iter().filter(|(name, _)| *name != COMPUTED).map(|(_, cell)| bytes(cell)).sum()
}

fn strings(value: &Value) -> Option<BTreeSet<String>> {
    value.as_array()?.iter().map(|string| string.as_str().map(ToOwned::to_owned)).collect()
}

fn spec(row: &Row) -> Value {
    word(row, &["spec_json", "spec"]).and_then(|spec| serde_json::from_str(spec).ok()).unwrap_or_default()
}

fn tags(job: &Row) -> BTreeSet<String> {
    let own = match &job["tags"] {
        Cell::Null => Value::Null,
        Cell::Text(tags) => serde_json::from_str(tags).unwrap_or(Value::Bool(false)),
        _ => Value::Bool(false),
    };
    let tags = if own.is_null() { spec(job)["tags"].clone() } else { own };
    strings(&tags).unwrap_or_default()
}

fn finished(phase: Option<&str>) -> bool {
    let terminal = "succeeded success completed done ok failed error cancelled canceled stopped halted killed timeout \
                    timed_out skipped";
    phase.is_some_and(|phase| terminal.split(' ').any(|word| word == phase.to_ascii_lowercase()))
}

/// Jobs that have something in common.
#[derive(Default)]
struct Group {
    jobs: u64,
    finished: u64,
    bytes: u64,
    oldest: Option<i64>,
    first: i64,
}

impl Group {
    fn add(&mut self, job: &Row) {
        let id = id(job);
        self.first = if self.jobs == 0 { id } else { self.first.min(id) };
        self.jobs += 1;
        self.finished += u64::from(finished(word(job, &["phase"])));
        self.bytes += weight(job);
        self.oldest = self.oldest.into_iter().chain(created_at(job)).min();
    }
}

fn id(row: &Row) -> i64 {
    let Cell::Integer(id) = row["id"] else { panic!("an id") };
    id
}

fn created_at(row: &Row) -> Option<i64> {
    time(row, &["created_at_ms", "created_at"])
}

/// The groups in the order of their list.
fn listed(groups: BTreeMap<Option<String>, Group>, top: usize) -> Vec<(Option<String>, Group)> {
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(name, group)| (Reverse(group.bytes), Reverse(group.jobs), group.first, name.clone()));
    groups.truncate(top);
    groups
}

/// The answer, but for the sizes of files and for what has leaked.
fn expected(store: &Connection, asked: &[&str], by: &[&str], top: usize) -> Value {
    let carries = |tags: &BTreeSet<String>| tags.contains("codescaler") && asked.iter().all(|tag| tags.contains(*tag));
    let jobs: Vec<Row> = rows(store, "jobs").into_iter().filter(|job| carries(&tags(job))).collect();
    let actions: Vec<Row> = rows(store, "actions")
        .into_iter()
        .filter(|action| carries(&strings(&spec(action)["tags"]).unwrap_or_default()))
        .collect();

    let by_prefix = by.iter().map(|prefix| {
        let mut groups: BTreeMap<Option<String>, Group> = BTreeMap::new();
        for job in &jobs {
            let values: BTreeSet<String> = tags(job)
                .iter()
                .filter(|tag| {
                    let longest = by.iter().filter(|prefix| tag.starts_with(**prefix)).max_by_key(|prefix| prefix.len());
                    longest == Some(prefix)
                })
                .map(|tag| tag[prefix.len()..].to_owned())
                .collect();
            if values.is_empty() {
                groups.entry(None).or_default().add(job);
            }
            values.into_iter().for_each(|value| groups.entry(Some(value)).or_default().add(job));
        }
        let row = |(value, group): (Option<String>, Group)| {
            json!({ "value": value, "jobs": group.jobs, "finished": group.finished, "bytes": group.bytes, "oldest_ms": group.oldest })
        };
        ((*prefix).to_owned(), Value::from_iter(listed(groups, top).into_iter().map(row)))
    });
    let mut phases: BTreeMap<Option<String>, Group> = BTreeMap::new();
    for job in &jobs {
        phases.entry(word(job, &["phase"]).map(ToOwned::to_owned)).or_default().add(job);
    }
    let phase =
        |(value, group): (Option<String>, Group)| json!({ "value": value, "jobs": group.jobs, "bytes": group.bytes });
    let ages = [3_600_000, DAY, 7 * DAY, 30 * DAY, 90 * DAY].map(|age| {
        let old: Vec<&Row> = jobs.iter().filter(|job| created_at(job).is_some_and(|at| at <= NOW - age)).collect();
        json!({ "older_than_ms": age, "jobs": old.len(), "bytes": old.iter().map(|job| weight(job)).sum::<u64>() })
    });
    let mut days: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for (job, at) in jobs.iter().filter_map(|job| Some((job, created_at(job)?))) {
        let day = days.entry(at.div_euclid(DAY) * DAY).or_default();
        *day = (day.0 + 1, day.1 + weight(job));
    }
    let days = days.into_iter().rev().take(400);
    let statement = store.prepare("SELECT * FROM jobs").unwrap();
    let columns = names(&statement).into_iter().filter(|name| name != COMPUTED);
    let mut columns: Vec<(String, u64)> =
        columns.map(|name| (name.clone(), jobs.iter().map(|job| bytes(&job[&name])).sum())).collect();
    columns.retain(|(_, bytes)| *bytes > 0);
    columns.sort_by_key(|(_, bytes)| Reverse(*bytes));
    let mut largest: Vec<&Row> = jobs.iter().collect();
    largest.sort_by_key(|job| (Reverse(weight(job)), id(job)));
    let largest = largest.into_iter().take(top).map(|job| {
        let action = word(job, &["action_id"]).filter(|id| !id.is_empty()).or(word(job, &["action"]));
        let action = action.map(|action| match word(job, &["context_name", "context"]) {
            Some("core") | None => action.to_owned(),
            Some(context) => format!("{context}/{action}"),
        });
        json!({ "job_id": id(job), "bytes": weight(job), "phase": word(job, &["phase"]), "action_id": action })
    });
    json!({
        "jobs": jobs.len(),
        "finished": jobs.iter().filter(|job| finished(word(job, &["phase"]))).count(),
        "bytes": jobs.iter().map(weight).sum::<u64>(),
        "actions": actions.len(),
        "actions_bytes": actions.iter().map(weight).sum::<u64>(),
        "oldest_ms": jobs.iter().filter_map(created_at).min(),
        "newest_ms": jobs.iter().filter_map(created_at).max(),
        "by": by_prefix.collect::<serde_json::Map<_, _>>(),
        "by_phase": Value::from_iter(listed(phases, top).into_iter().map(phase)),
        "by_age": ages,
        "by_day": Value::from_iter(days.map(|(day_ms, (jobs, bytes))| json!({ "day_ms": day_ms, "jobs": jobs, "bytes": bytes }))),
        "by_column": Value::from_iter(columns.into_iter().take(top).map(|(value, bytes)| json!({ "value": value, "bytes": bytes }))),
        "largest": Value::from_iter(largest),
    })
}

// ---- stores ----------------------------------------------------------------------------------------------------------------

/// A column whose values stand in no row.
const COMPUTED: &str = "computed";

/// Columns of a host's own, one of them named as no column should be, and one that is computed when it is read.
const HOSTILE: &str = r#"
    ALTER TABLE jobs ADD COLUMN "we""ird, FROM main.jobs" TEXT;
    ALTER TABLE jobs ADD COLUMN anything;
    ALTER TABLE jobs ADD COLUMN computed TEXT GENERATED ALWAYS AS (hex(action)) VIRTUAL;
    ALTER TABLE actions ADD COLUMN anything;"#;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }

    fn one_of<'t, T: ?Sized>(&mut self, all: &[&'t T]) -> &'t T {
        all[self.below(all.len())]
    }
}

/// Values for each column: most of them what hero_proc writes, some of them what it would never write.
fn fill(store: &Connection, dice: &mut Dice, jobs: usize, apart: i64) {
    let spec_tags = [r#"["codescaler"]"#, r#"["codescaler","codescaler_kind_spec"]"#, "null", r#"["ops"]"#];
    let tags = [
        r#"'["codescaler","codescaler_ana","codescaler_kind_build"]'"#,
        r#"'["codescaler","codescaler_ana","codescaler_kind_build","codescaler_kind_build"]'"#,
        r#"'["codescaler","codescaler_kind_build","codescaler_kind_test","codescaler_target_web"]'"#,
        r#"'["codescaler","codescaler_kind_","codescaler_kind","codescaler_"]'"#,
        r#"'["codescaler","codescaler_kind_b\u0075ild","codescaler_target_\ud83d\ude00","codescaler_\u001b[31m"]'"#,
        r#"' ["codescaler", "codescaler_bob"] '"#,
        r#"'["codescaler"]'"#,
        r#"'["ops"]'"#,
        r#"'["codescaler"'"#,
        r#"'{"codescaler":1}'"#,
        r#"x'5b22636f64657363616c6572225d'"#,
        "'null'",
        "NULL",
        "NULL",
        "7",
    ];
    let phases = [
        "'succeeded'",
        "'succeeded'",
        "'FAILED'",
        "'running'",
        "'pending'",
        "''",
        "x'646f6e65'",
        "CAST(x'ff' AS TEXT)",
        "3",
    ];
    let texts = [
        "NULL",
        "''",
        "'x'",
        "zeroblob(5)",
        "'äöü€😀'",
        "CAST(x'ff00fe' AS TEXT)",
        "x'ff'",
        "12345",
        "1.5",
        "printf('%.9000c', 'l')",
    ];
    let whens = [
        "NULL",
        "'1789000000000'",
        "'yesterday'",
        "0",
        "-1",
        "99999999999",
        "1.5e12",
        "100000000000",
        "9223372036854775807",
    ];
    let column = |table: &str, names: &[&'static str]| {
        let columns = format!("SELECT 1 FROM pragma_table_info('{table}') WHERE name = ?1");
        names.iter().copied().find(|name| store.prepare(&columns).unwrap().exists([name]).unwrap())
    };
    let context = column("jobs", &["context_name", "context"]).unwrap();
    let spec = column("jobs", &["spec_json", "spec"]).unwrap();
    let created_at = column("jobs", &["created_at_ms", "created_at"]).unwrap();
    let updated_at = column("actions", &["updated_at_ms", "updated_at"]).unwrap();
    let when = |dice: &mut Dice| match dice.below(3) {
        0 => dice.one_of(&whens).to_owned(),
        _ => (NOW - dice.below(100 * 24 * 60) as i64 * 60_000).to_string(),
    };
    for number in 1..=jobs as i64 {
        let name = format!("codescaler_{}", dice.below(jobs));
        let mut columns = vec![
            ("id", (number * apart).to_string()),
            (context, dice.one_of(&["'core'", "'core'", "'lab'"]).to_owned()),
            ("action", format!("'{name}'")),
            (spec, format!(r#"'{{"tags":{},"script":"y"}}'"#, dice.one_of(&spec_tags))),
            ("phase", dice.one_of(&phases).to_owned()),
            ("tags", dice.one_of(&tags).to_owned()),
            (created_at, when(dice)),
            ("stderr", dice.one_of(&texts).to_owned()),
            ("pid", dice.one_of(&texts).to_owned()),
            (r#""we""ird, FROM main.jobs""#, dice.one_of(&texts).to_owned()),
            ("anything", dice.one_of(&texts).to_owned()),
        ];
        if column("jobs", &["action_id"]).is_some() {
            columns
                .push(("action_id", dice.one_of(&["NULL", "''", "'codescaler_1'", "'web.codescaler_2'"]).to_owned()));
        }
        insert(store, "jobs", &columns);
    }
    for number in 1..=jobs as i64 {
        let depends_on = match dice.below(6) {
            0 => format!(r#"["codescaler_{}"]"#, dice.below(jobs)),
            1 => format!(r#"[{{"name":"codescaler_{}"}}]"#, dice.below(jobs)),
            _ => "[]".to_owned(),
        };
        let schedule = dice.one_of(&["null", "null", "null", r#"{"cron":"@daily"}"#]);
        let tags = dice.one_of(&spec_tags);
        insert(
            store,
            "actions",
            &[
                ("id", (number * apart).to_string()),
                (context, dice.one_of(&["'core'", "'core'", "'lab'"]).to_owned()),
                ("name", format!("'codescaler_{number}'")),
                (spec, format!(r#"'{{"tags":{tags},"schedule_policy":{schedule},"depends_on":{depends_on}}}'"#)),
                (created_at, when(dice)),
                (updated_at, when(dice)),
                ("anything", dice.one_of(&texts).to_owned()),
            ],
        );
    }
}

fn insert(store: &Connection, table: &str, columns: &[(&str, String)]) {
    let [names, values]: [Vec<&str>; 2] =
        [columns.iter().map(|column| column.0).collect(), columns.iter().map(|column| &*column.1).collect()];
    store.execute(&format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", ")), ()).unwrap();
}

/// Tags, prefixes, and how many entries are wanted.
type Question = (&'static [&'static str], &'static [&'static str], usize);

const QUESTIONS: [Question; 6] = [
    (&["codescaler"], &["codescaler_kind_", "codescaler_target_", "codescaler_"], 50),
    (&["codescaler"], &["codescaler_", "codescaler_kind_", "codescaler"], 2),
    (&["codescaler", "codescaler_kind_build"], &["codescaler_kind_b", "codescaler_k"], 1),
    (&["codescaler_ana"], &["codescaler_ana"], 3),
    (&["codescaler_nobody"], &["codescaler_kind_"], 1000),
    (&["codescaler_kind_spec"], &[], 1000),
];

#[track_caller]
fn assert_as_the_model_says(sample: &Sample, questions: &[Question], what: &str) {
    let store = sample.open();
    for &(tags, by, top) in questions {
        let mut found =
            serde_json::to_value(usage(sample, &json!({ "tags": tags, "by": by, "top": top })).unwrap()).unwrap();
        let found = found.as_object_mut().unwrap();
        found.remove("store").unwrap();
        let leaked = found.remove("actions_leaked").unwrap();
        let mut expected = expected(&store, tags, by, top);
        for (name, value) in expected.as_object_mut().unwrap() {
            assert_eq!(found[name], *value, "{name}, {tags:?} by {by:?}, {what}");
        }
        assert_eq!(found.len(), expected.as_object().unwrap().len());
        assert_eq!(leaked, leaked_by_the_model(&store, tags), "{tags:?}, {what}");
    }
}

#[test]
fn usage_is_what_the_model_counts_in_every_layout() {
    for (seed, variant) in (0..).zip(every_layout()) {
        let sample = Sample::with_schema(&variant.schema());
        let store = sample.open();
        store.execute_batch(&format!("PRAGMA synchronous = off; BEGIN; {HOSTILE}")).unwrap();
        fill(&store, &mut Dice(seed), 20, 1);
        store.execute_batch("COMMIT").unwrap();
        let question = QUESTIONS[seed as usize % QUESTIONS.len()];
        assert_as_the_model_says(&sample, &[question], &format!("{variant:?}"));
    }
}

/// Every page size and every `auto_vacuum`, both ways to keep what is not committed, read by one connection and by two.
#[test]
fn usage_is_what_the_model_counts_in_every_file() {
    for (seed, (page_size, auto_vacuum, journal)) in [
        (512, 0, "wal"),
        (512, 1, "delete"),
        (4096, 2, "wal"),
        (4096, 0, "delete"),
        (65536, 1, "wal"),
        (65536, 2, "delete"),
        (1024, 1, "wal"),
        (2048, 0, "delete"),
        (8192, 2, "wal"),
        (16_384, 1, "delete"),
        (32_768, 0, "wal"),
    ]
    .into_iter()
    .enumerate()
    {
        let sample = Sample::with_schema(&format!(
            "PRAGMA journal_mode = delete; PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum}; VACUUM; {SCHEMA}"
        ));
        sample.journal(journal);
        let store = sample.open();
        assert_eq!(store.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0)).unwrap(), page_size);
        assert_eq!(store.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0)).unwrap(), auto_vacuum);
        // Ids far apart, and a file that is large enough for two connections.
        store
            .execute_batch(&format!(
                "PRAGMA synchronous = off; BEGIN; {HOSTILE}; INSERT INTO runs DEFAULT VALUES;
                 CREATE INDEX large ON runs (zeroblob(5000000))"
            ))
            .unwrap();
        fill(&store, &mut Dice(1000 + seed as u64), 120, 400);
        store.execute_batch("COMMIT").unwrap();
        assert_as_the_model_says(&sample, &QUESTIONS, &format!("{page_size} {auto_vacuum} {journal}"));

        // A third of it deleted: what is free is said, and what is left is counted.
        store.execute_batch("DELETE FROM jobs WHERE id % 3 = 0").unwrap();
        assert_as_the_model_says(
            &sample,
            &QUESTIONS,
            &format!("{page_size} {auto_vacuum} {journal}, after a deletion"),
        );
        let size = usage(&sample, &json!({ "tags": ["codescaler"] })).unwrap().store;
        let free: i64 = sample.one("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size");
        let length = |name: &str| std::fs::metadata(sample.file(name)).map_or(0, |file| file.len());
        assert_eq!(
            (size.file_bytes, size.wal_bytes, size.free_bytes),
            (length("hero_proc.db"), length("hero_proc.db-wal"), free.unsigned_abs())
        );
        assert_eq!(size.wal_bytes > 0, journal == "wal");
    }
}

#[test]
fn a_store_in_memory_is_counted_as_well() {
    let mut store = Connection::open_in_memory().unwrap();
    store.execute_batch(&format!("{SCHEMA} {HOSTILE}")).unwrap();
    fill(&store, &mut Dice(7), 30, 1);
    let all = json!({ "tags": ["codescaler"], "by": ["codescaler_kind_"] });
    let found = usage(&mut store, &all).unwrap();
    let expected = expected(&store, &["codescaler"], &["codescaler_kind_"], 50);
    assert_eq!(serde_json::to_value(&found.by).unwrap(), expected["by"]);
    assert_eq!(found.bytes, expected["bytes"]);
    let pages: i64 = store
        .query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", (), |row| row.get(0))
        .unwrap();
    assert_eq!((found.store.file_bytes, found.store.wal_bytes), (pages.unsigned_abs(), 0));
}

/// How many actions a cleanup of the same tags without a cut-off would delete as leaked, by the rule of the interface. These
/// stores have no foreign keys, no runs and no unfinished job that depends on anything.
fn leaked_by_the_model(store: &Connection, asked: &[&str]) -> usize {
    let plain = |text: &str| text.trim_end_matches(' ').to_ascii_lowercase();
    let context = |row: &Row| word(row, &["context_name", "context"]).unwrap_or("core").to_owned();
    let name = |row: &Row| word(row, &["name"]).unwrap_or_default().to_owned();
    let means = |reference: &str, name: &str| {
        let (reference, name) = (plain(reference), plain(name));
        reference == name || reference.ends_with(&format!(".{name}"))
    };
    let carries = |tags: &BTreeSet<String>| tags.contains("codescaler") && asked.iter().all(|tag| tags.contains(*tag));
    let goes = |job: &Row| carries(&tags(job)) && finished(word(job, &["phase"]));
    let action_id = |job: &Row| word(job, &["action_id"]).filter(|id| !id.is_empty()).map(ToOwned::to_owned);
    let own_action = |job: &Row| action_id(job).or(word(job, &["action"]).map(ToOwned::to_owned));
    let (jobs, actions) = (rows(store, "jobs"), rows(store, "actions"));
    let refers = |job: &Row, action: &Row| {
        let references = [word(job, &["action"]).map(ToOwned::to_owned), action_id(job)].into_iter().flatten();
        plain(&context(job)) == plain(&context(action))
            && references.into_iter().any(|reference| means(&reference, &name(action)))
    };
    let depends = |one: &Row, on: &Row| {
        let listed = spec(one)["depends_on"].as_array().cloned().unwrap_or_default();
        let listed = listed.iter().filter_map(|entry| entry.as_str().or(entry["name"].as_str()));
        context(one) == context(on) && name(one) != name(on) && listed.into_iter().any(|entry| means(entry, &name(on)))
    };
    let of_a_job = |action: &Row| {
        jobs.iter().any(|job| goes(job) && context(job) == context(action) && own_action(job) == Some(name(action)))
    };
    let carried = |action: &Row| strings(&spec(action)["tags"]).unwrap_or_default();
    let mut going: Vec<&Row> = actions
        .iter()
        .filter(|action| {
            let times = [&["updated_at_ms", "updated_at"], &["created_at_ms", "created_at"]];
            let set_at = times.map(|names| time(action, names)).into_iter().flatten().max();
            let old = set_at.map(|at| at <= NOW - 60_000);
            let candidate = match of_a_job(action) {
                true => old != Some(false) && carried(action).contains("codescaler"),
                false => old == Some(true) && carries(&carried(action)),
            };
            let remaining = jobs.iter().any(|job| !goes(job) && refers(job, action));
            candidate && !remaining && spec(action)["schedule_policy"].is_null()
        })
        .collect();
    loop {
        let before = going.len();
        let stays: Vec<&Row> =
            actions.iter().filter(|action| !going.iter().any(|goes| std::ptr::eq(*goes, *action))).collect();
        going.retain(|action| !stays.iter().any(|other| depends(other, action)));
        if going.len() == before {
            return going.into_iter().filter(|action| !of_a_job(action)).count();
        }
    }
}

/// The rules that the random stores hardly meet.
#[test]
fn a_leaked_action_is_one_that_nothing_needs() {
    let sample = Sample::empty();
    let old = NOW - 60_000;
    let action = |name: &str, spec: &str, at: &str| {
        sample.execute(&format!(
            "INSERT INTO actions (name, spec_json, created_at_ms, updated_at_ms) VALUES ('{name}', '{spec}', {at})"
        ));
        usage(&sample, &json!({ "tags": ["codescaler_ana"] })).unwrap().actions_leaked
    };
    let mine = r#"{"tags":["codescaler","codescaler_ana"]}"#;
    assert_eq!(action("a", mine, &format!("NULL, {old}")), 1);
    assert_eq!(action("young", mine, &format!("{old}, {}", old + 1)), 1);
    assert_eq!(action("undated", mine, "NULL, 99999999999"), 1);
    assert_eq!(action("others", r#"{"tags":["codescaler"]}"#, &format!("{old}, NULL")), 1);
    assert_eq!(action("untagged", r#"{"tags":["codescaler_ana"]}"#, &format!("{old}, NULL")), 1);
    assert_eq!(action("b", mine, &format!("{old}, NULL")), 2);
    assert_eq!(
        action("c", r#"{"tags":["codescaler","codescaler_ana"],"depends_on":["d"]}"#, &format!("{old}, NULL")),
        3
    );
    assert_eq!(
        action("d", r#"{"tags":["codescaler","codescaler_ana"],"depends_on":["c"]}"#, &format!("{old}, NULL")),
        4
    );
    sample.execute(r#"INSERT INTO services (name, spec_json) VALUES ('web', '{"actions":["web.b"]}')"#);
    assert_eq!(action("needs", r#"{"tags":["ops"],"depends_on":["c"]}"#, &format!("{old}, NULL")), 1, "b, c and so d");
    sample.execute("INSERT INTO jobs (action, spec_json, phase) VALUES ('web.a', '{}', 'done')");
    assert_eq!(action("e", r#"{"tags":["ops"]}"#, &format!("{old}, NULL")), 0);
}

/// The days are the newest that there are, in whatever order the rows stand.
#[test]
fn of_all_days_the_newest_400_are_listed() {
    let sample = Sample::empty();
    let first = NOW.div_euclid(DAY) - 1500;
    sample.execute(&format!(
        r#"WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < 2999)
           INSERT INTO jobs (action, spec_json, phase, tags, created_at_ms)
           SELECT 'a', '{{}}', 'done', '["codescaler"]', ({first} + (n * 7919) % 1500) * {DAY} + n FROM number"#
    ));
    let days = usage(&sample, &json!({ "tags": ["codescaler"], "top": 1 })).unwrap().by_day;
    let found: Vec<(i64, u64)> = days.iter().map(|day| (day.day_ms, day.jobs)).collect();
    let expected: Vec<(i64, u64)> = (first + 1100..first + 1500).rev().map(|day| (day * DAY, 2)).collect();
    assert_eq!(found, expected);
}

// ---- what it takes ---------------------------------------------------------------------------------------------------------

/// Neither a writer nor its lock is waited for, nothing is written, and a cancel ends it.
#[test]
fn nothing_is_locked_and_nothing_written() {
    let sample = Sample::new();
    let before = std::fs::read(&sample.path).unwrap();
    let writer = sample.open();
    writer.execute_batch("BEGIN IMMEDIATE; DELETE FROM jobs").unwrap();
    let found = usage(&sample, &json!({ "tags": ["codescaler"] })).unwrap();
    assert_eq!((found.jobs, found.actions), (4, 3), "as it is committed");
    assert_eq!(std::fs::read(&sample.path).unwrap(), before);

    let mut host = Host::new(Guard::codescaler());
    host.cancel = Cancel::default();
    host.cancel.cancel();
    let error = call(USAGE_BY_TAG, json!({ "tags": ["codescaler"] }), &sample, &host, Utc::now()).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Cancelled));
}

/// 200,000 values of 200 bytes each are counted in less memory than their names alone would take.
#[test]
fn memory_holds_counts_and_no_names() {
    let sample = Sample::empty();
    let values = 200_000;
    sample.execute(&format!(
        r#"PRAGMA synchronous = off;
           WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < {values} / 8),
                target(t) AS (VALUES (0), (1), (2), (3), (4), (5), (6), (7))
           INSERT INTO jobs (action, spec_json, phase, tags)
           SELECT 'a', '{{}}', 'done',
                  (SELECT '["codescaler"' || group_concat(printf(',"codescaler_target_%0200d"', n * 8 + t), '') || ']' FROM target)
           FROM number"#
    ));
    let server = sample.serve();
    let ask =
        |by: &str| server.call(USAGE_BY_TAG, &json!({ "tags": ["codescaler"], "by": [by], "top": 3 }))["result"].take();
    // What it takes to read the rows, without a value.
    assert_eq!(ask("codescaler_kind_")["by"]["codescaler_kind_"][0]["jobs"], values / 8);
    let without = server.status("VmHWM");
    let found = ask("codescaler_target_");
    let listed = &found["by"]["codescaler_target_"];
    let value = |number: usize| format!("{number:0200}");
    let expected: Vec<Value> = (0..3).map(|number| value(number).into()).collect();
    assert_eq!(listed.as_array().unwrap().iter().map(|row| row["value"].clone()).collect::<Vec<_>>(), expected);
    let (kilobytes, most) = (server.status("VmHWM") - without, values / 1000 * 120);
    assert!(kilobytes < most, "{kilobytes} kB for {values} values");
}

// ---- params ----------------------------------------------------------------------------------------------------------------

#[test]
fn what_is_asked_wrongly_is_refused() {
    let sample = Sample::new();
    let with = |more: Value| {
        let mut params = json!({ "tags": ["codescaler"] });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        usage(&sample, &params)
    };
    for (more, param) in [
        (json!({ "tags": null }), "tags"),
        (json!({ "tags": [] }), "tags"),
        (json!({ "tags": "codescaler" }), "tags"),
        (json!({ "by": "codescaler" }), "by"),
        (json!({ "by": [1] }), "by"),
        (json!({ "by": vec!["codescaler_"; 9] }), "by"),
        (json!({ "by": [format!("codescaler_{}", "x".repeat(246))] }), "by"),
        (json!({ "top": 0 }), "top"),
        (json!({ "top": 1001 }), "top"),
        (json!({ "top": "1" }), "top"),
        (json!({ "top": 1.5 }), "top"),
        (json!({ "older_than_ms": 1 }), "older_than_ms"),
        (json!({ "dry_run": true }), "dry_run"),
        (json!({ "limit": null }), "limit"),
    ] {
        let error = with(more.clone()).unwrap_err();
        assert_eq!((error.kind(), &error.data["param"]), (Some(Kind::InvalidParams), &json!(param)), "{more}");
    }
    assert_eq!(usage(&sample, &json!({})).unwrap_err().data["param"], "tags");
    for (more, tag) in [
        (json!({ "tags": ["codescaler", "hero"] }), "hero"),
        (json!({ "by": ["codescaler_kind_", "hero_"] }), "hero_"),
        (json!({ "by": [""] }), ""),
        (json!({ "by": ["codescalers"] }), "codescalers"),
    ] {
        let error = with(more.clone()).unwrap_err();
        assert_eq!((error.kind(), &error.data["tag"]), (Some(Kind::TagOutsideGuard), &json!(tag)), "{more}");
    }
    let all = with(json!({ "by": null, "top": null })).unwrap();
    assert_eq!(all, with(json!({ "by": [], "top": 50 })).unwrap());
    assert_eq!(with(json!({ "by": vec!["codescaler_"; 8] })).unwrap().by.len(), 1, "each prefix once");
}

// ---- codescalers' side -----------------------------------------------------------------------------------------------------

#[test]
fn the_gateway_counts_by_fields() {
    let sample = Sample::new();
    sample.execute(
        r#"INSERT INTO jobs (action, spec_json, phase, tags)
           VALUES ('x', '{}', 'done', '["codescaler","codescaler_kind_build","codescaler_kinder","codescaler_targets"]')"#,
    );
    let hero_proc = sample.serve();
    let gateway = sample.gateway(&hero_proc);
    let ask = |params: Value| gateway.call("jobs.usage", &params);
    let all = ask(json!({}))["result"].take();
    let values = |list: &Value| -> Vec<(Value, Value)> {
        list.as_array().unwrap().iter().map(|row| (row["value"].clone(), row["jobs"].clone())).collect()
    };
    assert_eq!(values(&all["by"]["kind"]), [(json!("build"), json!(5))]);
    assert_eq!(values(&all["by"]["target"]), [(json!("web"), json!(4)), (json!(null), json!(1))]);
    let actors = [(json!("ana"), json!(4)), (json!("kinder"), json!(1)), (json!("targets"), json!(1))];
    assert_eq!(values(&all["by"]["actor"]), actors, "what only begins like another field is an actor");
    assert_eq!(all["by"].as_object().unwrap().len(), 3);

    // What was not asked for is not there; an actor is still no kind.
    let actor = ask(json!({ "by": ["actor", "actor"], "kind": "build", "actor": null, "target": "" }))["result"].take();
    assert_eq!(actor["by"], json!({ "actor": all["by"]["actor"] }));
    assert_eq!(ask(json!({ "by": [] }))["result"]["by"], json!({}));
    let web = ask(json!({ "target": "web", "top": 1, "by": null }))["result"].take();
    assert_eq!((&web["jobs"], web["largest"].as_array().unwrap().len()), (&json!(4), 1));

    for (params, param) in [
        (json!({ "tags": ["codescaler"] }), "tags"),
        (json!({ "by": ["kinds"] }), "by"),
        (json!({ "by": ["codescaler_kind_"] }), "by"),
        (json!({ "by": vec!["kind"; 9] }), "by"),
        (json!({ "top": 0 }), "top"),
        (json!({ "kind": 1 }), "kind"),
        (json!({ "actor": "kind_x" }), "actor"),
        (json!({ "target": "x".repeat(250) }), "target"),
        (json!({ "dry_run": true }), "dry_run"),
    ] {
        let error = &ask(params.clone())["error"];
        assert_eq!(
            (&error["data"]["kind"], &error["data"]["param"]),
            (&json!("invalid_params"), &json!(param)),
            "{params}"
        );
    }

    // A read leaves no line, a refusal does, on both sides.
    hero_proc.call(USAGE_BY_TAG, &json!({ "tags": ["hero"] }));
    for (server, refused) in [(gateway, 9), (hero_proc, 1)] {
        server.signal(rustix::process::Signal::TERM);
        let (_, log) = server.end();
        let audit: Vec<&str> = log.lines().filter(|line| line.contains(" audit: ")).collect();
        assert_eq!(audit.len(), refused, "{log}");
        assert!(audit.iter().all(|line| !line.contains("outcome=\"ok\"")), "{log}");
    }
}

// ---- the command -----------------------------------------------------------------------------------------------------------

/// A store with a job of every kind of hostile name, and both sides in front of it.
fn hostile() -> (Sample, Server, Server) {
    let sample = Sample::empty();
    sample.execute(
        r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags, stderr, created_at_ms) VALUES
             ('a', 'codescaler_' || char(27) || '[2J', '{}', 'succeeded', '["codescaler","codescaler_kind_\u001b[31m\u202e"]', 'x', 1789000000000),
             ('b', 'b', '{}', 'do' || char(10) || 'ne', '["codescaler","codescaler_target_日本語日本語日本語日本語日本語日本語日本語"]', printf('%.5000c', 'x'), 1700000000000),
             ('c', 'c', '{}', 'done', '["codescaler","codescaler_kind_"]', NULL, NULL);"#,
    );
    sample.execute(
        r#"ALTER TABLE jobs ADD COLUMN "evil
column" TEXT DEFAULT 'x'"#,
    );
    let hero_proc = sample.serve();
    let gateway = sample.gateway(&hero_proc);
    (sample, hero_proc, gateway)
}

#[test]
fn the_table_fits_the_terminal() {
    let (_sample, _hero_proc, gateway) = hostile();
    for (columns, locale) in [(60_u16, "C.UTF-8"), (80, "C.UTF-8"), (200, "C.UTF-8"), (60, "C"), (80, "C"), (200, "C")]
    {
        let mut command = Terminal::session();
        command.args(["jobs-usage", "--socket", path_text(&gateway.socket)]).env("LC_ALL", locale).env("NO_COLOR", "1");
        let (code, _, shown) = Terminal::start(command, columns, [None, None]).end();
        assert_eq!(code, Some(0), "{shown}");
        for line in shown.lines() {
            let wide = line.chars().filter(|char| ('\u{3000}'..='\u{ffff}').contains(char)).count();
            assert!(line.chars().count() + wide <= columns.into(), "{columns}: {line:?}");
            assert!(!line.trim_end_matches('\r').contains(char::is_control), "{line:?}");
            assert!(locale != "C" || line.is_ascii(), "{line:?}");
        }
        for part in [
            "3 jobs weigh",
            "The store's file has ",
            "(none)",
            "(empty)",
            "stderr",
            "2023-11-14",
            "largest job",
            if locale == "C" { "##" } else { "██" },
        ] {
            assert!(shown.contains(part), "{columns} {locale}: {part} is missing: {shown}");
        }
        assert!(shown.lines().all(|line| !line.contains("file: ")), "a figure that can be cut: {shown}");
        assert_eq!(shown.contains("finished ┆") || shown.contains("finished |"), columns >= 80, "{shown}");
    }
}

#[test]
fn the_command_prints_what_was_asked_for() {
    let (_sample, _hero_proc, gateway) = hostile();
    let run = |arguments: &[&str]| {
        binary()
            .arg("jobs-usage")
            .args(arguments)
            .arg("--socket")
            .arg(&gateway.socket)
            .output()
            .expect("the binary runs")
    };
    let output = run(&["--by", "target,kind", "--top", "1"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    assert!(text(&output.stdout).bytes().all(|byte| byte == b'\n' || (b' '..0x7f).contains(&byte) || byte > 0x7f));
    let json: Usage = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json.by.keys().collect::<Vec<_>>(), ["kind", "target"]);
    assert!(json.by.values().chain([&json.by["kind"]]).all(|list| list.len() == 1));
    assert_eq!((json.jobs, json.largest.len(), json.largest[0].job_id), (3, 1, 2));

    let table = run(&["-o", "table", "--target", "nowhere"]);
    assert!(text(&table.stdout).starts_with("0 jobs weigh 0 B"), "{}", text(&table.stdout));
    for wrong in [
        &["--by", "colour"][..],
        &["--top", "0"],
        &["--top", "1001"],
        &["--kind", ""],
        &["--target", ""],
        &["--actor", ""],
    ] {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let nowhere =
        std::process::Command::new(BINARY).args(["jobs-usage", "--socket", "/nowhere/rpc.sock"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(6), "{}", text(&nowhere.stderr));
}
