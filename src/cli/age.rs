//! The ages that `--older-than` takes.

use crate::age::AgeError;
pub(crate) use crate::age::{parse, text};

/// An age above zero: a limit of time.
pub(crate) fn parse_limit(text: &str) -> Result<i64, AgeError> {
    parse(text).and_then(|ms| if ms > 0 { Ok(ms) } else { Err(AgeError::Zero) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_above_zero() {
        assert_eq!(parse_limit("3s"), Ok(3_000));
        assert_eq!(parse_limit("0d"), Err(AgeError::Zero));
        assert_eq!(parse_limit("3"), Ok(3));
        assert_eq!(parse_limit("x"), Err(AgeError::Malformed));
    }
}
