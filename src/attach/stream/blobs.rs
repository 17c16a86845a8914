//! The stored bytes: which chunks are here, and how the others are fetched.
//!
//! 1. A read asks for the chunks that it needs ([`Blobs::need`]). Each is fetched once, however many reads wait for it.
//! 2. The rest is fetched in the background, several chunks with one request. Reads have connections of their own.
//! 3. A chunk is compared with its digest before it is written, and marked as present after it. If the disk is full, it is used from
//!    memory and fetched again later.
//! 4. Fetching is retried, with new lookups, until the patience is used up. A chunk is given up early only if four answers do not match its digest, or
//!    three lookups do not find the entry.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};

use super::plan::{Chunk, Layout, Piece, StreamPlan};
use crate::base::disk;
use crate::layer::squashfs::{SUPERBLOCK_SIZE, tables_start};
use crate::remote::{Entry, Kind, Remote, RemoteError};
use crate::snapshot::Trace;

/// Number of bytes that may be in flight for reads, and for the background.
const FOR_READS: usize = 16 << 20;
const FOR_BACKGROUND: usize = 16 << 20;
/// Bytes of one request of the background, if a chunk is not larger.
const RANGE: u64 = 4 << 20;
/// Number of concurrent requests of the background. More would only slow down the reads.
const BACKGROUND: usize = 4;
/// The same for what is probably read first.
const HOT: usize = 16;
/// Number of wrong answers after which a chunk is given up.
const WRONG: u32 = 4;
/// Number of lookups after which an entry is given up.
const ABSENT: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

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

type Waiting = watch::Receiver<Option<Arrived>>;
type Promise = watch::Sender<Option<Arrived>>;

/// The stored bytes of a plan.
pub(super) struct Blobs {
    pub plan: StreamPlan,
    pub file: File,
    pub layout: Layout,
    remote: Arc<dyn Remote>,
    here: Vec<Vec<AtomicBool>>,
    work: Mutex<Work>,
    slots: Semaphore,
    /// Whether the background is to stop.
    stopped: AtomicBool,
    pub retries: AtomicU64,
}

#[derive(Default)]
pub(super) struct Work {
    /// Chunks that are being fetched.
    pending: HashMap<Chunk, Waiting>,
    /// Chunks that were given up for good, and why.
    pub lost: BTreeMap<Chunk, String>,
    /// The order in which parts were first read: numbers of blobs, and of parts of [`Trace::UNIT`] bytes.
    pub touched: Vec<(u32, u32)>,
    seen: BTreeSet<(u32, u32)>,
}

/// Why a chunk could not be fetched.
struct Failure {
    why: String,
    /// Whether the entry itself is at fault, so that another attempt is useless.
    is_final: bool,
}

impl Blobs {
    /// Opens the local file `file` of a plan, with what earlier workers have fetched.
    pub(super) fn open(plan: StreamPlan, file: File, remote: Arc<dyn Remote>) -> std::io::Result<Self> {
        let layout = Layout::of(&plan);
        let mut here = Vec::new();
        for (number, blob) in (0..).zip(&plan.blobs) {
            let mut marks = vec![0; blob.chunks.len()];
            if !marks.is_empty() {
                file.read_exact_at(&mut marks, layout.mark((number, 0)))?;
            }
            here.push(marks.into_iter().map(|mark| AtomicBool::new(mark == 1)).collect());
        }
        let largest = plan.blobs.iter().map(|blob| blob.chunk_size as usize).max().unwrap_or(1);
        let slots = Semaphore::new((FOR_READS / largest.max(1)).max(2));
        let (work, stopped, retries) = (Mutex::default(), AtomicBool::new(false), AtomicU64::new(0));
        Ok(Self { plan, file, layout, remote, here, work, slots, stopped, retries })
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

    /// Records that these bytes are read.
    pub(super) fn touch(&self, pieces: &[Piece]) {
        let mut work = self.work();
        for piece in pieces {
            for unit in piece.offset / Trace::UNIT..=(piece.offset + piece.length - 1) / Trace::UNIT {
                let unit = (piece.chunk.0, unit as u32);
                if work.seen.insert(unit) {
                    work.touched.push(unit);
                }
            }
        }
    }

    /// Fetches a chunk for a read, unless it is being fetched already.
    pub(super) fn need(self: &Arc<Self>, chunk: Chunk) -> Waiting {
        let mut work = self.work();
        if let Some(waiting) = work.pending.get(&chunk) {
            return waiting.clone();
        }
        let known = if work.lost.contains_key(&chunk) {
            Some(Arrived::Lost)
        } else {
            self.is_here(chunk).then_some(Arrived::Here)
        };
        let (promise, waiting) = watch::channel(known.clone());
        if known.is_none() {
            work.pending.insert(chunk, waiting.clone());
            let blobs = Arc::clone(self);
            tokio::spawn(async move {
                let _slot = blobs.slots.acquire().await;
                blobs.fetch(chunk, promise).await;
            });
        }
        waiting
    }

    /// Fetches one chunk and keeps the promise of it.
    async fn fetch(&self, chunk: Chunk, promise: Promise) {
        let fetched = self.fetch_patiently(chunk).await;
        let arrived = match fetched {
            Ok(bytes) => self.keep(chunk, bytes).await,
            Err(Failure { why, is_final }) => {
                let name = &self.plan.blobs[chunk.0 as usize].entry;
                tracing::warn!("Chunk {} of {name} cannot be fetched: {why}", chunk.1);
                if is_final {
                    self.work().lost.insert(chunk, why);
                }
                Arrived::Lost
            }
        };
        self.settle(chunk, &promise, arrived);
    }

    fn settle(&self, chunk: Chunk, promise: &Promise, arrived: Arrived) {
        self.work().pending.remove(&chunk);
        promise.send_replace(Some(arrived));
    }

    async fn fetch_patiently(&self, chunk: Chunk) -> Result<Bytes, Failure> {
        let blob = &self.plan.blobs[chunk.0 as usize];
        let patience = Duration::from_millis(self.plan.patience_ms);
        let (start, mut pause, mut wrong, mut absent) = (Instant::now(), FIRST_PAUSE, 0, 0);
        let mut entry = self.entry(chunk.0);
        loop {
            let left = patience.saturating_sub(start.elapsed());
            let range = self.range(chunk, 1);
            let why = match tokio::time::timeout(left, self.remote.read(&entry, range)).await {
                Ok(Ok(bytes)) if is_right(&bytes, &blob.chunks[chunk.1 as usize].0).await => return Ok(bytes),
                Ok(Ok(_)) => {
                    wrong += 1;
                    "its bytes do not match their digest".to_owned()
                }
                Ok(Err(error)) => {
                    absent += u32::from(matches!(error, RemoteError::Gone(_)));
                    wrong += u32::from(matches!(error, RemoteError::Short(_)));
                    error.to_string()
                }
                Err(_) => "it did not arrive in time".to_owned(),
            };
            if wrong >= WRONG || absent >= ABSENT || start.elapsed() >= patience {
                return Err(Failure { why, is_final: wrong >= WRONG || absent >= ABSENT });
            }
            tracing::debug!("fetching chunk {} of {} again: {why}", chunk.1, blob.entry);
            self.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause.min(patience.saturating_sub(start.elapsed()))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            // Its address may have become invalid, or lead to a damaged copy.
            if let Ok(Ok(Some(found))) = tokio::time::timeout(
                LONGEST_PAUSE * 4,
                self.remote.find(Kind::Layer, std::slice::from_ref(&blob.entry)),
            )
            .await
                && found.name == blob.entry
            {
                entry = found;
            }
        }
    }

    fn entry(&self, blob: u32) -> Entry {
        let blob = &self.plan.blobs[blob as usize];
        Entry { kind: Kind::Layer, name: blob.entry.clone(), size: Some(blob.size), location: blob.location.clone() }
    }

    pub(super) fn range(&self, (blob, chunk): Chunk, count: u32) -> std::ops::Range<u64> {
        let blob = &self.plan.blobs[blob as usize];
        let end = u64::from(chunk + count) * blob.chunk_size;
        u64::from(chunk) * blob.chunk_size..end.min(blob.size)
    }

    /// Writes a verified chunk.
    async fn keep(&self, chunk: Chunk, bytes: Bytes) -> Arrived {
        let (at, mark) = (self.layout.byte(chunk.0, self.range(chunk, 1).start), self.layout.mark(chunk));
        let Ok(file) = self.file.try_clone() else { return Arrived::InMemory(bytes) };
        let same = bytes.clone();
        let write = move || file.write_all_at(&same, at).and_then(|()| file.write_all_at(&[1], mark));
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

    /// Fetches the tables of all layers, which every mount needs first, and then everything else.
    pub(super) async fn begin(self: Arc<Self>) {
        let layers = (0..self.plan.layers.len()).map(|layer| self.fetch_tables(layer));
        futures_util::future::join_all(layers).await;
        let hot = self.plan.hot.iter().map(|chunk| (*chunk, 1)).collect();
        self.fill(hot, HOT).await;
        tokio::time::sleep(Duration::from_millis(self.plan.fill_after_ms)).await;
        self.fill(self.ranges(), BACKGROUND).await;
    }

    /// Fetches the tables of a layer: they are at its end, and the superblock says where they begin.
    async fn fetch_tables(self: &Arc<Self>, layer: usize) {
        let size = self.plan.layers[layer].size();
        let _last = self.plan.pieces(layer, size.saturating_sub(1), 1).first().map(|piece| self.need(piece.chunk));
        let mut start = Vec::new();
        for piece in self.plan.pieces(layer, 0, SUPERBLOCK_SIZE as u64) {
            let arrived = self.need(piece.chunk).wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
            let at = self.layout.byte(piece.chunk.0, piece.offset);
            let mut bytes = vec![0; piece.length as usize];
            if !matches!(arrived, Some(Arrived::Here)) || self.file.read_exact_at(&mut bytes, at).is_err() {
                return;
            }
            start.extend(bytes);
        }
        let Some(tables) = <&[u8; SUPERBLOCK_SIZE]>::try_from(&*start).ok().and_then(|start| tables_start(start).ok())
        else {
            return;
        };
        let pieces = self.plan.pieces(layer, tables, size.saturating_sub(tables));
        let wanted: Vec<Waiting> = pieces.iter().map(|piece| self.need(piece.chunk)).collect();
        for mut wanted in wanted {
            // A read of them says what is wrong.
            let _ = wanted.wait_for(Option::is_some).await;
        }
    }

    /// Everything, in the order of the blobs: the first of some adjacent chunks, and their number.
    fn ranges(&self) -> Vec<(Chunk, u32)> {
        let mut ranges = Vec::new();
        for (number, blob) in (0..).zip(&self.plan.blobs) {
            let (step, count) = ((RANGE / blob.chunk_size).max(1) as u32, blob.chunks.len() as u32);
            ranges.extend((0..count).step_by(step as usize).map(|chunk| ((number, chunk), step.min(count - chunk))));
        }
        ranges
    }

    /// Fetches what is missing of `ranges` in this order, with at most `most` requests at a time, until [`Blobs::stop`].
    async fn fill(&self, ranges: Vec<(Chunk, u32)>, most: usize) {
        let size = |((blob, _), count): &(Chunk, u32)| self.plan.blobs[*blob as usize].chunk_size * u64::from(*count);
        let largest = ranges.iter().map(size).max().unwrap_or(1);
        let at_once = (FOR_BACKGROUND / largest as usize).clamp(1, most);
        // What has begun is finished, because reads may wait for it.
        let ranges = ranges.into_iter().take_while(|_| !self.stopped.load(Ordering::Relaxed));
        let fetches = futures_util::stream::iter(ranges).map(|(first, count)| self.fill_range(first, count));
        fetches.buffer_unordered(at_once).for_each(|()| async {}).await;
    }

    /// Fetches the missing ones of some adjacent chunks.
    async fn fill_range(&self, first: Chunk, count: u32) {
        if self.is_full() {
            return;
        }
        let mut promises = Vec::new();
        {
            let mut work = self.work();
            for chunk in (first.1..first.1 + count).map(|chunk| (first.0, chunk)) {
                if !self.is_here(chunk) && !work.pending.contains_key(&chunk) && !work.lost.contains_key(&chunk) {
                    let (promise, waiting) = watch::channel(None);
                    work.pending.insert(chunk, waiting);
                    promises.push((chunk, promise));
                }
            }
        }
        let (Some((low, _)), Some((high, _))) = (promises.first(), promises.last()) else { return };
        let range = self.range(*low, high.1 - low.1 + 1);
        let start = range.start;
        let read = self.remote.read(&self.entry(first.0), range).await;
        for (chunk, promise) in promises {
            let place = self.range(chunk, 1);
            let bytes = read.as_ref().ok().and_then(|bytes| {
                let (from, to) = ((place.start - start) as usize, (place.end - start) as usize);
                (to <= bytes.len()).then(|| bytes.slice(from..to))
            });
            let digest = self.plan.blobs[chunk.0 as usize].chunks[chunk.1 as usize].0;
            match bytes {
                Some(bytes) if is_right(&bytes, &digest).await => {
                    let arrived = self.keep(chunk, bytes).await;
                    self.settle(chunk, &promise, arrived);
                }
                _ => self.fetch(chunk, promise).await,
            }
        }
    }

    /// Returns whether only the job's reserve of the disk is left.
    fn is_full(&self) -> bool {
        use std::os::fd::AsRawFd;
        disk::usable(Path::new(&format!("/proc/self/fd/{}", self.file.as_raw_fd()))) == 0
    }

    /// Stops the background.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Compares bytes with a digest, outside the threads that drive transfers.
async fn is_right(bytes: &Bytes, digest: &[u8; 32]) -> bool {
    let (bytes, digest) = (bytes.clone(), *digest);
    tokio::task::spawn_blocking(move || Sha256::digest(&bytes)[..] == digest).await.unwrap_or(false)
}
