//! The entries: who holds which key, what a lookup finds, and what is evicted.

use std::collections::BTreeMap;

use serde::Serialize;

use super::clock::Millis;
use super::limits::Window;

/// Entries that nobody touched for this long are gone.
const RETENTION: Millis = 7 * 24 * 3_600_000;

/// One reservation, or one entry once it is finalized.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    /// Its number, which rises with creation.
    pub id: u64,
    /// The repository it belongs to.
    pub repository: u64,
    /// The Git ref it was written from.
    pub scope: String,
    /// Its key.
    pub key: String,
    /// The version that a lookup must name too.
    pub version: String,
    /// The name of its blob.
    pub blob: String,
    /// Its size in bytes; none while it is only reserved.
    pub size: Option<u64>,
    /// When it was reserved.
    pub created: Millis,
    /// When it was finalized.
    pub finalized: Option<Millis>,
    /// When it was last looked up or read.
    pub accessed: Millis,
}

/// The place of an entry: nothing else may have the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The repository.
    pub repository: u64,
    /// The Git ref.
    pub scope: &'a str,
    /// The key.
    pub key: &'a str,
    /// The version.
    pub version: &'a str,
}

/// What a lookup asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'a> {
    /// The repository.
    pub repository: u64,
    /// Scopes, in the order of search.
    pub scopes: &'a [&'a str],
    /// Keys, in the order of search.
    pub keys: &'a [&'a str],
    /// The version.
    pub version: &'a str,
    /// Entries finalized after this moment are not seen yet.
    pub settled: Millis,
}

/// Why a finalize was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotFinalized {
    /// There is no such reservation.
    NoReservation,
    /// The blob is missing, or of another size.
    WrongSize,
}

/// A finalize that went well: the id, and the blobs that had to make room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finalized {
    /// The entry.
    pub id: u64,
    /// Blobs of evicted entries.
    pub evicted: Vec<String>,
}

/// Everything that is reserved or stored, and the counters of the limits.
#[derive(Debug, Default)]
pub(super) struct State {
    entries: Vec<Entry>,
    last_id: u64,
    /// Creations of each repository.
    pub creations: BTreeMap<u64, Window>,
    /// Lookups of each repository.
    pub downloads: BTreeMap<u64, Window>,
}

impl State {
    /// Reserves a place for the blob `blob`; none if it was reserved before, finalized or not.
    pub(super) fn reserve(&mut self, place: Place<'_>, blob: &str, now: Millis) -> Option<u64> {
        if self.at(place).is_some() {
            return None;
        }
        self.last_id += 1;
        self.entries.push(Entry {
            id: self.last_id,
            repository: place.repository,
            scope: place.scope.to_owned(),
            key: place.key.to_owned(),
            version: place.version.to_owned(),
            blob: blob.to_owned(),
            size: None,
            created: now,
            finalized: None,
            accessed: now,
        });
        Some(self.last_id)
    }

    /// The blob of a place.
    pub(super) fn blob(&mut self, place: Place<'_>) -> Option<String> {
        self.at(place).map(|entry| entry.blob.clone())
    }

    /// Makes a reservation an entry of `size` bytes, if its blob has as many (`stored`), then evicts those that were
    /// accessed longest ago until all fit into `quota`. Finalizing again with the same size changes nothing.
    pub(super) fn finalize(
        &mut self,
        place: Place<'_>,
        size: u64,
        stored: Option<u64>,
        quota: u64,
        now: Millis,
    ) -> Result<Finalized, NotFinalized> {
        let entry = self.at(place).ok_or(NotFinalized::NoReservation)?;
        let id = entry.id;
        match entry.size {
            Some(known) if known == size => return Ok(Finalized { id, evicted: Vec::new() }),
            None if stored == Some(size) => {}
            _ => return Err(NotFinalized::WrongSize),
        }
        entry.size = Some(size);
        entry.finalized = Some(now);
        entry.accessed = now;
        Ok(Finalized { id, evicted: self.evict(place.repository, quota) })
    }

    /// The entry that a lookup finds: scopes go before keys, and for each key an exact match before the newest whose
    /// key starts with it. The lookup counts as an access.
    pub(super) fn lookup(&mut self, search: &Search<'_>, now: Millis) -> Option<Entry> {
        let found = search.scopes.iter().find_map(|scope| {
            search.keys.iter().find_map(|key| {
                self.newest(search, scope, |entry| entry.key == *key)
                    .or_else(|| self.newest(search, scope, |entry| entry.key.starts_with(key)))
            })
        })?;
        self.touch(|entry| entry.id == found, now);
        self.entries.iter().find(|entry| entry.id == found).cloned()
    }

    /// Notes that a blob was read.
    pub(super) fn read(&mut self, blob: &str, now: Millis) {
        self.touch(|entry| entry.blob == blob, now);
    }

    /// Drops the entries that nobody touched in a week, and returns their blobs.
    pub(super) fn expire(&mut self, now: Millis) -> Vec<String> {
        let gone = self.remove(|entry| entry.size.is_some() && entry.accessed + RETENTION <= now);
        gone.into_iter().map(|entry| entry.blob).collect()
    }

    /// Takes out the finalized entries that `gone` chooses. Their keys are free again.
    pub(super) fn remove(&mut self, gone: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        self.entries.extract_if(.., |entry| entry.size.is_some() && gone(entry)).collect()
    }

    /// The finalized entries.
    pub(super) fn finalized(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.size.is_some())
    }

    /// All reservations, finalized or not, in the order of creation.
    pub(super) fn all(&self) -> &[Entry] {
        &self.entries
    }

    fn at(&mut self, place: Place<'_>) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| {
            entry.repository == place.repository
                && entry.scope == place.scope
                && entry.key == place.key
                && entry.version == place.version
        })
    }

    fn newest(&self, search: &Search<'_>, scope: &str, fits: impl Fn(&Entry) -> bool) -> Option<u64> {
        self.finalized()
            .filter(|entry| entry.repository == search.repository && entry.scope == scope)
            .filter(|entry| entry.version == search.version && fits(entry))
            .filter(|entry| entry.finalized.is_some_and(|at| at <= search.settled))
            .max_by_key(|entry| (entry.created, entry.id))
            .map(|entry| entry.id)
    }

    fn touch(&mut self, which: impl Fn(&Entry) -> bool, now: Millis) {
        for entry in self.entries.iter_mut().filter(|entry| which(entry)) {
            entry.accessed = now;
        }
    }

    fn evict(&mut self, repository: u64, quota: u64) -> Vec<String> {
        let mut evicted = Vec::new();
        loop {
            let of_repository = || self.finalized().filter(|entry| entry.repository == repository);
            if of_repository().filter_map(|entry| entry.size).sum::<u64>() <= quota {
                return evicted;
            }
            let Some(oldest) = of_repository().min_by_key(|entry| (entry.accessed, entry.id)).map(|entry| entry.id)
            else {
                return evicted;
            };
            evicted.extend(self.remove(|entry| entry.id == oldest).into_iter().map(|entry| entry.blob));
        }
    }
}
