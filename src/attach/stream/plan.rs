//! What is streamed: layers as ranges of stored bytes, and the local file that holds what has arrived.
//!
//! The local file has no name, so it is gone with the last process that has it open, and nobody else can change it:
//!
//! | part | content |
//! |---|---|
//! | requests | a slot for each request of the kernel that is being answered, for the worker that follows a killed one |
//! | orders | which commands were given: a byte each |
//! | owners | for each layer, the position and bytes of its owner, written before it is mounted |
//! | chunks | a byte for each chunk: see [`Mark`] |
//! | reads | the order in which parts of layers were first read: see [`super::touched`] |
//! | bytes | the stored bytes, one entry after the other, with holes for what is missing |

use std::fmt;

use serde::{Deserialize, Serialize};

use super::fuse::MAX_READ;
use crate::base::digest::Sha;
use crate::remote::Handover;

/// Number of requests of the kernel that a following worker takes over.
pub(super) const SLOTS: usize = 512;
/// Bytes of one of them: its number, the file, the offset and the size.
pub(super) const SLOT: usize = 32;
/// Bytes for the commands that a following worker must know.
const ORDERS: usize = 16;
/// Bytes for the owner of a layer.
pub(super) const OWNER: usize = 16;
/// So many parts of a layer, one after the other, have at least the bytes of the largest read. Otherwise a recipe of single bytes would
/// need hundreds of bytes of memory for each byte that is read.
const CROWD: usize = 1024;
/// Number of parts of layers whose first read is recorded, and bytes of such a record.
pub(super) const READS: usize = 1 << 15;
pub(super) const READ: usize = 8;
/// Largest number of chunks that are streamed.
const MAX_CHUNKS: u64 = 1 << 22;

/// Everything that a worker needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StreamPlan {
    /// Where the stored bytes are.
    pub remote: Handover,
    /// The stored bytes.
    pub blobs: Vec<Blob>,
    /// The layers.
    pub layers: Vec<StreamedLayer>,
    /// What is probably read first, in that order: numbers of blobs, and of chunks in them.
    pub hot: Vec<(u32, u32)>,
    /// How long a read waits for bytes that do not come.
    pub patience_ms: u64,
    /// The first pause between two attempts.
    pub pause_ms: u64,
    /// How long an entry must be missing or wrong before a read fails.
    pub give_up_ms: u64,
    /// How long after those, and after the restore, the rest begins.
    pub fill_after_ms: u64,
    /// Whether the kernel may be asked for what an earlier worker left unanswered.
    pub resend: bool,
}

/// An entry of the remote.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Blob {
    /// Its id in the snapshot.
    pub id: Sha,
    /// Its name.
    pub entry: String,
    /// Its location as the lookup found it. Secret.
    pub location: String,
    /// Its size in bytes.
    pub size: u64,
    /// The size of a chunk in bytes; the last one may be shorter.
    pub chunk_size: u64,
    /// The SHA-256 of each chunk.
    pub chunks: Vec<Sha>,
    /// How many chunks behind a first read are probably read too: those of a path.
    #[serde(default)]
    pub ahead: u32,
}

/// Omits the location.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("entry", &self.entry).field("size", &self.size).finish_non_exhaustive()
    }
}

/// A layer: its file consists of these parts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StreamedLayer {
    /// Its id, which is the name of its file.
    pub id: Sha,
    /// A number into the blobs, an offset there, and a length.
    pub parts: Vec<(u32, u64, u64)>,
    /// Bytes at its start that the restore itself is expected to read: its derivations.
    pub head: u64,
    /// Bytes at its end that a mount reads first; 0 if that is not known.
    #[serde(default)]
    pub tables: u64,
}

impl StreamedLayer {
    pub(super) fn size(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.2))
    }
}

/// A chunk: the number of its blob, and its own.
pub(super) type Chunk = (u32, u32);

/// Some bytes of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub chunk: Chunk,
    /// Where they begin in the blob.
    pub offset: u64,
    pub length: u64,
}

impl StreamPlan {
    /// Checks what the rest relies on.
    pub(super) fn is_sound(&self) -> bool {
        let is_blob =
            |blob: &Blob| blob.chunk_size > 0 && blob.size.div_ceil(blob.chunk_size) == blob.chunks.len() as u64;
        let is_part = |(blob, offset, length): &(u32, u64, u64)| {
            let size = self.blobs.get(*blob as usize).map(|blob| blob.size);
            size.zip(offset.checked_add(*length)).is_some_and(|(size, end)| end <= size) && *length > 0
        };
        let count: u64 = self.blobs.iter().map(|blob| blob.chunks.len() as u64).sum();
        let is_chunk = |(blob, chunk): &Chunk| {
            self.blobs.get(*blob as usize).is_some_and(|blob| (*chunk as usize) < blob.chunks.len())
        };
        let is_crowded = |layer: &StreamedLayer| {
            let lengths = layer.parts.iter().map(|part| part.2);
            let sums = lengths.scan(0_u64, |sum, length| {
                *sum = sum.saturating_add(length);
                Some(*sum)
            });
            let before = std::iter::once(0).chain(sums.clone());
            sums.skip(CROWD - 1).zip(before).any(|(sum, before)| sum - before < u64::from(MAX_READ))
        };
        count <= MAX_CHUNKS
            && !self.layers.iter().any(is_crowded)
            && self.hot.iter().all(is_chunk)
            && self.blobs.iter().all(is_blob)
            && self.layers.iter().all(|layer| layer.parts.iter().all(is_part))
    }

    /// The pieces of the bytes from `offset` on of a layer, in order, up to its end.
    pub(super) fn pieces(&self, layer: usize, offset: u64, length: u64) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let (mut start, end) = (0, offset.saturating_add(length));
        for (blob, at, size) in &self.layers[layer].parts {
            let (from, to) = (offset.max(start), end.min(start + size));
            if from < to {
                let (mut from, to) = (at + from - start, at + to - start);
                let chunk_size = self.blobs[*blob as usize].chunk_size;
                while from < to {
                    let chunk = from / chunk_size;
                    let length = to.min((chunk + 1) * chunk_size) - from;
                    pieces.push(Piece { chunk: (*blob, chunk as u32), offset: from, length });
                    from += length;
                }
            }
            start += size;
            if start >= end {
                break;
            }
        }
        pieces
    }

    /// The parts of layers that consist of the bytes `from..to` of a blob: the layer, the start there, the start in the blob, and the
    /// length.
    pub(super) fn uses(&self, blob: u32, (from, to): (u64, u64)) -> Vec<(usize, u64, u64, u64)> {
        let mut uses = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let mut start = 0;
            for (of, at, size) in &layer.parts {
                let (low, high) = (from.max(*at), to.min(at + size));
                if *of == blob && low < high {
                    uses.push((number, start + low - at, low, high - low));
                }
                start += size;
            }
        }
        uses
    }
}

/// What is known about a chunk; 0 if nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Its verified bytes are here.
    Here = 1,
    /// Its entry does not have it.
    Lost = 2,
    /// Its entry does not have it, but its verified bytes are here: other stored bytes contained them.
    Recovered = 3,
    /// It did not arrive in time, and a read failed. It is tried again.
    Late = 4,
}

impl Mark {
    pub(super) fn of(byte: u8) -> Option<Self> {
        [Self::Here, Self::Lost, Self::Recovered, Self::Late].into_iter().find(|mark| *mark as u8 == byte)
    }
}

/// A command that a following worker must know.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Finish = 0,
    Abort = 1,
    Fill = 2,
}

/// The positions of the parts of the local file.
#[derive(Debug)]
pub(super) struct Layout {
    /// The number of each blob's first chunk.
    first: Vec<u64>,
    /// The start of each blob's bytes.
    starts: Vec<u64>,
    chunks: u64,
    reads: u64,
    pub size: u64,
}

impl Layout {
    pub(super) fn of(plan: &StreamPlan) -> Self {
        let chunks = Self::owner(plan.layers.len());
        let (mut first, mut starts, mut count) = (Vec::new(), Vec::new(), 0);
        for blob in &plan.blobs {
            first.push(count);
            count += blob.chunks.len() as u64;
        }
        let reads = (chunks + count).next_multiple_of(READ as u64);
        let mut size = (reads + (READS * READ) as u64).next_multiple_of(4096);
        for blob in &plan.blobs {
            starts.push(size);
            size += blob.size.next_multiple_of(4096);
        }
        Self { first, starts, chunks, reads, size }
    }

    pub(super) fn slot(number: usize) -> u64 {
        (number * SLOT) as u64
    }

    pub(super) fn order(order: Order) -> u64 {
        (SLOTS * SLOT + order as usize) as u64
    }

    pub(super) fn owner(layer: usize) -> u64 {
        (SLOTS * SLOT + ORDERS + layer * OWNER) as u64
    }

    /// The byte for a chunk.
    pub(super) fn mark(&self, (blob, chunk): Chunk) -> u64 {
        self.chunks + self.first[blob as usize] + u64::from(chunk)
    }

    /// The place for the record of a first read.
    pub(super) fn read(&self, number: usize) -> u64 {
        self.reads + (number * READ) as u64
    }

    /// The place of a byte of a blob.
    pub(super) fn byte(&self, blob: u32, offset: u64) -> u64 {
        self.starts[blob as usize] + offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> StreamPlan {
        let blob = |size: u64| Blob {
            id: Sha([0; 32]),
            entry: "e".into(),
            location: "secret".into(),
            size,
            chunk_size: 10,
            chunks: vec![Sha([0; 32]); size.div_ceil(10) as usize],
            ahead: 0,
        };
        StreamPlan {
            remote: Handover::Directory { path: "/x".into() },
            blobs: vec![blob(25), blob(10)],
            layers: vec![
                StreamedLayer { id: Sha([1; 32]), parts: vec![(0, 5, 20), (1, 0, 4)], head: 12, tables: 0 },
                StreamedLayer { id: Sha([2; 32]), parts: vec![(1, 0, 10)], head: 0, tables: 0 },
            ],
            hot: vec![(0, 2), (1, 0)],
            patience_ms: 1,
            pause_ms: 1,
            give_up_ms: 1,
            fill_after_ms: 0,
            resend: true,
        }
    }

    #[test]
    fn pieces_cover_a_read_and_end_with_the_layer() {
        let plan = plan();
        assert!(plan.is_sound() && !format!("{plan:?}").contains("secret"));
        let found: Vec<_> = plan.pieces(0, 3, 100).iter().map(|p| (p.chunk, p.offset, p.length)).collect();
        assert_eq!(found, [((0, 0), 8, 2), ((0, 1), 10, 10), ((0, 2), 20, 5), ((1, 0), 0, 4)]);
        assert_eq!(plan.pieces(0, 24, 5), []);
        assert_eq!(plan.layers[0].size(), 24);
    }

    #[test]
    fn a_plan_that_points_outside_is_refused() {
        let broken: [fn(&mut StreamPlan); 5] = [
            |plan| plan.hot[0] = (1, 1),
            |plan| plan.layers[0].parts[0] = (0, 6, 20),
            |plan| plan.layers[0].parts[0] = (2, 0, 1),
            |plan| plan.layers[0].parts[0] = (0, u64::MAX, 2),
            |plan| plan.blobs[0].chunks.truncate(2),
        ];
        for change in broken {
            let mut plan = plan();
            change(&mut plan);
            assert!(!plan.is_sound());
        }
    }

    #[test]
    fn a_recipe_of_single_bytes_is_not_streamed() {
        let mut many = plan();
        let part = |number| (0, number % 7, 1);
        many.layers[0].parts = (0..CROWD as u64 - 1).map(part).collect();
        assert!(many.is_sound());
        many.layers[0].parts = (0..CROWD as u64).map(part).collect();
        assert!(!many.is_sound());
    }

    #[test]
    fn the_parts_of_the_file_do_not_overlap() {
        let plan = plan();
        let layout = Layout::of(&plan);
        assert!(Layout::slot(SLOTS) <= Layout::order(Order::Finish) && Layout::order(Order::Abort) < Layout::owner(0));
        assert_eq!((Layout::owner(2), layout.mark((1, 0))), (layout.mark((0, 0)), layout.mark((0, 0)) + 3));
        assert!(layout.mark((1, 0)) < layout.read(0) && layout.read(READS) <= layout.byte(0, 0));
        assert!(layout.byte(0, 24) < layout.byte(1, 0));
        assert!(layout.byte(1, 9) < layout.size);
    }
}
