//! What of the store can be given to others: valid paths that something vouches for, and those that this job built.

use std::collections::BTreeSet;

use super::record;
use super::trust::{Objection, objection};
use super::vouch;
use crate::attach::{CacheError, facts};
use crate::series::sign::Keyring;
use crate::store::{self, PathInfo, Paths, StoreDirs, StoreLock, StorePath};

/// The store, as far as it can be published.
pub(crate) struct Publishable {
    /// Every valid path with sound records.
    pub valid: Paths,
    /// Of these, the paths that nothing vouches for, because a restore used them without a signature, and those that depend on them.
    pub withheld: BTreeSet<StorePath>,
    /// The paths that were built here since the restore of this job, without derivations; None if no restore was recorded.
    pub built: Option<BTreeSet<StorePath>>,
    /// Why nothing at all may be signed with these keys, if so.
    pub objection: Option<Objection>,
    /// Keeps the garbage collector away.
    _lock: Option<StoreLock>,
}

/// Reads the store for a job with `keys`.
///
/// # Errors
/// When the store or its records cannot be read.
pub(crate) fn publishable(dirs: &StoreDirs, keys: &Keyring, threads: usize) -> Result<Publishable, CacheError> {
    let lock = store::gc_lock(dirs)?;
    let valid = store::read_all(dirs)?;
    let withheld = vouch::withheld(dirs, &valid, keys, threads)?.paths;
    let valid = facts::as_saved(valid);
    let built = record::load(dirs)?.map(|record| {
        let is_built = |info: &&PathInfo| {
            let is_old = record.baseline.contains(&info.path) || record.restored.contains(&info.path);
            info.ultimate && !is_old && !info.path.is_derivation()
        };
        valid.values().filter(is_built).map(|info| info.path.clone()).collect()
    });
    Ok(Publishable { withheld, built, objection: objection(dirs, keys), valid, _lock: lock })
}
