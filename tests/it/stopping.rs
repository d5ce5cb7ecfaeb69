//! Signals, and kills of one side while the other waits: a call that has begun ends whole or not at all, and its caller
//! hears which.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::process::PATIENCE;
use crate::support::round::{Call, Case, ENDLESS, GO, Round, spin};
use crate::support::sample::{Sample, dump, one};
use crate::support::server::{Answer, METHOD, Server, assert_discreet, post};
use crate::support::sides::{Sides, Waiting, old_jobs};

fn delete(id: u32) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": METHOD, "params": { "tags": ["codescaler"] } })
}

/// A store whose write lock another connection holds, and a server on it: a deletion waits until the lock is given back.
struct Locked {
    sample: Sample,
    lock: Connection,
    server: Server,
}

impl Locked {
    fn new(args: &[&str]) -> Self {
        let sample = Sample::new();
        let server = sample.serve_with(args);
        // It has looked at the store: from here on it has it open only for calls.
        server.says("the store fits");
        let lock = sample.open();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self { sample, lock, server }
    }

    /// Sends `body`, and returns once the call, or the first of the batch, has the store open.
    fn begin(&self, body: &Value) -> UnixStream {
        let mut caller = self.server.connect();
        caller.write_all(&post("connection: close", body.to_string().as_bytes())).unwrap();
        while !self.server.has_open(&self.sample.path) {
            thread::yield_now();
        }
        caller
    }

    fn unlock(&self) {
        self.lock.execute_batch("ROLLBACK").unwrap();
    }

    /// Sends the first signal, and returns once nobody can connect any more.
    fn stop(&mut self) {
        self.server.signal(Signal::TERM);
        self.server.says("stopping");
        while UnixStream::connect(&self.server.socket).is_ok() {
            thread::yield_now();
        }
    }

    /// Waits for the end: exit code 0, and the socket is gone. Returns what was logged since.
    fn end(self) -> (Sample, String) {
        let Self { sample, lock, server } = self;
        let socket = server.socket.clone();
        let (status, log) = server.end();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!socket.exists());
        drop(lock);
        (sample, log)
    }
}

#[track_caller]
fn assert_refused(answer: &Value) {
    let error = &answer["error"];
    assert_eq!((&error["code"], &error["data"]["retryable"]), (&json!(-32021), &json!(true)), "{answer}");
    assert_eq!(error["message"], "the server is stopping: nothing was deleted");
    assert_discreet(&answer.to_string());
}

#[test]
fn the_running_call_ends_whole_and_new_ones_are_refused() {
    let mut locked = Locked::new(&[]);
    // The first of a batch runs: the others have not begun.
    let mut running = locked.begin(&json!([delete(1), delete(2), delete(3)]));
    let mut idle = locked.server.connect();
    // Of this one the server has read the head, and asks for the body.
    let mut half = locked.server.connect();
    let body = delete(4).to_string();
    let request = post("connection: close\r\nexpect: 100-continue", body.as_bytes());
    half.write_all(&request[..request.len() - body.len()]).unwrap();
    let mut half = BufReader::new(half);
    let mut line = String::new();
    half.read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    half.read_line(&mut line).unwrap();

    locked.stop();
    assert!(locked.server.socket.exists(), "its file goes last");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "closed");
    half.get_mut().write_all(body.as_bytes()).unwrap();
    assert_refused(&Answer::last_of(half.get_mut()).json());
    locked.unlock();
    let answers = Answer::last_of(&mut running).json();
    assert_eq!((&answers[0]["id"], &answers[0]["result"]["jobs_deleted"]), (&json!(1), &json!(3)), "{answers}");
    for refused in [1, 2] {
        assert_eq!(answers[refused]["id"], refused + 1);
        assert_refused(&answers[refused]);
    }
    let (sample, _) = locked.end();
    assert_eq!(sample.jobs(), [3, 5]);
}

#[test]
fn a_second_signal_ends_the_running_call_with_nothing_deleted() {
    let mut locked = Locked::new(&[]);
    let before = locked.sample.dump();
    let mut running = locked.begin(&delete(1));
    locked.stop();
    locked.server.signal(Signal::TERM);
    locked.server.says("they delete nothing");
    locked.unlock();
    assert_cancelled(&Answer::last_of(&mut running).json());
    let (sample, _) = locked.end();
    assert_eq!(sample.dump(), before);
}

/// Whoever stops a server may not wait forever, and may not come back to say so.
#[test]
fn a_time_limit_does_what_a_second_signal_does() {
    let mut locked = Locked::new(&["--stop-timeout", "1ms"]);
    let before = locked.sample.dump();
    let mut running = locked.begin(&delete(1));
    locked.stop();
    locked.server.says("they delete nothing");
    locked.unlock();
    assert_cancelled(&Answer::last_of(&mut running).json());
    let (sample, _) = locked.end();
    assert_eq!(sample.dump(), before);
}

#[track_caller]
fn assert_cancelled(answer: &Value) {
    assert_eq!(answer["error"]["message"], "cancelled before the commit: nothing was deleted", "{answer}");
    assert_discreet(&answer.to_string());
}

/// What the callers heard of servers that were stopped in the middle.
#[derive(Debug, Default)]
struct Heard {
    report: u32,
    cancelled: u32,
    /// It had not begun, and never did.
    refused: u32,
    /// The connection was closed without a word: the same.
    closed: u32,
}

#[test]
#[expect(clippy::print_stdout, reason = "what they hear is not the test's to say")]
fn whenever_it_is_stopped_the_store_agrees_with_the_answer() {
    for (journal, write) in [("wal", true), ("delete", false)] {
        println!("{journal}: {:?}", stop_over_and_over(Case { journal, keys: false, write }, 8));
    }
}

#[test]
#[ignore = "long form: 400 stops"]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn hundreds_of_times_the_store_agrees_with_the_answer() {
    for (journal, keys, write) in
        [("wal", false, false), ("wal", false, true), ("wal", true, true), ("delete", true, false)]
    {
        let case = Case { journal, keys, write };
        println!("{case:?}: {:?}", stop_over_and_over(case, 100));
    }
}

/// Stops at moments spread evenly over a call, now with one signal, now with two.
fn stop_over_and_over(case: Case, times: u32) -> Heard {
    let round = Round::new(case);
    let before = round.before();
    round.renew();
    let report = round.begin().answer();
    let whole = Duration::from_secs_f64(report["result"]["duration_ms"].as_f64().unwrap() / 1000.0);
    let after = dump(&round.store);
    let mut heard = Heard::default();
    for number in 0..times {
        round.renew();
        let Call { server, mut caller, .. } = round.begin();
        caller.set_read_timeout(Some(PATIENCE)).unwrap();
        spin(whole.mul_f64(f64::from(number / 2 * 2) / f64::from(times)));
        server.signal(Signal::TERM);
        if number % 2 == 1 {
            // The kernel makes one of two that are still to be delivered.
            server.says("stopping");
            server.signal(Signal::TERM);
        }
        let answer = Answer::last_of(&mut caller);
        let socket = server.socket.clone();
        let (status, log) = server.end();
        assert!(!socket.exists());
        assert_eq!(status.code(), Some(0), "{case:?}: {log}");
        let left = dump(&round.store);
        if answer.status == 0 {
            assert!(left == before, "{case:?}: stop {number}: {log}");
            heard.closed += 1;
            continue;
        }
        let answer = answer.json();
        let deleted = answer["result"]["jobs_deleted"] == GO;
        assert!(left == if deleted { &after } else { &before }.as_str(), "{case:?}: stop {number}: {answer}");
        match answer["error"]["message"].as_str() {
            None if deleted => heard.report += 1,
            Some("cancelled before the commit: nothing was deleted") if number % 2 == 1 => heard.cancelled += 1,
            Some("the server is stopping: nothing was deleted") => heard.refused += 1,
            _ => panic!("{case:?}: stop {number}: {answer}"),
        }
    }
    heard
}

/// However long a single statement would take, by a trigger of the host's.
#[test]
fn a_second_signal_ends_a_statement_that_never_ends() {
    for journal in ["wal", "delete"] {
        let round = Round::new(Case { journal, keys: false, write: false });
        round.renew();
        Connection::open(&round.store).unwrap().execute_batch(ENDLESS).unwrap();
        let before = dump(&round.store);
        let mut call = round.begin();
        call.until_locked();
        let Call { server, mut caller, .. } = call;
        caller.set_nonblocking(false).unwrap();
        caller.set_read_timeout(Some(PATIENCE)).unwrap();
        server.signal(Signal::TERM);
        server.says("stopping");
        server.signal(Signal::TERM);
        assert_cancelled(&Answer::last_of(&mut caller).json());
        let (status, log) = server.end();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(dump(&round.store) == before, "{journal}");
    }
}

/// Its own first look at the store, which only goes into the log, keeps no server from ending.
#[test]
fn a_store_that_is_locked_does_not_keep_the_server_from_ending() {
    let sample = Sample::new();
    sample.journal("delete");
    let lock = sample.open();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let server = sample.serve();
    server.signal(Signal::TERM);
    server.says("stopping");
    server.signal(Signal::TERM);
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0), "{log}");
    // It would have said so once it had waited for the lock in vain.
    assert!(!log.contains("no call will succeed"), "{log}");
    drop(lock);
}

/// A caller who leaves takes nothing along: the call ends whole, and the server with it, or not before.
#[test]
fn a_call_whose_caller_has_left_is_waited_for() {
    let mut locked = Locked::new(&[]);
    drop(locked.begin(&delete(1)));
    locked.stop();
    locked.unlock();
    let (sample, log) = locked.end();
    assert!(log.contains("jobs_deleted=3"), "{log}");
    assert_eq!(sample.one::<i64>("SELECT count(*) FROM jobs"), 2);

    let mut locked = Locked::new(&[]);
    let before = locked.sample.dump();
    drop(locked.begin(&delete(1)));
    locked.stop();
    // It is still there to hear this.
    locked.server.signal(Signal::TERM);
    locked.server.says("they delete nothing");
    locked.unlock();
    let (sample, _) = locked.end();
    assert_eq!(sample.dump(), before);
}

/// Callers who leave make room for no more cleanups than may run at once.
#[test]
fn callers_who_leave_do_not_add_up() {
    let locked = Locked::new(&[]);
    for id in 0..20 {
        drop(locked.begin(&delete(id)));
    }
    assert_eq!(locked.server.get("/health").status, 200);
    let open = locked.server.opened(&locked.sample.path);
    // Four, and SQLite may keep the file of one that has ended open for a while.
    assert!(open < 10, "{open} cleanups at once");
}

/// A client that does not read its answer holds up the end for no longer than the limit.
#[test]
fn a_client_that_never_reads_does_not_keep_the_server_from_ending() {
    let sample = Sample::new();
    let socket = sample.directory.path().join("rpc.sock");
    let server = Server::serve_with(&sample.path, &socket, &["--client-timeout", "1s"]);
    let calls: Vec<Value> =
        (0..100).map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "rpc.discover" })).collect();
    let mut deaf = server.connect();
    deaf.write_all(&post("x: y", json!(calls).to_string().as_bytes())).unwrap();
    // The answer is on its way.
    deaf.read_exact(&mut [0; 8]).unwrap();
    server.signal(Signal::TERM);
    let (status, log) = server.end();
    assert!(status.success() && !socket.exists(), "{log}");
}

#[test]
fn a_gateway_that_stops_passes_the_answer_on() {
    let waiting = Waiting::with(&old_jobs(1, 3));
    let mut caller = waiting.call();
    waiting.sides.gateway.signal(Signal::TERM);
    waiting.sides.gateway.says("stopping");
    waiting.unlock();
    let answer = Answer::last_of(&mut caller).json();
    assert_eq!(answer["result"]["jobs_deleted"], 3, "{answer}");
    let socket = waiting.sides.path("gateway.sock");
    let Sides { gateway, .. } = waiting.sides;
    assert_eq!(gateway.end().0.code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_hero_proc_that_is_killed_leaves_the_outcome_unknown() {
    let waiting = Waiting::with(&old_jobs(1, 3));
    let mut caller = waiting.call();
    waiting.sides.hero_proc.signal(Signal::KILL);
    let answer = Answer::last_of(&mut caller);
    answer.assert_discreet();
    let answer = answer.json();
    let error = (&answer["error"]["code"], &answer["error"]["data"]["kind"]);
    assert_eq!(error, (&json!(-32024), &json!("outcome_unknown")), "{answer}");
    waiting.unlock();
    assert_eq!(waiting.sides.jobs(), [1, 2, 3], "killed before its commit");

    let waiting = Waiting::with(&old_jobs(1, 3));
    let command = waiting.command(&["--yes"]);
    waiting.sides.hero_proc.signal(Signal::KILL);
    command.says("may have been carried out");
    assert_eq!(command.end(), (Some(6), String::new()));
    waiting.unlock();
    assert_eq!(waiting.sides.jobs(), [1, 2, 3]);
}

/// hero_proc's side has the whole request by then, and carries it out.
#[test]
fn a_gateway_that_is_killed_leaves_a_whole_cleanup() {
    let waiting = Waiting::with(&old_jobs(1, 3));
    let command = waiting.command(&["--yes"]);
    waiting.sides.gateway.signal(Signal::KILL);
    command.says("may have been carried out");
    assert_eq!(command.end(), (Some(6), String::new()));
    // It waits for the call's end, though nobody waits for its answer.
    waiting.sides.hero_proc.signal(Signal::TERM);
    waiting.sides.hero_proc.says("stopping");
    waiting.unlock();
    waiting.sides.hero_proc.says("jobs_deleted=3");
    let Sides { hero_proc, .. } = waiting.sides;
    assert_eq!(hero_proc.end().0.code(), Some(0));
    assert_eq!(one::<i64>(&waiting.lock, "SELECT count(*) FROM jobs"), 0);
}

/// What a caller who has left began is done, and stands in the log.
#[test]
fn a_caller_who_leaves_the_gateway_leaves_a_line_in_its_log() {
    let waiting = Waiting::with(&old_jobs(1, 3));
    drop(waiting.call());
    waiting.sides.gateway.signal(Signal::TERM);
    waiting.sides.gateway.says("stopping");
    waiting.unlock();
    waiting.sides.gateway.says("outcome=\"ok\"");
    let Sides { gateway, .. } = waiting.sides;
    assert_eq!(gateway.end().0.code(), Some(0));
}

/// A gateway that is killed in the middle of a request that takes several writes: hero_proc's side gets a part of it,
/// and does nothing.
#[test]
fn half_a_request_of_a_killed_gateway_is_not_carried_out() {
    let sample = Sample::new();
    let before = sample.dump();
    let upstream = sample.directory.path().join("upstream.sock");
    let listener = UnixListener::bind(&upstream).unwrap();
    let gateway = Server::gateway(&sample.directory.path().join("gateway.sock"), &upstream, &[]);
    // More than a socket holds: as long as nobody reads, the gateway can't send the rest.
    let plan = "x".repeat(900_000);
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "jobs.cleanup", "params": { "expect_plan": plan } });
    let mut caller = gateway.connect();
    caller.write_all(&post("connection: close", call.to_string().as_bytes())).unwrap();
    let (mut reader, _) = listener.accept().unwrap();
    let mut begun = [0; 8];
    reader.read_exact(&mut begun).unwrap();
    gateway.signal(Signal::KILL);
    assert_eq!(Answer::last_of(&mut caller).status, 0);
    let mut part = begun.to_vec();
    reader.read_to_end(&mut part).unwrap();
    assert!(part.starts_with(b"POST /rpc") && part.len() < plan.len(), "{} bytes", part.len());

    let server = sample.serve();
    let mut stream = server.connect();
    stream.write_all(&part).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!([0, 400].contains(&Answer::last_of(&mut stream).status));
    assert_eq!(sample.dump(), before);
}
