//! The demo's store: hero_proc's layout, filled with jobs as they pile up.
//!
//! Two stores with the same number of jobs differ by the clock alone.

use std::collections::HashSet;
use std::path::Path;

use hero_proc_cleanup::{Cancel, codescaler_tags};
use rusqlite::{Connection, Statement, named_params};
use serde_json::{Value, json};

/// The rows that were made, as their maker knows them: no tag is read for this.
#[derive(Debug, Default)]
pub(crate) struct Seeded {
    /// Row ids of the jobs that carry `codescaler`.
    pub(crate) jobs: HashSet<i64>,
    /// Row ids of the actions that carry `codescaler`.
    pub(crate) actions: HashSet<i64>,
}

/// Makes a store of `jobs` jobs at `path`; or none, if that is cancelled.
pub(crate) fn seed(path: &Path, jobs: u32, now_ms: i64, cancel: &Cancel) -> rusqlite::Result<Option<Seeded>> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.execute_batch(include_str!("../../../schema/hero_proc.sql"))?;
    let transaction = connection.transaction()?;
    let mut seeded = Seeded::default();
    {
        let mut rows = Rows {
            job: transaction.prepare(INSERT_JOB)?,
            action: transaction.prepare(INSERT_ACTION)?,
            now_ms,
            seeded: &mut seeded,
        };
        rows.shared_actions()?;
        for number in 1..=jobs {
            if cancel.is_cancelled() {
                return Ok(None);
            }
            rows.job(u64::from(number))?;
        }
    }
    transaction.execute_batch(NEIGHBOURS)?;
    transaction.commit()?;
    Ok(Some(seeded))
}

const INSERT_JOB: &str = "\
    INSERT INTO jobs (
        action, action_id, spec_json, script, phase, attempt, tags, pid, exit_code, stderr, run_id,
        created_at_ms, started_at_ms, finished_at_ms
    )
    VALUES (
        :action, :action_id, :spec, :script, :phase, 1, :tags, NULL, :exit_code, :stderr, :run_id,
        :created_at, :started_at, :finished_at
    )";

const INSERT_ACTION: &str = "\
    INSERT INTO actions (name, spec_json, created_at_ms, updated_at_ms)
    VALUES (:name, :spec, :created_at, :created_at)";

/// What else stands in a store: services, one of which lists actions of codescaler's; runs; a secret.
const NEIGHBOURS: &str = r#"
    INSERT INTO services (name, spec_json)
    VALUES ('web', '{"actions":["codescaler_build_20","web_start"],"status":"start","class":"user"}'),
           ('books', '{"actions":["books_export"],"status":"start","class":"user"}');
    INSERT INTO runs (phase, created_at_ms)
    VALUES ('succeeded', 1780000000000), ('running', 1790000000000);
    INSERT INTO secrets (name, value)
    VALUES ('registry', x'00ff10');
"#;

const KINDS: [&str; 4] = ["build", "deploy", "test", "snapshot"];
const ACTORS: [&str; 3] = ["ana", "ben", "chi"];
const TARGETS: [&str; 3] = ["", "web", "db"];
const FINISHED: [&str; 4] = ["succeeded", "failed", "cancelled", "succeeded"];
const NOT_FINISHED: [&str; 3] = ["running", "pending", "reconciling"];
/// What others tag their jobs with: lookalikes, and nothing that a cleanup may read as codescaler's.
const OTHERS: [&str; 8] = [
    r#"["books"]"#,
    r#"["codescalers"]"#,
    r#"["Codescaler"]"#,
    r#"["codescaler-old","books"]"#,
    "[]",
    r#""codescaler""#,
    r#"["codescaler""#,
    r#"[["codescaler"]]"#,
];

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

struct Rows<'c> {
    job: Statement<'c>,
    action: Statement<'c>,
    now_ms: i64,
    seeded: &'c mut Seeded,
}

impl Rows<'_> {
    /// Actions that several jobs use, and one that depends on an action of codescaler's.
    fn shared_actions(&mut self) -> rusqlite::Result<()> {
        let tags = ["codescaler"];
        let schedule = json!({ "tags": tags, "schedule_policy": { "cron": "0 3 * * *" } });
        self.action("codescaler_nightly", &schedule, true)?;
        self.action("codescaler_prepare", &json!({ "tags": tags }), true)?;
        self.action("deploy_tool", &json!({ "tags": ["tools"] }), false)?;
        self.action("books_export", &json!({ "depends_on": ["codescaler_build_10"] }), false)?;
        self.action("web_start", &json!({}), false)
    }

    /// Three jobs of five are codescaler's.
    fn job(&mut self, number: u64) -> rusqlite::Result<()> {
        let dice = scattered(number);
        let job = if number % 5 < 3 { self.codescaler(number, dice)? } else { Self::other(number, dice) };
        self.insert(number, dice, &job)
    }

    /// One action and one job for each run, but for the few that share one.
    fn codescaler(&mut self, number: u64, dice: u64) -> rusqlite::Result<Job> {
        let kind = KINDS[pick(dice, 4)];
        let kind = if number.is_multiple_of(10) { "build" } else { kind };
        let tags = codescaler_tags(ACTORS[pick(dice >> 8, 3)], kind, TARGETS[pick(dice >> 16, 3)]).unwrap_or_default();
        let spec = json!({ "tags": tags, "script": script(dice), "env": { "RUN": number.to_string() } });
        let action = match number % 100 {
            31 => "codescaler_nightly".to_owned(),
            51 | 52 => "codescaler_prepare".to_owned(),
            71 => "deploy_tool".to_owned(),
            _ => {
                let name = format!("codescaler_{kind}_{number}");
                self.action(&name, &spec, true)?;
                name
            }
        };
        // A quarter are from before hero_proc#50: their tags are only in their spec.
        let tags = if dice % 100 < 25 { None } else { Some(json!(tags).to_string()) };
        Ok(Job { action, tags, spec, owner: Owner::Codescaler })
    }

    fn other(number: u64, dice: u64) -> Job {
        let action = if number.is_multiple_of(2) { "books_export" } else { "web_start" };
        // Only a column of tags, or where there is none the spec's tags, make a job codescaler's.
        let spec = json!({ "script": script(dice), "env": { "TAG": "codescaler" } });
        let tags = (dice % 100 >= 25).then(|| OTHERS[pick(dice >> 8, OTHERS.len() as u64)].to_owned());
        Job { action: action.to_owned(), tags, spec, owner: Owner::Other }
    }

    fn insert(&mut self, number: u64, dice: u64, job: &Job) -> rusqlite::Result<()> {
        // These jobs all go, so that it is seen why their actions stay.
        let settled = matches!(number % 100, 10 | 20 | 31 | 71);
        let finished = settled || dice % 1_000 >= 40;
        let phase = if finished { FINISHED[pick(dice >> 24, 4)] } else { NOT_FINISHED[pick(dice >> 24, 3)] };
        // Over the last 60 days; a few are undated.
        let age_ms = if settled { 30 * DAY_MS } else { pick(dice >> 32, 60 * 24) as i64 * HOUR_MS };
        let created_at = (settled || dice % 1_000 != 999).then_some(self.now_ms - age_ms);
        let finished_at = created_at.filter(|_| finished).map(|at| at + pick(dice >> 40, 600) as i64 * 1_000);
        let failed = phase == "failed";
        let id = self.job.insert(named_params! {
            ":action": job.action,
            ":action_id": (age_ms < 40 * DAY_MS).then_some(&job.action),
            ":spec": job.spec.to_string(),
            ":script": job.spec["script"].as_str(),
            ":phase": phase,
            ":tags": job.tags,
            ":exit_code": finished.then_some(i64::from(failed)),
            ":stderr": failed.then(|| format!("step {number}: no such file or directory\n").repeat(12)),
            ":run_id": number.is_multiple_of(7).then_some(1),
            ":created_at": created_at,
            ":started_at": created_at,
            ":finished_at": finished_at,
        })?;
        if job.owner == Owner::Codescaler {
            self.seeded.jobs.insert(id);
        }
        Ok(())
    }

    fn action(&mut self, name: &str, spec: &Value, codescaler: bool) -> rusqlite::Result<()> {
        let id = self.action.insert(named_params! {
            ":name": name,
            ":spec": spec.to_string(),
            ":created_at": self.now_ms - 60 * DAY_MS,
        })?;
        if codescaler {
            self.seeded.actions.insert(id);
        }
        Ok(())
    }
}

struct Job {
    action: String,
    tags: Option<String>,
    spec: Value,
    owner: Owner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Codescaler,
    Other,
}

/// A few hundred bytes, as scripts are.
fn script(dice: u64) -> String {
    "set -eu\n".to_owned() + &format!("run --step {} --quiet\n", dice % 9_973).repeat(8 + pick(dice >> 48, 24))
}

/// One of `of` numbers, by the lowest bits of `dice`.
fn pick(dice: u64, of: u64) -> usize {
    usize::try_from(dice % of).unwrap_or_default()
}

/// Neighbouring numbers, scattered over all 64 bits: the finaliser of splitmix64.
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
