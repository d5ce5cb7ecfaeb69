//! What SQLite does for each statement of a call, in every layout: nothing quadratic, whatever the host's tables are
//! called and whatever indexes it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use hero_proc_cleanup::inspect;
use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::types::Null;
use serde_json::json;

use crate::support::call::{Control, all_with, call_as};
use crate::support::layout::{Services, Variant, create, every_layout};
use crate::support::model::TABLES;

/// Jobs of every kind, so that every statement is needed: one to stop, one whose tags are those of its spec, others'.
fn fill(connection: &Connection, variant: &Variant) {
    let Variant { context, spec, .. } = variant;
    connection
        .execute_batch(&format!(
            r#"INSERT INTO jobs ({context}, action, {spec}, phase, tags) VALUES
                 ('core', 'a', '{{}}', 'done', '["codescaler"]'), ('core', 'b', '{{}}', 'running', '["codescaler"]'),
                 ('core', 'c', '{{"tags":["codescaler"]}}', 'done', 'null'), ('core', 'x', '{{}}', 'done', '["ops"]'),
                 ('core', 'd', '{{"tags":["codescaler"]}}', 'done', NULL);
               INSERT INTO actions ({context}, name, {spec}) VALUES
                 ('core', 'a', '{{"tags":["codescaler"]}}'), ('core', 'b', '{{"tags":["codescaler"]}}'),
                 ('core', 'x', '{{"tags":["ops"],"depends_on":["y"]}}');"#
        ))
        .unwrap();
    let list = match variant.services {
        Services::None => return,
        Services::Spec => {
            format!(r#"INSERT INTO services ({context}, name, {spec}) VALUES ('core', 's', '{{"actions":["x"]}}')"#)
        }
        Services::Column => format!(r#"INSERT INTO services ({context}, name, actions) VALUES ('core', 's', '["x"]')"#),
    };
    connection.execute_batch(&list).unwrap();
}

/// The statements on the host's tables that a check, a dry run and a deletion execute.
fn statements(connection: &mut Connection) -> BTreeSet<String> {
    let statements = Arc::new(Mutex::new(BTreeSet::new()));
    let heard = Arc::clone(&statements);
    let hear = move |event: TraceEvent<'_>| {
        if let TraceEvent::Stmt(_, sql) = event
            && sql.contains("main.")
        {
            heard.lock().unwrap().insert(sql.to_owned());
        }
    };
    connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(hear)).unwrap();
    let host = Control::willing().host();
    inspect(&mut *connection, &host).unwrap();
    for dry_run in [true, false] {
        let params = all_with(json!({ "force": true, "dry_run": dry_run }));
        let report = call_as(&mut *connection, &host, params).unwrap();
        assert_eq!((report.jobs_planned, report.actions_planned), (4, 2));
    }
    connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, None::<fn(TraceEvent<'_>)>).unwrap();
    statements.lock().unwrap().clone()
}

/// What SQLite would do for `statement`, step by step.
fn plan(connection: &Connection, statement: &str) -> Vec<String> {
    let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    let unbound = vec![Null; explain.parameter_count()];
    let steps = explain.query_map(rusqlite::params_from_iter(unbound), |row| row.get::<_, String>("detail")).unwrap();
    steps.map(|step| step.unwrap().replace("main.", "")).collect()
}

#[test]
fn each_is_one_scan_or_one_look_up_in_every_layout() {
    for variant in every_layout() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&variant.schema()).unwrap();
        fill(&connection, &variant);
        let (of_runs, statements): (BTreeSet<_>, BTreeSet<_>) =
            statements(&mut connection).into_iter().partition(|statement| statement.contains("main.runs"));
        // What a check alone counts.
        assert_eq!(of_runs.len(), usize::from(variant.run_id), "{of_runs:#?}");
        for steps in of_runs.iter().map(|statement| plan(&connection, statement)) {
            assert!(steps[0] == "SCAN runs" && steps[1].starts_with("LIST SUBQUERY"), "{steps:?}");
        }
        let plans: BTreeSet<Vec<String>> = statements.iter().map(|statement| plan(&connection, statement)).collect();
        let mut expected = vec![
            vec!["SEARCH actions USING INTEGER PRIMARY KEY (rowid>?)"],
            vec!["SEARCH jobs USING INTEGER PRIMARY KEY (rowid>?)"],
            vec!["SEARCH actions USING INTEGER PRIMARY KEY (rowid=?)"],
            vec!["SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)"],
        ];
        if variant.services != Services::None {
            expected.push(vec!["SCAN services", "USE TEMP B-TREE FOR ORDER BY"]);
        }
        // The jobs are counted, and an index tells their phases.
        match (variant.indexes, variant.archived) {
            (true, true) => expected.push(vec!["SCAN jobs USING COVERING INDEX idx_jobs_archived"]),
            (true, false) => expected.push(vec!["SCAN jobs USING COVERING INDEX idx_jobs_created"]),
            (false, _) => expected.push(vec!["SCAN jobs"]),
        }
        if variant.indexes {
            expected.push(vec!["SCAN jobs USING COVERING INDEX idx_jobs_phase"]);
        }
        let expected: BTreeSet<Vec<String>> =
            expected.into_iter().map(|steps| steps.into_iter().map(ToOwned::to_owned).collect()).collect();
        assert_eq!(plans, expected, "{variant:?}: {statements:#?}");
        // Jobs and actions are scanned from an id on and deleted, and services are scanned. Jobs are scanned for a check, a dry
        // run and a deletion, and by their heads; looked up for stopping them, and whole; they are counted, and an index tells
        // the phases.
        let further = usize::from(variant.services != Services::None) + usize::from(variant.indexes);
        assert_eq!(statements.len(), 10 + further, "{statements:#?}");
    }
}

/// Nor is any that carries out foreign keys, however many there are and whatever way they lead.
#[test]
fn none_that_follows_foreign_keys_is_quadratic() {
    for tables in TABLES {
        let mut connection = Connection::open_in_memory().unwrap();
        let variant = every_layout().pop().unwrap();
        connection.execute_batch(&variant.schema()).unwrap();
        create(&connection, tables);
        fill(&connection, &variant);
        let statements = statements(&mut connection);
        assert!(tables.iter().all(|table| statements.iter().any(|sql| sql.contains(table.name))), "{statements:#?}");
        // As it is during a call: SQLite itself enforces nothing, and the doomed jobs stand in a table.
        connection
            .execute_batch(
                "PRAGMA foreign_keys = off;
                 CREATE TEMP TABLE hero_proc_cleanup_doomed (id INTEGER PRIMARY KEY)",
            )
            .unwrap();
        for statement in &statements {
            let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let unbound = vec![Null; explain.parameter_count()];
            let mut steps = explain.query(rusqlite::params_from_iter(unbound)).unwrap();
            let mut loops: BTreeMap<i64, Vec<String>> = BTreeMap::new();
            while let Some(step) = steps.next().unwrap() {
                let detail: String = step.get("detail").unwrap();
                assert!(!detail.contains("CORRELATED"), "once for each row: {statement}");
                if detail.starts_with("SCAN") || detail.starts_with("SEARCH") {
                    loops.entry(step.get("parent").unwrap()).or_default().push(detail);
                }
            }
            assert!(loops.values().all(|loops| loops.len() == 1), "one within another: {statement}: {loops:?}");
        }
    }
}
