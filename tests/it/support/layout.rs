//! The layouts of hero_proc's store that must work, and stores in them that hold what the model sees.

use std::path::Path;

use rusqlite::types::Value as Cell;
use rusqlite::{Connection, params_from_iter};
use serde_json::json;

use crate::support::model::{Number, OnDelete, Table, World};
use crate::support::sample::{SCHEMA, text};

/// One of the layouts that must work.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) action_id: bool,
    pub(crate) archived: bool,
    pub(crate) context: &'static str,
    pub(crate) spec: &'static str,
    /// What the names of times end with.
    pub(crate) times: &'static str,
    /// Whether jobs say when they ended.
    pub(crate) ended_at: bool,
    pub(crate) run_id: bool,
    /// Whether actions say when they were set.
    pub(crate) set_at: bool,
    pub(crate) services: Services,
    pub(crate) indexes: bool,
    pub(crate) journal_mode: &'static str,
    pub(crate) page_size: u32,
    pub(crate) auto_vacuum: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Services {
    None,
    Spec,
    Column,
}

/// What a foreign key declares.
fn clause(on_delete: OnDelete) -> &'static str {
    match on_delete {
        OnDelete::Cascade => "ON DELETE CASCADE",
        OnDelete::SetNull => "ON DELETE SET NULL",
        OnDelete::Restrict => "ON DELETE RESTRICT",
        OnDelete::NoAction => "",
        OnDelete::SetDefault => "ON DELETE SET DEFAULT",
    }
}

/// Creates `tables`, whose keys are on jobs and on each other.
pub(crate) fn create(connection: &Connection, tables: &[Table]) {
    for table in tables {
        let keys = table.keys.iter().map(|(column, parent, on_delete)| {
            format!(", {column} INTEGER REFERENCES {parent} (id) {}", clause(*on_delete))
        });
        let keys: String = keys.collect();
        connection.execute_batch(&format!("CREATE TABLE {} (id INTEGER PRIMARY KEY{keys})", table.name)).unwrap();
    }
}

fn insert(connection: &Connection, table: &str, cells: Vec<(&str, Cell)>) {
    let (columns, values): (Vec<&str>, Vec<Cell>) = cells.into_iter().unzip();
    let places = vec!["?"; columns.len()].join(", ");
    let sql = format!("INSERT INTO {table} ({}) VALUES ({places})", columns.join(", "));
    connection.prepare(&sql).unwrap().execute(params_from_iter(values)).unwrap();
}

fn number(number: Number) -> Cell {
    match number {
        Number::Null => Cell::Null,
        Number::Text => text("yesterday"),
        Number::Is(number) => Cell::Integer(number),
    }
}

/// A text, stored as bytes or not.
fn text_or_bytes(content: &str, bytes: bool) -> Cell {
    if bytes { Cell::Blob(content.as_bytes().to_vec()) } else { text(content) }
}

/// Each of them, all else as usual.
pub(crate) fn every_layout() -> Vec<Variant> {
    let mut layouts = Vec::new();
    for bits in 0..32_u8 {
        let bit = |bit: u8| bits & 1 << bit != 0;
        for services in [Services::None, Services::Spec, Services::Column] {
            for indexes in [true, false] {
                layouts.push(Variant {
                    action_id: bit(0),
                    archived: bit(1),
                    context: if bit(2) { "context_name" } else { "context" },
                    spec: if bit(3) { "spec_json" } else { "spec" },
                    times: if bit(4) { "_at_ms" } else { "_at" },
                    ended_at: true,
                    run_id: true,
                    set_at: true,
                    services,
                    indexes,
                    journal_mode: "wal",
                    page_size: 4096,
                    auto_vacuum: 0,
                });
            }
        }
    }
    layouts
}

impl Variant {
    /// The name of a time, such as `created`.
    pub(crate) fn time(&self, name: &str) -> String {
        format!("{name}{}", self.times)
    }

    pub(crate) fn schema(&self) -> String {
        let mut schema = SCHEMA.to_owned();
        let mut replace = |from: &str, to: &str| {
            assert!(schema.contains(from), "{from}");
            schema = schema.replace(from, to);
        };
        if !self.ended_at {
            replace("    finished_at_ms INTEGER,\n", "");
        }
        if !self.run_id {
            replace("    run_id         INTEGER,\n", "");
            replace("CREATE INDEX idx_jobs_run      ON jobs(run_id);", "");
        }
        if !self.set_at {
            replace("    created_at_ms  INTEGER,\n    updated_at_ms  INTEGER,\n", "");
        }
        if !self.archived {
            replace(",\n    archived       INTEGER NOT NULL DEFAULT 0\n", "\n");
            replace("CREATE INDEX idx_jobs_archived ON jobs(archived);", "");
        }
        replace("_at_ms", self.times);
        match self.services {
            Services::Spec => {}
            Services::Column => replace(
                "spec_json      TEXT    NOT NULL,              -- {\"actions\":[\"name\",..],\"status\":\"start\",\"class\":\"user\",..}",
                "actions        TEXT,",
            ),
            Services::None => {
                replace("CREATE TABLE services (", "CREATE TABLE other_services (");
            }
        }
        replace("context_name", self.context);
        replace("spec_json", self.spec);
        if !self.action_id {
            replace("    action_id      TEXT,", "--");
        }
        if !self.indexes {
            replace("CREATE INDEX", "-- CREATE INDEX");
        }
        schema
    }

    pub(crate) fn make(&self, path: &Path, world: &World) {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {}; PRAGMA auto_vacuum = {}; PRAGMA journal_mode = {}; PRAGMA synchronous = off;
                 PRAGMA foreign_keys = off; BEGIN; {}",
                self.page_size,
                self.auto_vacuum,
                self.journal_mode,
                self.schema()
            ))
            .unwrap();
        if world.apart > 1 {
            // Only a store of some size is read by two connections. What an index holds is in no dump.
            connection
                .execute_batch("INSERT INTO runs DEFAULT VALUES; CREATE INDEX large ON runs (zeroblob(5000000))")
                .unwrap();
        }
        if let Some(on_delete) = world.retry_key {
            let column = format!("retry_of INTEGER REFERENCES jobs (id) {}", clause(on_delete));
            connection.execute_batch(&format!("ALTER TABLE jobs ADD COLUMN {column}")).unwrap();
        }
        let [created_at, ended_at, updated_at] = ["created", "finished", "updated"].map(|time| self.time(time));
        let Self { context, spec, .. } = *self;
        for job in &world.jobs {
            let mut cells = vec![
                ("id", job.id.into()),
                (context, text(&job.context)),
                ("action", text_or_bytes(&job.action, job.bytes)),
                ("tags", job.tags.clone().into()),
                (spec, text(&job.spec)),
                ("phase", text(&job.phase)),
                (&created_at, number(job.created_at)),
            ];
            if self.action_id {
                let action_id = job.action_id.as_ref();
                let action_id = action_id.map_or(Cell::Null, |action_id| text_or_bytes(action_id, job.bytes));
                cells.push(("action_id", action_id));
            }
            if self.ended_at {
                cells.push((&ended_at, number(job.ended_at)));
            }
            if self.run_id {
                cells.push(("run_id", number(job.run_id)));
            }
            if world.retry_key.is_some() {
                cells.push(("retry_of", job.retry_of.into()));
            }
            insert(&connection, "jobs", cells);
        }
        for action in &world.actions {
            let mut cells = vec![
                ("id", (action.number * world.apart).into()),
                (context, text(&action.context)),
                ("name", text(&action.name)),
                (spec, text_or_bytes(&action.spec, action.bytes)),
            ];
            if self.set_at {
                cells.push((&created_at, number(action.created_at)));
                cells.push((&updated_at, number(action.updated_at)));
            }
            insert(&connection, "actions", cells);
        }
        for service in &world.services {
            let (column, json) = match self.services {
                Services::None => break,
                Services::Spec => (spec, service.text(&json!({ "status": "start", "actions": service.actions }))),
                Services::Column => ("actions", service.text(&service.actions)),
            };
            let cells = vec![
                (context, text(&service.context)),
                ("name", text(&service.name)),
                (column, text_or_bytes(&json, service.bytes)),
            ];
            insert(&connection, "services", cells);
        }
        create(&connection, world.tables);
        for row in &world.rows {
            let keys = row.keys.iter().map(|key| format!(", {}", key.map_or("NULL".to_owned(), |key| key.to_string())));
            let keys: String = keys.collect();
            connection.execute(&format!("INSERT INTO {} VALUES ({}{keys})", row.table.name, row.id), ()).unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
    }

    /// What of `world` this layout can hold.
    pub(crate) fn seen(&self, world: &World) -> World {
        let mut world = world.clone();
        for job in &mut world.jobs {
            job.action_id = job.action_id.take().filter(|_| self.action_id);
            job.ended_at = if self.ended_at { job.ended_at } else { Number::Null };
            job.run_id = if self.run_id { job.run_id } else { Number::Null };
        }
        for action in world.actions.iter_mut().filter(|_| !self.set_at) {
            (action.created_at, action.updated_at) = (Number::Null, Number::Null);
        }
        if self.services == Services::None {
            world.services.clear();
        }
        world
    }
}
