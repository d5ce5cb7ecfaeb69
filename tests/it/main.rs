//! The tests against real stores, real sockets and the real binary.

mod cli;
mod command;
mod terminal;
