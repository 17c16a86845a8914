//! `nixf-tidy`

use super::super::Subject;
use super::super::finding::Findings;
use super::super::policy::Level;
use super::super::tools::add;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "nixf-tidy",
    title: "What the language server nixd finds in a file (nixf-tidy)",
    help: "Undefined and unused names, duplicate attributes. Run where `nixf-tidy` is on PATH.",
    level: Level::Warning,
    topic: Topic::Files,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    add(&RULE, &subject.tools, findings);
}
