//! What specs say, and what can be told without reading them.

use super::*;
use crate::Guard;

fn tags(tags: &[&str]) -> Tags {
    Guard::codescaler().tags(tags).unwrap()
}

/// Whether the spec `json` can be read and carries the root tag.
fn tagged(json: &str) -> bool {
    let wanted = tags(&["codescaler"]);
    let mut missing = wanted.all_missing();
    read(json.as_bytes(), &mut |tag| missing.found(tag), &mut |_| {}).readable && missing.none()
}

/// What is found in `json` without parsing it.
fn searched(json: &[u8]) -> Hints {
    Searches::new(&tags(&["codescaler"])).search(json)
}

/// The names that the spec `json` refers to.
fn referred_to(json: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    read(json, &mut |_| {}, &mut |name| names.push(String::from_utf8_lossy(name).into_owned()));
    names
}

fn listed(json: &[u8]) -> Vec<String> {
    let mut listed = Vec::new();
    names(json, &mut |name| listed.push(String::from_utf8_lossy(name).into_owned()));
    listed
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
    for (json, carries) in [
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
        assert_eq!(tagged(json), carries, "{json}");
    }
    let deep = format!(r#"{{"env":{}{},"tags":["codescaler"]}}"#, "[".repeat(10_000), "]".repeat(10_000));
    assert!(tagged(&deep), "what is not looked at may be as deep as it likes");
}

#[test]
fn every_form_of_a_reference_names_what_it_refers_to() {
    for (json, found) in [
        (r#"{"depends_on":["a","b"]}"#, vec!["a", "b"]),
        (r#"{"depends_on":"a"}"#, vec!["a"]),
        (r#"{"depends_on":[{"name":"a","optional":true}]}"#, vec!["name", "a", "optional"]),
        (r#"{"depends_on":{"a":{"after":1.5}}}"#, vec!["a", "after"]),
        (r#"{"actions":["\u0061"],"depends_on":null}"#, vec!["a"]),
        (r#"{"actions":["a"],"status":"#, vec!["a", "actions", ":[", "a", "],", "status", ":"]),
        (r#"{"tags":["a"]}"#, vec![]),
    ] {
        assert_eq!(referred_to(json.as_bytes()), found, "{json}");
    }
    assert_eq!(listed(br#"["a",{"action":"b"}]"#), ["a", "action", "b"]);
    assert_eq!(listed(br#"["a"#), ["a"]);
}

#[test]
fn what_lists_nothing_need_not_be_read() {
    for (json, depends) in [
        (r#"{"depends_on":[],"actions":[],"x":1}"#, false),
        (r#"{"script":"depends_on a"}"#, false),
        (r#"{"depends_on":["a"]}"#, true),
        (r#"{"depends_on": []}"#, true),
        (r#"{"depends_on":[],"depends_on":"a"}"#, true),
        (r#"{"actions":{"a":1}}"#, true),
        (r#"{"depends\u005fon":["a"]}"#, true),
        (r#"{"\u0064\u0065\u0070\u0065\u006e\u0064\u0073\u005f\u006f\u006e":"a"}"#, true),
        (r#"{"action\u0073" : "a"}"#, true),
        (r#"{"depends_on" : [ ]}"#, true),
        (r#"{"script":"echo \"depends_on\"\n","depends_on":[]}"#, false),
        (r#"{"script":"\t\n\\ C:\\","note":"depends_on"}"#, false),
        (r#"{"depends_on":["a"#, true),
    ] {
        assert_eq!(searched(json.as_bytes()).depends, depends, "{json}");
        assert!(depends || referred_to(json.as_bytes()).is_empty(), "{json}");
    }
    assert!(searched(b"{\"depends_on\":[\"\xff").depends);
}

proptest::proptest! {
    /// However a spec is written: no key that leads to an action, and no tag, is passed over.
    #[test]
    fn what_a_spec_says_is_always_found(
        entries in proptest::collection::vec((0..KEYS_OF_SPECS.len(), 0..VALUES.len(), ".{0,9}"), 0..5),
        tag in "codescaler|.{0,9}",
        escaped in proptest::collection::vec(proptest::bool::weighted(0.2), 40),
        spaces in proptest::collection::vec(0..SPACES.len(), 40),
    ) {
        let mut spaces = spaces.iter().map(|space| SPACES[*space]).cycle();
        let mut escaped = escaped.into_iter().cycle();
        let mut space = || spaces.next().unwrap_or_default();
        let mut quoted = |word: &str| -> String {
            let letters = word.chars().map(|letter| match escaped.next() {
                Some(true) if letter.is_ascii() => format!("\\u{:04x}", u32::from(letter)),
                _ => serde_json::to_string(&letter).expect("JSON")[1..].strip_suffix('"').unwrap_or_default().to_owned(),
            });
            format!("\"{}\"", letters.collect::<String>())
        };
        let mut json = format!("{{{}:[{}]", quoted("tags"), quoted(&tag));
        for (key, value, text) in &entries {
            let value = VALUES[*value].replace('?', &quoted(text));
            json += &format!(",{}{}{}:{}{value}", space(), quoted(KEYS_OF_SPECS[*key]), space(), space());
        }
        json += "}";
        let found = searched(json.as_bytes());
        proptest::prop_assert!(found.depends || referred_to(json.as_bytes()).is_empty(), "{json}");
        proptest::prop_assert!(tagged(&json) == (tag == "codescaler"), "{json}");
        proptest::prop_assert!(found.tagged || !tagged(&json), "{json}");
    }
}

/// What a parser says of a spec: whether it is scheduled, if it can be read; its tags and its names.
type Said = (Option<bool>, Vec<String>, Vec<String>);

fn said(parser: impl FnOnce(&mut dyn FnMut(&str), &mut dyn FnMut(&[u8])) -> Option<bool>) -> Said {
    let (mut tags, mut names) = (Vec::new(), Vec::new());
    let mut name = |name: &[u8]| names.push(String::from_utf8_lossy(name).into_owned());
    let scheduled = parser(&mut |tag| tags.push(tag.to_owned()), &mut name);
    (scheduled, tags, names)
}

/// More bytes than a string may have that is not left out, in these tests.
const TOO_LONG: usize = 40;

/// What the spec `json` says to those who read the whole, and to those who leave out long strings, unless these read the whole.
fn said_of(json: &str) -> (Said, Option<Said>) {
    let whole = said(|tag, name| parse(json, &mut Hearer { tag, name }).ok());
    let short = shortened(json.as_bytes(), TOO_LONG);
    (whole, short.map(|short| said(|tag, name| parse_shortened(&short, tag, name))))
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    /// A spec says the same without its long strings, however broken it is, or the whole is read.
    #[test]
    fn what_is_left_out_changes_nothing(
        texts in proptest::collection::vec("[abn\"\\\\\n\t\u{8}\u{7f}é/ ]{0,300}|a{60,70}|[a\"]{0,130}|\\.{3}", 6),
        scheduled in proptest::bool::ANY,
        broken in proptest::option::of((proptest::prelude::any::<proptest::sample::Index>(), 0..2_usize, 0..PIECES.len())),
    ) {
        let text: Vec<String> = texts.iter().map(|text| serde_json::to_string(text).expect("JSON")).collect();
        let policy = if scheduled { &text[0] } else { "null" };
        let mut json = format!(
            r#"{{"tags":["codescaler",{}],"schedule_policy":{policy},"depends_on":[{}],"script":{},{}:{}}}"#,
            text[1], text[2], text[3], text[4], text[5]
        );
        if let Some((place, cut, piece)) = broken {
            let places: Vec<usize> = json.char_indices().map(|(place, _)| place).collect();
            let at = place.index(places.len());
            let end = places.get(at + cut).copied().unwrap_or(json.len());
            json.replace_range(places[at]..end, PIECES[piece]);
        }
        let (whole, short) = said_of(&json);
        if let Some((scheduled, tags, names)) = short {
            // At least every other byte of a string in JSON is one of the string.
            let is_long = |text: &String| 2 * text.len() > TOO_LONG;
            if scheduled.is_some() {
                proptest::prop_assert_eq!((scheduled, &names), (whole.0, &whole.2), "{}", json);
                proptest::prop_assert_eq!(tags.len(), whole.1.len(), "{}", json);
                let same = tags.iter().zip(&whole.1).all(|(short, whole)| short == whole || short == LEFT_OUT && is_long(whole));
                proptest::prop_assert!(same, "{}", json);
            } else {
                let left_out = whole.2.iter().any(|name| is_long(name) || name == LEFT_OUT);
                proptest::prop_assert!(whole.0.is_none() || left_out, "{}", json);
            }
        }
    }
}

const PIECES: [&str; 14] = ["\"", "\\", "", "\\u0061", "\u{1}", "{", "}", "[", "]", ",", ":", "\\\"", "\"\"", "x"];

#[test]
fn long_strings_are_left_out() {
    let script = r#"echo \"a\"\n\\\\"#.repeat(20);
    for (json, left) in [
        (format!(r#"{{"script":"{script}","x":[]}}"#), Some(r#"{"script":"...","x":[]}"#)),
        (format!(r#"{{"script":"{script}\u001b","x":[]}}"#), None),
        (format!(r#"{{"script":"{script}","x":"#), Some(r#"{"script":"...","x":"#)),
        (format!(r#"{{"script":"{script}"#), None),
        (format!("{{\"script\":\"{script}\n\"}}"), None),
        (format!(r#"{{"script":["{}"]}}"#, r#"short",""#.repeat(40)), None),
    ] {
        let short = shortened(json.as_bytes(), TOO_LONG).map(|short| String::from_utf8(short).unwrap());
        assert_eq!(short.as_deref(), left, "{json}");
    }
    for (piece, is_text) in [
        ("é".as_bytes(), true),
        ("\u{10ffff}".as_bytes(), true),
        (b"\xff", false),
        (b"\xc3", false),
        ("é\n".as_bytes(), false),
    ] {
        for (before, behind) in [(0, 5000), (2500, 2500), (5000, 0)] {
            let [before, behind] = [before, behind].map(|length| "a".repeat(length));
            let json = [br#"{"script":""#, before.as_bytes(), piece, behind.as_bytes(), br#"","x":[]}"#].concat();
            let short = shortened(&json, LONG);
            assert_eq!(short.as_deref(), is_text.then_some(&br#"{"script":"...","x":[]}"#[..]), "{piece:?}");
            assert_eq!(read(&json, &mut |_| {}, &mut |_| {}).readable, is_text, "{piece:?}");
        }
    }
    // A name that is left out is read after all.
    let name = "a".repeat(5000);
    assert_eq!(referred_to(format!(r#"{{"depends_on":["b","{name}"]}}"#).as_bytes()).last(), Some(&name));
}

const KEYS_OF_SPECS: [&str; 5] = ["depends_on", "actions", "script", "note", "x"];
const VALUES: [&str; 7] = ["[?]", "?", "[]", "[ ]", "{?:1}", "null", "[[?],[]]"];
const SPACES: [&str; 5] = ["", "", " ", "\n\t", "\r"];

#[test]
fn a_tag_is_found_however_it_is_written() {
    for (json, found) in [
        (r#"{"tags":["codescaler"]}"#, true),
        (r#"{"tags":["c\u006fdescaler"]}"#, true),
        (r#"{"tags":["codescale\u0072"#, true),
        (r#"{"tags":["ops","code","scaler"],"script":"\u001b[1m \u00e4 \n"}"#, false),
    ] {
        assert_eq!(searched(json.as_bytes()).tagged, found, "{json}");
    }
    // What may be written in many ways is not searched for: the root tag is.
    let odd = Searches::new(&tags(&["codescaler_ü", "codescaler_a\"b"]));
    assert!(odd.search(br#"{"tags":["codescaler","codescaler_\u00fc","codescaler_a\"b"]}"#).tagged);
    assert!(!odd.search(b"{}").tagged);
}

#[test]
fn a_schedule_is_whatever_is_not_null() {
    for (json, scheduled) in [
        (r#"{"schedule_policy":null}"#, false),
        (r#"{"schedule_policy":{}}"#, true),
        (r#"{"schedule_policy":{"cron":"* * * * *"}}"#, true),
        ("{}", false),
    ] {
        assert_eq!(read(json.as_bytes(), &mut |_| {}, &mut |_| {}).scheduled, scheduled, "{json}");
    }
}
