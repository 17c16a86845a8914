//! Writes a file back to the disk while the rest of it is still being downloaded.
//!
//! A mounted layer must be on the disk: newer kernels write a whole file back before they set up a loop device. At that point, this
//! would take longer than everything else after the download.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Number of bytes that are worth a write-back.
const STEP: u64 = 32 << 20;
const LOOK: Duration = Duration::from_millis(50);

/// Writes a file back regularly, and again when it is dropped, without blocking.
#[derive(Debug)]
pub(super) struct Settling {
    _stop: Sender<()>,
}

impl Settling {
    /// Starts with `file`, of which `written` bytes have been written so far. If no thread can be started, nothing is done, which only
    /// costs time later.
    pub(super) fn start(file: &File, written: &Arc<AtomicU64>) -> Self {
        let (stop, stopped) = channel::<()>();
        if let Ok(file) = file.try_clone() {
            let written = Arc::clone(written);
            let work = move || {
                let mut settled = 0;
                loop {
                    let ended = stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected);
                    let now = written.load(Ordering::Relaxed);
                    if now >= settled + STEP || (ended && now > settled) {
                        if let Err(error) = file.sync_data() {
                            tracing::debug!("cannot write a layer back early: {error}");
                        }
                        settled = now;
                    }
                    if ended {
                        return;
                    }
                }
            };
            if let Err(error) = std::thread::Builder::new().name("settling".into()).spawn(work) {
                tracing::debug!("cannot write a layer back early: {error}");
            }
        }
        Self { _stop: stop }
    }
}
