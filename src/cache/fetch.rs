//! Finding the snapshot that fits, and fetching layers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use tokio::sync::Semaphore;

use super::Context;
use super::mode::{Mode, choose};
use super::outcome::{LayerFetch, LayerState, Note};
use super::progress::Progress;
use super::settle::Settling;
use crate::layer::digest::{CHUNK_SIZE, Digests, Sha};
use crate::layer::mount::Places;
use crate::layer::unpack::remove_tree;
use crate::remote::transfer::{FetchPlan, fetch_file};
use crate::remote::{Entry, Kind, Remote, RemoteError};
use crate::sign::Keyring;
use crate::snapshot::{self, Snapshot, SnapshotError, Stored, generation_name, generation_prefix, parse_generation};
use crate::store::StoreDirs;

/// A snapshot is read whole into memory; one larger than this is refused.
const MAX_SNAPSHOT: u64 = 64 << 20;
/// So many generations are tried, from the newest back, before a key counts as a miss.
const GENERATIONS_TRIED: u64 = 4;

/// A snapshot that was found and read.
pub struct SnapshotFound {
    /// What it holds.
    pub snapshot: Snapshot,
    /// Its key, escaped.
    pub key: String,
    /// Its generation.
    pub generation: u64,
    /// Bytes fetched for it.
    pub bytes: u64,
    /// The name of the trusted key that signed it; None where no signature was asked for.
    pub signed_by: Option<String>,
}

/// What a search for a snapshot came to.
#[derive(Default)]
pub struct Search {
    /// The snapshot, if there is one that can be used.
    pub found: Option<SnapshotFound>,
    /// Key and number of the newest generation that is there, whether or not it can be used.
    pub newest: Option<(String, u64)>,
}

/// The newest usable snapshot of the first of `keys` (prefixes of names of generations) for which there is one. Damaged
/// generations, and those that `keys` does not trust, are passed over, with a note.
///
/// # Errors
/// When the remote cannot be asked, or what is there was written by a newer program.
pub async fn find_snapshot(
    remote: &dyn Remote,
    names: &[String],
    keys: &Keyring,
    notes: &mut Vec<Note>,
) -> Result<Search, RemoteError> {
    let Some(entry) = remote.find(Kind::Snapshot, names).await? else { return Ok(Search::default()) };
    let Some((key, newest)) = parse_generation(&entry.name).map(|(key, number)| (key.to_owned(), number)) else {
        tracing::debug!("{} is no generation of a snapshot", entry.name);
        return Ok(Search::default());
    };
    let mut search = Search { found: None, newest: Some((key.clone(), newest)) };
    let mut entry = Some(entry);
    for generation in (1..=newest).rev().take(GENERATIONS_TRIED as usize) {
        let name = generation_name(&key, generation);
        let found = match entry.take() {
            Some(entry) => Some(entry),
            None => remote.find(Kind::Snapshot, std::slice::from_ref(&name)).await?.filter(|entry| entry.name == name),
        };
        let Some(found) = found else { continue };
        match read_snapshot(remote, &found, keys).await {
            Ok((snapshot, signed_by, bytes)) => {
                search.found = Some(SnapshotFound { snapshot, key, generation, bytes, signed_by });
                break;
            }
            Err(why) => note_unusable(&format!("Generation {generation} of {key}: {why}"), &why, notes),
        }
    }
    Ok(search)
}

/// Why a generation cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("{0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Before keys are introduced nothing is signed: one note says so for all generations.
fn note_unusable(message: &str, why: &Unusable, notes: &mut Vec<Note>) {
    match why {
        Unusable::Snapshot(SnapshotError::Untrusted(_)) if notes.iter().any(|note| note.code == UNTRUSTED) => {
            tracing::info!("{message}");
        }
        Unusable::Snapshot(SnapshotError::Untrusted(_)) => notes.push(Note::warn(UNTRUSTED, message)),
        _ => notes.push(Note::warn("snapshot-unreadable", message)),
    }
}

const UNTRUSTED: &str = "snapshot-untrusted";

async fn read_snapshot(
    remote: &dyn Remote,
    entry: &Entry,
    keys: &Keyring,
) -> Result<(Snapshot, Option<String>, u64), Unusable> {
    let bytes = read_whole(remote, entry).await?;
    let size = bytes.len() as u64;
    let (name, keys) = (entry.name.clone(), keys.clone());
    let decode = move || snapshot::decode_signed(&bytes, &name, &keys);
    let (snapshot, signed_by) = tokio::task::spawn_blocking(decode).await??;
    Ok((snapshot, signed_by, size))
}

async fn read_whole(remote: &dyn Remote, entry: &Entry) -> Result<Vec<u8>, RemoteError> {
    let mut stream = remote.stream(entry).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() as u64 > MAX_SNAPSHOT {
            return Err(RemoteError::Gone(format!("{} is larger than any snapshot.", entry.name)));
        }
    }
    Ok(bytes)
}

/// The names under which to look for a snapshot: the generations of the primary key first, then the restore prefixes.
pub(super) fn snapshot_names(context: &Context) -> Vec<String> {
    std::iter::once(generation_prefix(&context.key)).chain(context.prefixes.iter().cloned()).collect()
}

/// Stored bytes to fetch.
pub(super) struct Wanted<'a> {
    pub stored: &'a Stored,
    /// How many paths are lost without it.
    pub paths: usize,
}

/// What became of one fetch: the figures, the file if it is here now, and what the user should know.
pub(super) struct Fetched {
    pub id: Sha,
    pub fetch: LayerFetch,
    pub file: Option<PathBuf>,
    pub note: Option<Note>,
}

/// Entries that are fetched at the same time. More of them only share the same line.
const AT_ONCE: usize = 2;

/// Fetches what is `wanted` into files of our folder, a few at the same time.
pub(super) async fn fetch_stored(context: &Context, wanted: Vec<Wanted<'_>>) -> Vec<Fetched> {
    let at_once = AT_ONCE.min(wanted.len()).max(1);
    // 8 MiB each, over all entries: this bounds the memory in use.
    let slots = &Arc::new(Semaphore::new(context.remote.parallel_reads()));
    // Lookups take a quarter of a second each and nothing else: all of them at once.
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
    let fetch = LayerFetch { id: id.to_string(), bytes: stored.digests.size, seconds, state };
    Fetched { id, fetch, file, note }
}

/// The entry, or what became of it.
async fn look_up<'a>(context: &Context, wanted: &Wanted<'a>) -> Result<(Entry, &'a Stored), Box<Fetched>> {
    let Wanted { stored, paths } = wanted;
    let name = &stored.entry;
    let (state, note) = match context.remote.find(Kind::Layer, std::slice::from_ref(name)).await {
        Ok(Some(entry)) if entry.name == *name => return Ok((entry, stored)),
        Ok(_) => {
            let message =
                format!("Layer {name} with {paths} paths is no longer in the cache: they are made or fetched anew.");
            (LayerState::Missing, Note::warn("layer-missing", message))
        }
        Err(error) => {
            (LayerState::Failed, Note::warn("layer-failed", format!("Layer {name} could not be looked up: {error}")))
        }
    };
    Err(Box::new(fetched(stored, 0.0, state, None, Some(note))))
}

async fn fetch_entry(context: &Context, entry: &Entry, stored: &Stored, slots: &Arc<Semaphore>) -> Fetched {
    let start = Instant::now();
    let id = stored.digests.id();
    let path = folder(&context.dirs).join(id.to_string());
    let (state, note) = match fetch_into(context, entry, &stored.digests, &path, slots).await {
        Ok(0) => (LayerState::Fetched, None),
        Ok(bad) => {
            let message = format!(
                "{bad} chunks of layer {id} do not match their digests: the layer is damaged and is not used. \
                 The next save replaces it."
            );
            (LayerState::Damaged, Some(Note::warn("layer-damaged", message)))
        }
        Err(error) => {
            let state = if matches!(error, RemoteError::Gone(_)) { LayerState::Damaged } else { LayerState::Failed };
            (state, Some(Note::warn("layer-failed", format!("Layer {id} could not be fetched: {error}"))))
        }
    };
    let file = (state == LayerState::Fetched).then_some(path);
    fetched(stored, start.elapsed().as_secs_f64(), state, file, note)
}

/// Fetches an entry to `path` and gives the number of chunks that are wrong; with any, there is no file.
async fn fetch_into(
    context: &Context,
    entry: &Entry,
    digests: &Digests,
    path: &Path,
    slots: &Arc<Semaphore>,
) -> Result<usize, RemoteError> {
    let local = |error: std::io::Error| RemoteError::Local(format!("Cannot write {}: {error}.", path.display()));
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(local)?;
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(local)?;
    let progress = Progress::start("fetching a layer", digests.size);
    let plan = FetchPlan {
        size: digests.size,
        chunk_size: CHUNK_SIZE,
        digests: digests.chunks.iter().map(|chunk| chunk.0).collect(),
        slots: Arc::clone(slots),
        range_chunks: 2,
        progress: Arc::clone(&progress.bytes),
    };
    let settling = (choose(context.mode).0 == Mode::Mount).then(|| Settling::start(&file, &progress.bytes));
    let outcome = fetch_file(&*context.remote, entry, &plan, &file).await;
    drop(settling);
    let bad = outcome.map(|outcome| outcome.bad_chunks.len());
    if !matches!(bad, Ok(0)) {
        // Whatever it holds is of no use; a failure only leaves a file that the next restore truncates.
        let _ = fs::remove_file(path);
    }
    bad
}

/// Where layers are while they are attached.
pub(super) fn folder(dirs: &StoreDirs) -> PathBuf {
    dirs.own_dir().join("layers")
}

/// Removes layers that a restore left which was killed. The caller holds our lock. What is mounted is in use, and stays.
pub(super) fn remove_leftovers(dirs: &StoreDirs) {
    let places = Places::new(&dirs.real_store(), &dirs.own_dir());
    let is_unused = places.is_mounted().is_ok_and(|mounted| !mounted);
    if let (true, Err(error)) = (is_unused, remove_tree(&folder(dirs))) {
        tracing::debug!("Layers of an earlier restore stay: {error}");
    }
}
