//! What is fetched without being read yet: the tables of all layers and their derivations, then what was read first in the last job of
//! the lane, then everything else, several chunks with one request.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::watch;

use super::blobs::{Arrived, Blobs, Waiting, is_right};
use super::patience::Failure;
use super::plan::Chunk;
use crate::base::disk;
use crate::layer::squashfs::{SUPERBLOCK_SIZE, tables_start};
use crate::remote::RemoteError;

/// Number of bytes that may be in flight.
const IN_FLIGHT: usize = 16 << 20;
/// Bytes of one request, if a chunk is not larger.
const RANGE: u64 = 4 << 20;
/// The tables are probably not more than this part of a layer, if the snapshot does not say where they begin.
const TABLES: u64 = 200;
/// Nor, whatever it says, more than this part or so many bytes: they are fetched before the superblock says where they begin.
const LARGEST_TABLES: u64 = 8;
const LEAST_TABLES: u64 = 1 << 20;
/// Number of concurrent requests. More would only slow down the reads.
const BACKGROUND: usize = 4;
/// The same for what is probably read first.
const HOT: usize = 16;
/// The same for what other jobs of that name read first, which is fetched besides the rest.
const FIRST: usize = 8;

impl Blobs {
    /// Fetches the tables of all layers, which every mount needs first, and then everything else.
    pub(super) async fn begin(self: Arc<Self>) {
        let tables = futures_util::future::join_all((0..self.plan.layers.len()).map(|layer| self.fetch_tables(layer)));
        let heads = async {
            // The restore reads them as soon as the layers are mounted. The tables have asked already, so they are first.
            for (number, layer) in self.plan.layers.iter().enumerate() {
                for piece in self.plan.pieces(number, 0, layer.head) {
                    drop(self.need(piece.chunk));
                }
            }
        };
        futures_util::join!(tables, heads);
        if !self.remote.ranges_work() {
            return;
        }
        self.has_tables.store(true, Ordering::Relaxed);
        let hot = self.plan.hot.iter().map(|chunk| (*chunk, 1)).collect();
        self.fill(hot, HOT).await;
        self.may_fill().await;
        tokio::time::sleep(Duration::from_millis(self.plan.fill_after_ms)).await;
        self.fill(self.ranges(), BACKGROUND).await;
    }

    /// Fetches the tables of a layer: they are at its end, and the superblock says where they begin.
    async fn fetch_tables(self: &Arc<Self>, layer: usize) {
        let size = self.plan.layers[layer].size();
        let probably = match self.plan.layers[layer].tables {
            0 => (size / TABLES).max(1),
            known => known.min((size / LARGEST_TABLES).max(LEAST_TABLES)),
        };
        for piece in self.plan.pieces(layer, size.saturating_sub(probably), probably) {
            drop(self.need(piece.chunk));
        }
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

    /// Fetches the chunks of some spans of a layer soon, because they are probably read.
    pub(super) async fn fetch_first(self: Arc<Self>, layer: usize, spans: Vec<(u64, u64)>) {
        let pieces = spans.into_iter().flat_map(|(from, to)| self.plan.pieces(layer, from, to.saturating_sub(from)));
        let mut chunks: Vec<(Chunk, u32)> = pieces.map(|piece| (piece.chunk, 1)).collect();
        chunks.dedup();
        let _turn = self.lists.acquire().await;
        self.fill(chunks, FIRST).await;
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
        let at_once = (IN_FLIGHT / largest as usize).clamp(1, most);
        // What has begun is finished, because reads may wait for it.
        let ranges = ranges.into_iter().take_while(|_| !self.stopped.load(Ordering::Relaxed));
        let fetches = futures_util::stream::iter(ranges).map(|(first, count)| self.fill_range(first, count));
        fetches.buffer_unordered(at_once).for_each(|()| async {}).await;
    }

    /// Fetches the missing ones of some adjacent chunks.
    async fn fill_range(&self, first: Chunk, count: u32) {
        if self.is_full() || self.is_aborted() {
            return;
        }
        let mut promises = Vec::new();
        {
            let mut work = self.work();
            for chunk in (first.1..first.1 + count).map(|chunk| (first.0, chunk)) {
                if !self.is_here(chunk) && !work.pending.contains_key(&chunk) && !work.is_lost(chunk) {
                    let (promise, waiting) = watch::channel(None);
                    work.pending.insert(chunk, waiting);
                    promises.push((chunk, promise));
                }
            }
        }
        let (Some((low, _)), Some((high, _))) = (promises.first(), promises.last()) else { return };
        let range = self.range(*low, high.1 - low.1 + 1);
        let start = range.start;
        let entry = self.entry(first.0);
        let read = self.remote.read(&entry, range);
        let failed = |error: RemoteError| Failure { why: error.to_string(), is_final: false };
        let read = self.unless_aborted(async { read.await.map_err(failed) }).await;
        let mut bad = Vec::new();
        for (chunk, promise) in promises {
            let place = self.range(chunk, 1);
            let bytes = read.as_ref().ok().and_then(|bytes| {
                let (from, to) = ((place.start - start) as usize, (place.end - start) as usize);
                (to <= bytes.len()).then(|| bytes.slice(from..to))
            });
            let digest = self.digest(chunk).0;
            match bytes {
                Some(bytes) if is_right(&bytes, &digest).await => {
                    let arrived = self.keep(chunk, bytes).await;
                    self.settle(chunk, &promise, arrived);
                }
                _ => bad.push((chunk, promise)),
            }
        }
        // They may take long, and reads may wait for the others.
        futures_util::future::join_all(
            bad.into_iter().map(|(chunk, promise)| self.fetch(chunk, promise, Instant::now())),
        )
        .await;
    }

    /// Returns whether only the job's reserve of the disk is left.
    fn is_full(&self) -> bool {
        use std::os::fd::AsRawFd;
        disk::usable(Path::new(&format!("/proc/self/fd/{}", self.file.as_raw_fd()))) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Blob, Layout, StreamPlan, StreamedLayer};
    use super::*;
    use crate::base::digest::Sha;
    use crate::remote::{Handover, Kind};

    const CHUNK: usize = 4096;

    /// A layer of eight chunks of which none is here.
    async fn layer(head: u64, tables: u64) -> (tempfile::TempDir, Arc<Blobs>) {
        let folder = tempfile::tempdir().unwrap();
        let handover = Handover::Directory { path: folder.path().to_owned() };
        let remote = handover.clone().open().unwrap();
        let bytes: Vec<u8> = (0..8).flat_map(|number| [number; CHUNK]).collect();
        let (id, size) = (Sha::of(&bytes), bytes.len() as u64);
        let chunks = bytes.chunks(CHUNK).map(Sha::of).collect();
        remote.put_bytes(Kind::Layer, "layer", bytes.into()).await.unwrap();
        let location = folder.path().join(Kind::Layer.word()).join("layer").display().to_string();
        let plan = StreamPlan {
            remote: handover,
            blobs: vec![Blob { id, entry: "layer".into(), location, size, chunk_size: CHUNK as u64, chunks, ahead: 0 }],
            layers: vec![StreamedLayer { id, parts: vec![(0, 0, size)], head, tables }],
            hot: Vec::new(),
            patience_ms: 60_000,
            pause_ms: 1,
            give_up_ms: 1,
            fill_after_ms: 0,
            resend: true,
        };
        let file = tempfile::tempfile().unwrap();
        file.set_len(Layout::of(&plan).size).unwrap();
        (folder, Arc::new(Blobs::open(plan, file, remote).unwrap()))
    }

    /// The chunks that are here or being fetched.
    fn asked(blobs: &Blobs) -> Vec<u32> {
        let work = blobs.work();
        (0..8).filter(|chunk| work.pending.contains_key(&(0, *chunk)) || blobs.is_here((0, *chunk))).collect()
    }

    /// The chunks that were asked for when the tables had arrived, before anything was mounted or read.
    async fn asked_for(head: u64, tables: u64) -> Vec<u32> {
        let (_folder, blobs) = layer(head, tables).await;
        let begun = tokio::spawn(Arc::clone(&blobs).begin());
        while !blobs.has_tables.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let asked = asked(&blobs);
        begun.abort();
        asked
    }

    #[tokio::test]
    async fn derivations_are_asked_for_together_with_the_tables() {
        // The superblock, and the end of the layer.
        assert_eq!(asked_for(0, 0).await, [0, 7]);
        assert_eq!(asked_for(CHUNK as u64 * 2 + 1, 0).await, [0, 1, 2, 7]);
    }

    #[tokio::test]
    async fn tables_are_asked_for_at_once_where_the_snapshot_says_where_they_begin() {
        assert_eq!(asked_for(0, CHUNK as u64 + 1).await, [0, 6, 7]);
        // It may say anything.
        assert_eq!(asked_for(0, u64::MAX).await, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[tokio::test]
    async fn what_readers_go_on_to_is_asked_for_before_they_read_it() {
        let (_folder, blobs) = layer(0, 0).await;
        blobs.has_tables.store(true, Ordering::Relaxed);
        for (chunk, expected) in [(0, &[0][..]), (6, &[0, 6]), (1, &[0, 1, 2, 6]), (2, &[0, 1, 2, 3, 4, 6])] {
            let mut arrives = blobs.need((0, chunk));
            blobs.read_on([(0, chunk)]);
            assert_eq!(asked(&blobs), expected);
            arrives.wait_for(Option::is_some).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_first_read_asks_for_as_much_as_is_usual() {
        let (_folder, mut blobs) = layer(0, 0).await;
        Arc::get_mut(&mut blobs).unwrap().plan.blobs[0].ahead = 2;
        let mut arrives = blobs.need((0, 0));
        blobs.read_on([(0, 0)]);
        assert_eq!(asked(&blobs), [0], "a restore that waits for the tables reads it");
        arrives.wait_for(Option::is_some).await.unwrap();
        blobs.has_tables.store(true, Ordering::Relaxed);
        let mut arrives = blobs.need((0, 1));
        blobs.read_on([(0, 1)]);
        assert_eq!(asked(&blobs), [0, 1, 2, 3]);
        arrives.wait_for(Option::is_some).await.unwrap();
        blobs.read_on([(0, 6)]);
        assert_eq!(asked(&blobs), [0, 1, 2, 3, 7], "there is nothing behind the last one");
    }
}
