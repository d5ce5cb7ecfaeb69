//! The token of a plan: a short name of what was shown, which a later call can be bound to.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::actions::Actions;
use super::{Criteria, Stopped};
use crate::request::Request;
use crate::store::{ActionRow, JobRow, JobTags, Layout};

/// A name of what a dry run showed: the cut-off, the moment from which the grace is counted, and digests of the params and of
/// the set. It is opaque, and says nothing about the content of rows.
///
/// The digest of the set is over each planned job (its phase, tags and references, and whether it ran again), each planned
/// action (whether it was set anew), and the number of rows of other tables that go with them. It stays the same across
/// processes and restarts for as long as the same set would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanToken {
    /// In milliseconds since the Unix epoch.
    cutoff_ms: Option<i64>,
    /// In milliseconds since the Unix epoch.
    now_ms: i64,
    params: [u8; 8],
    set: [u8; 32],
}

impl PlanToken {
    /// The cut-off of the plan, in milliseconds since the Unix epoch; none for a plan without an age.
    #[must_use]
    pub fn cutoff_ms(&self) -> Option<i64> {
        self.cutoff_ms
    }

    /// The moment of the plan, from which the grace of actions is counted, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Whether the plan is one of `request`.
    pub(crate) fn is_of(&self, request: &Request) -> bool {
        self.params == params(request)
    }
}

/// A digest of the params that choose what goes.
fn params(request: &Request) -> [u8; 8] {
    let asked = serde_json::Value::from(request.asked()).to_string();
    let digest: [u8; 32] = Sha256::digest(asked).into();
    let mut params = [0; 8];
    params.copy_from_slice(&digest[..8]);
    params
}

/// The word in the place of the cut-off of a plan without one.
const NO_CUTOFF: &str = "none";

impl fmt::Display for PlanToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cutoff_ms {
            Some(cutoff) => write!(f, "{cutoff}")?,
            None => f.write_str(NO_CUTOFF)?,
        }
        write!(f, ".{}.", self.now_ms)?;
        self.params.iter().chain(&self.set).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PlanToken {
    type Err = PlanTokenError;

    fn from_str(token: &str) -> Result<Self, Self::Err> {
        let mut parts = token.split('.');
        let (Some(cutoff), Some(now), Some(hex), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PlanTokenError(()));
        };
        let cutoff_ms = match cutoff {
            NO_CUTOFF => None,
            number => Some(number.parse().map_err(|_| PlanTokenError(()))?),
        };
        let now_ms = now.parse().map_err(|_| PlanTokenError(()))?;
        let (mut params, mut set) = ([0; 8], [0; 32]);
        let bytes = params.len() + set.len();
        if hex.len() != 2 * bytes || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(PlanTokenError(()));
        }
        for (byte, index) in params.iter_mut().chain(&mut set).zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&hex[index..index + 2], 16).map_err(|_| PlanTokenError(()))?;
        }
        let plan = Self { cutoff_ms, now_ms, params, set };
        // One plan has one spelling: "+1" and "01" are none.
        if plan.to_string() == token { Ok(plan) } else { Err(PlanTokenError(())) }
    }
}

/// A text that is no plan token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is no plan that a dry run could have given")]
pub struct PlanTokenError(());

/// A digest of a set, field by field, each with its length, so that no two lists of fields look alike.
pub(super) struct Digest(Sha256);

impl Default for Digest {
    fn default() -> Self {
        let mut digest = Self(Sha256::new());
        digest.bytes(Some(b"hero_proc_cleanup plan 5"));
        digest
    }
}

impl Digest {
    /// Adds a planned job.
    pub(super) fn job(&mut self, id: i64, digest: &JobDigest) {
        self.number(id);
        self.0.update(digest.0);
    }

    /// The token of a plan that deletes `jobs`, which were added one by one, `actions`, and `dependents`.
    pub(super) fn token(
        mut self,
        criteria: &Criteria<'_>,
        jobs: usize,
        actions: &Actions,
        dependents: &BTreeMap<String, u64>,
    ) -> PlanToken {
        for (id, digest) in actions.ids.iter().zip(&actions.digests) {
            self.number(*id);
            self.0.update(digest.0);
        }
        for name in &actions.names {
            self.bytes(Some(name.as_bytes()));
        }
        for (table, rows) in dependents {
            self.bytes(Some(table.as_bytes()));
            self.number(rows.cast_signed());
        }
        self.bytes(criteria.cutoff_ms.map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice));
        // The lengths say where each list ends.
        for length in [jobs, actions.ids.len(), dependents.len()] {
            self.number(length as i64);
        }
        PlanToken {
            cutoff_ms: criteria.cutoff_ms,
            now_ms: criteria.now_ms,
            params: params(criteria.request),
            set: self.0.finalize().into(),
        }
    }

    fn number(&mut self, number: i64) {
        self.0.update(number.to_le_bytes());
    }

    fn bytes(&mut self, field: Option<&[u8]>) {
        match field {
            Some(field) => {
                self.0.update((field.len() as u64).to_le_bytes());
                self.0.update(field);
            }
            None => self.0.update(u64::MAX.to_le_bytes()),
        }
    }
}

/// A digest of what a plan shows of one job.
#[derive(Debug, Clone, Copy)]
pub(super) struct JobDigest([u8; 16]);

impl JobDigest {
    /// A digest of `job`, and, if this call has stopped it, of what it was `before`.
    pub(super) fn of(job: &JobRow<'_>, before: Option<&Stopped>, layout: &Layout) -> Self {
        let mut digest = Digest(Sha256::new());
        let phase = before.map_or(job.phase(), |before| before.job.phase.as_deref());
        let tags = match job.tags() {
            JobTags::Column(tags) | JobTags::Spec(tags) => Some(tags.as_bytes()),
            JobTags::Unreadable => None,
        };
        // Nearly always the two names are equal; none is empty.
        let action_id = job.action_id().map(|id| if job.action() == Some(id) { b"" } else { id });
        for field in [phase.map(str::as_bytes), job.context(), job.action(), action_id, tags] {
            digest.bytes(field);
        }
        // That it ran again shows in its attempt, or, in a layout without attempts, in its times. Where an id may be used
        // again, another job shows in its creation time.
        let attempt = before.map_or(job.attempt(), |before| before.job.attempt);
        let started_at = before.map_or(job.started_at(), |before| before.job.started_at_ms);
        let finished_at = before.map_or(job.finished_at(), |before| before.finished_at);
        let ran = if layout.jobs.attempt.is_some() { &[attempt][..] } else { &[started_at, finished_at] };
        let created_at = job.created_at().filter(|_| !layout.jobs.autoincrement);
        for time in ran.iter().chain([&created_at]) {
            digest.bytes(time.map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice));
        }
        // Half of it is enough to tell a job from what it was, and there may be a million of them.
        let mut half = [0; 16];
        half.copy_from_slice(&digest.0.finalize()[..16]);
        Self(half)
    }
}

/// A digest of what a plan shows of one action beside its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct ActionDigest([u8; 16]);

impl ActionDigest {
    /// The times of `action`, or, in a layout without times, a digest of its spec.
    pub(super) fn of(action: &ActionRow<'_>, layout: &Layout) -> Self {
        let mut digest = [0; 16];
        if layout.actions.created_at.or(layout.actions.updated_at).is_some() {
            let [created_at, updated_at] =
                [action.created_at(), action.updated_at()].map(|time| time.unwrap_or(i64::MIN).to_le_bytes());
            digest[..8].copy_from_slice(&created_at);
            digest[8..].copy_from_slice(&updated_at);
        } else {
            digest.copy_from_slice(&Sha256::digest(action.spec())[..16]);
        }
        Self(digest)
    }
}
