//! Chooses the paths to push.

use std::collections::BTreeSet;

use super::outcome::PushOutcome;
use crate::base::human;
use crate::base::note::{Code, Note};
use crate::cache::{Objection, Publishable};
use crate::store::{StoreDirs, StorePath};

/// Returns the paths to push: `named` or those that this job built, with everything that they refer to and without what nothing
/// vouches for. Notes say why paths are left out.
pub(super) fn choose(
    dirs: &StoreDirs,
    here: &Publishable,
    named: Option<BTreeSet<StorePath>>,
    outcome: &mut PushOutcome,
) -> BTreeSet<StorePath> {
    if let Some(objection) = &here.objection {
        let why = match objection {
            Objection::NoKey => {
                "Nothing was pushed: this job trusts only signed paths, and has no key to sign its own with.".to_owned()
            }
            Objection::Unverified(place) => format!(
                "Nothing was pushed: an earlier restore used files without requiring a signature, and this push would sign their \
                 results. Give that restore the same keys. To vouch for everything on this machine, delete {}.",
                place.display()
            ),
        };
        let is_normal = matches!(objection, Objection::NoKey);
        outcome.notes.push(if is_normal {
            Note::info(Code::PushUnsigned, why)
        } else {
            Note::warn(Code::NotVerified, why)
        });
        return BTreeSet::new();
    }
    let Some(start) = named.or_else(|| here.built.clone()) else {
        let why = "Nothing was pushed: no restore was recorded in this store, so it is not known which paths are new. Name them.";
        outcome.notes.push(Note::warn(Code::PushUnknown, why));
        return BTreeSet::new();
    };
    let (withheld, start): (BTreeSet<_>, BTreeSet<_>) =
        start.into_iter().partition(|path| here.withheld.contains(path));
    outcome.paths_unverified = withheld.len() as u64;
    if let Some(example) = withheld.first() {
        let count = human::count(withheld.len() as u64, "path");
        let ledger = crate::cache::ledger_place(dirs);
        outcome.notes.push(Note::warn(
            Code::NotVerified,
            format!(
                "{count} not pushed, such as {example}: a restore used them, or what they were built with, without a signature by a \
                 key that this job trusts, so nothing vouches for them. Give every restore and save the same keys (`signing-key`). To \
                 vouch for everything in this store, delete {}.",
                ledger.display()
            ),
        ));
    }
    here.valid.closure(&start)
}

/// The note that what is pushed is not signed by this job.
pub(super) fn unsigned() -> Note {
    Note::info(
        Code::PushUnsigned,
        "What is pushed has no signature of this job, because no signing key was given. Nix fetches it only if the cache signs it, or \
         with `require-sigs = false`.",
    )
}
