//! The last step of the actions `build/` and `audit/`: it adds what they did to the history with the token of the cache, which the steps that run
//! the user's code do not have. It does nothing if the main action runs in the same job, whose post step adds one record for everything.

use std::time::Duration;

use super::build::report_path;
use super::given::ActionInputs;
use super::history::{add_step, is_left_to_post};
use super::inputs::Inputs;
use super::job::Job;
use crate::action::audit_inputs::AuditInputs;
use crate::action::build_inputs::BuildInputs;
use crate::app::Failure;
use crate::report::Report;

/// Longest time for it.
const LIMIT: Duration = Duration::from_secs(20);

/// Adds the build to the history. Nothing here fails the job: the step before has already refused wrong inputs.
pub(super) async fn build() -> Result<(), Failure> {
    let Ok(inputs) = BuildInputs::from_environment() else { return Ok(()) };
    record("build", inputs.of_the_job().map_err(Failure::usage)?).await
}

/// Adds the audit to the history, as [`build`] does.
pub(super) async fn audit() -> Result<(), Failure> {
    let Ok(inputs) = AuditInputs::from_environment() else { return Ok(()) };
    record("audit", inputs.of_the_job().map_err(Failure::usage)?).await
}

async fn record(what: &str, inputs: Inputs) -> Result<(), Failure> {
    if inputs.history.is_off() {
        return Ok(());
    }
    let mut job = Job::with(inputs)?;
    let path = report_path(&job.facts, &job.inputs.lane, &job.inputs.job);
    let Ok(report) = Report::read(&path) else {
        tracing::info!("There is no report, so there is nothing to add to the history.");
        return Ok(());
    };
    let is_unfinished = is_left_to_post(&report);
    job.report = report;
    job.report.job.status = job.inputs.job.job_status;
    if is_unfinished {
        tracing::info!("The post step of nix-cache-action adds this {what} to the history.");
        return Ok(());
    }
    match job.place(None) {
        Ok(place) => {
            if tokio::time::timeout(LIMIT, add_step(&job, &place, None)).await.is_err() {
                tracing::info!("The cache did not answer in time, so this {what} is not in the history.");
            }
        }
        Err(error) => tracing::info!("This {what} is not in the history: {error}"),
    }
    Ok(())
}
