//! Rows, added up: every batch by itself where it is read, then all of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroI64;

use super::{AgeUsage, DayUsage, PhaseUsage, Reading, TagUsage};
use crate::phase::outcome;
use crate::plan::FIRST_MS;
use crate::store::{JobRow, Weights};
use crate::tag::Tag;

/// The ages that jobs are counted by, in milliseconds.
const AGES: [i64; 5] = [3_600_000, DAY, 7 * DAY, 30 * DAY, 90 * DAY];
/// A day, in milliseconds.
const DAY: i64 = 86_400_000;
/// The most days that are counted.
const DAYS: usize = 400;

/// Rows, and the bytes in them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Sum {
    /// Adds one row.
    pub(super) fn add(&mut self, bytes: u64) {
        self.merge(Self { rows: 1, bytes });
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

/// Jobs, added up in every way that is reported.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) all: Sum,
    pub(super) finished: u64,
    /// The first and the last creation, in milliseconds since the Unix epoch.
    pub(super) oldest: Option<i64>,
    pub(super) newest: Option<i64>,
    /// One for each prefix.
    pub(super) by: Vec<Groups>,
    pub(super) phases: Groups,
    ages: [Sum; AGES.len()],
    /// The newest days, by the number of days since the Unix epoch.
    days: BTreeMap<i64, Sum>,
    /// Bytes, one for each column.
    pub(super) columns: Vec<u64>,
    /// Bytes and id of the largest jobs; of two of one size, the lower id is the larger.
    largest: BTreeSet<(u64, Reverse<i64>)>,
}

impl Tally {
    /// Adds a job that matches.
    pub(super) fn add(&mut self, reading: &Reading<'_>, job: &JobRow<'_>, weights: &Weights<'_>) {
        let phase = job.phase();
        let finished = phase.and_then(outcome).is_some();
        let created_at = job.created_at().filter(|at| *at >= FIRST_MS);
        let mut bytes = 0;
        add_each(&mut self.columns, weights.each().inspect(|column| bytes += column));

        let one = Group {
            sum: Sum { rows: 1, bytes },
            finished: finished.into(),
            oldest: created_at.and_then(NonZeroI64::new),
            first: job.id,
        };
        self.all.add(bytes);
        self.finished += one.finished;
        self.phases.add(phase.map(|phase| reading.phase(phase)), one);
        self.by.resize_with(reading.prefixes.len(), Groups::default);
        for (groups, values) in self.by.iter_mut().zip(reading.values(job)) {
            if values.is_empty() {
                groups.add(None, one);
            }
            values.into_iter().for_each(|value| groups.add(Some(value), one));
        }
        if let Some(at) = created_at {
            self.oldest = earlier(self.oldest, Some(at));
            self.newest = self.newest.max(Some(at));
            self.days.entry(at.div_euclid(DAY)).or_default().add(bytes);
            for (age, sum) in AGES.iter().zip(&mut self.ages) {
                if at <= reading.now.saturating_sub(*age) {
                    sum.add(bytes);
                }
            }
        }
        let job = (bytes, Reverse(job.id));
        if self.largest.len() < reading.query.top || self.largest.first() < Some(&job) {
            self.largest.insert(job);
        }
        self.cut(reading.query.top);
    }

    pub(super) fn merge(&mut self, other: Self, top: usize) {
        let Self { all, finished, oldest, newest, by, phases, ages, days, columns, largest } = other;
        self.all.merge(all);
        self.finished += finished;
        self.oldest = earlier(self.oldest, oldest);
        self.newest = self.newest.max(newest);
        self.by.resize_with(self.by.len().max(by.len()), Groups::default);
        self.by.iter_mut().zip(by).for_each(|(groups, other)| groups.merge(other));
        self.phases.merge(phases);
        self.ages.iter_mut().zip(ages).for_each(|(sum, other)| sum.merge(other));
        for (day, sum) in days {
            self.days.entry(day).or_default().merge(sum);
        }
        add_each(&mut self.columns, columns);
        self.largest.extend(largest);
        self.cut(top);
    }

    /// Forgets what can't be listed any more: whatever comes, as many larger jobs and newer days are there already.
    fn cut(&mut self, top: usize) {
        while self.largest.len() > top {
            self.largest.pop_first();
        }
        while self.days.len() > DAYS {
            self.days.pop_first();
        }
    }

    /// The bytes and the id of each of the largest jobs, the largest first.
    pub(super) fn largest(&self) -> impl Iterator<Item = (u64, i64)> {
        self.largest.iter().rev().map(|&(bytes, Reverse(id))| (bytes, id))
    }

    pub(super) fn by_age(&self) -> Vec<AgeUsage> {
        let ages = AGES.iter().zip(&self.ages);
        ages.map(|(&older_than_ms, sum)| AgeUsage { older_than_ms, jobs: sum.rows, bytes: sum.bytes }).collect()
    }

    /// The newest day first.
    pub(super) fn by_day(&self) -> Vec<DayUsage> {
        let days = self.days.iter().rev();
        days.map(|(day, sum)| DayUsage { day_ms: day * DAY, jobs: sum.rows, bytes: sum.bytes }).collect()
    }
}

fn add_each(to: &mut Vec<u64>, numbers: impl IntoIterator<Item = u64>) {
    for (index, number) in numbers.into_iter().enumerate() {
        match to.get_mut(index) {
            Some(sum) => *sum += number,
            None => to.push(number),
        }
    }
}

fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

/// The prefixes behind which values are counted.
pub(super) struct Prefixes<'q>(
    /// The longest first: a tag counts under the first that it begins with.
    Vec<&'q Tag>,
);

impl<'q> Prefixes<'q> {
    pub(super) fn new(prefixes: &'q [Tag]) -> Self {
        let mut prefixes: Vec<&Tag> = prefixes.iter().collect();
        prefixes.sort_by_key(|prefix| Reverse(prefix.as_str().len()));
        Self(prefixes)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'q Tag> {
        self.0.iter().copied()
    }

    /// The place of the prefix under which `tag` counts, and the value behind it.
    pub(super) fn split<'t>(&self, tag: &'t str) -> Option<(usize, &'t str)> {
        let mut prefixes = self.iter().enumerate();
        prefixes.find_map(|(place, prefix)| Some((place, tag.strip_prefix(prefix.as_str())?)))
    }
}

impl Reading<'_> {
    /// For each prefix, the hashes of the values that `job` has behind it, each once.
    fn values(&self, job: &JobRow<'_>) -> Vec<Vec<u64>> {
        let mut values: Vec<Vec<u64>> = vec![Vec::new(); self.prefixes.len()];
        self.each_value(job, &mut |prefix, value, _| values[prefix].push(value));
        for values in &mut values {
            values.sort_unstable();
            values.dedup();
        }
        values
    }
}

/// The jobs that have one value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    sum: Sum,
    finished: u64,
    /// The creation of the oldest, in milliseconds since the Unix epoch.
    oldest: Option<NonZeroI64>,
    /// The lowest id.
    first: i64,
}

impl Group {
    fn merge(&mut self, other: Self) {
        self.sum.merge(other.sum);
        self.finished += other.finished;
        self.oldest = earlier(self.oldest, other.oldest);
        self.first = self.first.min(other.first);
    }

    /// The place of this group in a list, as far as it can be told without its name.
    fn rank(&self) -> (Reverse<u64>, Reverse<u64>, i64) {
        (Reverse(self.sum.bytes), Reverse(self.sum.rows), self.first)
    }
}

/// The jobs by what they have: a value behind a prefix, or a phase.
///
/// A value is counted under a keyed hash of it. Two of a million values collide by chance with a probability of 2^-25; then
/// their jobs count as those of one.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// A tree, since it has no spare room to speak of and never moves: 40 bytes of 70 are the group's own.
    named: BTreeMap<u64, Group>,
    /// The jobs that have none.
    without: Option<Group>,
}

impl Groups {
    fn add(&mut self, value: Option<u64>, group: Group) {
        match value {
            Some(value) => {
                self.named.entry(value).and_modify(|sum| sum.merge(group)).or_insert(group);
            }
            None => match &mut self.without {
                Some(sum) => sum.merge(group),
                None => self.without = Some(group),
            },
        }
    }

    fn merge(&mut self, other: Self) {
        other.named.into_iter().for_each(|(value, group)| self.add(Some(value), group));
        other.without.into_iter().for_each(|group| self.add(None, group));
    }

    /// The largest groups: `top`, and those beside them that only a name can tell from the last of these.
    pub(super) fn largest(&self, top: usize) -> Listed {
        let named = self.named.iter().map(|(value, group)| (Some(*value), *group));
        let mut largest: Vec<(Option<u64>, Group)> = Vec::new();
        for group in named.chain(self.without.map(|group| (None, group))) {
            let at = largest.partition_point(|(_, other)| other.rank() <= group.1.rank());
            largest.insert(at, group);
            // Two groups of one rank have a first job in common, so there are no more of them than that job has tags.
            while largest.len() > top && largest[top - 1].1.rank() < largest[largest.len() - 1].1.rank() {
                largest.pop();
            }
        }
        let names = largest.iter().filter_map(|(value, _)| Some(((*value)?, None))).collect();
        Listed { groups: largest, names, top }
    }
}

/// The groups of a list, and their names as far as they are known.
pub(super) struct Listed {
    groups: Vec<(Option<u64>, Group)>,
    names: HashMap<u64, Option<String>>,
    top: usize,
}

impl Listed {
    /// A job of each group that has a name.
    pub(super) fn first_jobs(&self) -> impl Iterator<Item = i64> {
        self.groups.iter().filter(|(value, _)| value.is_some()).map(|(_, group)| group.first)
    }

    /// Takes down the name of `value`, if it is listed.
    pub(super) fn name(&mut self, value: u64, name: &str) {
        if let Some(known) = self.names.get_mut(&value) {
            known.get_or_insert_with(|| name.to_owned());
        }
    }

    /// The names and the groups, in the order of the list.
    fn sorted(mut self) -> impl Iterator<Item = (Option<String>, Group)> {
        let mut name = |value: Option<u64>| self.names.remove(&value?)?;
        let mut groups: Vec<_> = self.groups.into_iter().map(|(value, group)| (name(value), group)).collect();
        groups.sort_by(|(name, group), (other_name, other)| (group.rank(), name).cmp(&(other.rank(), other_name)));
        groups.into_iter().take(self.top)
    }

    pub(super) fn tags(self) -> Vec<TagUsage> {
        let tag = |(value, group): (Option<String>, Group)| TagUsage {
            value,
            jobs: group.sum.rows,
            finished: group.finished,
            bytes: group.sum.bytes,
            oldest_ms: group.oldest.map(NonZeroI64::get),
        };
        self.sorted().map(tag).collect()
    }

    pub(super) fn phases(self) -> Vec<PhaseUsage> {
        let phase = |(value, group): (Option<String>, Group)| PhaseUsage {
            value,
            jobs: group.sum.rows,
            bytes: group.sum.bytes,
        };
        self.sorted().map(phase).collect()
    }
}
