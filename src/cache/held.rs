//! Queries of plans about snapshots.

use std::collections::{BTreeMap, BTreeSet};

use super::search::find_snapshot;
use crate::remote::{Remote, RemoteError};
use crate::series::generation_prefix;
use crate::series::sign::Keyring;
use crate::store::StorePath;

/// Returns those of `paths` that a job with this key, these restore prefixes and these trusted keys would find in its snapshot, or
/// that the snapshot leaves to a substituter; each with the key of the snapshot.
///
/// # Errors
/// When the lookup fails.
pub(crate) async fn held(
    remote: &dyn Remote,
    key: &str,
    prefixes: &[String],
    keys: &Keyring,
    paths: &BTreeSet<StorePath>,
) -> Result<BTreeMap<StorePath, String>, RemoteError> {
    let names: Vec<String> = std::iter::once(generation_prefix(key)).chain(prefixes.iter().cloned()).collect();
    let Some(found) = find_snapshot(remote, &names, keys, &mut Vec::new()).await?.found else {
        return Ok(BTreeMap::new());
    };
    let chosen = found.snapshot.chosen();
    let has = |path: &&StorePath| chosen.contains_key(*path) || found.snapshot.upstream.contains(*path);
    Ok(paths.iter().filter(has).map(|path| (path.clone(), found.key.clone())).collect())
}
