//! One request from its arrival to its answer: count it, let faults at it, carry it out.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::FakeConfig;
use super::artifacts::Artifact;
use super::blobs::{BlobError, Blobs};
use super::clock::{Clock, Millis, millis};
use super::connection::Cut;
use super::faults::{Fault, FaultName, Faults, Stage};
use super::link::Link;
use super::operation::{Call, Operation};
use super::rest::RestError;
use super::runs::FakeRun;
use super::state::State;
use super::stats::{Counters, RequestLog, Stats};
use super::token::Mint;
use super::twirp::TwirpError;
use super::{control, download, refusal, rest, twirp, upload};

/// Everything that requests share.
#[derive(Debug)]
pub(super) struct Service {
    /// How the fake was started.
    pub config: FakeConfig,
    /// Its time.
    pub clock: Clock,
    /// Its tokens.
    pub mint: Mint,
    /// Its blobs.
    pub blobs: Blobs,
    /// The way to it.
    pub link: Link,
    /// What it counts.
    pub stats: Counters,
    /// The address of the service, without a slash at the end.
    pub base: String,
    /// The address that signed addresses start with, without a slash at the end.
    pub blob_base: String,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    /// The artifacts of all runs, in the order of creation.
    pub artifacts: Mutex<Vec<Artifact>>,
    /// The texts of the comments on all pull requests.
    pub comments: Mutex<Vec<String>>,
    /// The runs, of which the last one has all tokens.
    pub runs: Mutex<Vec<FakeRun>>,
    lookup_lag: AtomicU64,
    names: AtomicU64,
    log: RequestLog,
}

impl Service {
    /// A service with nothing in it, that can be reached at `address` and keeps its blobs in `dir`.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub(super) fn new(config: FakeConfig, address: SocketAddr, dir: &Path) -> io::Result<Self> {
        let host = config.blob_host.clone().unwrap_or_else(|| address.ip().to_string());
        Ok(Self {
            clock: Clock::default(),
            mint: Mint::new(secret(address)),
            blobs: Blobs::new(dir),
            link: Link::new(config.link),
            stats: Counters::default(),
            base: format!("http://{address}"),
            blob_base: format!("http://{host}:{}", address.port()),
            state: Mutex::default(),
            faults: Mutex::default(),
            artifacts: Mutex::default(),
            comments: Mutex::default(),
            runs: Mutex::new(vec![FakeRun::default()]),
            lookup_lag: AtomicU64::new(millis(config.lookup_lag)),
            names: AtomicU64::new(1),
            log: RequestLog::open(config.log.as_deref())?,
            config,
        })
    }

    /// The number of the run that all tokens are of.
    pub(super) fn run(&self) -> u64 {
        self.runs.lock().expect("no holder panics").last().map_or(0, |run| run.id)
    }

    /// The entries.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the state panics")
    }

    /// The faults that are switched on.
    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().expect("no holder of the faults panics")
    }

    /// The fault that strikes an operation at a stage, counted.
    pub(super) fn strike(&self, operation: Operation, stage: Stage) -> Option<Fault> {
        let fault = self.faults().strike(operation, stage)?;
        self.stats.struck(fault.name);
        Some(fault)
    }

    /// A blob name that was not used before.
    pub(super) fn new_blob_name(&self) -> String {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let digest = self.mint.digest(&format!("blob {number}"));
        let (half, _) = digest.split_first_chunk().expect("a digest has more than 16 bytes");
        format!("{:032x}", u128::from_be_bytes(*half))
    }

    /// How long after its finalize an entry is first found.
    pub(super) fn lookup_lag(&self) -> Millis {
        self.lookup_lag.load(Ordering::Relaxed)
    }

    /// Changes how long after its finalize an entry is first found.
    pub(super) fn set_lookup_lag(&self, lag: Duration) {
        self.lookup_lag.store(millis(lag), Ordering::Relaxed);
    }

    /// Notes that a blob was read.
    pub(super) fn touch(&self, blob: &str) {
        self.state().read(blob, self.clock.now());
    }

    /// Drops what nobody touched for a week.
    pub(super) fn expire(&self) {
        let gone = self.state().expire(self.clock.now());
        self.blobs.remove(&gone);
    }

    /// Evicts one entry.
    pub(super) fn evict(&self, id: u64) {
        let gone = self.state().remove(|entry| entry.id == id);
        self.blobs.remove(gone.iter().map(|entry| &entry.blob));
    }

    /// The numbers so far.
    pub(super) fn snapshot(&self) -> Stats {
        let mut numbers = self.stats.snapshot();
        let state = self.state();
        numbers.entries = state.finalized().count();
        numbers.stored_bytes = state.finalized().filter_map(|entry| entry.size).sum();
        numbers.reservations = state.all().len() - numbers.entries;
        numbers
    }
}

/// Answers a request.
pub(super) async fn handle(
    Shared(service): Shared<Arc<Service>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
) -> Result<Response, Infallible> {
    let (parts, body) = request.into_parts();
    let call = Call::new(parts.method, &parts.uri, parts.headers);
    if call.path.starts_with(control::CONTROL) {
        return Ok(control::serve(&service, &call, body).await);
    }
    service.stats.request(&call);
    service.link.latency().await;
    let at = service.clock.now();
    let fault = service.strike(call.operation, Stage::Answer);
    let struck = fault.as_ref().map(|fault| fault.name);
    let mut response = match &fault {
        Some(fault) => {
            upload::discard(body).await;
            refusal::answer(fault, &call, &cut).await
        }
        None => work(&service, &call, body).await,
    };
    let lost = fault.is_none() && service.strike(call.operation, Stage::Reply).is_some();
    if lost {
        cut.now();
    }
    stamp(&service, &mut response);
    let status = (!lost).then(|| response.status().as_u16());
    service.log.note(at, &call, status, struck.or(lost.then_some(FaultName::LostReply)));
    Ok(response)
}

async fn work(service: &Arc<Service>, call: &Call, body: axum::body::Body) -> Response {
    let operation = call.operation;
    if operation.is_call() || operation.is_of_artifacts() {
        twirp::serve(service, call, body).await.into_response()
    } else if operation.is_upload() {
        upload::put(service, call, body).await.into_response()
    } else if operation.is_blob() {
        download::get(service, call).into_response()
    } else if operation.is_rest() {
        let said = if call.operation == Operation::Comments {
            axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default()
        } else {
            axum::body::Bytes::new()
        };
        rest::serve(service, call, &said).into_response()
    } else {
        unknown(call)
    }
}

fn unknown(call: &Call) -> Response {
    if call.path.starts_with("/twirp/") {
        TwirpError::bad_route(call).into_response()
    } else if call.path.starts_with(super::operation::CONTAINER) {
        BlobError::new(400, "UnsupportedHttpVerb", "The fake does not know this operation on a blob.").into_response()
    } else {
        RestError::new(StatusCode::NOT_FOUND, "Not Found").into_response()
    }
}

/// A request id on every answer: the blob store sends one, and a client crashes where it is missing.
fn stamp(service: &Service, response: &mut Response) {
    let id = service.new_blob_name();
    response.headers_mut().insert("x-ms-request-id", HeaderValue::from_str(&id).expect("hexadecimal is plain text"));
    response.headers_mut().insert("x-ms-version", HeaderValue::from_static("2025-11-05"));
}

/// A secret of this fake, so that tokens and addresses of another one are refused.
fn secret(address: SocketAddr) -> String {
    let started = Clock::default().now();
    format!("{address} {} {started}", std::process::id())
}
