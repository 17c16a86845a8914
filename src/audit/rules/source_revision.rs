//! `source-revision`

use rnix::SyntaxNode;

use super::super::Subject;
use super::super::finding::Findings;
use super::super::policy::Level;
use super::super::source::shape::names;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "source-revision",
    title: "The commit is part of what is built",
    help: "What has `self.rev` or `self.lastModified` in it is another derivation with every commit, and everything that depends on it is rebuilt. Put it into the last step alone, or leave it out.",
    level: Level::Notice,
    topic: Topic::Files,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    super::add_spots(&RULE, subject, "Put it into the last step alone, or leave it out.", findings);
}

const ATTRIBUTES: [&str; 7] =
    ["rev", "shortRev", "dirtyRev", "dirtyShortRev", "revCount", "lastModified", "lastModifiedDate"];

/// `self.rev` and the like, also behind `inputs.self` and `self.sourceInfo`.
pub(super) fn look(node: &SyntaxNode) -> Option<String> {
    if node.kind() != rnix::SyntaxKind::NODE_SELECT {
        return None;
    }
    let names = names(node)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (["inputs", "self", of_self @ ..] | ["self", of_self @ ..]) = names.as_slice() else { return None };
    let [last] = of_self.strip_prefix(&["sourceInfo"][..]).unwrap_or(of_self) else { return None };
    ATTRIBUTES.contains(last).then(|| format!("`{}` is another text with every commit.", names.join(".")))
}

#[cfg(test)]
mod tests {
    use super::super::super::source::found;

    #[test]
    fn what_changes_with_every_commit_is_found() {
        let text = "{ a = self.rev or \"dirty\"; b = inputs.self.lastModifiedDate; c = self.sourceInfo.shortRev; }";
        assert_eq!(
            found(text, super::look),
            [
                "1:7 `self.rev` is another text with every commit.",
                "1:32 `inputs.self.lastModifiedDate` is another text with every commit.",
                "1:66 `self.sourceInfo.shortRev` is another text with every commit.",
            ]
        );
        for text in ["self.packages.rev", "nixpkgs.rev", "self.outPath", "rev", "self.rev.x"] {
            assert_eq!(found(text, super::look), [""; 0], "{text}");
        }
    }
}
