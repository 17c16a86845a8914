//! Downloads: whole blobs and ranges of them, and the faults of their bodies.

use std::io::{self, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::blobs::{BlobError, Content};
use super::clock::http_date;
use super::faults::{Fault, FaultName, Stage};
use super::link::{Direction, Pace};
use super::operation::{Call, Operation};
use super::sas;
use super::service::Service;

/// Small enough for the link model to be smooth, large enough for the disk.
const CHUNK: u64 = 128 << 10;

/// Answers a GET or a HEAD of a blob.
///
/// # Errors
/// The answer of the blob store.
pub(super) fn get(service: &Arc<Service>, call: &Call) -> Result<Response, BlobError> {
    sas::check(&service.mint, call, "r", service.clock.now())?;
    let content = service.blobs.content(call.blob()).ok_or_else(BlobError::not_found)?;
    if call.header("if-match").is_some_and(|etag| etag != "*" && etag != content.etag) {
        return Err(BlobError::new(412, "ConditionNotMet", "The blob is another one than the condition names."));
    }
    let mut range = range(call, content.length)?;
    service.touch(call.blob());
    let fault = match call.operation {
        Operation::Download => service.strike(Operation::Download, Stage::Body),
        _ => None,
    };
    let whole = fault.as_ref().is_some_and(|fault| fault.name == FaultName::IgnoreRange);
    if whole {
        range = None;
    }
    let mut bytes = range.clone().unwrap_or(0..content.length);
    match fault.as_ref().map(|fault| (fault.name, fault.bytes.unwrap_or(0))) {
        Some((FaultName::Truncate, most)) => bytes.end = bytes.end.min(bytes.start + most.max(1)),
        Some((FaultName::Shift, _)) if range.is_some() && bytes.end - bytes.start > 1 => bytes.start += 1,
        _ => {}
    }
    let mut answer = Response::builder()
        .status(if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK })
        .header("content-type", call.query("rsct").unwrap_or("application/octet-stream"))
        .header("accept-ranges", "bytes")
        .header("etag", &content.etag)
        .header("last-modified", http_date(content.modified))
        .header("x-ms-blob-type", "BlockBlob");
    if range.is_some() {
        let total = content.length;
        answer = answer.header("content-range", format!("bytes {}-{}/{total}", bytes.start, bytes.end - 1));
    }
    if !whole {
        answer = answer.header("content-length", bytes.end - bytes.start);
    }
    let body = match call.operation {
        Operation::Head => Body::empty(),
        _ => Body::from_stream(Sending::new(service, &content, bytes, fault).stream()),
    };
    Ok(answer.body(body).expect("the headers are plain text"))
}

/// The range that a request asks for, cut at the end of the blob. Azure looks at its own header first.
fn range(call: &Call, length: u64) -> Result<Option<Range<u64>>, BlobError> {
    let Some(text) = call.header("x-ms-range").or_else(|| call.header("range")) else {
        return Ok(None);
    };
    let (first, last) = parse_range(text)
        .ok_or_else(|| BlobError::new(400, "InvalidHeaderValue", "The range is not of the form bytes=a-b."))?;
    if first >= length {
        let mut error = BlobError::new(416, "InvalidRange", "The range is not satisfiable for the blob's size.");
        error.total = Some(length);
        return Err(error);
    }
    Ok(Some(first..last.map_or(length, |last| length.min(last + 1))))
}

fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse().ok()?;
    if last.is_empty() {
        return Some((first, None));
    }
    let last = last.parse().ok()?;
    (last >= first).then_some((first, Some(last)))
}

/// A body on its way out.
struct Sending {
    service: Arc<Service>,
    content: Content,
    /// What is still to be sent, as offsets in the blob.
    bytes: Range<u64>,
    sent: u64,
    fault: Option<Fault>,
    pace: Pace,
    open: Option<(usize, tokio::fs::File)>,
}

impl Sending {
    fn new(service: &Arc<Service>, content: &Content, bytes: Range<u64>, fault: Option<Fault>) -> Self {
        let pace = service.link.open(Direction::Down);
        Self { service: Arc::clone(service), content: content.clone(), bytes, sent: 0, fault, pace, open: None }
    }

    fn stream(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::try_unfold(self, |mut sending| async move { Ok(sending.next().await?.map(|chunk| (chunk, sending))) })
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut most = CHUNK.min(self.bytes.end - self.bytes.start);
        if let Some(limit) = self.limit() {
            most = most.min(limit - self.sent);
            if most == 0 {
                return self.end_early().await;
            }
        }
        if most == 0 {
            return Ok(None);
        }
        if let Some(fault) = self.fault.as_ref().filter(|fault| fault.name == FaultName::Trickle) {
            let rate = fault.bytes.unwrap_or(1).max(1);
            tokio::time::sleep(Duration::from_millis(1000 / rate.min(1000))).await;
            most = most.min(rate.div_ceil(1000));
        }
        let chunk = self.read(most as usize).await?;
        self.pace.pass(chunk.len()).await;
        let chunk = self.corrupt(chunk);
        let length = chunk.len() as u64;
        self.bytes.start += length;
        self.sent += length;
        self.service.stats.sent(length);
        Ok(Some(chunk))
    }

    /// After how many bytes a fault stops the body.
    fn limit(&self) -> Option<u64> {
        let fault = self.fault.as_ref()?;
        matches!(fault.name, FaultName::Cut | FaultName::Stall).then(|| fault.bytes.unwrap_or(0))
    }

    async fn end_early(&self) -> io::Result<Option<Bytes>> {
        if self.fault.as_ref().is_some_and(|fault| fault.name == FaultName::Stall) {
            std::future::pending::<()>().await;
        }
        // Leaves the server the time to send what it still holds before it drops the connection.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Err(io::ErrorKind::ConnectionReset.into())
    }

    fn corrupt(&self, chunk: Bytes) -> Bytes {
        let Some(offset) = self.fault.as_ref().filter(|fault| fault.name == FaultName::Corrupt) else {
            return chunk;
        };
        let Some(at) = offset.bytes.unwrap_or(0).checked_sub(self.sent).filter(|at| *at < chunk.len() as u64) else {
            return chunk;
        };
        let mut changed = BytesMut::from(chunk);
        changed[at as usize] ^= 0x55;
        changed.freeze()
    }

    /// At most `most` bytes from where we are; they end with the segment they are in.
    async fn read(&mut self, most: usize) -> io::Result<Bytes> {
        let (index, offset) = self.locate();
        let segment = &self.content.segments[index];
        if self.open.as_ref().is_none_or(|(open, _)| *open != index) {
            let mut file = tokio::fs::File::open(&segment.path).await?;
            file.seek(SeekFrom::Start(offset)).await?;
            self.open = Some((index, file));
        }
        let (_, file) = self.open.as_mut().expect("it was opened above");
        let wanted = most.min((segment.length - offset) as usize);
        let mut chunk = BytesMut::zeroed(wanted);
        file.read_exact(&mut chunk).await?;
        Ok(chunk.freeze())
    }

    /// The segment we are in, and where in it.
    fn locate(&self) -> (usize, u64) {
        let mut offset = self.bytes.start;
        for (index, segment) in self.content.segments.iter().enumerate() {
            if offset < segment.length {
                return (index, offset);
            }
            offset -= segment.length;
        }
        unreachable!("ranges end with the blob");
    }
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_range("bytes=0-4"), Some((0, Some(4))));
        assert_eq!(parse_range("bytes=5-"), Some((5, None)));
        assert_eq!(parse_range("bytes=5-4"), None);
        assert_eq!(parse_range("bytes=-4"), None);
        assert_eq!(parse_range("lines=1-2"), None);
    }
}
