//! The params that choose jobs: which are refused, on both sides and before anything is read, how they are understood, and
//! that a plan is one of its own params.

use std::path::Path;

use chrono::Utc;
use hero_proc_cleanup::{Kind, codescaler_tags};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::call::{Control, all_with, bound, call, call_as, digest, dry_run};
use crate::support::sample::{Sample, insert_job, text};
use crate::support::server::{METHOD, Server};

/// A param's name, values of it that are refused, and what is said of them.
type Refused = (&'static str, Vec<Value>, String);

/// What both sides refuse, in the same words.
fn refused_by_both() -> Vec<Refused> {
    let hour_from_now = Utc::now().timestamp_millis() + 3_600_000;
    let no_terminal =
        |phase: &str| format!("param \"phases\" holds {phase:?}, which is no terminal phase, without \"force\"");
    let count = |count: usize| format!("param \"phases\" must hold 1 to 16 phases, not {count}");
    vec![
        ("phases", vec![json!(["faild"]), json!(["done", "faild", "running"])], no_terminal("faild")),
        ("phases", vec![json!(["running"])], no_terminal("running")),
        ("phases", vec![json!([""])], no_terminal("")),
        ("phases", vec![json!(["done "])], no_terminal("done ")),
        ("phases", vec![json!([])], count(0)),
        ("phases", vec![json!(vec!["done"; 17])], count(17)),
        (
            "phases",
            vec![json!("done"), json!({ "0": "done" }), json!(["done", 1]), json!(["done", null]), json!(false)],
            "param \"phases\" must be an array of strings".to_owned(),
        ),
        (
            "keep_last",
            vec![
                json!(0),
                json!(-1),
                json!(10_001),
                json!(1.5),
                json!(1.0),
                json!("3"),
                json!(true),
                json!([1]),
                json!(u64::MAX),
            ],
            "param \"keep_last\" must be an integer from 1 to 10000".to_owned(),
        ),
        ("keep_by", vec![json!([])], "param \"keep_by\" can only be given with \"keep_last\"".to_owned()),
        (
            "before_ms",
            vec![
                json!(0),
                json!(-1),
                json!(99_999_999_999_i64),
                json!(hour_from_now),
                json!(i64::MAX),
                json!(u64::MAX),
                json!(i64::MIN),
                json!(1_700_000_000_000.5),
                json!("2026-01-01"),
                json!([]),
            ],
            // The moment of the call follows.
            "param \"before_ms\" must be an integer from 100000000000 to now, 1".to_owned(),
        ),
        ("leaked", vec![json!(1), json!("false"), json!([])], "param \"leaked\" must be true or false".to_owned()),
        ("Leaked", vec![json!(false)], "param \"Leaked\" is no param of this method".to_owned()),
    ]
}

/// `error` is one of bad params, by the name of `param`.
#[track_caller]
fn assert_names(error: &Value, param: &str, message: &str, given: &Value) {
    let found = (&error["data"]["kind"], &error["data"]["param"]);
    assert_eq!(found, (&json!("invalid_params"), &json!(param)), "{given}: {error}");
    let said = error["message"].as_str().unwrap();
    assert!(said == message || param == "before_ms" && said.starts_with(message), "{given}: {said}, not {message}");
}

/// On a store that does not exist: whoever looked for it would say so.
#[test]
fn heros_side_refuses_bad_filters_before_it_reads() {
    let nowhere = TempDir::new().unwrap().path().join("hero_proc.db");
    let error = |params: &Value| json!({ "data": call(nowhere.as_path(), params).unwrap_err().data });
    assert_eq!(error(&dry_run())["data"]["kind"], "store_unfit", "good params go further");
    let strings = |param: &str| format!("param \"{param}\" must be an array of strings");
    let long = format!("codescaler_{}", "x".repeat(246));
    let mut cases = refused_by_both();
    cases.extend([
        ("except_tags", vec![json!("codescaler_ana"), json!(["codescaler_ana", 1]), json!({})], strings("except_tags")),
        (
            "except_tags",
            vec![json!(vec!["codescaler_ana"; 17])],
            "param \"except_tags\" must hold at most 16 strings, not 17".to_owned(),
        ),
        (
            "except_tags",
            vec![json!([long])],
            "param \"except_tags\" holds a tag of 257 bytes, more than 256".to_owned(),
        ),
    ]);
    for (param, values, message) in cases {
        for value in values {
            for dry_run in [true, false] {
                let params = all_with(json!({ param: value, "dry_run": dry_run }));
                let error = call(nowhere.as_path(), &params).unwrap_err();
                assert_names(&json!({ "message": error.message, "data": error.data }), param, &message, &params);
            }
        }
    }
    // Of two params, or beside another.
    for (more, param, message) in [
        (
            json!({ "older_than_ms": 1, "before_ms": 1_700_000_000_000_i64 }),
            "before_ms",
            "param \"before_ms\" can't be given with \"older_than_ms\"",
        ),
        (
            json!({ "keep_by": ["codescaler_kind_"] }),
            "keep_by",
            "param \"keep_by\" can only be given with \"keep_last\"",
        ),
        (
            json!({ "keep_by": ["codescaler_kind_"], "keep_last": null }),
            "keep_by",
            "param \"keep_by\" can only be given with \"keep_last\"",
        ),
        (
            json!({ "keep_last": 1, "keep_by": "codescaler_kind_" }),
            "keep_by",
            "param \"keep_by\" must be an array of strings",
        ),
        (
            json!({ "keep_last": 1, "keep_by": vec!["codescaler_kind_"; 9] }),
            "keep_by",
            "param \"keep_by\" must hold at most 8 strings, not 9",
        ),
    ] {
        let error = call(nowhere.as_path(), all_with(more.clone())).unwrap_err();
        assert_names(&json!({ "message": error.message, "data": error.data }), param, message, &more);
    }
    for outside in ["", "hero", "codescalers", "kind", "Codescaler_kind_", "codescaler%"] {
        for more in [json!({ "except_tags": ["codescaler", outside] }), json!({ "keep_last": 1, "keep_by": [outside] })]
        {
            let error = call(nowhere.as_path(), all_with(more.clone())).unwrap_err();
            assert_eq!((error.kind(), &error.data["tag"]), (Some(Kind::TagOutsideGuard), &json!(outside)), "{more}");
        }
    }
    // With `force`, any phase may be asked for.
    let params = all_with(json!({ "phases": ["running", "faild", ""], "force": true }));
    assert_eq!(call(nowhere.as_path(), &params).unwrap_err().kind(), Some(Kind::ForceUnavailable));
}

/// In front of a hero_proc that does not exist: whoever asked it would say so.
#[test]
fn the_gateway_refuses_bad_filters_and_asks_nobody() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let gateway = Server::gateway(&path("gateway.sock"), &path("nobody.sock"), &[]);
    let error = |params: &Value| gateway.call("jobs.cleanup", params)["error"].take();
    assert_eq!(error(&json!({ "keep_last": 1 }))["data"]["kind"], "upstream_unreachable", "good params go further");
    let strings = |param: &str| format!("param \"{param}\" must be an array of strings");
    let mut cases = refused_by_both();
    for param in ["except_kind", "except_target", "except_actor"] {
        cases.push((param, vec![json!("build"), json!([1]), json!([null]), json!({}), json!(true)], strings(param)));
        cases.push((param, vec![json!([""]), json!(["a", ""])], format!("param \"{param}\" holds an empty string")));
        let many: Vec<String> = (0..17).map(|number| format!("v{number}")).collect();
        cases.push((param, vec![json!(many)], format!("param \"{param}\" makes more than 16 excepted tags")));
    }
    let ambiguous = r#"actor begins with "kind_" or "target_": its tag would read as another field's"#;
    cases.extend([
        ("except_actor", vec![json!(["kind_build"]), json!(["ana", "target_web"])], ambiguous.to_owned()),
        ("except_kind", vec![json!(["x".repeat(300)])], "kind makes a tag of more than 256 bytes".to_owned()),
        (
            "except_tags",
            vec![json!(["codescaler_ana"]), json!([])],
            "param \"except_tags\" is no param of this method".to_owned(),
        ),
    ]);
    for (param, values, message) in cases {
        for value in values {
            let params = json!({ param: value });
            assert_names(&error(&params), param, &message, &params);
        }
    }
    let of_its_words = "param \"keep_by\" must be an array of \"kind\" and \"target\"";
    for (params, message) in [
        (json!({ "keep_by": ["kind"] }), "param \"keep_by\" can only be given with \"keep_last\""),
        (json!({ "keep_by": ["kind"], "keep_last": null }), "param \"keep_by\" can only be given with \"keep_last\""),
        (json!({ "keep_last": 1, "keep_by": ["actor"] }), of_its_words),
        (json!({ "keep_last": 1, "keep_by": ["kind", ""] }), of_its_words),
        (json!({ "keep_last": 1, "keep_by": ["codescaler_kind_"] }), of_its_words),
        (json!({ "keep_last": 1, "keep_by": "kind" }), "param \"keep_by\" must be an array of strings"),
    ] {
        assert_names(&error(&params), "keep_by", message, &params);
    }
    let both = json!({ "older_than_ms": 1, "before_ms": 1_700_000_000_000_i64 });
    assert_names(&error(&both), "before_ms", "param \"before_ms\" can't be given with \"older_than_ms\"", &both);
    // Together, too, they may be no more than a call can have.
    let nine: Vec<String> = (0..9).map(|number| format!("v{number}")).collect();
    let params = json!({ "except_kind": nine, "except_target": nine });
    let message = "param \"except_target\" makes more than 16 excepted tags";
    assert_names(&error(&params), "except_target", message, &params);
}

/// Clients that were generated write null for none.
#[test]
fn null_counts_as_absent_on_both_sides() {
    let sample = Sample::new();
    let server = sample.serve();
    let gateway = sample.gateway(&server);
    let both = [
        "older_than_ms",
        "before_ms",
        "phases",
        "keep_last",
        "keep_by",
        "leaked",
        "force",
        "limit",
        "max_ids",
        "expect_plan",
    ];
    for (server, method, own) in [
        (&server, METHOD, &["except_tags"][..]),
        (&gateway, "jobs.cleanup", &["kind", "target", "actor", "except_kind", "except_target", "except_actor"]),
    ] {
        let plain = if method == METHOD { dry_run() } else { json!({ "dry_run": true }) };
        let expected = server.call(method, &plain)["result"].take();
        let names: Vec<&str> = both.iter().chain(own).copied().collect();
        let mut every = plain.clone();
        let mut cases: Vec<Value> = Vec::new();
        for name in names {
            every[name] = Value::Null;
            let mut one = plain.clone();
            one[name] = Value::Null;
            cases.push(one);
        }
        cases.push(every);
        for params in cases {
            let answer = server.call(method, &params);
            let report = &answer["result"];
            assert_eq!(report["asked"], json!({ "tags": ["codescaler"] }), "{params}: {answer}");
            let plans = [report, &expected].map(|report| digest(report["plan"].as_str().unwrap()));
            assert_eq!(plans[0], plans[1], "{params}");
        }
        // But for the tags, and for what nobody knows.
        for name in ["tags", "older_than", "except"] {
            let mut params = plain.clone();
            params[name] = Value::Null;
            assert_eq!(server.call(method, &params)["error"]["data"]["param"], name);
        }
    }
    // One that is no dry run deletes.
    let report = call(&sample, all_with(json!({ "dry_run": null }))).unwrap();
    assert_eq!((report.dry_run, report.jobs_deleted), (false, 3));
}

/// A report repeats the params as they were understood.
#[test]
fn what_was_asked_is_canonical() {
    let sample = Sample::empty();
    let asked = |params: Value| json!(call(&sample, params).unwrap().asked);
    let age = |older_than_ms: i64| all_with(json!({ "older_than_ms": older_than_ms, "limit": 7 }));
    assert_eq!(asked(dry_run()), json!({ "tags": ["codescaler"] }));
    assert_eq!(asked(age(0)), json!({ "tags": ["codescaler"], "older_than_ms": 0, "limit": 7 }));
    let defaults = json!({ "except_tags": [], "leaked": true, "force": false, "max_ids": 3, "dry_run": true });
    assert_eq!(asked(all_with(defaults)), json!({ "tags": ["codescaler"] }));
    let messy = json!({
        "tags": ["codescaler_kind_x", "codescaler", "codescaler_ana", "codescaler"],
        "except_tags": ["codescaler_target_z", "codescaler_kind_y", "codescaler_target_z"],
        "before_ms": 1_700_000_000_000_i64,
        "phases": ["FAILED", "done", "Done", "failed"],
        "keep_last": 3,
        "keep_by": ["codescaler_target_", "codescaler_kind_", "codescaler_target_"],
        "leaked": false,
        "limit": 50_000,
    });
    let clear = json!({
        "tags": ["codescaler", "codescaler_ana", "codescaler_kind_x"],
        "except_tags": ["codescaler_kind_y", "codescaler_target_z"],
        "before_ms": 1_700_000_000_000_i64,
        "phases": ["done", "failed"],
        "keep_last": 3,
        "keep_by": ["codescaler_kind_", "codescaler_target_"],
        "leaked": false,
        "limit": 50_000,
    });
    assert_eq!(asked(messy.clone()), clear);
    assert_eq!(asked(clear.clone()), clear, "it is what can be asked again");
    let [messy, clear] = [messy, clear].map(|params| call(&sample, params).unwrap().plan);
    assert_eq!(digest(&messy), digest(&clear), "both have one plan");
    // No prefix at all is another question than none given.
    let by_none = all_with(json!({ "keep_last": 1, "keep_by": [] }));
    assert_eq!(asked(by_none.clone()), json!({ "tags": ["codescaler"], "keep_last": 1, "keep_by": [] }));
    let by_all = all_with(json!({ "keep_last": 1 }));
    assert_eq!(asked(by_all.clone()), json!({ "tags": ["codescaler"], "keep_last": 1 }));
    let [by_none, by_all] = [by_none, by_all].map(|params| call(&sample, params).unwrap().plan);
    assert_ne!(digest(&by_none), digest(&by_all));
    let forced = all_with(json!({ "force": true, "phases": ["Running"] }));
    let report = call_as(&sample, &Control::willing().host(), forced).unwrap();
    assert_eq!(json!(report.asked), json!({ "tags": ["codescaler"], "force": true, "phases": ["running"] }));
}

/// What the gateway's own params become, and what goes by them.
#[test]
fn the_gateways_filters_become_tags() {
    let sample = Sample::empty();
    let store = sample.open();
    let mut ids = Vec::new();
    for (actor, kind, target) in [
        ("ana", "build", "web"),
        ("ana", "build", "web"),
        ("ana", "release", "web"),
        ("bob", "build", "api"),
        ("ana", "test", "api"),
        ("ana", "test", "web"),
        ("", "", ""),
    ] {
        let tags = codescaler_tags(actor, kind, target).unwrap();
        ids.push(insert_job(&store, "x", text(json!(tags).to_string()), text("{}")));
    }
    let server = sample.serve();
    let gateway = sample.gateway(&server);
    for (params, planned, asked) in [
        (
            json!({ "except_kind": ["release"] }),
            &[1, 2, 4, 5, 6, 7][..],
            json!({ "except_tags": ["codescaler_kind_release"] }),
        ),
        (
            json!({ "except_kind": ["build", "test"], "except_actor": ["bob"], "except_target": ["api"] }),
            &[3, 7],
            json!({ "except_tags": [
                "codescaler_bob", "codescaler_kind_build", "codescaler_kind_test", "codescaler_target_api"
            ] }),
        ),
        (json!({ "except_kind": [] }), &[1, 2, 3, 4, 5, 6, 7], json!({})),
        // The last of each kind stays; so does the last without one.
        (json!({ "keep_last": 1 }), &[1, 2, 5], json!({ "keep_last": 1, "keep_by": ["codescaler_kind_"] })),
        (
            json!({ "keep_last": 1, "keep_by": ["target", "kind"] }),
            &[1],
            json!({ "keep_last": 1, "keep_by": ["codescaler_kind_", "codescaler_target_"] }),
        ),
        (
            json!({ "keep_last": 1, "keep_by": ["target"] }),
            &[1, 2, 3, 4],
            json!({ "keep_last": 1, "keep_by": ["codescaler_target_"] }),
        ),
        (json!({ "keep_last": 2, "keep_by": [] }), &[1, 2, 3, 4, 5], json!({ "keep_last": 2, "keep_by": [] })),
        (json!({ "phases": ["failed"] }), &[], json!({ "phases": ["failed"] })),
    ] {
        let mut call = params.clone();
        call["dry_run"] = true.into();
        let report = gateway.call("jobs.cleanup", &call)["result"].take();
        assert_eq!(report["job_ids"], json!(planned), "{params}");
        let mut expected = asked;
        expected["tags"] = json!(["codescaler"]);
        assert_eq!(report["asked"], expected, "{params}");
    }
}

/// A plan of other params is refused by name, before anything is read: on a store that does not exist, too.
#[test]
fn a_plan_of_other_params_is_refused_before_anything_is_read() {
    let sample = Sample::new();
    let shown = call(&sample, dry_run()).unwrap();
    let nowhere = Path::new("/nowhere/hero_proc.db");
    for more in [
        json!({ "older_than_ms": 0 }),
        json!({ "before_ms": 1_700_000_000_000_i64 }),
        json!({ "except_tags": ["codescaler_ana"] }),
        json!({ "phases": ["done"] }),
        json!({ "keep_last": 1 }),
        json!({ "leaked": false }),
        json!({ "limit": 50_000 }),
    ] {
        for dry_run in [true, false] {
            let mut params = bound(&shown.plan);
            params["dry_run"] = dry_run.into();
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let error = call(nowhere, &params).unwrap_err();
            let told = (error.code, &error.data["kind"], &error.data["reason"], error.data.get("plan"));
            assert_eq!(told, (-32020, &json!("plan_changed"), &json!("params"), None), "{params}");
        }
    }
    let error = call(nowhere, bound(&shown.plan)).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::StoreUnfit), "with its own params, the store is looked for");

    // The set of its own params.
    sample.execute("UPDATE jobs SET phase = 'failed' WHERE id = 1");
    let before = sample.dump();
    let error = call(&sample, bound(&shown.plan)).unwrap_err();
    let told = (error.code, &error.data["reason"], &error.data["jobs_planned"]);
    assert_eq!(told, (-32020, &json!("set"), &json!(3)));
    assert_eq!(sample.dump(), before);
    let plan = error.data["plan"].as_str().unwrap();
    assert_eq!(call(&sample, bound(plan)).unwrap().jobs_deleted, 3);
}
