//! The statements. A column that variants of the store call differently is one of the names in the layout.

use super::super::layout::{Layout, OtherBytes, Services};
use super::super::scan::Table;
use super::{COLUMNS, Heads, Times, Weigh};
use crate::phase::TERMINAL;

pub(in crate::store) const DELETE_JOB: &str = "DELETE FROM main.jobs WHERE id = ?1";
pub(in crate::store) const DELETE_ACTION: &str = "DELETE FROM main.actions WHERE id = ?1";

/// `NOT INDEXED`: an index that the host has would make the one scan slower, and its order another.
///
/// A column that stands behind large ones is reached by following their overflow pages, and every selected column is
/// read for every row. So a column is selected only where it says something: the spec of a job whose tags begin like
/// no array, or that has not finished; the run of one that has not finished; and times only if `times` are asked for, and
/// of jobs that may carry a certain tag.
pub(in crate::store) fn jobs(layout: &Layout, times: Times<'_>, heads: Heads) -> Table {
    let head = layout.jobs.head.iter().flatten().filter(|_| heads == Heads::Read);
    jobs_with(layout, times, &head.map(|column| format!(", {column}")).collect::<String>())
}

/// All jobs, as [`jobs`] has them with their times, and behind that the weight of each column.
pub(in crate::store) fn weighed_jobs(layout: &Layout) -> Table {
    let weights = layout.jobs.weights.iter().map(|weight| format!(", {}", weight.bytes));
    jobs_with(layout, Times::Read, &weights.collect::<String>())
}

fn jobs_with(layout: &Layout, times: Times<'_>, more: &str) -> Table {
    let OtherBytes { of_texts, of_integers, in_integers, .. } = &layout.jobs.other_bytes;
    let by_header = Weigh::ByHeader as u8;
    let of_integers = format!("CASE WHEN ?2 = {by_header} OR {in_integers} THEN {of_integers} ELSE 0 END");
    let bytes = format!("CASE WHEN ?2 THEN {of_texts} + {of_integers} END");
    let columns = job_columns(layout, times, &spec_where_needed(layout), &bytes).join(", ");
    let tag = if let Times::OfTagged(tag) = times { Some(tag.as_str().to_owned()) } else { None };
    Table { tag, ..scan_of_jobs(&format!("{columns}{more}")) }
}

/// All jobs: what their columns say that they refer to, and their heads.
pub(in crate::store) fn heads(layout: &Layout) -> Table {
    let jobs = &layout.jobs;
    let mut columns = vec!["NULL"; COLUMNS - 1];
    [columns[0], columns[1], columns[2]] = [jobs.context, "action", jobs.action_id.unwrap_or("NULL")];
    columns.extend(jobs.head.iter().flatten().map(String::as_str));
    scan_of_jobs(&columns.join(", "))
}

fn scan_of_jobs(columns: &str) -> Table {
    let rows = format!("SELECT id, {columns} FROM main.jobs NOT INDEXED WHERE id >= ?1 ORDER BY id");
    Table { bounds: "SELECT (SELECT min(id) FROM main.jobs), (SELECT max(id) FROM main.jobs)", rows, tag: None }
}

/// The phases of all jobs, which an index tells.
pub(in crate::store) const PHASES: &str = "SELECT id, phase FROM main.jobs ORDER BY phase";

/// One job, as [`jobs`] has it.
pub(in crate::store) fn whole_job(layout: &Layout, times: Times<'_>) -> String {
    let columns =
        job_columns(layout, times, &spec_where_needed(layout), &layout.jobs.other_bytes.by_header()).join(", ");
    format!("SELECT id, {columns} FROM main.jobs WHERE id = ?1")
}

/// The jobs of the run ?1.
pub(in crate::store) fn jobs_of_run(run_id: &str) -> String {
    format!("SELECT id, {run_id} FROM main.jobs WHERE {run_id} = ?1")
}

/// The run of one job.
pub(in crate::store) fn run_of_job(run_id: &str) -> String {
    format!("SELECT id, {run_id} FROM main.jobs WHERE id = ?1")
}

/// The jobs of all runs.
pub(in crate::store) fn jobs_of_runs(run_id: &str) -> String {
    format!("SELECT id, {run_id} FROM main.jobs WHERE {run_id} > 0")
}

/// One job, as [`jobs`] has it, but with its spec whatever its phase.
pub(in crate::store) fn job_by_id(layout: &Layout, times: Times<'_>) -> String {
    let columns = job_columns(layout, times, layout.jobs.spec, &layout.jobs.other_bytes.by_header()).join(", ");
    format!("SELECT id, {columns} FROM main.jobs WHERE id = ?1")
}

fn spec_where_needed(layout: &Layout) -> String {
    format!(
        "CASE WHEN tags COLLATE BINARY BETWEEN '[' AND '\\' AND {} THEN NULL ELSE {} END",
        has_finished(),
        layout.jobs.spec
    )
}

/// Whether a job does not carry the tag ?3: in an array without escapes, a tag stands as it is.
const LACKS_TAG: &str = r"tags COLLATE BINARY BETWEEN '[' AND '\' AND instr(tags, ?3) = 0 AND instr(tags, '\') = 0";

/// Nearly all jobs are in one of two phases, and a list of two is compared as it stands, where a longer one is searched.
fn has_finished() -> String {
    format!("(phase COLLATE BINARY IN ('succeeded', 'failed') OR phase COLLATE NOCASE IN ({}))", terminal_phases())
}

/// The columns behind the id, in the order in which a row reads them.
fn job_columns(layout: &Layout, times: Times<'_>, spec: &str, bytes: &str) -> [String; COLUMNS - 1] {
    let jobs = &layout.jobs;
    let or_null = |column: Option<&'static str>| column.unwrap_or("NULL");
    // A plan shows that a job ran again by its times where it has no attempt, and another job of the same id by its
    // creation time.
    let asked = |for_plan: bool, column: &str| match times {
        Times::Read => column.to_owned(),
        Times::OfTagged(_) => format!("CASE WHEN {LACKS_TAG} THEN NULL ELSE {column} END"),
        Times::NotAsked if for_plan => column.to_owned(),
        Times::NotAsked => "NULL".to_owned(),
    };
    let run_id = format!("CASE WHEN {} THEN NULL ELSE {} END", has_finished(), or_null(jobs.run_id));
    [
        jobs.context,
        "action",
        or_null(jobs.action_id),
        "tags",
        spec,
        "phase",
        &asked(!jobs.autoincrement, jobs.created_at),
        &asked(jobs.attempt.is_none(), or_null(jobs.finished_at)),
        &run_id,
        or_null(jobs.attempt),
        if jobs.attempt.is_none() { or_null(jobs.started_at) } else { "NULL" },
        bytes,
    ]
    .map(ToOwned::to_owned)
}

/// The terminal phases as a list of literals.
fn terminal_phases() -> String {
    TERMINAL.map(|phase| format!("'{phase}'")).join(", ")
}

pub(in crate::store) fn job(layout: &Layout) -> String {
    let jobs = &layout.jobs;
    format!(
        "SELECT phase,
                {pid},
                {attempt},
                {started_at}
         FROM main.jobs
         WHERE id = :id",
        pid = jobs.pid.unwrap_or("NULL"),
        attempt = jobs.attempt.unwrap_or("NULL"),
        started_at = jobs.started_at.unwrap_or("NULL"),
    )
}

pub(in crate::store) fn actions(layout: &Layout) -> Table {
    let rows =
        format!("SELECT id, {} FROM main.actions NOT INDEXED WHERE id >= ?1 ORDER BY id", action_columns(layout));
    Table { bounds: "SELECT (SELECT min(id) FROM main.actions), (SELECT max(id) FROM main.actions)", rows, tag: None }
}

/// The context, the name and the bytes of all actions.
pub(in crate::store) fn action_bytes(layout: &Layout) -> String {
    let actions = &layout.actions;
    format!("SELECT {}, name, {} FROM main.actions NOT INDEXED", actions.context, actions.bytes)
}

/// One action, as [`actions`] has it.
pub(in crate::store) fn action_by_id(layout: &Layout) -> String {
    format!("SELECT id, {} FROM main.actions WHERE id = ?1", action_columns(layout))
}

fn action_columns(layout: &Layout) -> String {
    let actions = &layout.actions;
    format!(
        "{context},
         name,
         {spec},
         {created_at},
         {updated_at},
         {bytes}",
        context = actions.context,
        spec = actions.spec,
        created_at = actions.created_at.unwrap_or("NULL"),
        updated_at = actions.updated_at.unwrap_or("NULL"),
        bytes = actions.other_bytes.by_header(),
    )
}

pub(in crate::store) fn services(services: &Services) -> String {
    format!(
        "SELECT {context},
                name,
                {spec},
                {actions}
         FROM main.services NOT INDEXED
         ORDER BY name",
        context = services.context,
        spec = services.spec.unwrap_or("NULL"),
        actions = services.actions.unwrap_or("NULL"),
    )
}
