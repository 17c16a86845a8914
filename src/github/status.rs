//! How a job went.

use serde::{Deserialize, Serialize};

/// How the job went so far, as GitHub's `job.status` says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum JobStatus {
    /// Nobody said.
    #[default]
    Unknown,
    /// No step has failed.
    Success,
    /// A step has failed.
    Failure,
    /// The job is being cancelled.
    Cancelled,
}
