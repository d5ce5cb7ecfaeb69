//! What the store's tables and columns are called: read from its schema, never guessed from its rows.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::StoreError;
use super::definition::{self, words};
use super::foreign_keys::{self, ForeignKeys, quoted};
use super::triggers;

/// The layout of a store that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) jobs: Jobs,
    pub(crate) actions: Actions,
    pub(crate) services: Option<Services>,
    pub(crate) foreign_keys: ForeignKeys,
    /// Whether triggers of the host's run with a deletion.
    pub(crate) triggers: bool,
}

/// The columns of `jobs`. Those not named here are called alike in every variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Jobs {
    pub(crate) context: &'static str,
    pub(crate) spec: &'static str,
    pub(crate) created_at: &'static str,
    pub(crate) action_id: Option<&'static str>,
    pub(crate) pid: Option<&'static str>,
    pub(crate) attempt: Option<&'static str>,
    pub(crate) started_at: Option<&'static str>,
    pub(crate) finished_at: Option<&'static str>,
    pub(crate) run_id: Option<&'static str>,
    /// Whether an index leads from a run to its jobs.
    pub(crate) runs_are_indexed: bool,
    /// Whether an index tells the phase of each job.
    pub(crate) phases_are_indexed: bool,
    /// What tells a job that has changed from one that hasn't, beside the columns that say what it refers to and an indexed
    /// phase, in SQL; none where that would be no quicker to read than the row: see [`Table::head`].
    pub(crate) head: Option<Vec<String>>,
    /// Whether no id is ever used again.
    pub(crate) autoincrement: bool,
    /// The bytes of text and blobs in a row, in SQL.
    pub(crate) bytes: String,
    /// The same beside the columns that are read of every job.
    pub(crate) other_bytes: OtherBytes,
    /// The bytes of text and blobs in each column.
    pub(crate) weights: Vec<Weight>,
}

/// A column whose values stand in the rows of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weight {
    pub(crate) column: String,
    /// The bytes of a value that is text or a blob, else 0, in SQL.
    pub(crate) bytes: String,
    /// A number is expected in it.
    integer: bool,
}

/// The bytes of text and blobs in some columns, in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherBytes {
    /// Those in columns that were not declared to hold integers.
    pub(crate) of_texts: String,
    /// Those in the others.
    pub(crate) of_integers: String,
    /// Whether there are any in these, by the values: quicker to tell than by the header of a row that is on one page.
    pub(crate) in_integers: String,
}

impl OtherBytes {
    /// By the header of the row alone, however large the row is.
    pub(crate) fn by_header(&self) -> String {
        format!("{} + {}", self.of_texts, self.of_integers)
    }
}

/// The columns of `actions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Actions {
    pub(crate) context: &'static str,
    pub(crate) spec: &'static str,
    pub(crate) created_at: Option<&'static str>,
    pub(crate) updated_at: Option<&'static str>,
    /// The bytes of text and blobs in a row, in SQL.
    pub(crate) bytes: String,
}

/// The columns of `services`. A service lists its actions in its spec, under `actions`, or in a column of that name, a
/// JSON array; where a store has both, both count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Services {
    pub(crate) context: &'static str,
    pub(crate) spec: Option<&'static str>,
    pub(crate) actions: Option<&'static str>,
}

/// The first SQLite that has `octet_length`.
const OCTET_LENGTH: i32 = 3_043_000;

const CONTEXT: [&str; 2] = ["context_name", "context"];
const SPEC: [&str; 2] = ["spec_json", "spec"];
const CREATED_AT: [&str; 2] = ["created_at_ms", "created_at"];
const UPDATED_AT: [&str; 2] = ["updated_at_ms", "updated_at"];
const STARTED_AT: [&str; 2] = ["started_at_ms", "started_at"];
const FINISHED_AT: [&str; 2] = ["finished_at_ms", "finished_at"];

impl Layout {
    /// What each column was read as: meaning → `table.column`.
    pub(crate) fn columns(&self) -> BTreeMap<String, String> {
        let Self { jobs, actions, services, foreign_keys: _, triggers: _ } = self;
        let mut columns = BTreeMap::new();
        let mut read = |table: &str, meaning: &str, column: &str| {
            columns.insert(format!("{table}.{meaning}"), format!("{table}.{column}"));
        };
        for column in ["id", "action", "tags", "phase"] {
            read("jobs", column, column);
        }
        read("jobs", "context", jobs.context);
        read("jobs", "spec", jobs.spec);
        read("jobs", "created_at", jobs.created_at);
        for (meaning, column) in [
            ("action_id", jobs.action_id),
            ("pid", jobs.pid),
            ("attempt", jobs.attempt),
            ("started_at", jobs.started_at),
            ("finished_at", jobs.finished_at),
            ("run_id", jobs.run_id),
        ] {
            if let Some(column) = column {
                read("jobs", meaning, column);
            }
        }
        for column in ["id", "name"] {
            read("actions", column, column);
        }
        read("actions", "context", actions.context);
        read("actions", "spec", actions.spec);
        for (meaning, column) in [("created_at", actions.created_at), ("updated_at", actions.updated_at)] {
            if let Some(column) = column {
                read("actions", meaning, column);
            }
        }
        if let Some(services) = services {
            read("services", "name", "name");
            read("services", "context", services.context);
            for (meaning, column) in [("spec", services.spec), ("actions", services.actions)] {
                if let Some(column) = column {
                    read("services", meaning, column);
                }
            }
        }
        columns
    }
}

/// Reads the layout, or says everything that doesn't fit.
pub(super) fn detect(connection: &Connection) -> Result<Layout, StoreError> {
    let mut problems = Vec::new();

    let mut indexed = connection.prepare(
        "SELECT 1
         FROM pragma_index_list('jobs') AS list,
              pragma_index_info(list.name) AS info
         WHERE info.seqno = 0
           AND info.name = :column COLLATE NOCASE
           AND list.partial = 0",
    )?;
    let runs_are_indexed = indexed.exists(&[(":column", "run_id")])?;
    let phases_are_indexed = indexed.exists(&[(":column", "phase")])?;
    let jobs = Table::read(connection, "jobs", &mut problems)?.map(|table| {
        table.row_id(&mut problems);
        for column in ["action", "tags", "phase"] {
            table.require(&[column], &mut problems);
        }
        table.compares_plainly(&[&CONTEXT[..], &["action", "action_id"]].concat(), &mut problems);
        let context = table.require(&CONTEXT, &mut problems);
        Jobs {
            context,
            spec: table.require(&SPEC, &mut problems),
            created_at: table.require(&CREATED_AT, &mut problems),
            action_id: table.find(&["action_id"]),
            pid: table.find(&["pid"]),
            attempt: table.find(&["attempt"]),
            started_at: table.find(&STARTED_AT),
            finished_at: table.find(&FINISHED_AT),
            run_id: table.find(&["run_id"]),
            bytes: sum(&table.weights()),
            other_bytes: table.bytes_beside(&[context, "action", "action_id", "tags", "phase"]),
            runs_are_indexed,
            phases_are_indexed,
            head: table.head(phases_are_indexed),
            weights: table.weights(),
            autoincrement: words(&table.sql).iter().any(|word| word.is("AUTOINCREMENT")),
        }
    });
    let actions = Table::read(connection, "actions", &mut problems)?.map(|table| {
        table.row_id(&mut problems);
        table.require(&["name"], &mut problems);
        table.compares_plainly(&[&CONTEXT[..], &["name"]].concat(), &mut problems);
        Actions {
            context: table.require(&CONTEXT, &mut problems),
            spec: table.require(&SPEC, &mut problems),
            created_at: table.find(&CREATED_AT),
            updated_at: table.find(&UPDATED_AT),
            bytes: sum(&table.weights()),
        }
    });
    let services = if exists(connection, "services")? {
        Table::read(connection, "services", &mut problems)?.map(|table| {
            table.require(&["name"], &mut problems);
            table.compares_plainly(&[&CONTEXT[..], &["name"]].concat(), &mut problems);
            let context = table.require(&CONTEXT, &mut problems);
            let actions = table.find(&["actions"]);
            let spec = table.find(&SPEC);
            if actions.or(spec).is_none() {
                problems.push(format!("table services has no column actions or {}", SPEC.join(" or ")));
            }
            Services { context, spec, actions }
        })
    } else {
        None
    };
    let foreign_keys = foreign_keys::detect(connection, &mut problems)?;
    let triggers = triggers::any(connection, ["jobs", "actions"].into_iter().chain(foreign_keys.tables()))?;

    match (jobs, actions) {
        (Some(jobs), Some(actions)) if problems.is_empty() => {
            Ok(Layout { jobs, actions, services, foreign_keys, triggers })
        }
        _ => Err(StoreError::Unfit { problems }),
    }
}

/// A table as its schema describes it.
struct Table {
    name: &'static str,
    columns: Vec<Column>,
    /// Whether the primary key is an index of its own, and so no alias of the row id.
    indexed_key: bool,
    /// The statement that would make the table.
    sql: String,
}

struct Column {
    name: String,
    kind: String,
    key: bool,
    /// It is computed when it is read: nothing of it stands in the row.
    is_virtual: bool,
}

impl Column {
    /// Names are told apart as SQLite does.
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

impl Table {
    fn read(
        connection: &Connection,
        name: &'static str,
        problems: &mut Vec<String>,
    ) -> Result<Option<Self>, StoreError> {
        if !exists(connection, name)? {
            problems.push(format!("there is no table {name}"));
            return Ok(None);
        }
        let (is_table, sql): (bool, String) = connection.query_row(
            "SELECT type = 'table'
                    AND sql NOT LIKE 'CREATE VIRTUAL TABLE %',
                    sql
             FROM sqlite_master
             WHERE name = :name COLLATE NOCASE
               AND type IN ('table', 'view')",
            &[(":name", name)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        if !is_table {
            problems.push(format!("{name} is no ordinary table"));
            return Ok(None);
        }
        let columns = connection
            .prepare("SELECT name, type, pk > 0, hidden = 2 FROM pragma_table_xinfo(:name)")?
            .query_map(&[(":name", name)], |row| {
                Ok(Column { name: row.get(0)?, kind: row.get(1)?, key: row.get(2)?, is_virtual: row.get(3)? })
            })?
            .collect::<Result<_, _>>()?;
        let indexed_key = connection
            .prepare("SELECT 1 FROM pragma_index_list(:name) WHERE origin = 'pk'")?
            .exists(&[(":name", name)])?;
        Ok(Some(Self { name, columns, indexed_key, sql }))
    }

    /// `id` must be the row id: ids then ascend in the order in which a table is read, and name one row for good.
    fn row_id(&self, problems: &mut Vec<String>) {
        let alias = |column: &Column| column.is("id") && column.kind.eq_ignore_ascii_case("integer");
        let mut key = self.columns.iter().filter(|column| column.key);
        if self.indexed_key || !key.next().is_some_and(alias) || key.next().is_some() {
            problems.push(format!("{}.id is no INTEGER PRIMARY KEY", self.name));
        }
    }

    /// These columns hold names, which are compared without case and spaces at the end, or byte by byte.
    fn compares_plainly(&self, columns: &[&str], problems: &mut Vec<String>) {
        for column in columns {
            let Some(collation) = definition::collation(&self.sql, column) else { continue };
            if !["BINARY", "NOCASE", "RTRIM"].iter().any(|known| collation.eq_ignore_ascii_case(known)) {
                problems.push(format!("{}.{column} is compared by a collation of the host's own", self.name));
            }
        }
    }

    /// The bytes of text and blobs in the columns that are none of `read`.
    fn bytes_beside(&self, read: &[&str]) -> OtherBytes {
        let is_read = |weight: &Weight| read.iter().any(|column| weight.column.eq_ignore_ascii_case(column));
        let others: Vec<Weight> = self.weights().into_iter().filter(|weight| !is_read(weight)).collect();
        let (integers, texts): (Vec<_>, Vec<_>) = others.into_iter().partition(|weight| weight.integer);
        // Every text and every blob is greater than any number; `+` and BINARY keep it from being taken for one.
        let greater = |weight: &Weight| format!(" OR +{} COLLATE BINARY > {}", quoted(&weight.column), i64::MAX);
        let greater: String = integers.iter().map(greater).collect();
        OtherBytes { of_texts: sum(&texts), of_integers: sum(&integers), in_integers: format!("FALSE{greater}") }
    }

    /// The bytes of text and blobs in each column.
    ///
    /// `octet_length` and `typeof` read the header of the row alone, however large the value and whatever stands before it; a
    /// SQLite that is older than `octet_length` reads the value. A column that is declared as text holds no number.
    fn weights(&self) -> Vec<Weight> {
        let columns = self.columns.iter().filter(|column| !(column.is_virtual || column.key && column.is("id")));
        let weight = |Column { name: column, kind, .. }: &Column| {
            let (name, kind) = (quoted(column), kind.to_ascii_uppercase());
            let bytes = if rusqlite::version_number() >= OCTET_LENGTH {
                format!("octet_length({name})")
            } else {
                format!("length(CAST({name} AS BLOB))")
            };
            let text = ["CHAR", "CLOB", "TEXT"].iter().any(|text| kind.contains(text)) && !kind.contains("INT");
            let bytes = if text {
                format!("ifnull({bytes}, 0)")
            } else {
                format!(
                    "CASE typeof({name}) WHEN 'integer' THEN 0 WHEN 'text' THEN {bytes} WHEN 'blob' THEN {bytes} ELSE 0 END"
                )
            };
            Weight { column: column.clone(), bytes, integer: kind.contains("INT") }
        };
        columns.map(weight).collect()
    }

    /// What tells a job that has changed from one that hasn't.
    ///
    /// A column that stands before the last of those which are read in any case costs nothing more to read. Of each column
    /// behind that, which might be reached by way of many overflow pages only, the header of the row tells the type and the
    /// length.
    fn head(&self, phases_are_indexed: bool) -> Option<Vec<String>> {
        let place = |names: &[&str]| self.columns.iter().position(|column| names.iter().any(|name| column.is(name)));
        let phase: &[&str] = if phases_are_indexed { &[] } else { &["phase"] };
        // Where the phase stands behind large columns, the tags are not far from it.
        let with_phase: &[&str] = if phases_are_indexed { &[] } else { &["tags"] };
        let read = [&CONTEXT[..], &["action"], &["action_id"], phase, with_phase];
        let reached = read.into_iter().filter_map(place).max();
        let kinds = [phase, &["tags"], &SPEC, &["attempt"], &CREATED_AT, &FINISHED_AT];
        let mut head = Vec::new();
        for place in kinds.into_iter().filter_map(place) {
            let column = &self.columns[place];
            let name = quoted(&column.name);
            if Some(place) <= reached && !SPEC.iter().any(|spec| column.is(spec)) {
                head.push(name);
            } else {
                head.push(format!("typeof({name})"));
                if SPEC.iter().chain(&["tags"]).any(|text| column.is(text)) {
                    head.push(format!("octet_length({name})"));
                }
            }
        }
        (rusqlite::version_number() >= OCTET_LENGTH).then_some(head)
    }

    /// The first of `names` that is a column.
    fn find(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.columns.iter().any(|column| column.is(name)))
    }

    /// The same, where a layout without it does not fit.
    fn require(&self, names: &[&'static str], problems: &mut Vec<String>) -> &'static str {
        self.find(names).unwrap_or_else(|| {
            problems.push(format!("table {} has no column {}", self.name, names.join(" or ")));
            names[0]
        })
    }
}

/// The bytes of `weights` together, in SQL.
fn sum(weights: &[Weight]) -> String {
    let weights: Vec<&str> = weights.iter().map(|weight| weight.bytes.as_str()).collect();
    if weights.is_empty() { "0".to_owned() } else { weights.join(" + ") }
}

fn exists(connection: &Connection, name: &str) -> Result<bool, StoreError> {
    Ok(connection
        .prepare("SELECT 1 FROM sqlite_master WHERE name = :name COLLATE NOCASE AND type IN ('table', 'view')")?
        .exists(&[(":name", name)])?)
}
