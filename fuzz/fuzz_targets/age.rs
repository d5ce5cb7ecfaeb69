//! The ages of `--older-than`: read as the interface says, without a panic and without an overflow.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// The parser is the library's own.
#[allow(dead_code, reason = "the library uses all of it")]
#[path = "../../src/age.rs"]
mod age;

fuzz_target!(|text: &str| {
    assert_eq!(age::parse(text).ok(), milliseconds(text), "{text:?}");
});

/// Told another way: the unit is cut off the end, and the digits are added up one by one.
fn milliseconds(text: &str) -> Option<i64> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("", 1)];
    let (digits, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_i128;
    for digit in digits.chars() {
        let digit = digit.to_digit(10)?;
        number = number.saturating_mul(10).saturating_add(digit.into());
    }
    i64::try_from(number.saturating_mul(unit)).ok()
}
