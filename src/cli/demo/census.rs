//! Every row of a store as a digest, so that two moments can be compared row by row.
//!
//! Independent of the library: it reads the tables itself, and knows nothing of tags.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

/// Every table of the demo's store, all its rows whole; of the schema, all but the place of a table in the file.
const TABLES: [(&str, &str); 7] = [
    ("jobs", "SELECT id, * FROM jobs"),
    ("actions", "SELECT id, * FROM actions"),
    ("services", "SELECT id, * FROM services"),
    ("runs", "SELECT id, * FROM runs"),
    ("secrets", "SELECT rowid, * FROM secrets"),
    ("sequences", "SELECT row_number() OVER (ORDER BY name), * FROM sqlite_sequence"),
    ("schema", "SELECT row_number() OVER (ORDER BY type, name), type, name, tbl_name, sql FROM sqlite_master"),
];

/// A store at one moment.
#[derive(Debug)]
pub(crate) struct Census {
    /// By table and row id. 64 bits are enough to see a change that nobody forges.
    rows: HashMap<(&'static str, i64), u64>,
    /// In bytes, free pages included.
    pub(crate) file: u64,
    /// Bytes in pages that hold nothing.
    pub(crate) free: u64,
}

/// What differs between two moments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Row ids of the jobs that are gone, ascending.
    pub(crate) jobs: Vec<i64>,
    /// Row ids of the actions that are gone, ascending.
    pub(crate) actions: Vec<i64>,
    /// Rows of other tables that are gone, and rows of any table that were changed or added.
    pub(crate) other: Vec<(&'static str, i64)>,
}

impl Census {
    pub(crate) fn take(store: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut rows = HashMap::new();
        for (table, all) in TABLES {
            let mut statement = connection.prepare(all)?;
            let columns = statement.column_count();
            let mut found = statement.query(())?;
            while let Some(row) = found.next()? {
                let mut digest = DefaultHasher::new();
                for column in 1..columns {
                    take_value(&mut digest, row.get_ref(column)?);
                }
                rows.insert((table, row.get(0)?), digest.finish());
            }
        }
        let pages = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let size = pages("page_size")?.unsigned_abs();
        Ok(Self {
            rows,
            file: pages("page_count")?.unsigned_abs() * size,
            free: pages("freelist_count")?.unsigned_abs() * size,
        })
    }

    /// How many rows `table` has, of those that `which` names.
    pub(crate) fn count(&self, table: &str, which: impl Fn(i64) -> bool) -> u64 {
        self.rows.keys().filter(|(of, id)| *of == table && which(*id)).count() as u64
    }

    /// What has changed since this moment.
    pub(crate) fn until(&self, later: &Self) -> Difference {
        let mut difference = Difference::default();
        for (row @ (table, id), digest) in &self.rows {
            match (later.rows.get(row), *table) {
                (Some(same), _) if same == digest => {}
                (None, "jobs") => difference.jobs.push(*id),
                (None, "actions") => difference.actions.push(*id),
                _ => difference.other.push(*row),
            }
        }
        difference.other.extend(later.rows.keys().filter(|row| !self.rows.contains_key(*row)));
        difference.jobs.sort_unstable();
        difference.actions.sort_unstable();
        difference.other.sort_unstable();
        difference
    }
}

/// The value with its type and its end, so that no two rows are told alike that differ.
fn take_value(digest: &mut DefaultHasher, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => 0_u8.hash(digest),
        ValueRef::Integer(number) => (1_u8, number).hash(digest),
        ValueRef::Real(number) => (2_u8, number.to_bits()).hash(digest),
        ValueRef::Text(text) => (3_u8, text).hash(digest),
        ValueRef::Blob(bytes) => (4_u8, bytes).hash(digest),
    }
}
