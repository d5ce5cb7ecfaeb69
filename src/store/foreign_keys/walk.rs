//! The keys of the schema, followed from `jobs`: what each declares becomes a statement.

use rusqlite::{Connection, Params};

use super::null::{Clearing, clearing};
use super::{DOOMED, Effect, ForeignKeys, Parents, quoted};
use crate::store::StoreError;

/// Reads the keys from the schema; what can't be carried out is a problem.
pub(in crate::store) fn detect(connection: &Connection, problems: &mut Vec<String>) -> Result<ForeignKeys, StoreError> {
    let keys = keys(connection)?;
    for key in &keys {
        if key.parent.eq_ignore_ascii_case("actions") {
            problems.push(format!("table {} has a foreign key on actions", key.child));
        }
    }
    let mut walk = Walk { connection, keys: &keys, found: ForeignKeys::default(), effects: Vec::new(), ways: 0 };
    match walk.from("jobs", &mut Vec::new(), problems) {
        Err(StoreError::Unfit { problems: too_far }) => problems.extend(too_far),
        done => done?,
    }
    let Walk { mut found, mut effects, .. } = walk;
    effects.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
    found.effects = effects.into_iter().map(|(_, effect)| effect).collect();
    Ok(found)
}

/// A foreign key of one column, or the first column of one of several.
pub(super) struct Key {
    pub(super) child: String,
    pub(super) column: String,
    /// The column is neither NOT NULL, nor generated, nor the row's id.
    pub(super) nullable: bool,
    parent: String,
    /// None: the parent's primary key.
    parent_column: Option<String>,
    pub(super) on_delete: String,
    columns: i64,
}

fn keys(connection: &Connection) -> Result<Vec<Key>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT child.name    AS child,
                key.\"from\"    AS \"column\",
                info.\"notnull\" = 0
                    AND info.hidden = 0
                    AND (info.pk = 0 OR EXISTS (SELECT 1
                                                FROM pragma_index_list(child.name) AS one
                                                WHERE one.origin = 'pk')) AS nullable,
                key.\"table\"   AS parent,
                key.\"to\"      AS parent_column,
                key.on_delete AS on_delete,
                (SELECT count(*)
                 FROM pragma_foreign_key_list(child.name) AS part
                 WHERE part.id = key.id) AS columns
         FROM sqlite_master AS child,
              pragma_foreign_key_list(child.name) AS key,
              pragma_table_xinfo(child.name) AS info
         WHERE child.type = 'table'
           AND key.seq = 0
           AND info.name = key.\"from\"
         ORDER BY child.name, key.id",
    )?;
    let keys = statement.query_map((), |row| {
        Ok(Key {
            child: row.get("child")?,
            column: row.get("column")?,
            nullable: row.get("nullable")?,
            parent: row.get("parent")?,
            parent_column: row.get("parent_column")?,
            on_delete: row.get("on_delete")?,
            columns: row.get("columns")?,
        })
    })?;
    Ok(keys.collect::<Result<_, _>>()?)
}

/// The way from `jobs` down the keys.
struct Walk<'w> {
    connection: &'w Connection,
    keys: &'w [Key],
    found: ForeignKeys,
    /// Effects with their distance from `jobs`.
    effects: Vec<(usize, Effect)>,
    /// The ways that have been gone.
    ways: usize,
}

/// The most ways: two keys of each table on the one before double them with each table, and each way costs a scan.
const MOST_WAYS: usize = 64;

/// The longest way: SQLite before 3.46 does not parse subqueries within more than about ten others.
const LONGEST_WAY: usize = 8;

/// One step of a way: the rows of `table` whose `column` is in `parent_column` of the step before.
struct Step {
    table: String,
    column: String,
    parent_column: String,
}

impl Walk<'_> {
    /// Follows every key on `parent`, to which `way` leads.
    fn from(&mut self, parent: &str, way: &mut Vec<Step>, problems: &mut Vec<String>) -> Result<(), StoreError> {
        let keys = self.keys;
        for key in keys.iter().filter(|key| key.parent.eq_ignore_ascii_case(parent)) {
            self.ways += 1;
            if self.ways > MOST_WAYS {
                return Err(StoreError::unfit(format!("foreign keys lead from jobs more than {MOST_WAYS} ways")));
            }
            if way.len() == LONGEST_WAY {
                return Err(StoreError::unfit(format!(
                    "foreign keys lead from jobs more than {LONGEST_WAY} tables deep"
                )));
            }
            let name = format!("the foreign key {}.{} on {}", key.child, key.column, key.parent);
            let Some(parent_column) = self.parent_column(key)? else {
                problems.push(format!("{name} has no single column to refer to"));
                continue;
            };
            if key.columns != 1 {
                problems.push(format!("{name} has several columns"));
                continue;
            }
            if way.is_empty() && !parent_column.eq_ignore_ascii_case("id") {
                problems.push(format!("{name} is not on its id"));
                continue;
            }
            self.found.descriptions.push(format!(
                "{}.{} on {}.{parent_column} ON DELETE {}",
                key.child, key.column, key.parent, key.on_delete
            ));
            self.reference(key, way, &parent_column);
            way.push(Step { table: key.child.clone(), column: key.column.clone(), parent_column });
            match key.on_delete.as_str() {
                "CASCADE" => {
                    let own = ["jobs", "actions", "services"].iter().any(|own| key.child.eq_ignore_ascii_case(own));
                    let circle = way[..way.len() - 1].iter().any(|step| step.table.eq_ignore_ascii_case(&key.child));
                    if own {
                        problems.push(format!("{name} would delete rows of {}", key.child));
                    } else if circle {
                        problems.push(format!("{name} goes round in a circle"));
                    } else {
                        self.effect(true, format!("DELETE FROM main.{}", quoted(&key.child)), way);
                        self.from(&key.child, way, problems)?;
                    }
                }
                "SET NULL" => match clearing(self.connection, key, keys)? {
                    Clearing::None => self.holding(way, None),
                    Clearing::Every | Clearing::AllBut(_) if self.is_referred_to(key)? => {
                        problems.push(format!("{name} sets a column to NULL to which another foreign key refers"));
                    }
                    clearing => {
                        let column = quoted(&key.column);
                        self.effect(false, format!("UPDATE main.{} SET {column} = NULL", quoted(&key.child)), way);
                        if let Clearing::AllBut(rows) = clearing {
                            self.holding(way, Some(&rows));
                        }
                    }
                },
                _ => self.holding(way, None),
            }
            way.pop();
        }
        Ok(())
    }

    /// Notes how to find the rows which refer by `key` to what has gone at the end of `way`.
    fn reference(&mut self, key: &Key, way: &[Step], parent_column: &str) {
        let mut to = DOOMED.to_owned();
        if let Some(parent) = way.last() {
            to = format!("{DOOMED}_{}", self.found.parents.len());
            let column = quoted(parent_column);
            let rows = format!("SELECT {column} AS id FROM main.{} WHERE {}", quoted(&parent.table), doomed(way));
            self.found.parents.push(Parents { name: to.clone(), rows });
        }
        let rows = format!("{} IN (SELECT id FROM temp.{to})", quoted(&key.column));
        let statement = format!("SELECT 1 FROM main.{} WHERE {rows}", quoted(&key.child));
        self.found.references.push((key.child.clone(), statement));
    }

    fn effect(&mut self, deletes: bool, statement: String, way: &[Step]) {
        let Some(last) = way.last() else { return };
        let mut rows = doomed(way);
        if last.table.eq_ignore_ascii_case("jobs") {
            // A job that goes has no column to be set to NULL.
            rows = format!("({rows} AND id NOT IN (SELECT id FROM temp.{DOOMED}))");
        }
        let position = position(way);
        self.effects.push((way.len(), Effect { table: last.table.clone(), deletes, statement, rows, position }));
    }

    /// The last table of `way` holds what leads to its rows, or to those of which `rows` selects the column. A job holds
    /// another only for as long as it stays itself, so both are told.
    fn holding(&mut self, way: &[Step], rows: Option<&str>) {
        let Some(last) = way.last() else { return };
        if last.table.eq_ignore_ascii_case("jobs") && rows.is_none() {
            self.found.holding_jobs.push(held_by_jobs(way));
        } else {
            self.found.holding.push((last.table.clone(), held(way, rows)));
        }
    }

    /// Whether another key refers to the column of `key`.
    fn is_referred_to(&self, key: &Key) -> Result<bool, StoreError> {
        for other in self.keys.iter().filter(|other| other.parent.eq_ignore_ascii_case(&key.child)) {
            if self.parent_column(other)?.is_some_and(|column| column.eq_ignore_ascii_case(&key.column)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The column that `key` refers to: the one it names, else its parent's primary key if that is a single column.
    fn parent_column(&self, key: &Key) -> Result<Option<String>, StoreError> {
        if let Some(column) = &key.parent_column {
            return Ok(Some(column.clone()));
        }
        let mut statement = self.connection.prepare("SELECT name FROM pragma_table_info(:name) WHERE pk > 0")?;
        let columns = column_of(&mut statement, &[(":name", &key.parent)])?;
        Ok(<[String; 1]>::try_from(columns).ok().map(|[column]| column))
    }
}

/// The condition under which a row at the end of `way` goes with the doomed jobs.
fn doomed(way: &[Step]) -> String {
    let jobs = format!("SELECT id FROM temp.{DOOMED}");
    let (first, rest) = match way {
        [] => return String::new(),
        [first, rest @ ..] => (first, rest),
    };
    let mut rows = format!("{} IN ({jobs})", quoted(&first.column));
    let mut table = &first.table;
    for step in rest {
        rows = format!(
            "{} IN (SELECT {} FROM main.{} WHERE {rows})",
            quoted(&step.column),
            quoted(&step.parent_column),
            quoted(table)
        );
        table = &step.table;
    }
    rows
}

/// The jobs at the beginning of `way` that have a row at its end, or one of which `rows` selects the column.
fn held(way: &[Step], mut rows: Option<&str>) -> String {
    let mut condition = String::new();
    for step in way.iter().rev() {
        let all = format!("SELECT {} FROM main.{}{condition}", quoted(&step.column), quoted(&step.table));
        condition = format!(" WHERE {} IN ({})", quoted(&step.parent_column), rows.take().unwrap_or(&all));
    }
    format!("SELECT id FROM main.jobs{condition}")
}

/// The jobs at the beginning of `way`, each with the job at its end that holds it.
fn held_by_jobs(way: &[Step]) -> String {
    let (tables, conditions) = joined(way, "holder", "held");
    format!("SELECT held.id, holder.id FROM main.jobs AS holder, main.jobs AS held{tables} WHERE {conditions}")
}

/// The place among the doomed jobs of the one with which a row at the end of `way`, called `child`, goes: an expression that
/// is NULL for a row that stays.
fn position(way: &[Step]) -> String {
    let (tables, conditions) = joined(way, "child", "doomed");
    format!("(SELECT doomed.place FROM temp.{DOOMED} AS doomed{tables} WHERE {conditions})")
}

/// The tables of `way` between its last one, here called `last`, and `jobs` or what stands for it, here called `first`: as a
/// list behind another table, and what joins them.
fn joined(way: &[Step], last: &str, first: &str) -> (String, String) {
    let name = |place: usize| match place {
        0 => first.to_owned(),
        place if place == way.len() => last.to_owned(),
        place => format!("way{place}"),
    };
    let tables = (1..way.len()).map(|place| format!(", main.{} AS {}", quoted(&way[place - 1].table), name(place)));
    let joins = way.iter().enumerate().map(|(place, step)| {
        let (column, parent_column) = (quoted(&step.column), quoted(&step.parent_column));
        format!("{}.{column} = {}.{parent_column}", name(place + 1), name(place))
    });
    (tables.collect(), joins.collect::<Vec<_>>().join(" AND "))
}

fn column_of(statement: &mut rusqlite::Statement<'_>, params: impl Params) -> Result<Vec<String>, StoreError> {
    Ok(statement.query_map(params, |row| row.get(0))?.collect::<Result<_, _>>()?)
}
