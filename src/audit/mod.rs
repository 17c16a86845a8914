//! The audit: what is known of a project's inputs, packages and files, and which of it breaks a policy.
//!
//! 1. [`policy`] reads the table `[audit]` of nix-cache.toml: severities of rules, what fails, lists.
//! 2. A [`Subject`] holds what is audited. What could not be read is a note of the report and no finding.
//! 3. Each rule in [`rules`] looks at the subject and adds findings. One file a rule, with its documentation.
//! 4. The findings of the base, where there is one, say which findings are new.
//! 5. Each file of [`output`] writes the report in one format.

pub(crate) mod finding;
pub(crate) mod lock;
pub(crate) mod output;
pub(crate) mod policy;
pub(crate) mod report;
pub(crate) mod rules;
#[cfg(test)]
mod testing;

use chrono::NaiveDate;

use finding::Findings;
use lock::LockSubject;
use policy::Policy;
use report::Report;

/// What is audited.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    /// The lock file of the flake; none where there is no flake.
    pub lock: Option<LockSubject>,
    /// What could not be audited, and why, in sentences.
    pub notes: Vec<String>,
}

/// Audits `subject`. `today` is the day that ages are counted to.
pub(crate) fn audit(subject: &Subject, policy: &Policy, today: NaiveDate) -> Report {
    let mut findings = Findings::new(policy, today);
    for rule in rules::ALL {
        findings.run(rule, subject);
    }
    let (findings, left_out) = findings.finish();
    let mut notes = subject.notes.clone();
    if left_out > 0 {
        let shown = crate::base::human::count(left_out, "finding");
        notes.push(format!("{shown} beyond the first {} are left out.", finding::MOST));
    }
    Report { findings, notes, ..Report::default() }
}
