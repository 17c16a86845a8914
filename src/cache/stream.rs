//! Starts to stream layers instead of downloading them: see [`crate::attach::stream`].
//!
//! 1. All entries are looked up at once, which also shows which of them still exist.
//! 2. A privileged step starts the server.
//! 3. The tables of all layers are read through it. If they do not arrive in time, the server ends, and the layers are downloaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::Context;
use super::fetch::{Fetched, Wanted, look_up, wanted_of};
use super::layers::{Ready, fetch_layers, keep_index};
use super::mode::ModeRequest;
use super::outcome::{LayerFetch, LayerState, RestoreOutcome};
use super::room::layer_bytes;
use crate::attach::privileged::{self, Answer, Request};
use crate::attach::stream::{Blob, StreamPlan, StreamRequest, StreamedLayer};
use crate::attach::{CacheError, Mode};
use crate::base::digest::Sha;
use crate::base::human;
use crate::base::note::{Code, Note};
use crate::base::threads::side_by_side;
use crate::layer::digest::CHUNK_SIZE;
use crate::layer::squashfs::{SUPERBLOCK_SIZE, tables_start};
use crate::remote::github::Tuning;
use crate::snapshot::{Layer, Snapshot, Trace};
use crate::store::StoreDirs;

/// Longest time for the tables of all layers.
const FOR_TABLES: Duration = Duration::from_mins(1);
/// The NARs of derivations have about so many times the bytes that they take in a layer.
const DERIVATION_RATIO: u64 = 4;
/// Largest number of bytes of derivations that are asked for in one layer before it is mounted.
const LARGEST_HEAD: u64 = 8 << 20;

/// Starts to stream the layers `ids`, or downloads them if that is wanted or streaming does not work; `mode` says which.
pub(super) async fn fetch(
    context: &Context,
    snapshot: &Snapshot,
    ids: &BTreeSet<Sha>,
    mode: &mut Mode,
    outcome: &mut RestoreOutcome,
) -> Result<Ready, CacheError> {
    if *mode == Mode::Stream && !pays(context, snapshot, ids) {
        *mode = Mode::Mount;
    }
    if *mode == Mode::Stream {
        match stream_layers(context, snapshot, ids).await {
            Ok(ready) => return Ok(ready),
            Err(why) => {
                let message = format!("Layers were downloaded instead of streamed: {}.", why.trim_end_matches('.'));
                outcome.notes.push(Note::info(Code::NotStreamed, message));
                *mode = Mode::Mount;
            }
        }
    }
    fetch_layers(context, snapshot, ids).await.map_err(|error| CacheError::File {
        what: "Cannot create layers in",
        path: context.place.dirs.own_dir(),
        error,
    })
}

/// Returns whether it is worth to stream `ids`, if that is left to us: small layers are here nearly as soon as a stream begins, and a
/// layer that is here cannot be evicted while the job runs.
fn pays(context: &Context, snapshot: &Snapshot, ids: &BTreeSet<Sha>) -> bool {
    if !matches!(context.place.mode, ModeRequest::Auto { .. }) {
        return true;
    }
    let (bytes, least) = (layer_bytes(snapshot, ids.iter()), Tuning::from_env().stream_from);
    let why = if bytes < least {
        format!("{} are less than the {} from which streaming pays", human::bytes(bytes), human::bytes(least))
    } else if context.place.remote.handover().is_none() {
        format!("{} cannot be read by a server", context.place.remote.describe())
    } else {
        return true;
    };
    tracing::info!("Layers are downloaded before they are mounted: {why}.");
    false
}

/// Starts to stream the layers `ids` of `snapshot`.
///
/// # Errors
/// Why they must be downloaded. No server is left then.
async fn stream_layers(context: &Context, snapshot: &Snapshot, ids: &BTreeSet<Sha>) -> Result<Ready, String> {
    let remote = &context.place.remote;
    let handover = remote.handover().ok_or_else(|| format!("{} cannot be read by a server", remote.describe()))?;
    let layers: BTreeMap<Sha, &Layer> = ids.iter().map(|id| (*id, &snapshot.layers[id])).collect();
    let mut wanted = wanted_of(snapshot, layers.values().copied());
    small_first(&mut wanted);
    let looked_up = futures_util::future::join_all(wanted.iter().map(|wanted| look_up(context, wanted))).await;
    let mut ready = Ready::default();
    let (mut blobs, mut numbers) = (Vec::new(), BTreeMap::new());
    for (found, wanted) in looked_up.into_iter().zip(&wanted) {
        let (entry, stored) = match found {
            Ok(found) => found,
            Err(lost) => {
                let Fetched { fetch, note, late, .. } = *lost;
                if let Some(why) = late {
                    return Err(why);
                }
                ready.fetches.push(fetch);
                ready.notes.extend(note);
                continue;
            }
        };
        let id = stored.digests.id();
        numbers.insert(id, blobs.len() as u32);
        ready.fetches.push(LayerFetch {
            id: id.to_string(),
            bytes: stored.digests.size,
            seconds: 0.0,
            state: LayerState::Streaming,
            bad_chunks: Vec::new(),
        });
        blobs.push(Blob {
            id,
            entry: entry.name,
            location: entry.location,
            size: stored.digests.size,
            chunk_size: CHUNK_SIZE,
            chunks: stored.digests.chunks.clone(),
            ahead: chunks_of_path(wanted),
        });
    }
    let streamed: Vec<StreamedLayer> =
        layers.iter().filter_map(|(id, layer)| parts(*id, layer, snapshot, &numbers)).collect();
    if streamed.is_empty() {
        return Ok(ready);
    }
    let names: Vec<Sha> = streamed.iter().map(|layer| layer.id).collect();
    let hot = hot(context, snapshot, &numbers);
    let tuning = Tuning::from_env();
    let ms = |time: Duration| time.as_millis() as u64;
    let plan = StreamPlan {
        remote: handover,
        blobs,
        layers: streamed,
        hot,
        patience_ms: ms(tuning.stream_patience),
        pause_ms: ms(tuning.blob_delay),
        give_up_ms: ms(tuning.stream_give_up),
        fill_after_ms: ms(tuning.stream_fill),
        resend: tuning.stream_resend,
    };
    let folder = start(&context.place.dirs, plan).await?;
    let files: BTreeMap<Sha, PathBuf> = names.into_iter().map(|id| (id, folder.join(id.to_string()))).collect();
    if let Err(why) = await_tables(context, &files).await {
        end(&context.place.dirs).await;
        return Err(why);
    }
    let (dirs, to_index) = (context.place.dirs.clone(), files.clone());
    let indexed =
        tokio::task::spawn_blocking(move || to_index.iter().for_each(|(id, file)| keep_index(&dirs, id, file)));
    indexed.await.map_err(|error| error.to_string())?;
    ready.files = files;
    Ok(ready)
}

/// Sorts what is fetched in the background: first what has most paths for its bytes. Until everything is here, fewer reads wait then.
fn small_first(wanted: &mut [Wanted<'_>]) {
    wanted.sort_by_key(bytes_of_path);
}

/// How many bytes a path has on average.
fn bytes_of_path(wanted: &Wanted<'_>) -> u64 {
    wanted.stored.digests.size / (wanted.paths as u64).max(1)
}

/// The same in chunks, rounded.
fn chunks_of_path(wanted: &Wanted<'_>) -> u32 {
    (bytes_of_path(wanted).saturating_add(CHUNK_SIZE / 2) / CHUNK_SIZE) as u32
}

/// What the last job of this lane read, in its order: numbers of blobs, and of chunks in them.
fn hot(context: &Context, snapshot: &Snapshot, numbers: &BTreeMap<Sha, u32>) -> Vec<(u32, u32)> {
    let Some(lane) = snapshot.lanes.get(&context.identity.lane) else { return Vec::new() };
    let chunk = |(id, unit): (Sha, u32)| {
        let chunk = u64::from(unit) * Trace::UNIT / CHUNK_SIZE;
        let count = snapshot.stored.get(&id)?.digests.chunks.len() as u64;
        (chunk < count).then_some((*numbers.get(&id)?, chunk as u32))
    };
    let mut seen = BTreeSet::new();
    lane.trace.each().filter_map(chunk).filter(|chunk| seen.insert(*chunk)).collect()
}

/// The composition of a layer; None if an entry of it was not found.
fn parts(id: Sha, layer: &Layer, snapshot: &Snapshot, numbers: &BTreeMap<Sha, u32>) -> Option<StreamedLayer> {
    let parts = match &layer.recipe {
        None => vec![(*numbers.get(&id)?, 0, layer.digests.size)],
        Some(recipe) => {
            let part = |segment: &crate::layer::recipe::Segment| {
                Some((*numbers.get(&segment.stored)?, segment.offset, segment.length))
            };
            recipe.0.iter().filter(|segment| segment.length > 0).map(part).collect::<Option<_>>()?
        }
    };
    let derivations = layer.paths.iter().filter(|(path, _)| path.is_derivation());
    let bytes: u64 = derivations.filter_map(|key| Some(snapshot.paths.get(key)?.info.nar_size)).sum();
    let head = (bytes / DERIVATION_RATIO).min(LARGEST_HEAD);
    Some(StreamedLayer { id, parts, head, tables: layer.tables })
}

async fn start(dirs: &StoreDirs, plan: StreamPlan) -> Result<PathBuf, String> {
    let request = Request::Stream(StreamRequest { store_root: dirs.root().map(Into::into), plan });
    match step(dirs, request).await {
        Ok(Answer::Streaming { files }) => Ok(files),
        Ok(other) => Err(format!("the answer was {other:?}")),
        Err(error) => Err(error.to_string().trim_end_matches('.').to_owned()),
    }
}

/// Performs a step of the stream.
pub(super) async fn step(dirs: &StoreDirs, request: Request) -> Result<Answer, CacheError> {
    let dirs = dirs.clone();
    tokio::task::spawn_blocking(move || privileged::run(&dirs, &request, &AtomicU64::new(0))).await?
}

/// Ends a stream that nothing is mounted from.
async fn end(dirs: &StoreDirs) {
    if let Err(error) = step(dirs, Request::EndStream { store_root: dirs.root().map(Into::into) }).await {
        tracing::debug!("the server for streaming goes on: {error}");
    }
}

/// Waits until the tables of all layers can be read: they prove that the entries are readable, and the mount needs them first.
async fn await_tables(context: &Context, files: &BTreeMap<Sha, PathBuf>) -> Result<(), String> {
    let left = context.place.deadline.map(|end| end.saturating_duration_since(Instant::now()) / 2);
    let most = left.map_or(FOR_TABLES, |left| left.min(FOR_TABLES));
    let paths: Vec<PathBuf> = files.values().cloned().collect();
    let read = tokio::task::spawn_blocking(move || side_by_side(&paths, read_tables, |error| error));
    match tokio::time::timeout(most, read).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(error))) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
            Err("the remote answers with whole entries instead of the requested ranges".to_owned())
        }
        Ok(Ok(Err(error))) => Err(format!("the tables of a layer cannot be read: {error}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the tables of the layers did not arrive within {} s", most.as_secs())),
    }
}

fn read_tables(path: &PathBuf) -> std::io::Result<()> {
    let file = File::open(path)?;
    let mut superblock = [0; SUPERBLOCK_SIZE];
    file.read_exact_at(&mut superblock, 0)?;
    // The check of the image says what is wrong with it.
    let Ok(mut at) = tables_start(&superblock) else { return Ok(()) };
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read_at(&mut buffer, at)? {
            0 => return Ok(()),
            read => at += read as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::digest::Digests;
    use crate::snapshot::Stored;
    use crate::store::PathInfo;

    fn info(name: &str, nar_size: u64) -> PathInfo {
        PathInfo { nar_size, ..PathInfo::sample(format!("{}-{name}", "0".repeat(32)).parse().unwrap()) }
    }

    #[test]
    fn what_has_most_paths_for_its_bytes_is_fetched_first() {
        let stored = [(700, 1), (400, 100), (900, 0), (500, 2000)].map(|(size, paths)| {
            (Stored { digests: Digests { size: size << 20, chunks: vec![Sha([1; 32])] }, entry: "layer".into() }, paths)
        });
        let mut wanted = stored.iter().map(|(stored, paths)| Wanted { stored, paths: *paths }).collect::<Vec<_>>();
        small_first(&mut wanted);
        let sizes = wanted.iter().map(|wanted| wanted.stored.digests.size >> 20).collect::<Vec<_>>();
        assert_eq!(sizes, [500, 400, 700, 900]);
        assert_eq!(wanted.iter().map(chunks_of_path).collect::<Vec<_>>(), [0, 4, 700, 900]);
    }

    #[test]
    fn what_is_asked_for_with_the_tables_is_what_the_derivations_of_a_layer_take() {
        let head = |infos: &[PathInfo]| {
            let digests = Digests { size: 1 << 30, chunks: vec![Sha([1; 32])] };
            let (id, mut snapshot) = (digests.id(), Snapshot::default());
            let stored = Stored { digests: digests.clone(), entry: "layer".into() };
            snapshot.add_layer((digests, None), stored, infos.iter().cloned(), 1);
            parts(id, &snapshot.layers[&id], &snapshot, &BTreeMap::from([(id, 0)])).unwrap().head
        };
        let output = info("a", 1 << 30);
        assert_eq!(head(std::slice::from_ref(&output)), 0);
        assert_eq!(head(&[output.clone(), info("a.drv", 40_000), info("b.drv", 20_000)]), 15_000);
        assert_eq!(head(&[output, info("a.drv", 1 << 30)]), LARGEST_HEAD);
    }
}
