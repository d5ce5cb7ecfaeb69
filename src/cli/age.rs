//! The ages that flags take.

pub(crate) use crate::age::{parse, text};

/// An age above zero: a limit of time.
pub(crate) fn parse_limit(text: &str) -> Result<i64, String> {
    match parse(text) {
        Ok(0) => Err("this must be above 0".to_owned()),
        age => age.map_err(|error| error.to_string()),
    }
}
