//! What a cleanup must do, in plain Rust sets: written from the interface, without a look at the SQL.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The rows of a store, as the model and the fixture both see them.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    /// How far apart the ids of jobs and actions are.
    pub(crate) apart: i64,
    pub(crate) jobs: Vec<Job>,
    pub(crate) actions: Vec<Action>,
    pub(crate) services: Vec<Service>,
    /// Which further tables there are.
    pub(crate) tables: &'static [Table],
    pub(crate) rows: Vec<Row>,
}

/// A table whose rows refer to jobs, or to rows of the tables before it. It has an `id` and its keys.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) keys: &'static [Key],
}

/// (column, parent, what happens when the parent goes)
pub(crate) type Key = (&'static str, &'static str, OnDelete);

/// A row of one of them.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) table: &'static Table,
    pub(crate) id: i64,
    /// What each key refers to.
    pub(crate) keys: Vec<Option<i64>>,
}

/// Tables of one key each; of several; chains of them; several ways to one.
pub(crate) const TABLES: [&[Table]; 4] = {
    use OnDelete::{Cascade, NoAction, Restrict, SetDefault, SetNull};
    [
        &[
            Table { name: "job_notes", keys: &[("job", "jobs", Cascade)] },
            Table { name: "job_marks", keys: &[("job", "jobs", SetNull)] },
            Table { name: "job_locks", keys: &[("job", "jobs", Restrict)] },
            Table { name: "job_pins", keys: &[("job", "jobs", NoAction)] },
            Table { name: "job_defaults", keys: &[("job", "jobs", SetDefault)] },
        ],
        &[
            Table { name: "links", keys: &[("one", "jobs", Cascade), ("other", "jobs", Cascade)] },
            Table { name: "pairs", keys: &[("one", "jobs", SetNull), ("other", "jobs", SetNull)] },
            Table { name: "half", keys: &[("one", "jobs", Cascade), ("other", "jobs", SetNull)] },
            Table {
                name: "mixed",
                keys: &[("one", "jobs", SetNull), ("other", "jobs", Restrict), ("third", "jobs", Cascade)],
            },
        ],
        &[
            Table { name: "notes", keys: &[("job", "jobs", Cascade)] },
            Table { name: "lines", keys: &[("note", "notes", Cascade)] },
            Table { name: "words", keys: &[("line", "lines", Cascade)] },
            Table { name: "marks", keys: &[("line", "lines", SetNull), ("note", "notes", SetNull)] },
            Table { name: "pins", keys: &[("line", "lines", Restrict)] },
        ],
        &[
            Table { name: "notes", keys: &[("job", "jobs", Cascade)] },
            Table { name: "files", keys: &[("job", "jobs", Cascade), ("note", "notes", SetNull)] },
            Table {
                name: "lines",
                keys: &[("note", "notes", Cascade), ("file", "files", Cascade), ("job", "jobs", Cascade)],
            },
            Table { name: "marks", keys: &[("line", "lines", SetNull), ("job", "jobs", SetNull)] },
            Table { name: "pins", keys: &[("line", "lines", NoAction), ("file", "files", Cascade)] },
        ],
    ]
};

#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: i64,
    pub(crate) context: String,
    pub(crate) action: String,
    pub(crate) action_id: Option<String>,
    /// The text of the column.
    pub(crate) tags: Option<String>,
    pub(crate) spec: String,
    pub(crate) phase: String,
    pub(crate) created_at: Created,
}

#[derive(Debug, Clone)]
pub(crate) enum Created {
    Null,
    Text,
    At(i64),
}

#[derive(Debug, Clone)]
pub(crate) struct Action {
    pub(crate) context: String,
    pub(crate) name: String,
    pub(crate) spec: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) context: String,
    pub(crate) name: String,
    /// A JSON array.
    pub(crate) actions: Value,
    /// Whether what holds it has lost its end.
    pub(crate) torn: bool,
}

impl Service {
    /// The text of a column that holds `json`.
    pub(crate) fn text(&self, json: &Value) -> String {
        let mut text = json.to_string();
        if self.torn {
            text.pop();
        }
        text
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OnDelete {
    Cascade,
    SetNull,
    Restrict,
    NoAction,
    SetDefault,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) tags: Vec<String>,
    pub(crate) cutoff: Option<i64>,
    pub(crate) force: bool,
    pub(crate) limit: usize,
}

/// What must come of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) jobs: BTreeSet<i64>,
    /// undated, recent, active, unstoppable, referenced, over_limit
    pub(crate) kept: [u64; 6],
    /// (context, name)
    pub(crate) actions: BTreeSet<(String, String)>,
    /// Why each other candidate stays, and all that may be named as its referrer.
    pub(crate) actions_kept: BTreeMap<(String, String), (&'static str, BTreeSet<String>)>,
    pub(crate) dependents: BTreeMap<&'static str, u64>,
    /// Rows that go, by table and id, and keys that become NULL, by their index as well.
    pub(crate) rows: BTreeSet<(&'static str, i64)>,
    pub(crate) nulls: BTreeSet<(&'static str, i64, usize)>,
    /// For each job that stays for a reason that is told, in the order of their ids: all that may be said of it.
    pub(crate) errors: Vec<BTreeSet<String>>,
    /// The jobs that go and have not finished.
    pub(crate) unfinished: BTreeSet<i64>,
}

/// What the host of these tests does when it is to stop a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It knows beforehand that it can't.
    Refuses,
    /// It finds out that it can't, and has touched the row all the same.
    Fails,
    /// It does, and leaves the row alone.
    Stops,
    /// It does, and says so in the row.
    Writes,
    /// It does, and somebody starts the job again.
    Restarts,
}

pub(crate) fn stop(id: i64) -> Stop {
    match id % 7 {
        0 => Stop::Refuses,
        1 => Stop::Fails,
        2 => Stop::Restarts,
        3 | 4 => Stop::Writes,
        _ => Stop::Stops,
    }
}

/// What a dry run must show: what would go if every job could be stopped that the host does not refuse to stop.
pub(crate) fn expected(world: &World, asked: &Asked) -> Expected {
    decide(world, asked, None)
}

/// What must come of the real run: the jobs of the dry run that have not finished are those that are stopped.
pub(crate) fn expected_after_stops(world: &World, asked: &Asked, shown: &Expected) -> Expected {
    decide(world, asked, Some(&shown.unfinished))
}

fn decide(world: &World, asked: &Asked, stopped: Option<&BTreeSet<i64>>) -> Expected {
    let mut expected = Expected::default();
    for job in &world.jobs {
        let tags = job_tags(job);
        if !tags.contains("codescaler") || !asked.tags.iter().all(|tag| tags.contains(tag)) {
            continue;
        }
        let held: BTreeSet<String> = takes(world, &BTreeSet::from([job.id])).holding;
        let finished = finished(&job.phase);
        let usable = match job.created_at {
            Created::At(at) if at >= 100_000_000_000 => Some(at),
            _ => None,
        };
        let tried = stopped.is_none_or(|stopped| stopped.contains(&job.id));
        let unstoppable = match stop(job.id) {
            Stop::Refuses => Some("refused"),
            Stop::Fails if stopped.is_some() && tried => Some("would not stop"),
            Stop::Restarts if stopped.is_some() && tried => Some("started again after it was stopped"),
            _ => None,
        };
        let reasons = [
            asked.cutoff.is_some() && usable.is_none(),
            asked.cutoff.is_some_and(|cutoff| usable.is_some_and(|at| at > cutoff)),
            !finished && !asked.force,
            !finished && asked.force && unstoppable.is_some(),
            !held.is_empty(),
            // What nobody has tried to stop is left for the next call.
            expected.jobs.len() >= asked.limit || !finished && !tried,
        ];
        let reason = reasons.iter().position(|reason| *reason);
        match reason {
            Some(reason) => expected.kept[reason] += 1,
            None => {
                expected.jobs.insert(job.id);
                if !finished {
                    expected.unfinished.insert(job.id);
                }
            }
        }
        let say = |what: &str| format!("job {}: {what}", job.id);
        match reason {
            Some(3) => expected.errors.push(unstoppable.map(say).into_iter().collect()),
            Some(4) => {
                let by = held.iter().map(|table| say(&format!("held by a foreign key of table {table}")));
                expected.errors.push(by.collect());
            }
            _ => {}
        }
    }
    let taken = takes(world, &expected.jobs);
    let touched = taken.nulls.iter().map(|(table, id, _)| (*table, *id)).chain(taken.rows.iter().copied());
    for (table, _) in touched.collect::<BTreeSet<_>>() {
        *expected.dependents.entry(table).or_default() += 1;
    }
    expected.nulls = taken.nulls.into_iter().filter(|(table, id, _)| !taken.rows.contains(&(*table, *id))).collect();
    expected.rows = taken.rows;
    decide_actions(world, &mut expected);
    expected
}

/// What deleting jobs takes along.
#[derive(Default)]
struct Taken {
    rows: BTreeSet<(&'static str, i64)>,
    nulls: BTreeSet<(&'static str, i64, usize)>,
    /// The tables that forbid it.
    holding: BTreeSet<String>,
}

fn takes(world: &World, jobs: &BTreeSet<i64>) -> Taken {
    let mut taken = Taken::default();
    let mut gone: Vec<(&str, i64)> = jobs.iter().map(|id| ("jobs", *id)).collect();
    while let Some((parent, id)) = gone.pop() {
        for row in &world.rows {
            for (index, (_, refers_to, on_delete)) in row.table.keys.iter().enumerate() {
                if *refers_to != parent || row.keys[index] != Some(id) {
                    continue;
                }
                match on_delete {
                    OnDelete::Cascade if taken.rows.insert((row.table.name, row.id)) => {
                        gone.push((row.table.name, row.id));
                    }
                    OnDelete::Cascade => {}
                    OnDelete::SetNull => drop(taken.nulls.insert((row.table.name, row.id, index))),
                    OnDelete::Restrict | OnDelete::NoAction | OnDelete::SetDefault => {
                        taken.holding.insert(row.table.name.to_owned());
                    }
                }
            }
        }
    }
    taken
}

fn decide_actions(world: &World, expected: &mut Expected) {
    let gone = |job: &&Job| expected.jobs.contains(&job.id);
    let referred: BTreeSet<(String, String)> = world
        .jobs
        .iter()
        .filter(gone)
        .map(|job| (job.context.clone(), job.action_id.clone().unwrap_or_else(|| job.action.clone())))
        .collect();
    let candidates: Vec<&Action> = world
        .actions
        .iter()
        .filter(|action| referred.contains(&(action.context.clone(), action.name.clone())))
        .collect();

    // Take away what must stay until nothing changes any more.
    let mut going: BTreeSet<(String, String)> =
        candidates.iter().map(|action| (action.context.clone(), action.name.clone())).collect();
    loop {
        let stays = |action: &&&Action| {
            let key = (action.context.clone(), action.name.clone());
            going.contains(&key) && why(world, &expected.jobs, &going, action).is_some()
        };
        let Some(action) = candidates.iter().find(stays) else { break };
        going.remove(&(action.context.clone(), action.name.clone()));
    }
    for action in candidates {
        let key = (action.context.clone(), action.name.clone());
        if let Some(why) = why(world, &expected.jobs, &going, action) {
            expected.actions_kept.insert(key, why);
        }
    }
    expected.actions = going;
}

fn why(
    world: &World,
    gone: &BTreeSet<i64>,
    going: &BTreeSet<(String, String)>,
    action: &Action,
) -> Option<(&'static str, BTreeSet<String>)> {
    let meant = |context: &str, reference: &str| context == action.context && may_mean(reference, &action.name);
    let job = world.jobs.iter().filter(|job| !gone.contains(&job.id)).find(|job| {
        meant(&job.context, &job.action) || job.action_id.as_ref().is_some_and(|id| meant(&job.context, id))
    });
    if let Some(job) = job {
        return Some(("job", BTreeSet::from([format!("job {}", job.id)])));
    }
    let services = world.services.iter().filter(|service| {
        references(&service.text(&service.actions), None).iter().any(|reference| meant(&service.context, reference))
    });
    if let Some(first) = services.map(|service| &service.name).min() {
        return Some(("service", BTreeSet::from([format!("service {first}")])));
    }
    let dependants: BTreeSet<String> = world
        .actions
        .iter()
        .filter(|other| (&other.context, &other.name) != (&action.context, &action.name))
        .filter(|other| !going.contains(&(other.context.clone(), other.name.clone())))
        .filter(|other| references(&other.spec, Some("depends_on")).iter().any(|on| meant(&other.context, on)))
        .map(|other| format!("action {}", shown(&other.context, &other.name)))
        .collect();
    if !dependants.is_empty() {
        return Some(("action", dependants));
    }
    let spec = json(&action.spec);
    if !spec["schedule_policy"].is_null() {
        return Some(("schedule", BTreeSet::new()));
    }
    if !string_array(&spec["tags"]).contains("codescaler") {
        return Some(("untagged", BTreeSet::new()));
    }
    None
}

pub(crate) fn shown(context: &str, name: &str) -> String {
    if context == "core" { name.to_owned() } else { format!("{context}/{name}") }
}

fn job_tags(job: &Job) -> BTreeSet<String> {
    let own = job.tags.as_ref().map(|tags| json(tags));
    match own {
        None => string_array(&json(&job.spec)["tags"]),
        // A text that is no JSON is read as false here, so only a JSON null is null.
        Some(Value::Null) => string_array(&json(&job.spec)["tags"]),
        Some(tags) => string_array(&tags),
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Bool(false))
}

/// The strings of an array of nothing but strings.
fn string_array(value: &Value) -> BTreeSet<String> {
    let strings = value.as_array().and_then(|array| array.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    strings.unwrap_or_default().into_iter().map(ToOwned::to_owned).collect()
}

/// Everything that `text` may refer to: the strings in it, or under one of its keys; every word in quotes where it has lost
/// its end.
fn references(text: &str, key: Option<&str>) -> Vec<String> {
    match serde_json::from_str::<Value>(text) {
        Ok(json) => strings(key.map_or(&json, |key| &json[key])),
        Err(_) => text.split('"').skip(1).map(ToOwned::to_owned).collect(),
    }
}

/// Every string at any depth, keys included.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(string) => vec![string.clone()],
        Value::Array(values) => values.iter().flat_map(strings).collect(),
        Value::Object(fields) => {
            fields.iter().flat_map(|(key, value)| std::iter::once(key.clone()).chain(strings(value))).collect()
        }
        _ => Vec::new(),
    }
}

fn may_mean(reference: &str, name: &str) -> bool {
    reference == name || reference.ends_with(&format!(".{name}"))
}

fn finished(phase: &str) -> bool {
    let terminal = "succeeded success completed done ok failed error cancelled canceled stopped halted killed timeout \
                    timed_out skipped";
    terminal.split_whitespace().any(|word| word == phase.to_ascii_lowercase())
}
