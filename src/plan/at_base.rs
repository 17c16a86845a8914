//! The targets at a base that no plan is kept of: evaluated, as far as this can change a verdict.

use std::collections::BTreeMap;

use super::base::Base;
use super::evaluate::{Evaluated, Workers, evaluate};
use super::memory::{PlannedCommit, PlannedTarget};
use super::nix::FlakeRef;
use super::request::{EvaluateBase, Request};
use super::{AttrPath, Target};
use crate::base::human::count;
use crate::store::StorePath;

/// The commit to evaluate at the base; None if its plan is known, or nobody asks for its derivations.
pub(super) fn commit_to_evaluate(request: &Request, base: &Base, chosen: &[&Target]) -> Option<String> {
    let is_wanted = base.planned.is_none()
        && request.evaluate_base != EvaluateBase::Never
        && !chosen.is_empty()
        && request.repository.is_ok();
    base.commit.clone().filter(|_| is_wanted)
}

/// The targets whose derivation at the base may decide: those that no cache holds, or all of `chosen` if the user asks for that.
pub(super) fn open<'a>(
    request: &Request,
    chosen: &[&'a Target],
    evaluated: &BTreeMap<AttrPath, Evaluated>,
    held: &BTreeMap<StorePath, String>,
) -> Vec<&'a Target> {
    let is_held = |target: &&Target| match evaluated.get(&target.attr) {
        Some(Evaluated::Derivation(found)) => {
            found.knows_outputs
                && !found.outputs.is_empty()
                && found.outputs.values().all(|path| held.contains_key(path))
        }
        // The build of what fails says so, whatever the base says.
        Some(Evaluated::Failed(_) | Evaluated::Other) => true,
        None => false,
    };
    let all = request.evaluate_base == EvaluateBase::Always;
    chosen.iter().copied().filter(|target| all || !is_held(target)).collect()
}

/// Evaluates `targets` at the base.
pub(super) async fn evaluate_base(
    request: &Request,
    commit: &str,
    base: &Base,
    targets: &[&Target],
    workers: Workers,
) -> PlannedCommit {
    let Some(repository) = request.repository.as_ref().ok().filter(|_| !targets.is_empty()) else {
        return PlannedCommit::default();
    };
    tracing::info!("Evaluating {} at the base, {}, too.", count(targets.len() as u64, "target"), base.short());
    let flake = FlakeRef::git(repository.top(), repository.folder(), Some(commit), repository.is_shallow());
    let evaluated = evaluate(&request.nix, &flake, targets, workers).await;
    let of = |(attr, evaluated): (AttrPath, Evaluated)| match evaluated {
        Evaluated::Derivation(found) => {
            let target = PlannedTarget {
                drv: Some(found.path),
                outputs: found.outputs.into(),
                system: found.system,
                pending: false,
            };
            Some((attr.to_string(), target))
        }
        Evaluated::Other | Evaluated::Failed(_) => None,
    };
    PlannedCommit { time: 0, targets: evaluated.into_iter().filter_map(of).collect() }
}
