//! `statix`

use super::super::Subject;
use super::super::finding::Findings;
use super::super::policy::Level;
use super::super::tools::add;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "statix",
    title: "A pattern that is better written otherwise (statix)",
    help: "Run where `statix` is on PATH; its codes are explained by `statix explain`.",
    level: Level::Notice,
    topic: Topic::Files,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    add(&RULE, &subject.tools, findings);
}
