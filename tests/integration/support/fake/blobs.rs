//! Blobs on disk: blocks as files of their own, and committed blobs as lists of blocks.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use super::clock::Millis;
use super::link::Pace;

/// The most blocks a list can name.
pub(super) const MOST_BLOCKS: usize = 50_000;

/// An answer of the blob store that is an error.
#[derive(Debug)]
pub(super) struct BlobError {
    status: u16,
    code: &'static str,
    message: String,
    /// The size of the blob, where it is part of the answer.
    pub total: Option<u64>,
}

impl BlobError {
    /// An error with the store's own code for it.
    pub(super) fn new(status: u16, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned(), total: None }
    }

    /// The blob does not exist.
    pub(super) fn not_found() -> Self {
        Self::new(404, "BlobNotFound", "The specified blob does not exist.")
    }

    /// The disk of the fake failed.
    pub(super) fn disk(error: &io::Error) -> Self {
        Self::new(500, "InternalError", &format!("The folder of the fake cannot be used: {error}."))
    }
}

impl IntoResponse for BlobError {
    fn into_response(self) -> Response {
        let (code, message) = (self.code, self.message);
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        let mut response = Response::builder()
            .status(StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
            .header("content-type", "application/xml")
            .header("x-ms-error-code", code);
        if let Some(total) = self.total {
            response = response.header("content-range", format!("bytes */{total}"));
        }
        response.body(Body::from(body)).expect("the headers are plain text")
    }
}

/// Some bytes in a file, which is removed with the last user of it.
#[derive(Debug)]
pub(super) struct Segment {
    /// Where.
    pub path: PathBuf,
    /// How many.
    pub length: u64,
}

impl Drop for Segment {
    fn drop(&mut self) {
        // The folder may be gone already when the fake stops.
        std::fs::remove_file(&self.path).ok();
    }
}

/// What a committed blob holds.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// Its bytes, in order.
    pub segments: Arc<[Arc<Segment>]>,
    /// Its size in bytes.
    pub length: u64,
    /// Changes with each commit.
    pub etag: String,
    /// When it was committed.
    pub modified: Millis,
}

/// A block of a list, and where the list says to look for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed<'a> {
    /// The uncommitted one, or else the committed one.
    Latest(&'a str),
    /// The uncommitted one.
    Uncommitted(&'a str),
    /// The committed one.
    Committed(&'a str),
}

#[derive(Debug, Default)]
struct Blob {
    staged: HashMap<String, Arc<Segment>>,
    blocks: HashMap<String, Arc<Segment>>,
    content: Option<Content>,
}

/// All blobs.
#[derive(Debug)]
pub(super) struct Blobs {
    dir: PathBuf,
    named: Mutex<HashMap<String, Blob>>,
    files: AtomicU64,
}

impl Blobs {
    /// Blobs in a folder, which exists.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), named: Mutex::default(), files: AtomicU64::new(1) }
    }

    /// Writes the body of a request into a file of its own. A body that ends early leaves nothing.
    ///
    /// # Errors
    /// When the body breaks off or the disk fails.
    pub(super) async fn receive(&self, body: Body, mut pace: Pace, count: &AtomicU64) -> io::Result<Segment> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let mut segment = Segment { path: self.dir.join(format!("segment-{number}")), length: 0 };
        let file = tokio::fs::File::create_new(&segment.path).await?;
        let mut file = tokio::io::BufWriter::with_capacity(1 << 20, file);
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(io::Error::other)?;
            pace.pass(chunk.len()).await;
            count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            segment.length += chunk.len() as u64;
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        Ok(segment)
    }

    /// Makes a place for a blob that can be written from now on.
    pub(super) fn open(&self, name: &str) {
        self.lock().entry(name.to_owned()).or_default();
    }

    /// Keeps a block until a list commits it. An id that is sent again replaces its block.
    ///
    /// # Errors
    /// The answer of the blob store.
    pub(super) fn stage(&self, name: &str, id: &str, segment: Segment) -> Result<(), BlobError> {
        let mut blobs = self.lock();
        let blob = blobs.get_mut(name).ok_or_else(BlobError::not_found)?;
        blob.staged.insert(id.to_owned(), Arc::new(segment));
        Ok(())
    }

    /// Commits a blob that came in one request.
    ///
    /// # Errors
    /// The answer of the blob store.
    pub(super) fn put(&self, name: &str, segment: Segment, now: Millis) -> Result<Content, BlobError> {
        let mut blobs = self.lock();
        let blob = blobs.get_mut(name).ok_or_else(BlobError::not_found)?;
        *blob = Blob::default();
        Ok(self.commit_segments(blob, vec![Arc::new(segment)], now))
    }

    /// Stores bytes as a blob.
    pub(super) fn store(&self, name: &str, bytes: &[u8]) {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let segment = Segment { path: self.dir.join(format!("segment-{number}")), length: bytes.len() as u64 };
        std::fs::write(&segment.path, bytes).expect("the folder of the fake can be written");
        self.open(name);
        assert!(self.put(name, segment, 0).is_ok(), "it was opened");
    }

    /// Commits the blocks of a list. What else was staged is dropped.
    ///
    /// # Errors
    /// The answer of the blob store, among others for a block that nobody sent.
    pub(super) fn commit(&self, name: &str, list: &[Listed<'_>], now: Millis) -> Result<Content, BlobError> {
        let mut blobs = self.lock();
        let blob = blobs.get_mut(name).ok_or_else(BlobError::not_found)?;
        let mut blocks = HashMap::new();
        let mut segments = Vec::with_capacity(list.len());
        for listed in list {
            let (id, segment) = match *listed {
                Listed::Latest(id) => (id, blob.staged.get(id).or_else(|| blob.blocks.get(id))),
                Listed::Uncommitted(id) => (id, blob.staged.get(id)),
                Listed::Committed(id) => (id, blob.blocks.get(id)),
            };
            let segment =
                segment.ok_or_else(|| BlobError::new(400, "InvalidBlockList", "The block list is invalid."))?;
            blocks.insert(id.to_owned(), Arc::clone(segment));
            segments.push(Arc::clone(segment));
        }
        blob.staged.clear();
        blob.blocks = blocks;
        Ok(self.commit_segments(blob, segments, now))
    }

    /// What a blob holds; none if nothing was committed.
    pub(super) fn content(&self, name: &str) -> Option<Content> {
        self.lock().get(name)?.content.clone()
    }

    /// Takes blobs away. Who reads one now can read it to its end.
    pub(super) fn remove<'a>(&self, names: impl IntoIterator<Item = &'a String>) {
        let mut blobs = self.lock();
        for name in names {
            blobs.remove(name);
        }
    }

    fn commit_segments(&self, blob: &mut Blob, segments: Vec<Arc<Segment>>, now: Millis) -> Content {
        let length = segments.iter().map(|segment| segment.length).sum();
        let etag = format!("\"0x8D{:013X}\"", self.files.fetch_add(1, Ordering::Relaxed));
        let content = Content { segments: segments.into(), length, etag, modified: now };
        blob.content = Some(content.clone());
        content
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Blob>> {
        self.named.lock().expect("no holder of the blobs panics")
    }
}
