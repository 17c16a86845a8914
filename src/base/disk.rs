//! Room on a disk: what may be written to it, with a reserve that is always left to the job.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::StatVfs;

/// The reserve is never larger than this.
const MOST_RESERVED: u64 = 1 << 30;
/// One part in so many of the disk is the reserve, where that is less.
const RESERVED_PART: u64 = 20;
/// How often a disk is looked at while something is written to it.
const LOOK: Duration = Duration::from_millis(250);

/// How much of a disk may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes that this user may still write, the reserve included.
    pub free: u64,
    /// Bytes of them that are left alone: 1 GiB, or 5 % of the disk where that is less.
    pub reserve: u64,
    /// Files that may still be made; `u64::MAX` where the file system has no limit of its own.
    pub files: u64,
    /// Tells this disk from others.
    pub device: u64,
}

impl Room {
    /// Bytes that may be written.
    pub(crate) fn usable(&self) -> u64 {
        self.free.saturating_sub(self.reserve)
    }
}

/// The room on the disk of `path`, which need not be there yet.
///
/// # Errors
/// When that disk does not say.
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

/// As [`Room::usable`] of [`room`]; without limit where the disk does not say.
pub(crate) fn usable(path: &Path) -> u64 {
    room(path).map_or(u64::MAX, |room| room.usable())
}

/// The error for something of `needed` bytes that does not fit on the disk of `path`.
pub(crate) fn no_room(path: &Path, needed: u64) -> io::Error {
    let (free, reserve) = room(path).map_or((0, 0), |room| (room.free, room.reserve));
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    io::Error::new(
        io::ErrorKind::StorageFull,
        format!(
            "it takes {} MiB, and the disk of {} has {} MiB free, of which {} MiB are left to the job",
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
/// When they do not, with how much is needed and free.
pub(crate) fn ensure(path: &Path, needed: u64) -> io::Result<()> {
    if needed <= usable(path) { Ok(()) } else { Err(no_room(path, needed)) }
}

/// Returns once nothing but the reserve is left on the disk of `path`.
pub(crate) async fn filled(path: &Path) {
    while usable(path) > 0 {
        tokio::time::sleep(LOOK).await;
    }
}

/// How much is written before a disk is looked at again.
const STEP: u64 = 16 << 20;

/// Writes to a file as long as its disk has more than the reserve.
pub(crate) struct Guarded<'a> {
    file: &'a File,
    unseen: u64,
}

impl<'a> Guarded<'a> {
    /// A writer to `file`.
    pub(crate) fn new(file: &'a File) -> Self {
        Self { file, unseen: STEP }
    }
}

impl Write for Guarded<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.unseen >= STEP {
            self.unseen = 0;
            // A disk that does not say is not guarded.
            let room = rustix::fs::fstatvfs(self.file).map(|found| room_of(&found, 0));
            if let Ok(room) = room
                && room.usable() == 0
            {
                let message = format!("the disk is full but for the {} MiB that are left to the job", room.free >> 20);
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
