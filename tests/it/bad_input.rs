//! Every bad input gets an error that says what is wrong and where, and changes nothing.

use std::collections::BTreeMap;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::{fs, thread};

use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::call::{all, all_with, dry_run};
use crate::support::process::entries;
use crate::support::sample::{SCHEMA, Sample, dump, insert_job, text};
use crate::support::server::{Answer, METHOD, Server, assert_discreet, post};

#[track_caller]
fn assert_error(answer: &Value, code: i64, kind: &str, message: &str) {
    let error = &answer["error"];
    // In one comparison: which message was expected says which case of many this is.
    let found = (&error["code"], &error["data"]["kind"], &error["message"]);
    assert_eq!(found, (&json!(code), &json!(kind), &json!(message)), "{answer}");
    assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
    assert!(answer.get("result").is_none(), "{answer}");
    assert_discreet(&answer.to_string());
}

/// Does `try_case` for each of `cases`, all of them whatever comes of one, and names those that failed.
fn each<C>(cases: impl IntoIterator<Item = (String, C)>, mut try_case: impl FnMut(&str, C)) {
    let failed: Vec<String> = cases
        .into_iter()
        .filter_map(|(name, case)| catch_unwind(AssertUnwindSafe(|| try_case(&name, case))).is_err().then_some(name))
        .collect();
    assert!(failed.is_empty(), "these failed, each as it says above: {failed:#?}");
}

/// The bytes of each file in the directory of `store` that belongs to it.
fn bytes_of(store: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let name = store.file_name().unwrap().to_string_lossy().into_owned();
    let own = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&name);
    let files = entries(store.parent().unwrap()).into_iter().filter(own).filter(|path| path.is_file());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn what_is_no_request_is_answered_and_changes_nothing() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve();
    let no_request = "this is no JSON-RPC 2.0 request";
    let cases = [
        ("", -32700, "parse_error", "the body is no JSON"),
        ("delete everything", -32700, "parse_error", "the body is no JSON"),
        (r#"{"jsonrpc":"2.0","method":"#, -32700, "parse_error", "the body is no JSON"),
        (r#"[{"jsonrpc":"2.0","method":"#, -32700, "parse_error", "the body is no JSON"),
        ("1", -32600, "invalid_request", no_request),
        ("null", -32600, "invalid_request", no_request),
        (r#""x""#, -32600, "invalid_request", no_request),
        ("{}", -32600, "invalid_request", no_request),
        (r#"{"id":1,"method":"job.cleanup_by_tag"}"#, -32600, "invalid_request", no_request),
        (r#"{"jsonrpc":"1.0","id":1,"method":"job.cleanup_by_tag"}"#, -32600, "invalid_request", no_request),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600, "invalid_request", no_request),
        ("[]", -32600, "invalid_request", "the batch is empty"),
        (
            r#"{"jsonrpc":"2.0","id":true,"method":"job.cleanup_by_tag","params":{"tags":["codescaler"]}}"#,
            -32600,
            "invalid_request",
            "the id is neither a string, nor a number, nor null",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"job.cleanup","params":{"tags":["codescaler"]}}"#,
            -32601,
            "method_not_found",
            r#"there is no method "job.cleanup""#,
        ),
    ];
    each(cases.map(|case| (case.0.to_owned(), case)), |_, (body, code, kind, message)| {
        let answer = server.post(body.as_bytes());
        assert_eq!(answer.status, 200);
        assert_error(&answer.json(), code, kind, message);
        assert_eq!(sample.dump(), before);
    });
}

/// White space before a request is JSON's, however much there is of it.
#[test]
fn a_request_behind_white_space_is_one() {
    let sample = Sample::new();
    let server = sample.serve();
    let call =
        json!({ "jsonrpc": "2.0", "id": 1, "method": METHOD, "params": { "tags": ["codescaler"], "dry_run": true } });
    for white in ["", " ", "\r\n", "\t"].map(|white| white.repeat(1000)) {
        let answer = server.post(format!("{white}{call}{white}").as_bytes()).json();
        assert_eq!(answer["result"]["jobs_planned"], 3, "{answer}");
        let answer = server.post(format!("{white}[{call}]{white}").as_bytes()).json();
        assert_eq!(answer[0]["result"]["jobs_planned"], 3, "{answer}");
        let unread = call.to_string().replacen(":1,", ":[1],", 1);
        let answer = server.post(format!("{white}{unread}").as_bytes()).json();
        let message = "the id is neither a string, nor a number, nor null";
        assert_error(&answer, -32600, "invalid_request", message);
        assert_error(&server.post(white.as_bytes()).json(), -32700, "parse_error", "the body is no JSON");
    }
    // What other languages take for white space is none here.
    for other in ["\u{b}", "\u{c}", "\u{85}", "\u{a0}", "\u{feff}"] {
        assert_error(
            &server.post(format!("{other}{call}").as_bytes()).json(),
            -32700,
            "parse_error",
            "the body is no JSON",
        );
    }
}

/// Not even where nobody looks: what is carried out is what stands there.
#[test]
fn a_body_that_is_no_utf_8_is_no_json() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve();
    for id in ["\"id\":1,", ""] {
        let head = format!(r#"{{"jsonrpc":"2.0",{id}"method":"{METHOD}","params":{{"tags":["codescaler"]}},"x":""#);
        let call = [head.as_bytes(), b"\xff\"}"].concat();
        for body in [call.clone(), [b"[", call.as_slice(), b"]"].concat()] {
            let answer = server.post(&body);
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&body));
            assert_error(&answer.json(), -32700, "parse_error", "the body is no JSON");
        }
    }
    assert_eq!(sample.dump(), before);
}

#[test]
fn a_body_over_a_mebibyte_is_refused() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve();
    let padding = " ".repeat(1 << 20);
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{METHOD}","params":{{"tags":["codescaler"]}}}}{padding}"#);
    let answer = server.post(body.as_bytes());
    assert_eq!(answer.status, 413);
    assert_error(&answer.json(), -32600, "invalid_request", "the body has more than 1048576 bytes");

    // One that is not much larger can be sent to its end: many clients do not read before.
    let mut stream = server.connect();
    stream.write_all(&post("connection: close", " ".repeat(4 << 20).as_bytes())).unwrap();
    assert_eq!(Answer::last_of(&mut stream).status, 413);

    let chunked = format!(
        "POST /rpc HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let answer = server.send(chunked.as_bytes());
    assert_eq!(answer.status, 413);
    assert_error(&answer.json(), -32600, "invalid_request", "the body has more than 1048576 bytes");
    assert_eq!(sample.dump(), before);
}

#[test]
fn bad_params_are_refused() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve();
    let an_array = r#"param "tags" must be an array of strings"#;
    let an_age = r#"param "older_than_ms" must be an integer from 0 to 9223372036854775807"#;
    let a_limit = r#"param "limit" must be an integer from 1 to 1000000"#;
    let a_count = r#"param "max_ids" must be an integer from 0 to 1000000"#;
    let a_plan = r#"param "expect_plan" is no plan that a dry run could have given"#;
    let tag = |bytes: usize| format!("codescaler_{}", "x".repeat(bytes - 11));
    let cases = [
        ("{}".to_owned(), "tags", r#"param "tags" is missing"#),
        (r#"{"dry_run":true}"#.to_owned(), "tags", r#"param "tags" is missing"#),
        (r#"{"tags":[]}"#.to_owned(), "tags", r#"param "tags" must hold 1 to 16 tags, not 0"#),
        (r#"{"tags":"codescaler"}"#.to_owned(), "tags", an_array),
        (r#"{"tags":null}"#.to_owned(), "tags", an_array),
        (r#"{"tags":{"0":"codescaler"}}"#.to_owned(), "tags", an_array),
        (r#"{"tags":["codescaler",1]}"#.to_owned(), "tags", an_array),
        (r#"{"tags":["codescaler",null]}"#.to_owned(), "tags", an_array),
        (
            json!({ "tags": vec!["codescaler"; 17] }).to_string(),
            "tags",
            r#"param "tags" must hold 1 to 16 tags, not 17"#,
        ),
        (json!({ "tags": [tag(257)] }).to_string(), "tags", r#"param "tags" holds a tag of 257 bytes, more than 256"#),
        (r#"{"tags":["codescaler"],"older_than_ms":-1}"#.to_owned(), "older_than_ms", an_age),
        (r#"{"tags":["codescaler"],"older_than_ms":1.5}"#.to_owned(), "older_than_ms", an_age),
        (r#"{"tags":["codescaler"],"older_than_ms":1e3}"#.to_owned(), "older_than_ms", an_age),
        (r#"{"tags":["codescaler"],"older_than_ms":"1000"}"#.to_owned(), "older_than_ms", an_age),
        (r#"{"tags":["codescaler"],"older_than_ms":9223372036854775808}"#.to_owned(), "older_than_ms", an_age),
        (
            r#"{"tags":["codescaler"],"older_than_ms":1e400}"#.to_owned(),
            "older_than_ms",
            r#"param "older_than_ms" can't be read"#,
        ),
        (r#"{"tags":["codescaler"],"limit":0}"#.to_owned(), "limit", a_limit),
        (r#"{"tags":["codescaler"],"limit":1000001}"#.to_owned(), "limit", a_limit),
        (r#"{"tags":["codescaler"],"limit":true}"#.to_owned(), "limit", a_limit),
        (r#"{"tags":["codescaler"],"max_ids":-1}"#.to_owned(), "max_ids", a_count),
        (r#"{"tags":["codescaler"],"max_ids":1000001}"#.to_owned(), "max_ids", a_count),
        (r#"{"tags":["codescaler"],"dry_run":1}"#.to_owned(), "dry_run", r#"param "dry_run" must be true or false"#),
        (
            r#"{"tags":["codescaler"],"dry_run":"true"}"#.to_owned(),
            "dry_run",
            r#"param "dry_run" must be true or false"#,
        ),
        (r#"{"tags":["codescaler"],"force":[]}"#.to_owned(), "force", r#"param "force" must be true or false"#),
        (
            r#"{"tags":["codescaler"],"dryrun":true}"#.to_owned(),
            "dryrun",
            r#"param "dryrun" is no param of this method"#,
        ),
        (r#"{"tags":["codescaler"],"Force":true}"#.to_owned(), "Force", r#"param "Force" is no param of this method"#),
        (
            r#"{"tags":["codescaler"],"dry_run":true,"dry_run":false}"#.to_owned(),
            "dry_run",
            r#"param "dry_run" is given twice"#,
        ),
        (
            r#"{"tags":["codescaler"],"expect_plan":7}"#.to_owned(),
            "expect_plan",
            r#"param "expect_plan" must be a string"#,
        ),
        (r#"{"tags":["codescaler"],"expect_plan":""}"#.to_owned(), "expect_plan", a_plan),
        (r#"{"tags":["codescaler"],"expect_plan":"none.3f9a"}"#.to_owned(), "expect_plan", a_plan),
        (r#"["codescaler"]"#.to_owned(), "", "params must be an object, by name"),
        (r#"[{"tags":["codescaler"]}]"#.to_owned(), "", "params must be an object, by name"),
        (r#""codescaler""#.to_owned(), "", "params must be an object, by name"),
    ];
    each(cases.map(|case| (case.0.clone(), case)), |params, (_, param, message)| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":"x","method":"{METHOD}","params":{params}}}"#);
        let answer = server.post(body.as_bytes()).json();
        assert_error(&answer, -32602, "invalid_params", message);
        assert_eq!(answer["error"]["data"]["param"].as_str().unwrap_or_default(), param);
        assert_eq!(answer["id"], "x");
        assert_eq!(sample.dump(), before);
    });
    let longest = server.call(METHOD, &json!({ "tags": [tag(256)] }));
    assert_eq!(longest["result"]["jobs_matched"], 0, "{longest}");
    assert_eq!(sample.dump(), before);
}

/// An error repeats enough of a name to see what is meant: not all of a mebibyte, and that five times as long.
#[test]
fn long_names_are_not_repeated_whole() {
    let sample = Sample::new();
    let server = sample.serve();
    let gateway = sample.gateway(&server);
    for (letter, shown) in [('\u{1}', "\\u{1}"), ('é', "é")] {
        let (name, shown) = (letter.to_string().repeat(170_000), shown.repeat(256));
        let answer = server.call(&name, &Value::Null);
        assert_error(&answer, -32601, "method_not_found", &format!("there is no method \"{shown}…\""));
        let message = format!("param \"{shown}…\" is no param of this method");
        let param = name.chars().take(256).collect::<String>() + "…";
        for (server, method) in [(&server, METHOD), (&gateway, "jobs.cleanup")] {
            let answer = server.call(method, &json!({ name.as_str(): true }));
            assert_error(&answer, -32602, "invalid_params", &message);
            assert_eq!(answer["error"]["data"]["param"], param);
        }
    }
}

#[test]
fn the_guard_refuses_every_other_tag() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve();
    let tags = [
        "codescalers",
        "codescalerX",
        "Codescaler",
        " codescaler",
        "codescaler ",
        "",
        "hero",
        "codescaler-kind",
        "codescaler%",
        "_codescaler",
        "ｃodescaler",
        "сodescaler",
        "codescaler\0",
        "codescaler\u{200b}",
    ];
    each(tags.map(|tag| (format!("{tag:?}"), tag)), |_, tag| {
        for tags in [json!([tag]), json!(["codescaler", tag])] {
            let answer = server.call(METHOD, &json!({ "tags": tags }));
            let message = format!(
                "tag {tag:?} is refused: only \"codescaler\" and tags that begin with \"codescaler_\" are allowed"
            );
            assert_error(&answer, -32002, "tag_outside_guard", &message);
            assert_eq!(answer["error"]["data"]["tag"], tag);
            assert_eq!(sample.dump(), before);
        }
    });
}

/// What the guard refuses is refused before the store is looked at: whatever state that is in, the answer is the guard's.
#[test]
fn a_tag_outside_the_guard_is_refused_before_the_store_is_read() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let refused = |server: &Server| {
        for dry_run in [true, false] {
            let answer = server.call(METHOD, &json!({ "tags": ["codescaler", "hero"], "dry_run": dry_run }));
            let message =
                r#"tag "hero" is refused: only "codescaler" and tags that begin with "codescaler_" are allowed"#;
            assert_error(&answer, -32002, "tag_outside_guard", message);
        }
    };
    fs::create_dir(path("directory")).unwrap();
    fs::write(path("text"), "this is no database").unwrap();
    Connection::open(path("tables")).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
    for name in ["missing", "directory", "text", "tables"] {
        refused(&Server::serve(&path(name), &path("rpc.sock")));
    }
    assert!(!path("missing").exists());

    // Locked, so that nobody else can even read it.
    let sample = Sample::new();
    let other = sample.open();
    other.execute_batch("PRAGMA journal_mode = delete; BEGIN EXCLUSIVE").unwrap();
    let server = Server::serve(&sample.path, &path("rpc.sock"));
    refused(&server);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);

    // What the server does of its own accord is over once it says so, whichever way.
    server.says("the store fits");
    // It is not so much as opened; a call that is let through shows that this would be seen.
    let events = inotify::init(CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&events, &sample.path, WatchFlags::OPEN | WatchFlags::ACCESS | WatchFlags::MODIFY).unwrap();
    let mut buffer = [const { MaybeUninit::uninit() }; 4096];
    let mut events = inotify::Reader::new(&events, &mut buffer);
    refused(&server);
    assert!(events.next().is_err(), "nothing has happened to the file");
    assert!(server.call(METHOD, &dry_run())["result"].is_object());
    assert!(events.next().is_ok());
}

#[test]
fn a_batch_is_answered_entry_by_entry_and_notifications_are_not_carried_out() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve();
    let delete = json!({ "jsonrpc": "2.0", "method": METHOD, "params": { "tags": ["codescaler"] } });
    let answer = server.post(delete.to_string().as_bytes());
    assert_eq!((answer.status, answer.body.as_slice()), (204, &b""[..]));
    let answer = server.post(json!([delete, delete]).to_string().as_bytes());
    assert_eq!((answer.status, answer.body.as_slice()), (204, &b""[..]));
    assert_eq!(sample.dump(), before);

    let dry = dry_run();
    let answer = server
        .post(
            json!([
                { "jsonrpc": "2.0", "id": 1, "method": METHOD, "params": dry },
                delete,
                7,
                { "jsonrpc": "2.0", "id": "two", "method": METHOD, "params": { "tags": ["hero"] } },
                { "jsonrpc": "2.0", "id": 3, "method": "x" },
            ])
            .to_string()
            .as_bytes(),
        )
        .json();
    assert_eq!(answer[0]["result"]["jobs_planned"], 3, "{answer}");
    assert_error(&answer[1], -32600, "invalid_request", "this is no JSON-RPC 2.0 request");
    assert_eq!((&answer[1]["id"], &answer[2]["id"]), (&Value::Null, &json!("two")));
    assert_eq!(answer[2]["error"]["data"]["kind"], "tag_outside_guard");
    assert_error(&answer[3], -32601, "method_not_found", r#"there is no method "x""#);
    assert_eq!(answer.as_array().unwrap().len(), 4);
    assert_eq!(sample.dump(), before);

    // An id that can't be read makes no notification, here as little as alone.
    for id in ["true", "false", "[]", "[1]", "{}"] {
        let entry = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{METHOD}","params":{{"tags":["codescaler"]}}}}"#);
        let answer = server.post(format!("[{entry},{delete}]").as_bytes());
        assert_eq!(answer.status, 200, "{id}");
        let answer = answer.json();
        let message = "the id is neither a string, nor a number, nor null";
        assert_error(&answer[0], -32600, "invalid_request", message);
        assert_eq!((&answer[0]["id"], answer.as_array().unwrap().len()), (&Value::Null, 1));
    }
    let twice = format!(r#"{{"jsonrpc":"2.0","id":1,"id":2,"method":"{METHOD}","params":{{"tags":["codescaler"]}}}}"#);
    assert_error(&server.post(twice.as_bytes()).json(), -32600, "invalid_request", "the id is given twice");
    let answer = server.post(format!("[{twice}]").as_bytes()).json();
    assert_error(&answer[0], -32600, "invalid_request", "the id is given twice");
    let alone = json!([{ "jsonrpc": "2.0", "id": 1, "method": METHOD, "params": dry }]);
    let answer = server.post(alone.to_string().as_bytes()).json();
    assert_eq!((&answer[0]["id"], &answer[0]["result"]["jobs_planned"]), (&json!(1), &json!(3)), "{answer}");
    assert_eq!(sample.dump(), before);

    let many: Vec<Value> = (0..101).map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "x" })).collect();
    let answer = server.post(json!(many).to_string().as_bytes()).json();
    assert_error(&answer, -32600, "invalid_request", "a batch holds at most 100 requests");
}

#[test]
fn a_store_that_does_not_fit_is_refused_with_every_reason() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("directory")).unwrap();
    fs::write(path("directory").join("file"), "precious").unwrap();
    fs::write(
        path("text"),
        "this is no database, and it is longer than the header of one, which has a hundred bytes in it",
    )
    .unwrap();
    fs::write(path("empty"), "").unwrap();
    Connection::open(path("tables")).unwrap().execute_batch("CREATE TABLE x (y); CREATE TABLE actions (id)").unwrap();
    let all = || -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let inner = entries(&path("directory"));
        let paths = entries(directory.path()).into_iter().chain(inner).filter(|entry| *entry != path("rpc.sock"));
        paths.map(|path| (path.clone(), path.is_file().then(|| fs::read(&path).unwrap()))).collect()
    };
    let before = all();
    let cases = [
        ("missing", json!(["there is no such file"])),
        ("directory", json!(["this is no regular file"])),
        ("text", json!(["the file is no SQLite database"])),
        ("empty", json!(["there is no table jobs", "there is no table actions"])),
        (
            "tables",
            json!([
                "there is no table jobs",
                "actions.id is no INTEGER PRIMARY KEY",
                "table actions has no column name",
                "table actions has no column context_name or context",
                "table actions has no column spec_json or spec",
            ]),
        ),
    ];
    each(cases.map(|case| (case.0.to_owned(), case)), |_, (name, problems)| {
        let server = Server::serve(&path(name), &path("rpc.sock"));
        for dry_run in [true, false] {
            let answer = server.call(METHOD, &all_with(json!({ "dry_run": dry_run })));
            let listed: Vec<&str> =
                problems.as_array().unwrap().iter().map(|problem| problem.as_str().unwrap()).collect();
            let what = if name == "missing" { "the store can't be used" } else { "this store does not fit" };
            assert_error(&answer, -32022, "store_unfit", &format!("{what}: {}", listed.join("; ")));
            assert_eq!(answer["error"]["data"]["problems"], problems);
            assert_eq!(all(), before, "nothing is made, nothing is changed by a byte");
        }
    });
}

#[test]
fn a_jobs_table_without_a_needed_column_is_refused() {
    let cases = [
        (
            "    context_name   TEXT    NOT NULL DEFAULT 'core',\n    action ",
            "table jobs has no column context_name or context",
        ),
        ("    action         TEXT    NOT NULL,", "table jobs has no column action"),
        (
            "    spec_json      TEXT    NOT NULL,              -- the ActionSpec",
            "table jobs has no column spec_json or spec",
        ),
        ("    tags           TEXT,", "table jobs has no column tags"),
        ("    phase          TEXT    NOT NULL DEFAULT 'pending',\n    attempt", "table jobs has no column phase"),
        ("    created_at_ms  INTEGER,\n    started_at_ms", "table jobs has no column created_at_ms or created_at"),
    ];
    each(cases.map(|case| (case.1.to_owned(), case)), |_, (line, problem)| {
        assert!(SCHEMA.contains(line), "{line}");
        let renamed = line.replacen("    ", "    not_", 1);
        let indexless: String = SCHEMA
            .replacen(line, &renamed, 1)
            .lines()
            .filter(|line| !line.starts_with("CREATE INDEX"))
            .collect::<Vec<_>>()
            .join("\n");
        let sample = Sample::with_schema(&indexless);
        let (before, bytes) = (sample.dump(), bytes_of(&sample.path));
        let server = sample.serve();
        server.says("until the store fits");
        for dry_run in [true, false] {
            let answer = server.call(METHOD, &all_with(json!({ "dry_run": dry_run })));
            assert_error(&answer, -32022, "store_unfit", &format!("this store does not fit: {problem}"));
            assert_eq!(answer["error"]["data"]["problems"], json!([problem]));
        }
        assert_eq!(bytes_of(&sample.path), bytes);
        assert_eq!(sample.dump(), before);
    });
}

#[test]
fn a_read_only_store_can_be_looked_at() {
    let sample = Sample::new();
    let (before, bytes) = (sample.dump(), bytes_of(&sample.path));
    fs::set_permissions(&sample.path, fs::Permissions::from_mode(0o444)).unwrap();
    let server = sample.serve();
    server.says("the store fits");
    let answer = server.call(METHOD, &dry_run());
    assert_eq!(answer["result"]["jobs_planned"], 3, "{answer}");
    let answer = server.cleanup();
    assert_error(&answer, -32022, "store_unfit", "the store can't be used: it is read-only");
    // Whoever may not write to the store leaves its WAL, which is empty, and the WAL's index.
    let left = |end: &str| bytes_of(&sample.path).get(Path::new(&format!("{}{end}", sample.path.display()))).cloned();
    assert!(left("") == bytes.get(&sample.path).cloned());
    assert!(left("-wal").is_none_or(|wal| wal.is_empty()));
    assert_eq!(sample.dump(), before);
}

#[test]
fn a_locked_store_is_busy_and_the_server_answers_all_the_same() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = sample.serve();
    // Not while this process has the store open: closing a file gives up every lock that a process has on it.
    let bytes = fs::read(&sample.path).unwrap();
    let other = sample.open();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| server.cleanup());
        let dry = server.call(METHOD, &dry_run());
        assert_eq!(dry["result"]["jobs_planned"], 3, "a dry run needs no lock: {dry}");
        assert_eq!(server.get("/health").status, 200);
        let answer = waiting.join().unwrap();
        assert_error(&answer, -32021, "store_busy", "the store is locked by another connection: nothing was deleted");
        assert_eq!(answer["error"]["data"]["retryable"], true);
    });
    drop(other);
    assert_eq!(fs::read(&sample.path).unwrap(), bytes);
    assert_eq!(dump(&sample.path), before);
}

/// A row that others made is a case of its own: alone in the store, shown by a dry run, then called for.
#[test]
fn bad_tags_abort_nothing_and_match_only_if_they_truly_do() {
    let root = r#"["codescaler"]"#;
    let tagged = r#"{"tags":["codescaler"]}"#;
    let cases = [
        ("malformed: empty", text(""), "{}", false),
        ("malformed: a word", text("codescaler"), "{}", false),
        ("malformed: no end", text(r#"["codescaler""#), "{}", false),
        ("malformed: two ends", text(r#"["codescaler"]]"#), "{}", false),
        ("malformed: a comma", text(r#"["codescaler",]"#), "{}", false),
        ("malformed: single quotes", text("['codescaler']"), "{}", false),
        ("malformed, though its spec is tagged", text("["), tagged, false),
        ("no text, though its spec is tagged", Cell::Integer(1), tagged, false),
        ("bytes", Cell::Blob(root.as_bytes().to_vec()), tagged, false),
        ("an object", text(r#"{"codescaler":"codescaler"}"#), tagged, false),
        ("an object of tags", text(tagged), tagged, false),
        ("a bare string", text(r#""codescaler""#), tagged, false),
        ("a number", text("7"), tagged, false),
        ("nested arrays", text(r#"[["codescaler"]]"#), tagged, false),
        ("an array nested beside it", text(r#"["codescaler",["codescaler"]]"#), tagged, false),
        ("not only strings", text(r#"["codescaler",null]"#), tagged, false),
        ("duplicated", text(r#"["codescaler","codescaler"]"#), "{}", true),
        ("duplicated, another", text(r#"["codescaler","x","x"]"#), "{}", true),
        ("escaped", text(r#"["c\u006fdescaler"]"#), "{}", true),
        ("escaped, another", text(r#"["c\u006edescaler"]"#), tagged, false),
        ("escaped twice", text(r#"["c\\u006fdescaler"]"#), tagged, false),
        ("% for any", text(r#"["%"]"#), tagged, false),
        ("% at the end", text(r#"["codescaler%"]"#), tagged, false),
        ("% within", text(r#"["c%r"]"#), tagged, false),
        ("_ for one", text(r#"["codescale_"]"#), tagged, false),
        ("_ at the end", text(r#"["codescaler_"]"#), tagged, false),
        ("% and _ beside it", text(r#"["%","_","codescaler"]"#), "{}", true),
        ("a JSON null", text("null"), tagged, true),
        ("NULL", Cell::Null, tagged, true),
        ("NULL, and a torn spec", Cell::Null, r#"{"tags":["codescaler"]"#, false),
        ("NULL, and an escaped spec", Cell::Null, r#"{"t\u0061gs":["c\u006fdescaler"]}"#, true),
        ("none", text("[]"), tagged, false),
    ];
    let rows = BadRows::new();
    each(cases.map(|case| (case.0.to_owned(), case)), |_, (_, tags, spec, matches)| {
        rows.alone(&tags, spec, &Cell::Integer(1_700_000_000_000));
        rows.assert(&all(), matches, &json!({}));
    });
}

#[test]
fn a_bad_creation_time_aborts_nothing_and_has_no_age() {
    let now = chrono::Utc::now().timestamp_millis();
    let cases = [
        ("NULL", Cell::Null, "undated"),
        ("a text", text("yesterday"), "undated"),
        ("a date", text("2020-01-01T00:00:00Z"), "undated"),
        ("an empty text", text(""), "undated"),
        ("bytes", Cell::Blob(b"1700000000000".to_vec()), "undated"),
        ("a fraction", Cell::Real(1_700_000_000_000.5), "undated"),
        ("negative", Cell::Integer(-1), "undated"),
        ("the lowest", Cell::Integer(i64::MIN), "undated"),
        ("0", Cell::Integer(0), "undated"),
        ("in seconds", Cell::Integer(1_700_000_000), "undated"),
        ("in the future", Cell::Integer(now + 86_400_000), "recent"),
        ("the highest", Cell::Integer(i64::MAX), "recent"),
    ];
    let rows = BadRows::new();
    each(cases.map(|case| (case.0.to_owned(), case)), |_, (_, created_at, kept)| {
        rows.alone(&text(r#"["codescaler"]"#), "{}", &created_at);
        for older_than_ms in [0_i64, 1, 86_400_000, i64::MAX] {
            let params = all_with(json!({ "older_than_ms": older_than_ms }));
            rows.assert(&params, false, &json!({ kept: 1 }));
        }
        // Without an age, nobody asks for it.
        rows.assert(&all(), true, &json!({}));
    });
}

/// A store that holds one job at a time, with its action, and the server of that store.
struct BadRows {
    sample: Sample,
    server: Server,
}

impl BadRows {
    fn new() -> Self {
        let sample = Sample::empty();
        let server = sample.serve();
        Self { sample, server }
    }

    fn alone(&self, tags: &Cell, spec: &str, created_at: &Cell) {
        self.sample.execute(
            r#"DELETE FROM jobs; DELETE FROM actions; DELETE FROM sqlite_sequence;
               INSERT INTO actions (name, spec_json) VALUES ('a', '{"tags":["codescaler"]}'), ('b', 'torn');"#,
        );
        let connection = self.sample.open();
        insert_job(&connection, "a", tags.clone(), text(spec));
        connection.execute("UPDATE jobs SET created_at_ms = ?1", [created_at]).unwrap();
    }

    /// That the job and its action go if `goes`, and nothing at all changes if not. `kept`: why else it stays.
    #[track_caller]
    fn assert(&self, params: &Value, goes: bool, kept: &Value) {
        let before = self.sample.dump();
        for dry_run in [true, false] {
            let mut params = params.clone();
            params["dry_run"] = dry_run.into();
            let answer = self.server.call(METHOD, &params);
            let report = &answer["result"];
            assert_eq!(report["job_ids"], if goes { json!([1]) } else { json!([]) }, "{answer}");
            assert_eq!(report["action_ids"], if goes { json!(["a"]) } else { json!([]) }, "{answer}");
            let counts = report["jobs_kept"].as_object().unwrap().iter().filter(|(_, count)| **count != 0);
            let counts: Value = counts.map(|(why, count)| (why.clone(), count.clone())).collect();
            assert_eq!(&counts, kept, "{answer}");
            let after: Vec<&str> = before
                .lines()
                .filter(|line| {
                    let its_own = line.starts_with("jobs: ") || line.starts_with("actions: Integer(1)");
                    dry_run || !goes || !its_own
                })
                .collect();
            assert_eq!(self.sample.dump().lines().collect::<Vec<_>>(), after);
        }
    }
}
