//! What usage costs, in time and in memory.

use std::path::Path;
use std::time::Instant;

use hero_proc_cleanup::{Guard, Host, USAGE_BY_TAG, Usage};
use rusqlite::Connection;
use serde_json::json;
use serde_json::value::RawValue;

use crate::rows::{milliseconds, peak_memory};
use crate::stores::{Like, Stores};

/// All of codescaler's jobs, by kind, target and actor.
pub(crate) fn call(store: &Path) -> Box<RawValue> {
    let by = ["codescaler_kind_", "codescaler_target_", "codescaler_"];
    let params = json!({ "tags": ["codescaler"], "by": by });
    hero_proc_cleanup::call(USAGE_BY_TAG, &params, store, &Host::new(Guard::codescaler()), chrono::Utc::now()).unwrap()
}

/// Against a scan, row by row and with SQLite's own settings, of all that must be read: the columns that usage looks at, and
/// how many bytes every column has.
pub(crate) fn against_scan(stores: &Stores, jobs: usize) -> (f64, f64) {
    let store = stores.of(jobs, Like::Newest);
    bare_scan(&store);
    let started = Instant::now();
    let answer = call(&store);
    let ours = milliseconds(started);
    let usage: Usage = serde_json::from_str(answer.get()).unwrap();
    let started = Instant::now();
    let bytes = bare_scan(&store);
    assert!(usage.bytes > 0 && bytes > usage.bytes + usage.actions_bytes);
    (ours, milliseconds(started))
}

pub(crate) fn bare_scan(store: &Path) -> u64 {
    let connection = Connection::open(store).unwrap();
    let mut bytes = 0;
    for (table, read) in [
        ("actions", "id, context_name, name, spec_json, created_at_ms, updated_at_ms"),
        ("jobs", "id, context_name, action, action_id, tags, phase, created_at_ms"),
    ] {
        let mut columns = connection.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
        let columns: Vec<String> = columns.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let weight = |column| {
            format!(
                ", CASE typeof({column}) WHEN 'text' THEN octet_length({column}) WHEN 'blob' THEN octet_length({column}) END"
            )
        };
        let weights: String = columns.iter().map(weight).collect();
        let mut scan = connection.prepare(&format!("SELECT {read}{weights} FROM {table} NOT INDEXED")).unwrap();
        let results = scan.column_count();
        let mut rows = scan.query(()).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for index in 0..results {
                let value = row.get_ref(index).unwrap();
                bytes +=
                    value.as_i64().ok().filter(|_| index >= results - columns.len()).unwrap_or_default().unsigned_abs();
            }
        }
    }
    bytes
}

/// In MB, of a process that counts a million values of targets.
pub(crate) fn memory(stores: &Stores, jobs: usize) -> (f64, f64) {
    (peak_memory(&stores.of(jobs, Like::WithTargets), "usage"), 100.0)
}
