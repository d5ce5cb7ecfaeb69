//! Foreign keys of other tables on `jobs(id)`: what they declare is what holds.
//!
//! SQLite's own enforcement is off on the connection (it is a setting of each connection, so the host's says nothing),
//! and the declarations are carried out here, a set at a time: enforcement would scan a child table without an index
//! once for every job deleted, and would count nothing.
//!
//! | `ON DELETE` | what happens |
//! |---|---|
//! | `CASCADE` | the rows go, and with them, by the same rules, what refers to them |
//! | `SET NULL` | the column is set to NULL |
//! | `RESTRICT`, `NO ACTION`, `SET DEFAULT`, `SET NULL` on a column that is `NOT NULL` or generated | the job stays |
//!
//! A chain of `CASCADE` that ends in a key that holds keeps the job at its other end. A store whose keys can't be
//! carried out like this does not fit: keys of several columns, keys on another column of `jobs`, a circle, a cascade
//! into one of the host's own tables, a key on `actions`.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, Params};

use super::StoreError;

/// The foreign keys that a deletion of jobs meets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ForeignKeys {
    /// Statements that find the jobs that must stay, with the table that holds them.
    holding: Vec<(String, String)>,
    /// What is carried out, in this order: what is furthest from `jobs` first.
    effects: Vec<Effect>,
    /// Each key in words, for people.
    pub(crate) descriptions: Vec<String>,
}

/// What happens to the rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Effect {
    table: String,
    /// `DELETE FROM …` or `UPDATE … SET … = NULL`.
    statement: String,
    /// Which rows, in terms of the temporary table of doomed jobs.
    rows: String,
}

impl Effect {
    fn carry_out(&self) -> String {
        format!("{} WHERE {}", self.statement, self.rows)
    }
}

/// The ids of the doomed jobs, in a temporary table that exists only in stores with such keys and for one call.
const DOOMED: &str = "hero_proc_cleanup_doomed";

impl ForeignKeys {
    /// Whether deleting jobs takes nothing along, and nothing holds on to them.
    pub(crate) fn none(&self) -> bool {
        self.holding.is_empty() && self.effects.is_empty()
    }

    /// The jobs that must stay, with the table that holds on to them.
    pub(super) fn held(&self, connection: &Connection) -> Result<HashMap<i64, &str>, StoreError> {
        let mut held = HashMap::new();
        for (table, statement) in &self.holding {
            let mut statement = connection.prepare(statement)?;
            let mut rows = statement.query(())?;
            while let Some(row) = rows.next()? {
                held.entry(row.get(0)?).or_insert(table.as_str());
            }
        }
        Ok(held)
    }

    /// Counts the rows that deleting `jobs` would take along or set to NULL, by table: each row once, however many keys
    /// lead to it.
    pub(super) fn count(&self, connection: &Connection, jobs: &[i64]) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut counts = BTreeMap::new();
        self.with_doomed(connection, jobs, || {
            for (table, statement) in self.counts() {
                let rows: i64 = connection.query_row(&statement, (), |row| row.get(0))?;
                if rows > 0 {
                    counts.insert(table.to_owned(), rows.unsigned_abs());
                }
            }
            Ok(())
        })?;
        Ok(counts)
    }

    /// Deletes those rows or sets them to NULL.
    pub(super) fn carry_out(&self, connection: &Connection, jobs: &[i64]) -> Result<(), StoreError> {
        self.with_doomed(connection, jobs, || {
            for effect in &self.effects {
                connection.execute(&effect.carry_out(), ())?;
            }
            Ok(())
        })
    }

    /// The statements that count, by table.
    fn counts(&self) -> BTreeMap<&str, String> {
        let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for effect in &self.effects {
            rows.entry(&effect.table).or_default().push(&effect.rows);
        }
        let count = |(table, rows): (_, Vec<&str>)| {
            (table, format!("SELECT count(*) FROM main.{} WHERE {}", quoted(table), rows.join(" OR ")))
        };
        rows.into_iter().map(count).collect()
    }

    fn with_doomed(
        &self,
        connection: &Connection,
        jobs: &[i64],
        work: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.effects.is_empty() || jobs.is_empty() {
            return Ok(());
        }
        connection.execute_batch(&format!("CREATE TEMP TABLE {DOOMED} (id INTEGER PRIMARY KEY)"))?;
        let mut insert = connection.prepare(&format!("INSERT INTO temp.{DOOMED} (id) VALUES (?1)"))?;
        for job in jobs {
            insert.execute([job])?;
        }
        drop(insert);
        work()?;
        Ok(connection.execute_batch(&format!("DROP TABLE temp.{DOOMED}"))?)
    }
}

/// Reads the keys from the schema; what can't be carried out is a problem.
pub(super) fn detect(connection: &Connection, problems: &mut Vec<String>) -> Result<ForeignKeys, StoreError> {
    let keys = keys(connection)?;
    for key in &keys {
        if key.parent.eq_ignore_ascii_case("actions") {
            problems.push(format!("table {} has a foreign key on actions", key.child));
        }
    }
    let mut walk = Walk { connection, keys: &keys, found: ForeignKeys::default(), effects: Vec::new() };
    walk.from("jobs", &mut Vec::new(), problems)?;
    let Walk { mut found, mut effects, .. } = walk;
    effects.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
    found.effects = effects.into_iter().map(|(_, effect)| effect).collect();
    Ok(found)
}

/// A foreign key of one column, or the first column of one of several.
struct Key {
    child: String,
    column: String,
    /// It can be set to NULL: it is neither NOT NULL nor generated.
    clearable: bool,
    parent: String,
    /// None: the parent's primary key.
    parent_column: Option<String>,
    on_delete: String,
    columns: i64,
}

fn keys(connection: &Connection) -> Result<Vec<Key>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT child.name    AS child,
                key.\"from\"    AS \"column\",
                info.\"notnull\" = 0 AND info.hidden = 0 AS clearable,
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
            clearable: row.get("clearable")?,
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
}

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
                        self.effect(format!("DELETE FROM main.{}", quoted(&key.child)), way);
                        self.from(&key.child, way, problems)?;
                    }
                }
                "SET NULL" if self.is_referred_to(key)? => {
                    problems.push(format!("{name} sets a column to NULL to which another foreign key refers"));
                }
                "SET NULL" if key.clearable => {
                    let column = quoted(&key.column);
                    self.effect(format!("UPDATE main.{} SET {column} = NULL", quoted(&key.child)), way);
                }
                _ => self.found.holding.push((key.child.clone(), held(way))),
            }
            way.pop();
        }
        Ok(())
    }

    fn effect(&mut self, statement: String, way: &[Step]) {
        let Some(last) = way.last() else { return };
        let mut rows = doomed(way);
        if last.table.eq_ignore_ascii_case("jobs") {
            // A job that goes has no column to be set to NULL.
            rows = format!("({rows} AND id NOT IN (SELECT id FROM temp.{DOOMED}))");
        }
        self.effects.push((way.len(), Effect { table: last.table.clone(), statement, rows }));
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

/// The jobs at the beginning of `way` that have a row at its end.
fn held(way: &[Step]) -> String {
    let mut condition = String::new();
    for step in way.iter().rev() {
        let rows = format!("SELECT {} FROM main.{}{condition}", quoted(&step.column), quoted(&step.table));
        condition = format!(" WHERE {} IN ({rows})", quoted(&step.parent_column));
    }
    format!("SELECT id FROM main.jobs{condition}")
}

fn column_of(statement: &mut rusqlite::Statement<'_>, params: impl Params) -> Result<Vec<String>, StoreError> {
    Ok(statement.query_map(params, |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// An identifier from the schema, as SQL.
pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]
mod tests {
    use super::*;

    const CHILDREN: &str = "
        CREATE TABLE jobs (id INTEGER PRIMARY KEY);
        CREATE TABLE notes (id INTEGER PRIMARY KEY, job INTEGER REFERENCES jobs ON DELETE CASCADE);
        CREATE TABLE lines (note INTEGER REFERENCES notes (id) ON DELETE CASCADE, mark INTEGER);
        CREATE TABLE marks (job INTEGER REFERENCES jobs (id) ON DELETE SET NULL);
        CREATE TABLE locks (job INTEGER REFERENCES jobs (id) ON DELETE RESTRICT, note INTEGER REFERENCES notes (id));";

    #[test]
    fn keys_are_carried_out_from_the_far_end() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(CHILDREN).unwrap();
        let mut problems = Vec::new();
        let keys = detect(&connection, &mut problems).unwrap();
        assert_eq!(problems, [""; 0]);
        let statements: Vec<String> = keys.effects.iter().map(Effect::carry_out).collect();
        let notes = "\"job\" IN (SELECT id FROM temp.hero_proc_cleanup_doomed)";
        assert_eq!(
            statements,
            [
                format!(
                    "DELETE FROM main.\"lines\" WHERE \"note\" IN (SELECT \"id\" FROM main.\"notes\" WHERE {notes})"
                ),
                format!("UPDATE main.\"marks\" SET \"job\" = NULL WHERE {notes}"),
                format!("DELETE FROM main.\"notes\" WHERE {notes}"),
            ]
        );
        let held: Vec<&str> = keys.holding.iter().map(|(_, statement)| statement.as_str()).collect();
        assert_eq!(
            held,
            [
                "SELECT id FROM main.jobs WHERE \"id\" IN (SELECT \"job\" FROM main.\"locks\")",
                "SELECT id FROM main.jobs WHERE \"id\" IN (SELECT \"job\" FROM main.\"notes\" \
                 WHERE \"id\" IN (SELECT \"note\" FROM main.\"locks\"))",
            ]
        );
    }

    #[test]
    fn every_table_is_scanned_at_most_once_in_a_statement() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(CHILDREN).unwrap();
        connection.execute_batch(&format!("CREATE TEMP TABLE {DOOMED} (id INTEGER PRIMARY KEY)")).unwrap();
        let keys = detect(&connection, &mut Vec::new()).unwrap();
        let effects = keys.counts().into_values().chain(keys.effects.iter().map(Effect::carry_out));
        for statement in effects.chain(keys.holding.iter().map(|(_, statement)| statement.clone())) {
            let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let steps: Vec<String> = explain.query_map((), |row| row.get(3)).unwrap().map(Result::unwrap).collect();
            for step in &steps {
                let linear =
                    ["SCAN ", "SEARCH ", "USING ROWID SEARCH ON TABLE ", "LIST SUBQUERY ", "CREATE BLOOM FILTER"];
                assert!(linear.iter().any(|start| step.starts_with(start)), "{statement}: {steps:?}");
                assert!(!step.contains("CORRELATED"), "{statement}: {steps:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_carried_out_is_a_problem() {
        for (schema, problem) in [
            (
                "CREATE TABLE c (a, b, FOREIGN KEY (a, b) REFERENCES jobs (id, x))",
                "the foreign key c.a on jobs has several columns",
            ),
            ("CREATE TABLE c (a REFERENCES jobs (x))", "the foreign key c.a on jobs is not on its id"),
            ("CREATE TABLE c (a REFERENCES actions (id))", "table c has a foreign key on actions"),
            (
                "CREATE TABLE services (a REFERENCES jobs ON DELETE CASCADE)",
                "the foreign key services.a on jobs would delete rows of services",
            ),
            (
                "CREATE TABLE c (id INTEGER PRIMARY KEY, a REFERENCES jobs ON DELETE CASCADE, b REFERENCES c ON DELETE CASCADE)",
                "the foreign key c.b on c goes round in a circle",
            ),
            (
                "CREATE TABLE c (a UNIQUE REFERENCES jobs ON DELETE SET NULL); CREATE TABLE d (a REFERENCES c (a))",
                "the foreign key c.a on jobs sets a column to NULL to which another foreign key refers",
            ),
        ] {
            let connection = Connection::open_in_memory().unwrap();
            let jobs =
                "CREATE TABLE jobs (id INTEGER PRIMARY KEY, x UNIQUE); CREATE TABLE actions (id INTEGER PRIMARY KEY);";
            connection.execute_batch(&format!("{jobs} {schema}")).unwrap();
            let mut problems = Vec::new();
            detect(&connection, &mut problems).unwrap();
            assert_eq!(problems, [problem], "{schema}");
        }
    }
}
