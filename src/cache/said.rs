//! Says at each restore what vouches for the paths: a signature of the snapshot, signatures of paths, or neither.

use super::search::SnapshotFound;
use super::{Context, vouch};
use crate::series::sign::Keyring;
use crate::store::{self, PathInfo, Paths};

/// Counts, beside the fetch, of how many paths a key that nix.conf trusts signed the record. What the snapshot's own signature covers
/// needs none.
pub(super) fn count_signed(
    context: &Context,
    missing: &Paths<&PathInfo>,
    is_signed: bool,
) -> tokio::task::JoinHandle<u64> {
    let signed = missing.values().filter(|info| !is_signed && !info.signatures.is_empty());
    // A clone shares all that is large.
    let (infos, threads): (Vec<PathInfo>, usize) = (signed.copied().cloned().collect(), context.packing.threads);
    tokio::task::spawn_blocking(move || {
        if infos.is_empty() {
            return 0;
        }
        let keys = Keyring::trusting(&store::trusted_public_keys());
        vouch::count_signed(&infos.iter().collect::<Vec<_>>(), &keys, threads)
    })
}

/// Says what vouches for the paths.
pub(super) fn vouched(found: &SnapshotFound, signed: u64, paths: u64) -> String {
    let said = match (&found.signed_by, signed) {
        (Some(name), _) => format!("the signature of the snapshot by {name}"),
        (None, 0) => "nothing but who may write to the cache".to_owned(),
        (None, _) => {
            format!(
                "nothing but who may write to the cache, and for {signed} of {paths} paths a signature of a key that Nix trusts"
            )
        }
    };
    tracing::info!("What vouches for the restored paths: {said}.");
    said
}
