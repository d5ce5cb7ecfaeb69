//! The moments that `--before` takes.

use chrono::{DateTime, SecondsFormat, Utc};
use thiserror::Error;

/// The first moment that can be a cut-off: an earlier time of a job, in milliseconds, is taken for seconds.
const FIRST_MS: i64 = 100_000_000_000;

/// A moment in milliseconds since the Unix epoch, not after `now`: RFC 3339 with an offset, or a date, which is its 0:00
/// UTC.
pub(crate) fn parse(text: &str, now: DateTime<Utc>) -> Result<i64, MomentError> {
    let moment = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_rfc3339(&format!("{text}T00:00:00Z")))
        .map_err(|_| MomentError::Malformed)?;
    match moment.timestamp_millis() {
        ms if ms > now.timestamp_millis() => Err(MomentError::Future { now: self::text(now.timestamp_millis()) }),
        ms if ms < FIRST_MS => Err(MomentError::TooEarly),
        ms => Ok(ms),
    }
}

/// The moment `ms` as [`parse`] reads it.
pub(crate) fn text(ms: i64) -> String {
    let moment = DateTime::from_timestamp_millis(ms);
    moment.map(|moment| moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)).unwrap_or_default()
}

/// Why a text is no moment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum MomentError {
    #[error("a time has an offset: 2026-11-01T18:30:00Z, 2026-11-01T18:30:00+01:00, or a date, 2026-11-01 (0:00 UTC)")]
    Malformed,
    #[error("this is in the future: it is {now}")]
    Future {
        /// The moment that it is.
        now: String,
    },
    #[error("this is before 1973-03-03T09:46:40Z")]
    TooEarly,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_in_2026(text: &str) -> Result<i64, MomentError> {
        parse(text, DateTime::from_timestamp_millis(1_793_000_000_000).expect("a moment"))
    }

    #[test]
    fn a_moment_has_an_offset_or_is_a_date() {
        for (text, ms, written) in [
            ("2026-09-21T14:13:20Z", 1_790_000_000_000, "2026-09-21T14:13:20Z"),
            ("2026-09-21T16:13:20+02:00", 1_790_000_000_000, "2026-09-21T14:13:20Z"),
            ("2026-09-21t14:13:20.5z", 1_790_000_000_500, "2026-09-21T14:13:20.500Z"),
            ("2026-09-21T14:13:20.0019Z", 1_790_000_000_001, "2026-09-21T14:13:20.001Z"),
            ("2026-09-21", 1_789_948_800_000, "2026-09-21T00:00:00Z"),
            ("1973-03-03T09:46:40Z", FIRST_MS, "1973-03-03T09:46:40Z"),
        ] {
            assert_eq!(parse_in_2026(text), Ok(ms), "{text:?}");
            assert_eq!((super::text(ms).as_str(), parse_in_2026(written)), (written, Ok(ms)));
        }
    }

    #[test]
    fn nothing_else_is() {
        let malformed = [
            "",
            "now",
            "today",
            "7d",
            "1790000000000",
            "2026-09-21T14:13:20",
            "2026-09-21T14:13Z",
            "2026-09-21T",
            "2026-09-21Z",
            "2026-9-21",
            "2026-02-30",
            "2026-13-01",
            "21.09.2026",
            "09/21/2026",
            "20260921",
            " 2026-09-21",
            "2026-09-21 ",
            "+2026-09-21",
            "2026-09-21T14:13:20Z ",
            "2026-09-21T24:00:00Z",
            "２026-09-21",
        ];
        for text in malformed {
            assert_eq!(parse_in_2026(text), Err(MomentError::Malformed), "{text:?}");
        }
    }

    #[test]
    fn a_cut_off_is_neither_in_the_future_nor_before_all_jobs() {
        let future = Err(MomentError::Future { now: "2026-10-26T07:33:20Z".to_owned() });
        assert_eq!(parse_in_2026("2026-10-26T07:33:20Z"), Ok(1_793_000_000_000));
        assert_eq!(parse_in_2026("2026-10-26T07:33:20.001Z"), future);
        assert_eq!(parse_in_2026("9999-12-31"), future);
        assert_eq!(parse_in_2026("1973-03-03T09:46:39.999Z"), Err(MomentError::TooEarly));
        assert_eq!(parse_in_2026("0000-01-01"), Err(MomentError::TooEarly));
    }
}
