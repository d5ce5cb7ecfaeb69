//! A server in codescalers' shape that has mounted `jobs.cleanup` behind its own `require_admin`, and a call of it all the
//! way to hero_proc's store.
//!
//! ```text
//! cargo run --example codescalers
//! ```
#![expect(clippy::print_stdout, reason = "it tells people what it does")]

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Extension, State};
use axum::routing::post;
use axum::serve::IncomingStream;
use axum::{Json, Router};
use hero_proc_cleanup::client::{Client, JobsCleanupParams, Options};
use hero_proc_cleanup::gateway::{AdminGate, Caller, Forwarder, JOBS_CLEANUP};
use hero_proc_cleanup::server::{self, Listener, Service};
use hero_proc_cleanup::{Guard, Kind, codescaler_tags};
use rusqlite::{Connection, named_params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

fn main() {}
