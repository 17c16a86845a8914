//! GitHub's cache service, version 2, as a [`Remote`]: names and addresses over Twirp, bytes from and to blob storage.

mod address;
mod answers;
mod artifact;
mod artifacts;
mod calls;
mod comments;
mod config;
#[cfg(test)]
#[path = "download/tests.rs"]
mod download_tests;
mod gate;
mod manage;
mod pull_request;
mod pulls;
mod requests;
mod rest;
mod runs;
mod store;
#[cfg(test)]
pub(super) mod testing;
mod token;
mod twirp;
mod upload;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

#[cfg(test)]
pub(crate) use self::artifacts::OfRun;
pub(crate) use self::artifacts::{ArtifactInfo, ArtifactList, Artifacts, Missed, RunOrigin};
pub use self::calls::version;
pub(crate) use self::comments::{Comment, Comments, MOST_PULLS};
pub use self::config::GithubConfig;
pub(crate) use self::config::{CacheMode, RestConfig};
pub(crate) use self::manage::CacheShelf;
pub(crate) use self::pull_request::Pull;
pub(crate) use self::pulls::{ChangedFile, PullRequest, Pulls};
pub(crate) use self::requests::{CallError, Refused, Requests};
pub(crate) use self::rest::{CacheEntryInfo, Rest, Usage};
pub(crate) use self::runs::{RunList, Runs, WorkflowJob};
pub(crate) use self::token::TokenScope;
pub use self::token::scopes;

pub use super::redact::redact;
pub(crate) use super::tuning::Tuning;

use self::address::Addresses;
use self::gate::Pacer;
use self::twirp::Twirp;
use super::blob::source::Source;
use super::blob::{BlobError, Blobs, Ranges, download};
use super::{Entry, Handover, Kind, Put, Remote, RemoteError, blob, handover, redact, tuning};

/// The size that GitHub gives the cache of every repository. A higher limit, which is paid for, is not visible to a job.
pub(crate) const FREE_QUOTA: u64 = 10 << 30;

/// The cache of the repository that this job runs in.
pub struct GithubRemote {
    hub: Arc<Hub>,
    scopes: Vec<TokenScope>,
    rest_config: Option<RestConfig>,
    results_url: String,
    token: SecretString,
    ca_file: Option<PathBuf>,
    rest: OnceLock<Option<Rest>>,
}

/// State that all requests share.
struct Hub {
    http: reqwest::Client,
    twirp: Twirp,
    tuning: Arc<Tuning>,
    mode: CacheMode,
    addresses: Addresses,
    pacer: Pacer,
    creations: AtomicU64,
    ranges: Ranges,
}

impl GithubRemote {
    /// Creates the remote for `config`. No request is sent before the first call.
    ///
    /// # Errors
    /// [`RemoteError::Unavailable`] when this machine cannot do HTTPS at all.
    pub fn new(config: GithubConfig) -> Result<Self, RemoteError> {
        let tuning = config.tuning.clone();
        Self::with_tuning(config, tuning)
    }

    /// Like [`GithubRemote::new`], with other delays and sizes than the defaults.
    ///
    /// # Errors
    /// See [`GithubRemote::new`].
    pub fn with_tuning(config: GithubConfig, tuning: Tuning) -> Result<Self, RemoteError> {
        let http = crate::base::http::client(config.ca_file.as_deref())
            .map_err(|error| RemoteError::Unavailable(error.to_string()))?;
        let tuning = Arc::new(tuning);
        let caller = crate::base::http::caller(config.ca_file.as_deref())
            .map_err(|error| RemoteError::Unavailable(error.to_string()))?;
        let results_url = config.results_url.to_string();
        let hub = Hub {
            twirp: Twirp::new(caller, config.results_url, &config.token, Arc::clone(&tuning))?,
            http,
            mode: config.mode,
            addresses: Addresses::default(),
            pacer: Pacer::new(tuning.creation_interval, tuning.creation_burst),
            creations: AtomicU64::new(0),
            ranges: Ranges::default(),
            tuning,
        };
        let (scopes, rest_config) = (scopes(&config.token), config.rest);
        let (token, ca_file) = (config.token, config.ca_file);
        Ok(Self { hub: Arc::new(hub), scopes, rest_config, results_url, token, ca_file, rest: OnceLock::new() })
    }

    /// The number of names reserved so far.
    #[must_use]
    pub fn creations(&self) -> u64 {
        self.hub.creations.load(Ordering::Relaxed)
    }

    /// What the workflow allows this job to do.
    #[must_use]
    pub fn mode(&self) -> CacheMode {
        self.hub.mode
    }

    /// The scopes that the token names, as a hint for messages. Empty if it names none.
    #[must_use]
    pub fn scopes(&self) -> &[TokenScope] {
        &self.scopes
    }

    /// Whether the service has answered, in this step or, as [`GithubRemote::note_spoken`] says, an earlier one.
    #[must_use]
    pub fn has_spoken(&self) -> bool {
        self.hub.twirp.has_spoken()
    }

    /// Records that an earlier step of this job got answers, so that a failure now is an outage and not a missing service.
    pub fn note_spoken(&self) {
        self.hub.twirp.note_spoken();
    }

    /// For a process that reads as long as the job runs: no refusal, whole entry or failed lookup counts for what it asks later.
    pub(super) fn keep_asking(&self) {
        self.hub.twirp.keep_asking();
        self.hub.ranges.insist();
    }

    /// The total time for all lookups of a step.
    #[must_use]
    pub fn lookup_budget(&self) -> std::time::Duration {
        self.hub.tuning.lookup_budget
    }

    /// The REST interface on the same client, if there is a token for it. Call it inside a Tokio runtime.
    #[must_use]
    pub fn rest(&self) -> Option<&Rest> {
        let connect = || {
            let config = self.rest_config.clone()?;
            Rest::new(self.hub.http.clone(), &config, &self.hub.tuning)
                .inspect_err(|error| tracing::debug!("no listings of GitHub's cache: {error}"))
                .ok()
        };
        self.rest.get_or_init(connect).as_ref()
    }
}

#[async_trait]
impl Remote for GithubRemote {
    fn describe(&self) -> String {
        format!("GitHub's cache service at {}", self.hub.twirp.host())
    }

    /// As in the trait, except that the service searches one scope after the other (own branch, base of the pull request, default
    /// branch), with all `prefixes` in each. At most nine prefixes are sent; the rest is ignored.
    async fn find(&self, kind: Kind, prefixes: &[String]) -> Result<Option<Entry>, RemoteError> {
        let hub = &self.hub;
        if !hub.mode.readable() {
            return Err(hub.forbidden("reading", "read"));
        }
        let Some((name, url)) = calls::find(&hub.twirp, kind, prefixes).await? else { return Ok(None) };
        let location = url.as_str().to_owned();
        hub.addresses.keep(kind, &name, url);
        Ok(Some(Entry { kind, name, size: None, location }))
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Bytes, RemoteError> {
        download::read(&*self.hub, entry, range).await
    }

    async fn stream(&self, entry: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError> {
        download::stream(Arc::clone(&self.hub) as Arc<dyn Blobs>, entry).await
    }

    async fn put_file(&self, kind: Kind, name: &str, body: &Path) -> Result<Put, RemoteError> {
        let source = Source::file(body).map_err(|error| {
            RemoteError::Failed(format!("Cannot read {}, which was to be stored as {name}: {error}.", body.display()))
        })?;
        store::put(&self.hub, kind, name, &source).await
    }

    async fn put_bytes(&self, kind: Kind, name: &str, body: Bytes) -> Result<Put, RemoteError> {
        store::put(&self.hub, kind, name, &Source::Bytes(body)).await
    }

    fn is_readable(&self) -> bool {
        self.hub.mode.readable()
    }

    fn ranges_work(&self) -> bool {
        self.hub.ranges.work()
    }

    /// None with a proxy: its address, which can contain a password, would have to be in the environment of the other process.
    fn handover(&self) -> Option<Handover> {
        (!handover::is_proxied()).then(|| Handover::Github {
            results_url: self.results_url.clone(),
            token: self.token.expose_secret().to_owned(),
            ca_file: self.ca_file.clone(),
            tuning: Tuning::text(),
        })
    }
}

#[async_trait]
impl Blobs for Hub {
    fn http(&self) -> &reqwest::Client {
        &self.http
    }

    fn tuning(&self) -> &Arc<Tuning> {
        &self.tuning
    }

    fn place(&self) -> String {
        "GitHub's cache".to_owned()
    }

    async fn address(&self, entry: &Entry) -> Result<Url, RemoteError> {
        self.addresses.current(&self.twirp, entry, self.tuning.address_margin).await
    }

    async fn renew(&self, entry: &Entry, refused: &Url) -> Result<(), RemoteError> {
        self.addresses.replace(&self.twirp, entry, refused).await
    }

    async fn refused(&self, response: reqwest::Response) -> BlobError {
        blob::refused(response).await
    }

    fn ranges(&self) -> &Ranges {
        &self.ranges
    }
}

impl Hub {
    /// The error for an operation that the mode does not allow; the service is not asked.
    fn forbidden(&self, what: &str, needed: &str) -> RemoteError {
        RemoteError::Denied(format!(
            "The effective cache-mode '{}' of this job does not allow {what}. Set `cache-mode: write`, or `{needed}`, \
             for the job or the workflow if it should.",
            self.mode.word()
        ))
    }
}
