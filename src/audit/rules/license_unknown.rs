//! `license-unknown`

use std::collections::BTreeSet;

use super::super::Subject;
use super::super::finding::Findings;
use super::super::packages::Source;
use super::super::policy::Level;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "license-unknown",
    title: "The licence of a package is unknown",
    help: "An unknown licence is not a violation, but nobody has looked. Say in `clarify` of [audit.licenses] what it is. Only evaluated packages are listed; the coverage says how many there are.",
    level: Level::Notice,
    topic: Topic::Packages,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let policy = &findings.policy.licenses;
    if !policy.is_given() {
        return;
    }
    let unknown: BTreeSet<&str> = subject
        .packages
        .iter()
        .filter(|package| {
            package.source == Source::Evaluation && super::license_denied::licence(package, policy).is_none()
        })
        .map(|package| package.name.as_str())
        .collect();
    for name in unknown {
        findings
            .of(&RULE, name)
            .at(subject.place())
            .says("Nothing is known of its licence.", "Say in `clarify` of [audit.licenses] what it is.")
            .add();
    }
}
