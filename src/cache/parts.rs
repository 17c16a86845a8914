//! Groups paths into layers, and packs and stores the layers: while some are uploaded, the next one is packed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Context;
use super::coarse::Kinds;
use super::commit::{Pushed, push_first_layer, push_layer};
use super::layers::known_blocks;
use super::older;
use super::outcome::Phase;
use super::progress::Progress;
use super::save_error::SaveError;
use super::sending::Queue;
use crate::base::digest::Sha;
use crate::base::disk;
use crate::base::note::{Code, Note};
use crate::layer::digest::Digests;
use crate::layer::pack::older::{Older, stem};
use crate::layer::pack::{self, Item, Options, Outcome, Packed, Rejected};
use crate::layer::recipe::{self, Recipe};
use crate::remote::RemoteError;
use crate::snapshot::{Snapshot, Stored};
use crate::store::own::{OwnFolder, PACKING_PREFIX};
use crate::store::{PathInfo, Paths, StorePath};

/// Typical compression ratio of store paths: about one third.
const LIKELY_RATIO: u64 = 3;
/// NAR size from which paths that are used by different lanes get a separate layer.
const LEAST: u64 = 64 << 20;
/// NAR size from which paths of large files, or of many small ones, get a separate layer.
const LEAST_OF_KIND: u64 = 16 << 20;
/// NAR size from which a layer is split, so that the upload begins before everything is packed.
const MOST: u64 = 1 << 30;

/// The paths of a layer that is to be made, and the bytes of a block of a large file in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub paths: BTreeSet<StorePath>,
    pub block_size: usize,
}

/// Splits `paths` into at most `room` layers, so that paths used by the same lanes are together, except for those in `apart`, and of these
/// those of the same kind. `lane` uses all of `used`; the paths of other lanes are in the snapshot.
pub(super) fn parts(
    (paths, apart): (&BTreeSet<StorePath>, &BTreeSet<StorePath>),
    snapshot: &Snapshot,
    (lane, used): (&str, &BTreeSet<StorePath>),
    (valid, kinds): (&Paths, &Kinds),
    room: usize,
) -> Vec<Part> {
    let mut groups: BTreeMap<(bool, BTreeSet<&str>), BTreeSet<StorePath>> = BTreeMap::new();
    for path in paths {
        let others = snapshot.lanes.iter().filter(|(name, other)| *name != lane && other.paths.contains_key(path));
        let mut lanes: BTreeSet<&str> = others.map(|(name, _)| &**name).collect();
        lanes.extend(used.contains(path).then_some(lane));
        groups.entry((apart.contains(path), lanes)).or_default().insert(path.clone());
    }
    let size = |paths: &BTreeSet<StorePath>| -> u64 { paths.iter().map(|path| valid[path].nar_size).sum() };
    let mut groups: Vec<(u64, BTreeSet<StorePath>)> = groups.into_values().map(|paths| (size(&paths), paths)).collect();
    groups.sort();
    // The smallest one is joined with the next one until all are large enough and few enough.
    while groups.len() > 1 && (groups[0].0 < LEAST || groups.len() > room.max(1)) {
        let (bytes, paths) = groups.remove(0);
        groups[0].0 += bytes;
        groups[0].1.extend(paths);
        groups.sort();
    }
    let mut room = room.saturating_sub(groups.len());
    let mut of_kinds = Vec::new();
    for (bytes, paths) in groups.into_iter().rev() {
        let (large, small): (BTreeSet<_>, BTreeSet<_>) = paths.iter().cloned().partition(|path| kinds.is_large(path));
        let large_bytes = size(&large);
        if room > 0 && large_bytes.min(bytes - large_bytes) >= LEAST_OF_KIND {
            room -= 1;
            of_kinds.extend([(large_bytes, large), (bytes - large_bytes, small)]);
        } else {
            of_kinds.push((bytes, paths));
        }
    }
    let mut parts = Vec::new();
    for (bytes, paths) in of_kinds {
        let pieces = (bytes.div_ceil(MOST).max(1) as usize).min(1 + room);
        room -= pieces - 1;
        parts.extend(split(paths, bytes / pieces as u64, pieces, valid));
    }
    // When the last one is packed, it alone is still to be uploaded, so it is the smallest.
    parts.sort_by_key(|paths| Reverse(size(paths)));
    parts.into_iter().map(|paths| Part { block_size: kinds.block_size(&paths), paths }).collect()
}

/// Splits `paths` into `pieces` of about `bytes` each, in the order in which they are packed.
fn split(paths: BTreeSet<StorePath>, bytes: u64, pieces: usize, valid: &Paths) -> Vec<BTreeSet<StorePath>> {
    let mut sorted: Vec<StorePath> = paths.into_iter().collect();
    sorted.sort_by(|a, b| a.name().cmp(b.name()).then_with(|| a.cmp(b)));
    let mut split: Vec<BTreeSet<StorePath>> = vec![BTreeSet::new()];
    let mut filled = 0;
    for path in sorted {
        if filled >= bytes && split.len() < pieces {
            split.push(BTreeSet::new());
            filled = 0;
        }
        filled += valid[&path].nar_size;
        split.last_mut().expect("it begins with one").insert(path);
    }
    split
}

/// Stored layers.
#[derive(Default)]
pub(super) struct Made {
    pub layers: Vec<MadeLayer>,
    /// Paths that were not packed, and paths that are useless without them.
    pub left_out: BTreeSet<StorePath>,
    pub phases: Vec<Phase>,
    pub notes: Vec<Note>,
}

/// One stored layer.
pub(super) struct MadeLayer {
    pub digests: Digests,
    pub recipe: Option<Recipe>,
    /// Bytes behind its blocks.
    pub tables: u64,
    pub stored: Stored,
    pub paths: BTreeSet<StorePath>,
    /// Their NAR sizes, as read.
    pub nar_sizes: BTreeMap<StorePath, u64>,
}

impl MadeLayer {
    /// Adds the layer with `infos` of its paths to `snapshot`, at the time `now`.
    pub(super) fn add_to(self, snapshot: &mut Snapshot, infos: impl IntoIterator<Item = PathInfo>, now: u64) {
        let id = self.digests.id();
        snapshot.add_layer((self.digests, self.recipe), self.stored, infos, now);
        snapshot.layers.entry(id).and_modify(|layer| layer.tables = self.tables);
    }
}

/// A layer that is packed but not stored yet.
struct Ready {
    packed: Packed,
    recipe: Option<Recipe>,
    digests: Digests,
    file: tempfile::NamedTempFile,
    paths: BTreeSet<StorePath>,
}

/// Packs and stores each of `parts`, without corrupt paths and their referrers, as a recipe if older layers of `snapshot` have most of
/// its bytes. `lost` entries do not count as stored. `is_packed` is called when nothing more is read of the store.
///
/// # Errors
/// When a layer cannot be written or stored. The entries counted in `pushed` are stored nevertheless.
pub(super) async fn make_layers(
    context: &Context,
    valid: &Paths,
    snapshot: &Snapshot,
    parts: Vec<Part>,
    lost: &BTreeSet<String>,
    pushed: &mut Pushed,
    is_packed: &(dyn Fn() + Sync),
) -> Result<Made, SaveError> {
    let mut made = Made::default();
    let older = if parts.is_empty() { Vec::new() } else { older::files_of(context, snapshot).await };
    let (queue, sending) = Queue::new();
    let (left_out, notes) = (&mut made.left_out, &mut made.notes);
    let packing = async move {
        let (mut seconds, mut count, mut bytes) = (0.0, 0, 0);
        for part in parts {
            // If storing an earlier one has failed, the error says why.
            let Some(place) = queue.place().await else { break };
            let before = std::mem::take(left_out);
            let (ready, without, took) = pack_part(context, valid, (snapshot, &older), part, before, notes).await?;
            *left_out = without;
            seconds += took;
            let Some(ready) = ready else { continue };
            count += ready.paths.len() as u64;
            bytes += ready.packed.bytes;
            place.fill(ready);
        }
        is_packed();
        Ok::<_, SaveError>(Phase::measured("pack", seconds, count, bytes))
    };
    let (layers, before) = (&mut made.layers, pushed.entries);
    let store = async |number, ready| store(context, ready, lost, before + number + 1).await;
    let sending = sending.run(store, |(layer, sent): (MadeLayer, Option<u64>)| {
        pushed.bytes += sent.unwrap_or(0);
        pushed.entries += u64::from(sent.is_some());
        layers.push(layer);
    });
    let (packing, sending) = tokio::join!(packing, sending);
    let (sending, packing) = (sending?, packing?);
    if packing.count > 0 {
        made.phases.push(packing);
        made.phases.push(Phase::measured("upload", sending, made.layers.len() as u64, pushed.bytes));
    }
    for layer in &mut made.layers {
        // An earlier part may contain referrers of a path that turned out to be corrupt in a later one.
        layer.paths.retain(|path| !made.left_out.contains(path));
    }
    made.layers.retain(|layer| !layer.paths.is_empty());
    Ok(made)
}

/// The result of packing a part: the layer, if any paths are left; all paths left out so far; the duration in seconds.
type PackedPart = (Option<Ready>, BTreeSet<StorePath>, f64);

async fn pack_part(
    context: &Context,
    valid: &Paths,
    before: (&Snapshot, &[PathBuf]),
    Part { mut paths, block_size }: Part,
    mut left_out: BTreeSet<StorePath>,
    notes: &mut Vec<Note>,
) -> Result<PackedPart, SaveError> {
    let start = Instant::now();
    loop {
        paths.retain(|path| !left_out.contains(path));
        if paths.is_empty() {
            return Ok((None, left_out, start.elapsed().as_secs_f64()));
        }
        match pack_once(context, valid, before, (&paths, block_size)).await? {
            (Outcome::Packed(packed), recipe, digests, file) => {
                let ready = Ready { packed, recipe, digests, file, paths };
                return Ok((Some(ready), left_out, start.elapsed().as_secs_f64()));
            }
            (Outcome::Rejected(rejected), ..) => {
                note_rejected(&rejected, notes);
                left_out.extend(valid.useless_without(rejected.iter().map(|rejected| &rejected.path)));
            }
        }
    }
}

fn note_rejected(rejected: &[Rejected], notes: &mut Vec<Note>) {
    for Rejected { path, why } in rejected {
        notes.push(Note::warn(Code::PathCorrupt, format!("{path} and its referrers are not cached. {why}")));
    }
}

/// Packs once, with blocks of the `older` layers of the snapshot. Returns the result, the recipe if the layer is to be stored as one, and digests and file of the bytes to store.
async fn pack_once(
    context: &Context,
    valid: &Paths,
    (snapshot, older): (&Snapshot, &[PathBuf]),
    (paths, block_size): (&BTreeSet<StorePath>, usize),
) -> Result<(Outcome, Option<Recipe>, Digests, tempfile::NamedTempFile), SaveError> {
    let total = paths.iter().map(|path| valid[path].nar_size).sum();
    let progress = Progress::start("packing", total);
    let items: Vec<Item> =
        paths.iter().map(|path| Item { path: path.clone(), nar_hash: valid[path].nar_hash }).collect();
    let (store, folder) = (context.place.dirs.real_store(), work_folder(context, total / LIKELY_RATIO)?);
    let (options, counter) = (
        Options { level: context.packing.level, threads: context.packing.threads, block_size },
        progress.bytes.clone(),
    );
    let known = known_blocks(&context.place.dirs, snapshot);
    // What the job reads first is together at the beginning of the layer.
    let trace = snapshot.lanes.get(&context.identity.lane).map(|lane| lane.trace.clone()).unwrap_or_default();
    let sizes: BTreeMap<Sha, u64> = snapshot.stored.iter().map(|(id, stored)| (*id, stored.digests.size)).collect();
    let older: Vec<PathBuf> = if known.is_empty() { Vec::new() } else { older.to_vec() };
    let work = tokio::task::spawn_blocking(move || {
        let ranks = trace.ranks(items.iter().map(|item| &item.path));
        let rank = |path: &StorePath| ranks.get(path).copied();
        let names: BTreeSet<&str> = items.iter().map(|item| stem(item.path.name())).collect();
        let layers = older.iter().filter_map(|file| File::open(file).ok()).collect();
        let older = Older::of(layers, &names, &known, (2 * total, options.threads));
        let pack = |older: &Older| -> std::io::Result<_> {
            let file = packing_file(&folder)?;
            let outcome = pack::pack_with(&store, &items, (&rank, older), file.as_file(), options, &counter)?;
            Ok((file, outcome))
        };
        let packed = match pack(&older) {
            Err(error) if !older.is_empty() => {
                tracing::debug!("packed again without blocks of older layers: {error}");
                pack(&Older::default())
            }
            packed => packed,
        };
        let (file, outcome) = packed?;
        let Outcome::Packed(packed) = &outcome else {
            return Ok((outcome, None, Digests { size: 0, chunks: Vec::new() }, file));
        };
        let new = packing_file(&folder)?;
        if let Some((recipe, digests)) = recipe::split(file.as_file(), &packed.blocks, &known, new.as_file())? {
            let own = digests.id();
            // Readers refuse a recipe that repeats the same bytes too often.
            if recipe.fits(|id| if *id == own { Some(digests.size) } else { sizes.get(id).copied() }) {
                return Ok((outcome, Some(recipe), digests, new));
            }
        }
        let digests = packed.digests.clone();
        Ok::<_, std::io::Error>((outcome, None, digests, file))
    });
    Ok(work.await??)
}

/// Stores a layer, the one with this `number` in this save. Returns it with the bytes that were sent; None if they were there.
async fn store(
    context: &Context,
    Ready { packed, recipe, digests, file, paths }: Ready,
    lost: &BTreeSet<String>,
    number: u64,
) -> Result<(MadeLayer, Option<u64>), RemoteError> {
    let (entry, is_new) = if context.place.remote.is_readable() {
        push_layer(&*context.place.remote, &digests, file.path(), lost).await?
    } else {
        (push_first_layer(context, file.path(), number).await?, true)
    };
    let sent = is_new.then_some(digests.size);
    let Packed { digests: layer_digests, nar_sizes, tables, .. } = packed;
    let stored = Stored { digests, entry };
    let layer = MadeLayer { digests: layer_digests, recipe, tables, stored, paths, nar_sizes };
    Ok((layer, sent))
}

/// Creates a file for a layer that is being packed. It is locked meanwhile, so that it is not removed as a leftover.
fn packing_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let prefix = format!("{PACKING_PREFIX}{}-", std::process::id());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let file = tempfile::Builder::new().prefix(&prefix).permissions(mode).tempfile_in(folder)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared)?;
    Ok(file)
}

/// Returns a folder for a layer of about `needed` bytes: ours beside the store, or the one for temporary files.
///
/// # Errors
/// When neither has enough room.
fn work_folder(context: &Context, needed: u64) -> std::io::Result<PathBuf> {
    let usable = |folder: OwnFolder| tempfile::tempfile_in(folder.path()).map(|_| folder);
    let candidates = [OwnFolder::work(&context.place.dirs).and_then(usable), OwnFolder::at(&context.place.temporary)];
    for folder in candidates.into_iter().flatten() {
        folder.remove_leftovers();
        if disk::ensure(folder.path(), needed).is_ok() {
            return Ok(folder.path().to_owned());
        }
    }
    disk::ensure(&context.place.temporary, needed).map(|()| context.place.temporary.clone())
}

#[cfg(test)]
#[path = "parts_test.rs"]
mod tests;
