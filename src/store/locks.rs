//! Nix's own locks, used as Nix uses them.
//!
//! Nix uses `flock` on two files of its state. A garbage collection (also `nix-store --delete` and the automatic collection of
//! `min-free`) holds `gc.lock` exclusively; processes that add paths or verify hold it shared. A change of the database schema
//! holds `db/big-lock` exclusively; every process that has the database open holds it shared, from its start to its end. We take
//! them shared, so that the only Nix command that waits for us is a garbage collection. There is one exception: where nobody else
//! has the database open, a registration takes `db/big-lock` exclusively. Then nobody can build or substitute a path meanwhile, and
//! the paths need no locks of their own; a Nix process that starts waits until we are done.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, openat, renameat_with};
use rustix::io::Errno;

use super::error::show;
use super::own::{self, OwnFolder};
use super::{StoreDirs, StoreError};

/// How long we wait for another process, here and in the database.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(20);

/// A lock that is held until it is dropped. Child processes do not inherit it.
#[derive(Debug)]
#[must_use = "the lock is released when it is dropped"]
pub struct StoreLock {
    _file: File,
}

/// Keeps a garbage collection from running until the guard is dropped. Hold it from before the first file is attached until the
/// paths are registered, and while files of the store are read. Waits up to a minute for a running collection. Returns None if
/// this user may not open the lock (the store is another user's); then only roots keep Nix from deleting paths.
///
/// Do not run a command that collects garbage or deletes paths while the lock is held: it would wait for us. All other Nix
/// commands take this lock shared as well.
///
/// # Errors
/// When a garbage collection still runs after the wait, or locking fails.
pub fn gc_lock(dirs: &StoreDirs) -> Result<Option<StoreLock>, StoreError> {
    gc_lock_within(dirs, PATIENCE)
}

/// Like [`gc_lock`], waiting no longer than `patience`.
///
/// # Errors
/// When a garbage collection still runs after the wait, or locking fails.
pub(super) fn gc_lock_within(dirs: &StoreDirs, patience: Duration) -> Result<Option<StoreLock>, StoreError> {
    // If the file is missing, it must be created: a collection that starts later would create and lock it.
    shared(dirs, &dirs.state_dir().join("gc.lock"), patience, "a garbage collection")
}

/// Nix's lock on one path. Only its holder may make the path valid: a build aborts if one of its outputs becomes valid
/// meanwhile.
#[derive(Debug)]
pub struct PathLock {
    file: File,
    path: PathBuf,
}

fn lock_file(place: &Path) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// How often to retry a lock that others delete repeatedly.
const ATTEMPTS: usize = 100;

/// Locks the path at the real location `place`: an exclusive lock on the file `<place>.lock`. Returns None if it is taken, or
/// if something other than a lock has that name, such as a store path.
///
/// # Errors
/// When the lock file cannot be created.
pub fn path_lock(place: &Path) -> io::Result<Option<PathLock>> {
    let path = lock_file(place);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    for _ in 0..ATTEMPTS {
        let file = match openat(CWD, &path, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => File::from(file),
            // A link, a folder, a pipe without a reader, or a file of another user.
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Ok(None),
            Err(Errno::ACCESS | Errno::PERM) if path.symlink_metadata().is_ok() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Nix's locks are writable; files in store paths are not.
        let found = file.metadata()?;
        if !found.is_file() || found.mode() & 0o200 == 0 {
            return Ok(None);
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // If its last holder deleted the file between our two calls, it is no longer the lock. A holder deletes the file first and
        // then writes one byte to it, so an existing file that is not empty never was a lock.
        match (is_at(&file, &path), file.metadata()?.len()) {
            (true, 0) => return Ok(Some(PathLock { file, path })),
            (true, _) => return Ok(None),
            (false, _) => {}
        }
    }
    Ok(None)
}

/// Returns whether a path refers to this open file.
fn is_at(file: &File, path: &Path) -> bool {
    let here = path.symlink_metadata().map(|found| (found.dev(), found.ino()));
    file.metadata().is_ok_and(|own| here.is_ok_and(|here| here == (own.dev(), own.ino())))
}

impl PathLock {
    /// Exchanges this lock for the one on the path at the real location `place`; returns None if that is taken. If possible, the
    /// locked file is renamed, because creating files takes longer. Processes that wait for the old lock then wait until the new
    /// one is released.
    ///
    /// # Errors
    /// When the lock file cannot be created.
    pub fn move_to(mut self, place: &Path) -> io::Result<Option<Self>> {
        let path = lock_file(place);
        let is_ours = is_at(&self.file, &self.path);
        if is_ours && renameat_with(CWD, &self.path, CWD, &path, RenameFlags::NOREPLACE).is_ok() {
            self.path = path;
            return Ok(Some(self));
        }
        drop(self);
        path_lock(place)
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        // Processes that wait for this file recognise by its one byte that it is no longer the lock. A failure leaves a lock
        // file that nobody holds, which is harmless.
        if is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = self.file.write_all(b"d");
    }
}

/// Serialises restores into one store: waits up to a minute for a running one.
///
/// # Errors
/// When another one still runs then, with its process; or when our folder cannot be written.
pub(crate) fn own_lock(dirs: &StoreDirs) -> Result<StoreLock, StoreError> {
    own_lock_within(dirs, PATIENCE)
}

/// Like [`own_lock`], waiting no longer than `patience`.
///
/// # Errors
/// When another one still runs then, with its process; or when our folder cannot be written.
pub(super) fn own_lock_within(dirs: &StoreDirs, patience: Duration) -> Result<StoreLock, StoreError> {
    let path = dirs.own_dir().join(own::LOCK);
    let failed = |error: io::Error| StoreError::io("lock", &path, error);
    let opened = OwnFolder::make(dirs).or_else(|error| OwnFolder::open(dirs)?.ok_or(error));
    let file = opened.and_then(|folder| folder.lock_file()).map_err(failed)?;
    let start = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(StoreLock { _file: file }),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < patience => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                let holder = holder(&file).unwrap_or_else(|| "another restore or detach".into());
                return Err(StoreError::Locked { place: show(&path), holder, seconds: patience.as_secs() });
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
}

/// Returns the process that holds a lock on this file, as far as the kernel reports it (see `proc_locks(5)`).
fn holder(file: &File) -> Option<String> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let of_file = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|words| {
        words.get(1) == Some(&"FLOCK") && words.get(5).and_then(|id| id.rsplit(':').next()) == Some(&*inode)
    })?;
    let process: u32 = of_file.get(4)?.parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some(format!("process {process} ({})", name.trim()))
}

const BIG_LOCK: &str = "db/big-lock";

/// The lock that every user of the database holds, so that no Nix changes its schema meanwhile.
pub(super) fn big_lock(dirs: &StoreDirs) -> Result<Option<StoreLock>, StoreError> {
    shared(dirs, &dirs.state_dir().join(BIG_LOCK), PATIENCE, "a change of the database's schema")
}

/// The same lock exclusively. Returns None if another process has the database open, or if this user may not open the lock.
pub(super) fn big_lock_alone(dirs: &StoreDirs) -> Option<StoreLock> {
    let file = open(dirs, &dirs.state_dir().join(BIG_LOCK))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok().map(|()| StoreLock { _file: file })
}

/// Whether no process has the database open, as far as this user can tell.
pub(crate) fn is_unused(dirs: &StoreDirs) -> bool {
    big_lock_alone(dirs).is_some()
}

fn shared(dirs: &StoreDirs, path: &Path, patience: Duration, holder: &str) -> Result<Option<StoreLock>, StoreError> {
    let Some(file) = open(dirs, path) else {
        return Ok(None);
    };
    let start = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(Some(StoreLock { _file: file })),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < patience => {
                std::thread::sleep(PAUSE);
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                let holder = format!("another Nix process ({holder})");
                return Err(StoreError::Locked { place: show(path), holder, seconds: patience.as_secs() });
            }
            Err(error) => return Err(StoreError::io("lock", path, error.into())),
        }
    }
}

/// Opens a lock file, or creates it for the owner of the store with the mode that Nix uses.
fn open(dirs: &StoreDirs, path: &Path) -> Option<File> {
    // Do not block if a pipe has that name.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let existing = OpenOptions::new().read(true).custom_flags(flags).open(path);
    if existing.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        return match made {
            Ok(file) => {
                hand_to_owner(dirs, &file);
                Some(file)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                OpenOptions::new().read(true).custom_flags(flags).open(path).ok()
            }
            Err(_) => None,
        };
    }
    existing.ok()
}

/// A lock file that belongs to root would lock the user of the store out.
fn hand_to_owner(dirs: &StoreDirs, file: &File) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Ok((uid, gid)) = dirs.owner() else { return };
    if uid != 0
        && let Err(error) = std::os::unix::fs::fchown(file, Some(uid), Some(gid))
    {
        tracing::debug!(%error, "could not give a lock file to the owner of the store");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty_store() -> (tempfile::TempDir, StoreDirs) {
        let dir = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(dir.path()));
        std::fs::create_dir_all(dirs.state_dir().join("db")).unwrap();
        (dir, dirs)
    }

    fn lock_alone(dirs: &StoreDirs) -> Result<File, rustix::io::Errno> {
        let file = File::open(dirs.state_dir().join("gc.lock")).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file)
    }

    #[test]
    fn two_readers_share_and_a_collector_does_not() {
        let (_dir, dirs) = empty_store();
        let first = gc_lock(&dirs).unwrap().unwrap();
        let second = gc_lock(&dirs).unwrap().unwrap();
        assert!(lock_alone(&dirs).is_err());
        drop((first, second));
        assert!(lock_alone(&dirs).is_ok());
    }

    #[test]
    fn a_collection_that_does_not_end_is_an_error() {
        let (_dir, dirs) = empty_store();
        drop(gc_lock(&dirs).unwrap());
        let _collector = lock_alone(&dirs).unwrap();
        let error = gc_lock_within(&dirs, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("garbage collection"), "{error}");
    }

    #[test]
    fn the_database_is_had_alone_only_while_nobody_else_uses_it() {
        let (_dir, dirs) = empty_store();
        let shared = big_lock(&dirs).unwrap().unwrap();
        assert!(big_lock_alone(&dirs).is_none());
        drop(shared);
        let alone = big_lock_alone(&dirs).unwrap();
        assert!(big_lock_alone(&dirs).is_none());
        let file = File::open(dirs.state_dir().join(BIG_LOCK)).unwrap();
        assert!(flock(&file, FlockOperation::NonBlockingLockShared).is_err(), "Nix waits");
        drop(alone);
        assert!(flock(&file, FlockOperation::NonBlockingLockShared).is_ok());
    }

    #[test]
    fn a_lock_moves_from_path_to_path() {
        let (dir, _) = empty_store();
        let [one, two, three] = ["one", "two", "three"].map(|name| dir.path().join(name));
        let lock = path_lock(&one).unwrap().unwrap();
        let lock = lock.move_to(&two).unwrap().unwrap();
        assert!(path_lock(&two).unwrap().is_none());
        let other = path_lock(&one).unwrap().unwrap();
        assert!(lock.move_to(&one).unwrap().is_none());
        // A file that nobody has locked does not block anything.
        File::create(dir.path().join("three.lock")).unwrap();
        drop(other.move_to(&three).unwrap().unwrap());
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["nix"]);
    }

    #[test]
    fn what_is_no_lock_is_neither_waited_for_nor_touched() {
        let (dir, _) = empty_store();
        let place = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str, mode| {
            std::fs::write(place(name), text).unwrap();
            std::fs::set_permissions(place(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        write("text.lock", "a store path", 0o444);
        write("empty.lock", "", 0o444);
        write("left.lock", "what never was a lock", 0o600);
        std::fs::create_dir(place("folder.lock")).unwrap();
        std::os::unix::fs::symlink("nowhere", place("link.lock")).unwrap();
        rustix::fs::mkfifoat(CWD, place("pipe.lock"), Mode::from_raw_mode(0o600)).unwrap();
        for name in ["text", "empty", "left", "folder", "link", "pipe"] {
            assert!(path_lock(&place(name)).unwrap().is_none(), "{name}");
            assert!(place(&format!("{name}.lock")).symlink_metadata().is_ok(), "{name}.lock was removed");
        }
        assert_eq!(std::fs::read_to_string(place("text.lock")).unwrap(), "a store path");
        assert_eq!(std::fs::read_to_string(place("left.lock")).unwrap(), "what never was a lock");
        assert!(!place("nowhere").exists());
    }

    #[test]
    fn what_took_the_place_of_a_lock_stays() {
        let (dir, _) = empty_store();
        let place = dir.path().join("path");
        let lock = path_lock(&place).unwrap().unwrap();
        std::fs::remove_file(dir.path().join("path.lock")).unwrap();
        std::fs::write(dir.path().join("path.lock"), "a store path").unwrap();
        drop(lock);
        assert_eq!(std::fs::read_to_string(dir.path().join("path.lock")).unwrap(), "a store path");
    }

    #[test]
    fn another_restore_is_waited_for_and_named() {
        let (_dir, dirs) = empty_store();
        let lock = own_lock(&dirs).unwrap();
        let error = own_lock_within(&dirs, Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains(&format!("process {} (", std::process::id())), "{error}");
        drop(lock);
        drop(own_lock_within(&dirs, Duration::ZERO).unwrap());
    }

    #[test]
    fn our_lock_takes_the_place_of_what_is_no_file() {
        let (_dir, dirs) = empty_store();
        let path = dirs.own_dir().join("lock");
        let victim = dirs.state_dir().join("victim");
        std::fs::create_dir_all(dirs.own_dir()).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        drop(own_lock(&dirs).unwrap());
        assert!(!victim.exists());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        drop(own_lock(&dirs).unwrap());
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
        drop(own_lock(&dirs).unwrap());
        assert!(path.is_file());
    }

    #[test]
    fn a_lock_that_cannot_be_made_is_none() {
        let dirs = StoreDirs::new(Some(Path::new("/proc/nowhere")));
        assert!(gc_lock(&dirs).unwrap().is_none());
        assert!(big_lock(&dirs).unwrap().is_none());
    }
}
