//! The weight of each column of a job, whatever the columns are called.

use rusqlite::Row;

use super::StoreError;
use super::rows::{self, JobRow};
use super::scan::scan;
use super::snapshot::Snapshot;

/// The bytes of text and blobs in each column of one row, in the order of [`Snapshot::weighed_columns`].
pub(crate) struct Weights<'r> {
    row: &'r Row<'r>,
    count: usize,
}

impl Weights<'_> {
    pub(crate) fn each(&self) -> impl Iterator<Item = u64> {
        let results = self.row.as_ref().column_count();
        (results - self.count..results).map(|index| {
            let bytes = self.row.get_ref(index).ok().and_then(|bytes| bytes.as_i64().ok());
            bytes.map_or(0, i64::unsigned_abs)
        })
    }
}

impl Snapshot<'_> {
    /// The columns of `jobs` that have a weight, in the order of the table.
    pub(crate) fn weighed_columns(&self) -> impl Iterator<Item = &str> {
        self.layout().jobs.weights.iter().map(|weight| weight.column.as_str())
    }

    /// Calls `gather` with each job and its weights, and `take` with each batch, as [`jobs`](Self::jobs) does.
    pub(crate) fn weighed_jobs<B: Default + Send>(
        &self,
        gather: impl Fn(&mut B, JobRow<'_>, Weights<'_>) -> Result<(), StoreError> + Sync,
        take: impl FnMut(B) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let layout = self.layout();
        let count = layout.jobs.weights.len();
        let gather = |batch: &mut B, row: &Row<'_>| gather(batch, JobRow::read(row, layout), Weights { row, count });
        // The sum of the weights, which a decision asks for, is not wanted.
        scan(self, &rows::sql::weighed_jobs(layout), || 0, gather, take)
    }
}
