//! Reads blobs, by ranges or from start to end, and resumes after broken connections.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Response, StatusCode};
use tokio::time::{Instant, timeout};
use url::Url;

use super::{BlobError, Blobs, broken};
use crate::remote::tuning::Tuning;
use crate::remote::{Entry, RemoteError};

/// Reads exactly the bytes `range` of an entry.
pub(in crate::remote) async fn read(blobs: &dyn Blobs, entry: &Entry, range: Range<u64>) -> Result<Bytes, RemoteError> {
    let want = range.end.saturating_sub(range.start) as usize;
    let mut got = BytesMut::with_capacity(want);
    let mut tries = Tries::new(blobs);
    while got.len() < want {
        let url = blobs.address(entry).await?;
        let before = got.len();
        let result = read_on(blobs, &url, &range, &mut got).await;
        tries.moved(blobs, got.len() - before);
        if let Err(error) = result {
            tries.recover(blobs, entry, &url, error).await?;
        }
    }
    Ok(got.freeze())
}

/// Appends the missing bytes of `range` to `got`, as far as one answer provides them.
async fn read_on(blobs: &dyn Blobs, url: &Url, range: &Range<u64>, got: &mut BytesMut) -> Result<(), BlobError> {
    let from = range.start + got.len() as u64;
    let mut body = open(blobs, url, from, Some(range.end)).await?;
    let mut missing = (range.end - from) as usize;
    while missing > 0 {
        let piece = body.next().await?.ok_or_else(ended_early)?;
        let piece = &piece[..piece.len().min(missing)];
        got.extend_from_slice(piece);
        missing -= piece.len();
    }
    Ok(())
}

/// Streams the whole entry in pieces. Waits for the first answer, so that an unreadable entry is reported at once.
pub(in crate::remote) async fn stream(
    blobs: Arc<dyn Blobs>,
    entry: &Entry,
) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError> {
    let mut flow = Flow { tries: Tries::new(&*blobs), blobs, entry: entry.clone(), offset: 0, body: None };
    let first = flow.next().await?;
    let rest = stream::try_unfold(flow, |mut flow| async move { Ok(flow.next().await?.map(|piece| (piece, flow))) });
    Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
}

/// A running stream.
struct Flow {
    blobs: Arc<dyn Blobs>,
    entry: Entry,
    offset: u64,
    body: Option<(Url, Body)>,
    tries: Tries,
}

impl Flow {
    async fn next(&mut self) -> Result<Option<Bytes>, RemoteError> {
        loop {
            let (url, mut body) = match self.body.take() {
                Some(open) => open,
                None => match self.open().await? {
                    (url, Ok(body)) => (url, body),
                    (url, Err(error)) => {
                        self.tries.recover(&*self.blobs, &self.entry, &url, error).await?;
                        continue;
                    }
                },
            };
            let error = match body.next().await {
                Ok(Some(piece)) => {
                    self.offset += piece.len() as u64;
                    self.tries.moved(&*self.blobs, piece.len());
                    self.body = Some((url, body));
                    return Ok(Some(piece));
                }
                Ok(None) if body.total.is_none_or(|total| self.offset >= total) => return Ok(None),
                Ok(None) => ended_early(),
                Err(error) => error,
            };
            self.tries.recover(&*self.blobs, &self.entry, &url, error).await?;
        }
    }

    async fn open(&self) -> Result<(Url, Result<Body, BlobError>), RemoteError> {
        let url = self.blobs.address(&self.entry).await?;
        let body = open(&*self.blobs, &url, self.offset, None).await;
        Ok((url, body))
    }
}

/// The body of an answer, including bytes before the first requested one.
struct Body {
    response: Response,
    skip: u64,
    tuning: Arc<Tuning>,
    /// Time spent waiting, and the bytes received in that time.
    waited: Duration,
    came: u64,
    /// The size of the whole blob, if the answer says it.
    total: Option<u64>,
}

impl Body {
    /// Returns the next requested bytes.
    async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        loop {
            let start = Instant::now();
            let piece = timeout(self.tuning.stall, self.response.chunk()).await;
            let Some(mut piece) = piece.map_err(|_| stalled())?.map_err(broken)? else { return Ok(None) };
            self.keep_pace(start.elapsed(), piece.len() as u64)?;
            let skip = self.skip.min(piece.len() as u64);
            self.skip -= skip;
            piece.advance(skip as usize);
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }
}

impl Body {
    /// Only waiting time counts, because the consumer of the bytes may be slow too.
    fn keep_pace(&mut self, waited: Duration, came: u64) -> Result<(), BlobError> {
        (self.waited, self.came) = (self.waited + waited, self.came + came);
        if self.waited < self.tuning.slow_window {
            return Ok(());
        }
        let (waited, came) = (std::mem::take(&mut self.waited), std::mem::take(&mut self.came));
        if came >= self.tuning.slow_bytes {
            return Ok(());
        }
        Err(BlobError::Slow(format!("it was too slow, with {came} bytes in {:.1} s", waited.as_secs_f64())))
    }
}

fn stalled() -> BlobError {
    BlobError::Again("the download stalled".to_owned())
}

fn ended_early() -> BlobError {
    BlobError::Again("the answer ended early".to_owned())
}

/// Requests the bytes from `from` to `to`, or to the end. A server that ignores ranges is remembered, and the bytes that it sends
/// before `from` are skipped.
async fn open(blobs: &dyn Blobs, url: &Url, from: u64, to: Option<u64>) -> Result<Body, BlobError> {
    let whole = from == 0 && to.is_none();
    let ranged = !whole && blobs.ranges().are_requested();
    let mut request = blobs.http().get(url.clone());
    if ranged {
        let last = to.map_or_else(String::new, |to| (to - 1).to_string());
        request = request.header(RANGE, format!("bytes={from}-{last}"));
    }
    let response = timeout(blobs.tuning().stall, request.send()).await.map_err(|_| stalled())?.map_err(broken)?;
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if response.status().is_success() && kind.starts_with("text/html") {
        return Err(BlobError::Again("the answer was a web page instead of its bytes".to_owned()));
    }
    let (skip, total) = match response.status() {
        StatusCode::PARTIAL_CONTENT if ranged => (0, total_of(&response, from)?),
        StatusCode::OK => {
            let length = response.content_length();
            // A range that covers the whole blob may be answered with the whole blob, which says nothing about other ranges.
            let is_ignored = ranged && !(from == 0 && length.is_some() && length == to);
            if is_ignored && !blobs.ranges().ignore(&blobs.place()) {
                return Err(BlobError::Failed(
                    "the answer was the whole entry instead of the requested range".to_owned(),
                ));
            }
            (from, length)
        }
        _ => return Err(blobs.refused(response).await),
    };
    if let Some((total, to)) = total.zip(to).filter(|(total, to)| total < to) {
        return Err(BlobError::Short(format!("it has {total} bytes, but at least {to} were expected")));
    }
    let tuning = Arc::clone(blobs.tuning());
    Ok(Body { response, skip, tuning, waited: Duration::ZERO, came: 0, total })
}

/// Checks that an answer contains the part that starts at `from`, and returns the size of the whole blob if known.
fn total_of(response: &Response, from: u64) -> Result<Option<u64>, BlobError> {
    let header = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parse = || {
        let (range, total) = header.strip_prefix("bytes ")?.split_once('/')?;
        let (start, _) = range.split_once('-')?;
        Some((start.parse::<u64>().ok()?, if total == "*" { None } else { Some(total.parse().ok()?) }))
    };
    match parse() {
        Some((start, total)) if start == from => Ok(total),
        _ => Err(BlobError::Again(format!("the answer has the range {header:?} instead of the one from {from}"))),
    }
}

/// The remaining retries of a transfer.
struct Tries {
    pauses: ExponentialBackoff,
    renewed: bool,
    /// Whether it was too slow before.
    slow: bool,
    moved: u64,
}

impl Tries {
    fn new(blobs: &dyn Blobs) -> Self {
        Self { pauses: blobs.tuning().blob_pauses(), renewed: false, slow: false, moved: 0 }
    }

    /// Counts received bytes. Enough progress restores all retries, so that only a stalled transfer fails.
    fn moved(&mut self, blobs: &dyn Blobs, bytes: usize) {
        self.moved += bytes as u64;
        if self.moved >= blobs.tuning().progress {
            *self = Self { slow: self.slow, ..Self::new(blobs) };
        }
    }

    /// Prepares a retry, or returns why there is none.
    async fn recover(
        &mut self,
        blobs: &dyn Blobs,
        entry: &Entry,
        url: &Url,
        error: BlobError,
    ) -> Result<(), RemoteError> {
        let what = format!("the {} {} in {}", entry.kind.word(), entry.name, blobs.place());
        match error {
            // One answer proves nothing about the entry: a new lookup shows whether it exists and returns a new address.
            BlobError::Expired(why) | BlobError::Gone(why) | BlobError::Short(why) if !self.renewed => {
                tracing::debug!("{}: {why}", entry.name);
                self.renewed = true;
                blobs.renew(entry, url).await
            }
            BlobError::Slow(why) if !self.slow => {
                tracing::debug!("{}: {why}", entry.name);
                self.slow = true;
                blobs.renew(entry, url).await
            }
            BlobError::Again(why) => self.pause(blobs, entry, &why, Duration::ZERO).await,
            BlobError::Busy(why, least) => self.pause(blobs, entry, &why, least).await,
            BlobError::Short(why) => Err(RemoteError::Short(format!("Cannot read {what}: {why}."))),
            BlobError::Expired(why) | BlobError::Gone(why) | BlobError::Slow(why) | BlobError::Failed(why) => {
                Err(RemoteError::Failed(format!("Cannot read {what}: {why}.")))
            }
        }
    }

    /// Waits before the next try, at least for `least`, or returns that there is none.
    async fn pause(&mut self, blobs: &dyn Blobs, entry: &Entry, why: &str, least: Duration) -> Result<(), RemoteError> {
        let Some(pause) = self.pauses.next().map(|pause| pause.max(least)) else {
            let (kind, name, place, tries) = (entry.kind.word(), &entry.name, blobs.place(), blobs.tuning().blob_tries);
            return Err(RemoteError::Failed(format!(
                "Cannot read the {kind} {name} in {place}, after {tries} tries: {why}."
            )));
        };
        tracing::debug!("reading {} again in {pause:?}: {why}", entry.name);
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
