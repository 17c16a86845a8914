//! `license-denied`

use std::collections::BTreeSet;

use super::super::Subject;
use super::super::finding::{Confidence, Findings};
use super::super::licence::is_allowed;
use super::super::packages::{Package, Source};
use super::super::policy::{Level, LicencePolicy, Lists};
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "license-denied",
    title: "A package has a licence that the policy does not allow",
    help: "The policy is `allow` and `deny` of [audit.licenses]. Allow the licence, allow it for this package (`exceptions`, with a reason and an end), say what it really is (`clarify`), or do without the package.",
    level: Level::Warning,
    topic: Topic::Packages,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let policy = &findings.policy.licenses;
    if !policy.is_given() {
        return;
    }
    let mut seen = BTreeSet::new();
    for package in &subject.packages {
        let Some(licence) = licence(package, policy) else { continue };
        if !seen.insert((package.subject(), licence)) || is_allowed(licence, &policy.allowed, &policy.denied) {
            continue;
        }
        if policy.exceptions.iter().any(|it| {
            it.name == package.name
                && is_current(it, findings)
                && is_allowed(licence, &it.allowed, &super::super::licence::LicenceList::default())
        }) {
            continue;
        }
        let reading = match (package.licence_is_list, policy.lists) {
            (true, Lists::And) => " (a list, of which all are taken to apply)",
            (true, Lists::Or) => " (a list, of which one may be chosen)",
            (false, _) => "",
        };
        let confidence = if package.source == Source::Evaluation { Confidence::Exact } else { Confidence::Candidate };
        findings
            .of(&RULE, &package.subject())
            .at(subject.place())
            .identity(licence)
            .confidence(confidence)
            .says(
                format!("Its licence is {licence}{reading}, which the policy does not allow."),
                "Allow it in [audit.licenses], for all or for this package, or do without the package.",
            )
            .add();
    }
}

fn is_current(exception: &super::super::policy::LicenceException, findings: &Findings<'_>) -> bool {
    exception.until.is_none_or(|day| findings.today <= day.0)
}

/// The licence of a package, with what the policy says of it.
pub(super) fn licence<'a>(package: &'a Package, policy: &'a LicencePolicy) -> Option<&'a str> {
    let clarified = policy.clarify.iter().find(|it| it.name == package.name).map(|it| it.expression.as_str());
    clarified.or(package.licence.as_deref())
}

#[cfg(test)]
mod tests {
    use crate::audit::testing::{found_packages, package};

    const POLICY: &str = "[audit.licenses]\nallow = [\"MIT\", \"Apache-2.0\"]\n";

    #[test]
    fn what_is_not_allowed_is_found_once_for_each_version() {
        let mut all = vec![package("a", "1"), package("a", "1"), package("b", "2"), package("c", "3")];
        all[0].licence = Some("MIT AND GPL-3.0-only".into());
        all[0].licence_is_list = true;
        all[1] = all[0].clone();
        all[2].licence = Some("MIT OR GPL-3.0-only".into());
        assert_eq!(found_packages(&all, ""), [""; 0], "without a policy nothing is looked at");
        assert_eq!(
            found_packages(&all, POLICY),
            [
                "license-denied: a 1: Its licence is MIT AND GPL-3.0-only (a list, of which all are taken to apply), which the policy does not allow.",
                "license-unknown: c: Nothing is known of its licence.",
            ]
        );
        let or = format!("{POLICY}lists = \"or\"\n[audit.severity]\nlicense-unknown = \"off\"\n");
        assert_eq!(found_packages(&all, &or).len(), 1, "lists are read when the packages are gathered");
    }

    #[test]
    fn exceptions_are_for_one_package_until_a_day_and_clarifications_replace() {
        let mut all = vec![package("a", "1"), package("b", "2")];
        for package in &mut all {
            package.licence = Some("GPL-3.0-only".into());
        }
        let exception = |until: &str| {
            format!(
                "{POLICY}[[audit.licenses.exceptions]]\nname = \"a\"\nallow = [\"GPL-3.0-only\"]\nreason = \"r\"\nuntil = {until}\n[[audit.licenses.clarify]]\nname = \"b\"\nexpression = \"MIT\"\n"
            )
        };
        assert_eq!(found_packages(&all, &exception("\"2026-11-26\"")), [""; 0]);
        let late = found_packages(&all, &exception("2026-11-25"));
        assert!(
            late.len() == 2 && late[0].starts_with("exception-stale: ") && late[1].starts_with("license-denied: a 1"),
            "{late:?}"
        );
    }
}
