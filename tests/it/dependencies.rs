//! What this crate is built of: licences, sources, the oldest Rust, the library's own tree as docs/adopting.md has it,
//! the reasons for each direct dependency, as docs/dependencies.md has them, and what `cargo package` packs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::docs::{between, rows};
use crate::support::process::entries;
use crate::support::skipped;

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

/// What `cargo metadata` says of this crate and all that it is built of on this platform.
fn metadata() -> Value {
    let platform = format!("--filter-platform={}-unknown-linux-gnu", std::env::consts::ARCH);
    serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--all-features", &platform])).unwrap()
}

/// This crate among the packages of `metadata`.
fn own(metadata: &Value) -> &Value {
    let mut packages = metadata["packages"].as_array().unwrap().iter();
    packages.find(|package| package["name"] == "hero_proc_cleanup").unwrap()
}

#[test]
fn every_package_has_a_licence_that_allows_it_and_comes_from_the_registry() {
    let metadata = metadata();
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

/// Whoever has the Rust that Cargo.toml names can build what the lock file holds, tests included.
#[test]
fn no_package_needs_a_newer_rust() {
    let version =
        |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).chain([0]).take(3).collect() };
    let metadata = metadata();
    let named = own(&metadata)["rust_version"].as_str().unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let needed = package["rust_version"].as_str().unwrap_or(named);
        assert!(version(needed) <= version(named), "{} needs Rust {needed}", package["name"]);
    }
    // The pages name the same.
    for page in [include_str!("../../README.md"), include_str!("../../docs/operating.md")] {
        assert!(page.replace('\n', " ").contains(&format!("a Rust toolchain ({named} or newer) and a C compiler")));
    }
}

/// Each direct dependency has its row: what it is for, who takes it, and under which licence.
#[test]
fn every_direct_dependency_has_its_row() {
    let metadata = metadata();
    let own = own(&metadata);
    let features = own["features"].as_object().unwrap();
    let taken_by = |dependency: &Value| -> String {
        let feature = format!("dep:{}", dependency["name"].as_str().unwrap());
        let takes = |&(_, takes): &(&String, &Value)| takes.as_array().unwrap().iter().any(|taken| *taken == *feature);
        match (dependency["kind"].as_str(), dependency["optional"].as_bool().unwrap()) {
            (None, false) => "library".to_owned(),
            (None, true) => features.iter().find(takes).unwrap().0.clone(),
            (Some(_), _) => "tests".to_owned(),
        }
    };
    let mut expected: BTreeMap<&str, (String, &str)> = BTreeMap::new();
    for dependency in own["dependencies"].as_array().unwrap() {
        let name = dependency["name"].as_str().unwrap();
        let mut packages = metadata["packages"].as_array().unwrap().iter();
        let package = packages.find(|package| package["name"] == name).unwrap();
        let (by, licence) = (taken_by(dependency), package["license"].as_str().unwrap());
        // Tests take some with features of their own.
        expected
            .entry(name)
            .and_modify(|(known, _)| {
                if *known == "tests" {
                    *known = by.clone()
                }
            })
            .or_insert((by, licence));
    }
    let page = include_str!("../../docs/dependencies.md");
    let mut found = BTreeMap::new();
    for table in page.split("| crate | in | what it is for |").skip(1) {
        for row in rows(table.split("\n\n").next().unwrap()) {
            assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
            assert!(found.insert(row[0], (row[1].to_owned(), row[5])).is_none(), "{row:?}");
        }
    }
    assert_eq!(found, expected);
}

/// Whoever has the package has all that its tests need, and nothing that needs more than the package.
#[test]
fn the_package_holds_what_its_tests_need() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if root.join("Cargo.toml.orig").exists() {
        return skipped("cargo can't pack what is a package itself");
    }
    let list = cargo(&["package", "--list", "--allow-dirty"]);
    let packed: BTreeSet<&str> = list.lines().collect();
    // What Cargo.toml excludes stays out, as does what git and cargo keep here.
    let manifest = include_str!("../../Cargo.toml");
    let excluded: Vec<&str> = between(manifest, "\nexclude = [\"/", "\"]").split("\", \"/").collect();
    let stays = |name: &str| {
        excluded.contains(&name) || name == "Cargo.toml" || name.starts_with(['.']) || name.starts_with("target")
    };
    let name = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut paths: Vec<PathBuf> = entries(root);
    while let Some(path) = paths.pop() {
        match name(&path) {
            name if stays(&name) => {}
            _ if path.is_dir() => paths.extend(entries(&path)),
            name => {
                found.insert(name);
            }
        }
    }
    // What cargo itself writes.
    let written = [".cargo_vcs_info.json", "Cargo.toml", "Cargo.toml.orig"];
    let packed: BTreeSet<String> =
        packed.into_iter().filter(|name| !written.contains(name)).map(ToOwned::to_owned).collect();
    assert_eq!(packed, found);
}
