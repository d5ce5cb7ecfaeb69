//! Reading what jobs, actions and services hold as JSON: strictly where something might go because of it, generously
//! where something stays because of it.

use std::borrow::Cow;
use std::fmt;

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
    let mut json = serde_json::Deserializer::from_str(json);
    let held = TagList(Some(tags)).deserialize(&mut json);
    held.and_then(|held| json.end().map(|()| held)).unwrap_or(false)
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
    parse(json, None).ok()?;
    serde_json::from_str::<Tagged>(json).ok().map(|spec| spec.tags.unwrap_or_default())
}

/// Whether `json`, a spec, holds all of `tags` under `tags`.
pub(crate) fn spec_tags_hold(json: &str, tags: &Tags) -> bool {
    parse(json, Some(tags)).is_ok_and(|spec| spec.tagged)
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
pub(crate) fn spec<'s>(json: &'s [u8], tags: Option<&Tags>) -> Spec<'s> {
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

fn parse<'s>(json: &'s str, tags: Option<&Tags>) -> serde_json::Result<Spec<'s>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let spec = deserializer.deserialize_map(SpecVisitor(tags))?;
    deserializer.end()?;
    Ok(spec)
}

/// What stands between quotes, with or without an end.
fn words(json: &[u8]) -> Vec<Cow<'_, str>> {
    json.split(|&byte| byte == b'"').skip(1).map(String::from_utf8_lossy).collect()
}

struct SpecVisitor<'t>(Option<&'t Tags>);

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
                    spec.tagged = map.next_value_seed(TagList(self.0))?;
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

/// An array of strings, which may hold all of some tags, or null, which holds none. Anything else is an error.
struct TagList<'t>(Option<&'t Tags>);

impl<'de> DeserializeSeed<'de> for TagList<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TagList<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tags: A) -> Result<Self::Value, A::Error> {
        let mut missing = self.0.map(Tags::all_missing);
        while let Some(Key(tag)) = tags.next_element()? {
            if let Some(missing) = &mut missing {
                missing.found(&tag);
            }
        }
        Ok(missing.is_some_and(|missing| missing.none()))
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

    fn tags(tags: &[&str]) -> Tags {
        Guard::codescaler().tags(tags).unwrap()
    }

    #[test]
    fn only_an_array_of_strings_holds_tags() {
        let wanted = tags(&["codescaler", "codescaler_ana"]);
        for (json, holds) in [
            (r#"["codescaler","codescaler_ana"]"#, true),
            (r#" ["x", "codescaler_ana", "codescaler", "codescaler"] "#, true),
            (r#"["c\u006fdescaler","codescaler_\u0061na"]"#, true),
            (r#"["codescaler"]"#, false),
            (r#"["codescaler","codescaler_Ana"]"#, false),
            (r#"["codescaler","codescaler%ana"]"#, false),
            (r#"["codescaler","codescaler_ana",1]"#, false),
            (r#"["codescaler","codescaler_ana",null]"#, false),
            (r#"["codescaler","codescaler_ana"] x"#, false),
            (r#"["codescaler","codescaler_ana""#, false),
            (r#"[["codescaler","codescaler_ana"]]"#, false),
            (r#"{"codescaler":"codescaler_ana"}"#, false),
            (r#""codescaler""#, false),
            ("[]", false),
            ("", false),
            ("null", false),
            (" null ", false),
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
            assert_eq!(spec(json.as_bytes(), Some(&wanted)).tagged, tagged, "{json}");
        }
        let deep = format!(r#"{{"env":{}{},"tags":["codescaler"]}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert!(spec(deep.as_bytes(), Some(&wanted)).tagged, "what is not looked at may be as deep as it likes");
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
            assert_eq!(spec(json.as_bytes(), None).names, found, "{json}");
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
            assert!(may_depend || spec(json.as_bytes(), None).names.is_empty(), "{json}");
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
            assert_eq!(spec(json.as_bytes(), None).scheduled, scheduled, "{json}");
        }
    }
}
