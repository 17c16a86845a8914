//! Offers: the additions of jobs that write at the same time, each in a separate entry that the others find by its name.

use futures_util::StreamExt;

use super::append::{TakenIn, Writer};
use super::search::MAX_SIZE;
use crate::remote::{Entry, Kind, Put, RemoteError};

/// Binary digits of the slots for offers of one minute. Of 100 jobs that choose one at random, one in six has to choose again.
const DIGITS: usize = 8;
/// Number of slots that are tried for one offer.
const SLOTS_TRIED: usize = 8;
/// Number of concurrent lookups while offers are collected.
const LOOKUPS: usize = 32;
/// Number of offers that are read concurrently, and the most bytes of each. Larger ones are read one after the other.
const READS: usize = 8;
const SMALL: u64 = 8 << 20;

impl Writer<'_, '_> {
    /// Stores this job's offer in a free slot, unless it has done so in these minutes. Without a slot, this job proceeds alone.
    pub(super) async fn offer(&mut self) -> Result<(), RemoteError> {
        let minute = self.series.minute();
        if self.offer.as_ref().is_some_and(|offer| offer.0 + 1 >= minute) {
            return Ok(());
        }
        for _ in 0..SLOTS_TRIED {
            let slot = self.series.clock.random(1 << DIGITS);
            let name = format!("{}{slot:0DIGITS$b}", self.series.offers_of(minute));
            if self.put(Kind::Offer, &name).await? == Put::Stored {
                self.offer = Some((minute, name));
                break;
            }
        }
        Ok(())
    }

    /// Merges all offers. An unreadable offer is left out: its writer notices this and proceeds alone.
    pub(super) async fn gather(&mut self) {
        let offers = self.offers().await;
        let own = self.offer.as_ref().map(|offer| offer.1.as_str());
        let others: Vec<&Entry> = offers.iter().filter(|entry| own != Some(entry.name.as_str())).collect();
        let (mut count, mut larger) = (0, Vec::new());
        let cannot =
            |entry: &Entry, error: RemoteError| tracing::debug!("cannot read the offer {}: {error}", entry.name);
        for some in others.chunks(READS) {
            let read = futures_util::future::join_all(some.iter().map(|entry| self.record.read(entry, SMALL))).await;
            for (entry, read) in some.iter().zip(read) {
                match read {
                    Ok(Some(bytes)) => count += usize::from(self.record.take_in(entry, bytes) != TakenIn::Unusable),
                    Ok(None) => larger.push(*entry),
                    Err(error) => cannot(entry, error),
                }
            }
        }
        for entry in larger {
            match self.record.read(entry, MAX_SIZE).await {
                Ok(Some(bytes)) => count += usize::from(self.record.take_in(entry, bytes) != TakenIn::Unusable),
                Ok(None) => {}
                Err(error) => cannot(entry, error),
            }
        }
        tracing::info!("Saving {count} offers of other jobs together with this one.");
    }

    /// Estimates, with two lookups, whether there are about 20 offers or more in the minute of this job's own: whether each of two
    /// ranges of 16 slots has one. With 5 offers, 8 % of the jobs get true; with 20, half of them; with 50 or more, nearly all.
    pub(super) async fn are_many(&self) -> Result<bool, RemoteError> {
        let Some((minute, _)) = &self.offer else { return Ok(false) };
        let first = self.series.clock.random(16);
        for range in [first, (first + 7) % 16] {
            let prefix = format!("{}{range:04b}", self.series.offers_of(*minute));
            let found = self.series.find(Kind::Offer, std::slice::from_ref(&prefix)).await?;
            if !found.is_some_and(|entry| entry.name.starts_with(&prefix)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns all visible offers of these minutes. A lookup returns only the newest entry of a prefix; the others are below the
    /// prefixes that branch off on the way to it, so there are about two lookups per offer.
    async fn offers(&self) -> Vec<Entry> {
        let (mut prefixes, mut all) = (self.series.recent(), Vec::new());
        let whole: Vec<usize> = prefixes.iter().map(|prefix| prefix.len() + DIGITS).collect();
        // Each round searches below the entries of the previous one; all minutes have names of the same length.
        let whole = whole.into_iter().max().unwrap_or(0);
        while !prefixes.is_empty() {
            let found = self.newest_of(std::mem::take(&mut prefixes)).await;
            for (prefix, entry) in found {
                prefixes.extend(branches(&prefix, &entry.name, whole));
                all.push(entry);
            }
        }
        all
    }

    /// Returns the newest entry of each prefix that has one, with the prefix; a few lookups run at a time.
    async fn newest_of(&self, prefixes: Vec<String>) -> Vec<(String, Entry)> {
        let series = self.series;
        let lookups = prefixes.into_iter().map(|prefix| async move {
            let found = series.find(Kind::Offer, std::slice::from_ref(&prefix)).await;
            let entry = found.ok().flatten().filter(|entry| entry.name.starts_with(&prefix))?;
            Some((prefix, entry))
        });
        futures_util::stream::iter(lookups).buffered(LOOKUPS).filter_map(|found| async { found }).collect().await
    }
}

/// Returns prefixes that cover all names of `whole` bytes below `prefix` except `name`; names end in binary digits. None if
/// `name` is not that of an offer.
fn branches(prefix: &str, name: &str, whole: usize) -> Vec<String> {
    let is_offer = name.len() == whole && name[prefix.len()..].bytes().all(|digit| digit == b'0' || digit == b'1');
    let digits = if is_offer { prefix.len()..whole } else { 0..0 };
    digits.map(|at| format!("{}{}", &name[..at], if name.as_bytes()[at] == b'0' { '1' } else { '0' })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_all_names_but_one() {
        assert_eq!(branches("k.", "k.010", 5), ["k.1", "k.00", "k.011"]);
        assert_eq!(branches("k.01", "k.010", 5), ["k.011"]);
        assert_eq!(branches("k.010", "k.010", 5), [""; 0]);
        // Planted entries are not searched below.
        for name in ["k.0", "k.0100", "k.02x", "k.0é"] {
            assert_eq!(branches("k.", name, 5), [""; 0], "{name}");
        }
    }
}
