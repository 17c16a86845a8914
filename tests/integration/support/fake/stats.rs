//! What went through the fake: numbers for tests, and a line of JSON for each request on demand.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde_json::json;

use super::clock::Millis;
use super::faults::FaultName;
use super::operation::Call;

/// The numbers at one moment. The JSON form is that of the control address `GET /_fake/stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Stats {
    /// Requests by the name of their operation.
    pub requests: BTreeMap<&'static str, u64>,
    /// Bytes of blobs that clients sent.
    pub bytes_up: u64,
    /// Bytes of blobs that clients were sent.
    pub bytes_down: u64,
    /// Reservations that were granted.
    pub creations: u64,
    /// Entries that a lookup can find, or will when they are settled.
    pub entries: usize,
    /// Their size in bytes.
    pub stored_bytes: u64,
    /// Reservations that were not finalized.
    pub reservations: usize,
    /// How often each fault struck.
    pub faults: BTreeMap<FaultName, u64>,
}

impl Stats {
    /// How many requests there were of an operation.
    pub(crate) fn count(&self, operation: super::Operation) -> u64 {
        self.requests.get(operation.name()).copied().unwrap_or(0)
    }

    /// How often a fault struck.
    pub(crate) fn struck(&self, fault: FaultName) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Bytes of blobs that clients sent.
    pub bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    creations: AtomicU64,
    requests: Mutex<BTreeMap<&'static str, u64>>,
    faults: Mutex<BTreeMap<FaultName, u64>>,
}

impl Counters {
    /// Counts a request.
    pub(super) fn request(&self, call: &Call) {
        *self.requests.lock().expect("no holder panics").entry(call.operation.name()).or_default() += 1;
    }

    /// Counts a fault that struck.
    pub(super) fn struck(&self, fault: FaultName) {
        *self.faults.lock().expect("no holder panics").entry(fault).or_default() += 1;
    }

    /// Counts a reservation.
    pub(super) fn created(&self) {
        self.creations.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes of a download.
    pub(super) fn sent(&self, bytes: u64) {
        self.bytes_down.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was counted so far, without what only the state knows.
    pub(super) fn snapshot(&self) -> Stats {
        Stats {
            requests: self.requests.lock().expect("no holder panics").clone(),
            bytes_up: self.bytes_up.load(Ordering::Relaxed),
            bytes_down: self.bytes_down.load(Ordering::Relaxed),
            creations: self.creations.load(Ordering::Relaxed),
            faults: self.faults.lock().expect("no holder panics").clone(),
            ..Stats::default()
        }
    }
}

/// A file that gets one line of JSON for each request.
#[derive(Debug)]
pub(super) struct RequestLog(Option<Mutex<File>>);

impl RequestLog {
    /// Appends to the file `path`; keeps nothing without one.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(path: Option<&Path>) -> std::io::Result<Self> {
        let file = path.map(|path| File::options().create(true).append(true).open(path)).transpose()?;
        Ok(Self(file.map(Mutex::new)))
    }

    /// Notes a request and its answer. Queries stay out: they hold signatures.
    pub(super) fn note(&self, at: Millis, call: &Call, status: Option<u16>, fault: Option<FaultName>) {
        let Some(file) = &self.0 else { return };
        let line = json!({
            "at": at,
            "operation": call.operation.name(),
            "method": call.method.as_str(),
            "path": call.path,
            "range": call.header("x-ms-range").or_else(|| call.header("range")),
            "length": call.header("content-length"),
            "agent": call.header("user-agent"),
            "status": status,
            "fault": fault,
        });
        // A full disk must not change how the service answers.
        writeln!(file.lock().expect("no holder panics"), "{line}").ok();
    }
}
