//! The rules, one file each: identifier, documentation, what it does by default, and the check.

pub(super) mod lock_age;
pub(super) mod lock_branch;
pub(super) mod lock_changed;
pub(super) mod lock_duplicate;
pub(super) mod lock_hash;
pub(super) mod lock_moved;
pub(super) mod lock_owner;
pub(super) mod lock_path;
pub(super) mod lock_unlocked;

use super::Subject;
use super::finding::Findings;
use super::policy::Level;

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
    /// Looks at the subject and adds what it finds.
    pub check: fn(&Subject, &mut Findings<'_>),
}

/// All of them.
pub(crate) const ALL: &[&Rule] = &[
    &lock_age::RULE,
    &lock_branch::RULE,
    &lock_changed::RULE,
    &lock_duplicate::RULE,
    &lock_hash::RULE,
    &lock_moved::RULE,
    &lock_owner::RULE,
    &lock_path::RULE,
    &lock_unlocked::RULE,
];

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
        assert!(known.is_sorted(), "{known:?}");
    }
}
