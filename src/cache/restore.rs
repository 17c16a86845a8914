//! Restore: key, snapshot, layers, attach, register.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::attaching::attach_layers;
use super::fetch::remove_leftovers;
use super::layers::forget_indexes;
use super::outcome::{LayerFetch, LayerState, Phase, RestoreOutcome};
use super::record::{self, RestoreRecord};
use super::said::{count_signed, vouched};
use super::search::{Search, SnapshotFound, snapshot_names};
use super::substitute::missing_upstream;
use super::system::{find_fitting, is_exact};
use super::{Context, room, vouch};
use crate::attach::privileged::{self, Answer, Request};
use crate::attach::stream::{Command, Status};
use crate::attach::{Admit, CacheError, Detached, facts};
use crate::base::digest::Sha;
use crate::base::note::{Code, Note};
use crate::nix;
use crate::remote::RemoteError;
use crate::series::{Hit, generation_name};
use crate::snapshot::{Layer, Snapshot};
use crate::store::{self, PathInfo, Paths, StoreDirs, StoreError, StorePath};

/// Attaches the paths of the newest matching snapshot to the store, and records what the store had before.
///
/// # Errors
/// When the store cannot be read or written. A problem with the remote is a smaller hit, with a note in the outcome.
pub(crate) async fn restore(context: &Context) -> Result<RestoreOutcome, CacheError> {
    let start = Instant::now();
    let dirs = context.place.dirs.clone();
    let prepared = move || {
        let prepared = prepare(&dirs)?;
        forget_indexes(&dirs);
        Ok(prepared)
    };
    let mut outcome = empty_outcome(context, 0);
    let looked = Instant::now();
    // The first answer takes about as long as the preparation.
    let names = snapshot_names(context);
    let (prepared, searched) =
        tokio::join!(tokio::task::spawn_blocking(prepared), find_fitting(context, &names, &mut outcome.notes));
    let took = looked.elapsed();
    let (lock, valid) = match prepared? {
        // The store is fine, but another process needs it unchanged: a miss.
        Err(error @ (CacheError::Store(StoreError::Locked { .. }) | CacheError::Mount(_))) => {
            outcome.notes.push(Note::warn(Code::StoreInUse, format!("Nothing was restored: {error}")));
            outcome.seconds = start.elapsed().as_secs_f64();
            return Ok(outcome);
        }
        prepared => prepared?,
    };
    outcome.paths_before = valid.len() as u64;
    let earlier = record::load(&context.place.dirs)?;
    let mut record = RestoreRecord::begin(&context.identity.run, valid.keys().cloned().collect(), earlier);
    // Written now and not only at the end, so that a killed restore does not make the installation part of the next save.
    record::store(&context.place.dirs, &record)?;
    match searched {
        Ok(Search { found: Some(found), .. }) => {
            let count = found.snapshot.paths.len() as u64;
            outcome.phases.push(Phase::measured("snapshot", took.as_secs_f64(), count, found.bytes));
            outcome.bytes_downloaded += found.bytes;
            outcome.signed_by.clone_from(&found.signed_by);
            record.matched = Some(generation_name(&found.key, found.generation));
            use_snapshot(context, found, &valid, &mut record, &mut outcome).await?;
        }
        Ok(_) => tracing::info!("No snapshot matches, so nothing is restored."),
        Err(error) => outcome.notes.push(lookup_failed(&error)),
    }
    record::store(&context.place.dirs, &record)?;
    drop(lock);
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Reports what a restore would find, and restores nothing.
pub(crate) async fn look_up(context: &Context) -> RestoreOutcome {
    let start = Instant::now();
    let mut outcome = empty_outcome(context, 0);
    match find_fitting(context, &snapshot_names(context), &mut outcome.notes).await {
        Ok(Search { found: Some(found), .. }) => {
            outcome.hit = if is_exact(context, &found.key) { Hit::Exact } else { Hit::Partial };
            outcome.paths_in_snapshot = found.snapshot.chosen().len() as u64;
            outcome.bytes_downloaded = found.bytes;
            outcome.generation = Some(found.generation);
            outcome.signed_by = found.signed_by;
            outcome.matched_key = Some(found.key);
        }
        Ok(_) => {}
        Err(error) => outcome.notes.push(lookup_failed(&error)),
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    outcome
}

pub(super) fn lookup_failed(error: &RemoteError) -> Note {
    let message = format!("No snapshot could be looked up: {error}");
    match error {
        // The user or the machine intends this.
        RemoteError::Denied(_) | RemoteError::Unavailable(_) => Note::info(Code::LookupRefused, message),
        RemoteError::Refused(_) => Note::warn(Code::LookupRefused, message),
        RemoteError::StillOutOfTime(_) => Note::info(Code::LookupFailed, message),
        _ => Note::warn(Code::LookupFailed, message),
    }
}

/// Creates our folder, takes our lock, removes leftovers of a killed restore, and reads the valid paths.
pub(super) fn prepare(dirs: &StoreDirs) -> Result<(store::StoreLock, Paths), CacheError> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let store_root = dirs.root().map(Into::into);
    privileged::run(dirs, &Request::Prepare { store_root, owner: (user, group) }, &AtomicU64::new(0))?;
    let lock = store::own_lock(dirs)?;
    remove_leftovers(dirs);
    Ok((lock, store::read_all(dirs)?))
}

/// Unmounts the layers that restores have mounted over the store; see [`crate::attach::Detached`].
///
/// # Errors
/// When the store is in use, or cannot be read or written.
pub(crate) fn detach(dirs: &StoreDirs, threads: usize) -> Result<Detached, CacheError> {
    if privileged::is_plain(dirs) {
        return Ok(Detached::default());
    }
    let _lock = store::own_lock(dirs)?;
    let request = Request::Detach { store_root: dirs.root().map(Into::into), threads };
    match privileged::run(dirs, &request, &AtomicU64::new(0))? {
        Answer::Detached(detached) => Ok(detached),
        other => Err(CacheError::Privilege(format!("the answer was {other:?}"))),
    }
}

/// Returns the state of the layers that are streamed to a store, after giving their server a command; None if there are none.
///
/// # Errors
/// When it needs rights that this process does not get.
pub(crate) fn stream_status(dirs: &StoreDirs, order: Option<Command>) -> Result<Option<Status>, CacheError> {
    let request = Request::StreamStatus { store_root: dirs.root().map(Into::into), order };
    match privileged::run(dirs, &request, &AtomicU64::new(0))? {
        Answer::StreamStatus(status) => Ok(status),
        other => Err(CacheError::Privilege(format!("the answer was {other:?}"))),
    }
}

pub(super) fn empty_outcome(context: &Context, paths_before: usize) -> RestoreOutcome {
    RestoreOutcome {
        hit: Hit::Miss,
        primary_key: context.identity.key.clone(),
        matched_key: None,
        generation: None,
        signed_by: None,
        vouched: None,
        paths_before: paths_before as u64,
        paths_in_snapshot: 0,
        paths_restored: 0,
        paths_already_valid: 0,
        paths_lost: 0,
        paths_of_other_lanes: 0,
        nar_bytes_restored: 0,
        bytes_downloaded: 0,
        layers: Vec::new(),
        mode: "unpack",
        phases: Vec::new(),
        notes: Vec::new(),
        seconds: 0.0,
    }
}

async fn use_snapshot(
    context: &Context,
    found: SnapshotFound,
    valid: &Paths,
    record: &mut RestoreRecord,
    outcome: &mut RestoreOutcome,
) -> Result<(), CacheError> {
    let chosen = found.snapshot.chosen();
    outcome.paths_in_snapshot = chosen.len() as u64;
    outcome.paths_already_valid = chosen.keys().filter(|path| valid.contains_key(*path)).count() as u64;
    let missing: Paths<&PathInfo> = chosen
        .into_iter()
        .filter(|(path, _)| !valid.contains_key(path))
        .map(|(path, record)| (path, &record.info))
        .collect();
    let all = missing.len();
    let missing = for_lane(context, &found.snapshot, missing, valid);
    let paths_wanted = missing.len() as u64;
    // Paths that can never become valid need not be downloaded.
    let possible = facts::sound(&missing, &found.faulty, &|path| {
        valid.contains_key(path) || found.snapshot.upstream.contains(path)
    });
    let missing: Paths<&PathInfo> = missing.into_iter().filter(|(path, _)| possible.contains(path)).collect();
    outcome.paths_of_other_lanes = all as u64 - paths_wanted;
    let valid = &fetch_upstream(context, &found, &missing, valid, outcome).await?;
    let assigned = assign(&found.snapshot.layers, &missing);
    let (assigned, note) = room::fit(context, &found.snapshot, &missing, assigned, &|path| valid.contains_key(path));
    outcome.notes.extend(note);
    if let Some(note) = too_large(context, room::layer_bytes(&found.snapshot, assigned.keys())).await {
        outcome.notes.push(note);
        return Ok(());
    }
    let is_signed = found.signed_by.is_some();
    let signers = found.signed_by.as_ref().map(|name| context.place.keys.trusted_named(name)).unwrap_or_default();
    let with_realisations = !found.snapshot.realisations.is_empty();
    // Before any of them is in the store.
    vouch::take_over(&context.place.dirs, valid, missing.values().copied(), signers, with_realisations)?;
    let counting = count_signed(context, &missing, is_signed);
    let restored = attach_layers(context, &found, (&missing, &assigned), valid, Admit::Sound, outcome).await?;
    note_layers(record, &outcome.layers);
    vouch::note_inodes(&context.place.dirs, &restored, context.packing.threads)?;
    outcome.vouched = Some(vouched(&found, counting.await?, missing.len() as u64));
    outcome.paths_restored = restored.len() as u64;
    outcome.nar_bytes_restored = restored.iter().map(|path| missing[path].nar_size).sum();
    outcome.paths_lost = paths_wanted - outcome.paths_restored;
    record.restored = restored;
    if outcome.paths_in_snapshot > 0 && outcome.paths_restored + outcome.paths_already_valid == 0 {
        return Ok(());
    }
    outcome.hit = if is_exact(context, &found.key) { Hit::Exact } else { Hit::Partial };
    outcome.matched_key = Some(found.key);
    outcome.generation = Some(found.generation);
    Ok(())
}

/// Longest time to wait for the limit once the snapshot is found.
const LIMIT_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Why nothing is restored, if it is more than the limit of the context.
async fn too_large(context: &Context, bytes: u64) -> Option<Note> {
    let mut limit = context.place.limit.clone()?;
    // Without an answer in time, everything is restored, as without a limit.
    let known = tokio::time::timeout(LIMIT_PATIENCE, limit.wait_for(Option::is_some)).await.ok()?.ok()?;
    let most = (*known).filter(|most| bytes > *most)?;
    let human = crate::base::human::bytes;
    let message = format!(
        "The snapshot was not restored: its {} are more than the {} that pay off in this lane.",
        human(bytes),
        human(most)
    );
    Some(Note::info(Code::CostGuard, message))
}

/// Returns the part of `missing` that is worth downloading: the paths in layers with any path that this job's lane used when it last
/// saved. A new lane takes everything.
pub(super) fn for_lane<'a>(
    context: &Context,
    snapshot: &Snapshot,
    missing: Paths<&'a PathInfo>,
    valid: &Paths,
) -> Paths<&'a PathInfo> {
    let Some(lane) = snapshot.lanes.get(&context.identity.lane) else { return missing };
    if lane.paths.is_empty() {
        return missing;
    }
    let used = missing.closure(lane.paths.keys().filter(|path| missing.contains_key(*path)));
    let assigned = assign(&snapshot.layers, &missing);
    let kept: BTreeSet<&StorePath> = assigned.values().filter(|paths| !paths.is_disjoint(&used)).flatten().collect();
    let kept: Paths<&'a PathInfo> =
        missing.iter().filter(|(path, _)| kept.contains(path)).map(|(path, info)| (path.clone(), *info)).collect();
    // Other paths of the same layers are included, unless they need paths of another layer.
    let whole = kept.closed_subset(&|path| valid.contains_key(path) || snapshot.upstream.contains(path));
    let left = missing.len() - whole.len();
    if left > 0 {
        tracing::info!(
            "{} of other lanes not downloaded, because {} did not use them.",
            crate::base::human::count(left as u64, "store path"),
            context.identity.lane
        );
    }
    kept.into_iter().filter(|(path, _)| whole.contains(path) || used.contains(path)).collect()
}

/// Lets Nix fetch the paths that the snapshot leaves to a substituter and that its paths refer to. Returns what is valid then.
async fn fetch_upstream<'a>(
    context: &Context,
    found: &SnapshotFound,
    missing: &Paths<&PathInfo>,
    valid: &'a Paths,
    outcome: &mut RestoreOutcome,
) -> Result<Cow<'a, Paths>, CacheError> {
    let end = context.place.deadline;
    let paths = missing_upstream(&found.snapshot, missing, valid);
    if paths.is_empty() {
        return Ok(Cow::Borrowed(valid));
    }
    let (start, count) = (Instant::now(), paths.len() as u64);
    let dirs = context.place.dirs.clone();
    let now_valid = tokio::task::spawn_blocking(move || {
        nix::realise::fetch(&dirs, &paths, end);
        store::read_all(&dirs)
    })
    .await??;
    outcome.phases.push(Phase::end("substitute", start, count, 0));
    Ok(Cow::Owned(now_valid))
}

/// Chooses the layer for each missing path: of several, the one with the most of the other paths.
pub(super) fn assign(layers: &BTreeMap<Sha, Layer>, missing: &Paths<&PathInfo>) -> BTreeMap<Sha, BTreeSet<StorePath>> {
    let wanted_of = |layer: &Layer| -> BTreeSet<StorePath> {
        let is_wanted = |key: &&(StorePath, _)| missing.get(&key.0).is_some_and(|info| info.nar_hash == key.1);
        layer.paths.iter().filter(is_wanted).map(|key| key.0.clone()).collect()
    };
    let mut offers: Vec<(Sha, BTreeSet<StorePath>)> =
        layers.iter().map(|(id, layer)| (*id, wanted_of(layer))).collect();
    offers.sort_by_key(|(id, paths)| (std::cmp::Reverse(paths.len()), *id));
    let mut taken: BTreeSet<StorePath> = BTreeSet::new();
    let mut assigned = BTreeMap::new();
    for (id, mut paths) in offers {
        paths.retain(|path| taken.insert(path.clone()));
        if !paths.is_empty() {
            assigned.insert(id, paths);
        }
    }
    assigned
}

/// Records the result of each entry for the save.
fn note_layers(record: &mut RestoreRecord, layers: &[LayerFetch]) {
    for layer in layers {
        let Ok(id) = layer.id.parse() else { continue };
        match layer.state {
            LayerState::Fetched => drop(record.fetched.insert(id)),
            LayerState::Missing => drop(record.lost_layers.insert(id)),
            LayerState::Damaged => drop(record.damaged.insert(id, layer.bad_chunks.clone())),
            LayerState::Failed | LayerState::Streaming => {}
        }
    }
}
