//! What a plan binds beyond ids and phases, and what counts as a reference though its row is odd.

use hero_proc_cleanup::{Guard, Host, Kind, Report, RpcError, cleanup_by_tag};
use serde_json::{Value, json};

use crate::support::sample::{SCHEMA, Sample};

fn call(sample: &Sample, params: &Value) -> Result<Report, RpcError> {
    cleanup_by_tag(sample.path.as_path(), &Host::new(Guard::codescaler()), params, chrono::Utc::now())
}

/// A store in which a context may be NULL.
fn nullable() -> Sample {
    let nullable = SCHEMA.replace("context_name   TEXT    NOT NULL", "context_name   TEXT");
    assert_ne!(nullable, SCHEMA);
    Sample::with_schema(&nullable)
}

/// After `change`, the plan of before is refused, and nothing is deleted.
fn assert_bound(rows: &str, change: &str) {
    assert_plan_bound((1, 1), rows, change);
}

/// The same, where so many jobs and actions are planned.
fn assert_plan_bound(planned: (u64, u64), rows: &str, change: &str) {
    let sample = Sample::empty();
    sample.open().execute_batch(rows).unwrap();
    let shown = call(&sample, &json!({ "tags": ["codescaler"], "dry_run": true })).unwrap();
    assert_eq!((shown.jobs_planned, shown.actions_planned), planned);
    sample.open().execute_batch(change).unwrap();
    let before = sample.dump();
    let error = call(&sample, &json!({ "tags": ["codescaler"], "expect_plan": shown.plan })).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::PlanChanged), "{change}");
    assert_eq!(sample.dump(), before, "{change}");
}

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
    let job = r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags)
                 VALUES ('a', 'a', '{}', 'done', '["codescaler"]');"#;
    assert_bound(&format!("{job} {ACTION}"), &format!("DELETE FROM jobs; {job}"));
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
    let job = r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags)
                 VALUES ('a', 'a', '{}', 'done', '["codescaler"]');"#;
    assert_bound(&format!("{job} {ACTION}"), &format!("DELETE FROM actions; {ACTION}"));
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

/// A row without a context refers to the default one's actions.
#[test]
fn a_reference_without_a_context_keeps_an_action() {
    for (referrer, by) in [
        ("INSERT INTO jobs (context_name, action, spec_json, phase) VALUES (NULL, 'a', '{}', 'running')", "job 2"),
        (
            r#"INSERT INTO services (context_name, name, spec_json) VALUES (NULL, 'web', '{"actions":["a"]}')"#,
            "service web",
        ),
        (
            r#"INSERT INTO actions (context_name, name, spec_json) VALUES (NULL, 'b', '{"depends_on":["a"]}')"#,
            "action b",
        ),
    ] {
        let sample = nullable();
        let job = r#"INSERT INTO jobs (action, action_id, spec_json, phase, tags)
                     VALUES ('a', 'a', '{}', 'done', '["codescaler"]');"#;
        sample.open().execute_batch(&format!("{job} {ACTION} {referrer}")).unwrap();
        let report = call(&sample, &json!({ "tags": ["codescaler"] })).unwrap();
        assert_eq!((report.jobs_deleted, report.actions_deleted), (1, 0), "{referrer}");
        assert_eq!(report.actions_kept[0].by.as_ref().map(ToString::to_string).as_deref(), Some(by));
    }
}

/// A store named through a symbolic link is read as little as by its own name: what is in its WAL stays there.
#[test]
fn a_dry_run_through_a_symbolic_link_writes_nothing() {
    let sample = Sample::new();
    // A host that was killed leaves a WAL behind.
    let files = ["hero_proc.db", "hero_proc.db-wal"].map(|name| sample.directory.path().join(name));
    let host = sample.open();
    host.execute("UPDATE jobs SET stderr = 'x'", ()).unwrap();
    let copies = files.clone().map(|file| std::fs::read(file).unwrap());
    drop(host);
    for (file, bytes) in files.iter().zip(&copies) {
        std::fs::write(file, bytes).unwrap();
    }
    let elsewhere = tempfile::TempDir::new().unwrap();
    let link = elsewhere.path().join("store.db");
    std::os::unix::fs::symlink(&sample.path, &link).unwrap();
    let host = Host::new(Guard::codescaler());
    let params = json!({ "tags": ["codescaler"], "dry_run": true });
    assert_eq!(cleanup_by_tag(link.as_path(), &host, &params, chrono::Utc::now()).unwrap().jobs_planned, 3);
    assert!(files.map(|file| std::fs::read(file).unwrap()) == copies, "the files are as they were");
}

/// The other way round, a job or an action without a context: which belongs to which can't be told, so no action goes.
#[test]
fn without_a_context_no_action_goes() {
    for (of_the_job, of_the_action) in [("NULL", "'core'"), ("'core'", "NULL"), ("NULL", "NULL")] {
        let sample = nullable();
        let rows = format!(
            r#"INSERT INTO jobs (context_name, action, action_id, spec_json, phase, tags)
               VALUES ({of_the_job}, 'a', 'a', '{{}}', 'done', '["codescaler"]');
               INSERT INTO actions (context_name, name, spec_json) VALUES ({of_the_action}, 'a', '{{"tags":["codescaler"]}}');"#
        );
        sample.open().execute_batch(&rows).unwrap();
        let report = call(&sample, &json!({ "tags": ["codescaler"] })).unwrap();
        let went = (report.jobs_deleted, report.actions_deleted, report.actions_kept_count);
        assert_eq!(went, (1, 0, 0), "{of_the_job}, {of_the_action}");
    }
}
