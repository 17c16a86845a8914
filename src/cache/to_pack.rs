//! Selects what a save packs, and drops what has no layer.

use std::collections::BTreeSet;

use super::Context;
use super::checkpoint::Moment;
use super::layers::known_usage;
use super::repack::{Turn, layers_to_repack, shrink, users};
use super::used::fetched;
use crate::base::digest::Sha;
use crate::snapshot::Snapshot;
use crate::store::{Paths, StorePath};

/// Typical compression ratio of store paths, used until their own layer is known: about one third.
pub(crate) const LIKELY_RATIO: u64 = 3;

/// Selects the paths to pack: everything new, and the paths of small or mostly dead layers, which are removed from `snapshot`. Above
/// the user's size limit, the least recently used paths are dropped first. Returns all of them, and the part for separate layers.
pub(super) fn plan(
    context: &Context,
    snapshot: &mut Snapshot,
    new: &BTreeSet<StorePath>,
    valid: &Paths,
    lane: &BTreeSet<StorePath>,
    (moment, turn, time): (Moment, Turn, u64),
) -> (BTreeSet<StorePath>, BTreeSet<StorePath>) {
    let new_bytes: u64 = new.iter().map(|path| valid[path].nar_size).sum();
    let before = snapshot.paths.len();
    let smaller = match context.packing.max_size.filter(|_| moment == Moment::End) {
        Some(max) => shrink(snapshot, max.saturating_sub(new_bytes / LIKELY_RATIO), &fetched(snapshot), time),
        None => BTreeSet::new(),
    };
    if before > snapshot.paths.len() {
        tracing::info!(
            "Dropped {}, the least recently used, to stay below max-size.",
            crate::base::human::count((before - snapshot.paths.len()) as u64, "path")
        );
    }
    let mut to_pack = new.clone();
    let users = users(snapshot, (&context.identity.lane, lane), new);
    let turn = if turn == Turn::Running || snapshot.facts.key == context.identity.key { turn } else { Turn::First };
    let again = layers_to_repack(
        snapshot,
        (new_bytes / LIKELY_RATIO, &users),
        valid,
        &smaller,
        (turn, &known_usage(&context.place.dirs, snapshot)),
    );
    let paths_of = |ids: &BTreeSet<Sha>| -> BTreeSet<StorePath> {
        ids.iter().flat_map(|id| &snapshot.layers[id].paths).map(|(path, _)| path.clone()).collect()
    };
    to_pack.extend(paths_of(&again.joined));
    let apart = &paths_of(&again.apart) - &to_pack;
    to_pack.extend(apart.iter().cloned());
    snapshot.drop_layers(&again.all());
    (to_pack, apart)
}

/// Drops paths without a layer. Lanes remember the dropped paths.
pub(super) fn keep_held(snapshot: &mut Snapshot) {
    let held: BTreeSet<_> = snapshot.layers.values().flat_map(|layer| layer.paths.iter().cloned()).collect();
    snapshot.retain_paths(|key| held.contains(key));
}
