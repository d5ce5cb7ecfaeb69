//! The harness: stores with rows, calls of the library, the binary as a process, and a model that decides independently.

use std::io::{Write, stderr};

pub(crate) mod call;
pub(crate) mod fake;
pub(crate) mod layout;
pub(crate) mod model;
pub(crate) mod mounted;
pub(crate) mod process;
pub(crate) mod round;
pub(crate) mod sample;
pub(crate) mod scripted;
pub(crate) mod server;
pub(crate) mod sides;
pub(crate) mod spacious;
pub(crate) mod steps;

/// The user `daemon`, who is not root, and whom every system has.
pub(crate) const DAEMON: u32 = 1;

/// Says that a test is skipped, where it is seen: what tests print with macros is shown only if they fail.
pub(crate) fn skipped(why: &str) {
    stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
}
