//! The part of a restore that begins when it is known which layers have which of the missing paths: download, attach, register.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::layers::keep_usage;
use super::mode::mode_with_rights;
use super::outcome::{LayerState, Phase, RestoreOutcome};
use super::progress::Progress;
use super::search::SnapshotFound;
use super::{Context, stream};
use crate::attach::privileged::{self, Answer, Request};
use crate::attach::{Admit, AttachLayer, AttachRequest, Attached, CacheError, Mode, RefusedLayer};
use crate::base::digest::Sha;
use crate::base::note::{Code, Note};
use crate::layer::pack::Rejected;
use crate::snapshot::Snapshot;
use crate::store::daemon::sockets;
use crate::store::{PathInfo, Paths, Realisation, StorePath};

/// Downloads and attaches the assigned layers and registers the complete paths. Returns the paths that became valid.
pub(super) async fn attach_layers(
    context: &Context,
    found: &SnapshotFound,
    (missing, assigned): (&Paths<&PathInfo>, &BTreeMap<Sha, BTreeSet<StorePath>>),
    valid: &Paths,
    admit: Admit,
    outcome: &mut RestoreOutcome,
) -> Result<BTreeSet<StorePath>, CacheError> {
    if assigned.is_empty() {
        return Ok(BTreeSet::new());
    }
    let Some(mut mode) = mode_with_rights(context, outcome).await? else { return Ok(BTreeSet::new()) };
    let fetching = Instant::now();
    let ready =
        stream::fetch(context, &found.snapshot, &assigned.keys().copied().collect(), &mut mode, outcome).await?;
    outcome.layers.extend(ready.fetches);
    outcome.notes.extend(ready.notes);
    outcome.bytes_downloaded += ready.bytes;
    let files: Vec<(Sha, PathBuf)> = ready.files.into_iter().collect();
    outcome.phases.push(Phase::end("fetch", fetching, files.len() as u64, ready.bytes));

    // A path with a missing reference can never be valid, so it need not be attached.
    let available: Paths<&PathInfo> =
        files.iter().flat_map(|(id, _)| &assigned[id]).map(|path| (path.clone(), missing[path])).collect();
    let useful = available.closed_subset(&|path| valid.contains_key(path));
    let layers = files.into_iter().map(|(id, file)| {
        let wanted = assigned[&id].iter().filter(|path| useful.contains(*path));
        AttachLayer { id, file, infos: wanted.map(|path| Arc::new(missing[path].clone())).collect() }
    });
    let layers: Vec<AttachLayer> = layers.collect();
    let first = if mode == Mode::Stream { read_first(context, &found.snapshot, &layers) } else { Vec::new() };
    let total = useful.iter().map(|path| missing[path].nar_size).sum();
    let realisations = found.snapshot.realisations.values().cloned().collect();
    let attached = attach(context, (mode, admit), (layers, realisations, first), total, outcome).await?;
    keep_usage(&context.place.dirs, &attached.usage);
    note_refused(&attached.refused, &found.snapshot, outcome);
    Ok(attached.registered)
}

/// The paths that the last job of the lane read, in its order, as far as its trace does not say which parts of the layers it read:
/// those that were packed again since, and those that replace others of the same name.
fn read_first(context: &Context, snapshot: &Snapshot, layers: &[AttachLayer]) -> Vec<StorePath> {
    let Some(lane) = snapshot.lanes.get(&context.identity.lane) else { return Vec::new() };
    let known: BTreeSet<Sha> = lane.trace.units.iter().map(|(id, _)| *id).collect();
    let is_known =
        |layer: &&AttachLayer| snapshot.layers.get(&layer.id).is_some_and(|held| known.contains(&held.own_stored()));
    let paths = layers.iter().filter(|layer| !is_known(layer)).flat_map(|layer| &layer.infos).map(|info| &info.path);
    let mut ranked: Vec<(usize, &StorePath)> =
        lane.trace.ranks(paths).into_iter().map(|(path, rank)| (rank, path)).collect();
    ranked.sort();
    ranked.into_iter().map(|(_, path)| path.clone()).collect()
}

/// Warns about layers that this program would not write. Their bytes match the snapshot, so reading them again would not help: the
/// next save replaces them.
fn note_refused(refused: &[RefusedLayer], snapshot: &Snapshot, outcome: &mut RestoreOutcome) {
    for RefusedLayer { id, why, paths } in refused {
        let own = snapshot.layers.get(id).map(|layer| layer.own_stored().to_string());
        for fetch in outcome.layers.iter_mut().filter(|fetch| Some(&fetch.id) == own.as_ref()) {
            fetch.state = LayerState::Damaged;
        }
        let count = if *paths == 1 { "1 path of it is".to_owned() } else { format!("{paths} paths of it are") };
        outcome.notes.push(Note::warn(
            Code::LayerRefused,
            format!(
                "Layer {id} is not used, because it was not packed by this program: {why}. {count} built or fetched again, and \
                the next save replaces the layer. Find out who can write to this cache."
            ),
        ));
    }
}

/// Attaches downloaded layers, and records how.
async fn attach(
    context: &Context,
    (mode, admit): (Mode, Admit),
    (layers, realisations, first): (Vec<AttachLayer>, Vec<Realisation>, Vec<StorePath>),
    total: u64,
    outcome: &mut RestoreOutcome,
) -> Result<Attached, CacheError> {
    let progress = Progress::start("attaching", total);
    let (dirs, counter) = (context.place.dirs.clone(), progress.bytes.clone());
    let (store_root, daemon_sockets) = (dirs.root().map(Into::into), sockets(&dirs));
    // Another process may attach the layers, so the remaining time is passed instead of a point in time.
    let milliseconds =
        context.place.deadline.map(|end| end.saturating_duration_since(Instant::now()).as_millis() as u64);
    let threads = context.packing.threads;
    let request =
        AttachRequest { store_root, mode, layers, threads, milliseconds, realisations, daemon_sockets, admit, first };
    let request = Request::Attach(request);
    let answer = tokio::task::spawn_blocking(move || privileged::run(&dirs, &request, &counter)).await??;
    let Answer::Attached(attached) = answer else {
        return Err(CacheError::Privilege(format!("the answer was {answer:?}")));
    };
    if let Some(why) = &attached.not_mounted {
        outcome.notes.push(Note::info(Code::NotMounted, format!("Layers were unpacked instead of mounted: {why}.")));
    }
    note_rejected(&attached.rejected, outcome);
    outcome.mode = attached.mode.word();
    let count = attached.registered.len() as u64;
    outcome.phases.push(Phase::measured(attached.mode.word(), attached.seconds.0, count, total));
    outcome.phases.push(Phase::measured("register", attached.seconds.1, count, 0));
    Ok(attached)
}

fn note_rejected(rejected: &[Rejected], outcome: &mut RestoreOutcome) {
    if let Some(first) = rejected.first() {
        let count = crate::base::human::count(rejected.len() as u64, "path");
        let message = format!("{count} not restored, such as {}: {}", first.path, first.why);
        outcome.notes.push(Note::warn(Code::PathsRejected, message));
    }
}
