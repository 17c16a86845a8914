//! Pushing to the remote: layers first, then the generation that names them.

use std::collections::BTreeSet;
use std::path::Path;

use super::outcome::{Note, Saved};
use super::search::{Search, find_snapshot};
use super::{Context, now};
use crate::layer::digest::{Digests, Sha};
use crate::remote::{Kind, Put, Remote, RemoteError, awaited, confirmed, taken_unseen};
use crate::snapshot::{Snapshot, encode_signed, generation_name, generation_prefix};

/// So many names are tried for a layer whose first name is lost.
const NAMES: u32 = 4;
/// So many generations are tried when others save at the same time.
const TRIES: u64 = 16;

/// What was pushed.
#[derive(Default)]
pub(super) struct Pushed {
    pub bytes: u64,
    pub entries: u64,
}

/// Stores the file of a layer, or the new bytes of its recipe; gives the name of its entry. A name that is taken counts as stored once a lookup finds it, unless
/// the restore found that its bytes are `lost`: then, as when it was reserved and never finished, the next name is taken.
pub(super) async fn push_layer(
    remote: &dyn Remote,
    digests: &Digests,
    file: &Path,
    lost: &BTreeSet<String>,
    pushed: &mut Pushed,
) -> Result<String, RemoteError> {
    let id = digests.id();
    for number in 1..=NAMES {
        let name = if number == 1 { id.to_string() } else { format!("{id}-{number}") };
        if lost.contains(&name) {
            continue;
        }
        match remote.put_file(Kind::Layer, &name, file).await? {
            Put::Stored => {
                pushed.bytes += digests.size;
                pushed.entries += 1;
                return Ok(name);
            }
            Put::Taken if confirmed(remote, Kind::Layer, &name).await => {
                tracing::info!("Layer {id} is in the cache already.");
                return Ok(name);
            }
            Put::Taken => tracing::debug!("{name} is taken and cannot be found: the next name"),
        }
    }
    Err(RemoteError::Failed(format!("All names for layer {id} are taken by entries that were never finished.")))
}

/// As [`push_layer`] for a job that may not look anything up. Layers are named for the key and not for their content: so
/// the first name is taken once such a job has saved this key, and no later one sends layers that no snapshot is going to name.
pub(super) async fn push_first_layer(
    context: &Context,
    digests: &Digests,
    file: &Path,
    pushed: &mut Pushed,
) -> Result<String, RemoteError> {
    let name = format!("first-{}-{}", Sha::of(context.key.as_bytes()), pushed.entries + 1);
    match context.remote.put_file(Kind::Layer, &name, file).await? {
        Put::Stored => {
            pushed.bytes += digests.size;
            pushed.entries += 1;
            Ok(name)
        }
        Put::Taken => Err(taken_unseen("A layer of this key")),
    }
}

/// Stores `snapshot` as the next generation after `newest`. Who finds the number taken takes in what the other one wrote, and
/// tries the next.
pub(super) async fn push_snapshot(
    context: &Context,
    mut snapshot: Snapshot,
    newest: u64,
    notes: &mut Vec<Note>,
    pushed: &mut Pushed,
) -> Result<Saved, RemoteError> {
    let remote = &*context.remote;
    let mut generation = newest + 1;
    for _ in 0..TRIES {
        let name = generation_name(&context.key, generation);
        // The name is signed too: every try has signatures of its own.
        let bytes = encode_signed(&snapshot, &name, &context.keys);
        let bytes = bytes.map_err(|error| RemoteError::Local(error.to_string()))?;
        let size = bytes.len() as u64;
        match remote.put_bytes(Kind::Snapshot, &name, bytes.into()).await? {
            Put::Stored => {
                pushed.bytes += size;
                pushed.entries += 1;
                let (paths, layers) = (snapshot.paths.len() as u64, snapshot.layers.len() as u64);
                return Ok(Saved { generation, paths, layers });
            }
            Put::Taken if !remote.is_readable() => return Err(taken_unseen("A snapshot of this key")),
            Put::Taken => {
                tracing::info!("Generation {generation} was saved by another job meanwhile: merging with it.");
                generation = merge_with_other(context, &mut snapshot, generation, notes).await?;
            }
        }
    }
    Err(RemoteError::Failed(format!("{TRIES} generations in a row were taken by other jobs.")))
}

/// Takes in the generation `taken` or a newer one; gives the number to try next.
async fn merge_with_other(
    context: &Context,
    snapshot: &mut Snapshot,
    taken: u64,
    notes: &mut Vec<Note>,
) -> Result<u64, RemoteError> {
    let exact = [generation_name(&context.key, taken), generation_prefix(&context.key)];
    // A taken number need not be readable yet, or ever: whoever reserved it may have been killed. What its writer is about to finish
    // would be lost to those who read only the generation after it.
    awaited(&*context.remote, Kind::Snapshot, &exact[0]).await;
    let Search { found, newest, unread, .. } = find_snapshot(&*context.remote, &exact, &context.keys, notes).await?;
    let newest = newest.filter(|(key, _)| *key == context.key).map_or(taken, |(_, number)| number.max(taken));
    // What is not trusted is not merged, or it would be signed.
    let found = found.filter(|found| found.key == context.key);
    // What was not read is not absent: whoever reads the next generation looks again.
    if found.as_ref().is_none_or(|found| found.generation < taken) {
        snapshot.unread.insert(taken, now());
    }
    snapshot.unread.extend(unread);
    if let Some(found) = found {
        snapshot.merge(found.snapshot);
    }
    Ok(newest + 1)
}
