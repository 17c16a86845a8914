//! Calls to the cache service: Twirp in JSON, with retries, gates and a memory of refusals.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

use super::answers::{AnswerError, Reach, Refusal, trouble};
use super::gate::Gate;
use super::redact::chain;
use super::tuning::Tuning;
use crate::base::bounds::MAX_ANSWER;
use crate::base::http::BodyError;
use crate::remote::RemoteError;

const SERVICE: &str = "/twirp/github.actions.results.api.v1.CacheService/";

/// Longest time without a call, whatever the service asks for, if reads of the job wait for it.
const LONGEST_SHUT: Duration = Duration::from_secs(20);

/// The methods of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Find,
    Create,
    Finalize,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Find => "GetCacheEntryDownloadURL",
            Self::Create => "CreateCacheEntry",
            Self::Finalize => "FinalizeCacheEntryUpload",
        }
    }
}

/// Why a call failed for good.
#[derive(Debug)]
pub(super) enum CallError {
    /// The name is already reserved or stored.
    Taken,
    /// The service does not know the object. An earlier attempt whose answer got lost may have changed that.
    Missing { what: String, answer_lost: bool },
    /// Everything else.
    Remote(RemoteError),
}

impl From<Refusal> for CallError {
    fn from(refusal: Refusal) -> Self {
        Self::Remote(refusal.into())
    }
}

/// The service, its gates, and its final refusals.
pub(super) struct Twirp {
    http: Client,
    base: Url,
    authorization: HeaderValue,
    tuning: Arc<Tuning>,
    gates: [Gate; 3],
    no_reads: Mutex<Option<Refusal>>,
    no_writes: Mutex<Option<Refusal>>,
    spoken: AtomicBool,
    /// Whether no refusal is remembered.
    keeps_asking: AtomicBool,
    /// Methods that have failed for the whole retry time and have not answered since.
    failing: [AtomicBool; 3],
}

impl Twirp {
    /// A service at the host of `base`. Its path is dropped, as the official client does.
    pub(super) fn new(http: Client, base: Url, token: &SecretString, tuning: Arc<Tuning>) -> Result<Self, RemoteError> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).map_err(|_| {
            RemoteError::Unavailable("ACTIONS_RUNTIME_TOKEN has characters that are not allowed in a token.".to_owned())
        })?;
        authorization.set_sensitive(true);
        Ok(Self {
            http,
            base,
            authorization,
            tuning,
            gates: Default::default(),
            no_reads: Mutex::default(),
            no_writes: Mutex::default(),
            spoken: AtomicBool::new(false),
            keeps_asking: AtomicBool::new(false),
            failing: Default::default(),
        })
    }

    /// The host of the service, for messages.
    pub(super) fn host(&self) -> &str {
        self.base.host_str().unwrap_or("an unknown host")
    }

    /// Whether the service uses HTTPS, so that signed addresses must use it too.
    pub(super) fn is_secure(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Whether this server has answered as a cache service.
    pub(super) fn has_spoken(&self) -> bool {
        self.spoken.load(Ordering::Relaxed)
    }

    /// Records that it has, in an earlier step of the job.
    pub(super) fn note_spoken(&self) {
        self.spoken.store(true, Ordering::Relaxed);
    }

    /// From now on, a refusal is that of one call only: the caller knows that this server is a cache service that answers this job, and
    /// asks again as long as the job runs.
    pub(super) fn keep_asking(&self) {
        self.keeps_asking.store(true, Ordering::Relaxed);
        self.note_spoken();
    }

    /// Returns the refusal of an earlier answer that applies to this method for the rest of the job.
    pub(super) fn refused(&self, method: Method) -> Option<Refusal> {
        let memory = if method == Method::Find { &self.no_reads } else { &self.no_writes };
        memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers a refusal for its scope.
    pub(super) fn remember(&self, refusal: &Refusal) {
        if self.keeps_asking.load(Ordering::Relaxed) {
            return;
        }
        let (reads, writes) = match refusal.reach {
            Reach::Nothing => (false, false),
            Reach::Reads => (true, false),
            Reach::Writes => (false, true),
            Reach::Everything => (true, true),
        };
        for memory in [(reads, &self.no_reads), (writes, &self.no_writes)].into_iter().filter(|(to, _)| *to) {
            memory.1.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| refusal.clone());
        }
    }

    /// Calls `method` until there is a definite answer. A failing service or connection is retried a few times, or only once if
    /// it has already failed that often; a throttled call waits up to the limit of its method.
    pub(super) async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        request: &impl Serialize,
    ) -> Result<A, CallError> {
        let deadline = Instant::now() + self.patience(method);
        let end = Instant::now() + self.limit(method);
        let failing = &self.failing[method as usize];
        let tries = if failing.load(Ordering::Relaxed) { 2 } else { self.tuning.rpc_tries };
        let mut pauses = self.tuning.rpc_pauses(tries);
        let mut answer_lost = false;
        let mut sent = 0;
        loop {
            self.pass_gate(method, deadline).await?;
            sent += 1;
            let answer = self.once(method, request, end).await;
            if !matches!(&answer, Err(AnswerError::Again(_))) {
                failing.store(false, Ordering::Relaxed);
            }
            match answer {
                Ok(answer) => return Ok(answer),
                Err(AnswerError::Taken) => return Err(CallError::Taken),
                Err(AnswerError::Missing(what)) => return Err(CallError::Missing { what, answer_lost }),
                Err(AnswerError::Throttled(time)) => {
                    let most = if self.keeps_asking.load(Ordering::Relaxed) { LONGEST_SHUT } else { Duration::MAX };
                    let time = time.unwrap_or_default().max(self.tuning.rpc_delay).min(most);
                    tracing::debug!("{} is throttled for {time:?}", method.name());
                    self.gates[method as usize].shut(time);
                }
                Err(AnswerError::Again(why)) => {
                    answer_lost = true;
                    let pause = pauses.next().filter(|pause| Instant::now() + *pause < end);
                    let Some(pause) = pause else { return Err(self.gave_up(method, sent, &why)) };
                    tracing::debug!("calling {} again in {pause:?}: {why}", method.name());
                    tokio::time::sleep(pause).await;
                }
                Err(AnswerError::Refused(refusal)) => {
                    self.remember(&refusal);
                    return Err(refusal.into());
                }
            }
        }
    }

    async fn once<A: DeserializeOwned>(
        &self,
        method: Method,
        request: &impl Serialize,
        end: Instant,
    ) -> Result<A, AnswerError> {
        let limit = if method == Method::Find { self.tuning.lookup_timeout } else { self.tuning.rpc_timeout };
        let limit = limit.min(end.saturating_duration_since(Instant::now()));
        let (status, headers, body) = match self.post(&format!("{SERVICE}{}", method.name()), request, limit).await {
            Ok(answer) => answer,
            Err(BodyError::Broken(error)) => return Err(lost(error)),
            Err(error) => return Err(self.too_much(method, &error)),
        };
        if status != StatusCode::OK {
            let trouble = trouble(status, &headers, &body, self.spoken.load(Ordering::Relaxed));
            // A throttled call or a refused token is an answer of the service; a failing gateway is not.
            if !matches!(
                &trouble,
                AnswerError::Again(_) | AnswerError::Refused(Refusal { reach: Reach::Everything, .. })
            ) {
                self.spoken.store(true, Ordering::Relaxed);
            }
            return Err(trouble);
        }
        match serde_json::from_slice(&body) {
            Ok(answer) => {
                self.spoken.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Err(error) => Err(AnswerError::Again(format!("its answer is not JSON ({error})"))),
        }
    }

    /// Sends a message to a method of a service of this host, and returns the answer, whatever its status is.
    ///
    /// # Errors
    /// When there is no whole answer within `limit`.
    pub(super) async fn post(
        &self,
        method: &str,
        request: &impl Serialize,
        limit: Duration,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), BodyError> {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_path(method);
        let request = self.http.post(url).header(AUTHORIZATION, self.authorization.clone()).json(request);
        let response = request.timeout(limit).send().await.map_err(BodyError::Broken)?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok((status, headers, crate::base::http::body(response, MAX_ANSWER).await?))
    }

    /// A valid answer is not even a thousandth of the limit, so an oversized one is not retried.
    fn too_much(&self, method: Method, error: &BodyError) -> AnswerError {
        if !self.spoken.load(Ordering::Relaxed) {
            return AnswerError::Refused(Refusal::unavailable(&error.to_string()));
        }
        AnswerError::Refused(Refusal::failed(format!("{} failed at {}: {error}.", method.name(), self.host())))
    }

    fn patience(&self, method: Method) -> Duration {
        match method {
            Method::Find => self.tuning.find_patience,
            Method::Create | Method::Finalize => self.tuning.put_patience,
        }
    }

    /// Total time for one call.
    fn limit(&self, method: Method) -> Duration {
        match method {
            // Less than the budget of all lookups, which the caller enforces, because the cause of a failure is known here.
            Method::Find => self.tuning.lookup_budget * 5 / 6,
            Method::Create | Method::Finalize => self.tuning.commit_budget,
        }
    }

    async fn pass_gate(&self, method: Method, deadline: Instant) -> Result<(), CallError> {
        self.gates[method as usize].pass(deadline).await.map_err(|left| {
            CallError::Remote(RemoteError::Throttled(format!(
                "GitHub's cache service gets too many requests from this repository ({}) and asks to wait {} s, which is \
                too long. Run fewer jobs at once, or store fewer entries.",
                method.name(),
                left.as_secs() + 1
            )))
        })
    }

    /// The error after the last attempt. A server that never answered as a cache service is not asked again in this step.
    fn gave_up(&self, method: Method, sent: usize, why: &str) -> CallError {
        self.failing[method as usize].store(true, Ordering::Relaxed);
        if self.has_spoken() {
            return CallError::Remote(RemoteError::Failed(format!(
                "{} failed {sent} times at {}: {why}. The job is not affected; the next one tries again.",
                method.name(),
                self.host()
            )));
        }
        let refusal = Refusal::unavailable(&format!("{} was asked {sent} times: {why}", self.host()));
        self.remember(&refusal);
        refusal.into()
    }
}

fn lost(error: reqwest::Error) -> AnswerError {
    AnswerError::Again(chain(&error.without_url()))
}

#[cfg(test)]
mod tests;
