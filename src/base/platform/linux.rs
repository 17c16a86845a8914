//! The system calls themselves.

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags, mknodat};
use rustix::io::Result;
use rustix::thread::UnshareFlags;

pub(crate) use rustix::fs::{Gid, Uid};
pub(crate) use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_move, mount_remount,
    unmount,
};

/// Opens a folder as a place to start from, without the right to list it.
pub(crate) const PLACE: OFlags = OFlags::PATH;

/// The flags with which the file system at `point` is mounted, for another mount of it.
pub(crate) fn flags_at(point: &Path) -> Result<MountFlags> {
    let now = rustix::fs::statvfs(point)?.f_flag;
    let mut flags = MountFlags::empty();
    for (is_set, flag) in [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if now.contains(is_set) {
            flags |= flag;
        }
    }
    Ok(flags)
}

/// Moves this thread, and those that it starts, to a mount namespace of their own.
pub(crate) fn unshare_mounts() -> Result<()> {
    #[allow(deprecated, reason = "the other form is unsafe for the sake of other flags than this one")]
    rustix::thread::unshare(UnshareFlags::NEWNS)
}

/// Marks this process as one that writes to disks depend on, so that it gets memory when there is little.
pub(crate) fn needed_for_memory() -> Result<()> {
    rustix::process::configure_io_flusher_behavior(true)
}

/// Makes the device that marks a deleted name in a folder of an overlay.
pub(crate) fn make_whiteout(place: &Path) -> Result<()> {
    mknodat(CWD, place, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Reduces the rights of this thread, and of those that it starts, to those of another user without further groups.
pub(crate) fn become_user(user: Uid, group: Gid) -> Result<()> {
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)
}
