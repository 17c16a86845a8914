//! Tests of [`super`]: the hit rate, round trips, and that the documentation knows every field.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::base::note::{Code, Note, Severity};

/// A report without an empty list or a null, so that every field shows.
fn full() -> Report {
    let mut report = Report::new(Action::Both, &Facts { workflow: "CI".to_owned(), ..Facts::default() }, "CI/build");
    report.key.parts = vec![KeyPart::default()];
    report.key.prefixes = vec!["nix-".to_owned()];
    report.levels = vec![Level::default()];
    report.layers = vec![Layer::default()];
    report.largest_new = vec![NewPath::default()];
    report.closure = Some(Closure { outputs: vec!["x".to_owned()], paths: vec![NewPath::default()] });
    report.restore = Some(Restore::default());
    report.save = Some(Save { running: Some(Running::default()), ..Save::default() });
    report.quota = Some(Quota::default());
    report.trend = Some(Trend::default());
    report.plan = Some(Plan::default());
    report.audit = Some(crate::audit::figures::AuditFigures::default());
    report.effort = Some(Effort::default());
    report.guard = Some(Guard::default());
    report.builds = vec![build()];
    report.timings.push(Timing { phase: "restore.download".to_owned(), ms: 1200 });
    report.note(
        Note::silent(Severity::Warning, Code::ReadOnlyToken, "The token may not write.")
            .with_remedy("Run on the default branch."),
    );
    report
}

/// A build with one of each.
fn build() -> BuildReport {
    BuildReport {
        category: Some(crate::building::Category::Build),
        max_jobs: Some(4),
        cores: Some(4),
        targets: vec!["default".to_owned()],
        paths: vec!["/nix/store/x".to_owned()],
        derivations: vec![crate::building::DerivationTime {
            phases: vec![crate::building::PhaseTime::default()],
            ..crate::building::DerivationTime::default()
        }],
        transfers: vec![crate::building::TransferTime::default()],
        failures: vec![crate::building::Failure::default()],
        // The same fields as those of `failures`.
        retried: Vec::new(),
        resources: Some(crate::building::Resources::default()),
        artifacts: vec![crate::building::artifacts::Artifact::default()],
        checks: vec![crate::building::checks::Check::default()],
        ..BuildReport::default()
    }
}

/// Every field as `a.b`, lists as `a[].b`.
fn fields(value: &Value, prefix: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, inner) in object {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                if !inner.is_object() {
                    found.push(name.clone());
                }
                fields(inner, &name, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| fields(inner, &format!("{prefix}[]"), found)),
        _ => {}
    }
}

#[test]
fn the_documentation_names_every_field_and_no_other() {
    let documentation = include_str!("../../docs/report.md");
    let documented: std::collections::BTreeSet<_> = documentation
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|rest| rest.split('`').next())
        .map(str::to_owned)
        .collect();
    let mut found = Vec::new();
    fields(&serde_json::to_value(full()).unwrap(), "", &mut found);
    assert_eq!(documented, found.into_iter().collect());
}

#[test]
fn a_report_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/report.json");
    Report::default().write(&path).unwrap();
    full().write(&path).unwrap();
    assert_eq!(Report::read(&path).unwrap(), full());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    let value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!((value["schema"].as_u64(), value["job"]["lane"].as_str()), (Some(1), Some("CI/build")));
    assert_eq!(value["largest-new"][0]["nar-bytes"].as_u64(), Some(0));
}

#[cfg(unix)]
#[test]
fn other_users_may_read_a_report() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    Report::default().write(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn what_is_missing_or_unknown_in_a_report_does_not_matter() {
    let report: Report = serde_json::from_str(r#"{"schema": 1, "paths": {"restored": 3}, "later": true}"#).unwrap();
    assert_eq!((report.paths.restored, report.key.hit), (3, crate::series::Hit::Miss));
    let folder = tempfile::tempdir().unwrap();
    let message = Report::read(&folder.path().join("none.json")).unwrap_err().to_string();
    assert!(message.contains("none.json could not be read"), "{message}");
}

#[test]
fn the_hit_rate_is_the_share_of_what_was_needed() {
    let rate = |needed, built_here, fetched_upstream| {
        Paths { restored: 5000, needed, built_here, fetched_upstream, ..Paths::default() }.hit_rate()
    };
    assert_eq!(rate(Some(90), 6, 4), Some(0.9));
    assert_eq!(rate(Some(0), 1, 0), Some(0.0));
    assert_eq!(rate(Some(7), 0, 0), Some(1.0));
    assert_eq!((rate(Some(0), 0, 0), rate(None, 1, 1)), (None, None));
}

#[test]
fn a_note_is_kept_once() {
    let mut report = full();
    report.note(
        Note::silent(Severity::Warning, Code::ReadOnlyToken, "The token may not write.").with_remedy("Anything."),
    );
    report.note(Note::silent(Severity::Warning, Code::ReadOnlyToken, "Another thing.").with_remedy(""));
    assert_eq!(report.notes.len(), 2);
}

proptest! {
    #[test]
    fn the_hit_rate_is_a_share(needed in any::<u64>(), built in any::<u64>(), fetched in any::<u64>()) {
        let paths = Paths { needed: Some(needed), built_here: built, fetched_upstream: fetched, ..Paths::default() };
        if let Some(rate) = paths.hit_rate() {
            prop_assert!((0.0..=1.0).contains(&rate));
        }
    }
}
