//! Whether the entries that a generation relies on still exist, asked before a save builds upon it.
//!
//! 1. Every stored entry that this run did not fetch itself is looked up, all at once: no more than a snapshot has, which is a handful.
//! 2. What no lookup finds is looked up once more after a while. Not found twice, it is lost.
//! 3. What came damaged to the restore is read once more: by a new lookup and a new address, each bad chunk whole and in two parts.
//!    The same wrong bytes both times: it is lost. The right ones: something went wrong on the way. Anything else: it is doubtful.
//!
//! What is lost goes out of the snapshot, and is packed again where the store here has it. What is doubtful is packed again as far as
//! the store here has it, and stays otherwise. A lookup or read that fails proves nothing.

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

/// Lookups at the same time.
const AT_ONCE: usize = 16;
/// The pause before the second look for what was not found: lookups lag behind by a second or two.
const PAUSE: Duration = Duration::from_secs(2);
/// So many bad chunks of one entry are read again: one that stays wrong is enough.
const CHUNKS: usize = 4;

/// What was found out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Proof {
    /// Stored bytes that nobody can read any more.
    pub lost: BTreeSet<Sha>,
    /// Stored bytes that came damaged once and could not be read since.
    pub doubtful: BTreeSet<Sha>,
}

enum Verdict {
    Good,
    Lost(String),
    Doubtful(String),
}

/// Looks after the stored bytes that `snapshot` is made of.
pub(super) async fn prove(
    context: &Context,
    record: &RestoreRecord,
    snapshot: &Snapshot,
    notes: &mut Vec<Note>,
) -> Proof {
    // On a laptop a restore may be weeks old.
    let is_this_run = !context.identity.run.is_empty() && context.identity.run == record.run;
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
            1 => format!(
                "An entry that the snapshot names is lost. {why} What the store here has of it is stored again."
            ),
            _ => format!(
                "{count} entries that the snapshot names are lost. {why} What the store here has of them is stored again."
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
            return Verdict::Lost(format!("{name} was not found by the restore, nor now."));
        }
        Ok(None) => {
            tokio::time::sleep(PAUSE).await;
            match find(remote, name).await {
                Ok(None) => return Verdict::Lost(format!("{name} was not found twice.")),
                Ok(Some(entry)) => entry,
                Err(error) => return unknown(name, &error),
            }
        }
        Err(error) => return unknown(name, &error),
    };
    match record.damaged.get(&id) {
        None => Verdict::Good,
        Some(chunks) if chunks.is_empty() => Verdict::Lost(format!("What is to be made of {name} cannot be made.")),
        Some(chunks) => read_again(remote, &entry, stored, chunks).await,
    }
}

/// Nothing is known of it: so it is taken to be there.
fn unknown(name: &str, error: &RemoteError) -> Verdict {
    tracing::debug!("whether {name} is still there is not known: {error}");
    Verdict::Good
}

async fn find(remote: &dyn Remote, name: &str) -> Result<Option<Entry>, RemoteError> {
    Ok(remote.find(Kind::Layer, &[name.to_owned()]).await?.filter(|entry| entry.name == *name))
}

/// Reads the chunks that came damaged to the restore.
async fn read_again(remote: &dyn Remote, entry: &Entry, stored: &Stored, chunks: &[usize]) -> Verdict {
    let name = &stored.entry;
    let doubtful = |why: &str| Verdict::Doubtful(format!("{name} came damaged to the restore, and {why}"));
    if entry.size.is_some_and(|size| size != stored.digests.size) {
        return Verdict::Lost(format!("{name} has another size than it should."));
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
            (Ok(_), Ok(_)) => return doubtful("two reads now gave different bytes."),
            (Err(RemoteError::Short(why)), Err(RemoteError::Short(_))) => return Verdict::Lost(why),
            (Err(error), _) | (_, Err(error)) => return doubtful(&format!("could not be read now: {error}")),
        }
    }
    Verdict::Good
}
