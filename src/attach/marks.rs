//! Overlay marks in the upper directory, which are set before mounting and removed afterwards.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fs, io};

use rustix::fs::{XattrFlags, lremovexattr, lsetxattr};
use rustix::io::Errno;

use crate::base::platform::make_whiteout;

/// Marks each directory of the store whose name is also in a layer, so that the overlay shows only the store's.
pub(crate) fn hide_lower(point: &Path, store: &Path) -> io::Result<()> {
    for entry in fs::read_dir(point)? {
        let here = store.join(entry?.file_name());
        if fs::symlink_metadata(&here).is_ok_and(|metadata| metadata.is_dir()) {
            lsetxattr(&here, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// Hides `names` of the lower directories: in an overlay, a character device with number 0 marks a deleted name.
pub(crate) fn hide(folder: &Path, names: &BTreeSet<Vec<u8>>) -> io::Result<()> {
    for name in names {
        make_whiteout(&folder.join(OsStr::from_bytes(name)))?;
    }
    Ok(())
}

/// Removes the marks of an overlay from its former upper directory: the devices that mark deleted names (character devices with
/// number 0), and the attributes that hide content of layers.
///
/// # Errors
/// When the directory cannot be read or written.
pub(super) fn remove_marks(store: &Path) -> io::Result<()> {
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
            // Only root can see these marks, and only root's mounts use them.
            Err(Errno::PERM) if !rustix::process::geteuid().is_root() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
