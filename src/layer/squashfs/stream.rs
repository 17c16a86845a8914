//! Reads a table of an image from its first byte to its last and accepts only what our writer produces: contiguous full blocks,
//! each a single zstd frame with the header that our encoder writes, or uncompressed if compression does not make it smaller.
//! Only the part that is being read is in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::error::ImageError;
use super::format::{METADATA_SIZE, UNCOMPRESSED_METADATA};
use super::metadata::Position;

/// A table larger than this is refused: two million files need 120 MiB.
const MAX_TABLE: usize = 256 << 20;
/// Compressed bytes that are read at a time.
const CHUNK: u64 = 256 * 1024;
/// Number of consumed bytes that may stay before the rest is moved to the front.
const SLACK: usize = 128 * METADATA_SIZE;

/// A table, and how much of it has been consumed.
pub(super) struct TableReader<'a> {
    file: &'a File,
    base: u64,
    length: u64,
    raw: Vec<u8>,
    /// The start of `raw`, relative to the table, like `next`.
    raw_at: u64,
    /// The start of the next compressed block.
    next: u64,
    plain: Vec<u8>,
    at: usize,
    /// Number of uncompressed bytes that are no longer in `plain`: always whole blocks.
    dropped: usize,
    starts: Vec<u32>,
    decompressor: zstd::bulk::Decompressor<'static>,
    /// The last block that was decompressed.
    block: Box<[u8; METADATA_SIZE]>,
}

impl<'a> TableReader<'a> {
    /// The table in `start..end` of `file`.
    pub(super) fn new(file: &'a File, start: u64, end: u64) -> Result<Self, ImageError> {
        let length = end.checked_sub(start).ok_or(ImageError::Malformed("its tables overlap"))?;
        if length > MAX_TABLE as u64 {
            return Err(ImageError::Malformed("one of its tables is too large"));
        }
        Ok(Self {
            file,
            base: start,
            length,
            raw: Vec::new(),
            raw_at: 0,
            next: 0,
            plain: Vec::new(),
            at: 0,
            dropped: 0,
            starts: Vec::new(),
            decompressor: zstd::bulk::Decompressor::new()?,
            block: Box::new([0; METADATA_SIZE]),
        })
    }

    /// Number of consumed uncompressed bytes.
    pub(super) fn taken(&self) -> usize {
        self.dropped + self.at
    }

    /// Returns whether everything was consumed.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.plain.len() && self.next == self.length
    }

    /// The position of uncompressed byte `at`, which is at most the next one to be read.
    pub(super) fn place(&self, at: usize) -> Position {
        let block = self.starts.get(at / METADATA_SIZE).copied();
        Position { block: block.unwrap_or(self.next as u32), offset: (at % METADATA_SIZE) as u16 }
    }

    /// The start of each compressed block read so far.
    pub(super) fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// Returns the next `count` bytes without consuming them.
    pub(super) fn peek(&mut self, count: usize) -> Result<&[u8], ImageError> {
        while self.plain.len() - self.at < count {
            self.read_block()?;
        }
        Ok(self.peeked(count))
    }

    /// Returns the next `count` bytes, which were peeked before.
    pub(super) fn peeked(&self, count: usize) -> &[u8] {
        &self.plain[self.at..self.at + count]
    }

    /// Consumes the next bytes, which must be these.
    pub(super) fn expect(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        if self.peek(bytes.len())? != bytes {
            return Err(ImageError::Malformed("its metadata is not as this program writes it"));
        }
        self.take(bytes.len());
        Ok(())
    }

    /// Consumes `count` bytes that were peeked.
    pub(super) fn take(&mut self, count: usize) {
        self.at += count;
        if self.at > SLACK {
            let whole = self.at / METADATA_SIZE * METADATA_SIZE;
            self.plain.drain(..whole);
            self.dropped += whole;
            self.at -= whole;
        }
    }

    fn read_block(&mut self) -> Result<(), ImageError> {
        let read = self.dropped + self.plain.len();
        if self.next == self.length {
            return Err(ImageError::Malformed("a table ends in the middle of an entry"));
        }
        if !read.is_multiple_of(METADATA_SIZE) || read >= MAX_TABLE {
            return Err(ImageError::Malformed("a metadata block is not full, or a table is too large"));
        }
        self.fill(2)?;
        let from = (self.next - self.raw_at) as usize;
        let header = u16::from_le_bytes([self.raw[from], self.raw[from + 1]]);
        let size = usize::from(header & !UNCOMPRESSED_METADATA);
        if size == 0 || size > METADATA_SIZE {
            return Err(ImageError::Malformed("a metadata block has an impossible size"));
        }
        self.fill(2 + size as u64)?;
        let from = (self.next - self.raw_at) as usize + 2;
        let body = &self.raw[from..from + size];
        if header & UNCOMPRESSED_METADATA == 0 {
            let length = self
                .decompressor
                .decompress_to_buffer(body, &mut self.block[..])
                .map_err(|_| ImageError::Malformed("a metadata block does not decompress"))?;
            self.plain.extend_from_slice(&self.block[..length]);
            if length <= size || !is_our_frame(body, length) {
                return Err(ImageError::Malformed("a metadata block is not compressed as this program does it"));
            }
        } else {
            self.plain.extend_from_slice(body);
        }
        self.starts.push(self.next as u32);
        self.next += 2 + size as u64;
        Ok(())
    }

    /// Makes sure that `count` compressed bytes from the next block on are in `raw`.
    fn fill(&mut self, count: u64) -> Result<(), ImageError> {
        let cut = ImageError::Malformed("a metadata block is cut off");
        let end = self.next.checked_add(count).filter(|end| *end <= self.length).ok_or(cut)?;
        if end > self.raw_at + self.raw.len() as u64 {
            let length = (self.length - self.next).min(CHUNK);
            self.raw.resize(length as usize, 0);
            self.file.read_exact_at(&mut self.raw, self.base + self.next)?;
            self.raw_at = self.next;
        }
        Ok(())
    }
}

/// Returns whether `body` is one zstd frame with a header as our encoder writes it for `length` bytes: a single segment with its
/// size, no checksum and no dictionary. The kernel stops at the end of the first frame, so with a second one it would see
/// different bytes from those that we see.
fn is_our_frame(body: &[u8], length: usize) -> bool {
    let mut header = vec![0x28, 0xb5, 0x2f, 0xfd];
    if let Ok(length) = u8::try_from(length) {
        header.extend([0x20, length]);
    } else {
        header.push(0x60);
        header.extend(((length - 256) as u16).to_le_bytes());
    }
    body.starts_with(&header) && zstd::zstd_safe::find_frame_compressed_size(body) == Ok(body.len())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::layer::squashfs::metadata::{MetadataWriter, Table};

    fn table(bytes: &[u8]) -> Vec<u8> {
        let mut writer = MetadataWriter::new().unwrap();
        writer.write(bytes).unwrap();
        writer.finish().unwrap().0
    }

    fn read(table: &[u8]) -> Result<Vec<u8>, ImageError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(table).unwrap();
        let mut reader = TableReader::new(&file, 0, table.len() as u64)?;
        let mut out = Vec::new();
        while !reader.is_at_end() {
            out.push(reader.peek(1)?[0]);
            reader.take(1);
        }
        Ok(out)
    }

    fn block(body: &[u8], plain: bool) -> Vec<u8> {
        let flag = if plain { UNCOMPRESSED_METADATA } else { 0 };
        [&(body.len() as u16 | flag).to_le_bytes(), body].concat()
    }

    #[test]
    fn what_the_writer_makes_is_read_whatever_its_length() {
        let mut noise = blake3::Hasher::new().finalize_xof();
        for length in [0, 1, 5, 200, 255, 256, 257, 8191, 8192, 8193, 30_000, 1_200_000] {
            let mut bytes = vec![7; length];
            noise.fill(&mut bytes[..length / 2]);
            assert!(read(&table(&bytes)).unwrap() == bytes, "{length}");
        }
    }

    #[test]
    fn blocks_that_the_writer_does_not_make_are_refused() {
        let text = vec![b'a'; 4000];
        let frame = zstd::bulk::compress(&text, 3).unwrap();
        assert_eq!(read(&block(&frame, false)).unwrap(), text);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..], &frame].concat();
        let mut streamed = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        streamed.write_all(&text).unwrap();
        let streamed = streamed.finish().unwrap();
        let mut checked = zstd::bulk::Compressor::new(3).unwrap();
        checked.include_checksum(true).unwrap();
        let checked = checked.compress(&text).unwrap();
        let small = zstd::bulk::compress(b"abc", 3).unwrap();
        let refused = [
            ("two frames", block(&[&frame[..], &frame].concat(), false)),
            ("a frame that is skipped", block(&skippable, false)),
            ("a frame without its size", block(&streamed, false)),
            ("a frame with a checksum", block(&checked, false)),
            ("bytes behind the frame", block(&[&frame[..], b"x"].concat(), false)),
            ("compressed, and larger for it", block(&small, false)),
            ("a block that is not full", [block(&text, true), block(&text, true)].concat()),
            ("an empty block", block(b"", true)),
            ("a block that is too large", block(&vec![1; 8193], true)),
            ("cut off", block(&text, true)[..2000].to_vec()),
            ("half a header", vec![1]),
        ];
        for (what, table) in refused {
            assert!(matches!(read(&table), Err(ImageError::Malformed(_))), "{what}");
        }
    }
}
