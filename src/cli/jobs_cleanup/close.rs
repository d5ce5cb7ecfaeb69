//! What came close, where no job matched: a kind that is misspelt, or a combination that does not occur.

use std::cmp::Reverse;

use hero_proc_cleanup::{TagUsage, Usage};

use crate::cli::table::{excerpt, number};
use crate::cli::text::quoted;

/// The most values that are asked for, and the most that are named.
pub(super) const MOST_ASKED: usize = 1_000;
const MOST_NAMED: usize = 8;

/// What a cleanup asked for by one of the fields of codescaler's grammar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// `kind`, `target` or `actor`.
    pub(super) field: &'static str,
    pub(super) value: &'a str,
}

/// Why no job is all that was `asked` for, by the `usage` of all of codescaler's jobs.
pub(super) fn lines(asked: &[Asked<'_>], usage: &Usage) -> Vec<String> {
    if usage.jobs == 0 {
        return vec!["There are no jobs of codescaler's.".to_owned()];
    }
    let missing: Vec<String> = asked
        .iter()
        .filter_map(|asked| {
            let values = values(usage, asked.field);
            // A value that is not in a list that was cut may be there all the same, unless it is all that was asked for.
            let absent = !values.contains(&asked.value) && (values.len() < MOST_ASKED || usage.by.len() == 1);
            absent.then(|| {
                let Asked { field, value } = asked;
                format!("There is no job of {field} {}. {}", named(value), others(field, value, values))
            })
        })
        .collect();
    if !missing.is_empty() {
        return missing;
    }
    let each: Vec<String> = asked.iter().map(|asked| format!("{} {}", asked.field, named(asked.value))).collect();
    vec![format!("There are jobs of {}, but no job has them all.", each.join(", and of "))]
}

fn values<'u>(usage: &'u Usage, field: &str) -> Vec<&'u str> {
    let values: &[TagUsage] = usage.by.get(field).map_or(&[], Vec::as_slice);
    values.iter().filter_map(|entry| entry.value.as_deref()).collect()
}

/// The `values` that there are, those first that resemble `value`.
fn others(field: &str, value: &str, mut values: Vec<&str>) -> String {
    if values.is_empty() {
        return format!("No job has any {field}.");
    }
    let value = value.to_lowercase();
    // From 0 to 1, with three digits. A name in a store may be of any length.
    let resemblance =
        |other: &str| (strsim::normalized_damerau_levenshtein(&excerpt(other).to_lowercase(), &value) * 1000.0) as u32;
    values.sort_by_cached_key(|other| Reverse(resemblance(other)));
    let mut names: Vec<String> = values.iter().take(MOST_NAMED).map(|value| named(value)).collect();
    let rest = values.len().saturating_sub(MOST_NAMED) as u64;
    if rest > 0 {
        names.push(number(rest, "other", "others"));
    }
    format!("The {field}s that there are: {}.", names.join(", "))
}

fn named(value: &str) -> String {
    quoted(&excerpt(value))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn usage(by: Value) -> Usage {
        let mut usage = serde_json::to_value(Usage::default()).expect("JSON");
        usage["jobs"] = 9.into();
        for (field, values) in by.as_object().expect("an object") {
            let entry =
                |value: &Value| json!({ "value": value, "jobs": 1, "finished": 1, "bytes": 1, "oldest_ms": null });
            usage["by"][field] = values.as_array().expect("an array").iter().map(entry).collect();
        }
        serde_json::from_value(usage).expect("usage")
    }

    const KIND: Asked<'_> = Asked { field: "kind", value: "biuld" };
    const ACTOR: Asked<'_> = Asked { field: "actor", value: "ana" };

    #[test]
    fn a_misspelt_value_is_told_with_those_that_resemble_it_first() {
        let usage = usage(json!({ "kind": ["release", null, "Build", "it's"], "actor": ["ana"] }));
        let kinds = "There is no job of kind biuld. The kinds that there are: Build, 'it'\\''s', release.";
        assert_eq!(lines(&[KIND], &usage), [kinds]);
        assert_eq!(lines(&[KIND, ACTOR], &usage), [kinds]);
        let targets = "There is no job of target web. No job has any target.";
        assert_eq!(lines(&[KIND, Asked { field: "target", value: "web" }], &usage), [kinds, targets]);
    }

    #[test]
    fn a_combination_that_does_not_occur_is_told() {
        let usage = usage(json!({ "kind": ["build", "biuld"], "actor": ["ana"] }));
        let combination = "There are jobs of kind biuld, and of actor ana, but no job has them all.";
        assert_eq!(lines(&[KIND, ACTOR], &usage), [combination]);
    }

    #[test]
    fn few_of_many_are_named() {
        let many: Vec<String> = (0..MOST_ASKED).map(|number| format!("kind-{number}")).collect();
        let usage = usage(json!({ "kind": many }));
        let said = lines(&[KIND], &usage);
        assert!(said[0].ends_with(", 992 others."), "{said:?}");
        assert_eq!(said[0].matches(", ").count(), MOST_NAMED, "{said:?}");
    }

    #[test]
    fn a_list_that_was_cut_proves_nothing() {
        let many: Vec<String> = (0..MOST_ASKED).map(|number| format!("kind-{number}")).collect();
        let usage = usage(json!({ "kind": many, "actor": ["bob"] }));
        assert_eq!(lines(&[KIND, ACTOR], &usage), ["There is no job of actor ana. The actors that there are: bob."]);
    }

    #[test]
    fn a_store_without_jobs_is_told() {
        assert_eq!(lines(&[KIND], &Usage::default()), ["There are no jobs of codescaler's."]);
    }
}
