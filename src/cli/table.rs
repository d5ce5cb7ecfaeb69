//! Reports and inspections for people.
//!
//! Every text is made printable on its way into a [`Grid`] or into [`Lines`]: nothing else makes them.

mod grid;

use std::collections::BTreeMap;

use chrono::DateTime;
use hero_proc_cleanup::{Inspection, Reason, ReclaimOutcome, ReclaimReason, Reclaimed, Report};
use indicatif::{DecimalBytes, HumanCount};

pub(crate) use grid::{Grid, Lines, Screen, excerpt};

/// The most lines of a list; the rest is counted.
const LINES: usize = 20;
/// The most lines of a list above a question, so that the totals stay in sight.
const FEW: usize = 5;

/// What goes or went by count, what stays and why, and what it took.
pub(crate) fn report(report: &Report, screen: Screen) -> String {
    whole(report, screen).into()
}

fn whole(report: &Report, screen: Screen) -> Lines {
    let mut text = Lines::default();
    show_totals(&mut text, report, screen);
    details(&mut text, report, screen, LINES);
    if report.more {
        text.line(match report.jobs_kept.over_limit {
            0 => "More actions that no job refers to are there than one call takes: they are left for the next.",
            _ => "More jobs match than one call takes: they are left for the next.",
        });
    }
    if let Some(asked) = asked(report) {
        text.line(asked);
    }
    if report.dry_run {
        text.line(format_args!("Dry run, in {:.3} ms: nothing was deleted.", report.duration_ms));
        return text;
    }
    text.line(format_args!(
        "Pages freed: {}. In {:.3} ms, with the store's write lock held for {:.3} ms.",
        DecimalBytes(report.bytes_freed),
        report.duration_ms,
        report.lock_ms,
    ));
    text
}

/// The report of a dry run, with the command `to_delete` that deletes exactly this.
pub(crate) fn dry_run(report: &Report, screen: Screen, to_delete: Option<&str>) -> String {
    let mut text = whole(report, screen);
    if let Some(command) = to_delete {
        text.line("To delete exactly this, or nothing:");
        text.line(format_args!("  {command}"));
    }
    text.into()
}

/// A dry run above a question: its totals come last.
pub(crate) fn preview(report: &Report, screen: Screen) -> String {
    let mut text = Lines::default();
    details(&mut text, report, screen, FEW);
    show_totals(&mut text, report, screen);
    text.into()
}

fn show_totals(text: &mut Lines, report: &Report, screen: Screen) {
    text.grid(&totals(report, screen));
    if report.bytes_planned > 0 {
        let rows = if report.dry_run { "The rows that would go hold" } else { "The rows that went held" };
        text.line(format_args!("{rows} {} of text.", DecimalBytes(report.bytes_planned)));
    }
    if report.store.file_bytes > 0 {
        let (file, free) = (DecimalBytes(report.store.file_bytes), DecimalBytes(report.store.free_bytes));
        text.line(format_args!("The store's file has {file}, of which {free} are free for new rows."));
    }
}

fn totals(report: &Report, screen: Screen) -> Grid {
    let mut totals = Grid::new(["", "jobs", "actions"], screen);
    let goes = if report.dry_run { "would go" } else { "deleted" };
    totals.counts(goes, [Some(report.jobs_planned), Some(report.actions_planned)]);
    if report.actions_leaked > 0 {
        totals.counts("of these, referred to by no job", [None, Some(report.actions_leaked)]);
    }
    let kept = &report.jobs_kept;
    for (why, jobs) in [
        ("excepted", kept.excepted),
        ("in another phase", kept.other_phase),
        ("no creation time in milliseconds", kept.undated),
        ("too recent", kept.recent),
        ("not finished", kept.active),
        ("could not be stopped", kept.unstoppable),
        ("their run goes on", kept.run_active),
        ("the last of their group", kept.kept_last),
        ("held by a foreign key", kept.referenced),
        ("over the limit", kept.over_limit),
    ] {
        if jobs > 0 {
            totals.counts(format_args!("stay: {why}"), [Some(jobs), None]);
        }
    }
    for (why, actions) in kept_by_reason(report) {
        totals.counts(format_args!("stay: {why}"), [None, Some(actions)]);
    }
    totals
}

/// What goes along, which actions stay, and what went wrong: at most `lines` of each.
fn details(text: &mut Lines, report: &Report, screen: Screen, lines: usize) {
    for (table, rows) in report.dependents.iter().take(lines) {
        let rows = number(*rows, "row", "rows");
        text.line(format_args!("{rows} of table {} depend on these jobs", excerpt(table)));
    }
    text.rest(report.dependents.len() as u64, lines);
    if !report.actions_kept.is_empty() {
        let mut actions = Grid::new(["action that stays", "because of", "such as"], screen);
        for kept in report.actions_kept.iter().take(lines) {
            let by = kept.by.as_ref().map(ToString::to_string).unwrap_or_default();
            actions.row([kept.action_id.as_str(), reason(kept.reason), &by]);
        }
        text.grid(&actions);
        text.rest(report.actions_kept_count, report.actions_kept.len().min(lines));
    }
    if !report.errors.is_empty() {
        text.line("Errors:");
        for error in report.errors.iter().take(lines) {
            text.line(format_args!("  {}", excerpt(error)));
        }
        text.rest(report.errors.len() as u64, lines);
    }
    if let Some(cutoff) = report.cutoff_ms {
        text.line(format_args!("Only jobs created and ended by {}, and actions set by then.", moment(cutoff)));
    }
}

/// What a store is, and what stands in it.
pub(crate) fn inspection(inspection: &Inspection, screen: Screen) -> String {
    let mut text = Lines::default();
    text.line("The store fits.");
    text.line(format_args!(
        "SQLite {}, journal mode {}, pages of {}, auto_vacuum {}; {}, of which {} are free pages.",
        inspection.sqlite,
        inspection.journal_mode,
        page_size(inspection.page_size),
        inspection.auto_vacuum,
        DecimalBytes(inspection.bytes),
        DecimalBytes(inspection.free_bytes),
    ));

    let (jobs, actions) = (&inspection.jobs, &inspection.actions);
    let mut counts = Grid::new(["", "jobs", "actions"], screen);
    counts.counts("all", [Some(jobs.total), Some(actions.total)]);
    counts.counts("with the root tag", [Some(jobs.tagged), Some(actions.tagged)]);
    counts.counts("  of these, in their spec only", [Some(jobs.tagged_by_spec), None]);
    counts.counts("without a creation time in milliseconds", [Some(jobs.undated), None]);
    counts.counts("with tags that can't be read", [Some(jobs.malformed), None]);
    counts.counts("that nothing refers to", [None, Some(actions.unreferenced)]);
    text.grid(&counts);

    for (title, counts) in [
        ("jobs by tag", &jobs.families),
        ("jobs by phase, finished", &jobs.finished),
        ("jobs by phase, not finished", &jobs.not_finished),
    ] {
        if !counts.is_empty() {
            text.grid(&counted(title, counts, screen));
        }
    }
    let mut columns = Grid::new(["what", "read from"], screen);
    for (meaning, column) in &inspection.columns {
        columns.row([meaning, column]);
    }
    text.grid(&columns);
    if inspection.foreign_keys.is_empty() {
        text.line("No foreign keys on jobs.");
    }
    for key in &inspection.foreign_keys {
        text.line(format_args!("Foreign key: {key}"));
    }
    for lack in &inspection.lacks {
        text.line(format_args!("Not protected: {lack}."));
    }
    if jobs.held_by_runs > 0 {
        let holders = jobs.holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let held = number(jobs.held_by_runs, "finished job stays", "finished jobs stay");
        text.line(format_args!("{held} because their runs go on, in these jobs: {holders}."));
    }
    if let Some(runs) = &inspection.runs {
        let (all, unreferenced) = (number(runs.total, "run", "runs"), runs.unreferenced);
        text.line(format_args!("Of {all}, {unreferenced} are named by no job. A cleanup leaves them."));
    }
    text.into()
}

/// What was given back to the file system, why not all, and what it took.
pub(crate) fn reclaimed(reclaimed: &Reclaimed, _: Screen) -> String {
    let mut text = Lines::default();
    let Reclaimed { dry_run, outcome, file_bytes_before, file_bytes_after, wal_bytes_after, .. } = *reclaimed;
    let (before, after) = (DecimalBytes(file_bytes_before), DecimalBytes(file_bytes_after));
    let why = reclaimed.reason.map(reclaim_reason).unwrap_or_default();
    text.line(match (outcome, dry_run) {
        (ReclaimOutcome::Done, false) => format!("The store's file is now {after} long; before: {before}."),
        (ReclaimOutcome::Done, true) => format!("The store's file would be about {after} long; now: {before}."),
        (ReclaimOutcome::Partly, false) => {
            format!("The store's file is now {after} long; before: {before}. The rest is left: {why}.")
        }
        (ReclaimOutcome::Partly, true) => {
            format!("The store's file would be about {after} long; now: {before}. The rest would be left: {why}.")
        }
        (_, false) => format!("The store's file stays {before} long: {why}."),
        (_, true) => format!("The store's file would stay {before} long: {why}."),
    });
    if wal_bytes_after > 0 {
        text.line(format_args!("Its WAL has {}.", DecimalBytes(wal_bytes_after)));
    }
    let mut room = |needed: Option<u64>, free: Option<u64>, place: &str| {
        if let (Some(needed @ 1..), Some(free), Some(ReclaimReason::DiskTooFull)) = (needed, free, reclaimed.reason) {
            let (needed, free) = (DecimalBytes(needed), DecimalBytes(free));
            text.line(format_args!("{needed} are needed {place}, where {free} are free."));
        }
    };
    room(reclaimed.temp_needed_bytes, reclaimed.temp_free_bytes, "in the directory for temporary files");
    room(reclaimed.store_needed_bytes, reclaimed.store_free_bytes, "beside the store");
    match (reclaimed.lock_ms, reclaimed.expected_lock_ms) {
        (Some(lock_ms), _) => text.line(format_args!(
            "In {:.3} ms, with the store's write lock held for {lock_ms:.3} ms.",
            reclaimed.duration_ms
        )),
        (None, Some(expected)) => {
            text.line(format_args!("The store's write lock would be held for about {expected:.0} ms."));
        }
        (None, None) => {}
    }
    text.into()
}

/// How long the store's file is, in a clause.
pub(crate) fn file_length(reclaimed: &Reclaimed) -> String {
    let Reclaimed { dry_run, outcome, file_bytes_before, file_bytes_after, .. } = *reclaimed;
    match outcome {
        ReclaimOutcome::Done | ReclaimOutcome::Partly if !dry_run => {
            let (before, after) = (DecimalBytes(file_bytes_before), DecimalBytes(file_bytes_after));
            format!("the store's file is now {after} long (before: {before})")
        }
        _ => "the store's file stays as it is".to_owned(),
    }
}

pub(crate) fn reclaim_reason(reason: ReclaimReason) -> &'static str {
    match reason {
        ReclaimReason::Time => "the time was up; another call goes on from there",
        ReclaimReason::Reader => "somebody reads an older state of the store; it becomes short when they have ended",
        ReclaimReason::TooLittleFree => "too little of it is free",
        ReclaimReason::NothingToDo => "it holds no free pages, or gives them back by itself",
        ReclaimReason::LockTooLong => "hero_proc would be kept from writing for too long",
        ReclaimReason::DiskTooFull => "there is too little room on disk",
        ReclaimReason::InMemory => "it is in memory",
        ReclaimReason::RowidsInUse => "a virtual table or a trigger may rely on row ids that would change",
        _ => "another reason",
    }
}

/// What is wrong with a store, by reasons.
pub(crate) fn problems(wrong: &str, problems: &[String]) -> String {
    let mut text = Lines::default();
    text.line(format_args!("{wrong}:"));
    for problem in problems {
        text.line(format_args!("  {problem}"));
    }
    text.into()
}

/// `count` of what is called `one` or `many`: "1 job", "1,234 jobs".
pub(crate) fn number(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", HumanCount(count), if count == 1 { one } else { many })
}

/// The jobs and actions that go in a call, or went, in words: "12 jobs and their 10 actions, and 45 actions that no job
/// refers to".
pub(crate) fn jobs_and_actions(jobs: u64, actions: u64, leaked: u64) -> String {
    let count = |actions| number(actions, "action", "actions");
    let mut words = Vec::new();
    match (jobs, actions.saturating_sub(leaked)) {
        (0, 0) => {}
        (0, actions) => words.push(count(actions)),
        (jobs, 0) => words.push(number(jobs, "job", "jobs")),
        (1, actions) => words.push(format!("1 job and its {}", count(actions))),
        (jobs, actions) => words.push(format!("{} and their {}", number(jobs, "job", "jobs"), count(actions))),
    }
    if leaked > 0 {
        words.push(format!("{} that no job refers to", count(leaked)));
    }
    words.join(", and ")
}

/// What went in the calls of which `sum` is the report, in a clause.
pub(crate) fn what_went(sum: Option<&Report>) -> String {
    let (jobs, actions, leaked) =
        sum.map(|sum| (sum.jobs_deleted, sum.actions_deleted, sum.actions_leaked)).unwrap_or_default();
    match jobs + actions {
        0 => "nothing was deleted".to_owned(),
        1 => format!("{} was deleted", jobs_and_actions(jobs, actions, leaked)),
        _ => format!("{} were deleted", jobs_and_actions(jobs, actions, leaked)),
    }
}

/// The params of a call as they were understood: a filter that was lost on the way is missing.
pub(crate) fn asked(report: &Report) -> Option<String> {
    let asked = serde_json::to_string(&report.asked).ok().filter(|_| !report.asked.is_empty())?;
    Some(format!("Understood as: {}", excerpt(&asked)))
}

/// The size of a page, a power of two from 512 B to 64 KiB, as people know it.
fn page_size(bytes: u64) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes / 1024) }
}

/// Kept actions by reason. The list may have been cut: then what is not listed is counted by itself.
fn kept_by_reason(report: &Report) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<Reason, u64> = BTreeMap::new();
    for kept in &report.actions_kept {
        *counts.entry(kept.reason).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().map(|(why, count)| (reason(why).to_owned(), count)).collect();
    let unlisted = report.actions_kept_count.saturating_sub(report.actions_kept.len() as u64);
    if unlisted > 0 {
        counts.push(("not listed".to_owned(), unlisted));
    }
    counts
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Job => "a job that stays",
        Reason::Service => "a service",
        Reason::Action => "an action that stays",
        Reason::Schedule => "its schedule",
        Reason::Untagged => "no root tag of its own",
        Reason::Recent => "a recent change",
        Reason::Undated => "no time at which it was set",
        _ => "another reason",
    }
}

fn counted(title: &str, counts: &BTreeMap<String, u64>, screen: Screen) -> Grid {
    let mut table = Grid::new([title, ""], screen);
    for (name, count) in counts {
        table.counts(if name.is_empty() { "(no text)".into() } else { excerpt(name) }, [Some(*count)]);
    }
    table
}

fn moment(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(|| format!("{ms} ms"), |moment| moment.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// The day of a moment, in UTC.
pub(crate) fn day(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(|| format!("{ms} ms"), |moment| moment.format("%Y-%m-%d").to_string())
}
