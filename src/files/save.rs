//! Save of a level: the files become the next generation, unless the cache already has the same content.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::{fs, io};

use tempfile::NamedTempFile;

use super::fetch::{self, FetchError, Generation};
use super::header::{FORMAT, Header};
use super::pack::{self, Packed};
use super::place::TEMPORARY;
use super::walk::{Findings, Sources};
use super::{FilesLevel, FilesOutcome, FilesSaved, KIND, Roots, UNREAD, generation_name, generation_prefix};
use crate::base::clock::now;
use crate::base::digest::Sha;
use crate::base::note::{Code, Note};
use crate::remote::{Put, Remote, RemoteError, confirmed, taken_unseen};
use crate::series::{Clock, RecordError, SystemClock, next_number};

/// Number of generations that are tried if others save at the same time, and the range after the last number from which each is
/// chosen, which doubles with each attempt.
const TRIES: u32 = 10;
const STEP: u64 = 8;

/// Saves the files of a level as the next generation of its primary key. `restored_digest` is [`super::FilesRestored::digest`] of
/// the earlier restore: nothing is written if the content has not changed, or if the newest generation of the key has the same
/// content. `scratch` is a folder for temporary files.
///
/// A problem is never an error: nothing is saved then, and a note says why.
pub async fn save(
    remote: &dyn Remote,
    level: &FilesLevel,
    restored_digest: Option<&str>,
    scratch: &Path,
) -> FilesSaved {
    let mut saved =
        FilesSaved { outcome: FilesOutcome::Nothing, files: 0, bytes: 0, uploaded: 0, entries: 0, notes: Vec::new() };
    if level.roots.is_empty() {
        return saved;
    }
    match try_save(remote, level, restored_digest, scratch, &mut saved).await {
        Ok(outcome) => saved.outcome = outcome,
        Err(trouble) => {
            saved.outcome = FilesOutcome::Failed;
            let message = format!("The level {} was not saved: {trouble}", level.name);
            saved.notes.push(match &trouble {
                NotSaved::Remote(error) => {
                    super::of_remote(Code::FilesSaveRefused, Code::FilesSaveFailed, error, message)
                }
                _ => super::warn(Code::FilesNotSaved, message),
            });
        }
    }
    saved
}

/// The errors that end a save early.
#[derive(Debug, thiserror::Error)]
enum NotSaved {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(
        "the restore of this job could not read generation {0}, so the files here may be incomplete. The next job that can \
        read it saves."
    )]
    Unread(u64),
    #[error("its files could not be packed: {0}.")]
    Pack(#[from] io::Error),
    #[error("a task failed: {0}.")]
    Task(#[from] tokio::task::JoinError),
}

async fn try_save(
    remote: &dyn Remote,
    level: &FilesLevel,
    restored_digest: Option<&str>,
    scratch: &Path,
    saved: &mut FilesSaved,
) -> Result<FilesOutcome, NotSaved> {
    let newest = newest(remote, level).await?;
    let header = match &newest {
        Some(newest) if restored_digest == Some(UNREAD) => return Err(NotSaved::Unread(newest.number)),
        Some(newest) => header(remote, level, newest).await?,
        None => None,
    };
    let restored: Option<Sha> = restored_digest.and_then(|digest| digest.parse().ok());
    let known: Vec<Sha> = restored.into_iter().chain(header.as_ref().map(|header| header.facts.digest)).collect();
    let mut made = make(level, scratch, known).await?;
    if let (None, Some(newest), Some(header)) = (&made.file, &newest, &header) {
        // The earlier restore may have found its bytes damaged: then the next generation replaces it.
        if restored != Some(made.packed.digest) && !fetch::is_whole(remote, &newest.entry, header).await {
            made = make(level, scratch, Vec::new()).await?;
        }
    }
    (saved.files, saved.bytes) = (made.packed.files, made.packed.bytes);
    saved.notes.append(&mut made.notes);
    match made.file {
        _ if made.packed.files == 0 => Ok(FilesOutcome::Nothing),
        None => Ok(FilesOutcome::Unchanged),
        Some((file, header)) => {
            let next = next_number(newest.map_or(0, |newest| newest.number));
            push(remote, level, &file, &header, next, saved).await
        }
    }
}

/// The header of `newest`, if it is usable. A damaged one is read twice before it counts as damaged.
///
/// # Errors
/// When it may be intact but cannot be read: then nothing may replace it.
async fn header(remote: &dyn Remote, level: &FilesLevel, newest: &Generation) -> Result<Option<Header>, RemoteError> {
    let mut entry = newest.entry.clone();
    for attempt in 0..2 {
        match fetch::header(remote, &entry, &level.keys).await {
            Ok(header) => return Ok(Some(header)),
            Err(FetchError::Remote(error)) if !matches!(error, RemoteError::Gone(_) | RemoteError::Short(_)) => {
                return Err(error);
            }
            Err(FetchError::Record(RecordError::Untrusted(_))) => return Ok(None),
            Err(error) => tracing::debug!("{}: {error}", entry.name),
        }
        if attempt == 0 {
            match remote.find(KIND, std::slice::from_ref(&entry.name)).await? {
                Some(found) if found.name == entry.name => entry = found,
                _ => return Ok(None),
            }
        }
    }
    Ok(None)
}

/// The newest generation of the level's own key.
async fn newest(remote: &dyn Remote, level: &FilesLevel) -> Result<Option<Generation>, RemoteError> {
    if !remote.is_readable() {
        return Ok(None);
    }
    let names = [generation_prefix(level.name, &level.key)];
    Ok(fetch::find(remote, level.name, &names).await?.filter(|found| found.key == level.key))
}

/// The content, and its entry.
struct Made {
    packed: Packed,
    /// The entry without its header, and the header; None if the content is already known, or there is none.
    file: Option<(NamedTempFile, Header)>,
    notes: Vec<Note>,
}

/// Packs the files, unless their digest is one of `known`.
async fn make(level: &FilesLevel, scratch: &Path, known: Vec<Sha>) -> Result<Made, NotSaved> {
    let (roots, scratch, zstd_level) = (level.roots.clone(), scratch.to_owned(), level.level);
    let work = move || make_now(&roots, &scratch, zstd_level, &known);
    Ok(tokio::task::spawn_blocking(work).await??)
}

fn make_now(roots: &Roots, scratch: &Path, level: i32, known: &[Sha]) -> io::Result<Made> {
    let mut notes = Vec::new();
    fs::create_dir_all(scratch)?;
    let temporary = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY);
        builder
    };
    let databases = temporary().tempdir_in(scratch)?;
    let sources = Sources::prepare(roots, databases.path(), &mut notes)?;
    if !known.is_empty() {
        let mut findings = Findings::default();
        let packed = pack::measure(&sources, &mut findings)?;
        if packed.files == 0 || known.contains(&packed.digest) {
            findings.note(roots, &mut notes);
            return Ok(Made { packed, file: None, notes });
        }
    }
    let mut findings = Findings::default();
    let file = temporary().tempfile_in(scratch)?;
    let (packed, header) = pack::pack(&sources, file.as_file(), level, now(), &mut findings)?;
    findings.note(roots, &mut notes);
    Ok(Made { packed, file: (packed.files > 0).then_some((file, header)), notes })
}

/// Stores `file` as generation `next`, or under a greater number if another job has taken that one with different content, or was
/// killed before it finished. The newest entry counts, whatever its number, so each of many jobs can choose a free one at random.
async fn push(
    remote: &dyn Remote,
    level: &FilesLevel,
    file: &NamedTempFile,
    header: &Header,
    next: u64,
    saved: &mut FilesSaved,
) -> Result<FilesOutcome, NotSaved> {
    let (digest, size) = (header.facts.digest, header.entry_size());
    let mut number = next;
    for tried in 0..TRIES {
        let name = generation_name(level.name, &level.key, number);
        // The name is signed too, so each attempt has a separate header.
        file.as_file().write_all_at(&header.encode(FORMAT, &name, &level.keys), 0)?;
        if remote.put_file(KIND, &name, file.path()).await? == Put::Stored {
            (saved.uploaded, saved.entries) = (saved.uploaded + size, saved.entries + 1);
            return Ok(FilesOutcome::Saved);
        }
        if !remote.is_readable() {
            return Err(taken_unseen("A generation of this level and key").into());
        }
        // One wait is enough: the job that took the name may have been killed before it wrote the entry.
        let is_there = match tried {
            0 => confirmed(remote, KIND, &name).await,
            _ => true,
        };
        if is_there && has_content(remote, level, &name, digest).await {
            tracing::info!("Another job has saved the same files as generation {number}.");
            return Ok(FilesOutcome::Unchanged);
        }
        if !is_there {
            tracing::info!(
                "Generation {number} of {} was reserved but not finished, so another number is used.",
                level.key
            );
        }
        number =
            (1..=SystemClock::start().random(STEP << tried)).fold(next_number(number), |number, _| next_number(number));
    }
    Err(RemoteError::Failed(format!("Other jobs took {TRIES} generations.")).into())
}

/// Returns whether the entry `name` has the complete content of this digest.
async fn has_content(remote: &dyn Remote, level: &FilesLevel, name: &str, digest: Sha) -> bool {
    let names = [name.to_owned()];
    let Ok(Some(other)) = fetch::find(remote, level.name, &names).await else { return false };
    match fetch::header(remote, &other.entry, &level.keys).await {
        Ok(header) if header.facts.digest == digest => fetch::is_whole(remote, &other.entry, &header).await,
        _ => false,
    }
}
