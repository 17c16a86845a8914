//! Finds and downloads entries: the header, then the body in parallel ranges, hashed as they arrive.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use super::header::{FORMAT, Header};
use super::{KIND, parse_name};
use crate::base::digest::Sha;
use crate::base::disk;
use crate::remote::{Entry, Remote, RemoteError};
use crate::series;
use crate::series::sign::Keyring;
use crate::series::{HEAD, RecordError};

/// Size of a range in bytes.
const RANGE: u64 = 4 << 20;
/// Number of concurrent ranges, which are held in memory.
const PARALLEL: usize = 8;

/// A generation of a level.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    /// Its key, escaped.
    pub key: String,
    pub number: u64,
    pub entry: Entry,
}

/// Finds the newest generation of the first of `names` that has one.
///
/// # Errors
/// When the lookup fails.
pub(super) async fn find(
    remote: &dyn Remote,
    level: &str,
    names: &[String],
) -> Result<Option<Generation>, RemoteError> {
    let Some(found) = series::find(remote, KIND, names).await? else { return Ok(None) };
    let parsed = parse_name(level, &found.entry.name).map(|(key, number)| (key.to_owned(), number));
    if parsed.is_none() {
        tracing::debug!("{} is not a generation of the level {level}", found.entry.name);
    }
    Ok(parsed.map(|(key, number)| Generation { key, number, entry: found.entry }))
}

/// Why an entry cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The remote failed.
    #[error("{0}")]
    Remote(#[from] RemoteError),
    /// It is damaged, of another format, or not trusted.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// The local disk failed.
    #[error("it could not be written to {0}. Is the disk full?")]
    Local(String),
}

/// Reads the header of an entry, signed as `keys` requires.
///
/// # Errors
/// When it cannot be read, or is not trusted.
pub(super) async fn header(remote: &dyn Remote, entry: &Entry, keys: &Keyring) -> Result<Header, FetchError> {
    let bytes = remote.read(entry, 0..HEAD as u64).await?;
    let (header, _) = Header::open(FORMAT, &entry.name, &bytes, keys)?;
    if entry.size.is_some_and(|size| size != header.entry_size()) { Err(damaged()) } else { Ok(header) }
}

fn damaged() -> FetchError {
    RecordError::damaged("its bytes do not match its digest").into()
}

/// Downloads the body of an entry to a new temporary file in the folder `scratch`, and verifies its bytes.
///
/// # Errors
/// When it cannot be downloaded, or does not match `header`.
pub(super) async fn body(
    remote: &dyn Remote,
    entry: &Entry,
    header: &Header,
    scratch: &Path,
) -> Result<File, FetchError> {
    let local = |error: io::Error| FetchError::Local(format!("{}: {error}", scratch.display()));
    let file = tempfile::tempfile_in(scratch).map_err(local)?;
    let received = tokio::select! {
        received = receive(remote, entry, header, file) => received?,
        () = disk::filled(scratch) => Err(disk::no_room(scratch, header.size)),
    };
    let (file, digest) = received.map_err(local)?;
    if digest == header.digest { Ok(file) } else { Err(damaged()) }
}

/// Returns whether the remote has the body of `header`, as far as that can be checked now. It is downloaded for this, but not kept.
pub(super) async fn is_whole(remote: &dyn Remote, entry: &Entry, header: &Header) -> bool {
    match receive(remote, entry, header, io::sink()).await {
        Ok(Ok((_, digest))) => digest == header.digest,
        Ok(Err(_)) => false,
        Err(error) => {
            tracing::debug!("{} cannot be read: {error}", entry.name);
            // An unreadable body is not necessarily damaged.
            !matches!(
                error,
                FetchError::Remote(RemoteError::Gone(_) | RemoteError::Short(_))
                    | FetchError::Record(RecordError::Damaged(_))
            )
        }
    }
}

async fn receive<W: Write + Send + 'static>(
    remote: &dyn Remote,
    entry: &Entry,
    header: &Header,
    writer: W,
) -> Result<io::Result<(W, Sha)>, FetchError> {
    let end = HEAD as u64 + header.size;
    let starts = (0..header.size.div_ceil(RANGE)).map(|range| HEAD as u64 + range * RANGE);
    let reads = starts.map(|start| remote.read(entry, start..(start + RANGE).min(end)));
    let mut pieces = futures_util::stream::iter(reads).buffered(PARALLEL);
    let (mut writer, mut hash) = (writer, Sha256::new());
    while let Some(piece) = pieces.try_next().await? {
        let work = tokio::task::spawn_blocking(move || {
            hash.update(&piece);
            let written = writer.write_all(&piece);
            (writer, hash, written)
        });
        let written;
        (writer, hash, written) = work.await.map_err(|error| RemoteError::Local(format!("A task failed: {error}.")))?;
        if let Err(error) = written {
            return Ok(Err(error));
        }
    }
    Ok(Ok((writer, Sha(hash.finalize().into()))))
}
