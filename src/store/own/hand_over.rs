//! Gives our folder to the owner of the store.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid};

use super::{LAYERS, MOUNTS, OwnFolder, USERS, open_folder};

impl OwnFolder {
    /// Makes the owner of the store the owner of the folder, and of files that root or another user has left in it. Only root can do that.
    ///
    /// # Errors
    /// When the owner of the folder cannot be changed.
    pub(crate) fn hand_over(&self) -> io::Result<()> {
        let Some((user, group)) = self.owner else { return Ok(()) };
        let give = |file: &dyn AsFd| rustix::fs::fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        if rustix::fs::fstat(&self.fd)?.st_uid != user {
            give(&self.fd)?;
        }
        for name in self.names()? {
            // Files that are mounted, or about to be, belong to root.
            if name == MOUNTS || name == USERS || self.path.ends_with(LAYERS) {
                continue;
            }
            if let Ok(inner) = open_folder(&self.fd, Path::new(&name)) {
                let inner = Self { path: self.path.join(&name), fd: inner, owner: self.owner };
                inner.hand_over()?;
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(file) = rustix::fs::openat(&self.fd, &*name, flags, Mode::empty()) else { continue };
            let file = File::from(file);
            let metadata = file.metadata()?;
            // A file with a second hard link may be any file of root's.
            if metadata.is_file() && metadata.nlink() == 1 && metadata.uid() != user {
                give(&file)?;
            }
        }
        Ok(())
    }
}
