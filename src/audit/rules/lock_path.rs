//! `lock-path`

use super::super::Subject;
use super::super::finding::{Findings, Place};
use super::super::policy::Level;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "lock-path",
    title: "An input is a folder or repository of one machine",
    help: "No other machine has it, so the flake builds on this one alone. Use an address that others can fetch, or a path relative to the flake.",
    level: Level::Warning,
    topic: Topic::Lock,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let Some(lock) = &subject.lock else { return };
    for (number, input) in lock.inputs.inputs.iter().enumerate() {
        let file = input.locked("url").is_some_and(|url| url.starts_with("file:") || url.starts_with('/'));
        let path =
            input.locked("type") == Some("path") && input.locked("path").is_some_and(|path| path.starts_with('/'));
        if input.is_relative || !(file || path) {
            continue;
        }
        findings
            .of(&RULE, &lock.subject(number))
            .at(Place::file(&lock.file))
            .says(
                format!("{} is on the machine that wrote the lock file.", input.origin()),
                "Use an address that others can fetch, or a path that starts with `./`.",
            )
            .add();
    }
}

#[cfg(test)]
mod tests {
    use crate::audit::testing::{found, lock, node, subject};

    #[test]
    fn absolute_places_are_found_and_relative_ones_are_not() {
        let nodes = [
            node("a", "", r#""type": "path", "path": "/home/me/a", "narHash": "h""#, ""),
            node("b", "", r#""type": "path", "path": "./b", "narHash": "h""#, ""),
            node("c", "", r#""type": "git", "url": "file:///srv/c", "rev": "1", "narHash": "h""#, ""),
        ];
        let lines = found(&subject(lock(r#""a": "a", "b": "b", "c": "c""#, &nodes.join(","))), "");
        assert_eq!(
            lines,
            [
                "lock-path: input a: path:/home/me/a is on the machine that wrote the lock file.",
                "lock-path: input c: git file:///srv/c is on the machine that wrote the lock file.",
            ]
        );
    }
}
