//! A failure of the command is said once: as its error, not as a line of the log as well.

use tempfile::TempDir;

use crate::support::fake::{Fake, http};
use crate::support::process::{jobs_cleanup, text};

#[test]
fn a_failure_is_said_once() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let _broken = Fake::answering(&path("broken.sock"), b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec());
    let _no_json = Fake::answering(&path("no_json.sock"), http("<html>"));
    for (socket, says) in [
        ("none.sock", "its socket does not exist"),
        ("broken.sock", "the connection broke before the answer was whole"),
        ("no_json.sock", "the answer is no JSON-RPC response"),
    ] {
        let output = jobs_cleanup(&path(socket), &["--yes"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{said}");
        assert_eq!(said.matches(says).count(), 1, "{said}");
        assert!(said.starts_with("error: ") && !said.contains("WARN") && !said.contains("ERROR"), "{said}");
    }
}
