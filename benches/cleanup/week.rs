//! The story of hero_codescalers#10 with a policy in the place of a person: a week of jobs, the size of the store at each
//! hour, and a picture of it.
//!
//! The week is simulated: jobs are written, and the policy asked, at the moments of a clock that is set forward. Everything
//! else is real: the file, its WAL, each call, and how long the lock rests after it.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use hero_proc_cleanup::policy::{History, PassEnd, Retention, Side, Step};
use hero_proc_cleanup::{Guard, Host};
use rusqlite::{Connection, params};

use crate::stores::{SCHEMA, Stores};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
const START: i64 = 1_790_000_000_000;
/// How long a job runs.
const RUNS: i64 = 30 * MINUTE;
/// The ages of the policy: of jobs that succeeded, and of all others.
const AGES: [i64; 2] = [DAY, 3 * DAY];
/// The recommended policy, with ages of which a week is long enough to show the end.
const POLICY: &str = r#"{
    "every": "1h", "reclaim": "1s", "keep_last": 10,
    "rule": [{ "phases": ["succeeded"], "older_than": "1d" }, { "older_than": "3d" }]
}"#;

/// The largest size in the later half of the week, and the largest before it, once jobs go by both rules; in MB.
pub(crate) fn size(stores: &Stores, jobs: usize) -> (f64, f64) {
    let week = Week { jobs: jobs as i64, text: if jobs > 10_000 { 145_000 } else { 5_000 } };
    let without = week.sizes(&stores.work(), None);
    let policy = serde_json::from_str(POLICY).unwrap();
    let with = week.sizes(&stores.work(), Some(Retention::new(policy, History::default(), 0.0)));
    // The short form has a picture of its own.
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let directory = if jobs > 10_000 { docs } else { stores.directory().to_owned() };
    let path = directory.join("retention-week.svg");
    fs::write(&path, picture(&with, &without)).unwrap();
    println!("written: {}", path.display());

    let (half, level) = (with.len() / 2, ((AGES[1] + RUNS) / HOUR + 2) as usize);
    let largest = |bytes: &[u64]| *bytes.iter().max().unwrap() as f64 / 1e6;
    let (later, earlier) = (largest(&with[half..]), largest(&with[level..half]));
    assert!(later <= 1.2 * earlier, "{later} MB in the later half of the week, {earlier} MB before it");
    (later, earlier)
}

struct Week {
    /// Jobs that are made in it, at regular intervals.
    jobs: i64,
    /// The bytes of a job's text.
    text: usize,
}

impl Week {
    /// The size of the store in `path` at each hour of the week, from its beginning to its end.
    fn sizes(&self, path: &Path, mut retention: Option<Retention>) -> Vec<u64> {
        let mut host = HeroProc::new(path, self.text);
        let mut sizes = Vec::new();
        let created = |job: i64| START + job * WEEK / self.jobs;
        let (mut to_make, mut to_end) = ((0..self.jobs).peekable(), (0..self.jobs).peekable());
        for hour in 0..=WEEK / HOUR {
            let until = START + hour * HOUR;
            loop {
                let made = to_make.peek().map_or(i64::MAX, |job| created(*job));
                let ended = to_end.peek().map_or(i64::MAX, |job| created(*job) + RUNS);
                let now = made.min(ended).min(until);
                if let Some(retention) = &mut retention {
                    host.retain(retention, now);
                }
                match now {
                    _ if now == until => break,
                    _ if now == made => to_make.next().into_iter().for_each(|job| host.enqueue(job, now)),
                    _ => to_end.next().into_iter().for_each(|job| host.end(job, now)),
                }
            }
            sizes.push(host.size());
        }
        if retention.is_some() {
            self.check(&host.connection);
        }
        sizes
    }

    /// What the policy takes is gone, what it keeps is there, and so is each job's action.
    fn check(&self, connection: &Connection) {
        let mut jobs = connection.prepare("SELECT id FROM jobs WHERE action_id IN (SELECT name FROM actions)").unwrap();
        let jobs: Vec<i64> = jobs.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let count = |table: &str| {
            connection.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get::<_, i64>(0)).unwrap()
        };
        assert_eq!([count("jobs"), count("actions")], [jobs.len() as i64; 2]);
        for job in 0..self.jobs {
            let age = WEEK - job * WEEK / self.jobs - RUNS;
            let most = AGES[usize::from(phase(job) != "succeeded")];
            let there = jobs.binary_search(&(job + 1)).is_ok();
            // A pass takes what is old enough when it begins, and the last was begun an hour ago.
            assert!(there || age >= most, "{job}");
            assert!(!there || age <= most + 2 * HOUR, "{job}");
        }
    }
}

/// The phase in which `job` ends: one of ten fails.
fn phase(job: i64) -> &'static str {
    if job % 10 == 7 { "failed" } else { "succeeded" }
}

/// hero_proc, as far as codescalers makes use of it, and the extension on its store.
struct HeroProc {
    path: PathBuf,
    connection: Connection,
    text: String,
    host: Host,
    /// The time up to which everything that is due was done.
    now: i64,
}

impl HeroProc {
    fn new(path: &Path, text: usize) -> Self {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = wal; PRAGMA synchronous = normal").unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let host = Host::new(Guard::codescaler());
        Self { path: path.to_owned(), connection, text: "x".repeat(text / 3), host, now: START }
    }

    /// `action.set`, then `job.create`.
    fn enqueue(&self, job: i64, now: i64) {
        let name = format!("codescaler_build_{job}");
        let kind = ["build", "deploy", "test"][job as usize % 3];
        let tags = format!(r#"["codescaler","codescaler_user{}","codescaler_kind_{kind}"]"#, job % 14);
        let set = "INSERT INTO actions (name, spec_json, created_at_ms) VALUES (?1, ?2, ?3)";
        self.connection.execute(set, params![name, format!(r#"{{"tags":{tags}}}"#), now]).unwrap();
        let spec = format!(r#"{{"tags":{tags},"script":"{}"}}"#, self.text);
        let create = "INSERT INTO jobs (id, action, action_id, spec_json, phase, tags, created_at_ms, started_at_ms)
                      VALUES (?1, ?2, ?2, ?3, 'running', ?4, ?5, ?5)";
        self.connection.execute(create, params![job + 1, name, spec, tags, now]).unwrap();
    }

    fn end(&self, job: i64, now: i64) {
        let end = "UPDATE jobs SET phase = ?2, stats_json = ?3, stderr = ?3, finished_at_ms = ?4 WHERE id = ?1";
        self.connection.execute(end, params![job + 1, phase(job), self.text, now]).unwrap();
    }

    /// Does what is due by the policy until `until`, each at its moment.
    fn retain(&mut self, retention: &mut Retention, until: i64) {
        let at = |ms| DateTime::<Utc>::from_timestamp_millis(ms).unwrap();
        while self.now < until {
            match retention.next(at(self.now)) {
                Step::Call(due) => {
                    let (method, params) = (due.method(Side::HeroProc), due.params(Side::HeroProc));
                    let answer = hero_proc_cleanup::call(method, &params, &*self.path, &self.host, at(self.now));
                    retention.answered(at(self.now), answer);
                }
                Step::Wait { until: then } => self.now = then.timestamp_millis().min(until),
                Step::Ended(pass) => assert_eq!((pass.end, pass.behind), (PassEnd::Done, false), "{pass:?}"),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The bytes of the store and its WAL.
    fn size(&self) -> u64 {
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        [self.path.as_os_str(), &wal].into_iter().map(|file| fs::metadata(file).map_or(0, |file| file.len())).sum()
    }
}

/// The picture of the sizes at each hour, with a policy and without. It brings its own background, so that it is read on a
/// light page and on a dark one.
fn picture(with: &[u64], without: &[u64]) -> String {
    const STYLE: &str = "
  <style>
    rect { fill: #fff } text { fill: #1f2328; font: 14px sans-serif } .grid { stroke: #d8dee4 }
    polyline { fill: none; stroke: #0b5cad; stroke-width: 3 } .without { stroke: #a8480a; stroke-dasharray: 8 4 }
    @media (prefers-color-scheme: dark) {
      rect { fill: #0d1117 } text { fill: #e6edf3 } .grid { stroke: #30363d }
      polyline { stroke: #6cb6ff } .without { stroke: #ffa657 }
    }
  </style>";
    const LEFT: f64 = 90.0;
    const TOP: f64 = 20.0;
    const WIDTH: f64 = 600.0;
    const HEIGHT: f64 = 260.0;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let [most_with, most_without] = [with, without].map(|sizes| megabytes(*sizes.iter().max().unwrap()));
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
        .into_iter()
        .find(|step| most_without / step <= 5.0)
        .unwrap_or(10_000.0);
    let top = step * (most_without / step).ceil();
    let x = |days: f64| LEFT + WIDTH * days / 7.0;
    let y = |megabytes: f64| TOP + HEIGHT * (1.0 - megabytes / top);

    let label = format!("without a policy {most_without:.0} MB, with one at most {most_with:.0} MB");
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 330\" width=\"720\" role=\"img\">
  <title>A store in a week of jobs: {label}</title>{STYLE}
  <rect width=\"720\" height=\"330\"/>\n"
    );
    // Writing to a string does not fail.
    let mut line = |line: fmt::Arguments<'_>| _ = writeln!(svg, "  {line}");
    let mut grid = 0.0;
    while grid <= top {
        let (y, right) = (y(grid), LEFT + WIDTH);
        line(format_args!("<path class=\"grid\" d=\"M{LEFT} {y:.0}H{right}\"/>"));
        let baseline = y + 5.0;
        line(format_args!("<text x=\"{}\" y=\"{baseline:.0}\" text-anchor=\"end\">{grid} MB</text>", LEFT - 8.0));
        grid += step;
    }
    for day in 0..=7 {
        let (x, y) = (x(f64::from(day)), TOP + HEIGHT + 22.0);
        line(format_args!("<text x=\"{x:.0}\" y=\"{y}\" text-anchor=\"middle\">{day}</text>"));
    }
    line(format_args!("<text x=\"{}\" y=\"322\" text-anchor=\"middle\">days</text>", x(3.5)));
    for (class, sizes) in [("without", without), ("with", with)] {
        let points: Vec<String> = sizes
            .iter()
            .enumerate()
            .map(|(hour, size)| format!("{:.0},{:.0}", x(hour as f64 / 24.0), y(megabytes(*size))))
            .collect();
        line(format_args!("<polyline class=\"{class}\" points=\"{}\"/>", points.join(" ")));
    }
    let right = x(7.0) - 6.0;
    let above = y(most_with) - 10.0;
    line(format_args!(
        "<text x=\"{right}\" y=\"{above:.0}\" text-anchor=\"end\">with a policy: at most {most_with:.0} MB</text>"
    ));
    let (middle, beside) = (x(5.0) - 16.0, y(most_without * 5.0 / 7.0) - 10.0);
    line(format_args!(
        "<text x=\"{middle:.0}\" y=\"{beside:.0}\" text-anchor=\"end\">without: {most_without:.0} MB at the end</text>"
    ));
    svg + "</svg>\n"
}
