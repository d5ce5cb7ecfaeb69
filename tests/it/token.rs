//! The plan token: what was shown is what goes, or nothing.

use hero_proc_cleanup::{Kind, Report, RpcError};
use serde_json::{Value, json};

use crate::support::call::{Control, all, all_with, bound, call, call_as, digest, dry_run};
use crate::support::sample::{SCHEMA, Sample};
use crate::support::server::{METHOD, Server};

/// A call of a host to which every job is as good as stopped.
fn call_forced(sample: &Sample, params: &Value) -> Result<Report, RpcError> {
    call_as(sample, &Control::willing().host(), params)
}

/// Two finished jobs, each with its action, and a third that runs.
fn sample() -> Sample {
    let sample = Sample::empty();
    sample.execute(
        r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags, created_at_ms) VALUES
                 ('a', 'a', '{}', 'done', '["codescaler"]', 1700000000000),
                 ('b', 'b', '{}', 'failed', '["codescaler"]', 1700000000000),
                 ('c', 'c', '{}', 'running', '["codescaler"]', 1700000000000),
                 ('x', 'x', '{}', 'done', '["ops"]', 1700000000000);
               INSERT INTO actions (name, spec_json) VALUES
                 ('a', '{"tags":["codescaler"]}'), ('b', '{"tags":["codescaler"]}'), ('c', '{"tags":["codescaler"]}'),
                 ('x', '{"tags":["ops"]}');
               INSERT INTO services (name, spec_json) VALUES ('web', '{"actions":["x"]}');"#,
    );
    sample
}

#[test]
fn it_is_the_same_for_as_long_as_the_same_would_go() {
    let sample = sample();
    let plan = call(&sample, dry_run()).unwrap().plan;
    for same in [
        json!({ "tags": ["codescaler", "codescaler"], "dry_run": true }),
        all_with(json!({ "dry_run": true, "max_ids": 1 })),
        all_with(json!({ "dry_run": true, "limit": null, "force": false, "leaked": true, "except_tags": [] })),
    ] {
        assert_eq!(digest(&call(&sample, &same).unwrap().plan), digest(&plan), "{same}");
    }
    // A plan that is expected brings its own moment.
    assert_eq!(call(&sample, all_with(json!({ "dry_run": true, "expect_plan": plan }))).unwrap().plan, plan);
    // What has nothing to do with it may change.
    sample.execute("UPDATE jobs SET phase = 'failed', stderr = 'x' WHERE action = 'x'; VACUUM");
    let report = call(&sample, bound(&plan)).unwrap();
    assert_eq!((report.jobs_deleted, report.actions_deleted, report.plan), (2, 2, plan));
}

#[test]
fn its_cut_off_is_the_one_that_was_shown() {
    let sample = sample();
    let asked = all_with(json!({ "dry_run": true, "older_than_ms": 0 }));
    let shown = call(&sample, &asked).unwrap();
    sample.execute("UPDATE jobs SET phase = 'done', created_at_ms = 32503680000000 WHERE id = 3");
    let params = all_with(json!({ "older_than_ms": 0, "expect_plan": shown.plan }));
    let done = call(&sample, &params).unwrap();
    assert_eq!((done.cutoff_ms, done.jobs_deleted), (shown.cutoff_ms, 2));
    assert!(shown.plan.starts_with(&format!("{}.", shown.cutoff_ms.unwrap())));
}

#[test]
fn other_params_have_another_plan() {
    let sample = sample();
    let before = sample.dump();
    let plan = call(&sample, dry_run()).unwrap().plan;
    let aged = call(&sample, all_with(json!({ "dry_run": true, "older_than_ms": 1 }))).unwrap().plan;
    for (plan, params) in [
        (&plan, json!({ "tags": ["codescaler", "codescaler_ana"] })),
        (&plan, json!({ "tags": ["codescaler_ana"] })),
        (&plan, all_with(json!({ "limit": 50_000 }))),
        (&plan, all_with(json!({ "leaked": false }))),
        (&plan, all_with(json!({ "except_tags": ["codescaler_ana"] }))),
        (&plan, all_with(json!({ "phases": ["done", "failed"] }))),
        (&plan, all_with(json!({ "keep_last": 10_000 }))),
        (&plan, all_with(json!({ "before_ms": 1_700_000_000_000_i64 }))),
        (&plan, all_with(json!({ "older_than_ms": 1 }))),
        (&aged, all_with(json!({ "older_than_ms": 2 }))),
        (&aged, all()),
    ] {
        let mut params = params;
        params["expect_plan"] = plan.as_str().into();
        let error = call(&sample, &params).unwrap_err();
        assert_eq!((error.kind(), &error.data["reason"]), (Some(Kind::PlanChanged), &json!("params")), "{params}");
    }
    assert_eq!(sample.dump(), before);
}

/// A plan's cut-off and the tags asked for are part of it, even where what would go is the same.
#[test]
fn what_was_asked_for_is_bound() {
    let sample = sample();
    sample.execute(r#"UPDATE jobs SET tags = '["codescaler","codescaler_ana"]' WHERE id < 4"#);
    let before = sample.dump();
    let shown = call(&sample, all_with(json!({ "dry_run": true, "older_than_ms": 1 }))).unwrap();
    let rest = shown.plan.split_once('.').unwrap().1;
    let forged = format!("{}.{rest}", shown.cutoff_ms.unwrap() - 1);
    let error = call(&sample, all_with(json!({ "older_than_ms": 1, "expect_plan": forged }))).unwrap_err();
    let planned = (&error.data["reason"], &error.data["jobs_planned"], &error.data["actions_planned"]);
    assert_eq!((error.kind(), planned), (Some(Kind::PlanChanged), (&json!("set"), &json!(2), &json!(2))));
    let params = json!({ "tags": ["codescaler_ana"], "older_than_ms": 1, "expect_plan": shown.plan });
    let error = call(&sample, params).unwrap_err();
    assert_eq!((error.kind(), &error.data["reason"]), (Some(Kind::PlanChanged), &json!("params")));
    assert_eq!(sample.dump(), before);
}

/// What is asked for differs, even where what would go does not.
#[test]
fn with_force_it_is_another_plan() {
    for all_finished in [false, true] {
        let sample = sample();
        if all_finished {
            sample.execute("UPDATE jobs SET phase = 'done'");
        }
        let before = sample.dump();
        let plan = |force: bool| {
            let params = all_with(json!({ "dry_run": true, "force": force }));
            call_forced(&sample, &params).unwrap()
        };
        let (gentle, forced) = (plan(false), plan(true));
        assert_eq!(gentle.job_ids == forced.job_ids, all_finished);
        for (force, plan) in [(true, &gentle.plan), (false, &forced.plan)] {
            for dry_run in [true, false] {
                let params = all_with(json!({ "force": force, "expect_plan": plan, "dry_run": dry_run }));
                let error = call_forced(&sample, &params).unwrap_err();
                assert_eq!((error.kind(), error.data.get("jobs_stopped")), (Some(Kind::PlanChanged), None));
            }
        }
        assert_eq!(sample.dump(), before);
        let params = all_with(json!({ "force": true, "expect_plan": forced.plan }));
        assert_eq!(call_forced(&sample, &params).unwrap().job_ids, forced.job_ids);
    }
}

/// Of another process, and of one that has been started again.
#[test]
fn it_outlives_the_process_that_made_it() {
    for age in [json!({}), json!({ "older_than_ms": 86_400_000 })] {
        let sample = sample();
        let mut params = all_with(age);
        params["dry_run"] = true.into();
        let shown = sample.serve().call(METHOD, &params)["result"].take();
        assert_eq!((&shown["job_ids"], &shown["action_ids"]), (&json!([1, 2]), &json!(["a", "b"])));

        params["expect_plan"] = shown["plan"].clone();
        let again = sample.serve();
        let other = Server::serve(&sample.path, &sample.file("other.sock"));
        for server in [&again, &other] {
            assert_eq!(server.call(METHOD, &params)["result"]["plan"], shown["plan"]);
        }
        assert_eq!(call(&sample, &params).unwrap().plan, shown["plan"], "in a host of its own");
        drop(again);
        params["dry_run"] = false.into();
        let done = sample.serve().call(METHOD, &params)["result"].take();
        assert_eq!((&done["job_ids"], &done["action_ids"]), (&shown["job_ids"], &shown["action_ids"]));
        assert_eq!((&done["plan"], &done["cutoff_ms"]), (&shown["plan"], &shown["cutoff_ms"]));
        let changed = &other.call(METHOD, &params)["error"];
        assert_eq!((&changed["code"], &changed["data"]["jobs_planned"]), (&json!(-32020), &json!(0)));
    }
}

#[test]
fn what_is_no_token_is_a_bad_param() {
    let sample = sample();
    let plan = call(&sample, dry_run()).unwrap().plan;
    let (now, hex) = plan.strip_prefix("none.").unwrap().split_once('.').unwrap();
    let mut tokens = [
        "",
        ".",
        "..",
        "none",
        "none.",
        hex,
        &format!("{now}.{hex}"),
        &format!("none.{hex}"),
        &format!("none.{now}"),
        &format!("none.{now}."),
        &format!("none.{now}.{now}.{hex}"),
        &format!("none.none.{hex}"),
        &format!("None.{now}.{hex}"),
        &format!("none.{now}.{}", hex.to_uppercase()),
        &format!("none.{now}.{}", &hex[1..]),
        &format!("none.{now}.{hex}0"),
        &format!("none.{now}.{hex} "),
        &format!(" none.{now}.{hex}"),
        &format!("none.{now}.{}", "ä".repeat(hex.len() / 2)),
        &format!("none.{now}.{hex}\0"),
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    for number in ["", "+1", "01", "-0", "1e3", "9223372036854775808", "1 "] {
        tokens.extend([format!("{number}.{now}.{hex}"), format!("none.{number}.{hex}")]);
    }
    for token in &tokens {
        let error = call(&sample, bound(token)).unwrap_err();
        assert_eq!(
            (error.kind(), &error.data["param"]),
            (Some(Kind::InvalidParams), &json!("expect_plan")),
            "{token:?}"
        );
    }
    let (params, set) = hex.split_at(16);
    let error = call(&sample, bound(&format!("none.{now}.{params}{}", "0".repeat(set.len())))).unwrap_err();
    assert_eq!((error.kind(), error.code), (Some(Kind::PlanChanged), -32020));
    let data = (&error.data["reason"], &error.data["jobs_planned"], &error.data["actions_planned"]);
    assert_eq!(data, (&json!("set"), &json!(2), &json!(2)));
    assert_eq!(error.data["plan"], plan);
    assert_eq!(error.message, "the set is no longer that of the plan: 2 jobs and 2 actions would go now");
    let error = call(&sample, bound(&format!("none.{now}.{}{set}", "0".repeat(params.len())))).unwrap_err();
    assert_eq!((error.code, &error.data["reason"]), (-32020, &json!("params")));
    assert_eq!(error.message, "the plan is one of other params: a call must have those of its dry run");
}

#[test]
fn every_change_of_what_was_shown_is_refused() {
    for (change, jobs, actions) in [
        ("UPDATE jobs SET phase = 'done' WHERE id = 3", 3, 3),
        ("UPDATE jobs SET phase = 'running' WHERE id = 1", 1, 1),
        ("UPDATE jobs SET phase = 'succeeded' WHERE id = 1", 2, 2),
        (r#"INSERT INTO jobs (action, spec_json, phase, tags) VALUES ('n', '{}', 'done', '["codescaler"]')"#, 3, 2),
        ("DELETE FROM jobs WHERE id = 2", 1, 1),
        (r#"UPDATE jobs SET tags = '["ops"]' WHERE id = 2"#, 1, 1),
        (r#"UPDATE jobs SET tags = '["codescaler","codescaler_new"]' WHERE id = 2"#, 2, 2),
        (r#"UPDATE jobs SET tags = '["codescaler"]' WHERE id = 4"#, 3, 2),
        ("UPDATE jobs SET action_id = NULL, action = 'gone' WHERE id = 2", 2, 1),
        ("UPDATE jobs SET action_id = 'a' WHERE id = 2", 2, 1),
        ("UPDATE jobs SET context_name = 'lab' WHERE id = 2", 2, 1),
        // The same set would go, but it is not what was shown.
        ("UPDATE jobs SET action = 'other' WHERE id = 1", 2, 2),
        // It ran again and ended as before; it was set anew.
        ("UPDATE jobs SET attempt = attempt + 1 WHERE id = 2", 2, 2),
        ("UPDATE actions SET updated_at_ms = 1700000000001 WHERE name = 'b'", 2, 2),
        ("UPDATE actions SET created_at_ms = 1700000000001 WHERE name = 'b'", 2, 2),
        // An action leaks.
        (
            r#"INSERT INTO actions (name, spec_json, created_at_ms) VALUES ('n', '{"tags":["codescaler"]}', 1700000000000)"#,
            2,
            3,
        ),
        // References gained …
        ("UPDATE jobs SET action = 'b' WHERE id = 4", 2, 1),
        ("UPDATE jobs SET action_id = 'b' WHERE id = 3", 2, 1),
        (r#"UPDATE services SET spec_json = '{"actions":["b"]}'"#, 2, 1),
        (r#"UPDATE actions SET spec_json = '{"tags":["ops"],"depends_on":["b"]}' WHERE name = 'x'"#, 2, 1),
        (r#"UPDATE actions SET spec_json = '{"tags":["codescaler"],"schedule_policy":{}}' WHERE name = 'b'"#, 2, 1),
        (r#"UPDATE actions SET spec_json = '{"tags":[]}' WHERE name = 'b'"#, 2, 1),
        ("DELETE FROM actions WHERE name = 'b'", 2, 1),
        ("UPDATE actions SET name = 'renamed' WHERE name = 'b'", 2, 1),
    ] {
        let sample = sample();
        let plan = call(&sample, dry_run()).unwrap().plan;
        sample.execute(change);
        let before = sample.dump();
        for dry_run in [true, false] {
            let params = all_with(json!({ "expect_plan": plan, "dry_run": dry_run }));
            let error = call(&sample, &params).expect_err(change);
            assert_eq!(error.kind(), Some(Kind::PlanChanged), "{change}");
            let planned = (&error.data["jobs_planned"], &error.data["actions_planned"]);
            assert_eq!(planned, (&json!(jobs), &json!(actions)), "{change}");
            assert_eq!(sample.dump(), before, "{change}");
            // Its new plan is one that goes.
            if !dry_run {
                let report = call(&sample, bound(error.data["plan"].as_str().unwrap())).unwrap();
                assert_eq!((report.jobs_deleted, report.actions_deleted), (jobs, actions), "{change}");
            }
        }
    }
}

/// … and lost: an action that was shown to stay would go now.
#[test]
fn a_lost_reference_is_a_change_too() {
    let sample = sample();
    sample.execute("UPDATE jobs SET action_id = 'b' WHERE id = 4");
    let shown = call(&sample, dry_run()).unwrap();
    assert_eq!(shown.actions_planned, 1);
    sample.execute("UPDATE jobs SET action_id = 'x' WHERE id = 4");
    let error = call(&sample, bound(&shown.plan)).unwrap_err();
    assert_eq!((error.kind(), &error.data["actions_planned"]), (Some(Kind::PlanChanged), &json!(2)));
}

/// Where a layout has no attempts, that a job ran again shows in its times; where its actions have no times, that one was set
/// anew shows in its spec; where ids are used again, that it is another job shows in its creation time.
#[test]
fn a_layout_binds_by_what_it_has() {
    let without = |line: &str| {
        assert!(SCHEMA.contains(line), "{line}");
        SCHEMA.replace(line, "")
    };
    let reused = SCHEMA.replacen("AUTOINCREMENT", "", 1);
    let attempts = without("    attempt        INTEGER NOT NULL DEFAULT 0,\n");
    let times = without("    created_at_ms  INTEGER,\n    updated_at_ms  INTEGER,\n");
    let started = "UPDATE jobs SET started_at_ms = 1700000000000";
    let finished = "UPDATE jobs SET finished_at_ms = 1700000000000";
    let created = "UPDATE jobs SET created_at_ms = 1700000000000";
    let spec = r#"UPDATE actions SET spec_json = '{"tags":["codescaler"],"script":"x"}'"#;
    for (schema, change, changes) in [
        (SCHEMA, started, false),
        (SCHEMA, finished, false),
        (SCHEMA, created, false),
        (SCHEMA, spec, false),
        (&attempts, started, true),
        (&attempts, finished, true),
        (&attempts, created, false),
        (&times, spec, true),
        (&reused, created, true),
        (&reused, finished, false),
    ] {
        let sample = Sample::with_schema(schema);
        sample.execute(&format!("{JOB} {ACTION}"));
        let shown = call(&sample, dry_run()).unwrap();
        assert_eq!((shown.jobs_planned, shown.actions_planned), (1, 1));
        sample.execute(change);
        let outcome = call(&sample, bound(&shown.plan));
        let case = format!("{change} in {schema}");
        if changes {
            assert_eq!(outcome.expect_err(&case).data["reason"], "set", "{case}");
        } else {
            assert_eq!(outcome.expect(&case).plan, shown.plan);
        }
    }
}

/// After `change`, the plan of before is refused, and nothing is deleted.
fn assert_bound(rows: &str, change: &str) {
    assert_plan_bound((1, 1), rows, change);
}

/// The same, with these numbers of planned jobs and actions.
fn assert_plan_bound(planned: (u64, u64), rows: &str, change: &str) {
    let sample = Sample::empty();
    sample.execute(rows);
    let shown = call(&sample, dry_run()).unwrap();
    assert_eq!((shown.jobs_planned, shown.actions_planned), planned);
    sample.execute(change);
    let before = sample.dump();
    let error = call(&sample, bound(&shown.plan)).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::PlanChanged), "{change}");
    assert_eq!(sample.dump(), before, "{change}");
}

/// A finished job and its action.
const JOB: &str = r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags)
                     VALUES ('a', 'a', '{}', 'done', '["codescaler"]');"#;
const ACTION: &str = r#"INSERT INTO actions (name, spec_json) VALUES ('a', '{"tags":["codescaler"]}');"#;

/// A JSON null in `tags` sends us to the spec: what changes there changes the tags.
#[test]
fn tags_that_a_json_null_leads_to_are_bound() {
    let job = r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags)
                 VALUES ('a', 'a', '{"tags":["codescaler","codescaler_ana"]}', 'done', 'null');"#;
    assert_bound(
        &format!("{job} {ACTION}"),
        r#"UPDATE jobs SET spec_json = '{"tags":["codescaler","codescaler_bob"]}'"#,
    );
}

/// Another job with the same fields, one that has been enqueued again since, is not the one that was shown.
#[test]
fn a_job_is_bound_as_a_row() {
    assert_bound(&format!("{JOB} {ACTION}"), &format!("DELETE FROM jobs; {JOB}"));
}

/// Where a job refers to is bound, even where no action is there, or the same one is meant.
#[test]
fn what_a_job_refers_to_is_bound() {
    let jobs = r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags) VALUES
                    ('gone', NULL, '{}', 'done', '["codescaler"]'), ('gone', 'gone', '{}', 'done', '["codescaler"]');"#;
    for change in [
        "UPDATE jobs SET context_name = 'lab' WHERE id = 1",
        "UPDATE jobs SET action_id = 'gone' WHERE id = 1",
        "UPDATE jobs SET action_id = NULL WHERE id = 2",
        "UPDATE jobs SET action = 'left' WHERE id = 2",
    ] {
        assert_plan_bound((2, 0), jobs, change);
    }
}

/// Another action of the same name is not the one that was shown.
#[test]
fn an_action_is_bound_as_a_row() {
    assert_bound(&format!("{JOB} {ACTION}"), &format!("DELETE FROM actions; {ACTION}"));
}

/// `lab/x` of the context core and `x` of the context lab are written alike, and are not the same.
#[test]
fn an_action_is_bound_with_its_context() {
    let rows = |context: &str, name: &str| {
        format!(
            r#"DELETE FROM jobs; DELETE FROM actions; DELETE FROM sqlite_sequence;
               INSERT INTO jobs (context_name, action, action_id, spec_json, phase, tags)
               VALUES ('{context}', '{name}', '{name}', '{{}}', 'done', '["codescaler"]');
               INSERT INTO actions (context_name, name, spec_json)
               VALUES ('{context}', '{name}', '{{"tags":["codescaler"]}}');"#
        )
    };
    assert_bound(&rows("core", "lab/x"), &rows("lab", "x"));
}
