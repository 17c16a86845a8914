//! The reports of jobs as files in folders, as `actions/download-artifact` leaves them. Nothing about them can be relied on.

use std::path::{Path, PathBuf};

use crate::base::bounds::read_json;
use crate::base::folder::{self, Files, Limits};
use crate::report::Report;
use crate::series::names::is_name;

/// What is looked at in folders; a matrix has at most 256 jobs.
const LIMITS: Limits = Limits { entries: 10_000, depth: 6, files: 300 };
/// Largest file in bytes. A closure of 20,000 paths takes 3 MiB.
const LARGEST: u64 = 16 << 20;
/// Longest lane in bytes. Ours have at most 150, unless the user names them.
const LONGEST_LANE: usize = 200;

/// What a report must be about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// `owner/name`.
    pub repository: String,
    /// The newest commit of the pull request.
    pub head_sha: String,
    /// The run that is commented on, if it is known.
    pub run: Option<u64>,
}

/// Lists the files in `places` that may be reports.
pub(crate) fn files(places: &[PathBuf]) -> Files {
    folder::files(places, &["json"], LIMITS)
}

/// Reads the report in `file`.
///
/// # Errors
/// A clause that says why it is not used.
pub(crate) fn read(file: &Path, expected: &Expected) -> Result<Report, String> {
    let report: Report = read_json(file, LARGEST).map_err(|error| format!("it is not a report ({error})"))?;
    check(&report, expected)?;
    Ok(report)
}

fn check(report: &Report, expected: &Expected) -> Result<(), String> {
    let job = &report.job;
    if report.schema != crate::report::SCHEMA {
        return Err(format!("its schema is {} instead of {}", report.schema, crate::report::SCHEMA));
    }
    if job.lane.is_empty() || job.lane.len() > LONGEST_LANE || !is_name(&job.lane) {
        return Err("its lane is not a valid name".to_owned());
    }
    if !job.repository.eq_ignore_ascii_case(&expected.repository) {
        return Err("it is about another repository".to_owned());
    }
    if expected.run.is_some() && job.run_id != expected.run {
        return Err("it is about another run".to_owned());
    }
    // For a pull request, the runner's own commit is that of the merge.
    let claimed = if job.head_sha.is_empty() { &job.sha } else { &job.head_sha };
    let is_known_by_run = expected.run.is_some() && job.head_sha.is_empty();
    if !is_known_by_run && *claimed != expected.head_sha {
        return Err("it is about another commit".to_owned());
    }
    Ok(())
}

/// The attempt that a report is of, whether it knows the save, and when it was written: of two reports of a lane, the greater one counts.
pub(crate) type Age = (Option<u64>, bool, u64);

pub(crate) fn age(report: &Report) -> Age {
    (report.job.run_attempt, report.save.is_some(), report.job.ended)
}
