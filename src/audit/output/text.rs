//! For people at a terminal.

use std::fmt::Write;

use super::super::finding::{Confidence, Finding};
use super::super::report::Report;
use crate::base::note::Severity;

/// The report as lines.
pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for finding in &report.findings {
        let _ = writeln!(
            out,
            "{} [{}] {}: {}{}",
            word(finding.severity),
            finding.rule,
            finding.subject,
            finding.message,
            mark(finding)
        );
        if !finding.remedy.is_empty() {
            let _ = writeln!(out, "    {}", finding.remedy);
        }
        if let Some(line) = finding.place.line {
            let _ = writeln!(out, "    at {}:{line}", finding.place.file);
        }
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    let _ = writeln!(out, "{}", report.headline());
    out
}

/// A severity as a word.
pub(super) fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Notice => "notice",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// What else a reader should know, in parentheses.
fn mark(finding: &Finding) -> String {
    let sure = match finding.confidence {
        Confidence::Exact => None,
        Confidence::Candidate => Some("candidate"),
        Confidence::Guess => Some("a guess from the name"),
    };
    let new = finding.is_new.filter(|new| *new).map(|_| "new");
    let marks: Vec<&str> = [new, sure].into_iter().flatten().collect();
    if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) }
}
