//! Policies: what is refused and how, what a rule asks of both sides, and what changes the name of a policy.

use hero_proc_cleanup::policy::{Policy, PolicyDraft, PolicyError, Side};
use hero_proc_cleanup::{Guard, call};
use serde_json::{Value, json};

use crate::support::call::host;
use crate::support::sample::Sample;

fn policy(policy: Value) -> Policy {
    serde_json::from_value(policy).unwrap()
}

/// The policy of one rule that takes everything, with what `top` and `rule` add.
fn with(top: Value, rule: Value) -> Value {
    let mut all = json!({ "every": "1h" });
    let mut one = json!({ "older_than": "14d" });
    all.as_object_mut().unwrap().extend(top.as_object().unwrap().clone());
    one.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
    all["rule"] = json!([one]);
    all
}

#[track_caller]
fn refused(policy: Value) -> PolicyError {
    let draft: PolicyDraft = serde_json::from_value(policy).unwrap();
    draft.check().unwrap_err()
}

#[track_caller]
fn assert_refused(policy: Value, rule: Option<usize>, key: &str, says: &str) {
    let error = refused(policy.clone());
    let text = error.to_string();
    assert_eq!((error.rule(), error.key()), (rule, key), "{text}");
    assert!(text.contains(says), "{text}");
    assert!(text.contains(key) && rule.is_none_or(|rule| text.starts_with(&format!("rule {rule}: "))), "{text}");
    // Whoever has no use for the draft hears the same.
    assert_eq!(serde_json::from_value::<Policy>(policy).unwrap_err().to_string(), text);
}

#[test]
fn unknown_keys_are_refused_and_known_ones_are_named() {
    for (written, unknown) in [
        (json!({ "evry": "1h" }), "evry"),
        (json!({ "rules": [] }), "rules"),
        (with(json!({ "force": true }), json!({})), "force"),
        (with(json!({}), json!({ "older_then": "14d" })), "older_then"),
        (with(json!({}), json!({ "phase": ["failed"] })), "phase"),
        (with(json!({}), json!({ "force": true })), "force"),
        (with(json!({}), json!({ "except_kind": ["a"] })), "except_kind"),
    ] {
        let error = serde_json::from_value::<PolicyDraft>(written).unwrap_err().to_string();
        assert!(error.starts_with(&format!("unknown field `{unknown}`, expected one of `")), "{error}");
    }
}

#[test]
fn without_a_rule_there_is_no_policy() {
    for written in [json!({}), json!({ "every": "1h" }), json!({ "every": "1h", "rule": [] })] {
        assert_refused(written, None, "rule", "at least one");
    }
    assert_refused(json!({ "rule": [{ "older_than": "14d" }] }), None, "every", "is missing");
}

#[test]
fn a_rule_without_an_age_is_refused() {
    assert_refused(json!({ "every": "1h", "rule": [{ "kind": "build" }] }), Some(1), "older_than", "is missing");
    let second = json!({ "every": "1h", "rule": [{ "older_than": "14d" }, {}] });
    assert_refused(second, Some(2), "older_than", "is missing");
}

#[test]
fn ages_that_are_zero_negative_fractional_too_short_or_bare_numbers_are_refused() {
    let no_ages = [
        json!("0"),
        json!("0d"),
        json!("-1"),
        json!("-1d"),
        json!("1.5h"),
        json!("59m"),
        json!("3599999ms"),
        json!(""),
        json!("14"),
        json!("1209600000"),
        json!("14 d"),
        json!("14D"),
        json!("2w"),
        json!("1d12h"),
        json!("never"),
        json!("106751991168d"),
        json!(0),
        json!(-1),
        json!(14),
        json!(14.5),
        json!(true),
        json!(["14d"]),
        json!({}),
    ];
    for age in no_ages {
        assert_refused(with(json!({}), json!({ "older_than": age })), Some(1), "older_than", "from 1h");
    }
    for age in [json!("59s"), json!("1ms"), json!("0m"), json!(0), json!("3600000"), json!("-1h"), json!("1.5h")] {
        assert_refused(with(json!({ "every": age }), json!({})), None, "every", "from 1m");
    }
    for age in ["0s", "9ms", "1000"] {
        assert_refused(with(json!({ "reclaim": age }), json!({})), None, "reclaim", "from 10ms");
    }
    let least = policy(with(json!({ "every": "1m", "reclaim": "10ms" }), json!({ "older_than": "60m" })));
    assert_eq!((least.every().as_secs(), least.reclaim().unwrap().as_millis()), (60, 10));
    assert_eq!(least.rules()[0].older_than_ms(), 3_600_000);
}

#[test]
fn phases_that_are_not_terminal_are_refused() {
    for phases in [json!(["running"]), json!(["succeeded", "faild"]), json!([""]), json!(["failed "])] {
        assert_refused(
            with(json!({}), json!({ "phases": phases })),
            Some(1),
            "phases",
            "which is none of: succeeded, ",
        );
    }
    assert_refused(with(json!({}), json!({ "phases": [] })), Some(1), "phases", "is empty");
    for phases in [json!("failed"), json!([1]), json!(1)] {
        assert_refused(with(json!({}), json!({ "phases": phases })), Some(1), "phases", "must be an array of strings");
    }
    let any_case = policy(with(json!({}), json!({ "phases": ["Failed", "ERROR", "failed"] })));
    assert_eq!(any_case.rules()[0].to_string(), r#"phases "error" "failed", older than 14d"#);
}

#[test]
fn counts_that_keep_nothing_or_by_nothing_are_refused() {
    for count in [json!(0), json!(-1), json!(10_001), json!(2.5), json!("10"), json!(true), json!(u64::MAX)] {
        assert_refused(with(json!({ "keep_last": count }), json!({})), None, "keep_last", "from 1 to 10000");
        assert_refused(with(json!({}), json!({ "keep_last": count })), Some(1), "keep_last", "from 1 to 10000");
    }
    assert_refused(with(json!({ "keep_by": ["kind"] }), json!({})), None, "keep_by", "only be given with keep_last");
    assert_refused(with(json!({}), json!({ "keep_by": [] })), Some(1), "keep_by", "only be given with keep_last");
    let by = |by: Value| with(json!({}), json!({ "keep_last": 3, "keep_by": by }));
    assert_refused(by(json!(["actor"])), Some(1), "keep_by", "\"kind\" and \"target\"");
    assert_refused(by(json!("kind")), Some(1), "keep_by", "must be an array");
}

#[test]
fn values_that_make_no_tags_are_refused() {
    for key in ["kind", "target", "actor"] {
        let long = "x".repeat(257);
        for (value, says) in [(json!(""), "empty"), (json!(1), "must be a string"), (json!(long), "256 bytes")] {
            assert_refused(with(json!({}), json!({ key: value })), Some(1), key, says);
        }
    }
    for actor in ["kind_build", "target_web"] {
        assert_refused(with(json!({}), json!({ "actor": actor })), Some(1), "actor", "another field's");
    }
    let many: Vec<String> = (0..17).map(|number| number.to_string()).collect();
    for (kinds, says) in [
        (json!([""]), "empty"),
        (json!("release"), "array of strings"),
        (json!(["x".repeat(300)]), "256 bytes"),
        (json!(many), "more than 16"),
    ] {
        assert_refused(with(json!({ "except_kind": kinds }), json!({})), None, "except_kind", says);
    }
    let never = with(json!({ "except_kind": ["release"] }), json!({ "kind": "release" }));
    assert_refused(never, Some(1), "kind", "except_kind");
}

#[test]
fn two_rules_alike_are_refused() {
    let rule = json!({ "kind": "build", "phases": ["failed", "error"], "older_than": "14d" });
    let alike = json!({ "kind": "build", "phases": ["ERROR", "failed"], "older_than": "60d" });
    for second in [&rule, &alike] {
        let written = json!({ "every": "1h", "rule": [rule, { "older_than": "90d" }, second] });
        assert_refused(written, Some(3), "older_than", "rule 1");
    }
    let other = json!({ "kind": "build", "phases": ["failed"], "older_than": "60d" });
    policy(json!({ "every": "1h", "rule": [rule, other] }));
}

#[test]
fn counts_that_one_call_can_not_keep_are_refused() {
    let top = json!({ "keep_last": 10 });
    for rule in [
        json!({ "keep_last": 3, "keep_by": ["kind", "target"] }),
        json!({ "keep_last": 30, "keep_by": ["target"] }),
        json!({ "keep_last": 30, "keep_by": [] }),
    ] {
        assert_refused(with(top.clone(), rule), Some(1), "keep_last", "one call");
    }
    assert_refused(
        with(json!({ "keep_last": 10, "keep_by": [] }), json!({ "keep_last": 3 })),
        Some(1),
        "keep_last",
        "one call",
    );
}

/// What one call keeps for the top and for the rule: the count that holds the other, or the one that there is.
#[test]
fn a_call_keeps_what_the_top_and_the_rule_keep() {
    let kept = |top: &Value, rule: Value| {
        let policy = policy(with(top.clone(), rule));
        let params = policy.dry_runs()[0].params(Side::Codescalers);
        json!([params["keep_last"], params["keep_by"]])
    };
    let top = json!({ "keep_last": 10 });
    let both = json!(["kind", "target"]);
    for (rule, call) in [
        (json!({}), json!([10, ["kind"]])),
        (json!({ "kind": "build" }), json!([10, ["kind"]])),
        (json!({ "actor": "ana" }), json!([10, ["kind"]])),
        (json!({ "target": "web" }), json!([10, ["kind"]])),
        (json!({ "keep_last": 3 }), json!([10, ["kind"]])),
        (json!({ "keep_last": 30 }), json!([30, ["kind"]])),
        (json!({ "keep_last": 10, "keep_by": both }), json!([10, both])),
        // The top is finer, and keeps more.
        (json!({ "keep_last": 3, "keep_by": [] }), json!([10, ["kind"]])),
        (json!({ "actor": "ana", "keep_last": 10 }), json!([10, ["kind"]])),
        (json!({ "target": "web", "keep_last": 10, "keep_by": both }), json!([10, both])),
    ] {
        assert_eq!(kept(&top, rule.clone()), call, "{rule}");
    }
    assert_eq!(kept(&json!({}), json!({})), json!([null, null]));
    assert_eq!(kept(&json!({}), json!({ "keep_last": 3, "keep_by": [] })), json!([3, []]));
}

#[test]
fn a_confirmation_is_a_digest() {
    for confirmed in [json!(""), json!("yes"), json!("ABCDEF0123456789ABCDEF0123456789"), json!(true)] {
        assert_refused(with(json!({ "confirmed": confirmed }), json!({})), None, "confirmed", "");
    }
}

/// Everything that a policy says changes its name, but for its confirmation and for the order in which it is written.
#[test]
fn a_policy_has_one_name() {
    let all = json!({
        "every": "1h", "reclaim": "1s", "keep_last": 10, "keep_by": ["kind"], "except_kind": ["release", "gold"],
        "rule": [
            { "phases": ["succeeded", "done"], "older_than": "14d" },
            { "kind": "build", "target": "web", "actor": "ana", "older_than": "60d", "keep_last": 20 },
        ],
    });
    let digest = policy(all.clone()).digest();
    assert_eq!(digest.as_str(), "d85352c6c5e27162bf9c5160edc5d207", "the digest of today is that of tomorrow");
    let mut same = all.clone();
    same["confirmed"] = json!(digest.as_str());
    same["every"] = json!("60m");
    same["except_kind"] = json!(["gold", "release", "gold"]);
    same["rule"].as_array_mut().unwrap().reverse();
    same["rule"][1]["phases"] = json!(["Done", "succeeded"]);
    same.as_object_mut().unwrap().remove("keep_by");
    let same = policy(same);
    assert_eq!((same.digest(), same.confirmed()), (digest.clone(), Some(&digest)));

    let mut digests = vec![digest];
    for (pointer, value) in [
        ("/every", json!("2h")),
        ("/reclaim", json!("2s")),
        ("/reclaim", Value::Null),
        ("/keep_last", json!(11)),
        ("/keep_by", json!([])),
        ("/except_kind", json!(["release"])),
        ("/rule/0/phases", json!(["succeeded"])),
        ("/rule/0/phases", Value::Null),
        ("/rule/0/older_than", json!("15d")),
        ("/rule/1/kind", json!("test")),
        ("/rule/1/target", json!("app")),
        ("/rule/1/actor", json!("ben")),
        ("/rule/1/keep_last", json!(21)),
        ("/rule/1/keep_by", json!(["target", "kind"])),
    ] {
        let mut other = all.clone();
        *other.pointer_mut(pointer).unwrap_or(&mut Value::Null) = value.clone();
        if other.pointer(pointer).is_none() {
            other["rule"][1]["keep_by"] = value;
        }
        digests.push(policy(other).digest());
    }
    let names: std::collections::HashSet<String> = digests.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), digests.len());
}

#[test]
fn a_rule_asks_both_sides_for_the_same() {
    let policy = policy(json!({
        "every": "1h", "keep_last": 10, "except_kind": ["release"],
        "rule": [
            { "phases": ["succeeded"], "older_than": "14d" },
            { "kind": "build", "target": "web", "actor": "ana", "older_than": "60d", "keep_last": 20, "keep_by": ["target", "kind"] },
        ],
    }));
    let [first, second] = &policy.dry_runs()[..] else { panic!() };
    assert!(first.is_dry_run());
    assert_eq!((first.rule(), second.rule()), (Some(0), Some(1)));
    assert_eq!(first.method(Side::HeroProc), "job.cleanup_by_tag");
    assert_eq!(first.method(Side::Codescalers), "jobs.cleanup");
    assert_eq!(
        first.params(Side::HeroProc),
        json!({
            "tags": ["codescaler"], "except_tags": ["codescaler_kind_release"], "phases": ["succeeded"],
            "older_than_ms": 1_209_600_000, "keep_last": 10, "keep_by": ["codescaler_kind_"],
            "dry_run": true, "limit": 1_000_000, "max_ids": 0,
        })
    );
    assert_eq!(
        first.params(Side::Codescalers),
        json!({
            "except_kind": ["release"], "phases": ["succeeded"], "older_than_ms": 1_209_600_000, "keep_last": 10,
            "keep_by": ["kind"], "dry_run": true, "limit": 1_000_000, "max_ids": 0,
        })
    );
    assert_eq!(
        second.params(Side::HeroProc),
        json!({
            "tags": ["codescaler", "codescaler_ana", "codescaler_kind_build", "codescaler_target_web"],
            "except_tags": ["codescaler_kind_release"], "older_than_ms": 5_184_000_000_u64, "keep_last": 20,
            "keep_by": ["codescaler_kind_", "codescaler_target_"], "dry_run": true, "limit": 1_000_000, "max_ids": 0,
        })
    );
    assert_eq!(
        second.params(Side::Codescalers),
        json!({
            "kind": "build", "target": "web", "actor": "ana", "except_kind": ["release"],
            "older_than_ms": 5_184_000_000_u64, "keep_last": 20, "keep_by": ["kind", "target"],
            "dry_run": true, "limit": 1_000_000, "max_ids": 0,
        })
    );
    // hero_proc's side takes them as they are.
    let sample = Sample::new();
    for due in policy.dry_runs() {
        let params = due.params(Side::HeroProc);
        call(due.method(Side::HeroProc), &params, &sample, &host(), chrono::Utc::now()).unwrap();
    }
    assert_eq!(host().guard, Guard::codescaler());
}
