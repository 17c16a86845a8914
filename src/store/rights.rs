//! Lets root work with the rights of the owner of a store.

use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use super::StoreDirs;
use crate::base::platform::{Gid, Uid, become_user};

/// Runs `work` with the rights of the store's owner, if root runs it for another user's store. A link that this user has planted
/// then leads only to files that the user can access anyway.
///
/// # Errors
/// When the rights cannot be dropped.
pub(crate) fn as_owner<T: Send>(dirs: &StoreDirs, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    // If the database belongs to another user, the owner of the store directory alone could not change the store.
    let has_database = |user: u32| dirs.state_dir().join("db").metadata().is_ok_and(|found| found.uid() == user);
    let owner = dirs.path_owner().ok().filter(|(user, _)| *user != 0 && has_database(*user));
    let Some((user, group)) = owner.filter(|_| rustix::process::geteuid().is_root()) else { return Ok(work()) };
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    // Rights belong to a thread, and the threads that it starts inherit them.
    let ran = std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            become_user(user, group)?;
            Ok::<T, Errno>(work())
        });
        thread.join()
    });
    match ran {
        Ok(done) => Ok(done?),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
