//! Free space: how much may be written to a disk while a reserve is left to the job.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::StatVfs;

/// Largest reserve, in bytes.
const MOST_RESERVED: u64 = 1 << 30;
/// The reserve is the disk size divided by this, if that is less.
const RESERVED_PART: u64 = 20;
/// How often the free space is checked while something is written.
const LOOK: Duration = Duration::from_millis(250);

/// The free space of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes that this user may still write, the reserve included.
    pub free: u64,
    /// Bytes of them that are left to the job: 1 GiB, or 5 % of the disk if that is less.
    pub reserve: u64,
    /// Number of files that may still be created; `u64::MAX` if the file system has no limit.
    pub files: u64,
    /// Device number, which distinguishes this disk from others.
    pub device: u64,
}

impl Room {
    /// Returns the bytes that may be written.
    pub(crate) fn usable(&self) -> u64 {
        self.free.saturating_sub(self.reserve)
    }
}

/// Returns the free space on the disk of `path`, which need not exist yet.
///
/// # Errors
/// When the file system does not report it.
pub(crate) fn room(path: &Path) -> io::Result<Room> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    Ok(room_of(&rustix::fs::statvfs(there)?, fs::metadata(there)?.dev()))
}

fn room_of(found: &StatVfs, device: u64) -> Room {
    let unit = if found.f_frsize > 0 { found.f_frsize } else { found.f_bsize };
    let reserve = (found.f_blocks.saturating_mul(unit) / RESERVED_PART).min(MOST_RESERVED);
    let files = if found.f_files == 0 { u64::MAX } else { found.f_favail - found.f_favail / RESERVED_PART };
    Room { free: found.f_bavail.saturating_mul(unit), reserve, files, device }
}

/// Like [`Room::usable`] of [`room`]; unlimited if the file system does not report it.
pub(crate) fn usable(path: &Path) -> u64 {
    room(path).map_or(u64::MAX, |room| room.usable())
}

/// Returns the error for `needed` bytes that do not fit on the disk of `path`.
pub(crate) fn no_room(path: &Path, needed: u64) -> io::Error {
    let (free, reserve) = room(path).map_or((0, 0), |room| (room.free, room.reserve));
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    io::Error::new(
        io::ErrorKind::StorageFull,
        format!(
            "it needs {} MiB, but the disk of {} has {} MiB free, of which {} MiB are left to the job",
            mib(needed),
            path.display(),
            mib(free),
            mib(reserve)
        ),
    )
}

/// Makes sure that `needed` bytes fit on the disk of `path`.
///
/// # Errors
/// When they do not, with the needed and the free space.
pub(crate) fn ensure(path: &Path, needed: u64) -> io::Result<()> {
    if needed <= usable(path) { Ok(()) } else { Err(no_room(path, needed)) }
}

/// Waits until only the reserve is left on the disk of `path`.
pub(crate) async fn filled(path: &Path) {
    while usable(path) > 0 {
        tokio::time::sleep(LOOK).await;
    }
}

/// Number of bytes written before the free space is checked again.
const STEP: u64 = 16 << 20;

/// A writer to a file that fails once only the reserve is left on its disk.
pub(crate) struct Guarded<'a> {
    file: &'a File,
    unseen: u64,
}

impl<'a> Guarded<'a> {
    /// Wraps `file`.
    pub(crate) fn new(file: &'a File) -> Self {
        Self { file, unseen: STEP }
    }
}

impl Write for Guarded<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.unseen >= STEP {
            self.unseen = 0;
            // If the file system does not report its free space, there is no limit.
            let room = rustix::fs::fstatvfs(self.file).map(|found| room_of(&found, 0));
            if let Ok(room) = room
                && room.usable() == 0
            {
                let message =
                    format!("the disk is full except for the {} MiB that are left to the job", room.free >> 20);
                return Err(io::Error::new(io::ErrorKind::StorageFull, message));
            }
        }
        let written = self.file.write(buffer)?;
        self.unseen += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_left_and_a_path_that_is_not_there_counts_for_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let here = room(folder.path()).unwrap();
        let later = room(&folder.path().join("a/b")).unwrap();
        assert_eq!((here.device, here.reserve), (later.device, later.reserve));
        assert!(here.reserve > 0 && here.reserve <= 1 << 30 && here.files > 0);
        assert_eq!(Room { free: 10, reserve: 3, ..here }.usable(), 7);
        assert_eq!(Room { free: 2, reserve: 3, ..here }.usable(), 0);
        assert!(ensure(folder.path(), 0).is_ok());
        let error = ensure(folder.path(), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("MiB free"), "{error}");
    }
}
