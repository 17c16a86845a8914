//! Bytes behind signed addresses: what GitHub's blob storage and object stores have in common. No token is used here: a request carries
//! only a signed address.
//!
//! 1. [`Blobs`] is what a download needs of its remote: addresses, and the meaning of answers.
//! 2. `download` reads ranges or streams, resumes after broken connections and paces itself.
//! 3. `source` sends the parts of an upload.

pub(super) mod download;
pub(super) mod source;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::redact::{chain, excerpt};
use super::tuning::Tuning;
use super::{Entry, RemoteError};

/// A remote whose entries are read from signed addresses.
#[async_trait]
pub(super) trait Blobs: Send + Sync + 'static {
    fn http(&self) -> &Client;

    fn tuning(&self) -> &Arc<Tuning>;

    /// The remote in a message, such as "GitHub's cache".
    fn place(&self) -> String;

    /// Returns an address for reading `entry`.
    async fn address(&self, entry: &Entry) -> Result<Url, RemoteError>;

    /// Replaces an address that did not work.
    ///
    /// # Errors
    /// When there is none: [`RemoteError::Gone`] if the entry no longer exists.
    async fn renew(&self, entry: &Entry, refused: &Url) -> Result<(), RemoteError>;

    /// Converts an answer with an unexpected status to an error.
    async fn refused(&self, response: Response) -> BlobError;

    fn ranges(&self) -> &Ranges;
}

/// Whether a server answers with the ranges that it is asked for.
#[derive(Default)]
pub(super) struct Ranges {
    ignored: AtomicU32,
    insists: AtomicBool,
}

/// Number of answers without their range that a reader who insists on ranges refuses.
const REFUSED: u32 = 3;

impl Ranges {
    /// Whether no answer has ignored its range.
    pub(super) fn work(&self) -> bool {
        self.ignored.load(Ordering::Relaxed) == 0
    }

    /// From now on, a whole entry instead of a range is refused, and ranges are requested again. A reader of many small ranges would
    /// otherwise download the entry for each of them, because of a single answer. If it stays like this, whole entries are accepted.
    pub(super) fn insist(&self) {
        self.insists.store(true, Ordering::Relaxed);
    }

    fn are_requested(&self) -> bool {
        self.work() || self.insists.load(Ordering::Relaxed)
    }

    /// Records that an answer of `place` ignored its range. Returns whether the answer is used.
    fn ignore(&self, place: &str) -> bool {
        let before = self.ignored.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            tracing::debug!("{place} ignores ranges");
        }
        before >= REFUSED || !self.insists.load(Ordering::Relaxed)
    }
}

/// Longest time to wait for a body that only explains an error.
const EXPLANATION: Duration = Duration::from_secs(5);

/// Why a blob request failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BlobError {
    /// A retry may help.
    Again(String),
    /// A retry may help after this time.
    Busy(String, Duration),
    /// The signed address is not valid, or no longer.
    Expired(String),
    /// The blob does not exist.
    Gone(String),
    /// It is shorter than requested.
    Short(String),
    /// The transfer is too slow.
    Slow(String),
    /// A retry does not help.
    Failed(String),
}

/// Converts a connection error without naming the address.
pub(super) fn broken(error: reqwest::Error) -> BlobError {
    BlobError::Again(chain(&error.without_url()))
}

/// Converts an answer with an unexpected status to an error.
pub(super) async fn refused(response: Response) -> BlobError {
    let status = response.status();
    let code = response.headers().get("x-ms-error-code").and_then(|code| code.to_str().ok()).map(str::to_owned);
    let said = match code {
        Some(code) => code,
        // Only the first part is useful, and the body may be long.
        None if response.content_length().is_some_and(|length| length <= 4096) => {
            let body = tokio::time::timeout(EXPLANATION, response.bytes()).await;
            body.ok().and_then(Result::ok).map(|body| excerpt(&body)).unwrap_or_default()
        }
        None => String::new(),
    };
    let what = format!("blob storage answered {status} {said}").trim_end().to_owned();
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => BlobError::Expired(what),
        StatusCode::NOT_FOUND | StatusCode::GONE => BlobError::Gone(what),
        StatusCode::RANGE_NOT_SATISFIABLE => BlobError::Short(what),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => BlobError::Again(what),
        status if status.is_server_error() => BlobError::Again(what),
        _ => BlobError::Failed(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::http::client;
    use crate::remote::github::testing::{answer, serve};
    use axum::Router;
    use axum::extract::Path;
    use axum::routing::get;

    #[tokio::test]
    async fn every_status_has_its_meaning() {
        let router = Router::new()
            .route("/{status}", get(|Path(status): Path<u16>| async move { answer(status, &[], "sig=secret") }));
        let base = serve(router).await;
        let http = client(None).unwrap();
        for (statuses, meaning) in [
            (&[408, 429, 500, 502, 503, 504][..], "Again"),
            (&[401, 403], "Expired"),
            (&[404, 410], "Gone"),
            (&[416], "Short"),
            (&[400, 409, 411, 302], "Failed"),
        ] {
            for status in statuses {
                let response = http.get(format!("{base}/{status}?sig=secret")).send().await.unwrap();
                let error = format!("{:?}", refused(response).await);
                assert!(error.starts_with(meaning) && error.contains(&status.to_string()), "{status}: {error}");
                assert!(!error.contains("secret"), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn a_broken_connection_does_not_name_the_address() {
        let error = client(None).unwrap().get("http://127.0.0.1:1/x?sig=secret").send().await.unwrap_err();
        let BlobError::Again(text) = broken(error) else { panic!("not worth another try") };
        assert!(!text.contains("secret") && !text.is_empty(), "{text}");
    }
}
