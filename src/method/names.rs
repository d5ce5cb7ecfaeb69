//! The methods of the extension, and the names that they bear on either side.

/// A method of the extension, whichever of its names it is called by.
///
/// A new one is asked for by the compiler wherever methods differ: its names, whether it only reads, its handler on
/// hero_proc's side ([`call`](super::call)), and the call that it becomes on codescalers' side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Deletes.
    Cleanup,
    /// Says what jobs weigh.
    Usage,
    /// Gives space back.
    Reclaim,
}

/// The side whose methods are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Side {
    /// hero_proc's, which holds the store: `job.cleanup_by_tag`, `job.usage_by_tag`, `store.reclaim`.
    HeroProc,
    /// codescalers', which lets admins in and forwards: `jobs.cleanup`, `jobs.usage`, `jobs.reclaim`.
    Codescalers,
}

impl Method {
    const ALL: [Self; 3] = [Self::Cleanup, Self::Usage, Self::Reclaim];

    /// The names of all methods on `side`.
    pub(crate) const fn names(side: Side) -> [&'static str; Self::ALL.len()] {
        let [cleanup, usage, reclaim] = Self::ALL;
        [cleanup.name(side), usage.name(side), reclaim.name(side)]
    }

    /// The name on `side`.
    pub(crate) const fn name(self, side: Side) -> &'static str {
        match (side, self) {
            (Side::HeroProc, Self::Cleanup) => "job.cleanup_by_tag",
            (Side::HeroProc, Self::Usage) => "job.usage_by_tag",
            (Side::HeroProc, Self::Reclaim) => "store.reclaim",
            (Side::Codescalers, Self::Cleanup) => "jobs.cleanup",
            (Side::Codescalers, Self::Usage) => "jobs.usage",
            (Side::Codescalers, Self::Reclaim) => "jobs.reclaim",
        }
    }

    /// The method of this name on `side`, if there is one.
    pub(crate) fn named(name: &str, side: Side) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name(side) == name)
    }

    /// Whether nothing is ever changed by the method, whatever its params.
    #[cfg(feature = "client")]
    pub(crate) fn only_reads(self) -> bool {
        match self {
            Self::Usage => true,
            Self::Cleanup | Self::Reclaim => false,
        }
    }
}

#[cfg(feature = "client")]
impl Side {
    /// The side that has `method`; none if neither has it, or both have.
    pub(crate) fn of(method: &str) -> Option<Self> {
        [Self::HeroProc, Self::Codescalers].into_iter().find(|side| Method::named(method, *side).is_some())
    }
}
