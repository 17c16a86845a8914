//! Checks that the entries that a generation relies on still exist, before a save extends it.
//!
//! 1. Every stored entry that this run did not download itself is looked up, all at once. A snapshot has only a handful of them. In a
//!    directory or an object store, entries that were downloaded are looked up too, since somebody can have deleted them in the meantime.
//! 2. An entry that is not found is looked up again after a while. If it is not found twice, it is lost.
//! 3. An entry that was damaged in the restore is read again, through a new lookup and a new address, each bad chunk whole and in two
//!    parts. If both reads return the same wrong bytes, it is lost. If the bytes are right, the transfer was at fault. Otherwise it
//!    is doubtful.
//!
//! Lost bytes are removed from the snapshot, and packed again if this store has their paths. Doubtful bytes are packed again as far as
//! this store has their paths, and kept otherwise. A failed lookup or read proves nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use super::Context;
use super::record::RestoreRecord;
use crate::base::digest::Sha;
use crate::base::note::{Code, Note};
use crate::layer::digest::CHUNK_SIZE;
use crate::remote::{Entry, Kind, Remote, RemoteError};
use crate::snapshot::{Snapshot, Stored};

/// Number of concurrent lookups.
const AT_ONCE: usize = 16;
/// The pause before the second lookup of missing entries: lookups lag behind by a second or two.
const PAUSE: Duration = Duration::from_secs(2);
/// Number of bad chunks of one entry that are read again: one that stays wrong is enough.
const CHUNKS: usize = 4;

/// The findings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Proof {
    /// Stored bytes that are lost.
    pub lost: BTreeSet<Sha>,
    /// Stored bytes that were damaged once and could not be read since.
    pub doubtful: BTreeSet<Sha>,
}

enum Verdict {
    Good,
    Lost(String),
    Doubtful(String),
}

/// Checks the stored bytes that `snapshot` relies on.
pub(super) async fn prove(
    context: &Context,
    record: &RestoreRecord,
    snapshot: &Snapshot,
    notes: &mut Vec<Note>,
) -> Proof {
    // On a laptop a restore may be weeks old.
    let stays = context.place.remote.keeps_what_was_read();
    let is_this_run = stays && !context.identity.run.is_empty() && context.identity.run == record.run;
    let was_fetched = |id: &Sha| is_this_run && record.fetched.contains(id) && !record.damaged.contains_key(id);
    let asked = snapshot.stored.iter().filter(|(id, _)| !was_fetched(id));
    let verdicts =
        asked.map(|(id, stored)| async move { (*id, verdict(&*context.place.remote, record, *id, stored).await) });
    let verdicts: Vec<(Sha, Verdict)> = futures_util::stream::iter(verdicts).buffer_unordered(AT_ONCE).collect().await;
    let mut proof = Proof::default();
    let mut why_lost = None;
    for (id, verdict) in verdicts {
        match verdict {
            Verdict::Good => {}
            Verdict::Lost(why) => {
                proof.lost.insert(id);
                why_lost.get_or_insert(why);
            }
            Verdict::Doubtful(why) => {
                tracing::info!("{why}");
                proof.doubtful.insert(id);
            }
        }
    }
    if let Some(why) = why_lost {
        let count = proof.lost.len();
        let message = match count {
            1 => {
                format!("An entry of the snapshot is lost. {why} The paths that this store has of it are stored again.")
            }
            _ => format!(
                "{count} entries of the snapshot are lost. {why} The paths that this store has of them are stored again."
            ),
        };
        notes.push(Note::info(Code::EntriesLost, message));
    }
    proof
}

async fn verdict(remote: &dyn Remote, record: &RestoreRecord, id: Sha, stored: &Stored) -> Verdict {
    let name = &stored.entry;
    let entry = match find(remote, name).await {
        Ok(Some(entry)) => entry,
        Ok(None) if record.lost_layers.contains(&id) => {
            return Verdict::Lost(format!("{name} was not found by the restore and is not found now."));
        }
        Ok(None) => {
            tokio::time::sleep(PAUSE).await;
            match find(remote, name).await {
                Ok(None) => return Verdict::Lost(format!("Two lookups did not find {name}.")),
                Ok(Some(entry)) => entry,
                Err(error) => return unknown(name, &error),
            }
        }
        Err(error) => return unknown(name, &error),
    };
    match record.damaged.get(&id) {
        None => Verdict::Good,
        Some(chunks) if chunks.is_empty() => Verdict::Lost(format!("Layers cannot be assembled from {name}.")),
        Some(chunks) => read_again(remote, &entry, stored, chunks).await,
    }
}

/// Nothing is known about it, so it is assumed to exist.
fn unknown(name: &str, error: &RemoteError) -> Verdict {
    tracing::debug!("cannot check whether {name} still exists: {error}");
    Verdict::Good
}

async fn find(remote: &dyn Remote, name: &str) -> Result<Option<Entry>, RemoteError> {
    Ok(remote.find(Kind::Layer, &[name.to_owned()]).await?.filter(|entry| entry.name == *name))
}

/// Reads the chunks that were damaged in the restore.
async fn read_again(remote: &dyn Remote, entry: &Entry, stored: &Stored, chunks: &[usize]) -> Verdict {
    let name = &stored.entry;
    let doubtful = |why: &str| Verdict::Doubtful(format!("{name} came damaged to the restore, and {why}"));
    if entry.size.is_some_and(|size| size != stored.digests.size) {
        return Verdict::Lost(format!("{name} has a wrong size."));
    }
    for chunk in chunks.iter().copied().take(CHUNKS) {
        let Some(digest) = stored.digests.chunks.get(chunk) else { continue };
        let is_right = |bytes: &[u8]| Sha256::digest(bytes)[..] == digest.0;
        let start = chunk as u64 * CHUNK_SIZE;
        let end = stored.digests.size.min(start + CHUNK_SIZE);
        let cut = start + (end - start) / 3;
        let whole = remote.read(entry, start..end).await;
        let parts = match remote.read(entry, start..cut).await {
            Ok(first) => remote.read(entry, cut..end).await.map(|second| [first, second].concat()),
            Err(error) => Err(error),
        };
        match (whole, parts) {
            (Ok(whole), Ok(parts)) if is_right(&whole) || is_right(&parts) => {}
            (Ok(whole), Ok(parts)) if whole == parts => return Verdict::Lost(format!("{name} is damaged.")),
            (Ok(_), Ok(_)) => return doubtful("two reads returned different bytes."),
            (Err(RemoteError::Short(why)), Err(RemoteError::Short(_))) => return Verdict::Lost(why),
            (Err(error), _) | (_, Err(error)) => return doubtful(&format!("could not be read now: {error}")),
        }
    }
    Verdict::Good
}
