//! `lock-branch`

use chrono::{Datelike, NaiveDate};

use super::super::Subject;
use super::super::finding::{Findings, Place};
use super::super::policy::Level;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "lock-branch",
    title: "Nixpkgs is on a branch that is not supported",
    help: "A release of NixOS gets fixes until a month after the next one (May and November). The dates are counted by that schedule; `supported-refs` lists other branches.",
    level: Level::Warning,
    topic: Topic::Lock,
    check,
};

/// Branches that have no end.
const ROLLING: [&str; 4] = ["nixos-unstable", "nixos-unstable-small", "nixpkgs-unstable", "nixpkgs-unstable-darwin"];

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let Some(lock) = &subject.lock else { return };
    let policy = &findings.policy.lock;
    for (number, input) in lock.nixpkgs(&policy.nixpkgs_keys) {
        // What names no branch uses the default one, or a fixed revision, which has an age and no branch.
        let Some(branch) = input.original("ref").map(|name| name.trim_start_matches("refs/heads/")) else { continue };
        let why = match &policy.supported_refs {
            Some(refs) if refs.iter().any(|allowed| allowed == branch) => continue,
            Some(_) => "is not in `supported-refs`".to_owned(),
            None if ROLLING.contains(&branch) => continue,
            None => match support(branch) {
                Some((from, until)) if (from..=until).contains(&findings.today) => continue,
                Some((_, until)) if findings.today > until => format!("has had no fixes since {until}"),
                Some(_) => "is not released yet".to_owned(),
                None => "is not a branch that Hydra releases".to_owned(),
            },
        };
        findings
            .of(&RULE, &lock.subject(number))
            .at(Place::file(&lock.file))
            .identity(branch)
            .says(
                format!("The branch {branch} {why}."),
                "Use a supported branch in flake.nix, such as nixos-unstable, or list this one in `supported-refs` of [audit.lock].",
            )
            .add();
    }
}

/// From when until when a release branch is supported by the schedule; none for another branch. Source: NixOS manual, "Releases":
/// YY.05 and YY.11, each until one month after the next; a month of slack for its start.
fn support(branch: &str) -> Option<(NaiveDate, NaiveDate)> {
    let rest = branch
        .strip_prefix("nixos-")
        .or_else(|| branch.strip_prefix("nixpkgs-").filter(|rest| rest.ends_with("-darwin")))?;
    let release = rest.strip_suffix("-small").or_else(|| rest.strip_suffix("-darwin")).unwrap_or(rest);
    let (year, month) = release.split_once('.')?;
    let year = 2000 + year.parse::<i32>().ok().filter(|_| year.len() == 2)?;
    match month {
        "05" => Some((NaiveDate::from_ymd_opt(year, 5, 1)?, NaiveDate::from_ymd_opt(year, 12, 31)?)),
        "11" => Some((NaiveDate::from_ymd_opt(year, 11, 1)?, NaiveDate::from_ymd_opt(year + 1, 6, 30)?)),
        // The months until 2020.
        "03" => Some((NaiveDate::from_ymd_opt(year, 3, 1)?, NaiveDate::from_ymd_opt(year, 10, 31)?)),
        "09" => Some((NaiveDate::from_ymd_opt(year, 9, 1)?, NaiveDate::from_ymd_opt(year + 1, 4, 30)?)),
        _ => None,
    }
    .filter(|(from, _)| from.year() >= 2013)
}

#[cfg(test)]
mod tests {
    use crate::audit::testing::{found, lock, node, subject};

    #[test]
    fn branches_are_supported_as_the_schedule_says() {
        let at = |branch: &str| {
            let locked = r#""type": "github", "owner": "NixOS", "repo": "nixpkgs", "rev": "a", "narHash": "h""#;
            subject(lock(r#""nixpkgs": "n""#, &node("n", "", locked, &format!(r#""ref": "{branch}""#))))
        };
        for branch in [
            "nixos-unstable",
            "nixpkgs-unstable",
            "nixos-26.05",
            "nixos-26.05-small",
            "nixpkgs-26.05-darwin",
            "nixos-26.11",
            "refs/heads/nixos-26.05",
        ] {
            assert_eq!(found(&at(branch), ""), [""; 0], "{branch}");
        }
        for (branch, why) in [
            ("nixos-25.11", "has had no fixes since 2026-06-30"),
            ("nixos-22.05-small", "has had no fixes since 2022-12-31"),
            ("nixos-20.09", "has had no fixes since 2021-04-30"),
            ("nixos-27.05", "is not released yet"),
            ("staging-next", "is not a branch that Hydra releases"),
            ("nixpkgs-26.05", "is not a branch that Hydra releases"),
            ("nixos-26.13", "is not a branch"),
            ("nixos-2026.05", "is not a branch"),
        ] {
            let lines = found(&at(branch), "");
            assert!(lines.len() == 1 && lines[0].contains(why), "{branch}: {lines:?}");
            assert_eq!(found(&at(branch), &format!("[audit.lock]\nsupported-refs = [\"{branch}\"]")), [""; 0]);
        }
        let none = subject(lock(
            r#""nixpkgs": "n""#,
            &node("n", "", r#""type": "github", "owner": "NixOS", "repo": "nixpkgs", "rev": "a", "narHash": "h""#, ""),
        ));
        assert_eq!(found(&none, "[audit.lock]\nsupported-refs = []"), [""; 0], "no branch is named");
    }
}
