//! When a save must not be, for the sake of what its keys promise.

use std::path::PathBuf;

use super::record::{self, RestoreRecord};
use super::{CacheError, Note};
use crate::sign::Keyring;
use crate::store::StoreDirs;

/// Why nothing may be saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// What is saved would not be signed, and who trusts only what is signed could not use it.
    #[error(
        "Nothing was saved: this job trusts signed snapshots only and has no key to sign its own. Give `signing-key` where \
         this job is to save."
    )]
    NoKey,
    /// A restore took something over that no key vouches for; a signature now would.
    #[error(
        "Nothing was saved: an earlier restore took over a snapshot without asking for a signature, and this save would sign \
         what came with it. Give that restore the same keys. To vouch for all that is in this store, delete {0}."
    )]
    Unverified(PathBuf),
}

impl Objection {
    /// It as a note, logged now.
    #[must_use]
    pub fn note(&self) -> Note {
        match self {
            // The secrets of a repository are not given to jobs of a fork: nothing is wrong then.
            Self::NoKey => Note::info("no-signing-key", self.to_string()),
            Self::Unverified(_) => Note::warn("not-verified", self.to_string()),
        }
    }
}

/// What is to be said against a save of this store with `keys`, if anything.
///
/// # Errors
/// When the record of the last restore cannot be read.
pub fn objection(dirs: &StoreDirs, keys: &Keyring) -> Result<Option<Objection>, CacheError> {
    let record = record::load(dirs)?;
    Ok(match record {
        _ if keys.asks_for_signatures() && !keys.can_sign() => Some(Objection::NoKey),
        Some(RestoreRecord { unverified: true, .. }) if keys.can_sign() => {
            Some(Objection::Unverified(record::place(dirs)))
        }
        _ => None,
    })
}

/// Notes in the record of the last restore that more than store paths was taken over without a signature.
///
/// # Errors
/// When the record cannot be read or written.
pub fn note_unverified(dirs: &StoreDirs) -> Result<(), CacheError> {
    match record::load(dirs)? {
        Some(mut record) if !record.unverified => {
            record.unverified = true;
            record::store(dirs, &record)
        }
        _ => Ok(()),
    }
}
