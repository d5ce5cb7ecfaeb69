//! Tags, the guard that bounds what a call may name, and codescalers' grammar of tags.

use thiserror::Error;

/// The most bytes that a tag may have.
pub(crate) const MAX_TAG_BYTES: usize = 256;

/// The most tags that a request may name.
pub(crate) const MAX_TAGS: usize = 16;

/// The root tag of everything that hero_codescalers enqueues.
pub const CODESCALER: &str = "codescaler";

/// The prefix of the tag of a job's kind.
pub(crate) const KIND_PREFIX: &str = "codescaler_kind_";

/// The prefix of the tag of a job's target.
pub(crate) const TARGET_PREFIX: &str = "codescaler_target_";

/// The host's bound on what callers may name, built once from one root tag.
///
/// A tag is inside the guard if it is the root itself or begins with the root and `_`. Whatever a caller asks, only
/// jobs and actions that carry the literal root tag are ever deleted. No caller can change the guard.
///
/// ```
/// use hero_proc_cleanup::Guard;
///
/// let guard = Guard::new("codescaler")?;
/// assert!(guard.admit("codescaler_kind_build").is_ok());
/// assert!(guard.admit("codescalers").is_err());
/// # Ok::<(), hero_proc_cleanup::GuardError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    root: Tag,
}

impl Guard {
    /// A guard around `root`.
    ///
    /// # Errors
    ///
    /// If `root` is empty, longer than 256 bytes, or holds anything but ASCII letters, digits, `-` and `_`.
    pub fn new(root: impl Into<String>) -> Result<Self, GuardError> {
        let root = root.into();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if root.is_empty() || root.len() > MAX_TAG_BYTES || !root.bytes().all(plain) {
            return Err(GuardError { root });
        }
        Ok(Self { root: Tag(root) })
    }

    /// The guard around [`CODESCALER`].
    #[must_use]
    pub fn codescaler() -> Self {
        Self { root: Tag(CODESCALER.to_owned()) }
    }

    /// The root tag.
    #[must_use]
    pub fn root(&self) -> &Tag {
        &self.root
    }

    /// `tag`, if it is inside the guard. Bytes are compared, nothing is folded or trimmed.
    ///
    /// # Errors
    ///
    /// [`TagError::Outside`] if it is not, [`TagError::TooLong`] if it has more than 256 bytes.
    pub fn admit(&self, tag: &str) -> Result<Tag, TagError> {
        if tag.len() > MAX_TAG_BYTES {
            return Err(TagError::TooLong { bytes: tag.len() });
        }
        let inside = tag.strip_prefix(self.root.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
        if inside { Ok(Tag(tag.to_owned())) } else { Err(TagError::Outside { tag: tag.to_owned() }) }
    }

    /// The set of `tags` and the root tag.
    ///
    /// # Errors
    ///
    /// If there are none or more than 16, or if one is not [admitted](Self::admit).
    ///
    /// ```
    /// use hero_proc_cleanup::Guard;
    ///
    /// let guard = Guard::codescaler();
    /// let tags = guard.tags(["codescaler_kind_build"])?;
    /// assert_eq!(tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["codescaler", "codescaler_kind_build"]);
    /// assert!(guard.tags::<&str>([]).is_err());
    /// # Ok::<(), hero_proc_cleanup::TagsError>(())
    /// ```
    pub fn tags<T: AsRef<str>>(&self, tags: impl IntoIterator<Item = T>) -> Result<Tags, TagsError> {
        let mut all: Vec<Tag> = Vec::new();
        for tag in tags {
            all.push(self.admit(tag.as_ref())?);
            if all.len() > MAX_TAGS {
                return Err(TagsError::TooMany);
            }
        }
        if all.is_empty() {
            return Err(TagsError::None);
        }
        let root_asked = all.contains(&self.root);
        all.push(self.root.clone());
        all.sort_unstable();
        all.dedup();
        Ok(Tags { all, root_asked })
    }

    /// The root tag alone: everything that this guard bounds.
    #[must_use]
    pub fn everything(&self) -> Tags {
        Tags { all: vec![self.root.clone()], root_asked: true }
    }
}

/// A set of 1 to 16 tags inside one guard, with its root tag: a job must carry all of them.
///
/// [`Guard::tags`] makes one of given tags, [`Guard::everything`] one that any job inside the guard carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    /// Sorted, each once. The root tag is first: every other tag begins with it.
    all: Vec<Tag>,
    /// Whether the root tag was among those given.
    root_asked: bool,
}

impl Tags {
    /// The tags, the root first, the others in the order of their bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Tag> {
        self.all.iter()
    }

    /// The tags that were given.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &Tag> {
        self.all.iter().skip(usize::from(!self.root_asked))
    }

    pub(crate) fn root(&self) -> &Tag {
        &self.all[0]
    }

    /// The tag that the fewest jobs are likely to carry.
    pub(crate) fn rarest(&self) -> &Tag {
        &self.all[self.all.len() - 1]
    }

    /// The tags of this set that are not found yet: all of them.
    pub(crate) fn all_missing(&self) -> Missing<'_> {
        // There are at most 17: 16 and the root.
        Missing { tags: self, bits: (1 << self.all.len()) - 1 }
    }
}

/// The tags of a set that are not found yet.
pub(crate) struct Missing<'t> {
    tags: &'t Tags,
    bits: u32,
}

impl Missing<'_> {
    pub(crate) fn found(&mut self, found: &str) {
        for (bit, tag) in self.tags.iter().enumerate() {
            if tag.as_str() == found {
                self.bits &= !(1 << bit);
            }
        }
    }

    pub(crate) fn none(&self) -> bool {
        self.bits == 0
    }
}

/// Why some tags make no set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TagsError {
    /// There are no tags.
    #[error("there are no tags")]
    None,
    /// There are more than 16 tags.
    #[error("there are more than {MAX_TAGS} tags")]
    TooMany,
    /// One of them was not admitted.
    #[error(transparent)]
    Tag(#[from] TagError),
}

/// A tag that a [`Guard`] has admitted: it can't exist otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The tag as it stands in a job's `tags`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A root tag that can't bound anything.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the root tag {root:?} is not 1 to {MAX_TAG_BYTES} ASCII letters, digits, '-' or '_'")]
pub struct GuardError {
    root: String,
}

/// Why a tag was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TagError {
    /// Neither the root tag nor one that begins with it and `_`.
    #[error("tag {tag:?} is outside the guard")]
    Outside {
        /// The tag as it was asked for.
        tag: String,
    },
    /// Longer than 256 bytes.
    #[error("a tag has {bytes} bytes, more than {MAX_TAG_BYTES}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
}

/// The tags of a job that codescalers enqueues for `actor`, `kind` and `target`, and the tags that a cleanup of such
/// jobs asks for: `codescaler`, `codescaler_<actor>`, `codescaler_kind_<kind>`, `codescaler_target_<target>`.
///
/// An empty string means absent.
///
/// # Errors
///
/// [`GrammarError::AmbiguousActor`] for an actor whose tag would read as another field's, [`GrammarError::TooLong`] for
/// a field that makes its tag longer than 256 bytes.
///
/// ```
/// use hero_proc_cleanup::codescaler_tags;
///
/// assert_eq!(codescaler_tags("ana", "build", "")?, ["codescaler", "codescaler_ana", "codescaler_kind_build"]);
/// assert!(codescaler_tags("kind_build", "", "").is_err());
/// # Ok::<(), hero_proc_cleanup::GrammarError>(())
/// ```
pub fn codescaler_tags(actor: &str, kind: &str, target: &str) -> Result<Vec<String>, GrammarError> {
    if actor.starts_with("kind_") || actor.starts_with("target_") {
        return Err(GrammarError::AmbiguousActor);
    }
    let mut tags = vec![CODESCALER.to_owned()];
    for (field, infix, value) in [("actor", "", actor), ("kind", "kind_", kind), ("target", "target_", target)] {
        if value.is_empty() {
            continue;
        }
        let tag = format!("{CODESCALER}_{infix}{value}");
        if tag.len() > MAX_TAG_BYTES {
            return Err(GrammarError::TooLong { field });
        }
        tags.push(tag);
    }
    Ok(tags)
}

/// Why actor, kind and target make no tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The actor begins with `kind_` or `target_`: its tag would read as another field's.
    #[error("actor begins with \"kind_\" or \"target_\": its tag would read as another field's")]
    AmbiguousActor,
    /// The tag of `field` has more than 256 bytes.
    #[error("{field} makes a tag of more than {MAX_TAG_BYTES} bytes")]
    TooLong {
        /// `actor`, `kind` or `target`.
        field: &'static str,
    },
}

impl GrammarError {
    /// The field that is wrong: `actor`, `kind` or `target`.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::AmbiguousActor => "actor",
            Self::TooLong { field } => field,
        }
    }
}
