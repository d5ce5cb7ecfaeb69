//! The host's scheduler: a tick that takes the store, writes a row for each job that runs, and starts those that wait.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, named_params};
use tokio::time::{MissedTickBehavior, interval};

use crate::children::{lock, now_ms};
use crate::server::Server;

/// From tick to tick.
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// Children at once; further jobs wait.
pub(crate) const MOST_CHILDREN: usize = 4;
/// How often the mutex is tried while it is measured.
const TRY: Duration = Duration::from_millis(1);

/// The ticks so far.
#[derive(Default)]
pub(crate) struct Ticks {
    count: AtomicU64,
    failed: AtomicU64,
    gaps: Mutex<Gaps>,
}

#[derive(Default)]
struct Gaps {
    last: Option<Instant>,
    longest: Duration,
}

/// Ticks for ever. A tick blocks the thread that it is on, as hero_proc's does.
pub(crate) async fn run(server: Arc<Server>, ticks: Arc<Ticks>) {
    let mut interval = interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        interval.tick().await;
        if let Err(error) = tick(&server, number) {
            tracing::warn!(%error, "a tick failed");
            ticks.failed.fetch_add(1, Ordering::Relaxed);
        }
        ticks.count.fetch_add(1, Ordering::Relaxed);
        lock(&ticks.gaps).tick(Instant::now());
    }
}

fn tick(server: &Server, number: u64) -> rusqlite::Result<()> {
    let store = lock(&server.store);
    let running = server.children.running();
    let mut write = store.prepare("UPDATE jobs SET stats_json = :stats WHERE id = :id")?;
    for id in &running {
        write.execute(named_params! { ":stats": format!(r#"{{"tick":{number}}}"#), ":id": id })?;
    }
    start_pending(server, &store, MOST_CHILDREN.saturating_sub(running.len()))
}

/// Starts at most `places` of the jobs that wait. The store is held all the while: see [`Children::start`].
///
/// [`Children::start`]: crate::children::Children::start
fn start_pending(server: &Server, store: &Connection, places: usize) -> rusqlite::Result<()> {
    let pending: Vec<(i64, Option<String>)> = store
        .prepare("SELECT id, script FROM jobs WHERE phase = 'pending' ORDER BY id LIMIT :places")?
        .query_map(named_params! { ":places": places as i64 }, |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (id, script) in pending {
        // The row first: it may have been deleted on another connection, and then nothing is to be started.
        let claimed = store.execute(
            "UPDATE jobs
             SET phase = 'running', attempt = attempt + 1, started_at_ms = :now
             WHERE id = :id AND phase = 'pending'",
            named_params! { ":id": id, ":now": now_ms() },
        )?;
        if claimed == 0 {
            continue;
        }
        match server.children.start(id, script.as_deref().unwrap_or_default()) {
            Ok(pid) => {
                store.execute("UPDATE jobs SET pid = :pid WHERE id = :id", named_params! { ":pid": pid, ":id": id })?
            }
            Err(error) => store.execute(
                "UPDATE jobs SET phase = 'failed', error = :error WHERE id = :id",
                named_params! { ":error": error.to_string(), ":id": id },
            )?,
        };
    }
    Ok(())
}

impl Gaps {
    fn tick(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now - last);
        }
    }
}

impl Ticks {
    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// What was measured while something went on.
pub(crate) struct Measured {
    /// The longest time between two ticks.
    pub(crate) gap: Duration,
    /// How many ticks there were.
    pub(crate) ticks: u64,
    /// Those whose row could not be written.
    pub(crate) failed: u64,
    /// The longest time for which the host's mutex could not be had.
    pub(crate) mutex: Duration,
}

/// Measures the ticks of `server`, and its mutex by trying to have it, from now on.
pub(crate) struct Measure {
    ticks: Arc<Ticks>,
    count: u64,
    failed: u64,
    done: Arc<AtomicBool>,
    mutex: thread::JoinHandle<Duration>,
}

impl Measure {
    pub(crate) fn start(server: &Server, ticks: &Arc<Ticks>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (store, until) = (Arc::clone(&server.store), Arc::clone(&done));
        let mutex = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !until.load(Ordering::Relaxed) {
                let asked = Instant::now();
                drop(lock(&store));
                longest = longest.max(asked.elapsed());
                thread::sleep(TRY);
            }
            longest
        });
        *lock(&ticks.gaps) = Gaps { last: Some(Instant::now()), longest: Duration::ZERO };
        let failed = ticks.failed.load(Ordering::Relaxed);
        Self { ticks: Arc::clone(ticks), count: ticks.count(), failed, done, mutex }
    }

    pub(crate) fn end(self) -> Measured {
        // A gap that has not ended yet counts as well.
        lock(&self.ticks.gaps).tick(Instant::now());
        let gap = lock(&self.ticks.gaps).longest;
        self.done.store(true, Ordering::Relaxed);
        let failed = self.ticks.failed.load(Ordering::Relaxed) - self.failed;
        let mutex = self.mutex.join().unwrap_or_default();
        Measured { gap, ticks: self.ticks.count() - self.count, failed, mutex }
    }
}
