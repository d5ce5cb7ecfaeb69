//! Which rows a `SET NULL` can't set to NULL: the store would refuse the whole deletion for one of them.

use rusqlite::Connection;

use super::quoted;
use super::walk::Key;
use crate::store::definition::{expressions, names};
use crate::store::{StoreError, is_about_the_statement};

/// The rows of a key's table whose column can be set to NULL.
pub(super) enum Clearing {
    Every,
    /// All but those of which this statement selects the column.
    AllBut(String),
    None,
}

/// Reads what the schema of `key`'s table says. `keys` are all keys of the store.
///
/// A column that is NOT NULL, generated, or the row's id can't be NULL. A CHECK that names the column is tried on each
/// row as the row would be then. No row is cleared if the CHECK also names another column that may be set to NULL, or
/// if a generated column or a unique index is computed from this one: nothing tells what the row would be.
pub(super) fn clearing(connection: &Connection, key: &Key, keys: &[Key]) -> Result<Clearing, StoreError> {
    let sql: String = connection.query_row(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name",
        &[(":name", &key.child)],
        |row| row.get(0),
    )?;
    let names_it = |sql: &&str| names(sql, &key.column);
    if !key.nullable || expressions(&sql, "AS").iter().any(names_it) || is_in_an_index(connection, key)? {
        return Ok(Clearing::None);
    }
    let checks: Vec<&str> = expressions(&sql, "CHECK").into_iter().filter(|check| names(check, &key.column)).collect();
    if checks.is_empty() {
        return Ok(Clearing::Every);
    }
    let cleared_as_well =
        |other: &&Key| other.child == key.child && other.column != key.column && other.on_delete == "SET NULL";
    let others =
        keys.iter().filter(cleared_as_well).any(|other| checks.iter().any(|check| names(check, &other.column)));
    let refused = refused(connection, key, &checks)?;
    let tells = match connection.prepare(&refused) {
        Ok(_) => !others,
        // A CHECK can name what a subquery has not, such as the row's id.
        Err(error) if is_about_the_statement(&error) => false,
        Err(error) => return Err(error.into()),
    };
    Ok(if tells { Clearing::AllBut(refused) } else { Clearing::None })
}

/// Whether a unique index has rows, or a value, by what stands in the column: without it, two rows may be alike there.
fn is_in_an_index(connection: &Connection, key: &Key) -> Result<bool, StoreError> {
    let mut indexes = connection.prepare(
        "SELECT made.sql
         FROM pragma_index_list(:name) AS one,
              sqlite_master AS made
         WHERE one.\"unique\"
           AND (one.partial OR EXISTS (SELECT 1 FROM pragma_index_info(one.name) AS part WHERE part.cid = -2))
           AND made.type = 'index'
           AND made.name = one.name
           AND made.sql IS NOT NULL",
    )?;
    let indexes = indexes.query_map(&[(":name", &key.child)], |row| row.get::<_, String>(0))?;
    for index in indexes {
        if names(&index?, &key.column) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The statement that selects the column of those rows that would not meet all `checks` with a NULL in it.
fn refused(connection: &Connection, key: &Key, checks: &[&str]) -> Result<String, StoreError> {
    let mut columns = connection.prepare("SELECT name FROM pragma_table_xinfo(:name) WHERE hidden <> 1")?;
    let columns = columns.query_map(&[(":name", &key.child)], |row| row.get::<_, String>(0))?;
    let cleared: Vec<String> = columns
        .map(|column| {
            let column = column?;
            Ok(if column == key.column { format!("NULL AS {}", quoted(&column)) } else { quoted(&column) })
        })
        .collect::<Result<_, StoreError>>()?;
    let (table, column, cleared) = (quoted(&key.child), quoted(&key.column), cleared.join(", "));
    let failed = checks.iter().map(|check| format!("NOT {check}")).collect::<Vec<_>>().join(" OR ");
    let cleared = format!("SELECT {column} AS hero_proc_cleanup_key, {cleared} FROM main.{table}");
    Ok(format!("SELECT hero_proc_cleanup_key FROM ({cleared}) AS {table} WHERE {failed}"))
}
