//! One process of retention: its gateway, its clock, and the signals that come.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use hero_proc_cleanup::client::Client;
use hero_proc_cleanup::policy::{Call, Side};
use hero_proc_cleanup::{Kind, RpcError};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::failure::Failure;
use crate::cli::interrupts::Interrupts;
use crate::cli::supervisor::Watchdog;

/// How long a call may take: longer than the gateway waits for hero_proc.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The gateway, the clock, and what may end a wait for either.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    interrupts: Interrupts,
    watchdog: Watchdog,
    /// Whether this process was asked to end.
    stopping: bool,
    /// Whether a batch was left to itself, by a second signal.
    pub(super) left: bool,
    /// No wait is longer: the clock then goes on by the rest of it.
    longest_wait: Option<TimeDelta>,
    /// By how much the clock is ahead.
    ahead: TimeDelta,
}

/// A signal has come: this process is to end.
#[derive(Debug)]
pub(super) struct Interrupted;

impl Session {
    pub(super) fn new(socket: PathBuf, longest_wait: Option<i64>) -> Result<Self, Failure> {
        let mut client = Client::new(socket);
        client.timeout = Some(TIMEOUT);
        Ok(Self {
            client,
            interrupts: Interrupts::new()?,
            watchdog: Watchdog::new(),
            stopping: false,
            left: false,
            longest_wait: longest_wait.and_then(TimeDelta::try_milliseconds),
            ahead: TimeDelta::zero(),
        })
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        Utc::now().checked_add_signed(self.ahead).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Whether this process is to end, now that a call has ended.
    pub(super) async fn go_on(&mut self) -> Result<(), Interrupted> {
        self.stopping = self.stopping || self.interrupts.pending().await;
        if self.stopping { Err(Interrupted) } else { Ok(()) }
    }

    /// Waits until `until`, but not for longer than `most`, and not at all if this process is to end.
    pub(super) async fn wait(&mut self, until: DateTime<Utc>, most: Duration) -> Result<(), Interrupted> {
        if self.stopping {
            return Err(Interrupted);
        }
        let most = TimeDelta::from_std(most).unwrap_or(TimeDelta::MAX);
        let whole = until.signed_duration_since(self.now()).clamp(TimeDelta::zero(), most);
        let time = self.longest_wait.map_or(whole, |longest| whole.min(longest));
        self.unless_interrupted(tokio::time::sleep(time.to_std().unwrap_or_default())).await?;
        self.ahead += whole - time;
        Ok(())
    }

    /// Makes `call`. A dry run ends at the first signal. Any other call goes on to its end, or to a second signal.
    pub(super) async fn call(&mut self, call: &Call) -> Result<Result<Box<RawValue>, RpcError>, Interrupted> {
        self.go_on().await?;
        let (method, params) = (call.method(Side::Codescalers), call.params(Side::Codescalers));
        if call.is_dry_run() { self.ask(method, &params).await } else { Ok(self.finish(method, &params).await) }
    }

    /// Asks what changes nothing. A signal ends it at once.
    pub(super) async fn ask(
        &mut self,
        method: &str,
        params: &Value,
    ) -> Result<Result<Box<RawValue>, RpcError>, Interrupted> {
        let client = self.client.clone();
        self.unless_interrupted(client.call_raw(method, params)).await
    }

    /// Waits for `work`. A signal ends the wait at once.
    async fn unless_interrupted<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        tokio::select! {
            biased;
            () = self.interrupts.next() => {
                self.stopping = true;
                Err(Interrupted)
            }
            done = work => Ok(done),
            never = self.watchdog.alive() => match never {},
        }
    }

    async fn finish(&mut self, method: &str, params: &Value) -> Result<Box<RawValue>, RpcError> {
        let mut call = pin!(self.client.call_raw(method, params));
        loop {
            tokio::select! {
                biased;
                () = self.interrupts.next() => {
                    if self.stopping {
                        self.left = true;
                        let why = "left before the answer: the call may still delete";
                        return Err(RpcError::new(Kind::OutcomeUnknown, why));
                    }
                    self.stopping = true;
                    tracing::info!("stopping once the running batch has ended; a second signal leaves it");
                }
                answer = &mut call => return answer,
                never = self.watchdog.alive() => match never {},
            }
        }
    }
}
