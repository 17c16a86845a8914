//! Searches for a usable record.
//!
//! 1. One lookup returns the newest generation of the first key or prefix that has one.
//! 2. It is read, and read again if damaged. An unreadable generation is skipped in favour of an older one and recorded as unread.
//! 3. Generations that the found one lists as unread are read now and merged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::StreamExt;

use super::envelope::HEAD;
use super::error::RecordError;
use super::find::find;
use super::names::is_name;
use super::number::generation_name;
use super::record::{Record, decode_within, room_beside};
use super::sign::Keyring;
use crate::base::clock::now;
use crate::base::digest::Sha;
use crate::base::note::{Code, Note};
use crate::remote::{Entry, Kind, Remote, RemoteError};

/// Largest record in bytes: it is read into memory as a whole.
pub(crate) const MAX_SIZE: u64 = 64 << 20;
/// Number of generations that are tried, from the newest back, before a key counts as a miss.
const GENERATIONS_TRIED: u64 = 4;
/// Number of failed reads after which the search ends: the next one would most likely fail in the same way.
const FAILURES: usize = 2;

/// A found record.
pub(crate) struct Found<R> {
    /// Its content.
    pub record: R,
    /// Its key, escaped.
    pub key: String,
    pub generation: u64,
    /// Bytes downloaded for it.
    pub bytes: u64,
    /// The name of the trusted key that signed it; None if no signature is required.
    pub signed_by: Option<String>,
}

/// The result of a search.
pub(crate) struct Search<F> {
    /// The record, if there is a usable one.
    pub found: Option<F>,
    /// Key and number of the newest existing generation, usable or not.
    pub newest: Option<(String, u64)>,
    /// Generations of that key whose content is not in `found` because they could not be read, each with the time of the first failure.
    /// The next generation must name them, otherwise their content would be lost. Those of `found` are in its record too.
    pub unread: BTreeMap<u64, u64>,
    /// Why the first of them could not be read now.
    pub unread_why: Option<String>,
}

impl<F> Default for Search<F> {
    fn default() -> Self {
        Self { found: None, newest: None, unread: BTreeMap::new(), unread_why: None }
    }
}

impl<F> Search<F> {
    /// The same search, with `change` made to what was found.
    pub(crate) fn map<G>(self, change: impl FnOnce(F) -> G) -> Search<G> {
        let Self { found, newest, unread, unread_why } = self;
        Search { found: found.map(change), newest, unread, unread_why }
    }
}

/// Returns the newest usable record of the first of `names` (prefixes of names of generations) that has one. Unreadable generations,
/// and those that `keys` does not trust, are skipped with a note. Generations that the found one lists as unread are read and merged.
///
/// # Errors
/// When the lookup fails.
pub(crate) async fn find_record<R: Record>(
    remote: &dyn Remote,
    names: &[String],
    keys: &Keyring,
    notes: &mut Vec<Note>,
) -> Result<Search<Found<R>>, RemoteError> {
    let kind = R::FORMAT.kind;
    let Some(found) = find(remote, kind, names).await? else { return Ok(Search::default()) };
    let (key, newest, entry) = (found.series, found.number, found.entry);
    if !is_name(&key) {
        tracing::debug!("{:?} is not the name of a generation", entry.name);
        return Ok(Search::default());
    }
    let mut search = Search { newest: Some((key.clone(), newest)), ..Search::default() };
    let mut entry = Some(entry);
    let mut failures = 0;
    let mut last = newest;
    for generation in (1..=newest).rev().take(GENERATIONS_TRIED as usize) {
        last = generation;
        let name = generation_name(&key, generation);
        let found = match entry.take() {
            Some(entry) => Ok(Some(entry)),
            None => find_exactly(remote, kind, &name).await,
        };
        let read = match found {
            Ok(None) => continue,
            Ok(Some(found)) => read_record(remote, &found, keys, u64::MAX).await,
            Err(error) => Err(Unusable::Remote(error)),
        };
        match read {
            Ok((record, signed_by, bytes)) => {
                search.found = Some(Found { record, key: key.clone(), generation, bytes, signed_by });
                break;
            }
            Err(why) => {
                let message = format!("Generation {generation} of {key}: {why}");
                if why.may_hold_more() {
                    search.unread.insert(generation, now());
                    search.unread_why.get_or_insert_with(|| message.clone());
                }
                note_unusable(&message, &why, notes);
                failures += usize::from(matches!(why, Unusable::Remote(_)));
            }
        }
        if failures == FAILURES {
            break;
        }
    }
    if search.found.is_none() && last > 1 && !search.unread.is_empty() {
        // Earlier unread generations were not read either.
        search.unread.insert(last - 1, now());
    }
    take_in_unread(remote, &key, keys, &mut search).await;
    Ok(search)
}

async fn find_exactly(remote: &dyn Remote, kind: Kind, name: &str) -> Result<Option<Entry>, RemoteError> {
    let found = remote.find(kind, &[name.to_owned()]).await?;
    Ok(found.filter(|entry| entry.name == name))
}

/// Number of generations that an earlier save did not read and that are read now.
const UNREAD_TRIED: usize = 8;
/// Seconds after which a missing generation counts as lost: its writer died, or it was evicted.
const UNREAD_AGE: u64 = 24 * 3600;

/// Merges generations that the found record lists as unread, and records in it which ones are still unread.
async fn take_in_unread<R: Record>(remote: &dyn Remote, key: &str, keys: &Keyring, search: &mut Search<Found<R>>) {
    let Some(found) = &mut search.found else { return };
    let mut waiting: BTreeMap<u64, u64> = std::mem::take(found.record.unread());
    let mut seen: BTreeSet<u64> = search.unread.keys().copied().collect();
    for _ in 0..UNREAD_TRIED {
        let Some((number, since)) = waiting.pop_last() else { break };
        if number == found.generation || !seen.insert(number) {
            continue;
        }
        let name = generation_name(key, number);
        let read = match find_exactly(remote, R::FORMAT.kind, &name).await {
            Ok(Some(entry)) => read_record::<R>(remote, &entry, keys, room_beside(&found.record)).await,
            Ok(None) if now().saturating_sub(since) > UNREAD_AGE => continue,
            Ok(None) => Err(Unusable::Remote(RemoteError::Gone(format!("{name} is not found.")))),
            Err(error) => Err(Unusable::Remote(error)),
        };
        match read {
            Ok((mut record, _, bytes)) => {
                tracing::info!("Merged generation {number} of {key}, which could not be read earlier.");
                waiting.append(record.unread());
                found.record.merge(record);
                found.bytes += bytes;
            }
            // An earlier job has found the same, which is the second proof.
            Err(why) if why.is_proven() || !why.may_hold_more() => {
                tracing::info!("Generation {number} of {key}: {why}");
            }
            Err(why) => {
                tracing::info!("Generation {number} of {key} is still unread: {why}");
                search.unread.insert(number, since);
            }
        }
    }
    waiting.retain(|number, _| *number != found.generation && !seen.contains(number));
    search.unread.append(&mut waiting);
    found.record.unread().clone_from(&search.unread);
}

/// Why a generation cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("Two reads of {0} gave different bytes: something on the way changes them.")]
    Unsteady(String),
    #[error("{0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Unusable {
    /// Returns whether another job may be able to read it.
    fn may_hold_more(&self) -> bool {
        !matches!(self, Self::Record(RecordError::Untrusted(_)))
    }

    /// Returns whether two independent reads returned the same damaged bytes.
    fn is_proven(&self) -> bool {
        matches!(self, Self::Record(RecordError::Damaged(_)))
    }
}

/// Before keys are introduced, nothing is signed: one note covers all generations.
fn note_unusable(message: &str, why: &Unusable, notes: &mut Vec<Note>) {
    match why {
        Unusable::Record(RecordError::Untrusted(_))
            if notes.iter().any(|note| note.code == Code::SnapshotUntrusted) =>
        {
            tracing::info!("{message}");
        }
        Unusable::Record(RecordError::Untrusted(_)) => notes.push(Note::warn(Code::SnapshotUntrusted, message)),
        _ => notes.push(Note::warn(Code::SnapshotUnreadable, message)),
    }
}

async fn read_record<R: Record>(
    remote: &dyn Remote,
    entry: &Entry,
    keys: &Keyring,
    room: u64,
) -> Result<(R, Option<String>, u64), Unusable> {
    let bytes = read_whole(remote, entry, most_bytes(room)).await?;
    let size = bytes.len() as u64;
    let decode = |bytes: Bytes| {
        let (name, keys) = (entry.name.clone(), keys.clone());
        let work = move || decode_within::<R>(&bytes, &name, &keys, room);
        async {
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => runtime.spawn_blocking(work).await,
                // Simulations have a clock and no runtime.
                Err(_) => Ok(work()),
            }
        }
    };
    let bytes = Bytes::from(bytes);
    match decode(bytes.clone()).await? {
        Ok((record, signed_by)) => Ok((record, signed_by, size)),
        Err(damaged @ RecordError::Damaged(_)) => {
            tracing::debug!("reading {} again: {damaged}", entry.name);
            // Both at once would take twice the memory.
            let first = Sha::of(&bytes);
            drop(bytes);
            let again = Bytes::from(read_again(remote, entry, size).await?);
            if Sha::of(&again) == first {
                return Err(damaged.into());
            }
            match decode(again).await? {
                Err(RecordError::Damaged(_)) => Err(Unusable::Unsteady(entry.name.clone())),
                other => other.map(|(record, signed_by)| (record, signed_by, size)).map_err(Into::into),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads `entry` again with a separate lookup and address, and split at a different place, so that errors on the way show as a
/// difference.
async fn read_again(remote: &dyn Remote, entry: &Entry, size: u64) -> Result<Vec<u8>, RemoteError> {
    let gone = || RemoteError::Gone(format!("{} is not found any more.", entry.name));
    let entry = find_exactly(remote, entry.kind, &entry.name).await?.ok_or_else(gone)?;
    if entry.size.is_none() {
        // The first read may have been truncated unnoticed.
        match remote.read(&entry, size..size + 1).await {
            Err(RemoteError::Short(_)) => {}
            Err(error) => return Err(error),
            Ok(_) => return read_whole(remote, &entry, MAX_SIZE).await,
        }
    }
    let size = entry.size.unwrap_or(size);
    if size > MAX_SIZE {
        return Err(RemoteError::Gone(format!("{} is too large for an entry of its kind.", entry.name)));
    }
    let cut = size / 3;
    let mut bytes = remote.read(&entry, 0..cut).await?.to_vec();
    bytes.extend_from_slice(&remote.read(&entry, cut..size).await?);
    Ok(bytes)
}

/// The most bytes of an entry whose record may weigh `room`: JSON weighs more than its compressed bytes.
pub(crate) fn most_bytes(room: u64) -> u64 {
    room.saturating_add(HEAD as u64).min(MAX_SIZE)
}

async fn read_whole(remote: &dyn Remote, entry: &Entry, most: u64) -> Result<Vec<u8>, RemoteError> {
    let mut stream = remote.stream(entry).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() as u64 > most {
            return Err(RemoteError::Gone(format!("{} is too large for an entry of its kind.", entry.name)));
        }
    }
    Ok(bytes)
}

/// Like [`read_whole`]; None if its bytes no longer exist, or are too many.
pub(crate) async fn read_generation(
    remote: &dyn Remote,
    entry: &Entry,
    most: u64,
) -> Result<Option<Vec<u8>>, RemoteError> {
    match read_whole(remote, entry, most).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(RemoteError::Gone(why)) if most < MAX_SIZE => {
            tracing::debug!("{}: {why}", entry.name);
            Ok(None)
        }
        Err(RemoteError::Gone(why)) => {
            tracing::warn!("Cannot read {}: {why}", entry.name);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Decodes a generation or an offer that another job wrote, which may weigh `room`, to merge it. None, with a note, if it is not trusted, damaged, or
/// too large for both in memory: what is merged is signed.
pub(crate) fn decode_to_merge<R: Record>(
    room: u64,
    entry: &Entry,
    bytes: &[u8],
    keys: &Keyring,
    notes: &mut Vec<Note>,
) -> Option<R> {
    match decode_within(bytes, &entry.name, keys, room) {
        Ok((other, _)) => Some(other),
        Err(error) => {
            let why = Unusable::from(error);
            note_unusable(&format!("{}: {why}", entry.name), &why, notes);
            None
        }
    }
}
