//! Which targets a flake has: their names only, which is cheap.
//!
//! 1. Each output that the filter leaves is asked for its names, or for its systems.
//! 2. Each system that the filter leaves is asked for its names. One that throws does not keep the others from being listed.
//! 3. What cannot be listed is told, with what Nix says of it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::nix::{FlakeRef, quoted};
use super::{AttrPath, Filter, Nix, NixError, Output, Repository, Target};

/// What a flake has.
#[derive(Debug, Default)]
pub(super) struct Discovered {
    /// All targets that were asked for, ascending.
    pub targets: Vec<Target>,
    /// Outputs and systems whose names cannot be listed, and why.
    pub broken: Vec<Broken>,
    /// Outputs and systems that the filter left out, so that nobody asked for their names.
    pub skipped: Vec<AttrPath>,
}

/// An output, or a system of one, whose names cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub output: Output,
    pub attr: AttrPath,
    /// Whether the code throws on purpose, as Nixpkgs does for systems that it does not support any more.
    pub throws: bool,
    pub error: NixError,
}

/// Returns the targets of the flake as it is in its repository, uncommitted changes included.
///
/// # Errors
/// When nothing can be listed.
pub(crate) async fn outline(nix: &Nix, repository: &Repository) -> Result<Vec<Target>, NixError> {
    let flake = FlakeRef::git(repository.top(), repository.folder(), None, repository.is_shallow());
    discover(nix, &flake, &Filter::default()).await.map(|found| found.targets).map_err(|(_, error)| error)
}

/// What the flake has for `filter`. An output that the flake does not have has no targets.
///
/// # Errors
/// When nothing can be listed: what Nix says of the first output.
pub(super) async fn discover(nix: &Nix, flake: &FlakeRef, filter: &Filter) -> Result<Discovered, (Output, NixError)> {
    let (wanted, skipped): (Vec<Output>, Vec<Output>) =
        Output::ALL.into_iter().partition(|output| filter.may_take_in(&AttrPath::new([output.name()])));
    let skipped = skipped.into_iter().map(|output| AttrPath::new([output.name()])).collect();
    let mut all = Discovered { skipped, ..Discovered::default() };
    let Some((first, rest)) = wanted.split_first() else { return Ok(all) };
    // The first one fetches the flake's inputs; six at once would fetch each of them six times.
    let mut asked = vec![names(nix, flake, *first, filter).await];
    asked.extend(futures_util::future::join_all(rest.iter().map(|output| names(nix, flake, *output, filter))).await);
    for (output, found) in wanted.into_iter().zip(asked) {
        match found {
            Ok(found) => {
                all.targets.extend(found.targets);
                all.broken.extend(found.broken);
                all.skipped.extend(found.skipped);
            }
            Err(error) => {
                all.broken.push(Broken { output, attr: AttrPath::new([output.name()]), throws: false, error });
            }
        }
    }
    let is_whole = |broken: &Broken| broken.attr.names().len() == 1;
    match all.broken.iter().find(|broken| is_whole(broken)) {
        Some(broken) if all.targets.is_empty() => Err((broken.output, broken.error.clone())),
        _ => {
            all.targets.sort();
            Ok(all)
        }
    }
}

async fn names(nix: &Nix, flake: &FlakeRef, output: Output, filter: &Filter) -> Result<Discovered, NixError> {
    let top = AttrPath::new([output.name()]);
    let mut found = Discovered::default();
    let targets = |attrs: Vec<AttrPath>| attrs.into_iter().map(move |attr| Target { output, attr });
    if !output.is_by_system() {
        let names = ask::<Vec<String>>(nix, flake, &top, "builtins.attrNames").await?.unwrap_or_default();
        found.targets.extend(targets(names.iter().map(|name| top.join(&[name])).collect()));
        return Ok(found);
    }
    let Some(systems) = ask::<Vec<String>>(nix, flake, &top, "builtins.attrNames").await? else { return Ok(found) };
    let (systems, skipped): (Vec<String>, Vec<String>) =
        systems.into_iter().partition(|system| filter.may_take_in(&top.join(&[system])));
    found.skipped.extend(skipped.iter().map(|system| top.join(&[system])));
    if systems.is_empty() {
        return Ok(found);
    }
    // A system that throws is none; any other mistake in one hides the others, which are then asked for one by one.
    let list = systems.iter().map(|system| quoted(system)).collect::<Vec<_>>().join(" ");
    let apply = format!(
        "set: builtins.listToAttrs (map (name: {{ inherit name; value = let tried = builtins.tryEval (builtins.attrNames set.${{name}}); in \
         if tried.success then tried.value else null; }}) [ {list} ])"
    );
    let together = ask::<BTreeMap<String, Option<Vec<String>>>>(nix, flake, &top, &apply).await;
    let together = together.ok().flatten().unwrap_or_default();
    for system in &systems {
        let attr = top.join(&[system]);
        let (known, throws) = match together.get(system) {
            Some(Some(names)) => (Some(names.clone()), false),
            Some(None) => (None, true),
            None => (None, false),
        };
        let names = match known {
            Some(names) => Ok(names),
            None => ask::<Vec<String>>(nix, flake, &attr, "builtins.attrNames").await.map(Option::unwrap_or_default),
        };
        match names {
            Ok(names) => found.targets.extend(targets(names.iter().map(|name| attr.join(&[name])).collect())),
            Err(error) => found.broken.push(Broken { output, attr, throws, error }),
        }
    }
    Ok(found)
}

async fn ask<T: DeserializeOwned>(
    nix: &Nix,
    flake: &FlakeRef,
    attr: &AttrPath,
    apply: &str,
) -> Result<Option<T>, NixError> {
    match nix.eval(flake, attr, apply, None).await {
        Ok(value) => serde_json::from_value(value)
            .map(Some)
            .map_err(|error| NixError::Evaluation(format!("{attr} is not a set: {error}"))),
        Err(NixError::Missing) => Ok(None),
        Err(error) => Err(error),
    }
}
