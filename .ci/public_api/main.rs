//! Compares the library's public API with what is checked in, so that none of it changes unnoticed: without features as
//! in `library.txt`, with the feature `server` as in `server.txt`. With `--update`, writes those instead.
//!
//! Auto traits and blanket implementations are left out: there are more of them than of everything else.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs};

use public_api::Builder;
use serde_json::Value;

/// What this version of the crate `public-api` reads. Others come with other compilers: then it has to follow.
const FORMAT: u64 = 57;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().and_then(Path::parent).ok_or("there is no crate above")?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |target| root.join(target));
    let mut code = ExitCode::SUCCESS;
    for (features, file) in [("", "library.txt"), ("server", "server.txt")] {
        // A stable compiler writes JSON only if it is told that it is none.
        let done = Command::new("cargo")
            .args(["rustdoc", "--quiet", "--lib", "--no-default-features", "--features", features])
            .args(["--", "-Z", "unstable-options", "--output-format", "json"])
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", &target)
            .current_dir(root)
            .status()?;
        if !done.success() {
            return Err(format!("cargo rustdoc: {done}").into());
        }
        let json = target.join("doc/hero_proc_cleanup.json");
        let format = serde_json::from_str::<Value>(&fs::read_to_string(&json)?)?["format_version"].as_u64();
        if format != Some(FORMAT) {
            eprintln!("NOT COMPARED: this compiler's rustdoc writes format {format:?}, and {FORMAT} is read here");
            return Ok(ExitCode::SUCCESS);
        }
        let api = Builder::from_rustdoc_json(json).omit_blanket_impls(true).omit_auto_trait_impls(true).build()?;
        let listing: String = api.items().map(|item| format!("{item}\n")).collect();
        let listed = here.join(file);
        if env::args().nth(1).as_deref() == Some("--update") {
            fs::write(&listed, listing)?;
            continue;
        }
        let before = fs::read_to_string(&listed)?;
        if before != listing {
            eprintln!("The public API is not that of {file}. If that is meant: .ci/run says how to update it.");
            let [before, after] = [&before, &listing].map(|listing| listing.lines().collect::<BTreeSet<_>>());
            before.difference(&after).for_each(|line| eprintln!("- {line}"));
            after.difference(&before).for_each(|line| eprintln!("+ {line}"));
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
