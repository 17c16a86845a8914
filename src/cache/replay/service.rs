//! GitHub's cache by its rules: entries belong to a branch or pull request, a job sees its own and those of the default branch, what nobody has
//! read for seven days is deleted, and of more than 10 GB the least recently used. Contents of layers are not kept, only their size.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::remote::github::FREE_QUOTA;
use crate::remote::{Entry, Kind, Put, Remote, RemoteError};

const IDLE: u64 = 7 * 86_400;

#[derive(Clone)]
pub(super) struct Stored {
    pub size: u64,
    bytes: Bytes,
    /// How many were stored before it.
    created: u64,
    /// When it was stored.
    pub at: u64,
    pub used: u64,
}

/// All entries by branch, kind and name.
#[derive(Default)]
pub(super) struct Service {
    pub entries: BTreeMap<(String, Kind, String), Stored>,
    count: u64,
    pub requests: u64,
    pub up: u64,
    pub down: u64,
    pub most_held: u64,
}

impl Service {
    pub(super) fn evict(&mut self, now: u64) {
        self.entries.retain(|_, entry| entry.used + IDLE >= now);
        while self.held() > FREE_QUOTA {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.entries.remove(&oldest);
        }
    }

    pub(super) fn held(&self) -> u64 {
        self.entries.values().map(|entry| entry.size).sum()
    }
}

/// What one job sees of it.
#[derive(Clone)]
pub(super) struct View {
    pub service: Arc<Mutex<Service>>,
    /// Its branch or pull request.
    pub branch: String,
    pub now: u64,
}

pub(super) const DEFAULT: &str = "main";

impl View {
    pub(super) fn inside(&self) -> MutexGuard<'_, Service> {
        self.service.lock().unwrap()
    }

    /// The entry that GitHub would choose: of the own branch first, and of each prefix the one of exactly that name, or else the newest.
    pub(super) fn look_up(&self, kind: Kind, prefixes: &[String]) -> Option<(String, u64)> {
        let mut inside = self.inside();
        inside.requests += 1;
        inside.evict(self.now);
        for branch in [&*self.branch, DEFAULT] {
            for prefix in prefixes {
                let of_prefix = |(key, _): &(&(String, Kind, String), &mut Stored)| {
                    key.0 == branch && key.1 == kind && key.2.starts_with(prefix.as_str())
                };
                let found = inside
                    .entries
                    .iter_mut()
                    .filter(of_prefix)
                    .max_by_key(|(key, entry)| (key.2 == *prefix, entry.created));
                if let Some((key, entry)) = found {
                    entry.used = self.now;
                    return Some((key.2.clone(), entry.size));
                }
            }
        }
        None
    }

    /// Stores an entry of this size; false if the name is taken.
    pub(super) fn store(&self, kind: Kind, name: &str, size: u64, bytes: Bytes) -> bool {
        let mut inside = self.inside();
        inside.requests += 3;
        let key = (self.branch.clone(), kind, name.to_owned());
        if inside.entries.contains_key(&key) {
            return false;
        }
        inside.up += size;
        inside.count += 1;
        let created = inside.count;
        inside.entries.insert(key, Stored { size, bytes, created, at: self.now, used: self.now });
        inside.most_held = inside.most_held.max(inside.held().min(FREE_QUOTA));
        inside.evict(self.now);
        true
    }

    /// Counts a download.
    pub(super) fn downloaded(&self, bytes: u64) {
        let mut inside = self.inside();
        inside.down += bytes;
        inside.requests += 1;
    }

    fn bytes(&self, entry: &Entry) -> Result<Bytes, RemoteError> {
        let inside = self.inside();
        let of = |branch: &str| inside.entries.get(&(branch.to_owned(), entry.kind, entry.name.clone()));
        let found = of(&self.branch).or_else(|| of(DEFAULT));
        found.map(|stored| stored.bytes.clone()).ok_or_else(|| RemoteError::Gone(entry.name.clone()))
    }
}

#[async_trait]
impl Remote for View {
    fn describe(&self) -> String {
        "a model of GitHub's cache".to_owned()
    }

    async fn find(&self, kind: Kind, prefixes: &[String]) -> Result<Option<Entry>, RemoteError> {
        let found = self.look_up(kind, prefixes);
        Ok(found.map(|(name, size)| Entry { kind, name, size: Some(size), location: String::new() }))
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Bytes, RemoteError> {
        let bytes = self.bytes(entry)?;
        let range = range.start as usize..(range.end as usize).min(bytes.len());
        self.downloaded(range.len() as u64);
        Ok(bytes.slice(range))
    }

    async fn stream(&self, entry: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError> {
        let bytes = self.bytes(entry)?;
        self.downloaded(bytes.len() as u64);
        Ok(Box::pin(futures_util::stream::iter([Ok(bytes)])))
    }

    async fn put_file(&self, kind: Kind, name: &str, body: &Path) -> Result<Put, RemoteError> {
        let bytes = std::fs::read(body).map_err(|error| RemoteError::Local(error.to_string()))?;
        self.put_bytes(kind, name, bytes.into()).await
    }

    async fn put_bytes(&self, kind: Kind, name: &str, body: Bytes) -> Result<Put, RemoteError> {
        let size = body.len() as u64;
        Ok(if self.store(kind, name, size, body) { Put::Stored } else { Put::Taken })
    }
}
