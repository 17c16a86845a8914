//! Mounts the overlay, with options that refer to descriptors of its folders.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use super::anchor::{Anchor, open_folder};
use super::holders::overlay_name;
use super::mount::{MountError, Places, refused};
use crate::base::platform::{
    MountFlags, MountPropagationFlags, flags_at, mount, mount_bind, mount_change, mount_remount,
};

/// Mounts the overlay with the images at `lower` below and the existing store on top, which stays accessible at
/// [`Places::upper`].
pub(crate) fn mount_overlay(places: &Places, anchor: &Anchor, lower: &[PathBuf]) -> Result<(), MountError> {
    let what = "An overlay on the store directory";
    // Private before the overlay is mounted: if mounts propagate, as under systemd, the overlay would cover this as well.
    let upper = anchor.at("upper");
    mount_bind(&places.store, &upper)
        .and_then(|()| mount_change(&upper, MountPropagationFlags::PRIVATE))
        .and_then(|()| restrict(&upper))
        .map_err(|error| refused("A bind mount of the store directory")(error.into()))?;
    let name = overlay_name(&places.store).map_err(refused(what))?;
    let opened = Opened::new(places, anchor, lower).map_err(refused(what))?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount(name, &places.store, "overlay", flags, Some(&*opened.options()?)).map_err(|error| refused(what)(error.into()))
}

/// Disables set-uid programs and devices on a bind mount. Its other flags stay.
fn restrict(point: &Path) -> rustix::io::Result<()> {
    let flags = flags_at(point)? | MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID;
    mount_remount(point, flags, c"")
}

/// The folders of an overlay, opened. The kernel gets their descriptors, because their paths may contain option separators and
/// could be replaced before the kernel resolves them.
struct Opened {
    lower: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
}

impl Opened {
    fn new(places: &Places, anchor: &Anchor, lower: &[PathBuf]) -> io::Result<Self> {
        let lower = lower.iter().map(|point| open_folder(CWD, point)).collect::<Result<_, _>>()?;
        // Not through the bind mount: the kernel requires both on the same mount.
        Ok(Self { lower, upper: open_folder(CWD, &places.store)?, work: open_folder(CWD, &anchor.at("work"))? })
    }

    fn options(&self) -> Result<std::ffi::CString, MountError> {
        let place = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let lower: Vec<String> = self.lower.iter().map(place).collect();
        // Without redirect_dir, the garbage collector cannot rename a directory of a layer before it deletes it. With metacopy,
        // the store would be left with files without bytes; with index, it could not be mounted over other layers later.
        let text = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=on,metacopy=off,index=off",
            lower.join(":"),
            place(&self.upper),
            place(&self.work)
        );
        std::ffi::CString::new(text).map_err(|error| refused("An overlay on the store directory")(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_the_kernel_defaults_to_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::new(&folder.path().join("st,o:re"), &folder.path().join("own"));
        let lower = ["one", "two"].map(|name| folder.path().join(name));
        fs::create_dir(folder.path().join("own")).unwrap();
        for path in lower.iter().chain([&places.store]) {
            fs::create_dir_all(path).unwrap();
        }
        let anchor = Anchor::make(&places).unwrap();
        anchor.make_folder("work").unwrap();
        let opened = Opened::new(&places, &anchor, &lower).unwrap();
        let options = opened.options().unwrap().into_string().unwrap();
        let (folders, switches) = options.split_once(",redirect_dir=").unwrap();
        assert_eq!(switches, "on,metacopy=off,index=off");
        let named: Vec<&str> = folders.split(|c| ",=:".contains(c)).filter(|word| word.starts_with('/')).collect();
        let expected = [&lower[0], &lower[1], &places.store, &places.folder.join("work")];
        let found: Vec<PathBuf> = named.iter().map(|fd| fs::read_link(fd).unwrap()).collect();
        assert_eq!(found, expected.map(|path| path.canonicalize().unwrap()));
    }
}
