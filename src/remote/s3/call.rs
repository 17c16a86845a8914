//! Requests: signed, sent, and repeated where that helps.
//!
//! 1. Each try is a new signed address (a presigned URL), so none is old when it is used. Nothing else authenticates a request.
//! 2. An answer is interpreted by `answer`. Trouble that passes is retried with growing pauses, at least as long as the store asks.

use std::ops::Range;
use std::time::Duration;

use reqwest::Response;
use rusty_s3::Method;
use tokio::time::timeout;

use super::answer::{Fault, fault};
use super::client::S3Client;
use crate::base::http::body;
use crate::remote::RemoteError;
use crate::remote::blob::source::{Moved, Source, with_body};
use crate::remote::blob::{BlobError, broken};

/// Longest answer that is read as a whole, in bytes: a list of 1,000 keys of the greatest length, with every character escaped.
const MAX_ANSWER: usize = 8 << 20;

/// A request without its address.
pub(super) struct Call<'a> {
    pub method: Method,
    pub key: &'a str,
    /// Sorted by name.
    pub query: &'a [(&'a str, &'a str)],
    pub send: Send<'a>,
    /// Whether it must not replace an object.
    pub if_absent: bool,
    /// The permission that it needs, for messages.
    pub needs: &'a str,
}

/// The body of a request.
#[derive(Clone, Copy)]
pub(super) enum Send<'a> {
    Nothing,
    Text(&'a str),
    Part(&'a Source, &'a Range<u64>),
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, key: &'a str, needs: &'a str) -> Self {
        Self { method, key, query: &[], send: Send::Nothing, if_absent: false, needs }
    }
}

impl S3Client {
    /// Sends a request until it succeeds or a retry does not help.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Response, Fault> {
        let (mut pauses, mut renewed, mut is_first) = (self.tuning.blob_pauses(), false, true);
        loop {
            let fault = match self.call_once(call).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            match fault {
                Fault::Expired(why) if !renewed => {
                    tracing::debug!("{why}: signing again");
                    renewed = true;
                }
                Fault::Again(why, least) => {
                    let Some(pause) = pauses.next() else { return Err(Fault::Again(why, least)) };
                    let pause = pause.max(least);
                    tracing::debug!("again in {pause:?}: {why}");
                    tokio::time::sleep(pause).await;
                }
                // An earlier try may have written it, and its answer was lost.
                Fault::Taken if !is_first => return Err(Fault::TakenLater),
                fault => return Err(fault),
            }
            is_first = false;
        }
    }

    async fn call_once(&self, call: &Call<'_>) -> Result<Response, Fault> {
        let url = self.sign(call.method, call.key, call.query);
        let method = match call.method {
            Method::Head => reqwest::Method::HEAD,
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut request = self.http.request(method, url);
        if call.if_absent {
            request = request.header(reqwest::header::IF_NONE_MATCH, "*");
        }
        let moved = Moved::default();
        let limit = match call.send {
            Send::Nothing => self.tuning.lookup_timeout,
            Send::Text(text) => {
                request = request.body(text.to_owned());
                self.tuning.commit_budget
            }
            Send::Part(source, range) => {
                request = with_body(request, source, range, self.tuning.piece, &moved);
                self.tuning.upload_stall
            }
        };
        let sent = tokio::select! {
            sent = request.send() => sent,
            () = moved.stalled(limit) => return Err(Fault::Again(format!("{} did not answer in time", self.place()), Duration::ZERO)),
        };
        let unreachable = |error| match broken(error) {
            BlobError::Again(why) => {
                Fault::Again(format!("{} cannot be reached ({why})", self.place()), Duration::ZERO)
            }
            other => Fault::Again(format!("{other:?}"), Duration::ZERO),
        };
        let answer = sent.map_err(unreachable)?;
        if answer.status().is_success() { Ok(answer) } else { Err(fault(answer, self.place(), call.needs).await) }
    }

    /// Like [`S3Client::call`], and returns the text of the answer.
    pub(super) async fn text(&self, call: &Call<'_>, what: &str) -> Result<String, RemoteError> {
        let answer = self.call(call).await.map_err(|fault| self.error(fault, what))?;
        match timeout(self.tuning.rpc_timeout, body(answer, MAX_ANSWER)).await {
            Ok(Ok(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Ok(Err(error)) => Err(RemoteError::Failed(format!("Cannot {what} in {}: {error}.", self.place()))),
            Err(_) => Err(RemoteError::Failed(format!("Cannot {what} in {}: the answer stalled.", self.place()))),
        }
    }

    /// The error of a request that was to do `what`.
    pub(super) fn error(&self, fault: Fault, what: &str) -> RemoteError {
        let place = self.place();
        match fault {
            Fault::Again(why, pause) if !pause.is_zero() => {
                RemoteError::Throttled(format!("Cannot {what}, after {} tries: {why}.", self.tuning.blob_tries))
            }
            Fault::Again(why, _) => {
                RemoteError::Failed(format!("Cannot {what}, after {} tries: {why}.", self.tuning.blob_tries))
            }
            Fault::Expired(why) => RemoteError::Refused(format!(
                "Cannot {what}: {why}, though the address was just signed. Set the clock of this machine."
            )),
            Fault::Missing(why) => RemoteError::Gone(format!("Cannot {what}: {why}.")),
            Fault::Short(why) => RemoteError::Short(format!("Cannot {what}: {why}.")),
            Fault::NoConditions(why) => {
                RemoteError::Refused(format!("Cannot {what}: {why}. The store does not support this request."))
            }
            Fault::Taken | Fault::TakenLater => {
                RemoteError::Failed(format!("Cannot {what}: it was changed in {place} at the same time."))
            }
            Fault::Final(error) => match error {
                RemoteError::Refused(why) => RemoteError::Refused(format!("Cannot {what}: {why}")),
                RemoteError::Failed(why) => RemoteError::Failed(format!("Cannot {what}: {why}")),
                RemoteError::Quota(why) => RemoteError::Quota(format!("Cannot {what}: {why}")),
                other => other,
            },
        }
    }
}
