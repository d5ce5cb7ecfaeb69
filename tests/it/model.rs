//! What a cleanup must do, in plain Rust sets: written from the interface, without a look at the SQL.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The rows of a store, as the model and the fixture both see them.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) jobs: Vec<Job>,
    pub(crate) actions: Vec<Action>,
    pub(crate) services: Vec<Service>,
    /// Rows of further tables: which kind of foreign key, on which job.
    pub(crate) children: Vec<(OnDelete, i64)>,
}

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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OnDelete {
    Cascade,
    SetNull,
    Restrict,
    NoAction,
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
}

/// Jobs that the host of these tests refuses to stop.
pub(crate) fn can_be_stopped(id: i64) -> bool {
    id % 3 != 0
}

pub(crate) fn child_table(on_delete: OnDelete) -> &'static str {
    match on_delete {
        OnDelete::Cascade => "job_notes",
        OnDelete::SetNull => "job_marks",
        OnDelete::Restrict => "job_locks",
        OnDelete::NoAction => "job_pins",
    }
}

pub(crate) fn expected(world: &World, asked: &Asked) -> Expected {
    let mut expected = Expected::default();
    for job in &world.jobs {
        let tags = job_tags(job);
        if !tags.contains("codescaler") || !asked.tags.iter().all(|tag| tags.contains(tag)) {
            continue;
        }
        let held = world
            .children
            .iter()
            .any(|(on_delete, child)| *child == job.id && matches!(on_delete, OnDelete::Restrict | OnDelete::NoAction));
        let finished = finished(&job.phase);
        let usable = match job.created_at {
            Created::At(at) if at >= 100_000_000_000 => Some(at),
            _ => None,
        };
        let reasons = [
            asked.cutoff.is_some() && usable.is_none(),
            asked.cutoff.is_some_and(|cutoff| usable.is_some_and(|at| at > cutoff)),
            !finished && !asked.force,
            !finished && asked.force && !can_be_stopped(job.id),
            held,
            expected.jobs.len() >= asked.limit,
        ];
        match reasons.iter().position(|reason| *reason) {
            Some(reason) => expected.kept[reason] += 1,
            None => {
                expected.jobs.insert(job.id);
            }
        }
    }
    for (on_delete, job) in &world.children {
        if expected.jobs.contains(job) && matches!(on_delete, OnDelete::Cascade | OnDelete::SetNull) {
            *expected.dependents.entry(child_table(*on_delete)).or_default() += 1;
        }
    }
    decide_actions(world, &mut expected);
    expected
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
    let services = world
        .services
        .iter()
        .filter(|service| strings(&service.actions).iter().any(|reference| meant(&service.context, reference)));
    if let Some(first) = services.map(|service| &service.name).min() {
        return Some(("service", BTreeSet::from([format!("service {first}")])));
    }
    let dependants: BTreeSet<String> = world
        .actions
        .iter()
        .filter(|other| (&other.context, &other.name) != (&action.context, &action.name))
        .filter(|other| !going.contains(&(other.context.clone(), other.name.clone())))
        .filter(|other| strings(&json(&other.spec)["depends_on"]).iter().any(|on| meant(&other.context, on)))
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
