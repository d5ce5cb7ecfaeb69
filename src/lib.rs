//! Bulk cleanup for hero_proc: deletes jobs by tag, and with them the actions that nothing refers to any more, in one
//! transaction on hero_proc's own store.

mod cleanup;
mod control;
mod method;
mod plan;
mod report;
mod rpc;
mod spec;
mod store;
mod tag;

pub use cleanup::{Error, Force, Host, Mode, Request, cleanup};
pub use control::{ControlError, Job, JobControl};
pub use method::{CLEANUP_BY_TAG, DEFAULT_LIMIT, DEFAULT_MAX_IDS, MAX_LIMIT, MAX_TAGS, cleanup_by_tag};
pub use plan::{PlanToken, PlanTokenError};
pub use report::{JobsKept, KeptAction, Reason, Report};
pub use rpc::{Kind, RpcError};
pub use store::{StoreError, StoreRef};
pub use tag::{CODESCALER, GrammarError, Guard, GuardError, MAX_TAG_BYTES, Tag, TagError, codescaler_tags};
