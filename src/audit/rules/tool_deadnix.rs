//! `deadnix`

use super::super::Subject;
use super::super::finding::Findings;
use super::super::policy::Level;
use super::super::tools::add;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "deadnix",
    title: "Nix code that is never used (deadnix)",
    help: "Dead code hides what a file does, and every unused input of a flake is fetched. Run where `deadnix` is on PATH.",
    level: Level::Notice,
    topic: Topic::Files,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    add(&RULE, &subject.tools, findings);
}
