//! The state of a stream: what has arrived, what was lost, and what was read.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::blobs::Blobs;

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
    /// Number of times that something was fetched again.
    pub retries: u64,
    /// Stored bytes with chunks that cannot be fetched, by id.
    pub lost: BTreeMap<String, LostChunks>,
    /// The order in which parts were first read: ids of stored bytes with numbers of parts, as in
    /// [`Trace`](crate::snapshot::Trace).
    pub touched: Vec<(String, Vec<u32>)>,
}

/// Chunks that cannot be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LostChunks {
    /// Their numbers.
    pub chunks: Vec<u32>,
    /// The size of a chunk.
    pub chunk_size: u64,
    /// Why, for one of them.
    pub why: String,
}

impl Blobs {
    /// The state in numbers.
    pub(super) fn status(&self) -> Status {
        let mut status =
            Status { pid: std::process::id(), retries: self.retries.load(Ordering::Relaxed), ..Status::default() };
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
        for (chunk, why) in &work.lost {
            let blob = self.plan.blobs[chunk.0 as usize].id.to_string();
            let lost = status.lost.entry(blob).or_default();
            lost.chunks.push(chunk.1);
            lost.chunk_size = self.plan.blobs[chunk.0 as usize].chunk_size;
            lost.why.clone_from(why);
        }
        for (blob, unit) in &work.touched {
            let id = self.plan.blobs[*blob as usize].id.to_string();
            match status.touched.last_mut() {
                Some((last, units)) if *last == id => units.push(*unit),
                _ => status.touched.push((id, vec![*unit])),
            }
        }
        status
    }
}
