//! Finds the matching snapshot.

use super::Context;
use super::system::own_prefixes;
use crate::attach::facts::drop_faulty;
use crate::base::note::Note;
use crate::remote::{Remote, RemoteError};
use crate::series::sign::Keyring;
use crate::series::{self, find_record, generation_name};
use crate::snapshot::Snapshot;
use crate::store::PathInfo;

pub(crate) struct SnapshotFound {
    /// Its content.
    pub snapshot: Snapshot,
    /// Its key, escaped.
    pub key: String,
    pub generation: u64,
    /// Bytes downloaded for it.
    pub bytes: u64,
    /// The name of the trusted key that signed it; None if no signature is required.
    pub signed_by: Option<String>,
    /// Its invalid records, which have been removed.
    pub faulty: Vec<PathInfo>,
}

/// The result of a search.
pub(super) type Search = series::Search<SnapshotFound>;

/// Finds the newest usable snapshot with [`find_record`], and removes invalid records from it.
///
/// # Errors
/// See [`find_record`].
pub(crate) async fn find_snapshot(
    remote: &dyn Remote,
    names: &[String],
    keys: &Keyring,
    notes: &mut Vec<Note>,
) -> Result<Search, RemoteError> {
    let search = find_record::<Snapshot>(remote, names, keys, notes).await?;
    Ok(search.map(|found| without_faulty(found, notes)))
}

/// Removes invalid records.
pub(super) fn without_faulty(found: series::Found<Snapshot>, notes: &mut Vec<Note>) -> SnapshotFound {
    let series::Found { record: mut snapshot, key, generation, bytes, signed_by } = found;
    let faulty = drop_faulty(&mut snapshot);
    notes.extend(faulty.note(&generation_name(&key, generation)));
    SnapshotFound { snapshot, key, generation, bytes, signed_by, faulty: faulty.infos }
}

/// The names for the lookup of a snapshot: the generations of the primary key first, then the restore prefixes.
pub(crate) fn snapshot_names(context: &Context) -> Vec<String> {
    own_prefixes(context).into_iter().chain(context.identity.prefixes.iter().cloned()).collect()
}
