//! Reading what jobs, actions and services hold as JSON: strictly where something might go because of it, generously
//! where something stays because of it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::tag::Tag;

/// Whether a JSON array of strings holds all tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// All of them, each compared whole, byte for byte.
    All,
    /// Not all, or this is no array of strings.
    NotAll,
    /// This is a JSON null.
    Null,
}

/// Whether `json`, the text of a column `tags`, holds all of `tags`.
pub(crate) fn tags_hold(json: &str, tags: &[Tag]) -> Holds {
    // In an array without escapes, a string stands as it is, between two quotes. Most rows end here, for a fraction of what
    // reading them costs.
    if json.starts_with('[') && tags.last().is_some_and(|tag| !stands_in(json, tag)) && !json.contains('\\') {
        return Holds::NotAll;
    }
    let mut json = serde_json::Deserializer::from_str(json);
    let held = TagList(tags).deserialize(&mut json);
    match held.and_then(|held| json.end().map(|()| held)) {
        Ok(held) => held,
        Err(_) => Holds::NotAll,
    }
}

/// Whether `tag` stands in `json` between quotes. In strings as short as these, `contains` takes three times as long.
fn stands_in(json: &str, tag: &Tag) -> bool {
    let tag = tag.as_str().as_bytes();
    json.as_bytes().windows(tag.len() + 2).any(|window| match window {
        [b'"', between @ .., b'"'] => between == tag,
        _ => false,
    })
}

/// The tags in `json`, if it is an array of strings; none if it is a JSON null.
pub(crate) fn tags(json: &str) -> Option<Vec<String>> {
    serde_json::from_str::<Option<_>>(json).ok().map(Option::unwrap_or_default)
}

/// The tags in `json`, a spec, if it can be read.
pub(crate) fn spec_tags(json: &str) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Tagged {
        tags: Option<Vec<String>>,
    }
    // As strictly as a cleanup reads it: `Tagged` by itself would also be read from an array.
    parse(json, &[]).ok()?;
    serde_json::from_str::<Tagged>(json).ok().map(|spec| spec.tags.unwrap_or_default())
}

/// Whether `json`, a spec, holds all of `tags` under `tags`.
pub(crate) fn spec_tags_hold(json: &str, tags: &[Tag]) -> bool {
    parse(json, tags).is_ok_and(|spec| spec.tagged)
}

/// What a spec says of an action, or of a service.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Spec<'s> {
    /// It can be read, and carries every tag asked about.
    pub(crate) tagged: bool,
    /// It has a schedule: `schedule_policy` is there and is not null.
    pub(crate) scheduled: bool,
    /// Every name that it may refer to, under `depends_on` or `actions`: as strings or in objects, keys included.
    pub(crate) names: Vec<Cow<'s, str>>,
}

/// What `json` says. One that can't be read is not tagged, and may refer to every quoted word in it: what it would have
/// listed stays.
pub(crate) fn spec<'s>(json: &'s [u8], tags: &[Tag]) -> Spec<'s> {
    // What is skipped is not looked at: that it is UTF-8 must be known before.
    let parsed = str::from_utf8(json).ok().and_then(|json| parse(json, tags).ok());
    parsed.unwrap_or_else(|| Spec { tagged: false, scheduled: false, names: words(json) })
}

/// Whether `json`, the spec of an action, may refer to any other: an empty list, as most of them have, does not.
pub(crate) fn may_depend(json: &[u8]) -> bool {
    let Ok(json) = str::from_utf8(json) else { return true };
    // A colon is quicker to find than a word, and a key ends before one.
    let lists = |(colon, _): (usize, &str)| {
        let key = json[..colon].trim_ascii_end();
        let listing = key.ends_with("\"depends_on\"") || key.ends_with("\"actions\"");
        listing && !json[colon..].starts_with(":[]")
    };
    json.contains('\\') || json.match_indices(':').any(lists)
}

/// The names in `json`, a list of them by itself.
pub(crate) fn names(json: &[u8]) -> Vec<Cow<'_, str>> {
    let mut names = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    match Names(&mut names).deserialize(&mut deserializer).and_then(|()| deserializer.end()) {
        Ok(()) => names,
        Err(_) => words(json),
    }
}

fn parse<'s>(json: &'s str, tags: &[Tag]) -> serde_json::Result<Spec<'s>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let spec = deserializer.deserialize_map(SpecVisitor(tags))?;
    deserializer.end()?;
    Ok(spec)
}

/// What stands between quotes, with or without an end.
fn words(json: &[u8]) -> Vec<Cow<'_, str>> {
    json.split(|&byte| byte == b'"').skip(1).map(String::from_utf8_lossy).collect()
}

struct SpecVisitor<'t>(&'t [Tag]);

impl<'de> Visitor<'de> for SpecVisitor<'_> {
    type Value = Spec<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a spec")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut spec = Spec::default();
        let [mut tags, mut schedule] = [false; 2];
        while let Some(Key(key)) = map.next_key()? {
            match key.as_ref() {
                "tags" if tags => return Err(A::Error::duplicate_field("tags")),
                "tags" => {
                    tags = true;
                    spec.tagged = map.next_value_seed(TagList(self.0))? == Holds::All;
                }
                "schedule_policy" if schedule => return Err(A::Error::duplicate_field("schedule_policy")),
                "schedule_policy" => {
                    schedule = true;
                    spec.scheduled = map.next_value::<Option<IgnoredAny>>()?.is_some();
                }
                "depends_on" | "actions" => map.next_value_seed(Names(&mut spec.names))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(spec)
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
struct TagList<'t>(&'t [Tag]);

impl<'de> DeserializeSeed<'de> for TagList<'_> {
    type Value = Holds;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TagList<'_> {
    type Value = Holds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Holds::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tags: A) -> Result<Self::Value, A::Error> {
        // A bit for each tag asked about: there are at most 17.
        let mut found = 0_u32;
        while let Some(Key(tag)) = tags.next_element()? {
            for (bit, wanted) in self.0.iter().enumerate() {
                if wanted.as_str() == tag {
                    found |= 1 << bit;
                }
            }
        }
        let all = found.count_ones() as usize == self.0.len();
        Ok(if all { Holds::All } else { Holds::NotAll })
    }
}

/// Every string in a value, at any depth, keys included: `"a"`, `["a"]`, `[{"name": "a"}]` and `{"a": {}}` all name a.
struct Names<'n, 'de>(&'n mut Vec<Cow<'de, str>>);

impl<'de> DeserializeSeed<'de> for Names<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Names<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<(), E> {
        self.0.push(Cow::Borrowed(name));
        Ok(())
    }

    fn visit_str<E>(self, name: &str) -> Result<(), E> {
        self.0.push(Cow::Owned(name.to_owned()));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(Names(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            self.0.push(key);
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
mod tests {
    use super::*;
    use crate::Guard;

    fn tags(tags: &[&str]) -> Vec<Tag> {
        tags.iter().map(|tag| Guard::codescaler().admit(tag).unwrap()).collect()
    }

    #[test]
    fn only_an_array_of_strings_holds_tags() {
        let wanted = tags(&["codescaler", "codescaler_ana"]);
        for (json, holds) in [
            (r#"["codescaler","codescaler_ana"]"#, Holds::All),
            (r#" ["x", "codescaler_ana", "codescaler", "codescaler"] "#, Holds::All),
            (r#"["c\u006fdescaler","codescaler_\u0061na"]"#, Holds::All),
            (r#"["codescaler"]"#, Holds::NotAll),
            (r#"["codescaler","codescaler_Ana"]"#, Holds::NotAll),
            (r#"["codescaler","codescaler%ana"]"#, Holds::NotAll),
            (r#"["codescaler","codescaler_ana",1]"#, Holds::NotAll),
            (r#"["codescaler","codescaler_ana",null]"#, Holds::NotAll),
            (r#"["codescaler","codescaler_ana"] x"#, Holds::NotAll),
            (r#"["codescaler","codescaler_ana""#, Holds::NotAll),
            (r#"[["codescaler","codescaler_ana"]]"#, Holds::NotAll),
            (r#"{"codescaler":"codescaler_ana"}"#, Holds::NotAll),
            (r#""codescaler""#, Holds::NotAll),
            ("[]", Holds::NotAll),
            ("", Holds::NotAll),
            ("null", Holds::Null),
            (" null ", Holds::Null),
        ] {
            assert_eq!(tags_hold(json, &wanted), holds, "{json}");
        }
    }

    #[test]
    fn a_spec_carries_tags_only_if_all_of_it_can_be_read() {
        let wanted = tags(&["codescaler"]);
        for (json, tagged) in [
            (r#"{"tags":["codescaler"]}"#, true),
            (r#"{"env":{"tags":[]},"tags":["x","codescaler"],"script":"rm"}"#, true),
            (r#"{"tags":null}"#, false),
            (r#"{"env":{"tags":["codescaler"]}}"#, false),
            (r#"{"tags":["codescaler"],"tags":["codescaler"]}"#, false),
            (r#"{"tags":["codescaler"]"#, false),
            (r#"{"tags":["codescaler"],"x":NaN}"#, false),
            (r#"["codescaler"]"#, false),
            ("null", false),
        ] {
            assert_eq!(spec(json.as_bytes(), &wanted).tagged, tagged, "{json}");
        }
        let deep = format!(r#"{{"env":{}{},"tags":["codescaler"]}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert!(spec(deep.as_bytes(), &wanted).tagged, "what is not looked at may be as deep as it likes");
    }

    #[test]
    fn every_form_of_a_reference_names_what_it_refers_to() {
        for (json, found) in [
            (r#"{"depends_on":["a","b"]}"#, vec!["a", "b"]),
            (r#"{"depends_on":"a"}"#, vec!["a"]),
            (r#"{"depends_on":[{"name":"a","optional":true}]}"#, vec!["name", "a", "optional"]),
            (r#"{"depends_on":{"a":{"after":1.5}}}"#, vec!["a", "after"]),
            (r#"{"actions":["\u0061"],"depends_on":null}"#, vec!["a"]),
            (r#"{"actions":["a"],"status":"#, vec!["actions", ":[", "a", "],", "status", ":"]),
            (r#"{"tags":["a"]}"#, vec![]),
        ] {
            assert_eq!(spec(json.as_bytes(), &[]).names, found, "{json}");
        }
        assert_eq!(names(br#"["a",{"action":"b"}]"#), ["a", "action", "b"]);
        assert_eq!(names(br#"["a"#), ["a"]);
    }

    #[test]
    fn what_lists_nothing_need_not_be_read() {
        for (json, may_depend) in [
            (r#"{"depends_on":[],"actions":[],"x":1}"#, false),
            (r#"{"script":"depends_on a"}"#, false),
            (r#"{"depends_on":["a"]}"#, true),
            (r#"{"depends_on": []}"#, true),
            (r#"{"depends_on":[],"depends_on":"a"}"#, true),
            (r#"{"actions":{"a":1}}"#, true),
            (r#"{"depends\u005fon":["a"]}"#, true),
            (r#"{"depends_on":["a"#, true),
        ] {
            assert_eq!(super::may_depend(json.as_bytes()), may_depend, "{json}");
            assert!(may_depend || spec(json.as_bytes(), &[]).names.is_empty(), "{json}");
        }
        assert!(super::may_depend(b"{\"depends_on\":[\"\xff"));
    }

    #[test]
    fn a_schedule_is_whatever_is_not_null() {
        for (json, scheduled) in [
            (r#"{"schedule_policy":null}"#, false),
            (r#"{"schedule_policy":{}}"#, true),
            (r#"{"schedule_policy":{"cron":"* * * * *"}}"#, true),
            ("{}", false),
        ] {
            assert_eq!(spec(json.as_bytes(), &[]).scheduled, scheduled, "{json}");
        }
    }
}
