//! From evaluated targets to the packages of their closure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

use super::derivation::{Said, outputs_below};
use super::evaluate::Evaluated;
use super::name::split;
use super::{Evaluation, Package, Source};
use crate::audit::licence;
use crate::audit::policy::Lists;
use crate::store::{StoreDirs, StorePath, read_all};

/// Which paths of a target count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scope {
    /// What is there when it runs: what the outputs refer to.
    #[default]
    Runtime,
    /// What it is built with as well.
    Build,
}

/// The packages of `targets`, by their paths, and notes on what is not known. Targets are names and evaluations; `paths` are full
/// store paths that count as well.
///
/// # Errors
/// A sentence, when the Nix database cannot be read.
pub(crate) fn gather(
    dirs: &StoreDirs,
    targets: &[(String, Evaluation)],
    paths: &[String],
    scope: Scope,
    lists: Lists,
) -> Result<(Vec<Package>, Vec<String>), String> {
    let mut notes = Vec::new();
    let parse = |text: &str| StorePath::from_full(text, dirs.store_dir()).ok();
    let valid = read_all(dirs).map_err(|error| format!("The packages are not audited: {error}"))?;
    let mut roots = BTreeSet::new();
    for (name, target) in targets {
        let outputs: Vec<StorePath> = target.outputs.iter().filter_map(|path| parse(path)).collect();
        if outputs.iter().any(|output| valid.contains_key(output)) {
            roots.extend(outputs);
        } else if scope == Scope::Runtime {
            notes.push(format!(
                "The target {name} is not in the store, so what it refers to is not known. Build it before the audit."
            ));
        }
    }
    for text in paths {
        match parse(text).filter(|path| valid.contains_key(path)) {
            Some(path) => roots.extend([path]),
            None => notes.push(format!("{text} is not a valid store path here, and is not audited.")),
        }
    }
    let derivations: BTreeSet<StorePath> =
        targets.iter().filter_map(|(_, it)| parse(it.derivation.as_deref()?)).collect();
    let derivers = roots.iter().filter_map(|root| valid.get(root)?.deriver.clone());
    let said = outputs_below(dirs, derivations.into_iter().chain(derivers));
    let evaluated: HashMap<StorePath, &Evaluated> = targets
        .iter()
        .flat_map(|(_, target)| &target.packages)
        .flat_map(|package| package.outputs.iter().filter_map(|path| parse(path)).map(move |path| (path, package)))
        .collect();
    let mut all = valid.closure(&roots);
    if scope == Scope::Build {
        all.extend(said.keys().cloned().chain(evaluated.keys().cloned()));
    }
    all.retain(|path| !path.is_derivation());
    let size = |path: &StorePath| valid.get(path).map_or(0, |info| info.nar_size);
    let packages = all.iter().map(|path| package(path, size(path), evaluated.get(path).copied(), &said, lists));
    Ok((packages.collect(), notes))
}

/// The packages that an evaluated target is built from, by the evaluation and by the derivations that it wrote; what they built is not asked
/// for. More than what the target refers to in the end, so that nothing counts as new that was there before.
pub(crate) fn from_evaluation(dirs: &StoreDirs, evaluation: &Evaluation, lists: Lists) -> Vec<Package> {
    let path = |text: &str| text.rsplit('/').next().and_then(|base| base.parse::<StorePath>().ok());
    let said = outputs_below(dirs, evaluation.derivation.as_deref().and_then(path));
    let paths = evaluation.packages.iter().flat_map(|package| package.outputs.iter().map(move |path| (path, package)));
    let evaluated: BTreeMap<StorePath, &Evaluated> =
        paths.filter_map(|(text, evaluated)| Some((path(text)?, evaluated))).collect();
    let all: BTreeSet<&StorePath> = evaluated.keys().chain(said.keys()).collect();
    all.into_iter().map(|path| package(path, 0, evaluated.get(path).copied(), &said, lists)).collect()
}

fn package(
    path: &StorePath,
    nar_size: u64,
    evaluated: Option<&Evaluated>,
    said: &BTreeMap<StorePath, Said>,
    lists: Lists,
) -> Package {
    let said = said.get(path);
    let (name, version) = split(path.name());
    let mut package = Package {
        path: path.to_string(),
        name: name.to_owned(),
        version: version.to_owned(),
        source: Source::Name,
        nar_size,
        licence: None,
        licence_is_list: false,
        cpe: None,
        known_vulnerabilities: Vec::new(),
        patched: said.map(|said| said.patched.clone()).unwrap_or_default(),
    };
    if let Some(Said { name: Some(name), version, .. }) = said {
        package.name.clone_from(name);
        package.version = version.clone().unwrap_or_default();
        package.source = Source::Derivation;
    }
    if let Some(evaluated) = evaluated {
        package.source = Source::Evaluation;
        if let Some(name) = &evaluated.pname {
            package.name.clone_from(name);
            package.version = evaluated.version.clone().unwrap_or_default();
        }
        package.licence = licence::expression(&evaluated.license, lists);
        package.licence_is_list = evaluated.license.as_array().is_some_and(|list| list.len() > 1);
        package.cpe.clone_from(&evaluated.cpe);
        package.known_vulnerabilities.clone_from(&evaluated.known);
    }
    package
}
