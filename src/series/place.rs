//! A series and its location.

use std::time::Duration;

use super::clock::Clock;
use crate::remote::{Entry, Kind, Remote, RemoteError};

/// How long a throttled lookup is retried: two windows of the service.
const THROTTLED: Duration = Duration::from_mins(2);
/// The pause before a retry, plus a random part of [`SPREAD`] milliseconds.
const PAUSE: Duration = Duration::from_secs(15);
const SPREAD: u64 = 10_000;

/// A series and its location.
pub(crate) struct Series<'a> {
    pub remote: &'a dyn Remote,
    /// The kind of its generations.
    pub kind: Kind,
    /// The prefix of its generations, which ends with `#g`.
    pub prefix: String,
    pub clock: &'a dyn Clock,
    /// Number of jobs that are known to write it.
    pub writers: usize,
}

impl Series<'_> {
    /// Like [`Remote::find`], but retries when the service throttles, because a save is worth a wait.
    pub(super) async fn find(&self, kind: Kind, prefixes: &[String]) -> Result<Option<Entry>, RemoteError> {
        self.patiently(|| self.remote.find(kind, prefixes)).await
    }

    pub(super) async fn patiently<T, F>(&self, lookup: impl Fn() -> F + Send) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<T, RemoteError>> + Send,
    {
        let begin = self.clock.now();
        loop {
            match lookup().await {
                Err(RemoteError::Throttled(why)) if self.clock.now().saturating_sub(begin) < THROTTLED => {
                    tracing::debug!("retrying a lookup: {why}");
                    self.clock.sleep(PAUSE + Duration::from_millis(self.clock.random(SPREAD))).await;
                }
                other => return other,
            }
        }
    }
}
