//! Paths that a snapshot leaves to a substituter: told apart by a save that is to keep only what nobody else has, and fetched
//! by Nix before a restore registers what refers to them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use async_trait::async_trait;

use crate::child::without_secrets;
use crate::snapshot::Snapshot;
use crate::store::{PathInfo, StoreDirs, StorePath};

/// Who knows which paths a substituter has.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Of `paths`, those that a substituter has with the same bytes. What cannot be found out counts as absent.
    async fn present(&self, paths: &[&PathInfo]) -> BTreeSet<StorePath>;
}

/// A command line holds so many paths: each has some 60 bytes, and Linux takes 128 KiB in one argument and 2 MiB in all.
const PATHS_AT_ONCE: usize = 2000;

/// The paths that the snapshot's own ones refer to and that are neither valid nor among them, but left to a substituter.
pub(super) fn missing_upstream(
    snapshot: &Snapshot,
    chosen: &BTreeMap<StorePath, PathInfo>,
    valid: &BTreeMap<StorePath, PathInfo>,
) -> BTreeSet<StorePath> {
    let absent = |path: &&StorePath| !chosen.contains_key(*path) && !valid.contains_key(*path);
    let references = chosen.values().flat_map(|info| &info.references);
    references.filter(absent).filter(|path| snapshot.upstream.contains(*path)).cloned().collect()
}

/// Lets Nix fetch `paths` from its substituters. What cannot be fetched is not valid afterwards, and what refers to it is not
/// restored; there is no other failure.
pub(super) fn fetch(dirs: &StoreDirs, paths: &BTreeSet<StorePath>) {
    let all: Vec<String> = paths.iter().map(|path| path.full(dirs.store_dir())).collect();
    for some in all.chunks(PATHS_AT_ONCE) {
        let mut command = Command::new("nix-store");
        if let Some(root) = dirs.root() {
            command.arg("--store").arg(root);
        }
        command.args(["--realise", "--keep-going", "--ignore-unknown"]).args(some);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        match without_secrets(&mut command).status() {
            Ok(status) if status.success() => {}
            Ok(status) => {
                tracing::warn!("Nix could not fetch all of {} paths from its substituters ({status}).", some.len());
            }
            Err(error) => tracing::warn!("`nix-store`, which fetches what a substituter has, cannot be run: {error}."),
        }
    }
}
