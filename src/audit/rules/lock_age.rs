//! `lock-age`

use super::super::Subject;
use super::super::finding::{Findings, Place};
use super::super::lock::last_modified;
use super::super::policy::Level;
use super::{Rule, Topic};
use crate::base::human::count;

pub(in super::super) const RULE: Rule = Rule {
    id: "lock-age",
    title: "An input is older than the policy allows",
    help: "An old Nixpkgs lacks security fixes. The limits are `max-age-days` (Nixpkgs) and `inputs-max-age-days` (the other direct inputs, off by default); update with `nix flake update`.",
    level: Level::Warning,
    topic: Topic::Lock,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let Some(lock) = &subject.lock else { return };
    let policy = &findings.policy.lock;
    let nixpkgs: Vec<usize> = lock.nixpkgs(&policy.nixpkgs_keys).map(|(number, _)| number).collect();
    for (number, input) in lock.direct() {
        let most = if nixpkgs.contains(&number) { Some(policy.max_age_days) } else { policy.inputs_max_age_days };
        let (Some(most), Some(changed)) = (most, last_modified(input)) else { continue };
        let days = (findings.today - changed).num_days();
        if days <= i64::from(most) {
            continue;
        }
        let (days, most) = (count(days as u64, "day"), count(u64::from(most), "day"));
        findings
            .of(&RULE, &lock.subject(number))
            .at(Place::file(&lock.file))
            .says(
                format!("It is of {changed}, {days} old; the policy allows {most}."),
                format!("Run `nix flake update {}`.", input.name),
            )
            .add();
    }
}

#[cfg(test)]
mod tests {
    use crate::audit::testing::{found, lock, node, subject};

    /// 2026-10-27 00:00 UTC is 30 days before the day of the tests.
    fn nixpkgs(modified: &str) -> String {
        let locked = format!(
            r#""type": "github", "owner": "NixOS", "repo": "nixpkgs", "rev": "a", "narHash": "h", "lastModified": {modified}"#
        );
        node("n", "", &locked, "")
    }

    #[test]
    fn nixpkgs_may_be_as_old_as_the_policy_says_and_no_day_older() {
        let at = |modified: &str| subject(lock(r#""nixpkgs": "n""#, &nixpkgs(modified)));
        assert_eq!(found(&at("1793059200"), ""), [""; 0], "30 days");
        let old = found(&at("1792972800"), "");
        assert_eq!(old, ["lock-age: input nixpkgs: It is of 2026-10-26, 31 days old; the policy allows 30 days."]);
        assert_eq!(found(&at("1792972800"), "[audit.lock]\nmax-age-days = 31"), [""; 0]);
        assert_eq!(found(&at("1792972800"), "[audit.lock]\ncheck-outdated = false"), [""; 0]);
        // Days that no calendar has, and a clock that is ahead.
        assert_eq!(found(&at("99999999999999999"), ""), [""; 0]);
        assert_eq!(found(&at("1893456000"), ""), [""; 0]);
    }

    #[test]
    fn other_inputs_age_only_where_the_policy_says_so() {
        let tool = node(
            "t",
            "",
            r#""type": "git", "url": "https://h/t", "rev": "a", "narHash": "h", "lastModified": 1600000000"#,
            "",
        );
        let subject = subject(lock(r#""tool": "t""#, &tool));
        assert_eq!(found(&subject, ""), [""; 0]);
        assert_eq!(found(&subject, "[audit.lock]\ninputs-max-age-days = 365").len(), 1);
    }
}
