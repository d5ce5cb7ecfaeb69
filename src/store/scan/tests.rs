//! Tables as one connection and as two read them.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use rusqlite::Connection;

use crate::host::Cancel;
use crate::store::connection::Access;

/// Every id is in one range; those that there are, in as few as may be.
#[test]
fn ranges_leave_nothing_out() {
    let (min, max) = (i64::MIN, i64::MAX);
    for (first, last, most, count) in [
        (1, 1, 9, 1),
        (1, 64, 9, 1),
        (1, 65, 9, 2),
        (1, 65, 1, 1),
        (1, 65, 0, 1),
        (-32, 31, 9, 1),
        (-32, 32, 9, 2),
        (1, 640, 99, 10),
        (1, 640, 9, 9),
        (1, 1 << 40, 9, 9),
        (min, min, 9, 1),
        (min, max, 2, 2),
        (min, max, 4096, 4096),
        (max - 64, max, 9, 2),
        (max, max, 9, 1),
        (0, max, 9, 9),
    ] {
        let ranges = divide((Some(first), Some(last)), most);
        assert_eq!(ranges.len(), count, "{first} to {last}, {most}");
        assert_eq!((ranges[0].start(), ranges[count - 1].end()), (&min, &max));
        assert!(ranges.windows(2).all(|two| two[0].end().checked_add(1) == Some(*two[1].start())));
        assert!(ranges.iter().all(|range| !range.is_empty()));
    }
    assert_eq!(divide((None, None), 9), [min..=max]);
}

/// A store in WAL mode, large enough for four ranges, with a table `t` of these ids.
fn store(directory: &TempDir, ids: &[i64]) -> Store<'static> {
    let path = make(directory, ids);
    Store::open(&path, Access::Read, Duration::ZERO, &Cancel::default()).unwrap()
}

fn make(directory: &TempDir, ids: &[i64]) -> PathBuf {
    let path = directory.path().join("t.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = wal;
             BEGIN;
             CREATE TABLE t (id INTEGER PRIMARY KEY);
             CREATE TABLE large (content);
             INSERT INTO large VALUES (zeroblob(1 << 22))",
        )
        .unwrap();
    connection.execute_batch(include_str!("../../../schema/hero_proc.sql")).unwrap();
    for id in ids {
        connection.execute("INSERT INTO t VALUES (?1)", [id]).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    path
}

/// The ids of `t` as they are taken, batch by batch, and how many threads read them. The one that `fails` is an error.
fn read(snapshot: &Snapshot<'_>, fails: Option<i64>) -> Result<(Vec<Vec<i64>>, usize), StoreError> {
    let table = Table {
        bounds: "SELECT (SELECT min(id) FROM main.t), (SELECT max(id) FROM main.t)",
        rows: "SELECT id FROM main.t WHERE id >= ?1 ORDER BY id".to_owned(),
        tag: None,
    };
    let threads = Mutex::new(HashSet::new());
    let gather = |batch: &mut Vec<i64>, row: &Row<'_>| {
        batch.push(row.get(0)?);
        threads.lock().unwrap().insert(thread::current().id());
        if fails.as_ref() == batch.last() { Err(StoreError::Busy) } else { Ok(()) }
    };
    let mut batches = Vec::new();
    scan(
        snapshot,
        &table,
        || 0,
        gather,
        |batch| {
            batches.push(batch);
            Ok(())
        },
    )?;
    Ok((batches, threads.into_inner().unwrap().len()))
}

#[test]
fn two_connections_read_what_one_reads() {
    let dense: Vec<i64> = (1..=5000).collect();
    let far_apart: Vec<i64> = (-50..50).map(|number| number << 56).collect();
    let two_heaps: Vec<i64> = (0..3000).chain(i64::MAX - 2999..=i64::MAX).collect();
    for (ids, threads) in [(&dense, 2), (&far_apart, 2), (&two_heaps, 2), (&dense[..64].to_vec(), 1), (&Vec::new(), 0)]
    {
        let directory = TempDir::new().unwrap();
        let mut store = store(&directory, ids);
        let one = read(&store.read_alone().unwrap(), None).unwrap();
        let two = read(&store.read().unwrap(), None).unwrap();
        assert_eq!((one.1, two.1), (threads.min(1), threads.min(cores())));
        for (batches, _) in [one, two] {
            assert_eq!(&batches.concat(), ids);
            assert!(batches.iter().all(|batch| batch.len() <= BATCH));
        }
    }
}

/// A store in which the page that leads to those of `t` has been changed. Given are its bytes and where in them each of its
/// entries stands: the number of a page, in four bytes, and the highest id in it, here in two.
fn with_damage(directory: &TempDir, whole: &mut Vec<u8>, damage: impl FnOnce(&mut [u8], &[usize])) -> Store<'static> {
    let path = directory.path().join("t.db");
    if whole.is_empty() {
        make(directory, &(1..=5000).collect::<Vec<_>>());
        *whole = fs::read(&path).unwrap();
    }
    fs::write(&path, &whole).unwrap();
    let root = "SELECT rootpage FROM sqlite_master WHERE name = 't'";
    let root: i64 = Connection::open(&path).unwrap().query_row(root, (), |row| row.get(0)).unwrap();
    let mut bytes = whole.clone();
    let page = &mut bytes[4096 * (usize::try_from(root).unwrap() - 1)..][..4096];
    assert_eq!(page[0], 5, "a page of the kind that leads to others");
    let two_bytes = |at| usize::from(page[at]) << 8 | usize::from(page[at + 1]);
    let entries: Vec<usize> = (0..two_bytes(3)).map(|entry| two_bytes(12 + 2 * entry)).collect();
    damage(page, &entries);
    fs::write(&path, bytes).unwrap();
    Store::open(&path, Access::Read, Duration::ZERO, &Cancel::default()).unwrap()
}

/// A bit that has flipped there sends a look-up astray, and no reading on from the first row.
#[test]
fn a_damaged_table_is_read_as_by_one_or_refused() {
    let (directory, mut whole) = (TempDir::new().unwrap(), Vec::new());
    let (mut same, mut refused) = (0, 0);
    for bit in 0..7 * 16 {
        let mut store = with_damage(&directory, &mut whole, |page, entries| {
            page[entries[bit / 16] + 4 + bit % 16 / 8] ^= 1 << (bit % 8);
        });
        let (one, _) = read(&store.read_alone().unwrap(), None).unwrap();
        match read(&store.read().unwrap(), None) {
            Ok((two, _)) => {
                assert!(one.concat() == two.concat(), "{bit}");
                same += 1;
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Unfit { .. }), "{bit}: {error}");
                refused += 1;
            }
        }
    }
    assert!(same > 0 && refused > 0, "{same} and {refused}");
}

/// One page in the place of another: its rows would be read twice, and the other's not at all.
#[test]
fn ids_that_do_not_ascend_are_refused() {
    let (directory, mut whole) = (TempDir::new().unwrap(), Vec::new());
    for entry in 1..7 {
        for other in [entry - 1, entry + 1] {
            let mut store = with_damage(&directory, &mut whole, |page, entries| {
                page.copy_within(entries[other]..entries[other] + 4, entries[entry]);
            });
            let error = read(&store.read_alone().unwrap(), None).err();
            assert!(matches!(error, Some(StoreError::Unfit { .. })), "{entry} {other}: {error:?}");
        }
    }
}

#[test]
fn whichever_of_the_two_fails_ends_it() {
    let directory = TempDir::new().unwrap();
    let mut store = store(&directory, &(1..=100_000).collect::<Vec<_>>());
    let snapshot = store.read().unwrap();
    for id in [1, 1500, 98_000, 99_000, 100_000] {
        assert!(matches!(read(&snapshot, Some(id)), Err(StoreError::Busy)), "{id}");
    }
    assert_eq!(read(&snapshot, Some(0)).unwrap().1, 2.min(cores()), "both can still read");
}
