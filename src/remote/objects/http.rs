//! Objects of an HTTP server: read with `GET`, written with `PUT`, as Nix does with `nix copy --to https://…`.
//!
//! 1. Passing trouble (no connection, 408, 429, 500 to 504) is retried with growing pauses, at least as long as the server asks.
//! 2. No redirect is followed, so that the login reaches only the host that the user named.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::{ObjectError, Objects};
use crate::base::env_vars::{NIX_CACHE_PUSH_LOGIN, NIX_CACHE_PUSH_TOKEN, ca_file};
use crate::base::http::{BodyError, body, caller};
use crate::remote::blob::source::{Moved, Source, with_body};
use crate::remote::blob::{BlobError, broken};
use crate::remote::s3::is_near;
use crate::remote::tuning::Tuning;

/// Longest pause that a server can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What proves to a server who writes.
pub(crate) struct Login(HeaderValue);

impl Login {
    /// Reads the login from the environment, with `variable`. None if there is none.
    ///
    /// # Errors
    /// When it cannot be used. The sentence does not contain it.
    pub(crate) fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let given = |name| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let text = match (given(NIX_CACHE_PUSH_TOKEN), given(NIX_CACHE_PUSH_LOGIN)) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(format!("Both {NIX_CACHE_PUSH_TOKEN} and {NIX_CACHE_PUSH_LOGIN} are set. Keep one."));
            }
            (Some(token), None) => format!("Bearer {token}"),
            (None, Some(login)) if login.contains(':') => format!("Basic {}", STANDARD.encode(login)),
            (None, Some(_)) => return Err(format!("{NIX_CACHE_PUSH_LOGIN} has no colon. Write it as USER:PASSWORD.")),
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| format!("{NIX_CACHE_PUSH_TOKEN} contains characters that no token has."))?;
        value.set_sensitive(true);
        Ok(Some(Self(value)))
    }
}

/// Parses the address of a server, with a slash at the end.
///
/// # Errors
/// What is wrong with it, and what to write instead; without what could be a secret.
pub(crate) fn http_address(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| format!("it is not a URL ({error})"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "it contains credentials. Remove them, and set {NIX_CACHE_PUSH_LOGIN} or {NIX_CACHE_PUSH_TOKEN} in `env` from a secret"
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it has a query or fragment. Remove everything from the `?` or `#` on".to_owned());
    }
    if url.scheme() == "http" && !url.host().is_some_and(|host| is_near(&host)) {
        return Err(
            "the scheme http would show login and content to the whole network. Use https; http is accepted only for \
                    this machine and private networks"
                .to_owned(),
        );
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

pub(crate) struct HttpObjects {
    client: Client,
    base: Url,
    login: Option<Login>,
    tuning: Tuning,
    place: String,
}

/// Why a request failed.
enum Fault {
    Again(String, Duration),
    Final(ObjectError),
}

impl HttpObjects {
    /// The objects below `base`, an address as [`http_address`] returns it.
    ///
    /// # Errors
    /// When HTTPS does not work on this machine.
    pub(crate) fn new(base: Url, login: Option<Login>, tuning: Tuning) -> Result<Self, ObjectError> {
        let client = caller(ca_file().as_deref()).map_err(|error| ObjectError::Refused(error.to_string()))?;
        let place = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, base, login, tuning, place })
    }

    /// Sends a request until it succeeds or a retry does not help. None if the object does not exist.
    async fn send(
        &self,
        method: &Method,
        name: &str,
        source: Option<&Source>,
    ) -> Result<Option<Response>, ObjectError> {
        let url = self.base.join(name).map_err(|error| ObjectError::Failed(format!("Cannot use {name}: {error}.")))?;
        let what = if source.is_some() { "write" } else { "read" };
        let mut pauses = self.tuning.blob_pauses();
        loop {
            let fault = match self.send_once(method, url.clone(), source).await {
                Ok(answer) if answer.status().is_success() => return Ok(Some(answer)),
                Ok(answer) if source.is_none() && is_absent(answer.status()) => return Ok(None),
                Ok(answer) => self.meaning(&answer, what, name),
                Err(why) => Fault::Again(why, Duration::ZERO),
            };
            match fault {
                Fault::Final(error) => return Err(error),
                Fault::Again(why, least) => {
                    let Some(pause) = pauses.next() else {
                        let (place, tries) = (&self.place, self.tuning.blob_tries);
                        let text = format!("Cannot {what} {name} at {place}, after {tries} tries: {why}.");
                        return Err(ObjectError::Failed(text));
                    };
                    tracing::debug!("{what} {name} again: {why}");
                    tokio::time::sleep(pause.max(least)).await;
                }
            }
        }
    }

    async fn send_once(&self, method: &Method, url: Url, source: Option<&Source>) -> Result<Response, String> {
        let mut request = self.client.request(method.clone(), url);
        if let Some(Login(value)) = &self.login {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let (moved, mut limit) = (Moved::default(), self.tuning.lookup_timeout);
        if let Some(source) = source {
            request = with_body(request, source, &(0..source.size()), self.tuning.piece, &moved);
            limit = self.tuning.upload_stall;
        }
        tokio::select! {
            sent = request.send() => sent.map_err(|error| match broken(error) {
                BlobError::Again(why) => format!("the connection failed ({why})"),
                other => format!("{other:?}"),
            }),
            () = moved.stalled(limit) => Err(format!("no answer within {} s", limit.as_secs_f32())),
        }
    }

    fn meaning(&self, answer: &Response, what: &str, name: &str) -> Fault {
        let status = answer.status();
        let said = format!("Cannot {what} {name} at {}: the server answered {status}.", self.place);
        let refused = |remedy: &str| Fault::Final(ObjectError::Refused(format!("{said} {remedy}")));
        match status.as_u16() {
            408 | 425 | 429 | 500 | 502 | 503 | 504 => {
                let asked =
                    answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
                let pause = asked.map_or(Duration::ZERO, Duration::from_secs).min(LONGEST_PAUSE);
                Fault::Again(format!("the server answered {status}"), pause)
            }
            401 | 403 if self.login.is_none() => refused(&format!(
                "Set {NIX_CACHE_PUSH_TOKEN} (a token), or {NIX_CACHE_PUSH_LOGIN} (USER:PASSWORD), in `env` from a secret."
            )),
            401 | 403 => refused(&format!(
                "Check {NIX_CACHE_PUSH_TOKEN} or {NIX_CACHE_PUSH_LOGIN}, and whether its owner may write there."
            )),
            404 | 405 | 501 => refused("The server accepts no PUT at this address. Correct it, or allow PUT there."),
            409 => refused(
                "The server does not want this file to be written. If it cannot create folders, create `nar` there (nginx: \
                 `create_full_put_path on`).",
            ),
            413 => Fault::Final(ObjectError::TooLarge(format!(
                "{said} Raise the largest size of a request there (nginx: `client_max_body_size`)."
            ))),
            507 => refused("Its disk is full or a quota is used up."),
            300..=399 => refused("Redirects are not followed. Write the address that it redirects to."),
            _ => Fault::Final(ObjectError::Failed(said)),
        }
    }
}

/// A bucket without list permission answers 403 for absent objects. Whether something may be written shows when it is written.
fn is_absent(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN)
}

#[async_trait]
impl Objects for HttpObjects {
    fn place(&self) -> &str {
        &self.place
    }

    async fn read(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, ObjectError> {
        let mut pauses = self.tuning.blob_pauses();
        loop {
            let Some(answer) = self.send(&Method::GET, name, None).await? else { return Ok(None) };
            let why = match timeout(self.tuning.rpc_timeout, body(answer, most)).await {
                Ok(Ok(bytes)) => return Ok(Some(bytes)),
                Ok(Err(error @ BodyError::TooLarge(_))) => {
                    return Err(ObjectError::Failed(format!("Cannot read {name} at {}: {error}.", self.place)));
                }
                Ok(Err(BodyError::Broken(_))) => "the connection failed",
                Err(_) => "the answer stalled",
            };
            let Some(pause) = pauses.next() else {
                return Err(ObjectError::Failed(format!("Cannot read {name} at {}: {why}.", self.place)));
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn write(&self, name: &str, source: &Source) -> Result<(), ObjectError> {
        self.send(&Method::PUT, name, Some(source)).await.map(|_| ())
    }
}
