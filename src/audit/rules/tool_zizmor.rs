//! `zizmor`

use super::super::Subject;
use super::super::finding::Findings;
use super::super::policy::Level;
use super::super::tools::add;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "zizmor",
    title: "A weak spot of a workflow or action (zizmor)",
    help: "Templates with text from outside, excessive permissions, unpinned actions. Run without network where `zizmor` is on PATH; its findings are explained in its documentation.",
    level: Level::Warning,
    topic: Topic::Files,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    add(&RULE, &subject.tools, findings);
}
