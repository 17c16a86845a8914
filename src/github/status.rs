//! The status of a job.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The status of the job so far, as in GitHub's `job.status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum JobStatus {
    /// Not known.
    #[default]
    Unknown,
    /// No step has failed.
    Success,
    /// A step has failed.
    Failure,
    /// The job is being cancelled.
    Cancelled,
}
