//! Every target of a flake that this machine can build, with its derivation, for those who build them all.
//!
//! 1. The names of all targets are listed, and the formatter is added.
//! 2. Targets that name another system are left out.
//! 3. The rest is evaluated; a machine or home of another system is left out now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::discover::{Discovered, discover};
use super::evaluate::{Evaluated, Workers, evaluate};
use super::nix::FlakeRef;
use super::{AttrPath, Filter, Nix, Output, PlanError, Repository, Target};
use crate::flake::current_system;
use crate::store::{STORE_DIR, StorePath};

/// Memory of one evaluation, as the default of a plan.
const MEMORY: u64 = 4 << 30;

/// A target that this machine can build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Buildable {
    /// Its attribute path.
    pub name: String,
    pub drv: StorePath,
    /// The names of the outputs that `nix build` builds, between commas.
    pub wanted: String,
    /// The paths of these outputs; None if they are not known before the build.
    pub outputs: Option<BTreeSet<StorePath>>,
    /// Whether people enter it with `nix develop`.
    pub is_shell: bool,
}

impl Buildable {
    /// What `nix build` is told.
    pub(crate) fn installable(&self, names_outputs: bool) -> String {
        let drv = self.drv.full(STORE_DIR);
        if names_outputs { format!("{drv}^{}", self.wanted) } else { drv }
    }
}

/// All targets of a flake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Buildables {
    pub found: Vec<Buildable>,
    /// Targets that cannot be evaluated, and why.
    pub failed: Vec<(String, String)>,
    /// Number of targets for other systems.
    pub elsewhere: u64,
}

/// The flake in `project`, as Nix is told where it is: as it stands there.
pub(crate) fn flake_in(project: &Path) -> FlakeRef {
    match Repository::open(project, None) {
        Ok(repository) => FlakeRef::git(repository.top(), repository.folder(), None, repository.is_shallow()),
        Err(_) => FlakeRef::path(project),
    }
}

/// All targets of the flake in `project` that `filter` takes and this machine can build.
///
/// # Errors
/// When no names can be listed.
pub(crate) async fn all_buildable(nix: &Nix, project: &Path, filter: &Filter) -> Result<Buildables, PlanError> {
    let flake = flake_in(project);
    let found = discover(nix, &flake, filter).await;
    let found = found.map_err(|(output, error)| PlanError::Discover { project: project.to_owned(), output, error })?;
    let Discovered { mut targets, broken, .. } = found;
    let here = current_system();
    let formatter = AttrPath::new(["formatter", &*here]);
    let mut all = Buildables::default();
    // Those of systems that this machine cannot build are somebody else's.
    let of_here = |attr: &AttrPath| attr.names().get(1).is_none_or(|system| *system == here);
    all.failed.extend(
        broken.iter().filter(|one| of_here(&one.attr)).map(|one| (one.attr.to_string(), one.error.to_string())),
    );
    targets.retain(|target| filter.takes(&target.attr));
    let before = targets.len();
    targets.retain(|target| target.system().is_none_or(|system| system == here));
    all.elsewhere = (before - targets.len()) as u64;
    targets.sort();
    // It has the form of no other output: one derivation for each system.
    let wants_formatter = filter.takes(&formatter);
    if wants_formatter {
        targets.push(Target { output: Output::Packages, attr: formatter.clone() });
    }
    evaluate_into(&mut all, nix, &flake, &targets).await;
    // A flake does not need to have one.
    all.failed.retain(|(name, why)| *name != formatter.to_string() || !why.contains("has no such attribute"));
    Ok(all)
}

/// The targets with these attribute paths, as `nix build` understands them.
pub(crate) async fn named_buildable(nix: &Nix, project: &Path, names: &[AttrPath]) -> Buildables {
    let of = |attr: &AttrPath| {
        Target::of(attr.clone()).unwrap_or_else(|| Target { output: Output::Packages, attr: attr.clone() })
    };
    let targets: Vec<Target> = names.iter().map(of).collect();
    let mut all = Buildables::default();
    evaluate_into(&mut all, nix, &flake_in(project), &targets).await;
    all
}

async fn evaluate_into(all: &mut Buildables, nix: &Nix, flake: &FlakeRef, targets: &[Target]) {
    let chosen: Vec<&Target> = targets.iter().collect();
    let mut evaluated: BTreeMap<AttrPath, Evaluated> = if chosen.is_empty() {
        BTreeMap::new()
    } else {
        evaluate(nix, flake, &chosen, Workers::new(None, MEMORY)).await
    };
    let here = current_system();
    for target in targets {
        let name = target.attr.to_string();
        match evaluated.remove(&target.attr) {
            Some(Evaluated::Derivation(found)) if target.is_small() || found.system == here => {
                let outputs = found.knows_outputs.then(|| found.outputs.into_values().collect());
                let is_shell = target.output == Output::DevShells;
                all.found.push(Buildable { name, drv: found.path, wanted: found.wanted, outputs, is_shell });
            }
            Some(Evaluated::Derivation(_)) => all.elsewhere += 1,
            Some(Evaluated::Failed(why)) => all.failed.push((name, why)),
            Some(Evaluated::Other) | None => all.failed.push((name, "it is not a derivation".to_owned())),
        }
    }
}
