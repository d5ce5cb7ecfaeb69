//! The README's request, sent to the running binary, and its reply.

use serde_json::Value;

use crate::sample::Sample;
use crate::server::Server;

const README: &str = include_str!("../../README.md");

#[test]
fn the_request_has_the_reply() {
    let sample = Sample::new();
    let server = Server::serve(&sample.path, &sample.directory.path().join("rpc.sock"));
    let request = between("--data '", "'\n```");
    let mut answer = server.post(request.as_bytes()).json();
    let reply: Value = serde_json::from_str(between("```json\n", "```")).unwrap();
    for varies in ["cutoff_ms", "plan", "duration_ms", "lock_ms"] {
        assert_eq!(answer["result"][varies].is_number(), reply["result"][varies].is_number(), "{varies}");
        answer["result"][varies] = reply["result"][varies].clone();
    }
    assert_eq!(answer, reply);
}

/// The first two commands are the ones that a stranger runs: the demo, which `cli` runs, and these tests.
#[test]
fn the_first_commands_are_the_demo_and_the_tests() {
    let mut commands = README.split("```sh\n").skip(1).map(|block| block.lines().next().unwrap());
    assert_eq!(commands.next(), Some("cargo run -- demo"));
    assert_eq!(commands.next(), Some("cargo test"));
}

fn between(start: &str, end: &str) -> &'static str {
    let from = README.find(start).unwrap() + start.len();
    &README[from..from + README[from..].find(end).unwrap()]
}
