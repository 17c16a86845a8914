//! `lock-hash`

use super::super::Subject;
use super::super::finding::{Findings, Place};
use super::super::policy::Level;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "lock-hash",
    title: "A locked input has no hash of its content",
    help: "Without `narHash` Nix cannot check what it fetches, and cannot take it from a cache. Write the lock file again with `nix flake lock`.",
    level: Level::Warning,
    topic: Topic::Lock,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let Some(lock) = &subject.lock else { return };
    for (number, input) in lock.inputs.inputs.iter().enumerate() {
        // A place inside of another input is fetched and checked with that one. An input that is not locked at all has its own rule.
        if input.is_relative || input.locked.contains_key("narHash") || super::lock_unlocked::is_unlocked(input) {
            continue;
        }
        findings
            .of(&RULE, &lock.subject(number))
            .at(Place::file(&lock.file))
            .says(
                format!("{} is locked without `narHash`.", input.origin()),
                format!(
                    "Run `nix flake update {}`, or `nix flake lock` with a newer Nix.",
                    lock.inputs.path(number).first().unwrap_or(&"")
                ),
            )
            .add();
    }
}

#[cfg(test)]
mod tests {
    use crate::audit::testing::{found, lock, node, subject};

    #[test]
    fn every_input_needs_a_hash_but_one_inside_of_another() {
        let bare = node("a", r#""b": "b""#, r#""type": "github", "owner": "o", "repo": "r", "rev": "1""#, "");
        let inner = r#""b": {"locked": {"type": "path", "path": "./b"}, "original": {"type": "path", "path": "./b"}, "parent": ["a"]}"#;
        let lines = found(&subject(lock(r#""a": "a""#, &format!("{bare},{inner}"))), "");
        assert_eq!(lines, ["lock-hash: input a: github:o/r is locked without `narHash`."]);
    }
}
