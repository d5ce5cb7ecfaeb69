//! Rights are types: what must not happen does not compile. The library's own source is built with an attempt in it, and the
//! compiler has to refuse the attempt for the reason that is expected.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Uses of a snapshot that are allowed: they show that the attempts fail for what they attempt.
const ALLOWED: &str = "
    fn look(store: &mut crate::store::Store<'_>) -> Result<(), crate::store::StoreError> {
        let snapshot = store.read()?;
        snapshot.version()?;
        drop(snapshot);
        let mut locked = store.lock(0)?;
        locked.version()?;
        locked.delete(&[], &[])?;
        locked.commit(&[], &[])?;
        Ok(())
    }";

/// Each attempt, and what the compiler says of it, as far as the oldest and the newest say the same.
const ATTEMPTS: [(&str, &str, &str); 6] = [
    (
        "a dry run that deletes",
        "fn attempt(store: &mut crate::store::Store<'_>) { let _ = store.read().map(|snapshot| snapshot.delete(&[], &[])); }",
        "no method named `delete` found for struct `Snapshot",
    ),
    (
        "a dry run that carries out foreign keys",
        "fn attempt(store: &mut crate::store::Store<'_>) { let _ = store.read().map(|it| it.carry_out_foreign_keys(&[])); }",
        "no method named `carry_out_foreign_keys` found for struct `Snapshot",
    ),
    (
        "a snapshot that commits",
        "fn attempt(store: &mut crate::store::Store<'_>) { let _ = store.read().map(|snapshot| snapshot.commit(&[], &[])); }",
        "no method named `commit` found for struct `Snapshot",
    ),
    (
        "a second place that commits",
        "fn attempt(store: &mut crate::store::Store<'_>) { let _ = store.lock(0).map(|locked| locked.into_transaction()); }",
        "is private",
    ),
    (
        "a way to the connection",
        "fn attempt(store: &crate::store::Store<'_>) { let _ = store.connection(); }",
        "method `connection` is private",
    ),
    (
        "a commit by whoever has committed",
        "fn attempt(locked: crate::store::Locked<'_>) { let _ = (locked.commit(&[], &[]), locked.commit(&[], &[])); }",
        "use of moved value: `locked`",
    ),
];

#[test]
fn what_must_not_happen_does_not_compile() {
    let crate_copy = TempDir::new().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in
        ["Cargo.toml", "Cargo.lock", "README.md", "src", "openrpc", "docs", "schema", "tests", "benches", "examples"]
    {
        copy(&here.join(name), &crate_copy.path().join(name));
    }
    let lib = crate_copy.path().join("src/lib.rs");
    let source = fs::read_to_string(&lib).unwrap();
    let build = |attempt: &str| {
        fs::write(&lib, format!("{source}\n#[allow(dead_code)]\nmod attempt {{\n{attempt}\n}}\n")).unwrap();
        // In the same target directory, so that the dependencies are checked once only.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["check", "--lib", "--no-default-features", "--offline", "--color", "never", "--target-dir"])
            .arg(target);
        let output = cargo.current_dir(crate_copy.path()).env_remove("RUSTFLAGS").output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (built, errors) = build(ALLOWED);
    assert!(built, "{errors}");
    // All at once: the compiler names each.
    let attempts: Vec<String> = (1..)
        .zip(ATTEMPTS)
        .map(|(number, (_, attempt, _))| attempt.replace("attempt(", &format!("attempt_{number}(")))
        .collect();
    let (built, errors) = build(&attempts.join("\n"));
    assert!(!built);
    for (what, _, refused) in ATTEMPTS {
        assert!(errors.contains(refused), "{what} compiles, or fails for another reason:\n{errors}");
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}
