//! Adds to a record that is a union: a job's additions are merged into the newest generation and written as the next one.

use async_trait::async_trait;
use bytes::Bytes;

use super::append::{Appended, Draft, TakenIn, append};
use super::clock::{Clock, SystemClock};
use super::number::generation_prefix;
use super::place::Series;
use super::record::{Record, decode_within, encode, room_beside};
use super::search::{Search, decode_to_merge, find_record, most_bytes, read_generation};
use super::sign::Keyring;
use crate::base::clock::now;
use crate::base::note::Note;
use crate::remote::{Entry, Kind, Remote, RemoteError};

/// The target of an addition.
pub(crate) struct Target<'a, R> {
    /// Where the series is.
    pub remote: &'a dyn Remote,
    /// Its key, escaped.
    pub key: &'a str,
    /// The keys to sign with, and the keys that existing generations must be signed by.
    pub keys: &'a Keyring,
    /// Removes expired content.
    pub prune: fn(&mut R),
}

/// The record under a key.
#[derive(Default)]
pub(crate) struct Loaded<R> {
    /// The newest usable generation; the default if there is none.
    pub record: R,
    /// The number of the newest generation, usable or not; 0 if there is none.
    newest: u64,
}

/// Reads the record under `key`, as far as `keys` trusts it. Problems without data loss are added to `notes`.
///
/// # Errors
/// When the remote cannot be queried.
pub(crate) async fn load<R: Record + Default>(
    remote: &dyn Remote,
    key: &str,
    keys: &Keyring,
    notes: &mut Vec<Note>,
) -> Result<Loaded<R>, RemoteError> {
    let search = find_record::<R>(remote, &[generation_prefix(key)], keys, notes).await?;
    let Search { found, newest, unread, .. } = search;
    // Unusable generations have numbers too.
    let newest = newest.filter(|(of, _)| of == key).map_or(0, |(_, number)| number);
    let mut record = found.filter(|found| found.key == key).map(|found| found.record).unwrap_or_default();
    record.unread().extend(unread);
    Ok(Loaded { record, newest })
}

/// Adds `own` to the newest generation, and writes the next one. `loaded` is what [`load`] has read, if it was called before. Problems
/// without data loss are added to `notes`.
///
/// # Errors
/// When the remote fails or refuses, or other jobs were faster for minutes.
pub(crate) async fn add<R: Record + Default + Clone + Sync>(
    target: &Target<'_, R>,
    loaded: Option<Loaded<R>>,
    own: R,
    notes: &mut Vec<Note>,
) -> Result<Appended, RemoteError> {
    add_at(&SystemClock::start(), target, (loaded, own), notes).await
}

/// [`add`] with the time of this clock.
pub(crate) async fn add_at<R: Record + Default + Clone + Sync>(
    clock: &dyn Clock,
    target: &Target<'_, R>,
    (loaded, own): (Option<Loaded<R>>, R),
    notes: &mut Vec<Note>,
) -> Result<Appended, RemoteError> {
    let Loaded { mut record, newest } = match loaded {
        Some(loaded) => loaded,
        None if target.remote.is_readable() => load(target.remote, target.key, target.keys, notes).await?,
        None => Loaded::default(),
    };
    record.merge(own.clone());
    (target.prune)(&mut record);
    let mut draft = Union { target, record, own, notes };
    let prefix = generation_prefix(target.key);
    let series = Series { remote: target.remote, kind: R::FORMAT.kind, prefix, clock, writers: 0 };
    append(&series, &mut draft, newest, None).await
}

/// The record to write.
struct Union<'a, 'b, R> {
    target: &'a Target<'b, R>,
    /// The complete record.
    record: R,
    /// The part that no generation has yet: of this job, and of the jobs whose offers it has merged.
    own: R,
    notes: &'a mut Vec<Note>,
}

#[async_trait]
impl<R: Record + Default + Clone + Sync> Draft for Union<'_, '_, R> {
    fn encode(&mut self, kind: Kind, name: &str) -> Result<Bytes, RemoteError> {
        let record = if kind == Kind::Offer { &self.own } else { &self.record };
        let bytes = encode(record, name, self.target.keys);
        bytes.map(Bytes::from).map_err(|error| RemoteError::Local(format!("Nothing is saved under {name}: {error}")))
    }

    async fn read(&self, entry: &Entry, most: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        read_generation(self.target.remote, entry, most.min(most_bytes(room_beside(&self.record)))).await
    }

    fn unread(&mut self, number: u64) {
        self.record.unread().insert(number, now());
    }

    fn has(&self, entry: &Entry, bytes: Vec<u8>) -> bool {
        decode_within::<R>(&bytes, &entry.name, self.target.keys, room_beside(&self.record))
            .map_or(true, |(other, _)| self.record.covers(&other))
    }

    fn take_in(&mut self, entry: &Entry, bytes: Vec<u8>) -> TakenIn {
        let Some(other) = decode_to_merge::<R>(room_beside(&self.record), entry, &bytes, self.target.keys, self.notes)
        else {
            return TakenIn::Unusable;
        };
        let covered = other.covers(&self.own);
        if entry.kind == Kind::Offer {
            self.own.merge(other.clone());
        }
        self.record.merge(other);
        (self.target.prune)(&mut self.record);
        if covered { TakenIn::Covered } else { TakenIn::Merged }
    }
}
