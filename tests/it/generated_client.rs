//! The clients that OpenRPC's own generator makes of both documents, compiled, and run against the real servers.
//!
//! The long form is the only one, since npm fetches the generator:
//! `cargo test --test it generated_client:: -- --ignored`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::support::process::text;
use crate::support::sample::Sample;
use crate::support::server::Server;

/// The program `name` of npm's, in `directory`.
#[track_caller]
fn run(directory: &Path, name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).current_dir(directory).output().unwrap();
    let told = text(&output.stdout);
    assert!(output.status.success(), "{name} {arguments:?}: {told}{}", text(&output.stderr));
    told.to_owned()
}

/// What the generator has made of a document, without the two faults that no document of methods with a dot and of params
/// by name can avoid.
fn mended(source: &str) -> String {
    // It takes a method's name for a name in TypeScript.
    let line = |line: &str| match line.strip_prefix("  public ").and_then(|rest| rest.split_once(": ")) {
        Some((method, rest)) if method.contains('.') => format!("  public \"{method}\": {rest}\n"),
        _ => format!("{line}\n"),
    };
    // It looks for params by their names among params by position.
    let unnamed = "this.validator.validate(methodName, params)";
    let named = "this.validator.validate(methodName, _.zipObject(_.map(methodObject.params, \"name\"), params) as any)";
    assert!(source.contains(unnamed), "{source}");
    source.replace(unnamed, named).lines().map(line).collect()
}

#[test]
#[ignore = "npm fetches the generator"]
fn clients_of_the_generator_of_openrpc_work() {
    let home = TempDir::new().unwrap();
    let path = |name: &str| home.path().join(name);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let install = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps"];
    fs::write(path("package.json"), "{}").unwrap();
    run(home.path(), "npm", &[&install[..], &["@open-rpc/generator@1.22.3"]].concat());
    let sources = path("hero_proc/client/typescript/src");
    for side in ["hero_proc", "codescalers"] {
        let document = here.join(format!("openrpc/{side}.json"));
        let client = json!({ "type": "client", "name": side, "language": "typescript" });
        let config = json!({ "openrpcDocument": document, "outDir": path(side), "components": [client] });
        fs::write(path("config.json"), config.to_string()).unwrap();
        run(home.path(), "npx", &["open-rpc-generator", "generate", "-c", "config.json"]);
        let source = fs::read_to_string(path(side).join("client/typescript/src/index.ts")).unwrap();
        // Types are named by titles; those of schemas without one would be hashes.
        assert!(source.contains("export type ReportJobsDeleted = number;"), "{source}");
        fs::write(sources.join(format!("{side}.ts")), mended(&source)).unwrap();
    }
    fs::remove_file(sources.join("index.ts")).unwrap();
    fs::copy(here.join("tests/it/generated_client.ts"), sources.join("use.ts")).unwrap();
    let client = path("hero_proc/client/typescript");
    // The generator's own choice of TypeScript is too old for the types of Node.
    run(&client, "npm", &[&install[..], &["typescript@5", "@types/node@22"]].concat());
    run(&client, "npx", &["tsc", "--skipLibCheck"]);

    let sample = Sample::new();
    let store = Server::serve(&sample.path, &path("store.sock"));
    let gateway = Server::gateway(&path("gateway.sock"), &store.socket, &[]);
    let sockets = [&store.socket, &gateway.socket].map(|socket| socket.to_str().unwrap());
    assert_eq!(run(&client, "node", &["build/use.js", sockets[0], sockets[1]]), "holds\n");
}
