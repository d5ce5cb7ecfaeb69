//! A generic client in another language: what it knows of both sides, it has from the documents that they serve.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::process::text;
use crate::support::sample::Sample;
use crate::support::server::{METHOD, Server};
use crate::support::skipped;

/// Calls `method` at `socket`: the result, or the error.
fn call(socket: &Path, method: &str, params: Value) -> Result<Value, Value> {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/generic_client.py");
    let mut python = Command::new("python3");
    let output = python.arg(client).arg(socket).args([method, &params.to_string()]).output().unwrap();
    let answer = || serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    if output.status.success() { Ok(answer()) } else { Err(answer()) }
}

#[test]
fn a_client_in_python_needs_nothing_but_the_documents() {
    let python = Command::new("python3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !python.is_ok_and(|status| status.success()) {
        return skipped("a client in Python can't be tried, since there is no python3");
    }
    let sample = Sample::new();
    let path = |name: &str| sample.directory.path().join(name);
    let store = Server::serve(&sample.path, &path("store.sock"));
    let gateway = Server::gateway(&path("gateway.sock"), &store.socket, &[]);
    let usage = call(&store.socket, "job.usage_by_tag", json!({ "tags": ["codescaler"] })).unwrap();
    assert_eq!(usage["jobs"], 4, "{usage}");
    assert_eq!(call(&gateway.socket, "jobs.usage", json!({})).unwrap()["jobs"], 4);
    let shown = call(&gateway.socket, "jobs.cleanup", json!({ "kind": "build", "dry_run": true })).unwrap();
    assert_eq!((&shown["jobs_planned"], &shown["jobs_deleted"]), (&json!(3), &json!(0)), "{shown}");
    let error = call(&store.socket, METHOD, json!({ "tags": ["ops"] })).unwrap_err();
    assert_eq!((&error["code"], &error["data"]["kind"]), (&json!(-32002), &json!("tag_outside_guard")), "{error}");
    let plan = &shown["plan"];
    let done = call(&gateway.socket, "jobs.cleanup", json!({ "kind": "build", "expect_plan": plan })).unwrap();
    assert_eq!((&done["jobs_deleted"], &done["job_ids"]), (&json!(3), &shown["job_ids"]), "{done}");
    let error = call(&gateway.socket, "jobs.cleanup", json!({ "kind": "build", "expect_plan": plan })).unwrap_err();
    assert_eq!(error["data"]["kind"], "plan_changed", "{error}");
}
