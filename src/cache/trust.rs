//! When a save must not be, for the sake of what its keys promise.

use std::path::PathBuf;

use super::vouch;
use crate::attach::CacheError;
use crate::base::note::{Code, Note};
use crate::series::sign::Keyring;
use crate::store::StoreDirs;

/// Why nothing may be saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Objection {
    /// What is saved would not be signed, and who trusts only what is signed could not use it.
    #[error(
        "Nothing was saved: this job trusts signed snapshots only and has no key to sign its own. Give `signing-key` where \
         this job is to save."
    )]
    NoKey,
    /// A restore took over files that no key vouches for, or nobody can say what it took over.
    #[error(
        "Nothing was saved: an earlier restore took over files without asking for a signature, and this save would sign what came \
         of them. Give that restore the same keys. To vouch for all that is on this machine, delete {0}."
    )]
    Unverified(PathBuf),
}

impl Objection {
    /// It as a note, logged now.
    #[must_use]
    pub(crate) fn note(&self) -> Note {
        match self {
            // The secrets of a repository are not given to jobs of a fork: nothing is wrong then.
            Self::NoKey => Note::info(Code::NoSigningKey, self.to_string()),
            Self::Unverified(_) => Note::warn(Code::NotVerified, self.to_string()),
        }
    }
}

/// What is to be said against a save of this store with `keys`, if anything. Store paths that nothing vouches for are left out of a
/// save, and are no reason against it.
pub(crate) fn objection(dirs: &StoreDirs, keys: &Keyring) -> Option<Objection> {
    if keys.asks_for_signatures() && !keys.can_sign() {
        return Some(Objection::NoKey);
    }
    // One that cannot be understood may have named anything.
    let took_over_files =
        keys.can_sign() && vouch::load(dirs).map_or(true, |ledger| ledger.is_some_and(|all| all.files));
    took_over_files.then(|| Objection::Unverified(vouch::place(dirs)))
}

/// Notes that more than store paths was taken over without a signature: across runs, until somebody vouches for it.
///
/// # Errors
/// When that cannot be written down.
pub(crate) fn note_unverified(dirs: &StoreDirs) -> Result<(), CacheError> {
    vouch::take_over_files(dirs)
}
