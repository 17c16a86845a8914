//! What the tests of the audit share.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::NaiveDate;

use super::lock::LockSubject;
use super::packages::{Package, Source};
use super::policy::Policy;
use super::report::Report;
use super::{Subject, audit};
use crate::flake::LockInputs;

pub(super) fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// A lock file with these nodes beside the root, and the inputs of the root.
pub(super) fn lock(root: &str, nodes: &str) -> LockInputs {
    let comma = if nodes.is_empty() { "" } else { "," };
    let text =
        format!(r#"{{"version": 7, "root": "root", "nodes": {{"root": {{"inputs": {{{root}}}}}{comma}{nodes}}}}}"#);
    LockInputs::parse(Path::new("flake.lock"), text.as_bytes()).unwrap()
}

/// A node of a lock file.
pub(super) fn node(name: &str, inputs: &str, locked: &str, original: &str) -> String {
    format!(r#""{name}": {{"inputs": {{{inputs}}}, "locked": {{{locked}}}, "original": {{{original}}}}}"#)
}

pub(super) fn subject(lock: LockInputs) -> Subject {
    Subject {
        lock: Some(LockSubject { file: "flake.lock".to_owned(), inputs: lock, ..LockSubject::default() }),
        ..Subject::default()
    }
}

pub(super) fn policy(text: &str) -> Policy {
    Policy::parse(text, "nix-cache.toml").unwrap()
}

/// The findings as lines `rule: subject: message`.
pub(super) fn lines(report: &Report) -> Vec<String> {
    report.findings.iter().map(|found| format!("{}: {}: {}", found.rule, found.subject, found.message)).collect()
}

/// What an audit on 26 November 2026 finds.
pub(super) fn found(subject: &Subject, rules: &str) -> Vec<String> {
    lines(&audit(subject, &policy(rules), day("2026-11-26")))
}

/// An evaluated package of which nothing but its version is known.
pub(super) fn package(name: &str, version: &str) -> Package {
    Package {
        path: format!("{}-{name}-{version}", "0".repeat(32)),
        name: name.to_owned(),
        version: version.to_owned(),
        source: Source::Evaluation,
        nar_size: 1000,
        licence: None,
        licence_is_list: false,
        cpe: None,
        known_vulnerabilities: Vec::new(),
        patched: BTreeSet::new(),
    }
}

/// As [`found`], for packages.
pub(super) fn found_packages(packages: &[Package], rules: &str) -> Vec<String> {
    found(&Subject { packages: packages.to_vec(), ..Subject::default() }, rules)
}
