//! Paths that a snapshot leaves to a substituter: told apart by a save that is to keep only what nobody else has, and fetched
//! by Nix before a restore registers what refers to them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use crate::snapshot::Snapshot;
use crate::store::{PathInfo, StorePath};

/// Who knows which paths a substituter has.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Of `paths`, those that a substituter has with the same bytes. What cannot be found out counts as absent.
    async fn present(&self, paths: &[&PathInfo]) -> BTreeSet<StorePath>;
}

/// The paths that the snapshot's own ones refer to and that are neither valid nor among them, but left to a substituter.
pub(super) fn missing_upstream(
    snapshot: &Snapshot,
    chosen: &BTreeMap<StorePath, &PathInfo>,
    valid: &BTreeMap<StorePath, PathInfo>,
) -> BTreeSet<StorePath> {
    let absent = |path: &&StorePath| !chosen.contains_key(*path) && !valid.contains_key(*path);
    let references = chosen.values().flat_map(|info| &info.references);
    references.filter(absent).filter(|path| snapshot.upstream.contains(*path)).cloned().collect()
}
