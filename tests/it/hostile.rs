//! Random input, at every place where input comes in: always an answer, never a panic, nothing untagged touched.
//!
//! The long form: `PROPTEST_CASES=100000 cargo test --release --test it hostile`.

use hero_proc_cleanup::{Guard, Host, PlanToken, cleanup_by_tag};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::Connection;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::sample::Sample;
use crate::server::Server;

fn runner(cases: u32) -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// Any JSON, some of it close to what is meant.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "codescaler(_[a-z]{0,3})?".prop_map(Value::from),
        "(none|-?[0-9]{1,20})\\.[0-9a-f]{60,68}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,5}", inner), 0..4).prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

fn params() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        5 => prop::sample::select(vec!["tags", "older_than_ms", "dry_run", "force", "limit", "max_ids", "expect_plan"])
            .prop_map(ToOwned::to_owned),
        1 => ".{0,8}",
    ];
    // As text, so that names may come twice.
    prop::collection::vec((name, json_value()), 0..5).prop_map(|fields| {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        format!("{{{}}}", fields.join(","))
    })
}

#[test]
fn params_may_be_anything() {
    let sample = Sample::new();
    let host = Host::new(Guard::codescaler());
    runner(2000)
        .run(&params(), |params| {
            let raw: &RawValue = serde_json::from_str(&params).unwrap();
            match cleanup_by_tag(sample.path.as_path(), &host, raw, chrono::Utc::now()) {
                Ok(report) => prop_assert_eq!(report.jobs_matched, report.jobs_planned + report.jobs_kept.sum()),
                Err(error) => {
                    prop_assert!([-32602, -32002, -32020, -32025].contains(&error.code), "{error:?}");
                    prop_assert!(error.kind().is_some() && error.data.is_object());
                }
            }
            Ok(())
        })
        .unwrap();
    assert_others_are_there(&sample.open());
}

#[test]
fn tags_and_specs_may_be_anything() {
    let sample = Sample::new();
    let connection = sample.open();
    let host = Host::new(Guard::codescaler());
    let text = || {
        prop_oneof![
            json_value().prop_map(|value| value.to_string().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..40)
        ]
    };
    let row = (prop::option::of(text()), text(), text(), text(), any::<bool>());
    runner(500)
        .run(&row, |(tags, spec, action, service, blob)| {
            let cast = if blob { "BLOB" } else { "TEXT" };
            connection
                .execute(
                    &format!(
                        "INSERT INTO jobs (action, phase, tags, spec_json, created_at_ms)
                         VALUES ('backup', 'done', CAST(?1 AS {cast}), CAST(?2 AS {cast}), 1700000000000)"
                    ),
                    (&tags, &spec),
                )
                .unwrap();
            let id = connection.last_insert_rowid();
            connection
                .execute(
                    &format!("UPDATE actions SET spec_json = CAST(?1 AS {cast}) WHERE name LIKE 'codescaler%'"),
                    [&action],
                )
                .unwrap();
            connection
                .execute(
                    &format!("INSERT OR REPLACE INTO services (name, spec_json) VALUES ('s', CAST(?1 AS {cast}))"),
                    [&service],
                )
                .unwrap();
            let params = json!({ "tags": ["codescaler"] });
            let report = cleanup_by_tag(sample.path.as_path(), &host, &params, chrono::Utc::now()).unwrap();
            if report.job_ids.contains(&id) {
                // It truly matches: read independently, as JSON without a look at the code.
                let own = tags.map(|tags| serde_json::from_slice::<Value>(&tags).unwrap_or_default());
                let own = own.filter(|own| !own.is_null());
                let tags =
                    own.unwrap_or_else(|| serde_json::from_slice::<Value>(&spec).unwrap_or_default()["tags"].clone());
                prop_assert!(tags.as_array().unwrap().contains(&json!("codescaler")));
            }
            Ok(())
        })
        .unwrap();
    assert_others_are_there(&connection);
}

#[test]
fn tokens_may_be_anything() {
    runner(5000)
        .run(&"(none|[-+]?[0-9]{0,20})?\\.?[0-9a-fA-F]{62,65}|.{0,80}", |token| {
            if let Ok(plan) = token.parse::<PlanToken>() {
                prop_assert_eq!(plan.to_string(), token);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn bodies_may_be_anything() {
    let sample = Sample::new();
    let server = Server::serve(&sample.path, &sample.directory.path().join("rpc.sock"));
    let call = params().prop_map(|params| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"job.cleanup_by_tag","params":{params}}}"#).into_bytes()
    });
    let torn = (call, any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..4)).prop_map(
        |(mut body, at, bytes)| {
            let at = at.index(body.len());
            body.splice(at..(at + bytes.len()).min(body.len()), bytes);
            body
        },
    );
    let body = prop_oneof![3 => torn, 1 => json_value().prop_map(|value| value.to_string().into_bytes()), 1 => prop::collection::vec(any::<u8>(), 0..200)];
    runner(300)
        .run(&body, |body| {
            let answer = server.post(&body);
            if answer.status == 204 {
                prop_assert!(answer.body.is_empty());
                return Ok(());
            }
            prop_assert_eq!(answer.status, 200);
            let answer = answer.json();
            for answer in answer.as_array().unwrap_or(&vec![answer.clone()]) {
                prop_assert_eq!(&answer["jsonrpc"], "2.0");
                prop_assert!(answer.get("result").is_some() != answer.get("error").is_some(), "{}", answer);
                prop_assert!(answer.get("error").is_none_or(|error| error["data"]["kind"].is_string()), "{}", answer);
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(server.get("/health").status, 200);
    assert_others_are_there(&sample.open());
}

#[track_caller]
fn assert_others_are_there(connection: &Connection) {
    let others =
        "SELECT (SELECT count(*) FROM jobs WHERE id = 5) + (SELECT count(*) FROM actions WHERE name = 'backup')";
    assert_eq!(connection.query_row(others, (), |row| row.get::<_, i64>(0)).unwrap(), 2);
}
