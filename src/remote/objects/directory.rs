//! Objects as files of a directory. A file is written under another name in the same folder, synced and renamed, so that it appears
//! as a whole.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use super::{ObjectError, Objects};
use crate::base::bounds::read_file;
use crate::base::disk::Guarded;
use crate::remote::blob::source::Source;

/// The start of the names of unfinished files.
const UNFINISHED: &str = ".nix-cache-";
/// Age at which unfinished files of killed writers are removed.
const LEFTOVER_AGE: Duration = Duration::from_hours(24);
/// Number of bytes that are copied at once.
const PIECE: u64 = 1 << 20;

pub(crate) struct DirectoryObjects {
    root: PathBuf,
    place: String,
}

impl DirectoryObjects {
    /// The objects in `root`, which the first write creates.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), place: format!("the folder {}", root.display()) }
    }

    fn refused(&self, what: &str, name: &str, error: &io::Error) -> ObjectError {
        let text = format!("Cannot {what} {name} in {}: {error}.", self.place);
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                ObjectError::Refused(format!("{text} Free space there, or push less."))
            }
            ErrorKind::FileTooLarge => ObjectError::TooLarge(text),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory => {
                ObjectError::Refused(format!("{text} The user of this job must be allowed to write there."))
            }
            _ => ObjectError::Failed(text),
        }
    }
}

#[async_trait]
impl Objects for DirectoryObjects {
    fn place(&self) -> &str {
        &self.place
    }

    async fn read(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, ObjectError> {
        let path = self.root.join(name);
        let read = tokio::task::spawn_blocking(move || read_file(&path, most as u64));
        match read.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.refused("read", name, &error)),
        }
    }

    async fn write(&self, name: &str, source: &Source) -> Result<(), ObjectError> {
        let (path, source) = (self.root.join(name), source.clone());
        let written = tokio::task::spawn_blocking(move || write(&path, &source));
        let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| self.refused("write", name, &error))
    }
}

fn write(path: &Path, source: &Source) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
    }
    remove_leftovers(folder);
    let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
    copy(source, file.as_file())?;
    // A web server of another user reads it.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_data()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn copy(source: &Source, file: &File) -> io::Result<()> {
    let mut target = Guarded::new(file);
    match source {
        Source::Bytes(bytes) => target.write_all(bytes),
        Source::File { file, size } => {
            let mut at = 0;
            let mut piece = vec![0; PIECE as usize];
            while at < *size {
                let part = &mut piece[..PIECE.min(size - at) as usize];
                file.read_exact_at(part, at)?;
                target.write_all(part)?;
                at += part.len() as u64;
            }
            Ok(())
        }
    }
}

/// Removes unfinished files that are a day old, once for each folder and process.
fn remove_leftovers(folder: &Path) {
    static SEEN: std::sync::Mutex<Vec<PathBuf>> = std::sync::Mutex::new(Vec::new());
    let mut seen = SEEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if seen.iter().any(|known| known == folder) {
        return;
    }
    seen.push(folder.to_owned());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED));
        let modified = || entry.metadata().and_then(|metadata| metadata.modified()).ok();
        if is_ours && modified().is_some_and(|time| time.elapsed().is_ok_and(|age| age > LEFTOVER_AGE)) {
            // Another job may remove it at the same time.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;

    use super::*;

    fn bytes(text: &'static str) -> Source {
        Source::Bytes(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn an_object_is_read_as_it_was_written_last_and_everyone_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let objects = DirectoryObjects::new(&folder.path().join("new/cache"));
        assert_eq!(objects.read("nar/a", 10).await, Ok(None));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 3_000_000]).unwrap();
        let large = Source::File { file: std::sync::Arc::new(file), size: 3_000_000 };
        for source in [bytes("first"), large] {
            objects.write("nar/a", &source).await.unwrap();
        }
        let path = folder.path().join("new/cache/nar/a");
        assert_eq!(fs::read(&path).unwrap(), vec![7; 3_000_000]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(matches!(objects.read("nar/a", 10).await, Err(ObjectError::Failed(_) | ObjectError::TooLarge(_))));
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "no unfinished file is left");
    }

    #[tokio::test]
    async fn a_place_that_takes_nothing_says_why() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let objects = DirectoryObjects::new(&folder.path().join("file"));
        let error = objects.write("a.narinfo", &bytes("x")).await.unwrap_err();
        assert!(error.to_string().contains("Cannot write a.narinfo in the folder"), "{error}");
    }

    #[test]
    fn unfinished_files_of_killed_writers_go_after_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join(".nix-cache-old"), folder.path().join(".nix-cache-new"));
        for path in [&old, &new, &folder.path().join("other")] {
            File::create(path).unwrap();
        }
        let long_ago = SystemTime::now() - LEFTOVER_AGE * 2;
        for path in [&old, &folder.path().join("other")] {
            File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        write(&folder.path().join("x"), &bytes("x")).unwrap();
        assert!(!old.exists() && new.exists() && folder.path().join("other").exists());
    }
}
