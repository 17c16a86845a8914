//! Keeps the number of layers and their dead part small.
//!
//! Like `git repack --geometric` with packs: each layer is at least as large as all smaller ones together. A save that would violate
//! this repacks the small layers from the store together with its new paths. There are therefore only a handful of layers, and a byte
//! is repacked only a few times, however many saves there are.

use std::collections::{BTreeMap, BTreeSet};

use super::dead::Accounts;
use crate::base::digest::Sha;
use crate::layer::squashfs::usage::Usage;
use crate::snapshot::{Lane, Layer, Snapshot};
use crate::store::{PathInfo, Paths, StorePath};

/// Largest number of layers that are kept, whatever it costs to repack them.
pub(super) const MAX_LAYERS: usize = 8;
/// Each layer is at least this many times as large as all smaller ones together. With 1, two hundred saves of two percent each pack
/// 3.5 bytes per new byte; with 2, 5.6.
const FACTOR: u64 = 1;

/// The first or a later save of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The first one: layers of another key are repacked only if more of them is dead than alive. Otherwise, each change of the lock
    /// would cause a full upload.
    First,
    /// One while the job runs. It leaves room for a layer of the last one, which then need not join any.
    Running,
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
        if self == Self::Later { 15 } else { 100 }
    }

    /// Largest number of layers of the snapshot that is written.
    pub(super) fn most_layers(self) -> usize {
        if self == Self::Running { MAX_LAYERS - 1 } else { MAX_LAYERS }
    }
}

/// Layers to repack.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Again {
    /// Together with new paths.
    pub joined: BTreeSet<Sha>,
    /// Together, but separate from the others if they are large enough.
    pub apart: BTreeSet<Sha>,
}

impl Again {
    pub(super) fn all(&self) -> BTreeSet<Sha> {
        &self.joined | &self.apart
    }
}

/// A layer in this plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Weight {
    /// The needed part of its stored bytes.
    live: u64,
    id: Sha,
    /// Whether it is used by different lanes from the new paths.
    is_apart: bool,
}

/// Selects layers of `snapshot` to repack together with new paths that take about `new_bytes` in a layer and that the lanes `users`
/// use. Because of their size alone, only layers of the same lanes are joined, so that paths used together are together. Only layers
/// are selected whose wanted paths are all in this store (`valid`) with the same bytes. Those in `must` are always selected. `usage`
/// says which bytes of the layers belong to which path, as far as that is known.
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
        is_apart: turn != Turn::Later || users_of(snapshot, layer) != *users,
    };
    let (here, elsewhere): (Vec<_>, Vec<_>) = snapshot.layers.iter().partition(|(_, layer)| is_here(layer, valid));
    let mut weights: Vec<Weight> = here.into_iter().map(weigh).collect();
    weights.sort();
    let can_be_packed = |id: &Sha| weights.iter().any(|weight| weight.id == *id);
    // Layers of other lanes must not make this lane repack everything with each save: they get at most half of the places.
    let places = turn.most_layers() - elsewhere.len().min(MAX_LAYERS / 2);
    let mut chosen: BTreeSet<Sha> = must.iter().copied().filter(can_be_packed).collect();
    accounts.choose(&mut chosen, turn.most_dead(), &can_be_packed);
    plan(&weights, new_bytes, &mut chosen, places);
    // Of a layer that was joined with others, only the bytes that a third one uses stay alive.
    accounts.choose(&mut chosen, turn.most_dead(), &can_be_packed);
    split(&weights, new_bytes, &chosen)
}

/// Of the layers to repack, those that are small compared to the new paths are joined with them. The rest of a large layer has not
/// changed with the others, and will probably not change with the new paths: it gets a separate layer, which is not repacked again
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

/// Returns whether every wanted path of `layer` is in this store with the same bytes.
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

/// The lanes that use any path of a layer.
fn users_of(snapshot: &Snapshot, layer: &Layer) -> BTreeSet<String> {
    let uses = |lane: &Lane| lane.uses_any(layer.paths.iter().map(|(path, _)| path));
    snapshot.lanes.iter().filter(|(_, lane)| uses(lane)).map(|(name, _)| name.clone()).collect()
}

/// Largest layer of other lanes that is joined with others.
const SMALL: u64 = 20 << 20;
/// Largest number of bytes that one save downloads for that.
const FETCH: u64 = 256 << 20;
/// Number of layers above which large ones are joined as well: a mount supports 32 layers.
const MANY_LAYERS: usize = 24;

/// Selects layers to download and pack into one, although their paths are not in this store: the smallest ones, as long as there are
/// more than [`MAX_LAYERS`].
pub(super) fn layers_to_fetch(snapshot: &Snapshot, valid: &Paths) -> BTreeSet<Sha> {
    let bytes = |layer: &Layer| -> u64 {
        layer.stored().iter().filter_map(|id| snapshot.stored.get(id)).map(|stored| stored.digests.size).sum()
    };
    let elsewhere = snapshot.layers.iter().filter(|(_, layer)| !is_here(layer, valid));
    let mut elsewhere: Vec<(u64, Sha)> = elsewhere.map(|(id, layer)| (bytes(layer), *id)).collect();
    elsewhere.sort();
    let (mut chosen, mut fetched) = (BTreeSet::new(), 0);
    for (size, id) in elsewhere {
        // All chosen layers become one.
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

/// Adds layers to the `chosen` ones that are small compared to what is packed anyway, or that exceed the number of `places` for the
/// others. `weights` are in ascending order.
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

/// The size of a snapshot in the remote without the dead part of its layers, that is, its size if all were repacked.
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

/// The share of the `own` bytes of `layer` for `nar_bytes` of NARs, at the ratio of the whole.
pub(super) fn scaled(own: u64, layer: &Layer, nar_bytes: u64) -> u64 {
    (own as f64 * nar_bytes as f64 / layer.nar_bytes.max(1) as f64) as u64
}

/// Drops the least recently used paths from `snapshot`, those that `upstream` offers first, until at most `max` bytes are alive in it.
/// Referrers of a dropped path are dropped too. Paths used at `now` stay. Returns the layers that have become smaller.
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
