//! Makes attached paths valid while other Nix processes may be working on the same ones.
//!
//! Usually nobody else has the database open. Then it is locked as a whole, and the paths are registered in large batches.
//! Otherwise each path is registered under Nix's lock on it, the outputs of a derivation together. A path that another process is
//! building is left to that process, and so are its referrers. A process can hold only a limited number of locks, so the batches are
//! small then, and the lock files of one batch are reused for the next. References come first: the valid paths are closed after
//! each batch.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::{fs, io};

use foldhash::quality::RandomState;

use super::CacheError;
use crate::base::quick::QuickMap;
use crate::store::tree::remove_tree;
use crate::store::{self, PathInfo, PathLock, Paths, Present, StoreDirs, StorePath, path_lock};

/// Number of locks held at a time: each needs an open file, and a process may have 1,024 by default.
const BATCH: usize = 64;
/// Size of a batch without locks.
const BATCH_ALONE: usize = 4096;

/// A path that is in place but not valid yet.
#[derive(Clone, Debug)]
pub(crate) struct InPlace {
    /// The record to register.
    pub info: Arc<PathInfo>,
    /// Its inode number, if it was unpacked.
    inode: Option<u64>,
}

impl InPlace {
    /// An unpacked path, with its inode number.
    pub(crate) fn unpacked(info: &Arc<PathInfo>, inode: u64) -> Self {
        Self { info: Arc::clone(info), inode: Some(inode) }
    }

    /// A path that is visible through a mount.
    pub(crate) fn mounted(info: &Arc<PathInfo>) -> Self {
        Self { info: Arc::clone(info), inode: None }
    }

    /// Returns whether it is visible through a mount.
    pub(crate) fn is_mounted(&self) -> bool {
        self.inode.is_none()
    }

    /// Returns whether the path is still the one that was placed.
    fn is_there(&self, dirs: &StoreDirs, present: &Present) -> bool {
        match self.inode {
            None => present.has(dirs, &self.info.path),
            Some(inode) => {
                fs::symlink_metadata(dirs.real(&self.info.path)).is_ok_and(|metadata| inode == metadata.ino())
            }
        }
    }
}

/// Registers the placed paths whose closure is available and of which no other output is `lost`; removes the others if they
/// were unpacked. Returns those that are valid now.
///
/// # Errors
/// When the store cannot be written. The paths that are valid by then are closed.
pub(crate) fn register_closed(
    dirs: &StoreDirs,
    placed: &BTreeMap<StorePath, InPlace>,
    lost: Vec<Arc<PathInfo>>,
    is_valid: impl Fn(&StorePath) -> bool,
) -> Result<BTreeSet<StorePath>, CacheError> {
    let mut registered = BTreeSet::new();
    register_into(&mut registered, dirs, placed, lost, is_valid)?;
    Ok(registered)
}

/// Like [`register_closed`], but the paths that became valid are in `registered`, even after an error.
///
/// # Errors
/// See [`register_closed`].
pub(crate) fn register_into(
    registered: &mut BTreeSet<StorePath>,
    dirs: &StoreDirs,
    placed: &BTreeMap<StorePath, InPlace>,
    lost: Vec<Arc<PathInfo>>,
    is_valid: impl Fn(&StorePath) -> bool,
) -> Result<(), CacheError> {
    let infos = placed.iter().map(|(path, place)| (path.clone(), place.info.clone())).collect();
    let infos = whole_groups(infos, lost, &is_valid);
    let groups = groups(&infos);
    // If there is nothing to register, the database need not be writable.
    if !groups.is_empty() {
        let mut registration = store::Registration::open(dirs, infos.len())?;
        let mut spare = Vec::new();
        let size = if registration.alone().is_some() { BATCH_ALONE } else { BATCH };
        for batch in batches(groups, size) {
            let is_valid = |path: &StorePath| registered.contains(path) || is_valid(path);
            let done = register_batch((dirs, &mut registration, &mut spare), &batch, placed, is_valid)?;
            registered.extend(done);
        }
    }
    for place in placed.values().filter(|place| !registered.contains(&place.info.path)) {
        if let Err(error) = discard(dirs, place) {
            tracing::debug!("{} stays behind: {error}", place.info.path);
        }
    }
    Ok(())
}

/// Returns the subset of `infos` that is closed and has no output of a derivation without its others in `infos` and `lost`.
fn whole_groups(
    mut infos: Paths<Arc<PathInfo>>,
    lost: Vec<Arc<PathInfo>>,
    is_valid: impl Fn(&StorePath) -> bool,
) -> Paths<Arc<PathInfo>> {
    let closed = infos.closed_subset(&is_valid);
    infos.extend(lost.into_iter().map(|info| (info.path.clone(), info)));
    if closed.len() == infos.len() {
        return infos;
    }
    let useless = infos.useless_without(infos.keys().filter(|path| !closed.contains(*path)));
    infos.retain(|path, _| !useless.contains(path));
    infos
}

/// Outputs of one derivation, which become valid together: Nix locks all of them before it checks which are valid, and several
/// versions fail if only some are.
type Group<'a> = Vec<&'a PathInfo>;

/// Splits `infos` into groups, each after those that it refers to. Groups in a cycle, which Nix never has, are left out.
fn groups(infos: &Paths<Arc<PathInfo>>) -> Vec<Group<'_>> {
    // Groups have numbers: names would need more memory than the whole snapshot.
    let mut numbers: QuickMap<(bool, &StorePath), u32> = QuickMap::default();
    let mut members: Vec<Group<'_>> = Vec::new();
    let mut group_of: QuickMap<&StorePath, u32> =
        QuickMap::with_capacity_and_hasher(infos.len(), RandomState::default());
    for info in infos.values() {
        // A path without a deriver is a group of its own, even if it is a derivation.
        let name = (info.deriver.is_some(), info.deriver.as_ref().unwrap_or(&info.path));
        let number = *numbers.entry(name).or_insert(members.len() as u32);
        match members.get_mut(number as usize) {
            Some(group) => group.push(info),
            None => members.push(vec![&**info]),
        }
        group_of.insert(&info.path, number);
    }
    drop(numbers);
    // Edges from each group to those that need it, without duplicates.
    let mut needed_by: Vec<(u32, u32)> = Vec::new();
    let mut needs: Vec<u32> = Vec::with_capacity(members.len());
    for (own, group) in (0..).zip(&members) {
        let references = group.iter().flat_map(|info| &info.references);
        let mut others: Vec<u32> = references.filter_map(|path| group_of.get(path).copied()).collect();
        others.retain(|other| *other != own);
        others.sort_unstable();
        others.dedup();
        needs.push(others.len() as u32);
        needed_by.extend(others.into_iter().map(|other| (other, own)));
    }
    drop(group_of);
    needed_by.sort_unstable();
    let mut ready: Vec<u32> = (0..).zip(&needs).filter(|(_, needs)| **needs == 0).map(|(group, _)| group).collect();
    let mut ordered = Vec::with_capacity(members.len());
    while let Some(group) = ready.pop() {
        let from = needed_by.partition_point(|(needed, _)| *needed < group);
        for (_, referrer) in needed_by[from..].iter().take_while(|(needed, _)| *needed == group) {
            let needs = &mut needs[*referrer as usize];
            *needs -= 1;
            if *needs == 0 {
                ready.push(*referrer);
            }
        }
        ordered.push(std::mem::take(&mut members[group as usize]));
    }
    ordered
}

/// Combines groups to batches of about `size` paths.
fn batches(groups: Vec<Group<'_>>, size: usize) -> Vec<Vec<Group<'_>>> {
    let mut batches: Vec<Vec<Group<'_>>> = Vec::new();
    let mut room = 0;
    for group in groups {
        if room < group.len() {
            batches.push(Vec::new());
            room = size.max(group.len());
        }
        room -= group.len();
        if let Some(batch) = batches.last_mut() {
            batch.push(group);
        }
    }
    batches
}

/// Registers the groups that are in place, whose locks are all free and whose references are valid. Reuses the locks in `spare`, and
/// puts locks there afterwards.
fn register_batch(
    (dirs, registration, spare): (&StoreDirs, &mut store::Registration<'_>, &mut Vec<PathLock>),
    batch: &[Group<'_>],
    placed: &BTreeMap<StorePath, InPlace>,
    is_valid: impl Fn(&StorePath) -> bool,
) -> Result<BTreeSet<StorePath>, CacheError> {
    let mut locks = Vec::new();
    // Without locks, small enough to look each up.
    let mut ready: Paths<Arc<PathInfo>> = Paths::default();
    for group in batch {
        let infos = group.iter().map(|info| (info.path.clone(), Arc::clone(&placed[&info.path].info)));
        if let Some(present) = registration.alone() {
            if group.iter().all(|info| placed[&info.path].is_there(dirs, present)) {
                ready.extend(infos);
            } else {
                tracing::info!("{} was replaced by another process and is left to it.", group[0].path);
            }
            continue;
        }
        let taken = group.iter().map(|info| lock_in_place(dirs, &placed[&info.path], spare.pop()));
        if let Some(taken) = taken.collect::<Result<Option<Vec<_>>, _>>()? {
            locks.extend(group.iter().map(|info| &info.path).zip(taken));
            ready.extend(infos);
        } else {
            tracing::info!("{} is being built by another process and is left to it.", group[0].path);
        }
    }
    let ready = whole_groups(ready, Vec::new(), is_valid);
    let names: BTreeSet<StorePath> = ready.keys().cloned().collect();
    registration.add(&ready.into_values().collect::<Vec<_>>())?;
    // A process that waits for the lock of a valid path will find nothing to do, whatever the name of its lock file by then.
    // The locks of other paths are released in place.
    *spare = locks.into_iter().filter(|(path, _)| names.contains(*path)).map(|(_, lock)| lock).collect();
    Ok(names)
}

/// Locks a path if it is still the one that was placed.
fn lock_in_place(dirs: &StoreDirs, place: &InPlace, spare: Option<PathLock>) -> Result<Option<PathLock>, CacheError> {
    let path = dirs.real(&place.info.path);
    let lock = match spare {
        Some(spare) => spare.move_to(&path),
        None => path_lock(&path),
    };
    match lock {
        Ok(lock) => Ok(lock.filter(|_| place.is_there(dirs, &Present::default()))),
        Err(error) => Err(CacheError::File { what: "Cannot lock", path, error }),
    }
}

/// Removes a path that will not become valid, unless another process has built it meanwhile.
pub(crate) fn discard(dirs: &StoreDirs, place: &InPlace) -> io::Result<()> {
    let path = dirs.real(&place.info.path);
    if place.inode.is_none() {
        return Ok(());
    }
    let Some(_lock) = path_lock(&path)? else { return Ok(()) };
    if place.is_there(dirs, &Present::default()) && store::is_valid(dirs, &place.info.path).is_ok_and(|valid| !valid) {
        remove_tree(&path)?;
    }
    Ok(())
}
