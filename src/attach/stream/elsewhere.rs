//! Bytes that their entry has lost are sought in the other stored bytes of the stream.
//!
//! 1. The index of a layer lists the hashes of its blocks. Those that overlap the lost chunk are looked up in the indexes of all
//!    layers: a block of the same hash elsewhere has the same bytes.
//! 2. Each is fetched from there and compared with its hash.
//! 3. If they cover the chunk, and it has its digest then, it is used.

use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use super::blobs::Blobs;
use super::plan::{Chunk, Piece};
use crate::layer::index::{ContentHash, MAX_KEPT, StoredBlock, content_hash, decode_index};
use crate::layer::squashfs::{BLOCK_SIZE, SUPERBLOCK_SIZE, image_length, round_up_to_page};

/// A block that is needed, or a place where it is.
#[derive(Clone, Copy)]
struct Block {
    layer: usize,
    offset: u64,
    length: u32,
}

impl Blobs {
    /// Returns a chunk from other stored bytes, if they contain all of it.
    pub(super) async fn recover(&self, chunk: Chunk) -> Option<Vec<u8>> {
        let range = self.range(chunk, 1);
        let mut needed: Vec<(ContentHash, Block)> = Vec::new();
        let mut places: HashMap<ContentHash, Vec<Block>> = HashMap::new();
        let uses = self.plan.uses(chunk.0, (range.start, range.end));
        for (layer, start, _, length) in &uses {
            self.each_block(*layer, |hash, block| {
                if block.offset < start + length && start < &(block.offset + u64::from(block.length)) {
                    needed.push((hash, block));
                }
            });
        }
        places.extend(needed.iter().map(|(hash, _)| (*hash, Vec::new())));
        for layer in 0..self.plan.layers.len() {
            self.each_block(layer, |hash, block| {
                if let Some(places) = places.get_mut(&hash)
                    && self.pieces(&block).iter().all(|piece| piece.chunk != chunk)
                {
                    places.push(block);
                }
            });
        }
        let in_chunk = needed.iter().flat_map(|(_, block)| self.pieces(block)).filter(|piece| piece.chunk == chunk);
        let spans = in_chunk.map(|piece| (piece.offset, piece.offset + piece.length)).collect();
        if places.values().any(Vec::is_empty) || !covers(spans, &range) {
            return None;
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        for (hash, block) in needed {
            let found = self.block(&hash, &places[&hash]).await?;
            let mut at = 0;
            for piece in self.pieces(&block) {
                let part = &found[at..at + piece.length as usize];
                at += part.len();
                if piece.chunk == chunk {
                    let from = (piece.offset - range.start) as usize;
                    bytes[from..from + part.len()].copy_from_slice(part);
                }
            }
        }
        (Sha256::digest(&bytes)[..] == self.digest(chunk).0).then_some(bytes)
    }

    /// A block from the first of these places that returns it.
    async fn block(&self, hash: &ContentHash, places: &[Block]) -> Option<Vec<u8>> {
        for place in places {
            let mut bytes = Vec::with_capacity(place.length as usize);
            for piece in self.pieces(place) {
                let Some(part) = self.piece(piece).await else { break };
                bytes.extend(part);
            }
            if bytes.len() == place.length as usize && content_hash(&bytes) == *hash {
                return Some(bytes);
            }
        }
        None
    }

    fn pieces(&self, block: &Block) -> Vec<Piece> {
        self.plan.pieces(block.layer, block.offset, u64::from(block.length))
    }

    /// Some bytes of another chunk. It is not waited for through [`Blobs::need`]: it may itself be waiting for this one.
    async fn piece(&self, piece: Piece) -> Option<Vec<u8>> {
        if !self.is_here(piece.chunk) {
            let bytes = self.fetch_once(piece.chunk).await?;
            let from = (piece.offset - self.range(piece.chunk, 1).start) as usize;
            let part = bytes.slice(from..from + piece.length as usize).to_vec();
            self.keep(piece.chunk, bytes).await;
            return Some(part);
        }
        let mut part = vec![0; piece.length as usize];
        self.file.read_exact_at(&mut part, self.layout.byte(piece.chunk.0, piece.offset)).ok()?;
        Some(part)
    }

    /// Calls `each` with the blocks of a layer, if its index is here.
    fn each_block(&self, layer: usize, mut each: impl FnMut(ContentHash, Block)) {
        let Some(blocks) = self.index(layer) else { return };
        let (mut offset, end) = (SUPERBLOCK_SIZE as u64, self.plan.layers[layer].size());
        for block in blocks {
            if block.length as usize > BLOCK_SIZE || offset + u64::from(block.length) > end {
                return;
            }
            each(block.hash, Block { layer, offset, length: block.length });
            offset += u64::from(block.length);
        }
    }

    fn index(&self, layer: usize) -> Option<Vec<StoredBlock>> {
        let superblock = self.local(layer, 0, SUPERBLOCK_SIZE as u64)?;
        let start = round_up_to_page(image_length(&superblock.try_into().ok()?).ok()?);
        let size = self.plan.layers[layer].size();
        let length = size.checked_sub(start).filter(|length| *length <= MAX_KEPT)?;
        decode_index(&self.local(layer, start, length)?)
    }

    /// Bytes of a layer, if all of them are here.
    fn local(&self, layer: usize, offset: u64, length: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for piece in self.plan.pieces(layer, offset, length) {
            if !self.is_here(piece.chunk) {
                return None;
            }
            let start = bytes.len();
            bytes.resize(start + piece.length as usize, 0);
            self.file.read_exact_at(&mut bytes[start..], self.layout.byte(piece.chunk.0, piece.offset)).ok()?;
        }
        (bytes.len() as u64 == length).then_some(bytes)
    }
}

/// Returns whether these parts cover a range.
fn covers(mut parts: Vec<(u64, u64)>, range: &Range<u64>) -> bool {
    parts.sort_unstable();
    let reached = parts.into_iter().fold(range.start, |at, (from, to)| if from <= at { at.max(to) } else { at });
    reached >= range.end
}
