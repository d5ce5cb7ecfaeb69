//! Random input, at every place where input comes in, and what is large or can't be read: always an answer, never a panic,
//! nothing untagged touched.
//!
//! The long form: `PROPTEST_CASES=100000 cargo test --release --test it hostile -- --include-ignored`, and `fuzz/`.

use hero_proc_cleanup::{PlanToken, inspect};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::types::Value as Cell;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::support::call::{all, call, checked, host};
use crate::support::sample::{Sample, assert_others_are_there, insert_action, insert_job, insert_service, text};

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
    runner(2000)
        .run(&params(), |params| {
            let raw: &RawValue = serde_json::from_str(&params).unwrap();
            match call(&sample, raw) {
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
            let report = call(&sample, all()).unwrap();
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
    let server = sample.serve();
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

#[test]
fn specs_may_be_large() {
    large_specs(8_000_000);
}

#[test]
#[ignore = "takes half a minute and a gigabyte"]
fn specs_may_be_huge() {
    large_specs(100_000_000);
}

fn large_specs(bytes: usize) {
    let sample = Sample::empty();
    let connection = sample.open();
    let script = "x".repeat(bytes);
    let names = "\"x\",".repeat(bytes / 4);
    let tagged = format!(r#"{{"script":"{script}","tags":["codescaler"]}}"#);
    let by_spec = insert_job(&connection, "goes", Cell::Null, tagged.clone());
    let by_column = insert_job(&connection, "listed", r#"["codescaler"]"#.to_owned(), tagged.clone());
    let torn = insert_job(&connection, "x", Cell::Null, tagged[..bytes].to_owned());
    insert_action(&connection, "goes", tagged);
    insert_action(&connection, "listed", r#"{"tags":["codescaler"]}"#.to_owned());
    insert_service(&connection, "s", format!(r#"{{"actions":[{names}"listed"]}}"#));
    drop((script, names));
    let report = checked(&sample).unwrap();
    assert_eq!((report.job_ids, report.action_ids), (vec![by_spec, by_column], vec!["goes".to_owned()]));
    assert_eq!(json!(report.actions_kept[0].by), "service s");
    assert_eq!(sample.jobs(), [torn]);
}

/// A reference may mean what follows each of its dots. It costs what its length does, whatever it is made of.
#[test]
fn a_name_of_dots_costs_no_more_than_another() {
    let sample = Sample::new();
    let connection = sample.open();
    let dots = ".".repeat(400_000);
    let depends = json!({ "depends_on": [dots] }).to_string();
    connection
        .execute("UPDATE jobs SET action = ?1, action_id = NULL, spec_json = ?2 WHERE id = 3", (&dots, depends))
        .unwrap();
    let spec = json!({ "actions": [format!("{dots}codescaler_build_12")] });
    insert_service(&connection, &dots, spec.to_string());
    let answer = sample.serve().cleanup();
    let report = &answer["result"];
    assert_eq!(
        (&report["job_ids"], &report["action_ids"]),
        (&json!([1, 2, 4]), &json!(["codescaler_build_77", "codescaler_build_78"]))
    );
    assert_eq!(report["actions_kept"][0]["reason"], "service", "{}", report["actions_kept"]);
}

/// The memory that a store takes is a small multiple of its text, however often one of its rows is meant.
#[test]
fn a_long_name_is_in_memory_once() {
    let sample = Sample::empty();
    let names: Vec<String> = (0..4000).map(|number| format!("action_{number}")).collect();
    let mut connection = sample.open();
    let transaction = connection.transaction().unwrap();
    for name in &names {
        insert_job(&transaction, name, r#"["codescaler"]"#.to_owned(), "{}".to_owned());
        insert_action(&transaction, name, r#"{"tags":["codescaler"]}"#.to_owned());
    }
    let long = "x".repeat(500_000);
    insert_service(&transaction, &long, json!({ "actions": names }).to_string());
    insert_job(
        &transaction,
        &long,
        r#"["ops"]"#.to_owned(),
        json!({ "depends_on": names, "actions": names }).to_string(),
    );
    transaction.commit().unwrap();
    let server = sample.serve();
    server.says("the store fits");
    let answer = server.cleanup();
    let report = &answer["result"];
    assert_eq!((&report["jobs_deleted"], &report["actions_kept_count"]), (&json!(4000), &json!(4000)));
    let kilobytes = server.status("VmHWM");
    assert!(kilobytes < 150_000, "{kilobytes} kB");
}

/// An action goes only if its spec can be read as a whole, and says that it is codescaler's.
#[test]
fn only_actions_that_truly_carry_the_root_tag_go() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let many = |last: &str| json!({ "tags": ([vec!["x"; 99_999], vec![last]].concat()) }).to_string();
    let specs = [
        (text(r#"{"tags":["codescaler"]}"#), None),
        (text(r#"{"tags":["x","c\u006fdescaler"],"schedule_policy":null}"#), None),
        (text(format!(r#"{{"env":{deep},"tags":["codescaler"]}}"#)), None),
        (text(many("codescaler")), None),
        (text(json!({ "tags": ["y".repeat(1 << 20), "codescaler"] }).to_string()), None),
        (text(many("codescalers")), Some("untagged")),
        (text(format!(r#"{{"depends_on":{deep},"tags":["codescaler"]}}"#)), Some("untagged")),
        (text(format!(r#"{{"tags":{deep}}}"#)), Some("untagged")),
        (text(r#"{"tags":["codescaler"],"schedule_policy":{}}"#), Some("schedule")),
        (text(format!(r#"{{"tags":["codescaler"],"schedule_policy":{deep}}}"#)), Some("schedule")),
        (text(r#"{"tags":["ops"],"tags":["codescaler"]}"#), Some("untagged")),
        (text(r#"{"tags":["codescaler"],"schedule_policy":{},"schedule_policy":null}"#), Some("untagged")),
        (text(r#"{"tags":["codescaler"],"cpu":NaN}"#), Some("untagged")),
        (text(r#"{"tags":["codescaler"],"cpu":-Infinity}"#), Some("untagged")),
        (text(r#"{"tags":["codescaler",NaN]}"#), Some("untagged")),
        (text(r#"{"tags":["codescaler"]}{}"#), Some("untagged")),
        (text(r#"[["codescaler"]]"#), Some("untagged")),
        (text(r#"{"env":{"tags":["codescaler"]}}"#), Some("untagged")),
        (text(r#"["codescaler"]"#), Some("untagged")),
        (text("null"), Some("untagged")),
        (text(""), Some("untagged")),
        (Cell::Integer(7), Some("untagged")),
        (Cell::Blob(b"\xff".to_vec()), Some("untagged")),
        // No UTF-8, where nobody looks.
        (Cell::Blob(b"{\"script\":\"\xff\",\"tags\":[\"codescaler\"]}".to_vec()), Some("untagged")),
        (Cell::Blob(b"{\"\xff\":0,\"tags\":[\"codescaler\"]}".to_vec()), Some("untagged")),
    ];
    let sample = Sample::empty();
    let connection = sample.open();
    let (mut goes, mut stays) = (Vec::new(), Vec::new());
    for as_text in [false, true] {
        for (number, (spec, reason)) in specs.iter().enumerate() {
            // Two digits, so that the order of the names is that of the numbers.
            let name = format!("{as_text}_{number:02}");
            insert_job(&connection, &name, r#"["codescaler"]"#.to_owned(), "{}".to_owned());
            insert_action(&connection, &name, spec.clone());
            if as_text {
                let cast = "UPDATE actions SET spec_json = CAST(spec_json AS TEXT) WHERE name = ?1";
                connection.execute(cast, [&name]).unwrap();
            }
            match reason {
                Some(reason) => stays.push((name, *reason)),
                None => goes.push(name),
            }
        }
    }
    let report = checked(&sample).unwrap();
    assert_eq!(report.action_ids, goes);
    let kept: Vec<_> = report.actions_kept.iter().map(|kept| (kept.action_id.clone(), json!(kept.reason))).collect();
    assert_eq!(kept, stays.into_iter().map(|(name, reason)| (name, json!(reason))).collect::<Vec<_>>());
}

/// What can't be read may refer to whatever it names.
#[test]
fn unreadable_specs_hold_on_to_what_they_name() {
    let deep = format!(r#"{}"kept"{}"#, "[".repeat(10_000), "]".repeat(10_000));
    for spec in [
        format!(r#"{{"actions":{deep}}}"#).into_bytes(),
        br#"{"actions":["kept""#.to_vec(),
        br#"{"actions":["kept"],"x":NaN}"#.to_vec(),
        br#"{"actions":["kept"],"actions":[]}"#.to_vec(),
        b"{\"x\":\"\xff\",\"actions\":[\"kept\"]}".to_vec(),
        b"\xff\"kept".to_vec(),
    ] {
        for cast in ["TEXT", "BLOB"] {
            let sample = Sample::empty();
            let connection = sample.open();
            insert_job(&connection, "kept", r#"["codescaler"]"#.to_owned(), "{}".to_owned());
            insert_action(&connection, "kept", r#"{"tags":["codescaler"]}"#.to_owned());
            insert_service(&connection, "s", spec.clone());
            sample.execute(&format!("UPDATE services SET spec_json = CAST(spec_json AS {cast})"));
            let report = checked(&sample).unwrap();
            assert_eq!((report.jobs_deleted, report.actions_deleted), (1, 0), "{}", String::from_utf8_lossy(&spec));
            assert_eq!(json!(report.actions_kept[0].by), "service s");
        }
    }
}

/// `check` counts as codescaler's what a cleanup would match.
#[test]
fn a_check_and_a_cleanup_agree() {
    for (tags, spec, tagged) in [
        (None, r#"{"tags":["codescaler"]}"#, 1),
        (Some("null"), r#"{"tags":["codescaler"]}"#, 1),
        (Some("\u{a0}null"), r#"{"tags":["codescaler"]}"#, 0),
        (None, r#"[["codescaler"]]"#, 0),
        (None, r#"{"tags":["codescaler"],"schedule_policy":1,"schedule_policy":null}"#, 0),
        (Some(r#"["codescaler","codescaler"]"#), "{}", 1),
    ] {
        let sample = Sample::empty();
        insert_job(&sample.open(), "a", tags.map(ToOwned::to_owned), spec.to_owned());
        let found = inspect(sample.path.as_path(), &host()).unwrap();
        assert_eq!(checked(&sample).unwrap().jobs_matched, tagged, "{tags:?} {spec}");
        assert_eq!(found.jobs.tagged, tagged, "{tags:?} {spec}");
        assert_eq!(found.jobs.malformed, 1 - tagged, "{tags:?} {spec}");
    }
}
