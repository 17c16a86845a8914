//! The folder of a mount, held open. In a user's store, that user can rename it or replace it with a link at any moment, but
//! cannot change anything in it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::mount::Places;
use crate::base::platform::{self, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use crate::store::tree::remove_at;

/// The folder [`Places`] are in, open. Nobody else may write to it.
#[derive(Debug)]
pub(crate) struct Anchor {
    fd: OwnedFd,
}

impl Anchor {
    /// Opens the folder; None if it does not exist. Anything else than a folder of this user alone is removed.
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
            // It belongs to root, so only root may change it.
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
        Self::open(places)?.ok_or_else(|| io::Error::other("another process replaces it"))
    }

    /// A path to `name` in it, for this process only, which stays valid if the folder is renamed.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.fd.as_raw_fd()))
    }

    pub(crate) fn make_folder(&self, name: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an empty folder, which need not exist.
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
        platform::PLACE | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// A folder that only root can change, for [`Stage`].
pub(crate) const STAGES: &str = "/run";

/// The anchored folder at a second place, below which only root can rename anything. Programs that take paths instead of
/// descriptors get paths in it. It is unmounted when it is dropped.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: PathBuf,
}

impl Stage {
    /// The prefix of the names of stages for this store.
    pub(crate) fn name(places: &Places) -> io::Result<String> {
        let own = places.folder.parent().unwrap_or(&places.folder).metadata()?;
        Ok(format!("nix-cache-{}-{}.", own.dev(), own.ino()))
    }

    pub(crate) fn new(places: &Places, anchor: &Anchor) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(&Self::name(places)?).tempdir_in(STAGES)?.keep();
        let stage = Self { folder };
        mount_bind(format!("/proc/self/fd/{}", anchor.fd.as_raw_fd()), &stage.folder)?;
        // Moving a mount requires a private parent mount.
        mount_change(&stage.folder, MountPropagationFlags::PRIVATE)?;
        Ok(stage)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Only the loop devices of mounted images keep using it.
        let removed = match unmount(&self.folder, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL) => fs::remove_dir(&self.folder),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = removed {
            tracing::debug!("{} stays: {error}", self.folder.display());
        }
    }
}
