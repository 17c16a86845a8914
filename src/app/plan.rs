//! What `nix-cache plan` and the action of that name share.

use crate::app::Failure;
use crate::plan::{self, Plan, PlanError, Verdict};
use crate::remote::{Remote, RemoteError};
use crate::series::sign::Keyring;

/// Why there is no plan, as a failure of the program.
pub(crate) fn no_plan(error: PlanError) -> Failure {
    if error.is_of_usage() { Failure::usage(error) } else { Failure::work(error) }
}

/// The plan in a sentence.
pub(crate) fn headline(plan: &Plan) -> String {
    let built = plan.decisions.iter().filter(|decision| decision.verdict == Verdict::Build).count();
    let (all, jobs) = (plan.decisions.len(), plan.matrix.include.len());
    let compared = match (&plan.base.commit, &plan.base.changed) {
        (Some(_), Ok(files)) => {
            let files = crate::base::human::count(files.len() as u64, "changed file");
            format!("compared with {} ({}): {files}", plan.base.short(), plan.base.why)
        }
        (Some(_), Err(why)) => format!("compared with {} ({}): {why}", plan.base.short(), plan.base.why),
        (None, _) => format!("compared with nothing: {}", plan.base.why),
    };
    let (all, jobs) = (crate::base::human::count(all as u64, "target"), crate::base::human::count(jobs as u64, "job"));
    format!("{built} of {all} to build in {jobs}; {compared}.")
}

/// Keeps a plan for later ones. Says so where there is nothing that could be kept.
pub(crate) async fn keep(remote: &dyn Remote, key: &str, keys: &Keyring, plan: &Plan) -> Result<(), RemoteError> {
    let Some(kept) = plan.kept.clone() else {
        tracing::info!("This plan is not stored, because it has no commit or nothing was evaluated.");
        return Ok(());
    };
    let saved = plan::remember(remote, key, keys, kept).await?;
    tracing::info!("The plan is stored as generation {} of {key}.", saved.number);
    Ok(())
}
