//! Attaches downloaded layers to the store and makes their paths valid. This part may need root's rights; then
//! [`super::privileged`] runs it through sudo.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::hold::held_file;
use super::inspect::{RefusedLayer, inspect};
use super::mounted::places;
use super::mounting::{mount_seen, take_back};
use super::register::{InPlace, discard, register_into};
use super::{Admit, CacheError, Mode, as_owner, derivations, facts, first, readonly, stream};
use crate::attach::unpack::{Target, Unpacked, remove_leftovers, unpack};
use crate::base::digest::Sha;
use crate::layer::pack::Rejected;
use crate::layer::squashfs::Image;
use crate::layer::squashfs::usage::Usage;
use crate::store::{self, PathInfo, Paths, Realisation, StoreDirs, StorePath, shared_infos};

/// A request to attach layers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttachRequest {
    /// The store's root, as in [`StoreDirs::new`].
    #[serde(with = "super::raw_path::optional", default)]
    pub store_root: Option<PathBuf>,
    /// The mode.
    pub mode: Mode,
    /// The layers, and the paths wanted from each.
    pub layers: Vec<AttachLayer>,
    /// Threads that unpack.
    pub threads: usize,
    /// Time limit for unpacking; paths that are incomplete by then are left out. None for no limit.
    #[serde(default)]
    pub milliseconds: Option<u64>,
    /// Realisations to register with the paths.
    #[serde(default)]
    pub realisations: Vec<Realisation>,
    /// Sockets of daemons that may serve the store.
    #[serde(default)]
    pub daemon_sockets: Vec<PathBuf>,
    /// Which paths may become valid.
    #[serde(default)]
    pub admit: Admit,
    /// Of streamed layers: the paths that are probably read first, in order.
    #[serde(default)]
    pub first: Vec<StorePath>,
}

/// One layer, whose file was checked against its digests.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttachLayer {
    /// Its id.
    pub id: Sha,
    /// Its file. It is removed after unpacking; a mounted file stays.
    #[serde(with = "super::raw_path")]
    pub file: PathBuf,
    /// The paths wanted from it, none of them valid.
    #[serde(with = "shared_infos")]
    pub infos: Vec<Arc<PathInfo>>,
}

/// The result of attaching.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attached {
    /// The mode that was used in the end.
    pub mode: Mode,
    /// Why the layers were not mounted, if mounting was wanted.
    pub not_mounted: Option<String>,
    /// Paths that are valid now.
    pub registered: BTreeSet<StorePath>,
    /// Paths that could not be attached, and why.
    pub rejected: Vec<Rejected>,
    /// Layers that were not used because the packer would not write their images.
    pub refused: Vec<RefusedLayer>,
    /// Which bytes of the layers belong to which path, for the save.
    #[serde(default)]
    pub(crate) usage: BTreeMap<Sha, Usage>,
    /// Seconds for mounting or unpacking, and for registering.
    pub seconds: (f64, f64),
}

/// Attaches the layers and registers the paths whose closure is valid or attached too.
///
/// # Errors
/// When the store cannot be read or written.
pub(super) fn attach(request: &AttachRequest, progress: &AtomicU64) -> Result<Attached, CacheError> {
    let dirs = StoreDirs::new(request.store_root.as_deref());
    readonly::with_writable_store(&dirs, || attach_here(&dirs, request, progress))
}

fn attach_here(dirs: &StoreDirs, request: &AttachRequest, progress: &AtomicU64) -> Result<Attached, CacheError> {
    let start = Instant::now();
    let deadline = request.milliseconds.map(|left| start + Duration::from_millis(left));
    let _lock = as_owner(dirs, || store::gc_lock(dirs))?;
    clear_leftovers(dirs)?;
    let valid = as_owner(dirs, || store::read_all(dirs))?;
    let mut done = Attached {
        mode: request.mode,
        not_mounted: None,
        registered: BTreeSet::new(),
        rejected: Vec::new(),
        refused: Vec::new(),
        usage: BTreeMap::new(),
        seconds: (0.0, 0.0),
    };
    let mut placed = BTreeMap::new();
    let mut inspection = None;
    let mut rest = request.layers.clone();
    let like_locks = like_locks(&rest, &valid);
    for layer in &mut rest {
        // Paths that have become valid since the request are Nix's and stay unchanged.
        layer.infos.retain(|info| !valid.contains_key(&info.path) && !like_locks.contains(&info.path));
    }
    let why = "Its name and that of another path differ in `.lock` alone: the one would be the other's lock.";
    done.rejected.extend(like_locks.into_iter().map(|path| Rejected { path, why: why.into() }));
    for unneeded in rest.extract_if(.., |layer| layer.infos.is_empty()) {
        let _ = fs::remove_file(&unneeded.file);
    }
    let mut mounted = Vec::new();
    let proof = (request.threads, request.admit);
    if request.mode != Mode::Unpack && !rest.is_empty() {
        match mount_seen(dirs, &rest, (&request.daemon_sockets, proof), &mut inspection, &valid) {
            Ok(found) => {
                let layers = std::mem::replace(&mut rest, found.to_unpack);
                if found.is_mounted {
                    mounted = layers;
                }
                placed = found.placed;
                if request.mode == Mode::Stream
                    && let Some(inspection) = &inspection
                {
                    first::ask_for_read(dirs, &request.first, &mounted, &inspection.usage);
                }
                done.registered.extend(found.probe);
            }
            Err(CacheError::Mount(error)) => {
                done.mode = Mode::Unpack;
                done.not_mounted = Some(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    // If mounting failed late, the images have already been checked, and their owner has been changed.
    let inspection = inspection.unwrap_or_else(|| inspect(&rest));
    inspection.keep_sound(&mut rest);
    for refused in &inspection.refused {
        for layer in request.layers.iter().filter(|layer| layer.id == refused.id) {
            // It is useless; if it cannot be removed, it takes space until the next restore.
            let _ = fs::remove_file(&layer.file).or_else(|_| fs::remove_file(held_file(&places(dirs), layer)));
        }
    }
    done.rejected.extend(inspection.rejected);
    done.refused = inspection.refused;
    done.usage = inspection.usage;
    // The files of the layers are root's.
    let held = if request.mode == Mode::Mount { opened(dirs, &mounted) } else { Vec::new() };
    let begun = (start, deadline);
    let result = as_owner(dirs, || {
        unpack_and_register(dirs, (request, &rest), (&valid, &held), placed, (begun, &mut done), progress)
    });
    if let Err(error) = result {
        if !mounted.is_empty() {
            undo(dirs, &mounted, &done.registered)?;
        }
        stream::end(&places(dirs));
        return Err(error);
    }
    if request.mode == Mode::Stream && mounted.is_empty() {
        // What was wanted of it is unpacked.
        stream::end(&places(dirs));
        return Ok(done);
    }
    if request.mode == Mode::Stream {
        stream::fill(&places(dirs));
    }
    for layer in rest.iter().filter(|_| done.mode == Mode::Unpack) {
        // An unpacked layer is no longer needed; if it cannot be removed, it takes space until the next restore.
        let _ = fs::remove_file(&layer.file);
    }
    Ok(done)
}

/// The mounted layers whose files can be read.
fn opened<'a>(dirs: &StoreDirs, mounted: &'a [AttachLayer]) -> Vec<(&'a AttachLayer, File)> {
    let places = places(dirs);
    mounted.iter().filter_map(|layer| Some((layer, File::open(held_file(&places, layer)).ok()?))).collect()
}

/// Unpacks `rest`, and registers it with the paths `placed` by mounting from the layers `held`.
fn unpack_and_register(
    dirs: &StoreDirs,
    (request, rest): (&AttachRequest, &[AttachLayer]),
    (valid, held): (&Paths, &[(&AttachLayer, File)]),
    mut placed: BTreeMap<StorePath, InPlace>,
    ((start, deadline), done): ((Instant, Option<Instant>), &mut Attached),
    progress: &AtomicU64,
) -> Result<(), CacheError> {
    let mut already = BTreeSet::new();
    // Without an answer, existing files are kept.
    let is_valid = |path: &StorePath| store::is_valid(dirs, path).unwrap_or(true);
    let (store, threads) = (dirs.real_store(), request.threads);
    let target = Target { store: &store, owner: new_owner(dirs), is_valid: &is_valid, threads, deadline, progress };
    for layer in rest {
        let unpacked = unpack_layer(layer, &target);
        done.rejected.extend(unpacked.rejected);
        already.extend(unpacked.already);
        let infos: BTreeMap<&StorePath, &Arc<PathInfo>> = layer.infos.iter().map(|info| (&info.path, info)).collect();
        let unpacked = unpacked.placed.into_iter();
        placed.extend(unpacked.map(|(path, inode)| (path.clone(), InPlace::unpacked(infos[&path], inode))));
    }
    done.seconds.0 = start.elapsed().as_secs_f64();
    let registering = Instant::now();
    let before = placed.clone();
    let known = derivations::read(held, &placed, request.threads);
    done.rejected.extend(facts::prove(dirs, &mut placed, (known, valid), (request.threads, request.admit)));
    for place in before.values().filter(|place| !placed.contains_key(&place.info.path)) {
        if let Err(error) = discard(dirs, place) {
            tracing::debug!("{} stays behind: {error}", place.info.path);
        }
    }
    drop(before);
    let wanted = request.layers.iter().flat_map(|layer| &layer.infos);
    let is_valid = |path: &StorePath| valid.contains_key(path) || already.contains(path);
    let lost = wanted.filter(|info| !placed.contains_key(&info.path) && !is_valid(&info.path));
    register_into(&mut done.registered, dirs, &placed, lost.cloned().collect(), is_valid)?;
    match store::add_realisations(dirs, &request.realisations) {
        Ok(_) => {}
        // The derivation is rebuilt then.
        Err(error) => tracing::warn!("The realisations of content-addressed derivations are not restored: {error}"),
    }
    done.seconds.1 = registering.elapsed().as_secs_f64();
    Ok(())
}

/// Undoes a mount if not all of its paths could be registered. If that fails, the registered paths stay valid and mounted.
fn undo(dirs: &StoreDirs, layers: &[AttachLayer], registered: &BTreeSet<StorePath>) -> Result<(), CacheError> {
    if !registered.is_empty() {
        let registered: Vec<StorePath> = registered.iter().cloned().collect();
        as_owner(dirs, || store::unregister(dirs, &registered))?;
    }
    take_back(dirs, layers)?;
    for layer in layers {
        let _ = fs::remove_file(&layer.file);
    }
    Ok(())
}

/// Returns wanted paths whose names are those of others with `.lock` appended, and those others. Nix never builds such a pair,
/// because the hash is part of the name.
fn like_locks(layers: &[AttachLayer], valid: &Paths) -> BTreeSet<StorePath> {
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
            crate::base::human::count(removed as u64, "path")
        );
    }
    Ok(())
}

/// Unpacks the wanted paths of one layer.
pub(crate) fn unpack_layer(layer: &AttachLayer, target: &Target<'_>) -> Unpacked {
    let wanted: Vec<&PathInfo> = layer.infos.iter().map(AsRef::as_ref).collect();
    let reject = |why: String| {
        let rejected = wanted.iter().map(|info| Rejected { path: info.path.clone(), why: why.clone() });
        Unpacked { rejected: rejected.collect(), ..Unpacked::default() }
    };
    File::open(&layer.file)
        .map_err(Into::into)
        .and_then(Image::open)
        .and_then(|image| unpack(&image, &wanted, target))
        .unwrap_or_else(|error| reject(error.to_string()))
}

/// The owner of unpacked paths; None if this process cannot change the owner.
pub(crate) fn new_owner(dirs: &StoreDirs) -> Option<(u32, u32)> {
    dirs.path_owner().ok().filter(|_| rustix::process::geteuid().is_root())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NarHash;

    #[test]
    fn of_two_names_that_differ_in_lock_neither_is_attached() {
        let path = |name: &str| format!("{}-{name}", "0".repeat(32)).parse::<StorePath>().unwrap();
        let info = |name: &str| PathInfo { nar_hash: NarHash([0; 32]), nar_size: 1, ..PathInfo::sample(path(name)) };
        let layer = |names: &[&str]| AttachLayer {
            id: Sha([0; 32]),
            file: PathBuf::new(),
            infos: names.iter().map(|name| Arc::new(info(name))).collect(),
        };
        let layers = [layer(&["a", "b.lock", "c"]), layer(&["a.lock", "d"])];
        let valid = Paths::from_iter([(path("d.lock"), info("d.lock"))]);
        let found: Vec<_> = like_locks(&layers, &valid).into_iter().collect();
        assert_eq!(found, [path("a"), path("a.lock"), path("d")]);
    }
}
