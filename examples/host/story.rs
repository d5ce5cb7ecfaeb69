//! What is shown: hero_codescalers#10, jobs that have to be stopped, a host that does not stall, and a policy.
//!
//! Everything that the host can do is asked of it through its socket. Only what a host of today would find in an old
//! store is written into the store beside it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use hero_proc_cleanup::client::Client;
use hero_proc_cleanup::policy::{History, Retention};
use hero_proc_cleanup::{
    CLEANUP_BY_TAG, CODESCALER, Guard, METHODS, RECLAIM, ReclaimOutcome, Reclaimed, Report, RpcError, codescaler_tags,
};
use rusqlite::{Connection, named_params};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::census::{Census, Difference};
use crate::children::{GRACE, Stopped, lock, now_ms};
use crate::retention;
use crate::scheduler::{MOST_CHILDREN, Measure, Measured, TICK};
use crate::{Host, Outcome};

/// How long anything may take before the story is given up: never waited for when all is well.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a log is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// Tells all of it on `host`, with `jobs` jobs for the measurement.
pub(crate) async fn tell(host: &Host, jobs: u32) -> Outcome {
    let teller = Teller { host, client: Client::new(&host.socket) };
    println!("A host in hero_proc's shape listens on {}.", host.socket.display());
    println!("It ticks every {} ms, and runs at most {MOST_CHILDREN} jobs at once.", TICK.as_millis());
    let backup = teller.others().await?;
    teller.issue_10().await?;
    teller.force(backup).await?;
    teller.without_the_mutex().await?;
    teller.no_stall(jobs).await?;
    teller.retention().await
}

/// Prints `claim`, or fails with it.
pub(crate) fn holds(holds: bool, claim: &str) -> Outcome {
    if !holds {
        return Err(format!("this does not hold: {claim}").into());
    }
    println!("holds: {claim}");
    Ok(())
}

struct Teller<'h> {
    host: &'h Host,
    client: Client,
}

impl Teller<'_> {
    /// What is not codescaler's: two exports that end, and a backup that runs all the while. Returns the backup's job.
    async fn others(&self) -> Outcome<i64> {
        let mut ended = self.host.server.children.watch();
        let backup = self.enqueue("backup", &["ops"], "echo up; exec sleep 1000").await?;
        self.enqueue("books_export", &["books"], "true").await?;
        self.enqueue("codescalers_export", &["codescalers"], "true").await?;
        timeout(PATIENCE, ended.wait_for(|ended| *ended == 2)).await??;
        self.is_up(backup).await?;

        // What the host could do before.
        let before = self.stats().await?;
        let scratch = self.enqueue("scratch", &[], "exec sleep 1000").await?;
        self.call("job.cancel", json!({ "id": scratch })).await?;
        self.call("job.delete", json!({ "id": scratch })).await?;
        self.call("action.delete", json!({ "name": "scratch" })).await?;
        holds(self.stats().await? == before, "job.cancel, job.delete and action.delete do what they did before")?;
        Ok(backup)
    }

    /// hero_codescalers#10: enqueued through RPC, cleaned through RPC.
    async fn issue_10(&self) -> Outcome {
        println!("\n1. hero_codescalers#10\n");
        let document = self.call("rpc.discover", Value::Null).await?;
        let methods = document["methods"].as_array().ok_or("the host's document has no methods")?;
        let named = |name: &str| methods.iter().find(|method| method["name"] == name);
        let added = named(CLEANUP_BY_TAG);
        let report = added.and_then(|method| document.pointer(method["result"]["schema"]["$ref"].as_str()?.get(1..)?));
        holds(
            ["job.list", "stats"].iter().chain(METHODS).all(|name| named(name).is_some())
                && report.is_some_and(|report| report["properties"]["jobs_deleted"].is_object()),
            "the host's OpenRPC document has its methods and the extension's, and job.cleanup_by_tag with its report",
        )?;
        let before = self.stats().await?;
        let mut ended = self.host.server.children.watch();
        let first = *ended.borrow_and_update();
        let mut enqueued = Vec::new();
        for (number, (actor, kind, target, script)) in [
            ("ana", "build", "web", "echo built"),
            ("ana", "build", "db", "exit 3"),
            ("ana", "deploy", "web", "true"),
            ("ben", "test", "", "true"),
            ("ben", "service_start", "router", "true"),
            ("chi", "snapshot", "", "kill -9 $$"),
        ]
        .into_iter()
        .enumerate()
        {
            let tags = codescaler_tags(actor, kind, target)?;
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            enqueued.push(self.enqueue(&format!("codescaler_{kind}_{number}"), &tags, script).await?);
        }
        timeout(PATIENCE, ended.wait_for(|ended| *ended == first + enqueued.len() as u64)).await??;
        // A row as they were written before hero_proc#50: its tags stand in its spec alone.
        let old = self.write(|store| {
            store.execute(
                r#"INSERT INTO jobs (action, spec_json, phase, created_at_ms)
                   VALUES ('codescaler_docs_0', '{"tags":["codescaler","codescaler_kind_docs"]}', 'succeeded', :now)"#,
                named_params! { ":now": now_ms() },
            )?;
            Ok(store.last_insert_rowid())
        })?;
        enqueued.push(old);
        let listed = self.list().await?;
        println!("Enqueued through RPC: {} jobs of codescaler's, each with an action of its own. They have ended:", 6);
        for job in &listed {
            println!("  job {} {} {}", job["id"], job["action_id"], job["phase"]);
        }
        println!("And job {old}, whose tags stand in its spec alone: job.list does not see it.");
        holds(listed.len() == 6, "job.list with the tag codescaler lists the 6 whose tags were copied")?;

        // An action that was set within the last minute stays: its job may not have been created yet. Here, two have passed.
        self.write(|store| {
            store.execute("UPDATE actions SET created_at_ms = created_at_ms - 120000, updated_at_ms = NULL", ())
        })?;

        let census = self.census().await?;
        let stats = self.stats().await?;
        let preview = self.cleanup(json!({ "tags": [CODESCALER], "dry_run": true })).await?;
        println!(
            "The dry run would delete {} jobs and {} actions: plan {:.30}…",
            preview.jobs_planned, preview.actions_planned, preview.plan
        );
        holds(preview.job_ids == enqueued, "the dry run names the 7 jobs")?;
        holds(census.until(&self.census().await?).is_none(), "the dry run changed nothing")?;

        let report = self.cleanup(json!({ "tags": [CODESCALER], "expect_plan": preview.plan })).await?;
        println!("Deleted: {} jobs, {} actions.", report.jobs_deleted, report.actions_deleted);
        holds(report.jobs_deleted == 7 && report.actions_deleted == 6, "7 jobs and their 6 actions were deleted")?;
        holds(self.list().await?.is_empty(), "job.list with the tag codescaler is empty")?;
        let after = self.stats().await?;
        println!("stats before: {stats}\nstats after:  {after}");
        let dropped = |count: &str| stats[count].as_u64().zip(after[count].as_u64()).map(|(was, is)| was - is);
        holds(
            dropped("job_count") == Some(7) && dropped("action_count") == Some(6) && after == before,
            "stats drops by 7 jobs and 6 actions, to what it was before",
        )?;
        self.nothing_else_went(&census, &report).await
    }

    /// Jobs that run are stopped: among them one that does not want to, one that is gone, and one that is not the host's.
    async fn force(&self, backup: i64) -> Outcome {
        println!("\n2. Jobs that have not finished\n");
        let willing = self.enqueue("codescaler_deploy_1", &[CODESCALER], "echo up; exec sleep 1000").await?;
        let deaf = "trap '' TERM; echo up; while :; do sleep 1; done";
        let deaf = self.enqueue("codescaler_build_1", &[CODESCALER], deaf).await?;
        let family = "sleep 1000 & (trap '' TERM; sleep 1000 & wait) & echo up; wait";
        let family = self.enqueue("codescaler_test_1", &[CODESCALER], family).await?;
        for job in [willing, deaf, family] {
            self.is_up(job).await?;
        }
        let waiting = self.enqueue("codescaler_docs_1", &[CODESCALER], "exec sleep 1000").await?;
        // Rows that an earlier life of the host has left: the process of one has died, the number of the other's is
        // another's by now.
        let dead = exited()?;
        let mut stranger = Stranger::start()?;
        let [dead, foreign] = [dead, stranger.pid()].map(|pid| {
            self.write(|store| {
                store.execute(
                    r#"INSERT INTO jobs (action, spec_json, phase, tags, pid, created_at_ms)
                       VALUES ('codescaler_build_0', '{}', 'running', '["codescaler"]', :pid, :now)"#,
                    named_params! { ":pid": pid, ":now": now_ms() },
                )?;
                Ok(store.last_insert_rowid())
            })
        });
        let (dead, foreign) = (dead?, foreign?);
        let groups = self.groups(&[willing, deaf, family]).await?;
        println!("job {willing} runs; TERM ends it");
        println!("job {deaf} runs, and ignores TERM");
        println!("job {family} runs, and so do children of its shell's, one of which ignores TERM");
        println!("job {waiting} waits for a place, and gets one once the first has been stopped");
        println!("job {dead}, left from before a restart, records the pid of a process that has died");
        println!("job {foreign}, likewise, records the pid of a process that is not the host's");
        println!("Processes of the first three, by group: {groups:?}");
        holds(groups.values().map(Vec::len).sum::<usize>() >= 6, "they are real, and at least 6")?;

        let census = self.census().await?;
        let unforced = self.cleanup(json!({ "tags": [CODESCALER] })).await?;
        holds(unforced.jobs_kept.active == 6 && unforced.jobs_deleted == 0, "without force all 6 stay")?;
        holds(census.until(&self.census().await?).is_none(), "and nothing has changed")?;

        let preview = self.cleanup(json!({ "tags": [CODESCALER], "force": true, "dry_run": true })).await?;
        let report = self.cleanup(json!({ "tags": [CODESCALER], "force": true, "expect_plan": preview.plan })).await?;
        println!(
            "With force, {} were deleted, after {:.0} ms; {:?}",
            report.jobs_deleted, report.duration_ms, report.errors
        );
        holds(report.job_ids == [willing, deaf, family, waiting, dead], "what the dry run showed has gone")?;
        let stopped = self.host.server.children.stopped();
        println!("How they were stopped: {stopped:?} ({} ms of grace)", GRACE.as_millis());
        let expected = [(willing, Stopped::Asked), (deaf, Stopped::Killed), (dead, Stopped::GoneBefore)];
        holds(
            expected.iter().all(|(job, how)| stopped.get(job) == Some(how))
                && [family, waiting].iter().all(|job| stopped.contains_key(job)),
            "each was stopped as it had to be",
        )?;
        let left: Vec<_> = groups.keys().flat_map(|group| processes_of(*group)).collect();
        holds(left.is_empty(), "none of those processes is left, nor a zombie of them")?;
        holds(
            report.jobs_kept.unstoppable == 1 && report.errors.len() == 1 && stranger.runs()?,
            "the process that is not the host's lives, and the job stays, with the reason",
        )?;
        self.nothing_else_went(&census, &report).await?;
        let logs = |jobs: &[i64]| jobs.iter().filter(|job| self.host.server.children.log(**job).exists()).count();
        holds(logs(&report.job_ids) == 0 && logs(&[backup]) == 1, "their log files went with them, and no others")?;

        stranger.end()?;
        let report = self.cleanup(json!({ "tags": [CODESCALER], "force": true })).await?;
        holds(
            report.job_ids == [foreign] && self.list().await?.is_empty(),
            "once that process has ended, the job goes",
        )?;
        let running = self.host.server.children.running();
        holds(running == [backup], "the backup, which is not codescaler's, runs on")
    }

    /// Dry runs and deletions run to their ends while somebody else holds the host's mutex: they never ask for it.
    async fn without_the_mutex(&self) -> Outcome {
        println!("\n3. The host's mutex\n");
        let job = self.write(|store| {
            store.execute(
                "INSERT INTO actions (name, spec_json) VALUES ('codescaler_lint_1', :spec)",
                named_params! { ":spec": json!({ "tags": [CODESCALER] }).to_string() },
            )?;
            store.execute(
                r#"INSERT INTO jobs (action, spec_json, phase, tags, created_at_ms)
                   VALUES ('codescaler_lint_1', '{}', 'succeeded', '["codescaler"]', :now)"#,
                named_params! { ":now": now_ms() },
            )?;
            Ok(store.last_insert_rowid())
        })?;
        let (store, path) = (Arc::clone(&self.host.server.store), self.host.server.path.clone());
        let mut host = hero_proc_cleanup::Host::new(Guard::codescaler());
        host.control = Some(self.host.server.children.clone());
        let both = move || {
            let call = |params| cleanup_by_tag(path.as_path(), &host, &params);
            let shown = call(json!({ "tags": [CODESCALER], "dry_run": true }))?;
            let report = call(json!({ "tags": [CODESCALER], "expect_plan": shown.plan }))?;
            Ok::<_, RpcError>((shown, report))
        };
        let done = spawn_blocking(move || {
            let held = lock(&store);
            let (done, ends) = mpsc::channel();
            // If nobody waits any more, it was too late.
            std::thread::spawn(move || done.send(both()).ok());
            let done = ends.recv_timeout(PATIENCE);
            drop(held);
            done
        });
        let (shown, report) = done.await???;
        holds(
            shown.job_ids == [job] && report.job_ids == [job] && report.actions_deleted == 1,
            "while the mutex is held, a dry run and a deletion run to their ends",
        )
    }

    /// The tick goes on while a large store is cleaned.
    async fn no_stall(&self, jobs: u32) -> Outcome {
        println!("\n4. {jobs} jobs, and a host that goes on\n");
        let path = self.host.server.path.clone();
        let seeded = spawn_blocking(move || pile_up(&path, jobs)).await??;
        println!("{seeded} of them are codescaler's, each with an action of its own.");
        if cfg!(debug_assertions) {
            println!("This build is not optimised: with --release all of this is quicker.");
        }
        let census = self.census().await?;
        println!("{:<52}{:>9}{:>9}{:>12}{:>12}{:>7}", "", "duration", "lock", "longest gap", "mutex not", "ticks");
        println!("{:<52}{:>9}{:>9}{:>12}{:>12}", "in ms", "", "", "of ticks", "to be had");

        let measure = self.measure();
        sleep(TICK * 50).await;
        row("nothing", TICK * 50, None, &measure.end());

        // For comparison: what it would be if the host lent its own connection.
        let (store, params) = (Arc::clone(&self.host.server.store), json!({ "tags": [CODESCALER], "dry_run": true }));
        let measure = self.measure();
        let held = spawn_blocking(move || {
            cleanup_by_tag(&mut *lock(&store), &hero_proc_cleanup::Host::new(Guard::codescaler()), &params)
        });
        let report = held.await??;
        row("a dry run on the host's own connection", duration(&report), None, &measure.end());

        let measure = self.measure();
        let report = self.cleanup(json!({ "tags": [CODESCALER], "dry_run": true, "max_ids": 1_000_000 })).await?;
        row("a dry run, as mounted", duration(&report), None, &measure.end());

        let (mut deleted, mut job_ids, mut action_ids) = (0, Vec::new(), Vec::new());
        loop {
            let measure = self.measure();
            let params = json!({ "tags": [CODESCALER], "max_ids": 1_000_000 });
            let mut report = self.cleanup(params).await?;
            let what = format!("the deletion of {} jobs, as mounted", report.jobs_deleted);
            row(&what, duration(&report), Some(report.lock_ms), &measure.end());
            deleted += report.jobs_deleted;
            job_ids.append(&mut report.job_ids);
            action_ids.append(&mut report.action_ids);
            if !report.more {
                break;
            }
        }
        println!(
            "The extension never takes the mutex. A tick that has a row to write waits for SQLite's write lock, and holds\n\
             the mutex while it waits: that is all that the host notices."
        );
        holds(deleted == u64::from(seeded), "every one of codescaler's jobs is gone")?;
        holds(self.list().await?.is_empty(), "job.list with the tag codescaler is empty")?;
        self.went(&census, &job_ids, &action_ids).await?;
        self.space().await
    }

    /// The space that these jobs took is given back to the file system, while the tick goes on.
    async fn space(&self) -> Outcome {
        let census = self.census().await?;
        let measure = self.measure();
        let params = json!({ "min_free_percent": 0, "min_free_bytes": 0, "within_ms": 2_000 });
        let reclaimed: Reclaimed = serde_json::from_value(self.call(RECLAIM, params).await?)?;
        let duration = Duration::from_secs_f64(reclaimed.duration_ms / 1000.0);
        row("giving the space back, as mounted", duration, reclaimed.lock_ms, &measure.end());
        let Reclaimed { outcome, reason, file_bytes_before, file_bytes_after, .. } = reclaimed;
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        println!("{outcome}{reason}: the store's file had {file_bytes_before} bytes, and has {file_bytes_after}.");
        holds(self.census().await?.until(&census).is_none(), "no row has changed")?;
        holds(
            outcome != ReclaimOutcome::Done || file_bytes_after < file_bytes_before,
            "the file is shorter, or the result says why not",
        )
    }

    fn measure(&self) -> Measure {
        Measure::start(&self.host.server, &self.host.ticks)
    }

    /// An action of its own, and a job of it.
    async fn enqueue(&self, action: &str, tags: &[&str], script: &str) -> Outcome<i64> {
        self.call("action.set", json!({ "name": action, "spec": { "tags": tags, "script": script } })).await?;
        let job = self.call("job.create", json!({ "action": action })).await?;
        job["id"].as_i64().ok_or_else(|| "job.create answers without an id".into())
    }

    async fn cleanup(&self, params: Value) -> Outcome<Report> {
        Ok(serde_json::from_value(self.call(CLEANUP_BY_TAG, params).await?)?)
    }

    async fn list(&self) -> Outcome<Vec<Value>> {
        Ok(serde_json::from_value(self.call("job.list", json!({ "filter": { "tag": CODESCALER } })).await?)?)
    }

    async fn stats(&self) -> Outcome<Value> {
        Ok(self.call("stats", Value::Null).await?)
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let result = self.client.call_raw(method, &params).await?;
        serde_json::from_str(result.get()).map_err(|error| RpcError::internal(&error))
    }

    async fn census(&self) -> Outcome<Census> {
        let path = self.host.server.path.clone();
        Ok(spawn_blocking(move || Census::take(&path)).await??)
    }

    /// That exactly what `report` names is gone since `census`.
    async fn nothing_else_went(&self, census: &Census, report: &Report) -> Outcome {
        self.went(census, &report.job_ids, &report.action_ids).await
    }

    async fn went(&self, census: &Census, job_ids: &[i64], action_ids: &[String]) -> Outcome {
        let Difference { gone, other } = census.until(&self.census().await?);
        let jobs = job_ids.iter().map(|id| format!("job {id}"));
        let mut named: Vec<String> = jobs.chain(action_ids.iter().map(|name| format!("action {name}"))).collect();
        let mut gone = gone;
        gone.sort_unstable();
        named.sort_unstable();
        holds(gone == named && other.is_empty(), "what the report names is gone, and every other row is untouched")
    }

    /// Jobs that go by themselves, by a policy, and not without one.
    async fn retention(&self) -> Outcome {
        println!("\n5. A policy\n");
        const DAY: i64 = 86_400_000;
        self.write(|store| {
            for days in [20, 20, 20, 2, 2, 2, 2] {
                store.execute(
                    r#"INSERT INTO jobs (action, spec_json, phase, tags, created_at_ms)
                       VALUES ('codescaler_old', '{}', 'succeeded', '["codescaler"]', :at)"#,
                    named_params! { ":at": now_ms() - days * DAY },
                )?;
            }
            Ok(())
        })?;
        sleep(5 * retention::TICK).await;
        holds(self.list().await?.len() == 7, "without a policy nothing goes by itself, however old it is")?;

        self.keep_to(json!({ "every": "1h", "rule": [{ "phases": ["succeeded"], "older_than": "14d" }] }))?;
        self.until(|history| history.succeeded_ms.is_some()).await?;
        holds(self.list().await?.len() == 4, "by a policy of 14 days, the 3 jobs of 20 days are gone")?;

        self.keep_to(json!({ "every": "1h", "rule": [{ "older_than": "1h" }] }))?;
        self.until(|history| history.waits_for.is_some()).await?;
        holds(self.list().await?.len() == 4, "a policy that would take more than half is shown, and takes nothing")?;
        if let Some(retention) = &mut *lock(&self.host.server.retention) {
            retention.confirm();
        }
        self.until(|history| history.succeeded_ms.is_some()).await?;
        holds(self.list().await?.is_empty(), "once it is confirmed, it takes them")
    }

    fn keep_to(&self, policy: Value) -> Outcome {
        let retention = Retention::new(serde_json::from_value(policy)?, History::default(), 0.0);
        *lock(&self.host.server.retention) = Some(retention);
        Ok(())
    }

    /// Waits until retention remembers what `is` is about.
    async fn until(&self, is: impl Fn(&History) -> bool) -> Outcome {
        let done = async {
            while !lock(&self.host.server.retention).as_ref().is_some_and(|retention| is(retention.history())) {
                sleep(GLANCE).await;
            }
        };
        Ok(timeout(PATIENCE, done).await?)
    }

    /// Writes into the store beside the host, which notices nothing.
    fn write<T>(&self, write: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Outcome<T> {
        Ok(write(&Connection::open(&self.host.server.path)?)?)
    }

    /// Waits until job `id` says that it is up.
    async fn is_up(&self, id: i64) -> Outcome {
        let log = self.host.server.children.log(id);
        let up = async {
            while !std::fs::read_to_string(&log).is_ok_and(|log| log.contains("up")) {
                sleep(GLANCE).await;
            }
        };
        Ok(timeout(PATIENCE, up).await?)
    }

    /// The processes of these jobs, by process group.
    async fn groups(&self, jobs: &[i64]) -> Outcome<BTreeMap<i32, Vec<i32>>> {
        let listed = self.list().await?;
        let of = |id: &i64| listed.iter().find(|job| job["id"] == *id)?["pid"].as_i64()?.try_into().ok();
        let groups = jobs.iter().map(|id| of(id).ok_or_else(|| format!("job {id} has no pid")));
        Ok(groups.map(|group| group.map(|group| (group, processes_of(group)))).collect::<Result<_, _>>()?)
    }
}

impl Difference {
    fn is_none(&self) -> bool {
        self.gone.is_empty() && self.other.is_empty()
    }
}

/// A process that is none of the host's jobs; ended when dropped.
struct Stranger(Child);

impl Stranger {
    fn start() -> Outcome<Self> {
        Ok(Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn()?))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn runs(&mut self) -> Outcome<bool> {
        Ok(self.0.try_wait()?.is_none())
    }

    fn end(&mut self) -> Outcome {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.end();
    }
}

/// The pid of a process that has ended, and has been reaped.
fn exited() -> Outcome<u32> {
    let mut child = Command::new("true").stdin(Stdio::null()).spawn()?;
    child.wait()?;
    Ok(child.id())
}

/// The processes of a group, zombies included.
fn processes_of(group: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_group = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // "pid (name) state parent group …", where a name may hold anything.
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(3)?.parse().ok()) == Some(group)
    };
    pids.filter(of_group).collect()
}

/// Fills the store with `jobs` jobs as they pile up, every second one codescaler's, and returns how many of these there
/// are. They are written in steps, so that the host has its turn.
fn pile_up(store: &Path, jobs: u32) -> Outcome<u32> {
    const STEP: usize = 2_000;
    let mut connection = Connection::open(store)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "synchronous", "normal")?;
    let script = "run --step --quiet\n".repeat(40);
    let all: Vec<u32> = (1..=jobs).collect();
    for step in all.chunks(STEP) {
        let transaction = connection.transaction()?;
        {
            let mut job = transaction.prepare(
                "INSERT INTO jobs (action, action_id, spec_json, phase, tags, created_at_ms)
                 VALUES (:action, :action, :spec, 'succeeded', :tags, :now)",
            )?;
            let mut action = transaction.prepare("INSERT INTO actions (name, spec_json) VALUES (:name, :spec)")?;
            for number in step {
                let (name, tag) = match number % 2 {
                    0 => (format!("codescaler_run_{number}"), CODESCALER),
                    _ => ("export".to_owned(), "books"),
                };
                let spec = json!({ "tags": [tag], "script": script }).to_string();
                let tags = json!([tag]).to_string();
                job.execute(named_params! { ":action": name, ":spec": spec, ":tags": tags, ":now": now_ms() })?;
                if tag == CODESCALER {
                    action.execute(named_params! { ":name": name, ":spec": spec })?;
                }
            }
        }
        transaction.commit()?;
    }
    Ok(jobs / 2)
}

fn duration(report: &Report) -> Duration {
    Duration::from_secs_f64(report.duration_ms / 1000.0)
}

/// One line of the table of measurements, in ms.
fn row(what: &str, duration: Duration, lock_ms: Option<f64>, measured: &Measured) {
    let ms = |duration: Duration| format!("{:.1}", duration.as_secs_f64() * 1000.0);
    let lock = lock_ms.map(|lock| format!("{lock:.1}")).unwrap_or_default();
    let Measured { gap, ticks, failed, mutex } = measured;
    let failed = if *failed > 0 { format!(" ({failed} failed)") } else { String::new() };
    println!("{what:<52}{:>9}{lock:>9}{:>12}{:>12}{ticks:>7}{failed}", ms(duration), ms(*gap), ms(*mutex));
}

/// A report of the extension's, without a server in between.
fn cleanup_by_tag<'s>(
    store: impl Into<hero_proc_cleanup::StoreRef<'s>>,
    host: &hero_proc_cleanup::Host,
    params: &Value,
) -> Result<Report, RpcError> {
    let result = hero_proc_cleanup::call(CLEANUP_BY_TAG, params, store, host, chrono::Utc::now())?;
    serde_json::from_str(result.get()).map_err(|error| RpcError::internal(&error))
}
