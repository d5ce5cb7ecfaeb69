//! Text that somebody else chose, in every place that the command prints it from: it moves no cursor, begins no line,
//! and hides nothing.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use serde_json::{Map, Value, json};

use crate::support::process::{binary, run, text};
use crate::support::scripted::{Scripted, path_text};
use crate::support::sides::Sides;
use crate::terminal::Terminal;

/// A text with one character of each kind that a terminal must not get, and a line that it must not begin.
const HOSTILE: &str = "<\u{1b}[2J\r\nforged\t\u{7}\u{8}\u{7f}\u{85}\u{9b}31m\u{ad}\u{200b}\u{200d}\u{200f}\u{61c}\u{202e}\u{2066}\
                       \u{2028}\u{2029}\u{2060}\u{feff}\u{e0041}\u{3164}>";

/// Whether a terminal may get `char`. Line breaks are the command's own.
fn is_plain(char: char) -> bool {
    let shown = matches!(char, '"' | '\'' | '\\' | '\n') || char.escape_debug().len() == 1;
    shown && !['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}', '\u{2800}'].contains(&char)
}

/// `printed` is plain, and shows the hostile text `times` times or more.
fn assert_plain(what: &str, printed: &str, times: usize) {
    let hidden: String = printed.chars().filter(|char| !is_plain(*char)).collect();
    assert_eq!(hidden, "", "{what}: {printed:?}");
    assert!(!printed.lines().any(|line| line.trim_start().starts_with("forged")), "{what}: {printed}");
    // As Rust writes it, as JSON does, or as a shell reads it.
    let seen =
        printed.matches("<\\u{1b}").count() + printed.matches("<\\u001b").count() + printed.matches("<\\033").count();
    assert!(seen >= times, "{what}: {seen} times: {printed}");
}

fn said(output: &Output) -> &str {
    text(&output.stderr)
}

/// `text` on every place of a report where a text stands.
fn hostile_report(dry_run: bool) -> Value {
    let kept = |reason: &str, by: Value| json!({ "action_id": HOSTILE, "reason": reason, "by": by });
    json!({
        "dry_run": dry_run, "jobs_planned": 1, "jobs_matched": 1, "actions_kept_count": 5,
        "actions_kept": [
            kept("job", HOSTILE.into()), kept("service", format!("service {HOSTILE}").into()),
            kept("action", format!("action {HOSTILE}").into()), kept("schedule", Value::Null),
        ],
        "action_ids": [HOSTILE], "dependents": { HOSTILE: 3 }, "errors": [HOSTILE, format!("job 1: {HOSTILE}")],
        "plan": HOSTILE,
    })
}

#[test]
fn reports_are_plain() {
    for (arguments, dry_run, times) in [
        (&["--dry-run", "-o", "table"][..], true, 10),
        (&["--dry-run", "-o", "json"], true, 11),
        (&["--yes", "-o", "table"], false, 9),
        (&["--yes", "-o", "json"], false, 11),
    ] {
        let gateway = Scripted::new();
        gateway.reports(hostile_report(dry_run));
        let output = gateway.cleanup(arguments).env("LC_ALL", "C.UTF-8").output().expect("the binary runs");
        assert_plain(&format!("{arguments:?}"), text(&output.stdout), times);
        assert_plain(&format!("{arguments:?}"), said(&output), 0);
        if arguments.contains(&"json") {
            // Escaped or not, it is the same value.
            let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!((&read["plan"], &read["actions_kept"][0]["by"]), (&json!(HOSTILE), &json!(HOSTILE)));
        }
    }
}

#[test]
fn what_is_asked_on_a_terminal_is_plain() {
    let gateway = Scripted::new();
    gateway.reports(hostile_report(true));
    let filter = ["--kind", HOSTILE, "--target", HOSTILE, "--actor", HOSTILE];
    let mut terminal = Terminal::start(gateway.cleanup_as(Terminal::session(), &filter), 200, [None, None]);
    // A terminal writes a line break as CR LF.
    let shown = terminal.until("[yes/no] ").replace("\r\n", "\n");
    assert_plain("the question", &shown, 12);
    terminal.types("no\n");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn json_and_tables_on_a_terminal_are_plain() {
    for (output, times) in [("json", 11), ("table", 10)] {
        let gateway = Scripted::new();
        gateway.reports(hostile_report(true));
        let command = gateway.cleanup_as(Terminal::session(), &["--dry-run", "-o", output]);
        let (code, _, shown) = Terminal::start(command, 200, [None, None]).end();
        assert_eq!(code, Some(3), "{shown}");
        assert_plain(output, &shown.replace("\r\n", "\n"), times);
    }
}

#[test]
fn errors_are_plain() {
    let mut data = Map::new();
    data.insert("kind".to_owned(), HOSTILE.into());
    data.insert(HOSTILE.to_owned(), json!([HOSTILE, { HOSTILE: HOSTILE }]));
    for kind in [HOSTILE, "store_unfit", "upstream_unreachable"] {
        data.insert("kind".to_owned(), kind.into());
        let code = if kind == "upstream_unreachable" { -32023 } else { -32022 };
        let gateway = Scripted::new();
        gateway.refuses(json!({ "code": code, "message": HOSTILE, "data": data }));
        let output = gateway.cleanup(&["--yes"]).env("LC_ALL", "C.UTF-8").output().expect("the binary runs");
        assert_plain(kind, said(&output), 5);
    }
    // What is no report. The log has its own way out.
    let gateway = Scripted::new();
    gateway.reports(json!({ "dry_run": HOSTILE }));
    assert_plain(
        "no report",
        said(&gateway.cleanup(&["--yes"]).env("RUST_LOG", "off").output().expect("the binary runs")),
        0,
    );
}

/// What the user passes on may come from somebody else.
#[test]
fn what_stands_on_the_command_line_is_plain() {
    for arguments in [
        &["jobs-cleanup", "--yes", "--older-than", HOSTILE][..],
        &["jobs-cleanup", "--yes", HOSTILE],
        &["jobs-cleanup", "--yes", "--socket", HOSTILE],
        &[HOSTILE],
        &["man", "/dev/null/<\u{1b}[2J\nforged\u{202e}"],
    ] {
        let mut command = binary();
        command.args(arguments).env("LC_ALL", "C.UTF-8").env("RUST_LOG", "off");
        let output = command.output().expect("the binary runs");
        assert!(!output.status.success());
        assert_plain(&format!("{arguments:?}"), said(&output), 1);
    }
}

/// The names of tables and columns, phases, tags and actions, in a store that fits and in one that does not.
#[test]
fn a_hostile_store_is_plain() {
    let quoted = HOSTILE.replace('"', "\"\"");
    let sides = Sides::with(&format!(
        r#"
        CREATE TABLE "{quoted}" ("{quoted}" INTEGER REFERENCES jobs (id) ON DELETE CASCADE);
        CREATE TABLE "{quoted}2" ("{quoted}" INTEGER REFERENCES jobs (id) ON DELETE RESTRICT);
        "#
    ));
    let store = sides.store();
    let tags = json!(["codescaler", format!("codescaler_{HOSTILE}")]).to_string();
    let spec = json!({ "tags": ["codescaler"] }).to_string();
    let job = "INSERT INTO jobs (id, action, spec_json, phase, tags) VALUES (?1, ?2, '{}', ?3, ?4)";
    for (id, phase) in [(1, "done"), (2, "done"), (3, HOSTILE), (4, "done")] {
        store.execute(job, (id, HOSTILE, phase, &tags)).expect("a job");
    }
    store.execute("INSERT INTO actions (name, spec_json) VALUES (?1, ?2)", (HOSTILE, &spec)).expect("an action");
    let service = json!({ "actions": [HOSTILE] }).to_string();
    store.execute("INSERT INTO services (name, spec_json) VALUES (?1, ?2)", (HOSTILE, service)).expect("a service");
    store
        .execute_batch(&format!(r#"INSERT INTO "{quoted}" VALUES (1); INSERT INTO "{quoted}2" VALUES (2);"#))
        .expect("rows");
    drop(store);

    let path = sides.path("hero_proc.db");
    let checked = |output: &str, times: usize| {
        let mut check = binary();
        check.args(["check", "--store", path_text(&path), "-o", output]).env("LC_ALL", "C.UTF-8");
        let checked = check.output().expect("the binary runs");
        assert_plain(output, text(&checked.stdout), times);
        assert_plain(output, said(&checked), 0);
    };
    checked("json", 4);
    checked("table", 4);
    for (arguments, times) in [
        (&["--dry-run", "-o", "table"][..], 3),
        (&["--dry-run"], 3),
        // A tag that nobody has, and one that is refused.
        (&["--kind", HOSTILE, "-o", "table"], 0),
        (&["--actor", &format!("kind_{HOSTILE}")], 0),
    ] {
        let output = sides.cleanup(arguments).env("LC_ALL", "C.UTF-8").output().expect("the binary runs");
        assert_plain(&format!("{arguments:?}"), text(&output.stdout), times);
        assert_plain(&format!("{arguments:?}"), said(&output), 0);
    }

    let renamed =
        format!(r#"ALTER TABLE "{quoted}" RENAME TO gone; ALTER TABLE jobs RENAME COLUMN tags TO "{quoted}";"#);
    sides.store().execute_batch(&renamed).expect("renamed");
    checked("json", 0);
    checked("table", 0);
}

/// Outside a UTF-8 locale nothing but ASCII is printed: neither of the command's own nor of others' text.
#[test]
fn the_locale_decides_which_characters_there_are() {
    let locale = |variables: &[(&str, &str)], output: &str| {
        let gateway = Scripted::new();
        gateway.reports(json!({ "errors": ["grün"], "plan": "grün" }));
        let mut command: Command = gateway.cleanup(&["--yes", "-o", output]);
        for name in ["LC_ALL", "LC_CTYPE", "LANG"] {
            command.env_remove(name);
        }
        let output = command.envs(variables.iter().copied()).output().expect("the binary runs");
        text(&output.stdout).to_owned()
    };
    let utf8: BTreeMap<&str, &[(&str, &str)]> = BTreeMap::from([
        ("LANG", &[("LANG", "de_DE.UTF-8")][..]),
        ("LC_CTYPE", &[("LC_CTYPE", "C.utf8"), ("LANG", "C")]),
        ("LC_ALL", &[("LC_ALL", "C.UTF-8"), ("LC_CTYPE", "C")]),
    ]);
    for (name, variables) in utf8 {
        let table = locale(variables, "table");
        assert!(table.contains('│') && table.contains("grün"), "{name}: {table}");
        assert!(locale(variables, "json").contains("grün"), "{name}");
    }
    for variables in [&[][..], &[("LANG", "C")], &[("LC_ALL", "de_DE.ISO-8859-1"), ("LANG", "de_DE.UTF-8")]] {
        let table = locale(variables, "table");
        assert!(table.is_ascii() && table.contains("| deleted") && table.contains(r"gr\u{fc}n"), "{table}");
        let json = locale(variables, "json");
        assert!(json.is_ascii() && json.contains(r"gr\u00fcn"), "{json}");
    }
    assert!(text(&run(&["completions", "bash"]).stdout).is_ascii());
}
