//! Paths that a snapshot leaves to a substituter: a save can leave them out, and a restore lets Nix fetch them before it registers
//! their referrers.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;

use crate::base::env_vars;
use crate::nix::configured_substituters;
use crate::snapshot::Snapshot;
use crate::store::{PathInfo, Paths, StorePath};
use crate::upstream::{Options, present};

/// The paths that a save keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Include {
    /// Every path
    #[default]
    All,
    /// Only paths that no substituter offers; a restore fetches the others from there
    NotUpstream,
}

/// Returns those of `paths` that a configured substituter of Nix has with the same bytes. A path without an answer counts as absent.
pub(super) async fn at_substituters(paths: &[&PathInfo]) -> BTreeSet<StorePath> {
    let configured = tokio::task::spawn_blocking(configured_substituters).await.unwrap_or_default();
    let ca_file = env_vars::ca_file();
    present(&configured, paths, Options { ca_file, ..Options::default() }).await
}

/// Returns references of the snapshot's paths that are neither valid nor in the snapshot, but left to a substituter.
pub(super) fn missing_upstream(
    snapshot: &Snapshot,
    chosen: &BTreeMap<StorePath, &PathInfo>,
    valid: &Paths,
) -> BTreeSet<StorePath> {
    let absent = |path: &&StorePath| !chosen.contains_key(*path) && !valid.contains_key(*path);
    let references = chosen.values().flat_map(|info| &info.references);
    references.filter(absent).filter(|path| snapshot.upstream.contains(*path)).cloned().collect()
}
