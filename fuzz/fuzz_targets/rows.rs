//! Rows that others wrote: no cell makes a call panic, and a row goes only if another reading of it agrees.
//!
//! The input is lines, each a cell: `!` NULL, `#7` an integer, `~0.5` a real, `=…` a blob, anything else a text, bytes as
//! they are. The first four are the specs of two actions, one service and one action more; then come jobs of four cells
//! each: tags, spec, phase and creation time.
#![no_main]

#[allow(dead_code, reason = "each target uses a part of it")]
mod store;

use std::cell::RefCell;

use hero_proc_cleanup::{Report, inspect};
use libfuzzer_sys::fuzz_target;
use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, ValueRef};
use serde_json::json;
use store::{Cell, Rows};

const OTHERS: &str = r#"
    INSERT INTO jobs (id, action, spec_json, phase, tags) VALUES (100, 'backup', '{}', 'done', '["ops"]');
    INSERT INTO actions (id, name, spec_json) VALUES (100, 'backup', '{"tags":["ops"]}');"#;

/// At most so many jobs.
const JOBS: i64 = 6;

thread_local! {
    static STORE: RefCell<Connection> = {
        let connection = Connection::open_in_memory().expect("a store");
        // Without NOT NULL: another hero_proc may allow what this one does not.
        connection.execute_batch(&store::SCHEMA.replace("NOT NULL", "")).expect("a schema");
        RefCell::new(connection)
    };
}

fuzz_target!(|bytes: &[u8]| {
    STORE.with_borrow_mut(|connection| {
        store::fill(connection, OTHERS);
        insert(connection, bytes);
        let host = store::host();
        let before = store::rows(connection);
        let tagged: Vec<i64> = jobs(&before).filter(|(_, row)| store::job_is_tagged(row)).map(|(id, _)| id).collect();
        let found = inspect(&mut *connection, &host).expect("a store that fits");

        let mut call = |params: serde_json::Value| {
            let outcome = store::call(connection, &host, &params);
            let after = store::rows(connection);
            store::check(&before, &after, &outcome);
            (outcome.expect("a report"), after)
        };
        let (dated, _) = call(json!({ "tags": ["codescaler"], "dry_run": true, "older_than_ms": 1000, "force": true }));
        assert!(dated.job_ids.iter().all(|id| is_old(&before[&("jobs", *id)])), "{dated:?}");
        let (dry, after) = call(json!({ "tags": ["codescaler"], "dry_run": true }));
        assert_eq!(after, before);
        assert_eq!(found.jobs.tagged, dry.jobs_matched, "{found:?} {dry:?}");
        let (real, after) = call(json!({ "tags": ["codescaler"], "expect_plan": dry.plan }));

        assert_eq!((&real.job_ids, &real.action_ids), (&dry.job_ids, &dry.action_ids));
        assert!(real.job_ids.iter().all(|id| tagged.contains(id)), "{real:?}");
        // Nothing that matches is overlooked, where a `Value` can tell: it can't see that a spec says a thing twice.
        let by_column = |id: &&i64| before[&("jobs", **id)][0] != Cell::Null;
        let finished = |id: &&i64| matches!(&before[&("jobs", **id)][2], Cell::Text(phase) if phase == b"done");
        let overlooked =
            tagged.iter().filter(by_column).filter(finished).find(|id| after.contains_key(&("jobs", **id)));
        assert!(overlooked.is_none_or(|id| null_tags(&before[&("jobs", *id)])), "{overlooked:?} {real:?}");
        assert_no_reference_dangles(&before, &after, &real);
        let intact: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).expect("a check");
        assert_eq!(intact, "ok");
    });
});

fn insert(connection: &Connection, bytes: &[u8]) {
    let mut cells = bytes.split(|byte| *byte == b'\n').map(cell);
    let mut next = || cells.next();
    for (id, name, table) in [(1, "a", "actions"), (2, "b", "actions"), (3, "s", "services"), (4, "c", "actions")] {
        let Some(spec) = next() else { return };
        let statement = format!("INSERT INTO {table} (id, name, spec_json) VALUES (?1, ?2, ?3)");
        connection.prepare(&statement).and_then(|mut row| row.execute((id, name, Sql(&spec)))).expect("a row");
    }
    for id in 1..=JOBS {
        let Some(tags) = next() else { return };
        let [spec, phase, created_at] = [(); 3].map(|()| next().unwrap_or(Cell::Null));
        let action = ["a", "b", "web.c"][id as usize % 3];
        connection
            .prepare(
                "INSERT INTO jobs (id, action, tags, spec_json, phase, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .and_then(|mut row| row.execute((id, action, Sql(&tags), Sql(&spec), Sql(&phase), Sql(&created_at))))
            .expect("a row");
    }
}

fn cell(line: &[u8]) -> Cell {
    let number = |digits: &[u8]| str::from_utf8(digits).unwrap_or_default().to_owned();
    match line {
        [b'!'] => Cell::Null,
        [b'#', digits @ ..] => Cell::Integer(number(digits).parse().unwrap_or(i64::MAX)),
        [b'~', digits @ ..] => Cell::Real(number(digits).parse().unwrap_or(f64::NAN)),
        [b'=', blob @ ..] => Cell::Blob(blob.to_vec()),
        text => Cell::Text(text.to_vec()),
    }
}

/// A cell as SQLite takes it: a text need not be UTF-8.
struct Sql<'c>(&'c Cell);

impl rusqlite::ToSql for Sql<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Cell::Null => ValueRef::Null,
            Cell::Integer(integer) => ValueRef::Integer(*integer),
            Cell::Real(real) => ValueRef::Real(*real),
            Cell::Text(text) => ValueRef::Text(text),
            Cell::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

fn jobs(rows: &Rows) -> impl Iterator<Item = (i64, &Vec<Cell>)> {
    rows.iter().filter(|((table, _), _)| *table == "jobs").map(|((_, id), row)| (*id, row))
}

fn is_old(row: &[Cell]) -> bool {
    matches!(row[3], Cell::Integer(at) if (100_000_000_000..=store::NOW - 1000).contains(&at))
}

/// Whether the tags are a JSON null, so that the spec's count.
fn null_tags(row: &[Cell]) -> bool {
    matches!(&row[0], Cell::Text(tags) if serde_json::from_slice::<()>(tags).is_ok())
}

/// No job remains whose action went.
fn assert_no_reference_dangles(before: &Rows, after: &Rows, report: &Report) {
    for ((table, id), action) in before {
        if *table != "actions" || after.contains_key(&(*table, *id)) {
            continue;
        }
        let Cell::Text(name) = &action[2] else { panic!("action {id} has no name") };
        let refers = |row: &Vec<Cell>| matches!(&row[5], Cell::Text(action) if action.rsplit(|byte| *byte == b'.').next() == Some(name));
        let referrer = jobs(after).find(|(_, row)| refers(row));
        assert!(referrer.is_none(), "{referrer:?} {report:?}");
    }
}
