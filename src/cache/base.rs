//! The base of a save: the newest generation of its key, and the restored snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::Context;
use super::checkpoint::Moment;
use super::proof::{Proof, prove};
use super::record::RestoreRecord;
use super::repack::Turn;
use super::search::Search;
use super::system::{find_fitting, is_exact, note_foreign, own_key, own_prefixes};
use super::to_pack::keep_held;
use crate::base::note::{Code, Note};
use crate::remote::RemoteError;
use crate::series::generation_prefix;
use crate::snapshot::{PathKey, Snapshot, Trace};
use crate::store::{Paths, Realisation, StoreLock, StorePath};

/// The snapshots that a save starts from.
pub(super) struct Base {
    /// The key of this system's snapshots.
    pub key: String,
    /// The newest generation of the primary key.
    pub same_key: Option<Snapshot>,
    /// Whether it exists.
    pub has_same_key: bool,
    /// The highest number of a generation of the primary key, usable or not; 0 if there is none.
    pub newest: u64,
    /// The restored snapshot, if it has another key.
    pub near: Option<Snapshot>,
    /// Names of entries whose bytes are lost, or are doubtful and stored again.
    pub lost_entries: BTreeSet<String>,
    /// Unreadable generations of the primary key, to which the next one points.
    pub unread: BTreeMap<u64, u64>,
    /// Paths in this store that were in lost or doubtful entries. They are packed again, including those of the baseline.
    pub repair: BTreeSet<StorePath>,
    /// Whether a generation is written even if it holds no path: the next job would read the damaged bytes of the last one.
    pub may_be_empty: bool,
    /// Whether a generation is written even if there is nothing to pack.
    pub must_save: bool,
    /// Realisations to save with their paths.
    pub realisations: Vec<Realisation>,
    /// What this job read of streamed layers.
    pub trace: Option<Trace>,
    /// Whether the job goes on.
    pub moment: Moment,
    /// Whether layers may be packed again for their order alone.
    pub turn: Turn,
    /// Paths that this job saved before.
    pub earlier: BTreeSet<StorePath>,
    /// Keeps paths in the store until they are packed.
    pub lock: Mutex<Option<StoreLock>>,
}

impl Base {
    /// Lets Nix collect garbage again.
    pub(super) fn let_go(&self) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// The restored snapshot, and what is to be said about it.
pub(super) struct Near {
    search: Result<Search, RemoteError>,
    notes: Vec<Note>,
}

impl Near {
    async fn find(context: &Context, name: &String) -> Self {
        let mut notes = Vec::new();
        let search = Box::pin(find_fitting(context, std::slice::from_ref(name), &mut notes)).await;
        Self { search, notes }
    }

    /// Finds the snapshot that the restore of `record` has used, if it has another key. So it is here as soon as the newest one of the
    /// primary key.
    pub(super) async fn ahead(context: &Context, record: Option<&RestoreRecord>) -> Option<Self> {
        let name = record.filter(|_| context.place.remote.is_readable())?.matched.as_ref()?;
        let is_own = own_prefixes(context).iter().any(|prefix| name.starts_with(prefix));
        if is_own { None } else { Some(Self::find(context, name).await) }
    }
}

/// Finds the base, and its lost parts. `search` is that for the primary key, and `ahead` what was found for `record` at the same time.
pub(super) async fn load_base(
    context: &Context,
    (search, ahead): (Search, Option<Near>),
    record: &RestoreRecord,
    valid: &Paths,
    notes: &mut Vec<Note>,
) -> Result<Base, RemoteError> {
    if !context.place.remote.is_readable() {
        return Ok(empty(context.identity.key.clone()));
    }
    let Search { found, newest, mut unread, unread_why } = search;
    if let Some(why) = unread_why {
        let message = format!("{why} What is saved now points to it, and the next job that can read it takes it in.");
        notes.push(Note::info(Code::BaseUnread, message));
    }
    let foreign = found.as_ref().filter(|found| !found.snapshot.is_for(&context.identity.system));
    let key = match (foreign, &newest) {
        (Some(found), _) => {
            note_foreign(context, &found.key, &found.snapshot.facts.system, notes);
            unread.clear();
            own_key(context)
        }
        (None, Some((key, _))) if is_exact(context, key) => key.clone(),
        _ => context.identity.key.clone(),
    };
    let prefix = generation_prefix(&key);
    let same = found.filter(|found| found.key == key);
    // Unusable generations have numbers too.
    let newest = newest.filter(|(newest, _)| *newest == key).map_or(0, |(_, number)| number);
    let mut near = None;
    if let Some(name) = record.matched.as_ref().filter(|name| !name.starts_with(&prefix)) {
        let Near { search, notes: about } = match ahead {
            Some(ahead) => ahead,
            None => Near::find(context, name).await,
        };
        let is_said = notes.iter().any(|note| note.code == Code::SnapshotOtherSystem);
        notes.extend(about.into_iter().filter(|note| !(is_said && note.code == Code::SnapshotOtherSystem)));
        let search = search?;
        near = search.found.map(|found| found.snapshot);
        if let Some(near) = &mut near {
            // These numbers belong to the other key.
            near.unread.clear();
        }
        if let Some(why) = search.unread_why {
            // The restore has read it. Without it, everything would be uploaded again.
            return Err(RemoteError::Failed(format!("Cannot read the restored snapshot again. {why}")));
        }
    }
    let same_key = same.map(|found| found.snapshot);
    let mut base = Base { has_same_key: same_key.is_some(), same_key, newest, near, unread, ..empty(key) };
    let is_here = |(path, hash): &PathKey| valid.get(path).is_some_and(|info| info.nar_hash == *hash);
    for snapshot in base.same_key.iter_mut().chain(base.near.as_mut()) {
        let Proof { lost, doubtful } = prove(context, record, snapshot, notes).await;
        if lost.is_empty() && doubtful.is_empty() {
            continue;
        }
        let held: Vec<PathKey> = snapshot.paths.keys().cloned().collect();
        base.lost_entries.extend(snapshot.lose(&lost));
        base.lost_entries.extend(snapshot.release(&doubtful, is_here));
        keep_held(snapshot);
        let gone = held.into_iter().filter(|key| !snapshot.paths.contains_key(key));
        base.repair.extend(gone.filter(is_here).map(|(path, _)| path));
        base.must_save |= !lost.is_empty() || !base.repair.is_empty();
        base.may_be_empty |= lost.iter().any(|id| record.damaged.contains_key(id));
    }
    Ok(base)
}

/// Nothing to start from.
fn empty(key: String) -> Base {
    Base {
        key,
        same_key: None,
        has_same_key: false,
        newest: 0,
        near: None,
        lost_entries: BTreeSet::new(),
        unread: BTreeMap::new(),
        repair: BTreeSet::new(),
        may_be_empty: false,
        must_save: false,
        realisations: Vec::new(),
        trace: None,
        moment: Moment::End,
        turn: Turn::First,
        earlier: BTreeSet::new(),
        lock: Mutex::default(),
    }
}
