//! `nix-cache action`, which the hook of the GitHub action calls. Settings come from the environment, results go to the runner's
//! files. Only an invalid input (exit code 2), a condition in `fail-on` or a failed build, plan or audit (exit code 1) fails a job.

mod audit;
pub(crate) mod audit_inputs;
mod build;
pub(crate) mod build_inputs;
pub(crate) mod build_outputs;
mod checkpoint_budget;
mod checkpoints;
mod comment;
pub(crate) mod comment_inputs;
mod dashboard;
pub(crate) mod dashboard_inputs;
mod drvs;
mod early;
mod evicted;
#[cfg(test)]
mod files_test;
mod fill;
pub(crate) mod given;
mod guard;
mod history;
pub(crate) mod inputs;
mod job;
mod levels;
pub(crate) mod outputs;
mod plan;
pub(crate) mod plan_inputs;
mod post;
mod progressive;
mod prune;
pub(crate) mod prune_inputs;
mod push;
pub(crate) mod push_inputs;
mod record;
mod restore;
mod warm;
pub(crate) mod warm_inputs;

use clap::{Args, Subcommand};

use crate::app::Failure;
use job::Job;

#[derive(Debug, Args)]
pub(crate) struct ActionCommand {
    #[command(subcommand)]
    pub step: Step,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Step {
    /// The main step: restore
    Restore,
    /// Save while the job runs, until the post step
    Checkpoints,
    /// The post step: save, and write the job summary
    Post,
    /// Save at once, and write the job summary
    Save,
    /// Decide what the jobs behind this one build
    Plan,
    /// Restore the derivations that are to be built
    Drvs,
    /// Build, and explain what failed
    Build,
    /// Add a build to the history, unless a later step of its job does
    Record,
    /// Add an audit to the history, unless a later step of its job does
    RecordAudit,
    /// Audit, and report what breaks the policy
    Audit,
    /// Comment on the pull request
    Comment,
    /// Write a page about the history of jobs
    Dashboard,
    /// Delete entries that no job reads any more
    Prune,
    /// Restore what is there before warming
    WarmRestore,
    /// Fetch and build what other jobs will need
    Warm,
    /// Save what was fetched and built, and touch what is to stay
    WarmSave,
    /// Push what was built here to binary caches
    Push,
}

/// Runs a step.
pub(crate) async fn run(step: Step) -> Result<(), Failure> {
    let done = match step {
        // It annotates its failures itself: what failed to build is already on the run's page.
        Step::Build => return build::build().await,
        Step::Audit => audit::run().await,
        Step::Comment => comment::run().await,
        Step::Dashboard => dashboard::run().await,
        // Nobody sees its annotations.
        Step::Checkpoints => return checkpoints::run().await,
        Step::Plan => plan::run().await,
        Step::Drvs => drvs::run().await,
        Step::Record => record::build().await,
        Step::RecordAudit => record::audit().await,
        Step::Prune => prune::run().await,
        Step::WarmRestore => warm::prepare().await,
        Step::Warm => warm::realise().await,
        Step::WarmSave => warm::save().await,
        Step::Push => push::run().await,
        Step::Restore | Step::Post | Step::Save => restore_or_save(step).await,
    };
    done.inspect_err(|failure| job::annotator().error("nix-cache", &failure.message))
}

async fn restore_or_save(step: Step) -> Result<(), Failure> {
    let mut job = Job::from_environment()?;
    match step {
        Step::Restore => restore::restore(&mut job).await,
        _ => post::save(&mut job, step).await,
    }
}
