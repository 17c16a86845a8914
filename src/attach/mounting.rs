//! Mounts downloaded layers over the store, and undoes the mount if it cannot be used.
//!
//! 1. Nothing is mounted while another process holds a lock in the store directory, because the lock would not be visible through
//!    the overlay.
//! 2. The files of the layers are moved to a place where nothing else accesses them, and mounted.
//! 3. The mount is undone if a lock was taken meanwhile, if a process does not see the mount, or if anything fails before the paths
//!    are registered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::consumer::{Sight, look};
use super::hold::{give_back, held_file, hold};
use super::inspect::{Inspection, inspect};
use super::mounted::{self, Mounted};
use super::register::InPlace;
use super::{Admit, CacheError, first};
use crate::attach::layers::AttachLayer;
use crate::attach::marks::remove_marks;
use crate::attach::mount::{self, MountError, MountImage, Places, ambiguous};
use crate::store::busy::held_lock;
use crate::store::tree::remove_tree;
use crate::store::{self, PathInfo, Paths, Present, StoreDirs, StorePath, path_lock, rights};

/// Longest wait for another process's lock, or for a user of a mount that is being undone.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

/// Mounts layers, if every process that serves the store sees them.
///
/// # Errors
/// [`CacheError::Mount`] when nothing is mounted and the layers can be unpacked. Any other error means that the store cannot be
/// written, or that the mount could not be undone.
pub(crate) fn mount_seen(
    dirs: &StoreDirs,
    layers: &[AttachLayer],
    (sockets, proof): (&[PathBuf], (usize, Admit)),
    inspection: &mut Option<Inspection>,
    valid: &Paths,
) -> Result<MountedLayers, CacheError> {
    let mut mounted = mount_layers(dirs, layers, inspection)?;
    if !mounted.is_mounted {
        return Ok(mounted);
    }
    if let Some(inspection) = inspection {
        first::ask_for_proof(dirs, layers, (&mounted.placed, proof.1), &inspection.usage);
    }
    let below = mounted::places(dirs).upper;
    let sight = match in_use(&below) {
        // A lock that was taken between the check and the mount; a lock that is taken now goes through the overlay.
        Ok(Some(why)) => Ok(Sight::NotSeen(why)),
        Ok(None) => look(dirs, &mounted.placed, (sockets, proof), valid),
        Err(error) => Err(error.into()),
    };
    match sight {
        Ok(Sight::Seen(probe)) => {
            mounted.probe = probe;
            Ok(mounted)
        }
        Ok(Sight::NotSeen(why)) => {
            take_back(dirs, layers)?;
            Err(MountError::Unsuitable(why).into())
        }
        Err(error @ CacheError::Stuck { .. }) => Err(error),
        Err(error) => {
            take_back(dirs, layers)?;
            Err(error)
        }
    }
}

/// Unmounts layers without valid paths, and returns their files.
///
/// # Errors
/// When the mount is in use. It stays then, for a later [`mounted::detach`].
pub(crate) fn take_back(dirs: &StoreDirs, layers: &[AttachLayer]) -> Result<(), CacheError> {
    let places = mounted::places(dirs);
    let start = Instant::now();
    while let Err(error) = mount::detach(&places) {
        if start.elapsed() >= PATIENCE {
            return Err(CacheError::Stuck { store: dirs.real_store(), why: error.to_string() });
        }
        sleep(PAUSE);
    }
    let held = |layer: &AttachLayer| AttachLayer { file: held_file(&places, layer), ..layer.clone() };
    mount::clear(&places);
    let held: Vec<AttachLayer> = layers.iter().map(held).collect();
    give_back(&held, layers);
    if let Err(error) = remove_marks(&places.store) {
        tracing::debug!("Marks of the mount stay in {}: {error}", places.store.display());
    }
    mounted::forget(dirs, &places);
    Ok(())
}

/// Describes another process that is working in the store directory `store`, if there is one.
fn in_use(store: &Path) -> Result<Option<String>, MountError> {
    let held = held_lock(store).map_err(refused("Looking for locks in the store"))?;
    Ok(held.map(|name| format!("another process is working in the store: it holds {}", name.display())))
}

/// Like [`in_use`], retried with increasing pauses while the store is in use.
fn in_use_for_long(store: &Path) -> Result<Option<String>, MountError> {
    let start = Instant::now();
    loop {
        let used = in_use(store)?;
        if used.is_none() || start.elapsed() >= PATIENCE {
            return Ok(used);
        }
        sleep(PAUSE);
    }
}

fn refused(what: &str) -> impl FnOnce(std::io::Error) -> MountError {
    let what = what.to_owned();
    move |error| MountError::Refused { what, error }
}

/// Largest number of paths in a layer that is mounted while another process has the database open. Then each path is registered
/// under a lock of its own, and the kernel searches much of the image's root for each name of a lock that is not there: 4,000
/// paths take a second, 50,000 take minutes.
const MOST_LOCKED_PATHS: usize = 10_000;

/// The result of mounting.
pub(crate) struct MountedLayers {
    /// Whether anything is mounted, that is, some layer was valid.
    pub is_mounted: bool,
    /// Paths that are in place.
    pub placed: BTreeMap<StorePath, InPlace>,
    /// Paths that must be unpacked nevertheless.
    pub to_unpack: Vec<AttachLayer>,
    /// The path that is already valid.
    pub probe: Option<StorePath>,
}

/// Mounts the valid ones of `layers`, according to `inspection`, which runs meanwhile.
fn mount_layers(
    dirs: &StoreDirs,
    layers: &[AttachLayer],
    inspection: &mut Option<Inspection>,
) -> Result<MountedLayers, MountError> {
    let places = mounted::places(dirs);
    mount::not_elsewhere(&places)?;
    if places.is_mounted().map_err(refused("Looking at the mounts"))? {
        let error = std::io::Error::other("an earlier restore has mounted layers already");
        return Err(refused("A second overlay on the store directory")(error));
    }
    let large = layers.iter().find(|layer| layer.infos.len() > MOST_LOCKED_PATHS);
    if let Some(layer) = large.filter(|_| !store::is_unused(dirs)) {
        let why = format!(
            "a layer has {}, and another process has the database of the store open, so that each path needs a lock, which is slow \
             in a mounted store of that size",
            crate::base::human::count(layer.infos.len() as u64, "path")
        );
        return Err(MountError::Unsuitable(why));
    }
    // An earlier restore may have been killed.
    mount::clear(&places);
    if let Some(why) = in_use_for_long(&places.store)? {
        return Err(MountError::Unsuitable(why));
    }
    let held = hold(&places, layers).map_err(refused("Moving the layers"))?;
    // Only now, because nothing else can access the files any more.
    let inspected = inspection.insert(inspect(&held));
    let mut sound = held.clone();
    inspected.keep_sound(&mut sound);
    if sound.is_empty() {
        mounted::forget(dirs, &places);
        return Ok(MountedLayers { is_mounted: false, placed: BTreeMap::new(), to_unpack: Vec::new(), probe: None });
    }
    let mounted = mount_held(dirs, &places, &sound, inspected);
    if mounted.is_err() {
        give_back(&held, layers);
        mounted::forget(dirs, &places);
    }
    mounted
}

/// Mounts layers whose files are held and whose images are valid.
fn mount_held(
    dirs: &StoreDirs,
    places: &Places,
    layers: &[AttachLayer],
    inspection: &Inspection,
) -> Result<MountedLayers, MountError> {
    let ambiguous = ambiguous(&inspection.names);
    let is_ambiguous = |info: &&Arc<PathInfo>| ambiguous.contains(info.path.as_str().as_bytes());
    let mut result = MountedLayers { is_mounted: true, placed: BTreeMap::new(), to_unpack: Vec::new(), probe: None };
    let before = Present::of(dirs, layers.iter().map(|layer| layer.infos.len()).sum());
    for layer in layers {
        let (twice, once): (Vec<&Arc<PathInfo>>, Vec<&Arc<PathInfo>>) = layer.infos.iter().partition(is_ambiguous);
        for info in once {
            // An invalid path of the same name would hide the layer's path.
            let is_free = !before.has(dirs, &info.path)
                || rights::as_owner(dirs, || clear(&dirs.real(&info.path)))
                    .and_then(|cleared| cleared)
                    .map_err(refused("Removing a leftover"))?;
            if is_free {
                result.placed.insert(info.path.clone(), InPlace::mounted(info));
            }
        }
        if !twice.is_empty() {
            let infos = twice.into_iter().cloned().collect();
            result.to_unpack.push(AttachLayer { id: layer.id, file: layer.file.clone(), infos });
        }
    }
    let state = Mounted {
        layers: layers.iter().map(|layer| layer.id.to_string()).collect(),
        paths: result.placed.values().map(|path| path.info.clone()).collect(),
        aside: Vec::new(),
        realisations: Vec::new(),
    };
    mounted::store(dirs, &state).map_err(refused("Recording what is mounted"))?;
    let owner = dirs.path_owner().unwrap_or((0, 0));
    let image =
        |layer: &AttachLayer| MountImage { name: layer.id.to_string()[..16].to_owned(), file: layer.file.clone() };
    // Hide paths that are not wanted, or are unpacked. A layer contains more than its snapshot lists after lanes have moved on.
    let is_placed = |name: &Vec<u8>| {
        let path = std::str::from_utf8(name).ok().and_then(|name| name.parse::<StorePath>().ok());
        path.is_some_and(|path| result.placed.contains_key(&path))
    };
    let hidden = inspection.names.iter().flatten().filter(|name| !is_placed(name)).cloned().collect();
    mount::attach(places, &layers.iter().map(image).collect::<Vec<_>>(), &hidden, owner)?;
    mounted::outwait(state.paths.iter().map(AsRef::as_ref));
    let present = Present::of(dirs, result.placed.len());
    result.placed.retain(|path, _| present.has(dirs, path));
    Ok(result)
}

/// Removes a leftover; returns false if a Nix process is working on it.
fn clear(place: &Path) -> std::io::Result<bool> {
    let Some(_lock) = path_lock(place)? else { return Ok(false) };
    remove_tree(place)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Sha;

    #[test]
    fn a_layer_of_very_many_paths_is_not_mounted_while_they_need_locks() {
        let root = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(root.path()));
        std::fs::create_dir_all(dirs.real_store()).unwrap();
        std::fs::create_dir_all(dirs.state_dir().join("db")).unwrap();
        let path: StorePath = format!("{}-p", "0".repeat(32)).parse().unwrap();
        let info = Arc::new(PathInfo::sample(path));
        let layer =
            |count| AttachLayer { id: Sha([0; 32]), file: root.path().join("none"), infos: vec![info.clone(); count] };
        let refused = |count| mount_layers(&dirs, &[layer(count)], &mut None).err().map(|error| error.to_string());
        assert!(!refused(MOST_LOCKED_PATHS + 1).is_some_and(|why| why.contains("paths")));
        let user = std::fs::File::create(dirs.state_dir().join("db/big-lock")).unwrap();
        rustix::fs::flock(&user, rustix::fs::FlockOperation::LockShared).unwrap();
        assert!(refused(MOST_LOCKED_PATHS + 1).is_some_and(|why| why.contains("10,001 paths")));
        assert!(!refused(MOST_LOCKED_PATHS).is_some_and(|why| why.contains("paths")));
    }
}
