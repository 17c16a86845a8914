//! The rules, one file each: identifier, documentation, what it does by default, and the check.

pub(super) mod exception_stale;
pub(super) mod known_vulnerability;
pub(super) mod license_denied;
pub(super) mod license_unknown;
pub(super) mod lock_age;
pub(super) mod lock_branch;
pub(super) mod lock_changed;
pub(super) mod lock_duplicate;
pub(super) mod lock_hash;
pub(super) mod lock_moved;
pub(super) mod lock_owner;
pub(super) mod lock_path;
pub(super) mod lock_step;
pub(super) mod lock_unlocked;
pub(super) mod source_fetch;
pub(super) mod source_import;
pub(super) mod source_revision;
pub(super) mod source_unfiltered;
pub(super) mod tool_deadnix;
pub(super) mod tool_formatter;
pub(super) mod tool_nixf;
pub(super) mod tool_statix;
pub(super) mod tool_zizmor;
pub(super) mod vulnerability;

pub(crate) use vulnerability::wants as vulnerability_wants;

use super::Subject;
use super::finding::{Findings, Place};
use super::policy::Level;
use super::source::Look;

#[derive(Debug)]
pub(crate) struct Rule {
    /// Its name in the policy and in every output; never changes.
    pub id: &'static str,
    /// What it finds, in a few words.
    pub title: &'static str,
    /// Why that matters and what to do, for people who have never heard of it.
    pub help: &'static str,
    /// What it does where the policy says nothing. Never an error.
    pub level: Level,
    /// What it looks at.
    pub topic: Topic,
    /// Looks at the subject and adds what it finds.
    pub check: fn(&Subject, &mut Findings<'_>),
}

/// What a rule looks at. What of a base is not known decides which findings can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// The lock file.
    Lock,
    /// The packages of targets.
    Packages,
    /// Nix files and workflows.
    Files,
    /// The policy itself.
    Policy,
}

/// The rule of a finding: its name without what a tool added behind a slash.
pub(crate) fn find(id: &str) -> Option<&'static Rule> {
    let name = id.split('/').next()?;
    ALL.iter().find(|rule| rule.id == name).copied()
}

/// All of them, in the order in which they look. What is said of exceptions comes when all others have looked.
pub(crate) const ALL: &[&Rule] = &[
    &tool_deadnix::RULE,
    &tool_formatter::RULE,
    &known_vulnerability::RULE,
    &license_denied::RULE,
    &license_unknown::RULE,
    &lock_age::RULE,
    &lock_branch::RULE,
    &lock_changed::RULE,
    &lock_duplicate::RULE,
    &lock_hash::RULE,
    &lock_moved::RULE,
    &lock_owner::RULE,
    &lock_path::RULE,
    &lock_step::RULE,
    &lock_unlocked::RULE,
    &tool_nixf::RULE,
    &source_fetch::RULE,
    &source_import::RULE,
    &source_revision::RULE,
    &source_unfiltered::RULE,
    &tool_statix::RULE,
    &vulnerability::RULE,
    &tool_zizmor::RULE,
    &exception_stale::RULE,
];

/// The rules that look at the nodes of Nix files.
pub(crate) const LOOKS: &[Look] = &[
    (source_fetch::RULE.id, source_fetch::look),
    (source_import::RULE.id, source_import::look),
    (source_revision::RULE.id, source_revision::look),
    (source_unfiltered::RULE.id, source_unfiltered::look),
];

/// Adds what such a rule found.
fn add_spots(rule: &Rule, subject: &Subject, remedy: &str, findings: &mut Findings<'_>) {
    for spot in subject.sources.spots.iter().filter(|spot| spot.rule == rule.id) {
        let place = Place { file: spot.file.clone(), line: Some(spot.line), column: Some(spot.column) };
        findings.of(rule, &spot.file).at(place).identity(&spot.message).says(&spot.message, remedy).add();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_each_rule_with_its_default() {
        let text = include_str!("../../../docs/audit.md");
        let mut known = Vec::new();
        for rule in ALL {
            let level = format!("{:?}", rule.level).to_lowercase();
            let line = format!("| `{}` | {level} | {} | {} |", rule.id, rule.title, rule.help);
            assert!(text.contains(&line), "docs/audit.md lacks this line:\n{line}");
            known.push(rule.id);
        }
        assert!(known[..known.len() - 1].is_sorted(), "{known:?}");
    }
}
