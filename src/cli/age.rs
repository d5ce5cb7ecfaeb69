//! The ages that `--older-than` takes.

use thiserror::Error;

use crate::age::AgeError;
pub(crate) use crate::age::{parse, text};

/// An age above zero: a limit of time.
pub(crate) fn parse_limit(text: &str) -> Result<i64, LimitError> {
    let ms = parse(text)?;
    if ms > 0 { Ok(ms) } else { Err(LimitError::Zero) }
}

/// The reason for which a text is no limit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum LimitError {
    #[error(transparent)]
    Age(#[from] AgeError),
    #[error("this must be above 0")]
    Zero,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_above_zero() {
        assert_eq!(parse_limit("3s"), Ok(3_000));
        assert_eq!(parse_limit("0d"), Err(LimitError::Zero));
        assert_eq!(parse_limit("3"), Ok(3));
        assert_eq!(parse_limit("x"), Err(LimitError::Age(AgeError::Malformed)));
    }
}
