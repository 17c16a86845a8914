//! Limits a restore to the free disk space, with the reserve of [`crate::base::disk`] left to the job.
//!
//! 1. A layer needs space for its downloaded bytes, for its file if a recipe assembles it, and for its paths if they are unpacked.
//! 2. While the layers need more than there is, the layer with the least useful paths per byte is left out. Referrers of its paths
//!    are useless too, and count.
//! 3. If paths are unpacked, those that others need come first, until the disk is full.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use super::Context;
use super::mode::choose;
use crate::attach::Mode;
use crate::base::digest::Sha;
use crate::base::note::{Code, Note};
use crate::base::{disk, human};
use crate::snapshot::Snapshot;
use crate::store::{PathInfo, Paths, StorePath};

/// The paths that are wanted from each layer.
type Assigned = BTreeMap<Sha, BTreeSet<StorePath>>;

/// The free space in bytes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// For layers, in our folder.
    layers: u64,
    /// For paths, in the store; None if nothing is unpacked.
    paths: Option<u64>,
    /// Whether both are on one disk and therefore share the space.
    shared: bool,
}

/// Returns the part of `assigned` that fits on the disks of the machine, with a note if that is not everything.
pub(super) fn fit(
    context: &Context,
    snapshot: &Snapshot,
    missing: &Paths<&PathInfo>,
    assigned: Assigned,
    is_valid: &dyn Fn(&StorePath) -> bool,
) -> (Assigned, Option<Note>) {
    let (own, store) = (context.place.dirs.own_dir(), context.place.dirs.real_store());
    let (Ok(for_layers), Ok(for_paths)) = (disk::room(&own), disk::room(&store)) else { return (assigned, None) };
    let unpacks = choose(context.place.mode, &context.place.dirs).0 == Mode::Unpack;
    let limits = Limits {
        layers: for_layers.usable(),
        paths: unpacks.then(|| for_paths.usable()),
        shared: for_layers.device == for_paths.device,
    };
    let needed =
        layer_bytes(snapshot, assigned.keys()).saturating_add(if unpacks { path_bytes(missing, &assigned) } else { 0 });
    let before = count(&assigned);
    let fitting = choose_layers(snapshot, missing, assigned, is_valid, limits);
    let left_out = before - count(&fitting);
    let note = (left_out > 0).then(|| note(&store, (left_out, before), needed));
    (fitting, note)
}

fn note(store: &Path, (left_out, all): (usize, usize), needed: u64) -> Note {
    let (free, reserve) = disk::room(store).map_or((0, 0), |room| (room.free, room.reserve));
    Note::warn(
        Code::NoRoom,
        format!(
            "{left_out} of {all} paths are not restored, because the disk has no room for them: all of them need {}, and {} are \
             free, of which {} are left to the job. Free some space in a step before this one.",
            human::bytes(needed),
            human::bytes(free),
            human::bytes(reserve)
        ),
    )
}

fn count(assigned: &Assigned) -> usize {
    assigned.values().map(BTreeSet::len).sum()
}

/// Returns the part of `assigned` within `limits`.
fn choose_layers(
    snapshot: &Snapshot,
    missing: &Paths<&PathInfo>,
    mut assigned: Assigned,
    is_valid: &dyn Fn(&StorePath) -> bool,
    limits: Limits,
) -> Assigned {
    while layer_bytes(snapshot, assigned.keys()) > limits.layers {
        let Some(id) = least_useful(snapshot, missing, &assigned, is_valid) else { break };
        assigned.remove(&id);
        let useful = closed(missing, &assigned, is_valid);
        keep(&mut assigned, &useful);
    }
    let Some(room) = limits.paths else { return assigned };
    let taken = if limits.shared { layer_bytes(snapshot, assigned.keys()) } else { 0 };
    let room = room.saturating_sub(taken);
    if path_bytes(missing, &assigned) > room {
        let fitting = first_paths(missing, &assigned, is_valid, room);
        keep(&mut assigned, &fitting);
    }
    assigned
}

/// Bytes that these layers need on the disk until they are attached.
pub(super) fn layer_bytes<'a>(snapshot: &Snapshot, ids: impl Iterator<Item = &'a Sha>) -> u64 {
    let layers: Vec<_> = ids.filter_map(|id| snapshot.layers.get(id)).collect();
    let stored: BTreeSet<Sha> = layers.iter().flat_map(|layer| layer.stored()).collect();
    let fetched = stored.iter().filter_map(|id| snapshot.stored.get(id)).map(|stored| stored.digests.size);
    let made = layers.iter().filter(|layer| layer.recipe.is_some()).map(|layer| layer.digests.size);
    fetched.chain(made).fold(0, u64::saturating_add)
}

fn path_bytes(missing: &Paths<&PathInfo>, assigned: &Assigned) -> u64 {
    let infos = assigned.values().flatten().filter_map(|path| missing.get(path));
    infos.map(|info| info.nar_size).fold(0, u64::saturating_add)
}

/// Returns the assigned paths whose references are also assigned, or valid.
fn closed(
    missing: &Paths<&PathInfo>,
    assigned: &Assigned,
    is_valid: &dyn Fn(&StorePath) -> bool,
) -> BTreeSet<StorePath> {
    let infos = assigned.values().flatten().filter_map(|path| Some((path.clone(), *missing.get(path)?)));
    infos.collect::<Paths<&PathInfo>>().closed_subset(is_valid)
}

fn keep(assigned: &mut Assigned, paths: &BTreeSet<StorePath>) {
    for held in assigned.values_mut() {
        held.retain(|path| paths.contains(path));
    }
    assigned.retain(|_, held| !held.is_empty());
}

/// Returns the layer without which the fewest paths are lost per freed byte.
fn least_useful(
    snapshot: &Snapshot,
    missing: &Paths<&PathInfo>,
    assigned: &Assigned,
    is_valid: &dyn Fn(&StorePath) -> bool,
) -> Option<Sha> {
    let (all, bytes) = (closed(missing, assigned, is_valid).len(), layer_bytes(snapshot, assigned.keys()));
    let worth = |id: &Sha| {
        let mut rest = assigned.clone();
        rest.remove(id);
        let lost = all - closed(missing, &rest, is_valid).len();
        lost as f64 / bytes.saturating_sub(layer_bytes(snapshot, rest.keys())).max(1) as f64
    };
    let worths: Vec<(f64, Sha)> = assigned.keys().map(|id| (worth(id), *id)).collect();
    worths.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, id)| id)
}

/// Returns as many assigned paths as fit into `room`, references first.
fn first_paths(
    missing: &Paths<&PathInfo>,
    assigned: &Assigned,
    is_valid: &dyn Fn(&StorePath) -> bool,
    mut room: u64,
) -> BTreeSet<StorePath> {
    let wanted: BTreeSet<&StorePath> = assigned.values().flatten().collect();
    let mut taken: BTreeSet<StorePath> = BTreeSet::new();
    for info in references_first(missing, &wanted) {
        let is_there = |path: &StorePath| *path == info.path || taken.contains(path) || is_valid(path);
        if info.nar_size <= room && info.references.iter().all(is_there) {
            room -= info.nar_size;
            taken.insert(info.path.clone());
        }
    }
    taken
}

fn references_first<'a>(missing: &Paths<&'a PathInfo>, wanted: &BTreeSet<&StorePath>) -> Vec<&'a PathInfo> {
    let (mut seen, mut ordered) = (HashSet::new(), Vec::with_capacity(wanted.len()));
    let wanted_info = |path: &StorePath| missing.get(path).copied().filter(|_| wanted.contains(path));
    let mut open: Vec<(&PathInfo, bool)> =
        wanted.iter().filter_map(|path| wanted_info(path)).map(|info| (info, false)).collect();
    while let Some((info, is_ready)) = open.pop() {
        if is_ready {
            ordered.push(info);
        } else if seen.insert(&info.path) {
            open.push((info, true));
            open.extend(info.references.iter().filter_map(wanted_info).map(|info| (info, false)));
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::digest::Digests;
    use crate::snapshot::Stored;
    use crate::store::NarHash;

    fn path(number: u8) -> StorePath {
        format!("{number:032}-p").parse().unwrap()
    }

    fn info(number: u8, size: u64, references: &[u8]) -> PathInfo {
        PathInfo {
            nar_hash: NarHash([number; 32]),
            nar_size: size,
            references: references.iter().copied().map(path).collect(),
            ..PathInfo::sample(path(number))
        }
    }

    /// Layers of so many bytes with these paths.
    fn snapshot(layers: &[(u64, &[PathInfo])]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (number, (size, infos)) in (1..).zip(layers) {
            let digests = Digests { size: *size, chunks: vec![Sha([number; 32])] };
            let stored = Stored { digests: digests.clone(), entry: number.to_string() };
            snapshot.add_layer((digests, None), stored, infos.iter().cloned(), 1);
        }
        snapshot
    }

    fn fitting(snapshot: &Snapshot, limits: Limits) -> Vec<StorePath> {
        let missing: Paths<&PathInfo> =
            snapshot.paths.values().map(|record| (record.info.path.clone(), &record.info)).collect();
        let names = |paths: &BTreeSet<(StorePath, NarHash)>| paths.iter().map(|key| key.0.clone()).collect();
        let assigned = snapshot.layers.iter().map(|(id, layer)| (*id, names(&layer.paths))).collect();
        let mut paths: Vec<StorePath> =
            choose_layers(snapshot, &missing, assigned, &|_| false, limits).into_values().flatten().collect();
        paths.sort();
        paths
    }

    #[test]
    fn the_layer_goes_that_is_least_worth_its_bytes_and_with_it_what_needs_it() {
        let (base, app, large) = (info(1, 10, &[]), info(2, 10, &[1]), info(3, 10, &[]));
        let snapshot = snapshot(&[(100, &[base]), (100, &[app]), (300, &[large])]);
        let layers = |layers| Limits { layers, paths: None, shared: true };
        assert_eq!(fitting(&snapshot, layers(500)).len(), 3);
        assert_eq!(fitting(&snapshot, layers(499)), [path(1), path(2)]);
        // The base would take both with it.
        assert_eq!(fitting(&snapshot, layers(150)), [path(1)]);
        assert!(fitting(&snapshot, layers(99)).is_empty());
    }

    #[test]
    fn where_paths_are_unpacked_those_come_first_that_others_need() {
        let infos = [info(1, 50, &[2]), info(2, 30, &[3, 2]), info(3, 20, &[]), info(4, 1000, &[])];
        let snapshot = snapshot(&[(40, &infos)]);
        let paths = |paths| Limits { layers: 1000, paths: Some(paths), shared: false };
        assert_eq!(fitting(&snapshot, paths(2000)).len(), 4);
        assert_eq!(fitting(&snapshot, paths(99)), [path(2), path(3)]);
        assert_eq!(fitting(&snapshot, paths(100)), [path(1), path(2), path(3)]);
        assert!(fitting(&snapshot, paths(10)).is_empty());
        // On one disk the layer itself takes its part.
        let shared = Limits { layers: 100, paths: Some(100), shared: true };
        assert_eq!(fitting(&snapshot, shared), [path(2), path(3)]);
    }
}
