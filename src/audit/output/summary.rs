//! For the job summary: sentences and a table, of plain text.

use super::super::report::Report;
use super::text::word;

/// The columns of the table.
pub(crate) const HEAD: [&str; 5] = ["", "Rule", "About", "What", "What to do"];

/// The sentences above the table.
pub(crate) fn sentences(report: &Report) -> Vec<String> {
    [vec![report.headline()], report.notes.clone()].concat()
}

/// The rows of the table, new findings first.
pub(crate) fn rows(report: &Report) -> Vec<Vec<String>> {
    let mut findings: Vec<_> = report.findings.iter().collect();
    findings.sort_by_key(|finding| finding.is_new == Some(false));
    let row = |finding: &&super::super::finding::Finding| {
        let new = if finding.is_new == Some(true) { ", new" } else { "" };
        let texts = [&finding.rule, &finding.subject, &finding.message, &finding.remedy];
        std::iter::once(format!("{}{new}", word(finding.severity))).chain(texts.into_iter().cloned()).collect()
    };
    findings.iter().map(row).collect()
}
