//! The one way out for text that somebody else chose: names in the store, errors of other servers, arguments.
//!
//! [`printable`] is for a line that people read, [`json`] for JSON, [`quoted`] for a command that is pasted into a shell.
//! Each writes what must not reach a terminal as an escape: [`is_hidden`] says which characters.

use std::fmt::{Display, Write as _};
use std::sync::OnceLock;

/// `text` on one line, with every hidden character as Rust writes it: `\n`, `\u{1b}`.
pub(crate) fn printable(text: impl Display) -> String {
    let text = text.to_string();
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        if is_hidden(char) {
            printable.extend(char.escape_default());
        } else {
            printable.push(char);
        }
    }
    printable
}

/// JSON with every hidden character as JSON writes it: `\u001b`. The value stays the same, so JSON is escaped wherever it
/// goes, to a terminal or not. Line breaks between values stay.
pub(crate) fn json(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    for char in text.chars() {
        if char != '\n' && is_hidden(char) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(json, "\\u{unit:04x}");
            }
        } else {
            json.push(char);
        }
    }
    json
}

/// `word` as a shell reads it back: bare, in single quotes, or, with hidden characters, in `$'…'`, which POSIX, bash, zsh
/// and busybox know.
pub(crate) fn quoted(word: &str) -> String {
    let bare = |char: char| char.is_ascii_alphanumeric() || "_-./:=@%+,".contains(char);
    if !word.is_empty() && word.chars().all(bare) {
        return word.to_owned();
    }
    if !word.contains(is_hidden) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut quoted = "$'".to_owned();
    for byte in word.bytes() {
        match byte {
            b'\'' | b'\\' => quoted.extend(['\\', byte.into()]),
            b' '..=b'~' => quoted.push(byte.into()),
            _ => {
                // Three digits: what follows is no part of the number.
                let _ = write!(quoted, "\\{byte:03o}");
            }
        }
    }
    quoted.push('\'');
    quoted
}

/// Whether `char` does not show as a character of its own, or changes how others are shown.
///
/// Hidden are control characters (C0, DEL, C1), format characters (bidi controls and zero-width characters among them),
/// line and paragraph separators, spaces other than U+0020, private and unassigned characters, and combining marks:
/// all that Rust's `escape_debug` escapes, but quotes and backslashes; letters that are blank; and outside a UTF-8
/// locale, whatever is not ASCII.
fn is_hidden(char: char) -> bool {
    match char {
        ' '..='~' => false,
        // Hangul fillers and the blank Braille pattern are letters and symbols to Unicode.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' => true,
        _ => char.escape_debug().len() > 1 || !(char.is_ascii() || is_utf8()),
    }
}

/// Whether the locale's characters are UTF-8, by the variables that say so, in the order of POSIX.
pub(crate) fn is_utf8() -> bool {
    static UTF8: OnceLock<bool> = OnceLock::new();
    *UTF8.get_or_init(|| {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| {
            let value = std::env::var_os(name)?;
            (!value.is_empty()).then(|| value.to_string_lossy().to_ascii_lowercase())
        });
        locale.is_some_and(|locale| locale.contains("utf-8") || locale.contains("utf8"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A character of each hidden kind, which reaches no terminal, whatever the locale.
    const HIDDEN: &str = "\0\t\n\r\u{1b}\u{7f}\u{85}\u{9b}\u{a0}\u{ad}\u{301}\u{600}\u{61c}\u{115f}\u{180e}\u{200b}\
                          \u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{2800}\u{3000}\
                          \u{e000}\u{fe0f}\u{feff}\u{fff9}\u{e0001}\u{e0020}\u{e0100}\u{10fffd}";

    #[test]
    fn what_is_hidden_is_escaped() {
        for char in HIDDEN.chars() {
            assert!(is_hidden(char), "{char:?}");
            assert_eq!(printable(char), char.escape_default().to_string());
            let text = json(&serde_json::to_string(&char).expect("JSON"));
            assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
            assert_eq!(serde_json::from_str::<char>(&text).expect("JSON"), char);
            let word = quoted(&char.to_string());
            assert!(word.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{word}");
        }
        assert_eq!(printable("a\u{1b}[2J\nb\u{202e}"), r"a\u{1b}[2J\nb\u{202e}");
        assert_eq!(json("{\n  \"a\": \"\u{1b}\u{10fffd}\"\n}"), "{\n  \"a\": \"\\u001b\\udbff\\udffd\"\n}");
    }

    #[test]
    fn what_is_plain_stays() {
        let ascii: String = (' '..='~').collect();
        assert_eq!((printable(&ascii), json(&ascii)), (ascii.clone(), ascii.clone()));
        for (word, shell) in [
            ("codescaler_build-1.2:3", "codescaler_build-1.2:3"),
            ("", "''"),
            ("two words", "'two words'"),
            ("it's", r"'it'\''s'"),
            ("$(reboot)", "'$(reboot)'"),
            ("~", "'~'"),
            ("it's\n\u{1b}7\\", r"$'it\'s\012\0337\\'"),
            ("\u{202e}", r"$'\342\200\256'"),
        ] {
            assert_eq!(quoted(word), shell, "{word:?}");
        }
    }
}
