//! Reading the JSON of jobs, actions and services: strictly where something might go because of it, generously where
//! something stays because of it.
//!
//! Nothing is collected: each tag and each name is handed to a function, so a row costs no more memory than its text.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;
use memchr::memmem::Finder;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::tag::{Tag, Tags};

/// Whether `json`, the text of a column `tags`, is an array of strings that holds all of `tags`, each compared whole, byte for
/// byte.
pub(crate) fn tags_hold(json: &str, tags: &Tags) -> bool {
    // In an array without escapes, a string stands as it is, between two quotes. Most rows end here, for a fraction of the
    // cost of parsing them.
    if json.starts_with('[') && !stands_in(json, tags.rarest()) && !json.contains('\\') {
        return false;
    }
    let mut missing = tags.all_missing();
    each_tag(json, &mut |tag| missing.found(tag)) && missing.none()
}

/// Whether `tag` stands in `json` between quotes. In strings as short as these, `contains` takes three times as long.
fn stands_in(json: &str, tag: &Tag) -> bool {
    let tag = tag.as_str().as_bytes();
    json.as_bytes().windows(tag.len() + 2).any(|window| match window {
        [b'"', between @ .., b'"'] => between == tag,
        _ => false,
    })
}

/// Whether `json`, a spec, holds all of `tags` under `tags`.
pub(crate) fn spec_tags_hold(json: &str, tags: &Tags) -> bool {
    let mut missing = tags.all_missing();
    each_tag_of_spec(json, &mut |tag| missing.found(tag)) && missing.none()
}

/// Hands the tags in `json` to `tag`, and returns whether it is an array of strings. A JSON null has none.
pub(crate) fn each_tag(json: &str, tag: &mut dyn FnMut(&str)) -> bool {
    let mut json = serde_json::Deserializer::from_str(json);
    TagList(tag).deserialize(&mut json).and_then(|()| json.end()).is_ok()
}

/// Hands the tags in `json`, a spec, to `tag`, and returns whether the spec can be read.
pub(crate) fn each_tag_of_spec(json: &str, tag: &mut dyn FnMut(&str)) -> bool {
    parse(json, &mut Hearer { tag, name: &mut |_| {} }).is_ok()
}

/// What a spec says beside its tags and the names that it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spec {
    /// It can be read. The tags of one that can't count for nothing.
    pub(crate) readable: bool,
    /// It has a schedule: `schedule_policy` is there and is not null.
    pub(crate) scheduled: bool,
}

/// Reads the spec of an action, a job or a service: hands its tags to `tag`, and every name that it may refer to under
/// `depends_on` or `actions` to `name`. In a spec that can't be read, that is every quoted word.
pub(crate) fn read(json: &[u8], tag: &mut dyn FnMut(&str), name: &mut dyn FnMut(&[u8])) -> Spec {
    let shortly = shortened(json, LONG).and_then(|short| parse_shortened(&short, tag, name));
    match shortly.or_else(|| parse(str::from_utf8(json).ok()?, &mut Hearer { tag, name }).ok()) {
        Some(scheduled) => Spec { readable: true, scheduled },
        None => {
            words(json, name);
            Spec { readable: false, scheduled: false }
        }
    }
}

/// Strings with more bytes than this are left out before a spec is parsed: scripts, above all.
const LONG: usize = 1024;

/// The string in the place of one that was left out. It is no key that a spec is read for, and begins like no tag.
const LEFT_OUT: &str = "...";

/// `json` without its long strings; none if there are none, or if what is left out might not be a valid string.
///
/// Quotes and backslashes alone tell where a string begins and ends. If the shortened text is JSON, these places were right.
/// Then the whole is JSON as well, and differs in long strings only.
fn shortened(json: &[u8], long: usize) -> Option<Vec<u8>> {
    if json.len() < 4 * long {
        return None;
    }
    let (mut short, mut copied, mut place) = (Vec::new(), 0, 0);
    while let Some(quote) = memchr(b'"', &json[place..]) {
        let start = place + quote + 1;
        let (end, is_ascii) = end_of_string(json, start)?;
        if end - start > long {
            if !is_ascii {
                str::from_utf8(&json[start..end]).ok()?;
            }
            short.extend_from_slice(&json[copied..start]);
            short.extend_from_slice(LEFT_OUT.as_bytes());
            copied = end;
        }
        place = end + 1;
    }
    short.extend_from_slice(&json[copied..]);
    (copied > 0).then_some(short)
}

/// The place of the quote behind the string that begins at `start`, and whether the string is ASCII; none if it holds what
/// JSON forbids, or a `\u`.
fn end_of_string(json: &[u8], start: usize) -> Option<(usize, bool)> {
    let (mut place, mut is_ascii) = (start, true);
    loop {
        // Up to here, each backslash begins an escape.
        while let (Some(before), Some(bytes)) = (json[place - 1..].first_chunk(), json[place..].first_chunk()) {
            if !all(before, bytes, |before, byte| goes_on(before, byte) & (byte.cast_signed() >= b' '.cast_signed())) {
                if !all(before, bytes, |before, byte| goes_on(before, byte) & (byte >= b' ')) {
                    break;
                }
                is_ascii = false;
            }
            place += CHUNK;
        }
        let behind = place + CHUNK;
        place -= usize::from(json[place - 1] == b'\\');
        while place < behind || json[place - 1] == b'\\' {
            place += match (json.get(place)?, json.get(place + 1)) {
                (b'"', _) => return Some((place, is_ascii)),
                (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => 2,
                (b'\\' | 0..b' ', _) => return None,
                (byte, _) => {
                    is_ascii &= byte.is_ascii();
                    1
                }
            }
        }
    }
}

const CHUNK: usize = 64;

/// Whether `holds` of every byte and the one before it. The compiler looks at all of them at once.
fn all(before: &[u8; CHUNK], bytes: &[u8; CHUNK], holds: impl Fn(u8, u8) -> bool) -> bool {
    before.iter().zip(bytes).fold(true, |all, (before, byte)| all & holds(*before, *byte))
}

/// Whether a string goes on with `byte` behind `before`: with an escape of the two commonest kinds, or with neither quote nor
/// backslash.
fn goes_on(before: u8, byte: u8) -> bool {
    ((byte == b'"') == (before == b'\\')) | (byte == b'n') | (byte == b't')
}

/// Whether the spec has a schedule, if all that it is read for stands in `short`: what is left out may be a name.
fn parse_shortened(short: &[u8], tag: &mut dyn FnMut(&str), name: &mut dyn FnMut(&[u8])) -> Option<bool> {
    let mut left_out = false;
    let mut name = |heard: &[u8]| match heard == LEFT_OUT.as_bytes() {
        true => left_out = true,
        false => name(heard),
    };
    let scheduled = parse(str::from_utf8(short).ok()?, &mut Hearer { tag, name: &mut name }).ok()?;
    (!left_out).then_some(scheduled)
}

/// Searches in specs that are not parsed. They take a fraction of the time, and find whatever a spec says; at times more.
pub(crate) struct Searches {
    /// One of the tags that are asked for.
    tag: Finder<'static>,
    /// The ends of the keys under which a spec refers to actions.
    keys: [Finder<'static>; 2],
    /// The beginning of an ASCII character that is written as an escape.
    escape: Finder<'static>,
}

/// What a spec may say.
pub(crate) struct Hints {
    /// It may carry all of the tags.
    pub(crate) tagged: bool,
    /// It may refer to an action: an empty list, as most specs have, does not.
    pub(crate) depends: bool,
}

impl Searches {
    pub(crate) fn new(tags: &Tags) -> Self {
        // The root tag is plain in any case.
        let tag = tags.iter().filter(|tag| tag.as_str().bytes().all(is_plain)).last().unwrap_or(tags.root());
        Self {
            tag: Finder::new(tag.as_str()).into_owned(),
            keys: [r#"depends_on""#, r#"actions""#].map(Finder::new),
            escape: Finder::new(r"\u00"),
        }
    }

    pub(crate) fn search(&self, json: &[u8]) -> Hints {
        let behind = |finder: &Finder<'_>, place: usize| &json[place + finder.needle().len()..];
        // A letter may be written as `\u0064`, and then no word that holds it is found.
        let hidden = self.escape.find_iter(json).any(|place| {
            let digits = behind(&self.escape, place).get(..2).and_then(|digits| str::from_utf8(digits).ok());
            digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).is_some_and(is_plain)
        });
        let leads_somewhere =
            |key: &Finder<'_>| key.find_iter(json).any(|place| !is_followed_by_nothing(behind(key, place)));
        Hints {
            tagged: hidden || self.tag.find(json).is_some(),
            depends: hidden || self.keys.iter().any(leads_somewhere),
        }
    }
}

/// Whether `byte` is an ASCII letter, a digit, `-` or `_`, none of which JSON needs to write as an escape.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Whether `json`, which follows a key, is a colon and an empty list; or no colon, so that the key is none.
fn is_followed_by_nothing(json: &[u8]) -> bool {
    match json.trim_ascii_start() {
        [b':', b'[', b']', ..] => true,
        [b':', ..] => false,
        _ => true,
    }
}

/// Hands the names in `json`, a list by itself, to `name`; every quoted word of one that can't be read.
pub(crate) fn names(json: &[u8], name: &mut dyn FnMut(&[u8])) {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    if Names(name).deserialize(&mut deserializer).and_then(|()| deserializer.end()).is_err() {
        words(json, name);
    }
}

/// Whether the spec has a schedule.
fn parse(json: &str, hearer: &mut Hearer<'_>) -> serde_json::Result<bool> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let scheduled = deserializer.deserialize_map(SpecVisitor(hearer))?;
    deserializer.end()?;
    Ok(scheduled)
}

/// Hands each text between quotes, with or without an end, to `name`: as it stands and, where it has escapes, as JSON means
/// it.
fn words(json: &[u8], name: &mut dyn FnMut(&[u8])) {
    for word in json.split(|&byte| byte == b'"').skip(1) {
        name(word);
        if word.contains(&b'\\') {
            let quoted = [b"\"", word, b"\""].concat();
            if let Ok(meant) = serde_json::from_slice::<String>(&quoted) {
                name(meant.as_bytes());
            }
        }
    }
}

/// Where the tags and the names of a spec go.
struct Hearer<'h> {
    tag: &'h mut dyn FnMut(&str),
    name: &'h mut dyn FnMut(&[u8]),
}

struct SpecVisitor<'v, 'h>(&'v mut Hearer<'h>);

impl<'de> Visitor<'de> for SpecVisitor<'_, '_> {
    /// Whether it has a schedule.
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a spec")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let [mut tags, mut schedule] = [false; 2];
        let mut scheduled = false;
        while let Some(Key(key)) = map.next_key()? {
            match key.as_ref() {
                "tags" if tags => return Err(A::Error::duplicate_field("tags")),
                "tags" => {
                    tags = true;
                    map.next_value_seed(TagList(&mut *self.0.tag))?;
                }
                "schedule_policy" if schedule => return Err(A::Error::duplicate_field("schedule_policy")),
                "schedule_policy" => {
                    schedule = true;
                    scheduled = map.next_value::<Option<IgnoredAny>>()?.is_some();
                }
                "depends_on" | "actions" => map.next_value_seed(Names(&mut *self.0.name))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(scheduled)
    }
}

/// A key, borrowed where it holds no escape.
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// An array of strings, or null. Anything else in it makes it an error.
struct TagList<'t>(&'t mut dyn FnMut(&str));

impl<'de> DeserializeSeed<'de> for TagList<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TagList<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tags: A) -> Result<(), A::Error> {
        while let Some(Key(tag)) = tags.next_element()? {
            (self.0)(&tag);
        }
        Ok(())
    }
}

/// Every string in a value, at any depth, keys included: `"a"`, `["a"]`, `[{"name": "a"}]` and `{"a": {}}` all name a.
struct Names<'n>(&'n mut dyn FnMut(&[u8]));

impl<'de> DeserializeSeed<'de> for Names<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Names<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names")
    }

    fn visit_str<E>(self, name: &str) -> Result<(), E> {
        (self.0)(name.as_bytes());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(Names(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            (self.0)(key.as_bytes());
            map.next_value_seed(Names(&mut *self.0))?;
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't set up must fail")]
mod tests;
