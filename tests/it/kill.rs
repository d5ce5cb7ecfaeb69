//! `kill -9` at random moments of a real cleanup: the store is as it was before or as it is after, never between.
//!
//! The long form: `cargo test --release --test it -- --ignored --nocapture kill`.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::process::Running;
use crate::support::round::{Case, ENDLESS, GO, Round, spin};
use crate::support::sample::dump;
use crate::support::sides::{Sides, old_jobs};

/// All of them.
fn cases() -> impl Iterator<Item = Case> {
    let both = [false, true];
    ["wal", "delete"].into_iter().flat_map(move |journal| {
        both.into_iter().flat_map(move |keys| both.into_iter().map(move |write| Case { journal, keys, write }))
    })
}

/// Where the kills landed.
#[derive(Debug, Default)]
struct Landed {
    /// Before the write lock was taken.
    before: u32,
    /// Under the write lock, and before the commit.
    between: u32,
    /// After the commit.
    after: u32,
    /// With something in the WAL, or a journal, for the next one to open the store.
    to_recover: u32,
}

impl Landed {
    fn all(&self) -> u32 {
        self.before + self.between + self.after
    }

    fn add(&mut self, other: &Self) {
        self.before += other.before;
        self.between += other.between;
        self.after += other.after;
        self.to_recover += other.to_recover;
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "where they land is not the test's to say")]
fn a_kill_leaves_before_or_after() {
    let mut landed = Landed::default();
    for case in cases() {
        landed.add(&kill_over_and_over(case, 2));
    }
    println!("{landed:?}");
    assert_eq!(landed.all(), 16);
}

#[test]
#[ignore = "long form: 1600 kills, at least 300 of them between lock and commit"]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn a_thousand_kills_leave_before_or_after() {
    let mut landed = Landed::default();
    for case in cases() {
        let here = kill_over_and_over(case, 200);
        println!("{case:?}: {here:?}");
        landed.add(&here);
    }
    println!("{landed:?}");
    assert!(landed.all() >= 1000 && landed.between >= 300, "{landed:?}");
}

/// Half of the kills come at moments spread evenly over the call, half at moments spread over the time under the lock, the
/// same in every run.
fn kill_over_and_over(case: Case, times: u32) -> Landed {
    let round = Round::new(case);
    // Once to the end: what it leaves, and how long it takes.
    let before = round.before();
    round.renew();
    let call = round.begin();
    let report = call.answer();
    let result = &report["result"];
    assert_eq!(result["jobs_deleted"], GO, "{case:?}: {report}");
    assert_eq!(result["dependents"]["notes"].as_u64().unwrap_or(0), if case.keys { GO } else { 0 });
    let under_lock = Duration::from_secs_f64(result["lock_ms"].as_f64().unwrap() / 1000.0);
    let whole = Duration::from_secs_f64(result["duration_ms"].as_f64().unwrap() / 1000.0);
    let after = dump(&round.store);
    assert_ne!(before, after);

    let mut landed = Landed::default();
    for number in 0..times {
        round.renew();
        let mut call = round.begin();
        let moment = |span: Duration| span.mul_f64((f64::from(number * 7 % times) + 0.5) / f64::from(times));
        if number % 2 == 0 {
            spin(moment(whole));
        } else {
            call.until_locked();
            spin(moment(under_lock));
        }
        let locked = round.locked();
        call.kill();

        landed.to_recover += u32::from(round.leaves_something());
        // The first one to open the store is now a reader, now the next server: then what was left is read from a copy.
        let left = if matches!(number % 4, 0 | 3) { dump(&round.store) } else { dump(&round.copy_of_store()) };
        assert!(left == before || left == after, "{case:?}: kill {number} left something between");
        match (left == after, locked) {
            (true, _) => landed.after += 1,
            (false, true) => landed.between += 1,
            (false, false) => landed.before += 1,
        }
        let missing = if left == after { 0 } else { GO };
        round.complete(missing, &after, &format!("{case:?}: kill {number}"));
    }
    landed
}

/// One moment that is always met: in the middle of the deletion, which a trigger of the host's makes endless.
#[test]
fn a_kill_under_the_lock_leaves_before() {
    for case in cases() {
        let round = Round::new(case);
        round.renew();
        Connection::open(&round.store).unwrap().execute_batch(ENDLESS).unwrap();
        let mut call = round.begin();
        call.until_locked();
        assert!(round.locked(), "{case:?}");
        call.kill();
        let store = Connection::open(&round.store).unwrap();
        store.execute_batch("DROP TRIGGER endless").unwrap();
        drop(store);
        assert!(dump(&round.store) == round.before(), "{case:?}");
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "where they land is not the test's to say")]
fn a_killed_gateway_leaves_before_or_after() {
    println!("{:?}", kill_the_gateway_over_and_over(6));
}

#[test]
#[ignore = "long form: 240 kills of the gateway"]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn hundreds_of_killed_gateways_leave_before_or_after() {
    println!("{:?}", kill_the_gateway_over_and_over(240));
}

/// What the callers of killed gateways heard.
#[derive(Debug, Default)]
struct Heard {
    /// Nothing was sent, and nothing went.
    nothing_sent: u32,
    /// The outcome is unknown, and nothing had gone.
    unknown_before: u32,
    /// The outcome is unknown, and everything had.
    unknown_after: u32,
    /// The whole report.
    report: u32,
}

/// Kills at moments spread evenly over the command, from its start to somewhat after its usual end.
fn kill_the_gateway_over_and_over(times: u32) -> Heard {
    const JOBS: i64 = 500;
    let sides = || Sides::with(&old_jobs(1, JOBS));
    let content = |sides: &Sides| {
        let count = "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM actions)";
        sides.store().query_row(count, (), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).unwrap()
    };
    let started = Instant::now();
    assert!(sides().run(&["--yes"]).status.success());
    let whole = {
        let sides = sides();
        let since = Instant::now();
        assert!(sides.run(&["--yes"]).status.success());
        since.elapsed().min(started.elapsed())
    };
    let mut heard = Heard::default();
    for number in 0..times {
        let sides = sides();
        let command = Running::start(&mut sides.cleanup(&["--yes"]));
        spin(whole.mul_f64(1.3 * f64::from(number) / f64::from(times)));
        sides.gateway.signal(Signal::KILL);
        let said = command.until("what is said ends with the command");
        let (code, report) = command.end();
        // The call may still run. It is waited for.
        sides.hero_proc.signal(Signal::TERM);
        sides.hero_proc.until("what is said ends with the server");
        match (code, content(&sides)) {
            (Some(0), (0, 0)) => {
                let report: Value = serde_json::from_str(&report).unwrap();
                assert_eq!(report["jobs_deleted"], JOBS, "{report}");
                heard.report += 1;
            }
            (Some(6), (JOBS, JOBS)) if said.contains("nothing was sent") => heard.nothing_sent += 1,
            (Some(6), (JOBS, JOBS)) if said.contains("may have been carried out") => heard.unknown_before += 1,
            (Some(6), (0, 0)) if said.contains("may have been carried out") => heard.unknown_after += 1,
            (code, left) => panic!("kill {number}: exit code {code:?}, {left:?} are left: {said}"),
        }
    }
    heard
}
