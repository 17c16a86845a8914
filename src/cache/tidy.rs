//! Keeps the number of layers small if no job has all of their paths.
//!
//! Jobs that save at the same time each add a layer, and none of them has the paths of the others. The job that wrote the last
//! generation of a round therefore joins the small layers:
//!
//! 1. layers whose paths are in this store are repacked from the store;
//! 2. small layers of other jobs are downloaded, unpacked beside the store, verified and packed into one layer.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::Context;
use super::coarse::Kinds;
use super::commit::{Pushed, push_snapshot};
use super::fetch::folder;
use super::layers::{fetch_layers, known_usage};
use super::outcome::{Phase, SaveOutcome};
use super::parts::{MadeLayer, Part, make_layers, parts};
use super::repack::{MAX_LAYERS, Turn, layers_to_fetch, layers_to_repack, users};
use super::save_error::SaveError;
use super::used::finish_snapshot;
use crate::attach::unpack::{Target, unpack};
use crate::base::clock::now;
use crate::base::digest::Sha;
use crate::layer::squashfs::Image;
use crate::remote::Kind;
use crate::series::{self, Clock, SystemClock, generation_prefix};
use crate::snapshot::Snapshot;
use crate::store::tree::remove_tree;
use crate::store::{PathInfo, Paths, StoreDirs, StorePath};

/// The state of a save.
pub(super) struct Work<'a> {
    pub context: &'a Context,
    /// All valid paths.
    pub valid: &'a Paths,
    /// The paths that this job's lane uses.
    pub lane: &'a BTreeSet<StorePath>,
    /// Names of entries whose bytes are lost.
    pub lost: &'a BTreeSet<String>,
    pub outcome: &'a mut SaveOutcome,
    pub pushed: &'a mut Pushed,
}

/// Joins layers of `snapshot` if there are too many. Returns whether it did.
pub(super) async fn tidy(work: &mut Work<'_>, snapshot: &mut Snapshot) -> Result<bool, SaveError> {
    if snapshot.layers.len() <= MAX_LAYERS || !work.context.place.remote.is_readable() {
        return Ok(false);
    }
    let here = join_here(work, snapshot).await?;
    let elsewhere = join_elsewhere(work, snapshot).await?;
    Ok(here || elsewhere)
}

/// Time after which other concurrent saves are done, plus a random part of it.
const QUIET: Duration = Duration::from_secs(4);

/// Joins layers if a round of saves left too many, unless another job has saved after this one and will do it.
pub(super) async fn tidy_last(work: &mut Work<'_>, mut snapshot: Snapshot, generation: u64) -> Result<(), SaveError> {
    if snapshot.layers.len() <= MAX_LAYERS || !work.context.place.remote.is_readable() {
        return Ok(());
    }
    let random = SystemClock::start().random(QUIET.as_millis() as u64);
    tokio::time::sleep(QUIET + Duration::from_millis(random)).await;
    let prefix = [generation_prefix(&work.context.identity.key)];
    let newest = series::find(&*work.context.place.remote, Kind::Snapshot, &prefix).await?;
    if newest.is_some_and(|newest| newest.series == work.context.identity.key && newest.number > generation) {
        return Ok(());
    }
    if tidy(work, &mut snapshot).await? {
        finish_snapshot(work.context, &mut snapshot, now());
        let (lost, notes) = (work.lost, &mut work.outcome.notes);
        let (saved, _) = push_snapshot(work.context, snapshot, (generation, None), lost, notes, work.pushed).await?;
        tracing::info!("Joined layers: generation {} has {}.", saved.generation, saved.layers);
        work.outcome.saved = Some(saved);
    }
    Ok(())
}

/// Repacks layers whose paths are in this store.
async fn join_here(work: &mut Work<'_>, snapshot: &mut Snapshot) -> Result<bool, SaveError> {
    let (none, none_chosen) = (BTreeSet::new(), BTreeSet::new());
    let users = users(snapshot, (&work.context.identity.lane, work.lane), &none);
    let usage = known_usage(&work.context.place.dirs, snapshot);
    let again = layers_to_repack(snapshot, (0, &users), work.valid, &none_chosen, (Turn::Later, &usage)).all();
    if again.len() < 2 {
        return Ok(false);
    }
    let paths: BTreeSet<StorePath> =
        again.iter().flat_map(|id| &snapshot.layers[id].paths).map(|(path, _)| path.clone()).collect();
    let mut fewer = snapshot.clone();
    fewer.drop_layers(&again);
    let room = MAX_LAYERS.saturating_sub(fewer.layers.len());
    let kinds = Kinds::of(&work.context.place.dirs.real_store(), &paths).await?;
    let used = (&*work.context.identity.lane, work.lane);
    let parts = parts((&paths, &none), &fewer, used, (work.valid, &kinds), room);
    let made = make_layers(work.context, work.valid, &fewer, parts, work.lost, work.pushed, &|| {}).await?;
    work.outcome.phases.extend(made.phases);
    if !made.left_out.is_empty() {
        // A path here is corrupt, so the existing layers are better.
        return Ok(false);
    }
    add(&mut fewer, made.layers, work.valid);
    *snapshot = fewer;
    Ok(true)
}

fn add(snapshot: &mut Snapshot, layers: Vec<MadeLayer>, valid: &Paths) {
    for layer in layers {
        let infos: Vec<PathInfo> = layer.paths.iter().map(|path| valid[path].clone()).collect();
        layer.add_to(snapshot, infos, now());
    }
}

/// Packs layers of other jobs into one.
async fn join_elsewhere(work: &mut Work<'_>, snapshot: &mut Snapshot) -> Result<bool, SaveError> {
    let start = Instant::now();
    let mut chosen = layers_to_fetch(snapshot, work.valid);
    // The downloads of this job's restore may be mounted.
    let places = folder(&work.context.place.dirs);
    chosen.retain(|id| !places.join(id.to_string()).exists() && !places.join(format!("{id}.made")).exists());
    if chosen.len() < 2 {
        return Ok(false);
    }
    let own = work.context.place.dirs.own_dir();
    let folder = tempfile::Builder::new().prefix(JOIN_PREFIX).tempdir_in(&own);
    let folder =
        folder.or_else(|_| tempfile::Builder::new().prefix(JOIN_PREFIX).tempdir_in(&work.context.place.temporary))?;
    let joined = join(work, snapshot, &chosen, folder.path()).await;
    // Store paths are read-only folders; leftovers are removed with the runner's temporary folder.
    if let Err(error) = remove_tree(folder.path()) {
        tracing::debug!("{} stays behind: {error}", folder.path().display());
    }
    if let Ok(true) = joined {
        let bytes = work.pushed.bytes;
        work.outcome.phases.push(Phase::end("join layers", start, chosen.len() as u64, bytes));
    }
    joined
}

/// Prefix of folders with layers that are being joined.
const JOIN_PREFIX: &str = "join-";

async fn join(
    work: &mut Work<'_>,
    snapshot: &mut Snapshot,
    chosen: &BTreeSet<Sha>,
    root: &Path,
) -> Result<bool, SaveError> {
    let dirs = StoreDirs::new(Some(root));
    let mut context = work.context.clone();
    context.place.dirs = dirs.clone();
    fs::create_dir_all(dirs.real_store())?;
    // Layers are downloaded into our folder, which is created there.
    fs::create_dir_all(dirs.own_dir())?;
    let ready = fetch_layers(&context, snapshot, chosen).await?;
    if ready.files.len() < chosen.len() {
        tracing::info!("Layers are not joined, because not all of them can be downloaded.");
        return Ok(false);
    }
    let infos: Paths = chosen
        .iter()
        .flat_map(|id| &snapshot.layers[id].paths)
        .filter_map(|key| snapshot.paths.get(key))
        .map(|record| (record.info.path.clone(), record.info.clone()))
        .collect();
    let wanted = chosen.iter().map(|id| {
        let infos =
            snapshot.layers[id].paths.iter().filter(|key| infos.get(&key.0).is_some_and(|i| i.nar_hash == key.1));
        (ready.files[id].clone(), infos.map(|key| infos_of(snapshot, key)).collect())
    });
    let wanted: Vec<(PathBuf, Vec<PathInfo>)> = wanted.collect();
    let count: usize = snapshot.layers.iter().filter(|(id, _)| chosen.contains(id)).map(|(_, l)| l.paths.len()).sum();
    let unique = infos.len();
    let (store, threads) = (dirs.real_store(), context.packing.threads);
    let placed = tokio::task::spawn_blocking(move || unpack_all(&wanted, &store, threads)).await??;
    // Two versions of one path cannot both be unpacked; everything else is checked against its hash.
    if placed < unique || count > unique {
        tracing::info!("Layers of other jobs are not joined, because only {placed} of their {count} paths are intact.");
        return Ok(false);
    }
    let mut fewer = snapshot.clone();
    fewer.drop_layers(chosen);
    let paths = infos.keys().cloned().collect();
    let kinds = Kinds::of(&dirs.real_store(), &paths).await?;
    // One layer, as it is counted by those who chose them.
    let parts = vec![Part { block_size: kinds.block_size(&paths), paths }];
    let made = make_layers(&context, &infos, &fewer, parts, work.lost, work.pushed, &|| {}).await?;
    if !made.left_out.is_empty() {
        return Ok(false);
    }
    add(&mut fewer, made.layers, &infos);
    *snapshot = fewer;
    Ok(true)
}

fn infos_of(snapshot: &Snapshot, key: &crate::snapshot::PathKey) -> PathInfo {
    snapshot.paths[key].info.clone()
}

/// Unpacks paths of layers into the directory `store`; returns how many are intact.
fn unpack_all(layers: &[(PathBuf, Vec<PathInfo>)], store: &Path, threads: usize) -> Result<usize, SaveError> {
    let progress = AtomicU64::new(0);
    let target = Target { store, owner: None, is_valid: &|_| false, threads, progress: &progress, deadline: None };
    let mut placed = 0;
    for (file, infos) in layers {
        let image = Image::open(File::open(file)?).map_err(std::io::Error::other)?;
        let wanted: Vec<&PathInfo> = infos.iter().collect();
        placed += unpack(&image, &wanted, &target).map_err(std::io::Error::other)?.placed.len();
    }
    Ok(placed)
}
