//! Signed addresses for reading. They are valid for ten minutes and are renewed here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::DateTime;
use tokio::sync::Mutex as AsyncMutex;
use url::Url;

use super::calls;
use super::twirp::Twirp;
use crate::remote::{Entry, Kind, RemoteError};

/// The current address of each entry that was found.
#[derive(Default)]
pub(super) struct Addresses {
    known: Mutex<Slots>,
}

type Slots = HashMap<(Kind, String), Arc<AsyncMutex<Address>>>;

struct Address {
    url: Url,
    /// When it expires, if that is known and plausible.
    ends: Option<SystemTime>,
}

impl Addresses {
    /// Stores the address that a lookup returned.
    pub(super) fn keep(&self, kind: Kind, name: &str, url: Url) {
        let address = Address { ends: end_of(&url), url };
        self.lock().insert((kind, name.to_owned()), Arc::new(AsyncMutex::new(address)));
    }

    /// Returns an address for a new request. One that is about to expire is renewed first.
    pub(super) async fn current(&self, twirp: &Twirp, entry: &Entry, margin: Duration) -> Result<Url, RemoteError> {
        let slot = self.slot(entry)?;
        let mut address = slot.lock().await;
        if address.ends.is_some_and(|ends| ends < SystemTime::now() + margin) {
            *address = renewed(twirp, entry).await?;
            // If a new address seems to expire at once, our clock is wrong: from here on only refusals count.
            address.ends = address.ends.filter(|ends| *ends > SystemTime::now() + margin);
        }
        Ok(address.url.clone())
    }

    /// Replaces a refused address, unless another task already did.
    pub(super) async fn replace(&self, twirp: &Twirp, entry: &Entry, refused: &Url) -> Result<(), RemoteError> {
        let slot = self.slot(entry)?;
        let mut address = slot.lock().await;
        if address.url == *refused {
            *address = renewed(twirp, entry).await?;
        }
        Ok(())
    }

    fn slot(&self, entry: &Entry) -> Result<Arc<AsyncMutex<Address>>, RemoteError> {
        if let Some(slot) = self.lock().get(&(entry.kind, entry.name.clone())) {
            return Ok(Arc::clone(slot));
        }
        let url = Url::parse(&entry.location).map_err(|_| {
            RemoteError::Failed(format!("The {} {} is not from this cache service.", entry.kind.word(), entry.name))
        })?;
        self.keep(entry.kind, &entry.name, url);
        self.slot(entry)
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn renewed(twirp: &Twirp, entry: &Entry) -> Result<Address, RemoteError> {
    tracing::debug!("getting a new address for {}", entry.name);
    match calls::find(twirp, entry.kind, std::slice::from_ref(&entry.name)).await? {
        Some((name, url)) if name == entry.name => Ok(Address { ends: end_of(&url), url }),
        _ => Err(RemoteError::Gone(format!(
            "The {} {} is no longer in GitHub's cache. The cache may be full; see its size in the repository's \
             settings.",
            entry.kind.word(),
            entry.name
        ))),
    }
}

/// Returns when a signed address expires: its parameter `se`, a time in UTC.
fn end_of(url: &Url) -> Option<SystemTime> {
    let (_, end) = url.query_pairs().find(|(name, _)| name == "se")?;
    DateTime::parse_from_rfc3339(&end).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_address_is_read() {
        let end = |query: &str| end_of(&Url::parse(&format!("https://b.test/c/d?{query}")).unwrap());
        let known = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        assert_eq!(end("sv=1&se=2026-09-21T14%3A13%3A20Z&sig=x"), Some(known));
        assert_eq!(end("se=2026-09-21T14:13:20.0Z"), Some(known));
        assert_eq!(end("se=tomorrow"), None);
        assert_eq!(end("sig=x"), None);
    }
}
