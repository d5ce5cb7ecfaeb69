//! Reports and inspections for people.

use std::collections::BTreeMap;
use std::fmt;

use chrono::DateTime;
use comfy_table::{Cell, CellAlignment, Row, Table, presets};
use hero_proc_cleanup::{Inspection, Reason, Report};

use super::output::printable;

/// At most so many lines of a list; the rest is counted.
const LINES: usize = 20;

/// What goes or went by count, what stays and why, and what it took.
pub(crate) fn report(report: &Report) -> String {
    let mut counts = plain_table(&["", "jobs", "actions"]);
    let goes = if report.dry_run { "would go" } else { "deleted" };
    numbers(&mut counts, goes, Some(report.jobs_planned), Some(report.actions_planned));
    let kept = &report.jobs_kept;
    for (why, jobs) in [
        ("without a creation time", kept.undated),
        ("too recent", kept.recent),
        ("not finished", kept.active),
        ("could not be stopped", kept.unstoppable),
        ("held by a foreign key", kept.referenced),
        ("over the limit", kept.over_limit),
    ] {
        if jobs > 0 {
            numbers(&mut counts, &format!("stay: {why}"), Some(jobs), None);
        }
    }
    for (why, actions) in kept_by_reason(report) {
        numbers(&mut counts, &format!("stay: {why}"), None, Some(actions));
    }

    let mut text = Lines::default();
    text.line(counts);
    for (table, rows) in &report.dependents {
        text.line(format_args!("{} rows of table {table} depend on these jobs", count(*rows)));
    }
    if !report.actions_kept.is_empty() {
        let mut actions = plain_table(&["action that stays", "because of", "such as"]);
        for kept in report.actions_kept.iter().take(LINES) {
            let by = kept.by.as_ref().map(|by| printable(&by.to_string())).unwrap_or_default();
            actions.add_row([printable(&kept.action_id), reason(kept.reason).to_owned(), by]);
        }
        text.line(actions);
        text.rest(report.actions_kept_count, report.actions_kept.len().min(LINES));
    }
    if !report.errors.is_empty() {
        text.line("Errors:");
        for error in report.errors.iter().take(LINES) {
            text.line(format_args!("  {}", printable(error)));
        }
        text.rest(report.errors.len() as u64, report.errors.len().min(LINES));
    }
    if let Some(cutoff) = report.cutoff_ms {
        text.line(format_args!("Only jobs created by {}.", moment(cutoff)));
    }
    if report.more {
        text.line("More jobs match than one call takes: they are left for the next.");
    }
    if report.dry_run {
        text.line(format_args!("Dry run, in {:.1} ms: nothing was deleted.", report.duration_ms));
        text.line(format_args!("Plan: {}", report.plan));
    } else {
        text.line(format_args!(
            "{} freed inside the store's file, in {:.1} ms, with its write lock held for {:.1} ms.",
            bytes(report.bytes_freed),
            report.duration_ms,
            report.lock_ms,
        ));
    }
    text.0
}

/// What a store is, and what stands in it.
pub(crate) fn inspection(inspection: &Inspection) -> String {
    let mut text = Lines::default();
    text.line("The store fits.");
    text.line(format_args!(
        "SQLite {}, journal mode {}, pages of {}, auto_vacuum {}; {}, of which {} are free pages.",
        inspection.sqlite,
        inspection.journal_mode,
        bytes(inspection.page_size),
        inspection.auto_vacuum,
        bytes(inspection.bytes),
        bytes(inspection.free_bytes),
    ));

    let (jobs, actions) = (&inspection.jobs, &inspection.actions);
    let mut counts = plain_table(&["", "jobs", "actions"]);
    numbers(&mut counts, "all", Some(jobs.total), Some(actions.total));
    numbers(&mut counts, "with the root tag", Some(jobs.tagged), Some(actions.tagged));
    numbers(&mut counts, "  of these, in their spec only", Some(jobs.tagged_by_spec), None);
    numbers(&mut counts, "without a creation time", Some(jobs.undated), None);
    numbers(&mut counts, "with tags that can't be read", Some(jobs.malformed), None);
    numbers(&mut counts, "that nothing refers to", None, Some(actions.unreferenced));
    text.line(counts);

    for (title, counts) in [
        ("jobs by tag", &jobs.families),
        ("jobs by phase, finished", &jobs.finished),
        ("jobs by phase, not finished", &jobs.not_finished),
    ] {
        if !counts.is_empty() {
            text.line(counted(title, counts));
        }
    }
    let mut columns = plain_table(&["what", "read from"]);
    for (meaning, column) in &inspection.columns {
        columns.add_row([meaning, column]);
    }
    text.line(columns);
    if inspection.foreign_keys.is_empty() {
        text.line("No foreign keys on jobs.");
    }
    for key in &inspection.foreign_keys {
        text.line(format_args!("Foreign key: {}", printable(key)));
    }
    text.0
}

/// An empty table in the one style that all have.
pub(crate) fn plain_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit that suits them, each a thousand of the one before.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A row of numbers, each to the right; an absent one stays empty.
fn numbers(table: &mut Table, what: &str, jobs: Option<u64>, actions: Option<u64>) {
    let cell = |number: Option<u64>| Cell::new(number.map(count).unwrap_or_default());
    let right = |cell: Cell| cell.set_alignment(CellAlignment::Right);
    table.add_row(Row::from(vec![Cell::new(what), right(cell(jobs)), right(cell(actions))]));
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
        _ => "another reason",
    }
}

fn counted(title: &str, counts: &BTreeMap<String, u64>) -> Table {
    let mut table = plain_table(&[title, ""]);
    for (name, number) in counts {
        let name = if name.is_empty() { "(no text)".to_owned() } else { printable(name) };
        table.add_row(Row::from(vec![Cell::new(name), Cell::new(count(*number)).set_alignment(CellAlignment::Right)]));
    }
    table
}

fn moment(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(|| format!("{ms} ms"), |moment| moment.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, text: impl fmt::Display) {
        self.0.push_str(&text.to_string());
        self.0.push('\n');
    }

    fn rest(&mut self, all: u64, shown: usize) {
        let rest = all.saturating_sub(shown as u64);
        if rest > 0 {
            self.line(format_args!("  and {} more", count(rest)));
        }
    }
}
