//! Plan tokens: whatever is read as one is printed as it was written, and nothing else is one.
#![no_main]

use hero_proc_cleanup::PlanToken;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let read = text.parse::<PlanToken>();
    assert_eq!(read.is_ok(), is_token(text), "{text:?}");
    if let Ok(token) = read {
        assert_eq!(token.to_string(), text);
        assert_eq!(token.cutoff_ms(), text.split('.').next().and_then(|cutoff| cutoff.parse().ok()));
    }
});

/// Told another way: `none` or an i64, another i64, both as Rust prints them, and 80 digits of lower-case hexadecimal,
/// with dots between them.
fn is_token(text: &str) -> bool {
    let [cutoff, now, digest] = text.split('.').collect::<Vec<_>>()[..] else { return false };
    let is_number = |text: &str| text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    (cutoff == "none" || is_number(cutoff))
        && is_number(now)
        && digest.chars().count() == 80
        && digest.chars().all(|digit| digit.is_ascii_hexdigit() && !digit.is_ascii_uppercase())
}
