//! What the README says: its request has its reply, and its commands are those of the binary. Its Rust is compiled with
//! the documentation.

use serde_json::Value;

use crate::docs::{between, rows};
use crate::openrpc::align;
use crate::support::process::{run, text};
use crate::support::sample::Sample;

const README: &str = include_str!("../../README.md");

#[test]
fn the_request_has_the_reply() {
    let sample = Sample::new();
    let server = sample.serve();
    let request = between(README, "--data '", "'\n```");
    let mut answer = server.post(request.as_bytes()).json();
    let reply: Value = serde_json::from_str(between(README, "```json\n", "```")).unwrap();
    align(&mut answer, &reply);
    assert_eq!(answer, reply);
}

/// The first two commands are the ones that a stranger runs: the demo, which `cli` runs, and these tests.
#[test]
fn the_first_commands_are_the_demo_and_the_tests() {
    let mut commands = README.split("```sh\n").skip(1).map(|block| block.lines().next().unwrap());
    assert_eq!(commands.next(), Some("cargo run -- demo"));
    assert_eq!(commands.next(), Some("cargo test"));
}

/// The commands that the README shows, each on a line.
fn commands() -> impl Iterator<Item = &'static str> {
    between(README, "## The command line\n\n```text\n", "\n```").lines()
}

/// The README names the commands and the exit codes that `--help` names.
#[test]
fn commands_and_exit_codes_are_those_of_the_binary() {
    let output = run(&["--help"]);
    let help = text(&output.stdout);
    let first_words = |text: &'static str| text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let help: &'static str = String::leak(help.to_owned());
    let known: Vec<&str> = first_words(between(help, "Commands:\n", "\n\n"));
    let mut shown: Vec<&str> = commands().map(|line| line.split(' ').nth(1).unwrap()).chain(["help"]).collect();
    let mut known = known;
    known.sort_unstable();
    shown.sort_unstable();
    assert_eq!(shown, known);

    let codes: Vec<&str> = first_words(between(help, "Exit codes:\n", "\n\n"));
    let table = between(README, "| exit code |", "## Embedding it");
    assert_eq!(rows(table).iter().map(|row| row[0]).collect::<Vec<_>>(), codes);
}

/// Each flag in the block of commands is one that the command takes.
#[test]
fn the_flags_that_are_shown_are_taken() {
    for line in commands() {
        let mut words = line.split([' ', '[', ']']).filter(|word| !word.is_empty());
        let command = words.nth(1).unwrap();
        let output = run(&[command, "--help"]);
        for flag in words.filter(|word| word.starts_with('-')) {
            assert!(text(&output.stdout).contains(flag), "{command} {flag}");
        }
    }
}
