//! `lock-moved`

use super::super::Subject;
use super::super::finding::{Findings, Place};
use super::super::policy::Level;
use super::lock_changed::changes;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "lock-moved",
    title: "The change takes an input from another place",
    help: "Another owner, repository or host: whoever controls it decides what you build. A reviewer should know it.",
    level: Level::Warning,
    topic: Topic::Lock,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let Some(lock) = &subject.lock else { return };
    let Some(base) = &lock.base else { return };
    for (path, before, after) in changes(base, &lock.inputs) {
        let (Some(before), Some(after)) = (before, after) else { continue };
        let (from, to) = (before.origin(), after.origin());
        if from.eq_ignore_ascii_case(&to) {
            continue;
        }
        let message = format!("It now comes from {to}, before from {from}.");
        findings
            .of(&RULE, &format!("input {path}"))
            .at(Place::file(&lock.file))
            .identity(message.clone())
            .says(&message, "Check that this is meant, and who controls the new place.")
            .add();
    }
}
