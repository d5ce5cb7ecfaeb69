//! All integration tests, in one binary: real SQLite files, real sockets, the real binary.
#![expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]

mod admission;
mod audit;
mod bad_input;
mod bytes;
mod cli;
mod clients;
mod dependencies;
mod docs;
mod examples;
mod faults;
mod files;
mod force;
mod foreign_keys;
mod gateway;
mod health;
mod help;
mod hostile;
mod interleavings;
mod io_faults;
mod jsonrpc;
mod kill;
mod matrix;
mod openrpc;
mod printable;
mod property;
mod question;
mod races;
mod readme;
mod room;
mod rows;
mod schemas;
mod secure_delete;
mod soak;
// It hears what SQLite is told through what newer ones of the range have.
#[cfg(not(oldest_rusqlite))]
mod statements;
mod stopping;
mod store;
mod support;
mod terminal;
mod token;
mod told;
mod transport;
mod triggers;
