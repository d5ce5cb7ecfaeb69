//! Which of the jobs that can go are taken by this call: in the order of their ids, up to what a call may take.

use std::collections::BTreeMap;

use super::super::choice::{Applicant, Choice, Unit};
use super::super::job::{JobReader, Shown};
use super::FoundJobs;
use crate::store::{Snapshot, StoreError};

/// The most rows of other tables in a batch, for each job of its limit: their deletion holds the lock as well.
const MOST_DEPENDENTS: u64 = 20;

/// The most bytes of jobs and actions in a batch, unless its limit was given.
const MOST_BYTES: u64 = 1 << 30;

impl FoundJobs {
    /// The applicants that go in this call, ascending, by their places; and, in the jobs, the rows that go with them.
    pub(super) fn take(
        &mut self,
        snapshot: &Snapshot<'_>,
        reader: &JobReader<'_>,
        choice: &Choice<'_>,
        applicants: &[Applicant],
    ) -> Result<Vec<usize>, StoreError> {
        let limit = reader.criteria.request.limit();
        let mut units = choice.units(limit);
        let bytes_are_bound = reader.criteria.request.limit.is_none() && snapshot.bytes()? > MOST_BYTES;
        // Those that were not weighed as they were read are read again.
        let weighed = units.iter().filter(|unit| !unit.untried || bytes_are_bound).flat_map(|unit| &unit.members);
        let unseen: Vec<usize> = weighed.copied().filter(|index| self.shown_at(*index).is_err()).collect();
        snapshot.jobs_by_id(unseen.iter().map(|index| applicants[*index].id), |job| {
            if let Ok(index) = applicants.binary_search_by_key(&job.id, |applicant| applicant.id) {
                self.shown.resize(self.shown.len().max(index + 1), None);
                self.shown[index] = job.bytes().map(|bytes| reader.shown(&job, bytes));
            }
        })?;

        if bytes_are_bound {
            let mut actions = snapshot.action_bytes(|context, name| reader.keys.name(context, name))?;
            end_before(&mut units, MOST_BYTES, |unit| {
                let mut bytes = 0;
                for index in &unit.members {
                    let Shown { action, bytes: of_job, .. } = self.shown_at(*index)?;
                    let of_action = action.and_then(|action| match unit.untried {
                        true => actions.get(&action).copied(),
                        false => actions.remove(&action),
                    });
                    bytes += of_job + of_action.unwrap_or_default();
                }
                Ok(bytes)
            })?;
        }
        let most = MOST_DEPENDENTS * limit as u64;
        let mut dependents = bound_dependents(snapshot, &mut units, applicants, most)?;
        if units.iter().any(|unit| unit.untried) {
            // The batch ends before one of these, as that of the plan did, or they are passed over.
            units.retain(|unit| !unit.untried);
            dependents = bound_dependents(snapshot, &mut units, applicants, most)?;
        }
        self.jobs.dependents = dependents;
        let mut taken: Vec<usize> = units.into_iter().flat_map(|unit| unit.members).collect();
        taken.sort_unstable();
        Ok(taken)
    }

    pub(super) fn shown_at(&self, index: usize) -> Result<Shown, StoreError> {
        self.shown.get(index).copied().flatten().ok_or_else(StoreError::damaged)
    }
}

/// The rows of other tables that go with `units`, once these end before the one with which they would be more than `most`.
fn bound_dependents(
    snapshot: &Snapshot<'_>,
    units: &mut Vec<Unit>,
    applicants: &[Applicant],
    most: u64,
) -> Result<BTreeMap<String, u64>, StoreError> {
    let ids = |units: &[Unit]| -> Vec<i64> {
        units.iter().flat_map(|unit| &unit.members).map(|index| applicants[*index].id).collect()
    };
    let dependents = snapshot.dependents(&ids(units))?;
    if dependents.values().sum::<u64>() <= most {
        return Ok(dependents);
    }
    let mut each = snapshot.dependents_of_each(&ids(units))?.into_iter();
    end_before(units, most, |unit| Ok(each.by_ref().take(unit.members.len()).sum()))?;
    snapshot.dependents(&ids(units))
}

/// Ends `units` before the one with which those that are taken would weigh more than `most`. The first one that is taken
/// goes whatever it weighs.
fn end_before(
    units: &mut Vec<Unit>,
    most: u64,
    mut weight: impl FnMut(&Unit) -> Result<u64, StoreError>,
) -> Result<(), StoreError> {
    let mut taken: Option<u64> = None;
    for (place, unit) in units.iter().enumerate() {
        let with = taken.unwrap_or(0) + weight(unit)?;
        if with > most && taken.is_some() {
            units.truncate(place);
            break;
        }
        if !unit.untried {
            taken = Some(with);
        }
    }
    Ok(())
}
