//! Downloads layers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use tokio::sync::Semaphore;

use super::Context;
use super::mode::choose;
use super::outcome::{LayerFetch, LayerState};
use super::progress::Progress;
use super::settle::Settling;
use crate::attach::Mode;
use crate::base::digest::Sha;
use crate::base::disk;
use crate::base::note::{Code, Note};
use crate::layer::digest::{CHUNK_SIZE, Digests};
use crate::remote::transfer::{FetchPlan, fetch_file};
use crate::remote::{Entry, Kind, RemoteError};
use crate::snapshot::{Layer, Snapshot, Stored};
use crate::store::StoreDirs;
use crate::store::own::{LAYERS, OwnFolder, work_dir};

/// Stored bytes to download.
pub(super) struct Wanted<'a> {
    pub stored: &'a Stored,
    /// Number of paths that are lost without it.
    pub paths: usize,
}

/// The stored entries of `layers` of `snapshot`.
pub(super) fn wanted_of<'a>(snapshot: &'a Snapshot, layers: impl Iterator<Item = &'a Layer>) -> Vec<Wanted<'a>> {
    let mut paths_of: BTreeMap<Sha, usize> = BTreeMap::new();
    for layer in layers {
        for id in layer.stored() {
            *paths_of.entry(id).or_default() += layer.paths.len();
        }
    }
    let wanted = |(id, paths): (Sha, usize)| Some(Wanted { stored: snapshot.stored.get(&id)?, paths });
    paths_of.into_iter().filter_map(wanted).collect()
}

/// The result of one download: the figures, the file if it succeeded, and notes.
pub(super) struct Fetched {
    pub id: Sha,
    pub fetch: LayerFetch,
    pub file: Option<PathBuf>,
    pub note: Option<Note>,
    /// Why there was no time for it; reported once for all of them.
    pub late: Option<String>,
}

/// Number of chunks in one request: 8 MiB.
const RANGE_CHUNKS: usize = 8;
/// Number of concurrent downloads. More would only share the same bandwidth.
const AT_ONCE: usize = 2;

/// Downloads `wanted` entries into files of our folder, a few at a time.
pub(super) async fn fetch_stored(context: &Context, wanted: Vec<Wanted<'_>>) -> Vec<Fetched> {
    let at_once = AT_ONCE.min(wanted.len()).max(1);
    // 8 MiB each, over all entries, which bounds the memory in use.
    let slots = &Arc::new(Semaphore::new(context.place.remote.parallel_reads()));
    // Lookups only take a quarter of a second each, so all of them run at once.
    let looked_up = futures_util::future::join_all(wanted.iter().map(|wanted| look_up(context, wanted))).await;
    let fetches = looked_up.into_iter().map(|found| async move {
        match found {
            Ok((entry, stored)) => fetch_entry(context, &entry, stored, slots).await,
            Err(lost) => *lost,
        }
    });
    futures_util::stream::iter(fetches).buffered(at_once).collect().await
}

fn fetched(stored: &Stored, seconds: f64, state: LayerState, file: Option<PathBuf>, note: Option<Note>) -> Fetched {
    let id = stored.digests.id();
    let fetch = LayerFetch { id: id.to_string(), bytes: stored.digests.size, seconds, state, bad_chunks: Vec::new() };
    Fetched { id, fetch, file, note, late: None }
}

fn late(stored: &Stored, seconds: f64, why: String) -> Fetched {
    Fetched { late: Some(why), ..fetched(stored, seconds, LayerState::Failed, None, None) }
}

/// The entry, or the result if there is none.
pub(super) async fn look_up<'a>(context: &Context, wanted: &Wanted<'a>) -> Result<(Entry, &'a Stored), Box<Fetched>> {
    let Wanted { stored, paths } = wanted;
    let name = &stored.entry;
    let (state, note) = match context.place.remote.find(Kind::Layer, std::slice::from_ref(name)).await {
        Ok(Some(entry)) if entry.name == *name => return Ok((entry, stored)),
        Ok(_) => {
            let message = format!(
                "Layer {name} with {} is no longer in the cache; its paths are built or fetched again.",
                crate::base::human::count(*paths as u64, "path")
            );
            (LayerState::Missing, Note::warn(Code::LayerMissing, message))
        }
        Err(RemoteError::OutOfTime(why) | RemoteError::StillOutOfTime(why)) => {
            return Err(Box::new(late(stored, 0.0, why)));
        }
        Err(error) => {
            (LayerState::Failed, Note::warn(Code::LayerFailed, format!("Layer {name} could not be looked up: {error}")))
        }
    };
    Err(Box::new(fetched(stored, 0.0, state, None, Some(note))))
}

async fn fetch_entry(context: &Context, entry: &Entry, stored: &Stored, slots: &Arc<Semaphore>) -> Fetched {
    let start = Instant::now();
    let id = stored.digests.id();
    let path = folder(&context.place.dirs).join(id.to_string());
    let done = fetch_into(context, entry, &stored.digests, &path, slots).await;
    let seconds = start.elapsed().as_secs_f64();
    let mut bad_chunks = Vec::new();
    let (state, note) = match done {
        Ok(bad) if bad.is_empty() => (LayerState::Fetched, None),
        Ok(bad) => {
            let message = format!(
                "Layer {id} is not used by this job: {} of its {} chunks do not match their digests. The next save reads them \
                 again, and replaces the layer if they are still wrong.",
                bad.len(),
                stored.digests.chunks.len()
            );
            bad_chunks = bad;
            (LayerState::Damaged, Some(Note::warn(Code::LayerDamaged, message)))
        }
        Err(RemoteError::OutOfTime(why) | RemoteError::StillOutOfTime(why)) => return late(stored, seconds, why),
        Err(error) => {
            let state = match &error {
                RemoteError::Gone(_) => LayerState::Missing,
                RemoteError::Short(_) => {
                    bad_chunks.extend(stored.digests.chunks.len().checked_sub(1));
                    LayerState::Damaged
                }
                _ => LayerState::Failed,
            };
            (state, Some(Note::warn(Code::LayerFailed, format!("Layer {id} could not be fetched: {error}"))))
        }
    };
    let file = (state == LayerState::Fetched).then_some(path);
    let mut fetched = fetched(stored, seconds, state, file, note);
    fetched.fetch.bad_chunks = bad_chunks;
    fetched
}

/// Downloads an entry to `path` and returns the numbers of the wrong chunks; if there are any, the file is removed.
async fn fetch_into(
    context: &Context,
    entry: &Entry,
    digests: &Digests,
    path: &Path,
    slots: &Arc<Semaphore>,
) -> Result<Vec<usize>, RemoteError> {
    let local = |error: std::io::Error| RemoteError::Local(format!("Cannot write {}: {error}.", path.display()));
    let file = create_layer(&context.place.dirs, path).map_err(local)?;
    let progress = Progress::start("fetching a layer", digests.size);
    let plan = FetchPlan {
        size: digests.size,
        chunk_size: CHUNK_SIZE,
        digests: digests.chunks.iter().map(|chunk| chunk.0).collect(),
        slots: Arc::clone(slots),
        range_chunks: RANGE_CHUNKS,
        progress: Arc::clone(&progress.bytes),
    };
    let settling = (choose(context.place.mode, &context.place.dirs).0 != Mode::Unpack)
        .then(|| Settling::start(&file, &progress.bytes));
    // Other processes write to the same disk meanwhile.
    let outcome = tokio::select! {
        outcome = fetch_file(&*context.place.remote, entry, &plan, &file) => outcome,
        () = disk::filled(path) => Err(local(disk::no_room(path, digests.size))),
    };
    drop(settling);
    let bad = outcome.map(|outcome| outcome.bad_chunks);
    if !matches!(&bad, Ok(bad) if bad.is_empty()) {
        // Its content is useless; a failure only leaves a file that the next restore truncates.
        let _ = fs::remove_file(path);
    }
    bad
}

/// The folder of layers while they are attached.
pub(super) fn folder(dirs: &StoreDirs) -> PathBuf {
    work_dir(dirs).join(LAYERS)
}

/// A new file at a path in the folder of layers.
pub(super) fn create_layer(dirs: &StoreDirs, path: &Path) -> std::io::Result<File> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    OwnFolder::work(dirs)?.folder(LAYERS)?.create_private(name)
}

/// Removes leftovers of killed restores and saves. The caller holds our lock. Mounted layers have been moved elsewhere by then.
pub(super) fn remove_leftovers(dirs: &StoreDirs) {
    let removed = OwnFolder::work(dirs).and_then(|folder| {
        folder.remove_leftovers();
        folder.remove(LAYERS)
    });
    if let Err(error) = removed {
        tracing::debug!("cannot remove layers of an earlier restore: {error}");
    }
}
