//! Which paths go into one layer together, and packing and storing those layers: while one is sent, the next one is packed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Context;
use super::commit::{Pushed, push_first_layer, push_layer};
use super::layers::known_blocks;
use super::outcome::Phase;
use super::progress::Progress;
use super::save_error::SaveError;
use crate::base::digest::Sha;
use crate::base::disk;
use crate::base::note::{Code, Note};
use crate::layer::digest::Digests;
use crate::layer::pack::{self, Item, Options, Outcome, Packed, Rejected};
use crate::layer::recipe::{self, Recipe};
use crate::remote::RemoteError;
use crate::snapshot::{Snapshot, Stored};
use crate::store::own::{OwnFolder, PACKING_PREFIX};
use crate::store::{Paths, StorePath};

/// Compression makes about a third of store paths.
const LIKELY_RATIO: u64 = 3;
/// Paths that other lanes use than those around them get a layer of their own from so many bytes of NARs on.
const LEAST: u64 = 64 << 20;
/// More than so many bytes of NARs are split, so that sending begins before everything is packed.
const MOST: u64 = 1 << 30;

/// Splits `paths` into at most `room` layers: what the same lanes use lies together, but for those in `apart`. `lane` uses all of
/// `used`; what others use is in the snapshot.
pub(super) fn parts(
    (paths, apart): (&BTreeSet<StorePath>, &BTreeSet<StorePath>),
    snapshot: &Snapshot,
    (lane, used): (&str, &BTreeSet<StorePath>),
    valid: &Paths,
    room: usize,
) -> Vec<BTreeSet<StorePath>> {
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
    // The smallest first: it joins the next one until all are large enough, and few enough.
    while groups.len() > 1 && (groups[0].0 < LEAST || groups.len() > room.max(1)) {
        let (bytes, paths) = groups.remove(0);
        groups[0].0 += bytes;
        groups[0].1.extend(paths);
        groups.sort();
    }
    let mut room = room.saturating_sub(groups.len());
    let mut parts = Vec::new();
    for (bytes, paths) in groups.into_iter().rev() {
        let pieces = (bytes.div_ceil(MOST).max(1) as usize).min(1 + room);
        room -= pieces - 1;
        parts.extend(split(paths, bytes / pieces as u64, pieces, valid));
    }
    parts
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

/// Layers that are stored.
#[derive(Default)]
pub(super) struct Made {
    pub layers: Vec<MadeLayer>,
    /// What was not packed, and all that is of no use without it.
    pub left_out: BTreeSet<StorePath>,
    pub phases: Vec<Phase>,
    pub notes: Vec<Note>,
}

/// One of them.
pub(super) struct MadeLayer {
    pub digests: Digests,
    pub recipe: Option<Recipe>,
    pub stored: Stored,
    pub paths: BTreeSet<StorePath>,
    /// The sizes of their NARs, as they were read.
    pub nar_sizes: BTreeMap<StorePath, u64>,
}

/// A layer that is packed and not stored yet.
struct Ready {
    packed: Packed,
    recipe: Option<Recipe>,
    digests: Digests,
    file: tempfile::NamedTempFile,
    paths: BTreeSet<StorePath>,
}

/// Packs each of `parts` and stores it, less what is corrupt and what refers to it; as a recipe where older layers of `snapshot` have
/// most of it. `lost` are entries not to be taken for stored.
///
/// # Errors
/// When a layer cannot be written or stored. What `pushed` counts is stored all the same.
pub(super) async fn make_layers(
    context: &Context,
    valid: &Paths,
    snapshot: &Snapshot,
    parts: Vec<BTreeSet<StorePath>>,
    lost: &BTreeSet<String>,
    pushed: &mut Pushed,
) -> Result<Made, SaveError> {
    let mut made = Made::default();
    let (mut packing, mut sending) = (0.0, 0.0);
    let (mut count, mut bytes) = (0, 0);
    let mut waiting: Option<Ready> = None;
    for part in parts.into_iter().map(Some).chain([None]) {
        let left_out = std::mem::take(&mut made.left_out);
        let pack = pack_part(context, valid, snapshot, part, left_out, &mut made.notes);
        let ((ready, left_out, seconds), sent) = {
            let (packed, sent) = tokio::join!(pack, store(context, waiting.take(), lost, pushed));
            (packed?, sent)
        };
        made.left_out = left_out;
        packing += seconds;
        if let Some((layer, seconds)) = sent? {
            sending += seconds;
            made.layers.push(layer);
        }
        if let Some(ready) = &ready {
            count += ready.paths.len() as u64;
            bytes += ready.packed.bytes;
        }
        waiting = ready;
    }
    if count > 0 {
        made.phases.push(Phase::measured("pack", packing, count, bytes));
        made.phases.push(Phase::measured("upload", sending, made.layers.len() as u64, pushed.bytes));
    }
    for layer in &mut made.layers {
        // An earlier part may hold what refers to something that turned out to be corrupt in a later one.
        layer.paths.retain(|path| !made.left_out.contains(path));
    }
    made.layers.retain(|layer| !layer.paths.is_empty());
    Ok(made)
}

/// What packing a part came to: the layer, if anything of it is left; all that is left out by now; the seconds it took.
type PackedPart = (Option<Ready>, BTreeSet<StorePath>, f64);

async fn pack_part(
    context: &Context,
    valid: &Paths,
    snapshot: &Snapshot,
    part: Option<BTreeSet<StorePath>>,
    mut left_out: BTreeSet<StorePath>,
    notes: &mut Vec<Note>,
) -> Result<PackedPart, SaveError> {
    let start = Instant::now();
    let mut paths = part.unwrap_or_default();
    loop {
        paths.retain(|path| !left_out.contains(path));
        if paths.is_empty() {
            return Ok((None, left_out, start.elapsed().as_secs_f64()));
        }
        match pack_once(context, valid, snapshot, &paths).await? {
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
        notes.push(Note::warn(Code::PathCorrupt, format!("{path} is not cached, nor what refers to it. {why}")));
    }
}

/// Packs once. Gives, with what came of it, the recipe, if it is to be stored as one, and digests and file of what is to be stored.
async fn pack_once(
    context: &Context,
    valid: &Paths,
    snapshot: &Snapshot,
    paths: &BTreeSet<StorePath>,
) -> Result<(Outcome, Option<Recipe>, Digests, tempfile::NamedTempFile), SaveError> {
    let total = paths.iter().map(|path| valid[path].nar_size).sum();
    let progress = Progress::start("packing", total);
    let items: Vec<Item> =
        paths.iter().map(|path| Item { path: path.clone(), nar_hash: valid[path].nar_hash }).collect();
    let (store, folder) = (context.place.dirs.real_store(), work_folder(context, total / LIKELY_RATIO)?);
    let (options, counter) =
        (Options { level: context.packing.level, threads: context.packing.threads }, progress.bytes.clone());
    let known = known_blocks(&context.place.dirs, snapshot);
    let sizes: BTreeMap<Sha, u64> = snapshot.stored.iter().map(|(id, stored)| (*id, stored.digests.size)).collect();
    let work = tokio::task::spawn_blocking(move || {
        let file = packing_file(&folder)?;
        let outcome = pack::pack(&store, &items, file.as_file(), options, &counter)?;
        let Outcome::Packed(packed) = &outcome else {
            return Ok((outcome, None, Digests { size: 0, chunks: Vec::new() }, file));
        };
        let new = packing_file(&folder)?;
        if let Some((recipe, digests)) = recipe::split(file.as_file(), &packed.blocks, &known, new.as_file())? {
            let own = digests.id();
            // One that takes the same bytes over and over is not read by anybody.
            if recipe.fits(|id| if *id == own { Some(digests.size) } else { sizes.get(id).copied() }) {
                return Ok((outcome, Some(recipe), digests, new));
            }
        }
        let digests = packed.digests.clone();
        Ok::<_, std::io::Error>((outcome, None, digests, file))
    });
    Ok(work.await??)
}

/// Stores a layer, if there is one. Gives it with the seconds that took.
async fn store(
    context: &Context,
    ready: Option<Ready>,
    lost: &BTreeSet<String>,
    pushed: &mut Pushed,
) -> Result<Option<(MadeLayer, f64)>, RemoteError> {
    let Some(Ready { packed, recipe, digests, file, paths }) = ready else { return Ok(None) };
    let start = Instant::now();
    let entry = if context.place.remote.is_readable() {
        push_layer(&*context.place.remote, &digests, file.path(), lost, pushed).await?
    } else {
        push_first_layer(context, &digests, file.path(), pushed).await?
    };
    let Packed { digests: layer_digests, nar_sizes, .. } = packed;
    let layer = MadeLayer { digests: layer_digests, recipe, stored: Stored { digests, entry }, paths, nar_sizes };
    Ok(Some((layer, start.elapsed().as_secs_f64())))
}

/// A new file for a layer that is being packed. It is locked as long as it is: whoever removes leftovers sees that it is none.
fn packing_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let prefix = format!("{PACKING_PREFIX}{}-", std::process::id());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let file = tempfile::Builder::new().prefix(&prefix).permissions(mode).tempfile_in(folder)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared)?;
    Ok(file)
}

/// A folder for a layer of about `needed` bytes: our own one beside the store, or that for temporary files.
///
/// # Errors
/// When neither has the room.
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
