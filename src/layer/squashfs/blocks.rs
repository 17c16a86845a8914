//! Reads the bytes of files in an image.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::error::ImageError;
use super::format::{BLOCK_SIZE, FRAGMENT_SIZE, UNCOMPRESSED_BLOCK};
use super::read::{FileInode, Image};

/// Reads blocks of an image, for one thread: buffers, a decompressor, and recently used fragment blocks.
pub(crate) struct BlockReader<'a> {
    image: &'a Image,
    decompressor: zstd::bulk::Decompressor<'static>,
    raw: Vec<u8>,
    block: Vec<u8>,
    fragments: HashMap<u32, Vec<u8>>,
}

/// Number of fragment blocks that a reader caches: files of one store path share few.
const KEPT_FRAGMENTS: usize = 8;

impl<'a> BlockReader<'a> {
    /// A reader of `image`.
    ///
    /// # Errors
    /// When zstd cannot be set up.
    pub(crate) fn new(image: &'a Image) -> Result<Self, ImageError> {
        Ok(Self {
            image,
            decompressor: zstd::bulk::Decompressor::new()?,
            raw: Vec::new(),
            block: Vec::new(),
            fragments: HashMap::new(),
        })
    }

    /// Passes the bytes of a file to `sink`, block by block.
    ///
    /// # Errors
    /// When the image is damaged, or `sink` fails.
    pub(crate) fn file(
        &mut self,
        inode: &FileInode<'_>,
        mut sink: impl FnMut(Piece<'_>) -> io::Result<()>,
    ) -> Result<(), ImageError> {
        let mut at = inode.start;
        let mut left = inode.size;
        let mut words = inode.words.clone();
        for _ in 0..inode.blocks {
            let word = words.word()?;
            let expected = left.min(inode.block) as usize;
            if word == 0 {
                sink(Piece::Hole(expected))?;
            } else {
                let mut block = std::mem::take(&mut self.block);
                self.block(at, word, BLOCK_SIZE, &mut block)?;
                if block.len() != expected {
                    return Err(ImageError::Malformed("a block of a file has the wrong size"));
                }
                sink(Piece::Bytes(&block))?;
                self.block = block;
            }
            let outside = ImageError::Malformed("a file lies behind the end of all files");
            at = at.checked_add(u64::from(word & !UNCOMPRESSED_BLOCK)).ok_or(outside)?;
            left -= expected as u64;
        }
        if let Some(fragment) = inode.fragment {
            let outside = ImageError::Malformed("a file lies outside of its fragment");
            let whole = self.fragment(fragment.index)?;
            let tail =
                whole.get(fragment.offset as usize..).and_then(|tail| tail.get(..left as usize)).ok_or(outside)?;
            sink(Piece::Bytes(tail))?;
            left = 0;
        }
        if left == 0 { Ok(()) } else { Err(ImageError::Malformed("a file has fewer blocks than bytes")) }
    }

    fn fragment(&mut self, index: u32) -> Result<&[u8], ImageError> {
        if !self.fragments.contains_key(&index) {
            if self.fragments.len() >= KEPT_FRAGMENTS {
                self.fragments.clear();
            }
            let unknown = ImageError::Malformed("a file names a fragment that is not there");
            let (start, word) = *self.image.fragments.get(index as usize).ok_or(unknown)?;
            let mut block = Vec::new();
            self.block(start, word, FRAGMENT_SIZE, &mut block)?;
            self.fragments.insert(index, block);
        }
        Ok(&self.fragments[&index])
    }

    /// Reads a block into `into`, and returns its stored bytes.
    ///
    /// # Errors
    /// When the image is damaged.
    pub(crate) fn stored_block<'b>(
        &'b mut self,
        start: u64,
        word: u32,
        into: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], ImageError> {
        self.block(start, word, BLOCK_SIZE, into)?;
        Ok(if word & UNCOMPRESSED_BLOCK == 0 { &self.raw } else { into })
    }

    /// Reads a block of at most `most` bytes.
    fn block(&mut self, start: u64, word: u32, most: usize, into: &mut Vec<u8>) -> Result<(), ImageError> {
        let size = (word & !UNCOMPRESSED_BLOCK) as usize;
        if size > most {
            return Err(ImageError::Malformed("a block is larger than a block can be"));
        }
        into.clear();
        if word & UNCOMPRESSED_BLOCK != 0 {
            into.resize(size, 0);
            return Ok(self.image.file.read_exact_at(into, start)?);
        }
        self.raw.resize(size, 0);
        self.image.file.read_exact_at(&mut self.raw, start)?;
        // Another decoder could stop at the end of the first frame.
        if zstd::zstd_safe::find_frame_compressed_size(&self.raw) != Ok(size) {
            return Err(ImageError::Malformed("a block is not a single frame"));
        }
        into.reserve(most);
        self.decompressor
            .decompress_to_buffer(&self.raw, into)
            .map_err(|_| ImageError::Malformed("a block does not decompress"))?;
        Ok(())
    }
}

/// The stored bytes of the block with this start and size word.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn read_block(file: &File, start: u64, word: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; ((word & !UNCOMPRESSED_BLOCK) as usize).min(BLOCK_SIZE)];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

/// A part of a file.
pub(crate) enum Piece<'a> {
    /// Plain bytes.
    Bytes(&'a [u8]),
    /// A number of zeros, which are not stored.
    Hole(usize),
}
