//! Offers: what jobs that write at the same time have to add, each in an entry of its own that the others find by its name.

use futures_util::StreamExt;

use super::append::{TakenIn, Writer};
use crate::remote::{Entry, Kind, Put, RemoteError};

/// Slots for offers of one minute: so many binary digits. Of 100 jobs that choose one at random, one in six has to choose again.
const DIGITS: usize = 8;
/// So many slots are tried for one offer.
const SLOTS_TRIED: usize = 8;
/// Lookups at the same time while offers are gathered.
const LOOKUPS: usize = 32;
/// Offers that are read at the same time.
const READS: usize = 8;
impl Writer<'_, '_> {
    /// Leaves what this job has in a free slot, unless it did so in these minutes. Without a slot, this job is on its own.
    pub(super) async fn offer(&mut self) -> Result<(), RemoteError> {
        let minute = self.minute();
        if self.offer.as_ref().is_some_and(|offer| offer.0 + 1 >= minute) {
            return Ok(());
        }
        for _ in 0..SLOTS_TRIED {
            let slot = self.series.clock.random(1 << DIGITS);
            let name = format!("{}{slot:0DIGITS$b}", self.offers_of(minute));
            if self.put(Kind::Offer, &name).await? == Put::Stored {
                self.offer = Some((minute, name));
                break;
            }
        }
        Ok(())
    }

    /// Takes in all offers. One that cannot be read stays out: its writer finds that out and goes on by itself.
    pub(super) async fn gather(&mut self) {
        let offers = self.offers().await;
        let own = self.offer.as_ref().map(|offer| offer.1.as_str());
        let others: Vec<&Entry> = offers.iter().filter(|entry| own != Some(entry.name.as_str())).collect();
        let mut count = 0;
        for some in others.chunks(READS) {
            let read = futures_util::future::join_all(some.iter().map(|entry| self.record.read(entry))).await;
            for (entry, read) in some.iter().zip(read) {
                match read {
                    Ok(Some(bytes)) => count += usize::from(self.record.take_in(entry, bytes) != TakenIn::Unusable),
                    Ok(None) => {}
                    Err(error) => tracing::debug!("the offer {} cannot be read: {error}", entry.name),
                }
            }
        }
        tracing::info!("Offers of other jobs that are saved together with this one: {count}.");
    }

    /// Whether there are about 20 offers or more in the minute of this job's own, by two lookups: whether each of two ranges of 16
    /// slots has one. With 5 offers 8 % of the jobs are told so, with 20 half of them, with 50 or more nearly all.
    pub(super) async fn are_many(&self) -> Result<bool, RemoteError> {
        let Some((minute, _)) = &self.offer else { return Ok(false) };
        let first = self.series.clock.random(16);
        for range in [first, (first + 7) % 16] {
            let prefix = format!("{}{range:04b}", self.offers_of(*minute));
            let found = self.series.find(Kind::Offer, std::slice::from_ref(&prefix)).await?;
            if !found.is_some_and(|entry| entry.name.starts_with(&prefix)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All offers of these minutes that can be looked up. A lookup returns only the newest entry of a prefix: the others lie below the
    /// prefixes that branch off on the way to it, so that there are about two lookups for each offer.
    async fn offers(&self) -> Vec<Entry> {
        let (mut prefixes, mut all) = (self.recent(), Vec::new());
        let whole: Vec<usize> = prefixes.iter().map(|prefix| prefix.len() + DIGITS).collect();
        // Each round looks below the entries of the one before; all minutes have names of the same length.
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

    /// The newest entry of each prefix that has one, with the prefix; a few lookups at a time.
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

/// The prefixes of all names of `whole` bytes below `prefix` but for `name`, where names end in binary digits. None for a name that
/// no offer has.
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
        // What somebody planted is not searched below.
        for name in ["k.0", "k.0100", "k.02x", "k.0é"] {
            assert_eq!(branches("k.", name, 5), [""; 0], "{name}");
        }
    }
}
