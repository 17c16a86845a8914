//! Time limits around a remote: a deadline for everything, and a budget for all lookups of a step together.
//!
//! 1. Each wait on the remote ends at the deadline of the step.
//! 2. A clock runs while at least one lookup is pending. When it reaches the budget, every lookup fails at once. Lookups that are
//!    all answered within a second cost nothing, because many jobs that save at once need many of them.
//! 3. In both cases the first caller gets [`RemoteError::OutOfTime`] and all others [`RemoteError::StillOutOfTime`]: one warning is
//!    enough.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::time::{Instant, timeout_at};

use super::{Entry, Handover, Kind, Put, Remote, RemoteError};

/// Time limits of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For everything. None for no limit.
    pub total: Option<Duration>,
    /// For all lookups together.
    pub lookups: Duration,
}

impl Limits {
    /// Total time for all lookups of a step: 30 s. One takes a quarter of a second.
    pub(crate) const LOOKUPS: Duration = Duration::from_secs(30);
}

/// A remote with limits.
pub(crate) struct Limited {
    inner: Arc<dyn Remote>,
    limits: Limits,
    deadline: Option<Instant>,
    clock: Mutex<Clock>,
    told: Arc<AtomicBool>,
}

/// The time that lookups were pending.
#[derive(Default)]
struct Clock {
    spent: Duration,
    running: usize,
    since: Option<Instant>,
    /// Whether a lookup since then has failed.
    failed: bool,
}

/// A healthy service answers several times within this time.
const QUICK: Duration = Duration::from_secs(1);

impl Clock {
    fn spent(&self) -> Duration {
        self.spent + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// A guard while which the clock runs, with whether there was an answer.
struct Running<'a>(&'a Limited, bool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut clock = self.0.clock();
        clock.running -= 1;
        clock.failed |= !self.1;
        if clock.running == 0 {
            if clock.failed || clock.since.is_some_and(|since| since.elapsed() > QUICK) {
                clock.spent = clock.spent();
            }
            (clock.since, clock.failed) = (None, false);
        }
    }
}

impl Limited {
    /// Wraps `inner` with `limits`, which start now.
    #[must_use]
    pub(crate) fn new(inner: Arc<dyn Remote>, limits: Limits) -> Self {
        let deadline = limits.total.map(|total| Instant::now() + total);
        Self { inner, limits, deadline, clock: Mutex::default(), told: Arc::default() }
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Running<'_> {
        let mut clock = self.clock();
        clock.running += 1;
        clock.since.get_or_insert_with(Instant::now);
        Running(self, false)
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, RemoteError>> + Send) -> Result<T, RemoteError> {
        before(self.deadline, &self.told, work).await
    }
}

async fn before<T>(
    deadline: Option<Instant>,
    told: &AtomicBool,
    work: impl Future<Output = Result<T, RemoteError>> + Send,
) -> Result<T, RemoteError> {
    let Some(deadline) = deadline else { return work.await };
    let late = |_| Err(out_of_time(told, "The time that this step may take for its cache is over.".to_owned()));
    timeout_at(deadline, work).await.unwrap_or_else(late)
}

fn out_of_time(told: &AtomicBool, why: String) -> RemoteError {
    if told.swap(true, Ordering::Relaxed) { RemoteError::StillOutOfTime(why) } else { RemoteError::OutOfTime(why) }
}

#[async_trait]
impl Remote for Limited {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn find(&self, kind: Kind, prefixes: &[String]) -> Result<Option<Entry>, RemoteError> {
        let over = || {
            let why = format!(
                "All lookups of this step together may take {} s, but {} was slower.",
                self.limits.lookups.as_secs_f64(),
                self.inner.describe()
            );
            out_of_time(&self.told, why)
        };
        let left = self.limits.lookups.saturating_sub(self.clock().spent());
        if left.is_zero() {
            return Err(over());
        }
        let mut running = self.start();
        let end = Instant::now() + left;
        let found = timeout_at(end, self.in_time(self.inner.find(kind, prefixes))).await;
        running.1 = found.as_ref().is_ok_and(Result::is_ok);
        found.unwrap_or_else(|_| Err(over()))
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Bytes, RemoteError> {
        self.in_time(self.inner.read(entry, range)).await
    }

    async fn stream(&self, entry: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError> {
        let pieces = self.in_time(self.inner.stream(entry)).await?;
        let (deadline, told) = (self.deadline, Arc::clone(&self.told));
        let next = move |mut pieces: BoxStream<'static, Result<Bytes, RemoteError>>| {
            let told = Arc::clone(&told);
            async move {
                let piece = before(deadline, &told, async { pieces.next().await.transpose() }).await?;
                Ok(piece.map(|piece| (piece, pieces)))
            }
        };
        Ok(stream::try_unfold(pieces, next).boxed())
    }

    async fn put_file(&self, kind: Kind, name: &str, body: &Path) -> Result<Put, RemoteError> {
        self.in_time(self.inner.put_file(kind, name, body)).await
    }

    async fn put_bytes(&self, kind: Kind, name: &str, body: Bytes) -> Result<Put, RemoteError> {
        self.in_time(self.inner.put_bytes(kind, name, body)).await
    }

    fn parallel_reads(&self) -> usize {
        self.inner.parallel_reads()
    }

    fn is_readable(&self) -> bool {
        self.inner.is_readable()
    }

    fn ranges_work(&self) -> bool {
        self.inner.ranges_work()
    }

    /// Without the limits, which are those of this step.
    fn records_reads(&self) -> bool {
        self.inner.records_reads()
    }

    fn keeps_what_was_read(&self) -> bool {
        self.inner.keeps_what_was_read()
    }

    fn handover(&self) -> Option<Handover> {
        self.inner.handover()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// A remote that answers only lookups without a name, and counts the lookups.
    #[derive(Default)]
    struct Silent(AtomicUsize);

    #[async_trait]
    impl Remote for Silent {
        fn describe(&self) -> String {
            "a silent place".to_owned()
        }

        async fn find(&self, _: Kind, names: &[String]) -> Result<Option<Entry>, RemoteError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if names.is_empty() {
                return Ok(None);
            }
            std::future::pending().await
        }

        async fn read(&self, _: &Entry, _: Range<u64>) -> Result<Bytes, RemoteError> {
            std::future::pending().await
        }

        async fn stream(&self, _: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError> {
            Ok(stream::pending().boxed())
        }

        async fn put_file(&self, _: Kind, _: &str, _: &Path) -> Result<Put, RemoteError> {
            std::future::pending().await
        }

        async fn put_bytes(&self, _: Kind, _: &str, _: Bytes) -> Result<Put, RemoteError> {
            std::future::pending().await
        }
    }

    const LONG: Duration = Duration::from_hours(1);
    const SHORT: Duration = Duration::from_millis(30);

    fn limited(total: Option<Duration>, lookups: Duration) -> (Arc<Silent>, Limited) {
        let silent = Arc::new(Silent::default());
        (Arc::clone(&silent), Limited::new(silent, Limits { total, lookups }))
    }

    fn is_late<T>(result: &Result<T, RemoteError>) -> bool {
        matches!(result, Err(RemoteError::OutOfTime(_) | RemoteError::StillOutOfTime(_)))
    }

    #[tokio::test]
    async fn lookups_share_one_budget_and_are_not_made_after_it() {
        let (silent, remote) = limited(None, SHORT);
        let names = ["a".to_owned()];
        let all = futures_util::future::join_all((0..9).map(|_| remote.find(Kind::Layer, &names))).await;
        assert!(all.iter().all(is_late));
        let warnings = all.iter().filter(|found| matches!(found, Err(RemoteError::OutOfTime(_)))).count();
        assert_eq!(warnings, 1, "the others need not say it again");
        assert_eq!(silent.0.load(Ordering::Relaxed), 9);
        assert!(is_late(&remote.find(Kind::Snapshot, &names).await));
        assert_eq!(silent.0.load(Ordering::Relaxed), 9, "nothing is asked any more");
    }

    #[tokio::test]
    async fn time_between_lookups_costs_nothing_of_their_budget() {
        let (silent, remote) = limited(None, LONG);
        let names = ["a".to_owned()];
        for _ in 0..3 {
            assert!(tokio::time::timeout(SHORT, remote.find(Kind::Layer, &names)).await.is_err());
            let spent = remote.clock().spent();
            tokio::time::sleep(SHORT).await;
            assert_eq!(remote.clock().spent(), spent, "the clock stands while nothing is looked up");
        }
        assert!(remote.clock().spent() >= 3 * SHORT);
        assert_eq!(silent.0.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn lookups_that_are_answered_at_once_cost_nothing() {
        let (silent, remote) = limited(None, LONG);
        for _ in 0..1000 {
            assert!(remote.find(Kind::Layer, &[]).await.is_ok());
        }
        assert_eq!((remote.clock().spent(), silent.0.load(Ordering::Relaxed)), (Duration::ZERO, 1000));
        // With one that hangs beside them, the time counts.
        let names = ["a".to_owned()];
        let hangs = tokio::time::timeout(SHORT, remote.find(Kind::Layer, &names));
        let (hung, answered) = tokio::join!(hangs, remote.find(Kind::Layer, &[]));
        assert!(hung.is_err() && answered.is_ok());
        assert!(remote.clock().spent() >= SHORT);
    }

    #[tokio::test]
    async fn every_wait_ends_at_the_deadline() {
        let (_, remote) = limited(Some(SHORT), LONG);
        let names = ["a".to_owned()];
        let entry = Entry { kind: Kind::Layer, name: "a".to_owned(), size: None, location: String::new() };
        let mut pieces = remote.stream(&entry).await.unwrap();
        let (found, read, piece, file, bytes) = tokio::join!(
            remote.find(Kind::Layer, &names),
            remote.read(&entry, 0..1),
            pieces.next(),
            remote.put_file(Kind::Layer, "a", Path::new("/dev/null")),
            remote.put_bytes(Kind::Layer, "a", Bytes::new()),
        );
        assert!(is_late(&found) && is_late(&read) && is_late(&piece.unwrap()) && is_late(&file) && is_late(&bytes));
    }
}
