//! Store directories that are mounted read-only, as on `NixOS`: Nix makes them writable only for itself, and so do we.

use std::path::Path;

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

use super::CacheError;
use crate::base::platform::{MountFlags, mount_remount, unshare_mounts};
use crate::store::StoreDirs;

/// Whether the store directory is mounted read-only.
pub(crate) fn is_read_only(dirs: &StoreDirs) -> bool {
    statvfs(dirs.real_store()).is_ok_and(|facts| facts.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Runs `work` with a writable store directory: if it is mounted read-only, in a thread with a separate mount namespace, in which
/// it is remounted writable. Only that thread, and those that it starts, see the difference.
///
/// # Errors
/// When the directory cannot be made writable, and those of `work`.
pub(crate) fn with_writable_store<T: Send>(
    dirs: &StoreDirs,
    work: impl FnOnce() -> Result<T, CacheError> + Send,
) -> Result<T, CacheError> {
    if !is_read_only(dirs) {
        return work();
    }
    let store = dirs.real_store();
    let crashed = || std::io::Error::other("a thread crashed");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            remount(&store).map_err(|error| failed(dirs, error))?;
            work()
        });
        thread.join().unwrap_or_else(|_| Err(failed(dirs, crashed())))
    })
}

fn failed(dirs: &StoreDirs, error: std::io::Error) -> CacheError {
    CacheError::ReadOnly { store: dirs.real_store(), error }
}

/// Like `LocalStore::makeStoreWritable` of Nix.
fn remount(store: &Path) -> std::io::Result<()> {
    unshare_mounts()?;
    mount_remount(store, MountFlags::BIND, "")?;
    // The file system itself may be read-only.
    Ok(access(store, Access::WRITE_OK)?)
}
