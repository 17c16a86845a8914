//! An audit in numbers, for the report of its job and the history.

use serde::{Deserialize, Serialize};

/// What an audit found, and for how much of the packages something is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct AuditFigures {
    /// Findings by severity.
    pub errors: u64,
    pub warnings: u64,
    pub notices: u64,
    /// Findings that the base lacks; null if nothing was compared.
    pub new: Option<u64>,
    /// Store paths of the audited packages, and the size of their NARs.
    pub paths: u64,
    pub bytes: u64,
    /// Of these, what is known from the evaluation.
    pub evaluated_paths: u64,
    pub evaluated_bytes: u64,
    /// Paths that are known from their derivation only.
    pub derivation_paths: u64,
}

impl AuditFigures {
    /// All findings.
    pub(crate) fn findings(&self) -> u64 {
        self.errors.saturating_add(self.warnings).saturating_add(self.notices)
    }

    /// This audit and another one of the same job.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let sum = |of: fn(&Self) -> u64| of(self).saturating_add(of(other));
        Self {
            errors: sum(|audit| audit.errors),
            warnings: sum(|audit| audit.warnings),
            notices: sum(|audit| audit.notices),
            new: [self.new, other.new].into_iter().flatten().reduce(u64::saturating_add),
            paths: sum(|audit| audit.paths),
            bytes: sum(|audit| audit.bytes),
            evaluated_paths: sum(|audit| audit.evaluated_paths),
            evaluated_bytes: sum(|audit| audit.evaluated_bytes),
            derivation_paths: sum(|audit| audit.derivation_paths),
        }
    }
}
