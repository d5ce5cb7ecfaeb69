//! Spans of time as people write them: digits and a unit, such as `250ms`, `3s`, `10m`, `2h` or `7d`.

use thiserror::Error;

/// The span `text` in milliseconds: ASCII digits, then `ms`, `s`, `m`, `h`, `d` or nothing, which is milliseconds.
pub(crate) fn parse(text: &str) -> Result<i64, AgeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        _ if number.is_empty() => return Err(AgeError::Malformed),
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(AgeError::Malformed),
    };
    // Digits only: what fails is too large.
    number.parse::<i64>().ok().and_then(|number| number.checked_mul(unit)).ok_or(AgeError::TooLong)
}

/// The span of `ms` as [`parse`] reads it, in the largest unit of which it is a multiple.
pub(crate) fn text(ms: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let unit = units.into_iter().find(|(unit, _)| ms > 0 && ms % unit == 0);
    let (unit, name) = unit.unwrap_or((1, "ms"));
    format!("{}{name}", ms / unit)
}

/// The reason for which a text is no span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum AgeError {
    #[error("an age is digits and a unit: 250, 250ms, 3s, 10m, 2h or 7d")]
    Malformed,
    #[error("this age is longer than 2^63-1 ms")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_digits_and_a_unit() {
        let ages = [
            ("0", 0),
            ("250", 250),
            ("250ms", 250),
            ("3s", 3_000),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("007d", 604_800_000),
            ("9223372036854775807", i64::MAX),
            ("106751991167d", 106_751_991_167 * 86_400_000),
        ];
        for (text, ms) in ages {
            assert_eq!(parse(text), Ok(ms), "{text:?}");
        }
    }

    #[test]
    fn an_age_is_written_as_it_is_read() {
        for (ms, written) in [
            (0, "0ms"),
            (250, "250ms"),
            (3_000, "3s"),
            (90_000, "90s"),
            (7_200_000, "2h"),
            (604_800_000, "7d"),
            (i64::MAX, "9223372036854775807ms"),
        ] {
            assert_eq!((text(ms).as_str(), parse(&text(ms))), (written, Ok(ms)));
        }
    }

    #[test]
    fn nothing_else_is() {
        let malformed = [
            "",
            " ",
            "d",
            "ms",
            "5y",
            "10x",
            "+3s",
            "-1",
            " 3s",
            "3s ",
            "3 s",
            "1.5h",
            "1h30m",
            "3S",
            "3sec",
            "0x10",
            "1e3",
            "٣s",
            "３s",
            "3ｓ",
            "1_000",
            "1,000",
            "NaN",
            "\u{feff}3s",
            "3s\n",
        ];
        for text in malformed {
            assert_eq!(parse(text), Err(AgeError::Malformed), "{text:?}");
        }
        for text in ["9223372036854775808", "9223372036854776s", "106751991168d", "99999999999999999999999999"] {
            assert_eq!(parse(text), Err(AgeError::TooLong), "{text:?}");
        }
    }
}
