//! Who is let in: no page in a browser, nobody behind a proxy, and nobody whom the kernel has no name for.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::gateway::as_user;
use crate::support::process::BINARY;
use crate::support::sample::Sample;
use crate::support::server::{Answer, Server, post};
use crate::support::skipped;

/// The kernel's overflow uid, unless somebody has set another.
const OVERFLOW: u32 = 65534;

/// Both sides, and a call of each that deletes.
struct Sides {
    sample: Sample,
    servers: [(Server, String); 2],
}

impl Sides {
    fn new() -> Self {
        let sample = Sample::new();
        let path = |name: &str| sample.directory.path().join(name);
        let store = Server::serve(&sample.path, &path("store.sock"));
        let gateway = Server::gateway(&path("gateway.sock"), &store.socket, &[]);
        let call = |method: &str, params: Value| {
            json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
        };
        let delete = call("job.cleanup_by_tag", json!({ "tags": ["codescaler"] }));
        Self { servers: [(store, delete), (gateway, call("jobs.cleanup", json!({})))], sample }
    }
}

/// A request whose body does not come.
fn head(verb: &str, path: &str, headers: &str) -> Vec<u8> {
    format!("{verb} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: 100000\r\n\r\n").into()
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, case: &str) {
    assert_eq!(answer.status, status, "{case:?}: {answer:?}");
    answer.assert_discreet();
    let answer = answer.json();
    assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &Value::Null), "{case:?}");
    let error = (&answer["error"]["code"], &answer["error"]["data"]["kind"]);
    assert_eq!(error, (&json!(-32600), &json!("invalid_request")), "{case:?}");
}

/// A page can have these media types sent anywhere, without asking; the one of JSON, it can't.
#[test]
fn another_media_type_than_jsons_is_refused_before_the_body_is_read() {
    let sides = Sides::new();
    let before = sides.sample.dump();
    let others = [
        "",
        "content-type:\r\n",
        "content-type: text/plain\r\n",
        "content-type: text/plain;charset=UTF-8\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        "content-type: multipart/form-data; boundary=application/json\r\n",
        "content-type: text/plain; application/json\r\n",
        "content-type: text/plain, application/json\r\n",
        "content-type: application/json, text/plain\r\n",
        "content-type: application/jsonp\r\n",
        "content-type: application/json-rpc\r\n",
        "content-type: application/ json\r\n",
        "content-type: application/\u{ff}json\r\n",
        "content-type: json\r\n",
        "content-type: application/json\r\ncontent-type: text/plain\r\n",
        "content-type: text/plain\r\ncontent-type: application/json\r\n",
        "x-content-type: application/json\r\n",
    ];
    for (server, delete) in &sides.servers {
        for headers in others {
            assert_refused(&server.send(&head("POST", "/rpc", headers)), 415, headers);
            let whole = format!(
                "POST /rpc HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{delete}",
                delete.len()
            );
            assert_refused(&server.send(whole.as_bytes()), 415, headers);
        }
        assert_refused(&server.send(&head("POST", "/health", "content-type: text/plain\r\n")), 415, "another path");
        // Nobody is asked to send what is not read.
        let asks = head("POST", "/rpc", "content-type: text/plain\r\nexpect: 100-continue\r\n");
        assert_refused(&server.send(&asks), 415, "a client that asks first");
    }
    assert_eq!(sides.sample.dump(), before);

    let names = [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=latin1",
        " application/json ; x=\"y;z\"",
    ];
    for (server, delete) in &sides.servers {
        let dry = delete.replacen(r#""params":{"#, r#""params":{"dry_run":true"#, 1).replace("true\"", "true,\"");
        for name in names {
            let request = format!(
                "POST /rpc HTTP/1.1\r\nhost: x\r\nconnection: close\r\nContent-Type: {name}\r\ncontent-length: {}\r\n\r\n{dry}",
                dry.len()
            );
            let answer = server.send(request.as_bytes()).json();
            assert_eq!(answer["result"]["jobs_planned"], 3, "{name}: {answer}");
        }
    }
}

#[test]
fn what_a_page_has_sent_is_refused_before_it_is_read() {
    let sides = Sides::new();
    let before = sides.sample.dump();
    let pages = [
        "origin: https://evil.example",
        "Origin: null",
        "origin:",
        "origin: http://localhost",
        "sec-fetch-site: cross-site",
        "Sec-Fetch-Site: same-site",
        "sec-fetch-site:",
        "sec-fetch-site: NONE",
        "sec-fetch-site: none, cross-site",
        "sec-fetch-site: none\r\nsec-fetch-site: cross-site",
        "sec-fetch-site: same-origin\r\norigin: http://localhost",
    ];
    for (server, delete) in &sides.servers {
        for page in pages {
            for media_type in ["application/json", "text/plain"] {
                let headers = format!("{page}\r\ncontent-type: {media_type}\r\n");
                assert_refused(&server.send(&head("POST", "/rpc", &headers)), 403, page);
            }
            assert_refused(&server.send(&post(&format!("connection: close\r\n{page}"), delete.as_bytes())), 403, page);
            // As much as anything else: who may see what is here is not for a page to know.
            for (verb, path) in
                [("GET", "/health"), ("GET", "/openrpc.json"), ("OPTIONS", "/rpc"), ("GET", "/none"), ("PUT", "/rpc")]
            {
                assert_refused(&server.send(&head(verb, path, &format!("{page}\r\n"))), 403, page);
            }
        }
        for own in ["sec-fetch-site: same-origin", "sec-fetch-site: none", "referer: https://evil.example"] {
            let get = format!("GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{own}\r\n\r\n");
            assert_eq!(server.send(get.as_bytes()).status, 200, "{own}");
        }
    }
    assert_eq!(sides.sample.dump(), before);
    let (store, delete) = &sides.servers[0];
    let answer = store.send(&post("connection: close\r\nsec-fetch-site: none", delete.as_bytes())).json();
    assert_eq!(answer["result"]["jobs_deleted"], 3, "{answer}");
}

/// Through a proxy everybody has the proxy's uid, whatever that may do.
#[test]
fn who_comes_through_a_proxy_is_nobody() {
    let sides = Sides::new();
    let before = sides.sample.dump();
    let proxies = [
        "forwarded: for=192.0.2.1",
        "Forwarded:",
        "via: 1.1 proxy",
        "x-forwarded-for: 127.0.0.1",
        "X-Forwarded-Prefix: /hero_proc",
        "x-forwarded-proto: https",
        "x-forwarded-anything: at all",
        "X-Real-IP: 127.0.0.1",
    ];
    let discover = json!({ "jsonrpc": "2.0", "id": 1, "method": "rpc.discover" }).to_string();
    for (server, delete) in &sides.servers {
        let assert_nobody = |answer: &Value, proxy: &str| {
            let error = &answer["error"];
            let found = (&error["code"], &error["data"]["kind"]);
            assert_eq!(found, (&json!(-32002), &json!("not_admin")), "{proxy}: {answer}");
        };
        for proxy in proxies {
            let header = format!("connection: close\r\n{proxy}");
            let answer = server.send(&post(&header, delete.as_bytes()));
            answer.assert_discreet();
            assert_nobody(&answer.json(), proxy);
            let other = delete.replace("cleanup", "other");
            assert_nobody(&server.send(&post(&header, other.as_bytes())).json(), proxy);
            let batch = format!("[{delete},{discover}]");
            let answers = server.send(&post(&header, batch.as_bytes())).json();
            assert_nobody(&answers[0], proxy);
            assert!(answers[1]["result"]["methods"].is_array(), "{proxy}: {answers}");
            let answer = server.send(&post(&header, discover.as_bytes())).json();
            assert!(answer["result"]["methods"].is_array(), "{proxy}: {answer}");
            for path in ["/health", "/openrpc.json", "/.well-known/heroservice.json"] {
                let get = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n");
                assert_eq!(server.send(get.as_bytes()).status, 200, "{proxy}: {path}");
            }
        }
    }
    assert_eq!(sides.sample.dump(), before);
    // A later request of the same connection is its own.
    let (store, delete) = &sides.servers[0];
    let mut stream = store.connect();
    let answers = [post("via: 1.1 proxy", delete.as_bytes()), post("connection: close", delete.as_bytes())].concat();
    stream.write_all(&answers).unwrap();
    let answers = String::from_utf8(Answer::last_of(&mut stream).body).unwrap();
    assert!(answers.contains("not_admin") && answers.contains(r#""jobs_deleted":3"#), "{answers}");
}

fn gateway(socket: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("gateway").arg("--socket").arg(socket).arg("--hero-proc").arg(socket.with_extension("none"));
    command
}

/// The kernel reports its overflow uid for everybody whom this user namespace does not map: it is nobody's.
#[test]
fn the_overflow_uid_is_no_admin() {
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap();
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("gateway.sock");
    let mut names = vec![overflow.trim().to_owned(), format!("0{}", overflow.trim())];
    names.extend(uzers::get_user_by_uid(OVERFLOW).map(|user| user.name().to_string_lossy().into_owned()));
    for name in names {
        let output = gateway(&socket).args(["--admin", &name]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("overflow uid") && error.contains(&name), "{error}");
        assert!(!socket.exists());
    }
    if !geteuid().is_root() {
        return skipped("calls of the overflow uid can't be tried, since this is not root");
    }
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let hero_proc = directory.path().join("hero_proc.sock");
    let heard = UnixListener::bind(&hero_proc).unwrap();
    heard.set_nonblocking(true).unwrap();
    let gateway = Server::gateway(&socket, &hero_proc, &[]);
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let answer = as_user(OVERFLOW, || gateway.call("jobs.cleanup", &json!({})));
    assert_eq!(answer["error"]["data"]["kind"], "not_admin", "{answer}");
    assert!(heard.accept().is_err(), "hero_proc hears nothing of it");
    gateway.signal(Signal::TERM);
    let (_, log) = gateway.end();
    assert!(log.contains("uid=65534") && log.contains("not_admin"), "{log}");
}

/// Whoever runs as the overflow uid can tell nobody from itself: not its callers, and not whose a directory is.
#[test]
fn nothing_is_served_as_the_overflow_uid() {
    if !geteuid().is_root() {
        return skipped("nothing can be run as another user, since this is not root");
    }
    let sample = Sample::new();
    let directory = sample.directory.path();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    let binary = directory.join("hero_proc_cleanup");
    fs::copy(BINARY, &binary).unwrap();
    let socket = directory.join("rpc.sock");
    let assert_refused = |mut command: Command, side: &str| {
        command.arg(side).arg("--socket").arg(&socket).current_dir("/");
        if side == "serve" {
            command.arg("--store").arg(&sample.path);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{side}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("overflow uid"), "{side}: {output:?}");
        assert!(!socket.exists());
    };
    let unshares = Command::new("unshare").args(["--user", "true"]).status().is_ok_and(|status| status.success());
    for side in ["serve", "gateway"] {
        let mut command = Command::new(&binary);
        command.uid(OVERFLOW).gid(OVERFLOW);
        assert_refused(command, side);
        // As a user of a namespace that maps nobody.
        if unshares {
            let mut command = Command::new("unshare");
            command.arg("--user").arg(&binary);
            assert_refused(command, side);
        }
    }
    if !unshares {
        skipped("user namespaces can't be tried here");
    }
}
