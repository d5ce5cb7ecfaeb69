//! The token of a plan: a short name of what was shown, which a later call can be bound to.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::actions::Actions;
use super::{Criteria, Unfinished};

/// A name of what a dry run showed: the cut-off, and a digest of the params, of the planned jobs (their ids with their phases,
/// tags and actions), of the planned actions, and of how many rows of other tables go with them. It is opaque, and says nothing
/// about their content.
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

/// The word in the place of the cut-off of a plan without one.
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

/// A digest of a plan, field by field, each with its length, so that no two lists of fields look alike.
pub(super) struct Digest(Sha256);

impl Digest {
    fn new() -> Self {
        Self(Sha256::new())
    }

    /// A digest that begins with the criteria.
    pub(super) fn of(criteria: &Criteria<'_>) -> Self {
        // Every criterion is named here, so that the compiler asks about a new one.
        let Criteria { tags, older_than_ms, cutoff_ms, limit, unfinished } = criteria;
        let mut digest = Self::new();
        digest.text(Some("hero_proc_cleanup plan 3"));
        digest.text(Some(match unfinished {
            Unfinished::Stay => "stay",
            Unfinished::Stop(_) | Unfinished::Stopped(_) => "stop",
        }));
        digest.text(older_than_ms.map(|age| age.to_string()).as_deref());
        digest.text(cutoff_ms.map(|cutoff| cutoff.to_string()).as_deref());
        digest.text(Some(&limit.to_string()));
        for tag in tags.iter() {
            digest.text(Some(tag.as_str()));
        }
        digest.text(None);
        digest
    }

    /// Adds a planned job.
    pub(super) fn job(&mut self, id: i64, digest: &JobDigest) {
        self.number(id);
        self.0.update(digest.0);
    }

    /// The token of a plan that deletes `jobs`, which were added one by one, and `actions`.
    pub(super) fn token(
        mut self,
        jobs: usize,
        actions: &Actions,
        dependents: &BTreeMap<String, u64>,
        cutoff_ms: Option<i64>,
    ) -> PlanToken {
        for id in &actions.ids {
            self.number(*id);
        }
        for name in &actions.names {
            self.text(Some(name));
        }
        for (table, rows) in dependents {
            self.text(Some(table));
            self.number(rows.cast_signed());
        }
        // The lengths say where each list ends.
        for length in [jobs, actions.ids.len(), dependents.len()] {
            self.number(length as i64);
        }
        PlanToken { cutoff_ms, digest: self.0.finalize().into() }
    }

    fn number(&mut self, number: i64) {
        self.0.update(number.to_le_bytes());
    }

    fn text(&mut self, field: Option<&str>) {
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
#[derive(Debug)]
pub(super) struct JobDigest([u8; 32]);

impl JobDigest {
    pub(super) fn of(fields: [Option<&str>; 5]) -> Self {
        let mut digest = Digest::new();
        for field in fields {
            digest.text(field);
        }
        Self(digest.0.finalize().into())
    }
}
