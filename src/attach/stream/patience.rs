//! How long a chunk is sought before a read of it fails.
//!
//! 1. Each attempt ends with a new lookup: an address may have become invalid, lead to a damaged copy, or lead to another remote now.
//! 2. An outage is waited for until the patience is used up.
//! 3. Four answers that do not match the digest, or three lookups that do not find the entry, are a doubt about the entry: its bytes are
//!    sought in other entries ([`super::elsewhere`]). If they are nowhere, attempts go on for a while, because a service may find again
//!    what it has lost, and a read that fails breaks the job.
//! 4. Once a part of an entry was given up, other parts are given up at the first doubt. A job that reads many of them would otherwise
//!    wait for each.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;

use super::blobs::{Blobs, is_right};
use super::plan::{Chunk, Mark};
use crate::remote::{Entry, Kind, RemoteError};

/// Number of wrong answers, and of lookups without the entry, that are a doubt about it.
const WRONG: u32 = 4;
const ABSENT: u32 = 3;
/// The longest pause, in first ones.
const LONGEST: u32 = 16;
/// Longest time for a lookup.
const FOR_LOOKUP: Duration = Duration::from_secs(16);

/// Why a chunk could not be fetched.
pub(super) struct Failure {
    pub why: String,
    /// Whether the entry itself is at fault, so that another attempt is useless.
    pub is_final: bool,
}

/// The attempts to fetch a chunk.
struct Attempts {
    start: Instant,
    pause: Duration,
    wrong: u32,
    absent: u32,
    /// When the first answer came that is one of these.
    doubt: Option<Instant>,
    entry: Entry,
}

impl Attempts {
    fn is_doubtful(&self) -> bool {
        self.wrong >= WRONG || self.absent >= ABSENT
    }

    /// Counts an answer that says something about the entry.
    fn count(&mut self, is_wrong: bool, is_absent: bool) {
        self.wrong += u32::from(is_wrong);
        self.absent += u32::from(is_absent);
        if is_wrong || is_absent {
            self.doubt.get_or_insert_with(Instant::now);
        }
    }
}

impl Blobs {
    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(self.plan.patience_ms)
    }

    /// Fetches a chunk that is wanted since `start` from its entry, or from others.
    pub(super) async fn fetch_or_recover(&self, chunk: Chunk, start: Instant) -> Result<(Bytes, Mark), Failure> {
        let (entry, pause) = (self.entry(chunk.0), Duration::from_millis(self.plan.pause_ms));
        let mut attempts = Attempts { start, pause, wrong: 0, absent: 0, doubt: None, entry };
        let failure = match self.fetch_until(chunk, &mut attempts, Duration::ZERO).await {
            Ok(bytes) => return Ok((bytes, Mark::Here)),
            Err(failure) => failure,
        };
        let name = &self.plan.blobs[chunk.0 as usize].entry;
        if let Some(bytes) = self.recover(chunk).await {
            tracing::info!("Chunk {} of {name} was read from other entries: {}", chunk.1, failure.why);
            if !failure.is_final {
                return Ok((bytes.into(), Mark::Here));
            }
            let mut work = self.work();
            work.lost.insert(chunk, (Mark::Recovered, failure.why));
            return Ok((bytes.into(), Mark::Recovered));
        }
        // Before anything is mounted, a layer that is lost is a smaller hit.
        let is_mounted = self.has_tables.load(Ordering::Relaxed);
        if !failure.is_final || !is_mounted || self.work().hopeless.contains(&chunk.0) {
            return Err(failure);
        }
        tracing::info!("Chunk {} of {name} is waited for: {}", chunk.1, failure.why);
        let give_up = Duration::from_millis(self.plan.give_up_ms);
        Ok((self.fetch_until(chunk, &mut attempts, give_up).await?, Mark::Here))
    }

    /// Fetches a chunk with retries until the patience is used up. A doubt about its entry counts when it is as old as `least`.
    async fn fetch_until(&self, chunk: Chunk, attempts: &mut Attempts, least: Duration) -> Result<Bytes, Failure> {
        let patience = self.patience();
        loop {
            let left = patience.saturating_sub(attempts.start.elapsed());
            let read = timeout(left, self.remote.read(&attempts.entry, self.range(chunk, 1))).await;
            let why = match read {
                Ok(Ok(bytes)) if is_right(&bytes, &self.digest(chunk).0).await => return Ok(bytes),
                Ok(Ok(_)) => {
                    attempts.count(true, false);
                    "its bytes do not match their digest".to_owned()
                }
                Ok(Err(error)) => {
                    attempts.count(matches!(error, RemoteError::Short(_)), matches!(error, RemoteError::Gone(_)));
                    error.to_string()
                }
                Err(_) => "it did not arrive in time".to_owned(),
            };
            let passed = attempts.start.elapsed();
            let is_final = attempts.is_doubtful() && attempts.doubt.is_some_and(|doubt| doubt.elapsed() >= least);
            // Nothing is mounted yet, and a download needs no ranges.
            let is_useless = !self.has_tables.load(Ordering::Relaxed) && !self.remote.ranges_work();
            if is_final || is_useless || passed >= patience {
                return Err(Failure { why, is_final: attempts.is_doubtful() });
            }
            tracing::debug!("fetching chunk {} of {} again: {why}", chunk.1, attempts.entry.name);
            self.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(attempts.pause.min(patience.saturating_sub(passed))).await;
            attempts.pause = (attempts.pause * 2).min(Duration::from_millis(self.plan.pause_ms) * LONGEST);
            let name = &attempts.entry.name;
            let lookup = self.remote.find(Kind::Layer, std::slice::from_ref(name));
            if let Ok(Ok(Some(found))) = timeout(FOR_LOOKUP, lookup).await
                && found.name == *name
            {
                attempts.entry = found;
            }
        }
    }
}
