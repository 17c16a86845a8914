//! A directory as a remote, for laptops, tests, and caches on a shared disk.
//!
//! An entry is a file `<kind>/<name>`. It is written under `tmp/` and then renamed to its name, which fails if the name is taken.
//! Partial entries are therefore never visible, and of two writers one wins.
//!
//! Others may write to a shared directory. Each folder is therefore opened without following a link ([`folder`]), and an entry is a
//! regular file: a link would lead out of the directory, and a pipe would never end.

mod folder;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use self::folder::{Folder, Stat};
use super::listing::{ListError, Listed, Shelf};
use super::{Entry, Handover, Kind, Put, Remote, RemoteError};
use crate::base::clock::seconds;

/// Longest file name: 255 bytes on most file systems.
const MAX_NAME: usize = 250;
/// Age at which files of killed writers are removed.
const LEFTOVER_AGE: Duration = Duration::from_hours(24);
/// Size of a piece of [`Remote::stream`] in bytes.
const PIECE: u64 = 1 << 20;
/// Largest number of entries in a list. A repository has some hundreds.
const MOST_LISTED: usize = 200_000;
/// The folder for files that are being written.
const TMP: &str = "tmp";

/// The remote in one directory.
#[derive(Clone, Debug)]
pub struct DirectoryRemote {
    root: PathBuf,
}

impl DirectoryRemote {
    /// Opens the remote in `root`, and creates it if missing.
    ///
    /// # Errors
    /// When it cannot be created, or a link or something else has the name of one of its folders.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        for name in Kind::ALL.map(Kind::word).into_iter().chain([TMP]) {
            Folder::make(root, name)?;
        }
        let remote = Self { root: root.to_owned() };
        remote.remove_leftovers();
        Ok(remote)
    }

    /// As [`DirectoryRemote::open`], with the error as a sentence.
    pub(crate) fn named(root: &Path) -> Result<Self, String> {
        Self::open(root).map_err(|error| format!("Cannot use the directory {} as a cache: {error}.", root.display()))
    }

    fn folder(&self, kind: Kind) -> io::Result<Folder> {
        Folder::open(&self.root, kind.word())
    }

    /// Where an entry is, for messages.
    fn path(&self, kind: Kind, name: &str) -> PathBuf {
        self.root.join(kind.word()).join(escape(name))
    }

    fn remove_leftovers(&self) {
        // Offers are useful only for minutes.
        for folder in [TMP, Kind::Offer.word()] {
            let Ok(folder) = Folder::open(&self.root, folder) else { continue };
            for name in folder.names().into_iter().flatten().flatten() {
                let is_old = |stat: Stat| stat.modified.elapsed().is_ok_and(|age| age > LEFTOVER_AGE);
                if folder.stat(&name).ok().flatten().is_some_and(is_old) {
                    // Another process may be faster, or own it.
                    let _ = folder.remove(&name);
                }
            }
        }
    }

    /// Hands each entry of a kind to `each`.
    fn list(&self, kind: Kind, mut each: impl FnMut(Found) -> io::Result<()>) -> io::Result<()> {
        let folder = self.folder(kind)?;
        for file_name in folder.names()? {
            let file_name = file_name?;
            let Some(name) = unescape(&file_name) else { continue };
            if let Some(stat) = folder.stat(&file_name)? {
                each(Found { name, stat })?;
            }
        }
        Ok(())
    }

    /// The best entry for each prefix.
    fn best(&self, kind: Kind, prefixes: &[String]) -> io::Result<Vec<Option<Found>>> {
        let mut best: Vec<Option<Found>> = prefixes.iter().map(|_| None).collect();
        self.list(kind, |found| {
            for (prefix, best) in prefixes.iter().zip(&mut best) {
                if found.name.starts_with(prefix.as_str())
                    && best.as_ref().is_none_or(|best| found.order(prefix) > best.order(prefix))
                {
                    *best = Some(found.clone());
                }
            }
            Ok(())
        })?;
        Ok(best)
    }

    /// Opens an entry for reading.
    fn open_entry(&self, entry: &Entry) -> Result<(File, u64), RemoteError> {
        let opened = self.folder(entry.kind).and_then(|folder| folder.read(&escape(&entry.name)));
        opened.map_err(|error| failed("read", &self.path(entry.kind, &entry.name), &error))
    }

    fn put(&self, kind: Kind, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<Put, RemoteError> {
        let file_name = escape(name);
        if file_name.len() > MAX_NAME {
            return Err(RemoteError::Failed(format!(
                "The name {name:?} is too long for a file: a directory allows {MAX_NAME} bytes. Choose a shorter key."
            )));
        }
        let stored = (|| {
            let place = self.folder(kind)?;
            if place.has(&file_name)? {
                return Ok(Put::Taken);
            }
            let is_new = Folder::open(&self.root, TMP)?.write_and_move(&place, &file_name, write)?;
            Ok(if is_new { Put::Stored } else { Put::Taken })
        })();
        stored.map_err(|error| failed("write", &self.path(kind, name), &error))
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
            let all = self.list(kind, |Found { name, stat }| {
                if listed.len() == MOST_LISTED {
                    return Err(io::Error::other(format!("it has more than {MOST_LISTED} entries")));
                }
                listed.push(Listed {
                    id: format!("{}/{name}", kind.word()),
                    kind: Some(kind),
                    name,
                    scope: String::new(),
                    size: stat.size,
                    created: seconds(stat.modified),
                    accessed: stat.read.map(seconds),
                });
                Ok(())
            });
            all.map_err(|error| {
                ListError::Failed(format!("Cannot list {}: {error}.", self.root.join(kind.word()).display()))
            })?;
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
        let path = self.path(kind, &entry.name);
        match self.folder(kind).and_then(|folder| folder.remove(&escape(&entry.name))) {
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

/// An entry.
#[derive(Clone)]
struct Found {
    name: String,
    stat: Stat,
}

impl Found {
    /// An exact name comes before all others, and then the newest one. If the clock is too coarse, compare the numbers in names: the
    /// longer one is the greater number.
    fn order(&self, prefix: &str) -> (bool, SystemTime, usize, &str) {
        (self.name == prefix, self.stat.modified, self.name.len(), &self.name)
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

/// Reads the bytes `range` of a file of `size` bytes. Nothing is allocated for bytes that it does not have.
fn read_range(file: &File, size: u64, range: &Range<u64>) -> io::Result<Bytes> {
    if range.end > size {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("it has only {size} bytes")));
    }
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
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

    fn keeps_what_was_read(&self) -> bool {
        false
    }

    async fn find(&self, kind: Kind, prefixes: &[String]) -> Result<Option<Entry>, RemoteError> {
        let (remote, prefixes) = (self.clone(), prefixes.to_vec());
        blocking(move || {
            let best = remote.best(kind, &prefixes);
            let best = best.map_err(|error| failed("list", &remote.root.join(kind.word()), &error))?;
            Ok(best.into_iter().flatten().next().map(|found| Entry {
                kind,
                size: Some(found.stat.size),
                location: remote.path(kind, &found.name).to_string_lossy().into_owned(),
                name: found.name,
            }))
        })
        .await
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Bytes, RemoteError> {
        let (remote, entry) = (self.clone(), entry.clone());
        blocking(move || {
            let (file, size) = remote.open_entry(&entry)?;
            let read = read_range(&file, size, &range);
            read.map_err(|error| failed("read", &remote.path(entry.kind, &entry.name), &error))
        })
        .await
    }

    async fn stream(&self, entry: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError> {
        let path = self.path(entry.kind, &entry.name);
        let (remote, entry) = (self.clone(), entry.clone());
        let (file, size) = blocking(move || remote.open_entry(&entry)).await?;
        let file = Arc::new(file);
        let pieces = (0..size.div_ceil(PIECE)).map(move |piece| piece * PIECE..((piece + 1) * PIECE).min(size));
        let read = move |range| {
            let (file, path) = (Arc::clone(&file), path.clone());
            blocking(move || read_range(&file, size, &range).map_err(|error| failed("read", &path, &error)))
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

#[cfg(test)]
#[path = "directory_test.rs"]
mod tests;
