//! A cache service for simulations, with a virtual clock and with the limits and the lag of GitHub's.

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::Clock;
use crate::remote::{Entry, Kind, Put, Remote, RemoteError};

/// Virtual time, which advances when all tasks sleep.
pub(crate) struct World(Mutex<Inside>);

pub(super) struct Inside {
    pub now: u64,
    seed: u64,
    sleepers: Vec<(u64, Waker)>,
    pub entries: Vec<Stored>,
    /// Times of reservations, granted or not.
    pub creations: Vec<u64>,
    /// Times of lookups.
    pub lookups: Vec<u64>,
    /// A name whose upload takes this many milliseconds longer.
    pub slow: Option<(String, u64)>,
}

impl Inside {
    /// Whether one lookup more is granted in this minute. They are in the order of time.
    fn may_look(&mut self) -> bool {
        let minute = self.lookups.len() - self.lookups.partition_point(|at| *at + 60_000 <= self.now);
        let granted = minute < 1500;
        self.lookups.extend(granted.then_some(self.now));
        granted
    }

    /// None where too many names were asked for.
    fn reserve(&mut self, kind: Kind, name: &str, bytes: &Bytes) -> Option<Put> {
        if self.creations.iter().filter(|at| **at + 60_000 > self.now).count() >= 200 {
            return None;
        }
        self.creations.push(self.now);
        if self.entries.iter().any(|entry| entry.kind == kind && entry.name == name) {
            return Some(Put::Taken);
        }
        self.entries.push(Stored { kind, name: name.to_owned(), bytes: bytes.clone(), visible: None, used: self.now });
        Some(Put::Stored)
    }
}

pub(super) struct Stored {
    pub kind: Kind,
    pub name: String,
    pub bytes: Bytes,
    /// From when on a lookup finds it; None while it is only reserved.
    pub visible: Option<u64>,
    /// When it was last read.
    pub used: u64,
}

pub(super) struct Sleep<'a>(&'a World, u64);

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut inside = self.0.inside();
        if inside.now >= self.1 {
            return Poll::Ready(());
        }
        inside.sleepers.push((self.1, context.waker().clone()));
        Poll::Pending
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let inside =
            Inside { now: 0, seed, sleepers: vec![], entries: vec![], creations: vec![], lookups: vec![], slow: None };
        Self(Mutex::new(inside))
    }

    pub(super) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }

    pub(super) fn until(&self, time: u64) -> Sleep<'_> {
        Sleep(self, time)
    }

    pub(crate) async fn pass(&self, range: Range<u64>) {
        let time = self.now().as_millis() as u64 + range.start + self.random(range.end - range.start);
        self.until(time).await;
    }

    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            let mut inside = self.inside();
            inside.now = inside.sleepers.iter().map(|(time, _)| *time).min().expect("somebody sleeps");
            let now = inside.now;
            let due: Vec<_> = inside.sleepers.extract_if(.., |(time, _)| *time <= now).collect();
            drop(inside);
            for (_, waker) in due {
                waker.wake();
            }
        }
    }

    /// The number of names that were asked for so far.
    pub(crate) fn creations(&self) -> usize {
        self.inside().creations.len()
    }

    /// Evicts those that were not read for longest until so many are left. Returns the number of those that were evicted.
    pub(crate) fn evict(&self, most: usize) -> usize {
        let mut inside = self.inside();
        let surplus = inside.entries.len().saturating_sub(most);
        inside.entries.sort_by_key(|entry| (entry.used, entry.visible));
        inside.entries.drain(..surplus).count()
    }

    /// The most names that were asked for in one minute, and the most lookups.
    pub(super) fn busiest_minute(&self) -> (usize, usize) {
        let busiest = |times: &[u64]| {
            let within =
                |start: u64| times.partition_point(|at| *at < start + 60_000) - times.partition_point(|at| *at < start);
            times.iter().map(|start| within(*start)).max().unwrap_or(0)
        };
        let inside = self.inside();
        (busiest(&inside.creations), busiest(&inside.lookups))
    }
}

#[async_trait]
impl Clock for World {
    fn now(&self) -> Duration {
        Duration::from_millis(self.inside().now)
    }

    fn seconds(&self) -> u64 {
        // Machines' clocks differ by a few seconds.
        let seconds = 1_800_000_000 + self.inside().now / 1000;
        seconds + self.random(3)
    }

    async fn sleep(&self, time: Duration) {
        let until = self.inside().now + time.as_millis() as u64;
        self.until(until).await;
    }

    fn random(&self, end: u64) -> u64 {
        let mut inside = self.inside();
        inside.seed = inside.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (inside.seed ^ (inside.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 31) % end
    }
}

#[async_trait]
impl Remote for World {
    fn describe(&self) -> String {
        "a simulation".into()
    }

    async fn find(&self, kind: Kind, prefixes: &[String]) -> Result<Option<Entry>, RemoteError> {
        self.pass(200..300).await;
        if !self.inside().may_look() {
            return Err(RemoteError::Throttled("too many lookups".into()));
        }
        let inside = self.inside();
        let now = inside.now;
        let seen = || inside.entries.iter().rev().filter(|e| e.kind == kind && e.visible.is_some_and(|at| at <= now));
        let found = prefixes.iter().find_map(|prefix| {
            seen().find(|entry| entry.name == *prefix).or_else(|| seen().find(|entry| entry.name.starts_with(prefix)))
        });
        let entry = |found: &Stored| {
            let size = Some(found.bytes.len() as u64);
            Entry { kind, name: found.name.clone(), size, location: String::new() }
        };
        Ok(found.map(entry))
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Bytes, RemoteError> {
        self.pass(200..400).await;
        let mut inside = self.inside();
        let now = inside.now;
        let found = inside.entries.iter_mut().find(|e| e.kind == entry.kind && e.name == entry.name);
        let found = found.ok_or_else(|| RemoteError::Gone(entry.name.clone()))?;
        found.used = now;
        let end = found.bytes.len();
        // The writers of the simulation here ask for no bytes, and get all.
        let range =
            if range.is_empty() { 0..end } else { (range.start as usize).min(end)..(range.end as usize).min(end) };
        Ok(found.bytes.slice(range))
    }

    async fn stream(&self, entry: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError> {
        let bytes = self.read(entry, 0..0).await?;
        Ok(Box::pin(futures_util::stream::iter([Ok(bytes)])))
    }

    async fn put_file(&self, _: Kind, _: &str, _: &Path) -> Result<Put, RemoteError> {
        unreachable!("the writers here have no files")
    }

    async fn put_bytes(&self, kind: Kind, name: &str, bytes: Bytes) -> Result<Put, RemoteError> {
        loop {
            self.pass(200..300).await;
            match self.inside().reserve(kind, name, &bytes) {
                Some(Put::Taken) => return Ok(Put::Taken),
                Some(Put::Stored) => break,
                None => {}
            }
            // Too many in this minute: as the service asks for with `Retry-After`.
            self.pass(20_000..40_000).await;
        }
        let longer = self.inside().slow.clone().filter(|slow| slow.0 == name).map_or(0, |slow| slow.1);
        self.pass(300 + longer..1000 + longer).await;
        let lag = 1000 + self.random(1000);
        let mut inside = self.inside();
        let visible = inside.now + lag;
        inside.entries.iter_mut().find(|e| e.kind == kind && e.name == name).unwrap().visible = Some(visible);
        Ok(Put::Stored)
    }
}
