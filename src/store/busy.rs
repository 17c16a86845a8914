//! Detects other processes that are working in the store directory, by the locks that they hold there.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};

use super::StorePath;

/// Returns the name of a lock in the directory `store` that another process holds, or None.
///
/// Nix locks `NAME.lock` while it builds, fetches or adds the path `NAME`, and the temporary directory into which it writes a
/// large path. A lock belongs to the file through which it was taken: locks taken through an overlay on `store`, or below one,
/// are not visible here.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn held_lock(store: &Path) -> io::Result<Option<OsString>> {
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        let may_be_locked = (kind.is_file() && name.as_bytes().ends_with(b".lock"))
            || (kind.is_dir() && name.to_str().is_none_or(|name| name.parse::<StorePath>().is_err()));
        if may_be_locked && is_held(&entry.path())? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Returns whether a process holds an exclusive lock on this file. A file that is gone or cannot be opened counts as free.
fn is_held(path: &Path) -> io::Result<bool> {
    // If a link or a pipe has the name of a lock, do not follow it or block on it.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return Ok(false) };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(path: &Path) -> fs::File {
        let file = fs::File::open(path).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        file
    }

    #[test]
    fn locks_count_while_they_are_held() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let held = || held_lock(folder.path()).unwrap();
        fs::write(place("0000-a.lock"), "").unwrap();
        fs::create_dir(place("tmp-1-2")).unwrap();
        fs::create_dir(place(".links")).unwrap();
        fs::create_dir(place("00000000000000000000000000000000-folder.lock")).unwrap();
        std::os::unix::fs::symlink("0000-a.lock", place("b.lock")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, place("c.lock"), rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(held(), None);
        let lock = locked(&place("0000-a.lock"));
        assert_eq!(held(), Some("0000-a.lock".into()));
        drop(lock);
        assert_eq!(held(), None);
        let lock = locked(&place("tmp-1-2"));
        assert_eq!(held(), Some("tmp-1-2".into()));
        drop(lock);
        let _lock = locked(&place("00000000000000000000000000000000-folder.lock"));
        assert_eq!(held(), None);
    }
}
