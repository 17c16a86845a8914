//! A bucket of an S3-compatible object store as a [`Remote`].
//!
//! An entry is an object. Layers are named by their content and shared by everyone who uses the bucket and prefix:
//! `PREFIX/v1/layer/NAME`. Everything else belongs to a repository: `PREFIX/v1/KIND/OWNER/REPO/NAME`.
//!
//! Objects are written with `If-None-Match: *`, so of two writers one wins, as with a reservation of GitHub's service. Nothing is
//! overwritten or deleted.

mod address;
mod answer;
mod call;
mod client;
mod shelf;
mod upload;
mod xml;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use url::Url;

pub(crate) use self::address::{S3Address, is_near};
use self::answer::Fault;
use self::client::Listed;
pub(crate) use self::client::S3Client;
pub(crate) use self::shelf::S3Shelf;
use super::blob::source::Source;
use super::blob::{BlobError, Blobs, Ranges, download};
use super::directory::{self, escape, unescape};
use super::tuning::Tuning;
use super::{Entry, Handover, Kind, Put, Remote, RemoteError, handover};

/// Longest key in bytes.
const MAX_KEY: usize = 1024;

/// The remote in one bucket.
pub(crate) struct S3Remote {
    shared: Arc<Shared>,
    /// `OWNER/REPO`, whose entries these are.
    repository: String,
}

struct Shared {
    client: S3Client,
    ranges: Ranges,
}

impl S3Remote {
    /// The entries of `repository` behind `client`.
    pub(crate) fn new(client: S3Client, repository: &str) -> Self {
        let shared = Shared { client, ranges: Ranges::default() };
        Self { shared: Arc::new(shared), repository: repository.to_owned() }
    }

    /// For a process that reads as long as the job runs: no whole entry counts for what it asks later.
    pub(super) fn keep_asking(&self) {
        self.shared.ranges.insist();
    }

    /// The start of the keys of a kind.
    fn folder(&self, kind: Kind) -> String {
        match kind {
            Kind::Layer => format!("v1/{}/", kind.word()),
            _ => format!("v1/{}/{}/", kind.word(), self.repository),
        }
    }

    fn entry(kind: Kind, name: &str, key: String, size: u64) -> Entry {
        Entry { kind, name: name.to_owned(), size: Some(size), location: key }
    }

    /// Returns the entry with exactly this name, or otherwise the newest whose name starts with it.
    async fn first(&self, kind: Kind, prefix: &str) -> Result<Option<Entry>, RemoteError> {
        let folder = self.folder(kind);
        let start = format!("{folder}{}", escape(prefix));
        // Layers are only looked up by their whole names, and a list costs more than this.
        if kind == Kind::Layer {
            let size = self.shared.client.head(&start).await?;
            return Ok(size.map(|size| Self::entry(kind, prefix, start, size)));
        }
        let listed = self.shared.client.list(&start).await?;
        let newest = listed.into_iter().max_by(|a, b| order(&start, a).cmp(&order(&start, b)));
        Ok(newest.and_then(|object| {
            let name = unescape(object.key.strip_prefix(&folder)?)?;
            Some(Self::entry(kind, &name, object.key.clone(), object.size))
        }))
    }

    async fn put(&self, kind: Kind, name: &str, source: &Source) -> Result<Put, RemoteError> {
        let key = format!("{}{}", self.folder(kind), escape(name));
        if self.shared.client.full(&key).len() > MAX_KEY {
            return Err(RemoteError::Failed(format!(
                "The name {name:?} is too long for a bucket: a key has at most {MAX_KEY} bytes. Choose a shorter cache key or prefix."
            )));
        }
        self.shared.client.put_if_absent(&key, source).await
    }
}

/// The exact name first, then the newest. If the store's clock is too coarse, the greater number decides: the longer name.
fn order<'a>(exact: &str, object: &'a Listed) -> (bool, i64, usize, &'a str) {
    (object.key == exact, object.modified, object.key.len(), &object.key)
}

#[async_trait]
impl Remote for S3Remote {
    fn describe(&self) -> String {
        self.shared.client.place().to_owned()
    }

    async fn find(&self, kind: Kind, prefixes: &[String]) -> Result<Option<Entry>, RemoteError> {
        for prefix in prefixes {
            if let Some(entry) = self.first(kind, prefix).await? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Bytes, RemoteError> {
        download::read(&*self.shared, entry, range).await
    }

    async fn stream(&self, entry: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError> {
        download::stream(Arc::clone(&self.shared) as Arc<dyn Blobs>, entry).await
    }

    async fn put_file(&self, kind: Kind, name: &str, body: &Path) -> Result<Put, RemoteError> {
        let source = Source::file(body).map_err(|error| {
            RemoteError::Local(format!("Cannot read {}, which was to be stored as {name}: {error}.", body.display()))
        })?;
        self.put(kind, name, &source).await
    }

    async fn put_bytes(&self, kind: Kind, name: &str, body: Bytes) -> Result<Put, RemoteError> {
        self.put(kind, name, &Source::Bytes(body)).await
    }

    fn ranges_work(&self) -> bool {
        self.shared.ranges.work()
    }

    /// Lifecycle rules count from the time when an object was written.
    fn records_reads(&self) -> bool {
        false
    }

    fn keeps_what_was_read(&self) -> bool {
        false
    }

    /// None with a proxy, as for GitHub's service.
    fn handover(&self) -> Option<Handover> {
        (!handover::is_proxied()).then(|| self.shared.client.handover(&self.repository))
    }
}

#[async_trait]
impl Blobs for Shared {
    fn http(&self) -> &reqwest::Client {
        &self.client.http
    }

    fn tuning(&self) -> &Arc<Tuning> {
        &self.client.tuning
    }

    fn place(&self) -> String {
        self.client.place().to_owned()
    }

    async fn address(&self, entry: &Entry) -> Result<Url, RemoteError> {
        Ok(self.client.address(&entry.location))
    }

    /// The next address is signed anew. Whether the object exists is a question for the store.
    async fn renew(&self, entry: &Entry, _: &Url) -> Result<(), RemoteError> {
        match self.client.head(&entry.location).await? {
            Some(_) => Ok(()),
            None => Err(RemoteError::Gone(format!(
                "The {} {} is no longer in {}. A rule of the bucket or somebody with access has deleted it.",
                entry.kind.word(),
                entry.name,
                self.client.place()
            ))),
        }
    }

    async fn refused(&self, response: reqwest::Response) -> BlobError {
        match answer::fault(response, self.client.place(), "s3:GetObject").await {
            Fault::Again(why, pause) if pause.is_zero() => BlobError::Again(why),
            Fault::Again(why, pause) => BlobError::Busy(why, pause),
            Fault::Expired(why) => BlobError::Expired(why),
            Fault::Missing(why) => BlobError::Gone(why),
            Fault::Short(why) => BlobError::Short(why),
            fault => {
                let why = self.client.error(fault, "read").to_string();
                BlobError::Failed(why.trim_end_matches('.').trim_start_matches("Cannot read: ").to_owned())
            }
        }
    }

    fn ranges(&self) -> &Ranges {
        &self.ranges
    }
}

#[cfg(test)]
#[path = "../../../tests/integration/support/moto.rs"]
pub(crate) mod moto;
#[cfg(test)]
mod tests;
