//! Attaching fetched layers to the store and making their paths valid. This is the part that may need more rights than the
//! rest; [`super::privileged`] runs it through sudo where it does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::hold::{give_back, held_file, hold};
use super::inspect::{Inspection, RefusedLayer, inspect};
use super::mounted::{self, Mounted};
use super::register::{InPlace, discard, register_closed};
use super::{CacheError, Mode, as_owner, facts};
use crate::layer::digest::Sha;
use crate::layer::mount::{self, MountError, MountImage, Places, ambiguous};
use crate::layer::pack::Rejected;
use crate::layer::squashfs::Image;
use crate::layer::unpack::{Target, Unpacked, remove_leftovers, remove_tree, unpack};
use crate::store::{self, PathInfo, Realisation, StoreDirs, StorePath, path_lock, rights, shared_infos};

/// What to attach.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttachRequest {
    /// The store's root, as in [`StoreDirs::new`].
    #[serde(with = "super::raw_path::optional", default)]
    pub store_root: Option<PathBuf>,
    /// How.
    pub mode: Mode,
    /// The layers and the paths wanted of each.
    pub layers: Vec<AttachLayer>,
    /// Threads that unpack.
    pub threads: usize,
    /// How long unpacking may take; what is not whole by then is left out. None for no limit.
    #[serde(default)]
    pub milliseconds: Option<u64>,
    /// Realisations to be registered with the paths.
    #[serde(default)]
    pub realisations: Vec<Realisation>,
}

/// One layer, whose file was checked against its digests.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttachLayer {
    /// Its id.
    pub id: Sha,
    /// Its file. Unpacked, it is removed; mounted, it stays.
    #[serde(with = "super::raw_path")]
    pub file: PathBuf,
    /// The paths that are wanted of it, none of them valid.
    #[serde(with = "shared_infos")]
    pub infos: Vec<Arc<PathInfo>>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attached {
    /// How it was done in the end.
    pub mode: Mode,
    /// Why it was not done by mounting, where that was wanted.
    pub not_mounted: Option<String>,
    /// Paths that are valid now.
    pub registered: BTreeSet<StorePath>,
    /// Paths that could not be attached, and why.
    pub rejected: Vec<Rejected>,
    /// Layers of which nothing was used, because the packer did not make their images.
    pub refused: Vec<RefusedLayer>,
    /// Seconds for mounting or unpacking, and for registering.
    pub seconds: (f64, f64),
}

/// Attaches the layers and registers of their paths those whose closure is valid or attached too.
///
/// # Errors
/// When the store cannot be read or written.
pub fn attach(request: &AttachRequest, progress: &AtomicU64) -> Result<Attached, CacheError> {
    let start = Instant::now();
    let deadline = request.milliseconds.map(|left| start + Duration::from_millis(left));
    let dirs = StoreDirs::new(request.store_root.as_deref());
    let _lock = as_owner(&dirs, || store::gc_lock(&dirs))?;
    clear_leftovers(&dirs)?;
    let valid = as_owner(&dirs, || store::read_all(&dirs))?;
    let mut done = Attached {
        mode: request.mode,
        not_mounted: None,
        registered: BTreeSet::new(),
        rejected: Vec::new(),
        refused: Vec::new(),
        seconds: (0.0, 0.0),
    };
    let mut placed = BTreeMap::new();
    let mut inspection = None;
    let mut rest = request.layers.clone();
    let like_locks = like_locks(&rest, &valid);
    for layer in &mut rest {
        // What became valid since the request was made is Nix's, and stays as it is.
        layer.infos.retain(|info| !valid.contains_key(&info.path) && !like_locks.contains(&info.path));
    }
    let why = "Its name and that of another path differ in `.lock` alone: the one would be the other's lock.";
    done.rejected.extend(like_locks.into_iter().map(|path| Rejected { path, why: why.into() }));
    if request.mode == Mode::Mount {
        match mount_layers(&dirs, &rest, &mut inspection) {
            Ok(mounted) => {
                rest = mounted.to_unpack;
                placed = mounted.placed;
            }
            Err(error) => {
                done.mode = Mode::Unpack;
                done.not_mounted = Some(error.to_string());
            }
        }
    }
    // Where mounting failed late, the images were looked at before, and have another owner now.
    let inspection = inspection.unwrap_or_else(|| inspect(&rest));
    inspection.keep_sound(&mut rest);
    for refused in &inspection.refused {
        for layer in request.layers.iter().filter(|layer| layer.id == refused.id) {
            // It is of no use; if it cannot be removed it costs space until the next restore.
            let _ =
                fs::remove_file(&layer.file).or_else(|_| fs::remove_file(held_file(&mounted::places(&dirs), layer)));
        }
    }
    done.rejected.extend(inspection.rejected);
    done.refused = inspection.refused;
    let begun = (start, deadline);
    let done =
        as_owner(&dirs, || unpack_and_register(&dirs, (request, &rest), &valid, placed, (begun, done), progress))?;
    for layer in rest.iter().filter(|_| done.mode == Mode::Unpack) {
        // Unpacked, a layer has done its work; if it cannot be removed it costs space until the next restore.
        let _ = fs::remove_file(&layer.file);
    }
    Ok(done)
}

/// Unpacks `rest`, and registers it with what is `placed` by mounting.
fn unpack_and_register(
    dirs: &StoreDirs,
    (request, rest): (&AttachRequest, &[AttachLayer]),
    valid: &BTreeMap<StorePath, PathInfo>,
    mut placed: BTreeMap<StorePath, InPlace>,
    ((start, deadline), mut done): ((Instant, Option<Instant>), Attached),
    progress: &AtomicU64,
) -> Result<Attached, CacheError> {
    let mut already = BTreeSet::new();
    for layer in rest {
        let unpacked = unpack_layer(dirs, layer, request.threads, deadline, progress);
        done.rejected.extend(unpacked.rejected);
        already.extend(unpacked.already);
        let infos: BTreeMap<&StorePath, &Arc<PathInfo>> = layer.infos.iter().map(|info| (&info.path, info)).collect();
        let unpacked = unpacked.placed.into_iter();
        placed.extend(unpacked.map(|(path, inode)| (path.clone(), InPlace::unpacked(infos[&path], inode))));
    }
    done.seconds.0 = start.elapsed().as_secs_f64();
    let registering = Instant::now();
    let before = placed.clone();
    done.rejected.extend(facts::prove(dirs, &mut placed, valid, request.threads));
    for place in before.values().filter(|place| !placed.contains_key(&place.info.path)) {
        if let Err(error) = discard(dirs, place) {
            tracing::debug!("{} stays behind: {error}", place.info.path);
        }
    }
    let wanted = request.layers.iter().flat_map(|layer| &layer.infos);
    let is_valid = |path: &StorePath| valid.contains_key(path) || already.contains(path);
    let lost = wanted.filter(|info| !placed.contains_key(&info.path) && !is_valid(&info.path));
    done.registered = register_closed(dirs, &placed, lost.cloned().collect(), is_valid)?;
    match store::add_realisations(dirs, &request.realisations) {
        Ok(_) => {}
        // The derivation is built once more then.
        Err(error) => tracing::warn!("The realisations of content-addressed derivations are not restored: {error}"),
    }
    done.seconds.1 = registering.elapsed().as_secs_f64();
    Ok(done)
}

/// The wanted paths whose names are those of others with `.lock` behind them, and those others. No Nix makes such a pair: the
/// hash is a part of the name.
fn like_locks(layers: &[AttachLayer], valid: &BTreeMap<StorePath, PathInfo>) -> BTreeSet<StorePath> {
    let wanted: BTreeSet<&StorePath> = layers.iter().flat_map(|layer| &layer.infos).map(|info| &info.path).collect();
    let is_known = |path: &StorePath| wanted.contains(path) || valid.contains_key(path);
    let mut found = BTreeSet::new();
    for path in &wanted {
        let without: Option<StorePath> = path.as_str().strip_suffix(".lock").and_then(|name| name.parse().ok());
        let with: Option<StorePath> = format!("{path}.lock").parse().ok();
        if without.is_some_and(|other| is_known(&other)) || with.is_some_and(|other| is_known(&other)) {
            found.insert((*path).clone());
        }
    }
    found
}

fn clear_leftovers(dirs: &StoreDirs) -> Result<(), CacheError> {
    let real = dirs.real_store();
    let removed =
        remove_leftovers(&real).map_err(|error| CacheError::File { what: "Cannot clean up", path: real, error })?;
    if removed > 0 {
        tracing::info!(
            "Removed {}, left unfinished by an interrupted restore.",
            crate::human::count(removed as u64, "path")
        );
    }
    Ok(())
}

/// What mounting came to.
struct MountedLayers {
    /// Paths that are in place.
    placed: BTreeMap<StorePath, InPlace>,
    /// Paths that must be unpacked all the same.
    to_unpack: Vec<AttachLayer>,
}

fn refused(what: &str) -> impl FnOnce(std::io::Error) -> MountError {
    let what = what.to_owned();
    move |error| MountError::Refused { what, error }
}

/// Mounts what is sound of `layers`; `inspection` says what is, as soon as they were looked at.
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
    // An earlier restore may have been killed half-way.
    mount::clear(&places);
    let held = hold(&places, layers).map_err(refused("Moving the layers"))?;
    // Only now, since nothing else touches the files any more.
    let inspected = inspection.insert(inspect(&held));
    let mut sound = held.clone();
    inspected.keep_sound(&mut sound);
    if sound.is_empty() {
        mounted::forget(dirs, &places);
        return Ok(MountedLayers { placed: BTreeMap::new(), to_unpack: Vec::new() });
    }
    let mounted = mount_held(dirs, &places, &sound, inspected);
    if mounted.is_err() {
        give_back(&held, layers);
        mounted::forget(dirs, &places);
    }
    mounted
}

/// Mounts layers whose files are held, and whose images are sound.
fn mount_held(
    dirs: &StoreDirs,
    places: &Places,
    layers: &[AttachLayer],
    inspection: &Inspection,
) -> Result<MountedLayers, MountError> {
    let ambiguous = ambiguous(&inspection.names);
    let is_ambiguous = |info: &&Arc<PathInfo>| ambiguous.contains(info.path.as_str().as_bytes());
    let mut result = MountedLayers { placed: BTreeMap::new(), to_unpack: Vec::new() };
    for layer in layers {
        let (twice, once): (Vec<&Arc<PathInfo>>, Vec<&Arc<PathInfo>>) = layer.infos.iter().partition(is_ambiguous);
        for info in once {
            // What is in the way would hide the layer's path, and is not valid.
            let place = dirs.real(&info.path);
            if rights::as_owner(dirs, || clear(&place))
                .and_then(|cleared| cleared)
                .map_err(refused("Removing a leftover"))?
            {
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
    };
    mounted::store(dirs, &state).map_err(refused("Recording what is mounted"))?;
    let owner = dirs.path_owner().unwrap_or((0, 0));
    let image =
        |layer: &AttachLayer| MountImage { name: layer.id.to_string()[..16].to_owned(), file: layer.file.clone() };
    // What nobody asked for and what is unpacked is not to be seen. A layer holds more than its snapshot wants when lanes moved on.
    let is_placed = |name: &Vec<u8>| {
        let path = std::str::from_utf8(name).ok().and_then(|name| name.parse::<StorePath>().ok());
        path.is_some_and(|path| result.placed.contains_key(&path))
    };
    let hidden = inspection.names.iter().flatten().filter(|name| !is_placed(name)).cloned().collect();
    mount::attach(places, &layers.iter().map(image).collect::<Vec<_>>(), &hidden, owner)?;
    mounted::outwait(state.paths.iter().map(AsRef::as_ref));
    result.placed.retain(|path, _| fs::symlink_metadata(dirs.real(path)).is_ok());
    Ok(result)
}

/// Removes a leftover; false if a Nix process is at work there.
fn clear(place: &Path) -> std::io::Result<bool> {
    if fs::symlink_metadata(place).is_err() {
        return Ok(true);
    }
    let Some(_lock) = path_lock(place)? else { return Ok(false) };
    remove_tree(place)?;
    Ok(true)
}

/// Unpacks the wanted paths of one layer.
fn unpack_layer(
    dirs: &StoreDirs,
    layer: &AttachLayer,
    threads: usize,
    deadline: Option<Instant>,
    progress: &AtomicU64,
) -> Unpacked {
    // Without an answer, what is in the way is left alone.
    let is_valid = |path: &StorePath| store::is_valid(dirs, path).unwrap_or(true);
    unpack_until(deadline, &dirs.real_store(), dirs, layer, &is_valid, threads, progress)
}

/// Unpacks into another directory, however long it takes.
pub(super) fn unpack_into(
    into: &Path,
    dirs: &StoreDirs,
    layer: &AttachLayer,
    is_valid: &(dyn Fn(&StorePath) -> bool + Sync),
    threads: usize,
    progress: &AtomicU64,
) -> Unpacked {
    unpack_until(None, into, dirs, layer, is_valid, threads, progress)
}

fn unpack_until(
    deadline: Option<Instant>,
    into: &Path,
    dirs: &StoreDirs,
    layer: &AttachLayer,
    is_valid: &(dyn Fn(&StorePath) -> bool + Sync),
    threads: usize,
    progress: &AtomicU64,
) -> Unpacked {
    let is_root = rustix::process::geteuid().is_root();
    let owner = dirs.path_owner().ok().filter(|_| is_root);
    let target = Target { store: into, owner, is_valid, threads, deadline, progress };
    let wanted: Vec<&PathInfo> = layer.infos.iter().map(AsRef::as_ref).collect();
    let reject = |why: String| {
        let rejected = wanted.iter().map(|info| Rejected { path: info.path.clone(), why: why.clone() });
        Unpacked { rejected: rejected.collect(), ..Unpacked::default() }
    };
    File::open(&layer.file)
        .map_err(Into::into)
        .and_then(Image::open)
        .and_then(|image| unpack(&image, &wanted, &target))
        .unwrap_or_else(|error| reject(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NarHash;

    #[test]
    fn of_two_names_that_differ_in_lock_neither_is_attached() {
        let path = |name: &str| format!("{}-{name}", "0".repeat(32)).parse::<StorePath>().unwrap();
        let info = |name: &str| PathInfo {
            path: path(name),
            nar_hash: NarHash([0; 32]),
            nar_size: 1,
            references: BTreeSet::new(),
            deriver: None,
            signatures: BTreeSet::new(),
            ca: None,
            registration_time: 1,
            ultimate: false,
            outputs: BTreeMap::new(),
        };
        let layer = |names: &[&str]| AttachLayer {
            id: Sha([0; 32]),
            file: PathBuf::new(),
            infos: names.iter().map(|name| Arc::new(info(name))).collect(),
        };
        let layers = [layer(&["a", "b.lock", "c"]), layer(&["a.lock", "d"])];
        let valid = BTreeMap::from([(path("d.lock"), info("d.lock"))]);
        let found: Vec<_> = like_locks(&layers, &valid).into_iter().collect();
        assert_eq!(found, [path("a"), path("a.lock"), path("d")]);
    }
}
