//! `source-fetch`

use rnix::{SyntaxKind, SyntaxNode};

use super::super::Subject;
use super::super::finding::Findings;
use super::super::policy::Level;
use super::super::source::shape::{application, attributes, bare, names};
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "source-fetch",
    title: "Something is fetched while evaluating, without a hash",
    help: "What comes may be another thing tomorrow, it is fetched again on every machine, and a pure evaluation refuses it. Add the hash, or take an input of the flake.",
    level: Level::Warning,
    topic: Topic::Files,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    super::add_spots(&RULE, subject, "Add its hash, or take an input of the flake.", findings);
}

/// What fixes the content of each fetcher of Nix itself.
const FETCHERS: [(&str, &[&str]); 4] = [
    ("fetchTarball", &["sha256", "narHash"]),
    ("fetchurl", &["sha256", "hash", "narHash"]),
    ("fetchGit", &["rev", "narHash"]),
    ("fetchTree", &["rev", "narHash"]),
];

/// `builtins.fetchTarball "https://…"`, or with a set that has no hash. `fetchTarball` alone is that of Nix as well; the other names are
/// those of Nixpkgs without `builtins`.
pub(super) fn look(node: &SyntaxNode) -> Option<String> {
    let (called, argument) = application(node)?;
    let called = names(&bare(&called))?;
    let called: Vec<&str> = called.iter().map(String::as_str).collect();
    let name = match called.as_slice() {
        ["builtins", name] => *name,
        ["fetchTarball"] => "fetchTarball",
        _ => return None,
    };
    let (name, fixed) = FETCHERS.iter().find(|(fetcher, _)| *fetcher == name)?;
    let argument = bare(&argument);
    let is_open = match argument.kind() {
        SyntaxKind::NODE_STRING => true,
        SyntaxKind::NODE_ATTR_SET => {
            let given = attributes(&argument);
            // A path is read from this machine and copied as it is.
            !given.iter().any(|attribute| fixed.contains(&attribute.as_str()))
        }
        _ => false,
    };
    is_open.then(|| format!("`{name}` has no {}.", fixed[0]))
}

#[cfg(test)]
mod tests {
    use super::super::super::source::found;

    #[test]
    fn fetchers_of_nix_need_a_hash() {
        for text in [
            "builtins.fetchTarball \"https://h/x.tar.gz\"",
            "import (fetchTarball { url = \"u\"; }) { }",
            "builtins.fetchGit { url = \"u\"; ref = \"main\"; }",
            "builtins.fetchurl \"u\"",
        ] {
            assert_eq!(found(text, super::look).len(), 1, "{text}");
        }
        for text in [
            "fetchTarball { url = \"u\"; sha256 = \"s\"; }",
            "builtins.fetchGit { url = \"u\"; inherit rev; }",
            "fetchurl { url = \"u\"; }",
            "pkgs.fetchTarball \"u\"",
            "builtins.fetchTarball source",
        ] {
            assert_eq!(found(text, super::look), [""; 0], "{text}");
        }
    }
}
