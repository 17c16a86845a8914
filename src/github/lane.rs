//! Lanes distinguish jobs that have the same key but use different paths: by default, workflow, job and matrix row. Lanes are
//! parts of names in the cache, so they are limited to letters, digits, `.`, `_`, `-` and `/`.

use serde_json::Value;

use super::component::{component, with_digest};
use super::env::Facts;

/// Returns `<workflow>/<job>`, and `/<matrix>` if the job has one. Short, plain components are kept as they are; others become a
/// readable rest and eight digits of their SHA-256, so that different jobs have different lanes.
#[must_use]
pub(crate) fn default_lane(facts: &Facts, matrix: &Value) -> String {
    let named = |text: &str, nameless: &str| if text.is_empty() { nameless.to_owned() } else { component(text) };
    let mut lane = format!("{}/{}", named(&facts.workflow, "local"), named(&facts.job, "job"));
    if let Some(row) = row(matrix) {
        lane.push('/');
        lane.push_str(&row);
    }
    lane
}

/// The component for a matrix row: the value if there is one plain value, otherwise all plain values and a digest of everything.
fn row(matrix: &Value) -> Option<String> {
    let rows = matrix.as_object().filter(|rows| !rows.is_empty())?;
    let values: Vec<String> = rows.values().filter_map(scalar).collect();
    match values.as_slice() {
        [one] if rows.len() == 1 && !one.is_empty() => Some(component(one)),
        _ => Some(with_digest(&values.join("-"), &matrix.to_string())),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn lane(workflow: &str, job: &str, matrix: &Value) -> String {
        let facts = Facts { workflow: workflow.to_owned(), job: job.to_owned(), ..Facts::default() };
        default_lane(&facts, matrix)
    }

    #[test]
    fn readable_where_that_is_possible() {
        assert_eq!(lane("CI", "build", &Value::Null), "CI/build");
        assert_eq!(lane("CI", "build", &json!({})), "CI/build");
        assert_eq!(lane("CI", "build", &json!({"os": "ubuntu-24.04"})), "CI/build/ubuntu-24.04");
        assert_eq!(lane("", "", &Value::Null), "local/job");
        let two = lane("Build & test", "build", &json!({"os": "linux", "nix": 2.34}));
        assert!(two.starts_with("Build-test-") && two.contains("/build/") && two.contains("linux"), "{two}");
    }

    #[test]
    fn a_value_that_looks_like_two_is_not_two() {
        let rows = [
            json!({"a": "x-y", "b": "z"}),
            json!({"a": "x", "b": "y-z"}),
            json!({"a": "x", "b": "y", "c": "z"}),
            json!({"a": ["x", "y", "z"]}),
            json!({"a": {"x": "y"}}),
            json!({"a": "x/y"}),
            json!({"a": "x y"}),
            json!({"a": ""}),
        ];
        let lanes: std::collections::BTreeSet<_> = rows.iter().map(|row| lane("CI", "j", row)).collect();
        assert_eq!(lanes.len(), rows.len(), "{lanes:?}");
    }

    proptest! {
        #[test]
        fn lanes_are_portable_and_short(workflow in any::<String>(), job in any::<String>(), value in any::<String>()) {
            let lane = lane(&workflow, &job, &json!({"value": value}));
            prop_assert!(lane.len() <= 150);
            prop_assert!(lane.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)), "{}", lane);
            prop_assert_eq!(lane.split('/').count(), 3);
            prop_assert!(lane.split('/').all(|part| !part.is_empty() && Path::new(part).file_name().is_some()));
        }

        #[test]
        fn different_texts_are_different_components(one in ".{0,50}", other in ".{0,50}") {
            prop_assert_eq!(one == other, component(&one) == component(&other));
        }
    }
}
