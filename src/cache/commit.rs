//! Pushes to the remote: layers first, then the generation that refers to them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Context;
use super::others::Others;
use super::outcome::Saved;
use super::system::{note_foreign, own_key};
use crate::attach::facts::drop_faulty;
use crate::base::clock::now;
use crate::base::digest::Sha;
use crate::base::note::Note;
use crate::layer::digest::Digests;
use crate::remote::{Entry, Kind, Put, Remote, RemoteError, confirmed, confirmed_within, taken_unseen};
use crate::series::{
    self, Draft, Series, SystemClock, TakenIn, decode_to_merge, generation_of, generation_prefix, read_generation,
    record,
};
use crate::snapshot::{Facts, Snapshot};
use crate::store::StorePath;

/// The pause between two lookups for a layer that another job is uploading.
const LAYER_DELAY: Duration = Duration::from_secs(1);
/// Upload speed that is assumed for another job with the same layer, in bytes per second, and the longest wait for it.
const LAYER_RATE: u64 = 16 << 20;
const LAYER_TRIES: u64 = 30;

/// The pushed entries.
#[derive(Default)]
pub(super) struct Pushed {
    pub bytes: u64,
    pub entries: u64,
    /// The ids of stored bytes of new layers that a generation names now.
    pub stored: BTreeSet<Sha>,
    /// The new paths in them.
    pub paths: BTreeSet<StorePath>,
    /// The name and the bytes of the generation, if this job wrote it.
    pub generation: Option<(String, Bytes)>,
}

/// Stores the file of a layer, or the new bytes of its recipe. Returns the name of its entry: its id, or its id and a unique suffix
/// if the plain name was reserved but never finished, or its bytes are `lost`. And whether it was sent, or was already there.
pub(super) async fn push_layer(
    remote: &dyn Remote,
    digests: &Digests,
    file: &Path,
    lost: &BTreeSet<String>,
) -> Result<(String, bool), RemoteError> {
    let id = digests.id().to_string();
    let mut name = id.clone();
    if lost.contains(&name) {
        name = format!("{id}-{}", series::nonce());
    }
    // A new suffix can be taken only if the answer to its reservation got lost.
    for _ in 0..3 {
        let put = remote.put_file(Kind::Layer, &name, file);
        let put = if name == id {
            // Another scope may have it, in which a reservation does not find it.
            let is_there = confirmed_within(remote, Kind::Layer, &name, 1, Duration::ZERO);
            let Some(put) = unless(is_there, put).await else {
                tracing::info!("Layer {id} is already in the cache.");
                return Ok((name, false));
            };
            put
        } else {
            put.await
        };
        if put? == Put::Stored {
            return Ok((name, true));
        }
        if name == id {
            let tries = 3 + (digests.size / LAYER_RATE).min(LAYER_TRIES);
            if confirmed_within(remote, Kind::Layer, &name, tries as u32, LAYER_DELAY).await {
                tracing::info!("Another job has stored layer {id}.");
                return Ok((name, false));
            }
            tracing::info!("Layer {id} was reserved but never finished, so it is stored under another name.");
        } else if confirmed(remote, Kind::Layer, &name).await {
            return Ok((name, false));
        }
        name = format!("{id}-{}", series::nonce());
    }
    Err(RemoteError::Failed(format!("Cannot store layer {id}: all of its names are taken.")))
}

/// Waits for `work`. None, and ends it, if that `is_needless` becomes known before it is done.
async fn unless<T>(is_needless: impl Future<Output = bool>, work: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(is_needless, work);
    tokio::select! {
        // A lookup that took longer than the upload has found what was uploaded.
        biased;
        done = &mut work => Some(done),
        is_needless = &mut is_needless => if is_needless { None } else { Some(work.await) },
    }
}

/// Like [`push_layer`], for a job that may not look anything up. Layers are named after the key instead of their content: once such
/// a job has saved this key, the first name is taken, and later jobs do not upload layers that no snapshot would refer to. The
/// name is also taken if a job was killed while uploading, so one more name can be used each day. `number` counts the layers of the save.
pub(super) async fn push_first_layer(context: &Context, file: &Path, number: u64) -> Result<String, RemoteError> {
    let name = format!("first-{}-{number}", Sha::of(context.identity.key.as_bytes()));
    let today = format!("{name}-{}", now() / (24 * 3600));
    for name in [name, today] {
        if context.place.remote.put_file(Kind::Layer, &name, file).await? == Put::Stored {
            return Ok(name);
        }
    }
    Err(taken_unseen("A layer of this key"))
}

/// Stores `snapshot` as the next generation after `newest`, or merged with what other jobs save at the same time. Returns the content
/// of the newest generation then. `lost` are entries whose bytes are lost, whatever other snapshots say.
pub(super) async fn push_snapshot(
    context: &Context,
    snapshot: Snapshot,
    (newest, others): (u64, Option<Others>),
    lost: &BTreeSet<String>,
    notes: &mut Vec<Note>,
    pushed: &mut Pushed,
) -> Result<(Saved, Snapshot), RemoteError> {
    let (facts, lanes) = (snapshot.facts.clone(), BTreeSet::from([context.identity.lane.clone()]));
    let writers = snapshot.lanes.len();
    let mut draft = SnapshotDraft { context, snapshot, facts, lanes, lost, notes, is_foreign: false, encoded: None };
    let clock = SystemClock::start();
    let prefix = generation_prefix(&context.identity.key);
    let series = Series { remote: &*context.place.remote, kind: Kind::Snapshot, prefix, clock: &clock, writers };
    let appended = match series::append(&series, &mut draft, newest, others.and_then(Others::fresh)).await {
        Err(_) if draft.is_foreign => {
            note_foreign(context, &context.identity.key, "another system", draft.notes);
            draft.is_foreign = false;
            let series = Series { prefix: generation_prefix(&own_key(context)), ..series };
            series::append(&series, &mut draft, 0, None).await?
        }
        appended => appended?,
    };
    pushed.bytes += appended.bytes;
    pushed.entries += appended.entries;
    let (snapshot, encoded) = (draft.snapshot, draft.encoded);
    pushed.generation =
        encoded.filter(|(name, _)| generation_of(name).is_some_and(|(_, number)| number == appended.number));
    let (paths, layers) = (snapshot.paths.len() as u64, snapshot.layers.len() as u64);
    Ok((Saved { generation: appended.number, paths, layers }, snapshot))
}

/// A snapshot to be written.
struct SnapshotDraft<'a> {
    context: &'a Context,
    snapshot: Snapshot,
    facts: Facts,
    /// The lanes with content that no generation has yet.
    lanes: BTreeSet<String>,
    lost: &'a BTreeSet<String>,
    notes: &'a mut Vec<Note>,
    /// Whether the newest generation is of another system.
    is_foreign: bool,
    /// The last name and its bytes.
    encoded: Option<(String, Bytes)>,
}

impl SnapshotDraft<'_> {
    fn decode(&mut self, entry: &Entry, bytes: &[u8]) -> Option<Snapshot> {
        let mut other: Snapshot =
            decode_to_merge(record::room_beside(&self.snapshot), entry, bytes, &self.context.place.keys, self.notes)?;
        // The snapshot will be signed, so it must not contain invalid records.
        self.notes.extend(drop_faulty(&mut other).note(&entry.name));
        other.lose_entries(self.lost);
        Some(other)
    }
}

#[async_trait]
impl Draft for SnapshotDraft<'_> {
    fn encode(&mut self, _: Kind, name: &str) -> Result<Bytes, RemoteError> {
        if self.is_foreign {
            let message =
                "a job of another system saved under this key at the same time. The next save keeps them apart.";
            return Err(RemoteError::Failed(message.into()));
        }
        self.snapshot.facts = self.facts.clone();
        // The name is signed too, so each attempt has separate signatures.
        let bytes = record::encode(&self.snapshot, name, &self.context.place.keys)
            .map_err(|error| RemoteError::Local(format!("The snapshot is not saved: {error}")))?;
        let (_, bytes) = self.encoded.insert((name.to_owned(), Bytes::from(bytes)));
        Ok(bytes.clone())
    }

    async fn read(&self, entry: &Entry, most: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        let most = most.min(series::most_bytes(record::room_beside(&self.snapshot)));
        read_generation(&*self.context.place.remote, entry, most).await
    }

    fn unread(&mut self, number: u64) {
        self.snapshot.unread.insert(number, now());
    }

    fn has(&self, entry: &Entry, bytes: Vec<u8>) -> bool {
        let (keys, room) = (&self.context.place.keys, record::room_beside(&self.snapshot));
        let Ok((other, _)) = record::decode_within::<Snapshot>(&bytes, &entry.name, keys, room) else { return true };
        self.snapshot.covers(&other, &BTreeSet::from([other.facts.lane.clone()]))
    }

    fn take_in(&mut self, entry: &Entry, bytes: Vec<u8>) -> TakenIn {
        let Some(other) = self.decode(entry, &bytes) else { return TakenIn::Unusable };
        if !other.is_for(&self.context.identity.system) {
            self.is_foreign = entry.kind == Kind::Snapshot;
            return TakenIn::Unusable;
        }
        let covered = other.covers(&self.snapshot, &self.lanes);
        if entry.kind == Kind::Offer {
            self.lanes.insert(other.facts.lane.clone());
        }
        self.snapshot.merge(other);
        self.snapshot.expire(self.context.packing.keep_saves, self.facts.created);
        self.snapshot.drop_redundant_layers();
        self.snapshot.forget_dropped();
        if covered { TakenIn::Covered } else { TakenIn::Merged }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn what_is_done_counts_even_if_it_is_known_to_be_needless_then() {
        for _ in 0..100 {
            assert_eq!(unless(ready(true), ready(1)).await, Some(1));
        }
        assert_eq!(unless(ready(true), pending::<u8>()).await, None);
        assert_eq!(unless(ready(false), ready(1)).await, Some(1));
        let later = async {
            tokio::task::yield_now().await;
            1
        };
        assert_eq!(unless(ready(false), later).await, Some(1), "it is waited for");
    }
}
