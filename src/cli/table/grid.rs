//! What tables are made of: every text becomes printable on its way into a [`Grid`] or into [`Lines`].

use std::borrow::Cow;
use std::fmt::{self, Display};

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, Width, presets};
use indicatif::HumanCount;

use crate::cli::text::{is_utf8, printable};

/// The most characters of a name or an error.
const LONGEST: usize = 200;

/// The terminal or file on which tables are shown.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Screen {
    /// The number of columns; none where lines may have any length.
    width: Option<u16>,
}

impl Screen {
    pub(crate) fn wide(width: Option<u16>) -> Self {
        Self { width }
    }

    pub(crate) fn width(self) -> Option<u16> {
        self.width
    }
}

/// A table in the one style that all have.
pub(crate) struct Grid(Table);

impl Grid {
    pub(crate) fn new<const COLUMNS: usize>(header: [&str; COLUMNS], screen: Screen) -> Self {
        let mut table = Table::new();
        let style = if is_utf8() { presets::UTF8_FULL_CONDENSED } else { presets::ASCII_FULL_CONDENSED };
        table.load_style(style).set_header(header.map(printable));
        table.set_truncation_indicator("...");
        if let Some(width) = screen.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        Self(table)
    }

    /// A table whose columns have room for as many characters as `widths` say, whatever stands in them.
    pub(crate) fn with_widths(header: &[&str], widths: &[u16]) -> Self {
        const PADDING: u16 = 2;
        let mut grid = Self::new([], Screen::default());
        grid.0.set_content_arrangement(ContentArrangement::Dynamic).set_header(one_line(header));
        let widths = widths.iter().map(|width| ColumnConstraint::Absolute(Width::Fixed(width + PADDING)));
        grid.0.set_constraints(widths);
        grid
    }

    /// A row of one line: what has no room is cut. All but its first and its last text stand to the right.
    pub(crate) fn line(&mut self, texts: &[String]) {
        self.0.add_row(one_line(texts));
    }

    /// A row of texts.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, texts: [&str; COLUMNS]) {
        self.0.add_row(texts.map(|text| printable(excerpt(text))));
    }

    /// A row of texts behind its name, each to the right.
    pub(crate) fn figures<const FIGURES: usize>(&mut self, what: impl Display, figures: [String; FIGURES]) {
        let figures = figures.map(|text| Cell::new(printable(text)).set_alignment(CellAlignment::Right));
        self.0.add_row(std::iter::once(Cell::new(printable(what))).chain(figures).collect::<Vec<_>>());
    }

    /// A row of numbers behind its name; an absent number stays empty.
    pub(super) fn counts<const COUNTS: usize>(&mut self, what: impl Display, counts: [Option<u64>; COUNTS]) {
        let text = |count: Option<u64>| count.map(|count| HumanCount(count).to_string()).unwrap_or_default();
        self.figures(what, counts.map(text));
    }
}

fn one_line(texts: &[impl AsRef<str>]) -> Row {
    let cells = texts.iter().enumerate().map(|(index, text)| {
        let right = index > 0 && index + 1 < texts.len();
        let alignment = if right { CellAlignment::Right } else { CellAlignment::Left };
        Cell::new(printable(excerpt(text.as_ref()))).set_alignment(alignment)
    });
    let mut row = Row::from(cells.collect::<Vec<_>>());
    row.max_height(1);
    row
}

impl Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// As much of `text` as a table has room for.
pub(crate) fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text.into(),
    }
}

/// Text for people, line by line.
#[derive(Default)]
pub(crate) struct Lines(String);

impl Lines {
    pub(crate) fn line(&mut self, text: impl Display) {
        self.0.push_str(&printable(text));
        self.0.push('\n');
    }

    pub(crate) fn grid(&mut self, grid: &Grid) {
        self.0.push_str(&format!("{grid}\n"));
    }

    pub(crate) fn rest(&mut self, all: u64, shown: usize) {
        let rest = all.saturating_sub(shown as u64);
        if rest > 0 {
            self.line(format_args!("  and {} more", HumanCount(rest)));
        }
    }
}

impl From<Lines> for String {
    fn from(lines: Lines) -> Self {
        lines.0
    }
}
