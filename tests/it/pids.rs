//! `serve`'s hold on jobs by the pids of their rows: what may still run stays, and says why.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::sample::Sample;
use crate::support::server::{METHOD, Server};
use crate::support::sides::{old_jobs, running_job};

/// A pid that no process has: its process has ended, and been waited for.
fn dead() -> u32 {
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    ended.id()
}

/// Jobs that have not finished, but for the first, each with another pid.
fn rows(dead: u32, alive: u32) -> String {
    old_jobs(1, 1)
        + &running_job(2, dead.into())
        + &running_job(3, alive.into())
        + &running_job(4, 0)
        + &running_job(5, i64::MAX)
        + &running_job(6, 1)
        + &running_job(7, 1)
        + "UPDATE jobs SET pid = NULL WHERE id IN (1, 6);
           UPDATE jobs SET phase = 'pending' WHERE id = 6;
           UPDATE jobs SET pid = 'abc' WHERE id = 7;"
}

fn forced(server: &Server, dry_run: bool) -> Value {
    server.call(METHOD, &json!({ "tags": ["codescaler"], "force": true, "dry_run": dry_run }))["result"].take()
}

#[test]
fn an_unfinished_job_goes_only_if_its_process_is_known_to_be_gone() {
    let (dead, alive) = (dead(), std::process::id());
    let not_found = format!(
        "job 2: process {dead} is not found here: it may be alive where hero_proc runs (serve was started without \
         --same-pids)"
    );
    let always = [
        format!("job 3: process {alive} is still alive"),
        "job 4: its pid 0 is none that could be looked up".to_owned(),
        format!("job 5: its pid {} is none that could be looked up", i64::MAX),
        "job 6: it has no pid by which a process could be looked up".to_owned(),
        "job 7: its pid 0 is none that could be looked up".to_owned(),
    ];
    for same_pids in [false, true] {
        let sample = Sample::empty();
        sample.execute(&rows(dead, alive));
        let server = sample.serve_with(if same_pids { &["--same-pids"] } else { &[] });
        let mut errors = always.to_vec();
        if !same_pids {
            errors.insert(0, not_found.clone());
        }
        for dry_run in [true, false] {
            let report = forced(&server, dry_run);
            assert_eq!(report["job_ids"], if same_pids { json!([1, 2]) } else { json!([1]) }, "{report}");
            assert_eq!(report["jobs_kept"]["unstoppable"], errors.len(), "{report}");
            assert_eq!(report["errors"], json!(errors));
        }
    }
}

/// A store that records no pids says of no job that its process is gone.
#[test]
fn without_a_column_of_pids_no_unfinished_job_goes() {
    let sample = Sample::new();
    sample.execute("ALTER TABLE jobs DROP COLUMN pid");
    let server = sample.serve_with(&["--same-pids"]);
    let report = forced(&server, false);
    assert_eq!((&report["jobs_kept"]["unstoppable"], &report["jobs_deleted"]), (&json!(1), &json!(3)), "{report}");
    assert_eq!(report["errors"], json!(["job 3: it has no pid by which a process could be looked up"]));
}

/// A job whose run goes on stays, unless runs are no concern of the host's.
#[test]
fn runs_are_looked_at_unless_serve_is_told_not_to() {
    for (args, planned) in [(&[][..], 0), (&["--no-runs"], 1)] {
        let sample = Sample::empty();
        sample.execute(&(old_jobs(1, 1) + &running_job(2, 1) + "UPDATE jobs SET run_id = 7"));
        let server = sample.serve_with(args);
        let report = server.call(METHOD, &json!({ "tags": ["codescaler"], "dry_run": true }))["result"].take();
        assert_eq!(report["jobs_planned"], planned, "{report}");
        assert_eq!(report["jobs_kept"]["run_active"], 1 - planned, "{report}");
    }
}
