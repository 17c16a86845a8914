//! `lock-step`

use std::collections::BTreeSet;

use super::super::Subject;
use super::super::finding::{Findings, Place};
use super::super::policy::Level;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "lock-step",
    title: "The lock file has other inputs than flake.nix",
    help: "Nix would write the lock file again before it does anything, or refuse to. Run `nix flake lock` and commit the result. Where flake.nix cannot be read without evaluating it, nothing is said.",
    level: Level::Warning,
    topic: Topic::Lock,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let (Some(lock), Some(declared)) = (&subject.lock, &subject.sources.inputs) else { return };
    let locked: BTreeSet<&str> = lock.inputs.direct.keys().map(String::as_str).collect();
    let declared: BTreeSet<&str> = declared.iter().map(String::as_str).collect();
    let differing = declared.symmetric_difference(&locked);
    for name in differing {
        let message = if declared.contains(name) {
            "flake.nix has it, and the lock file does not."
        } else {
            "The lock file has it, and flake.nix does not."
        };
        findings
            .of(&RULE, &format!("input {name}"))
            .at(Place::file(&lock.file))
            .says(message, "Run `nix flake lock`, and commit the lock file.")
            .add();
    }
}

#[cfg(test)]
mod tests {
    use crate::audit::testing::{found, lock, node, subject};

    #[test]
    fn inputs_that_only_one_file_has_are_found() {
        let locked = r#""type": "git", "url": "https://h/a", "rev": "1", "narHash": "h""#;
        let mut subject = subject(lock(r#""a": "a", "old": "a", "same": ["a"]"#, &node("a", "", locked, "")));
        assert_eq!(found(&subject, ""), [""; 0], "flake.nix is not known");
        subject.sources.inputs = Some(["a", "new", "same"].map(str::to_owned).into());
        assert_eq!(
            found(&subject, ""),
            [
                "lock-step: input new: flake.nix has it, and the lock file does not.",
                "lock-step: input old: The lock file has it, and flake.nix does not.",
            ]
        );
    }
}
