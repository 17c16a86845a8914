//! Records in the snapshot which paths this job used, which its lane uses, which are new, and which a substituter has.

use std::collections::BTreeSet;
use std::time::Instant;

use super::checkpoint::Moment;
use super::outcome::{Phase, SaveOutcome};
use super::select::Selection;
use super::substitute::at_substituters;
use super::{Context, Include};
use crate::snapshot::{Facts, Snapshot};
use crate::store::{PathInfo, Paths, StorePath};

/// Records which paths this job used.
pub(super) fn mark_used(snapshot: &mut Snapshot, selection: &Selection, time: u64) {
    for record in snapshot.paths.values_mut().filter(|record| selection.used.contains(&record.info.path)) {
        record.last_used = record.last_used.max(time);
    }
}

/// Records what this lane uses, and what it is known to have used now. Paths that were dropped and are built or fetched again were
/// needed.
pub(super) fn mark_lane(
    context: &Context,
    snapshot: &mut Snapshot,
    selection: &Selection,
    (moment, time): (Moment, u64),
) {
    let held: BTreeSet<&StorePath> = snapshot.paths.keys().map(|key| &key.0).collect();
    let lane = snapshot.lanes.get(&context.identity.lane);
    let was_dropped = |path: &&StorePath| {
        lane.is_some_and(|lane| lane.paths.contains_key(*path))
            && !held.contains(*path)
            && !snapshot.upstream.contains(*path)
    };
    let returned: Vec<StorePath> = selection.missed.iter().filter(was_dropped).cloned().collect();
    let lane = snapshot.lanes.entry(context.identity.lane.clone()).or_default();
    let is_used = |path: &&StorePath| selection.lane_used.contains(*path) || !lane.paths.contains_key(*path);
    let used: Vec<StorePath> = selection.lane.iter().filter(is_used).cloned().collect();
    match moment {
        Moment::End => lane.save(used, time),
        Moment::Running { .. } => lane.add(used, time),
    }
    lane.returned.extend(returned);
}

/// Sets the facts of the snapshot, and removes what lanes need not remember.
pub(super) fn finish_snapshot(context: &Context, snapshot: &mut Snapshot, time: u64) {
    snapshot.forget_dropped();
    snapshot.facts = Facts {
        created: time,
        key: context.identity.key.clone(),
        system: context.identity.system.clone(),
        tool: concat!("nix-cache ", env!("CARGO_PKG_VERSION")).into(),
        lane: context.identity.lane.clone(),
    };
}

pub(super) fn note_new<'a>(paths: impl Iterator<Item = &'a StorePath>, valid: &Paths, outcome: &mut SaveOutcome) {
    let mut sizes: Vec<(StorePath, u64)> = paths.map(|path| (path.clone(), valid[path].nar_size)).collect();
    outcome.paths_new = sizes.len() as u64;
    outcome.nar_bytes_new = sizes.iter().map(|(_, size)| size).sum();
    sizes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    sizes.truncate(10);
    outcome.largest_new = sizes;
}

/// Removes paths from `new` that a substituter has, if requested, and records them in the snapshot.
pub(super) async fn leave_to_upstream(
    context: &Context,
    valid: &Paths,
    new: &mut BTreeSet<StorePath>,
    snapshot: &mut Snapshot,
    outcome: &mut SaveOutcome,
) {
    if context.packing.include == Include::All {
        return;
    }
    // Paths that an earlier save left to a substituter were restored, so they are assumed to be still available.
    new.retain(|path| !snapshot.upstream.contains(path));
    let start = Instant::now();
    let infos: Vec<&PathInfo> = new.iter().map(|path| &valid[path]).collect();
    let present = at_substituters(&infos).await;
    new.retain(|path| !present.contains(path));
    outcome.phases.push(Phase::end("ask substituters", start, present.len() as u64, 0));
    snapshot.upstream.extend(present);
}

/// Returns paths of `snapshot` that came from a substituter and can come from there again: signed, and neither built nor added here.
pub(super) fn fetched(snapshot: &Snapshot) -> BTreeSet<StorePath> {
    let infos = snapshot.paths.values().map(|record| &record.info);
    let is_fetched = |info: &&PathInfo| !info.ultimate && info.ca.is_none() && !info.signatures.is_empty();
    infos.filter(is_fetched).map(|info| info.path.clone()).collect()
}
