//! What a deletion writes at most, page by page, beside the store: in its WAL, or in its rollback journal.
//!
//! A row is taken out of its table and out of each index of that table. In each of these trees a page changes, and where it
//! becomes half empty, its neighbours and the page above them change as well: measured, 3 to 6 pages for each job of a few,
//! and less than one where many neighbours go. Pages that become free are not written, unless `secure_delete` overwrites
//! them or `auto_vacuum` fills them with others. Free pages are listed a thousand to a page.
//!
//! So this is an upper bound, and often ten times what is needed: rows that lie side by side share their pages.

use rusqlite::Connection;

use super::connection::{Store, journal_mode};
use super::{Layout, StoreError};

/// Pages that change once, whatever is deleted: those above the leaves, the neighbours of the last row, the first page.
const ALWAYS: u64 = 24;
/// Bytes that a WAL and its index, or a journal, have for a page beside the page itself.
const BESIDE_A_PAGE: u64 = 32;

/// The rows that a deletion takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) jobs: u64,
    pub(crate) actions: u64,
    /// Those of the actions that none of the jobs refers to.
    pub(crate) leaked: u64,
    /// Rows of other tables.
    pub(crate) others: u64,
    /// Of text and blobs, in jobs and actions.
    pub(crate) bytes: u64,
}

impl Rows {
    fn all(&self) -> u64 {
        self.jobs + self.actions
    }

    /// The most that a call with this `limit` takes of these rows, if no job and no action has more bytes than `heaviest`. A
    /// job refers to one action, and `limit` counts the leaked ones by themselves.
    fn within(&self, limit: u64, heaviest: u64) -> Self {
        let jobs = self.jobs.min(limit);
        let leaked = self.leaked.min(limit);
        let actions = self.actions.saturating_sub(self.leaked).min(limit) + leaked;
        let bytes = (jobs + actions).saturating_mul(heaviest).min(self.bytes);
        Self { jobs, actions, leaked, others: self.others, bytes }
    }
}

/// What a deletion writes depends on, beside its rows.
#[derive(Debug, Clone, Copy)]
struct Settings {
    page_size: u64,
    /// The pages that hold something.
    live: u64,
    /// The most trees that a row stands in.
    trees: u64,
    /// Whether pages that become free are overwritten.
    secure_delete: bool,
    auto_vacuum: u64,
}

impl Settings {
    /// The bytes that deleting `rows` writes at most, if these have `least` bytes of text and blobs at least.
    fn needed(&self, rows: Rows, least: u64) -> u64 {
        let Self { page_size, live, trees, secure_delete, auto_vacuum } = *self;
        // Large values lie on pages of their own. `freed` is the highest number of pages that become free, and `untouched` the
        // lowest number of them that nothing writes to.
        let freed = rows.bytes / (page_size - page_size / 16) + 2 * rows.all();
        let untouched = least.saturating_sub(rows.all() * page_size) / page_size;
        let listed = freed / (page_size / 8) + 1;
        let (overwritten, untouched) = if secure_delete { (freed, 0) } else { (listed, untouched) };
        let (moved, untouched) = match auto_vacuum {
            0 => (0, untouched),
            // Each page that becomes free is filled with the last one of the file.
            1 => (4 * freed, 0),
            // It is listed to whom a page belongs.
            _ => (freed.min(live / (page_size / 8) + 1), untouched),
        };
        let once = overwritten + moved;
        let changed = (rows.all() + rows.others).saturating_mul(trees) + once;
        let most = live.saturating_sub(untouched) + once;
        (ALWAYS + changed).min(most).saturating_mul(page_size + BESIDE_A_PAGE)
    }

    /// The highest `limit` with which a call that is to delete `rows` needs no more than `free` bytes, whichever of the rows
    /// come first; none if even one job may need more.
    fn limit(&self, rows: Rows, heaviest: u64, free: u64) -> Option<u64> {
        let fits = |limit| self.needed(rows.within(limit, heaviest), 0) <= free;
        let (mut fitting, mut too_many) = (0, rows.jobs.max(rows.actions));
        while too_many - fitting > 1 {
            let limit = fitting + (too_many - fitting) / 2;
            if fits(limit) { fitting = limit } else { too_many = limit }
        }
        (fitting > 0).then_some(fitting)
    }
}

impl Store<'_> {
    /// `error`, which the deletion of `rows` met, with its cause, and, of a full disk, with the room that is needed.
    pub(crate) fn explain_deletion(&self, error: StoreError, rows: Option<Rows>, layout: &Layout) -> StoreError {
        match self.explain(error) {
            StoreError::Full { needed: None, free, limit: None } => {
                let room = rows.and_then(|rows| self.room_for(rows, layout, free).ok().flatten());
                let (needed, limit) = room.map_or((None, None), |(needed, limit)| (Some(needed), limit));
                StoreError::Full { needed, free, limit }
            }
            error => error,
        }
    }

    /// The bytes that deleting `rows` writes at most, and the highest `limit` that fits into `free` bytes; none where the
    /// journal is no file, or where all fits: what fits and did not go in, as beside another who fills the disk and empties
    /// it again, tells nothing.
    fn room_for(&self, rows: Rows, layout: &Layout, free: u64) -> Result<Option<(u64, Option<u64>)>, StoreError> {
        let connection = self.connection();
        if matches!(journal_mode(connection)?.as_str(), "memory" | "off") {
            return Ok(None);
        }
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let number = |name| Ok::<_, StoreError>(pragma(name)?.unsigned_abs());
        let settings = Settings {
            page_size: number("page_size")?,
            live: number("page_count")?.saturating_sub(number("freelist_count")?),
            trees: trees(connection, "jobs")?.max(trees(connection, "actions")?),
            secure_delete: pragma("secure_delete")? == 1,
            auto_vacuum: number("auto_vacuum")?,
        };
        let needed = settings.needed(rows, rows.bytes);
        if needed <= free {
            return Ok(None);
        }
        let heaviest = heaviest(connection, "jobs", &layout.jobs.bytes)?.max(heaviest(
            connection,
            "actions",
            &layout.actions.bytes,
        )?);
        Ok(Some((needed, settings.limit(rows, heaviest, free))))
    }
}

/// The bytes of the row of `table` that has most, where `bytes` are those of a row, in SQL.
fn heaviest(connection: &Connection, table: &str, bytes: &str) -> Result<u64, StoreError> {
    let heaviest = format!("SELECT ifnull(max({bytes}), 0) FROM main.{table}");
    Ok(connection.query_row(&heaviest, (), |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// The trees that a row of `table` stands in.
fn trees(connection: &Connection, table: &str) -> Result<u64, StoreError> {
    let indexes = "SELECT count(*) FROM main.sqlite_master WHERE type = 'index' AND tbl_name = ?1";
    let indexes: i64 = connection.query_row(indexes, [table], |row| row.get(0))?;
    Ok(1 + indexes.unsigned_abs())
}
