//! Making attached paths valid while other Nix processes may be at work on the very same ones.
//!
//! Each path is registered under Nix's lock on it, the outputs of a derivation together. What somebody else makes at this
//! moment is left to them, and with it what refers to it. Since a process can hold only so many locks, paths are registered in
//! batches, references first, so that what is valid after each batch is closed. The lock files of one batch become those of
//! the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::{fs, io};

use super::CacheError;
use crate::store::tree::remove_tree;
use crate::store::{self, PathInfo, PathLock, StoreDirs, StorePath, closed_subset, path_lock, useless_without};

/// Locks held at a time; a process may have 1,024 files open by default, and each needs a file of its own.
const BATCH: usize = 64;

/// A path that is in its place and not valid yet.
#[derive(Clone, Debug)]
pub(crate) struct InPlace {
    /// What is to be registered.
    pub info: Arc<PathInfo>,
    /// The number of its inode, if it was unpacked.
    inode: Option<u64>,
}

impl InPlace {
    /// One that was unpacked, with the number of its inode.
    pub(crate) fn unpacked(info: &Arc<PathInfo>, inode: u64) -> Self {
        Self { info: Arc::clone(info), inode: Some(inode) }
    }

    /// One that is seen through a mount.
    pub(crate) fn mounted(info: &Arc<PathInfo>) -> Self {
        Self { info: Arc::clone(info), inode: None }
    }

    /// Whether it is seen through a mount.
    pub(crate) fn is_mounted(&self) -> bool {
        self.inode.is_none()
    }

    /// Whether what stands in its place is still what was put there.
    fn is_there(&self, dirs: &StoreDirs) -> bool {
        let found = fs::symlink_metadata(dirs.real(&self.info.path));
        found.is_ok_and(|metadata| self.inode.is_none_or(|inode| inode == metadata.ino()))
    }
}

/// Registers of the paths in place those whose closure is there too, and of which no other output is `lost`; removes the
/// others that were unpacked. Gives those that are valid now.
///
/// # Errors
/// When the store cannot be written. What is valid by then is closed.
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

/// See [`register_closed`]; what became valid is in `registered`, also where an error ends it.
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
    let batches = batches(groups(&infos));
    // Where there is nothing to register, the database need not be writable.
    if !batches.is_empty() {
        let mut registration = store::Registration::open(dirs)?;
        let mut spare = Vec::new();
        for batch in batches {
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

/// The part of `infos` that is closed, and that has no output of a derivation without the others in `infos` and `lost`.
fn whole_groups(
    mut infos: BTreeMap<StorePath, Arc<PathInfo>>,
    lost: Vec<Arc<PathInfo>>,
    is_valid: impl Fn(&StorePath) -> bool,
) -> BTreeMap<StorePath, Arc<PathInfo>> {
    let closed = closed_subset(&infos, &is_valid);
    infos.extend(lost.into_iter().map(|info| (info.path.clone(), info)));
    let useless = useless_without(&infos, infos.keys().filter(|path| !closed.contains(*path)));
    infos.retain(|path, _| !useless.contains(path));
    infos
}

/// Outputs of one derivation, which become valid together: Nix locks all of them before it looks which are valid, and several
/// of its versions fail when only some are.
type Group<'a> = Vec<&'a PathInfo>;

/// All of `infos` in groups, each behind those that it refers to. Groups that refer to each other in a circle, which Nix does
/// not have, are left out.
fn groups(infos: &BTreeMap<StorePath, Arc<PathInfo>>) -> Vec<Group<'_>> {
    // Groups have numbers: with names, this would take more memory than all of the snapshot.
    let mut numbers: HashMap<(bool, &StorePath), u32> = HashMap::new();
    let mut members: Vec<Group<'_>> = Vec::new();
    let mut group_of: HashMap<&StorePath, u32> = HashMap::with_capacity(infos.len());
    for info in infos.values() {
        // A path that no derivation made is a group of its own, also where it is a derivation.
        let name = (info.deriver.is_some(), info.deriver.as_ref().unwrap_or(&info.path));
        let number = *numbers.entry(name).or_insert(members.len() as u32);
        match members.get_mut(number as usize) {
            Some(group) => group.push(info),
            None => members.push(vec![&**info]),
        }
        group_of.insert(&info.path, number);
    }
    drop(numbers);
    // Which group is needed by which, each pair once.
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

/// Groups put together to about [`BATCH`] paths.
fn batches(groups: Vec<Group<'_>>) -> Vec<Vec<Group<'_>>> {
    let mut batches: Vec<Vec<Group<'_>>> = Vec::new();
    let mut room = 0;
    for group in groups {
        if room < group.len() {
            batches.push(Vec::new());
            room = BATCH.max(group.len());
        }
        room -= group.len();
        if let Some(batch) = batches.last_mut() {
            batch.push(group);
        }
    }
    batches
}

/// Registers the groups whose locks can all be had and whose references are valid. The locks are those that are `spare` where
/// there are some, and are so afterwards.
fn register_batch(
    (dirs, registration, spare): (&StoreDirs, &mut store::Registration<'_>, &mut Vec<PathLock>),
    batch: &[Group<'_>],
    placed: &BTreeMap<StorePath, InPlace>,
    is_valid: impl Fn(&StorePath) -> bool,
) -> Result<BTreeSet<StorePath>, CacheError> {
    let mut locks = Vec::with_capacity(BATCH);
    let mut ready: BTreeMap<StorePath, Arc<PathInfo>> = BTreeMap::new();
    for group in batch {
        let taken = group.iter().map(|info| lock_in_place(dirs, &placed[&info.path], spare.pop()));
        if let Some(taken) = taken.collect::<Result<Option<Vec<_>>, _>>()? {
            locks.extend(group.iter().map(|info| &info.path).zip(taken));
            ready.extend(group.iter().map(|info| (info.path.clone(), Arc::clone(&placed[&info.path].info))));
        } else {
            tracing::info!("{} is made by another process: left to that one.", group[0].path);
        }
    }
    let ready = whole_groups(ready, Vec::new(), is_valid);
    let names: BTreeSet<StorePath> = ready.keys().cloned().collect();
    registration.add(&ready.into_values().collect::<Vec<_>>())?;
    // Who waits for the lock of a valid path finds that there is nothing to do, whatever its lock file is called by then. The
    // locks of other paths are given back in their places.
    *spare = locks.into_iter().filter(|(path, _)| names.contains(*path)).map(|(_, lock)| lock).collect();
    Ok(names)
}

/// The lock on a path that is still as it was put in its place.
fn lock_in_place(dirs: &StoreDirs, place: &InPlace, spare: Option<PathLock>) -> Result<Option<PathLock>, CacheError> {
    let path = dirs.real(&place.info.path);
    let lock = match spare {
        Some(spare) => spare.move_to(&path),
        None => path_lock(&path),
    };
    match lock {
        Ok(lock) => Ok(lock.filter(|_| place.is_there(dirs))),
        Err(error) => Err(CacheError::File { what: "Cannot lock", path, error }),
    }
}

/// Removes a path that will not be valid, unless somebody else made it meanwhile.
pub(crate) fn discard(dirs: &StoreDirs, place: &InPlace) -> io::Result<()> {
    let path = dirs.real(&place.info.path);
    if place.inode.is_none() {
        return Ok(());
    }
    let Some(_lock) = path_lock(&path)? else { return Ok(()) };
    if place.is_there(dirs) && store::is_valid(dirs, &place.info.path).is_ok_and(|valid| !valid) {
        remove_tree(&path)?;
    }
    Ok(())
}
