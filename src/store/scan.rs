//! Every row of a table, once: by one connection, or by two that share a snapshot.
//!
//! The table is cut into ranges of ids. The rows of a range are gathered into batches, row by row; the batches are taken in the
//! order of the ids, on the thread that asked for them. So every other range can be read by a second connection, on a thread
//! of its own, and whoever takes the batches sees no difference:
//!
//! ```text
//! here     range 0: read, taken │ range 1: taken │ range 2: read, taken │ range 3: taken │ …
//! beside   range 1: read        │ range 3: read                         │ range 5: read  │ …
//! ```
//!
//! Where there is only one core to run on, two threads would take turns: this one reads all ranges.
//!
//! One connection goes through the table from its first row to its last. Each of two looks up where its next range begins, and
//! in a damaged file a look-up may lead astray, past rows that refer to something. So each range is read on to the first row
//! after it: if the next range was found to begin elsewhere, the store is refused. A store whose ids don't ascend is refused
//! as well.

use std::iter::successors;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::{mem, thread};

use rusqlite::{Row, Statement};

use super::StoreError;
use super::connection::Store;
use super::snapshot::Snapshot;

/// A table, and how it is read.
pub(super) struct Table {
    /// The statement for the lowest and the highest id, NULL if the table is empty.
    pub(super) bounds: &'static str,
    /// The statement for the rows from the id ?1 on, ascending, the id first. ?2 may say how much of a row is
    /// wanted.
    pub(super) rows: String,
    /// What ?3 stands for, if there is one.
    pub(super) tag: Option<String>,
}

/// Calls `gather` with each row of `table`, and `take` with each batch of what was gathered, ids ascending, until one of the
/// two fails or the call is cancelled. Asks before each range for the `wanted` of its rows.
pub(super) fn scan<B: Default + Send>(
    snapshot: &Snapshot<'_>,
    table: &Table,
    wanted: impl Fn() -> u8 + Sync,
    gather: impl Fn(&mut B, &Row<'_>) -> Result<(), StoreError> + Sync,
    mut take: impl FnMut(B) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let ranges = if snapshot.second().is_some() { ranges(snapshot, table)? } else { vec![i64::MIN..=i64::MAX] };
    let cancel = snapshot.cancel();
    let gather = |batch: &mut B, row: &Row<'_>| {
        cancel.check()?;
        gather(batch, row)
    };
    thread::scope(|scope| {
        let (hand_over, handed_over) = sync_channel(4);
        let every_other = ranges.iter().skip(1).step_by(2);
        let (wanted, gather) = (&wanted, &gather);
        let beside = snapshot.second().filter(|_| ranges.len() > 1 && cores() > 1).and_then(|second| {
            let hand_over = move |part| hand_over.send(part).is_ok();
            let read = move || read_beside(second, table, every_other, wanted, gather, hand_over);
            thread::Builder::new().spawn_scoped(scope, read).ok()
        });
        let mut here = Reader::new(snapshot.connection(), table)?;
        let mut reached = None;
        for (index, range) in ranges.iter().enumerate() {
            let ends = if beside.is_none() || index % 2 == 0 {
                here.read(range, wanted(), gather, &mut take)?
            } else {
                loop {
                    // The channel closes early only if the thread has panicked, which the scope passes on.
                    let Ok(part) = handed_over.recv() else { return Err(StoreError::damaged()) };
                    match part? {
                        Part::Rows(batch) => take(batch)?,
                        Part::End(ends) => break ends,
                    }
                }
            };
            if index > 0 && ends.first != reached {
                return Err(StoreError::damaged());
            }
            reached = ends.next;
        }
        Ok(())
    })
}

/// The number of threads that can run at a time.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// What the other thread sends.
enum Part<B> {
    Rows(B),
    End(Ends),
}

/// The ids found at the two ends of a range: the first from its beginning on, and the first after its end.
struct Ends {
    first: Option<i64>,
    next: Option<i64>,
}

/// The fewest ids in a range: large rows are few, and each range costs a look-up.
const FEWEST: u64 = 64;

/// The fewest bytes of the store for each range: small rows are many, and ids may lie far apart.
const RANGE_BYTES: u64 = 1024 * 1024;

/// The most rows in a batch.
const BATCH: usize = 1024;

/// The ids of `table`, divided.
fn ranges(snapshot: &Snapshot<'_>, table: &Table) -> Result<Vec<RangeInclusive<i64>>, StoreError> {
    let bounds = snapshot.connection().query_row(table.bounds, (), |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(divide(bounds, snapshot.bytes()?.saturating_sub(snapshot.free_bytes()?) / RANGE_BYTES))
}

/// All ids that there can be, divided between the lowest and the highest that there are, in `most` ranges at most.
fn divide((first, last): (Option<i64>, Option<i64>), most: u64) -> Vec<RangeInclusive<i64>> {
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    let width = FEWEST.max((last.abs_diff(first) / most.max(1)).saturating_add(1));
    let ends = successors(first.checked_add_unsigned(width - 1), |end| end.checked_add_unsigned(width));
    let mut ranges = Vec::new();
    let mut start = i64::MIN;
    for end in ends.take_while(|end| *end < last) {
        ranges.push(start..=end);
        start = end + 1;
    }
    ranges.push(start..=i64::MAX);
    ranges
}

/// Reads `ranges`, and hands over what they hold, or the error that ends the reading; until nobody listens any more.
fn read_beside<'r, B: Default>(
    store: &Mutex<Store<'_>>,
    table: &Table,
    mut ranges: impl Iterator<Item = &'r RangeInclusive<i64>>,
    wanted: impl Fn() -> u8,
    gather: impl Fn(&mut B, &Row<'_>) -> Result<(), StoreError>,
    hand_over: impl Fn(Result<Part<B>, StoreError>) -> bool,
) {
    let store = store.lock().unwrap_or_else(PoisonError::into_inner);
    let hand = |part| if hand_over(Ok(part)) { Ok(()) } else { Err(Over::NobodyListens) };
    let mut read = || {
        let mut reader = Reader::new(store.connection(), table)?;
        ranges.try_for_each(|range| {
            let ends = reader.read(range, wanted(), &gather, |batch| hand(Part::Rows(batch)))?;
            hand(Part::End(ends))
        })
    };
    if let Err(Over::Failed(error)) = read() {
        hand_over(Err(error));
    }
}

/// Why the other thread reads no more.
enum Over {
    NobodyListens,
    Failed(StoreError),
}

impl From<StoreError> for Over {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// One of the connections that read a table.
struct Reader<'c> {
    rows: Statement<'c>,
}

impl<'c> Reader<'c> {
    fn new(connection: &'c rusqlite::Connection, table: &Table) -> Result<Self, StoreError> {
        let mut rows = connection.prepare(&table.rows)?;
        if let Some(tag) = &table.tag {
            rows.raw_bind_parameter(3, tag)?;
        }
        Ok(Self { rows })
    }

    /// Reads the rows of `range`, and has their batches taken.
    fn read<B: Default, E: From<StoreError>>(
        &mut self,
        range: &RangeInclusive<i64>,
        wanted: u8,
        gather: impl Fn(&mut B, &Row<'_>) -> Result<(), StoreError>,
        mut take: impl FnMut(B) -> Result<(), E>,
    ) -> Result<Ends, E> {
        self.rows.raw_bind_parameter(1, range.start()).map_err(StoreError::from)?;
        if self.rows.parameter_count() > 1 {
            self.rows.raw_bind_parameter(2, wanted).map_err(StoreError::from)?;
        }
        let mut rows = self.rows.raw_query();
        let mut ends = Ends { first: None, next: None };
        let (mut batch, mut gathered) = (B::default(), 0);
        let mut before = None;
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            let id = row.get(0).map_err(StoreError::from)?;
            ends.first.get_or_insert(id);
            if before.replace(id) >= Some(id) {
                return Err(StoreError::damaged().into());
            }
            if id > *range.end() {
                ends.next = Some(id);
                break;
            }
            if gathered == BATCH {
                take(mem::take(&mut batch))?;
                gathered = 0;
            }
            gather(&mut batch, row)?;
            gathered += 1;
        }
        take(batch)?;
        Ok(ends)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]
mod tests;
