//! Removes trees without following links, even while other processes change them.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::base::platform::PLACE;

/// Removes a name in an open folder with its content; no link is followed.
///
/// # Errors
/// When something cannot be removed.
pub(crate) fn remove_at(parent: &impl AsFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Errno::PERM.into());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
    let fd = match open() {
        Err(Errno::ACCESS) => {
            // By name, because it cannot be opened. This is reached only by its owner: root needs no permission.
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(0o700), AtFlags::empty())?;
            open()?
        }
        opened => opened?,
    };
    if stat.st_mode & 0o300 != 0o300 {
        // Root needs none; if this fails, the content cannot be removed either.
        let _ = rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o700));
    }
    for entry in Dir::read_from(&fd)? {
        let entry = entry?;
        let inner = OsStr::from_bytes(entry.file_name().to_bytes());
        if inner != "." && inner != ".." {
            remove_at(&fd, inner)?;
        }
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes a file or a directory with its content, even if directories are read-only, as in a store. No link in it is followed.
/// It need not exist.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(ErrorKind::InvalidInput));
    };
    let flags = PLACE | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, parent, flags, Mode::empty()) {
        Ok(parent) => remove_at(&parent, name),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
