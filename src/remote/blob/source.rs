//! Sends parts of a file or of bytes in memory, and notices when that stalls.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, RequestBuilder};
use tokio::time::Instant;

/// The source of an upload. Reading a part again returns the same bytes.
#[derive(Clone)]
pub(crate) enum Source {
    File { file: Arc<File>, size: u64 },
    Bytes(Bytes),
}

impl Source {
    /// Opens a file.
    pub(crate) fn file(path: &std::path::Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self::File { size: file.metadata()?.len(), file: Arc::new(file) })
    }

    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Reads a part.
    pub(in crate::remote) async fn piece(&self, range: Range<u64>) -> std::io::Result<Bytes> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Self::File { file, .. } => {
                let file = Arc::clone(file);
                let read = move || {
                    let mut piece = vec![0; (range.end - range.start) as usize];
                    file.read_exact_at(&mut piece, range.start)?;
                    Ok(Bytes::from(piece))
                };
                tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
            }
        }
    }
}

/// Adds the bytes `range` of `source` to `request`, in pieces of `piece` bytes. With a length, they are sent without chunked encoding,
/// which storage does not accept.
pub(in crate::remote) fn with_body(
    request: RequestBuilder,
    source: &Source,
    range: &Range<u64>,
    piece: u64,
    moved: &Moved,
) -> RequestBuilder {
    let pieces = pieces(source.clone(), range.clone(), piece, moved.clone());
    request.header(CONTENT_LENGTH, range.end - range.start).body(Body::wrap_stream(pieces))
}

/// The last time that an upload requested more bytes to send.
#[derive(Clone)]
pub(in crate::remote) struct Moved(Arc<Mutex<Instant>>);

impl Default for Moved {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Moved {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits until nothing has moved for `limit`.
    pub(in crate::remote) async fn stalled(&self, limit: Duration) {
        loop {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

fn pieces(
    source: Source,
    range: Range<u64>,
    piece: u64,
    moved: Moved,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((source, range, moved), move |(source, range, moved)| async move {
        moved.now();
        if range.is_empty() {
            return Ok(None);
        }
        let end = range.end.min(range.start + piece);
        let bytes = source.piece(range.start..end).await?;
        Ok(Some((bytes, (source, end..range.end, moved))))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn pieces_of_a_file_are_its_bytes() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"0123456789").unwrap();
        let source = Source::File { file: Arc::new(file), size: 10 };
        let got: Vec<Bytes> = pieces(source.clone(), 1..8, 3, Moved::default()).try_collect().await.unwrap();
        assert_eq!(got, ["123", "456", "7"]);
        let short: Result<Vec<Bytes>, _> = pieces(source, 8..12, 3, Moved::default()).try_collect().await;
        assert!(short.is_err(), "a file that shrank must not be sent");
    }
}
