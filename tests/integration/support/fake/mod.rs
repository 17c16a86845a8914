//! A behavioural fake of GitHub's cache service v2: the three remote calls, the block blobs behind signed addresses, and
//! the REST list. It keeps what it is told like the real one (scopes, immutability, limits, eviction), on a clock that
//! tests can move, with faults that tests can switch on and a model of a slow link.
//!
//! What it does follows observations of the service and the behaviour that its clients rely on. The tests hold it against
//! the real client of GitHub's.

mod artifacts;
mod blobs;
mod clock;
mod connection;
mod control;
mod download;
mod faults;
mod limits;
mod link;
mod operation;
mod refusal;
mod rest;
mod runs;
mod sas;
mod service;
mod state;
mod stats;
mod token;
mod twirp;
mod upload;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use tokio::sync::oneshot;

pub(crate) use faults::{Fault, FaultName};
pub(crate) use link::LinkConfig;
pub(crate) use operation::Operation;
pub(crate) use runs::FakeRun;
pub(crate) use state::Entry;
pub(crate) use stats::Stats;
pub(crate) use token::{RestPermission, Scope};

use service::Service;

/// How a fake is started. The defaults are those of GitHub, without a slow link.
#[derive(Clone, Debug)]
pub(crate) struct FakeConfig {
    /// Where it listens; a free port of the loopback by default.
    pub listen: SocketAddr,
    /// Where it keeps blobs; a temporary folder by default. Nothing is read back from there at the next start.
    pub dir: Option<PathBuf>,
    /// The scopes of the token in [`Fake::env`].
    pub scopes: Vec<Scope>,
    /// Owner and name of the repository.
    pub repository: String,
    /// Its number.
    pub repository_id: u64,
    /// Bytes that a repository can store.
    pub quota: u64,
    /// Reservations a minute and repository.
    pub creations_per_minute: u64,
    /// Lookups a minute and repository.
    pub downloads_per_minute: u64,
    /// How long after its finalize an entry is first found.
    pub lookup_lag: Duration,
    /// How long signed addresses for uploads work.
    pub upload_life: Duration,
    /// How long signed addresses for downloads work.
    pub download_life: Duration,
    /// The host in signed addresses; the address it listens on by default. The real client has a path of its own for
    /// hosts under `blob.core.windows.net`.
    pub blob_host: Option<String>,
    /// Whether a lookup looks at `restore_keys` alone, which an observer reports of the service.
    pub ignore_key: bool,
    /// The model of a slow link.
    pub link: Option<LinkConfig>,
    /// A file that gets one line of JSON for each request.
    pub log: Option<PathBuf>,
}

impl Default for FakeConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            dir: None,
            scopes: vec![Scope::read_write("refs/heads/main")],
            repository: "octo/nix".to_owned(),
            repository_id: 1,
            quota: 10 << 30,
            creations_per_minute: 200,
            downloads_per_minute: 1500,
            lookup_lag: Duration::ZERO,
            upload_life: Duration::from_hours(1),
            download_life: Duration::from_mins(10),
            blob_host: None,
            ignore_key: false,
            link: None,
            log: None,
        }
    }
}

/// A fake that runs, in a thread of its own, until it is dropped.
#[derive(Debug)]
pub(crate) struct Fake {
    service: Arc<Service>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    // Removed after the thread ended: fields are dropped after `drop`.
    _dir: Option<tempfile::TempDir>,
}

impl Fake {
    /// Starts a fake. It answers as soon as this returns.
    pub(crate) fn start(config: FakeConfig) -> Self {
        Self::try_start(config).expect("the fake cache service can listen on the loopback and write to its folder")
    }

    /// As [`Fake::start`].
    ///
    /// # Errors
    /// When the address is taken, or the folder or the log cannot be written.
    pub(crate) fn try_start(config: FakeConfig) -> io::Result<Self> {
        let (dir, temporary) = match &config.dir {
            Some(dir) => (dir.clone(), None),
            None => tempfile::tempdir().map(|dir| (dir.path().to_owned(), Some(dir)))?,
        };
        std::fs::create_dir_all(&dir)?;
        let listener = std::net::TcpListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        let service = Arc::new(Service::new(config, listener.local_addr()?, &dir)?);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let door = {
            let _inside = runtime.enter();
            connection::Door(tokio::net::TcpListener::from_std(listener)?)
        };
        let router = Router::new().fallback(service::handle).with_state(Arc::clone(&service));
        let thread = std::thread::Builder::new().name("fake cache service".to_owned()).spawn(move || {
            let router = router.into_make_service_with_connect_info::<connection::Cut>();
            runtime.block_on(async {
                tokio::select! {
                    served = async { axum::serve(door, router).await } => served.expect("it serves without end"),
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(5));
        })?;
        Ok(Self { service, stop: Some(stop), thread: Some(thread), _dir: temporary })
    }

    /// Its address, without a slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.service.base
    }

    /// A runtime token with these scopes, in the order of search, that works for six hours.
    pub(crate) fn token(&self, scopes: &[Scope]) -> String {
        self.token_of(self.service.config.repository_id, scopes)
    }

    /// A runtime token of another repository.
    pub(crate) fn token_of(&self, repository: u64, scopes: &[Scope]) -> String {
        let valid = Duration::from_hours(6);
        self.service.mint.runtime(scopes, repository, self.service.clock.now(), valid)
    }

    /// A token for the REST interface.
    pub(crate) fn rest_token(&self, permission: RestPermission) -> String {
        self.service.mint.rest(permission)
    }

    /// The environment that a runner gives a Node action, with the scopes of the configuration.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        self.env_with(&self.service.config.scopes)
    }

    /// The environment that a runner gives a Node action, with these scopes.
    pub(crate) fn env_with(&self, scopes: &[Scope]) -> Vec<(String, String)> {
        pairs([
            ("ACTIONS_RESULTS_URL", format!("{}/", self.url())),
            ("ACTIONS_RUNTIME_TOKEN", self.token(scopes)),
            ("ACTIONS_CACHE_SERVICE_V2", "True".to_owned()),
        ])
    }

    /// The environment with which the REST interface is reached.
    pub(crate) fn rest_env(&self, permission: RestPermission) -> Vec<(String, String)> {
        pairs([
            ("GITHUB_API_URL", self.url().to_owned()),
            ("GITHUB_REPOSITORY", self.service.config.repository.clone()),
            ("GITHUB_TOKEN", self.rest_token(permission)),
        ])
    }

    /// Switches a fault on.
    pub(crate) fn fault(&self, fault: Fault) {
        self.service.faults().add(fault);
    }

    /// Switches all faults off.
    pub(crate) fn clear_faults(&self) {
        self.service.faults().clear();
    }

    /// Moves its clock forward.
    pub(crate) fn advance(&self, by: Duration) {
        self.service.clock.advance(by);
    }

    /// Changes how long after its finalize an entry is first found.
    pub(crate) fn set_lookup_lag(&self, lag: Duration) {
        self.service.set_lookup_lag(lag);
    }

    /// The numbers so far.
    pub(crate) fn stats(&self) -> Stats {
        self.service.snapshot()
    }

    /// The entries and the reservations, in the order of creation.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.service.state().all().to_vec()
    }

    /// Names, contents and announced digests of the artifacts that are complete.
    pub(crate) fn artifacts(&self) -> Vec<(String, Vec<u8>, String)> {
        artifacts::all(&self.service)
    }

    /// From now on, artifacts are of this run.
    pub(crate) fn begin(&self, run: FakeRun) {
        self.service.runs.lock().expect("no holder panics").push(run);
    }

    /// The texts of the comments that were written.
    pub(crate) fn comments(&self) -> Vec<String> {
        self.service.comments.lock().expect("no holder panics").clone()
    }

    /// Uploads an artifact of the last run, of which nothing is checked.
    pub(crate) fn put_artifact(&self, name: &str, zip: &[u8]) {
        artifacts::put(&self.service, name, zip);
    }

    /// All entries but those of the history, which each job adds to.
    pub(crate) fn saved(&self) -> Vec<Entry> {
        self.entries().into_iter().filter(|entry| !entry.key.starts_with("history-")).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have stopped by itself.
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn pairs<const N: usize>(pairs: [(&str, String); N]) -> Vec<(String, String)> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
