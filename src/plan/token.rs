//! The token of a plan: what was shown, in a form that a later call can be bound to.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{Criteria, Unfinished};

/// What a dry run showed, as one word: the cut-off, and a digest of the params, of the planned jobs (their ids with
/// their phases, tags and actions), of the planned actions, and of how many rows of other tables go with them. Opaque; it
/// says nothing about their content.
///
/// It stays the same across processes and restarts for as long as the same set would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanToken {
    /// In milliseconds since the Unix epoch.
    cutoff_ms: Option<i64>,
    digest: [u8; 32],
}

impl PlanToken {
    /// The cut-off of the plan, in milliseconds since the Unix epoch; none for a plan without an age.
    #[must_use]
    pub fn cutoff_ms(&self) -> Option<i64> {
        self.cutoff_ms
    }
}

/// What stands in the place of the cut-off of a plan that has none.
const NO_CUTOFF: &str = "none";

impl fmt::Display for PlanToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cutoff_ms {
            Some(cutoff) => write!(f, "{cutoff}.")?,
            None => write!(f, "{NO_CUTOFF}.")?,
        }
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PlanToken {
    type Err = PlanTokenError;

    fn from_str(token: &str) -> Result<Self, Self::Err> {
        let (cutoff, hex) = token.split_once('.').ok_or(PlanTokenError(()))?;
        let cutoff_ms = match cutoff {
            NO_CUTOFF => None,
            number => Some(number.parse().map_err(|_| PlanTokenError(()))?),
        };
        let mut digest = [0; 32];
        if hex.len() != 2 * digest.len() || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(PlanTokenError(()));
        }
        for (byte, index) in digest.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&hex[index..index + 2], 16).map_err(|_| PlanTokenError(()))?;
        }
        let plan = Self { cutoff_ms, digest };
        // One plan has one spelling: "+1" and "01" are none.
        if plan.to_string() == token { Ok(plan) } else { Err(PlanTokenError(())) }
    }
}

/// A text that is no plan token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is no plan that a dry run could have given")]
pub struct PlanTokenError(());

/// What a plan is of, field by field, each with its length, so that no two lists of fields look alike.
pub(super) struct Digest(Sha256);

impl Digest {
    pub(super) fn new() -> Self {
        Self(Sha256::new())
    }

    /// A digest that begins with what was asked for.
    pub(super) fn of(criteria: &Criteria<'_>) -> Self {
        let mut digest = Self::new();
        digest.text(Some("hero_proc_cleanup plan 3"));
        digest.text(Some(match criteria.unfinished {
            Unfinished::Stay => "stay",
            Unfinished::Stop(_) | Unfinished::Stopped(_) => "stop",
        }));
        for number in [criteria.older_than_ms, criteria.cutoff_ms, i64::try_from(criteria.limit).ok()] {
            digest.text(number.map(|number| number.to_string()).as_deref());
        }
        for tag in criteria.tags {
            digest.text(Some(tag.as_str()));
        }
        digest.text(None);
        digest
    }

    pub(super) fn number(&mut self, number: i64) {
        self.0.update(number.to_le_bytes());
    }

    pub(super) fn text(&mut self, field: Option<&str>) {
        match field {
            Some(field) => {
                self.0.update((field.len() as u64).to_le_bytes());
                self.0.update(field);
            }
            None => self.0.update(u64::MAX.to_le_bytes()),
        }
    }

    /// A job, by its id and a digest of its own.
    pub(super) fn job(&mut self, id: i64, digest: &[u8; 32]) {
        self.number(id);
        self.0.update(digest);
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    pub(super) fn token(self, cutoff_ms: Option<i64>) -> PlanToken {
        PlanToken { cutoff_ms, digest: self.finish() }
    }
}
