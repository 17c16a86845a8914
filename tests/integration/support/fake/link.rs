//! A model of the way to the service: a wait before each answer, and rates for a stream and for all of them together.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How slow the way is. Rates are in bytes a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkConfig {
    /// Waited before the service looks at a request.
    pub latency: Duration,
    /// What one request or answer body can carry.
    pub stream: u64,
    /// What all answer bodies together can carry.
    pub down: u64,
    /// What all request bodies together can carry.
    pub up: u64,
}

impl LinkConfig {
    /// What others measured on hosted runners in 2026: 250 ms a request, 23 MB/s a stream, 52 MB/s down, 84 MB/s up.
    pub(crate) fn hosted_runner() -> Self {
        Self { latency: Duration::from_millis(250), stream: 23_000_000, down: 52_000_000, up: 84_000_000 }
    }
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the client.
    Down,
    /// To the service.
    Up,
}

/// The way itself, shared by all requests.
#[derive(Debug)]
pub(super) struct Link {
    config: Option<LinkConfig>,
    down: Arc<Mutex<Bucket>>,
    up: Arc<Mutex<Bucket>>,
}

impl Link {
    /// A way as slow as `config` says; as fast as the machine without one.
    pub(super) fn new(config: Option<LinkConfig>) -> Self {
        let bucket = |rate: fn(LinkConfig) -> u64| Arc::new(Mutex::new(Bucket::new(config.map_or(0, rate))));
        Self { config, down: bucket(|config| config.down), up: bucket(|config| config.up) }
    }

    /// Waits as long as a request is on its way.
    pub(super) async fn latency(&self) {
        if let Some(config) = self.config {
            tokio::time::sleep(config.latency).await;
        }
    }

    /// The pace of one more body.
    pub(super) fn open(&self, direction: Direction) -> Pace {
        let all = match direction {
            Direction::Down => &self.down,
            Direction::Up => &self.up,
        };
        Pace { own: Bucket::new(self.config.map_or(0, |config| config.stream)), all: Arc::clone(all) }
    }
}

/// The pace of one body.
#[derive(Debug)]
pub(super) struct Pace {
    own: Bucket,
    all: Arc<Mutex<Bucket>>,
}

impl Pace {
    /// Waits until `bytes` more may pass.
    pub(super) async fn pass(&mut self, bytes: usize) {
        let now = Instant::now();
        let shared = self.all.lock().expect("no holder of a bucket panics").take(now, bytes);
        let wait = self.own.take(now, bytes).max(shared);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Remembers until when the bytes it let through keep the way busy. A rate of zero means no limit.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    busy_until: Option<Instant>,
}

/// Time that a late sleeper may catch up on, so that a coarse timer does not lower the rate.
const SLACK: Duration = Duration::from_millis(20);

impl Bucket {
    fn new(rate: u64) -> Self {
        Self { rate, busy_until: None }
    }

    /// How long to wait at `now` until `bytes` more are through.
    fn take(&mut self, now: Instant, bytes: usize) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        let start = self.busy_until.map_or(now, |until| until.max(earliest));
        let end = start + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        self.busy_until = Some(end);
        end.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_spaces_bytes_by_its_rate() {
        let now = Instant::now();
        let mut bucket = Bucket::new(1000);
        assert_eq!(bucket.take(now, 500), Duration::from_millis(500));
        assert_eq!(bucket.take(now, 500), Duration::from_secs(1));
        assert_eq!(bucket.take(now + Duration::from_secs(1), 1000), Duration::from_secs(1));
    }

    #[test]
    fn unused_time_is_not_saved_up() {
        let now = Instant::now();
        let mut bucket = Bucket::new(1000);
        bucket.take(now, 1);
        let wait = bucket.take(now + Duration::from_hours(1), 1000);
        assert_eq!(wait, Duration::from_secs(1).checked_sub(SLACK).unwrap());
    }

    #[test]
    fn no_rate_is_no_wait() {
        assert_eq!(Bucket::new(0).take(Instant::now(), usize::MAX), Duration::ZERO);
    }
}
