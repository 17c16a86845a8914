//! `lock-owner`

use super::super::Subject;
use super::super::finding::{Findings, Place};
use super::super::policy::Level;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "lock-owner",
    title: "Nixpkgs comes from an owner that the policy does not list",
    help: "Whoever owns the Nixpkgs that you use decides what you build. List forks that you trust in `owners`.",
    level: Level::Warning,
    topic: Topic::Lock,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let Some(lock) = &subject.lock else { return };
    let policy = &findings.policy.lock;
    for (number, input) in lock.nixpkgs(&policy.nixpkgs_keys) {
        // A channel's tarball and a Git address have no owner; those of NixOS are known.
        let owner = input.locked("owner").or_else(|| input.locked("url").and_then(owner_of));
        let Some(owner) = owner else { continue };
        if policy.owners.iter().any(|allowed| allowed.eq_ignore_ascii_case(owner)) {
            continue;
        }
        findings
            .of(&RULE, &lock.subject(number))
            .at(Place::file(&lock.file))
            .identity(owner)
            .says(
                format!(
                    "It comes from {}, whose owner {owner:?} is not one of {}.",
                    input.origin(),
                    policy.owners.join(", ")
                ),
                "Use `github:NixOS/nixpkgs`, or list the owner in `owners` of [audit.lock].",
            )
            .add();
    }
}

/// The owner in the address of a repository or channel. None where the address does not say.
fn owner_of(url: &str) -> Option<&str> {
    let path = url.split(['?', '#']).next()?;
    let (host, path) = path.split_once("://")?.1.split_once('/')?;
    let host = host.rsplit('@').next()?;
    match host {
        "channels.nixos.org" | "releases.nixos.org" | "nixos.org" => Some("NixOS"),
        "github.com" | "gitlab.com" | "codeberg.org" => path.split('/').next(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::{found, lock, node, subject};

    #[test]
    fn owners_are_those_of_the_policy_however_nixpkgs_is_fetched() {
        let at = |locked: &str| {
            let locked = format!(r#"{locked}, "rev": "a", "narHash": "h""#);
            subject(lock(r#""nixpkgs": "n""#, &node("n", "", &locked, "")))
        };
        for (locked, is_found) in [
            (r#""type": "github", "owner": "NixOS", "repo": "nixpkgs""#, false),
            (r#""type": "github", "owner": "nixos", "repo": "nixpkgs""#, false),
            (r#""type": "github", "owner": "Evil", "repo": "nixpkgs""#, true),
            (r#""type": "tarball", "url": "https://channels.nixos.org/nixos-unstable/nixexprs.tar.xz""#, false),
            (r#""type": "git", "url": "https://u:p@github.com/evil/nixpkgs.git""#, true),
            (r#""type": "git", "url": "https://git.example.org/nixpkgs""#, false),
        ] {
            let lines = found(&at(locked), "");
            assert_eq!(lines.len(), usize::from(is_found), "{locked}: {lines:?}");
            assert!(lines.iter().all(|line| line.starts_with("lock-owner: ") && !line.contains("u:p")), "{lines:?}");
            assert_eq!(found(&at(locked), "[audit.lock]\nowners = [\"nixos\", \"EVIL\"]"), [""; 0]);
        }
        assert_eq!(owner_of("no address"), None);
    }
}
