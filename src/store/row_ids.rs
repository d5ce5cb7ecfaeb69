//! Row ids that others may rely on: a `VACUUM` keeps only those that an INTEGER PRIMARY KEY names.

use super::snapshot::Snapshot;
use super::{StoreError, definition};

impl Snapshot<'_> {
    /// Whether somebody may rely on row ids that a `VACUUM` may change: those of a table with row ids and without an
    /// INTEGER PRIMARY KEY, whose name stands in a virtual table (as its `content`), in a trigger, or in a view that one of
    /// these may read.
    pub(crate) fn row_ids_are_used(&self) -> Result<bool, StoreError> {
        let mut tables = self.connection().prepare(sql::WITHOUT_ROW_ID_ALIAS)?;
        let tables: Vec<String> = tables.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
        if tables.is_empty() {
            return Ok(false);
        }
        let mut users = self.connection().prepare(sql::USERS_OF_ROW_IDS)?;
        let users: Vec<String> = users.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(users.iter().any(|user| tables.iter().any(|table| definition::names(user, table))))
    }
}

mod sql {
    /// Tables with row ids that no column is an alias of. The key of a table WITHOUT ROWID is an index that the schema does
    /// not list.
    pub(super) const WITHOUT_ROW_ID_ALIAS: &str = "
        SELECT tables.name
        FROM main.sqlite_master AS tables
        WHERE tables.type = 'table'
          AND tables.rootpage > 0
          AND tables.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
          AND NOT EXISTS (SELECT 1
                          FROM pragma_index_list(tables.name, 'main') AS keys
                          WHERE keys.origin = 'pk'
                            AND keys.name NOT IN (SELECT name FROM main.sqlite_master WHERE type = 'index'))
          AND NOT (1 = (SELECT count(*)
                        FROM pragma_table_xinfo(tables.name, 'main') AS columns
                        WHERE columns.pk > 0)
                   AND EXISTS (SELECT 1
                               FROM pragma_table_xinfo(tables.name, 'main') AS columns
                               WHERE columns.pk > 0
                                 AND columns.type = 'integer' COLLATE NOCASE)
                   AND NOT EXISTS (SELECT 1
                                   FROM pragma_index_list(tables.name, 'main') AS keys
                                   WHERE keys.origin = 'pk'))";

    /// Virtual tables and triggers, and, where there are any, the views that they may read.
    pub(super) const USERS_OF_ROW_IDS: &str = "
        SELECT users.sql
        FROM main.sqlite_master AS users
        WHERE users.sql IS NOT NULL
          AND (users.type IN ('trigger', 'view') OR users.type = 'table' AND users.rootpage = 0)
          AND EXISTS (SELECT 1
                      FROM main.sqlite_master AS readers
                      WHERE readers.type = 'trigger' OR readers.type = 'table' AND readers.rootpage = 0)";
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// Which tables have row ids that a `VACUUM` may change.
    #[test]
    fn tables_whose_row_ids_may_change() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE alias (id INTEGER PRIMARY KEY);
                 CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT);
                 CREATE TABLE none (a);
                 CREATE TABLE two (a, b, PRIMARY KEY (a, b));
                 CREATE TABLE two_integers (a INTEGER, b INTEGER, PRIMARY KEY (a, b));
                 CREATE TABLE text (id TEXT PRIMARY KEY);
                 CREATE TABLE descending (id INTEGER PRIMARY KEY DESC);
                 CREATE TABLE without (id INTEGER PRIMARY KEY) WITHOUT ROWID;
                 CREATE TABLE without_two (a, b, PRIMARY KEY (a, b)) WITHOUT ROWID;
                 CREATE TABLE sqliteish (a);
                 CREATE INDEX none_a ON none (a);
                 CREATE VIEW view AS SELECT * FROM none;",
            )
            .unwrap();
        let mut tables = connection.prepare(sql::WITHOUT_ROW_ID_ALIAS).unwrap();
        let tables: Vec<String> = tables.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(tables, ["none", "two", "two_integers", "text", "descending", "sqliteish"]);
    }
}
