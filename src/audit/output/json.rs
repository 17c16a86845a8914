//! For programs: the whole report. An audit of a later commit reads it as its base.

use std::path::Path;

use super::super::report::{FORMAT, Report};
use crate::base::bounds::{MAX_TEXT, read_json};

/// The report in a file that an earlier audit wrote.
///
/// # Errors
/// A sentence, when it cannot be read or is of another form.
pub(crate) fn read(path: &Path) -> Result<Report, String> {
    let name = path.display();
    let report: Report = read_json(path, MAX_TEXT).map_err(|error| {
        format!("{name} is not a report of an audit: {error}. Write it with `nix-cache audit --format json`.")
    })?;
    if report.format == FORMAT {
        Ok(report)
    } else {
        Err(format!(
            "{name} is a report of form {}, and this program reads form {FORMAT}. Write it again.",
            report.format
        ))
    }
}
