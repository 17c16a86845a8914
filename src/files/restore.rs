//! Restore of a level: downloads and verifies the newest matching entry, and writes its files.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::fetch::{self, FetchError, Generation};
use super::unpack::{self, Placed};
use super::{FilesLevel, FilesRestored, UNREAD, entry_prefix, generation_name, generation_prefix};
use crate::base::note::Code;
use crate::remote::{Remote, RemoteError};
use crate::series::{Hit, RecordError};

/// Number of generations that are tried if the newest ones are damaged.
const GENERATIONS_TRIED: u64 = 3;

/// Writes the files of the newest matching entry. Nothing is written outside the level's roots, and nothing at all before every byte
/// of the entry is verified. Missing folders are created; existing files are replaced as a whole; nothing is removed. `scratch` is a
/// folder for temporary files.
///
/// A problem is never an error: it is a miss or a missing file, and a note.
pub async fn restore(remote: &dyn Remote, level: &FilesLevel, scratch: &Path) -> FilesRestored {
    let mut restored = FilesRestored {
        hit: Hit::Miss,
        matched: None,
        files: 0,
        bytes: 0,
        downloaded: 0,
        digest: None,
        notes: Vec::new(),
    };
    if level.roots.is_empty() {
        return restored;
    }
    let near = std::iter::once(generation_prefix(level.name, &level.key));
    let names: Vec<String> = near.chain(level.prefixes.iter().map(|prefix| entry_prefix(level.name, prefix))).collect();
    match fetch::find(remote, level.name, &names).await {
        Ok(Some(newest)) => restore_newest(remote, level, scratch, newest, &mut restored).await,
        Ok(None) => {}
        Err(error) => {
            let message = format!("The cache could not be asked for the level {}: {error}", level.name);
            let note = super::of_remote(Code::FilesLookupRefused, Code::FilesLookupFailed, &error, message);
            restored.notes.push(note);
            restored.digest = Some(UNREAD.to_owned());
        }
    }
    restored
}

/// Restores `newest`, or an earlier generation if it is damaged.
async fn restore_newest(
    remote: &dyn Remote,
    level: &FilesLevel,
    scratch: &Path,
    newest: Generation,
    restored: &mut FilesRestored,
) {
    let (key, number) = (newest.key.clone(), newest.number);
    let mut found = Some(newest);
    for number in (1..=number).rev().take(GENERATIONS_TRIED as usize) {
        let name = generation_name(level.name, &key, number);
        let generation = match found.take() {
            Some(generation) => Some(generation),
            None => fetch::find(remote, level.name, std::slice::from_ref(&name)).await.ok().flatten(),
        };
        let Some(generation) = generation.filter(|generation| generation.entry.name == name) else { continue };
        match restore_one(remote, level, scratch, &generation, restored).await {
            Ok(placed) => {
                restored.hit = if key == level.key { Hit::Exact } else { Hit::Partial };
                restored.matched = Some(key);
                (restored.files, restored.bytes) = (placed.files, placed.bytes);
                placed.note(&mut restored.notes);
                return;
            }
            Err(trouble) => {
                // Local files must not replace an unreadable entry.
                restored.digest = trouble.is_unread().then(|| UNREAD.to_owned());
                let message =
                    format!("Generation {number} of {key} in the level {} is not used: {trouble}", level.name);
                restored.notes.push(super::warn(trouble.code(), message));
                if !trouble.is_of_the_entry() {
                    return;
                }
            }
        }
    }
}

/// Why a generation was not restored.
#[derive(Debug, thiserror::Error)]
enum NotRestored {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{0}.")]
    Refused(std::io::Error),
    #[error("there is no room for it: {0}. Free some space, or cache less in this level.")]
    Room(std::io::Error),
    #[error("not all of its files could be written: {0}.")]
    Place(std::io::Error),
    #[error("a task failed: {0}.")]
    Task(#[from] tokio::task::JoinError),
}

impl NotRestored {
    fn code(&self) -> Code {
        match self {
            Self::Fetch(FetchError::Record(RecordError::Format { .. })) => Code::FilesFormat,
            Self::Fetch(
                FetchError::Record(RecordError::Damaged(_))
                | FetchError::Remote(RemoteError::Gone(_) | RemoteError::Short(_)),
            ) => Code::FilesDamaged,
            Self::Fetch(FetchError::Record(RecordError::Untrusted(_))) => Code::FilesUntrusted,
            Self::Refused(_) => Code::FilesRefused,
            Self::Room(_) => Code::FilesNoRoom,
            Self::Fetch(_) => Code::FilesFailed,
            Self::Place(_) | Self::Task(_) => Code::FilesNotPlaced,
        }
    }

    /// Returns whether the entry may still be intact.
    fn is_unread(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::Remote(error)) if !matches!(error, RemoteError::Gone(_) | RemoteError::Short(_)))
    }

    /// Returns whether an older generation may work.
    fn is_of_the_entry(&self) -> bool {
        matches!(self.code(), Code::FilesDamaged | Code::FilesUntrusted | Code::FilesRefused | Code::FilesFormat)
    }
}

async fn restore_one(
    remote: &dyn Remote,
    level: &FilesLevel,
    scratch: &Path,
    generation: &Generation,
    restored: &mut FilesRestored,
) -> Result<Placed, NotRestored> {
    let header = fetch::header(remote, &generation.entry, &level.keys).await?;
    make(scratch.to_owned()).await?;
    unpack::ensure_room(&header, &level.roots, scratch).map_err(|error| match error.kind() {
        ErrorKind::StorageFull => NotRestored::Room(error),
        _ => NotRestored::Refused(error),
    })?;
    let file = fetch::body(remote, &generation.entry, &header, scratch).await?;
    restored.downloaded += header.entry_size();
    let (roots, digest) = (level.roots.clone(), header.facts.digest.to_string());
    let work = move || {
        unpack::check(&file, &header, &roots).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => NotRestored::Refused(error),
            _ => NotRestored::Refused(std::io::Error::other(format!("cannot read its archive: {error}"))),
        })?;
        unpack::place(&file, &header, &roots).map_err(NotRestored::Place)
    };
    let placed = tokio::task::spawn_blocking(work).await??;
    restored.digest = placed.is_complete().then_some(digest);
    Ok(placed)
}

async fn make(scratch: PathBuf) -> Result<(), NotRestored> {
    let made = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&scratch).map_err(|error| FetchError::Local(format!("{}: {error}", scratch.display())))
    });
    Ok(made.await??)
}
