//! The params of `job.usage_by_tag`.

use super::{MAX_PREFIXES, Param, Params, admit_all, read_integer, read_strings, read_tags, unknown};
use crate::rpc::RpcError;
use crate::tag::Guard;
use crate::usage::Query;

/// `top` unless given.
const DEFAULT_TOP: usize = 50;
/// The highest `top`.
const MAX_TOP: i64 = 1000;

impl Params {
    /// The question what jobs weigh.
    pub(in crate::method) fn into_usage_query(self, guard: &Guard) -> Result<Query, RpcError> {
        let (mut tags, mut by, mut top) = (None, Vec::new(), DEFAULT_TOP);
        for (name, value) in self.0 {
            match Param::named(&name) {
                Some(Param::Tags) => tags = Some(read_strings(&name, &value)?),
                Some(Param::By | Param::Top) if value.is_null() => {}
                Some(Param::By) => by = read_tags(guard, &name, &value, MAX_PREFIXES)?,
                Some(Param::Top) => {
                    let read = read_integer(&name, &value, 1, MAX_TOP)?;
                    top = usize::try_from(read).map_err(|error| RpcError::param(&name, error))?;
                }
                _ => return Err(unknown(&name)),
            }
        }
        // Each prefix once.
        by.sort_unstable();
        by.dedup();
        Ok(Query { tags: admit_all(guard, tags)?, by, top })
    }

    /// Whether hero_proc's side would take these params of a question what jobs weigh.
    #[cfg(feature = "client")]
    pub(crate) fn check_usage(&self, guard: &Guard) -> Result<(), RpcError> {
        Self(self.0.clone()).into_usage_query(guard).map(drop)
    }
}
