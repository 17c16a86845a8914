//! From stored bytes to layers that can be attached: downloads the entries of layers, assembles layers that are stored as recipes,
//! and records their indexes for a save.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Context;
use super::fetch::{Fetched, create_layer, fetch_stored, folder, wanted_of};
use super::outcome::{LayerFetch, LayerState};
use crate::base::bounds::read_file;
use crate::base::digest::Sha;
use crate::base::disk;
use crate::base::note::{Code, Note};
use crate::layer::index::{MAX_KEPT, decode_kept, keep};
use crate::layer::recipe::{KnownBlocks, Recipe, assemble};
use crate::layer::squashfs::usage::{MAX_USAGE, Usage};
use crate::snapshot::{Layer, Snapshot};
use crate::store::StoreDirs;
use crate::store::own::{INDEXES, OwnFolder, work_dir};

/// The result of downloading layers.
#[derive(Default)]
pub(super) struct Ready {
    /// The files of the layers that can be attached.
    pub files: BTreeMap<Sha, PathBuf>,
    /// The downloaded entries.
    pub fetches: Vec<LayerFetch>,
    pub notes: Vec<Note>,
    /// Stored bytes that were downloaded correctly.
    pub bytes: u64,
}

/// Downloads the stored bytes of the layers `ids` of `snapshot`, and assembles the layers.
pub(super) async fn fetch_layers(context: &Context, snapshot: &Snapshot, ids: &BTreeSet<Sha>) -> io::Result<Ready> {
    let layers: BTreeMap<Sha, Layer> = ids.iter().map(|id| (*id, snapshot.layers[id].clone())).collect();
    let wanted = wanted_of(snapshot, layers.values());
    let mut ready = Ready::default();
    let mut files: BTreeMap<Sha, PathBuf> = BTreeMap::new();
    let mut late = Vec::new();
    for Fetched { id, fetch, file, note, late: why } in fetch_stored(context, wanted).await {
        late.extend(why);
        if let Some(file) = file {
            ready.bytes += fetch.bytes;
            files.insert(id, file);
        }
        ready.fetches.push(fetch);
        ready.notes.extend(note);
    }
    if let Some(why) = late.first() {
        let message = format!(
            "{} of {} entries were not downloaded in time, and their paths are missing. {why} Increase `restore-timeout` if this \
             happens often.",
            late.len(),
            ready.fetches.len()
        );
        ready.notes.push(Note::warn(Code::RestoreTimeout, message));
    }
    let dirs = context.place.dirs.clone();
    tokio::task::spawn_blocking(move || {
        make_all(&dirs, &layers, &files, &mut ready);
        ready
    })
    .await
    .map_err(io::Error::other)
}

/// Assembles the layers whose stored bytes are complete.
fn make_all(dirs: &StoreDirs, layers: &BTreeMap<Sha, Layer>, files: &BTreeMap<Sha, PathBuf>, ready: &mut Ready) {
    for (id, layer) in layers {
        let made = match &layer.recipe {
            None => files.get(id).cloned(),
            Some(recipe) => make(dirs, (id, layer), recipe, files, ready),
        };
        if let Some(file) = made {
            ready.files.insert(*id, file);
        }
    }
    for file in files.values().filter(|file| !ready.files.values().any(|made| made == *file)) {
        // It is no longer needed; if it cannot be removed, it takes space until the next restore.
        let _ = fs::remove_file(file);
    }
    for (id, file) in &ready.files {
        keep_index(dirs, id, file);
    }
}

/// Assembles one layer.
fn make(
    dirs: &StoreDirs,
    (id, layer): (&Sha, &Layer),
    recipe: &Recipe,
    files: &BTreeMap<Sha, PathBuf>,
    ready: &mut Ready,
) -> Option<PathBuf> {
    if !recipe.stored().iter().all(|id| files.contains_key(id)) {
        return None;
    }
    let path = folder(dirs).join(format!("{id}.made"));
    let made = disk::ensure(&folder(dirs), layer.digests.size)
        .and_then(|()| create_layer(dirs, &path))
        .and_then(|out| assemble(recipe, &mut |id| File::open(&files[&id]), &out));
    let why = match made {
        Ok(digests) if digests == layer.digests => return Some(path),
        Ok(_) => {
            // The stored bytes are correct, so the recipe itself is wrong.
            let own = layer.own_stored().to_string();
            for fetch in ready.fetches.iter_mut().filter(|fetch| fetch.id == own) {
                fetch.state = LayerState::Damaged;
            }
            "its recipe yields wrong bytes. The next save replaces it".to_owned()
        }
        Err(error) => error.to_string(),
    };
    ready.notes.push(Note::warn(Code::LayerFailed, format!("Layer {id} could not be assembled: {why}.")));
    let _ = fs::remove_file(&path);
    None
}

fn index_folder(dirs: &StoreDirs) -> PathBuf {
    work_dir(dirs).join(INDEXES)
}

/// Records the index of a layer for the save, which otherwise stores whole layers instead of recipes.
pub(super) fn keep_index(dirs: &StoreDirs, id: &Sha, file: &Path) {
    let kept = (|| {
        let folder = OwnFolder::work(dirs)?.folder(INDEXES)?;
        let kept = folder.create(&id.to_string()).and_then(|mut out| keep(&File::open(file)?, &mut out));
        kept.inspect_err(|_| drop(folder.remove(&id.to_string())))
    })();
    if let Err(error) = kept {
        tracing::debug!("cannot store the index of layer {id}: {error}");
    }
}

/// Records which bytes of layers belong to which path for the save, which otherwise decides by NAR sizes which layers to repack.
pub(super) fn keep_usage(dirs: &StoreDirs, usage: &BTreeMap<Sha, Usage>) {
    for (id, usage) in usage {
        let name = usage_name(id);
        let kept = OwnFolder::work(dirs).and_then(|folder| folder.folder(INDEXES)).and_then(|folder| {
            let kept = folder.create(&name).and_then(|mut out| out.write_all(&usage.encode()));
            kept.inspect_err(|_| drop(folder.remove(&name)))
        });
        if let Err(error) = kept {
            tracing::debug!("cannot store the usage of layer {id}: {error}");
        }
    }
}

fn usage_name(id: &Sha) -> String {
    format!("{id}.usage")
}

/// Reads which bytes of the layers of `snapshot` belong to which path, as far as the restore has recorded it.
pub(super) fn known_usage(dirs: &StoreDirs, snapshot: &Snapshot) -> BTreeMap<Sha, Usage> {
    snapshot.layers.keys().filter_map(|id| Some((*id, usage_of(dirs, id)?))).collect()
}

/// The same for one layer.
pub(super) fn usage_of(dirs: &StoreDirs, id: &Sha) -> Option<Usage> {
    Usage::decode(&read_file(&index_folder(dirs).join(usage_name(id)), MAX_USAGE).ok()?)
}

/// Removes the indexes of an earlier restore.
pub(super) fn forget_indexes(dirs: &StoreDirs) {
    if let Err(error) = OwnFolder::work(dirs).and_then(|folder| folder.remove(INDEXES)) {
        tracing::debug!("cannot remove indexes of an earlier restore: {error}");
    }
}

/// Reads the blocks of the layers of `snapshot`, as far as the restore has recorded their indexes.
pub(super) fn known_blocks(dirs: &StoreDirs, snapshot: &Snapshot) -> KnownBlocks {
    let mut known = KnownBlocks::default();
    for (id, layer) in &snapshot.layers {
        let kept = read_file(&index_folder(dirs).join(id.to_string()), MAX_KEPT).ok();
        if let Some(blocks) = kept.and_then(|bytes| decode_kept(&bytes)) {
            known.add(*id, &blocks, layer.recipe.as_ref());
        }
    }
    known
}
