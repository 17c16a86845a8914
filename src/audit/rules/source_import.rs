//! `source-import`

use rnix::SyntaxNode;

use super::super::Subject;
use super::super::finding::Findings;
use super::super::policy::Level;
use super::super::source::shape::{application, bare, function, names};
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "source-import",
    title: "The evaluation has to build something first (import from derivation)",
    help: "Evaluation stops until that is built, on every machine that evaluates, and a plan cannot look past it. Commit the generated file, or take an input of the flake.",
    level: Level::Notice,
    topic: Topic::Files,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    super::add_spots(&RULE, subject, "Commit the generated file, or take an input of the flake.", findings);
}

/// What reads a file while evaluating.
const READERS: [&str; 4] = ["import", "readFile", "readDir", "fromTOML"];
/// What is a derivation whatever its arguments.
const MAKERS: [&str; 14] = [
    "fetchFromGitHub",
    "fetchFromGitLab",
    "fetchgit",
    "fetchzip",
    "fetchpatch",
    "applyPatches",
    "runCommand",
    "runCommandLocal",
    "mkDerivation",
    "writeText",
    "writeTextFile",
    "substituteAll",
    "symlinkJoin",
    "callCabal2nix",
];
/// What does it by itself.
const ALWAYS: [&str; 2] = ["callCabal2nix", "callHackage"];

/// `import (fetchFromGitHub …)`, `builtins.readFile (runCommand …)`, and functions that do so inside.
pub(super) fn look(node: &SyntaxNode) -> Option<String> {
    let (called, argument) = application(node)?;
    let name = names(&bare(&called)).and_then(|names| names.last().cloned())?;
    if ALWAYS.contains(&name.as_str()) {
        return Some(format!("`{name}` generates Nix code by a build, and imports it."));
    }
    let maker = names(&function(&argument)).filter(|_| application(&bare(&argument)).is_some())?;
    let maker = maker.last().filter(|maker| MAKERS.contains(&maker.as_str()))?;
    READERS.contains(&name.as_str()).then(|| format!("`{name}` reads what `{maker}` has to build first."))
}

#[cfg(test)]
mod tests {
    use super::super::super::source::found;

    #[test]
    fn reading_what_is_built_is_found_and_reading_files_is_not() {
        for text in [
            "import (pkgs.fetchFromGitHub { owner = \"o\"; }) { }",
            "builtins.readFile (pkgs.runCommand \"x\" { } \"y\")",
            "haskellPackages.callCabal2nix \"x\" ./. { }",
            "import (stdenv.mkDerivation { })",
        ] {
            assert_eq!(found(text, super::look).len(), 1, "{text}");
        }
        for text in [
            "import ./a.nix",
            "import nixpkgs { }",
            "import \"${nixpkgs}/nixos\"",
            "import (fetchTarball { url = \"u\"; sha256 = \"s\"; })",
            "readFile ./x",
            "f (runCommand \"x\" { } \"\")",
        ] {
            assert_eq!(found(text, super::look), [""; 0], "{text}");
        }
    }
}
