//! The rows of the table: what is measured, against what.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hero_proc_cleanup::client::{CleanupByTagParams, Client};
use hero_proc_cleanup::server::{Listener, Service, run};
use hero_proc_cleanup::{CLEANUP_BY_TAG, Guard, Host, Report};
use rusqlite::{Connection, TransactionBehavior};
use serde_json::{Value, json};
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::stores::{Like, OPEN, Stores};
use crate::{april, heavy, retention, space, usage, week};

/// One row: `run` gives the figure of the work and the one that it is held against.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) jobs: usize,
    pub(crate) run: fn(&Stores, usize) -> (f64, f64),
    pub(crate) goal: f64,
    pub(crate) at_least: bool,
}

/// Every row, on stores of as many jobs as `size` makes of its own number, or of `heavy_jobs`; each name once.
pub(crate) fn all(size: impl Fn(usize) -> usize, heavy_jobs: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut row = |name: &str, jobs, goal, at_least, run| {
        let jobs = if name.starts_with("heavy") || name.starts_with("migrated") { heavy_jobs } else { size(jobs) };
        let size = match jobs {
            1_000_000 => "1M".to_owned(),
            0..1000 => jobs.to_string(),
            _ => format!("{}k", jobs / 1000),
        };
        let name = format!("{name}, {size}");
        if rows.iter().all(|row| row.name != name) {
            rows.push(Row { name, jobs, run, goal, at_least });
        }
    };
    row("April's way | all through the socket, ms", 100_000, 20.0, true, against_april);
    row("the library | the floor, ms", 100_000, 1.25, false, total);
    for jobs in [100_000, 1_000_000] {
        row("lock held | the floor, ms", jobs, 1.10, false, lock_quiet);
        row("lock held, others wrote since | the floor, ms", jobs, 1.10, false, lock_busy);
    }
    // The store is read again beside the deletion, by two connections: see docs/scale.md.
    row("lock held, others wrote, 50k a call | the floor, ms", 1_000_000, 2.0, false, lock_busy_default_limit);
    for jobs in [100_000, 1_000_000] {
        row("µs for each job | at 10k", jobs, 2.5, false, each_job);
    }
    row("lock_ms and what another connection sees, ms", 100_000, 1.1, false, lock_seen);
    row("the same, undone and done again, ms", 100_000, 1.1, false, undone_lock_seen);
    row("duration_ms and what the caller's clock says, ms", 100_000, 1.1, false, duration_seen);
    row("worst wait of a writer beside a cleanup | its lock, ms", 100_000, 1.2, false, writer_beside_cleanup);
    row("a writer's p99 beside a dry run | alone, ms", 1_000_000, 1.5, false, writer_beside_dry_run);
    row("dry run | a bare scan, ms", 1_000_000, 4.0, false, dry_run);
    row("dry run, limit 1M | a bare scan, ms", 1_000_000, 4.0, false, dry_run_whole);
    row("three narrow tags, 12 jobs | a bare scan, ms", 100_000, 1.5, false, narrow);
    row("without indexes | with, ms", 100_000, 2.0, false, without_indexes);
    row("tags in the spec | in the column, ms", 100_000, 3.0, false, tags_in_spec);
    row("usage | a bare scan of what it reads, ms", 1_000_000, 1.3, false, usage::against_scan);
    row("peak memory of usage, 1M values | 100 MB", 1_000_000, 1.0, false, usage::memory);
    row("peak memory of a dry run, limit 1M | 100 MB", 1_000_000, 1.0, false, dry_run_memory);
    row("peak memory of a cleanup, all ids | 250 MB", 1_000_000, 1.0, false, cleanup_memory);
    // Each batch reads the store again under the lock, also the first ones, which are small: they find the size.
    row("a backlog worked off by a policy | 2 % of the floor, s", 1_000_000, 5.0, false, retention::backlog);
    row("worst wait of a writer beside a policy | longest lock, ms", 1_000_000, 1.1, false, retention::worst_wait);
    row("a writer's p95 beside a policy | alone, ms", 100_000, 2.0, false, retention::writer);
    row("a writer's p95 beside a batch of it | alone, ms", 1_000_000, 2.0, false, retention::writer_beside_a_batch);
    row("file, a week by a policy: later half | once level, MB", 10_080, 1.2, false, week::size);
    row("giving space back | VACUUM and checkpoint, ms", space::JOBS, 1.15, false, space::against_vacuum);
    row("file and WAL after it | what is live, MB", space::JOBS, 1.5, false, space::file);
    row("locks of a cleanup and of giving space back | 400 ms", space::JOBS, 1.0, false, space::both_locks);
    row("lock of giving space back, jobs of 145 KB | within_ms", 4_000, 1.25, false, space::lock_of_large_rows);
    row("lock of giving space back, jobs of 1 KB | within_ms", 100_000, 1.25, false, space::lock_of_rows);
    row("lock of giving space back, many indexes | within_ms", 100_000, 1.25, false, space::lock_of_many_indexes);
    row("lock of giving space back, a journal | within_ms", 100_000, 1.25, false, space::lock_with_a_journal);
    row("too little is free, in ms | 10 ms", 4_000, 1.0, false, space::skip);
    row("worst wait of a writer beside it | within_ms", 4_000, 1.25, false, space::writer_beside_it);
    row("one core: three narrow tags | a bare scan, ms", 100_000, 2.0, false, narrow_on_one_core);
    row("one core: dry run, limit 1M | a bare scan, ms", 1_000_000, 4.0, false, dry_run_on_one_core);
    row("one core: dry run, limit 1M | its columns, ms", 1_000_000, 1.5, false, dry_run_and_its_columns);
    row("bytes_planned: a dry run with | without, ms", 1_000_000, 1.1, false, heavy::light_bytes_planned);
    // Every row is read again, whatever the limit: ten times the rows take ten times as long, and no longer than that.
    row("lock, others wrote, 1k a call, of 1M | of 100k, ms", 1_000_000, 10.0, false, lock_of_a_small_call);
    row("heavy: dry run | scans, ms", 0, 0.8, false, heavy::dry_run);
    row("heavy: dry run, a cut-off | scans, ms", 0, 0.55, false, heavy::dry_run_with_a_cutoff);
    row("heavy: dry run of one actor, a cut-off | scans, ms", 0, 0.55, false, heavy::dry_run_of_an_actor);
    row("heavy: dry run, cold cache | scans, ms", 0, 1.0, false, heavy::cold_dry_run);
    row("heavy: bytes_planned: a dry run with | without, ms", 0, 1.1, false, heavy::bytes_planned);
    row("heavy: peak memory of a dry run | 100 MB", 0, 1.0, false, heavy::memory);
    row("heavy: lock beside a writer | alone, scans, ms", 0, 1.2, false, heavy::lock);
    row("heavy: the same, no indexes | alone, scans, ms", 0, 1.2, false, heavy::lock_without_indexes);
    row("heavy: that writer's worst wait | lock_ms, ms", 0, 1.1, false, heavy::writers_worst_wait);
    row("migrated: dry run | scans, ms", 0, 0.8, false, heavy::migrated_dry_run);
    row("migrated: dry run, a cut-off | scans, ms", 0, 0.8, false, heavy::migrated_dry_run_with_a_cutoff);
    row("migrated: lock beside a writer | alone, scans, ms", 0, 1.2, false, heavy::migrated_lock);
    row("migrated: the same, no indexes | alone, scans, ms", 0, 1.2, false, heavy::migrated_lock_without_indexes);
    rows
}

pub(crate) const ALL: usize = 1_000_000;

fn params(dry_run: bool, limit: usize) -> Value {
    json!({ "tags": ["codescaler"], "dry_run": dry_run, "limit": limit, "max_ids": ALL })
}

pub(crate) fn call(store: &Path, params: &Value) -> Report {
    let host = Host::new(Guard::codescaler());
    let report = hero_proc_cleanup::call(CLEANUP_BY_TAG, params, store, &host, chrono::Utc::now()).unwrap();
    serde_json::from_str(report.get()).unwrap()
}

pub(crate) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn against_april(stores: &Stores, jobs: usize) -> (f64, f64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (store, socket) = (stores.copy_of(jobs, Like::Newest), stores.socket());
    let started = Instant::now();
    let (deleted, _) = runtime.block_on(april::clean(&store, &socket));
    let april = milliseconds(started);

    let (store, socket) = (stores.copy_of(jobs, Like::Newest), stores.socket());
    let ours = runtime.block_on(async {
        let service = Service::cleanup_by_tag(store, Host::new(Guard::codescaler()));
        let listener = Listener::bind(&socket).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(run(listener, service, async { drop(stopped.await) }));
        let mut params = CleanupByTagParams::new(["codescaler"]);
        params.options.limit = Some(ALL);
        let started = Instant::now();
        let report = Client::new(&socket).cleanup_by_tag(&params).await.unwrap();
        let elapsed = milliseconds(started);
        assert_eq!(report.jobs_deleted, deleted as u64, "the same jobs");
        drop(stop);
        server.await.unwrap().unwrap();
        elapsed
    });
    (april, ours)
}

/// The bare deletion of what a dry run names: how long the lock is held, and how long it takes with the checkpoint.
pub(crate) fn floor(store: &Path, limit: usize) -> (f64, f64) {
    let plan = call(store, &params(true, limit));
    let mut connection = Connection::open(store).unwrap();
    connection
        .execute_batch(
            "PRAGMA foreign_keys = off; PRAGMA synchronous = normal; PRAGMA wal_autocheckpoint = 0;
             PRAGMA temp_store = memory; PRAGMA cache_size = -64000;
             CREATE TEMP TABLE doomed_jobs (id INTEGER PRIMARY KEY);
             CREATE TEMP TABLE doomed_actions (id INTEGER PRIMARY KEY);
             BEGIN",
        )
        .unwrap();
    {
        let mut insert = connection.prepare("INSERT INTO temp.doomed_jobs VALUES (?1)").unwrap();
        for id in &plan.job_ids {
            insert.execute([id]).unwrap();
        }
        let mut insert = connection
            .prepare("INSERT INTO temp.doomed_actions SELECT id FROM actions WHERE context_name = 'core' AND name = ?1")
            .unwrap();
        for name in &plan.action_ids {
            insert.execute([name]).unwrap();
        }
    }
    connection.execute_batch("COMMIT").unwrap();
    write(store);
    let started = Instant::now();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    transaction.execute("DELETE FROM jobs WHERE id IN (SELECT id FROM temp.doomed_jobs)", ()).unwrap();
    transaction.execute("DELETE FROM actions WHERE id IN (SELECT id FROM temp.doomed_actions)", ()).unwrap();
    transaction.commit().unwrap();
    let lock = milliseconds(started);
    for mode in ["PASSIVE", "TRUNCATE"] {
        connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), (), |_| Ok(())).unwrap();
    }
    (lock, milliseconds(started))
}

const WRITE: &str = "INSERT INTO runs (phase) VALUES ('x')";

fn write(store: &Path) {
    execute(store, WRITE);
}

/// By a connection that stays open as long as the store is there, as hero_proc's does.
fn execute(store: &Path, sql: &str) {
    let connection = Connection::open(store).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    connection.execute(sql, ()).unwrap();
    OPEN.lock().unwrap().push(connection);
}

fn total(stores: &Stores, jobs: usize) -> (f64, f64) {
    let floor = floor(&stores.copy_of(jobs, Like::Newest), ALL).1;
    let store = stores.copy_of(jobs, Like::Newest);
    write(&store);
    (call(&store, &params(false, ALL)).duration_ms, floor)
}

fn lock_quiet(stores: &Stores, jobs: usize) -> (f64, f64) {
    let floor = floor(&stores.copy_of(jobs, Like::Newest), ALL).0;
    let store = stores.copy_of(jobs, Like::Newest);
    write(&store);
    (call(&store, &params(false, ALL)).lock_ms, floor)
}

fn lock_busy(stores: &Stores, jobs: usize) -> (f64, f64) {
    (locked_after_a_write(stores, jobs, ALL), floor(&stores.copy_of(jobs, Like::Newest), ALL).0)
}

fn lock_busy_default_limit(stores: &Stores, jobs: usize) -> (f64, f64) {
    (locked_after_a_write(stores, jobs, 50_000), floor(&stores.copy_of(jobs, Like::Newest), 50_000).0)
}

fn locked_after_a_write(stores: &Stores, jobs: usize, limit: usize) -> f64 {
    let store = stores.copy_of(jobs, Like::Newest);
    write(&store);
    let writes = tracing_subscriber::registry().with(BeforeLock { store: store.clone(), sql: WRITE });
    tracing::subscriber::with_default(writes, || call(&store, &params(false, limit))).lock_ms
}

/// Another connection executes `sql` between plan and lock.
struct BeforeLock {
    store: PathBuf,
    sql: &'static str,
}

impl<S: tracing::Subscriber> Layer<S> for BeforeLock {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "lock" {
            execute(&self.store, self.sql);
        }
    }
}

fn each_job(stores: &Stores, jobs: usize) -> (f64, f64) {
    let each = |jobs| {
        let store = stores.copy_of(jobs, Like::Newest);
        write(&store);
        let report = call(&store, &params(false, ALL));
        report.duration_ms * 1000.0 / report.jobs_deleted as f64
    };
    (each(jobs), each(10_000))
}

/// How long each of a writer's inserts takes, one every 5 ms, while `work` runs.
///
/// While the store is locked, the writer tries again every millisecond, so that its wait is that for the lock. SQLite's own
/// busy timeout tries after 1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, and then every 100 ms: of a lock of 100 ms, such a
/// writer hears up to 25 ms late.
pub(crate) fn waits(store: &Path, work: impl FnOnce()) -> Vec<f64> {
    let (done, waits) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = Connection::open(store).unwrap();
            let again = |_| {
                thread::sleep(Duration::from_millis(1));
                true
            };
            connection.busy_handler(Some(again)).unwrap();
            connection.execute_batch("PRAGMA synchronous = normal").unwrap();
            let mut insert = connection.prepare("INSERT INTO runs (phase) VALUES ('beside')").unwrap();
            while !done.load(Ordering::Relaxed) {
                let started = Instant::now();
                insert.execute(()).unwrap();
                waits.lock().unwrap().push(milliseconds(started));
                thread::sleep(Duration::from_millis(5));
            }
        });
        work();
        done.store(true, Ordering::Relaxed);
    });
    let mut waits = waits.into_inner().unwrap();
    waits.sort_by(f64::total_cmp);
    waits
}

/// For how long another connection can't have the write lock, and what the report says of it: the larger first.
fn lock_seen(stores: &Stores, jobs: usize) -> (f64, f64) {
    let store = stores.copy_of(jobs, Like::Newest);
    write(&store);
    observed(&store, || call(&store, &params(false, ALL)).lock_ms)
}

/// The same, where a planned job is started again between plan and lock: all is undone once it has been decided again.
fn undone_lock_seen(stores: &Stores, jobs: usize) -> (f64, f64) {
    let store = stores.copy_of(jobs, Like::Newest);
    write(&store);
    let last =
        "UPDATE jobs SET phase = 'running' WHERE id = (SELECT max(id) FROM jobs WHERE phase = 'succeeded' AND id % 2)";
    let restarts = tracing_subscriber::registry().with(BeforeLock { store: store.clone(), sql: last });
    observed(&store, || tracing::subscriber::with_default(restarts, || call(&store, &params(false, ALL))).lock_ms)
}

fn observed(store: &Path, lock_ms: impl FnOnce() -> f64) -> (f64, f64) {
    let done = AtomicBool::new(false);
    let (said, seen) = thread::scope(|scope| {
        let observer = scope.spawn(|| {
            let connection = Connection::open(store).unwrap();
            connection.busy_timeout(Duration::ZERO).unwrap();
            let (mut refused_since, mut seen) = (None, 0.0);
            while !done.load(Ordering::Relaxed) {
                match connection.execute_batch("BEGIN IMMEDIATE") {
                    Ok(()) => {
                        seen += refused_since.take().map_or(0.0, milliseconds);
                        connection.execute_batch("ROLLBACK").unwrap();
                    }
                    Err(_) => _ = refused_since.get_or_insert_with(Instant::now),
                }
            }
            seen
        });
        let said = lock_ms();
        done.store(true, Ordering::Relaxed);
        (said, observer.join().unwrap())
    });
    (said.max(seen), said.min(seen))
}

fn duration_seen(stores: &Stores, jobs: usize) -> (f64, f64) {
    let store = stores.copy_of(jobs, Like::Newest);
    write(&store);
    let started = Instant::now();
    let said = call(&store, &params(false, ALL)).duration_ms;
    let seen = milliseconds(started);
    (said.max(seen), said.min(seen))
}

fn writer_beside_cleanup(stores: &Stores, jobs: usize) -> (f64, f64) {
    let store = stores.copy_of(jobs, Like::Newest);
    let mut lock = 0.0;
    let waits = waits(&store, || lock = call(&store, &params(false, ALL)).lock_ms);
    (waits[waits.len() - 1], lock)
}

/// One dry run, and the writer alone for as long. Dry runs without pause are another matter, as any readers are: a snapshot
/// that is held when the writer's WAL is due for a checkpoint holds that up, and the writer tries it again with each commit.
fn writer_beside_dry_run(stores: &Stores, jobs: usize) -> (f64, f64) {
    let p99 = |waits: Vec<f64>| waits[waits.len() * 99 / 100];
    let store = stores.copy_of(jobs, Like::Newest);
    let mut time = Duration::ZERO;
    let beside = p99(waits(&store, || {
        let started = Instant::now();
        call(&store, &params(true, ALL));
        time = started.elapsed();
    }));
    let store = stores.copy_of(jobs, Like::Newest);
    let alone = p99(waits(&store, || thread::sleep(time)));
    (beside, alone)
}

/// The id and the tags of every job, taken row by row, with SQLite's own settings.
fn bare_scan(store: &Path) -> f64 {
    let connection = Connection::open(store).unwrap();
    let started = Instant::now();
    let mut scan = connection.prepare("SELECT id, tags FROM jobs NOT INDEXED").unwrap();
    let mut rows = scan.query(()).unwrap();
    let mut sum = 0;
    while let Some(row) = rows.next().unwrap() {
        sum += row.get_ref(0).unwrap().as_i64().unwrap() + row.get_ref(1).unwrap().as_bytes().unwrap().len() as i64;
    }
    assert!(sum > 0);
    milliseconds(started)
}

fn against_scan(stores: &Stores, jobs: usize, params: &Value) -> (f64, f64) {
    let store = stores.of(jobs, Like::Newest);
    bare_scan(&store);
    (call(&store, params).duration_ms, bare_scan(&store))
}

fn dry_run(stores: &Stores, jobs: usize) -> (f64, f64) {
    against_scan(stores, jobs, &params(true, 50_000))
}

fn dry_run_whole(stores: &Stores, jobs: usize) -> (f64, f64) {
    against_scan(stores, jobs, &params(true, ALL))
}

fn narrow(stores: &Stores, jobs: usize) -> (f64, f64) {
    let tags = ["codescaler_eve", "codescaler_kind_rare", "codescaler_target_one"];
    against_scan(stores, jobs, &json!({ "tags": tags, "dry_run": true }))
}

fn narrow_on_one_core(stores: &Stores, jobs: usize) -> (f64, f64) {
    heavy::pinned(|| narrow(stores, jobs))
}

fn dry_run_on_one_core(stores: &Stores, jobs: usize) -> (f64, f64) {
    heavy::pinned(|| dry_run_whole(stores, jobs))
}

/// Against reading the columns that it looks at, row by row and with SQLite's own settings.
fn dry_run_and_its_columns(stores: &Stores, jobs: usize) -> (f64, f64) {
    heavy::pinned(|| {
        let store = stores.of(jobs, Like::Newest);
        usage::bare_scan(&store);
        let ours = call(&store, &params(true, ALL)).duration_ms;
        let started = Instant::now();
        usage::bare_scan(&store);
        (ours, milliseconds(started))
    })
}

/// A thousand jobs a call, whose deletion takes next to nothing: what is measured is reading the store again under the lock.
fn lock_of_a_small_call(stores: &Stores, jobs: usize) -> (f64, f64) {
    let small = if jobs > 100_000 { 100_000 } else { jobs };
    (locked_after_a_write(stores, jobs, 1000), locked_after_a_write(stores, small, 1000))
}

fn without_indexes(stores: &Stores, jobs: usize) -> (f64, f64) {
    let [without, with] = [Like::WithoutIndexes, Like::Newest].map(|like| {
        let store = stores.copy_of(jobs, like);
        call(&store, &params(false, ALL)).duration_ms
    });
    (without, with)
}

fn tags_in_spec(stores: &Stores, jobs: usize) -> (f64, f64) {
    let [spec, column] =
        [Like::TagsInSpec, Like::Newest].map(|like| call(&stores.of(jobs, like), &params(true, ALL)).duration_ms);
    (spec, column)
}

fn dry_run_memory(stores: &Stores, jobs: usize) -> (f64, f64) {
    (peak_memory(&stores.of(jobs, Like::Newest), "dry-run"), 100.0)
}

fn cleanup_memory(stores: &Stores, jobs: usize) -> (f64, f64) {
    (peak_memory(&stores.copy_of(jobs, Like::Newest), "cleanup"), 250.0)
}

/// In MB, of a process that does nothing else.
pub(crate) fn peak_memory(store: &Path, mode: &str) -> f64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.arg("--memory-of").arg(store).arg("--mode").arg(mode).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// One call, its report written out as JSON, and the process's peak memory on stdout, in MB.
pub(crate) fn memory_of(store: &Path, mode: &str) -> ExitCode {
    let bytes = match mode {
        "usage" => usage::call(store).get().len(),
        mode => serde_json::to_vec(&call(store, &params(mode == "dry-run", ALL))).unwrap().len(),
    };
    assert!(bytes > 0);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
    println!("{:.1}", peak.trim().parse::<f64>().unwrap() / 1024.0);
    ExitCode::SUCCESS
}
