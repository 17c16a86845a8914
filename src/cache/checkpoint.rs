//! Checkpoints: saves of a job that goes on, so that a job that is cancelled or killed does not lose what it built.
//!
//! 1. A checkpoint selects, packs and pushes like every save, and commits a generation. It only adds: nothing expires or is dropped, no
//!    layer is packed again for its order, and it does not count as one of the saves after which unused paths expire.
//! 2. After a change of the lock, the first checkpoint of the new key takes over the restored snapshot as a whole: the next job finds
//!    everything that this one had. The last save takes that back ([`take_back`]) as far as nobody used it.
//! 3. While it packs, Nix collects no garbage. It may while the checkpoint uploads.
//! 4. What was saved is recorded in our folder. To the next checkpoint and to the last save, it is new, and already stored.

use std::collections::BTreeSet;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Context;
use super::outcome::SaveReason;
use super::save::{Past, empty_outcome, read_store, save_paths};
use super::to_pack::LIKELY_RATIO;
use super::trust::objection;
use super::{last, record, record::RestoreRecord};
use crate::attach::CacheError;
use crate::base::digest::Sha;
use crate::snapshot::Snapshot;
use crate::store::own::{self, CHECKPOINTS, CHECKPOINTS_SNAPSHOT, OwnFolder};
use crate::store::{self, PathInfo, Paths, StoreDirs, StorePath};

const FORMAT: u32 = 1;

/// When a save happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// When the job ends, or by hand.
    End,
    /// While the job goes on. New paths of at most about this many NAR bytes are saved.
    Running { most: u64 },
}

/// What a job has saved while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Checkpoints {
    format: u32,
    run: String,
    key: String,
    lane: String,
    /// Whether the key had no generation before.
    pub(super) is_new_key: bool,
    /// Number of generations.
    pub saves: u64,
    /// The name of the last one, if [`last`] keeps it; otherwise empty.
    pub(super) generation: String,
    /// The paths that no layer had before.
    pub paths: BTreeSet<StorePath>,
    /// The ids of the stored bytes of their layers.
    pub(super) stored: BTreeSet<Sha>,
    pub bytes_uploaded: u64,
    pub entries_created: u64,
    /// Time that it took, in milliseconds.
    pub ms: u64,
    /// Why the last attempt failed; empty if it did not.
    pub trouble: String,
}

impl Checkpoints {
    fn new(context: &Context) -> Self {
        let identity = &context.identity;
        let (run, key, lane) = (identity.run.clone(), identity.key.clone(), identity.lane.clone());
        Self { format: FORMAT, run, key, lane, ..Self::default() }
    }

    fn is_of(&self, context: &Context) -> bool {
        let identity = &context.identity;
        !identity.run.is_empty()
            && (self.format, &self.run, &self.key, &self.lane) == (FORMAT, &identity.run, &identity.key, &identity.lane)
    }

    /// Records why nothing more is saved, for the last save.
    pub(crate) fn note_trouble(&mut self, context: &Context, why: &str) {
        why.clone_into(&mut self.trouble);
        self.write(context);
    }

    fn write(&self, context: &Context) {
        let dirs = &context.place.dirs;
        if let Err(error) = OwnFolder::work(dirs).and_then(|folder| folder.write_json(CHECKPOINTS, self)) {
            let place = own::work_dir(dirs).join(CHECKPOINTS);
            tracing::warn!("Cannot write {}: {error}. The last save uploads everything again.", place.display());
        }
    }
}

/// Begins with the checkpoints of a job, and forgets those of an earlier one.
pub(crate) fn begin(context: &Context) -> Checkpoints {
    let removed = OwnFolder::work(&context.place.dirs)
        .and_then(|folder| folder.remove(CHECKPOINTS).and_then(|()| folder.remove(CHECKPOINTS_SNAPSHOT)));
    if let Err(error) = removed {
        tracing::debug!("the record of earlier checkpoints stays: {error}");
    }
    Checkpoints::new(context)
}

/// Reads what this job has saved already.
pub(crate) fn load(context: &Context) -> Option<Checkpoints> {
    let folder = OwnFolder::open(&context.place.dirs).ok()??;
    let folders = folder.users().into_iter().chain([folder]);
    let read = |folder: OwnFolder| folder.read_json::<Checkpoints>(CHECKPOINTS).ok()?;
    folders.filter_map(read).find(|found| found.is_of(context))
}

/// NAR bytes of what builds and substituters added to the store, and no checkpoint has saved. Derivations and sources are saved with
/// other paths, and are no reason to save: the next evaluation writes them again.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn pending(dirs: &StoreDirs, so_far: &Checkpoints) -> Result<u64, CacheError> {
    let valid = store::read_all(dirs)?;
    let record = record::load(dirs)?.unwrap_or_else(|| RestoreRecord::begin("", BTreeSet::new(), None));
    let is_product = |info: &&PathInfo| info.ca.is_none() || (info.deriver.is_some() && !info.path.is_derivation());
    let is_new = |info: &&PathInfo| {
        [&record.baseline, &record.restored, &so_far.paths].iter().all(|paths| !paths.contains(&info.path))
    };
    let new = valid.values().filter(is_product).filter(is_new);
    // An empty output counts too.
    Ok(new.map(|info| info.nar_size.max(1)).fold(0, u64::saturating_add))
}

/// Saves up to about `most` NAR bytes of what is new, and records it in `so_far`. Returns the NAR bytes that were saved.
///
/// # Errors
/// When the store cannot be read, or the remote does not take what is new.
pub(crate) async fn checkpoint(context: &Context, so_far: &mut Checkpoints, most: u64) -> Result<u64, CheckpointError> {
    let start = Instant::now();
    if let Some(objection) = objection(&context.place.dirs, &context.place.keys) {
        return Err(CheckpointError(objection.note().message));
    }
    let mut outcome = empty_outcome(context);
    let earlier = (so_far.saves > 0).then(|| so_far.clone());
    let find = Box::pin(last::find(context, earlier.as_ref(), &mut outcome.notes));
    let (record, read, newest) = tokio::join!(record::read(&context.place.dirs), read_store(context), find);
    let (lock, here, _, roots) = read.map_err(|error| CheckpointError::of(&error))?;
    let record = record.map_err(|error| CheckpointError::of(&error))?;
    let past = Past { record, newest, near: None, trace: None, earlier, moment: Moment::Running { most }, lock };
    let pushed =
        save_paths(context, here, &roots, past, &mut outcome).await.map_err(|error| CheckpointError::of(&error))?;
    if outcome.saved.is_none() {
        return Ok(0);
    }
    so_far.is_new_key |= so_far.saves == 0 && outcome.reason == SaveReason::NewKey;
    so_far.saves += 1;
    let kept = pushed.generation.filter(|(_, bytes)| last::keep(context, bytes));
    so_far.generation = kept.map(|(name, _)| name).unwrap_or_default();
    so_far.paths.extend(pushed.paths);
    so_far.stored.extend(pushed.stored);
    so_far.bytes_uploaded += pushed.bytes;
    so_far.entries_created += pushed.entries;
    so_far.ms += u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    so_far.trouble.clear();
    so_far.write(context);
    Ok(outcome.nar_bytes_new)
}

/// Why a checkpoint was not written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CheckpointError(String);

impl CheckpointError {
    fn of(error: &impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Returns a part of `new` of about `most` NAR bytes, or one path if that is larger, with everything that it refers to.
pub(super) fn first_of(new: &BTreeSet<StorePath>, valid: &Paths, most: u64) -> BTreeSet<StorePath> {
    let (mut chosen, mut bytes) = (BTreeSet::new(), 0_u64);
    let mut seen = BTreeSet::new();
    for root in new {
        let mut open = vec![(root, false)];
        while let Some((path, is_ready)) = open.pop() {
            if is_ready {
                if bytes > 0 && bytes.saturating_add(valid[path].nar_size) > most {
                    return chosen;
                }
                bytes = bytes.saturating_add(valid[path].nar_size);
                chosen.insert(path.clone());
            } else if seen.insert(path) {
                open.push((path, true));
                open.extend(valid[path].references.iter().filter_map(|to| Some((new.get(to)?, false))));
            }
        }
    }
    chosen
}

/// Whether the snapshot would exceed the user's limit with `new`. The last save drops something then, a checkpoint does not.
pub(super) fn is_too_large(context: &Context, snapshot: &Snapshot, new: &BTreeSet<StorePath>, valid: &Paths) -> bool {
    let new: u64 = new.iter().map(|path| valid[path].nar_size).sum();
    context.packing.max_size.is_some_and(|max| snapshot.stored_bytes() + new / LIKELY_RATIO > max)
}

/// Removes from `same`, the newest generation of the key, what checkpoints took over from the restored snapshot `near` and no lane has
/// used since, except for what is `wanted`. The same for what they recorded of `lane`.
pub(super) fn take_back(same: &mut Snapshot, near: &Snapshot, lane: &str, wanted: &BTreeSet<StorePath>) {
    let saves = |snapshot: &Snapshot| snapshot.lanes.get(lane).map(|lane| lane.saves.clone()).unwrap_or_default();
    let is_ours_alone = saves(same) == saves(near);
    let mut used: BTreeSet<&StorePath> = BTreeSet::new();
    for (name, now) in same.lanes.iter().filter(|(name, _)| *name != lane || !is_ours_alone) {
        let before = near.lanes.get(name).map(|lane| &lane.paths);
        let is_later = |(path, time): &(&StorePath, &u64)| {
            before.and_then(|before| before.get(*path)).is_none_or(|before| before < *time)
        };
        used.extend(now.paths.iter().filter(is_later).map(|(path, _)| path));
    }
    let used = same.with_references(used.into_iter());
    if is_ours_alone {
        same.lanes.remove(lane);
    }
    let stays = |path: &StorePath| wanted.contains(path) || used.contains(path);
    same.retain(|key| stays(&key.0) || !near.paths.contains_key(key));
    same.upstream.retain(|path| stays(path) || !near.upstream.contains(path));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::digest::Digests;
    use crate::snapshot::{Lane, Stored};

    fn path(number: u8) -> StorePath {
        format!("{number:032}-p").parse().unwrap()
    }

    fn paths(numbers: &[u8]) -> BTreeSet<StorePath> {
        numbers.iter().copied().map(path).collect()
    }

    fn info(number: u8, references: &[u8]) -> PathInfo {
        let references = references.iter().copied().map(path).collect();
        PathInfo { nar_size: 10, references, ..PathInfo::sample(path(number)) }
    }

    #[test]
    fn a_part_has_everything_that_it_refers_to() {
        let infos = [info(1, &[5]), info(2, &[1]), info(3, &[3]), info(4, &[9]), info(5, &[]), info(9, &[])];
        let valid: Paths = infos.into_iter().map(|info| (info.path.clone(), info)).collect();
        // The last one is in a layer.
        let new = paths(&[1, 2, 3, 4, 5]);
        for (most, wanted) in [(0, &[5][..]), (10, &[5]), (29, &[1, 5]), (30, &[1, 2, 5]), (1000, &[1, 2, 3, 4, 5])] {
            assert_eq!(first_of(&new, &valid, most), paths(wanted), "{most}");
        }
        assert!(first_of(&BTreeSet::new(), &valid, 100).is_empty());
    }

    /// Its name, its saves, and its paths with their times.
    type TestLane<'a> = (&'a str, &'a [u64], &'a [(u8, u64)]);

    /// A snapshot with these paths, of which each refers to the one before, and lanes with the times of their paths.
    fn snapshot(numbers: std::ops::Range<u8>, lanes: &[TestLane<'_>]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let digests = Digests { size: 10, chunks: vec![Sha([numbers.end; 32])] };
        let stored = Stored { digests: digests.clone(), entry: numbers.end.to_string() };
        let infos = numbers.map(|number| info(number, &[number - 1]));
        snapshot.add_layer((digests, None), stored, infos, 1);
        for (name, saves, used) in lanes {
            let paths = used.iter().map(|(number, time)| (path(*number), *time)).collect();
            let lane = Lane { saves: saves.iter().copied().collect(), paths, ..Lane::default() };
            snapshot.lanes.insert((*name).to_owned(), lane);
        }
        snapshot
    }

    fn names(snapshot: &Snapshot) -> BTreeSet<StorePath> {
        snapshot.paths.keys().map(|key| key.0.clone()).collect()
    }

    #[test]
    fn what_a_checkpoint_took_over_goes_unless_a_lane_has_used_it_since() {
        let old = [("mine", &[5][..], &[(4, 5)][..]), ("other", &[5], &[(2, 5), (9, 5)])];
        let near = snapshot(1..10, &old);
        // A checkpoint of `mine` on top of it, with a new path.
        let mine: [(u8, u64); 2] = [(4, 7), (20, 7)];
        let mut same = near.clone();
        same.merge(snapshot(20..21, &[("mine", &[5], &mine)]));
        let mut alone = same.clone();
        take_back(&mut alone, &near, "mine", &paths(&[4, 20]));
        assert_eq!(names(&alone), paths(&[4, 20]));
        assert!(!alone.lanes.contains_key("mine") && alone.lanes["other"].paths.is_empty());
        // Meanwhile the other lane has saved, and needs the second and third path.
        same.merge(snapshot(30..31, &[("other", &[5, 8], &[(3, 8), (30, 8)])]));
        take_back(&mut same, &near, "mine", &paths(&[4, 20]));
        assert_eq!(names(&same), paths(&[1, 2, 3, 4, 20, 30]));
        // And another job of this lane.
        let mut same = near.clone();
        same.merge(snapshot(40..41, &[("mine", &[5, 9], &[(4, 9), (40, 9)])]));
        take_back(&mut same, &near, "mine", &paths(&[]));
        assert_eq!(names(&same), paths(&[1, 2, 3, 4, 40]));
        assert!(same.lanes.contains_key("mine"));
    }
}
