//! Which actions go, and why the other candidates stay.
//!
//! ```text
//! each row ─ gather ─┬─▶ Candidate: a planned job refers to it, or no job does (leaked)
//!                    └─▶ Dependant: what it depends on
//! jobs, services, dependants that stay, the candidate itself ─ keep ─▶ what stays, to a fixed point
//! leaked candidates beyond the limit ─ leave ─▶ what stays because of these
//! ```

use std::collections::HashMap;

use super::jobs::Jobs;
use super::order::Order;
use super::references::{Doomed, HashedMap, JobReferences, Keys, Target};
use super::token::ActionDigest;
use super::{Criteria, FIRST_MS};
use crate::report::{KeptAction, Reason, Referrer};
use crate::request::Leaked;
use crate::spec::{self, Searches};
use crate::store::{ActionRow, Layout, Snapshot, StoreError};

/// The decision about the actions.
#[derive(Default)]
pub(super) struct Actions {
    /// The row ids of the actions that go, ascending.
    pub(super) ids: Vec<i64>,
    /// Their names, sorted.
    pub(super) names: Vec<String>,
    /// The bytes of the rows of `ids`.
    pub(super) bytes: u64,
    /// What the plan shows of each of `ids`.
    pub(super) digests: Vec<ActionDigest>,
    /// The number of `ids` that no planned job refers to.
    pub(super) leaked: u64,
    /// The number of leaked actions that are left to further calls.
    pub(super) left: u64,
    /// The candidates that stay, sorted by name, as far as they are listed.
    pub(super) kept: Vec<KeptAction>,
    /// The number of candidates that stay.
    pub(super) kept_count: u64,
}

/// Decides about the actions that the planned jobs refer to, and about those that no job refers to.
pub(super) fn decide(
    snapshot: &Snapshot<'_>,
    criteria: &Criteria<'_>,
    keys: &Keys,
    jobs: &mut Jobs,
) -> Result<Actions, StoreError> {
    let doomed = Doomed::from(std::mem::take(&mut jobs.actions));
    if doomed.is_empty() && criteria.request.leaked == Leaked::Stay {
        return Ok(Actions::default());
    }
    let references = std::mem::take(&mut jobs.references);
    let mut found = FoundActions::default();
    let reader = ActionReader {
        layout: snapshot.layout(),
        criteria,
        keys,
        doomed,
        references: &references,
        searches: Searches::new(&criteria.request.tags),
    };
    snapshot.actions(
        |batch: &mut Batch, action| {
            reader.gather(batch, &action);
            Ok(())
        },
        |batch| {
            found.candidates.extend(batch.candidates);
            found.dependants.extend(batch.dependants);
            Ok(())
        },
    )?;
    drop(reader);
    if found.candidates.is_empty() {
        return Ok(Actions::default());
    }
    found.read_services(snapshot, keys)?;
    found.settle(snapshot, criteria, &references)
}

/// What the rows are read with.
struct ActionReader<'d> {
    layout: &'d Layout,
    criteria: &'d Criteria<'d>,
    keys: &'d Keys,
    doomed: Doomed,
    references: &'d JobReferences,
    searches: Searches,
}

/// The content of some rows, each taken by itself.
#[derive(Default)]
struct Batch {
    candidates: Vec<Candidate>,
    dependants: Vec<Dependant>,
    /// Where the next action is likely to stand among the doomed ones.
    next: usize,
}

/// An action that may go.
#[derive(Debug)]
struct Candidate {
    id: i64,
    target: Target,
    name: Box<str>,
    /// No job refers to it.
    leaked: bool,
    /// Why its own row keeps it, if it does.
    own_reason: Option<Reason>,
    digest: ActionDigest,
    /// The bytes of its row.
    bytes: u64,
}

/// An action that depends on others.
#[derive(Debug)]
struct Dependant {
    id: i64,
    on: Box<[Target]>,
}

impl ActionReader<'_> {
    fn gather(&self, batch: &mut Batch, action: &ActionRow<'_>) {
        let target = || self.keys.target(action.context(), action.name());
        let name = action.text_name();
        let of_a_job = name.is_some_and(|(context, name)| self.doomed.hold(self.keys, context, name, &mut batch.next));
        let mut may_be_leaked = false;
        if !of_a_job {
            let hints = self.searches.search(action.spec());
            may_be_leaked = self.criteria.request.leaked == Leaked::Go
                && hints.tagged
                && name.is_some()
                && self.references.by(target()).is_none();
            if !may_be_leaked && !hints.depends {
                return;
            }
        }

        let criteria = self.criteria;
        let mut missing = criteria.request.tags.all_missing();
        let [mut has_root, mut excepted] = [false; 2];
        let mut on = Vec::new();
        let spec = spec::read(
            action.spec(),
            &mut |tag| {
                missing.found(tag);
                has_root |= tag == criteria.request.tags.root().as_str();
                excepted |= criteria.request.except_tags.iter().any(|except| except.as_str() == tag);
            },
            &mut |name| self.keys.meant(action.context(), name, |meant| on.push(meant)),
        );
        if !on.is_empty() {
            on.sort_unstable();
            on.dedup();
            batch.dependants.push(Dependant { id: action.id, on: on.into() });
        }
        let leaked = may_be_leaked && spec.readable && missing.none() && !excepted;
        if of_a_job || leaked {
            let own_reason = if spec.scheduled {
                Some(Reason::Schedule)
            } else if !(spec.readable && has_root) {
                Some(Reason::Untagged)
            } else {
                criteria
                    .set_recently(action)
                    .or_else(|| (leaked && last_set(action).is_none()).then_some(Reason::Undated))
            };
            batch.candidates.push(Candidate {
                id: action.id,
                target: target(),
                name: action.display_name().into(),
                leaked,
                own_reason,
                digest: ActionDigest::of(action, self.layout),
                bytes: action.bytes(),
            });
        }
    }
}

/// When an action was last set, if its row says so.
fn last_set(action: &ActionRow<'_>) -> Option<i64> {
    [action.created_at(), action.updated_at()].into_iter().flatten().filter(|time| *time >= FIRST_MS).max()
}

impl Criteria<'_> {
    /// The reason that keeps an action which was set after the cut-off or within the grace.
    fn set_recently(&self, action: &ActionRow<'_>) -> Option<Reason> {
        let set = last_set(action)?;
        let recent = self.cutoff_ms.is_some_and(|cutoff| set > cutoff) || set > self.grace_from_ms;
        recent.then_some(Reason::Recent)
    }
}

/// What all rows together say.
#[derive(Default)]
struct FoundActions {
    /// Ids ascending.
    candidates: Vec<Candidate>,
    /// Ids ascending.
    dependants: Vec<Dependant>,
    /// The names of services, as far as the report repeats them.
    services: Vec<String>,
    /// The targets of services, each with the service of the first name.
    listed: HashedMap<usize>,
}

/// Why a candidate stays.
#[derive(Debug, Clone, Copy)]
enum Why {
    /// The job with this id refers to it.
    Job(i64),
    /// The service with this number lists it.
    Service(usize),
    /// The action with this row id depends on it.
    Action(i64),
    /// Its own row keeps it.
    Own(Reason),
}

/// The most characters of a referrer's name in a report.
const MOST_REPEATED: usize = 256;

impl FoundActions {
    fn read_services(&mut self, snapshot: &Snapshot<'_>, keys: &Keys) -> Result<(), StoreError> {
        snapshot.services(|service| {
            let number = self.services.len();
            let listed = &mut self.listed;
            let mut list = |name: &[u8]| {
                keys.meant(service.context, name, |target| {
                    listed.entry(target).or_insert(number);
                });
            };
            spec::read(service.spec, &mut |_| {}, &mut list);
            spec::names(service.actions, &mut list);
            self.services.push(shortened(&String::from_utf8_lossy(service.name)));
            Ok(())
        })
    }

    fn settle(
        mut self,
        snapshot: &Snapshot<'_>,
        criteria: &Criteria<'_>,
        references: &JobReferences,
    ) -> Result<Actions, StoreError> {
        let mut kept = self.kept(references);
        let left = self.leave(&mut kept, criteria.request.limit());
        let mut actions = Actions { left: left.iter().filter(|left| **left).count() as u64, ..Actions::default() };
        // Lists that grow side by side leave gaps in memory.
        let go = kept.iter().zip(&left).filter(|(kept, left)| kept.is_none() && !**left).count();
        actions.ids.reserve_exact(go);
        actions.digests.reserve_exact(go);
        actions.names.reserve_exact(go);
        let mut stay = Vec::new();
        for (index, candidate) in self.candidates.iter_mut().enumerate() {
            match kept[index] {
                _ if left[index] => {}
                Some(why) => stay.push((index, why)),
                None => {
                    actions.ids.push(candidate.id);
                    actions.digests.push(candidate.digest);
                    actions.names.push(std::mem::take(&mut candidate.name).into());
                    actions.leaked += u64::from(candidate.leaked);
                    actions.bytes += candidate.bytes;
                }
            }
        }
        actions.names.sort_unstable();
        actions.kept_count = stay.len() as u64;
        stay.sort_unstable_by_key(|(index, _)| &self.candidates[*index].name);
        stay.truncate(criteria.request.max_ids);
        let referrers = stay.iter().filter_map(|(_, why)| if let Why::Action(id) = why { Some(*id) } else { None });
        let mut names: HashMap<i64, String> = HashMap::new();
        snapshot.actions_by_id(referrers, |action| drop(names.insert(action.id, shortened(&action.display_name()))))?;
        for (index, why) in stay {
            let action_id = self.candidates[index].name.to_string();
            let (reason, by) = match why {
                Why::Job(id) => (Reason::Job, Some(Referrer::Job(id))),
                Why::Service(number) => (Reason::Service, self.services.get(number).cloned().map(Referrer::Service)),
                Why::Action(id) => (Reason::Action, names.get(&id).cloned().map(Referrer::Action)),
                Why::Own(reason) => (reason, None),
            };
            actions.kept.push(KeptAction { action_id, reason, by });
        }
        Ok(actions)
    }

    /// For each candidate, why it stays, as if there were no limit.
    fn kept(&self, references: &JobReferences) -> Vec<Option<Why>> {
        let of_others = |candidate: &Candidate| {
            let job = references.by(candidate.target).map(Why::Job);
            job.or_else(|| self.listed.get(&candidate.target).map(|number| Why::Service(*number)))
        };
        let mut kept: Vec<Option<Why>> = self.candidates.iter().map(of_others).collect();
        // Whatever is no candidate stays, and keeps what it depends on; so does a candidate that stays.
        let depended_on = self.depended_on();
        let mut staying: Vec<usize> = Vec::new();
        for (place, dependant) in self.dependants.iter().enumerate() {
            match self.candidate(dependant.id) {
                None => staying.push(place),
                Some(index) if kept[index].is_some() || self.candidates[index].own_reason.is_some() => {
                    staying.push(place);
                }
                Some(_) => {}
            }
        }
        self.follow(staying, &depended_on, &mut kept);
        for (candidate, kept) in self.candidates.iter().zip(&mut kept) {
            *kept = kept.or(candidate.own_reason.map(Why::Own));
        }
        kept
    }

    /// The candidates on which something depends, by their target.
    fn depended_on(&self) -> HashedMap<Vec<usize>> {
        let mut depended_on: HashedMap<Vec<usize>> = HashedMap::default();
        for target in self.dependants.iter().flat_map(|dependant| &dependant.on) {
            depended_on.entry(*target).or_default();
        }
        if !depended_on.is_empty() {
            for (index, candidate) in self.candidates.iter().enumerate() {
                if let Some(candidates) = depended_on.get_mut(&candidate.target) {
                    candidates.push(index);
                }
            }
        }
        depended_on
    }

    /// The places of the candidates on which `dependant` depends, itself aside.
    fn on<'f>(
        &'f self,
        dependant: &'f Dependant,
        depended_on: &'f HashedMap<Vec<usize>>,
    ) -> impl Iterator<Item = usize> + 'f {
        let candidates = dependant.on.iter().filter_map(|target| depended_on.get(target)).flatten().copied();
        candidates.filter(|index| self.candidates[*index].id != dependant.id)
    }

    /// The place of the candidate `id`.
    fn candidate(&self, id: i64) -> Option<usize> {
        self.candidates.binary_search_by_key(&id, |candidate| candidate.id).ok()
    }

    fn dependant(&self, id: i64) -> Option<usize> {
        self.dependants.binary_search_by_key(&id, |dependant| dependant.id).ok()
    }

    /// Keeps what the dependants at the places `staying` depend on, and what these depend on, for the lowest dependant each.
    fn follow(&self, mut staying: Vec<usize>, depended_on: &HashedMap<Vec<usize>>, kept: &mut [Option<Why>]) {
        let mut followed = vec![false; self.dependants.len()];
        // The lowest is followed first.
        staying.sort_unstable_by(|one, other| other.cmp(one));
        while let Some(place) = staying.pop() {
            if std::mem::replace(&mut followed[place], true) {
                continue;
            }
            for index in self.on(&self.dependants[place], depended_on) {
                // A reason of its own comes after this one.
                if matches!(kept[index], None | Some(Why::Own(_))) {
                    kept[index] = Some(Why::Action(self.dependants[place].id));
                }
                staying.extend(self.dependant(self.candidates[index].id));
            }
        }
    }

    /// For each candidate, whether it is a leaked one that is left to further calls, since `limit` others go. A candidate
    /// that a left one depends on stays, too.
    fn leave(&self, kept: &mut [Option<Why>], limit: usize) -> Vec<bool> {
        let goes: Vec<bool> = kept.iter().map(Option::is_none).collect();
        let leaked = |index: &usize| self.candidates[*index].leaked;
        if (0..goes.len()).filter(|index| goes[*index] && leaked(index)).count() <= limit {
            return vec![false; goes.len()];
        }
        let depended_on = self.depended_on();
        // An action waits for those that depend on it.
        let mut waits_for: HashMap<usize, Vec<usize>> = HashMap::new();
        for dependant in &self.dependants {
            let Some(from) = self.candidate(dependant.id).filter(|from| goes[*from]) else { continue };
            for on in self.on(dependant, &depended_on) {
                waits_for.entry(on).or_default().push(from);
            }
        }
        let (mut taken, mut left) = (0, goes.clone());
        // Actions of jobs are no concern of the limit: what waits for them alone waits for nothing, and a circle has the place of
        // its lowest leaked one.
        let order = Order::new(goes.len(), &waits_for, |index| goes[index]);
        let mut order = order.before(|index| !leaked(&index));
        while let Some(unit) = order.next() {
            let of_limit = unit.iter().filter(|index| leaked(index)).count();
            if of_limit > 0 && taken >= limit {
                order.refuse_last();
                continue;
            }
            taken += of_limit;
            for index in unit {
                left[index] = false;
            }
        }
        for (index, left) in left.iter_mut().enumerate() {
            *left &= leaked(&index);
        }
        let of_left = |place: &usize| self.candidate(self.dependants[*place].id).is_some_and(|index| left[index]);
        self.follow((0..self.dependants.len()).filter(of_left).collect(), &depended_on, kept);
        left
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(MOST_REPEATED).collect()
}
