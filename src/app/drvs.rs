//! Derivations on their way from a plan to its jobs: saved and put into the matrix there, restored and built here.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::digest::Sha;
use crate::base::human::{bytes, count};
use crate::base::note::{Code, Note, Severity};
use crate::building::Request;
use crate::building::drvs::Drvs;
use crate::cache::{self, Context, Identity, ModeRequest, Packing, Place};
use crate::flake::series_key;
use crate::nix::names_outputs;
use crate::plan::Plan;
use crate::remote::Remote;
use crate::series::sign::Keyring;
use crate::store::{StoreDirs, is_valid};

/// The key that derivations are kept under, for jobs whose keys have this prefix.
pub(crate) fn drvs_key(prefix: &str) -> String {
    series_key("plan-drvs-v1", prefix)
}

/// The context of derivations outside of an action, for keys with this prefix.
pub(crate) fn local(remote: Arc<dyn Remote>, prefix: &str, keys: Keyring, dirs: StoreDirs) -> Context {
    Context {
        identity: Identity {
            key: drvs_key(prefix),
            prefixes: Vec::new(),
            system: String::new(),
            lane: String::new(),
            run: String::new(),
        },
        packing: Packing::default(),
        place: Place {
            dirs,
            remote,
            keys,
            mode: ModeRequest::Auto { is_hosted: false },
            temporary: std::env::temp_dir(),
            deadline: None,
            limit: None,
        },
    }
}

/// `context` for derivations. They are the same on every system, and what limits the snapshots of jobs does not limit them.
pub(crate) fn context(context: Context) -> Context {
    let Context { mut identity, packing: Packing { level, threads, .. }, place } = context;
    identity.system.clear();
    Context { identity, packing: Packing { level, threads, ..Packing::default() }, place }
}

/// Saves the derivations that the jobs of `plan` build, and puts those into its matrix that the cache has then. Where they cannot be
/// saved the jobs evaluate, and a note of the plan says why.
pub(crate) async fn save(mut context: Context, plan: &mut Plan) {
    let wanted = plan.drvs();
    if wanted.is_empty() {
        return;
    }
    context.identity.lane = format!("plan-{}", &Sha::of(plan.scope.as_bytes()).to_string()[..12]);
    // Without a key they are not signed, and need not be: their bytes prove them.
    if !context.place.keys.can_sign() {
        context.place.keys = Keyring::default();
    }
    match cache::save_drvs(&context, &wanted).await {
        Ok(saved) => {
            let (known, all) = (saved.held.len(), count(wanted.len() as u64, "derivation"));
            let outcome = saved.outcome;
            tracing::info!(
                "The cache has {known} of {all} that jobs build, with all that they need: {} new, {} sent.",
                count(outcome.paths_new, "path"),
                bytes(outcome.bytes_uploaded)
            );
            let warnings = outcome.notes.iter().filter(|note| note.severity != Severity::Notice);
            plan.notes.extend(warnings.map(ToString::to_string));
            plan.hand_over(&saved.held);
        }
        Err(error) => not_saved(plan, &error.to_string()),
    }
}

/// Notes that the derivations of a plan are not saved.
pub(crate) fn not_saved(plan: &mut Plan, why: &str) {
    let message = format!("The derivations of this plan are not saved, so its jobs evaluate: {why}");
    plan.notes.push(Note::warn(Code::DerivationsNotSaved, message).to_string());
}

/// Restores `drvs`, as far as the cache has them. Returns what the user should know.
pub(crate) async fn restore(context: &Context, drvs: &Drvs) -> Vec<Note> {
    let wanted: BTreeSet<_> = drvs.values().map(|drv| drv.path.clone()).collect();
    match cache::restore_drvs(context, &wanted).await {
        Ok(outcome) => {
            tracing::info!(
                "{} of derivations and sources restored, {} fetched, in {:.1} s.",
                count(outcome.paths_restored, "path"),
                bytes(outcome.bytes_downloaded),
                outcome.seconds
            );
            outcome.notes
        }
        Err(error) => {
            vec![Note::warn(Code::DerivationsMissing, format!("The derivations of the plan are not restored: {error}"))]
        }
    }
}

/// Has `request` build by derivation each of its targets whose derivation is in the store here. Returns a note where that is not so
/// for all: the others are evaluated.
pub(crate) async fn build_by(request: &mut Request, drvs: Drvs) -> Option<Note> {
    if drvs.is_empty() {
        return None;
    }
    let names_outputs = names_outputs().await;
    let dirs = StoreDirs::new(request.store_root.as_deref());
    let (all, mut missing) = (request.targets.len(), None);
    for (target, drv) in drvs {
        match is_valid(&dirs, &drv.path) {
            Ok(true) => drop(request.derivations.insert(target, drv.installable(names_outputs))),
            Ok(false) => drop(missing.get_or_insert(format!("{} is not in the store here", drv.path))),
            Err(error) => drop(missing.get_or_insert(error.to_string().trim_end_matches('.').to_owned())),
        }
    }
    let here = request.targets.iter().filter(|target| request.derivations.contains_key(*target)).count();
    let all = count(all as u64, "target");
    tracing::info!("{here} of {all} are built by derivation, without being evaluated here.");
    let message = missing.map(|why| {
        format!(
            "Only {here} of {all} are built by the derivations of the plan. The others are evaluated again, because {why}: the cache \
             did not have it, or it was evicted or refused."
        )
    });
    message.map(|message| Note::info(Code::DerivationsMissing, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::known::plan_key;
    use crate::flake::{KeyRequest, key as make_key};
    use crate::series::generation_prefix;

    #[test]
    fn no_job_and_no_plan_finds_derivations_in_the_place_of_something_else() {
        for prefix in ["", "nix", "plan", "my key", "drvs-v1"] {
            let key = make_key(&KeyRequest { prefix: prefix.to_owned(), ..KeyRequest::new("/nowhere") }).unwrap();
            let drvs = drvs_key(prefix);
            assert!(drvs.starts_with("plan-drvs-v1-"), "{drvs}");
            assert!(key.restore_prefixes.iter().chain([&key.primary]).all(|name| !drvs.starts_with(&**name)));
            assert!(!key.primary.starts_with(&drvs));
            for other in ["", "nix", "plan", "my key", "drvs-v1"] {
                let (plan, drvs) = (generation_prefix(&plan_key(other)), generation_prefix(&drvs));
                assert!(!plan.starts_with(&drvs) && !drvs.starts_with(&plan), "{plan} {drvs}");
            }
        }
        assert_ne!(drvs_key("a"), drvs_key("b"));
    }
}
