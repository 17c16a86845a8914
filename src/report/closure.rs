//! The closure of what a job built: its outputs, and all store paths that they need. Two jobs are compared by it.

use serde::{Deserialize, Serialize};

use super::NewPath;

/// The outputs of a job, and what they need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Closure {
    /// Base names of the store paths that links of the job point to, and of those that it was told to build.
    pub outputs: Vec<String>,
    /// These and everything that they refer to.
    pub paths: Vec<NewPath>,
}

impl Closure {
    /// Most paths in a report. A larger closure is left out as a whole, since half of it would look like a change.
    pub(crate) const MOST: usize = 20_000;
}
