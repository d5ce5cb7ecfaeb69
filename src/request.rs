//! The request for a cleanup. A request that exists is valid.

use std::num::{NonZeroU32, NonZeroUsize};

use serde_json::{Map, Value, json};

use crate::method::Param;
use crate::plan::PlanToken;
use crate::tag::{Tag, Tags};

/// A request for a cleanup. A request that exists is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The tags that a job must carry, all of them.
    pub tags: Tags,
    /// A job that carries one of these tags stays.
    pub except_tags: Vec<Tag>,
    /// The jobs that are old enough.
    pub age: Age,
    /// The phases of the jobs that may go; none: any.
    pub phases: Option<Phases>,
    /// The jobs that stay because they are the last of their group; none: none does.
    pub keep_last: Option<KeepLast>,
    /// The fate of actions that no job refers to.
    pub leaked: Leaked,
    /// Whether anything is written.
    pub mode: Mode,
    /// The fate of jobs that have not finished.
    pub force: Force,
    /// The most jobs in one call, lowest id first; none: 50,000, and no more than weigh 1 GiB together.
    pub limit: Option<NonZeroUsize>,
    /// The most entries in each list of the report.
    pub max_ids: usize,
    /// Delete exactly what the dry run with this plan showed, or nothing.
    pub expect_plan: Option<PlanToken>,
}

impl Request {
    /// The deletion of the finished jobs that carry all of `tags`, whatever their age, with the actions that nothing refers
    /// to any more, at most 50,000 jobs and 1 GiB in one call.
    #[must_use]
    pub fn new(tags: Tags) -> Self {
        Self {
            tags,
            except_tags: Vec::new(),
            age: Age::Any,
            phases: None,
            keep_last: None,
            leaked: Leaked::Go,
            mode: Mode::Delete,
            force: Force::Off,
            limit: None,
            max_ids: DEFAULT_MAX_IDS,
            expect_plan: None,
        }
    }

    /// The most jobs in one call.
    pub(crate) fn limit(&self) -> usize {
        self.limit.map_or(DEFAULT_LIMIT, NonZeroUsize::get)
    }

    /// The params that choose what goes, in their canonical form: defaults left out, sets sorted, each element once.
    pub(crate) fn asked(&self) -> Map<String, Value> {
        // Every field is named here, so that the compiler asks about a new one.
        let Self {
            tags,
            except_tags,
            age,
            phases,
            keep_last,
            leaked,
            force,
            limit,
            mode: _,
            max_ids: _,
            expect_plan: _,
        } = self;
        let texts = |tags: &[Tag]| {
            let mut texts: Vec<&str> = tags.iter().map(Tag::as_str).collect();
            texts.sort_unstable();
            texts.dedup();
            json!(texts)
        };
        let mut asked = Map::new();
        let mut ask = |param: Param, value: Value| drop(asked.insert(param.to_string(), value));
        ask(Param::Tags, tags.asked().map(Tag::as_str).collect());
        if !except_tags.is_empty() {
            ask(Param::ExceptTags, texts(except_tags));
        }
        match age {
            Age::Any => {}
            Age::OlderThan(ms) => ask(Param::OlderThanMs, (*ms).into()),
            Age::Before(ms) => ask(Param::BeforeMs, (*ms).into()),
        }
        if let Some(Phases(phases)) = phases {
            ask(Param::Phases, json!(phases));
        }
        if let Some(KeepLast { count, by }) = keep_last {
            ask(Param::KeepLast, count.get().into());
            if let Some(by) = by {
                ask(Param::KeepBy, texts(by));
            }
        }
        if *leaked == Leaked::Stay {
            ask(Param::Leaked, false.into());
        }
        if *force == Force::Stop {
            ask(Param::Force, true.into());
        }
        if let Some(limit) = limit {
            ask(Param::Limit, limit.get().into());
        }
        asked
    }
}

/// `limit` unless given.
pub(crate) const DEFAULT_LIMIT: usize = 50_000;
/// `max_ids` unless given.
pub const DEFAULT_MAX_IDS: usize = 10_000;

/// The jobs that are old enough: those that were created, and, where their row says when they ended, also ended, at or
/// before a cut-off. A job without a usable creation time is not old enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Age {
    /// All jobs, those without a creation time among them.
    Any,
    /// The cut-off is this many milliseconds before the call.
    OlderThan(u64),
    /// The cut-off is this moment, in milliseconds since the Unix epoch.
    Before(i64),
}

/// A set of phases, compared without case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phases(
    /// In lower case, sorted, each once, at least one.
    Vec<String>,
);

impl Phases {
    /// The set of `phases`; none if there are none.
    #[must_use]
    pub fn new<P: AsRef<str>>(phases: impl IntoIterator<Item = P>) -> Option<Self> {
        let mut phases: Vec<String> = phases.into_iter().map(|phase| phase.as_ref().to_ascii_lowercase()).collect();
        phases.sort_unstable();
        phases.dedup();
        (!phases.is_empty()).then_some(Self(phases))
    }

    pub(crate) fn hold(&self, phase: &str) -> bool {
        self.0.iter().any(|own| own.eq_ignore_ascii_case(phase))
    }
}

/// The last jobs of each group, which stay: of the finished jobs that carry every requested tag, whatever their age, those
/// with the highest ids that succeeded, and as many that did not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeepLast {
    /// The number of jobs in each group.
    pub count: NonZeroU32,
    /// The prefixes of the tags by which jobs are grouped: a group is the set of a job's tags that begin with one of these.
    /// None: a group is the whole set of its tags.
    pub by: Option<Vec<Tag>>,
}

impl KeepLast {
    /// The last `count` of each group of jobs with the same set of tags.
    #[must_use]
    pub fn new(count: NonZeroU32) -> Self {
        Self { count, by: None }
    }
}

/// The fate of actions that no job refers to, and whose own spec carries every requested tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leaked {
    /// They go, unless something needs them.
    Go,
    /// They stay.
    Stay,
}

/// Whether a cleanup writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Report what would go; write nothing, take no write lock.
    DryRun,
    /// Delete.
    Delete,
}

/// The fate of jobs that have not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Force {
    /// They stay.
    Off,
    /// They are stopped through the host's [`JobControl`](crate::JobControl), then deleted; those that can't be stopped
    /// stay.
    Stop,
}
