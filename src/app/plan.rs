//! What `nix-cache plan` and the action of that name share.

use std::path::Path;

use crate::app::Failure;
use crate::plan::{self, Filter, Plan, RulesFile, Verdict};
use crate::remote::{Remote, RemoteError};
use crate::series::sign::Keyring;

/// What is said of a folder that Git does not know.
pub(crate) fn not_a_repository(why: &str) -> String {
    format!("Git cannot tell what changed, so everything counts as changed: {why}.")
}

/// The rules file that the user named, which has to be there.
pub(crate) fn given_rules(path: &Path, name: &str) -> Result<RulesFile, Failure> {
    let missing = || Failure::usage(format!("There is no rules file {name}. Correct its name, or leave it out."));
    RulesFile::read(path, name).map_err(Failure::usage)?.ok_or_else(missing)
}

/// The rules of a file, and the filter of the file and of what was given beside it: what is given to include stands in the place of the
/// file's, what is given to exclude is added.
pub(crate) fn rules_and_filter(
    file: Option<RulesFile>,
    include: &[String],
    exclude: &[String],
) -> Result<(Option<plan::Rules>, Filter), Failure> {
    let (rules, of_file, mut out) =
        file.map_or((None, Vec::new(), Vec::new()), |file| (file.rules, file.include, file.exclude));
    out.extend_from_slice(exclude);
    let include = if include.is_empty() { &of_file } else { include };
    Ok((rules, Filter::parse(include, &out).map_err(Failure::usage)?))
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
        tracing::info!("This plan is not kept: it is of no commit, or nothing was evaluated.");
        return Ok(());
    };
    let saved = plan::remember(remote, key, keys, kept).await?;
    tracing::info!("The plan is kept, as generation {} of {key}.", saved.number);
    Ok(())
}
