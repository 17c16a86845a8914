//! Metadata blocks: 8 KiB pieces of a table, compressed one by one.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{METADATA_SIZE, UNCOMPRESSED_METADATA};
use super::read::ImageError;

/// Metadata is little and read often: it is worth a better level than data.
const LEVEL: i32 = 9;
/// A table larger than this is refused: a million files have 100 MiB of inodes at the worst.
const MAX_TABLE: usize = 1 << 30;

/// A position in a table: where its compressed block begins, from the start of the table, and the byte in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub block: u32,
    pub offset: u16,
}

impl Position {
    /// The packed form that inode references have: 32 bits of block, 16 bits of offset.
    pub fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }
}

/// Collects a table and compresses it block by block.
pub(super) struct MetadataWriter {
    done: Vec<u8>,
    block: Vec<u8>,
    starts: Vec<u32>,
    compressor: zstd::bulk::Compressor<'static>,
}

impl MetadataWriter {
    pub fn new() -> io::Result<Self> {
        let compressor = zstd::bulk::Compressor::new(LEVEL)?;
        Ok(Self { done: Vec::new(), block: Vec::with_capacity(METADATA_SIZE), starts: Vec::new(), compressor })
    }

    /// Where the next byte will stand.
    pub fn position(&self) -> Position {
        Position { block: self.done.len() as u32, offset: self.block.len() as u16 }
    }

    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
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

    /// The whole table as it goes into the image, and where each of its blocks begins in it.
    pub fn finish(mut self) -> io::Result<(Vec<u8>, Vec<u32>)> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        Ok((self.done, self.starts))
    }
}

/// A table of an image, uncompressed.
pub(super) struct Metadata {
    bytes: Vec<u8>,
    /// From the start of a compressed block in the table to that of its bytes here.
    starts: HashMap<u64, usize>,
}

impl Metadata {
    /// The table that fills `start..end` of an image.
    pub fn read(file: &File, start: u64, end: u64) -> Result<Self, ImageError> {
        let length = end.checked_sub(start).ok_or(ImageError::Malformed("its tables overlap"))?;
        let too_large = ImageError::Malformed("one of its tables is larger than any store needs");
        if length > MAX_TABLE as u64 {
            return Err(too_large);
        }
        let mut raw = vec![0; length as usize];
        file.read_exact_at(&mut raw, start)?;
        let mut table = Self { bytes: Vec::new(), starts: HashMap::new() };
        let mut rest = &raw[..];
        while let [low, high, after @ ..] = rest {
            let header = u16::from_le_bytes([*low, *high]);
            let size = usize::from(header & !UNCOMPRESSED_METADATA);
            let cut = ImageError::Malformed("a metadata block is cut off");
            let (body, after) = after.split_at_checked(size).ok_or(cut)?;
            table.starts.insert((raw.len() - rest.len()) as u64, table.bytes.len());
            if header & UNCOMPRESSED_METADATA != 0 {
                table.bytes.extend_from_slice(body);
            } else {
                table.bytes.extend(
                    zstd::bulk::decompress(body, METADATA_SIZE)
                        .map_err(|_| ImageError::Malformed("a metadata block does not decompress"))?,
                );
            }
            if table.bytes.len() > MAX_TABLE {
                return Err(too_large);
            }
            rest = after;
        }
        Ok(table)
    }

    /// A cursor at byte `offset` of the block that begins at `block`.
    pub fn at(&self, block: u64, offset: u16) -> Result<Cursor<'_>, ImageError> {
        let outside = ImageError::Malformed("a reference points outside of its table");
        let start =
            *self.starts.get(&block).ok_or(ImageError::Malformed("a reference points into a metadata block"))?;
        Ok(Cursor(self.bytes.get(start + usize::from(offset)..).ok_or(outside)?))
    }

    /// A cursor at the first byte.
    pub fn start(&self) -> Cursor<'_> {
        Cursor(&self.bytes)
    }
}

/// Takes numbers and bytes from a table.
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], ImageError> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(ImageError::Malformed("a table ends in the middle of an entry"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn half(&mut self) -> Result<u16, ImageError> {
        Ok(u16::from_le_bytes(self.bytes(2)?.try_into().expect("two bytes were taken")))
    }

    pub fn word(&mut self) -> Result<u32, ImageError> {
        Ok(u32::from_le_bytes(self.bytes(4)?.try_into().expect("four bytes were taken")))
    }

    pub fn long(&mut self) -> Result<u64, ImageError> {
        Ok(u64::from_le_bytes(self.bytes(8)?.try_into().expect("eight bytes were taken")))
    }

    pub fn remaining(&self) -> usize {
        self.0.len()
    }
}
