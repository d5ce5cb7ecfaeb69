//! What a deletion writes at most, page by page, beside the store: in its WAL, or in its rollback journal.
//!
//! A row is taken out of its table and out of each index of that table. In each of these trees a page changes, and where it
//! becomes half empty, its neighbours and the page above them change as well: measured, 3 to 6 pages for each job of a few,
//! and less than one where many neighbours go. Pages that become free are not written, unless `secure_delete` overwrites
//! them or `auto_vacuum` fills them with others. Free pages are listed a thousand to a page.
//!
//! So this is an upper bound, and often ten times what is needed: rows that lie side by side share their pages.

use rusqlite::Connection;

use super::StoreError;
use super::connection::{Store, journal_mode};

/// Pages that change once, whatever is deleted: those above the leaves, the neighbours of the last row, the first page.
const ALWAYS: u64 = 24;
/// Bytes that a WAL and its index, or a journal, have for a page beside the page itself.
const BESIDE_A_PAGE: u64 = 32;

/// The rows that a deletion takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) jobs: u64,
    pub(crate) actions: u64,
    /// Rows of other tables.
    pub(crate) others: u64,
    /// Of text and blobs, in jobs and actions.
    pub(crate) bytes: u64,
}

/// What a deletion writes at most.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Writes {
    /// By what `limit` counts.
    counted: u64,
    /// Pages for all that is counted.
    pages: u64,
    /// The pages of the store that can change at all.
    most: u64,
    /// In bytes, with what stands beside it.
    page: u64,
}

impl Writes {
    /// The bytes that are needed at most.
    fn bytes(&self) -> u64 {
        (ALWAYS + self.pages).min(self.most).saturating_mul(self.page)
    }

    /// The `limit` with which a call surely fits into `free` bytes; none if that is not known of any.
    fn limit(&self, free: u64) -> Option<u64> {
        let pages = (free / self.page).checked_sub(ALWAYS)?;
        let limit = u128::from(pages) * u128::from(self.counted) / u128::from(self.pages.max(1));
        u64::try_from(limit).ok().filter(|limit| (1..self.counted).contains(limit))
    }
}

impl Store<'_> {
    /// `error`, which the deletion of `rows` met, with its cause, and, of a full disk, with the room that is needed.
    pub(crate) fn explain_deletion(&self, error: StoreError, rows: Option<Rows>) -> StoreError {
        match self.explain(error) {
            StoreError::Full { needed: None, free, limit: None } => {
                let writes = rows.and_then(|rows| self.writes(rows).ok().flatten());
                // What fits and did not go in, as beside another who fills the disk and empties it again, tells nothing.
                let writes = writes.filter(|writes| writes.bytes() > free);
                let (needed, limit) =
                    (writes.map(|writes| writes.bytes()), writes.and_then(|writes| writes.limit(free)));
                StoreError::Full { needed, free, limit }
            }
            error => error,
        }
    }

    /// What deleting `rows` writes at most; none where the journal is no file.
    fn writes(&self, rows: Rows) -> Result<Option<Writes>, StoreError> {
        let connection = self.connection();
        if matches!(journal_mode(connection)?.as_str(), "memory" | "off") {
            return Ok(None);
        }
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let number = |name| Ok::<_, StoreError>(pragma(name)?.unsigned_abs());
        let page_size = number("page_size")?;
        let live = number("page_count")?.saturating_sub(number("freelist_count")?);
        let trees = trees(connection, "jobs")?.max(trees(connection, "actions")?);

        let Rows { jobs, actions, others, bytes } = rows;
        let all = jobs + actions;
        // Large values lie on pages of their own. `freed` is the highest number of pages that become free, and `untouched` the
        // lowest number of them that nothing writes to.
        let freed = bytes / (page_size - page_size / 16) + 2 * all;
        let untouched = bytes.saturating_sub(all * page_size) / page_size;
        let listed = freed / (page_size / 8) + 1;
        let (overwritten, untouched) = if pragma("secure_delete")? == 1 { (freed, 0) } else { (listed, untouched) };
        let (moved, untouched) = match number("auto_vacuum")? {
            0 => (0, untouched),
            // Each page that becomes free is filled with the last one of the file.
            1 => (4 * freed, 0),
            // It is listed to whom a page belongs.
            _ => (freed.min(live / (page_size / 8) + 1), untouched),
        };
        let once = overwritten + moved;
        Ok(Some(Writes {
            counted: jobs.max(actions),
            pages: (all + others).saturating_mul(trees) + once,
            most: live.saturating_sub(untouched) + once,
            page: page_size + BESIDE_A_PAGE,
        }))
    }
}

/// The trees that a row of `table` stands in.
fn trees(connection: &Connection, table: &str) -> Result<u64, StoreError> {
    let indexes = "SELECT count(*) FROM main.sqlite_master WHERE type = 'index' AND tbl_name = ?1";
    let indexes: i64 = connection.query_row(indexes, [table], |row| row.get(0))?;
    Ok(1 + indexes.unsigned_abs())
}
