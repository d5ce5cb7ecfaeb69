//! The answer of `jobs-usage` for people: what weighs how much, with a bar beside each share.
//!
//! Every list is a table of the same columns, so that figures stand under each other all the way down. A narrow screen has
//! fewer columns and shorter bars; names are cut, figures never are.

use hero_proc_cleanup::{JobUsage, StoreSize, Usage};
use indicatif::{DecimalBytes, HumanCount};

use super::age;
use super::table::{Grid, Lines, Screen, day, number};
use super::text::is_utf8;

/// The width of a table that goes to no terminal.
const USUAL: u16 = 100;
/// The least widths at which it is shown how many jobs have finished, and when the oldest was created.
const ROOM_FOR_FINISHED: u16 = 80;
const ROOM_FOR_OLDEST: u16 = 100;
/// The width of a share: `100 %`.
const SHARE: u16 = 5;
/// The widths between which a bar is drawn.
const BAR: (u16, u16) = (4, 40);
/// The least width of a name.
const NAME: u16 = 8;

/// What the jobs of `usage` weigh, by everything that they are counted by; of the days, the newest `lines`.
pub(crate) fn table(usage: &Usage, screen: Screen, lines: usize) -> String {
    let width = screen.width().unwrap_or(USUAL);
    let lists = lists(usage, lines);
    let layout = Layout::new(&lists, width);
    let mut text = Lines::default();
    summary(&mut text, usage);
    for list in lists.iter().filter(|list| !list.entries.is_empty()) {
        text.grid(&layout.grid(list));
    }
    if !usage.largest.is_empty() {
        text.grid(&largest(&usage.largest, layout.width()));
    }
    let Usage { by, by_phase, by_day, by_column, largest, .. } = usage;
    let others = [by_phase.len(), by_day.len(), by_column.len(), largest.len()];
    if by.values().map(Vec::len).chain(others).any(|length| length >= lines) {
        text.line(format_args!("No list has more than {lines} entries; --top N allows N."));
    }
    text.into()
}

fn summary(text: &mut Lines, usage: &Usage) {
    let jobs = number(usage.jobs, "job weighs", "jobs weigh");
    let (finished, unfinished) = (HumanCount(usage.finished), HumanCount(usage.jobs.saturating_sub(usage.finished)));
    text.line(format_args!("{jobs} {}: {finished} finished, {unfinished} not.", DecimalBytes(usage.bytes)));
    let actions = number(usage.actions, "action weighs", "actions weigh");
    let leaked = HumanCount(usage.actions_leaked);
    text.line(format_args!("{actions} {}: {leaked} leaked.", DecimalBytes(usage.actions_bytes)));
    text.line(format_args!("The store's file has {}.", DecimalBytes(usage.store.file_bytes)));
    if let (Some(oldest), Some(newest)) = (usage.oldest_ms, usage.newest_ms) {
        text.line(format_args!("The jobs were created from {} to {}.", day(oldest), day(newest)));
    }
}

/// A list of what jobs are counted by.
struct List {
    title: String,
    entries: Vec<Entry>,
    /// The bytes of which each entry has a share.
    whole: u64,
}

/// One line of a list.
#[derive(Default)]
struct Entry {
    name: String,
    jobs: Option<u64>,
    finished: Option<u64>,
    bytes: u64,
    oldest: Option<String>,
}

impl Entry {
    fn new(name: impl Into<String>, jobs: Option<u64>, bytes: u64) -> Self {
        Self { name: name.into(), jobs, bytes, ..Self::default() }
    }
}

fn lists(usage: &Usage, lines: usize) -> Vec<List> {
    let list = |title: &str, entries: Vec<Entry>| List { title: title.to_owned(), entries, whole: usage.bytes };
    let by_tag = ["kind", "target", "actor"].into_iter().filter_map(|field| {
        let entries = usage.by.get(field)?.iter().map(|row| Entry {
            finished: Some(row.finished),
            oldest: row.oldest_ms.map(day),
            ..Entry::new(named(row.value.as_deref(), "none"), Some(row.jobs), row.bytes)
        });
        Some(list(field, entries.collect()))
    });
    let phases = usage.by_phase.iter();
    let phases = phases.map(|row| Entry::new(named(row.value.as_deref(), "no text"), Some(row.jobs), row.bytes));
    let ages = usage.by_age.iter().filter(|row| row.jobs > 0);
    let ages =
        ages.map(|row| Entry::new(format!("{} or more", age::text(row.older_than_ms)), Some(row.jobs), row.bytes));
    let days = usage.by_day.iter().take(lines).map(|row| Entry::new(day(row.day_ms), Some(row.jobs), row.bytes));
    let columns = usage.by_column.iter().map(|row| Entry::new(&*row.value, None, row.bytes));
    let others = [
        list("phase", phases.collect()),
        list("age", ages.collect()),
        list("created on", days.collect()),
        list("column", columns.collect()),
    ];
    std::iter::once(file(usage)).chain(by_tag).chain(others).collect()
}

/// What the store's file holds.
fn file(usage: &Usage) -> List {
    let StoreSize { file_bytes, wal_bytes, free_bytes, .. } = usage.store;
    let known = usage.bytes.saturating_add(usage.actions_bytes).saturating_add(free_bytes);
    let jobs = Entry {
        finished: Some(usage.finished),
        oldest: usage.oldest_ms.map(day),
        ..Entry::new("these jobs", Some(usage.jobs), usage.bytes)
    };
    let mut entries = vec![
        jobs,
        Entry::new("these actions", None, usage.actions_bytes),
        Entry::new("free pages", None, free_bytes),
        Entry::new("the rest", None, file_bytes.saturating_sub(known)),
    ];
    if wal_bytes > 0 {
        entries.push(Entry::new("beside it: WAL", None, wal_bytes));
    }
    List { title: "file".to_owned(), entries, whole: file_bytes }
}

/// The largest jobs, in a table of `width`.
fn largest(jobs: &[JobUsage], width: u16) -> Grid {
    let texts = jobs.iter().map(|job| {
        let what = [job.phase.as_deref(), job.action_id.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        [job.job_id.to_string(), size(job.bytes), what]
    });
    let texts: Vec<[String; 3]> = texts.collect();
    let header = ["largest job", "size", "phase and action"];
    let widest = |column: usize| texts.iter().map(|row| columns(&row[column])).fold(columns(header[column]), u16::max);
    let (id, size) = (widest(0), widest(1));
    let mut grid =
        Grid::with_widths(&header, &[id, size, width.saturating_sub(Layout::around(3) + id + size).max(NAME)]);
    texts.iter().for_each(|row| grid.line(row));
    grid
}

fn named(value: Option<&str>, none: &str) -> String {
    match value {
        Some("") => "(empty)".to_owned(),
        Some(value) => value.to_owned(),
        None => format!("({none})"),
    }
}

/// The columns of every table, and their widths.
struct Layout {
    name: u16,
    jobs: u16,
    finished: Option<u16>,
    size: u16,
    oldest: Option<u16>,
    bar: u16,
}

impl Layout {
    /// The columns for these lists on a screen of `width`.
    fn new(lists: &[List], width: u16) -> Self {
        let entries = || lists.iter().flat_map(|list| &list.entries);
        let titles = lists.iter().map(|list| columns(&list.title));
        let names = entries().map(|entry| columns(&entry.name)).chain(titles).max().unwrap_or_default();
        let widest = |title: &str, text: &dyn Fn(&Entry) -> String| {
            entries().map(|entry| columns(&text(entry))).fold(columns(title), u16::max)
        };
        let finished = widest("finished", &|entry| count(entry.finished));
        let oldest = widest("oldest", &|entry| entry.oldest.clone().unwrap_or_default());
        let mut layout = Self {
            name: 0,
            jobs: widest("jobs", &|entry| count(entry.jobs)),
            finished: (width >= ROOM_FOR_FINISHED).then_some(finished),
            size: widest("size", &|entry| size(entry.bytes)),
            oldest: (width >= ROOM_FOR_OLDEST).then_some(oldest),
            bar: 0,
        };
        // Two thirds of the room that the figures leave are for names, as far as they need it, and the rest for bars.
        let room = width.saturating_sub(layout.width());
        layout.name = names.min(room / 3 * 2).max(NAME);
        layout.bar = room.saturating_sub(layout.name + 1).min(BAR.1);
        if layout.bar < BAR.0 {
            layout.bar = 0;
            layout.name = names.min(room).max(NAME);
        }
        layout
    }

    fn widths(&self) -> Vec<u16> {
        let share = if self.bar == 0 { SHARE } else { SHARE + 1 + self.bar };
        let widths = [Some(self.name), Some(self.jobs), self.finished, Some(self.size), self.oldest, Some(share)];
        widths.into_iter().flatten().collect()
    }

    /// The width of a table.
    fn width(&self) -> u16 {
        let widths = self.widths();
        Self::around(widths.len()) + widths.iter().sum::<u16>()
    }

    /// The width that a table of `columns` columns needs beside their texts: for its lines, and the spaces next to them.
    fn around(columns: usize) -> u16 {
        u16::try_from(3 * columns + 1).unwrap_or(u16::MAX)
    }

    /// Of the texts of all columns, those of the columns that there are.
    fn shown<T>(&self, [name, jobs, finished, size, oldest, share]: [T; 6]) -> Vec<T> {
        let finished = self.finished.map(|_| finished);
        let oldest = self.oldest.map(|_| oldest);
        [Some(name), Some(jobs), finished, Some(size), oldest, Some(share)].into_iter().flatten().collect()
    }

    fn grid(&self, list: &List) -> Grid {
        let title = |title, has: &dyn Fn(&Entry) -> bool| if list.entries.iter().any(has) { title } else { "" };
        let header = self.shown([
            &*list.title,
            title("jobs", &|entry| entry.jobs.is_some()),
            title("finished", &|entry| entry.finished.is_some()),
            "size",
            title("oldest", &|entry| entry.oldest.is_some()),
            "share",
        ]);
        let mut grid = Grid::with_widths(&header, &self.widths());
        let largest = list.entries.iter().map(|entry| entry.bytes).max().unwrap_or_default();
        for entry in &list.entries {
            let share = format!("{:>5} {}", share(entry.bytes, list.whole), bar(entry.bytes, largest, self.bar));
            grid.line(&self.shown([
                entry.name.clone(),
                count(entry.jobs),
                count(entry.finished),
                size(entry.bytes),
                entry.oldest.clone().unwrap_or_default(),
                share.trim_end().to_owned(),
            ]));
        }
        grid
    }
}

/// How many columns `text` takes at most.
fn columns(text: &str) -> u16 {
    let columns = text.chars().map(|char| if char.is_ascii() { 1 } else { 2 }).sum::<usize>();
    u16::try_from(columns).unwrap_or(u16::MAX)
}

fn count(count: Option<u64>) -> String {
    count.map(|count| HumanCount(count).to_string()).unwrap_or_default()
}

fn size(bytes: u64) -> String {
    DecimalBytes(bytes).to_string()
}

/// The share that `bytes` have of `whole`, in per cent.
fn share(bytes: u64, whole: u64) -> String {
    let percent = if whole == 0 { 0.0 } else { bytes as f64 * 100.0 / whole as f64 };
    if percent > 0.0 && percent < 1.0 { "<1 %".to_owned() } else { format!("{percent:.0} %") }
}

/// A bar as long as `bytes` are against `largest`, which has the whole `width`. Nothing but nothing has no bar at all.
fn bar(bytes: u64, largest: u64, width: u16) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if largest == 0 || width == 0 || bytes == 0 {
        return String::new();
    }
    let part = bytes as f64 / largest as f64 * f64::from(width);
    if !is_utf8() {
        return "#".repeat((part.round() as usize).max(1));
    }
    let eighths = ((part * 8.0).round() as usize).max(1);
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}
