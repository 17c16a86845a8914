//! `source-unfiltered`

use rnix::{SyntaxKind, SyntaxNode};

use super::super::Subject;
use super::super::finding::Findings;
use super::super::policy::Level;
use super::super::source::shape::{assignment, bare};
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "source-unfiltered",
    title: "A package takes the whole repository for its source",
    help: "`src = ./.` and `src = self` change with every commit, so the package is rebuilt by every commit and no cache helps. Use `lib.fileset.toSource` or `lib.cleanSourceWith` with what it needs.",
    level: Level::Notice,
    topic: Topic::Files,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    super::add_spots(&RULE, subject, "Name the files that it needs, with `lib.fileset.toSource`.", findings);
}

/// A line `src = ./.;`, `src = ../.;` or `src = self;`.
pub(super) fn look(node: &SyntaxNode) -> Option<String> {
    let (name, value) = assignment(node).filter(|(name, _)| name == "src")?;
    let value = bare(&value);
    let text = value.text().to_string();
    let is_whole = match value.kind() {
        SyntaxKind::NODE_PATH_REL => text.trim_end_matches('/').split('/').all(|part| part == "." || part == ".."),
        SyntaxKind::NODE_IDENT => text == "self",
        _ => false,
    };
    is_whole.then(|| format!("`{name} = {text}` is the whole repository: every commit rebuilds this package."))
}

#[cfg(test)]
mod tests {
    use super::super::super::source::found;

    #[test]
    fn a_filter_or_a_folder_is_no_whole_repository() {
        for text in ["{ src = ./.; }", "{ src = (./.); }", "{ src = self; }", "{ a.src = ../.; }", "{ src = ./..; }"] {
            assert_eq!(found(text, super::look).len(), 1, "{text}");
        }
        for text in [
            "{ src = ./src; }",
            "{ src = lib.cleanSource ./.; }",
            "{ path = ./.; }",
            "{ src = fetchurl { }; }",
            "{ src = self + \"/x\"; }",
        ] {
            assert_eq!(found(text, super::look), [""; 0], "{text}");
        }
    }
}
