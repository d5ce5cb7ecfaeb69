//! Triggers of the host's, which run with a deletion: they may keep a part of what was decided, or delete more.
//!
//! Where there are such triggers, a [`Watch`] counts the rows that go from the host's own tables, whoever deletes them,
//! by triggers of its own: temporary ones, which end with the transaction. Without triggers of the host's, nothing is
//! counted: a deletion is then what its statements say.

use rusqlite::Connection;

use super::StoreError;

/// The host's own tables. The rows of all others are the host's affair.
const OWN: [&str; 5] = ["jobs", "actions", "services", "runs", "secrets"];

/// Whether a trigger runs when rows of `tables` are deleted or changed.
pub(super) fn any<'t>(
    connection: &Connection,
    tables: impl Iterator<Item = &'t str> + Clone,
) -> Result<bool, StoreError> {
    let mut triggers = connection.prepare(
        "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger'
         UNION ALL
         SELECT tbl_name FROM sqlite_temp_master WHERE type = 'trigger'",
    )?;
    let mut rows = triggers.query(())?;
    while let Some(row) = rows.next()? {
        let of: String = row.get(0)?;
        if tables.clone().any(|table| table.eq_ignore_ascii_case(&of)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Counts the rows that go from the host's own tables, until it ends or the transaction does.
pub(super) struct Watch {
    /// Those of the host's own tables that there are.
    tables: Vec<&'static str>,
}

impl Watch {
    pub(super) fn begin(connection: &Connection) -> Result<Self, StoreError> {
        let mut is_table = connection.prepare(
            "SELECT 1
             FROM sqlite_master
             WHERE type = 'table'
               AND name = :name COLLATE NOCASE
               AND sql NOT LIKE 'CREATE VIRTUAL TABLE %'",
        )?;
        connection.execute_batch("CREATE TEMP TABLE hero_proc_cleanup_gone (name TEXT PRIMARY KEY, rows INTEGER)")?;
        let mut tables = Vec::new();
        for table in OWN {
            if !is_table.exists(&[(":name", table)])? {
                continue;
            }
            connection.execute_batch(&format!(
                "INSERT INTO temp.hero_proc_cleanup_gone (name, rows) VALUES ('{table}', 0);
                 CREATE TEMP TRIGGER hero_proc_cleanup_gone_{table} AFTER DELETE ON main.{table} BEGIN
                     UPDATE hero_proc_cleanup_gone SET rows = rows + 1 WHERE name = '{table}';
                 END;"
            ))?;
            tables.push(table);
        }
        Ok(Self { tables })
    }

    /// An error if more rows went than were `deleted`, or if one of `jobs` or `actions` is there again.
    pub(super) fn end(
        self,
        connection: &Connection,
        deleted: impl Fn(&str) -> usize,
        jobs: &[i64],
        actions: &[i64],
    ) -> Result<(), StoreError> {
        for table in self.tables {
            let count = "SELECT rows FROM temp.hero_proc_cleanup_gone WHERE name = :name";
            let gone: i64 = connection.query_row(count, &[(":name", table)], |row| row.get(0))?;
            let beyond = gone.unsigned_abs().saturating_sub(deleted(table) as u64);
            if beyond > 0 {
                return Err(StoreError::diverged(format!("{beyond} more rows of {table} would have gone")));
            }
            connection.execute_batch(&format!("DROP TRIGGER temp.hero_proc_cleanup_gone_{table}"))?;
        }
        connection.execute_batch("DROP TABLE temp.hero_proc_cleanup_gone")?;
        for (table, ids, find) in [
            ("jobs", jobs, "SELECT 1 FROM main.jobs WHERE id = ?1"),
            ("actions", actions, "SELECT 1 FROM main.actions WHERE id = ?1"),
        ] {
            let mut find = connection.prepare(find)?;
            for id in ids {
                if find.exists([id])? {
                    return Err(StoreError::diverged(format!("a deleted row of {table} would have come back")));
                }
            }
        }
        Ok(())
    }
}
