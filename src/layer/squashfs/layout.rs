//! The positions of file contents in an image: from the superblock to the inodes, block after block, in the order of the file
//! numbers, without gaps or overlaps. A file either comes next or shares all its bytes with an earlier one.

use std::ops::RangeInclusive;

use super::error::ImageError;
use super::format::{BLOCK_SIZE, SUPERBLOCK_SIZE, UNCOMPRESSED_BLOCK};
use super::tree::{Content, Fragment};
use super::usage::Places;

/// Largest number of files with more than one block in an image. They have at least 64 GiB.
const MAX_LARGE: usize = 1 << 19;

/// The location of the bytes of an inode.
#[derive(Clone, Copy)]
enum Data {
    Nowhere,
    /// In a fragment: its number, the first byte, the number of bytes.
    Small(u32, u32, u32),
    /// Number of a large file.
    Large(u32),
}

/// A file with blocks: their start, their stored bytes, and a hash of their size words and the size.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Large {
    start: u64,
    length: u64,
    hash: [u8; 16],
}

/// The contents of an image's files, by the number of their inode.
pub(super) struct Contents {
    by_number: Vec<Data>,
    large: Vec<Large>,
}

impl Contents {
    /// Contents for so many inodes.
    pub(super) fn new(inodes: u32) -> Self {
        Self { by_number: vec![Data::Nowhere; inodes as usize], large: Vec::new() }
    }

    /// Records the content of inode `number` if the packer could have written it: empty; less than a block, in a fragment; or blocks
    /// only.
    pub(super) fn add(&mut self, number: u32, content: &Content) -> Result<(), ImageError> {
        let unknown = ImageError::Malformed("an inode has a number that none can have");
        let slot = self.by_number.get_mut((number as usize).wrapping_sub(1)).ok_or(unknown)?;
        *slot = match (content.size, content.fragment) {
            (0, None) => Data::Nowhere,
            (1.., Some(Fragment { index, offset })) if content.size < BLOCK_SIZE as u64 => {
                Data::Small(index, offset, content.size as u32)
            }
            (size, None) if size >= BLOCK_SIZE as u64 => {
                if self.large.len() >= MAX_LARGE {
                    return Err(ImageError::Malformed("it has more large files than a layer can have"));
                }
                self.large.push(large(content)?);
                Data::Large(self.large.len() as u32 - 1)
            }
            _ => return Err(ImageError::Malformed("a file is not stored as this program stores one")),
        };
        Ok(())
    }

    /// Adds the positions of the inodes `numbers` to `places`.
    pub(super) fn collect(&self, numbers: RangeInclusive<u32>, places: &mut Places) {
        let (first, last) = (*numbers.start() as usize, *numbers.end() as usize);
        for data in self.by_number.get(first.saturating_sub(1)..last).unwrap_or_default() {
            match *data {
                Data::Nowhere => {}
                Data::Small(index, offset, size) => {
                    let from = u64::from(offset);
                    places.small(index, (from, from + u64::from(size)));
                }
                Data::Large(number) => {
                    let Large { start, length, .. } = self.large[number as usize];
                    if length > 0 {
                        places.large((start, start.saturating_add(length)));
                    }
                }
            }
        }
    }

    /// Checks that the contents fill the image up to byte `end` with the `fragments`, each with its start and size word.
    pub(super) fn check(&self, fragments: &[(u64, u32)], end: u64) -> Result<(), ImageError> {
        let mut layout = Layout {
            fragments,
            at: SUPERBLOCK_SIZE as u64,
            placed: 0,
            open: 0,
            filled: 0,
            small: Vec::new(),
            large: Vec::new(),
        };
        for data in &self.by_number {
            match *data {
                Data::Nowhere => {}
                Data::Small(index, offset, size) => layout.small(index, offset, size)?,
                Data::Large(number) => layout.large(self.large[number as usize])?,
            }
        }
        if layout.filled > 0 {
            layout.close()?;
        }
        while layout.placed < layout.open {
            layout.place()?;
        }
        if layout.at != end || layout.placed as usize != fragments.len() {
            return Err(ImageError::Malformed("its data does not end where its metadata begins"));
        }
        Ok(())
    }
}

fn large(content: &Content) -> Result<Large, ImageError> {
    let mut hash = blake3::Hasher::new();
    hash.update(&content.size.to_le_bytes());
    let (mut left, mut length) = (content.size, 0);
    for word in &content.blocks {
        let plain = left.min(BLOCK_SIZE as u64) as u32;
        if *word != 0 {
            length += u64::from(stored(*word, plain)?);
        }
        hash.update(&word.to_le_bytes());
        left -= u64::from(plain);
    }
    Ok(Large { start: content.start, length, hash: crate::layer::index::truncate(&hash.finalize()) })
}

/// The stored bytes of a block of `plain` bytes; an error if the packer would not store that many.
fn stored(word: u32, plain: u32) -> Result<u32, ImageError> {
    let is_sound =
        if word & UNCOMPRESSED_BLOCK == 0 { (1..plain).contains(&word) } else { word ^ UNCOMPRESSED_BLOCK == plain };
    if !is_sound {
        return Err(ImageError::Malformed("a block of data has an impossible size"));
    }
    Ok(word & !UNCOMPRESSED_BLOCK)
}

/// Repeats the steps of the packer.
struct Layout<'a> {
    fragments: &'a [(u64, u32)],
    /// The position of the next block.
    at: u64,
    /// Number of fragment blocks before `at`, and the number of the current one for small files, with its bytes so far.
    placed: u32,
    open: u32,
    filled: u32,
    /// The files placed so far, in ascending order.
    small: Vec<(u32, u32, u32)>,
    large: Vec<Large>,
}

impl Layout<'_> {
    fn small(&mut self, index: u32, offset: u32, size: u32) -> Result<(), ImageError> {
        let is_next = index == self.open && offset == self.filled;
        let opens = self.filled > 0 && index == self.open + 1 && offset == 0;
        if !is_next && !opens {
            let known = self.small.binary_search(&(index, offset, size));
            let overlaps = |_| ImageError::Malformed("a small file overlaps others or is out of place");
            return known.map(drop).map_err(overlaps);
        }
        if opens {
            self.close()?;
        }
        self.filled += size;
        if self.filled > BLOCK_SIZE as u32 {
            return Err(ImageError::Malformed("a fragment has more bytes than a block"));
        }
        self.small.push((index, offset, size));
        Ok(())
    }

    fn large(&mut self, large: Large) -> Result<(), ImageError> {
        while self.at < large.start && (self.placed < self.open || self.filled > 0) {
            if self.placed == self.open {
                self.close()?;
            }
            self.place()?;
        }
        // A file of only zeros takes no bytes, so several can be at one position.
        let first = self.large.partition_point(|known| known.start < large.start);
        let known =
            self.large[first..].iter().take_while(|known| known.start == large.start).any(|known| *known == large);
        if known {
            return Ok(());
        }
        if self.at != large.start {
            return Err(ImageError::Malformed("a large file overlaps others or is out of place"));
        }
        self.at += large.length;
        self.large.push(large);
        Ok(())
    }

    /// Ends the current fragment for small files.
    fn close(&mut self) -> Result<(), ImageError> {
        let missing = ImageError::Malformed("a file names a fragment that is not there");
        let (_, word) = self.fragments.get(self.open as usize).ok_or(missing)?;
        stored(*word, self.filled)?;
        self.open += 1;
        self.filled = 0;
        Ok(())
    }

    /// Advances past a fragment that has ended.
    fn place(&mut self) -> Result<(), ImageError> {
        let (start, word) = self.fragments[self.placed as usize];
        if start != self.at {
            return Err(ImageError::Malformed("a fragment is out of place"));
        }
        self.at += u64::from(word & !UNCOMPRESSED_BLOCK);
        self.placed += 1;
        Ok(())
    }
}
