//! Reading an image: its tree, and the bytes of its files. Nothing in the image is believed.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{
    BLOCK_SIZE, NONE_32, SUPERBLOCK_SIZE, Superblock, TYPE_DIRECTORY, TYPE_FILE, TYPE_LONG_DIRECTORY, TYPE_LONG_FILE,
    TYPE_SYMLINK, UNCOMPRESSED_BLOCK,
};
use super::metadata::{Cursor, Metadata};

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file could not be read, or ends too early.
    #[error("the layer cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not an image that this program writes, or it was damaged.
    #[error("the layer is not a sound squashfs image: {0}")]
    Malformed(&'static str),
    /// It is an image of another kind.
    #[error("the layer is not one of ours: {0}")]
    Foreign(String),
}

/// An opened image.
pub struct Image {
    file: File,
    inodes: Metadata,
    listings: Metadata,
    fragments: Vec<(u64, u32)>,
    root: u64,
    bytes_used: u64,
}

/// One name in a directory.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The name: one path component, never `.` or `..`.
    pub name: Box<[u8]>,
    /// The reference to give to [`Image::inode`].
    pub inode: u64,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Inode {
    /// A directory and what is in it, in the order of the image.
    Directory(Vec<Listed>),
    /// A regular file.
    File(FileInode),
    /// A symlink and its target.
    Symlink(Vec<u8>),
}

/// A regular file: where its bytes are.
#[derive(Clone, Debug)]
pub struct FileInode {
    /// Mode 555 instead of 444.
    pub executable: bool,
    /// Its place in the data.
    pub content: super::Content,
}

impl Image {
    /// Opens the image in `file`.
    ///
    /// # Errors
    /// When it cannot be read or is not an image of ours.
    pub fn open(file: File) -> Result<Self, ImageError> {
        let mut first = [0; SUPERBLOCK_SIZE];
        file.read_exact_at(&mut first, 0)?;
        let superblock = Superblock::decode(&first).map_err(ImageError::Foreign)?;
        if superblock.bytes_used > file.metadata()?.len() {
            return Err(ImageError::Malformed("it is shorter than it says"));
        }
        let (fragments, first_fragment_block) = read_fragments(&file, &superblock)?;
        let listings_end = match first_fragment_block {
            Some(at) => at,
            None => first_of_list(&file, superblock.id_table)?,
        };
        Ok(Self {
            inodes: Metadata::read(&file, superblock.inode_table, superblock.directory_table)?,
            listings: Metadata::read(&file, superblock.directory_table, listings_end)?,
            fragments,
            root: superblock.root_inode,
            bytes_used: superblock.bytes_used,
            file,
        })
    }

    /// The reference of the root directory.
    #[must_use]
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Bytes of the image proper, without what may follow it in the file.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        self.bytes_used
    }

    /// Where each fragment block begins, and its size word.
    #[must_use]
    pub fn fragments(&self) -> &[(u64, u32)] {
        &self.fragments
    }

    /// The inode behind a reference.
    ///
    /// # Errors
    /// When the reference or the inode is not sound.
    pub fn inode(&self, reference: u64) -> Result<Inode, ImageError> {
        let mut cursor = self.inodes.at(reference >> 16, (reference & 0xffff) as u16)?;
        let kind = cursor.half()?;
        let mode = cursor.half()?;
        cursor.bytes(12)?; // owner, group, time, number
        match kind {
            TYPE_DIRECTORY => {
                let block = cursor.word()?;
                cursor.word()?;
                let size = cursor.half()?;
                let offset = cursor.half()?;
                Ok(Inode::Directory(self.listing(block, offset, u32::from(size))?))
            }
            TYPE_LONG_DIRECTORY => {
                cursor.word()?;
                let size = cursor.word()?;
                let block = cursor.word()?;
                cursor.bytes(6)?; // parent, count of index entries
                let offset = cursor.half()?;
                Ok(Inode::Directory(self.listing(block, offset, size)?))
            }
            TYPE_FILE | TYPE_LONG_FILE => {
                let content = file_content(&mut cursor, kind == TYPE_LONG_FILE)?;
                Ok(Inode::File(FileInode { executable: mode & 0o100 != 0, content }))
            }
            TYPE_SYMLINK => {
                cursor.word()?;
                let length = cursor.word()? as usize;
                Ok(Inode::Symlink(cursor.bytes(length)?.to_vec()))
            }
            _ => Err(ImageError::Malformed("it holds something that a store path cannot hold")),
        }
    }

    fn listing(&self, block: u32, offset: u16, size: u32) -> Result<Vec<Listed>, ImageError> {
        let mut left = size.checked_sub(3).ok_or(ImageError::Malformed("a directory has no size"))? as usize;
        let mut out: Vec<Listed> = Vec::new();
        if left == 0 {
            return Ok(out);
        }
        let mut cursor = self.listings.at(u64::from(block), offset)?;
        while left > 0 {
            let before = cursor.remaining();
            let count = cursor.word()?.saturating_add(1);
            let inode_block = u64::from(cursor.word()?);
            cursor.word()?;
            for _ in 0..count.min(257) {
                let inode_offset = cursor.half()?;
                cursor.bytes(4)?; // number, type: the inode says it itself
                let length = usize::from(cursor.half()?) + 1;
                let name = cursor.bytes(length)?;
                // Ascending names are what the kernel relies on, what a NAR wants, and what excludes duplicates.
                let ascending = out.last().is_none_or(|last| *last.name < *name);
                if !ascending || matches!(name, b"." | b"..") || name.contains(&b'/') || name.contains(&0) {
                    return Err(ImageError::Malformed("a directory holds a name that is out of order or no name"));
                }
                out.push(Listed { name: name.into(), inode: inode_block << 16 | u64::from(inode_offset) });
            }
            left = left
                .checked_sub(before - cursor.remaining())
                .ok_or(ImageError::Malformed("a directory is longer than it says"))?;
        }
        Ok(out)
    }
}

fn file_content(cursor: &mut Cursor<'_>, long: bool) -> Result<super::Content, ImageError> {
    let (start, size, fragment, offset);
    if long {
        start = cursor.long()?;
        size = cursor.long()?;
        cursor.bytes(12)?; // bytes in holes, links
        fragment = cursor.word()?;
        offset = cursor.word()?;
        cursor.word()?;
    } else {
        start = u64::from(cursor.word()?);
        fragment = cursor.word()?;
        offset = cursor.word()?;
        size = u64::from(cursor.word()?);
    }
    let block = BLOCK_SIZE as u64;
    let whole_blocks = if fragment == NONE_32 { size.div_ceil(block) } else { size / block };
    if whole_blocks * 4 > cursor.remaining() as u64 {
        return Err(ImageError::Malformed("a file has more blocks than its inode lists"));
    }
    let blocks = (0..whole_blocks).map(|_| cursor.word()).collect::<Result<_, _>>()?;
    let fragment = (fragment != NONE_32).then_some(super::Fragment { index: fragment, offset });
    Ok(super::Content { size, start, blocks, fragment })
}

/// The first entry of a list of metadata blocks.
fn first_of_list(file: &File, list: u64) -> Result<u64, ImageError> {
    let mut first = [0; 8];
    file.read_exact_at(&mut first, list)?;
    Ok(u64::from_le_bytes(first))
}

/// Start and size word of each fragment block, and where their table begins, which is where the listings end.
type Fragments = (Vec<(u64, u32)>, Option<u64>);

fn read_fragments(file: &File, superblock: &Superblock) -> Result<Fragments, ImageError> {
    if superblock.fragments == 0 {
        return Ok((Vec::new(), None));
    }
    let first = first_of_list(file, superblock.fragment_table)?;
    let table = Metadata::read(file, first, superblock.fragment_table)?;
    let mut cursor = table.start();
    if (superblock.fragments as usize).saturating_mul(16) > cursor.remaining() {
        return Err(ImageError::Malformed("its table of fragments is cut off"));
    }
    let mut fragments = Vec::with_capacity(superblock.fragments as usize);
    for _ in 0..superblock.fragments {
        let start = cursor.long()?;
        let size = cursor.word()?;
        cursor.word()?;
        fragments.push((start, size));
    }
    Ok((fragments, Some(first)))
}

/// Reads blocks of an image, one thread's worth: buffers, a decompressor, and the fragment blocks used last.
pub struct BlockReader<'a> {
    image: &'a Image,
    decompressor: zstd::bulk::Decompressor<'static>,
    raw: Vec<u8>,
    block: Vec<u8>,
    fragments: HashMap<u32, Vec<u8>>,
}

/// Fragment blocks that a reader keeps: files of one store path share few.
const KEPT_FRAGMENTS: usize = 8;

impl<'a> BlockReader<'a> {
    /// A reader of `image`.
    ///
    /// # Errors
    /// When zstd cannot be set up.
    pub fn new(image: &'a Image) -> Result<Self, ImageError> {
        Ok(Self {
            image,
            decompressor: zstd::bulk::Decompressor::new()?,
            raw: Vec::new(),
            block: Vec::new(),
            fragments: HashMap::new(),
        })
    }

    /// Gives the bytes of a file to `sink`, block by block; None stands for so many zeros.
    ///
    /// # Errors
    /// When the image is damaged, or `sink` fails.
    pub fn file(
        &mut self,
        content: &super::Content,
        mut sink: impl FnMut(Piece<'_>) -> io::Result<()>,
    ) -> Result<(), ImageError> {
        let mut at = content.start;
        let mut left = content.size;
        for &word in &content.blocks {
            let expected = left.min(BLOCK_SIZE as u64) as usize;
            if word == 0 {
                sink(Piece::Hole(expected))?;
            } else {
                let mut block = std::mem::take(&mut self.block);
                self.block(at, word, &mut block)?;
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
        if let Some(fragment) = content.fragment {
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
            self.block(start, word, &mut block)?;
            self.fragments.insert(index, block);
        }
        Ok(&self.fragments[&index])
    }

    fn block(&mut self, start: u64, word: u32, into: &mut Vec<u8>) -> Result<(), ImageError> {
        let size = (word & !UNCOMPRESSED_BLOCK) as usize;
        if size > BLOCK_SIZE {
            return Err(ImageError::Malformed("a block is larger than a block can be"));
        }
        into.clear();
        if word & UNCOMPRESSED_BLOCK != 0 {
            into.resize(size, 0);
            return Ok(self.image.file.read_exact_at(into, start)?);
        }
        self.raw.resize(size, 0);
        self.image.file.read_exact_at(&mut self.raw, start)?;
        into.reserve(BLOCK_SIZE);
        self.decompressor
            .decompress_to_buffer(&self.raw, into)
            .map_err(|_| ImageError::Malformed("a block does not decompress"))?;
        Ok(())
    }
}

/// A part of a file.
pub enum Piece<'a> {
    /// Bytes as they are.
    Bytes(&'a [u8]),
    /// So many zeros, which are not stored.
    Hole(usize),
}
