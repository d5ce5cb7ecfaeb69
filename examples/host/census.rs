//! Every row of a store, so that two moments can be compared.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// The tables, and what names a row of each.
const TABLES: [(&str, &str); 5] = [
    ("job", "SELECT id, * FROM jobs"),
    ("action", "SELECT name, * FROM actions"),
    ("service", "SELECT name, * FROM services"),
    ("run", "SELECT id, * FROM runs"),
    ("secret", "SELECT name, * FROM secrets"),
];
/// The column that the tick writes: it says nothing of a cleanup.
const WRITTEN_BY_TICKS: &str = "stats_json";

/// A digest of each row, by table and name.
pub(crate) struct Census(BTreeMap<(&'static str, String), u64>);

/// What differs between two moments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Rows that are gone, such as `job 7`.
    pub(crate) gone: Vec<String>,
    /// Rows that were added or changed.
    pub(crate) other: Vec<String>,
}

impl Census {
    pub(crate) fn take(store: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut census = BTreeMap::new();
        for (table, all) in TABLES {
            let mut statement = connection.prepare(all)?;
            let columns: Vec<usize> = (0..)
                .zip(statement.column_names())
                .filter(|(_, name)| *name != WRITTEN_BY_TICKS)
                .map(|(index, _)| index)
                .collect();
            let mut rows = statement.query(())?;
            while let Some(row) = rows.next()? {
                let mut digest = DefaultHasher::new();
                for column in &columns {
                    format!("{:?}", row.get_ref(*column)?).hash(&mut digest);
                }
                let name: rusqlite::types::Value = row.get(0)?;
                let name = match name {
                    rusqlite::types::Value::Text(name) => name,
                    rusqlite::types::Value::Integer(id) => id.to_string(),
                    other => format!("{other:?}"),
                };
                census.insert((table, name), digest.finish());
            }
        }
        Ok(Self(census))
    }

    /// What has changed since this moment.
    pub(crate) fn until(&self, later: &Self) -> Difference {
        let name = |(table, name): &(&str, String)| format!("{table} {name}");
        let gone = self.0.keys().filter(|row| !later.0.contains_key(row)).map(name).collect();
        let other = later.0.iter().filter(|(row, digest)| self.0.get(row) != Some(digest)).map(|(row, _)| name(row));
        Difference { gone, other: other.collect() }
    }
}
