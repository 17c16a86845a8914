//! Attaches a layer by unpacking it, on machines where nothing can be mounted, and for stores that outlive the job.
//!
//! Each path is written under a temporary name beside its place, hashed while it is written, and renamed if its NAR hash is the
//! one in the snapshot. Until it is registered, Nix considers it a leftover and may remove it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::base::disk;
use crate::layer::nar::{self, NarHasher};
use crate::layer::pack::Rejected;
use crate::layer::squashfs::{BlockReader, FileInode, Image, ImageError, Inode, Listed, MODIFICATION_TIME, Piece};
use crate::store::tree::remove_tree;
use crate::store::{PathInfo, StorePath, path_lock};

/// Prefix of temporary names in the store directory. Only one process attaches at a time (the caller holds a lock), so a file
/// with this prefix at the start was left by a killed process.
pub const TEMPORARY_PREFIX: &str = ".nix-cache-unpack.";

/// Where and how to unpack.
pub struct Target<'a> {
    /// The real store directory.
    pub store: &'a Path,
    /// Owner and group of everything; None for those of the process.
    pub owner: Option<(u32, u32)>,
    /// Returns whether a path is valid by now. Called only for existing paths.
    pub is_valid: &'a (dyn Fn(&StorePath) -> bool + Sync),
    /// Threads that unpack.
    pub threads: usize,
    /// When to stop. Paths in place by then are complete, the rest is rejected.
    pub deadline: Option<Instant>,
    /// Counts bytes of files written.
    pub progress: &'a AtomicU64,
}

impl Target<'_> {
    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// The result of unpacking.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Paths that are in place, verified, and not registered yet; each with its inode number, which distinguishes it from a
    /// replacement by another process.
    pub placed: Vec<(StorePath, u64)>,
    /// Paths that were already valid by the time they were due.
    pub already: Vec<StorePath>,
    /// Paths that are not in place, and why.
    pub rejected: Vec<Rejected>,
}

/// Removes leftovers of a killed unpacking from the directory `store`. Returns how many were removed.
///
/// # Errors
/// When the directory cannot be read or something in it cannot be removed.
pub fn remove_leftovers(store: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) {
            remove_tree(&entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Unpacks the paths `wanted` out of `image`.
///
/// # Errors
/// When the image as a whole cannot be read; problems with single paths are in the result.
pub fn unpack(image: &Image, wanted: &[&PathInfo], target: &Target<'_>) -> Result<Unpacked, ImageError> {
    let listed = image.root()?;
    let inodes: HashMap<&[u8], u64> = listed.iter().map(|entry| (&*entry.name, entry.inode)).collect();
    let mut order: Vec<&PathInfo> = wanted.to_vec();
    // The largest first, so that no single thread is still busy at the end.
    order.sort_by(|a, b| b.nar_size.cmp(&a.nar_size).then_with(|| a.path.cmp(&b.path)));
    let next = AtomicUsize::new(0);
    let room = AtomicU64::new(disk::usable(target.store));
    let result = Mutex::new(Unpacked::default());
    std::thread::scope(|scope| {
        for _ in 0..target.threads.clamp(1, order.len().max(1)) {
            scope.spawn(|| work(image, &inodes, &order, target, (&next, &room), &result));
        }
    });
    Ok(result.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn work(
    image: &Image,
    inodes: &HashMap<&[u8], u64>,
    order: &[&PathInfo],
    target: &Target<'_>,
    (next, room): (&AtomicUsize, &AtomicU64),
    result: &Mutex<Unpacked>,
) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(info) = order.get(number) else { return };
        let temporary = target.store.join(format!("{TEMPORARY_PREFIX}{number}"));
        let done = match inodes.get(info.path.as_str().as_bytes()) {
            _ if target.is_late() => Err(NotUnpacked::Late),
            Some(inode) => in_room(room, info, target, || unpack_path(image, *inode, info, &temporary, target)),
            None => Err(NotUnpacked::Path("The layer does not contain it.".into())),
        };
        let mut result = result.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match done {
            Ok(Placed::New(inode)) => result.placed.push((info.path.clone(), inode)),
            Ok(Placed::Already) => result.already.push(info.path.clone()),
            Err(trouble) => result.rejected.push(Rejected { path: info.path.clone(), why: trouble.to_string() }),
        }
        drop(result);
        if let Err(error) = remove_tree(&temporary) {
            tracing::debug!("{} stays behind until the next restore: {error}", temporary.display());
        }
    }
}

/// Runs `work`, which writes a path, if it fits into the remaining disk space. Zeros that are not stored count too: a few bytes
/// can expand to very many, which at least takes time.
fn in_room(
    room: &AtomicU64,
    info: &PathInfo,
    target: &Target<'_>,
    work: impl FnOnce() -> Result<Placed, NotUnpacked>,
) -> Result<Placed, NotUnpacked> {
    let taken = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(info.nar_size));
    if taken.is_err() {
        return Err(disk::no_room(target.store, info.nar_size).into());
    }
    let done = work();
    if !matches!(done, Ok(Placed::New(_))) {
        room.fetch_add(info.nar_size, Ordering::Relaxed);
    }
    done
}

enum Placed {
    /// With its inode number.
    New(u64),
    Already,
}

#[derive(Debug, thiserror::Error)]
enum NotUnpacked {
    #[error("{0}")]
    Path(String),
    #[error("There was no time left to unpack it. Increase `restore-timeout` if this happens often.")]
    Late,
    #[error("It cannot be unpacked: {0}.")]
    Image(#[from] ImageError),
    #[error("It cannot be written: {0}.")]
    Io(#[from] io::Error),
    #[error("It is not a valid store path: {0}.")]
    Nar(#[from] nix_archive::nar::Error),
}

fn unpack_path(
    image: &Image,
    inode: u64,
    info: &PathInfo,
    temporary: &Path,
    target: &Target<'_>,
) -> Result<Placed, NotUnpacked> {
    crate::base::disk::ensure(target.store, info.nar_size)?;
    let mut unpacker =
        Unpacker { image, blocks: BlockReader::new(image)?, nar: nar::hasher_up_to(info.nar_size)?, target };
    unpacker.node(inode, temporary, None)?;
    let (found, size) = nar::finish(unpacker.nar)?;
    if found != info.nar_hash {
        let expected = info.nar_hash;
        return Err(NotUnpacked::Path(format!("The layer contains wrong bytes (NAR hash {found}, not {expected}).")));
    }
    if size != info.nar_size {
        return Err(NotUnpacked::Path(format!("The snapshot says that it has {} bytes, not {size}.", info.nar_size)));
    }
    place(temporary, info, target)
}

/// Renames a verified path to its place, under Nix's lock: a process that is building it relies on the place being free. An
/// existing file there is a leftover.
fn place(temporary: &Path, info: &PathInfo, target: &Target<'_>) -> Result<Placed, NotUnpacked> {
    let place = target.store.join(info.path.as_str());
    let _lock = path_lock(&place)?.ok_or_else(|| {
        NotUnpacked::Path("Another Nix process is building it, and it is left to that process.".into())
    })?;
    if exists(&place)? {
        if (target.is_valid)(&info.path) {
            return Ok(Placed::Already);
        }
        remove_tree(&place)?;
    }
    fs::rename(temporary, &place)?;
    Ok(Placed::New(fs::symlink_metadata(&place)?.ino()))
}

fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

struct Unpacker<'a> {
    image: &'a Image,
    blocks: BlockReader<'a>,
    nar: NarHasher,
    target: &'a Target<'a>,
}

impl Unpacker<'_> {
    fn node(&mut self, inode: u64, path: &Path, name: Option<&[u8]>) -> Result<(), NotUnpacked> {
        // Checked between files and blocks, because a few bytes of an image can expand to many in the store.
        if self.target.is_late() {
            return Err(NotUnpacked::Late);
        }
        match self.image.inode(inode)? {
            Inode::Directory(entries) => self.directory(&entries, path, name),
            Inode::File(file) => self.file(&file, path, name),
            Inode::Symlink(link) => {
                self.nar.symlink(name, &link)?;
                symlink(OsStr::from_bytes(&link), path)?;
                self.own(path)?;
                Ok(rustix::fs::utimensat(CWD, path, &times(), AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from)?)
            }
        }
    }

    fn directory(&mut self, entries: &[Listed], path: &Path, name: Option<&[u8]>) -> Result<(), NotUnpacked> {
        // The encoder refuses deep nesting, and therefore a directory that contains itself.
        self.nar.start_directory(name)?;
        fs::create_dir(path)?;
        for entry in entries {
            self.node(entry.inode, &path.join(OsStr::from_bytes(&entry.name)), Some(&entry.name))?;
        }
        self.nar.end_directory()?;
        self.own(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o555))?;
        Ok(rustix::fs::utimensat(CWD, path, &times(), AtFlags::empty()).map_err(io::Error::from)?)
    }

    fn file(&mut self, inode: &FileInode<'_>, path: &Path, name: Option<&[u8]>) -> Result<(), NotUnpacked> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut payload = self.nar.start_regular(name, inode.executable, inode.size)?;
        let (mut at, mut written) = (0, 0);
        let target = self.target;
        self.blocks.file(inode, |piece| {
            if target.is_late() {
                return Err(io::Error::from(ErrorKind::TimedOut));
            }
            match piece {
                Piece::Bytes(bytes) => {
                    payload.write_all(bytes)?;
                    file.write_all_at(bytes, at)?;
                    at += bytes.len() as u64;
                    written = at;
                }
                Piece::Hole(length) => {
                    io::copy(&mut io::repeat(0).take(length as u64), &mut payload)?;
                    at += length as u64;
                }
            }
            Ok(())
        })?;
        payload.finish()?;
        if written < at {
            file.set_len(at)?;
        }
        if let Some((user, group)) = self.target.owner {
            std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
        }
        file.set_permissions(Permissions::from_mode(if inode.executable { 0o555 } else { 0o444 }))?;
        rustix::fs::futimens(&file, &times()).map_err(io::Error::from)?;
        self.target.progress.fetch_add(inode.size, Ordering::Relaxed);
        Ok(())
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        match self.target.owner {
            Some((user, group)) => lchown(path, Some(user), Some(group)),
            None => Ok(()),
        }
    }
}

/// The times that Nix sets for everything in a store.
pub(crate) fn times() -> Timestamps {
    let time = Timespec { tv_sec: MODIFICATION_TIME.into(), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
