//! `retain` as a daemon: a pass each time that one is due, until a signal comes.

use std::collections::hash_map::RandomState;
use std::fs::TryLockError;
use std::hash::BuildHasher;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hero_proc_cleanup::policy::{Policy, Retention, Step};

use super::log::Reason;
use super::pass::{self, Due, End, Kept};
use super::session::Session;
use super::state::Refused;
use super::{file, log};
use crate::cli::failure::Failure;
use crate::cli::supervisor::{READY, STOPPING, tell};
use crate::cli::text::printable;
use crate::cli::{age, moment};

/// The longest sleep. A clock that was set, or a machine that was asleep, is noticed after it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Makes passes by the policy in `path`, which is `policy` now, until a signal comes.
pub(super) async fn run(session: &mut Session, mut kept: Kept, path: &Path, policy: Policy) -> Result<(), Failure> {
    let gateway = session.client.socket.clone();
    kept.load(&gateway);
    let every = age::text(i64::try_from(policy.every().as_millis()).unwrap_or(i64::MAX));
    tracing::info!(
        policy = ?path, digest = %policy.digest(), every, ?gateway, state = ?kept.place.file, "retention begins"
    );
    tell(READY);
    let end = passes(session, &mut kept, path, policy).await;
    tell(STOPPING);
    tracing::info!("retention ends");
    end
}

/// Makes passes until a signal comes, which is how a daemon ends.
async fn passes(session: &mut Session, kept: &mut Kept, path: &Path, mut policy: Policy) -> Result<(), Failure> {
    let history = &kept.state.history;
    // The human whom the last pass waited for may have answered.
    let confirmed = history.waits_for.is_some() && policy.confirmed() == Some(&policy.digest());
    let mut timer = Retention::new(policy.clone(), history.clone(), jitter());
    if confirmed {
        timer.due_now();
    }
    let mut due = if confirmed { Due::Now } else { Due::ByTime };
    loop {
        if let Step::Wait { until } = timer.next(session.now()) {
            say_next(until);
            if session.wait(until, LONGEST_SLEEP).await.is_err() {
                return Ok(());
            }
            continue;
        }
        let lock = match kept.place.lock() {
            Ok(lock) => lock,
            Err(not_locked) => {
                match not_locked {
                    TryLockError::WouldBlock => {
                        tracing::warn!("another pass is running on this gateway; this one waits for it")
                    }
                    TryLockError::Error(error) => tracing::error!(
                        %error,
                        "no pass: nothing in the state's directory can be locked, so another pass can't be ruled out"
                    ),
                }
                if session.wait(session.now() + LONGEST_SLEEP, LONGEST_SLEEP).await.is_err() {
                    return Ok(());
                }
                timer = Retention::new(policy.clone(), kept.state.history.clone(), 0.0);
                continue;
            }
        };
        kept.load(&session.client.socket);
        policy = read_again(session, kept, path, policy);
        let made = pass::make(session, kept, &policy, due, &lock).await;
        drop(lock);
        log::pass(&made, Reason::InTheLine);
        if let (true, Some(error)) = (session.left, made.error) {
            return Err(Failure::of_call(error, &session.client.socket));
        }
        if let End::Interrupted = made.end {
            return Ok(());
        }
        due = Due::ByTime;
        timer = Retention::new(policy.clone(), kept.state.history.clone(), 0.0);
        if session.go_on().await.is_err() {
            return Ok(());
        }
    }
}

/// The policy as the file in `path` has it now; if that is refused, the one that is in force.
fn read_again(session: &Session, kept: &mut Kept, path: &Path, in_force: Policy) -> Policy {
    match file::read(path) {
        Ok(policy) => {
            if policy.digest() != in_force.digest() {
                tracing::info!(digest = %policy.digest(), "the policy has changed");
            }
            kept.state.refused = None;
            policy
        }
        Err(error) => {
            tracing::warn!(%error, digest = %in_force.digest(), "the policy that was read before stays in force");
            kept.state.refused = Some(Refused { at_ms: session.now().timestamp_millis(), reason: error.to_string() });
            in_force
        }
    }
}

/// Tells the service manager, for whoever looks at it, when the next pass is due.
fn say_next(until: DateTime<Utc>) {
    tell(&printable(format_args!("STATUS=The next pass is due at {}.", moment::text(until.timestamp_millis()))));
}

/// A number from 0 to 1, another one in each process.
fn jitter() -> f64 {
    let random = RandomState::new().hash_one(std::process::id());
    // The upper half of the bits: a float holds them all.
    f64::from((random >> 32) as u32) / f64::from(u32::MAX)
}
