//! Keeping layers few and their dead part small.
//!
//! As `git repack --geometric` does with packs: each layer shall hold at least as much as all smaller ones together. A save that
//! would break this takes the small layers into the one it packs anyway, from the store here. So there are only a handful of
//! layers, and a byte is packed again only a few times, however many saves there are.

use std::collections::{BTreeMap, BTreeSet};

use super::dead::Accounts;
use crate::base::digest::Sha;
use crate::layer::squashfs::usage::Usage;
use crate::snapshot::{Lane, Layer, Snapshot};
use crate::store::{PathInfo, Paths, StorePath};

/// More layers than this are never kept, whatever it costs to pack them again.
pub(super) const MAX_LAYERS: usize = 8;
/// Each layer holds at least so many times what all smaller ones hold together. With 1, two hundred saves of two percent each
/// pack 3.5 bytes for each new one; with 2 it is 5.6.
const FACTOR: u64 = 1;

/// Which save of a key it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The first one: what is alive in the layers of another key is packed again only where more is dead than alive. Otherwise each
    /// change of the lock would be a full upload.
    First,
    /// A later one.
    Later,
}

impl Turn {
    /// So many percent of what a restore needs may be dead. In the test `replacing_paths_again_and_again_…`, two hundred saves that
    /// replace one of 100 paths each, whichever it is, send so many bytes for each new one: 18 with a limit of 5 percent, 11 with
    /// 10, 8 with 15, 6 with 20, 5 with 25; a restore fetches at most 1.10, 1.15, 1.20, 1.25 and 1.31 times what the newest paths
    /// take, 0.05 of which is what `keep-saves` keeps. Where it is one of the same ten paths: 17, 10, 3.2, 2.7, 2.7. So 15 is the
    /// most that keeps a restore within 1.2.
    fn most_dead(self) -> u64 {
        if self == Self::First { 100 } else { 15 }
    }
}

/// Layers to pack again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Again {
    /// Together with what is new.
    pub joined: BTreeSet<Sha>,
    /// Together, but apart from the others if they are large enough.
    pub apart: BTreeSet<Sha>,
}

impl Again {
    pub(super) fn all(&self) -> BTreeSet<Sha> {
        &self.joined | &self.apart
    }
}

/// A layer as the plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Weight {
    /// Of the bytes that are stored for it, those that are needed.
    live: u64,
    id: Sha,
    /// Whether other lanes use it than use what is new.
    is_apart: bool,
}

/// Which layers of `snapshot` to pack again together with new paths that take about `new_bytes` in a layer and that the lanes
/// `users` use. For their size alone only layers of the same lanes are joined: what is used together lies together. Only layers are
/// taken of which every wanted path is in the store here (`valid`), with the same bytes. Those in `must` are taken whatever it
/// costs. `usage` says which bytes of the layers belong to which path, as far as that is known.
pub(super) fn layers_to_repack(
    snapshot: &Snapshot,
    (new_bytes, users): (u64, &BTreeSet<String>),
    valid: &Paths,
    must: &BTreeSet<Sha>,
    (turn, usage): (Turn, &BTreeMap<Sha, Usage>),
) -> Again {
    let accounts = Accounts::of(snapshot, usage);
    let weigh = |(id, layer): (&Sha, &Layer)| Weight {
        live: accounts.live(&layer.own_stored(), &BTreeSet::new()),
        id: *id,
        is_apart: turn == Turn::First || users_of(snapshot, layer) != *users,
    };
    let (here, elsewhere): (Vec<_>, Vec<_>) = snapshot.layers.iter().partition(|(_, layer)| is_here(layer, valid));
    let mut weights: Vec<Weight> = here.into_iter().map(weigh).collect();
    weights.sort();
    let can_be_packed = |id: &Sha| weights.iter().any(|weight| weight.id == *id);
    // Layers of other lanes must not make this one pack everything again with each save: they have half of the places at most.
    let places = MAX_LAYERS - elsewhere.len().min(MAX_LAYERS / 2);
    let mut chosen: BTreeSet<Sha> = must.iter().copied().filter(can_be_packed).collect();
    accounts.choose(&mut chosen, turn.most_dead(), &can_be_packed);
    plan(&weights, new_bytes, &mut chosen, places);
    // Of the bytes of a layer that was joined with others only those stay alive that a third one is made of.
    accounts.choose(&mut chosen, turn.most_dead(), &can_be_packed);
    split(&weights, new_bytes, &chosen)
}

/// Of the layers to pack again, those that are small beside what is new are joined with it. What is left of a large one did not
/// change when much of it did, and will not when what is new is replaced: it gets a layer of its own, which is not packed again
/// then.
fn split(weights: &[Weight], new_bytes: u64, chosen: &BTreeSet<Sha>) -> Again {
    let mut again = Again::default();
    let mut packed = new_bytes;
    for weight in weights.iter().filter(|weight| chosen.contains(&weight.id)) {
        if weight.live < FACTOR * packed || packed == 0 {
            packed += weight.live;
            again.joined.insert(weight.id);
        } else {
            again.apart.insert(weight.id);
        }
    }
    again
}

/// Whether every wanted path of `layer` is in the store here, with the same bytes.
fn is_here(layer: &Layer, valid: &Paths) -> bool {
    layer.paths.iter().all(|(path, hash)| valid.get(path).is_some_and(|info| info.nar_hash == *hash))
}

/// The lanes that use any of `paths`; `lane` uses all of `used`.
pub(super) fn users(
    snapshot: &Snapshot,
    (lane, used): (&str, &BTreeSet<StorePath>),
    paths: &BTreeSet<StorePath>,
) -> BTreeSet<String> {
    let others = snapshot.lanes.iter().filter(|(name, other)| *name != lane && other.uses_any(paths.iter()));
    let mut users: BTreeSet<String> = others.map(|(name, _)| name.clone()).collect();
    users.extend((!used.is_disjoint(paths)).then(|| lane.to_owned()));
    users
}

/// The lanes that use anything of a layer.
fn users_of(snapshot: &Snapshot, layer: &Layer) -> BTreeSet<String> {
    let uses = |lane: &Lane| lane.uses_any(layer.paths.iter().map(|(path, _)| path));
    snapshot.lanes.iter().filter(|(_, lane)| uses(lane)).map(|(name, _)| name.clone()).collect()
}

/// A layer that other lanes made is joined with others only if it takes no more than this.
const SMALL: u64 = 20 << 20;
/// So many bytes are fetched for that in one save, at most.
const FETCH: u64 = 256 << 20;
/// Above so many layers, large ones are joined as well: a mount takes 32 of them.
const MANY_LAYERS: usize = 24;

/// Which layers to fetch, so that they can be packed into one: none of their paths is in the store here. The smallest ones, for
/// as long as there are more than [`MAX_LAYERS`].
pub(super) fn layers_to_fetch(snapshot: &Snapshot, valid: &Paths) -> BTreeSet<Sha> {
    let bytes = |layer: &Layer| -> u64 {
        layer.stored().iter().filter_map(|id| snapshot.stored.get(id)).map(|stored| stored.digests.size).sum()
    };
    let elsewhere = snapshot.layers.iter().filter(|(_, layer)| !is_here(layer, valid));
    let mut elsewhere: Vec<(u64, Sha)> = elsewhere.map(|(id, layer)| (bytes(layer), *id)).collect();
    elsewhere.sort();
    let (mut chosen, mut fetched) = (BTreeSet::new(), 0);
    for (size, id) in elsewhere {
        // All that is chosen becomes one layer.
        let layers = snapshot.layers.len() - chosen.len() + usize::from(!chosen.is_empty());
        let most = if size <= SMALL { MAX_LAYERS } else { MANY_LAYERS };
        if layers <= most || fetched + size > FETCH {
            break;
        }
        fetched += size;
        chosen.insert(id);
    }
    if chosen.len() < 2 { BTreeSet::new() } else { chosen }
}

/// Adds to the `chosen` layers those that are small beside what is packed anyway, or too many: of the others `places` may be left.
/// `weights` are in ascending order.
fn plan(weights: &[Weight], new_bytes: u64, chosen: &mut BTreeSet<Sha>, places: usize) {
    let live = |weight: &Weight| weight.live;
    let mut packed = new_bytes + weights.iter().filter(|weight| chosen.contains(&weight.id)).map(live).sum::<u64>();
    for weight in weights {
        let left = weights.len() - chosen.len();
        let too_many = left + usize::from(packed > 0) > places;
        let out_of_order = weight.live < FACTOR * packed && weight.live > 0 && !weight.is_apart;
        if (too_many || out_of_order) && chosen.insert(weight.id) {
            packed += weight.live;
        }
    }
}

/// The bytes that a snapshot takes in the remote, less the dead part of its layers: what it would take if they were all packed
/// again.
pub(super) fn live_bytes(snapshot: &Snapshot) -> u64 {
    snapshot.layers.values().map(|layer| live_bytes_of(snapshot, layer)).sum()
}

fn live_bytes_of(snapshot: &Snapshot, layer: &Layer) -> u64 {
    let live: u64 =
        layer.paths.iter().filter_map(|key| snapshot.paths.get(key)).map(|record| record.info.nar_size).sum();
    scaled(own_bytes(snapshot, layer), layer, live)
}

/// Bytes that are stored for this layer alone.
pub(super) fn own_bytes(snapshot: &Snapshot, layer: &Layer) -> u64 {
    snapshot.stored.get(&layer.own_stored()).map_or(0, |stored| stored.digests.size)
}

/// What `nar_bytes` of NARs take of the `own` bytes of `layer`, at the ratio of the whole.
pub(super) fn scaled(own: u64, layer: &Layer, nar_bytes: u64) -> u64 {
    (own as f64 * nar_bytes as f64 / layer.nar_bytes.max(1) as f64) as u64
}

/// Drops from `snapshot` what was used longest ago, those that `upstream` offers first, until no more than `max` bytes are alive
/// in it; with a path goes what refers to it. What was used at `now` stays. Gives the layers that have become smaller by it.
pub(super) fn shrink(snapshot: &mut Snapshot, max: u64, upstream: &BTreeSet<StorePath>, now: u64) -> BTreeSet<Sha> {
    let mut alive = live_bytes(snapshot);
    if alive <= max {
        return BTreeSet::new();
    }
    let infos: Paths<&PathInfo> =
        snapshot.paths.values().map(|record| (record.info.path.clone(), &record.info)).collect();
    let mut cost: BTreeMap<&StorePath, u64> = BTreeMap::new();
    for layer in snapshot.layers.values() {
        let own = own_bytes(snapshot, layer);
        for (path, _) in &layer.paths {
            *cost.entry(path).or_default() += infos.get(path).map_or(0, |info| scaled(own, layer, info.nar_size));
        }
    }
    let mut order: Vec<(bool, u64, &StorePath)> = snapshot
        .paths
        .values()
        .filter(|record| record.last_used < now)
        .map(|record| (!upstream.contains(&record.info.path), record.last_used, &record.info.path))
        .collect();
    order.sort();
    let in_use: BTreeSet<&StorePath> =
        snapshot.paths.values().filter(|record| record.last_used >= now).map(|record| &record.info.path).collect();
    let mut dropped: BTreeSet<StorePath> = BTreeSet::new();
    for (_, _, path) in order {
        if alive <= max {
            break;
        }
        let going = infos.referrers_closure([path]);
        if going.iter().any(|path| in_use.contains(path)) {
            continue;
        }
        for path in going {
            let bytes = cost.get(&path).copied().unwrap_or(0);
            if dropped.insert(path) {
                alive = alive.saturating_sub(bytes);
            }
        }
    }
    let touches = |layer: &Layer| layer.paths.iter().any(|(path, _)| dropped.contains(path));
    let smaller = snapshot.layers.iter().filter(|(_, layer)| touches(layer)).map(|(id, _)| *id).collect();
    snapshot.retain(|(path, _)| !dropped.contains(path));
    smaller
}

#[cfg(test)]
#[path = "repack_test.rs"]
mod tests;
