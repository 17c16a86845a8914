//! Finds entries and fetches them: the header, then the body in ranges side by side, hashed as they arrive.

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

/// Bytes of a range.
const RANGE: u64 = 4 << 20;
/// Ranges in flight, and so in memory.
const PARALLEL: usize = 8;

/// A generation of a level.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    /// Its key, escaped.
    pub key: String,
    /// Its number.
    pub number: u64,
    /// Its entry.
    pub entry: Entry,
}

/// The newest generation of the first of `names` for which there is one.
///
/// # Errors
/// When the remote cannot be asked.
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
    /// Our own disk.
    #[error("it could not be written to {0}. Is the disk full?")]
    Local(String),
}

/// The header of an entry, signed as `keys` asks for.
///
/// # Errors
/// When it cannot be read, or is not trusted.
pub(super) async fn header(remote: &dyn Remote, entry: &Entry, keys: &Keyring) -> Result<Header, FetchError> {
    let bytes = remote.read(entry, 0..HEAD as u64).await?;
    let (header, _) = Header::open(FORMAT, &entry.name, &bytes, keys)?;
    if entry.size.is_some_and(|size| size != header.entry_size()) { Err(damaged()) } else { Ok(header) }
}

fn damaged() -> FetchError {
    RecordError::damaged("its bytes are not those that were stored").into()
}

/// Fetches the body of an entry into a new temporary file in the folder `scratch`, and makes sure of its bytes.
///
/// # Errors
/// When it cannot be fetched, or is another one than `header` says.
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

/// Whether the remote gives the body that `header` tells of, as far as that can be known now. It is fetched for that, and not kept.
pub(super) async fn is_whole(remote: &dyn Remote, entry: &Entry, header: &Header) -> bool {
    match receive(remote, entry, header, io::sink()).await {
        Ok(Ok((_, digest))) => digest == header.digest,
        Ok(Err(_)) => false,
        Err(error) => {
            tracing::debug!("{} cannot be read: {error}", entry.name);
            // What cannot be read now is not damaged for that.
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
        (writer, hash, written) =
            work.await.map_err(|error| RemoteError::Local(format!("A task broke off: {error}.")))?;
        if let Err(error) = written {
            return Ok(Err(error));
        }
    }
    Ok(Ok((writer, Sha(hash.finalize().into()))))
}
