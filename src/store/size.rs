//! The space that a store takes up.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::connection::wal_of;
use super::snapshot::Snapshot;

/// The space that a store takes up, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoreSize {
    /// The size of the store's file; of a store in memory, the size of its pages.
    pub file_bytes: u64,
    /// The size of the write-ahead log beside the file; 0 where there is none.
    pub wal_bytes: u64,
    /// The size of the pages that hold nothing.
    pub free_bytes: u64,
}

impl Snapshot<'_> {
    /// The space that the store takes up.
    pub(crate) fn size(&self) -> Result<StoreSize, StoreError> {
        let free_bytes = self.free_bytes()?;
        let file = self.connection().path().filter(|path| !path.is_empty()).map(Path::new);
        let length = |path: &Path| fs::metadata(path).ok().map(|file| file.len());
        let file_bytes = match file.and_then(length) {
            Some(bytes) => bytes,
            None => self.bytes()?,
        };
        let wal_bytes = file.and_then(|file| length(&wal_of(file))).unwrap_or_default();
        Ok(StoreSize { file_bytes, wal_bytes, free_bytes })
    }
}
