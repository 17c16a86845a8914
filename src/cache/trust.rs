//! When a save must not happen, because it would violate the guarantee of its keys.

use std::path::PathBuf;

use super::vouch;
use crate::attach::CacheError;
use crate::base::note::{Code, Note};
use crate::series::sign::Keyring;
use crate::store::StoreDirs;

/// Why nothing may be saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Objection {
    /// The snapshot would not be signed, and jobs that trust only signed ones could not use it.
    #[error(
        "Nothing was saved: this job trusts only signed snapshots but has no key to sign its own. Set `signing-key` if \
        this job should save."
    )]
    NoKey,
    /// A restore has used files that no key vouches for, or it is not known what it has used.
    #[error(
        "Nothing was saved: an earlier restore used files without requiring a signature, and this save would sign their \
        results. Give that restore the same keys. To vouch for everything on this machine, delete {0}."
    )]
    Unverified(PathBuf),
}

impl Objection {
    /// Converts it to a note and logs it.
    #[must_use]
    pub(crate) fn note(&self) -> Note {
        match self {
            // Jobs of a fork do not get the repository's secrets, so this is normal there.
            Self::NoKey => Note::info(Code::NoSigningKey, self.to_string()),
            Self::Unverified(_) => Note::warn(Code::NotVerified, self.to_string()),
        }
    }
}

/// Returns why this store must not be saved with `keys`, if there is a reason. Unverified store paths are left out of a save and are
/// not a reason.
pub(crate) fn objection(dirs: &StoreDirs, keys: &Keyring) -> Option<Objection> {
    if keys.asks_for_signatures() && !keys.can_sign() {
        return Some(Objection::NoKey);
    }
    // An invalid ledger may have listed anything.
    let took_over_files =
        keys.can_sign() && vouch::load(dirs).map_or(true, |ledger| ledger.is_some_and(|all| all.files));
    took_over_files.then(|| Objection::Unverified(vouch::place(dirs)))
}

/// Records that files besides store paths were restored without a signature. The record stays across runs until a user vouches for
/// them.
///
/// # Errors
/// When the record cannot be written.
pub(crate) fn note_unverified(dirs: &StoreDirs) -> Result<(), CacheError> {
    vouch::take_over_files(dirs)
}
