//! All integration tests, in one binary: real SQLite files, real sockets, the real binary.
#![expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]

mod bad_input;
mod cli;
mod command;
mod gateway;
mod model;
mod openrpc;
mod property;
mod sample;
mod server;
mod terminal;
mod transport;
