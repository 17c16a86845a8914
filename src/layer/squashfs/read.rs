//! Reads the tree of an image. Nothing in the image is trusted, and memory use is limited whatever it contains.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::directory::read_listing;
use super::error::ImageError;
use super::format::{
    MAX_FILE, MAX_INODES, MAX_LINK, MAX_LISTING, NONE_32, SUPERBLOCK_SIZE, Superblock, TYPE_DIRECTORY, TYPE_FILE,
    TYPE_LONG_DIRECTORY, TYPE_LONG_FILE, TYPE_SYMLINK,
};
use super::metadata::{Cursor, Metadata};
use super::tree::{Content, Fragment};

/// Number of decompressed blocks of inodes in each of two generations, for [`Image::keeping_inodes`].
const MANY_KEPT: usize = 1024;

/// An opened image.
pub struct Image {
    pub(super) file: Arc<File>,
    inodes: Metadata,
    listings: Metadata,
    pub(super) fragments: Vec<(u64, u32)>,
    root: u64,
    /// Bytes of a block before compression.
    block: u64,
    bytes_used: u64,
    /// Directory entries that may still be read.
    entries: AtomicU64,
}

/// One name in a directory.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The name: one path component, never `.` or `..`.
    pub name: Box<[u8]>,
    /// The reference to give to [`Image::inode`].
    pub inode: u64,
}

/// The inode of a name.
pub enum Inode<'a> {
    /// A directory and its entries, in the order of the image.
    Directory(Vec<Listed>),
    /// A regular file.
    File(FileInode<'a>),
    /// A symlink and its target.
    Symlink(Vec<u8>),
}

/// A regular file: the location of its bytes.
pub struct FileInode<'a> {
    /// Mode 555 instead of 444.
    pub executable: bool,
    /// Bytes of the file.
    pub size: u64,
    pub(super) start: u64,
    /// Bytes of a block before compression.
    pub(super) block: u64,
    pub(super) fragment: Option<Fragment>,
    /// Number of whole blocks, and the position of their size words. These are read one by one: a few bytes can declare millions.
    pub(super) blocks: u64,
    pub(super) words: Cursor<'a>,
}

impl FileInode<'_> {
    /// Its position in the data, with all size words: four bytes for each block of the file.
    ///
    /// # Errors
    /// When the image does not have that many.
    pub fn content(&self) -> Result<Content, ImageError> {
        let mut words = self.words.clone();
        let blocks = (0..self.blocks).map(|_| words.word()).collect::<Result<_, _>>()?;
        Ok(Content { size: self.size, start: self.start, blocks, fragment: self.fragment })
    }
}

impl Image {
    /// Opens the image in `file`.
    ///
    /// # Errors
    /// When it cannot be read or is not one of our images.
    pub fn open(file: File) -> Result<Self, ImageError> {
        let superblock = read_superblock(&file)?;
        let file = Arc::new(file);
        let (fragments, first_fragment_block) = read_fragments(&file, &superblock)?;
        let listings_end = match first_fragment_block {
            Some(at) => at,
            None => first_of_list(&file, superblock.id_table)?,
        };
        Ok(Self {
            inodes: Metadata::new(Arc::clone(&file), superblock.inode_table, superblock.directory_table)?,
            listings: Metadata::new(Arc::clone(&file), superblock.directory_table, listings_end)?,
            fragments,
            root: superblock.root_inode,
            block: u64::from(superblock.block),
            bytes_used: superblock.bytes_used,
            // The root is in no directory, and several callers may read its listing.
            entries: AtomicU64::new(u64::from(superblock.inodes) * 2),
            file,
        })
    }

    /// Keeps up to 16 MiB of decompressed inodes in memory instead of 2 MiB: for who reads very many of them in another order than that in which
    /// they lie, since each block has those of some 200 files.
    #[must_use]
    pub(crate) fn keeping_inodes(self) -> Self {
        self.inodes.keep(MANY_KEPT);
        self
    }

    /// The names in the root, each with the reference of its inode.
    ///
    /// # Errors
    /// When the root is not sound.
    pub fn root(&self) -> Result<Vec<Listed>, ImageError> {
        match self.inode(self.root)? {
            Inode::Directory(entries) => Ok(entries),
            _ => Err(ImageError::Malformed("its root is not a directory")),
        }
    }

    /// The start of each fragment block, and its size word.
    #[must_use]
    pub fn fragments(&self) -> &[(u64, u32)] {
        &self.fragments
    }

    /// Size of the image in bytes, without the index that follows it in the file.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        self.bytes_used
    }

    /// The inode behind a reference.
    ///
    /// # Errors
    /// When the reference or the inode is invalid, or more directory entries were read than the image has inodes: then a directory
    /// is in more than one place, and a few such directories can expand to an astronomical number of files.
    pub fn inode(&self, reference: u64) -> Result<Inode<'_>, ImageError> {
        let mut cursor = self.inodes.at(reference >> 16, (reference & 0xffff) as u16)?;
        let kind = cursor.half()?;
        let mode = cursor.half()?;
        cursor.skip(12)?; // owner, group, time, number
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
                cursor.skip(6)?; // parent, count of index entries
                let offset = cursor.half()?;
                Ok(Inode::Directory(self.listing(block, offset, size)?))
            }
            TYPE_FILE | TYPE_LONG_FILE => Ok(Inode::File(file(cursor, kind, mode, self.block)?)),
            TYPE_SYMLINK => {
                cursor.word()?;
                let length = cursor.word()? as usize;
                if length > MAX_LINK {
                    return Err(ImageError::Malformed("the target of a symlink is too long"));
                }
                Ok(Inode::Symlink(cursor.bytes(length)?))
            }
            _ => Err(ImageError::Malformed("it contains something that is not allowed in a store path")),
        }
    }

    fn listing(&self, block: u32, offset: u16, size: u32) -> Result<Vec<Listed>, ImageError> {
        let size = size.checked_sub(3).ok_or(ImageError::Malformed("a directory has no size"))? as usize;
        if size > MAX_LISTING {
            return Err(ImageError::Malformed("a directory is too large"));
        }
        let mut out: Vec<Listed> = Vec::new();
        if size == 0 {
            return Ok(out);
        }
        let bytes = self.listings.at(u64::from(block), offset)?.bytes(size)?;
        read_listing(&bytes, |_, name, inode| {
            let left = self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.map_err(|_| ImageError::Malformed("it has more directory entries than inodes"))?;
            out.push(Listed { name: name.into(), inode });
            Ok(())
        })?;
        Ok(out)
    }
}

fn file(mut cursor: Cursor<'_>, kind: u16, mode: u16, block: u64) -> Result<FileInode<'_>, ImageError> {
    let (start, size, fragment, offset);
    if kind == TYPE_LONG_FILE {
        start = cursor.long()?;
        size = cursor.long()?;
        cursor.skip(12)?; // bytes in holes, links
        fragment = cursor.word()?;
        offset = cursor.word()?;
        cursor.word()?;
    } else {
        start = u64::from(cursor.word()?);
        fragment = cursor.word()?;
        offset = cursor.word()?;
        size = u64::from(cursor.word()?);
    }
    if size > MAX_FILE {
        return Err(ImageError::Malformed("a file is too large for a layer"));
    }
    let blocks = if fragment == NONE_32 { size.div_ceil(block) } else { size / block };
    let fragment = (fragment != NONE_32).then_some(Fragment { index: fragment, offset });
    Ok(FileInode { executable: mode & 0o100 != 0, size, start, block, fragment, blocks, words: cursor })
}

/// Reads the superblock at the start of `file`, and checks that the file is long enough.
pub(super) fn read_superblock(file: &File) -> Result<Superblock, ImageError> {
    let mut first = [0; SUPERBLOCK_SIZE];
    file.read_exact_at(&mut first, 0)?;
    let superblock = Superblock::decode(&first).map_err(ImageError::Foreign)?;
    if superblock.bytes_used > file.metadata()?.len() {
        return Err(ImageError::Malformed("it is shorter than it declares"));
    }
    if superblock.inodes > MAX_INODES || superblock.fragments > superblock.inodes {
        return Err(ImageError::Malformed("it has too many files for a layer"));
    }
    Ok(superblock)
}

/// The first entry of a list of metadata blocks.
pub(super) fn first_of_list(file: &File, list: u64) -> Result<u64, ImageError> {
    let mut first = [0; 8];
    file.read_exact_at(&mut first, list)?;
    Ok(u64::from_le_bytes(first))
}

/// Start and size word of each fragment block, and the start of their table, which is the end of the listings.
type Fragments = (Vec<(u64, u32)>, Option<u64>);

fn read_fragments(file: &Arc<File>, superblock: &Superblock) -> Result<Fragments, ImageError> {
    if superblock.fragments == 0 {
        return Ok((Vec::new(), None));
    }
    let first = first_of_list(file, superblock.fragment_table)?;
    let table = Metadata::new(Arc::clone(file), first, superblock.fragment_table)?;
    let mut cursor = table.at(0, 0)?;
    let mut fragments = Vec::new();
    for _ in 0..superblock.fragments {
        let start = cursor.long()?;
        let size = cursor.word()?;
        cursor.word()?;
        fragments.push((start, size));
    }
    Ok((fragments, Some(first)))
}
