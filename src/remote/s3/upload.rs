//! Writes objects: a small one with one request, a large one in parts.
//!
//! 1. The parts of a large object are sent side by side. The object appears when the upload is completed, as a whole.
//! 2. If that fails, or the task is dropped, the upload is aborted, so that its parts cost nothing.
//! 3. A killed job cannot do that. Before its first upload in parts, each job aborts those of our prefix that are a day old.

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::{DateTime, Utc};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::header::ETAG;
use rusty_s3::Method;

use super::answer::{Fault, fault_in};
use super::call::{Call, Send};
use super::client::S3Client;
use super::xml;
use crate::base::http::body;
use crate::remote::blob::source::Source;
use crate::remote::{Put, RemoteError};

/// Largest number of parts of an object.
const MAX_PARTS: u64 = 10_000;
/// Largest part in bytes, S3's limit.
const MAX_PART: u64 = 5 << 30;
const MIB: u64 = 1 << 20;
/// The permission to write.
const PUT: &str = "s3:PutObject";

/// What happens to an object that already has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    Stays,
    IsReplaced,
}

impl S3Client {
    /// Writes an object.
    pub(super) async fn upload(&self, key: &str, source: &Source, existing: Existing) -> Result<Put, RemoteError> {
        let size = source.size();
        if self.is_large(source) {
            return self.upload_parts(key, source, existing).await;
        }
        let range = 0..size;
        let if_absent = existing == Existing::Stays;
        let call = Call { send: Send::Part(source, &range), if_absent, ..Call::new(Method::Put, key, PUT) };
        match self.call(&call).await {
            Ok(_) => Ok(Put::Stored),
            Err(Fault::Taken) => Ok(Put::Taken),
            Err(Fault::TakenLater) => Ok(if self.is_ours(key, source).await { Put::Stored } else { Put::Taken }),
            Err(fault) => Err(self.error(fault, &format!("write {key}"))),
        }
    }

    fn is_large(&self, source: &Source) -> bool {
        source.size() > self.tuning.single_put
    }

    /// Whether there is an object already. That is asked before an upload in parts only; any other is refused at once if there is one.
    pub(super) async fn is_taken(&self, key: &str, source: &Source) -> Result<bool, RemoteError> {
        if !self.is_large(source) {
            return Ok(false);
        }
        let (found, ()) = tokio::join!(self.head(key), async {
            self.tidied.get_or_init(|| self.abort_leftovers()).await;
        });
        Ok(found?.is_some())
    }

    /// Whether an object has exactly these bytes.
    async fn is_ours(&self, key: &str, source: &Source) -> bool {
        let size = source.size();
        let wanted = source.piece(0..size).await.ok();
        matches!(self.get(key, size as usize).await, Ok(Some(bytes)) if wanted.is_some_and(|wanted| wanted == bytes))
    }

    async fn upload_parts(&self, key: &str, source: &Source, existing: Existing) -> Result<Put, RemoteError> {
        let what = format!("write {key}");
        let size = source.size();
        let part = part_size(size, self.tuning.block);
        if part > MAX_PART {
            return Err(RemoteError::Failed(format!("Cannot {what}: {size} bytes are more than an object can have.")));
        }
        let start = Call { query: &[("uploads", "")], ..Call::new(Method::Post, key, PUT) };
        let answer = self.text(&start, &what).await?;
        let Some(id) = xml::text(&answer, "UploadId").filter(|id| !id.is_empty()) else {
            return Err(RemoteError::Failed(format!("Cannot {what}: {} began no upload.", self.place())));
        };
        let upload = Unfinished { client: self, key, id, existing, done: false };
        let parts = (0..size.div_ceil(part)).map(|index| {
            let range = index * part..size.min((index + 1) * part);
            upload.part(index + 1, source, range)
        });
        // Whichever part is done makes room for the next one.
        let parts = stream::iter(parts).buffer_unordered(self.tuning.parallel_blocks.max(1));
        let written = match parts.try_collect::<BTreeMap<u64, String>>().await {
            Ok(tags) => upload.complete(&tags).await,
            Err(fault) => Err(fault),
        };
        upload.end(written, &what).await
    }

    /// Aborts uploads below the prefix that were begun long ago. Only informative, so trouble is only logged.
    async fn abort_leftovers(&self) {
        let prefix = self.full("v1/");
        let call = Call {
            query: &[("prefix", &prefix), ("uploads", "")],
            ..Call::new(Method::Get, "", "s3:ListBucketMultipartUploads")
        };
        let Ok(page) =
            self.text(&call, "list unfinished uploads").await.inspect_err(|error| tracing::debug!("{error}"))
        else {
            return;
        };
        for upload in xml::elements(&page, "Upload") {
            let begun = xml::text(upload, "Initiated").and_then(|time| DateTime::parse_from_rfc3339(&time).ok());
            let age = begun.and_then(|begun| (Utc::now() - begun.to_utc()).to_std().ok());
            let (Some(key), Some(id)) = (xml::text(upload, "Key"), xml::text(upload, "UploadId")) else { continue };
            // A store may ignore the prefix.
            let Some(ours) = self.below(&key).filter(|key| key.starts_with("v1/")) else { continue };
            if age.is_some_and(|age| age >= self.tuning.upload_age) {
                tracing::debug!("aborting an upload of {key} that no job finished");
                self.abort(ours, &id).await;
            }
        }
    }

    async fn abort(&self, key: &str, id: &str) {
        let call = Call { query: &[("uploadId", id)], ..Call::new(Method::Delete, key, "s3:AbortMultipartUpload") };
        if let Err(fault) = self.call(&call).await {
            tracing::debug!("{}", self.error(fault, &format!("abort the upload of {key}")));
        }
    }
}

/// An upload in parts that is to be completed or aborted.
struct Unfinished<'a> {
    client: &'a S3Client,
    key: &'a str,
    id: String,
    existing: Existing,
    done: bool,
}

impl Unfinished<'_> {
    /// Sends a part and returns its number and tag.
    async fn part(&self, number: u64, source: &Source, range: Range<u64>) -> Result<(u64, String), Fault> {
        let shown = number.to_string();
        let call = Call {
            query: &[("partNumber", &shown), ("uploadId", &self.id)],
            send: Send::Part(source, &range),
            ..Call::new(Method::Put, self.key, PUT)
        };
        let answer = self.client.call(&call).await?;
        let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let tag =
            tag.ok_or_else(|| Fault::Final(RemoteError::Failed(format!("{} confirmed no part.", self.client.place()))));
        Ok((number, tag?))
    }

    /// Completes the upload. The status is 200 even if that fails after a while.
    async fn complete(&self, tags: &BTreeMap<u64, String>) -> Result<Put, Fault> {
        let parts = tags.iter().map(|(number, tag)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", xml::escaped(tag))
        });
        let list = format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.collect::<String>());
        let call = Call {
            query: &[("uploadId", &self.id)],
            send: Send::Text(&list),
            if_absent: self.existing == Existing::Stays,
            ..Call::new(Method::Post, self.key, PUT)
        };
        let mut pauses = self.client.tuning.blob_pauses();
        loop {
            let answer = match self.client.call(&call).await {
                Ok(answer) => answer,
                Err(Fault::Taken | Fault::TakenLater) => return Ok(Put::Taken),
                Err(fault) => return self.was_completed(fault).await,
            };
            let (place, limit) = (self.client.place(), self.client.tuning.commit_budget);
            let fault = match tokio::time::timeout(limit, body(answer, 64 << 10)).await {
                Ok(Ok(text)) => match fault_in(&String::from_utf8_lossy(&text), place, PUT) {
                    None => return Ok(Put::Stored),
                    Some(Fault::Taken) => return Ok(Put::Taken),
                    Some(fault) => fault,
                },
                _ => Fault::Again(
                    format!("{place} did not say whether the object is complete"),
                    std::time::Duration::ZERO,
                ),
            };
            match (fault, pauses.next()) {
                (Fault::Again(why, least), Some(pause)) => {
                    tracing::debug!("completing again: {why}");
                    tokio::time::sleep(pause.max(least)).await;
                }
                (fault, _) => return self.was_completed(fault).await,
            }
        }
    }

    /// An answer may be lost. Then the upload no longer exists, and the object does.
    async fn was_completed(&self, fault: Fault) -> Result<Put, Fault> {
        match fault {
            Fault::Missing(_) if matches!(self.client.head(self.key).await, Ok(Some(_))) => Ok(Put::Stored),
            fault => Err(fault),
        }
    }

    async fn end(mut self, written: Result<Put, Fault>, what: &str) -> Result<Put, RemoteError> {
        if !matches!(written, Ok(Put::Stored)) {
            self.client.abort(self.key, &self.id).await;
        }
        self.done = true;
        written.map_err(|fault| self.client.error(fault, what))
    }
}

/// A dropped task, for example at the time limit of a step, leaves no parts behind.
impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.done {
            let (client, key, id) = (self.client.clone(), self.key.to_owned(), std::mem::take(&mut self.id));
            runtime.spawn(async move { client.abort(&key, &id).await });
        }
    }
}

/// Size of the parts of an object.
fn part_size(size: u64, least: u64) -> u64 {
    size.div_ceil(MAX_PARTS).next_multiple_of(MIB).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_too_many_parts() {
        assert_eq!(part_size(17 * MIB, 16 * MIB), 16 * MIB);
        assert_eq!(part_size(160_000 * MIB, 16 * MIB), 16 * MIB);
        for size in [160_000 * MIB + 1, 5_000_000 * MIB] {
            assert!(size.div_ceil(part_size(size, 16 * MIB)) <= MAX_PARTS);
        }
    }
}
