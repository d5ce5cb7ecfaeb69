//! The layouts of hero_proc's store that must work, and stores in them that hold what the model sees.

use std::path::Path;

use rusqlite::Connection;
use serde_json::json;

use crate::support::model::{Created, OnDelete, Table, World};
use crate::support::sample::SCHEMA;

/// One of the layouts that must work.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) action_id: bool,
    pub(crate) archived: bool,
    pub(crate) context: &'static str,
    pub(crate) spec: &'static str,
    pub(crate) created_at: &'static str,
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

/// Creates `tables`, whose keys are on jobs and on each other.
pub(crate) fn create(connection: &Connection, tables: &[Table]) {
    for table in tables {
        let keys = table.keys.iter().map(|(column, parent, on_delete)| {
            let action = match on_delete {
                OnDelete::Cascade => "ON DELETE CASCADE",
                OnDelete::SetNull => "ON DELETE SET NULL",
                OnDelete::Restrict => "ON DELETE RESTRICT",
                OnDelete::NoAction => "",
                OnDelete::SetDefault => "ON DELETE SET DEFAULT",
            };
            format!(", {column} INTEGER REFERENCES {parent} (id) {action}")
        });
        let keys: String = keys.collect();
        connection.execute_batch(&format!("CREATE TABLE {} (id INTEGER PRIMARY KEY{keys})", table.name)).unwrap();
    }
}

/// Each of them, all else as usual.
#[cfg(not(oldest_rusqlite))]
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
                    created_at: if bit(4) { "created_at_ms" } else { "created_at" },
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
    pub(crate) fn schema(&self) -> String {
        let mut schema = SCHEMA.to_owned();
        let mut replace = |from: &str, to: &str| {
            assert!(schema.contains(from), "{from}");
            schema = schema.replace(from, to);
        };
        if !self.archived {
            replace(",\n    archived       INTEGER NOT NULL DEFAULT 0\n", "\n");
            replace("CREATE INDEX idx_jobs_archived ON jobs(archived);", "");
        }
        replace("created_at_ms  INTEGER", &format!("{}  INTEGER", self.created_at));
        replace("jobs(created_at_ms)", &format!("jobs({})", self.created_at));
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
                .execute_batch("INSERT INTO runs DEFAULT VALUES; CREATE INDEX large ON runs (zeroblob(2500000))")
                .unwrap();
        }
        let Self { context, spec, created_at, .. } = self;
        for job in &world.jobs {
            let created: Option<String> = match job.created_at {
                Created::Null => None,
                Created::Text => Some("yesterday".to_owned()),
                Created::At(at) => Some(at.to_string()),
            };
            connection
                .execute(
                    &format!("INSERT INTO jobs (id, {context}, action, tags, {spec}, phase, {created_at}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"),
                    (job.id, &job.context, &job.action, &job.tags, &job.spec, &job.phase, created),
                )
                .unwrap();
            if self.action_id {
                connection.execute("UPDATE jobs SET action_id = ?2 WHERE id = ?1", (job.id, &job.action_id)).unwrap();
            }
        }
        for (number, action) in (1..).zip(&world.actions) {
            connection
                .execute(
                    &format!("INSERT INTO actions (id, {context}, name, {spec}) VALUES (?1, ?2, ?3, ?4)"),
                    (number * world.apart, &action.context, &action.name, &action.spec),
                )
                .unwrap();
        }
        for service in &world.services {
            let (column, json) = match self.services {
                Services::None => break,
                Services::Spec => (*spec, service.text(&json!({ "status": "start", "actions": service.actions }))),
                Services::Column => ("actions", service.text(&service.actions)),
            };
            connection
                .execute(
                    &format!("INSERT INTO services ({context}, name, {column}) VALUES (?1, ?2, ?3)"),
                    (&service.context, &service.name, json),
                )
                .unwrap();
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
        if !self.action_id {
            world.jobs.iter_mut().for_each(|job| job.action_id = None);
        }
        if self.services == Services::None {
            world.services.clear();
        }
        world
    }
}
