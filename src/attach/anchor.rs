//! The folder of a mount, held open: in a user's store, that user can rename it or put a link in its place at any moment, but
//! can change nothing in it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};

use super::mount::Places;
use crate::store::tree::remove_at;

/// The folder [`Places`] are in, open. Nobody else may write to it.
#[derive(Debug)]
pub(crate) struct Anchor {
    fd: OwnedFd,
}

impl Anchor {
    /// Opens the folder; None if it is not there. What is not a folder of this user's alone is removed.
    pub(crate) fn open(places: &Places) -> io::Result<Option<Self>> {
        let (Some(own), Some(name)) = (places.folder.parent(), places.folder.file_name()) else { return Ok(None) };
        let own = match open_folder(CWD, own) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened?,
        };
        let fd = match open_folder(&own, Path::new(name)) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                remove_at(&own, name)?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let found = fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
        if found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0 {
            return Ok(Some(Self { fd }));
        }
        if !rustix::process::geteuid().is_root() {
            // Root's; it is for root to change it.
            return Ok(None);
        }
        remove_at(&own, name)?;
        Ok(None)
    }

    /// Opens the folder, created if missing.
    pub(crate) fn make(places: &Places) -> io::Result<Self> {
        if let Some(anchor) = Self::open(places)? {
            return Ok(anchor);
        }
        match rustix::fs::mkdirat(CWD, &places.folder, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Self::open(places)?.ok_or_else(|| io::Error::other("something else is put in its place"))
    }

    /// A path to something in it, for this process alone, that leads there whatever becomes of the folder's name.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.fd.as_raw_fd()))
    }

    pub(crate) fn make_folder(&self, name: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an empty folder; one that is not there is fine.
    pub(crate) fn remove_folder(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, rustix::fs::AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

pub(crate) fn open_folder(parent: impl AsFd, name: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(
        parent,
        name,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// A folder that only root can change, for [`Stage`].
pub(crate) const STAGES: &str = "/run";

/// The anchored folder at a second place, below which nobody but root can rename anything: programs that are given paths, and not
/// descriptors, are given these. It is unmounted when it is dropped.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: PathBuf,
}

impl Stage {
    /// What the names of stages for this store begin with.
    pub(crate) fn name(places: &Places) -> io::Result<String> {
        let own = places.folder.parent().unwrap_or(&places.folder).metadata()?;
        Ok(format!("nix-cache-{}-{}.", own.dev(), own.ino()))
    }

    pub(crate) fn new(places: &Places, anchor: &Anchor) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(&Self::name(places)?).tempdir_in(STAGES)?.keep();
        let stage = Self { folder };
        mount_bind(format!("/proc/self/fd/{}", anchor.fd.as_raw_fd()), &stage.folder)?;
        // A mount can be moved out of a private one only.
        mount_change(&stage.folder, MountPropagationFlags::PRIVATE)?;
        Ok(stage)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The loop devices of mounted images go on using it; nothing else does.
        let removed = match unmount(&self.folder, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL) => fs::remove_dir(&self.folder),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = removed {
            tracing::debug!("{} stays: {error}", self.folder.display());
        }
    }
}
