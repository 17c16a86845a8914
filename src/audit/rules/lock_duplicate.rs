//! `lock-duplicate`

use super::super::Subject;
use super::super::finding::{Findings, Place};
use super::super::policy::Level;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "lock-duplicate",
    title: "The lock file has Nixpkgs more than once",
    help: "Each copy is fetched and evaluated, and packages of two copies share nothing: builds, downloads and the cache grow. The `follows` line of the message removes the copy, unless the input needs another Nixpkgs.",
    level: Level::Notice,
    topic: Topic::Lock,
    check,
};

/// Deeper ones cannot be removed by a line that anybody would write.
const DEEPEST: usize = 8;

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let Some(lock) = &subject.lock else { return };
    let ours: Vec<(usize, _)> = lock.nixpkgs(&findings.policy.lock.nixpkgs_keys).collect();
    let target = match ours.as_slice() {
        [] => lock.inputs.inputs.iter().position(crate::flake::LockInput::is_nixpkgs),
        several => {
            several.iter().find(|(_, input)| input.name == "nixpkgs").or(several.first()).map(|(number, _)| *number)
        }
    };
    let Some(target) = target else { return };
    for (number, input) in lock.inputs.inputs.iter().enumerate() {
        // Two direct inputs are meant: stable and unstable.
        if number == target || input.parent.is_none() || !input.is_nixpkgs() {
            continue;
        }
        let (path, wanted) = (lock.inputs.path(number), lock.inputs.path(target));
        let remedy = if path.len() > DEEPEST || wanted.len() > DEEPEST {
            String::new()
        } else {
            format!("Add to flake.nix: {} = \"{}\";", follows(&path), wanted.join("/"))
        };
        findings
            .of(&RULE, &lock.subject(number))
            .at(Place::file(&lock.file))
            .says(
                format!(
                    "It is a Nixpkgs of its own ({} {}), beside {}.",
                    input.origin(),
                    input.revision(),
                    lock.inputs.show(target)
                ),
                remedy,
            )
            .add();
    }
}

/// `inputs.a.inputs.b.follows`, quoted where the Nix language needs it.
fn follows(path: &[&str]) -> String {
    let is_plain = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '\''))
    };
    let quoted = |name: &&str| if is_plain(name) { (*name).to_owned() } else { format!("{name:?}") };
    let names: Vec<String> = path.iter().map(quoted).collect();
    format!("inputs.{}.follows", names.join(".inputs."))
}

#[cfg(test)]
mod tests {
    use crate::audit::testing::{found, lock, node, subject};
    use crate::audit::{audit, testing};

    const NIXPKGS: &str = r#""type": "github", "owner": "NixOS", "repo": "nixpkgs", "narHash": "h""#;

    #[test]
    fn the_line_that_removes_a_copy_is_told() {
        let tool = r#""type": "github", "owner": "o", "repo": "t", "rev": "1", "narHash": "h""#;
        let nodes = [
            node("n", "", &format!(r#"{NIXPKGS}, "rev": "1""#), ""),
            node("stable", "", &format!(r#"{NIXPKGS}, "rev": "2""#), ""),
            node("t", r#""1p": "u", "same": ["nixpkgs"]"#, tool, ""),
            node("u", r#""nixpkgs": "m""#, tool, ""),
            node("m", "", &format!(r#"{NIXPKGS}, "rev": "3333333333333333""#), ""),
        ];
        let subject = subject(lock(r#""nixpkgs": "n", "stable": "stable", "tool": "t""#, &nodes.join(",")));
        let report = audit(&subject, &testing::policy(""), testing::day("2026-11-26"));
        assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
        assert_eq!(
            report.findings[0].remedy,
            "Add to flake.nix: inputs.tool.inputs.\"1p\".inputs.nixpkgs.follows = \"nixpkgs\";"
        );
        assert!(report.findings[0].message.contains("github:NixOS/nixpkgs 333333333333), beside nixpkgs"));
    }

    #[test]
    fn one_copy_that_all_follow_is_none_too_many() {
        let nodes = [
            node("n", "", &format!(r#"{NIXPKGS}, "rev": "1""#), ""),
            node(
                "t",
                r#""nixpkgs": ["nixpkgs"], "lib": "n""#,
                r#""type": "git", "url": "https://h/t", "rev": "1", "narHash": "h""#,
                "",
            ),
        ];
        assert_eq!(found(&subject(lock(r#""nixpkgs": "n", "t": "t""#, &nodes.join(","))), ""), [""; 0]);
    }
}
