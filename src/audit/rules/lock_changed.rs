//! `lock-changed`

use std::collections::BTreeMap;

use super::super::Subject;
use super::super::finding::{Findings, Place};
use super::super::lock::last_modified;
use super::super::policy::Level;
use super::{Rule, Topic};
use crate::flake::{LockInput, LockInputs};

pub(in super::super) const RULE: Rule = Rule {
    id: "lock-changed",
    title: "The change updates, adds or removes an input",
    help: "What an input is locked to decides what is built. Look at the changes between the two revisions as at any other code.",
    level: Level::Notice,
    topic: Topic::Lock,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let Some(lock) = &subject.lock else { return };
    let Some(base) = &lock.base else { return };
    for (path, before, after) in changes(base, &lock.inputs) {
        let show = |input: &LockInput| {
            let day = last_modified(input).map_or_else(String::new, |day| format!(" of {day}"));
            format!("{} {}{day}", input.origin(), input.revision())
        };
        let said = match (before, after) {
            (Some(before), Some(after))
                if before.origin() == after.origin() && before.revision() == after.revision() =>
            {
                continue;
            }
            (Some(before), Some(after)) => format!("It goes from {} to {}.", show(before), show(after)),
            (None, Some(after)) => format!("It is new: {}.", show(after)),
            (Some(before), None) => format!("It is removed: {}.", show(before)),
            (None, None) => continue,
        };
        findings
            .of(&RULE, &format!("input {path}"))
            .at(Place::file(&lock.file))
            .identity(said.clone())
            .says(&said, "")
            .add();
    }
}

/// Paths of inputs, with what they are in either lock file.
pub(super) fn changes<'a>(
    base: &'a LockInputs,
    now: &'a LockInputs,
) -> impl Iterator<Item = (String, Option<&'a LockInput>, Option<&'a LockInput>)> {
    let mut paths: BTreeMap<String, (Option<&LockInput>, Option<&LockInput>)> = BTreeMap::new();
    for (number, input) in base.inputs.iter().enumerate() {
        paths.entry(base.show(number)).or_default().0 = Some(input);
    }
    for (number, input) in now.inputs.iter().enumerate() {
        paths.entry(now.show(number)).or_default().1 = Some(input);
    }
    paths.into_iter().map(|(path, (before, after))| (path, before, after))
}

#[cfg(test)]
mod tests {
    use crate::audit::testing::{found, lock, node, subject};

    #[test]
    fn what_a_change_does_to_inputs_is_told_and_moves_are_warnings() {
        let github = |owner: &str, rev: &str| {
            format!(
                r#""type": "github", "owner": "{owner}", "repo": "r", "rev": "{rev}", "narHash": "h", "lastModified": 1793059200"#
            )
        };
        let before = lock(
            r#""a": "a", "b": "b", "c": "c", "d": "d""#,
            &[
                node("a", "", &github("o", "1"), ""),
                node("b", "", &github("o", "1"), ""),
                node("c", "", &github("o", "1"), ""),
                node("d", "", &github("o", "1"), ""),
            ]
            .join(","),
        );
        let mut subject = subject(lock(
            r#""a": "a", "b": "b", "c": "c", "e": "e""#,
            &[
                node("a", "", &github("o", "1"), ""),
                node("b", "", &github("o", "2"), ""),
                node("c", "", &github("p", "1"), ""),
                node("e", "", &github("o", "1"), ""),
            ]
            .join(","),
        ));
        assert_eq!(found(&subject, ""), [""; 0], "nothing to compare with");
        subject.lock.as_mut().unwrap().base = Some(before);
        assert_eq!(
            found(&subject, ""),
            [
                "lock-moved: input c: It now comes from github:p/r, before from github:o/r.",
                "lock-changed: input b: It goes from github:o/r 1 of 2026-10-27 to github:o/r 2 of 2026-10-27.",
                "lock-changed: input c: It goes from github:o/r 1 of 2026-10-27 to github:p/r 1 of 2026-10-27.",
                "lock-changed: input d: It is removed: github:o/r 1 of 2026-10-27.",
                "lock-changed: input e: It is new: github:o/r 1 of 2026-10-27.",
            ]
        );
    }
}
