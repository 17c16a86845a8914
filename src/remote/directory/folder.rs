//! A folder of the directory, opened without following a link. Everything in it is reached through its descriptor.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::base::platform::PLACE;

/// Number of names that are tried for a new file.
const TRIES: u32 = 8;

/// An open folder.
pub(super) struct Folder(OwnedFd);

/// What is known about a regular file.
#[derive(Clone, Debug)]
pub(super) struct Stat {
    pub size: u64,
    pub modified: SystemTime,
    /// When it was last read, as far as the file system records it.
    pub read: Option<SystemTime>,
}

impl Folder {
    /// Opens the folder `name` in `root`.
    pub(super) fn open(root: &Path, name: &str) -> io::Result<Self> {
        Ok(Self(open_folder(&open_root(root)?, name)?))
    }

    /// Creates the folder `name` in `root` if it is missing.
    pub(super) fn make(root: &Path, name: &str) -> io::Result<()> {
        let root = open_root(root)?;
        match open_folder(&root, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map(drop),
        }
        match rustix::fs::mkdirat(&root, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => open_folder(&root, name).map(drop),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in it that are text.
    pub(super) fn names(&self) -> io::Result<impl Iterator<Item = io::Result<String>>> {
        let named = |entry: rustix::io::Result<rustix::fs::DirEntry>| match entry {
            Ok(entry) => {
                let name = entry.file_name().to_str().ok().filter(|name| !matches!(*name, "." | ".."));
                name.map(|name| Ok(name.to_owned()))
            }
            Err(error) => Some(Err(error.into())),
        };
        Ok(Dir::read_from(&self.0)?.filter_map(named))
    }

    /// What is known about a file; None if it does not exist, or is not a regular file.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the types differ between systems")]
    pub(super) fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        let stat = match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let time = |seconds: i64, nanoseconds: u64| {
            let since = Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
            SystemTime::UNIX_EPOCH.checked_add(since)
        };
        Ok(is_file.then(|| Stat {
            size: stat.st_size as u64,
            modified: time(stat.st_mtime.into(), stat.st_mtime_nsec as u64).unwrap_or(SystemTime::UNIX_EPOCH),
            read: time(stat.st_atime.into(), stat.st_atime_nsec as u64),
        }))
    }

    /// Whether the name is taken, by whatever.
    pub(super) fn has(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file, and returns its size.
    pub(super) fn read(&self, name: &str) -> io::Result<(File, u64)> {
        // Opening a pipe would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.0, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP) => return Err(not_a_file()),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if metadata.is_file() { Ok((file, metadata.len())) } else { Err(not_a_file()) }
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Writes a new file here, and moves it to `name` in `place`. Returns false if that name is taken.
    pub(super) fn write_and_move(
        &self,
        place: &Self,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<bool> {
        let (temporary, mut file) = self.create()?;
        let moved = write(&mut file).and_then(|()| {
            // Everyone who may read the folder may read a cache on a shared disk.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
            file.sync_all()?;
            self.move_new(&temporary, place, name)
        });
        if !matches!(moved, Ok(true)) {
            // What cannot be removed is removed as a leftover.
            let _ = self.remove(&temporary);
        }
        moved
    }

    fn create(&self) -> io::Result<(String, File)> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            let name = format!(".new-{:016x}", RandomState::new().build_hasher().finish());
            match rustix::fs::openat(&self.0, &*name, flags, Mode::from_raw_mode(0o600)) {
                Err(Errno::EXIST) => {}
                opened => return Ok((name, opened?.into())),
            }
        }
        Err(Errno::EXIST.into())
    }

    fn move_new(&self, from: &str, place: &Self, name: &str) -> io::Result<bool> {
        match rustix::fs::renameat_with(&self.0, from, &place.0, name, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            // Not every file system can do that.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::fs::linkat(&self.0, from, &place.0, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        // The entry is complete; the other name is removed as a leftover if this fails.
        let _ = self.remove(from);
        Ok(true)
    }
}

fn not_a_file() -> io::Error {
    io::Error::other("it is not a regular file. Remove it from the cache")
}

/// Opens the directory itself, which the user named: links are followed.
fn open_root(root: &Path) -> io::Result<OwnedFd> {
    let flags = PLACE | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, root, flags, Mode::empty())?)
}

fn open_folder(root: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(root, name, flags, Mode::empty()) {
        Err(Errno::LOOP | Errno::NOTDIR) => Err(io::Error::other(format!(
            "`{name}` in it is not a folder. Links are not followed, because others may write to a cache on a shared disk"
        ))),
        opened => Ok(opened?),
    }
}
