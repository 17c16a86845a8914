//! A series and where it is.

use std::time::Duration;

use super::clock::Clock;
use crate::remote::{Entry, Kind, Remote, RemoteError};

/// A lookup that the service throttles is made again for so long: two of its windows.
const THROTTLED: Duration = Duration::from_mins(2);
/// The pause before that, and a random part of [`SPREAD`] milliseconds on top.
const PAUSE: Duration = Duration::from_secs(15);
const SPREAD: u64 = 10_000;

/// Which series, and where.
pub(crate) struct Series<'a> {
    /// Where it is.
    pub remote: &'a dyn Remote,
    /// The kind of its generations.
    pub kind: Kind,
    /// What the names of its generations start with: ends with `#g`.
    pub prefix: String,
    /// The time.
    pub clock: &'a dyn Clock,
    /// How many jobs are known to write it, each now and then.
    pub writers: usize,
}

impl Series<'_> {
    /// [`Remote::find`], asked again when the service throttles: what a save has to add is worth a wait.
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
                    tracing::debug!("looked up again later: {why}");
                    self.clock.sleep(PAUSE + Duration::from_millis(self.clock.random(SPREAD))).await;
                }
                other => return other,
            }
        }
    }
}
