//! Bulk cleanup for hero_proc: deletes jobs by tag, and with them the actions that nothing refers to any more, in one
//! transaction on hero_proc's own store.
//!
//! # The path of a request
//!
//! ```text
//! job.cleanup_by_tag params
//!   method    a method's name and params → a request; its report → JSON; its errors → error objects (rpc)
//!   request   what is asked for: a request that exists is valid
//!   cleanup   plan → stop → transaction: lock → decide again → DELETE → COMMIT
//!   plan      which jobs go, which actions go, why the others stay; the plan token  ← the rules, and why no race breaks
//!             them (phase: when a job has finished)
//!   spec      the JSON that jobs, actions and services hold
//!   store     Store → Snapshot, which reads, or Locked, which deletes and commits    ← the only SQL, the only commit
//!   host      what a host lends to every call: guard, control over jobs, cancel
//!   tag       the tags that callers may name: Guard, Tag, codescalers' grammar
//!   report    the report of a call, and the sum of several (batches)
//! ```
//!
//! Beside it: `usage` says what jobs weigh; `reclaim` gives the space that deleted rows leave back to the file system;
//! `inspect` says whether a store fits and what stands in it; `policy` says which calls retention makes, and when; `age`
//! reads spans of time; `openrpc` describes the methods. In front of it, behind features: `client` (typed clients; `gateway`,
//! the same methods for admins; `audit`, each call's line in the log; `page`, the files of the page for admins), `server` (all
//! of them over HTTP on a Unix socket, and the page on loopback), `cli` (the binary).
//!
//! # Where a change begins
//!
//! * A method: `method::Method`. The compiler asks for its names on both sides and its handlers; then `openrpc/`, a typed
//!   call in `client`, a command in `cli`.
//! * A param of a cleanup, such as a filter: `method::Param`, the field of [`Request`] that it sets, the rule at the head of
//!   `plan` with its reason in [`JobsKept`]; `plan::job` if a job's own row decides, `plan::jobs` if other rows do. Then
//!   `client`, `openrpc/`, the flag in `cli`, `docs/rules.md`, and the model and the matrix of the tests.
//! * A column, or another name of one: `store::layout`, which reads the schema; `store::rows`, which reads rows by it;
//!   `inspect` says it, and `docs/store.md`.
//! * A key of a policy: `policy::draft`, which reads it; `policy::call`, which turns rules into params; `policy::digest`; then
//!   `docs/retention.md` and the model in `tests/it/retention`.
//! * A fault that a caller must tell from others: [`StoreError`], [`Error`], [`Kind`], `docs/faults.md`.
//!
//! # What always holds
//!
//! * Nothing is deleted but jobs that carry every tag asked for and the guard's root tag, actions that carry the root
//!   tag and that nothing refers to once those jobs are gone, and what foreign keys on those jobs declare.
//! * An error means that nothing was deleted. There is one commit of a deletion, at its end.
//! * What is deleted was decided under the write lock, or on a snapshot since which nobody else has written.
//! * With an expected plan, exactly what the plan showed is deleted, or nothing.
//! * Every matching job is counted once: `jobs_matched = jobs_planned + the sum of jobs_kept`.
//! * The host's schema and its persistent settings are never changed.
//!
//! # Example
//!
//! ```
//! use hero_proc_cleanup::{CLEANUP_BY_TAG, Guard, Host, Report, call};
//! use rusqlite::Connection;
//! use serde_json::json;
//!
//! // A store in memory, with one job that has finished. For a store in a file, its path is given: see `StoreRef`.
//! let mut store = Connection::open_in_memory()?;
//! store.execute_batch(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/schema/hero_proc.sql")))?;
//! store.execute(
//!     r#"INSERT INTO jobs (action, spec_json, phase, tags)
//!        VALUES ('codescaler_build_1', '{}', 'succeeded', '["codescaler", "codescaler_ana"]')"#,
//!     (),
//! )?;
//!
//! let host = Host::new(Guard::codescaler());
//! let dry_run = json!({ "tags": ["codescaler_ana"], "dry_run": true });
//! let shown = call(CLEANUP_BY_TAG, &dry_run, &mut store, &host, chrono::Utc::now())?;
//! let shown: Report = serde_json::from_str(shown.get())?;
//! assert_eq!((shown.jobs_planned, shown.jobs_deleted), (1, 0));
//!
//! // What was shown goes, or, if it is no longer the same, nothing does.
//! let params = json!({ "tags": ["codescaler_ana"], "expect_plan": shown.plan });
//! let report = call(CLEANUP_BY_TAG, &params, &mut store, &host, chrono::Utc::now())?;
//! let report: Report = serde_json::from_str(report.get())?;
//! assert_eq!(report.job_ids, [1]);
//! assert_eq!(store.query_row("SELECT count(*) FROM jobs", (), |row| row.get::<_, i64>(0))?, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "client")]
mod audit;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client")]
pub mod gateway;
#[cfg(feature = "client")]
pub mod page;

mod method;
pub mod openrpc;
mod rpc;

mod cleanup;
mod inspect;
mod plan;
pub mod policy;
mod reclaim;
mod spec;
mod store;
mod usage;

mod age;
mod batches;
mod host;
mod phase;
mod report;
mod request;
mod tag;

pub use batches::{Batches, Next};
pub use cleanup::{Error, cleanup};
pub use host::{Cancel, ControlError, Host, Job, JobControl};
pub use inspect::{ActionCounts, Inspection, JobCounts, RunCounts, inspect};
pub use method::{CLEANUP_BY_TAG, MAX_LIMIT, METHODS, RECLAIM, USAGE_BY_TAG, call};
pub use phase::TERMINAL as TERMINAL_PHASES;
pub use plan::{PlanToken, PlanTokenError};
pub use reclaim::{ReclaimMethod, ReclaimMode, ReclaimOutcome, ReclaimReason, ReclaimRequest, Reclaimed, reclaim};
pub use report::{JobsKept, KeptAction, Reason, Referrer, Report, StoreSize};
pub use request::{Age, DEFAULT_MAX_IDS, Force, KeepLast, Leaked, Mode, Phases, Request};
pub use rpc::{Kind, RpcError};
pub use store::{StoreError, StoreRef};
pub use tag::{CODESCALER, GrammarError, Guard, GuardError, Tag, TagError, Tags, TagsError, codescaler_tags};
pub use usage::{AgeUsage, ColumnUsage, DayUsage, JobUsage, PhaseUsage, TagUsage, Usage};

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
