//! The state of a stream: what has arrived, what was lost, and what was read.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::blobs::Blobs;
use super::plan::Mark;

/// What a worker says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The process.
    pub pid: u32,
    /// Bytes of all chunks, and of those that have arrived.
    pub bytes: u64,
    /// See `bytes`.
    pub bytes_here: u64,
    /// Number of layers.
    pub layers: u64,
    /// Number of times that something was fetched again.
    pub retries: u64,
    /// Number of reads that wait.
    pub waiting: u64,
    /// Whether what is not read is not fetched any more.
    pub is_finished: bool,
    /// Whether nothing is fetched any more.
    pub is_aborted: bool,
    /// Stored bytes with chunks that did not arrive from their entries, by id.
    pub lost: BTreeMap<String, LostChunks>,
    /// What reads of layers cannot get because of that: their ids, with first bytes and those behind the last ones.
    pub unreadable: BTreeMap<String, Vec<(u64, u64)>>,
    /// The order in which parts were first read: ids of stored bytes with numbers of parts, as in
    /// [`Trace`](crate::snapshot::Trace).
    pub touched: Vec<(String, Vec<u32>)>,
    /// The same in the files of layers: their ids, with numbers of parts of
    /// [`Trace::READ_UNIT`](crate::snapshot::Trace::READ_UNIT) bytes.
    pub read: Vec<(String, Vec<u32>)>,
}

/// Chunks that did not arrive from their entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LostChunks {
    /// Numbers of those that the entry does not have.
    pub chunks: Vec<u32>,
    /// Of these, the ones whose bytes were found in other entries.
    pub recovered: Vec<u32>,
    /// Numbers of those that did not arrive in time.
    pub late: Vec<u32>,
    /// The size of a chunk.
    pub chunk_size: u64,
    /// Why, for one of them.
    pub why: String,
}

impl Blobs {
    /// The state in numbers.
    pub(super) fn status(&self, waiting: usize) -> Status {
        let mut status = Status {
            pid: std::process::id(),
            layers: self.plan.layers.len() as u64,
            retries: self.retries.load(Ordering::Relaxed),
            waiting: waiting as u64,
            is_finished: self.stopped.load(Ordering::Relaxed),
            is_aborted: self.is_aborted(),
            ..Status::default()
        };
        for (blob, number) in self.plan.blobs.iter().zip(0_u32..) {
            for chunk in 0..blob.chunks.len() as u32 {
                let range = self.range((number, chunk), 1);
                status.bytes += range.end - range.start;
                if self.is_here((number, chunk)) {
                    status.bytes_here += range.end - range.start;
                }
            }
        }
        let work = self.work();
        for (chunk, (mark, why)) in &work.lost {
            let blob = &self.plan.blobs[chunk.0 as usize];
            let lost = status.lost.entry(blob.id.to_string()).or_default();
            lost.chunk_size = blob.chunk_size;
            lost.why.clone_from(why);
            match mark {
                Mark::Late => lost.late.push(chunk.1),
                _ => lost.chunks.push(chunk.1),
            }
            if *mark == Mark::Recovered {
                lost.recovered.push(chunk.1);
                continue;
            }
            let range = self.range(*chunk, 1);
            for (layer, start, _, length) in self.plan.uses(chunk.0, (range.start, range.end)) {
                let layer = self.plan.layers[layer].id.to_string();
                status.unreadable.entry(layer).or_default().push((start, start + length));
            }
        }
        status.touched = work.touched.of_blobs(&self.plan);
        status.read = work.touched.of_layers(&self.plan);
        status
    }
}
