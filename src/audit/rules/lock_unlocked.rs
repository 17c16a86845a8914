//! `lock-unlocked`

use super::super::Subject;
use super::super::finding::{Findings, Place};
use super::super::policy::Level;
use super::{Rule, Topic};
use crate::flake::LockInput;

pub(in super::super) const RULE: Rule = Rule {
    id: "lock-unlocked",
    title: "An input is not locked to a revision or content",
    help: "What it is today it may not be tomorrow: two builds of one commit differ, and no cache can tell. Run `nix flake lock`, and commit the changes of a repository that was locked while it was dirty.",
    level: Level::Warning,
    topic: Topic::Lock,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let Some(lock) = &subject.lock else { return };
    for (number, input) in lock.inputs.inputs.iter().enumerate() {
        if !is_unlocked(input) {
            continue;
        }
        let what = if input.locked.contains_key("dirtyRev") {
            "was locked while its work tree had changes that are in no commit"
        } else {
            "has neither a revision nor a hash"
        };
        findings
            .of(&RULE, &lock.subject(number))
            .at(Place::file(&lock.file))
            .says(format!("{} {what}.", input.origin()), "Run `nix flake lock` where all changes are committed.")
            .add();
    }
}

/// Whether nothing says which content an input has. A place on this machine (`path:`) has its own rule.
pub(super) fn is_unlocked(input: &LockInput) -> bool {
    if input.is_relative || input.locked("type") == Some("path") {
        return false;
    }
    let is_dirty = input.locked.contains_key("dirtyRev") && !input.locked.contains_key("rev");
    is_dirty || !(input.locked.contains_key("rev") || input.locked.contains_key("narHash"))
}

#[cfg(test)]
mod tests {
    use crate::audit::testing::{found, lock, node, subject};

    #[test]
    fn an_input_without_revision_and_hash_is_found_once() {
        let nodes = [
            node("a", "", r#""type": "git", "url": "https://h/a""#, ""),
            node("b", "", r#""type": "git", "url": "ssh://h/b", "dirtyRev": "x-dirty", "narHash": "h""#, ""),
            node("c", "", r#""type": "tarball", "url": "https://h/c", "narHash": "h""#, ""),
            node("d", "", r#""type": "indirect", "id": "d""#, ""),
        ];
        let lines = found(&subject(lock(r#""a": "a", "b": "b", "c": "c", "d": "d""#, &nodes.join(","))), "");
        assert_eq!(
            lines,
            [
                "lock-unlocked: input a: git https://h/a has neither a revision nor a hash.",
                "lock-unlocked: input b: git ssh://h/b was locked while its work tree had changes that are in no commit.",
                "lock-unlocked: input d: indirect has neither a revision nor a hash.",
            ]
        );
    }
}
