//! `jobs.cleanup`: the gate, the tags, and every way in which hero_proc may not answer.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use hero_proc_cleanup::Kind;
use hero_proc_cleanup::client::{CleanupByTagParams, Client};
use rustix::process::{Gid, Signal, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::fake::{Fake, http, read_request};
use crate::support::process::{BINARY, jobs_cleanup};
use crate::support::sample::Sample;
use crate::support::server::{Server, assert_discreet, post};
use crate::support::{DAEMON, skipped};

/// Jobs of every actor, kind, target and age; each filter and all together leave what a plain predicate leaves.
#[test]
fn each_filter_narrows() {
    let sample = Sample::empty();
    let connection = sample.open();
    let now = chrono::Utc::now().timestamp_millis();
    let mut jobs = Vec::new();
    for actor in ["ana", "bob", "ana_b"] {
        for kind in ["build", "test", "ana"] {
            for target in ["", "web", "build"] {
                for age in [1_000, 7_200_000, 864_000_000] {
                    let tags = hero_proc_cleanup::codescaler_tags(actor, kind, target).unwrap();
                    connection
                        .execute(
                            "INSERT INTO jobs (action, spec_json, phase, tags, created_at_ms) VALUES ('a', '{}', 'done', ?1, ?2)",
                            (json!(tags).to_string(), now - age),
                        )
                        .unwrap();
                    jobs.push((connection.last_insert_rowid(), actor, kind, target, age));
                }
            }
        }
    }
    let store = sample.serve();
    let gateway = sample.gateway(&store);
    for actor in ["", "ana", "ana_b", "eve"] {
        for kind in ["", "build", "ana"] {
            for target in ["", "web", "build"] {
                for older_than in [None, Some(3_600_000), Some(864_000_000_000_i64)] {
                    let mut params = json!({ "actor": actor, "kind": kind, "target": target, "dry_run": true });
                    if let Some(age) = older_than {
                        params["older_than_ms"] = age.into();
                    }
                    let answer = gateway.call("jobs.cleanup", &params);
                    let expected: Vec<i64> = jobs
                        .iter()
                        .filter(|job| actor.is_empty() || job.1 == actor)
                        .filter(|job| kind.is_empty() || job.2 == kind)
                        .filter(|job| target.is_empty() || job.3 == target)
                        .filter(|job| older_than.is_none_or(|age| job.4 >= age))
                        .map(|job| job.0)
                        .collect();
                    assert_eq!(answer["result"]["job_ids"], json!(expected), "{params}: {answer}");
                }
            }
        }
    }
}

#[test]
fn bad_params_are_refused_here() {
    let sample = Sample::new();
    let before = sample.dump();
    let store = sample.serve();
    let gateway = sample.gateway(&store);
    let path = |name: &str| sample.directory.path().join(name);
    let alone = Server::gateway(&path("alone.sock"), &path("nobody.sock"), &[]);
    let long = "x".repeat(300);
    let ambiguous = r#"actor begins with "kind_" or "target_": its tag would read as another field's"#;
    let object = "params must be an object, by name";
    for (params, param, message) in [
        (r#"{"dryrun":true}"#, "dryrun", r#"param "dryrun" is no param of this method"#),
        (r#"{"tags":["codescaler"]}"#, "tags", r#"param "tags" is no param of this method"#),
        (r#"{"Kind":"build"}"#, "Kind", r#"param "Kind" is no param of this method"#),
        (r#"{"actor":"kind_build"}"#, "actor", ambiguous),
        (r#"{"actor":"target_web"}"#, "actor", ambiguous),
        (r#"{"actor":"kind_"}"#, "actor", ambiguous),
        (r#"{"actor":7}"#, "actor", r#"param "actor" must be a string"#),
        (r#"{"kind":{}}"#, "kind", r#"param "kind" must be a string"#),
        (r#"{"target":["web"]}"#, "target", r#"param "target" must be a string"#),
        (r#"{"actor":"ana","actor":"bob"}"#, "actor", r#"param "actor" is given twice"#),
        (r#"{"dry_run":true,"dry_run":false}"#, "dry_run", r#"param "dry_run" is given twice"#),
        (&format!(r#"{{"actor":"{long}"}}"#), "actor", "actor makes a tag of more than 256 bytes"),
        (&format!(r#"{{"kind":"{long}"}}"#), "kind", "kind makes a tag of more than 256 bytes"),
        (&format!(r#"{{"target":"{long}"}}"#), "target", "target makes a tag of more than 256 bytes"),
        ("[]", "", object),
        (r#"["ana"]"#, "", object),
        (r#"{"older_than_ms":1e400}"#, "older_than_ms", r#"param "older_than_ms" can't be read"#),
        (
            r#"{"older_than_ms":-1}"#,
            "older_than_ms",
            r#"param "older_than_ms" must be an integer from 0 to 9223372036854775807"#,
        ),
        (r#"{"limit":0}"#, "limit", r#"param "limit" must be an integer from 1 to 1000000"#),
        (r#"{"max_ids":1000001}"#, "max_ids", r#"param "max_ids" must be an integer from 0 to 1000000"#),
        (r#"{"dry_run":1}"#, "dry_run", r#"param "dry_run" must be true or false"#),
        (r#"{"force":"yes"}"#, "force", r#"param "force" must be true or false"#),
        (r#"{"expect_plan":1}"#, "expect_plan", r#"param "expect_plan" must be a string"#),
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"jobs.cleanup","params":{params}}}"#);
        let error = &gateway.post(body.as_bytes()).json()["error"];
        let found = (&error["code"], &error["message"], error["data"]["param"].as_str().unwrap_or_default());
        assert_eq!(found, (&json!(-32602), &json!(message), param), "{params}: {error}");
        assert_eq!(error["data"]["kind"], "invalid_params", "{params}");
        assert_eq!(sample.dump(), before, "{params}");
        // Whoever is behind it, it is not asked.
        assert_eq!(&alone.post(body.as_bytes()).json()["error"], error, "{params}");
    }
    // A plan is opaque to all but hero_proc, whose answer comes back unchanged.
    let error = &gateway.call("jobs.cleanup", &json!({ "expect_plan": "x" }))["error"];
    assert_eq!((&error["code"], &error["data"]["param"]), (&json!(-32602), &json!("expect_plan")));
    let answer = gateway.call("job.cleanup_by_tag", &json!({ "tags": ["codescaler"] }));
    assert_eq!(answer["error"]["data"]["kind"], "method_not_found", "{answer}");
    assert_eq!(sample.dump(), before);
}

/// What comes back from hero_proc comes back from here, byte for byte.
#[test]
fn reports_and_errors_pass_through_unchanged() {
    let directory = TempDir::new().unwrap();
    let upstream = directory.path().join("hero_proc.sock");
    let socket = directory.path().join("gateway.sock");
    let gateway = Server::gateway(&socket, &upstream, &[]);
    for answer in [
        json!({ "result": {
            "of": ["another", "version"],
            "dry_run": false, "plan": "x", "jobs_deleted": 1, "actions_deleted": 0, "errors": [{}],
        } }),
        json!({ "result": { "of": "a version that says less" } }),
        json!({ "error": { "code": -32020, "message": "changed", "data": { "kind": "plan_changed", "plan": "x", "more": [1] } } }),
        json!({ "error": { "code": -32000, "message": "of another server", "data": "text" } }),
        json!({ "error": { "code": 7, "message": "without data" } }),
    ] {
        let mut body = answer.clone();
        body["jsonrpc"] = "2.0".into();
        body["id"] = 1.into();
        let fake = Fake::answering(&upstream, http(&body.to_string()));
        let passed = gateway.call("jobs.cleanup", &json!({ "actor": "ana", "force": true }));
        assert_eq!((&passed["result"], &passed["error"]), (&answer["result"], &answer["error"]));
        let sent = fake.received();
        let call: Value = serde_json::from_str(&sent[sent.find("\r\n\r\n").unwrap() + 4..]).unwrap();
        assert_eq!(call["method"], "job.cleanup_by_tag");
        assert_eq!(call["params"], json!({ "force": true, "tags": ["codescaler", "codescaler_ana"] }));
    }
}

#[test]
fn each_failure_of_hero_proc_has_its_error_and_exit_code() {
    let directory = TempDir::new().unwrap();
    let upstream = directory.path().join("hero_proc.sock");
    let socket = directory.path().join("gateway.sock");
    let gateway = Server::gateway(&socket, &upstream, &[]);
    let whole = http(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    let busy = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32021,"message":"busy","data":{"kind":"store_busy"}}}"#;
    let unreachable = "hero_proc can't be reached, as its socket does not exist (start hero_proc, or `hero_proc_cleanup serve`): nothing was sent";
    let broke = "the connection broke before the answer was whole: the call may have been carried out";
    let of =
        |what: &str| format!("the answer {what}: this is not the server that was expected, what it did is unknown");
    let (no_answer, no_report) = (&of("is no JSON-RPC response"), &of("is no report of this method"));
    let another = &of("is no JSON-RPC response to this call");
    let no_http = &of("is no HTTP");
    let too_large = &of("has more than 268435456 bytes");
    let status = &of("has HTTP status 502 Bad Gateway and is no JSON-RPC response");
    let refused = "the server refused the call with HTTP status 404 Not Found: nothing was carried out";
    let answered = |status: &str, body: &str| {
        Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
    };
    let unknown = |name, answer, message| (name, answer, -32024, "outcome_unknown", message, 6);
    let not_applied = |name, answer| (name, answer, -32603, "internal", refused, 1);
    for (name, answer, code, kind, message, exit) in [
        ("not there", None, -32023, "upstream_unreachable", unreachable, 6),
        unknown("closes at once", Some(Vec::new()), broke),
        unknown("dies in the head", Some(whole[..20].to_vec()), broke),
        unknown("dies in the body", Some(whole[..whole.len() - 5].to_vec()), broke),
        unknown("HTML", Some(http("<html>It works!</html>")), no_answer),
        unknown("nothing", Some(http("")), no_answer),
        unknown("JSON of something else", Some(http(r#"{"status":"ok"}"#)), no_answer),
        unknown("the answer to another", Some(http(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#)), another),
        unknown(
            "a result and an error",
            Some(http(r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#)),
            another,
        ),
        unknown("a list", Some(http(r#"{"jsonrpc":"2.0","id":1,"result":[]}"#)), no_report),
        unknown("a word", Some(http(r#"{"jsonrpc":"2.0","id":1,"result":"deleted 3 jobs"}"#)), no_report),
        unknown(
            "counts that are none",
            Some(http(r#"{"jsonrpc":"2.0","id":1,"result":{"dry_run":false,"jobs_deleted":"3"}}"#)),
            no_report,
        ),
        unknown("no HTTP", Some(b"SSH-2.0-OpenSSH\r\n".to_vec()), no_http),
        unknown(
            "no end",
            Some(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{{", (256 << 20) + 1).into()),
            too_large,
        ),
        unknown("HTML of a proxy", answered("502 Bad Gateway", "<html>"), status),
        unknown("JSON of a proxy", answered("502 Bad Gateway", r#"{"error":"x"}"#), status),
        not_applied("HTML, not found", answered("404 Not Found", "<html>")),
        not_applied("JSON, not found", answered("404 Not Found", r#"{"detail":"Not Found"}"#)),
        not_applied("not found, and no more", answered("404 Not Found", "")),
        not_applied("dies not found", Some(b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\n<h".to_vec())),
        ("an error, refused", answered("415 Unsupported Media Type", busy), -32021, "store_busy", "busy", 6),
        ("an error", Some(http(busy)), -32021, "store_busy", "busy", 6),
    ] {
        let start = || answer.clone().map(|answer| Fake::answering(&upstream, answer));
        let fake = start();
        let answer = gateway.call("jobs.cleanup", &json!({}));
        let error = &answer["error"];
        let found = (&error["code"], &error["data"]["kind"], &error["message"]);
        assert_eq!(found, (&json!(code), &json!(kind), &json!(message)), "{name}: {answer}");
        assert_discreet(&error["message"].to_string());
        assert!(fake.is_none_or(|fake| fake.received().contains("job.cleanup_by_tag")), "{name}");
        let fake = start();
        let output = jobs_cleanup(&socket, &["--yes"]);
        assert_eq!(output.status.code(), Some(exit), "{name}: {output:?}");
        assert!(output.stdout.is_empty(), "{name}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(message), "{name}: {output:?}");
        assert!(fake.is_none_or(|fake| fake.received().contains("job.cleanup_by_tag")), "{name}");
    }
    drop(gateway);
    assert_eq!(jobs_cleanup(&socket, &["--yes"]).status.code(), Some(6), "no gateway");
}

/// Either hop may be absent, and its socket stale or shut: the error says which, where, why, and what starts it.
#[test]
fn a_socket_that_nobody_listens_on_is_unreachable() {
    let directory = TempDir::new().unwrap();
    let upstream = directory.path().join("hero_proc.sock");
    let socket = directory.path().join("gateway.sock");
    let gateway = Server::gateway(&socket, &upstream, &[]);
    let hero_proc = "(start hero_proc, or `hero_proc_cleanup serve`): nothing was sent";
    let unreached = |gateway: &Server, cause: &str, message: &str| {
        for dry_run in [true, false] {
            let error = &gateway.call("jobs.cleanup", &json!({ "dry_run": dry_run }))["error"];
            let data = json!({ "kind": "upstream_unreachable", "socket": upstream, "cause": cause });
            assert_eq!((&error["code"], &error["data"]), (&json!(-32023), &data));
            assert_eq!(error["message"], message);
        }
    };
    let told = |said: &[&str]| {
        let output = jobs_cleanup(&socket, &["--yes"]);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(6), &b""[..]), "{output:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(said.iter().all(|said| error.contains(said)), "{said:?}: {error}");
    };
    let absent = format!("hero_proc can't be reached, as its socket does not exist {hero_proc}");
    unreached(&gateway, "not_found", &absent);
    told(&[&absent, upstream.to_str().unwrap()]);
    // A hero_proc that has been killed leaves its socket behind: whoever connects to it is refused.
    drop(UnixListener::bind(&upstream).unwrap());
    assert_eq!(UnixStream::connect(&upstream).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let stale = format!("hero_proc can't be reached, as nobody listens on its socket {hero_proc}");
    unreached(&gateway, "connection_refused", &stale);
    told(&[&stale, upstream.to_str().unwrap()]);
    // The same of the gateway itself.
    gateway.signal(Signal::KILL);
    drop(gateway);
    assert!(socket.exists());
    let start = "(start `hero_proc_cleanup gateway`): nothing was sent";
    told(&[
        &format!("the gateway can't be reached, as nobody listens on its socket {start}"),
        socket.to_str().unwrap(),
    ]);
    fs::remove_file(&socket).unwrap();
    told(&[&format!("the gateway can't be reached, as its socket does not exist {start}"), socket.to_str().unwrap()]);
}

/// No permission on a socket is told apart from nobody behind it.
#[test]
fn a_socket_without_permission_has_its_own_words() {
    if !geteuid().is_root() {
        return skipped("another user can't be tried, since this is not root");
    }
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let shut = directory.path().join("shut.sock");
    let _listener = UnixListener::bind(&shut).unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o660)).unwrap();
    let client = Client::new(&shut);
    for (method, message) in [
        (
            "jobs.cleanup",
            "the gateway can't be reached, as this user has no permission on its socket: nothing was sent",
        ),
        (
            "job.cleanup_by_tag",
            "hero_proc can't be reached, as this user has no permission on its socket: nothing was sent",
        ),
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = as_daemon(|| runtime.block_on(client.call_raw(method, &json!({}))).unwrap_err());
        assert_eq!((error.kind(), error.message.as_str()), (Some(Kind::UpstreamUnreachable), message));
        let data = json!({ "kind": "upstream_unreachable", "socket": shut, "cause": "permission_denied" });
        assert_eq!(error.data, data);
    }
}

#[test]
fn what_is_not_answered_in_time_may_have_been_applied() {
    let directory = TempDir::new().unwrap();
    let upstream = directory.path().join("hero_proc.sock");
    let listener = UnixListener::bind(&upstream).unwrap();
    let mut client = Client::new(&upstream);
    client.timeout = Some(Duration::from_millis(50));
    let params = CleanupByTagParams::new(["codescaler"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(client.cleanup_by_tag(&params)).unwrap_err();
    assert_eq!((error.kind(), error.code), (Some(Kind::OutcomeUnknown), -32024));
    let (mut stream, _) = listener.accept().unwrap();
    let mut sent = String::new();
    stream.read_to_string(&mut sent).unwrap();
    assert_eq!(sent.matches("job.cleanup_by_tag").count(), 1);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it is not sent again");
}

#[test]
fn a_hero_proc_that_hangs_leaves_the_outcome_unknown() {
    let directory = TempDir::new().unwrap();
    let upstream = directory.path().join("hero_proc.sock");
    let socket = directory.path().join("gateway.sock");
    let _hangs = UnixListener::bind(&upstream).unwrap();
    let _gateway = Server::gateway(&socket, &upstream, &["--timeout", "50ms"]);
    let output = jobs_cleanup(&socket, &["--yes"]);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("may have been carried out"), "{output:?}");
}

#[test]
fn a_gateway_that_is_killed_leaves_the_outcome_unknown() {
    let directory = TempDir::new().unwrap();
    let upstream = directory.path().join("hero_proc.sock");
    let socket = directory.path().join("gateway.sock");
    let listener = UnixListener::bind(&upstream).unwrap();
    let gateway = Server::gateway(&socket, &upstream, &[]);
    let command = Command::new(BINARY)
        .args(["jobs-cleanup", "--yes", "--socket"])
        .arg(&socket)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let sent = read_request(&mut stream);
    gateway.signal(Signal::KILL);
    let output = command.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert!(
        serde_json::from_str::<Value>(&sent[sent.find("\r\n\r\n").unwrap()..]).is_ok(),
        "nothing is half-sent: {sent}"
    );
}

#[test]
fn an_unknown_admin_is_an_error_at_the_start() {
    let directory = TempDir::new().unwrap();
    // The number is -1, by which the system means nobody.
    for name in ["nobody-of-that-name", "4294967295"] {
        let output = Command::new(BINARY)
            .args(["gateway", "--admin", name, "--socket"])
            .arg(directory.path().join("gateway.sock"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("there is no user \"{name}\"")));
        assert!(!directory.path().join("gateway.sock").exists());
    }
}

/// In no time at all each call would be sent, and none answered.
#[test]
fn a_server_without_any_time_is_an_error_at_the_start() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("rpc.sock");
    for arguments in [
        &["gateway", "--timeout", "0"][..],
        &["gateway", "--client-timeout", "0ms"],
        &["serve", "--store", "store.db", "--client-timeout", "0"],
    ] {
        let output = Command::new(BINARY).args(arguments).arg("--socket").arg(&socket).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("must be above 0"), "{output:?}");
        assert!(!socket.exists(), "{arguments:?}");
    }
}

/// Real users, by the kernel's word: the daemon is refused, and hears nothing; as an admin, it is let in.
#[test]
fn only_admins_are_let_in() {
    if !geteuid().is_root() {
        return skipped("other users can't be tried, since this is not root");
    }
    let sample = Sample::new();
    let before = sample.dump();
    let directory = sample.directory.path();
    // Somewhere where others can run it.
    let binary = directory.join("hero_proc_cleanup");
    fs::copy(BINARY, &binary).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&sample.path, fs::Permissions::from_mode(0o600)).unwrap();
    let as_daemon = |args: &[&str], socket: &Path| {
        let output = Command::new(&binary)
            .uid(DAEMON)
            .gid(DAEMON)
            .current_dir("/")
            .args(args)
            .arg("--socket")
            .arg(socket)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let store_socket = directory.join("store.sock");
    let heard = UnixListener::bind(directory.join("heard.sock")).unwrap();
    heard.set_nonblocking(true).unwrap();

    // The mode of the socket keeps others out already.
    let socket = directory.join("gateway.sock");
    let deaf = Server::gateway(&socket, &directory.join("heard.sock"), &[]);
    let (code, error) = as_daemon(&["jobs-cleanup", "--yes"], &socket);
    assert_eq!(code, Some(5), "{error}");
    assert!(error.contains("no permission on its socket"), "{error}");
    // So does the gate, where the mode does not.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let (code, error) = as_daemon(&["jobs-cleanup", "--yes"], &socket);
    assert_eq!(code, Some(5), "{error}");
    assert!(error.contains("only admins"), "{error}");
    assert!(heard.accept().is_err(), "hero_proc hears nothing of it");
    deaf.signal(Signal::TERM);
    let (_, log) = deaf.end();
    let audit: Vec<&str> = log.lines().filter(|line| line.contains("audit")).collect();
    assert!(!audit.is_empty() && audit[0].contains("not_admin") && audit[0].contains("uid=1 "), "{log}");

    let store = Server::serve(&sample.path, &store_socket);
    let open = Server::gateway(&socket, &store_socket, &["--admin", "daemon"]);
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let (code, error) = as_daemon(&["jobs-cleanup", "--dry-run"], &socket);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(sample.dump(), before);
    let (code, error) = as_daemon(&["jobs-cleanup", "--yes", "--older-than", "1d"], &socket);
    assert_eq!(code, Some(0), "{error}");
    assert_ne!(sample.dump(), before);
    let (code, _) = as_daemon(&["jobs-cleanup", "--yes"], &store_socket);
    assert_eq!(code, Some(5), "hero_proc's own socket stays shut");
    drop((store, open));
}

/// Who calls is what the kernel says: whatever else a request says of its sender is not looked at.
#[test]
fn headers_are_no_identity() {
    if !geteuid().is_root() {
        return skipped("headers can't be tried as another user, since this is not root");
    }
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let upstream = directory.path().join("hero_proc.sock");
    let socket = directory.path().join("gateway.sock");
    let reachable = || fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"jobs.cleanup","params":{"dry_run":true}}"#;
    let claims = [
        "x-hero-claims: root",
        "X-Hero-Claims: admin\r\nX-Hero-Claims: root",
        "X-Hero-Claims: {\"uid\":0,\"admin\":true}",
        "x-hero-user: root\r\nx-hero-admin: true",
        "authorization: Basic cm9vdDpyb290",
        "remote-user: root\r\nx-remote-user: root",
        "cookie: admin=1",
    ];

    let heard = UnixListener::bind(&upstream).unwrap();
    heard.set_nonblocking(true).unwrap();
    let gateway = Server::gateway(&socket, &upstream, &[]);
    reachable();
    for claim in claims {
        let answer = as_daemon(|| gateway.send(&post(&format!("connection: close\r\n{claim}"), call)).json());
        let expected =
            json!({ "code": -32002, "message": "only admins may clean up jobs", "data": { "kind": "not_admin" } });
        assert_eq!(answer["error"], expected, "{claim}: {answer}");
        assert_eq!(heard.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "{claim}");
    }
    gateway.signal(Signal::TERM);
    let (_, log) = gateway.end();
    let audit: Vec<&str> = log.lines().filter(|line| line.contains("audit")).collect();
    assert_eq!(audit.len(), claims.len(), "{log}");
    assert!(audit.iter().all(|line| line.contains("uid=1 ") && line.contains("not_admin")), "{log}");
    drop(heard);
    fs::remove_file(&upstream).unwrap();

    // As little as they let anybody in do they keep anybody out.
    let gateway = Server::gateway(&socket, &upstream, &["--admin", &DAEMON.to_string()]);
    reachable();
    let request = post("connection: close\r\nx-hero-claims: guest", call);
    for answer in [as_daemon(|| gateway.send(&request).json()), gateway.send(&request).json()] {
        assert_eq!(answer["error"]["data"]["kind"], "upstream_unreachable", "{answer}");
    }
}

fn as_daemon<R: Send>(act: impl FnOnce() -> R + Send) -> R {
    as_user(DAEMON, act)
}

/// Does `act` on a thread that belongs to the user `id`: what the kernel says of a connection is who opened it, and on
/// Linux each thread has credentials of its own.
pub(crate) fn as_user<R: Send>(id: u32, act: impl FnOnce() -> R + Send) -> R {
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    let thread = move || {
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(group, group, group).unwrap();
        set_thread_res_uid(user, user, user).unwrap();
        act()
    };
    thread::scope(|scope| scope.spawn(thread).join().unwrap())
}

#[test]
fn every_deletion_and_every_refusal_leaves_one_line() {
    let sample = Sample::new();
    let store = sample.serve();
    let gateway = sample.gateway(&store);
    gateway.call("jobs.cleanup", &json!({ "dry_run": true }));
    gateway.call("jobs.cleanup", &json!({ "actor": "kind_x\nINFO audit: forged", "force": false }));
    let report = gateway.call("jobs.cleanup", &json!({ "actor": "ana", "older_than_ms": 86_400_000 }));
    gateway.call("jobs.cleanup", &json!({ "actor": "eve\u{2028}\u{85}\r\n" }));
    gateway.signal(Signal::TERM);
    let (_, log) = gateway.end();
    let audit: Vec<&str> = log.lines().filter(|line| line.contains("audit")).collect();
    assert_eq!(audit.len(), 3, "{log}");
    assert!(audit[0].contains("outcome=\"invalid_params\"") && audit[0].contains("forged"), "{}", audit[0]);
    let plan = report["result"]["plan"].as_str().unwrap();
    let asked = r#"asked="{\"actor\":\"ana\",\"older_than_ms\":86400000}""#;
    for field in ["outcome=\"ok\"", "jobs_deleted=2", "actions_deleted=1", "pid=", asked, plan] {
        assert!(audit[1].contains(field), "{field}: {}", audit[1]);
    }
    assert!(!audit[2].contains(['\u{2028}', '\u{85}', '\r']), "{}", audit[2]);
}

/// What is no report says nothing of what was deleted, and neither does the log.
#[test]
fn what_is_no_report_is_logged_as_that() {
    let directory = tempfile::TempDir::new().unwrap();
    let upstream = directory.path().join("hero_proc.sock");
    let gateway = Server::gateway(&directory.path().join("gateway.sock"), &upstream, &[]);
    let fake = Fake::answering(&upstream, http(r#"{"jsonrpc":"2.0","id":1,"result":"jobs_deleted: 3"}"#));
    gateway.call("jobs.cleanup", &json!({}));
    drop(fake.received());
    gateway.signal(Signal::TERM);
    let (_, log) = gateway.end();
    let audit: Vec<&str> = log.lines().filter(|line| line.contains("audit")).collect();
    assert_eq!(audit.len(), 1, "{log}");
    assert!(audit[0].contains("outcome=\"outcome_unknown\"") && audit[0].contains("no report"), "{}", audit[0]);
    assert!(!audit[0].contains("jobs_deleted"), "{}", audit[0]);
}

/// Half a million ids go through as they came.
#[test]
fn a_big_report_passes_through_whole() {
    let directory = TempDir::new().unwrap();
    let upstream = directory.path().join("hero_proc.sock");
    let gateway = Server::gateway(&directory.path().join("gateway.sock"), &upstream, &[]);
    let ids: Vec<String> = (1..=500_000).map(|id| id.to_string()).collect();
    let counts = r#""plan":"x","jobs_deleted":500000,"actions_deleted":0,"errors":[]"#;
    let report = format!(r#"{{"dry_run": false,  {counts},"job_ids":[{}]}}"#, ids.join(","));
    let fake = Fake::answering(&upstream, http(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{report}}}"#)));
    let answer = gateway.post(br#"{"jsonrpc":"2.0","id":9,"method":"jobs.cleanup"}"#);
    let expected = format!(r#"{{"jsonrpc":"2.0","id":9,"result":{report}}}"#);
    assert!(answer.body == expected.as_bytes(), "byte for byte, the spaces too");
    drop(fake.received());
}

/// One that never stops talking is not listened to forever, nor kept in memory.
#[test]
fn an_answer_without_end_is_an_error() {
    let directory = tempfile::TempDir::new().unwrap();
    let upstream = directory.path().join("hero_proc.sock");
    let listener = UnixListener::bind(&upstream).unwrap();
    let gateway = Server::gateway(&directory.path().join("gateway.sock"), &upstream, &[]);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            read_request(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
            let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
            while stream.write_all(chunk.as_bytes()).is_ok() {}
        });
        let answer = gateway.call("jobs.cleanup", &json!({}));
        let message = "the answer has more than 268435456 bytes: this is not the server that was expected, what it did is unknown";
        assert_eq!((&answer["error"]["message"], &answer["error"]["code"]), (&json!(message), &json!(-32024)));
    });
}
