//! The harness: a store with rows, calls of the library, the binary as a process, and the model that decides independently.

pub(crate) mod command;
pub(crate) mod model;
pub(crate) mod sample;
pub(crate) mod server;
pub(crate) mod steps;
