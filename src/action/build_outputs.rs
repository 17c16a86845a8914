//! The outputs of the action `build/`.

use std::path::Path;

use super::outputs::{OutputError, set_all};
use crate::building::checks::Verdict;
use crate::building::watch::Ending;
use crate::building::{BuildReport, Outcome};

/// Names and values of all outputs, with the path of the report.
#[must_use]
pub(crate) fn of(build: &BuildReport, path: &Path) -> Vec<(&'static str, String)> {
    let list = |items: Vec<&str>| serde_json::to_string(&items).unwrap_or_else(|_| "[]".to_owned());
    let result = match build.outcome {
        Outcome::Succeeded => "success",
        Outcome::Failed => "failure",
        Outcome::Cancelled => "cancelled",
    };
    let derivations = build.derivations.iter().filter(|time| time.ending == Ending::Failed);
    let mut failed: Vec<&str> = derivations.map(|time| time.name.as_str()).collect();
    if failed.is_empty() {
        failed = build.failures.iter().map(crate::building::Failure::subject).collect();
    }
    failed.dedup();
    let checks = build.checks.iter().filter(|check| check.verdict == Verdict::Failed);
    vec![
        ("result", result.to_owned()),
        ("failed", list(failed)),
        ("failed-checks", list(checks.map(|check| check.name.as_str()).collect())),
        ("category", build.category.map(|category| category.word().to_owned()).unwrap_or_default()),
        ("paths", list(build.paths.iter().map(String::as_str).collect())),
        ("built", build.totals.built.to_string()),
        ("fetched", (build.totals.substituted + build.totals.copied).to_string()),
        ("time-build-ms", build.ms.to_string()),
        ("report", path.display().to_string()),
    ]
}

/// Sets the outputs of [`of`]. Does nothing without a runner.
///
/// # Errors
/// [`OutputError`] for the first output that could not be written.
pub(crate) fn set(build: &BuildReport, path: &Path) -> Result<(), OutputError> {
    set_all(of(build, path))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::outputs::declared;
    use super::*;
    use crate::building::{Category, DerivationTime, Failure};

    #[test]
    fn the_action_declares_just_what_is_set() {
        let all = of(&BuildReport::default(), Path::new("/r"));
        let set: BTreeSet<_> = all.iter().map(|(name, _)| *name).collect();
        assert_eq!(declared(include_str!("../../build/action.yml")), set);
    }

    #[test]
    fn values() {
        let value = |build: &BuildReport, name: &str| {
            of(build, Path::new("/r")).into_iter().find(|(known, _)| *known == name).map(|(_, value)| value).unwrap()
        };
        let mut build = BuildReport { paths: vec!["/nix/store/a".into()], ..BuildReport::default() };
        assert_eq!((value(&build, "result"), value(&build, "category")), ("success".into(), String::new()));
        assert_eq!((value(&build, "failed"), value(&build, "paths")), ("[]".into(), "[\"/nix/store/a\"]".into()));
        build.outcome = Outcome::Failed;
        build.category = Some(Category::Evaluation);
        build.failures.push(Failure::new(Category::Evaluation, "x"));
        assert_eq!((value(&build, "result"), value(&build, "category")), ("failure".into(), "evaluation".into()));
        assert_eq!(value(&build, "failed"), "[\"Evaluation error\"]");
        let failed = DerivationTime { name: "a".into(), ending: Ending::Failed, ..DerivationTime::default() };
        build.derivations.push(failed);
        assert_eq!(value(&build, "failed"), "[\"a\"]");
    }
}
