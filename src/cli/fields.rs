//! The flags that say which of codescaler's jobs a command is about, and how a value is typed.

use clap::builder::NonEmptyStringValueParser;
use clap::{ValueEnum, ValueHint};

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

/// `value` as it is typed.
pub(crate) fn value_name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
