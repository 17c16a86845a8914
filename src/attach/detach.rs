//! Detaching: unmounts the layers that restores have mounted over the store.
//!
//! 1. Nothing is changed before it is known that the store is not in use, here or in another mount namespace.
//! 2. References of paths that stay are copied out of the images to a place beside the store, never below a mounted overlay.
//! 3. Paths that leave, and those that wait for the copies, are unregistered. The waiting paths and their realisations are
//!    recorded first: if the process is killed from here on, all valid paths of the store exist, and the next detach or restore
//!    finishes the work.
//! 4. The overlay is unmounted. If that is refused after all, everything is registered again.
//! 5. The copies are moved into the store, and the waiting paths are registered again.
//!
//! Paths that no layer returns intact cannot stay, and neither can their referrers; a warning names them. A restart of the
//! machine also unmounts; then all steps except the fourth are performed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustix::fs::{AtFlags, CWD};
use serde::{Deserialize, Serialize};

use super::mounted::{self, Mounted, places};
use super::{CacheError, as_owner, stream};
use crate::attach::layers::{AttachLayer, new_owner, unpack_layer};
use crate::attach::marks::remove_marks;
use crate::attach::mount::{self, Places, names_in};
use crate::attach::unpack::{Target, times};
use crate::base::digest::Sha;
use crate::layer::hash_of;
use crate::store::own::{KEPT, OwnFolder};
use crate::store::tree::remove_tree;
use crate::store::{self, PathInfo, Paths, StoreDirs, StorePath, path_lock};

/// The result of a detach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Detached {
    /// Whether anything was mounted.
    pub was_mounted: bool,
    /// Number of paths that are no longer valid.
    pub unregistered: u64,
    /// Number of paths that were copied out of the layers because paths that stay refer to them.
    pub kept: u64,
    /// Number of unregistered paths that would have stayed if the layers had returned their references intact.
    #[serde(default)]
    pub lost: u64,
}

/// Unmounts the layers. Paths that were built or fetched meanwhile stay valid, with everything they refer to, which is copied out
/// of the layers; all other paths of the layers become invalid. If a restart of the machine unmounted them, the rest is done.
///
/// # Errors
/// When the store is in use, or cannot be read or written. It is unchanged then.
pub(crate) fn detach(dirs: &StoreDirs, threads: usize) -> Result<Detached, CacheError> {
    let failed = |what| move |error| CacheError::File { what, path: dirs.real_store(), error };
    let places = places(dirs);
    let was_mounted = places.is_mounted().map_err(failed("Cannot look at the mounts over"))?;
    if !was_mounted {
        mount::not_elsewhere(&places)?;
        mount::clear(&places);
        if !mounted::has_traces(dirs, &places) {
            mounted::forget(dirs, &places);
            return Ok(Detached::default());
        }
    }
    let state = mounted::load(dirs);
    let _lock = as_owner(dirs, || store::gc_lock(dirs))?;
    let is_gone = was_mounted && mount::claim(&places)?;
    let own = if was_mounted && !is_gone { &places.upper } else { &places.store };
    let valid = as_owner(dirs, || store::read_all(dirs))?;
    let plan = as_owner(dirs, || {
        plan(dirs, (&places, own), state.as_ref(), &valid, threads)
            .map_err(failed("Cannot copy paths out of the layers of"))
    })?;
    plan.warn();
    let taken_out: BTreeSet<StorePath> =
        plan.leaving.iter().chain(plan.aside.keys()).filter(|path| valid.contains_key(*path)).cloned().collect();
    // Realisations are removed with their paths. Those that an earlier detach removed are restored with them.
    let mut realisations = as_owner(dirs, || store::read_realisations(dirs)).unwrap_or_default();
    realisations.retain(|realisation| taken_out.contains(&realisation.path));
    realisations.extend(state.iter().flat_map(|state| state.realisations.iter().cloned()));
    let written = Mounted {
        aside: plan.aside.values().cloned().collect(),
        realisations: realisations.clone(),
        ..state.clone().unwrap_or_default()
    };
    mounted::store(dirs, &written).map_err(failed("Cannot write down what is unmounted from"))?;
    let realised = || {
        if let Err(error) = as_owner(dirs, || store::add_realisations(dirs, &realisations)) {
            tracing::warn!("The realisations of content-addressed derivations are lost: {error}");
        }
    };
    // Unregister before unmounting, so that valid paths always exist.
    let going: Vec<StorePath> = taken_out.iter().cloned().collect();
    as_owner(dirs, || store::unregister(dirs, &going))?;
    if was_mounted
        && !is_gone
        && let Err(error) = mount::detach(&places)
    {
        let infos: Paths = taken_out.iter().map(|path| (path.clone(), valid[path].clone())).collect();
        as_owner(dirs, || register(dirs, infos))?;
        realised();
        mounted::store(dirs, &state.unwrap_or_default()).map_err(failed("Cannot write down what is mounted over"))?;
        return Err(CacheError::Mount(error));
    }
    mount::clear(&places);
    remove_marks(&places.store).map_err(failed("Cannot clean up"))?;
    let lost = as_owner(dirs, || finish(dirs, &places, &plan, &valid))?;
    realised();
    stream::end(&places);
    mounted::forget(dirs, &places);
    let stays_out = |path: &&StorePath| plan.leaving.contains(*path) || lost.contains(*path);
    Ok(Detached {
        was_mounted,
        unregistered: valid.keys().filter(stays_out).count() as u64,
        kept: plan.kept.difference(&lost).count() as u64,
        lost: plan.lost.len() as u64,
    })
}

/// The plan for each path.
#[derive(Debug, Default)]
struct Plan {
    /// Paths that are unregistered.
    leaving: BTreeSet<StorePath>,
    /// Of those, the paths that would stay if the layers were intact.
    lost: BTreeSet<StorePath>,
    /// Paths of layers that stay.
    kept: BTreeSet<StorePath>,
    /// Of those, the paths that were copied out and will be moved into the store.
    copied: BTreeSet<StorePath>,
    /// Paths that are registered again after the copies were moved.
    aside: Paths,
}

impl Plan {
    fn warn(&self) {
        if self.lost.is_empty() {
            return;
        }
        let names: Vec<&str> = self.lost.iter().take(5).map(StorePath::as_str).collect();
        tracing::warn!(
            "{} paths cannot stay, because no mounted layer returns them or their references intact: {}{}. They are built or \
             fetched again when they are needed.",
            self.lost.len(),
            names.join(", "),
            if self.lost.len() > names.len() { ", …" } else { "" }
        );
    }
}

/// Decides what stays, and copies it out of the layers.
fn plan(
    dirs: &StoreDirs,
    (places, own): (&Places, &Path),
    state: Option<&Mounted>,
    valid: &Paths,
    threads: usize,
) -> io::Result<Plan> {
    // Paths that an earlier detach unregistered count as valid.
    let mut known = valid.clone();
    let aside_before = state.map_or(&[][..], |state| &state.aside);
    for info in aside_before {
        known.entry(info.path.clone()).or_insert_with(|| info.clone());
    }
    let layers = layers(places);
    let borrowed = borrowed(own, state, &layers, &known);
    let rest = || known.keys().filter(|path| !borrowed.contains(*path));
    let needed: BTreeSet<StorePath> =
        known.closure(rest()).into_iter().filter(|path| borrowed.contains(path)).collect();
    let is_here = |path: &&StorePath| {
        let place = own.join(path.as_str());
        place.symlink_metadata().is_ok() && hash_of(&place).is_ok_and(|found| found == known[*path].nar_hash)
    };
    // Nix may have rebuilt it correctly, with its old registration.
    let here: BTreeSet<StorePath> = needed.iter().filter(is_here).cloned().collect();
    let wanted = needed.difference(&here).map(|path| (path, &known[path])).collect();
    let folder = OwnFolder::work(dirs)?;
    folder.remove(KEPT)?;
    let copied = copy_out(dirs, &folder, &layers, wanted, threads)?;
    let absent: BTreeSet<StorePath> =
        needed.iter().filter(|path| !here.contains(*path) && !copied.contains(*path)).cloned().collect();
    let lost: BTreeSet<StorePath> = known
        .referrers_closure(absent.iter())
        .into_iter()
        .filter(|path| needed.contains(path) || !borrowed.contains(path))
        .collect();
    let kept: BTreeSet<StorePath> = known
        .closure(rest().filter(|path| !lost.contains(*path)))
        .into_iter()
        .filter(|path| borrowed.contains(path))
        .collect();
    let leaving: BTreeSet<StorePath> = borrowed.difference(&kept).chain(&lost).cloned().collect();
    let mut aside: Paths = known
        .referrers_closure(kept.iter())
        .into_iter()
        .filter(|path| !leaving.contains(path))
        .map(|path| (path.clone(), known[&path].clone()))
        .collect();
    // Existing paths that are not valid were unregistered by an earlier detach.
    aside.extend(
        aside_before
            .iter()
            .filter(|info| !valid.contains_key(&info.path) && !leaving.contains(&info.path))
            .map(|info| (info.path.clone(), info.clone())),
    );
    let copied = copied.intersection(&kept).cloned().collect();
    Ok(Plan { leaving, lost, kept, copied, aside })
}

/// A mounted layer: its file, and the names in it.
type LayerNames = (PathBuf, BTreeSet<Vec<u8>>);

/// The held layers, whatever was recorded.
fn layers(places: &Places) -> Vec<LayerNames> {
    let mut layers = Vec::new();
    let held = fs::read_dir(&places.layers).into_iter().flatten().flatten().map(|entry| entry.path());
    for file in held.chain(stream::files(places)) {
        match names_in(&file) {
            Ok(names) => layers.push((file, names)),
            Err(error) => tracing::warn!("The mounted layer {} cannot be read: {error}", file.display()),
        }
    }
    layers.sort();
    layers
}

/// The valid paths that come from a layer. A path that was deleted and rebuilt does not: it was registered later.
fn borrowed(own: &Path, state: Option<&Mounted>, layers: &[LayerNames], known: &Paths) -> BTreeSet<StorePath> {
    let attached: Option<BTreeMap<&StorePath, i64>> =
        state.map(|state| state.paths.iter().map(|info| (&info.path, info.registration_time)).collect());
    let is_in_layer = |path: &StorePath| layers.iter().any(|(_, names)| names.contains(path.as_str().as_bytes()));
    let is_borrowed = |info: &&PathInfo| {
        let place = own.join(info.path.as_str());
        // Nix may have copied a part of it to the store's own side, for example by linking equal files, so its existence is not
        // enough. Without a record, the bytes decide.
        fs::symlink_metadata(&place).is_err()
            || match &attached {
                Some(attached) => attached.get(&info.path) == Some(&info.registration_time),
                None => is_in_layer(&info.path) && hash_of(&place).map_or(true, |found| found != info.nar_hash),
            }
    };
    known.values().filter(is_borrowed).map(|info| info.path.clone()).collect()
}

/// Unpacks `wanted` beside the store, and returns the intact paths.
fn copy_out(
    dirs: &StoreDirs,
    folder: &OwnFolder,
    layers: &[LayerNames],
    mut wanted: BTreeMap<&StorePath, &PathInfo>,
    threads: usize,
) -> io::Result<BTreeSet<StorePath>> {
    let mut copied = BTreeSet::new();
    if wanted.is_empty() {
        return Ok(copied);
    }
    let into = folder.folder(KEPT)?;
    let progress = AtomicU64::new(0);
    let target = Target {
        store: into.path(),
        owner: new_owner(dirs),
        is_valid: &|_| false,
        threads,
        deadline: None,
        progress: &progress,
    };
    for (file, names) in layers {
        let is_here = |info: &&&PathInfo| names.contains(info.path.as_str().as_bytes());
        let infos: Vec<PathInfo> = wanted.values().filter(is_here).map(|info| (*info).clone()).collect();
        if infos.is_empty() {
            continue;
        }
        let layer =
            AttachLayer { id: Sha([0; 32]), file: file.clone(), infos: infos.into_iter().map(Arc::new).collect() };
        let unpacked = unpack_layer(&layer, &target);
        for rejected in &unpacked.rejected {
            tracing::debug!("{} does not come out of {}: {}", rejected.path, file.display(), rejected.why);
        }
        for (path, _) in unpacked.placed {
            wanted.remove(&path);
            copied.insert(path);
        }
    }
    Ok(copied)
}

/// Completes the store after unmounting. Returns the paths that could not be registered again.
fn finish(dirs: &StoreDirs, places: &Places, plan: &Plan, valid: &Paths) -> Result<BTreeSet<StorePath>, CacheError> {
    let failed = |error| CacheError::File { what: "Cannot clean up", path: dirs.real_store(), error };
    for path in plan.leaving.iter().chain(&plan.copied) {
        remove_tree(&dirs.real(path)).map_err(failed)?;
    }
    let folder = OwnFolder::work(dirs).map_err(failed)?;
    for path in &plan.copied {
        move_in(&folder.path().join(KEPT).join(path.as_str()), &dirs.real(path)).map_err(failed)?;
    }
    folder.remove(KEPT).map_err(failed)?;
    let named = |path: &StorePath| valid.contains_key(path) || plan.aside.contains_key(path);
    sweep(&places.store, named).map_err(failed)?;
    register(dirs, plan.aside.clone())
}

/// Moves a path to its place in the store.
fn move_in(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if !metadata.is_dir() {
        return fs::rename(from, to);
    }
    // Renaming a directory to another parent writes to the directory.
    fs::set_permissions(from, Permissions::from_mode(0o755))?;
    fs::rename(from, to)?;
    fs::set_permissions(to, Permissions::from_mode(0o555))?;
    Ok(rustix::fs::utimensat(CWD, to, &times(), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Registers those of `infos` that exist and are closed. Paths that the database rejects are left out with their referrers and
/// returned: a single path must not keep the others from becoming valid.
fn register(dirs: &StoreDirs, infos: Paths) -> Result<BTreeSet<StorePath>, CacheError> {
    let all: BTreeSet<StorePath> = infos.keys().cloned().collect();
    let valid: BTreeSet<StorePath> = store::read_all(dirs)?.into_keys().collect();
    let present: Paths = infos.into_iter().filter(|(path, _)| dirs.real(path).symlink_metadata().is_ok()).collect();
    let mut left: Paths = present
        .closed_subset(&|path| valid.contains(path))
        .into_iter()
        .filter_map(|path| present.get(&path).map(|info| (path.clone(), info.clone())))
        .collect();
    let mut done = valid;
    let together: Vec<PathInfo> = left.values().cloned().collect();
    match store::register(dirs, &together) {
        Ok(_) => done.extend(left.into_keys()),
        Err(error @ (store::StoreError::Database { .. } | store::StoreError::Locked { .. })) => {
            return Err(error.into());
        }
        Err(error) => {
            tracing::debug!("Paths are registered one by one: {error}");
            loop {
                let is_ready =
                    |info: &&PathInfo| info.references.iter().all(|path| *path == info.path || done.contains(path));
                let Some(info) = left.values().find(is_ready).cloned() else { break };
                left.remove(&info.path);
                match store::register(dirs, std::slice::from_ref(&info)) {
                    Ok(_) => _ = done.insert(info.path),
                    Err(error) => tracing::warn!("{} is no longer valid: {error}", info.path),
                }
            }
        }
    }
    Ok(all.difference(&done).cloned().collect())
}

/// Removes leftovers of killed processes in a store directory, and those caused by an overlay: locks that nobody holds, and the
/// temporary hard links of `nix store optimise`. It renames such a link over a file of a layer; if the same step has copied that
/// file up, both names are the same file, and renaming a file to itself does nothing. A path that is or was valid may be named
/// like a lock without being one.
fn sweep(store: &Path, is_known: impl Fn(&StorePath) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let metadata = entry.metadata()?;
        if name.starts_with(".tmp-link-") && !metadata.is_dir() {
            fs::remove_file(entry.path())?;
        }
        let is_path = name.parse::<StorePath>().is_ok_and(|path| is_known(&path));
        if let Some(path) = name.strip_suffix(".lock").filter(|_| metadata.is_file() && metadata.len() == 0 && !is_path)
        {
            // Taking and releasing the lock removes it.
            drop(path_lock(&store.join(path))?);
        }
    }
    Ok(())
}
