//! What is mounted, written down for whoever detaches it; and detaching.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::CacheError;
use super::attach::{AttachLayer, unpack_into};
use crate::bounds::{MAX_RECORD, read_json};
use crate::layer::digest::Sha;
use crate::layer::mount::{self, Places, names_in};
use crate::layer::unpack::remove_tree;
use crate::store::{self, PathInfo, StoreDirs, StorePath, closure, path_lock, shared_infos};

/// The layers that are mounted and the paths that are valid because of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Mounted {
    /// Their files, by name, in the folder of [`Places`] for them.
    pub layers: Vec<String>,
    /// The paths, as they were registered.
    #[serde(with = "shared_infos")]
    pub paths: Vec<Arc<PathInfo>>,
}

/// What a detach came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Detached {
    /// Whether anything was mounted.
    pub was_mounted: bool,
    /// Paths that are valid no more.
    pub unregistered: u64,
    /// Paths that were copied out of the layers, because paths that stay refer to them.
    pub kept: u64,
}

fn place(dirs: &StoreDirs) -> PathBuf {
    dirs.own_dir().join("mounted.json")
}

pub(super) fn store(dirs: &StoreDirs, mounted: &Mounted) -> io::Result<()> {
    fs::create_dir_all(dirs.own_dir())?;
    let mut file = tempfile::NamedTempFile::new_in(dirs.own_dir())?;
    let mut writer = io::BufWriter::new(file.as_file_mut());
    serde_json::to_writer(&mut writer, mounted)?;
    writer.flush()?;
    drop(writer);
    file.persist(place(dirs)).map_err(|error| error.error)?;
    Ok(())
}

fn load(dirs: &StoreDirs) -> Result<Option<Mounted>, CacheError> {
    let path = place(dirs);
    match read_json(&path, MAX_RECORD) {
        Ok(mounted) => Ok(Some(mounted)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CacheError::File { what: "Cannot read", path, error }),
    }
}

/// Forgets what was mounted, with the files of the layers.
pub(super) fn forget(dirs: &StoreDirs, places: &Places) {
    let removed = match fs::remove_file(place(dirs)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => mount::remove_folder(places),
    };
    if let Err(error) = removed {
        // It costs space, no more: nothing is mounted.
        tracing::debug!("Traces of mounted layers stay: {error}");
    }
}

/// Where things are mounted for this store.
pub(super) fn places(dirs: &StoreDirs) -> Places {
    Places::new(&dirs.real_store(), &dirs.own_dir())
}

/// Whether layers were mounted and are not any more, as after a restart of the machine: the database then takes paths for
/// valid that are gone.
pub(super) fn is_stale(dirs: &StoreDirs) -> bool {
    place(dirs).exists() && places(dirs).is_mounted().is_ok_and(|is_mounted| !is_mounted)
}

/// Whether there is nothing that [`detach`] would change.
pub(super) fn is_plain(dirs: &StoreDirs) -> bool {
    !place(dirs).exists() && places(dirs).is_mounted().is_ok_and(|is_mounted| !is_mounted)
}

/// Unmounts the layers. What was built or fetched meanwhile stays valid, and with it what it refers to, which is copied out of
/// the layers; all else that came from them is valid no more. If a restart of the machine unmounted them, the rest is done.
///
/// # Errors
/// When the store is in use, or cannot be read or written. It is as it was then.
pub fn detach(dirs: &StoreDirs, threads: usize) -> Result<Detached, CacheError> {
    let failed = |what| move |error| CacheError::File { what, path: dirs.real_store(), error };
    let places = places(dirs);
    let was_mounted = places.is_mounted().map_err(failed("Cannot look at the mounts over"))?;
    let state = load(dirs)?;
    if !was_mounted {
        mount::clear(&places);
        if state.is_none() {
            forget(dirs, &places);
            return Ok(Detached::default());
        }
    }
    let state = state.unwrap_or_default();
    let own = if was_mounted { &places.upper } else { &places.store };
    let _lock = store::gc_lock(dirs)?;
    let valid = store::read_all(dirs)?;
    let borrowed = borrowed(own, &state, &valid);
    let rest = valid.keys().filter(|path| !borrowed.contains(*path));
    let needed: BTreeSet<StorePath> =
        closure(&valid, rest).into_iter().filter(|path| borrowed.contains(path)).collect();
    copy_out(dirs, (&places, own), &state, needed.iter().map(|path| &valid[path]), threads)?;
    let leaving: Vec<&PathInfo> = borrowed.difference(&needed).map(|path| &valid[path]).collect();
    let names: Vec<StorePath> = leaving.iter().map(|info| info.path.clone()).collect();
    // Invalid first and gone after: a path that is valid is always there.
    store::unregister(dirs, &names)?;
    if was_mounted && let Err(error) = mount::detach(&places) {
        store::register(dirs, &leaving)?;
        return Err(CacheError::Mount(error));
    }
    for path in &names {
        remove_tree(&dirs.real(path)).map_err(failed("Cannot clean up"))?;
    }
    mount::remove_marks(&places.store)
        .and_then(|()| sweep(&places.store, &valid))
        .map_err(failed("Cannot clean up"))?;
    forget(dirs, &places);
    Ok(Detached { was_mounted, unregistered: names.len() as u64, kept: needed.len() as u64 })
}

/// Removes what processes leave in a store directory that were killed, or that an overlay led astray: locks that nobody holds, and
/// the hard links that `nix store optimise` makes on the way. It renames them to where a file of a layer is; if that was copied
/// by the very same step, both names mean one file by then, and a rename of a file to itself does nothing. A path that is or was
/// `valid` may be named like a lock, and is none.
fn sweep(store: &Path, valid: &BTreeMap<StorePath, PathInfo>) -> io::Result<()> {
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let metadata = entry.metadata()?;
        if name.starts_with(".tmp-link-") && !metadata.is_dir() {
            fs::remove_file(entry.path())?;
        }
        let is_path = name.parse::<StorePath>().is_ok_and(|path| valid.contains_key(&path));
        if let Some(path) = name.strip_suffix(".lock").filter(|_| metadata.is_file() && metadata.len() == 0 && !is_path)
        {
            // Taken and given back, it is gone.
            drop(path_lock(&store.join(path))?);
        }
    }
    Ok(())
}

/// Waits until a path that is deleted and made anew cannot get the registration time that it has in `infos`: the database
/// counts in seconds, and [`borrowed`] tells by the time which one is there. Only what was registered this very second, in
/// another job, is waited for.
pub(super) fn outwait<'a>(infos: impl Iterator<Item = &'a PathInfo>) {
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return };
    let this_second = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if infos.map(|info| info.registration_time).any(|time| time == this_second) {
        std::thread::sleep(Duration::from_secs(1).saturating_sub(Duration::from_nanos(now.subsec_nanos().into())));
    }
}

/// The valid paths that are there thanks to a layer. One that was deleted and made anew is not: it was registered later.
fn borrowed(own: &Path, state: &Mounted, valid: &BTreeMap<StorePath, PathInfo>) -> BTreeSet<StorePath> {
    let attached: BTreeMap<&StorePath, i64> =
        state.paths.iter().map(|info| (&info.path, info.registration_time)).collect();
    let is_borrowed = |info: &&PathInfo| {
        // Nix may have copied a part of it to the store's own side, by linking equal files for example: to be there is not enough.
        attached.get(&info.path) == Some(&info.registration_time)
            || fs::symlink_metadata(own.join(info.path.as_str())).is_err()
    };
    valid.values().filter(is_borrowed).map(|info| info.path.clone()).collect()
}

/// Unpacks `needed` to the store's own side.
fn copy_out<'a>(
    dirs: &StoreDirs,
    (places, own): (&Places, &Path),
    state: &Mounted,
    needed: impl Iterator<Item = &'a PathInfo>,
    threads: usize,
) -> Result<(), CacheError> {
    let mut left: BTreeMap<&StorePath, &PathInfo> = needed.map(|info| (&info.path, info)).collect();
    for file in state.layers.iter().map(|name| places.layers.join(name)) {
        if left.is_empty() {
            break;
        }
        let names = names_in(&file).map_err(|error| CacheError::Mount(error.into()))?;
        let is_here = |info: &&&PathInfo| names.contains(info.path.as_str().as_bytes());
        let here = left.values().filter(is_here).map(|info| Arc::new((*info).clone())).collect();
        let layer = AttachLayer { id: Sha([0; 32]), file, infos: here };
        let unpacked = unpack_into(own, dirs, &layer, &|_| false, threads, &AtomicU64::new(0));
        for (path, _) in unpacked.placed {
            left.remove(&path);
        }
    }
    match left.keys().next() {
        None => Ok(()),
        Some(path) => {
            let error = io::Error::other("no mounted layer gave it back whole");
            Err(CacheError::File { what: "Cannot keep", path: dirs.real(path), error })
        }
    }
}
