//! A series and its location.

use std::time::Duration;

use super::clock::Clock;
use super::find::{Newest, find};
use crate::remote::{Entry, Kind, Remote, RemoteError};

/// How long a throttled lookup is retried: two windows of the service.
const THROTTLED: Duration = Duration::from_mins(2);
/// The pause before a retry, plus a random part of [`SPREAD`] milliseconds.
const PAUSE: Duration = Duration::from_secs(15);
const SPREAD: u64 = 10_000;
/// Seconds for which offers have the same name. The slots before and after are searched too, because clocks differ.
const MINUTE: u64 = 120;

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

/// What others have written.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// The newest generation.
    pub(super) newest: Option<Newest>,
    /// The last offer.
    pub(super) offer: Option<Entry>,
}

impl Series<'_> {
    /// Looks up what others have written, with two lookups side by side.
    ///
    /// # Errors
    /// When the remote cannot be queried.
    pub(crate) async fn look_ahead(&self) -> Result<Ahead, RemoteError> {
        let (newest, offer) = futures_util::try_join!(self.newest(), self.last_offer())?;
        Ok(Ahead { newest, offer })
    }

    /// The newest generation that can be looked up.
    pub(super) async fn newest(&self) -> Result<Option<Newest>, RemoteError> {
        if !self.remote.is_readable() {
            return Ok(None);
        }
        let prefix = std::slice::from_ref(&self.prefix);
        let newest = self.patiently(|| find(self.remote, self.kind, prefix)).await?;
        Ok(newest.filter(|newest| newest.entry.name.starts_with(&self.prefix)))
    }

    /// The newest offer that can be looked up.
    pub(super) async fn last_offer(&self) -> Result<Option<Entry>, RemoteError> {
        if !self.remote.is_readable() {
            return Ok(None);
        }
        let recent = self.recent();
        let found = self.find(Kind::Offer, &recent).await?;
        Ok(found.filter(|entry| recent.iter().any(|prefix| entry.name.starts_with(prefix))))
    }

    pub(super) fn minute(&self) -> u64 {
        self.clock.seconds() / MINUTE
    }

    /// The prefix of all offers of a minute.
    pub(super) fn offers_of(&self, minute: u64) -> String {
        format!("{}{minute}.", self.prefix)
    }

    /// The prefixes of all offers of these minutes, the newest first.
    pub(super) fn recent(&self) -> Vec<String> {
        let minute = self.minute();
        [minute + 1, minute, minute.saturating_sub(1)].map(|minute| self.offers_of(minute)).into()
    }

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
