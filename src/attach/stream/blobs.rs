//! The stored bytes: which chunks are here, and how the others are fetched.
//!
//! 1. A read asks for the chunks that it needs ([`Blobs::need`]). Each is fetched once, however many reads wait for it.
//! 2. The rest is fetched in the background ([`super::fill`]). Reads have connections of their own.
//! 3. A chunk is compared with its digest before it is written, and marked as present after it. If the disk is full, it is used from
//!    memory and fetched again later.
//! 4. Fetching is retried as long as there is hope ([`super::patience`]).
//! 5. What readers probably read next is fetched ahead ([`super::ahead`]), as far as that keeps no read waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};

use super::ahead::Readers;
use super::patience::Failure;
use super::plan::{Chunk, Layout, Mark, Order, StreamPlan};
use super::touched::Touched;
use crate::base::digest::Sha;
use crate::remote::{Entry, Kind, Remote};

/// Number of bytes that may be in flight for reads.
const FOR_READS: usize = 16 << 20;
/// The same for what is fetched ahead of reads.
const FOR_AHEAD: usize = 8 << 20;
/// Longest time that the background waits for the end of the restore.
const RESTORE: Duration = Duration::from_secs(30);

/// The result for a chunk.
#[derive(Clone, Debug)]
pub(super) enum Arrived {
    /// Its bytes are in the local file.
    Here,
    /// Its bytes; they could not be written.
    InMemory(Bytes),
    /// It cannot be fetched.
    Lost,
}

pub(super) type Waiting = watch::Receiver<Option<Arrived>>;
pub(super) type Promise = watch::Sender<Option<Arrived>>;

/// The stored bytes of a plan.
pub(super) struct Blobs {
    pub plan: StreamPlan,
    pub file: File,
    pub layout: Layout,
    pub(super) remote: Arc<dyn Remote>,
    here: Vec<Vec<AtomicBool>>,
    work: Mutex<Work>,
    slots: Semaphore,
    /// Those for what is fetched ahead.
    ahead: Arc<Semaphore>,
    /// What is asked for first is fetched one list after the other.
    pub lists: Semaphore,
    /// Whether the background is to stop.
    pub stopped: AtomicBool,
    /// Whether nothing more is fetched.
    aborted: watch::Sender<bool>,
    /// Whether the restore is over, so that the background no longer delays it.
    may_fill: watch::Sender<bool>,
    /// Whether the tables of all layers have arrived, in the ranges that were requested.
    pub has_tables: AtomicBool,
    pub retries: AtomicU64,
}

#[derive(Default)]
pub(super) struct Work {
    /// Chunks that are being fetched.
    pub pending: HashMap<Chunk, Waiting>,
    /// Chunks that did not arrive from their entries, and why.
    pub lost: BTreeMap<Chunk, (Mark, String)>,
    /// Stored bytes of which some were given up. For others of the same, there is less hope.
    pub hopeless: BTreeSet<u32>,
    pub touched: Touched,
    /// By stored bytes: who reads them one chunk after the other.
    readers: HashMap<u32, Readers>,
}

impl Work {
    /// Whether nothing will make a chunk come.
    pub(super) fn is_lost(&self, chunk: Chunk) -> bool {
        self.lost.get(&chunk).is_some_and(|(mark, _)| *mark == Mark::Lost)
    }
}

impl Blobs {
    /// Opens the local file `file` of a plan, with what earlier workers have fetched.
    pub(super) fn open(plan: StreamPlan, file: File, remote: Arc<dyn Remote>) -> std::io::Result<Self> {
        let layout = Layout::of(&plan);
        let mut here = Vec::new();
        let mut work = Work { touched: Touched::open(&file, &layout, plan.layers.len())?, ..Work::default() };
        for (number, blob) in (0..).zip(&plan.blobs) {
            let mut marks = vec![0; blob.chunks.len()];
            if !marks.is_empty() {
                file.read_exact_at(&mut marks, layout.mark((number, 0)))?;
            }
            let marks: Vec<Option<Mark>> = marks.into_iter().map(Mark::of).collect();
            here.push(
                marks.iter().map(|mark| AtomicBool::new(matches!(mark, Some(Mark::Here | Mark::Recovered)))).collect(),
            );
            for (chunk, mark) in (0..).zip(marks) {
                if let Some(mark @ (Mark::Lost | Mark::Recovered | Mark::Late)) = mark {
                    work.lost.insert((number, chunk), (mark, "an earlier process of the server gave it up".to_owned()));
                    if mark != Mark::Late {
                        work.hopeless.insert(number);
                    }
                }
            }
        }
        let was_ordered = |order| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, Layout::order(order)).map(|()| byte[0] == 1)
        };
        let (stopped, aborted) = (was_ordered(Order::Finish)?, was_ordered(Order::Abort)?);
        let may_fill = was_ordered(Order::Fill)?;
        let largest = plan.blobs.iter().map(|blob| blob.chunk_size as usize).max().unwrap_or(1);
        let slots = Semaphore::new((FOR_READS / largest.max(1)).max(2));
        let ahead = Arc::new(Semaphore::new((FOR_AHEAD / largest.max(1)).max(1)));
        Ok(Self {
            plan,
            file,
            layout,
            remote,
            here,
            work: Mutex::new(work),
            slots,
            ahead,
            lists: Semaphore::new(1),
            stopped: AtomicBool::new(stopped || aborted),
            aborted: watch::Sender::new(aborted),
            may_fill: watch::Sender::new(may_fill),
            has_tables: AtomicBool::new(false),
            retries: AtomicU64::new(0),
        })
    }

    pub(super) fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flag(&self, (blob, chunk): Chunk) -> &AtomicBool {
        &self.here[blob as usize][chunk as usize]
    }

    pub(super) fn is_here(&self, chunk: Chunk) -> bool {
        self.flag(chunk).load(Ordering::Acquire)
    }

    /// Records that these bytes of a layer are read.
    pub(super) fn touch(&self, layer: usize, part: (u64, u64)) {
        self.work().touched.add((&self.file, &self.layout), layer as u32, part);
    }

    /// Fetches what probably follows a read of some chunks, all of one layer and in order. Chunks for which there is no room are left to a
    /// later read. Until the tables are here, nothing follows: a restore reads them, and must not wait for anything else.
    pub(super) fn read_on(self: &Arc<Self>, chunks: impl IntoIterator<Item = Chunk>) {
        if !self.has_tables.load(Ordering::Relaxed) {
            return;
        }
        for (blob, number) in chunks {
            let is_missed = !self.is_here((blob, number));
            let stored = &self.plan.blobs[blob as usize];
            let count = stored.chunks.len() as u32;
            let wanted = self.work().readers.entry(blob).or_default().read(number, is_missed, stored.ahead);
            let missing = (wanted.start..wanted.end.min(count)).filter(|number| !self.is_here((blob, *number)));
            for number in missing {
                if self.work().pending.contains_key(&(blob, number)) {
                    continue;
                }
                let Ok(room) = Arc::clone(&self.ahead).try_acquire_owned() else { return };
                let mut arrives = self.need((blob, number));
                tokio::spawn(async move {
                    let _ = arrives.wait_for(Option::is_some).await;
                    drop(room);
                });
            }
        }
    }

    /// Fetches a chunk for a read, unless it is being fetched already.
    pub(super) fn need(self: &Arc<Self>, chunk: Chunk) -> Waiting {
        let mut work = self.work();
        if let Some(waiting) = work.pending.get(&chunk) {
            return waiting.clone();
        }
        let known = if self.is_here(chunk) {
            Some(Arrived::Here)
        } else {
            (work.is_lost(chunk) || *self.aborted.borrow()).then_some(Arrived::Lost)
        };
        let (promise, waiting) = watch::channel(known.clone());
        if known.is_none() {
            work.pending.insert(chunk, waiting.clone());
            let blobs = Arc::clone(self);
            tokio::spawn(async move {
                // The wait for a slot is part of that of the read.
                let start = Instant::now();
                let _slot = tokio::time::timeout(blobs.patience(), blobs.slots.acquire()).await;
                blobs.fetch(chunk, promise, start).await;
            });
        }
        waiting
    }

    /// Fetches one chunk, which is wanted since `start`, and keeps the promise of it.
    pub(super) async fn fetch(&self, chunk: Chunk, promise: Promise, start: Instant) {
        let arrived = match self.unless_aborted(self.fetch_or_recover(chunk, start)).await {
            Ok((bytes, mark)) => {
                let arrived = self.keep(chunk, bytes).await;
                if mark == Mark::Recovered {
                    self.note(chunk, mark);
                }
                arrived
            }
            Err(Failure { why, is_final }) => {
                let name = &self.plan.blobs[chunk.0 as usize].entry;
                tracing::warn!("Chunk {} of {name} cannot be fetched: {why}", chunk.1);
                // Besides the list of pending chunks, only reads wait for it.
                let is_read = promise.receiver_count() > 1;
                if is_final || is_read {
                    let mark = if is_final { Mark::Lost } else { Mark::Late };
                    let mut work = self.work();
                    work.lost.insert(chunk, (mark, why));
                    if is_final {
                        work.hopeless.insert(chunk.0);
                    }
                    drop(work);
                    self.note(chunk, mark);
                }
                Arrived::Lost
            }
        };
        self.settle(chunk, &promise, arrived);
    }

    /// The result of `work`, or that nothing more is fetched.
    pub(super) async fn unless_aborted<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut aborted = self.aborted.subscribe();
        tokio::select! {
            done = work => done,
            _ = aborted.wait_for(|aborted| *aborted) => {
                Err(Failure { why: "streaming was aborted".into(), is_final: false })
            }
        }
    }

    /// Fetches one chunk with a single attempt.
    pub(super) async fn fetch_once(&self, chunk: Chunk) -> Option<Bytes> {
        let entry = self.entry(chunk.0);
        let read = tokio::time::timeout(self.patience(), self.remote.read(&entry, self.range(chunk, 1))).await;
        let bytes = read.ok()?.ok()?;
        is_right(&bytes, &self.digest(chunk).0).await.then_some(bytes)
    }

    /// Records something about a chunk for a following worker.
    fn note(&self, chunk: Chunk, mark: Mark) {
        let _ = self.file.write_all_at(&[mark as u8], self.layout.mark(chunk)); // then only that worker does not know it
    }

    pub(super) fn settle(&self, chunk: Chunk, promise: &Promise, arrived: Arrived) {
        self.work().pending.remove(&chunk);
        promise.send_replace(Some(arrived));
    }

    pub(super) fn digest(&self, (blob, chunk): Chunk) -> Sha {
        self.plan.blobs[blob as usize].chunks[chunk as usize]
    }

    pub(super) fn entry(&self, blob: u32) -> Entry {
        let blob = &self.plan.blobs[blob as usize];
        Entry { kind: Kind::Layer, name: blob.entry.clone(), size: Some(blob.size), location: blob.location.clone() }
    }

    pub(super) fn range(&self, (blob, chunk): Chunk, count: u32) -> std::ops::Range<u64> {
        let blob = &self.plan.blobs[blob as usize];
        let end = u64::from(chunk + count) * blob.chunk_size;
        u64::from(chunk) * blob.chunk_size..end.min(blob.size)
    }

    /// Writes a verified chunk.
    pub(super) async fn keep(&self, chunk: Chunk, bytes: Bytes) -> Arrived {
        let (at, mark) = (self.layout.byte(chunk.0, self.range(chunk, 1).start), self.layout.mark(chunk));
        let Ok(file) = self.file.try_clone() else { return Arrived::InMemory(bytes) };
        let same = bytes.clone();
        let write = move || file.write_all_at(&same, at).and_then(|()| file.write_all_at(&[Mark::Here as u8], mark));
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {
                self.flag(chunk).store(true, Ordering::Release);
                Arrived::Here
            }
            Ok(Err(error)) => {
                tracing::debug!("chunk {} is used from memory: {error}", chunk.1);
                Arrived::InMemory(bytes)
            }
            Err(_) => Arrived::InMemory(bytes),
        }
    }

    /// Lets the background begin, also that of a following worker.
    pub(super) fn let_fill(&self) {
        let _ = self.file.write_all_at(&[1], Layout::order(Order::Fill)); // a following worker waits again
        self.may_fill.send_replace(true);
    }

    /// Waits until the background may begin.
    pub(super) async fn may_fill(&self) {
        let mut may = self.may_fill.subscribe();
        // A restore that was killed says nothing.
        let _ = tokio::time::timeout(RESTORE, may.wait_for(|may| *may)).await; // then it begins nevertheless
    }

    /// Stops the background, also that of a following worker.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = self.file.write_all_at(&[1], Layout::order(Order::Finish)); // a following worker fills again
    }

    /// Fetches nothing more: reads that wait fail, and so do later ones of what is not here.
    pub(super) fn abort(&self) {
        self.stop();
        let _ = self.file.write_all_at(&[1], Layout::order(Order::Abort)); // a following worker fetches again
        self.aborted.send_replace(true);
    }

    pub(super) fn is_aborted(&self) -> bool {
        *self.aborted.borrow()
    }
}

/// Compares bytes with a digest, outside the threads that drive transfers.
pub(super) async fn is_right(bytes: &Bytes, digest: &[u8; 32]) -> bool {
    let (bytes, digest) = (bytes.clone(), *digest);
    tokio::task::spawn_blocking(move || Sha256::digest(&bytes)[..] == digest).await.unwrap_or(false)
}
