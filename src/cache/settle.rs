//! Bringing a file to the disk while the rest of it is still on its way here.
//!
//! A layer that is mounted must be on the disk: newer kernels write all of a file back before they make it a loop device. Left
//! until then, that takes longer than everything else after the download.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Bytes that are worth a trip to the disk.
const STEP: u64 = 32 << 20;
const LOOK: Duration = Duration::from_millis(50);

/// Brings a file to the disk, now and then as long as it lives, and once more when it is dropped. Nobody waits for that.
#[derive(Debug)]
pub(super) struct Settling {
    _stop: Sender<()>,
}

impl Settling {
    /// Begins with `file`, into which `written` bytes were written so far. Without a thread nothing is done, which only costs
    /// time later.
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
                            tracing::debug!("A layer is not brought to the disk early: {error}");
                        }
                        settled = now;
                    }
                    if ended {
                        return;
                    }
                }
            };
            if let Err(error) = std::thread::Builder::new().name("settling".into()).spawn(work) {
                tracing::debug!("A layer is not brought to the disk early: {error}");
            }
        }
        Self { _stop: stop }
    }
}
