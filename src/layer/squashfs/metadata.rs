//! Metadata blocks: 8 KiB pieces of a table, compressed one by one.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::ImageError;
use super::format::{METADATA_SIZE, UNCOMPRESSED_METADATA};

/// Metadata is small and read often, so it gets a higher level than data.
const LEVEL: i32 = 9;
/// Number of decompressed blocks of a table in each of two generations, 2 MiB in total, unless more are asked for. Reading a store path uses
/// the same few blocks.
const KEPT: usize = 128;

/// A position in a table: the start of its compressed block, relative to the table, and the byte in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub block: u32,
    pub offset: u16,
}

impl Position {
    /// The packed form of inode references: 32 bits of block, 16 bits of offset.
    pub(super) fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }
}

/// The target to which a table is written, either to create one or to compare it with an existing one.
pub(super) trait Table {
    /// The position of the next byte.
    fn position(&self) -> Position;

    /// Appends `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Collects a table and compresses it block by block.
pub(super) struct MetadataWriter {
    done: Vec<u8>,
    block: Vec<u8>,
    starts: Vec<u32>,
    compressor: zstd::bulk::Compressor<'static>,
}

impl MetadataWriter {
    pub(super) fn new() -> io::Result<Self> {
        let compressor = zstd::bulk::Compressor::new(LEVEL)?;
        Ok(Self { done: Vec::new(), block: Vec::with_capacity(METADATA_SIZE), starts: Vec::new(), compressor })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.starts.push(self.done.len() as u32);
        let compressed = self.compressor.compress(&self.block)?;
        let (header, body) = if compressed.len() < self.block.len() {
            (compressed.len() as u16, &compressed)
        } else {
            (self.block.len() as u16 | UNCOMPRESSED_METADATA, &self.block)
        };
        self.done.extend(header.to_le_bytes());
        self.done.extend_from_slice(body);
        self.block.clear();
        Ok(())
    }

    /// The whole table as stored in the image, and the start of each of its blocks.
    pub(super) fn finish(mut self) -> io::Result<(Vec<u8>, Vec<u32>)> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        Ok((self.done, self.starts))
    }
}

impl Table for MetadataWriter {
    fn position(&self) -> Position {
        Position { block: self.done.len() as u32, offset: self.block.len() as u16 }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(METADATA_SIZE - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == METADATA_SIZE {
                self.flush()?;
            }
        }
        Ok(())
    }
}

/// A table of an image, read on demand. Few of its blocks are in memory at a time.
pub(super) struct Metadata {
    file: Arc<File>,
    start: u64,
    length: u64,
    kept: Mutex<Kept>,
}

/// A decompressed block, and the start of the next one.
struct Block {
    bytes: Vec<u8>,
    next: u64,
}

/// The most recently used blocks, and those used before them.
struct Kept {
    newer: HashMap<u64, Arc<Block>>,
    older: HashMap<u64, Arc<Block>>,
    /// Most blocks in each.
    most: usize,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl Metadata {
    /// The table that fills `start..end` of an image.
    pub(super) fn new(file: Arc<File>, start: u64, end: u64) -> Result<Self, ImageError> {
        let length = end.checked_sub(start).ok_or(ImageError::Malformed("its tables overlap"))?;
        let decompressor = zstd::bulk::Decompressor::new()?;
        let kept = Kept { newer: HashMap::new(), older: HashMap::new(), most: KEPT, decompressor };
        Ok(Self { file, start, length, kept: Mutex::new(kept) })
    }

    /// From now on, keeps `most` decompressed blocks in each generation.
    pub(super) fn keep(&self, most: usize) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).most = most;
    }

    /// Creates a cursor at byte `offset` of the block that begins at `block`.
    pub(super) fn at(&self, block: u64, offset: u16) -> Result<Cursor<'_>, ImageError> {
        let cursor = Cursor { table: self, block: self.block(block)?, at: usize::from(offset) };
        if cursor.at > cursor.block.bytes.len() {
            return Err(ImageError::Malformed("a reference points outside of its table"));
        }
        Ok(cursor)
    }

    fn block(&self, at: u64) -> Result<Arc<Block>, ImageError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = kept.newer.get(&at) {
            return Ok(Arc::clone(block));
        }
        let block = match kept.older.remove(&at) {
            Some(block) => block,
            None => Arc::new(self.read(at, &mut kept.decompressor)?),
        };
        if kept.newer.len() >= kept.most {
            kept.older = std::mem::take(&mut kept.newer);
        }
        kept.newer.insert(at, Arc::clone(&block));
        Ok(block)
    }

    fn read(&self, at: u64, decompressor: &mut zstd::bulk::Decompressor<'_>) -> Result<Block, ImageError> {
        let cut = || ImageError::Malformed("a metadata block is cut off, or a reference points outside of its table");
        let body_at = at.checked_add(2).filter(|body| *body <= self.length).ok_or_else(cut)?;
        let mut header = [0; 2];
        self.file.read_exact_at(&mut header, self.start + at)?;
        let header = u16::from_le_bytes(header);
        let size = usize::from(header & !UNCOMPRESSED_METADATA);
        let next = body_at + size as u64;
        if size > METADATA_SIZE || next > self.length {
            return Err(cut());
        }
        let mut body = vec![0; size];
        self.file.read_exact_at(&mut body, self.start + body_at)?;
        if header & UNCOMPRESSED_METADATA != 0 {
            return Ok(Block { bytes: body, next });
        }
        let bytes = decompressor
            .decompress(&body, METADATA_SIZE)
            .map_err(|_| ImageError::Malformed("a metadata block does not decompress"))?;
        Ok(Block { bytes, next })
    }
}

/// Reads numbers and bytes from a table.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    table: &'a Metadata,
    block: Arc<Block>,
    at: usize,
}

impl Cursor<'_> {
    /// Fills `out`.
    pub(super) fn read(&mut self, mut out: &mut [u8]) -> Result<(), ImageError> {
        while !out.is_empty() {
            if self.at == self.block.bytes.len() {
                // An empty block would be read forever.
                let next = self.block.next;
                if self.block.bytes.is_empty() || next == self.table.length {
                    return Err(ImageError::Malformed("a table ends in the middle of an entry"));
                }
                self.block = self.table.block(next)?;
                self.at = 0;
                continue;
            }
            let count = out.len().min(self.block.bytes.len() - self.at);
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&self.block.bytes[self.at..self.at + count]);
            self.at += count;
            out = later;
        }
        Ok(())
    }

    /// Reads the next `count` bytes, which the caller has limited. Memory is allocated as they arrive.
    pub(super) fn bytes(&mut self, count: usize) -> Result<Vec<u8>, ImageError> {
        let mut out = Vec::new();
        while out.len() < count {
            let from = out.len();
            out.resize(count.min(from + METADATA_SIZE), 0);
            self.read(&mut out[from..])?;
        }
        Ok(out)
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), ImageError> {
        self.bytes(count).map(drop)
    }

    pub(super) fn half(&mut self) -> Result<u16, ImageError> {
        let mut bytes = [0; 2];
        self.read(&mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    pub(super) fn word(&mut self) -> Result<u32, ImageError> {
        let mut bytes = [0; 4];
        self.read(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(super) fn long(&mut self) -> Result<u64, ImageError> {
        let mut bytes = [0; 8];
        self.read(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}
