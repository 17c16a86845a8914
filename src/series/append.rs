//! Writes the next generation of a series, even when many jobs do so at the same time.
//!
//! Reserving a name is strongly consistent and uses one of the 200 reservations a minute of the whole repository. A lookup is
//! cheap, and sees an entry one or two seconds after it was written. Therefore:
//!
//! 1. Look up and merge a newer generation before anything is reserved. Offers are looked up at the same time.
//! 2. Reserve and write the next number, unless other jobs are queued. The job that gets the number is done.
//! 3. Every other job leaves an offer: an entry with its additions. Offers are named by the minute, so that all jobs find them.
//! 4. After a while, the job with the last offer merges all offers of these minutes and writes them. The others wait until they
//!    find a generation that contains their offer; if none appears, they write all offers themselves.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::find::Newest;
use super::number::next_number;
use super::place::{Ahead, Series};
use super::search::MAX_SIZE;
use crate::remote::{Entry, Kind, Put, RemoteError};

/// Time after which a started write can be looked up: the lag of lookups plus the time of a small upload. A number that cannot be
/// looked up by then belongs to a slow or killed job, and all earlier offers are visible.
const SETTLED: Duration = Duration::from_millis(3500);
/// Time that the last queued job has for writing all offers, plus a random part of it, so that not all jobs lose patience at once.
const FOLLOW: Duration = Duration::from_secs(20);
const SPREAD: u64 = 15_000;
/// The same with many queued jobs: they use up the reservations of a minute, and the last one has to wait for the next minute.
const FOLLOW_MANY: Duration = Duration::from_secs(75);
const SPREAD_MANY: u64 = 45_000;
const PAUSE_MANY: Duration = Duration::from_secs(15);
/// How often a queued job checks whether it has become the last one, because the other offers have become old.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// After a longer write, other jobs may have treated the number as never finished.
const QUICK: Duration = Duration::from_secs(3);
/// The lag of lookups.
const LAG: Duration = Duration::from_secs(2);
/// Number of writers from which each waits a random time before it reserves a number: this many milliseconds per writer, at most
/// [`MOST_DELAY`].
const CROWD: usize = 10;
const EACH: u64 = 100;
const MOST_DELAY: u64 = 8_000;
/// Number of rounds, and total time, after which the save is abandoned. This is normally less than the time limit of a save.
const ROUNDS: usize = 12;
const LONGEST: Duration = Duration::from_mins(8);

/// A record that can be written, and can merge what others wrote.
#[async_trait]
pub(crate) trait Draft: Send + Sync {
    /// Returns the bytes to store under `name`, as a generation or as an offer.
    fn encode(&mut self, kind: Kind, name: &str) -> Result<Bytes, RemoteError>;

    /// Reads the bytes of a generation or an offer; None if they no longer exist, or are more than `most`.
    ///
    /// # Errors
    /// When it cannot currently be read.
    async fn read(&self, entry: &Entry, most: u64) -> Result<Option<Vec<u8>>, RemoteError>;

    /// Records that generation `number` could not be read, so that later readers try it again.
    fn unread(&mut self, number: u64);

    /// Returns whether this record contains the whole offer.
    fn has(&self, entry: &Entry, bytes: Vec<u8>) -> bool;

    /// Merges a generation or an offer.
    fn take_in(&mut self, entry: &Entry, bytes: Vec<u8>) -> TakenIn;
}

/// The result of merging an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakenIn {
    /// The entry contained everything that this job has to add, and has been merged.
    Covered,
    /// This job has additions to it.
    Merged,
    /// It is damaged or not trusted, and is skipped.
    Unusable,
}

/// What this job, or another one for it, has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The generation that contains everything.
    pub number: u64,
    /// Number of entries that this job created.
    pub entries: u64,
    /// Total bytes of these entries.
    pub bytes: u64,
    /// Whether other jobs were writing at the same time.
    pub contended: bool,
}

/// Writes `record` as the generation after the newest one. `seen` is the generation whose content it already has, 0 for none; `ahead` is
/// what [`Series::look_ahead`] found a moment ago.
///
/// # Errors
/// When the remote refuses or fails, or other jobs were faster for minutes.
pub(crate) async fn append(
    series: &Series<'_>,
    record: &mut dyn Draft,
    seen: u64,
    mut ahead: Option<Ahead>,
) -> Result<Appended, RemoteError> {
    let written = Appended { number: 0, entries: 0, bytes: 0, contended: false };
    let mut writer = Writer {
        series,
        record,
        seen,
        passed: BTreeSet::new(),
        leads: false,
        offer: None,
        slowest: Duration::ZERO,
        written,
    };
    let begin = series.clock.now();
    if series.writers >= CROWD {
        // They are likely to come all at once. Jobs that come a little later see the offers of the others and need no reservation.
        let most = (series.writers as u64 * EACH).min(MOST_DELAY);
        series.clock.sleep(Duration::from_millis(series.clock.random(most))).await;
        ahead = None;
    }
    for _ in 0..ROUNDS {
        if let Some(done) = writer.round(ahead.take()).await? {
            return Ok(done);
        }
        if series.clock.now().saturating_sub(begin) > LONGEST {
            break;
        }
    }
    if writer.look().await? == Some(TakenIn::Covered) {
        return Ok(writer.done(writer.seen));
    }
    let waited = series.clock.now().saturating_sub(begin).as_secs();
    Err(RemoteError::Failed(format!(
        "other jobs were writing {}… for {waited} s without end. The additions of this job are not in the cache; the next job \
        that needs them saves them.",
        series.prefix
    )))
}

pub(super) struct Writer<'a, 'b> {
    pub(super) series: &'a Series<'b>,
    pub(super) record: &'a mut dyn Draft,
    /// The newest generation whose content `record` has.
    seen: u64,
    /// Taken numbers that could not be read.
    passed: BTreeSet<u64>,
    /// Whether this job has merged the offers of its round and is to write them.
    leads: bool,
    /// The offer of this job: its minute and its name.
    pub(super) offer: Option<(u64, String)>,
    /// How long it took to leave one.
    slowest: Duration,
    written: Appended,
}

impl Writer<'_, '_> {
    /// Tries to write the next number once. None if it has to be retried.
    async fn round(&mut self, ahead: Option<Ahead>) -> Result<Option<Appended>, RemoteError> {
        let leads = std::mem::take(&mut self.leads);
        let found = match ahead {
            Some(ahead) => ahead,
            None if leads || self.written.contended => {
                Ahead { newest: self.series.newest().await?, ..Ahead::default() }
            }
            None => self.series.look_ahead().await?,
        };
        if self.see(found.newest).await? == Some(TakenIn::Covered) {
            return Ok(Some(self.done(self.seen)));
        }
        // If other jobs are queued, a reservation would be useless.
        if !leads && (self.written.contended || self.is_missing(found.offer).await?) {
            self.written.contended = true;
            return self.line_up(None).await;
        }
        let (start, number) = (self.series.clock.now(), self.next());
        let name = format!("{}{number}", self.series.prefix);
        if self.put(self.series.kind, &name).await? == Put::Stored {
            // It has been written, whatever lookups return now.
            if self.was_passed(number, start).await.unwrap_or(false) {
                return Ok(None);
            }
            return Ok(Some(self.done(number)));
        }
        if !self.is_readable() {
            return Err(crate::remote::taken_unseen("A generation of this key"));
        }
        self.written.contended = true;
        self.line_up(Some(number)).await
    }

    fn is_readable(&self) -> bool {
        self.series.remote.is_readable()
    }

    /// The number to try: the one after the newest and after all unfinished ones, which are skipped in increasing steps.
    fn next(&self) -> u64 {
        match self.passed.last() {
            Some(passed) if *passed > self.seen => {
                let step = 1_u64 << (self.passed.len() - 1).min(20);
                (1..step).fold(next_number(*passed), |number, _| next_number(number))
            }
            _ => next_number(self.seen),
        }
    }

    /// Returns whether the newest offer is that of this job, or there is none.
    async fn is_last(&self) -> Result<bool, RemoteError> {
        let last = self.series.last_offer().await?.map(|last| last.name);
        Ok(last.is_none() || last.as_ref() == self.offer.as_ref().map(|offer| &offer.1))
    }

    /// Returns whether there is an offer, of which this is the last one, that no generation contains yet.
    async fn is_missing(&self, last: Option<Entry>) -> Result<bool, RemoteError> {
        let Some(last) = last else { return Ok(false) };
        Ok(self.record.read(&last, MAX_SIZE).await?.is_some_and(|bytes| !self.record.has(&last, bytes)))
    }

    fn done(&self, number: u64) -> Appended {
        Appended { number, ..self.written }
    }

    pub(super) async fn put(&mut self, kind: Kind, name: &str) -> Result<Put, RemoteError> {
        let bytes = self.record.encode(kind, name)?;
        let size = bytes.len() as u64;
        let put = self.series.remote.put_bytes(kind, name, bytes).await?;
        if put == Put::Stored {
            self.written.entries += 1;
            self.written.bytes += size;
        }
        Ok(put)
    }

    /// Merges the newest generation, if it differs from the last one seen.
    async fn look(&mut self) -> Result<Option<TakenIn>, RemoteError> {
        let newest = self.series.newest().await?;
        self.see(newest).await
    }

    /// Merges the generation that was found, if it differs from the last one seen.
    async fn see(&mut self, newest: Option<Newest>) -> Result<Option<TakenIn>, RemoteError> {
        let Some(newest) = newest else { return Ok(None) };
        // A lagging lookup can return an older one.
        if newest.number <= self.seen && newest.number.abs_diff(self.seen) < 1000 {
            return Ok(None);
        }
        let taken_in = self.take_in(&newest.entry).await;
        self.seen = newest.number;
        Ok(Some(taken_in.unwrap_or_else(|error| {
            tracing::warn!("Cannot read {}: {error} The next generation points to it.", newest.entry.name);
            self.record.unread(newest.number);
            TakenIn::Unusable
        })))
    }

    async fn take_in(&mut self, entry: &Entry) -> Result<TakenIn, RemoteError> {
        let bytes = self.record.read(entry, MAX_SIZE).await?;
        Ok(bytes.map_or(TakenIn::Unusable, |bytes| self.record.take_in(entry, bytes)))
    }

    /// Returns whether a generation written meanwhile lacks what this job wrote as `number`, or the reverse: one of the two jobs
    /// treated the other's reservation as never finished.
    async fn was_passed(&mut self, number: u64, start: Duration) -> Result<bool, RemoteError> {
        let slow = self.series.clock.now().saturating_sub(start) > QUICK;
        if !self.is_readable() || (!slow && self.passed.is_empty()) {
            return Ok(false);
        }
        self.series.clock.sleep(LAG).await;
        let mut again = false;
        for passed in std::mem::take(&mut self.passed) {
            let name = format!("{}{passed}", self.series.prefix);
            let found = self.series.find(self.series.kind, std::slice::from_ref(&name)).await?;
            match found.filter(|entry| entry.name == name) {
                Some(entry) => again |= self.take_in(&entry).await? != TakenIn::Unusable,
                None => drop(self.passed.insert(passed)),
            }
        }
        self.seen = number;
        match self.look().await? {
            Some(TakenIn::Covered) => Ok(false),
            Some(TakenIn::Merged | TakenIn::Unusable) => Ok(true),
            None => Ok(again),
        }
    }

    /// Handles other writers: leaves an offer, and waits for a generation that contains it, or for this job's turn. `taken` is a
    /// reserved number that cannot be looked up yet.
    async fn line_up(&mut self, taken: Option<u64>) -> Result<Option<Appended>, RemoteError> {
        let (series, before) = (self.series, self.seen);
        let since = |start: Duration| series.clock.now().saturating_sub(start);
        if let Some(number) = taken {
            tracing::info!("Waiting for generation {number}, which another job is writing.");
        } else {
            tracing::info!("Other jobs are about to save; joining them.");
        }
        let arrived = series.clock.now();
        self.offer().await?;
        let begin = series.clock.now();
        // If reservations are throttled, the job that writes the offers has to wait too.
        let slow = (begin.saturating_sub(arrived)).max(self.slowest);
        self.slowest = slow;
        let settled = SETTLED + slow / 2;
        let mut give_up =
            FOLLOW + 3 * slow + Duration::from_millis(series.clock.random(SPREAD + slow.as_millis() as u64));
        let mut pause = Duration::from_millis(1500 + series.clock.random(1000));
        let (mut leads, mut asked, mut is_patient) = (false, None, false);
        loop {
            series.clock.sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_secs(if since(begin) < FOLLOW { 2 } else { 6 }));
            if self.look().await? == Some(TakenIn::Covered) {
                tracing::info!("Generation {}, by another job, contains what this job had to save.", self.seen);
                return Ok(Some(self.done(self.seen)));
            }
            if since(begin) < settled {
                pause = pause.min(settled.saturating_sub(since(begin)).max(Duration::from_millis(100)));
                continue;
            }
            if asked.is_none_or(|asked| since(asked) > ASK_AGAIN) {
                leads = self.is_last().await?;
                // With many queued jobs, each looks less often and waits longer for the last one.
                if !leads && !is_patient && self.are_many().await? {
                    is_patient = true;
                    give_up = give_up.max(FOLLOW_MANY + Duration::from_millis(series.clock.random(SPREAD_MANY)));
                }
                asked = Some(series.clock.now());
            }
            if !leads && since(begin) < give_up {
                if is_patient {
                    pause = PAUSE_MANY;
                }
                continue;
            }
            if let Some(number) = taken.filter(|_| self.seen == before) {
                let seconds = since(begin).as_secs();
                tracing::info!(
                    "Generation {number} was reserved but not finished within {seconds} s: its job is slow or was killed. \
                    Using another number."
                );
                self.passed.insert(number);
                self.record.unread(number);
            }
            self.gather().await;
            self.leads = true;
            return Ok(None);
        }
    }
}
