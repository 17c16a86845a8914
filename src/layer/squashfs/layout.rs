//! The positions of file contents in an image: from the superblock to the inodes, block after block, without gaps or overlaps. Large
//! files are in the order of their numbers, and so are the blocks that small files share. Two files share all of their bytes or none.

use std::ops::RangeInclusive;

use super::error::ImageError;
use super::format::{FRAGMENT_SIZE, LARGE_FILE, SUPERBLOCK_SIZE, UNCOMPRESSED_BLOCK};
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
    /// Bytes of a block before compression.
    block: u32,
    by_number: Vec<Data>,
    large: Vec<Large>,
}

impl Contents {
    /// Contents for so many inodes, in blocks of this size.
    pub(super) fn new(inodes: u32, block: u32) -> Self {
        Self { block, by_number: vec![Data::Nowhere; inodes as usize], large: Vec::new() }
    }

    /// Records the content of inode `number` if the packer could have written it: empty; small, in a fragment; or blocks
    /// only.
    pub(super) fn add(&mut self, number: u32, content: &Content) -> Result<(), ImageError> {
        let unknown = ImageError::Malformed("an inode has a number that none can have");
        let slot = self.by_number.get_mut((number as usize).wrapping_sub(1)).ok_or(unknown)?;
        *slot = match (content.size, content.fragment) {
            (0, None) => Data::Nowhere,
            (1.., Some(Fragment { index, offset })) if content.size < LARGE_FILE as u64 => {
                Data::Small(index, offset, content.size as u32)
            }
            (size, None) if size >= LARGE_FILE as u64 => {
                if self.large.len() >= MAX_LARGE {
                    return Err(ImageError::Malformed("it has more large files than a layer can have"));
                }
                self.large.push(large(content, self.block)?);
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
        check_small(&self.by_number, fragments, self.block.min(FRAGMENT_SIZE as u32))?;
        let mut layout = Layout { fragments, at: SUPERBLOCK_SIZE as u64, placed: 0, large: Vec::new() };
        for data in &self.by_number {
            if let Data::Large(number) = *data {
                layout.large(self.large[number as usize])?;
            }
        }
        while layout.placed < fragments.len() {
            layout.place()?;
        }
        if layout.at != end {
            return Err(ImageError::Malformed("its data does not end where its metadata begins"));
        }
        Ok(())
    }
}

/// Checks that every one of the `fragments` has at most so many bytes and has small files, of which two share all bytes or none. A fragment of an older layer may
/// also have bytes that belong to no file.
fn check_small(contents: &[Data], fragments: &[(u64, u32)], most: u32) -> Result<(), ImageError> {
    let place = |data: &Data| match *data {
        Data::Small(index, offset, size) => Some((index, offset, size)),
        _ => None,
    };
    let mut small: Vec<(u32, u32, u32)> = contents.iter().filter_map(place).collect();
    small.sort_unstable();
    small.dedup();
    let mut small = small.into_iter().peekable();
    for (index, (_, word)) in (0..).zip(fragments) {
        let mut filled = 0;
        while let Some((_, offset, size)) = small.next_if(|place| place.0 == index) {
            if offset < filled {
                return Err(ImageError::Malformed("a small file overlaps others"));
            }
            filled = offset.saturating_add(size);
        }
        // What follows the last file is not known.
        let plain = if word & UNCOMPRESSED_BLOCK == 0 { most } else { word ^ UNCOMPRESSED_BLOCK };
        if filled == 0 || filled > plain || plain > most {
            return Err(ImageError::Malformed("a fragment has no files, or more bytes than one can have"));
        }
        stored(*word, plain)?;
    }
    if small.next().is_some() {
        return Err(ImageError::Malformed("a file names a fragment that is not there"));
    }
    Ok(())
}

fn large(content: &Content, block: u32) -> Result<Large, ImageError> {
    let mut hash = blake3::Hasher::new();
    hash.update(&content.size.to_le_bytes());
    let (mut left, mut length) = (content.size, 0);
    for word in &content.blocks {
        let plain = left.min(u64::from(block)) as u32;
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
    /// Number of fragment blocks before `at`.
    placed: usize,
    large: Vec<Large>,
}

impl Layout<'_> {
    fn large(&mut self, large: Large) -> Result<(), ImageError> {
        while self.at < large.start && self.placed < self.fragments.len() {
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

    /// Advances past a fragment.
    fn place(&mut self) -> Result<(), ImageError> {
        let (start, word) = self.fragments[self.placed];
        if start != self.at {
            return Err(ImageError::Malformed("a fragment is out of place"));
        }
        self.at += u64::from(word & !UNCOMPRESSED_BLOCK);
        self.placed += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: u32 = UNCOMPRESSED_BLOCK;

    /// Whether the packer could have placed these small files, in these fragments.
    fn accepted(files: &[(u32, u32, u64)], fragments: &[u32]) -> bool {
        accepted_in(1 << 20, files, fragments)
    }

    /// The same in an image with blocks of this size.
    fn accepted_in(block: u32, files: &[(u32, u32, u64)], fragments: &[u32]) -> bool {
        let mut contents = Contents::new(files.len() as u32, block);
        for (number, &(index, offset, size)) in (1..).zip(files) {
            let content = Content { size, fragment: Some(Fragment { index, offset }), ..Content::default() };
            contents.add(number, &content).unwrap();
        }
        let mut end = SUPERBLOCK_SIZE as u64;
        let mut placed = Vec::new();
        for word in fragments {
            placed.push((end, *word));
            end += u64::from(word & !UNCOMPRESSED_BLOCK);
        }
        contents.check(&placed, end).is_ok()
    }

    #[test]
    fn small_files_share_all_of_their_bytes_or_none() {
        let block = FRAGMENT_SIZE as u32;
        assert!(accepted(&[(0, 0, 10), (0, 10, 20), (0, 0, 10), (1, 0, 5)], &[7, 5 | WHOLE]));
        assert!(accepted(&[(1, 4, 10), (0, 100, 20), (1, 20, 1)], &[7, 100]), "of an older layer");
        assert!(!accepted(&[(0, 0, 10), (0, 9, 20)], &[7]), "one begins in another");
        assert!(!accepted(&[(0, 0, 10), (0, 0, 11)], &[7]), "one is the beginning of another");
        assert!(!accepted(&[(0, 0, 10), (2, 0, 10)], &[7, 7]), "there is no such fragment");
        assert!(!accepted(&[(0, 0, 10)], &[7, 7]), "a fragment has no files");
        assert!(!accepted(&[(0, 0, 10)], &[9 | WHOLE]), "a fragment is too short");
        assert!(!accepted(&[(0, block - 5, 10)], &[7]) && !accepted(&[(0, u32::MAX, 10)], &[7]), "outside of a block");
        assert!(
            !accepted(&[(0, 0, 10)], &[block]) && !accepted(&[(0, 0, 10)], &[(block + 1) | WHOLE]),
            "too many bytes"
        );
        let older = 128 << 10;
        assert!(
            accepted_in(older, &[(0, older - 10, 10)], &[7]) && accepted_in(older, &[(0, 0, 10)], &[older | WHOLE])
        );
        assert!(!accepted_in(older, &[(0, older - 5, 10)], &[7]), "outside of a block of an image of earlier commits");
        assert!(!accepted_in(older, &[(0, 0, 10)], &[(older + 1) | WHOLE]), "more bytes than its blocks have");
    }
}
