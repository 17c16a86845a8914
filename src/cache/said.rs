//! Reports what vouches for the paths of a restore (a signature of the snapshot, signatures of paths, or neither), and what a save must not
//! sign because of that.

use super::Context;
use super::search::SnapshotFound;
use super::vouch::{self, Withheld};
use crate::base::note::{Code, Note};
use crate::series::sign::Keyring;
use crate::store::{self, PathInfo, Paths};

/// Counts, during the download, the paths whose records are signed by a key that nix.conf trusts. Not needed if the snapshot itself
/// is signed.
pub(super) fn count_signed(
    context: &Context,
    missing: &Paths<&PathInfo>,
    is_signed: bool,
) -> tokio::task::JoinHandle<u64> {
    let signed = missing.values().filter(|info| !is_signed && !info.signatures.is_empty());
    // A clone shares all large parts.
    let (infos, threads): (Vec<PathInfo>, usize) = (signed.copied().cloned().collect(), context.packing.threads);
    tokio::task::spawn_blocking(move || {
        if infos.is_empty() {
            return 0;
        }
        let keys = Keyring::trusting(&store::trusted_public_keys());
        vouch::count_signed(&infos.iter().collect::<Vec<_>>(), &keys, threads)
    })
}

/// Describes what vouches for the paths.
pub(super) fn vouched(found: &SnapshotFound, signed: u64, paths: u64) -> String {
    let said = match (&found.signed_by, signed) {
        (Some(name), _) => format!("the signature of the snapshot by {name}"),
        (None, 0) => "only the access control of the cache".to_owned(),
        (None, _) => {
            format!(
                "only the access control of the cache, and for {signed} of {paths} paths a signature of a key that Nix trusts"
            )
        }
    };
    tracing::info!("What vouches for the restored paths: {said}.");
    said
}

/// Reports what is not signed, and why.
pub(super) fn note_withheld(context: &Context, withheld: &Withheld) -> Note {
    let Withheld { unverified, paths, .. } = withheld;
    let (count, from) = (paths.len(), unverified.len());
    let example = unverified.first().map_or_else(String::new, |path| format!(", such as {path}"));
    let place = vouch::place(&context.place.dirs);
    Note::warn(
        Code::NotVerified,
        format!(
            "{count} store paths are not saved, because this save would sign them: an earlier restore used {from} of them \
            without a signature by a key that this job trusts{example}, and the others refer to those or were built with them. Give every \
            restore the same keys. To vouch for everything in this store, delete {}.",
            place.display()
        ),
    )
}
