//! The examples: hosts as hero_proc and codescalers would be, run as a stranger runs them, and the lines to copy.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const ADOPTING: &str = include_str!("../../docs/adopting.md");
const HOST: &str = include_str!("../../examples/host/server.rs");
const RETENTION: &str = include_str!("../../examples/host/retention.rs");
const CODESCALERS: &str = include_str!("../../examples/codescalers.rs");

/// The most lines that adopting the crate may take.
const MOST_LINES: usize = 15;

#[test]
fn the_host_tells_its_story() {
    let told = tells("host", &["--jobs", "2000"]);
    for line in [
        "holds: job.list with the tag codescaler is empty",
        "holds: the host's OpenRPC document has its methods and the extension's, and job.cleanup_by_tag with its report",
        "holds: stats drops by 7 jobs and 6 actions, to what it was before",
        "holds: what the report names is gone, and every other row is untouched",
        "holds: each was stopped as it had to be",
        "holds: none of those processes is left, nor a zombie of them",
        "holds: while the mutex is held, a dry run and a deletion run to their ends",
        "1000 of them are codescaler's, each with an action of its own.",
        "holds: every one of codescaler's jobs is gone",
        "holds: no row has changed",
        "holds: the file is shorter, or the result says why not",
        "holds: without a policy nothing goes by itself, however old it is",
        "holds: by a policy of 14 days, the 3 jobs of 20 days are gone",
        "holds: a policy that would take more than half is shown, and takes nothing",
        "holds: once it is confirmed, it takes them",
        "holds: nothing of it is left on the disk",
        "holds: none of its processes is left",
    ] {
        assert!(told.lines().any(|told| told == line), "{line:?} is missing in:\n{told}");
    }
    for row in ["the deletion of 1000 jobs, as mounted", "giving the space back, as mounted"] {
        assert!(told.lines().any(|line| line.starts_with(row)), "{told}");
    }
}

#[test]
fn codescalers_tells_its_story() {
    let told = tells("codescalers", &[]);
    for line in [
        "holds: jobs.cleanup refuses with -32002",
        "holds: every job is still there",
        "holds: hero_proc's report comes back",
        "holds: the page is for admins only",
        "holds: ana's jobs are gone, ben's and the one that is not codescaler's are there",
        "holds: it is served under the host's prefix",
        "holds: and nothing is loaded but the page's own files",
        "holds: a proxy's prefix is kept where a slash is added",
        "holds: ben's old job is gone, his last one is there",
        "holds: nothing is left on the disk",
    ] {
        assert!(told.lines().any(|told| told == line), "{line:?} is missing in:\n{told}");
    }
}

/// A host that is interrupted, or whose reader goes, ends its children and removes its directory as well.
#[test]
fn a_host_that_ends_early_leaves_nothing() {
    for interrupted in [true, false] {
        let directory = TempDir::new().unwrap();
        let mut command = Command::new(example("host"));
        command.env("TMPDIR", directory.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        // By then the backup runs, whose process would last.
        assert!(told.any(|line| line == "1. hero_codescalers#10"));
        if interrupted {
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            assert!(told.any(|line| line == "FAILED: interrupted"));
        }
        drop(told);
        assert_ne!(child.wait().unwrap().code(), Some(0));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let path = directory.path().to_str().unwrap().as_bytes();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            // Its children have its environment.
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            assert!(!environment.windows(path.len()).any(|window| window == path), "{:?} is left", process.path());
        }
    }
}

#[test]
fn mounting_takes_few_lines_and_the_docs_show_them() {
    for (name, source) in [("host", HOST), ("codescalers", CODESCALERS)] {
        let regions = marked(source, "mounting the extension");
        let lines: usize = regions.iter().map(Vec::len).sum();
        assert!((1..=MOST_LINES).contains(&lines), "{name}: {lines} lines");
        assert_shown(name, &regions);
    }
}

/// What a host needs to run a policy is shown as well.
#[test]
fn running_a_policy_takes_few_lines_and_the_docs_show_them() {
    for (name, source) in [("host", RETENTION), ("codescalers", CODESCALERS)] {
        let regions = marked(source, "running a policy");
        let lines: usize = regions.iter().map(Vec::len).sum();
        assert!((1..=20).contains(&lines), "{name}: {lines} lines");
        assert_shown(name, &regions);
    }
}

#[track_caller]
fn assert_shown(name: &str, regions: &[Vec<&str>]) {
    let regions: Vec<String> = regions.iter().map(|region| dedented(region)).collect();
    let block = format!("```rust,ignore\n{}\n```\n", regions.join("\n\n"));
    assert!(ADOPTING.contains(&block), "docs/adopting.md does not show the lines of {name}:\n{block}");
}

/// What the example `name` prints, once it has ended well, leaving nothing in its temporary directory.
fn tells(name: &str, args: &[&str]) -> String {
    let directory = TempDir::new().unwrap();
    let output = Command::new(example(name)).args(args).env("TMPDIR", directory.path()).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}\n{errors}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{told}");
    told
}

/// The binary of the example `name`: cargo builds examples with the tests, into a directory beside theirs.
fn example(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(Path::parent).unwrap();
    let example = profile.join("examples").join(name);
    assert!(example.exists(), "`cargo test --test` builds no examples: `cargo build --examples` does");
    example
}

/// The lines between each pair of marks that say `what`.
fn marked<'s>(source: &'s str, what: &str) -> Vec<Vec<&'s str>> {
    let (begin, end) = (format!("// {what}: begin"), format!("// {what}: end"));
    let mut regions = Vec::new();
    let mut lines = source.lines();
    while lines.by_ref().any(|line| line.trim() == begin) {
        regions.push(lines.by_ref().take_while(|line| line.trim() != end).collect());
    }
    regions
}

fn dedented(lines: &[&str]) -> String {
    let indent = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap();
    lines.iter().map(|line| &line[indent..]).collect::<Vec<_>>().join("\n")
}
