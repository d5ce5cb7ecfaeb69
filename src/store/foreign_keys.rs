//! Foreign keys of other tables on `jobs(id)`: what they declare is what holds.
//!
//! SQLite's own enforcement is off on the connection (it is a setting of each connection, so the host's says nothing),
//! and the declarations are carried out here, a set at a time: enforcement would scan a child table without an index
//! once for every job deleted, and would count nothing.
//!
//! | `ON DELETE` | what happens |
//! |---|---|
//! | `CASCADE` | the rows go, and with them, by the same rules, what refers to them |
//! | `SET NULL` | the column is set to NULL, if the row can bear it: see [`null`] |
//! | `RESTRICT`, `NO ACTION`, `SET DEFAULT`, `SET NULL` in a row that can't bear it | the job stays |
//!
//! A chain of `CASCADE` that ends in a key that holds keeps the job at its other end. A store whose keys can't be
//! carried out like this does not fit: keys of several columns, keys on another column of `jobs`, a circle, a cascade
//! into one of the host's own tables, a key on `actions`; and keys that lead too far, or too many ways.

mod null;
mod walk;

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;

use super::StoreError;
pub(super) use walk::detect;

/// The foreign keys that a deletion of jobs meets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ForeignKeys {
    /// Statements that find the jobs that must stay, with the table that holds them.
    holding: Vec<(String, String)>,
    /// Statements that find the jobs which other jobs hold, each with the one that holds it.
    holding_jobs: Vec<String>,
    /// What is carried out, in this order: what is furthest from `jobs` first.
    effects: Vec<Effect>,
    /// What is deleted and may itself be referred to.
    parents: Vec<Parents>,
    /// Statements that find a row which refers to what was deleted, with its table.
    references: Vec<(String, String)>,
    /// Each key in words, for people.
    pub(crate) descriptions: Vec<String>,
}

/// What happens to the rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Effect {
    table: String,
    /// The rows go; else a column of them is set to NULL.
    deletes: bool,
    /// `DELETE FROM …` or `UPDATE … SET … = NULL`.
    statement: String,
    /// Which rows, in terms of the temporary table of doomed jobs.
    rows: String,
    /// The place among the doomed jobs of the one with which a row goes: an expression about the row as `child`.
    position: String,
}

impl Effect {
    fn carry_out(&self) -> String {
        format!("{} WHERE {}", self.statement, self.rows)
    }
}

/// A place beyond that of any doomed job.
const BEYOND: i64 = i64::MAX;

/// The values of a column of those rows of a table that go with the doomed jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parents {
    /// The name of a temporary table.
    name: String,
    /// The statement that selects them.
    rows: String,
}

/// The ids of the doomed jobs with their places, in a temporary table that exists only in stores with such keys and for one call.
const DOOMED: &str = "hero_proc_cleanup_doomed";

impl ForeignKeys {
    /// Whether deleting jobs takes nothing along, and nothing holds on to them.
    pub(crate) fn none(&self) -> bool {
        self.holding.is_empty() && self.holding_jobs.is_empty() && self.effects.is_empty()
    }

    /// The tables of which rows go with jobs, or are changed.
    pub(super) fn tables(&self) -> impl Iterator<Item = &str> + Clone {
        self.effects.iter().map(|effect| effect.table.as_str())
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

    /// The jobs that other jobs hold, each with the one that holds it.
    pub(super) fn held_by_jobs(&self, connection: &Connection) -> Result<Vec<(i64, i64)>, StoreError> {
        let mut held = Vec::new();
        for statement in &self.holding_jobs {
            let mut statement = connection.prepare(statement)?;
            let pairs = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
            for pair in pairs {
                held.push(pair?);
            }
        }
        Ok(held)
    }

    /// For each of `jobs`, the number of rows that deleting it would take along or set to NULL and that none of the jobs
    /// before it does.
    pub(super) fn count_each(&self, connection: &Connection, jobs: &[i64]) -> Result<Vec<u64>, StoreError> {
        let mut each = vec![0; jobs.len()];
        if self.effects.is_empty() || jobs.is_empty() {
            return Ok(each);
        }
        self.doom(connection, jobs)?;
        for statement in self.counts_by_place() {
            let mut statement = connection.prepare(&statement)?;
            let mut rows = statement.query(())?;
            while let Some(row) = rows.next()? {
                let (place, count): (i64, i64) = (row.get(0)?, row.get(1)?);
                if let Some(each) = usize::try_from(place).ok().and_then(|place| each.get_mut(place)) {
                    *each += count.unsigned_abs();
                }
            }
        }
        self.forget(connection)?;
        Ok(each)
    }

    /// The statements that count the rows of each table by the place of the first job with which they go.
    fn counts_by_place(&self) -> Vec<String> {
        let mut tables: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for Effect { table, rows, position, .. } in &self.effects {
            let place = format!("CASE WHEN {rows} THEN {position} END");
            tables.entry(table).or_default().push(place);
        }
        let counted = |(table, places): (_, Vec<String>)| {
            // The scalar `min` is NULL if any of its arguments is, so a row that stays has a place beyond the last.
            let each: Vec<String> = places.iter().map(|place| format!("ifnull({place}, {BEYOND})")).collect();
            let first = if let [only] = each.as_slice() { only.clone() } else { format!("min({})", each.join(", ")) };
            format!(
                "SELECT place, count(*)
                 FROM (SELECT {first} AS place FROM main.{} AS child)
                 WHERE place < {BEYOND}
                 GROUP BY place",
                quoted(table)
            )
        };
        tables.into_iter().map(counted).collect()
    }

    /// Counts the rows that deleting `jobs` would take along or set to NULL, by table: each row once, however many keys
    /// lead to it.
    pub(super) fn count(&self, connection: &Connection, jobs: &[i64]) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut counts = BTreeMap::new();
        if self.effects.is_empty() || jobs.is_empty() {
            return Ok(counts);
        }
        self.doom(connection, jobs)?;
        for (table, statement) in self.counts() {
            let rows: i64 = connection.query_row(&statement, (), |row| row.get(0))?;
            if rows > 0 {
                counts.insert(table.to_owned(), rows.unsigned_abs());
            }
        }
        self.forget(connection)?;
        Ok(counts)
    }

    /// Deletes the rows that go with the doomed jobs, sets to NULL what is set to NULL, and returns the number of rows that
    /// it deleted, by table.
    pub(super) fn carry_out(&self, connection: &Connection) -> Result<BTreeMap<String, usize>, StoreError> {
        let mut deleted = BTreeMap::new();
        for effect in &self.effects {
            let rows = connection.execute(&effect.carry_out(), ())?;
            if effect.deletes {
                *deleted.entry(effect.table.to_ascii_lowercase()).or_default() += rows;
            }
        }
        Ok(deleted)
    }

    /// Calls `check` with each statement on the rows of other tables, and the table.
    pub(super) fn each_statement(
        &self,
        connection: &Connection,
        mut check: impl FnMut(&str, &str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.none() {
            return Ok(());
        }
        self.doom(connection, &[])?;
        for (table, statement) in &self.holding {
            check(table, statement)?;
        }
        for statement in &self.holding_jobs {
            check("jobs", statement)?;
        }
        for effect in &self.effects {
            check(&effect.table, &effect.carry_out())?;
        }
        self.forget(connection)
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

    /// Writes down `jobs`, and from then on they are the doomed ones, until they are forgotten or the transaction ends.
    pub(super) fn doom(&self, connection: &Connection, jobs: &[i64]) -> Result<(), StoreError> {
        connection.execute_batch(&format!("CREATE TEMP TABLE {DOOMED} (id INTEGER PRIMARY KEY, place INTEGER)"))?;
        let mut insert = connection.prepare(&format!("INSERT INTO temp.{DOOMED} (id, place) VALUES (?1, ?2)"))?;
        for (place, job) in (0_i64..).zip(jobs) {
            insert.execute([*job, place])?;
        }
        Ok(())
    }

    /// Writes down to what rows of other tables could refer that [`carry_out`](Self::carry_out) will delete.
    pub(super) fn remember(&self, connection: &Connection) -> Result<(), StoreError> {
        for parents in &self.parents {
            connection.execute_batch(&format!("CREATE TEMP TABLE {} AS {}", parents.name, parents.rows))?;
        }
        Ok(())
    }

    /// An error if a row refers to a doomed job, or to what is remembered. Then forgets both.
    pub(super) fn leave_nothing(&self, connection: &Connection) -> Result<(), StoreError> {
        if self.none() {
            return Ok(());
        }
        for (table, statement) in &self.references {
            if connection.prepare(statement)?.exists(())? {
                let what = format!("a row of {table} would have referred to what was deleted");
                return Err(StoreError::diverged(what));
            }
        }
        self.forget(connection)
    }

    /// Forgets what was written down.
    pub(super) fn forget(&self, connection: &Connection) -> Result<(), StoreError> {
        for parents in &self.parents {
            connection.execute_batch(&format!("DROP TABLE IF EXISTS temp.{}", parents.name))?;
        }
        Ok(connection.execute_batch(&format!("DROP TABLE temp.{DOOMED}"))?)
    }
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
