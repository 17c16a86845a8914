//! Attaches layers by mounting them: each image read-only, and over the store directory one overlay with the images below and the
//! existing store on top. Nothing is unpacked, and writes go to the store as before.
//!
//! The existing store stays accessible at [`Places::upper`], so that it can be changed below the overlay.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::anchor::{Anchor, STAGES, Stage};
use super::holders::{elsewhere, overlay_name, user_of};
use super::marks::{hide, hide_lower};
use super::mountinfo::mounts;
use super::overlay::mount_overlay;
use crate::base::child::without_secrets;
use crate::base::platform::{UnmountFlags, mount_move, unmount};
use crate::base::threads::side_by_side;
use crate::layer::squashfs::{Image, ImageError, set_owner};
use crate::store::tree::remove_tree;

/// Largest number of layers: the kernel limits mount options to one page, and a lookup searches every layer.
pub(crate) const MAX_LAYERS: usize = 32;

/// Time for which a process may see the overlay in a namespace that it is about to leave, like each sandboxed build at its start.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same, for a process that is ending or being started.
const LINGERING: Duration = Duration::from_secs(5);

/// Why layers could not be mounted. The store is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel or the machine refused a step.
    #[error("{what} was refused: {error}")]
    Refused {
        /// The step.
        what: String,
        /// The system's error.
        error: io::Error,
    },
    /// A layer is not a valid image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The store is in use in a way that a mount would break.
    #[error("{0}")]
    Unsuitable(String),
    /// A process needs the mounted layers.
    #[error("the store is in use {0}")]
    InUse(String),
    /// There are too many layers.
    #[error("{0} layers are more than the {MAX_LAYERS} that one overlay supports")]
    TooMany(usize),
}

pub(crate) fn refused(what: impl Into<String>) -> impl FnOnce(io::Error) -> MountError {
    let what = what.into();
    move |error| MountError::Refused { what, error }
}

/// The mount points: below our folder, which must be on the same file system as the store directory.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The store directory that the overlay covers.
    pub store: PathBuf,
    /// The existing store directory, below the overlay.
    pub upper: PathBuf,
    /// The files of mounted images, separate from downloads.
    pub layers: PathBuf,
    pub(crate) folder: PathBuf,
    images: PathBuf,
}

impl Places {
    /// The places for the directory `store`, with `own` as our folder.
    #[must_use]
    pub(crate) fn new(store: &Path, own: &Path) -> Self {
        let folder = resolved(own).join("mounts");
        Self {
            store: resolved(store),
            upper: folder.join("upper"),
            layers: folder.join("layers"),
            images: folder.join("images"),
            folder,
        }
    }

    /// Whether this process or an earlier one has mounted the overlay.
    ///
    /// # Errors
    /// When the list of mounts cannot be read.
    pub(crate) fn is_mounted(&self) -> io::Result<bool> {
        let mounts = mounts()?;
        let top = mounts.iter().rev().find(|mount| mount.point == self.store);
        Ok(top.is_some_and(|mount| mount.kind == "overlay") && mounts.iter().any(|mount| mount.point == self.upper))
    }
}

/// The path with links resolved, as the kernel lists mounts.
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => resolved(parent).join(name),
        _ => path.into(),
    })
}

/// One image to mount.
#[derive(Clone, Debug)]
pub(crate) struct MountImage {
    /// A short name, for the folder it is mounted at: letters and digits.
    pub name: String,
    pub file: PathBuf,
}

/// The names of store paths at the top of an image.
///
/// # Errors
/// When it is not a sound image.
pub(crate) fn names_in(file: &Path) -> Result<BTreeSet<Vec<u8>>, ImageError> {
    let image = Image::open(File::open(file)?)?;
    Ok(image.root()?.into_iter().map(|entry| entry.name.into_vec()).collect())
}

/// Returns the names that are in more than one of these images. An overlay would merge their files, so they must not be used
/// from the mount.
#[must_use]
pub(crate) fn ambiguous(names: &[BTreeSet<Vec<u8>>]) -> BTreeSet<Vec<u8>> {
    let mut seen: BTreeMap<&Vec<u8>, u32> = BTreeMap::new();
    for name in names.iter().flatten() {
        *seen.entry(name).or_default() += 1;
    }
    seen.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name.clone()).collect()
}

/// Mounts `images` below the store directory, without the names `hidden` in them. `owner` is the owner and group of everything in
/// them. If the store and an image have the same name, only the store's is visible.
///
/// # Errors
/// When anything cannot be mounted; everything mounted before it is unmounted again.
pub(crate) fn attach(
    places: &Places,
    images: &[MountImage],
    hidden: &BTreeSet<Vec<u8>>,
    owner: (u32, u32),
) -> Result<(), MountError> {
    if images.len() > MAX_LAYERS {
        return Err(MountError::TooMany(images.len()));
    }
    let attached = try_attach(places, images, hidden, owner);
    if attached.is_err() {
        clear(places);
    }
    attached
}

fn try_attach(
    places: &Places,
    images: &[MountImage],
    hidden: &BTreeSet<Vec<u8>>,
    owner: (u32, u32),
) -> Result<(), MountError> {
    for image in images {
        set_owner(&image.file, owner)?;
    }
    let anchor = Anchor::make(places).map_err(refused(format!("Making {}", places.folder.display())))?;
    for name in ["upper", "work", "images"] {
        anchor.make_folder(name).map_err(refused(format!("Making {}", places.folder.join(name).display())))?;
    }
    // Another user can rename what is in their folder while the program `mount` looks at it.
    let stage =
        if owner.0 == 0 { None } else { Some(Stage::new(places, &anchor).map_err(refused("A private mount"))?) };
    let base = stage.as_ref().map_or(&*places.folder, Stage::path);
    let mount_one = |image: &MountImage| {
        let name = format!("images/{}", image.name);
        anchor.make_folder(&name).map_err(refused(format!("Mounting {}", image.file.display())))?;
        let file = image.file.strip_prefix(&places.folder).map_or(image.file.clone(), |file| base.join(file));
        mount_image(&file, &base.join(&name))?;
        match &stage {
            Some(stage) => mount_move(stage.path().join(&name), anchor.at(&name))
                .map_err(|error| refused(format!("Mounting {}", image.file.display()))(error.into())),
            None => Ok(()),
        }
    };
    side_by_side(images, mount_one, |error| refused("Mounting a layer")(error))?;
    drop(stage);
    let mut lower: Vec<PathBuf> = images.iter().map(|image| anchor.at(&format!("images/{}", image.name))).collect();
    for point in &lower {
        hide_lower(point, &places.store).map_err(refused("Marking a path of the store as complete"))?;
    }
    if !hidden.is_empty() {
        let folder = anchor.at("hidden");
        remove_tree(&folder)
            .and_then(|()| anchor.make_folder("hidden"))
            .and_then(|()| hide(&folder, hidden))
            .map_err(refused("Hiding what is not wanted of a layer"))?;
        lower.insert(0, folder);
    }
    mount_overlay(places, &anchor, &lower)
}

const MOUNT_OPTIONS: &str = "loop,ro,nodev,nosuid";
/// Lets several processors decode blocks of one image. Kernels without the choice use what they were built with, and refuse this.
const PARALLEL: &str = "threads=multi";
/// Whether this kernel refused it.
static NOT_PARALLEL: AtomicBool = AtomicBool::new(false);

/// Mounts one image read-only. The program `mount` sets up the loop device, because the needed calls are unsafe in Rust.
pub(super) fn mount_image(file: &Path, point: &Path) -> Result<(), MountError> {
    let what = || format!("Mounting {}", file.display());
    let run = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "squashfs", "-o", options]).args([file, point]);
        without_secrets(&mut command).output().map_err(refused(what()))
    };
    let is_parallel = !NOT_PARALLEL.load(Ordering::Relaxed);
    if is_parallel && run(&format!("{MOUNT_OPTIONS},{PARALLEL}"))?.status.success() {
        return Ok(());
    }
    let output = run(MOUNT_OPTIONS)?;
    if output.status.success() {
        NOT_PARALLEL.store(true, Ordering::Relaxed);
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(refused(what())(io::Error::other(said)))
}

/// Checks whether the overlay can be unmounted, and changes nothing if not. Returns whether the overlay is unmounted: the kernel
/// unmounts a mount that was found unused twice in a row.
///
/// # Errors
/// When the store is in use, here or in another mount namespace.
pub(crate) fn claim(places: &Places) -> Result<bool, MountError> {
    // Accessing it resets an earlier attempt.
    let _ = fs::symlink_metadata(places.store.join("."));
    match unmount_patiently(places, UnmountFlags::EXPIRE) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN) => not_elsewhere(places).map(|()| false),
        Err(error) => Err(not_unmounted(places, error)),
    }
}

/// Checks that the overlay is in no other mount namespace, where it would stay without its images and its work directory.
///
/// # Errors
/// When it is in one, with a process in that namespace.
pub(crate) fn not_elsewhere(places: &Places) -> Result<(), MountError> {
    let lower = if places.upper.exists() { &places.upper } else { &places.store };
    let Ok(name) = overlay_name(lower) else { return Ok(()) };
    let start = Instant::now();
    while let Some(holder) = elsewhere(&places.store, &name) {
        if start.elapsed() > PATIENCE {
            return Err(MountError::InUse(format!(
                "by {holder}, which sees the mounted layers in a mount namespace of its own, or at a second place: end that \
                 process first"
            )));
        }
        std::thread::sleep(PATIENCE / 50);
    }
    Ok(())
}

/// Unmounts the overlay. It stays in use for a moment after the last process that used it has ended, or while a process is being
/// started by one that has a file of it open: where nobody is seen to use it, that is waited for.
fn unmount_patiently(places: &Places, flags: UnmountFlags) -> Result<(), Errno> {
    let start = Instant::now();
    loop {
        match unmount(&places.store, flags) {
            Err(Errno::BUSY) if start.elapsed() < LINGERING && user_of(&places.store).is_none() => {
                std::thread::sleep(LINGERING / 50);
            }
            other => return other,
        }
    }
}

fn not_unmounted(places: &Places, error: Errno) -> MountError {
    match error {
        Errno::BUSY => MountError::InUse(match user_of(&places.store) {
            Some(holder) => format!("by {holder}: end it first"),
            None => "by a process that has a file or folder of it open: end it first".into(),
        }),
        error => refused("Unmounting the overlay on the store directory")(error.into()),
    }
}

/// Unmounts the overlay. Files written meanwhile stay in the store directory.
///
/// # Errors
/// When the store is in use; then everything stays mounted.
pub(crate) fn detach(places: &Places) -> Result<(), MountError> {
    unmount_patiently(places, UnmountFlags::empty()).map_err(|error| not_unmounted(places, error))
}

/// Unmounts our other mounts as far as possible. The overlay must not be mounted.
pub(crate) fn clear(places: &Places) {
    let mounts = mounts().unwrap_or_default();
    let stage = Stage::name(places).ok().map(|name| format!("{STAGES}/{name}"));
    let is_staged = |point: &Path| stage.as_ref().is_some_and(|stage| point.to_string_lossy().starts_with(stage));
    let ours = mounts.iter().rev().map(|mount| &mount.point);
    for point in ours.filter(|point| **point == places.upper || point.starts_with(&places.images) || is_staged(point)) {
        let lazily = if is_staged(point) { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        if let Err(error) = unmount(point, UnmountFlags::NOFOLLOW | lazily) {
            tracing::debug!("{} stays mounted: {error}", point.display());
        } else if is_staged(point) {
            let _ = fs::remove_dir(point);
        }
    }
    if let Err(error) = remove_points(places) {
        tracing::debug!("{} stays: {error}", places.folder.display());
    }
}

/// Removes mount points, but never their content: if something is still mounted there, it is the store.
fn remove_points(places: &Places) -> io::Result<()> {
    let Some(anchor) = Anchor::open(places)? else { return Ok(()) };
    remove_tree(&anchor.at("work"))?;
    remove_tree(&anchor.at("hidden"))?;
    if let Ok(images) = fs::read_dir(anchor.at("images")) {
        for image in images {
            anchor.remove_folder(&format!("images/{}", image?.file_name().to_string_lossy()))?;
        }
    }
    anchor.remove_folder("images")?;
    anchor.remove_folder("upper")
}

/// Removes the folder of the places and the files of layers in it. Nothing must be mounted any more.
///
/// # Errors
/// When something in it cannot be removed, such as a mount point in use.
pub(crate) fn remove_folder(places: &Places) -> io::Result<()> {
    if let Some(anchor) = Anchor::open(places)? {
        remove_tree(&anchor.at("layers"))?;
    }
    match fs::remove_dir(&places.folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        fs::create_dir(real.join("real")).unwrap();
        std::os::unix::fs::symlink("real", real.join("link")).unwrap();
        let places = Places::new(&real.join("link/store"), &real.join("link/own"));
        assert_eq!((places.store, places.upper), (real.join("real/store"), real.join("real/own/mounts/upper")));
    }
}
