//! Requests to the REST interface that wait for GitHub's limits and are repeated when the server fails.
//!
//! GitHub limits requests in two ways: 1,000 an hour for a job's token, and a secondary limit for many requests in a short time. Both
//! are answered with 403 or 429 and the time to wait, which is waited for up to [`Tuning::rest_patience`] in total.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use octocrab::Octocrab;
use reqwest::header::{HeaderMap, LOCATION};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::config::RestConfig;
use super::redact::excerpt;
use super::rest::{Rest, short};
use super::tuning::Tuning;
use crate::base::bounds::{MAX_ANSWER, from_json};
use crate::base::clock::now;
use crate::remote::RemoteError;

/// Number of attempts when the server fails.
const TRIES: u32 = 4;
/// Largest page of a list in bytes: a hundred comments of 64 KiB, or a hundred runs, each of which describes its repository twice.
pub(super) const MAX_PAGE: usize = 16 << 20;

/// What to do. A request that creates something is not repeated when its answer is lost.
#[derive(Clone, Copy)]
pub(super) enum Call<'a> {
    Get,
    Delete,
    Post(&'a Value),
    Patch(&'a Value),
}

/// An answer other than success.
#[derive(Debug)]
pub(crate) struct Refused {
    pub status: u16,
    pub message: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The server limits requests for longer than this step waits.
    #[error(
        "GitHub limits requests ({message}) and asks to wait {seconds} s, so this run ends here: it could not {what}."
    )]
    Limited { what: String, message: String, seconds: u64 },
    /// Everything else, retries included.
    #[error("{0}")]
    Failed(String),
}

/// An answer, a refusal, or neither.
pub(crate) type Answer<T> = Result<Result<T, Refused>, CallError>;

/// What the server sent with a status of success, or a redirect.
pub(super) struct Reply {
    status: u16,
    /// How long it asks to wait.
    wait: Option<Duration>,
    /// Where a redirect leads, which nobody has followed.
    pub location: Option<String>,
    body: Vec<u8>,
}

/// The REST interface of one repository.
pub(crate) struct Requests {
    octocrab: Octocrab,
    /// A client that sends no token and follows no redirect.
    pub(super) http: reqwest::Client,
    /// Whether the interface is reached by HTTPS.
    pub(super) is_secure: bool,
    /// `owner/name`.
    pub repository: String,
    pub(super) tuning: Arc<Tuning>,
    /// The time that may still be waited.
    patience: Mutex<Duration>,
}

impl Requests {
    /// Creates the interface. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// [`RemoteError::Unavailable`] when the address, the repository or the token is invalid.
    pub(crate) fn new(config: &RestConfig, tuning: Tuning, ca_file: Option<&Path>) -> Result<Self, RemoteError> {
        let http = crate::base::http::caller(ca_file).map_err(|error| RemoteError::Unavailable(error.to_string()))?;
        let tuning = Arc::new(tuning);
        let Rest { octocrab, owner, repository, .. } = Rest::new(http.clone(), config, &tuning)?;
        let patience = Mutex::new(tuning.rest_patience);
        let is_secure = config.api_url.starts_with("https:");
        Ok(Self { octocrab, http, is_secure, repository: format!("{owner}/{repository}"), tuning, patience })
    }

    /// Sends a request below the repository until it is answered.
    pub(super) async fn send(&self, what: &str, call: Call<'_>, path: &str) -> Answer<Vec<u8>> {
        self.send_to(what, call, &format!("/repos/{}{path}", self.repository)).await
    }

    /// Sends a request until it is answered.
    pub(super) async fn send_to(&self, what: &str, call: Call<'_>, uri: &str) -> Answer<Vec<u8>> {
        let reply = self.reply(what, call, uri).await?;
        Ok(reply.and_then(|Reply { status, location, body, .. }| match location {
            None => Ok(body),
            Some(_) => Err(Refused { status, message: "the answer is somewhere else".to_owned() }),
        }))
    }

    /// Sends a request until it is answered, also with a redirect.
    pub(super) async fn reply(&self, what: &str, call: Call<'_>, uri: &str) -> Answer<Reply> {
        let mut failures = 0;
        loop {
            let answer = tokio::time::timeout(self.tuning.rpc_timeout, self.once(call, uri)).await;
            let why = match answer {
                Ok(Ok(reply)) if (200..300).contains(&reply.status) || reply.location.is_some() => {
                    return Ok(Ok(reply));
                }
                Ok(Ok(Reply { status, wait, body, .. })) => {
                    let message = message_in(&body);
                    let is_limit = matches!(status, 403 | 429)
                        && (status == 429 || wait.is_some() || message.to_lowercase().contains("rate limit"));
                    if is_limit {
                        // Without a time, GitHub asks for at least a minute.
                        self.wait(what, wait.unwrap_or(self.tuning.rest_pause), &message).await?;
                        continue;
                    }
                    if status < 500 {
                        return Ok(Err(Refused { status, message }));
                    }
                    format!("it answered {status}, {message:?}")
                }
                Ok(Err(why)) => why,
                Err(_) => format!("no answer in {} s", self.tuning.rpc_timeout.as_secs()),
            };
            failures += 1;
            if failures >= TRIES || matches!(call, Call::Post(_)) {
                return Err(CallError::Failed(format!("Cannot {what}: {why}.")));
            }
            tokio::time::sleep(self.tuning.rpc_delay * 2_u32.pow(failures)).await;
        }
    }

    /// Sends one request.
    async fn once(&self, call: Call<'_>, uri: &str) -> Result<Reply, String> {
        let (response, most) = match call {
            Call::Get => (self.octocrab._get(uri).await, MAX_PAGE),
            Call::Delete => (self.octocrab._delete(uri, None::<&()>).await, MAX_ANSWER),
            Call::Post(body) => (self.octocrab._post(uri, Some(body)).await, MAX_ANSWER),
            Call::Patch(body) => (self.octocrab._patch(uri, Some(body)).await, MAX_ANSWER),
        };
        let response = response.map_err(|error| short(&error))?;
        let (status, wait) = (response.status().as_u16(), wait_in(response.headers()));
        // Only the temporary redirect, by which GitHub hands a download over. A repository that was renamed is another matter.
        let location = response.headers().get(LOCATION).filter(|_| status == 302);
        let location = location.and_then(|address| Some(address.to_str().ok()?.to_owned()));
        let body = Limited::new(response.into_body(), most).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?.to_bytes();
        Ok(Reply { status, wait, location, body: body.to_vec() })
    }

    /// Waits for the server, as long as there is patience left.
    async fn wait(&self, what: &str, time: Duration, message: &str) -> Result<(), CallError> {
        let time = time.max(Duration::from_millis(1));
        {
            let mut patience = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(left) = patience.checked_sub(time) else {
                let message = excerpt(message.as_bytes());
                return Err(CallError::Limited { what: what.to_owned(), message, seconds: time.as_secs() });
            };
            *patience = left;
        }
        tracing::info!("GitHub limits requests; waiting {} s.", time.as_secs());
        tokio::time::sleep(time).await;
        Ok(())
    }

    /// Requests a path below the repository, and reads its answer.
    pub(super) async fn get<T: DeserializeOwned>(&self, what: &str, path: &str) -> Answer<T> {
        self.send(what, Call::Get, path)
            .await?
            .map_or_else(|refused| Ok(Err(refused)), |body| read(what, &body).map(Ok))
    }
}

/// Reads the answer to a request.
pub(super) fn read<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, CallError> {
    from_json(body).map_err(|error| CallError::Failed(format!("Cannot {what}: the answer cannot be read: {error}.")))
}

impl Refused {
    /// A sentence that names the permission that is probably missing, if the answer is one of those for a missing permission.
    pub(crate) fn explain(&self, what: &str, permission: &str, repository: &str) -> String {
        let Self { status, message } = self;
        match status {
            401 => format!("Cannot {what}: GitHub does not accept the token ({message:?}). Use a valid one."),
            403 | 404 => format!(
                "Cannot {what}: GitHub answers {status} ({message:?}). The token needs the permission `{permission}` for {repository}. \
                 In a workflow, add it under `permissions:` of the job."
            ),
            _ => format!("Cannot {what}: GitHub answers {status}, {message:?}."),
        }
    }

    /// Whether it is about the token and what it may do.
    pub(crate) fn is_about_rights(&self) -> bool {
        matches!(self.status, 401 | 403 | 404)
    }
}

/// The message in an error of the REST interface, without secrets.
fn message_in(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    let message = serde_json::from_slice::<Message>(body).map(|found| found.message);
    message.map_or_else(|_| excerpt(body), |message| excerpt(message.as_bytes()))
}

/// How long an answer asks us to wait: `retry-after` in seconds, or until `x-ratelimit-reset` if no requests remain.
fn wait_in(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    if let Some(seconds) = number("retry-after") {
        return Some(Duration::from_secs(seconds));
    }
    let reset = number("x-ratelimit-reset").filter(|_| number("x-ratelimit-remaining") == Some(0))?;
    Some(Duration::from_secs(reset.saturating_sub(now()) + 1))
}
