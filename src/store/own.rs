//! Our folder beside the store: the names in it, and how its files are opened and written.
//!
//! 1. The folder belongs to the owner of the store. A user who may only change the store through `sudo` has a separate folder
//!    in it, `users/UID`, for downloads and records.
//! 2. Everything in it is opened through a descriptor of the folder, without following links: root works here too, in a folder
//!    that another user may write to.
//! 3. A new file replaces whatever had its name. JSON is written and synced under another name first and then renamed, so that
//!    it is either complete or absent.

mod hand_over;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreDirs;
use super::tree::remove_at;
use crate::base::bounds::read_record;

/// The name of the folder, beside Nix's state.
pub(super) const NAME: &str = "nix-cache";
/// The lock that one restore or detach holds at a time.
pub(crate) const LOCK: &str = "lock";
/// The state of the last restore, for the save.
pub(crate) const RECORD: &str = "restore.json";
/// What was saved while the job runs, for the last save.
pub(crate) const CHECKPOINTS: &str = "checkpoints.json";
/// The generation that was written last while the job runs, as it is in the cache.
pub(crate) const CHECKPOINTS_SNAPSHOT: &str = "checkpoints.snapshot";
/// The lock of the process that saves while the job runs.
pub(crate) const CHECKPOINTS_LOCK: &str = "checkpoints.lock";
/// The request to that process to end.
pub(crate) const CHECKPOINTS_STOP: &str = "checkpoints.stop";
/// Its log.
pub(crate) const CHECKPOINTS_LOG: &str = "checkpoints.log";
/// What was pushed to binary caches while the job runs, for the last push.
pub(crate) const PUSHED: &str = "pushed.json";
/// What was restored without a valid signature, for saves that sign.
pub(crate) const LEDGER: &str = "unverified.json";
/// What is mounted, for the detach.
pub(crate) const MOUNTED: &str = "mounted.json";
/// Layers while they are downloaded and attached.
pub(crate) const LAYERS: &str = "layers";
/// The indexes of restored layers, for the save.
pub(crate) const INDEXES: &str = "indexes";
/// The files of a mount: see [`crate::attach::mount::Places`].
pub(crate) const MOUNTS: &str = "mounts";
/// Paths that a detach has copied out of layers and not yet moved into the store.
pub(crate) const KEPT: &str = "kept";
/// Folders of users who are not the owner of the store, by user number.
pub(crate) const USERS: &str = "users";
/// Prefix of layers that are being packed.
pub(crate) const PACKING_PREFIX: &str = "layer-";
/// Prefix of files that are being written and not yet renamed.
pub(super) const NEW_PREFIX: &str = ".new-";

/// Our folder, or one in it, opened.
#[derive(Debug)]
pub(crate) struct OwnFolder {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    /// The owner of new files in it, if that is not this process's user.
    owner: Option<(u32, u32)>,
}

/// The folder for the files of this process: our folder, or this user's part of it.
pub(crate) fn work_dir(dirs: &StoreDirs) -> PathBuf {
    let own = dirs.own_dir();
    let user = rustix::process::geteuid();
    let owner = dirs.owner().map(|(owner, _)| owner);
    if user.is_root() || owner.as_ref().map_or(true, |owner| *owner == user.as_raw()) {
        own
    } else {
        own.join(USERS).join(user.as_raw().to_string())
    }
}

impl OwnFolder {
    /// Opens our folder; None if it does not exist.
    ///
    /// # Errors
    /// When it cannot be opened, or something else has its name.
    pub(crate) fn open(dirs: &StoreDirs) -> io::Result<Option<Self>> {
        let opened = open_parent(dirs).and_then(|parent| open_folder(&parent, Path::new(NAME)));
        match opened {
            Ok(fd) => Ok(Some(Self { path: dirs.own_dir(), fd, owner: new_owner(dirs) })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens our folder, and creates it if missing.
    ///
    /// # Errors
    /// When it cannot be created or opened, or something else has its name.
    pub(crate) fn make(dirs: &StoreDirs) -> io::Result<Self> {
        let owner = new_owner(dirs);
        let parent = open_parent(dirs)?;
        make_folder(&parent, OsStr::new(NAME), owner)?;
        Ok(Self { path: dirs.own_dir(), fd: open_folder(&parent, Path::new(NAME))?, owner })
    }

    /// Opens the folder for the files of this process, and creates it if missing.
    ///
    /// # Errors
    /// When it cannot be created or opened.
    pub(crate) fn work(dirs: &StoreDirs) -> io::Result<Self> {
        let folder = Self::make(dirs).or_else(|error| Self::open(dirs)?.ok_or(error))?;
        if work_dir(dirs) == folder.path {
            return Ok(folder);
        }
        folder.folder(USERS)?.folder(&rustix::process::geteuid().as_raw().to_string())
    }

    /// The path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder in it, and creates it if missing; anything else of that name is replaced.
    ///
    /// # Errors
    /// When it cannot be created or opened.
    pub(crate) fn folder(&self, name: &str) -> io::Result<Self> {
        let place = |fd| Self { path: self.path.join(name), fd, owner: self.owner };
        match open_folder(&self.fd, Path::new(name)) {
            Ok(fd) => return Ok(place(fd)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if is_something_else(&error) => self.remove(name)?,
            Err(error) => return Err(error),
        }
        make_folder(&self.fd, OsStr::new(name), self.owner)?;
        open_folder(&self.fd, Path::new(name)).map(place)
    }

    /// Lists the names in it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Creates a file for writing and reading; anything of that name is replaced.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        let file = self.create_private(name)?;
        give(&file, self.owner)?;
        Ok(file)
    }

    /// Reads a JSON file; None if it does not exist.
    ///
    /// # Errors
    /// When it cannot be read or parsed.
    pub(crate) fn read_json<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        self.open_file(name)?.map(read_record).transpose()
    }

    /// Opens a file for reading; None if it does not exist.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open_file(&self, name: &str) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The modification time of a file; None if it does not exist.
    pub(crate) fn modified(&self, name: &str) -> Option<(i64, u64)> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "the types differ between systems")]
        Some((stat.st_mtime.into(), stat.st_mtime_nsec as u64))
    }

    /// Writes a file as JSON atomically, even if the machine loses power.
    ///
    /// # Errors
    /// When it cannot be written; the old file is kept then.
    pub(crate) fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let new = format!("{NEW_PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let written = (|| {
            let file = self.create(&new)?;
            // The removal of leftovers skips locked files.
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)?;
            let mut out = BufWriter::with_capacity(64 << 10, &file);
            serde_json::to_writer(&mut out, value)?;
            out.flush()?;
            drop(out);
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
            file.sync_all()?;
            match rustix::fs::renameat(&self.fd, &*new, &self.fd, name) {
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                    self.remove(name)?;
                    rustix::fs::renameat(&self.fd, &*new, &self.fd, name)?;
                }
                renamed => renamed?,
            }
            Ok(rustix::fs::fsync(&self.fd)?)
        })();
        if written.is_err() {
            let _ = self.remove(&new);
        }
        written
    }

    /// Removes a file, a link, or a folder with its content. It need not exist.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        remove_at(&self.fd, OsStr::new(name))
    }

    /// The folders of users who are not the owner of the store, if each belongs to its user.
    pub(crate) fn users(&self) -> Vec<Self> {
        let Ok(fd) = open_folder(&self.fd, Path::new(USERS)) else { return Vec::new() };
        let users = Self { path: self.path.join(USERS), fd, owner: self.owner };
        let open = |name: String| {
            let fd = open_folder(&users.fd, Path::new(&name)).ok()?;
            let is_own = rustix::fs::fstat(&fd).is_ok_and(|found| name.parse() == Ok(found.st_uid));
            is_own.then(|| Self { path: users.path.join(&name), fd, owner: None })
        };
        users.names().unwrap_or_default().into_iter().filter_map(open).collect()
    }

    /// Opens another folder, such as one for temporary files.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: open_folder(CWD, path)?, path: path.to_owned(), owner: None })
    }

    /// Like [`OwnFolder::create`], but the file belongs to this process's user even if the folder belongs to another. Root mounts
    /// such files, and nobody else must be able to write to them.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(crate) fn create_private(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..3 {
            match rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o644)) {
                Ok(fd) => return Ok(fd.into()),
                Err(Errno::EXIST) => self.remove(name)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EXIST.into())
    }

    /// Opens the folder of a user who is not the owner of the store, and creates it for that user if missing.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(crate) fn make_for_user(&self, user: u32, group: u32) -> io::Result<()> {
        let users = self.folder(USERS)?;
        let own = users.folder(&user.to_string())?;
        if rustix::fs::fstat(&own.fd)?.st_uid != user {
            rustix::fs::fchown(&own.fd, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
        Ok(())
    }

    /// Opens the lock file, and creates it if missing; anything else of that name is replaced. Every user who can read it can lock
    /// it.
    ///
    /// # Errors
    /// When it cannot be opened or made.
    pub(crate) fn lock_file(&self) -> io::Result<File> {
        self.lock_file_of(LOCK)
    }

    /// Like [`OwnFolder::lock_file`], for another lock.
    ///
    /// # Errors
    /// When it cannot be opened or made.
    pub(crate) fn lock_file_of(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        for _ in 0..3 {
            match rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map(File::from) {
                Ok(file) if file.metadata()?.is_file() => return Ok(file),
                Err(Errno::NOENT) => {
                    let made = rustix::fs::openat(
                        &self.fd,
                        name,
                        flags | OFlags::CREATE | OFlags::EXCL,
                        Mode::from_raw_mode(0o644),
                    );
                    match made {
                        Ok(file) => {
                            give(&file, self.owner)?;
                            return Ok(file.into());
                        }
                        Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(_) | Err(Errno::LOOP | Errno::NXIO | Errno::ACCESS) => self.remove(name)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("another process replaces it repeatedly"))
    }
}

/// Opens the folder that contains Nix's state and ours. When root works for another user, links below the store's root are not
/// followed, because that user may have made them.
fn open_parent(dirs: &StoreDirs) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let is_trusted = new_owner(dirs).is_none_or(|(user, _)| user == 0);
    if is_trusted {
        let path = dirs.own_dir();
        return Ok(rustix::fs::openat(CWD, path.parent().unwrap_or(&path), flags, Mode::empty())?);
    }
    let root = rustix::fs::openat(CWD, dirs.root().unwrap_or(Path::new("/")), flags, Mode::empty())?;
    open_folder(open_folder(root, Path::new("nix"))?, Path::new("var"))
}

/// The owner of files that root creates here.
fn new_owner(dirs: &StoreDirs) -> Option<(u32, u32)> {
    if rustix::process::geteuid().is_root() { dirs.path_owner().ok() } else { None }
}

fn give(file: &impl AsFd, owner: Option<(u32, u32)>) -> io::Result<()> {
    match owner {
        Some((0, _)) | None => Ok(()),
        Some((user, group)) => Ok(rustix::fs::fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?),
    }
}

/// Returns whether an error means that the file is not a folder.
fn is_something_else(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOTDIR | Errno::LOOP))
}

fn open_folder(parent: impl AsFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn make_folder(parent: &OwnedFd, name: &OsStr, owner: Option<(u32, u32)>) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => give(&open_folder(parent, Path::new(name))?, owner),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[path = "own_test.rs"]
mod tests;
