//! What a cleanup must do, in plain Rust sets: written from the interface, without a look at the SQL.
//!
//! Where the interface leaves room, the model reads it like this:
//!
//! - A row of another table that holds a job holds it even if the row would go with another job of the same call.
//! - A job waits only for run-mates that have not finished. Of all jobs that wait for nothing, the lowest id is taken first,
//!   so a job is taken as soon as the last one that it waited for is.
//! - The bound on `dependents` counts each row once, as the report does.
//! - A job that was stopped and stays all the same counts as it was before, for its run-mates and for its own spec as well.
//! - A leaked action carries the root tag, as a job that matches does.
//! - Of the leaked actions, the lowest id is taken first among those whose dependants have gone. A circle goes whole. One that
//!   an action left over needs, over however many others, is left over as well.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The rows of a store, as the model and the fixture both see them.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// How far apart the ids of jobs and actions are.
    pub(crate) apart: i64,
    pub(crate) jobs: Vec<Job>,
    pub(crate) actions: Vec<Action>,
    pub(crate) services: Vec<Service>,
    /// Which further tables there are.
    pub(crate) tables: &'static [Table],
    pub(crate) rows: Vec<Row>,
    /// What the foreign key of `jobs` on itself does when the job that it refers to goes, if there is one.
    pub(crate) retry_key: Option<OnDelete>,
}

/// A table whose rows refer to jobs, or to rows of the tables before it. It has an `id` and its keys.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) keys: &'static [ForeignKey],
}

/// (column, parent, what happens when the parent goes)
pub(crate) type ForeignKey = (&'static str, &'static str, OnDelete);

/// A row of one of them.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) table: &'static Table,
    pub(crate) id: i64,
    /// What each key refers to.
    pub(crate) keys: Vec<Option<i64>>,
}

/// Tables of one key each; of several; chains of them; several ways to one; and such that hold nothing.
pub(crate) const TABLES: [&[Table]; 5] = {
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
        &[
            Table { name: "links", keys: &[("one", "jobs", Cascade), ("other", "jobs", Cascade)] },
            Table { name: "pairs", keys: &[("one", "jobs", SetNull), ("other", "jobs", SetNull)] },
            Table { name: "half", keys: &[("one", "jobs", Cascade), ("other", "jobs", SetNull)] },
        ],
    ]
};

#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: i64,
    pub(crate) context: String,
    pub(crate) action: String,
    pub(crate) action_id: Option<String>,
    /// Whether `action` and `action_id` are stored as bytes.
    pub(crate) bytes: bool,
    /// The text of the column.
    pub(crate) tags: Option<String>,
    pub(crate) spec: String,
    pub(crate) phase: String,
    pub(crate) created_at: Number,
    pub(crate) ended_at: Number,
    pub(crate) run_id: Number,
    /// The job that it refers to by a foreign key of `jobs` itself.
    pub(crate) retry_of: Option<i64>,
}

/// What stands in a column of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    Null,
    Text,
    Is(i64),
}

impl Number {
    /// The time that it is, if it can be one in milliseconds.
    fn time(self) -> Option<i64> {
        match self {
            Self::Is(at) if at >= 100_000_000_000 => Some(at),
            _ => None,
        }
    }

    /// The run that it names, if it does.
    fn run(self) -> Option<i64> {
        match self {
            Self::Is(id) if id > 0 => Some(id),
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Action {
    /// In the store, multiplied by how far apart the ids are.
    pub(crate) number: i64,
    pub(crate) context: String,
    pub(crate) name: String,
    pub(crate) spec: String,
    /// Whether the spec is stored as bytes.
    pub(crate) bytes: bool,
    pub(crate) created_at: Number,
    pub(crate) updated_at: Number,
}

#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) context: String,
    pub(crate) name: String,
    /// A JSON array.
    pub(crate) actions: Value,
    /// Whether what holds it has lost its end.
    pub(crate) torn: bool,
    /// Whether what holds it is stored as bytes.
    pub(crate) bytes: bool,
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

impl OnDelete {
    /// Whether a row with such a key holds the row that it refers to.
    fn holds(self) -> bool {
        matches!(self, Self::Restrict | Self::NoAction | Self::SetDefault)
    }
}

/// What is asked, of which host, and when.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) tags: Vec<String>,
    pub(crate) except_tags: Vec<String>,
    pub(crate) cutoff: Option<i64>,
    pub(crate) phases: Option<Vec<String>>,
    pub(crate) keep_last: Option<usize>,
    pub(crate) keep_by: Option<Vec<String>>,
    pub(crate) leaked: bool,
    pub(crate) force: bool,
    pub(crate) limit: usize,
    pub(crate) now: i64,
    /// The host's.
    pub(crate) grace: i64,
    pub(crate) runs: bool,
}

/// Why jobs stay, in order of precedence.
pub(crate) const REASONS: [&str; 10] = [
    "excepted",
    "other_phase",
    "undated",
    "recent",
    "active",
    "unstoppable",
    "run_active",
    "kept_last",
    "referenced",
    "over_limit",
];

/// A context and a name.
type Key = (String, String);

/// What must come of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) jobs: BTreeSet<i64>,
    /// How many jobs stay for each of [`REASONS`].
    pub(crate) kept: BTreeMap<&'static str, u64>,
    pub(crate) actions: BTreeSet<Key>,
    /// How many of `actions` no job that goes refers to.
    pub(crate) leaked: u64,
    /// Why each other candidate stays, and all that may be named as its referrer.
    pub(crate) actions_kept: BTreeMap<Key, (&'static str, BTreeSet<String>)>,
    pub(crate) dependents: BTreeMap<&'static str, u64>,
    /// Rows that go, by table and id, and keys that become NULL, by their index as well.
    pub(crate) rows: BTreeSet<(&'static str, i64)>,
    pub(crate) nulls: BTreeSet<(&'static str, i64, usize)>,
    /// For each job that stays for a reason that is told, in the order of their ids: all that may be said of it.
    pub(crate) errors: Vec<BTreeSet<String>>,
    /// The jobs that go and have not finished.
    pub(crate) unfinished: BTreeSet<i64>,
    pub(crate) more: bool,
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
    let matched: Vec<&Job> = world.jobs.iter().filter(|job| carries(&job_tags(job), &asked.tags)).collect();
    let last = last_of_groups(&matched, asked);
    let held = |job: &Job| takes(world, &BTreeSet::from([job.id])).holding;

    // Take away what must stay until nothing changes any more. Nothing is left for later here: there is no limit.
    let stays = |job: &Job, going: &BTreeSet<i64>| -> [bool; 9] {
        let own = by_its_row(job, asked, stopped);
        let [excepted, other_phase, undated, recent, active, unstoppable] = own.map(|reason| reason.is_some());
        let run_active = run_mates(world, asked, job).any(|mate| !going.contains(&mate.id));
        let referenced = !held(job).is_empty() || holders(world, job).any(|holder| !going.contains(&holder.id));
        let kept_last = last.contains(&job.id);
        [excepted, other_phase, undated, recent, active, unstoppable, run_active, kept_last, referenced]
    };
    let mut going: BTreeSet<i64> = matched.iter().map(|job| job.id).collect();
    while let Some(job) = matched.iter().find(|job| going.contains(&job.id) && stays(job, &going).contains(&true)) {
        going.remove(&job.id);
    }

    let mut expected = Expected { jobs: take(world, asked, &going, stopped), ..Expected::default() };
    for job in &matched {
        let reason = match stays(job, &going).iter().position(|stays| *stays) {
            Some(reason) => REASONS[reason],
            None if !expected.jobs.contains(&job.id) => "over_limit",
            None => {
                expected.unfinished.extend((!finished(&job.phase)).then_some(job.id));
                continue;
            }
        };
        *expected.kept.entry(reason).or_default() += 1;
        let say = |what: &str| format!("job {}: {what}", job.id);
        match reason {
            "unstoppable" => {
                let [.., unstoppable] = by_its_row(job, asked, stopped);
                expected.errors.push(unstoppable.map(say).into_iter().collect());
            }
            "referenced" => {
                let mut tables = held(job);
                if holders(world, job).any(|holder| !going.contains(&holder.id)) {
                    tables.insert("jobs".to_owned());
                }
                let by = tables.iter().map(|table| say(&format!("held by a foreign key of table {table}")));
                expected.errors.push(by.collect());
            }
            _ => {}
        }
    }
    let taken = takes(world, &expected.jobs);
    expected.dependents = taken.dependents();
    expected.nulls = taken.nulls.into_iter().filter(|(table, id, _)| !taken.rows.contains(&(*table, *id))).collect();
    expected.rows = taken.rows;
    let left = decide_actions(world, asked, &mut expected);
    let took = !expected.jobs.is_empty() || !expected.actions.is_empty();
    expected.more = took && (left > 0 || expected.kept.contains_key("over_limit"));
    expected
}

/// Whether each of the first six reasons keeps `job`, by its own row and by what came of stopping it; the last of them with
/// what is said of it.
fn by_its_row(job: &Job, asked: &Asked, stopped: Option<&BTreeSet<i64>>) -> [Option<&'static str>; 6] {
    let is = |reason: bool| reason.then_some("");
    let after_cutoff = |at: Number| asked.cutoff.zip(at.time()).is_some_and(|(cutoff, at)| at > cutoff);
    let asked_for = |phases: &Vec<String>| phases.iter().any(|phase| phase.eq_ignore_ascii_case(&job.phase));
    let finished = finished(&job.phase);
    let tried = stopped.is_some_and(|stopped| stopped.contains(&job.id));
    let unstoppable = match stop(job.id) {
        _ if finished || !asked.force => None,
        Stop::Refuses => Some("refused"),
        Stop::Fails if tried => Some("would not stop"),
        Stop::Restarts if tried => Some("started again after it was stopped"),
        _ => None,
    };
    [
        is(asked.except_tags.iter().any(|tag| job_tags(job).contains(tag))),
        is(asked.phases.as_ref().is_some_and(|phases| !asked_for(phases))),
        is(asked.cutoff.is_some() && job.created_at.time().is_none()),
        is(after_cutoff(job.created_at) || after_cutoff(job.ended_at)),
        is(!finished && !asked.force),
        unstoppable,
    ]
}

/// The other jobs of the same run that have not finished.
fn run_mates<'w>(world: &'w World, asked: &Asked, job: &Job) -> impl Iterator<Item = &'w Job> {
    let (id, run) = (job.id, job.run_id.run().filter(|_| asked.runs));
    world
        .jobs
        .iter()
        .filter(move |mate| mate.id != id && run.is_some() && mate.run_id.run() == run && !finished(&mate.phase))
}

/// The other jobs that hold `job` by the foreign key of `jobs` on itself.
fn holders<'w>(world: &'w World, job: &Job) -> impl Iterator<Item = &'w Job> {
    let (id, holds) = (job.id, world.retry_key.is_some_and(OnDelete::holds));
    world.jobs.iter().filter(move |holder| holds && holder.id != id && holder.retry_of == Some(id))
}

/// The jobs that are among the last of their group: each group is divided into those that succeeded and those that did not.
fn last_of_groups(matched: &[&Job], asked: &Asked) -> BTreeSet<i64> {
    let Some(keep) = asked.keep_last else { return BTreeSet::new() };
    let mut groups: BTreeMap<(BTreeSet<String>, bool), BTreeSet<i64>> = BTreeMap::new();
    for job in matched.iter().filter(|job| finished(&job.phase)) {
        let mut group = job_tags(job);
        if let Some(prefixes) = &asked.keep_by {
            group.retain(|tag| prefixes.iter().any(|prefix| tag.starts_with(prefix)));
        }
        let succeeded = ["succeeded", "success", "completed", "done", "ok"];
        let succeeded = succeeded.iter().any(|phase| phase.eq_ignore_ascii_case(&job.phase));
        groups.entry((group, succeeded)).or_default().insert(job.id);
    }
    groups.into_values().flat_map(|ids| ids.into_iter().rev().take(keep).collect::<Vec<_>>()).collect()
}

/// Which of the jobs that may go are taken by this call.
fn take(world: &World, asked: &Asked, going: &BTreeSet<i64>, stopped: Option<&BTreeSet<i64>>) -> BTreeSet<i64> {
    let jobs = || world.jobs.iter().filter(|job| going.contains(&job.id));
    let waits_for: BTreeMap<i64, BTreeSet<i64>> = jobs()
        .map(|job| (job.id, holders(world, job).chain(run_mates(world, asked, job)).map(|other| other.id).collect()))
        .collect();
    // What nobody has tried to stop is passed over and left for the next call, unless the batch ends before it in any case.
    let untried: BTreeSet<i64> = jobs()
        .filter(|job| !finished(&job.phase) && stopped.is_some_and(|stopped| !stopped.contains(&job.id)))
        .map(|job| job.id)
        .collect();
    let (mut taken, mut passed) = (BTreeSet::new(), BTreeSet::new());
    let circles = circles(&waits_for);
    while taken.len() < asked.limit {
        let next = circles.iter().find(|circle| {
            circle.members.is_disjoint(&taken)
                && circle.members.is_disjoint(&passed)
                && circle.waits_for.is_subset(&taken)
        });
        let Some(next) = next else { break };
        let with: BTreeSet<i64> = taken.union(&next.members).copied().collect();
        let dependents: u64 = takes(world, &with).dependents().into_values().sum();
        if !taken.is_empty() && dependents > 20 * asked.limit as u64 {
            break;
        }
        if next.members.is_disjoint(&untried) {
            taken = with;
        } else {
            passed.extend(&next.members);
        }
    }
    taken
}

/// Members that wait for each other, which is usually one alone.
struct Circle<T> {
    members: BTreeSet<T>,
    /// All others that one of them waits for, directly or not.
    waits_for: BTreeSet<T>,
}

/// The circles in `waits_for`, in the order of their first members.
fn circles<T: Ord + Clone>(waits_for: &BTreeMap<T, BTreeSet<T>>) -> Vec<Circle<T>> {
    let reached_from = |start: &T| {
        let mut reached = BTreeSet::new();
        let mut to_follow = vec![start];
        while let Some(from) = to_follow.pop() {
            to_follow.extend(waits_for[from].iter().filter(|other| reached.insert((*other).clone())));
        }
        reached
    };
    let reached: BTreeMap<&T, BTreeSet<T>> = waits_for.keys().map(|start| (start, reached_from(start))).collect();
    let mut circles: Vec<Circle<T>> = Vec::new();
    for (start, from_here) in &reached {
        if circles.iter().any(|circle| circle.members.contains(start)) {
            continue;
        }
        let back = |other: &&T| reached[*other].contains(*start);
        let mut members: BTreeSet<T> = from_here.iter().filter(back).cloned().collect();
        members.insert((*start).clone());
        let waits_for = from_here.difference(&members).cloned().collect();
        circles.push(Circle { members, waits_for });
    }
    circles
}

/// What deleting jobs takes along.
#[derive(Default)]
struct Taken {
    rows: BTreeSet<(&'static str, i64)>,
    nulls: BTreeSet<(&'static str, i64, usize)>,
    /// The tables that forbid it.
    holding: BTreeSet<String>,
}

impl Taken {
    /// How many rows of each table go or are changed.
    fn dependents(&self) -> BTreeMap<&'static str, u64> {
        let touched = self.nulls.iter().map(|(table, id, _)| (*table, *id)).chain(self.rows.iter().copied());
        let mut dependents = BTreeMap::new();
        for (table, _) in touched.collect::<BTreeSet<_>>() {
            *dependents.entry(table).or_default() += 1;
        }
        dependents
    }
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
    // Of the jobs themselves, those that stay.
    if world.retry_key == Some(OnDelete::SetNull) {
        let stay = world.jobs.iter().filter(|job| !jobs.contains(&job.id));
        let refer = stay.filter(|job| job.retry_of.is_some_and(|id| jobs.contains(&id)));
        taken.nulls.extend(refer.map(|job| ("jobs", job.id, 0)));
    }
    taken
}

/// Decides about the actions, and returns how many leaked ones the limit leaves.
fn decide_actions(world: &World, asked: &Asked, expected: &mut Expected) -> usize {
    let gone = &expected.jobs;
    let referred: BTreeSet<Key> = world
        .jobs
        .iter()
        .filter(|job| gone.contains(&job.id))
        .map(|job| {
            let action_id = job.action_id.as_ref().filter(|action_id| !action_id.is_empty());
            (job.context.clone(), action_id.unwrap_or(&job.action).clone())
        })
        .collect();
    let mut leaked: BTreeMap<Key, i64> = BTreeMap::new();
    let mut candidates: Vec<&Action> = Vec::new();
    for action in &world.actions {
        let tags = string_array(&json(&action.spec)["tags"]);
        let asked_for = carries(&tags, &asked.tags) && asked.except_tags.iter().all(|tag| !tags.contains(tag));
        if referred.contains(&action.key()) {
            candidates.push(action);
        } else if asked.leaked && asked_for && jobs_on(world, gone, action).is_empty() {
            leaked.insert(action.key(), action.number);
            candidates.push(action);
        }
    }

    // Take away what must stay until nothing changes any more.
    let mut going: BTreeSet<Key> = candidates.iter().map(|action| action.key()).collect();
    let stays = |going: &BTreeSet<Key>| {
        candidates
            .iter()
            .find(|action| going.contains(&action.key()) && why(world, asked, gone, going, action, &leaked).is_some())
    };
    while let Some(action) = stays(&going) {
        going.remove(&action.key());
    }
    let taken = take_actions(world, asked, &going, &leaked);
    let left: BTreeSet<&Key> = leaked.keys().filter(|key| going.contains(key) && !taken.contains(key)).collect();
    for action in candidates.iter().filter(|action| !left.contains(&action.key())) {
        if let Some(why) = why(world, asked, gone, &taken, action, &leaked) {
            expected.actions_kept.insert(action.key(), why);
        }
    }
    expected.leaked = taken.iter().filter(|key| leaked.contains_key(key)).count() as u64;
    expected.actions = taken;
    left.len()
}

/// Which of the actions that may go are taken by this call: of the leaked ones no more than the limit, and each after all
/// that depend on it.
fn take_actions(world: &World, asked: &Asked, going: &BTreeSet<Key>, leaked: &BTreeMap<Key, i64>) -> BTreeSet<Key> {
    let actions = || world.actions.iter().filter(|action| going.contains(&action.key()));
    let waits_for: BTreeMap<Key, BTreeSet<Key>> = actions()
        .map(|action| (action.key(), actions().filter(|other| depends(other, action)).map(Action::key).collect()))
        .collect();
    let circles = circles(&waits_for);
    let numbers = |circle: &Circle<Key>| -> Vec<i64> {
        circle.members.iter().filter_map(|key| leaked.get(key).copied()).collect()
    };
    let (mut taken, mut count) = (BTreeSet::new(), 0);
    loop {
        // Those without a leaked one first: they are no concern of the limit.
        let ready = circles
            .iter()
            .filter(|circle| circle.members.is_disjoint(&taken) && circle.waits_for.is_subset(&taken))
            .min_by_key(|circle| numbers(circle).into_iter().min());
        let Some(next) = ready.filter(|circle| count < asked.limit || numbers(circle).is_empty()) else { break };
        count += numbers(next).len();
        taken.extend(next.members.iter().cloned());
    }
    taken
}

/// Why `action` stays, if the jobs `gone` and the actions `going` go.
fn why(
    world: &World,
    asked: &Asked,
    gone: &BTreeSet<i64>,
    going: &BTreeSet<Key>,
    action: &Action,
    leaked: &BTreeMap<Key, i64>,
) -> Option<(&'static str, BTreeSet<String>)> {
    if let Some(first) = jobs_on(world, gone, action).first() {
        return Some(("job", BTreeSet::from([format!("job {first}")])));
    }
    let services = world.services.iter().filter(|service| {
        let listed = references(&service.text(&service.actions), None);
        service.context == action.context && listed.iter().any(|reference| means(reference, &action.name))
    });
    if let Some(first) = services.map(|service| &service.name).min() {
        return Some(("service", BTreeSet::from([format!("service {first}")])));
    }
    let dependants: BTreeSet<String> = world
        .actions
        .iter()
        .filter(|other| !going.contains(&other.key()) && depends(other, action))
        .map(|other| format!("action {}", shown(&other.context, &other.name)))
        .collect();
    if !dependants.is_empty() {
        return Some(("action", dependants));
    }
    let spec = json(&action.spec);
    let set = action.created_at.time().max(action.updated_at.time());
    let recent = |set: i64| asked.cutoff.is_some_and(|cutoff| set > cutoff) || asked.now - set < asked.grace;
    let reason = if !spec["schedule_policy"].is_null() {
        "schedule"
    } else if !string_array(&spec["tags"]).contains("codescaler") {
        "untagged"
    } else if set.is_some_and(recent) {
        "recent"
    } else if set.is_none() && leaked.contains_key(&action.key()) {
        "undated"
    } else {
        return None;
    };
    Some((reason, BTreeSet::new()))
}

/// The remaining jobs that refer to `action`, in the order of their ids.
fn jobs_on(world: &World, gone: &BTreeSet<i64>, action: &Action) -> BTreeSet<i64> {
    let refers = |job: &&Job| {
        let mut references = vec![job.action.clone()];
        references.extend(job.action_id.clone());
        if !finished(&job.phase) {
            references.extend(self::references(&job.spec, Some("depends_on")));
        }
        job.context == action.context && references.iter().any(|reference| means(reference, &action.name))
    };
    world.jobs.iter().filter(|job| !gone.contains(&job.id)).filter(refers).map(|job| job.id).collect()
}

/// Whether `one` depends on `on`, which is another.
fn depends(one: &Action, on: &Action) -> bool {
    one.key() != on.key()
        && one.context == on.context
        && references(&one.spec, Some("depends_on")).iter().any(|reference| means(reference, &on.name))
}

impl Action {
    pub(crate) fn key(&self) -> Key {
        (self.context.clone(), self.name.clone())
    }
}

impl World {
    /// What is left once that has happened which is expected.
    pub(crate) fn after(&self, expected: &Expected) -> Self {
        let mut world = self.clone();
        world.jobs.retain(|job| !expected.jobs.contains(&job.id));
        world.actions.retain(|action| !expected.actions.contains(&action.key()));
        world.rows.retain(|row| !expected.rows.contains(&(row.table.name, row.id)));
        for (table, id, key) in &expected.nulls {
            if let Some(job) = world.jobs.iter_mut().find(|job| *table == "jobs" && job.id == *id) {
                job.retry_of = None;
            }
            if let Some(row) = world.rows.iter_mut().find(|row| row.table.name == *table && row.id == *id) {
                row.keys[*key] = None;
            }
        }
        world
    }
}

pub(crate) fn shown(context: &str, name: &str) -> String {
    if context == "core" { name.to_owned() } else { format!("{context}/{name}") }
}

/// Whether `tags` hold the root tag and all that are asked for.
fn carries(tags: &BTreeSet<String>, asked: &[String]) -> bool {
    tags.contains("codescaler") && asked.iter().all(|tag| tags.contains(tag))
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

/// Whether `reference` may mean the action `name`: whole or behind a dot, without ASCII case and trailing spaces.
fn means(reference: &str, name: &str) -> bool {
    let plain = |text: &str| text.trim_end_matches(' ').to_ascii_lowercase();
    let (reference, name) = (plain(reference), plain(name));
    reference == name || reference.ends_with(&format!(".{name}"))
}

fn finished(phase: &str) -> bool {
    let terminal = "succeeded success completed done ok failed error cancelled canceled stopped halted killed timeout \
                    timed_out skipped";
    terminal.split_whitespace().any(|word| word == phase.to_ascii_lowercase())
}
