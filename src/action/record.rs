//! The last step of the action `build/`: it adds the build to the history with the token of the cache, which the step that builds does not
//! have. It does nothing if the main action runs in the same job, whose post step adds one record for everything.

use std::time::Duration;

use super::build::report_path;
use super::given::ActionInputs;
use super::history::{add_step, is_left_to_post};
use super::job::Job;
use crate::action::build_inputs::BuildInputs;
use crate::app::Failure;
use crate::report::Report;

/// Longest time for it.
const LIMIT: Duration = Duration::from_secs(20);

/// Adds the build to the history. Nothing here fails the job: the step before has already refused wrong inputs.
pub(super) async fn run() -> Result<(), Failure> {
    let Ok(inputs) = BuildInputs::from_environment() else { return Ok(()) };
    if inputs.history.no_history {
        return Ok(());
    }
    let mut job = Job::with(inputs.of_the_job().map_err(Failure::usage)?)?;
    let Ok(report) = Report::read(&report_path(&job.facts, &inputs)) else {
        tracing::info!("There is no report of a build, so there is nothing to add to the history.");
        return Ok(());
    };
    let is_unfinished = is_left_to_post(&report);
    job.report = report;
    job.report.job.status = inputs.job.job_status;
    if is_unfinished {
        tracing::info!("The post step of nix-cache-action adds this build to the history.");
        return Ok(());
    }
    match job.place(None) {
        Ok(place) => {
            if tokio::time::timeout(LIMIT, add_step(&job, &place, None)).await.is_err() {
                tracing::info!("The cache did not answer in time, so this build is not in the history.");
            }
        }
        Err(error) => tracing::info!("This build is not in the history: {error}"),
    }
    Ok(())
}
