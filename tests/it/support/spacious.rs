//! Stores with much space in them that nothing uses.

use hero_proc_cleanup::{ReclaimRequest, Reclaimed, StoreError, StoreRef, reclaim};
use rusqlite::Connection;

use crate::support::call::host;
use crate::support::sample::{SCHEMA, Sample};

/// A store in which most jobs were deleted: of `jobs` with about `bytes` each, every tenth is left.
pub(crate) fn spacious(journal: &str, auto_vacuum: &str, page_size: u32, jobs: u32, bytes: u32) -> Sample {
    let sample = Sample::with_schema("");
    sample.execute(&format!(
        "PRAGMA journal_mode = delete;
         PRAGMA synchronous = off;
         PRAGMA page_size = {page_size};
         PRAGMA auto_vacuum = {auto_vacuum};
         VACUUM;
         PRAGMA user_version = 7;
         PRAGMA application_id = 9;
         {SCHEMA}"
    ));
    fill(&sample.open(), jobs, bytes);
    sample.journal(journal);
    sample
}

/// Puts `jobs` with about `bytes` each into a store, and deletes all but every tenth.
pub(crate) fn fill(store: &Connection, jobs: u32, bytes: u32) {
    store
        .execute_batch(&format!(
            r#"PRAGMA synchronous = off;
               BEGIN;
               WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {jobs})
               INSERT INTO jobs (action, spec_json, stderr, phase, tags)
               SELECT 'action_' || i, '{{}}', hex(randomblob({bytes} / 2)), 'done', '["codescaler"]' FROM n;
               INSERT OR REPLACE INTO secrets (name, value) VALUES ('key', x'00ff'), ('other', 'text');
               DELETE FROM jobs WHERE id % 10;
               COMMIT"#
        ))
        .unwrap();
}

/// A request that gives space back in any case.
pub(crate) fn always() -> ReclaimRequest {
    let mut request = ReclaimRequest::default();
    (request.min_free_percent, request.min_free_bytes) = (0, 0);
    request
}

/// Gives space back in any case, for a host of no peculiarities.
pub(crate) fn reclaim_all<'s>(store: impl Into<StoreRef<'s>>) -> Result<Reclaimed, StoreError> {
    reclaim(store, &host(), &always())
}

/// Every row and what the schema says, whatever the order in which the schema says it.
pub(crate) fn content(sample: &Sample) -> Vec<String> {
    let mut lines: Vec<String> = sample.dump().lines().map(ToOwned::to_owned).collect();
    lines.sort_unstable();
    lines
}
