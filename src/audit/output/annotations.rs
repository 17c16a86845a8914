//! For the run's page: annotations at the files that findings are about.

use std::io::Write;

use super::super::report::Report;
use crate::github::annotate::{Annotator, Place};

/// Annotates the findings, new ones first. Known ones of the base are left out where there is a base: they are in the summary.
pub(crate) fn annotate<W: Write>(report: &Report, annotator: &mut Annotator<W>) {
    for finding in report.findings.iter().filter(|finding| finding.is_new != Some(false)) {
        let title = format!("{}: {}", finding.rule, finding.subject);
        let message = [finding.message.as_str(), finding.remedy.as_str()].join(" ");
        let place = &finding.place;
        let place = Place { file: &place.file, line: place.line.unwrap_or(1), column: place.column };
        annotator.at(finding.severity, &place, &title, message.trim());
    }
}
