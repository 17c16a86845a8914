//! What an audit found, and whether that is a failure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::figures::AuditFigures;
use super::finding::Finding;
use super::packages::{Coverage, Package};
use super::policy::{FailOn, Policy};
use super::rules::{self, Topic};
use crate::base::human::count;
use crate::base::note::Severity;

/// The form of the JSON report.
pub(crate) const FORMAT: u32 = 1;

/// The result of an audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// What was compared with, for people; none where nothing was.
    #[serde(default)]
    pub compared_with: Option<String>,
    /// For how much of the packages something is known.
    #[serde(default)]
    pub coverage: Option<Coverage>,
    /// The worst first.
    pub findings: Vec<Finding>,
    /// What could not be audited, and why, in sentences.
    pub notes: Vec<String>,
    /// What is known of each package, and from where.
    #[serde(default)]
    pub packages: Vec<Package>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            format: FORMAT,
            compared_with: None,
            coverage: None,
            findings: Vec::new(),
            notes: Vec::new(),
            packages: Vec::new(),
        }
    }
}

impl Report {
    /// Marks which findings the base lacks. `what` names the base. Of the topics in `unknown`, the base is not known, and neither is
    /// what is new.
    pub(crate) fn compare(&mut self, base: &Self, what: &str, unknown: &[Topic]) {
        let known: BTreeSet<&str> = base.findings.iter().map(|finding| finding.fingerprint.as_str()).collect();
        for finding in &mut self.findings {
            let topic = rules::find(&finding.rule).map(|rule| rule.topic);
            if topic.is_some_and(|topic| unknown.contains(&topic)) {
                continue;
            }
            finding.is_new = Some(!known.contains(finding.fingerprint.as_str()));
        }
        self.compared_with = Some(what.to_owned());
    }

    /// The findings that fail the job.
    pub(crate) fn failing<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = &'a Finding> {
        let from = match policy.fail_on {
            FailOn::Never => None,
            FailOn::Error => Some(Severity::Error),
            FailOn::Warning => Some(Severity::Warning),
            FailOn::Notice => Some(Severity::Notice),
        };
        // Where there is a base, what is not known to be new fails nothing.
        let any = !policy.new_only || self.compared_with.is_none();
        let counts = move |finding: &Finding| any || finding.is_new == Some(true);
        self.findings.iter().filter(move |finding| from.is_some_and(|from| finding.severity >= from) && counts(finding))
    }

    /// The report in numbers, for the history.
    pub(crate) fn figures(&self) -> AuditFigures {
        let of = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count() as u64;
        let new = || self.findings.iter().filter(|finding| finding.is_new == Some(true)).count() as u64;
        let known = self.coverage.unwrap_or_default();
        AuditFigures {
            errors: of(Severity::Error),
            warnings: of(Severity::Warning),
            notices: of(Severity::Notice),
            new: self.compared_with.as_ref().map(|_| new()),
            paths: known.paths,
            bytes: known.bytes,
            evaluated_paths: known.evaluated_paths,
            evaluated_bytes: known.evaluated_bytes,
            derivation_paths: known.derivation_paths,
        }
    }

    /// The report in a sentence.
    pub(crate) fn headline(&self) -> String {
        let of = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count() as u64;
        let kinds = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Notice, "notice")];
        let kinds: Vec<String> =
            kinds.into_iter().filter(|(kind, _)| of(*kind) > 0).map(|(kind, word)| count(of(kind), word)).collect();
        let found = if kinds.is_empty() { "Nothing found".to_owned() } else { kinds.join(", ") };
        let compared = self.compared_with.as_ref().map_or_else(String::new, |base| {
            let new = self.findings.iter().filter(|finding| finding.is_new == Some(true)).count();
            format!("; {new} new since {base}")
        });
        format!("{found}{compared}.")
    }
}
