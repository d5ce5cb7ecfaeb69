//! The flags that say which of codescaler's jobs a command is about.

use clap::ValueHint;
use clap::builder::NonEmptyStringValueParser;

/// The fields that a job must have, each if it is given. An empty one is refused: a variable that is not set is not "all".
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Fields {
    /// Only jobs of this kind, such as build
    #[arg(long, value_hint = ValueHint::Other, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) kind: Option<String>,
    /// Only jobs with this target
    #[arg(long, value_hint = ValueHint::Other, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) target: Option<String>,
    /// Only jobs of this actor
    #[arg(long, value_hint = ValueHint::Other, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) actor: Option<String>,
}
