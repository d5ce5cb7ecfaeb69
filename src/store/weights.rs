//! The weight of a row: how many bytes its text and blobs have, column by column, whatever the columns are called.
//!
//! The statements are those of a decision ([`rows`]) with one more result for each column of the table. From SQLite 3.43 on
//! a weight is read from the row's header alone, so that a large value costs no more than a small one; older versions read
//! the value itself.

use rusqlite::Row;

use super::StoreError;
use super::foreign_keys::quoted;
use super::rows::{self, ActionRow, JobRow};
use super::scan::{Table, scan};
use super::snapshot::Snapshot;

/// The first SQLite that has `octet_length`.
const OCTET_LENGTH: i32 = 3_043_000;

/// The columns that say when an action was set, in the layouts that have them.
const SET_AT: [&str; 4] = ["updated_at_ms", "updated_at", "created_at_ms", "created_at"];

/// The weights of one row, in the order of the columns. Numbers and NULL weigh nothing.
pub(crate) struct Weights<'r> {
    row: &'r Row<'r>,
    /// The index of the first weight among the row's results.
    first: usize,
    count: usize,
}

impl Weights<'_> {
    /// The bytes in each column.
    pub(crate) fn each(&self) -> impl Iterator<Item = u64> {
        let weight = |index| self.row.get_ref(index).ok().and_then(|bytes| bytes.as_i64().ok());
        (self.first..self.first + self.count).map(move |index| weight(index).map_or(0, i64::unsigned_abs))
    }

    /// The bytes in the whole row.
    pub(crate) fn sum(&self) -> u64 {
        self.each().sum()
    }
}

impl Snapshot<'_> {
    /// The columns of `jobs` that have a weight.
    pub(crate) fn job_columns(&self) -> Result<Vec<String>, StoreError> {
        self.columns("jobs")
    }

    /// Calls `gather` with each job and the weights of `columns`, and `take` with each batch, as [`jobs`](Self::jobs) does.
    pub(crate) fn weighed_jobs<B: Default + Send>(
        &self,
        columns: &[String],
        gather: impl Fn(&mut B, JobRow<'_>, Weights<'_>) -> Result<(), StoreError> + Sync,
        take: impl FnMut(B) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (table, first) = self
            .with(rows::sql::jobs(self.layout()), &columns.iter().map(|column| weight(column)).collect::<Vec<_>>())?;
        let count = columns.len();
        scan(self, &table, |batch, row| gather(batch, JobRow::read(row), Weights { row, first, count }), take)
    }

    /// Calls `gather` with each action, when it was set (in milliseconds since the Unix epoch) and its weights, and `take`
    /// with each batch.
    pub(crate) fn weighed_actions<B: Default + Send>(
        &self,
        gather: impl Fn(&mut B, ActionRow<'_>, Option<i64>, Weights<'_>) -> Result<(), StoreError> + Sync,
        take: impl FnMut(B) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let columns = self.columns("actions")?;
        let count = columns.len();
        let times = SET_AT.iter().filter(|time| columns.iter().any(|column| column.eq_ignore_ascii_case(time)));
        let results: Vec<String> =
            columns.iter().map(|column| weight(column)).chain(times.map(|time| (*time).to_owned())).collect();
        let (table, first) = self.with(rows::sql::actions(self.layout()), &results)?;
        let set_at = |row: &Row<'_>| {
            let times =
                (first + count..first + results.len()).filter_map(|index| row.get_ref(index).ok()?.as_i64().ok());
            times.max()
        };
        scan(
            self,
            &table,
            |batch, row| gather(batch, ActionRow::read(row), set_at(row), Weights { row, first, count }),
            take,
        )
    }

    /// Calls `each` with those of the jobs `ids` that there are, in the order of `ids`.
    pub(crate) fn find_jobs(
        &self,
        ids: impl IntoIterator<Item = i64>,
        mut each: impl FnMut(JobRow<'_>),
    ) -> Result<(), StoreError> {
        let mut statement = self.connection().prepare(&rows::sql::jobs(self.layout()).rows)?;
        for id in ids {
            self.go_on()?;
            // The statement reads on from the id: no more than its first row is asked for.
            let mut rows = statement.query([id])?;
            if let Some(row) = rows.next()?
                && row.get::<_, i64>(0)? == id
            {
                each(JobRow::read(row));
            }
        }
        Ok(())
    }

    /// The columns whose values stand in the rows of `table`: those that are computed when they are read do not.
    fn columns(&self, table: &str) -> Result<Vec<String>, StoreError> {
        const VIRTUAL: i64 = 2;
        let columns = "SELECT name FROM pragma_table_xinfo(:table) WHERE hidden <> :virtual ORDER BY cid";
        let mut statement = self.connection().prepare(columns)?;
        let names =
            statement.query_map(rusqlite::named_params! { ":table": table, ":virtual": VIRTUAL }, |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// `table` with further `results` behind its own, and the index of the first of them.
    fn with(&self, mut table: Table, results: &[String]) -> Result<(Table, usize), StoreError> {
        let first = self.connection().prepare(&table.rows)?.column_count();
        let results: String = results.iter().map(|result| format!(",\n{result}")).collect();
        // What stands before it are names of the layout, which are a fixed set.
        table.rows = table.rows.replacen(" FROM main.", &format!("{results}\n FROM main."), 1);
        Ok((table, first))
    }
}

fn weight(column: &str) -> String {
    weight_in(rusqlite::version_number(), column)
}

/// The weight of `column` in the SQL of a SQLite: the bytes of text and blobs. Numbers have a length as well, that of their
/// text, but no bytes of their own.
fn weight_in(sqlite: i32, column: &str) -> String {
    let column = quoted(column);
    let bytes = if sqlite >= OCTET_LENGTH {
        format!("octet_length({column})")
    } else {
        format!("length(CAST({column} AS BLOB))")
    };
    format!("CASE typeof({column}) WHEN 'text' THEN {bytes} WHEN 'blob' THEN {bytes} END")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::host::Cancel;

    /// Every value has the same weight in every SQLite: that of the bytes that stand in the file.
    #[test]
    fn a_weight_is_the_number_of_bytes() {
        for encoding in ["UTF-8", "UTF-16le"] {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(&format!("PRAGMA encoding = '{encoding}'; CREATE TABLE t (\"a\"\"b\")")).unwrap();
            let wide = if encoding == "UTF-8" { 1 } else { 2 };
            for (value, bytes) in [
                ("NULL", None),
                ("12345", None),
                ("1.5", None),
                ("9e999", None),
                ("''", Some(0)),
                ("'12345'", Some(5 * wide)),
                ("'a' || char(0) || 'b'", Some(3 * wide)),
                ("x''", Some(0)),
                ("x'00ff'", Some(2)),
                ("zeroblob(70000)", Some(70_000)),
                ("printf('%.70000c', 'x')", Some(70_000 * wide)),
            ] {
                connection.execute_batch(&format!("DELETE FROM t; INSERT INTO t VALUES ({value})")).unwrap();
                let weigh = |sqlite| {
                    let weight = format!("SELECT {} FROM t", weight_in(sqlite, "a\"b"));
                    connection.query_row(&weight, (), |row| row.get::<_, Option<i64>>(0)).unwrap()
                };
                assert_eq!(weigh(OCTET_LENGTH - 1), bytes, "{encoding} {value}");
                if rusqlite::version_number() >= OCTET_LENGTH {
                    assert_eq!(weigh(OCTET_LENGTH), bytes, "{encoding} {value}");
                }
            }
        }
    }

    /// The statements stay one pass from an id on, whatever the columns of the host are called.
    #[test]
    fn weighing_is_one_pass() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../schema/hero_proc.sql")).unwrap();
        connection.execute_batch("ALTER TABLE jobs ADD COLUMN \"x\"\" FROM main.y\" TEXT").unwrap();
        let snapshot = Snapshot::begin(&mut connection, Cancel::default()).unwrap();
        for (table, base) in
            [("jobs", rows::sql::jobs(snapshot.layout())), ("actions", rows::sql::actions(snapshot.layout()))]
        {
            let columns = snapshot.columns(table).unwrap();
            let weights: Vec<String> = columns.iter().map(|column| weight(column)).collect();
            let (weighed, first) = snapshot.with(base, &weights).unwrap();
            let explain = format!("EXPLAIN QUERY PLAN {}", weighed.rows);
            let mut explain = snapshot.connection().prepare(&explain).unwrap();
            let steps = explain.query_map([0], |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<String> = steps.map(|step| step.unwrap().replace("main.", "")).collect();
            assert_eq!(steps, [format!("SEARCH {table} USING INTEGER PRIMARY KEY (rowid>?)")]);
            let results = snapshot.connection().prepare(&weighed.rows).unwrap().column_count();
            assert_eq!(results, first + columns.len());
        }
    }
}
