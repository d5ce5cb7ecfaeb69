//! JSON-RPC 2.0, as its specification has it: its own examples, and every id that it allows; and the times in answers.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::sample::Sample;
use crate::support::server::{METHOD, Server};

const DRY_RUN: &str = r#""method":"job.cleanup_by_tag","params":{"tags":["codescaler"],"dry_run":true}"#;

fn serve(sample: &Sample) -> Server {
    Server::serve(&sample.path, &sample.directory.path().join("rpc.sock"))
}

/// An id is echoed as it was written: a client compares it with what it sent.
#[test]
fn every_id_that_is_allowed_is_echoed_as_it_was_written() {
    let sample = Sample::new();
    let server = serve(&sample);
    let ids = [
        "null",
        "0",
        "-0",
        "-1",
        "-9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-123456789012345678901234567890",
        "1.5",
        "-0.10",
        "1E2",
        "1e400",
        r#""""#,
        r#""-1""#,
        r#""a\u0062\n\"""#,
        r#""\ud800""#,
        r#""é\u202e""#,
    ];
    for id in ids {
        let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"#);
        let call = format!(r#"{{"jsonrpc":"2.0","id": {id} ,{DRY_RUN}}}"#);
        let answer = String::from_utf8(server.post(call.as_bytes()).body).unwrap();
        assert!(answer.starts_with(&format!(r#"{expected}"result":{{"#)), "{id}: {answer}");
        let batch = format!("[{call}, {call}]");
        let answer = String::from_utf8(server.post(batch.as_bytes()).body).unwrap();
        assert!(answer.starts_with(&format!("[{expected}")) && answer.ends_with("}]"), "{id}: {answer}");
        assert_eq!(answer.matches(&expected).count(), 2, "{id}: {answer}");
        // Errors have it as well, also where the rest is no request.
        for wrong in [r#""jsonrpc":"2.0","method":"none""#, r#""jsonrpc":"1.0","method":"none""#, r#""x":1"#] {
            let answer = String::from_utf8(server.post(format!(r#"{{"id":{id},{wrong}}}"#).as_bytes()).body).unwrap();
            assert!(answer.starts_with(&format!(r#"{expected}"error":{{"#)), "{id}: {answer}");
        }
    }
}

/// A request means the same in whatever order and with whatever escapes it is written.
#[test]
fn a_request_is_read_as_json_is() {
    let sample = Sample::new();
    let server = serve(&sample);
    let written = r#"{"params":{"t\u0061gs":["codescal\u0065r"],"dry_run":true},"other":[{}],"method":"job\u002ecleanup_by_tag","id":7,"jsonrpc":"2\u002e0"}"#;
    let answer = server.post(written.as_bytes()).json();
    assert_eq!((&answer["id"], &answer["result"]["jobs_planned"]), (&json!(7), &json!(3)), "{answer}");
    // What is given twice says two things.
    let twice = |name: &str| format!(r#"{{"jsonrpc":"2.0","id":7,{DRY_RUN},"{name}":null}}"#);
    for name in ["jsonrpc", "method", "params", "id"] {
        let answer = server.post(twice(name).as_bytes()).json();
        assert_eq!(answer["error"]["code"], -32600, "{name}: {answer}");
    }
}

/// The examples of <https://www.jsonrpc.org/specification#examples>, in its order. Its methods are none of this
/// server's, and so each of its calls is answered with an error under its id.
#[test]
fn the_specifications_examples_hold() {
    let sample = Sample::new();
    let before = sample.dump();
    let server = serve(&sample);
    let found = |code: i64, id: Value| json!({ "jsonrpc": "2.0", "id": id, "code": code });
    let examples = [
        (r#"{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}"#, found(-32601, json!(1))),
        (r#"{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}"#, found(-32601, json!(2))),
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}"#,
            found(-32601, json!(3)),
        ),
        (r#"{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}"#, Value::Null),
        (r#"{"jsonrpc": "2.0", "method": "foobar"}"#, Value::Null),
        (r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#, found(-32601, json!("1"))),
        (r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#, found(-32700, Value::Null)),
        (r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#, found(-32600, Value::Null)),
        (
            r#"[
                {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
                {"jsonrpc": "2.0", "method"
            ]"#,
            found(-32700, Value::Null),
        ),
        ("[]", found(-32600, Value::Null)),
        ("[1]", json!([found(-32600, Value::Null)])),
        ("[1,2,3]", Value::from(vec![found(-32600, Value::Null); 3])),
        (
            r#"[
                {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
                {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
                {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
                {"foo": "boo"},
                {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
                {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
            ]"#,
            json!([
                found(-32601, json!("1")),
                found(-32601, json!("2")),
                found(-32600, Value::Null),
                found(-32601, json!("5")),
                found(-32601, json!("9")),
            ]),
        ),
        (
            r#"[
                {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
                {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
            ]"#,
            Value::Null,
        ),
    ];
    for (sent, expected) in examples {
        let answer = server.post(sent.as_bytes());
        if expected.is_null() {
            assert_eq!((answer.status, answer.body.as_slice()), (204, &b""[..]), "{sent}");
            continue;
        }
        assert_eq!(answer.status, 200, "{sent}");
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
        let brief = |answer: &Value| json!({ "jsonrpc": answer["jsonrpc"], "id": answer["id"], "code": answer["error"]["code"] });
        let brief = match answer.json() {
            Value::Array(answers) => answers.iter().map(brief).collect(),
            answer => brief(&answer),
        };
        assert_eq!(brief, expected, "{sent}");
    }
    assert_eq!(sample.dump(), before);
}

/// Whatever was measured has at most three decimals, in answers as in the log.
#[test]
fn times_are_to_the_microsecond() {
    let sample = Sample::new();
    let server = serve(&sample);
    let mut texts: Vec<String> = [
        (METHOD, json!({ "tags": ["codescaler"], "dry_run": true })),
        (METHOD, json!({ "tags": ["codescaler"] })),
        ("store.reclaim", json!({ "min_free_percent": 0, "min_free_bytes": 0, "dry_run": true })),
        ("store.reclaim", json!({ "min_free_percent": 0, "min_free_bytes": 0 })),
    ]
    .map(|(method, params)| server.call(method, &params).to_string().replace("\":", "="))
    .into();
    server.signal(Signal::TERM);
    texts.push(server.end().1);
    let mut times = 0;
    for text in texts {
        for name in ["duration_ms=", "lock_ms="] {
            for rest in text.split(name).skip(1) {
                let value = rest.split([',', '}', ' ', '\n']).next().unwrap();
                let decimals = value.split_once('.').map_or("", |(_, decimals)| decimals);
                assert!(
                    value == "null" || value.parse::<f64>().is_ok() && decimals.len() <= 3,
                    "{name}{value}: {text}"
                );
                times += 1;
            }
        }
    }
    assert!(times > 12, "{times}");
}
