//! Attaching layers by mounting them: each image read-only, and over the store directory one overlay with the images below and
//! the store as it was on top. Nothing is unpacked; what is written goes where it always went.
//!
//! The store as it was stays reachable at [`Places::upper`], so that it can be worked on below the overlay.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lremovexattr, lsetxattr, mknodat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount};

use super::squashfs::{Image, ImageError, set_owner};
use crate::child::without_secrets;
use crate::threads::side_by_side;

/// The kernel takes mount options of one page, and a lookup asks every layer.
pub const MAX_LAYERS: usize = 32;

/// Why layers could not be mounted. The store is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel or the machine does not do it.
    #[error("{what} was refused: {error}")]
    Refused {
        /// Which step.
        what: String,
        /// What the system says.
        error: io::Error,
    },
    /// A layer is not a sound image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// There are too many.
    #[error("{0} layers are more than the {MAX_LAYERS} that one overlay takes")]
    TooMany(usize),
}

fn refused(what: impl Into<String>) -> impl FnOnce(io::Error) -> MountError {
    let what = what.into();
    move |error| MountError::Refused { what, error }
}

/// Where things are mounted: below our folder, which must be on the same file system as the store directory.
#[derive(Clone, Debug)]
pub struct Places {
    /// The store directory that the overlay covers.
    pub store: PathBuf,
    /// The store directory as it was, below the overlay.
    pub upper: PathBuf,
    /// Where the files of mounted images are kept, out of the way of whatever fetches layers.
    pub layers: PathBuf,
    folder: PathBuf,
    work: PathBuf,
    images: PathBuf,
    /// What hides names in the images.
    hidden: PathBuf,
}

impl Places {
    /// The places for the directory `store`, with `own` as our folder.
    #[must_use]
    pub fn new(store: &Path, own: &Path) -> Self {
        let folder = resolved(own).join("mounts");
        Self {
            store: resolved(store),
            upper: folder.join("upper"),
            layers: folder.join("layers"),
            work: folder.join("work"),
            images: folder.join("images"),
            hidden: folder.join("hidden"),
            folder,
        }
    }

    /// Whether the overlay is there: mounted by this process or an earlier one.
    ///
    /// # Errors
    /// When the list of mounts cannot be read.
    pub fn is_mounted(&self) -> io::Result<bool> {
        let mounts = mounts()?;
        let top = mounts.iter().rev().find(|mount| mount.point == self.store);
        Ok(top.is_some_and(|mount| mount.kind == "overlay") && mounts.iter().any(|mount| mount.point == self.upper))
    }
}

/// The path without links in it, as the kernel lists mounts.
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => resolved(parent).join(name),
        _ => path.into(),
    })
}

/// One image to mount.
#[derive(Clone, Debug)]
pub struct MountImage {
    /// A short name, for the folder it is mounted at: letters and digits.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
}

/// The names of store paths at the top of an image.
///
/// # Errors
/// When it is not a sound image.
pub fn names_in(file: &Path) -> Result<BTreeSet<Vec<u8>>, ImageError> {
    let image = Image::open(File::open(file)?)?;
    Ok(image.root()?.into_iter().map(|entry| entry.name.into_vec()).collect())
}

/// The names that stand in more than one of these images. An overlay would mix their files, so they must not be used from
/// the mount.
#[must_use]
pub fn ambiguous(names: &[BTreeSet<Vec<u8>>]) -> BTreeSet<Vec<u8>> {
    let mut seen: BTreeMap<&Vec<u8>, u32> = BTreeMap::new();
    for name in names.iter().flatten() {
        *seen.entry(name).or_default() += 1;
    }
    seen.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name.clone()).collect()
}

/// Mounts `images` below the store directory, without the names `hidden` in them. `owner` is the owner and group that everything in
/// them shall have. Of what the store and an image both have by name, the store's is seen, and nothing else.
///
/// # Errors
/// When anything cannot be mounted; all that was mounted before it is unmounted again.
pub fn attach(
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
    let point = |image: &MountImage| places.images.join(&image.name);
    let mut lower: Vec<PathBuf> = images.iter().map(point).collect();
    for image in images {
        set_owner(&image.file, owner)?;
    }
    side_by_side(images, |image| mount_image(&image.file, &point(image)), |error| refused("Mounting a layer")(error))?;
    for point in &lower {
        hide_lower(point, &places.store)?;
    }
    if !hidden.is_empty() {
        hide(&places.hidden, hidden)?;
        lower.insert(0, places.hidden.clone());
    }
    for folder in [&places.upper, &places.work] {
        fs::create_dir_all(folder).map_err(refused(format!("Making {}", folder.display())))?;
    }
    // Private before the overlay is there: where mounts spread, as they do under systemd, it would cover this as well.
    mount_bind(&places.store, &places.upper)
        .and_then(|()| mount_change(&places.upper, MountPropagationFlags::PRIVATE))
        .map_err(|error| refused("A bind mount of the store directory")(error.into()))?;
    mount("overlay", &places.store, "overlay", MountFlags::NODEV, Some(&*overlay_options(places, &lower)?))
        .map_err(|error| refused("An overlay on the store directory")(error.into()))
}

/// The option string. Paths that hold its separators cannot be put into it.
fn overlay_options(places: &Places, lower: &[PathBuf]) -> Result<std::ffi::CString, MountError> {
    let paths: Vec<&PathBuf> = lower.iter().chain([&places.store, &places.work]).collect();
    if let Some(path) = paths.iter().find(|path| path.as_os_str().as_bytes().iter().any(|byte| b":,\\".contains(byte)))
    {
        let error = io::Error::other(format!("{} has a colon, comma or backslash in it", path.display()));
        return Err(refused("An overlay on the store directory")(error));
    }
    let lower: Vec<String> = lower.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    // Without redirect_dir the garbage collector cannot rename a directory of a layer before it deletes it. With metacopy the
    // store would be left with files that have no bytes; with index it could not be mounted over other layers later.
    let text = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=on,metacopy=off,index=off",
        lower.join(":"),
        // Not by way of the bind mount: the kernel wants both on one mount.
        places.store.display(),
        places.work.display()
    );
    std::ffi::CString::new(text).map_err(|error| refused("An overlay on the store directory")(error.into()))
}

/// Mounts one image read-only. The program `mount` sets up the loop device, which needs calls that Rust has only unsafely.
fn mount_image(file: &Path, point: &Path) -> Result<(), MountError> {
    let what = || format!("Mounting {}", file.display());
    fs::create_dir_all(point).map_err(refused(what()))?;
    let mut command = Command::new("mount");
    command.args(["-t", "squashfs", "-o", "loop,ro,nodev,nosuid"]).args([file, point]);
    let output = without_secrets(&mut command).output().map_err(refused(what()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(refused(what())(io::Error::other(said)))
}

/// Marks each directory of the store whose name a layer has too: the overlay then shows the store's alone.
fn hide_lower(point: &Path, store: &Path) -> Result<(), MountError> {
    let what = "Marking a path of the store as complete";
    for entry in fs::read_dir(point).map_err(refused(what))? {
        let here = store.join(entry.map_err(refused(what))?.file_name());
        if fs::symlink_metadata(&here).is_ok_and(|metadata| metadata.is_dir()) {
            lsetxattr(&here, "trusted.overlay.opaque", b"y", XattrFlags::empty())
                .map_err(|error| refused(what)(error.into()))?;
        }
    }
    Ok(())
}

/// Makes a folder that hides `names` in whatever is below it in an overlay: there a character device with number 0 means that a name
/// was deleted.
fn hide(folder: &Path, names: &BTreeSet<Vec<u8>>) -> Result<(), MountError> {
    let what = "Hiding what is not wanted of a layer";
    super::unpack::remove_tree(folder).and_then(|()| fs::create_dir_all(folder)).map_err(refused(what))?;
    for name in names {
        let place = folder.join(OsStr::from_bytes(name));
        mknodat(CWD, &place, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(|error| refused(what)(error.into()))?;
    }
    Ok(())
}

/// Unmounts the overlay and the images. What was written meanwhile stays in the store directory.
///
/// # Errors
/// When the store is in use; everything is still mounted then.
pub fn detach(places: &Places) -> Result<(), MountError> {
    unmount(&places.store, UnmountFlags::empty()).map_err(|error| {
        let why = match error {
            Errno::BUSY => io::Error::other("the store is in use"),
            error => error.into(),
        };
        refused("Unmounting the overlay on the store directory")(why)
    })?;
    clear(places);
    Ok(())
}

/// Unmounts whatever else of ours is mounted, as far as that goes. The overlay must be gone, or never have been there.
pub fn clear(places: &Places) {
    let mounts = mounts().unwrap_or_default();
    let ours = mounts.iter().rev().map(|mount| &mount.point);
    for point in ours.filter(|point| **point == places.upper || point.starts_with(&places.images)) {
        if let Err(error) = unmount(point, UnmountFlags::empty()) {
            tracing::debug!("{} stays mounted: {error}", point.display());
        }
    }
    let removed = super::unpack::remove_tree(&places.work)
        .and_then(|()| super::unpack::remove_tree(&places.hidden))
        .and_then(|()| remove_points(places));
    if let Err(error) = removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }) {
        tracing::debug!("{} stays: {error}", places.folder.display());
    }
}

/// Removes mount points. Never with what is in them: should something still be mounted there, it is the store.
fn remove_points(places: &Places) -> io::Result<()> {
    if let Ok(images) = fs::read_dir(&places.images) {
        for image in images {
            fs::remove_dir(image?.path())?;
        }
        fs::remove_dir(&places.images)?;
    }
    fs::remove_dir(&places.upper)
}

/// Removes the folder of the places and the files of layers in it. Nothing must be mounted any more.
///
/// # Errors
/// When something in it cannot be removed, such as a mount point that is one.
pub fn remove_folder(places: &Places) -> io::Result<()> {
    super::unpack::remove_tree(&places.layers)?;
    match fs::remove_dir(&places.folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the marks of an overlay from the directory that was its upper one: the devices that stand for what was deleted
/// (character devices with number 0), and the attributes that say what is to be seen of layers.
///
/// # Errors
/// When the directory cannot be read or written.
pub fn remove_marks(store: &Path) -> io::Result<()> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    unmark(store)?;
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            unmark(&entry.path())?;
        } else if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn unmark(directory: &Path) -> io::Result<()> {
    for name in ["opaque", "redirect", "origin", "impure", "uuid"] {
        match lremovexattr(directory, format!("trusted.overlay.{name}")) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// One line of the kernel's list.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    kind: String,
}

/// All that is mounted where this process is, in the order it was mounted.
fn mounts() -> io::Result<Vec<Mount>> {
    match fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => Ok(text.lines().filter_map(parse_mount).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The fifth field is the mount point, and the one after a lone `-` the type: see `proc_pid_mountinfo(5)`. Spaces are written as
/// octal numbers.
fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let point = PathBuf::from(unescape(before.split(' ').nth(4)?));
    Some(Mount { point, kind: after.split(' ').next()?.to_owned() })
}

fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_as_the_kernel_writes_them() {
        let line =
            r"36 35 98:0 /a\040b /nix/st\040or\134e rw,noatime shared:1 master:2 - overlay overlay rw,lowerdir=/a - b";
        let mount = Mount { point: PathBuf::from(r"/nix/st or\e"), kind: "overlay".into() };
        assert_eq!(parse_mount(line), Some(mount));
        assert_eq!(parse_mount("36 35 98:0 / /nix rw - ext4 /dev/vda rw").unwrap().kind, "ext4");
        assert_eq!(parse_mount(""), None);
    }

    #[test]
    fn what_the_kernel_defaults_to_does_not_matter() {
        let places = Places::new(Path::new("/nowhere/store"), Path::new("/nowhere/own"));
        let options = overlay_options(&places, &["/one".into(), "/two".into()]).unwrap().into_string().unwrap();
        let (places, switches) = options.split_once(",redirect_dir=").unwrap();
        assert_eq!(places, "lowerdir=/one:/two,upperdir=/nowhere/store,workdir=/nowhere/own/mounts/work");
        assert_eq!(switches, "on,metacopy=off,index=off");
    }

    #[test]
    fn a_path_that_the_kernel_would_read_otherwise_is_refused() {
        let places = Places::new(Path::new("/nowhere/a:b"), Path::new("/nowhere/own"));
        assert!(overlay_options(&places, &[]).unwrap_err().to_string().contains("/nowhere/a:b"));
    }

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
