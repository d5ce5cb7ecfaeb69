//! What this crate is built of: licences, sources, and the library's own tree as docs/adopting.md has it.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Licences under which anything may be built into a program of any licence. Of those joined by OR, one is enough.
const LICENCES: [&str; 9] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[test]
fn every_package_has_a_licence_that_allows_it_and_comes_from_the_registry() {
    let platform = format!("--filter-platform={}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--all-features", &platform])).unwrap();
    let used: BTreeSet<&str> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap()).collect();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(used.len() > 100);
    for package in packages.iter().filter(|package| used.contains(package["id"].as_str().unwrap())) {
        let (name, licence) = (&package["name"], package["license"].as_str().unwrap_or_default());
        let one = |licence: &str| LICENCES.contains(&licence.trim_matches(['(', ')', ' ']));
        let any = |part: &str| part.replace('/', " OR ").split(" OR ").any(one);
        assert!(licence.split(" AND ").all(any), "{name}: {licence:?}");
        let source = package["source"].as_str();
        let registry = source.is_some_and(|source| source.starts_with("registry+") && source.contains("crates.io"));
        assert!(registry || (source.is_none() && name == "hero_proc_cleanup"), "{name}: {source:?}");
    }
}

#[test]
fn the_library_is_built_of_what_the_docs_say() {
    let tree = cargo(&["tree", "--edges=normal", "--no-default-features", "--prefix=none"]);
    let versions: BTreeSet<(&str, &str)> = tree
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?))
        })
        .collect();
    let mut packages = BTreeSet::new();
    for (name, version) in versions {
        assert!(packages.insert(name), "{name} is there twice, once as {version}");
    }
    for other in ["tokio", "hyper", "axum", "jsonrpsee", "clap"] {
        assert!(!packages.contains(other), "{other}");
    }
    let features = cargo(&["tree", "--edges=features", "--no-default-features", "--prefix=none"]);
    assert!(!features.contains("feature \"bundled\""), "the host's SQLite is the one");
    if !tree.contains("rusqlite v0.43") {
        // An older one of the range is built of other packages.
        return;
    }
    let adopting = include_str!("../../docs/adopting.md");
    let block = adopting.split("```text\nserde").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let listed: BTreeSet<&str> = std::iter::once("serde")
        .chain(block.split([' ', '\n', '(', ')', ',', ':']))
        .filter(|word| !word.is_empty())
        .collect();
    let packages: BTreeSet<&str> = packages.into_iter().filter(|name| *name != "hero_proc_cleanup").collect();
    assert_eq!(listed, packages);
}
