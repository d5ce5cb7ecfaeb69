//! Params of `job.cleanup_by_tag`: whatever they are, the guard holds, and an error changes nothing.
#![no_main]

#[allow(dead_code, reason = "each target uses a part of it")]
mod store;

use std::cell::RefCell;

use hero_proc_cleanup::{Report, RpcError};
use libfuzzer_sys::fuzz_target;
use rusqlite::Connection;
use serde_json::value::RawValue;

thread_local! {
    static STORE: RefCell<Connection> = {
        let connection = Connection::open_in_memory().expect("a store");
        connection.execute_batch(store::SCHEMA).expect("a schema");
        store::fill(&connection, store::SAMPLE);
        RefCell::new(connection)
    };
}

fuzz_target!(|bytes: &[u8]| {
    STORE.with_borrow_mut(|connection| {
        let host = store::host();
        let before = store::rows(connection);
        let mut outcome = |raw: Option<&RawValue>| {
            let outcome = match raw {
                Some(params) => store::call(connection, &host, params),
                None => {
                    let params = &mut serde_json::Deserializer::from_slice(bytes);
                    store::call(connection, &host, params)
                }
            };
            let after = store::rows(connection);
            store::check(&before, &after, &outcome);
            if before != after {
                store::fill(connection, store::SAMPLE);
            }
            outcome
        };
        let read = outcome(None);
        // As a server has them: cut out of a body.
        if let Ok(raw) = serde_json::from_slice::<&RawValue>(bytes) {
            assert_eq!(timeless(outcome(Some(raw))), timeless(read));
        }
    });
});

fn timeless(outcome: Result<Report, RpcError>) -> Result<Report, RpcError> {
    outcome.map(|mut report| {
        (report.duration_ms, report.lock_ms, report.bytes_freed) = (0.0, 0.0, 0);
        report
    })
}
