//! `formatter`

use super::super::Subject;
use super::super::finding::Findings;
use super::super::policy::Level;
use super::super::tools::add;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "formatter",
    title: "A Nix file that the formatter would write in another way",
    help: "Without one form for all, changes of form hide changes of meaning. The first of `nixfmt`, `alejandra` and `nixpkgs-fmt` on PATH is used; run it. `checks: true` of [build](build.md) runs the formatter that the flake names.",
    level: Level::Notice,
    topic: Topic::Files,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    add(&RULE, &subject.tools, findings);
}
