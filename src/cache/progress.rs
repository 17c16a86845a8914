//! Logs a line every few seconds during a long transfer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::base::human;

const INTERVAL: Duration = Duration::from_secs(5);

/// Counts bytes and logs the count regularly until it is dropped.
pub(super) struct Progress {
    /// Bytes so far.
    pub bytes: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Progress {
    /// Starts counting towards `total` bytes.
    pub(super) fn start(what: &'static str, total: u64) -> Self {
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        let start = Instant::now();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                let done = counter.load(Ordering::Relaxed);
                let rate = (done as f64 / start.elapsed().as_secs_f64()) as u64;
                let (done, total, rate) = (human::bytes(done), human::bytes(total), human::bytes(rate));
                tracing::info!("{what}: {done} of {total} ({rate}/s)");
            }
        });
        Self { bytes, task }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
    }
}
