//! The plan token: what was shown is what goes, or nothing.

use std::sync::Arc;

use hero_proc_cleanup::{ControlError, Guard, Host, Job, JobControl, Kind, Report, RpcError, cleanup_by_tag};
use serde_json::{Value, json};

use crate::support::sample::Sample;
use crate::support::server::Server;

fn call(sample: &Sample, params: &Value) -> Result<Report, RpcError> {
    cleanup_by_tag(sample.path.as_path(), &Host::new(Guard::codescaler()), params, chrono::Utc::now())
}

/// The same, by a host to which every job is as good as stopped.
fn call_forced(sample: &Sample, params: &Value) -> Result<Report, RpcError> {
    struct Stopped;

    impl JobControl for Stopped {
        fn stop(&self, _: &Job) -> Result<(), ControlError> {
            Ok(())
        }
    }

    let mut host = Host::new(Guard::codescaler());
    host.control = Some(Arc::new(Stopped));
    cleanup_by_tag(sample.path.as_path(), &host, params, chrono::Utc::now())
}

/// Two finished jobs, each with its action, and a third that runs.
fn sample() -> Sample {
    let sample = Sample::empty();
    sample
        .open()
        .execute_batch(
            r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags, created_at_ms) VALUES
                 ('a', 'a', '{}', 'done', '["codescaler"]', 1700000000000),
                 ('b', 'b', '{}', 'failed', '["codescaler"]', 1700000000000),
                 ('c', 'c', '{}', 'running', '["codescaler"]', 1700000000000),
                 ('x', 'x', '{}', 'done', '["ops"]', 1700000000000);
               INSERT INTO actions (name, spec_json) VALUES
                 ('a', '{"tags":["codescaler"]}'), ('b', '{"tags":["codescaler"]}'), ('c', '{"tags":["codescaler"]}'),
                 ('x', '{"tags":["ops"]}');
               INSERT INTO services (name, spec_json) VALUES ('web', '{"actions":["x"]}');"#,
        )
        .unwrap();
    sample
}

const ASKED: [&str; 1] = ["codescaler"];

#[test]
fn it_is_the_same_for_as_long_as_the_same_would_go() {
    let sample = sample();
    let plan = call(&sample, &json!({ "tags": ASKED, "dry_run": true })).unwrap().plan;
    for same in [
        json!({ "tags": ["codescaler", "codescaler"], "dry_run": true }),
        json!({ "tags": ASKED, "dry_run": true, "max_ids": 1 }),
        json!({ "tags": ASKED, "dry_run": true, "limit": 50_000, "force": false }),
        json!({ "tags": ASKED, "dry_run": true, "expect_plan": plan }),
    ] {
        assert_eq!(call(&sample, &same).unwrap().plan, plan, "{same}");
    }
    // What has nothing to do with it may change.
    sample.open().execute_batch("UPDATE jobs SET phase = 'failed', stderr = 'x' WHERE action = 'x'; VACUUM").unwrap();
    let report = call(&sample, &json!({ "tags": ASKED, "expect_plan": plan })).unwrap();
    assert_eq!((report.jobs_deleted, report.actions_deleted, report.plan), (2, 2, plan));
}

#[test]
fn its_cut_off_is_the_one_that_was_shown() {
    let sample = sample();
    let asked = json!({ "tags": ASKED, "dry_run": true, "older_than_ms": 0 });
    let shown = call(&sample, &asked).unwrap();
    sample.open().execute("UPDATE jobs SET phase = 'done', created_at_ms = 32503680000000 WHERE id = 3", ()).unwrap();
    let params = json!({ "tags": ASKED, "older_than_ms": 0, "expect_plan": shown.plan });
    let done = call(&sample, &params).unwrap();
    assert_eq!((done.cutoff_ms, done.jobs_deleted), (shown.cutoff_ms, 2));
    assert!(shown.plan.starts_with(&format!("{}.", shown.cutoff_ms.unwrap())));
}

#[test]
fn other_params_have_another_plan() {
    let sample = sample();
    let before = sample.dump();
    let plan = call(&sample, &json!({ "tags": ASKED, "dry_run": true })).unwrap().plan;
    let aged = call(&sample, &json!({ "tags": ASKED, "dry_run": true, "older_than_ms": 1 })).unwrap().plan;
    for (plan, params) in [
        (&plan, json!({ "tags": ["codescaler", "codescaler_ana"] })),
        (&plan, json!({ "tags": ["codescaler_ana"] })),
        (&plan, json!({ "tags": ASKED, "limit": 49_999 })),
        (&plan, json!({ "tags": ASKED, "older_than_ms": 1 })),
        (&aged, json!({ "tags": ASKED, "older_than_ms": 2 })),
        (&aged, json!({ "tags": ASKED })),
    ] {
        let mut params = params;
        params["expect_plan"] = plan.as_str().into();
        assert_eq!(call(&sample, &params).unwrap_err().kind(), Some(Kind::PlanChanged), "{params}");
    }
    assert_eq!(sample.dump(), before);
}

/// A plan's cut-off and the tags asked for are part of it, even where what would go is the same.
#[test]
fn what_was_asked_for_is_bound() {
    let sample = sample();
    sample.open().execute(r#"UPDATE jobs SET tags = '["codescaler","codescaler_ana"]' WHERE id < 4"#, ()).unwrap();
    let before = sample.dump();
    let shown = call(&sample, &json!({ "tags": ASKED, "dry_run": true, "older_than_ms": 1 })).unwrap();
    let digest = shown.plan.split_once('.').unwrap().1;
    let forged = format!("{}.{digest}", shown.cutoff_ms.unwrap() - 1);
    for params in [
        json!({ "tags": ASKED, "older_than_ms": 1, "expect_plan": forged }),
        json!({ "tags": ["codescaler_ana"], "older_than_ms": 1, "expect_plan": shown.plan }),
    ] {
        let error = call(&sample, &params).unwrap_err();
        let planned = (error.kind(), &error.data["jobs_planned"], &error.data["actions_planned"]);
        assert_eq!(planned, (Some(Kind::PlanChanged), &json!(2), &json!(2)), "{params}");
    }
    assert_eq!(sample.dump(), before);
}

/// What is asked for differs, even where what would go does not.
#[test]
fn with_force_it_is_another_plan() {
    for all_finished in [false, true] {
        let sample = sample();
        if all_finished {
            sample.open().execute("UPDATE jobs SET phase = 'done'", ()).unwrap();
        }
        let before = sample.dump();
        let plan = |force: bool| {
            let params = json!({ "tags": ASKED, "dry_run": true, "force": force });
            call_forced(&sample, &params).unwrap()
        };
        let (gentle, forced) = (plan(false), plan(true));
        assert_eq!(gentle.job_ids == forced.job_ids, all_finished);
        for (force, plan) in [(true, &gentle.plan), (false, &forced.plan)] {
            for dry_run in [true, false] {
                let params = json!({ "tags": ASKED, "force": force, "expect_plan": plan, "dry_run": dry_run });
                let error = call_forced(&sample, &params).unwrap_err();
                assert_eq!((error.kind(), error.data.get("jobs_stopped")), (Some(Kind::PlanChanged), None));
            }
        }
        assert_eq!(sample.dump(), before);
        let params = json!({ "tags": ASKED, "force": true, "expect_plan": forced.plan });
        assert_eq!(call_forced(&sample, &params).unwrap().job_ids, forced.job_ids);
    }
}

/// Of another process, and of one that has been started again.
#[test]
fn it_outlives_the_process_that_made_it() {
    for age in [json!({}), json!({ "older_than_ms": 86_400_000 })] {
        let sample = sample();
        let socket = sample.directory.path().join("rpc.sock");
        let mut params = age;
        params["tags"] = json!(ASKED);
        params["dry_run"] = true.into();
        let shown = Server::serve(&sample.path, &socket).call("job.cleanup_by_tag", &params)["result"].take();
        assert_eq!((&shown["job_ids"], &shown["action_ids"]), (&json!([1, 2]), &json!(["a", "b"])));

        params["expect_plan"] = shown["plan"].clone();
        let again = Server::serve(&sample.path, &socket);
        let other = Server::serve(&sample.path, &sample.directory.path().join("other.sock"));
        for server in [&again, &other] {
            assert_eq!(server.call("job.cleanup_by_tag", &params)["result"]["plan"], shown["plan"]);
        }
        assert_eq!(call(&sample, &params).unwrap().plan, shown["plan"], "in a host of its own");
        drop(again);
        params["dry_run"] = false.into();
        let done = Server::serve(&sample.path, &socket).call("job.cleanup_by_tag", &params)["result"].take();
        assert_eq!((&done["job_ids"], &done["action_ids"]), (&shown["job_ids"], &shown["action_ids"]));
        assert_eq!((&done["plan"], &done["cutoff_ms"]), (&shown["plan"], &shown["cutoff_ms"]));
        let changed = &other.call("job.cleanup_by_tag", &params)["error"];
        assert_eq!((&changed["code"], &changed["data"]["jobs_planned"]), (&json!(-32020), &json!(0)));
    }
}

#[test]
fn what_is_no_token_is_a_bad_param() {
    let sample = sample();
    let plan = call(&sample, &json!({ "tags": ASKED, "dry_run": true })).unwrap().plan;
    let digest = plan.strip_prefix("none.").unwrap();
    for token in [
        "",
        ".",
        "none",
        "none.",
        digest,
        &format!("None.{digest}"),
        &format!("none.{}", digest.to_uppercase()),
        &format!("none.{}", &digest[1..]),
        &format!("none.{digest}0"),
        &format!("none.{digest} "),
        &format!(" none.{digest}"),
        &format!("+1.{digest}"),
        &format!("01.{digest}"),
        &format!("-0.{digest}"),
        &format!("1e3.{digest}"),
        &format!("9223372036854775808.{digest}"),
        &format!("none.{}", "ä".repeat(32)),
        &format!("none.{digest}\0"),
    ] {
        let error = call(&sample, &json!({ "tags": ASKED, "expect_plan": token })).unwrap_err();
        assert_eq!(
            (error.kind(), &error.data["param"]),
            (Some(Kind::InvalidParams), &json!("expect_plan")),
            "{token:?}"
        );
    }
    let forged = format!("none.{}", "0".repeat(64));
    let error = call(&sample, &json!({ "tags": ASKED, "expect_plan": forged })).unwrap_err();
    assert_eq!((error.kind(), error.code), (Some(Kind::PlanChanged), -32020));
    assert_eq!((&error.data["jobs_planned"], &error.data["actions_planned"]), (&json!(2), &json!(2)));
    assert_eq!(error.data["plan"], plan);
    assert_eq!(error.message, "the set is no longer that of the plan: 2 jobs and 2 actions would go now");
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
        let plan = call(&sample, &json!({ "tags": ASKED, "dry_run": true })).unwrap().plan;
        sample.open().execute_batch(change).unwrap();
        let before = sample.dump();
        for dry_run in [true, false] {
            let params = json!({ "tags": ASKED, "expect_plan": plan, "dry_run": dry_run });
            let error = call(&sample, &params).expect_err(change);
            assert_eq!(error.kind(), Some(Kind::PlanChanged), "{change}");
            let planned = (&error.data["jobs_planned"], &error.data["actions_planned"]);
            assert_eq!(planned, (&json!(jobs), &json!(actions)), "{change}");
            assert_eq!(sample.dump(), before, "{change}");
            // Its new plan is one that goes.
            if !dry_run {
                let params = json!({ "tags": ASKED, "expect_plan": error.data["plan"] });
                let report = call(&sample, &params).unwrap();
                assert_eq!((report.jobs_deleted, report.actions_deleted), (jobs, actions), "{change}");
            }
        }
    }
}

/// … and lost: an action that was shown to stay would go now.
#[test]
fn a_lost_reference_is_a_change_too() {
    let sample = sample();
    sample.open().execute("UPDATE jobs SET action_id = 'b' WHERE id = 4", ()).unwrap();
    let shown = call(&sample, &json!({ "tags": ASKED, "dry_run": true })).unwrap();
    assert_eq!(shown.actions_planned, 1);
    sample.open().execute("UPDATE jobs SET action_id = 'x' WHERE id = 4", ()).unwrap();
    let error = call(&sample, &json!({ "tags": ASKED, "expect_plan": shown.plan })).unwrap_err();
    assert_eq!((error.kind(), &error.data["actions_planned"]), (Some(Kind::PlanChanged), &json!(2)));
}
