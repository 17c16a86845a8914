//! Time and randomness for writers of a series. The simulation has its own.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::base::clock;

/// A source of time.
#[async_trait]
pub(crate) trait Clock: Send + Sync {
    /// Time since an arbitrary moment in the past.
    fn now(&self) -> Duration;

    /// Seconds since 1970, roughly the same on all machines.
    fn seconds(&self) -> u64;

    /// Waits for `time`.
    async fn sleep(&self, time: Duration);

    /// A random number below `end`, which is not 0.
    fn random(&self, end: u64) -> u64;
}

/// The time of the machine.
pub(crate) struct SystemClock(Instant);

impl SystemClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn seconds(&self) -> u64 {
        clock::now()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn random(&self, end: u64) -> u64 {
        random_below(end)
    }
}

/// A random number below `end`, which is not 0. Not for secrets.
pub(super) fn random_below(end: u64) -> u64 {
    // Each state of the standard library's hash maps has different keys; the count makes sure that no two hashes are equal.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one(COUNT.fetch_add(1, Ordering::Relaxed)) % end
}

/// A unique suffix for a name: the time, so that later names sort after earlier ones, and a random part.
pub(crate) fn nonce() -> String {
    let seconds = clock::now();
    format!("{seconds:010x}{:08x}", random_below(1 << 32))
}
