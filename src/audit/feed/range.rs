//! Which versions of a product are affected.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::version::compare;

/// A range of versions, or one version. Without any bound all are affected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Range {
    /// This one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_including: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_excluding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_including: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_excluding: Option<String>,
}

impl Range {
    /// Whether `version` is in it. No version is in none.
    pub(crate) fn has(&self, version: &str) -> bool {
        let holds = |bound: &Option<String>, allowed: &[Ordering]| {
            bound.as_ref().is_none_or(|bound| allowed.contains(&compare(version, bound)))
        };
        !version.is_empty()
            && holds(&self.exact, &[Ordering::Equal])
            && holds(&self.from_including, &[Ordering::Greater, Ordering::Equal])
            && holds(&self.from_excluding, &[Ordering::Greater])
            && holds(&self.to_including, &[Ordering::Less, Ordering::Equal])
            && holds(&self.to_excluding, &[Ordering::Less])
    }

    /// The range in a sentence.
    pub(crate) fn show(&self) -> String {
        let bounds = [
            (&self.exact, "version"),
            (&self.from_including, "from"),
            (&self.from_excluding, "after"),
            (&self.to_including, "up to and including"),
            (&self.to_excluding, "before"),
        ];
        let parts: Vec<String> =
            bounds.into_iter().filter_map(|(bound, word)| bound.as_ref().map(|it| format!("{word} {it}"))).collect();
        if parts.is_empty() { "all versions".to_owned() } else { parts.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_inclusive_or_exclusive_as_written() {
        let text = |text: &str| Some(text.to_owned());
        let firefox = Range { to_excluding: text("153.0"), ..Range::default() };
        assert!(!firefox.has("153.0") && firefox.has("152.0.1"), "153.0 is the version that is repaired");
        let range = Range { from_including: text("1.0"), to_including: text("2.0"), ..Range::default() };
        for (version, expected) in
            [("0.9", false), ("1.0", true), ("1.5", true), ("2.0", true), ("2.0.1", false), ("1.0pre1", false)]
        {
            assert_eq!(range.has(version), expected, "{version}");
        }
        let range = Range { from_excluding: text("1.0"), ..Range::default() };
        assert!(!range.has("1.0") && range.has("1.0.1"));
        let exact = Range { exact: text("1.2"), ..Range::default() };
        assert!(exact.has("1.2") && !exact.has("1.2.1"));
        assert!(Range::default().has("1") && !Range::default().has(""), "no version is never affected");
        assert_eq!(
            Range { from_including: text("1"), to_excluding: text("2"), ..Range::default() }.show(),
            "from 1, before 2"
        );
    }
}
