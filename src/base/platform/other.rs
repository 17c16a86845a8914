//! The refusal of each call.

use std::ops::{BitOr, BitOrAssign};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::{Errno, Result};

pub(crate) use rustix::fs::{Gid, Uid};

/// Opens a folder as a place to start from.
pub(crate) const PLACE: OFlags = OFlags::RDONLY;

/// Flags of calls that are refused anyway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags;

pub(crate) type MountFlags = Flags;
pub(crate) type MountPropagationFlags = Flags;
pub(crate) type UnmountFlags = Flags;

impl Flags {
    pub(crate) const BIND: Self = Self;
    pub(crate) const DETACH: Self = Self;
    pub(crate) const EXPIRE: Self = Self;
    pub(crate) const NOATIME: Self = Self;
    pub(crate) const NODEV: Self = Self;
    pub(crate) const NOEXEC: Self = Self;
    pub(crate) const NOFOLLOW: Self = Self;
    pub(crate) const NOSUID: Self = Self;
    pub(crate) const PRIVATE: Self = Self;

    pub(crate) fn empty() -> Self {
        Self
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, _: Self) -> Self {
        self
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, _: Self) {}
}

pub(crate) fn mount<T>(
    _source: impl AsRef<std::ffi::OsStr>,
    _target: impl AsRef<Path>,
    _kind: &str,
    _flags: MountFlags,
    _options: T,
) -> Result<()> {
    Err(Errno::NOSYS)
}

pub(crate) fn mount_bind(_source: impl AsRef<Path>, _target: impl AsRef<Path>) -> Result<()> {
    Err(Errno::NOSYS)
}

pub(crate) fn mount_change(_target: impl AsRef<Path>, _flags: MountPropagationFlags) -> Result<()> {
    Err(Errno::NOSYS)
}

pub(crate) fn mount_move(_source: impl AsRef<Path>, _target: impl AsRef<Path>) -> Result<()> {
    Err(Errno::NOSYS)
}

pub(crate) fn mount_remount<T>(_target: impl AsRef<Path>, _flags: MountFlags, _data: T) -> Result<()> {
    Err(Errno::NOSYS)
}

pub(crate) fn unmount(_target: impl AsRef<Path>, _flags: UnmountFlags) -> Result<()> {
    Err(Errno::NOSYS)
}

pub(crate) fn flags_at(_point: &Path) -> Result<MountFlags> {
    Err(Errno::NOSYS)
}

pub(crate) fn unshare_mounts() -> Result<()> {
    Err(Errno::NOSYS)
}

pub(crate) fn needed_for_memory() -> Result<()> {
    Err(Errno::NOSYS)
}

pub(crate) fn make_whiteout(_place: &Path) -> Result<()> {
    Err(Errno::NOSYS)
}

/// On macOS, rights belong to the whole process.
pub(crate) fn become_user(_user: Uid, _group: Gid) -> Result<()> {
    Err(Errno::NOSYS)
}
