//! The choice among jobs that their own rows let go: what other jobs say against it, and in which order they are taken.
//!
//! No SQL and no JSON is in here: jobs are ids, and the relations between them.
//!
//! # Who goes, as if there were no limit
//!
//! A job goes unless a row of another table holds it, it is among the last of its group, an unfinished job of its run
//! stays, or a job that stays holds it. The last two depend on who stays, so each job that turns out to stay is followed to
//! those that it keeps. What is left is the largest set that no job outside of it keeps.
//!
//! # Who is taken, under a limit
//!
//! Jobs are taken by ascending id. A job waits for the jobs that hold it and for the unfinished jobs of its run, since a
//! batch that takes it before them would leave a dangling row or half a run. Jobs that wait for each other in a circle are
//! one *unit*, which is taken whole, even beyond the limit. Any other job is a unit by itself.

use std::collections::{HashMap, HashSet};

use super::order::Order;

/// A job that its own row lets go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Applicant {
    pub(super) id: i64,
    pub(super) run: Option<i64>,
    /// It has not finished: it goes if it can be stopped, or because it was.
    pub(super) unfinished: bool,
    /// It is among the last of its group.
    pub(super) kept_last: bool,
    /// A row of another table holds it.
    pub(super) held: bool,
    /// Nobody has tried to stop it in this call: it goes, but can't be taken yet.
    pub(super) untried: bool,
    /// Only its head has been read in this decision: if it is taken, it must be read whole first.
    pub(super) recalled: bool,
}

/// The relations of jobs beyond their own rows.
#[derive(Debug, Default)]
pub(super) struct Relations {
    /// Runs with an unfinished job that certainly stays.
    pub(super) active_runs: HashSet<i64>,
    /// Jobs that other jobs hold: (the one that is held, the one that holds it).
    pub(super) holders: Vec<(i64, i64)>,
}

/// Why an applicant stays, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    RunActive,
    KeptLast,
    Referenced,
}

/// Applicants that are taken together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Their places, ascending.
    pub(super) members: Vec<usize>,
    /// It can't be taken yet, since nobody has tried to stop one of them.
    pub(super) untried: bool,
}

/// The applicants that go, and why the others stay.
pub(super) struct Choice<'a> {
    applicants: &'a [Applicant],
    /// For each applicant, why it stays.
    against: Vec<Option<Against>>,
    /// For each applicant that has any, the applicants that it holds, and those that hold it.
    holds: HashMap<usize, Vec<usize>>,
    held_by: HashMap<usize, Vec<usize>>,
    runs: HashMap<i64, Run>,
}

/// The applicants of one run.
#[derive(Debug, Default)]
struct Run {
    members: Vec<usize>,
    unfinished: Vec<usize>,
    /// The number of `unfinished` that stay.
    staying: usize,
}

/// Chooses among `applicants`, whose ids ascend.
pub(super) fn choose<'a>(applicants: &'a [Applicant], relations: &Relations) -> Choice<'a> {
    let place = |id: i64| applicants.binary_search_by_key(&id, |applicant| applicant.id).ok();
    let mut choice = Choice {
        applicants,
        against: vec![None; applicants.len()],
        holds: HashMap::new(),
        held_by: HashMap::new(),
        runs: HashMap::new(),
    };
    for (index, applicant) in applicants.iter().enumerate() {
        // A run matters only if one of its jobs has not finished.
        if let Some(run) = applicant.run
            && applicant.unfinished
        {
            choice.runs.entry(run).or_default().unfinished.push(index);
        }
    }
    for (index, applicant) in applicants.iter().enumerate() {
        if let Some(run) = applicant.run.and_then(|run| choice.runs.get_mut(&run)) {
            run.members.push(index);
        }
    }

    let mut staying = Vec::new();
    for (index, applicant) in applicants.iter().enumerate() {
        if applicant.kept_last
            || applicant.held
            || applicant.run.is_some_and(|run| relations.active_runs.contains(&run))
        {
            staying.push(index);
        }
    }
    for (held, holder) in &relations.holders {
        match (place(*held), place(*holder)) {
            // A job that holds itself holds nothing once it goes.
            (Some(held), Some(holder)) if held == holder => {}
            (Some(held), Some(holder)) => {
                choice.holds.entry(holder).or_default().push(held);
                choice.held_by.entry(held).or_default().push(holder);
            }
            // Its holder's own row keeps that one.
            (Some(held), None) => staying.push(held),
            (None, _) => {}
        }
    }
    choice.follow(staying);
    choice.name_reasons(relations);
    choice
}

impl<'a> Choice<'a> {
    /// Why each applicant stays; none for those that go.
    pub(super) fn against(&self) -> &[Option<Against>] {
        &self.against
    }

    /// Marks `staying` and all whom these keep.
    fn follow(&mut self, mut staying: Vec<usize>) {
        while let Some(index) = staying.pop() {
            if self.against[index].replace(Against::Referenced).is_some() {
                continue;
            }
            staying.extend(self.holds.get(&index).into_iter().flatten());
            let applicant = self.applicants[index];
            if applicant.unfinished
                && let Some(run) = applicant.run.and_then(|run| self.runs.get_mut(&run))
            {
                staying.append(&mut run.members);
            }
        }
    }

    /// Names the first reason of each applicant that stays, now that all of them are known.
    fn name_reasons(&mut self, relations: &Relations) {
        for run in self.runs.values_mut() {
            run.staying = run.unfinished.iter().filter(|index| self.against[**index].is_some()).count();
        }
        for (index, applicant) in self.applicants.iter().enumerate() {
            if self.against[index].is_none() {
                continue;
            }
            let mates_that_stay = |run: &Run| run.staying - usize::from(applicant.unfinished);
            let run_active = applicant.run.is_some_and(|run| {
                relations.active_runs.contains(&run) || self.runs.get(&run).is_some_and(|run| mates_that_stay(run) > 0)
            });
            self.against[index] = Some(if run_active {
                Against::RunActive
            } else if applicant.kept_last {
                Against::KeptLast
            } else {
                Against::Referenced
            });
        }
    }

    /// The applicants that go, in the order in which they are taken, until as many as `limit` can be taken, or more where a
    /// unit goes beyond it. A unit that can't be taken yet has its place among them; whatever waits for it has none.
    pub(super) fn units(&self, limit: usize) -> Vec<Unit> {
        let goes = |index: usize| self.against[index].is_none();
        let mut waits_for: HashMap<usize, Vec<usize>> = HashMap::new();
        for (held, holders) in &self.held_by {
            if goes(*held) {
                waits_for.entry(*held).or_default().extend(holders);
            }
        }
        for run in self.runs.values() {
            let unfinished: Vec<usize> = run.unfinished.iter().copied().filter(|index| goes(*index)).collect();
            let [first, rest @ ..] = unfinished.as_slice() else { continue };
            // The unfinished jobs of a run wait for each other: one circle through all of them says so.
            for (one, other) in unfinished.iter().zip(rest.iter().chain([first])) {
                waits_for.entry(*one).or_default().push(*other);
            }
            for member in run.members.iter().filter(|member| goes(**member)) {
                if !self.applicants[*member].unfinished {
                    waits_for.entry(*member).or_default().push(*first);
                }
            }
        }
        let mut order = Order::new(self.applicants.len(), &waits_for, goes);
        let (mut units, mut count) = (Vec::new(), 0);
        while count < limit
            && let Some(members) = order.next()
        {
            let untried = members.iter().any(|index| self.applicants[*index].untried);
            if untried {
                order.refuse_last();
            } else {
                count += members.len();
            }
            units.push(Unit { members, untried });
        }
        units.truncate(units.iter().rposition(|unit| !unit.untried).map_or(0, |last| last + 1));
        units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: i64) -> Applicant {
        Applicant { id, ..Applicant::default() }
    }

    fn in_run(id: i64, run: i64, unfinished: bool) -> Applicant {
        Applicant { id, run: Some(run), unfinished, ..Applicant::default() }
    }

    fn against(applicants: &[Applicant], relations: &Relations) -> Vec<Option<Against>> {
        choose(applicants, relations).against().to_vec()
    }

    /// The ids of the units as they are taken.
    fn taken(applicants: &[Applicant], relations: &Relations) -> Vec<Vec<i64>> {
        let units = choose(applicants, relations).units(usize::MAX);
        let taken = units.into_iter().filter(|unit| !unit.untried);
        taken.map(|unit| unit.members.into_iter().map(|index| applicants[index].id).collect()).collect()
    }

    fn held_by(holders: &[(i64, i64)]) -> Relations {
        Relations { holders: holders.to_vec(), ..Relations::default() }
    }

    #[test]
    fn jobs_without_relations_are_taken_one_by_one() {
        assert_eq!(taken(&[job(-3), job(2), job(9)], &Relations::default()), [[-3], [2], [9]]);
        assert_eq!(taken(&[], &Relations::default()), [[0; 0]; 0]);
    }

    #[test]
    fn an_unfinished_job_that_stays_keeps_its_run() {
        let finished = [in_run(1, 7, false), in_run(2, 8, false), job(3)];
        let active = Relations { active_runs: HashSet::from([7]), ..Relations::default() };
        assert_eq!(against(&finished, &active), [Some(Against::RunActive), None, None]);
        // One that would go, but is held, keeps the others; it is none of its own mates.
        let held = Applicant { held: true, ..in_run(2, 7, true) };
        let run = [in_run(1, 7, false), held, in_run(3, 8, true)];
        assert_eq!(against(&run, &Relations::default()), [Some(Against::RunActive), Some(Against::Referenced), None]);
        let run = [held, in_run(3, 7, true)];
        assert_eq!(against(&run, &Relations::default()), [Some(Against::RunActive); 2], "each for the other");
    }

    #[test]
    fn only_a_holder_that_stays_holds() {
        let jobs = [job(1), job(2), Applicant { kept_last: true, ..job(3) }];
        assert_eq!(against(&jobs[..2], &held_by(&[(1, 2)])), [None, None]);
        assert_eq!(
            against(&jobs, &held_by(&[(1, 2), (2, 3)])),
            [Some(Against::Referenced), Some(Against::Referenced), Some(Against::KeptLast)],
            "along a chain"
        );
        assert_eq!(
            against(&jobs[..1], &held_by(&[(1, 99)])),
            [Some(Against::Referenced)],
            "by a job that is no applicant"
        );
        assert_eq!(against(&jobs[..1], &held_by(&[(1, 1)])), [None], "by itself");
    }

    #[test]
    fn the_first_reason_is_named() {
        let relations = Relations { active_runs: HashSet::from([7]), holders: vec![(1, 99), (2, 99)] };
        let last = Applicant { kept_last: true, held: true, ..job(2) };
        assert_eq!(
            against(&[in_run(1, 7, false), last], &relations),
            [Some(Against::RunActive), Some(Against::KeptLast)]
        );
    }

    #[test]
    fn a_job_waits_for_its_holder() {
        let jobs = [job(1), job(2), job(3), job(4)];
        assert_eq!(taken(&jobs, &held_by(&[(1, 3)])), [[2], [3], [1], [4]]);
        assert_eq!(taken(&jobs, &held_by(&[(1, 2), (2, 3), (3, 4)])), [[4], [3], [2], [1]]);
    }

    #[test]
    fn a_circle_is_taken_whole() {
        let jobs = [job(1), job(2), job(3), job(4)];
        assert_eq!(taken(&jobs, &held_by(&[(1, 3), (3, 1)])), [vec![1, 3], vec![2], vec![4]]);
        assert_eq!(taken(&jobs, &held_by(&[(1, 3), (3, 1), (2, 1), (3, 4)])), [vec![4], vec![1, 3], vec![2]]);
    }

    #[test]
    fn a_run_waits_for_its_unfinished_jobs_which_go_together() {
        let run = [in_run(1, 7, false), job(2), in_run(3, 7, true), in_run(4, 7, true), in_run(5, 7, true)];
        assert_eq!(taken(&run, &Relations::default()), [vec![2], vec![3, 4, 5], vec![1]]);
    }

    #[test]
    fn what_nobody_tried_to_stop_is_not_taken_nor_what_waits_for_it() {
        let untried = Applicant { untried: true, ..in_run(3, 7, true) };
        let jobs = [in_run(1, 7, false), job(2), untried, job(4)];
        assert_eq!(against(&jobs, &held_by(&[(4, 1)])), [None; 4]);
        assert_eq!(taken(&jobs, &held_by(&[(4, 1)])), [[2]]);
        // It has its place among those that are taken, up to the limit.
        let places = |limit| choose(&jobs, &Relations::default()).units(limit);
        let unit = |place, untried| Unit { members: vec![place], untried };
        assert_eq!(places(2), [unit(1, false), unit(2, true), unit(3, false)]);
        assert_eq!(places(1), [unit(1, false)]);
        assert_eq!(choose(&jobs[..3], &Relations::default()).units(2), [unit(1, false)]);
    }
}
