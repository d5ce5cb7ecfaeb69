//! The audit line, on both sides: every call that changes something or is refused leaves one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::{Signal, geteuid, getpid};
use serde_json::json;

use crate::support::process::BINARY;
use crate::support::sample::Sample;
use crate::support::server::{Answer, Server, post};

const METHOD: &str = "job.cleanup_by_tag";

fn audited(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains(" audit: ")).collect()
}

/// Who calls hero_proc's side directly stands in its log, as at the gateway.
#[test]
fn a_direct_call_leaves_one_line() {
    let sample = Sample::new();
    let server = Server::serve(&sample.path, &sample.directory.path().join("rpc.sock"));
    let (tags, forged) = (json!(["codescaler", "codescaler_ana"]), "hero\nINFO audit: forged\u{2028}\u{9b}\u{202e}");
    let deletion = json!({ "tags": tags, "older_than_ms": 86_400_000 });
    server.call(METHOD, &json!({ "tags": tags, "dry_run": true }));
    server.call("rpc.discover", &json!({}));
    server.call(METHOD, &json!({ "tags": [forged] }));
    server.call(METHOD, &json!({ "tags": tags, "dry": true, "long": "x".repeat(100_000) }));
    let report = server.call(METHOD, &deletion);
    server.send(&post("connection: close\r\nvia: 1.1 proxy", br#"{"jsonrpc":"2.0","id":1,"method":"x\ny"}"#));
    server.signal(Signal::TERM);
    let (_, log) = server.end();
    let lines = audited(&log);
    assert_eq!(lines.len(), 4, "{log}");
    assert!(lines.iter().all(|line| !line.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{202e}')));
    let who =
        [format!("uid={} ", geteuid().as_raw()), format!("pid={} ", getpid().as_raw_nonzero()), "user=\"".to_owned()];
    for (line, outcome) in lines.iter().zip(["tag_outside_guard", "invalid_params", "ok", "not_admin"]) {
        assert!(who.iter().all(|who| line.contains(who)), "{line}");
        assert!(line.contains(&format!("outcome=\"{outcome}\"")) && line.len() < 10_000, "{line}");
    }
    assert!(lines[0].contains("forged") && lines[0].contains("code=-32002"), "{}", lines[0]);
    let asked = format!("asked={:?} ", deletion.to_string());
    let plan = format!("plan={}", report["result"]["plan"]);
    for field in ["jobs_deleted=2", "actions_deleted=1", "errors=0", &plan, &asked, METHOD] {
        assert!(lines[2].contains(field), "{field}: {}", lines[2]);
    }
}

/// Both sides say whom they have refused while they were stopping.
#[test]
fn who_is_refused_by_a_server_that_stops_stands_in_its_log() {
    let sample = Sample::new();
    let path = |name: &str| sample.directory.path().join(name);
    let store = Server::serve(&sample.path, &path("store.sock"));
    let gateway = Server::gateway(&path("gateway.sock"), &store.socket, &[]);
    for (server, method, params) in
        [(gateway, "jobs.cleanup", json!({ "actor": "ana" })), (store, METHOD, json!({ "tags": ["codescaler"] }))]
    {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = post("connection: close\r\nexpect: 100-continue", body.as_bytes());
        let mut stream = server.connect();
        stream.write_all(&request[..request.len() - body.len()]).unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        stream.read_line(&mut line).unwrap();
        assert_eq!(line, "HTTP/1.1 100 Continue\r\n\r\n");
        server.signal(Signal::TERM);
        server.says("stopping");
        while UnixStream::connect(&server.socket).is_ok() {
            std::thread::yield_now();
        }
        stream.get_mut().write_all(body.as_bytes()).unwrap();
        let answer = Answer::last_of(stream.get_mut()).json();
        assert_eq!(answer["error"]["data"]["kind"], "store_busy", "{answer}");
        let (_, log) = server.end();
        let lines = audited(&log);
        assert_eq!(lines.len(), 1, "{log}");
        let asked = format!("asked={:?} ", params.to_string());
        let uid = format!("uid={} ", geteuid().as_raw());
        for field in ["outcome=\"store_busy\"", "is stopping", method, &asked, &uid, "pid="] {
            assert!(lines[0].contains(field), "{field}: {}", lines[0]);
        }
    }
}

/// What went is named at the level `debug`, and only there.
#[test]
fn ids_are_named_at_the_level_debug() {
    let sample = Sample::new();
    let path = |name: &str| sample.directory.path().join(name);
    let store = Server::serve_after("RUST_LOG=debug", &sample.path, &path("store.sock"), &[]);
    let mut command = Command::new("sh");
    command.args(["-c", "RUST_LOG=debug; exec \"$0\" \"$@\"", BINARY, "gateway", "--socket"]);
    command.arg(path("gateway.sock")).arg("--hero-proc").arg(&store.socket);
    let gateway = Server::start(&mut command, &path("gateway.sock"));
    gateway.call("jobs.cleanup", &json!({ "dry_run": true }));
    let report = gateway.call("jobs.cleanup", &json!({}))["result"].take();
    assert_eq!(report["jobs_deleted"], 3, "{report}");
    let words = |list: &str| {
        let ids: Vec<String> = report[list].as_array().unwrap().iter().map(ToString::to_string).collect();
        format!("ids={:?} ", ids.join(" ")).trim_end().to_owned()
    };
    for server in [gateway, store] {
        server.signal(Signal::TERM);
        let (_, log) = server.end();
        for list in ["job_ids", "action_ids"] {
            let named: Vec<&str> =
                audited(&log).into_iter().filter(|line| line.contains(&format!(": {list} "))).collect();
            assert_eq!(named.len(), 1, "{log}");
            assert!(named[0].contains("DEBUG") && named[0].contains(&words(list)), "{}", named[0]);
            assert!(named[0].contains(&format!("plan={}", report["plan"])), "{}", named[0]);
        }
    }
}
