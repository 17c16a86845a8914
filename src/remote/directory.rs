//! A directory as a remote, for laptops, tests, and caches on a shared disk.
//!
//! An entry is a file `<kind>/<name>`. It is written under `tmp/` and hard-linked to its name, which fails if the name is taken.
//! Partial entries are therefore never visible, and of two writers one wins.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::listing::{ListError, Listed, Shelf};
use super::{Entry, Handover, Kind, Put, Remote, RemoteError};
use crate::base::clock::seconds;

/// Longest file name: 255 bytes on most file systems.
const MAX_NAME: usize = 250;
/// Age at which files of killed writers are removed.
const LEFTOVER_AGE: Duration = Duration::from_hours(24);
/// Size of a piece of [`Remote::stream`] in bytes.
const PIECE: u64 = 1 << 20;

/// The remote in one directory.
#[derive(Clone, Debug)]
pub struct DirectoryRemote {
    root: PathBuf,
}

impl DirectoryRemote {
    /// Opens the remote in `root`, and creates it if missing.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn open(root: &Path) -> io::Result<Self> {
        for folder in Kind::ALL.map(Kind::word).into_iter().chain(["tmp"]) {
            fs::create_dir_all(root.join(folder))?;
        }
        let remote = Self { root: root.to_owned() };
        remote.remove_leftovers();
        Ok(remote)
    }

    /// As [`DirectoryRemote::open`], with the error as a sentence.
    pub(crate) fn named(root: &Path) -> Result<Self, String> {
        Self::open(root).map_err(|error| format!("Cannot use the directory {} as a cache: {error}.", root.display()))
    }

    fn remove_leftovers(&self) {
        // Offers are useful only for minutes.
        let folders = ["tmp", Kind::Offer.word()].map(|folder| fs::read_dir(self.root.join(folder)));
        for entry in folders.into_iter().flatten().flatten().flatten() {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let old = modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LEFTOVER_AGE));
            if old {
                // Another process may be faster, or own it.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn list(&self, kind: Kind) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.root.join(kind.word()))? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().and_then(unescape) else { continue };
            match entry.metadata() {
                Ok(metadata) => {
                    found.push(Found {
                        name,
                        path: entry.path(),
                        size: metadata.len(),
                        written: metadata.modified()?,
                        read: metadata.accessed().ok(),
                    });
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn put(&self, kind: Kind, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<Put, RemoteError> {
        let file_name = escape(name);
        if file_name.len() > MAX_NAME {
            return Err(RemoteError::Failed(format!(
                "The name {name:?} is too long for a file: a directory allows {MAX_NAME} bytes. Choose a shorter key."
            )));
        }
        let place = self.root.join(kind.word()).join(file_name);
        if place.exists() {
            return Ok(Put::Taken);
        }
        let stored = (|| {
            let mut temporary = tempfile::NamedTempFile::new_in(self.root.join("tmp"))?;
            write(temporary.as_file_mut())?;
            // Everyone who may read the folder may read a cache on a shared disk.
            temporary.as_file().set_permissions(Permissions::from_mode(0o644))?;
            temporary.as_file().sync_all()?;
            match temporary.persist_noclobber(&place) {
                Ok(_) => Ok(Put::Stored),
                Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(Put::Taken),
                Err(error) => Err(error.error),
            }
        })();
        stored.map_err(|error| failed("write", &place, &error))
    }
}

#[async_trait]
impl Shelf for DirectoryRemote {
    fn describe(&self) -> String {
        format!("the directory {}", self.root.display())
    }

    async fn list(&self) -> Result<Vec<Listed>, ListError> {
        let mut listed = Vec::new();
        for kind in Kind::ALL {
            let found = self.list(kind).map_err(|error| {
                ListError::Failed(format!("Cannot list {}: {error}.", self.root.join(kind.word()).display()))
            })?;
            let files =
                found.into_iter().filter(|found| fs::symlink_metadata(&found.path).is_ok_and(|of| of.is_file()));
            listed.extend(files.map(|found| Listed {
                id: format!("{}/{}", kind.word(), found.name),
                kind: Some(kind),
                name: found.name,
                scope: String::new(),
                size: found.size,
                created: seconds(found.written),
                accessed: found.read.map(seconds),
            }));
        }
        // Many file systems are mounted so that they do not record reads.
        let is_read = |entry: &Listed| entry.accessed.is_some_and(|accessed| accessed > entry.created + 1);
        if !listed.iter().any(|entry| entry.kind == Some(Kind::Layer) && is_read(entry)) {
            for entry in &mut listed {
                entry.accessed = None;
            }
        }
        Ok(listed)
    }

    async fn delete(&self, entry: &Listed) -> Result<(), ListError> {
        let Some(kind) = entry.kind else { return Ok(()) };
        let path = self.root.join(kind.word()).join(escape(&entry.name));
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(ListError::Permission(format!(
                "Cannot delete {}: {error}. Run this as a user who may write to its folder.",
                path.display()
            ))),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(ListError::Failed(format!("Cannot delete {}: {error}.", path.display())))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

struct Found {
    name: String,
    path: PathBuf,
    size: u64,
    written: SystemTime,
    /// When it was last read, as far as the file system records it.
    read: Option<SystemTime>,
}

impl Found {
    fn entry(self, kind: Kind) -> Entry {
        Entry { kind, name: self.name, size: Some(self.size), location: self.path.to_string_lossy().into_owned() }
    }
}

/// Escapes slashes, which names contain but file names cannot.
pub(super) fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

pub(super) fn unescape(file_name: &str) -> Option<String> {
    let name = file_name.replace("%2F", "/").replace("%25", "%");
    (escape(&name) == file_name).then_some(name)
}

fn failed(what: &str, path: &Path, error: &io::Error) -> RemoteError {
    let text = format!("Could not {what} {}: {error}.", path.display());
    match error.kind() {
        ErrorKind::NotFound => RemoteError::Gone(text),
        ErrorKind::UnexpectedEof => RemoteError::Short(text),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => RemoteError::Denied(text),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => RemoteError::Quota(text),
        _ => RemoteError::Failed(text),
    }
}

/// Runs `work`, which blocks on a disk, on a thread for blocking work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    let lost = |error| RemoteError::Failed(format!("A task that reads or writes a directory broke off: {error}."));
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

#[async_trait]
impl Remote for DirectoryRemote {
    fn describe(&self) -> String {
        format!("directory {}", self.root.display())
    }

    async fn find(&self, kind: Kind, prefixes: &[String]) -> Result<Option<Entry>, RemoteError> {
        let (remote, prefixes) = (self.clone(), prefixes.to_vec());
        blocking(move || {
            let mut all = remote.list(kind).map_err(|error| failed("list", &remote.root.join(kind.word()), &error))?;
            // If the clock is too coarse, compare the numbers in names: the longer one is the greater number.
            all.sort_by(|a, b| (b.written, b.name.len(), &b.name).cmp(&(a.written, a.name.len(), &a.name)));
            for prefix in &prefixes {
                let exact = all.iter().position(|found| found.name == *prefix);
                let place = exact.or_else(|| all.iter().position(|found| found.name.starts_with(prefix.as_str())));
                if let Some(place) = place {
                    return Ok(Some(all.swap_remove(place).entry(kind)));
                }
            }
            Ok(None)
        })
        .await
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Bytes, RemoteError> {
        let path = PathBuf::from(&entry.location);
        blocking(move || {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            let read = File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, range.start));
            read.map_err(|error| failed("read", &path, &error))?;
            Ok(bytes.into())
        })
        .await
    }

    async fn stream(&self, entry: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError> {
        let path = PathBuf::from(&entry.location);
        let size = fs::metadata(&path).map_err(|error| failed("read", &path, &error))?.len();
        let (remote, entry) = (self.clone(), entry.clone());
        let pieces = (0..size.div_ceil(PIECE)).map(move |piece| piece * PIECE..((piece + 1) * PIECE).min(size));
        let read = move |range| {
            let (remote, entry) = (remote.clone(), entry.clone());
            async move { remote.read(&entry, range).await }
        };
        Ok(futures_util::stream::iter(pieces).then(read).boxed())
    }

    fn parallel_reads(&self) -> usize {
        2
    }

    async fn put_file(&self, kind: Kind, name: &str, body: &Path) -> Result<Put, RemoteError> {
        let (remote, name, body) = (self.clone(), name.to_owned(), body.to_owned());
        blocking(move || {
            remote.put(kind, &name, |file| {
                io::copy(&mut File::open(&body)?, file)?;
                Ok(())
            })
        })
        .await
    }

    async fn put_bytes(&self, kind: Kind, name: &str, body: Bytes) -> Result<Put, RemoteError> {
        let (remote, name) = (self.clone(), name.to_owned());
        blocking(move || remote.put(kind, &name, |file| file.write_all(&body))).await
    }

    fn handover(&self) -> Option<Handover> {
        let path = std::path::absolute(&self.root).ok().filter(|path| path.to_str().is_some())?;
        Some(Handover::Directory { path })
    }
}
