//! The order in which things go that wait for each other: the lowest first, none before those it waits for.
//!
//! Things are numbered from 0. Things that wait for each other in a circle are one *unit*, which goes whole.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// The units in the order in which they go: of those that need not wait, the one with the lowest member first.
pub(super) struct Order<G> {
    /// The number of things.
    count: usize,
    goes: G,
    /// The next thing to look at of those that are in no relation to another.
    next: usize,
    /// The unit of each thing that waits for another or is waited for.
    unit_of: HashMap<usize, usize>,
    /// The members of each unit, ascending.
    members: Vec<Vec<usize>>,
    /// For each unit, the units that wait for it.
    waiting: Vec<Vec<usize>>,
    /// For each unit, the number of those that it waits for.
    waits_for: Vec<usize>,
    /// The place of each unit: that of its lowest member, or none if it goes before all that have one.
    places: Vec<Option<usize>>,
    /// The units that need not wait any more, by their places.
    ready: BinaryHeap<Reverse<(Option<usize>, usize)>>,
    /// The unit that was returned last, if others may wait for it.
    last: Option<usize>,
}

impl<G: Fn(usize) -> bool> Order<G> {
    /// The order of the first `count` things of which `goes` is true. `waits_for` leads from a thing to those it waits for;
    /// whatever waits for a thing that does not go, does not go either.
    pub(super) fn new(count: usize, waits_for: &HashMap<usize, Vec<usize>>, goes: G) -> Self {
        let mut order = Self {
            count,
            goes,
            next: 0,
            unit_of: HashMap::new(),
            members: Vec::new(),
            waiting: Vec::new(),
            waits_for: Vec::new(),
            places: Vec::new(),
            ready: BinaryHeap::new(),
            last: None,
        };
        for mut circle in circles(waits_for) {
            circle.sort_unstable();
            let unit = order.members.len();
            order.unit_of.extend(circle.iter().map(|member| (*member, unit)));
            order.members.push(circle);
        }
        order.waiting = vec![Vec::new(); order.members.len()];
        order.waits_for = vec![0; order.members.len()];
        for (one, others) in waits_for {
            for other in others {
                let (one, other) = (order.unit_of[one], order.unit_of[other]);
                if one != other {
                    order.waiting[other].push(one);
                    order.waits_for[one] += 1;
                }
            }
        }
        order.places = order.members.iter().map(|members| members.first().copied()).collect();
        for unit in 0..order.members.len() {
            order.make_ready(unit);
        }
        order
    }

    /// The same order, in which the members that are `first` have no place: a unit has that of its lowest other member, and
    /// one without any goes as soon as it need not wait. Things in no relation to another keep their place, since nothing
    /// waits for them.
    pub(super) fn before(mut self, first: impl Fn(usize) -> bool) -> Self {
        let place = |members: &Vec<usize>| members.iter().copied().find(|member| !first(*member));
        self.places = self.members.iter().map(place).collect();
        let ready = std::mem::take(&mut self.ready);
        ready.into_iter().for_each(|Reverse((_, unit))| self.make_ready(unit));
        self
    }

    /// Says that the unit which was returned last does not go after all: whatever waits for it does not go either.
    pub(super) fn refuse_last(&mut self) {
        self.last = None;
    }

    /// Lets `unit` go, if it need not wait any more.
    fn make_ready(&mut self, unit: usize) {
        if self.waits_for[unit] == 0 && self.members[unit].iter().all(|member| (self.goes)(*member)) {
            self.ready.push(Reverse((self.places[unit], unit)));
        }
    }

    /// The lowest thing that is in no relation to another.
    fn next_single(&mut self) -> Option<usize> {
        while self.next < self.count {
            if (self.goes)(self.next) && !self.unit_of.contains_key(&self.next) {
                return Some(self.next);
            }
            self.next += 1;
        }
        None
    }
}

impl<G: Fn(usize) -> bool> Iterator for Order<G> {
    /// The members of a unit, ascending.
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        if let Some(last) = self.last.take() {
            for waiting in std::mem::take(&mut self.waiting[last]) {
                self.waits_for[waiting] -= 1;
                self.make_ready(waiting);
            }
        }
        let single = self.next_single();
        let ready = self.ready.peek().map(|Reverse((place, _))| *place);
        if let Some(single) = single
            && ready.is_none_or(|place| Some(single) < place)
        {
            self.next += 1;
            return Some(vec![single]);
        }
        let Reverse((_, unit)) = self.ready.pop()?;
        self.last = Some(unit);
        Some(std::mem::take(&mut self.members[unit]))
    }
}

/// The nodes of a graph, those of one circle together: its strongly connected components (Tarjan's algorithm, with a stack of
/// its own: chains may be as long as the store).
fn circles(edges: &HashMap<usize, Vec<usize>>) -> Vec<Vec<usize>> {
    #[derive(Clone, Copy)]
    struct Visit {
        index: usize,
        low: usize,
        on_stack: bool,
    }
    let none = Vec::new();
    let mut visits: HashMap<usize, Visit> = HashMap::new();
    let (mut stack, mut circles) = (Vec::new(), Vec::new());
    let mut roots: Vec<usize> = edges.keys().copied().collect();
    roots.sort_unstable();
    for root in roots {
        if visits.contains_key(&root) {
            continue;
        }
        // Nodes on the way, each with the number of its edges that were followed.
        let mut way = vec![(root, 0)];
        while let Some((node, followed)) = way.last_mut() {
            let node = *node;
            if *followed == 0 {
                let index = visits.len();
                visits.insert(node, Visit { index, low: index, on_stack: true });
                stack.push(node);
            }
            let next = edges.get(&node).unwrap_or(&none).get(*followed).copied();
            *followed += 1;
            if let Some(next) = next {
                match visits.get(&next) {
                    None => way.push((next, 0)),
                    Some(Visit { index, on_stack: true, .. }) => {
                        let index = *index;
                        visits.entry(node).and_modify(|visit| visit.low = visit.low.min(index));
                    }
                    Some(_) => {}
                }
                continue;
            }
            way.pop();
            let visit = visits[&node];
            if let Some((before, _)) = way.last() {
                visits.entry(*before).and_modify(|before| before.low = before.low.min(visit.low));
            }
            if visit.low == visit.index {
                let start = stack.iter().rposition(|member| *member == node).unwrap_or_default();
                let circle = stack.split_off(start);
                for member in &circle {
                    visits.entry(*member).and_modify(|visit| visit.on_stack = false);
                }
                circles.push(circle);
            }
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of 0 to 4, in which the first of each pair waits for the second.
    fn order(waits_for: &[(usize, usize)], goes: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
        let mut edges: HashMap<usize, Vec<usize>> = HashMap::new();
        for (one, other) in waits_for {
            edges.entry(*one).or_default().push(*other);
        }
        Order::new(5, &edges, goes).collect()
    }

    #[test]
    fn the_lowest_goes_first_and_none_before_those_it_waits_for() {
        let all = |_| true;
        assert_eq!(order(&[], all), [[0], [1], [2], [3], [4]]);
        assert_eq!(order(&[(0, 2)], all), [[1], [2], [0], [3], [4]]);
        assert_eq!(order(&[(0, 1), (1, 2), (2, 3), (3, 4)], all), [[4], [3], [2], [1], [0]]);
        assert_eq!(order(&[(1, 0), (1, 0), (1, 1)], all), [[0], [1], [2], [3], [4]]);
    }

    #[test]
    fn a_circle_goes_whole() {
        let all = |_| true;
        assert_eq!(order(&[(0, 2), (2, 0)], all), [vec![0, 2], vec![1], vec![3], vec![4]]);
        assert_eq!(order(&[(0, 2), (2, 0), (1, 0), (2, 3)], all), [vec![3], vec![0, 2], vec![1], vec![4]]);
    }

    #[test]
    fn what_goes_first_holds_up_nobody_who_waits_for_it() {
        let edges = HashMap::from([(0, vec![2]), (3, vec![4])]);
        let order = |first: fn(usize) -> bool| Order::new(5, &edges, |_| true).before(first).collect::<Vec<_>>();
        assert_eq!(order(|_| false), [[1], [2], [0], [4], [3]]);
        assert_eq!(order(|thing| thing == 2), [[2], [0], [1], [4], [3]]);
        assert_eq!(order(|thing| thing == 2 || thing == 4), [[2], [4], [0], [1], [3]]);
        // A circle has the place of its lowest member that is not first.
        let edges = HashMap::from([(0, vec![3]), (3, vec![0]), (1, vec![4])]);
        let order = |first: fn(usize) -> bool| Order::new(5, &edges, |_| true).before(first).collect::<Vec<_>>();
        assert_eq!(order(|thing| thing == 0), [vec![2], vec![0, 3], vec![4], vec![1]]);
        assert_eq!(order(|thing| thing == 0 || thing == 3), [vec![0, 3], vec![2], vec![4], vec![1]]);
    }

    #[test]
    fn whatever_waits_for_one_that_does_not_go_does_not_go() {
        assert_eq!(order(&[(0, 2), (3, 0)], |thing| thing != 2), [[1], [4]]);
        assert_eq!(order(&[(0, 2), (2, 0), (3, 0)], |thing| thing != 2), [[1], [4]]);
    }

    #[test]
    fn whatever_waits_for_one_that_is_refused_does_not_go() {
        let edges = HashMap::from([(0, vec![2]), (1, vec![0]), (3, vec![4])]);
        let (mut order, mut taken) = (Order::new(5, &edges, |_| true), Vec::new());
        while let Some(unit) = order.next() {
            if unit == [2] {
                order.refuse_last();
            } else {
                taken.extend(unit);
            }
        }
        assert_eq!(taken, [4, 3]);
    }

    #[test]
    fn a_chain_as_long_as_a_store_is_no_recursion() {
        let edges = (0..199_999).map(|one| (one, vec![one + 1])).collect();
        assert_eq!(Order::new(200_000, &edges, |_| true).next(), Some(vec![199_999]));
    }
}
