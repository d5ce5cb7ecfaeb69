//! Retention as it runs on a node: a policy's file, the gateway, hero_proc's side, the state, and the service manager.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::docs::between;
use crate::support::process::{BINARY, PATIENCE, Running, binary, entries, text};
use crate::support::round::spin;
use crate::support::sample::dump;
use crate::support::scripted::{Scripted, path_text};
use crate::support::server::Server;
use crate::support::sides::{Sides, old_jobs};
use crate::support::skipped;
use crate::terminal::Terminal;

/// A rule for everything that is old.
const OLD: &str = "every = \"1h\"\n[[rule]]\nolder_than = \"14d\"\n";

/// Both sides, a policy, and a state of its own.
struct Node {
    sides: Sides,
}

impl Node {
    /// With `old` jobs that have been there for years, and `new` ones of this moment.
    fn with(old: i64, new: i64, policy: &str) -> Self {
        let node = Self { sides: Sides::with("") };
        node.add_old(1, old);
        node.add_new(old + 1, old + new);
        node.policy(policy);
        node
    }

    /// The same, under a policy that is known: a pass begins with a deletion.
    fn known(old: i64, new: i64, policy: &str) -> Self {
        let node = Self::with(0, 0, policy);
        node.add_new(old + 1, old + new);
        node.ends(&["--once"], 0);
        node.add_old(1, old);
        node
    }

    fn add_old(&self, first: i64, last: i64) {
        if first <= last {
            self.sides.store().execute_batch(&old_jobs(first, last)).unwrap();
        }
    }

    fn add_new(&self, first: i64, last: i64) {
        if first > last {
            return;
        }
        let now = chrono::Utc::now().timestamp_millis().to_string();
        self.sides.store().execute_batch(&old_jobs(first, last).replace("1700000000000", &now)).unwrap();
    }

    fn policy(&self, text: &str) {
        fs::write(self.path("policy.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sides.path(name)
    }

    /// `retain` with `arguments`.
    fn retain(&self, arguments: &[&str]) -> Command {
        let mut command = binary();
        command.arg("retain").args(arguments).arg("--policy").arg(self.path("policy.toml"));
        command.arg("--socket").arg(self.path("gateway.sock")).arg("--state").arg(self.path("state/state.json"));
        command.stdout(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.retain(arguments).output().unwrap()
    }

    /// The same, which ends with `code`.
    #[track_caller]
    fn ends(&self, arguments: &[&str], code: i32) -> (Value, String) {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        (serde_json::from_slice(&output.stdout).unwrap_or_default(), text(&output.stderr).to_owned())
    }

    /// The daemon, whose clock goes a minute in each 20 ms that it waits.
    fn daemon(&self) -> Running {
        Running::start(&mut self.retain(&["--longest-wait", "20ms"]))
    }

    /// Returns once hero_proc's side has the store open, which it has only for calls.
    fn has_begun(&self) {
        while !self.sides.hero_proc.has_open(&self.path("hero_proc.db")) {
            thread::yield_now();
        }
    }

    fn jobs(&self) -> usize {
        self.sides.jobs().len()
    }

    fn state(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("state/state.json")).unwrap()).unwrap()
    }

    fn change_state(&self, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        change(&mut state);
        fs::write(self.path("state/state.json"), state.to_string()).unwrap();
    }
}

/// Nobody listens: if anything were asked, the exit code would be 6.
#[test]
fn a_policy_that_cannot_be_meant_is_refused_with_its_line() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("policy.toml");
    let (every, rule) = ("every = \"1h\"\n", "[[rule]]\nolder_than = \"14d\"\n");
    let with = |top: &str, more: &str| format!("{every}{top}\n{rule}{more}\n");
    for (policy, line, says) in [
        // Nothing, or no policy.
        (String::new(), 1, "rule is missing"),
        ("# nothing\n".to_owned(), 1, "rule is missing"),
        (every.to_owned(), 1, "rule"),
        (rule.to_owned(), 1, "every"),
        (format!("{every}rule = []\n"), 2, "rule"),
        // No TOML.
        (format!("{every}[[rule]\n"), 2, "]"),
        (format!("{every}{rule}older_than = \"15d\"\n"), 4, "duplicate"),
        (format!("{every}= 3\n"), 2, ""),
        ("{ \"every\": \"1h\" }".to_owned(), 1, ""),
        // Unknown keys.
        (with("evry = \"1h\"", ""), 2, "evry"),
        (with("max_age = \"1h\"", ""), 2, "max_age"),
        (with("older_than = \"14d\"", ""), 2, "older_than"),
        (with("", "older_then = \"14d\""), 5, "older_then"),
        (with("", "force = true"), 5, "force"),
        (with("", "except_kind = [\"release\"]"), 5, "except_kind"),
        (format!("{every}[[rules]]\nolder_than = \"14d\"\n"), 2, "rules"),
        // Of another type.
        (with("keep_last = \"10\"", ""), 2, ""),
        (with("except_kind = \"release\"", ""), 2, ""),
        (with("", "phases = \"succeeded\""), 5, ""),
        (with("", "kind = [\"build\"]"), 5, ""),
        (format!("{every}[rule]\nolder_than = \"14d\"\n"), 2, ""),
        (format!("every = 3600\n{rule}"), 1, ""),
        // Phases.
        (with("", "phases = [\"succeded\"]"), 5, "succeded"),
        (with("", "phases = [\"failed\", \"running\"]"), 5, "running"),
        (with("", "phases = []"), 5, "phases"),
        (with("", "phases = [\"\"]"), 5, ""),
        // Ages.
        (format!("{every}[[rule]]\nkind = \"build\"\n"), 2, "older_than"),
        (format!("{every}[[rule]]\nolder_than = \"59m\"\n"), 3, ""),
        (format!("{every}[[rule]]\nolder_than = \"3599999ms\"\n"), 3, ""),
        (format!("{every}[[rule]]\nolder_than = \"0d\"\n"), 3, ""),
        (format!("{every}[[rule]]\nolder_than = 0\n"), 3, ""),
        (format!("{every}[[rule]]\nolder_than = -1\n"), 3, ""),
        (format!("{every}[[rule]]\nolder_than = \"-14d\"\n"), 3, ""),
        (format!("{every}[[rule]]\nolder_than = \"14\"\n"), 3, ""),
        (format!("{every}[[rule]]\nolder_than = \"\"\n"), 3, ""),
        (format!("{every}[[rule]]\nolder_than = \"never\"\n"), 3, ""),
        (format!("{every}[[rule]]\nolder_than = \"106751991168d\"\n"), 3, ""),
        (format!("every = \"59s\"\n{rule}"), 1, ""),
        (format!("every = \"0h\"\n{rule}"), 1, ""),
        (format!("every = \"\"\n{rule}"), 1, ""),
        (with("reclaim = \"0s\"", ""), 2, ""),
        (with("reclaim = \"x\"", ""), 2, ""),
        (with("reclaim = true", ""), 2, ""),
        // Numbers and names.
        (with("keep_last = 0", ""), 2, ""),
        (with("keep_last = -1", ""), 2, ""),
        (with("keep_last = 10001", ""), 2, ""),
        (with("keep_last = 1.5", ""), 2, ""),
        (with("", "keep_last = 0"), 5, ""),
        (with("keep_last = 1\nkeep_by = [\"actor\"]", ""), 3, ""),
        (with("keep_by = [\"kind\"]", ""), 2, ""),
        (with("", "keep_by = [\"kind\"]"), 5, ""),
        (with("", "kind = \"\""), 5, ""),
        (with("", "actor = \"kind_build\""), 5, ""),
        (with("", &format!("target = \"{}\"", "x".repeat(300))), 5, ""),
        (with("except_kind = [\"\"]", ""), 2, ""),
        (with("confirmed = 3", ""), 2, ""),
        // Alike.
        (with("", rule), 6, "rule 1"),
        (with("", "[[rule]]\nolder_than = \"336h\"\n"), 6, "rule 1"),
        (
            with("", "kind = \"a\"\n[[rule]]\nolder_than = \"1d\"\n[[rule]]\nkind = \"a\"\nolder_than = \"14d\""),
            10,
            "rule 1",
        ),
    ] {
        fs::write(&file, &policy).unwrap();
        for mode in [&["--once"][..], &["--once", "--yes"], &["--dry-run"], &["--status"], &[]] {
            let mut command = binary();
            command.arg("retain").args(mode).arg("--policy").arg(&file).arg("--socket").arg(directory.path().join("s"));
            let output = command.arg("--state").arg(directory.path().join("state.json")).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{mode:?} {policy}: {said}");
            let (place, why) =
                said.split_once(&format!(" line {line}: ")).unwrap_or_else(|| panic!("{policy}: {said}"));
            assert!(place.starts_with("error: ") && place.contains("policy.toml"), "{policy}: {said}");
            assert!(why.contains(says) && said.lines().count() == 1, "{policy}: {said}");
            assert!(output.stdout.is_empty(), "{policy}: {output:?}");
        }
    }
    assert_eq!(entries(directory.path()), [file]);
}

#[test]
fn a_policy_that_cannot_be_read_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("directory")).unwrap();
    fs::write(path("latin1"), b"every = \"1h\"\n# gr\xfcn\n").unwrap();
    for (name, says) in [("none", "No such file"), ("directory", "directory"), ("latin1", "line 2: ")] {
        for mode in ["--once", "--dry-run", "--status"] {
            let mut command = binary();
            command.args(["retain", mode, "--policy"]).arg(path(name)).arg("--socket").arg(path("socket"));
            let output = command.arg("--state").arg(path("state.json")).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
            assert!(text(&output.stderr).contains(says), "{name}: {output:?}");
        }
    }
    let missing = binary().args(["retain", "--once"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
}

/// Modes are one at a time, and `--yes` is for `--once`.
#[test]
fn modes_that_go_together_are_refused() {
    for flags in [
        &["--once", "--dry-run"][..],
        &["--once", "--status"],
        &["--dry-run", "--status"],
        &["--yes"],
        &["--yes", "--dry-run"],
        &["--status", "--yes"],
    ] {
        let output = binary().args(["retain", "--policy", "/dev/null"]).args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {output:?}");
        assert!(text(&output.stderr).contains("Usage"), "{flags:?}: {output:?}");
    }
}

#[test]
fn a_pass_takes_what_the_rules_take_and_tells_it() {
    let node = Node::with(10, 20, OLD);
    let (result, said) = node.ends(&["--once"], 0);
    assert_eq!(node.jobs(), 20);
    assert_eq!(
        (&result["outcome"], &result["jobs_deleted"], &result["actions_deleted"]),
        (&json!("done"), &json!(10), &json!(10))
    );
    assert_eq!(result["rules"].as_array().map(Vec::len), Some(1), "{result}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("pass") && said.contains("jobs=10"), "{said}");

    let mode = |name: &str| fs::metadata(node.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("state"), mode("state/state.json")), (0o700, 0o600));
    assert_eq!(entries(&node.path("state")), [node.path("state/state.json")]);

    let (status, _) = node.ends(&["--status"], 0);
    assert_eq!((&status["overdue"], &status["behind"]), (&json!(false), &json!(false)), "{status}");
    assert_eq!((&status["rules"][0]["jobs"], &status["problems"]), (&json!(10), &json!([])), "{status}");

    // Nothing is left to do.
    let (result, _) = node.ends(&["--once"], 0);
    assert_eq!((&result["jobs_deleted"], node.jobs()), (&json!(0), 20));
}

#[test]
fn a_dry_run_shows_and_writes_nothing() {
    let node = Node::with(10, 5, OLD);
    let before = dump(&node.path("hero_proc.db"));
    let (shown, said) = node.ends(&["--dry-run"], 0);
    assert_eq!((&shown["rules"][0]["jobs"], &shown["jobs"]), (&json!(10), &json!(15)), "{shown}");
    assert_eq!(said, "");
    assert_eq!(dump(&node.path("hero_proc.db")), before);
    assert!(!node.path("state").exists());
}

/// More than half of all jobs go only if somebody has said so; afterwards the policy is known.
#[test]
fn a_new_policy_that_takes_more_than_half_waits() {
    let node = Node::with(11, 10, OLD);
    for _ in 0..2 {
        let (shown, said) = node.ends(&["--once"], 4);
        assert_eq!((&shown["waits"], &shown["takes"], &shown["jobs"]), (&json!(true), &json!(11), &json!(21)));
        assert!(said.contains("--once --yes") && said.contains("confirmed = \""), "{said}");
        assert_eq!(node.jobs(), 21);
    }
    let (status, _) = node.ends(&["--status"], 1);
    assert_eq!(status["waits"]["jobs_planned"], 11, "{status}");
    node.ends(&["--once", "--yes"], 0);
    assert_eq!(node.jobs(), 10);

    // It is known now, whatever it takes.
    node.add_old(100, 200);
    node.ends(&["--once"], 0);
    assert_eq!(node.jobs(), 10);

    // Another one is not.
    node.add_old(100, 200);
    node.policy(&OLD.replace("14d", "15d"));
    node.ends(&["--once"], 4);
    assert_eq!(node.jobs(), 111);
}

/// Half is no more than half.
#[test]
fn a_new_policy_that_takes_half_goes() {
    let node = Node::with(10, 10, OLD);
    node.ends(&["--once"], 0);
    assert_eq!(node.jobs(), 10);
}

/// A job that two rules take is one job.
#[test]
fn what_two_rules_take_counts_once() {
    let both = format!("{OLD}[[rule]]\nphases = [\"succeeded\"]\nolder_than = \"15d\"\n");
    let node = Node::with(8, 10, &both);
    let (shown, _) = node.ends(&["--dry-run"], 0);
    assert_eq!((&shown["takes"], &shown["waits"]), (&json!(8), &json!(false)), "{shown}");
    node.ends(&["--once"], 0);
    assert_eq!(node.jobs(), 10);
}

#[test]
fn a_digest_confirms_its_policy_and_no_other() {
    let node = Node::with(11, 10, OLD);
    let (shown, _) = node.ends(&["--once"], 4);
    let digest = shown["policy"].as_str().unwrap().to_owned();
    for wrong in ["", "0000", &digest[1..]] {
        node.policy(&format!("confirmed = \"{wrong}\"\n{OLD}"));
        node.ends(&["--once"], 2);
    }
    node.policy(&format!("confirmed = \"{}\"\n{OLD}", "0".repeat(32)));
    node.ends(&["--once"], 4);
    node.policy(&format!("confirmed = \"{digest}\"\n{}", OLD.replace("14d", "13d")));
    node.ends(&["--once"], 4);
    assert_eq!(node.jobs(), 21);
    // How it is written is no part of it.
    node.policy(&format!("confirmed = \"{digest}\"\n# confirmed\n{}", OLD.replace("14d", "336h")));
    node.ends(&["--once"], 0);
    assert_eq!(node.jobs(), 10);
}

/// Of two passes at once one is refused, wherever its state's file lies in the directory.
#[test]
fn never_two_passes_at_once() {
    let node = Node::with(3, 10, OLD);
    let lock = node.sides.store();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = Running::start(&mut node.retain(&["--once"]));
    node.has_begun();
    for arguments in [&["--once"][..], &["--once", "--yes"]] {
        let (_, said) = node.ends(arguments, 6);
        assert!(said.contains("another pass"), "{said}");
    }
    let mut other = binary();
    other.args(["retain", "--once", "--policy"]).arg(node.path("policy.toml")).arg("--socket");
    other.arg(node.path("gateway.sock")).arg("--state").arg(node.path("state/other.json"));
    assert_eq!(other.output().unwrap().status.code(), Some(6));
    // What only looks needs no lock.
    node.ends(&["--dry-run"], 0);
    node.ends(&["--status"], 1);
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(first.end().0, Some(0));
    assert_eq!(node.jobs(), 10);
    // Nor does a lock outlive its process.
    node.ends(&["--once"], 0);
}

/// Of two daemons on one gateway, one waits while the other is in a pass.
#[test]
fn two_daemons_take_turns() {
    let node = Node::known(3, 10, OLD);
    let lock = node.sides.store();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = node.daemon();
    node.has_begun();
    let second = node.daemon();
    second.says("another pass is running on this gateway; this one waits for it");
    lock.execute_batch("ROLLBACK").unwrap();
    while node.jobs() > 10 {
        first.says("outcome=");
    }
    second.says("outcome=\"done\"");
    for daemon in [first, second] {
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.end().0, Some(0));
    }
}

/// A state that can't be read counts as none, and then no policy is known.
#[test]
fn a_state_that_cannot_be_read_makes_every_policy_new() {
    for broken in [&b""[..], b"{", b"{}", b"\x00\xff", b"[]", b"null", b"{\"version\": 2}", b"{\"version\": 1}"] {
        let node = Node::with(0, 10, OLD);
        node.ends(&["--once"], 0);
        node.add_old(100, 120);
        fs::write(node.path("state/state.json"), broken).unwrap();
        let (status, said) = node.ends(&["--status"], 1);
        assert!(!status["problems"].as_array().unwrap().is_empty(), "{status}: {said}");
        let (_, said) = node.ends(&["--once"], 4);
        assert!(said.contains("state"), "{broken:?}: {said}");
        assert_eq!(node.jobs(), 31);
        node.ends(&["--once", "--yes"], 0);
        assert_eq!(node.jobs(), 10);
        node.ends(&["--status"], 0);
    }
    // One of a newer version, whole as it is, and one that was cut.
    for change in
        [|text: &str| text.replace("\"version\": 1", "\"version\": 2"), |text: &str| text[..text.len() / 2].to_owned()]
    {
        let node = Node::with(0, 10, OLD);
        node.ends(&["--once"], 0);
        node.add_old(100, 120);
        let state = node.path("state/state.json");
        let changed = change(&fs::read_to_string(&state).unwrap());
        fs::write(&state, changed).unwrap();
        node.ends(&["--once"], 4);
        assert_eq!(node.jobs(), 31);
    }
    let node = Node::with(0, 10, OLD);
    node.ends(&["--once"], 0);
    node.add_old(100, 120);
    fs::remove_file(node.path("state/state.json")).unwrap();
    node.ends(&["--once"], 4);
}

/// A disk without room, a limit of file sizes, a place that may not be written to: the pass is made, and the state is
/// said to be lost.
#[test]
fn a_state_that_cannot_be_written_stops_no_pass() {
    let node = Node::with(3, 10, OLD);
    let mut limited = Command::new("sh");
    let retain = node.retain(&["--once"]);
    limited.args(["-c", "ulimit -f 0; exec \"$0\" \"$@\""]).arg(retain.get_program()).args(retain.get_args());
    let output = limited.stdin(Stdio::null()).output().unwrap();
    // Nor can the result be written, if that is a file; here it is a pipe.
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stderr).contains("the state"), "{output:?}");
    assert_eq!(node.jobs(), 10);
    assert!(entries(&node.path("state")).is_empty());

    node.add_old(100, 103);
    let directory = node.path("state");
    let Some(disk) = Disk::full(&directory) else { return skipped("no file system can be mounted here") };
    let output = node.run(&["--once"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stderr).contains("the state"), "{output:?}");
    assert_eq!(node.jobs(), 10);
    // With the disk as full as it is, two passes are still kept apart.
    node.add_old(100, 103);
    let lock = node.sides.store();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = Running::start(&mut node.retain(&["--once"]));
    node.has_begun();
    node.ends(&["--once"], 6);
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(first.end().0, Some(0));
    drop(disk);

    for place in ["/proc/self/state/state.json", "/dev/null/state.json"] {
        node.add_old(100, 103);
        let mut retain = binary();
        retain.args(["retain", "--once", "--state", place, "--policy"]).arg(node.path("policy.toml"));
        let output = retain.arg("--socket").arg(node.path("gateway.sock")).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{place}: {output:?}");
        assert!(text(&output.stderr).contains("the state"), "{place}: {output:?}");
        assert_eq!(node.jobs(), 10);
    }
}

/// A state in a directory that can't even be opened stops no pass: the gateway is asked, which refuses this user.
#[test]
fn a_state_out_of_reach_stops_no_pass() {
    if !geteuid().is_root() {
        return skipped("only root can become another user");
    }
    let node = Node::with(0, 10, OLD);
    for directory in ["", "state"] {
        fs::create_dir_all(node.path(directory)).unwrap();
        fs::set_permissions(node.path(directory), fs::Permissions::from_mode(0o711)).unwrap();
    }
    fs::set_permissions(node.path("policy.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::copy(BINARY, node.path("program")).unwrap();
    let mut retain = Command::new(node.path("program"));
    retain.args(node.retain(&["--once"]).get_args()).uid(4711).gid(4711).current_dir("/");
    let output = retain.output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(text(&output.stderr).contains("the state"), "{output:?}");
}

/// The gateway's answer can't be read: what it has deleted by then nobody knows.
#[test]
fn an_answer_that_cannot_be_read_leaves_the_outcome_unknown() {
    let node = Node::with(0, 0, OLD);
    let reclaims = format!("reclaim = \"1s\"\n{OLD}");
    let deleted = json!({ "jobs_matched": 9, "jobs_planned": 2, "jobs_deleted": 2, "actions_deleted": 2 });
    let shown = json!({ "dry_run": true, "jobs_matched": 9 });
    for (policy, good) in [
        // The dry run that a new policy begins with, a batch, and the reclaim after it.
        (OLD, vec![]),
        (OLD, vec![shown.clone()]),
        (&reclaims, vec![shown, deleted]),
    ] {
        let gateway = Scripted::new();
        node.policy(policy);
        let batches = good.len();
        good.into_iter().for_each(|report| gateway.reports(report));
        gateway.answers(json!("no report"));
        let mut retain = binary();
        retain
            .args(["retain", "--once", "--policy"])
            .arg(node.path("policy.toml"))
            .arg("--socket")
            .arg(gateway.socket());
        retain.arg("--state").arg(node.path(&format!("state{batches}/state.json")));
        let output = retain.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{output:?}");
        assert!(said.contains("error: the answer can't be read as the result of this call"), "{said}");
        assert!(said.contains("it was a dry run") == (batches == 0) && !said.contains("nothing was deleted"), "{said}");
    }
}

/// A file system without room, which goes when dropped.
struct Disk(PathBuf);

impl Disk {
    fn full(directory: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(directory).output().ok()?;
        let disk = output.status.success().then(|| Self(directory.to_owned()))?;
        let mut file = fs::File::create(directory.join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        Some(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// What is not due is not asked for: the state says when the last pass was.
#[test]
fn a_daemon_makes_a_pass_each_time_that_one_is_due() {
    let node = Node::with(3, 10, OLD);
    let daemon = node.daemon();
    assert!(daemon.says("outcome=").contains("outcome=\"done\" jobs=3 "));
    // An hour on, by its clock.
    node.add_old(100, 101);
    assert!(daemon.says("outcome=").contains("outcome=\"done\" jobs="));
    while node.jobs() > 10 {
        daemon.says("outcome=\"done\"");
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.until("nothing more").lines().filter(|line| line.contains("retention ends")).count(), 1);
    assert_eq!(daemon.end(), (Some(0), String::new()));
    let state = node.state();
    assert!(state["ended_ms"].as_i64() >= state["started_ms"].as_i64(), "{state}");
}

#[test]
fn a_gateway_that_goes_and_comes_back_is_asked_again() {
    let node = Node::with(3, 10, OLD);
    node.sides.gateway.signal(Signal::KILL);
    while UnixStream::connect(node.path("gateway.sock")).is_ok() {
        thread::yield_now();
    }
    let (_, said) = node.ends(&["--once"], 6);
    assert!(said.contains("error: the gateway can't be reached"), "{said}");
    let (status, _) = node.ends(&["--status"], 1);
    assert!(status["problems"].to_string().contains("upstream_unreachable"), "{status}");

    let daemon = node.daemon();
    let line = daemon.says("outcome=");
    assert!(line.contains("put_off") && line.contains("upstream_unreachable"), "{line}");
    let gateway = Server::gateway(&node.path("gateway.sock"), &node.path("hero_proc.sock"), &[]);
    daemon.says("outcome=\"done\"");
    while node.jobs() > 10 {
        daemon.says("outcome=\"done\"");
    }
    // hero_proc's side, in front of which the gateway stays.
    node.sides.hero_proc.signal(Signal::KILL);
    daemon.says("upstream_unreachable");
    let hero_proc = Server::serve(&node.path("hero_proc.db"), &node.path("hero_proc.sock"));
    node.add_old(100, 103);
    while node.jobs() > 10 {
        daemon.says("outcome=\"done\"");
    }
    daemon.signal(Signal::INT);
    assert_eq!(daemon.end().0, Some(0));
    drop((gateway, hero_proc));
}

/// A store that somebody else has locked: the daemon waits for it to be free, and says why nothing went.
#[test]
fn a_busy_store_is_left_for_the_next_time() {
    let node = Node::with(3, 10, OLD);
    let lock = node.sides.store();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (result, said) = node.ends(&["--once"], 6);
    assert_eq!((&result["outcome"], &result["jobs_deleted"]), (&json!("put_off"), &json!(0)), "{said}");
    lock.execute_batch("ROLLBACK").unwrap();
    node.ends(&["--once"], 0);
    assert_eq!(node.jobs(), 10);
}

/// A pass with nothing to do reads, while somebody else has the lock.
#[test]
fn a_pass_that_finds_nothing_takes_no_lock() {
    let policy = format!("reclaim = \"1s\"\n{OLD}[[rule]]\nphases = [\"failed\"]\nolder_than = \"20d\"\n");
    let node = Node::known(0, 10, &policy);
    let lock = node.sides.store();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let (result, said) = node.ends(&["--once"], 0);
    assert_eq!(
        (&result["outcome"], &result["lock_ms"], &result["reclaimed"]),
        (&json!("done"), &json!(0.0), &Value::Null)
    );
    assert!(said.contains("calls=2 "), "one for each rule: {said}");
    assert_eq!(node.state()["last"]["lock_ms"], 0.0);
}

/// The running batch ends, and no other begins. The next pass goes on from there.
#[test]
fn a_signal_in_a_pass_ends_it_after_the_running_batch() {
    let daemon = &["--longest-wait", "20ms"][..];
    for (signal, arguments, code) in
        [(Signal::TERM, daemon, 0), (Signal::INT, daemon, 0), (Signal::HUP, daemon, 0), (Signal::TERM, &["--once"], 1)]
    {
        let node = Node::known(600, 700, OLD);
        let lock = node.sides.store();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        let retain = Running::start(&mut node.retain(arguments));
        node.has_begun();
        retain.signal(signal);
        retain.says("stopping once the running batch has ended");
        lock.execute_batch("ROLLBACK").unwrap();
        let said = retain.until("nothing more");
        let (ended, _) = retain.end();
        assert_eq!(ended, Some(code), "{said}");
        let left = node.jobs();
        assert!(left < 1300 && left > 700, "{left}: {said}");
        assert!(said.contains(&format!("{} jobs and their", 1300 - left)), "{said}");
        assert_eq!(node.state()["rules"][r"older than 14d"]["jobs"], 1300 - left);
        let (status, _) = node.ends(&["--status"], 0);
        assert!(status["problems"].to_string().contains("goes on, or was stopped before its end"), "{status}");
        node.ends(&["--once"], 0);
        assert_eq!(node.jobs(), 700);
    }
}

/// The lock rests for hours after the running batch: a process that is to end does not wait for that.
#[test]
fn after_a_signal_no_rest_is_waited_for() {
    let node = Node::with(0, 0, OLD);
    let gateway = Scripted::new();
    gateway.reports(json!({ "dry_run": true, "jobs_matched": 9 }));
    let mut retain = binary();
    retain.args(["retain", "--once", "--policy"]).arg(node.path("policy.toml")).arg("--socket").arg(gateway.socket());
    retain.arg("--state").arg(node.path("state/scripted.json")).stdout(Stdio::piped());
    let retain = Running::start(&mut retain);
    assert_eq!(gateway.asked()["dry_run"], true);
    assert_eq!(gateway.asked().get("dry_run"), None);
    retain.signal(Signal::TERM);
    retain.says("stopping once the running batch has ended");
    let deleted =
        json!({ "jobs_matched": 9, "jobs_planned": 2, "jobs_deleted": 2, "more": true, "lock_ms": 600_000.0 });
    gateway.reports(deleted);
    let said = retain.until("nothing more");
    assert_eq!(retain.end().0, Some(1), "{said}");
    assert!(said.contains("2 jobs"), "{said}");
}

#[test]
fn a_second_signal_leaves_the_running_batch() {
    for arguments in [&["--once"][..], &["--longest-wait", "20ms"]] {
        let node = Node::known(3, 10, OLD);
        let lock = node.sides.store();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        let retain = Running::start(&mut node.retain(arguments));
        node.has_begun();
        retain.signal(Signal::TERM);
        retain.says("stopping once the running batch has ended");
        retain.signal(Signal::TERM);
        let said = retain.until("nothing more");
        assert!(said.contains("error: left before the answer"), "{said}");
        assert_eq!(retain.end().0, Some(6));
        lock.execute_batch("ROLLBACK").unwrap();
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing() {
    kill_over_and_over(8);
}

#[test]
#[ignore = "long form: 400 kills"]
fn hundreds_of_kills_at_any_moment_lose_nothing() {
    kill_over_and_over(400);
}

/// Kills at moments spread over a pass of several batches; then passes to the end.
fn kill_over_and_over(times: u32) {
    let policy = format!("{OLD}[[rule]]\nphases = [\"succeeded\"]\nolder_than = \"20d\"\n");
    let node = || Node::with(300, 400, &policy);
    let whole = {
        let node = node();
        let since = Instant::now();
        node.ends(&["--once"], 0);
        since.elapsed()
    };
    for number in 0..times {
        let node = node();
        let mut retain = Running::start(&mut node.retain(&["--once"]));
        spin(whole.mul_f64(1.2 * f64::from(number) / f64::from(times)));
        let _ = retain.child.kill();
        let _ = retain.child.wait();
        if let Ok(state) = fs::read(node.path("state/state.json")) {
            assert!(serde_json::from_slice::<Value>(&state).is_ok(), "{number}: a state is whole");
        }
        let (result, said) = node.ends(&["--once"], 0);
        assert_eq!(node.jobs(), 400, "{number}: {result} {said}");
        let actions: i64 = crate::support::sample::one(&node.sides.store(), "SELECT count(*) FROM actions");
        assert_eq!(actions, 400, "{number}");
        let (status, _) = node.ends(&["--status"], 0);
        assert_eq!(status["problems"], json!([]), "{number}");
        assert_eq!(entries(&node.path("state")), [node.path("state/state.json")], "{number}");
    }
}

/// The daemon goes on with what it had, says so, and takes a policy that is mended.
#[test]
fn a_policy_that_becomes_bad_leaves_the_old_one_in_force() {
    let node = Node::with(3, 10, OLD);
    let daemon = node.daemon();
    daemon.says("outcome=\"done\"");
    node.policy(&OLD.replace("older_than", "older_then"));
    let line = daemon.says("stays in force");
    assert!(line.contains("line 3: unknown field `older_then`"), "{line}");
    node.add_old(100, 102);
    while node.jobs() > 10 {
        daemon.says("outcome=\"done\"");
    }
    let output = node.run(&["--status"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(status["problems"].to_string().contains("line 3: unknown field `older_then`"), "{status}");
    node.policy(&OLD.replace("14d", "30d"));
    daemon.says("the policy has changed");
    daemon.says("outcome=\"done\"");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().0, Some(0));
    assert_eq!(node.state()["refused"], Value::Null);
    assert!(node.state()["rules"]["older than 30d"].is_object());
}

/// Nor does a policy that is refused make the last success any older.
#[test]
fn a_policy_that_is_refused_is_told_in_the_status() {
    let node = Node::with(0, 10, OLD);
    node.ends(&["--once"], 0);
    node.policy(&OLD.replace("older_than", "older_then"));
    let (status, said) = node.ends(&["--status"], 0);
    assert_eq!(
        (&status["overdue"], &status["policy"], &status["every_ms"]),
        (&json!(false), &Value::Null, &json!(3_600_000))
    );
    let problems = status["problems"].to_string();
    assert!(problems.contains("line 3: unknown field `older_then`"), "{status}");
    // Whether a daemon runs, or a timer, is not known.
    assert!(problems.contains("a daemon goes on with the policy that it had, --once makes no pass"), "{status}");
    assert_eq!((&status["rules"][0]["rule"], said.as_str()), (&json!("older than 14d"), ""));
    node.change_state(|state| state["succeeded_ms"] = json!(1_790_000_000_000_i64));
    node.ends(&["--status"], 1);
}

/// A policy that waits under a daemon is let in by another process, or by its digest.
#[test]
fn a_daemon_waits_for_a_human() {
    for way in ["--yes", "confirmed"] {
        let node = Node::with(11, 10, OLD);
        let daemon = node.daemon();
        let line = daemon.says("outcome=\"waits\"");
        assert!(line.contains("takes=11 of=21") && line.contains("digest="), "{line}");
        daemon.says("outcome=\"waits\"");
        assert_eq!(node.jobs(), 21);
        if way == "confirmed" {
            let digest = node.state()["waits_for"]["digest"].as_str().unwrap().to_owned();
            node.policy(&format!("confirmed = \"{digest}\"\n{OLD}"));
        } else {
            // The daemon may be in a pass.
            while node.run(&["--once", "--yes"]).status.code() == Some(6) {
                thread::yield_now();
            }
        }
        daemon.says("outcome=\"done\"");
        assert_eq!(node.jobs(), 10, "{way}");
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.end().0, Some(0));
    }
}

/// Three times `every`, and not a moment less.
#[test]
fn a_success_too_long_ago_is_overdue() {
    const HOUR: i64 = 3_600_000;
    let node = Node::with(0, 10, OLD);
    let (status, said) = node.ends(&["--status"], 1);
    assert_eq!((&status["overdue"], &status["last_success_ms"]), (&json!(true), &Value::Null), "{status}");
    assert!(status["problems"].to_string().contains("No pass has succeeded yet"), "{status}");
    assert!(said.contains("error: no pass has succeeded"), "{said}");
    node.ends(&["--once"], 0);
    for (ago, code) in [(3 * HOUR - 60_000, 0), (3 * HOUR + 1_000, 1), (1000 * HOUR, 1), (-5 * HOUR, 1)] {
        let now = chrono::Utc::now().timestamp_millis();
        node.change_state(|state| {
            for time in ["succeeded_ms", "started_ms", "ended_ms"] {
                state[time] = json!(now - ago);
            }
        });
        let (status, _) = node.ends(&["--status"], code);
        assert_eq!(status["overdue"], code == 1, "{ago}: {status}");
    }
    // That was in the future.
    let (_, said) = node.ends(&["--once"], 0);
    assert!(said.contains("the clock has gone back"), "{said}");
    // For a day this is said, whatever has succeeded since.
    for (hours, told) in [(0, true), (23, true), (25, false)] {
        let then = chrono::Utc::now().timestamp_millis() - hours * HOUR;
        node.change_state(|state| state["clock_jump"]["at_ms"] = json!(then));
        let (status, _) = node.ends(&["--status"], 0);
        assert_eq!(status["problems"].to_string().contains("the clock had gone back by"), told, "{status}");
        assert_eq!(status["problems"] == json!([]), !told, "{status}");
    }
}

/// How a pass comes to be behind is a matter of hours: see `retention`. What it has left in the state is told.
#[test]
fn retention_that_is_behind_is_told() {
    let node = Node::with(0, 10, OLD);
    node.ends(&["--once"], 0);
    node.change_state(|state| state["behind"] = json!(true));
    let (status, _) = node.ends(&["--status"], 0);
    let says = "Retention is behind: a pass had not ended when the next one was due (1h).";
    assert_eq!((&status["behind"], &status["problems"]), (&json!(true), &json!([says])), "{status}");
    // Until a pass ends in time.
    node.ends(&["--once"], 0);
    assert_eq!(node.ends(&["--status"], 0).0["problems"], json!([]));
}

/// `--once` is for timers: one that fires at other times than the policy says is told.
#[test]
fn a_timer_that_differs_from_the_policy_is_told() {
    let node = Node::with(0, 10, OLD);
    let (_, said) = node.ends(&["--once"], 0);
    assert!(!said.contains("timer"), "{said}");
    for (minutes, told) in [(0, true), (29, true), (31, false), (60, false), (119, false), (121, true)] {
        let then = chrono::Utc::now().timestamp_millis() - minutes * 60_000;
        node.change_state(|state| state["started_ms"] = json!(then));
        let (_, said) = node.ends(&["--once"], 0);
        assert_eq!(said.contains("is not what the timer says"), told, "{minutes}: {said}");
    }
}

/// The state of one gateway says nothing about another.
#[test]
fn a_state_of_another_gateway_counts_as_none() {
    let node = Node::with(0, 10, OLD);
    node.ends(&["--once"], 0);
    node.change_state(|state| state["socket"] = json!("/run/\u{1b}[2J/other.sock"));
    node.add_old(100, 120);
    let (_, said) = node.ends(&["--once"], 4);
    assert!(said.contains(r"that of another gateway, /run/\u{1b}[2J/other.sock"), "{said}");
    assert_eq!(node.jobs(), 31);
}

/// Without `--state` each gateway has a directory of its own, by whichever way its socket is given.
#[test]
fn each_gateway_has_a_state_of_its_own() {
    let node = Node::with(2, 10, OLD);
    let home = TempDir::new().unwrap();
    let retain_at = |socket: &Path, variable: &str, value: &Path| {
        let mut retain = binary();
        retain.args(["retain", "--once", "--policy"]).arg(node.path("policy.toml")).arg("--socket").arg(socket);
        retain.env_remove("XDG_STATE_HOME").env("HOME", home.path()).env(variable, value);
        let output = retain.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!text(&output.stderr).contains("another gateway"), "{output:?}");
    };
    let retain = |variable: &str, value: &Path| retain_at(&node.path("gateway.sock"), variable, value);
    let only = |directory: &Path| {
        let found = entries(directory);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    };
    let elsewhere = TempDir::new().unwrap();
    retain("XDG_STATE_HOME", elsewhere.path());
    let state = only(&elsewhere.path().join("hero_proc_cleanup"));
    assert!(state.to_str().unwrap().contains("gateway.sock-"), "{state:?}");
    assert_eq!(only(&state).file_name().unwrap(), "retain.json");
    assert!(entries(home.path()).is_empty());
    let ways = TempDir::new().unwrap();
    fs::create_dir(ways.path().join("here")).unwrap();
    symlink(node.path("."), ways.path().join("way")).unwrap();
    symlink(node.path("gateway.sock"), ways.path().join("socket")).unwrap();
    for way in ["way/gateway.sock", "here/../way/gateway.sock", "socket"] {
        retain_at(&ways.path().join(way), "XDG_STATE_HOME", elsewhere.path());
        assert_eq!(only(&elsewhere.path().join("hero_proc_cleanup")), state, "{way}");
    }
    // No path, or one that is relative, is none.
    retain("XDG_STATE_HOME", Path::new("relative"));
    assert_eq!(only(&home.path().join(".local/state/hero_proc_cleanup")).file_name(), state.file_name());
}

/// The service manager hears of the beginning, of life, and of the end.
#[test]
fn the_service_manager_is_told() {
    let node = Node::with(0, 10, OLD);
    let told = UnixDatagram::bind(node.path("notify")).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut state = [0; 200];
        let bytes = told.recv(&mut state).unwrap();
        text(&state[..bytes]).to_owned()
    };
    let mut retain = node.retain(&[]);
    let daemon = Running::start(retain.env("NOTIFY_SOCKET", node.path("notify")).env("WATCHDOG_USEC", "100000"));
    assert_eq!(next(), "READY=1");
    let mut lives = 0;
    while lives < 3 {
        match next().as_str() {
            "WATCHDOG=1" => lives += 1,
            other => assert!(other.starts_with("STATUS="), "{other}"),
        }
    }
    daemon.signal(Signal::TERM);
    while next() != "STOPPING=1" {}
    assert_eq!(daemon.end().0, Some(0));
    // Another process's watchdog is none of this one's.
    let mut retain = node.retain(&[]);
    retain.env("NOTIFY_SOCKET", node.path("notify")).env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1");
    let daemon = Running::start(&mut retain);
    assert_eq!(next(), "READY=1");
    daemon.signal(Signal::TERM);
    loop {
        match next().as_str() {
            "STOPPING=1" => break,
            other => assert!(other.starts_with("STATUS="), "{other}"),
        }
    }
    // A policy that is refused is not ready.
    node.policy("every = 3");
    let output = node.retain(&[]).env("NOTIFY_SOCKET", node.path("notify")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    told.set_nonblocking(true).unwrap();
    assert!(told.recv(&mut [0; 10]).is_err());
}

/// What others chose moves no cursor and begins no line.
#[test]
fn hostile_text_is_plain() {
    const HOSTILE: &str = "<\u{1b}[2J\nforged\u{202e}>";
    let plain = |printed: &[u8]| {
        let printed = text(printed);
        let hidden = |char: char| char != '\n' && (char.is_control() || char == '\u{202e}');
        assert!(!printed.contains(hidden) && !printed.lines().any(|line| line.starts_with("forged")), "{printed}");
        assert!(printed.contains("forged"), "{printed}");
    };
    let node = Node::with(0, 10, "");
    // A rule's kind, in a table and in the log; a phase that is refused.
    let kind = r#""<\u001B[2J\nforged\u202E>""#;
    node.policy(&format!("every = \"1h\"\n[[rule]]\nkind = {kind}\nolder_than = \"14d\"\n"));
    plain(&node.run(&["--dry-run"]).stdout);
    plain(&node.run(&["--once"]).stdout);
    plain(&node.run(&["--status"]).stdout);
    let shown = Terminal::start(in_terminal(node.retain(&["--status"])), 200, [None, None]).end().2;
    plain(shown.replace("\r\n", "\n").as_bytes());
    node.policy(&format!("every = \"1h\"\n[[rule]]\nphases = [{kind}]\nolder_than = \"14d\"\n"));
    plain(&node.run(&["--once"]).stderr);
    node.policy(&format!("every = \"1h\"\n{kind} = 1\n[[rule]]\nolder_than = \"14d\"\n"));
    plain(&node.run(&["--once"]).stderr);

    // What a gateway says, in the error, the state, and the status.
    let gateway = Scripted::new();
    node.policy(OLD);
    gateway.refuses(json!({ "code": -32603, "message": HOSTILE, "data": { "kind": "internal", "a": HOSTILE } }));
    let retain = |mode: &str| {
        let mut retain = binary();
        retain.args(["retain", mode, "--policy"]).arg(node.path("policy.toml")).arg("--socket").arg(gateway.socket());
        retain.arg("--state").arg(node.path("state/scripted.json")).output().unwrap()
    };
    plain(&retain("--once").stderr);
    plain(&retain("--status").stdout);
}

/// `retain`, to be started on a terminal.
fn in_terminal(retain: Command) -> Command {
    let mut session = Terminal::session();
    session.args(retain.get_args());
    session
}

/// A version that knows retention, over a store of before: nothing goes, whatever is run, until there is a policy.
#[test]
fn nothing_goes_without_a_policy() {
    let node = Node::with(100, 10, OLD);
    fs::remove_file(node.path("policy.toml")).unwrap();
    let (store, socket) = (node.path("hero_proc.db"), node.path("gateway.sock"));
    let before = dump(&store);
    for arguments in [
        &["check", "--store", path_text(&store)][..],
        &["jobs-usage", "--socket", path_text(&socket)],
        &["jobs-cleanup", "--dry-run", "--socket", path_text(&socket)],
        &["jobs-reclaim", "--dry-run", "--socket", path_text(&socket)],
        &["completions", "bash"],
        &["retain", "--help"],
    ] {
        assert_eq!(binary().args(arguments).output().unwrap().status.code(), Some(0), "{arguments:?}");
    }
    for mode in [&["--once"][..], &["--once", "--yes"], &["--dry-run"], &["--status"], &[]] {
        node.ends(mode, 2);
    }
    // Servers that end and begin again, as with an upgrade.
    node.sides.hero_proc.signal(Signal::TERM);
    node.sides.gateway.signal(Signal::TERM);
    let hero_proc = Server::serve(&store, &node.path("again.sock"));
    let gateway = Server::gateway(&node.path("gateway2.sock"), &node.path("again.sock"), &[]);
    assert_eq!(gateway.get("/health").status, 200);
    drop((gateway, hero_proc));
    assert_eq!(dump(&store), before);
}

/// The policy that is recommended, on a store with a little of everything.
#[test]
fn the_recommended_policy_does_what_it_says() {
    let node = Node::with(0, 0, include_str!("../../dist/retention.toml"));
    let now = chrono::Utc::now().timestamp_millis();
    let store = node.sides.store();
    let job = |id: i64, kind: &str, phase: &str, days: i64| {
        let tags = json!(["codescaler", format!("codescaler_kind_{kind}")]).to_string();
        let at = now - days * 86_400_000 - 60_000;
        let insert =
            "INSERT INTO jobs (id, action, spec_json, phase, tags, created_at_ms) VALUES (?1, 'a', '{}', ?2, ?3, ?4)";
        store.execute(insert, (id, phase, tags, at)).unwrap();
    };
    // Oldest first. Of each kind the last ten of each outcome stay, however old.
    for (first, kind, phase) in [(100, "build", "succeeded"), (200, "build", "failed"), (300, "deploy", "succeeded")] {
        (0..12).for_each(|place| job(first + place, kind, phase, 200));
    }
    (0..10).for_each(|place| job(400 + place, "build", "succeeded", 1));
    (0..10).for_each(|place| job(500 + place, "build", "failed", 30));
    job(600, "build", "running", 200);
    node.ends(&["--once", "--yes"], 0);
    let left = node.sides.jobs();
    let of = |hundred: i64| left.iter().filter(|id| **id / 100 == hundred).count();
    assert_eq!([1, 2, 3, 4, 5, 6].map(of), [0, 0, 10, 10, 10, 1], "{left:?}");
    node.ends(&["--status"], 0);
}

/// The page shows the policy that lies in `dist`, but for its comments.
#[test]
fn the_page_shows_the_recommended_policy() {
    let lines = |text: &str| text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<String>();
    let policy = lines(include_str!("../../dist/retention.toml"));
    assert_eq!(lines(between(include_str!("../../docs/retention.md"), "```toml\n", "```")), policy);
}
