//! Save: paths in the store that are not in a layer yet become one new layer and the next generation.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

use tokio::sync::Notify;

use super::Context;
use super::base::{Base, Near, load_base};
use super::checkpoint::{self, Checkpoints, Moment};
use super::coarse::Kinds;
use super::commit::{Pushed, push_snapshot};
use super::last;
use super::others::look_beside;
use super::outcome::{Phase, SaveOutcome, SaveReason};
use super::parts::{make_layers, parts};
use super::record::{self, RestoreRecord};
use super::repack::{MAX_LAYERS, Turn};
use super::said::note_withheld;
use super::save_error::{SaveError, note_error};
use super::search::Search;
use super::select::{Selection, Situation, select};
use super::streamed::{self, Finished};
use super::tidy::{Work, tidy, tidy_last};
use super::to_pack::{keep_held, plan};
use super::trust::{Objection, objection};
use super::used::{finish_snapshot, leave_to_upstream, mark_lane, mark_used, note_new};
use super::vouch::{self, Withheld};
use crate::attach::{CacheError, facts};
use crate::base::clock::now;
use crate::remote::RemoteError;
use crate::series::generation_prefix;
use crate::snapshot::{Snapshot, Trace};
use crate::store::{self, PathInfo, Paths, Realisation, StoreLock, StorePath};

/// Saves what is new in the store under the primary key.
///
/// # Errors
/// When the store cannot be read. Problems with the remote are notes in the outcome.
pub(crate) async fn save(context: &Context) -> Result<SaveOutcome, CacheError> {
    let mut streamed = streamed::finish(&context.place.dirs).await;
    let notes = std::mem::take(&mut streamed.notes);
    let mut outcome = save_after(context, streamed).await?;
    outcome.notes.splice(0..0, notes);
    Ok(outcome)
}

/// As [`save`], after the end of a stream.
///
/// # Errors
/// See [`save`].
pub(crate) async fn save_after(context: &Context, streamed: Finished) -> Result<SaveOutcome, CacheError> {
    let start = Instant::now();
    let mut outcome = empty_outcome(context);
    if let Some(objection) = objection(&context.place.dirs, &context.place.keys) {
        outcome.reason = if objection == Objection::NoKey { SaveReason::Refused } else { SaveReason::Failed };
        outcome.notes.push(objection.note());
        return Ok(outcome);
    }
    let (earlier, mut notes) = (checkpoint::load(context), Vec::new());
    let find = Box::pin(last::find(context, earlier.as_ref(), &mut notes));
    let mut record = record::read(&context.place.dirs).await?;
    let (read, newest, near) = tokio::join!(read_store(context), find, Near::ahead(context, record.as_ref()));
    let (_lock, here, withheld, roots) = read?;
    if let Some(record) = &mut record {
        record.damaged.extend(streamed.damaged);
    }
    if let Some(withheld) = withheld.as_ref().filter(|withheld| !withheld.paths.is_empty()) {
        outcome.notes.push(note_withheld(context, withheld));
    }
    outcome.phases.push(Phase::end("read the store", start, here.valid.len() as u64, 0));
    outcome.notes.append(&mut notes);
    let past = Past { record, newest, near, trace: streamed.trace, earlier, moment: Moment::End, lock: None };
    if let Err(error) = save_paths(context, here, &roots, past, &mut outcome).await {
        note_error(&error, &mut outcome);
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

/// The store as a save finds it, with the lock that keeps its paths.
pub(super) type Found = (Option<StoreLock>, Here, Option<Withheld>, BTreeSet<StorePath>);

/// Reads the store, without what this job must not sign.
pub(super) async fn read_store(context: &Context) -> Result<Found, CacheError> {
    let (dirs, threads, keys) = (context.place.dirs.clone(), context.packing.threads, context.place.keys.clone());
    tokio::task::spawn_blocking(move || {
        let lock = store::gc_lock(&dirs)?;
        let valid = store::read_all(&dirs)?;
        let withheld = if keys.can_sign() { Some(vouch::withheld(&dirs, &valid, &keys, threads)?) } else { None };
        let mut valid = facts::as_saved(valid);
        if let Some(withheld) = &withheld {
            valid.retain(|path, _| !withheld.paths.contains(path));
        }
        let mut realisations = store::read_realisations(&dirs)?;
        if withheld.as_ref().is_some_and(|withheld| withheld.realisations) {
            realisations.clear();
        }
        Ok::<_, CacheError>((lock, Here { valid, realisations }, withheld, store::roots(&dirs)))
    })
    .await?
}

pub(super) fn empty_outcome(context: &Context) -> SaveOutcome {
    SaveOutcome {
        reason: SaveReason::NothingToSave,
        primary_key: context.identity.key.clone(),
        saved: None,
        paths_new: 0,
        nar_bytes_new: 0,
        paths_dropped: 0,
        paths_left_out: 0,
        bytes_uploaded: 0,
        entries_created: 0,
        largest_new: Vec::new(),
        phases: Vec::new(),
        notes: Vec::new(),
        seconds: 0.0,
    }
}

/// What the store here holds.
pub(super) struct Here {
    pub valid: Paths,
    pub realisations: Vec<Realisation>,
}

/// What the job did before a save.
pub(super) struct Past {
    pub record: Option<RestoreRecord>,
    /// The newest generation of the key, and perhaps the restored one: they were searched for while the store was read.
    pub newest: Result<Search, RemoteError>,
    pub near: Option<Near>,
    /// What it read of streamed layers.
    pub trace: Option<Trace>,
    /// What it has saved already.
    pub earlier: Option<Checkpoints>,
    pub moment: Moment,
    /// Keeps paths in the store until they are packed.
    pub lock: Option<StoreLock>,
}

/// Saves `valid` as far as it is new. Returns what was pushed.
pub(super) async fn save_paths(
    context: &Context,
    Here { valid, realisations }: Here,
    roots: &BTreeSet<StorePath>,
    Past { record, newest, near, trace, earlier, moment, lock }: Past,
    outcome: &mut SaveOutcome,
) -> Result<Pushed, SaveError> {
    let mut record = record.unwrap_or_else(|| RestoreRecord::begin(&context.identity.run, BTreeSet::new(), None));
    if let Some(earlier) = &earlier {
        record.fetched.extend(&earlier.stored);
        if moment != Moment::End {
            // The first checkpoint has taken over what was restored.
            record.matched = None;
        }
    }
    let mut base = load_base(context, (newest?, near), &record, &valid, &mut outcome.notes).await?;
    (base.moment, base.lock) = (moment, Mutex::new(lock));
    let mut context = context.clone();
    context.identity.key.clone_from(&base.key);
    let context = &context;
    let mut known: BTreeSet<StorePath> = [&base.same_key, &base.near]
        .into_iter()
        .flatten()
        .flat_map(|snapshot| snapshot.paths.keys().map(|key| &key.0).chain(&snapshot.upstream))
        .cloned()
        .collect();
    if let Some(earlier) = &earlier {
        known.retain(|path| !earlier.paths.contains(path));
        base.earlier.clone_from(&earlier.paths);
    }
    let lane_before =
        [&base.same_key, &base.near].into_iter().flatten().find_map(|base| base.lanes.get(&context.identity.lane));
    let trace_before = lane_before.map(|lane| lane.trace.clone()).unwrap_or_default();
    let lane_before: Option<BTreeSet<StorePath>> = lane_before.map(|lane| lane.paths.keys().cloned().collect());
    let situation = Situation {
        valid: &valid,
        baseline: &record.baseline,
        known: &known,
        restored: &record.restored,
        lane_before: lane_before.as_ref(),
        roots,
        // A job that goes on may still use everything that it restored.
        lock_changed: base.near.is_some() && moment == Moment::End,
    };
    let mut selection = select(&situation);
    let is_new_key = !base.has_same_key || earlier.as_ref().is_some_and(|earlier| earlier.is_new_key);
    base.turn = turn(moment, is_new_key);
    let adds = selection.wanted.iter().any(|path| !known.contains(path));
    let mut snapshot = continued(&context.identity.lane, &mut base, &selection.wanted, adds, outcome);
    let mut held: BTreeSet<StorePath> = snapshot.paths.keys().map(|key| key.0.clone()).collect();
    let is_own = |name: &String| name.starts_with(&generation_prefix(&context.identity.key));
    if !snapshot.unread.is_empty() && record.matched.as_ref().is_some_and(is_own) {
        // The unreadable generation contains them.
        held.extend(record.restored.iter().cloned());
    }
    let wanted = &selection.wanted | &valid.closure(base.repair.iter());
    let mut new: BTreeSet<StorePath> = wanted.difference(&held).cloned().collect();
    leave_to_upstream(context, &valid, &mut new, &mut snapshot, outcome).await;
    if let Moment::Running { most } = moment {
        new = checkpoint::first_of(&new, &valid, most);
        let is_known = snapshot.unread.is_empty();
        if new.is_empty() || !is_known || checkpoint::is_too_large(context, &snapshot, &new, &valid) {
            outcome.reason = SaveReason::NothingNew;
            return Ok(Pushed::default());
        }
        // The rest is still missing, and the lane must not take it for dropped.
        let is_here = |path: &StorePath| held.contains(path) || new.contains(path) || snapshot.upstream.contains(path);
        selection.lane.retain(is_here);
        selection.lane_used.retain(is_here);
    }
    // Paths in the snapshot that this job missed: its lane is new, or uses more than was known.
    let before = lane_before.unwrap_or_default();
    let lane_grew = selection.missed.iter().any(|path| held.contains(path) && !before.contains(path));
    let is_repaired = base.must_save;
    let lane = snapshot.lanes.get(&context.identity.lane).cloned().unwrap_or_default();
    base.trace = trace.filter(|trace| trace.adds_to(&lane.trace)).map(|trace| trace.joined(&trace_before));
    let lane_grew = lane_grew || base.trace.is_some();
    if lane.trace.is_empty() && !trace_before.is_empty() {
        // The lock changed. This alone is no reason to save.
        base.trace.get_or_insert(trace_before);
    }
    base.realisations = realisations;
    base.realisations.retain(|one| held.contains(&one.path) || new.contains(&one.path));
    let has_more = base.realisations.iter().any(|one| !snapshot.realisations.contains_key(&one.id));
    let completes = earlier.is_some();
    let nothing_new = new.is_empty()
        && (!is_new_key || snapshot.paths.is_empty())
        && !(lane_grew || has_more || is_repaired || completes);
    if nothing_new && snapshot.layers.len() > MAX_LAYERS {
        join_layers(context, &valid, &selection, snapshot, &base, outcome).await?;
        return Ok(Pushed::default());
    }
    if nothing_new {
        outcome.reason = if is_new_key { SaveReason::NothingToSave } else { SaveReason::NothingNew };
        tracing::info!("Nothing new to save.");
        return Ok(Pushed::default());
    }
    let mut pushed = Pushed::default();
    base.must_save |= is_new_key || lane_grew || has_more || completes;
    let result = push(context, &valid, &selection, &new, snapshot, &base, outcome, &mut pushed).await;
    outcome.bytes_uploaded = pushed.bytes;
    outcome.entries_created = pushed.entries;
    if result? {
        outcome.reason = match outcome.paths_new {
            _ if is_new_key => SaveReason::NewKey,
            0 if is_repaired => SaveReason::Repaired,
            0 => SaveReason::LaneGrew,
            _ => SaveReason::NewPaths,
        };
    }
    Ok(pushed)
}

fn turn(moment: Moment, is_new_key: bool) -> Turn {
    match moment {
        Moment::Running { .. } => Turn::Running,
        Moment::End if is_new_key => Turn::First,
        Moment::End => Turn::Later,
    }
}

/// Returns what the next generation starts with: the restored snapshot as far as it is `wanted`, if the job `adds` anything, and the
/// newest generation of the key.
fn continued(
    lane: &str,
    base: &mut Base,
    wanted: &BTreeSet<StorePath>,
    adds: bool,
    outcome: &mut SaveOutcome,
) -> Snapshot {
    let mut snapshot = base.near.take().unwrap_or_default();
    let before = snapshot.paths.len();
    // A job that added nothing only used existing paths, as far as they could be restored, so all of them stay. So they do while it runs.
    if base.moment == Moment::End && adds {
        if let Some(same) = base.same_key.as_mut().filter(|_| !base.earlier.is_empty() && before > 0) {
            checkpoint::take_back(same, &snapshot, lane, wanted);
        }
        snapshot.retain(|key| wanted.contains(&key.0));
        snapshot.upstream.retain(|path| wanted.contains(path));
    }
    if base.moment == Moment::End {
        // The selection contains what it used before the lock changed, as far as that counts.
        snapshot.lanes.remove(lane);
    }
    outcome.paths_dropped = (before - snapshot.paths.len()) as u64;
    if let Some(same) = base.same_key.take() {
        snapshot.merge(same);
    }
    snapshot.unread.append(&mut base.unread);
    snapshot
}

/// Packs and pushes. Returns whether a generation was written; it is not if all new paths turned out to be corrupt.
#[allow(clippy::too_many_arguments, reason = "one step of one function, cut out for its length")]
async fn push(
    context: &Context,
    valid: &Paths,
    selection: &Selection,
    new: &BTreeSet<StorePath>,
    mut snapshot: Snapshot,
    base: &Base,
    outcome: &mut SaveOutcome,
    pushed: &mut Pushed,
) -> Result<bool, SaveError> {
    let time = now();
    mark_used(&mut snapshot, selection, time);
    mark_lane(context, &mut snapshot, selection, (base.moment, time));
    if let Some((lane, trace)) = snapshot.lanes.get_mut(&context.identity.lane).zip(base.trace.clone()) {
        lane.trace = trace;
    }
    let expired = if base.moment == Moment::End { snapshot.expire(context.packing.keep_saves, time) } else { 0 };
    if expired > 0 {
        tracing::info!("Dropped {expired} paths that newer ones replaced, or that no lane has used for long.");
        outcome.paths_dropped += expired as u64;
    }
    snapshot.drop_redundant_layers();
    let (to_pack, apart) = plan(context, &mut snapshot, new, valid, &selection.lane, (base.moment, base.turn, time));
    let room = base.turn.most_layers().saturating_sub(snapshot.layers.len());
    let kinds = Kinds::of(&context.place.dirs.real_store(), &to_pack).await?;
    let parts = parts((&to_pack, &apart), &snapshot, (&context.identity.lane, &selection.lane), (valid, &kinds), room);
    let all_packed = Notify::new();
    let is_packed = || {
        base.let_go();
        all_packed.notify_one();
    };
    let made = make_layers(context, valid, &snapshot, parts, &base.lost_entries, pushed, &is_packed);
    let (made, others) = look_beside(Box::pin(made), context, &all_packed).await;
    let made = made?;
    outcome.phases.extend(made.phases);
    outcome.notes.extend(made.notes);
    outcome.paths_left_out += to_pack.intersection(&made.left_out).count() as u64;
    let packed: BTreeSet<StorePath> = made.layers.iter().flat_map(|layer| &layer.paths).cloned().collect();
    let earlier = base.earlier.iter().filter(|path| base.moment == Moment::End && valid.contains_key(*path));
    let counted: BTreeSet<&StorePath> = packed.intersection(new).chain(earlier).collect();
    note_new(counted.into_iter(), valid, outcome);
    if packed.is_empty() && !(base.must_save && (base.may_be_empty || !snapshot.paths.is_empty())) {
        outcome.reason = SaveReason::NothingToSave;
        return Ok(false);
    }
    for layer in made.layers {
        pushed.stored.insert(layer.stored.digests.id());
        let size = |path: &StorePath| layer.nar_sizes.get(path).copied().unwrap_or(valid[path].nar_size);
        let infos = layer.paths.iter().map(|path| PathInfo { nar_size: size(path), ..valid[path].clone() });
        let infos: Vec<PathInfo> = infos.collect();
        layer.add_to(&mut snapshot, infos, time);
    }
    snapshot.realisations.extend(base.realisations.iter().map(|one| (one.id.clone(), one.clone())));
    keep_held(&mut snapshot);
    finish_snapshot(context, &mut snapshot, time);
    let lost = &base.lost_entries;
    let (saved, snapshot) =
        push_snapshot(context, snapshot, (base.newest, others), lost, &mut outcome.notes, pushed).await?;
    tracing::info!(
        "Saved generation {} of {}: {} in {}.",
        saved.generation,
        context.identity.key,
        crate::base::human::count(saved.paths, "path"),
        crate::base::human::count(saved.layers, "layer")
    );
    let generation = saved.generation;
    outcome.saved = Some(saved);
    pushed.paths = packed.intersection(new).cloned().collect();
    if base.moment != Moment::End {
        return Ok(true);
    }
    let mut work = Work { context, valid, lane: &selection.lane, lost, outcome, pushed };
    if let Err(trouble) = tidy_last(&mut work, snapshot, generation).await {
        // The additions of this job are saved.
        tracing::info!("The layers of the snapshot were not joined: {trouble}");
    }
    Ok(true)
}

/// If nothing is new but the snapshot has too many layers, joins those that can be joined here.
async fn join_layers(
    context: &Context,
    valid: &Paths,
    selection: &Selection,
    mut snapshot: Snapshot,
    base: &Base,
    outcome: &mut SaveOutcome,
) -> Result<(), SaveError> {
    let mut pushed = Pushed::default();
    outcome.reason = SaveReason::NothingNew;
    let lost = &base.lost_entries;
    let mut work = Work { context, valid, lane: &selection.lane, lost, outcome, pushed: &mut pushed };
    let joined = tidy(&mut work, &mut snapshot).await;
    if let Ok(true) = joined {
        finish_snapshot(context, &mut snapshot, now());
        let saved = push_snapshot(context, snapshot, (base.newest, None), lost, &mut outcome.notes, &mut pushed).await;
        outcome.saved = Some(saved?.0);
        outcome.reason = SaveReason::LayersJoined;
    }
    (outcome.bytes_uploaded, outcome.entries_created) = (pushed.bytes, pushed.entries);
    joined.map(|_| ())
}
