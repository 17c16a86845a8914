//! Uploads a blob: a small one in one request, a large one as parallel blocks followed by their list.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder};
use sha2::{Digest, Sha256};
use url::Url;

use super::blob::source::{Moved, Source, with_body};
use super::blob::{BlobError, broken, refused};
use super::calls::hex;
use super::tuning::Tuning;

/// One upload to a signed address.
pub(super) struct Upload<'a> {
    pub http: &'a Client,
    pub url: &'a Url,
    pub source: &'a Source,
    pub name: &'a str,
    pub tuning: &'a Tuning,
}

impl Upload<'_> {
    /// Sends everything. The blob cannot be read before all of it has been stored.
    pub(super) async fn run(&self) -> Result<(), BlobError> {
        let size = self.source.size();
        if size <= self.tuning.single_put {
            return self.put(self.url, &Part::Whole(0..size)).await;
        }
        let block = self.tuning.block_size(size);
        let blocks = size.div_ceil(block);
        let puts = (0..blocks).map(|index| async move {
            let mut url = self.url.clone();
            url.query_pairs_mut().append_pair("comp", "block").append_pair("blockid", &block_id(self.name, index));
            self.put(&url, &Part::Block(index * block..size.min((index + 1) * block))).await
        });
        stream::iter(puts).buffer_unordered(self.tuning.parallel_blocks.max(1)).try_collect::<()>().await?;
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("comp", "blocklist");
        self.put(&url, &Part::List(Bytes::from(block_list(self.name, blocks)))).await
    }

    /// Sends one part until it is stored or cannot be stored.
    async fn put(&self, url: &Url, part: &Part) -> Result<(), BlobError> {
        let mut pauses = self.tuning.blob_pauses();
        loop {
            match self.put_once(url, part).await {
                Err(BlobError::Again(why)) => {
                    let Some(pause) = pauses.next() else {
                        return Err(BlobError::Again(format!("{why}, {} times", self.tuning.blob_tries)));
                    };
                    tracing::debug!("uploading a part of {} again in {pause:?}: {why}", self.name);
                    tokio::time::sleep(pause).await;
                }
                done => return done,
            }
        }
    }

    async fn put_once(&self, url: &Url, part: &Part) -> Result<(), BlobError> {
        let moved = Moved::default();
        let request = self.request(url, part, &moved);
        let response = tokio::select! {
            response = request.send() => response.map_err(broken)?,
            () = moved.stalled(self.tuning.upload_stall) => {
                return Err(BlobError::Again("the upload stalled".to_owned()));
            }
        };
        if response.status().is_success() { Ok(()) } else { Err(refused(response).await) }
    }

    fn request(&self, url: &Url, part: &Part, moved: &Moved) -> RequestBuilder {
        let request = self.http.put(url.clone());
        match part {
            // Without the type the request is refused. With a length, the pieces are sent without chunked encoding, which blob
            // storage does not accept.
            Part::Whole(range) => self.body(request.header("x-ms-blob-type", "BlockBlob"), range, moved),
            Part::Block(range) => self.body(request, range, moved),
            Part::List(xml) => request.header(CONTENT_TYPE, "application/xml").body(xml.clone()),
        }
    }

    fn body(&self, request: RequestBuilder, range: &Range<u64>, moved: &Moved) -> RequestBuilder {
        with_body(request, self.source, range, self.tuning.piece, moved)
    }
}

/// The content of one request of an upload.
enum Part {
    Whole(Range<u64>),
    Block(Range<u64>),
    List(Bytes),
}

/// The id of a block in base64: 48 bytes, a UUID as text and the index in 12 digits, as in Azure's JavaScript client; some
/// servers accept no other form. The UUID is derived from the name, so that a repeated block replaces itself.
fn block_id(name: &str, index: u64) -> String {
    let hex = hex(&Sha256::digest(name)[..16]);
    let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    STANDARD.encode(format!("{uuid}{index:012}"))
}

fn block_list(name: &str, blocks: u64) -> String {
    let ids =
        (0..blocks).map(|index| format!("<Latest>{}</Latest>", block_id(name, index))).collect::<Vec<_>>().concat();
    format!(r#"<?xml version="1.0" encoding="utf-8"?><BlockList>{ids}</BlockList>"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_ids_are_48_bytes_with_the_index_last() {
        let id = STANDARD.decode(block_id("name", 17)).unwrap();
        assert_eq!(id.len(), 48);
        assert_eq!(&id[36..], b"000000000017");
        assert_eq!(str::from_utf8(&id[..36]).unwrap().split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_ne!(block_id("name", 0), block_id("other", 0));
    }

    #[test]
    fn a_block_list_keeps_the_order() {
        let list = block_list("n", 2);
        let (first, second) = (block_id("n", 0), block_id("n", 1));
        assert!(list.ends_with(&format!("<Latest>{first}</Latest><Latest>{second}</Latest></BlockList>")), "{list}");
    }
}
