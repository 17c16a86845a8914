//! Several remotes as one: a main one, and others that are only read.
//!
//! 1. Snapshots and files are looked up in all of them at once. The nearest name wins: the first prefix that matches, an exact name
//!    first. Of two equally near ones, that of the earlier remote wins.
//! 2. Layers are looked up in the main remote, then in the others, because a snapshot names those of any.
//! 3. Everything is written to the main remote, and what many jobs write at once (offers, plans, histories) is only read there.
//!
//! Trouble with another remote is a warning, once, and the rest is used. Trouble with the main one is an error for whoever saves: a save
//! that does not see what is there would hide it. A restore uses the others then.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;

use super::{Entry, Handover, Kind, Put, Remote, RemoteError};

/// What a job does with several remotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Restore,
    Save,
}

/// A remote that is only read.
pub(crate) struct Fallback {
    pub remote: Arc<dyn Remote>,
    /// False if its layers are those of another remote, which is asked already.
    pub has_layers: bool,
}

/// Several remotes.
pub(crate) struct Fallbacks {
    /// The main one first.
    all: Vec<Fallback>,
    told: Vec<AtomicBool>,
    purpose: Purpose,
    /// What did not work, for the report of the job.
    troubles: Arc<Mutex<Vec<String>>>,
}

impl Fallbacks {
    /// `main`, and the others from near to far.
    pub(crate) fn new(main: Arc<dyn Remote>, others: Vec<Fallback>, purpose: Purpose) -> Self {
        let mut all = vec![Fallback { remote: main, has_layers: true }];
        all.extend(others);
        let told = all.iter().map(|_| AtomicBool::new(false)).collect();
        Self { all, told, purpose, troubles: Arc::default() }
    }

    /// What did not work so far, as it comes.
    pub(crate) fn troubles(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.troubles)
    }

    fn main(&self) -> &dyn Remote {
        &*self.all[0].remote
    }

    /// Says once that a remote does not work.
    fn tell(&self, number: usize, error: &RemoteError) {
        if self.told[number].swap(true, Ordering::Relaxed) {
            return;
        }
        let place = self.all[number].remote.describe();
        let text = format!("The remote {place} could not be used, others are: {error}");
        tracing::warn!("{text}");
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// The remote of an entry, and the entry as that remote knows it.
    fn at(&self, entry: &Entry) -> Result<(&dyn Remote, Entry), RemoteError> {
        let found = entry.location.split_once(' ').and_then(|(number, location)| {
            let fallback = self.all.get(number.parse::<usize>().ok()?)?;
            Some((&*fallback.remote, Entry { location: location.to_owned(), ..entry.clone() }))
        });
        found.ok_or_else(|| RemoteError::Failed(format!("{} was found in none of the remotes.", entry.name)))
    }

    fn found_at(number: usize, entry: Entry) -> Entry {
        Entry { location: format!("{number} {}", entry.location), ..entry }
    }

    /// Looks up a layer, one remote after the other. One that cannot be asked may have it.
    async fn layer(&self, prefixes: &[String]) -> Result<Option<Entry>, RemoteError> {
        let mut trouble = None;
        for (number, fallback) in self.all.iter().enumerate().filter(|(_, fallback)| fallback.has_layers) {
            match fallback.remote.find(Kind::Layer, prefixes).await {
                Ok(Some(entry)) => return Ok(Some(Self::found_at(number, entry))),
                Ok(None) => {}
                Err(error) => {
                    if number > 0 {
                        self.tell(number, &error);
                    }
                    trouble.get_or_insert(error);
                }
            }
        }
        trouble.map_or(Ok(None), Err)
    }

    /// The nearest of what all have.
    async fn nearest(&self, kind: Kind, prefixes: &[String]) -> Result<Option<Entry>, RemoteError> {
        let answers = join_all(self.all.iter().map(|fallback| fallback.remote.find(kind, prefixes))).await;
        let (mut best, mut of_main) = (None, None);
        for (number, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(Some(entry)) => {
                    let distance = distance(&entry.name, prefixes);
                    if best.as_ref().is_none_or(|(least, _)| distance < *least) {
                        best = Some((distance, Self::found_at(number, entry)));
                    }
                }
                Ok(None) => {}
                Err(error) if number == 0 => of_main = Some(error),
                Err(error) => self.tell(number, &error),
            }
        }
        let best = best.map(|(_, entry)| entry);
        match of_main {
            Some(error) if best.is_some() && self.purpose == Purpose::Restore => {
                self.tell(0, &error);
                Ok(best)
            }
            Some(error) => Err(error),
            None => Ok(best),
        }
    }
}

/// How far a name is from what is wanted: the first prefix that it has, and whether it has more than that.
fn distance(name: &str, prefixes: &[String]) -> (usize, bool) {
    let at = prefixes.iter().position(|prefix| name.starts_with(prefix.as_str())).unwrap_or(prefixes.len());
    (at, prefixes.get(at).is_none_or(|prefix| prefix != name))
}

#[async_trait]
impl Remote for Fallbacks {
    fn describe(&self) -> String {
        let all: Vec<String> = self.all.iter().map(|fallback| fallback.remote.describe()).collect();
        all.join(", then ")
    }

    async fn find(&self, kind: Kind, prefixes: &[String]) -> Result<Option<Entry>, RemoteError> {
        match kind {
            Kind::Layer => self.layer(prefixes).await,
            Kind::Snapshot | Kind::Files => self.nearest(kind, prefixes).await,
            Kind::Offer | Kind::Plan | Kind::History => {
                Ok(self.main().find(kind, prefixes).await?.map(|entry| Self::found_at(0, entry)))
            }
        }
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Bytes, RemoteError> {
        let (remote, entry) = self.at(entry)?;
        remote.read(&entry, range).await
    }

    async fn stream(&self, entry: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError> {
        let (remote, entry) = self.at(entry)?;
        remote.stream(&entry).await
    }

    async fn put_file(&self, kind: Kind, name: &str, body: &Path) -> Result<Put, RemoteError> {
        self.main().put_file(kind, name, body).await
    }

    async fn put_bytes(&self, kind: Kind, name: &str, body: Bytes) -> Result<Put, RemoteError> {
        self.main().put_bytes(kind, name, body).await
    }

    fn parallel_reads(&self) -> usize {
        self.all.iter().map(|fallback| fallback.remote.parallel_reads()).max().unwrap_or(1)
    }

    fn is_readable(&self) -> bool {
        self.main().is_readable()
    }

    fn ranges_work(&self) -> bool {
        self.all.iter().all(|fallback| fallback.remote.ranges_work())
    }

    fn records_reads(&self) -> bool {
        self.main().records_reads()
    }

    fn keeps_what_was_read(&self) -> bool {
        self.all.iter().all(|fallback| fallback.remote.keeps_what_was_read())
    }

    /// The places of entries contain the numbers of remotes, so all of them are handed over, or none.
    fn handover(&self) -> Option<Handover> {
        let each = self.all.iter().map(|fallback| Some((fallback.remote.handover()?, fallback.has_layers)));
        Some(Handover::Several { remotes: each.collect::<Option<_>>()? })
    }
}

/// A remote that could not be opened.
pub(crate) struct Unopened {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

impl Unopened {
    fn error(&self) -> RemoteError {
        RemoteError::Unavailable(self.why.clone())
    }
}

#[async_trait]
impl Remote for Unopened {
    fn describe(&self) -> String {
        self.name.clone()
    }

    async fn find(&self, _: Kind, _: &[String]) -> Result<Option<Entry>, RemoteError> {
        Err(self.error())
    }

    async fn read(&self, _: &Entry, _: Range<u64>) -> Result<Bytes, RemoteError> {
        Err(self.error())
    }

    async fn stream(&self, _: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError> {
        Err(self.error())
    }

    async fn put_file(&self, _: Kind, _: &str, _: &Path) -> Result<Put, RemoteError> {
        Err(self.error())
    }

    async fn put_bytes(&self, _: Kind, _: &str, _: Bytes) -> Result<Put, RemoteError> {
        Err(self.error())
    }

    fn handover(&self) -> Option<Handover> {
        Some(Handover::Unopened { name: self.name.clone(), why: self.why.clone() })
    }
}

#[cfg(test)]
#[path = "fallbacks_test.rs"]
mod tests;
