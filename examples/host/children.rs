//! The host's children: one process group for each job, stopped as a group, reaped here, their end written to their row.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hero_proc_cleanup::{ControlError, Job, JobControl, Report};
use rusqlite::{Connection, named_params};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process, waitid};
use tokio::sync::watch;

/// How long a group may take to end once it was asked to (TERM), before it is made to (KILL).
pub(crate) const GRACE: Duration = Duration::from_millis(500);
/// How long a killed group may take to be gone: a process in the kernel's hands can't be killed at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often what a leader left behind is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// The one connection to the store that the whole host shares.
pub(crate) type SharedStore = Arc<Mutex<Connection>>;

/// What `mutex` guards, also after a panic elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The children that run, by job.
pub(crate) struct Children {
    store: SharedStore,
    /// One file for each job, `<id>.log`: logs are files, not rows.
    logs: PathBuf,
    running: Mutex<HashMap<i64, Arc<Group>>>,
    /// How each job that was asked to stop did so.
    stopped: Mutex<BTreeMap<i64, Stopped>>,
    /// How many have ended so far.
    ended: watch::Sender<u64>,
    /// Whether no more are started.
    closed: AtomicBool,
}

/// How a job came to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It had not been started yet, and never will be.
    NeverStarted,
    /// No process of it was left.
    GoneBefore,
    /// It ended within [`GRACE`] of being asked to.
    Asked,
    /// It did not, and was killed.
    Killed,
}

/// A job's process group. Its number is that of its leader, the job's `sh`.
struct Group {
    id: Pid,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The leader runs, or is a zombie: the group's number is its own, and may be sent signals.
    Runs,
    /// The leader has ended. Its watcher alone deals with what is left: the number may soon be another's.
    Ending,
    /// Every process of it is gone and reaped, and the row says so.
    Ended,
}

impl Children {
    pub(crate) fn new(store: SharedStore, logs: PathBuf) -> io::Result<Arc<Self>> {
        // What a leader leaves behind becomes a child of this process, which can then wait for it and reap it.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        fs::create_dir_all(&logs)?;
        let (ended, closed) = (watch::Sender::new(0), AtomicBool::new(false));
        Ok(Arc::new(Self { store, logs, running: Mutex::default(), stopped: Mutex::default(), ended, closed }))
    }

    /// Starts the script of job `id`, in a process group of its own, and returns its pid. The caller holds the store, so
    /// that whoever takes it later finds the child here.
    pub(crate) fn start(self: &Arc<Self>, id: i64, script: &str) -> io::Result<i32> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(io::Error::other("the host ends"));
        }
        let log = File::create(self.log(id))?;
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(script)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let group =
            Arc::new(Group { id: Pid::from_child(&child), state: Mutex::new(State::Runs), changed: Condvar::new() });
        lock(&self.running).insert(id, Arc::clone(&group));
        let pid = group.id.as_raw_pid();
        let children = Arc::clone(self);
        thread::spawn(move || {
            group.leader_ends();
            let status = child.wait();
            reap_the_rest(group.id);
            if let Err(error) = children.write_end(id, status) {
                tracing::error!(id, %error, "the end of a job was not written");
            }
            lock(&children.running).remove(&id);
            children.ended.send_modify(|ended| *ended += 1);
            group.set(State::Ended);
        });
        Ok(pid)
    }

    /// The jobs whose processes run.
    pub(crate) fn running(&self) -> Vec<i64> {
        lock(&self.running).keys().copied().collect()
    }

    /// How many children have ended, from here on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// How each job that was asked to stop did so.
    pub(crate) fn stopped(&self) -> BTreeMap<i64, Stopped> {
        lock(&self.stopped).clone()
    }

    /// The file that holds what job `id` wrote.
    pub(crate) fn log(&self, id: i64) -> PathBuf {
        self.logs.join(format!("{id}.log"))
    }

    /// Stops job `id`, whose row records `pid`, and returns when no process of it is left.
    ///
    /// # Errors
    ///
    /// If its process is not this host's to stop, or can't be killed.
    pub(crate) fn stop(&self, id: i64, pid: Option<i64>) -> Result<Stopped, ControlError> {
        let cancelled = lock(&self.store).execute(
            "UPDATE jobs SET phase = 'cancelled' WHERE id = :id AND phase = 'pending'",
            named_params! { ":id": id },
        )?;
        // Jobs are started while the store is held: one that was not pending just now is known here if it runs.
        let group = lock(&self.running).get(&id).cloned();
        let how = match group {
            _ if cancelled == 1 => Stopped::NeverStarted,
            Some(group) => group.stop()?,
            None => gone(pid).map(|()| Stopped::GoneBefore)?,
        };
        lock(&self.stopped).insert(id, how);
        Ok(how)
    }

    /// Whether [`stop`](Self::stop) would be tried.
    fn can_stop_job(&self, id: i64, pid: Option<i64>) -> Result<(), ControlError> {
        if lock(&self.running).contains_key(&id) { Ok(()) } else { gone(pid) }
    }

    /// Stops all of them, and starts no more.
    pub(crate) fn close(&self) {
        let store = lock(&self.store);
        self.closed.store(true, Ordering::SeqCst);
        drop(store);
        let groups: Vec<_> = lock(&self.running).values().cloned().collect();
        for group in groups {
            if let Err(error) = group.stop() {
                tracing::error!(%error, "a child outlives the host");
            }
        }
    }

    fn write_end(&self, id: i64, status: io::Result<ExitStatus>) -> rusqlite::Result<()> {
        let (phase, code) = match status.map(|status| status.code()) {
            Ok(Some(0)) => ("succeeded", Some(0)),
            Ok(code @ Some(_)) => ("failed", code),
            Ok(None) => ("killed", None),
            Err(_) => ("error", None),
        };
        // Without effect if the row is gone already: a forced cleanup deletes what it has stopped.
        lock(&self.store).execute(
            "UPDATE jobs
             SET phase = :phase, exit_code = :code, finished_at_ms = :now
             WHERE id = :id",
            named_params! { ":phase": phase, ":code": code, ":now": now_ms(), ":id": id },
        )?;
        Ok(())
    }
}

/// What the extension asks of a host for `force`: glue to what the host can do anyhow.
impl JobControl for Children {
    fn stop(&self, job: &Job) -> Result<(), ControlError> {
        self.stop(job.id, job.pid).map(drop)
    }

    fn can_stop(&self, job: &Job) -> Result<(), ControlError> {
        self.can_stop_job(job.id, job.pid)
    }

    fn deleted(&self, report: &Report) -> Result<(), ControlError> {
        Ok(report.job_ids.iter().try_for_each(|id| remove_if_there(&self.log(*id)))?)
    }
}

impl Group {
    /// Returns once the leader has ended. It stays a zombie, so that its number can't have become another's before
    /// everybody knows that no more signals may be sent.
    fn leader_ends(&self) {
        let leader = WaitId::Pid(self.id);
        if let Err(error) = retry_on_intr(|| waitid(leader.clone(), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)) {
            tracing::error!(%error, "a child was not waited for");
        }
        self.set(State::Ending);
    }

    /// TERM to the whole group, then KILL.
    fn stop(&self) -> Result<Stopped, ControlError> {
        if !self.signal(Signal::TERM)? {
            return if self.ended_within(GRACE + PATIENCE) { Ok(Stopped::GoneBefore) } else { Err(self.lives_on()) };
        }
        if self.ended_within(GRACE) {
            return Ok(Stopped::Asked);
        }
        let how = if self.signal(Signal::KILL)? { Stopped::Killed } else { Stopped::Asked };
        if self.ended_within(PATIENCE) { Ok(how) } else { Err(self.lives_on()) }
    }

    /// Sends `signal` to the whole group, if its leader has not ended.
    fn signal(&self, signal: Signal) -> io::Result<bool> {
        let state = lock(&self.state);
        let runs = *state == State::Runs;
        if runs {
            kill_process_group(self.id, signal)?;
        }
        Ok(runs)
    }

    fn ended_within(&self, span: Duration) -> bool {
        let waits = self.changed.wait_timeout_while(lock(&self.state), span, |state| *state != State::Ended);
        *waits.unwrap_or_else(PoisonError::into_inner).0 == State::Ended
    }

    fn set(&self, state: State) {
        *lock(&self.state) = state;
        self.changed.notify_all();
    }

    fn lives_on(&self) -> ControlError {
        format!("process {} did not end, though it was killed", self.id.as_raw_pid()).into()
    }
}

/// Ends and reaps what is left of a group whose leader has been reaped: TERM, then KILL after [`GRACE`].
///
/// As long as one process is left, dead or alive, the group's number can't become another's, and nobody else reaps it.
fn reap_the_rest(group: Pid) {
    let since = Instant::now();
    let mut asked = false;
    loop {
        match waitid(WaitId::Pgid(Some(group)), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => continue,
            Ok(None) => {}
            Err(_) => return,
        }
        let kill = since.elapsed() >= GRACE;
        if (kill || !asked)
            && let Err(error) = kill_process_group(group, if kill { Signal::KILL } else { Signal::TERM })
        {
            tracing::warn!(%error, "what a job left behind was not sent a signal");
        }
        asked = true;
        thread::sleep(GLANCE);
    }
}

/// Whether the process of a job that this host has not started is gone. If its number is in use, it may be another's by
/// now: nothing is sent to it.
fn gone(pid: Option<i64>) -> Result<(), ControlError> {
    let Some(recorded) = pid else { return Ok(()) };
    let pid = i32::try_from(recorded).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
    match pid.map(test_kill_process) {
        Some(Err(Errno::SRCH)) => Ok(()),
        _ => Err(format!("process {recorded} is no child of this host").into()),
    }
}

fn remove_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
