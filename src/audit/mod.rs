//! The audit: what is known of a project's inputs, packages and files, and which of it breaks a policy.
//!
//! 1. [`policy`] reads the table `[audit]` of nix-cache.toml: severities of rules, what fails, lists.
//! 2. A [`Subject`] holds what is audited. What could not be read is a note of the report and no finding.
//! 3. Each rule in [`rules`] looks at the subject and adds findings. One file a rule, with its documentation.
//! 4. The findings of the base, where there is one, say which findings are new.
//! 5. Each file of [`output`] writes the report in one format.

pub(crate) mod feed;
pub(crate) mod figures;
pub(crate) mod finding;
mod licence;
pub(crate) mod lock;
pub(crate) mod output;
pub(crate) mod packages;
pub(crate) mod policy;
pub(crate) mod report;
pub(crate) mod rules;
pub(crate) mod source;
#[cfg(test)]
mod testing;
pub(crate) mod tools;

use chrono::NaiveDate;

use feed::Feeds;
use finding::{Findings, Place};
use lock::LockSubject;
use packages::{Coverage, Package};
use policy::Policy;
use report::Report;
use source::Looked;
use tools::ToolRun;

/// What is audited.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    /// The lock file of the flake; none where there is no flake.
    pub lock: Option<LockSubject>,
    /// The packages of the targets.
    pub packages: Vec<Package>,
    /// The feeds' records of them; none without feeds.
    pub feeds: Option<Feeds>,
    /// What our own rules found in Nix files.
    pub sources: Looked,
    /// What tools found.
    pub tools: Vec<ToolRun>,
    /// The file that brings the packages in, for findings without a place of their own.
    pub brought_by: String,
    /// What could not be audited, and why, in sentences.
    pub notes: Vec<String>,
}

impl Subject {
    /// Where findings about packages are shown: at the file that brings them in.
    pub(crate) fn place(&self) -> Place {
        Place::file(if self.brought_by.is_empty() { "flake.lock" } else { &self.brought_by })
    }
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
        notes.push(format!("{shown} of those that matter least are left out: a report has {} at most.", finding::MOST));
    }
    notes.extend(subject.sources.notes.iter().take(20).cloned());
    notes.extend(subject.tools.iter().filter_map(|run| run.note.clone()));
    if let Some(feeds) = &subject.feeds {
        notes.extend(feeds.notes.iter().cloned());
        notes.extend(feeds.age(today));
    }
    let coverage = (!subject.packages.is_empty()).then(|| Coverage::of(&subject.packages));
    notes.extend(coverage.map(|coverage| coverage.sentence()));
    Report { findings, notes, coverage, packages: subject.packages.clone(), ..Report::default() }
}
