//! Offers: what jobs that write at the same time have to add, each in an entry of its own that the others find by its name.

use futures_util::StreamExt;

use super::append::{TakenIn, Writer};
use crate::remote::{Entry, Kind, Put, RemoteError};

/// Slots for offers of one minute: two hexadecimal digits. Of 100 jobs that choose one at random, one in six has to choose again.
const SLOTS: u64 = 256;
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
            let name = format!("{}{:02x}", self.offers_of(minute), self.series.clock.random(SLOTS));
            if self.put(Kind::Offer, &name).await? == Put::Stored {
                self.offer = Some((minute, name));
                break;
            }
        }
        Ok(())
    }

    /// Takes in all offers. One that cannot be read stays out: its writer finds that out and goes on by itself.
    pub(super) async fn gather(&mut self) {
        let digits = |prefix: &str| (0..16).map(|digit| format!("{prefix}{digit:x}")).collect::<Vec<_>>();
        let recent = self.recent();
        let tens = self.offers(recent.iter().flat_map(|prefix| digits(prefix)).collect()).await;
        let slots = tens.iter().filter_map(|entry| entry.name.get(..entry.name.len() - 1)).flat_map(digits).collect();
        let offers = self.offers(slots).await;
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

    /// The entries that the prefixes find, a few lookups at a time.
    async fn offers(&self, prefixes: Vec<String>) -> Vec<Entry> {
        let remote = self.series.remote;
        let lookups = prefixes.into_iter().map(|prefix| async move {
            let found = remote.find(Kind::Offer, std::slice::from_ref(&prefix)).await;
            found.ok().flatten().filter(|entry| entry.name.starts_with(&prefix))
        });
        futures_util::stream::iter(lookups).buffered(LOOKUPS).filter_map(|entry| async { entry }).collect().await
    }
}
