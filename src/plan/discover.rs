//! Lists the targets of a flake: only their names, which is cheap.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::nix::FlakeRef;
use super::{AttrPath, Nix, NixError, Output, Target};

/// All targets of the flake, ascending. An output that the flake does not have has none.
///
/// # Errors
/// When Nix cannot say, with the output that it could not read.
pub(super) async fn discover(nix: &Nix, flake: &FlakeRef) -> Result<Vec<Target>, (Output, NixError)> {
    // The first one fetches the flake's inputs; six at once would fetch each of them six times.
    let [first, rest @ ..] = Output::ALL;
    let mut asked = vec![names(nix, flake, first).await];
    asked.extend(futures_util::future::join_all(rest.map(|output| names(nix, flake, output))).await);
    let mut targets = Vec::new();
    for (output, found) in Output::ALL.into_iter().zip(asked) {
        let attrs = found.map_err(|error| (output, error))?;
        targets.extend(attrs.into_iter().map(|attr| Target { output, attr }));
    }
    targets.sort();
    Ok(targets)
}

async fn names(nix: &Nix, flake: &FlakeRef, output: Output) -> Result<Vec<AttrPath>, NixError> {
    let top = AttrPath::new([output.name()]);
    if output.is_by_system() {
        let found =
            ask::<BTreeMap<String, Vec<String>>>(nix, flake, &top, "builtins.mapAttrs (_: builtins.attrNames)").await?;
        let all = found.unwrap_or_default().into_iter();
        Ok(all
            .flat_map(|(system, names)| names.into_iter().map(move |name| (system.clone(), name)))
            .map(|(system, name)| top.join(&[&system, &name]))
            .collect())
    } else {
        let found = ask::<Vec<String>>(nix, flake, &top, "builtins.attrNames").await?;
        Ok(found.unwrap_or_default().iter().map(|name| top.join(&[name])).collect())
    }
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
