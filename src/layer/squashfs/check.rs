//! Checks, before the kernel reads an image, that this program could have written it.
//!
//! The packer is deterministic, so each tree of files has exactly one encoding. The metadata is read from the first inode to the
//! last, each inode is encoded again by the packer's own functions, and the result must be equal:
//!
//! 1. The superblock is equal, and the tables follow each other without a gap up to the end of the image.
//! 2. Inodes are in post-order, so a directory's entries are the last ones that belong to no directory yet. Each inode and each
//!    listing must be equal, byte for byte. Things that the packer cannot write (devices, other modes and owners, attributes, links
//!    to a directory, duplicate names) have no encoding that could be equal.
//! 3. Inode numbers are those that the packer assigns, so nothing is shared or hidden.
//! 4. The bytes of files fill the data area, without gaps or overlaps ([`super::layout`]).
//! 5. The image is followed by the index of its blocks and zeros.
//!
//! Compressed metadata is not compared, because another version of zstd may compress differently; [`super::stream`] lists the
//! requirements. The content of data blocks is not inspected: the digests of the layer and the NAR hashes cover it.

use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::directory::{Entry, read_listing, write_listing};
use super::error::ImageError;
use super::format::{
    MAX_FILE, MAX_LINK, MAX_LISTING, NONE_32, SUPERBLOCK_SIZE, TYPE_DIRECTORY, TYPE_FILE, TYPE_LONG_DIRECTORY,
    TYPE_LONG_FILE, TYPE_SYMLINK, round_up_to_page,
};
use super::layout::Contents;
use super::metadata::{Position, Table};
use super::read::{first_of_list, read_superblock};
use super::stream::TableReader;
use super::tail::{check_end, check_superblock, check_zeros};
use super::tree::{Content, Fragment};
use super::usage::{Places, Usage};
use super::write::{directory_inode, file_inode, symlink_inode};
use crate::layer::index::is_index;
use crate::layer::nar::sizes;
use crate::store::StorePath;

/// A store path in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The path.
    pub path: StorePath,
    /// The size of its NAR, which follows from its names and the sizes of its files.
    pub nar_size: u64,
}

/// The content of an image.
pub(crate) struct Checked {
    /// Its store paths.
    pub members: Vec<Member>,
    /// Which bytes belong to which path; None if they are in too many places.
    pub usage: Option<Usage>,
}

/// Images with more inodes than this are checked one at a time: together they would need too much memory.
const LARGE_IMAGE: u32 = 1 << 17;
static ONE_LARGE_IMAGE: Mutex<()> = Mutex::new(());

/// Returns the store paths in the image in `file`, which must be exactly what the packer would have written for them, including
/// the index. `room` is the number of paths that there may still be, over all images.
///
/// # Errors
/// When it differs or cannot be read.
pub fn check(file: &File, room: &AtomicUsize) -> Result<Vec<Member>, ImageError> {
    check_with_usage(file, room).map(|checked| checked.members)
}

/// As [`check`], with the places of the bytes.
pub(crate) fn check_with_usage(file: &File, room: &AtomicUsize) -> Result<Checked, ImageError> {
    let superblock = read_superblock(file)?;
    let _one = (superblock.inodes > LARGE_IMAGE)
        .then(|| ONE_LARGE_IMAGE.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let listings_end = match superblock.fragments {
        0 => superblock.fragment_table,
        _ => first_of_list(file, superblock.fragment_table)?,
    };
    let order = [
        SUPERBLOCK_SIZE as u64,
        superblock.inode_table,
        superblock.directory_table,
        listings_end,
        superblock.fragment_table,
        superblock.id_table,
        superblock.bytes_used,
    ];
    if !order.is_sorted() {
        return Err(ImageError::Malformed("its tables overlap"));
    }
    let mut checker = Checker {
        inodes: TableReader::new(file, superblock.inode_table, superblock.directory_table)?,
        listings: TableReader::new(file, superblock.directory_table, listings_end)?,
        contents: Contents::new(superblock.inodes, superblock.block),
        block: u64::from(superblock.block),
        waiting: Vec::new(),
        content: Content::default(),
        count: superblock.inodes,
        room,
    };
    let (members, top) = checker.all()?;
    let (contents, trees) = (checker.contents, checker.waiting);
    check_superblock(file, &superblock, top)?;
    let fragments = check_end(file, &superblock, listings_end)?;
    contents.check(&fragments, superblock.inode_table)?;
    let data = superblock.inode_table - SUPERBLOCK_SIZE as u64;
    check_zeros(file, superblock.bytes_used, round_up_to_page(superblock.bytes_used))?;
    if !is_index(file, round_up_to_page(superblock.bytes_used), data)? {
        return Err(ImageError::Malformed("it is not followed by the index of its blocks"));
    }
    let mut places = Places::default();
    for (member, tree) in members.iter().zip(&trees) {
        places.begin(member.path.as_str().as_bytes());
        contents.collect(tree.first..=tree.number, &mut places);
    }
    Ok(Checked { members, usage: places.end(&fragments) })
}

pub(super) fn other() -> ImageError {
    ImageError::Malformed("its metadata is not as this program writes it")
}

/// A file, symlink or directory, with everything below it, that is not in a directory yet.
struct Subtree {
    /// The position of its inode in the uncompressed table, and its type as in listings.
    at: u32,
    kind: u16,
    /// The lowest number in it, and its own, which is the highest.
    first: u32,
    number: u32,
    /// The number of its parent directory, if it has that field.
    parent: Option<u32>,
    /// The size of its NAR, without the header of a whole NAR.
    nar_size: u64,
}

struct Checker<'a> {
    inodes: TableReader<'a>,
    listings: TableReader<'a>,
    contents: Contents,
    /// Bytes of a block before compression.
    block: u64,
    waiting: Vec<Subtree>,
    /// Reused buffers.
    content: Content,
    count: u32,
    room: &'a AtomicUsize,
}

impl Checker<'_> {
    /// Reads all inodes. Returns the store paths and the position of the root.
    fn all(&mut self) -> Result<(Vec<Member>, Position), ImageError> {
        for _ in 1..self.count {
            match half(self.inodes.peek(2)?, 0) {
                kind @ (TYPE_DIRECTORY | TYPE_LONG_DIRECTORY) => self.directory(kind)?,
                TYPE_LONG_FILE => self.file()?,
                TYPE_SYMLINK => self.symlink()?,
                _ => return Err(ImageError::Malformed("it contains something that is not allowed in a store path")),
            }
        }
        let root = self.inodes.taken();
        let members = self.root()?;
        if !self.inodes.is_at_end() || !self.listings.is_at_end() {
            return Err(ImageError::Malformed("it has metadata that belongs to no file"));
        }
        Ok((members, self.inodes.place(root)))
    }

    fn file(&mut self) -> Result<(), ImageError> {
        let at = self.inodes.taken();
        let inode = self.inodes.peek(56)?;
        let number = word(inode, 12);
        let executable = half(inode, 2) & 0o100 != 0;
        let (size, fragment) = (long(inode, 24), word(inode, 44));
        let offset = word(inode, 48);
        if size > MAX_FILE {
            return Err(ImageError::Malformed("a file is too large for a layer"));
        }
        self.content.start = long(inode, 16);
        self.content.size = size;
        self.content.fragment = (fragment != NONE_32).then_some(Fragment { index: fragment, offset });
        let block = self.block;
        let blocks = if fragment == NONE_32 { size.div_ceil(block) } else { size / block } as usize;
        let words = &self.inodes.peek(56 + blocks * 4)?[56..];
        self.content.blocks.clear();
        self.content.blocks.extend(words.chunks_exact(4).map(|bytes| word(bytes, 0)));
        self.inodes.expect(&file_inode(number, &self.content, executable))?;
        self.contents.add(number, &self.content)?;
        self.leaf(at, TYPE_FILE, number, sizes::regular(executable, size));
        Ok(())
    }

    fn symlink(&mut self) -> Result<(), ImageError> {
        let at = self.inodes.taken();
        let inode = self.inodes.peek(24)?;
        let (number, length) = (word(inode, 12), word(inode, 20) as usize);
        if !(1..=MAX_LINK).contains(&length) {
            return Err(ImageError::Malformed("the target of a symlink is too long or empty"));
        }
        let target = self.inodes.peek(24 + length)?[24..].to_vec();
        if target.contains(&0) {
            return Err(ImageError::Malformed("the target of a symlink contains a NUL"));
        }
        self.inodes.expect(&symlink_inode(number, &target))?;
        self.leaf(at, TYPE_SYMLINK, number, sizes::symlink(length as u64));
        Ok(())
    }

    fn leaf(&mut self, at: usize, kind: u16, number: u32, nar_size: u64) {
        self.waiting.push(Subtree { at: at as u32, kind, first: number, number, parent: None, nar_size });
    }

    fn directory(&mut self, kind: u16) -> Result<(), ImageError> {
        let at = self.inodes.taken() as u32;
        let (fields, names) = self.listing(kind)?;
        let from = self.waiting.len() - names.len();
        let children = &self.waiting[from..];
        let mut nar = sizes::directory();
        let mut next = children.first().map_or(fields.number, |child| child.first);
        let first = next;
        let listing = self.listings.peeked(fields.size);
        for (child, name) in children.iter().zip(&names) {
            if child.first != next || child.parent.is_some_and(|parent| parent != fields.number) {
                return Err(other());
            }
            next = child.number.checked_add(1).ok_or_else(other)?;
            nar = nar.saturating_add(sizes::entry(name.of(listing).len() as u64)).saturating_add(child.nar_size);
        }
        if fields.number != next {
            return Err(other());
        }
        self.listings.take(fields.size);
        self.waiting.truncate(from);
        let number = fields.number;
        let parent = Some(fields.parent);
        self.waiting.push(Subtree { at, kind: TYPE_DIRECTORY, first, number, parent, nar_size: nar });
        Ok(())
    }

    /// The root, which contains everything that is left. The packer numbers store paths in the order in which it packed them, after the
    /// root; any order will do, and what each path has is together.
    fn root(&mut self) -> Result<Vec<Member>, ImageError> {
        let kind = half(self.inodes.peek(2)?, 0);
        if !matches!(kind, TYPE_DIRECTORY | TYPE_LONG_DIRECTORY) {
            return Err(ImageError::Malformed("its root is not a directory"));
        }
        let (fields, names) = self.listing(kind)?;
        let beyond = self.count.checked_add(1);
        if names.len() != self.waiting.len() || fields.number != 1 || Some(fields.parent) != beyond {
            return Err(other());
        }
        let left = self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(names.len()));
        left.map_err(|_| ImageError::Malformed("it has too many store paths"))?;
        let listing = self.listings.peeked(fields.size);
        let path = |name: &Name| std::str::from_utf8(name.of(listing)).ok().and_then(|name| name.parse().ok());
        let paths: Option<Vec<StorePath>> = names.iter().map(path).collect();
        let paths = paths.ok_or(ImageError::Malformed("its root holds a name that is not a store path's"))?;
        let mut order: Vec<usize> = (0..paths.len()).collect();
        order.sort_by_key(|number| self.waiting[*number].first);
        let mut next = 2;
        for number in order {
            let child = &self.waiting[number];
            if child.first != next || child.parent.is_some_and(|parent| parent != 1) {
                return Err(other());
            }
            next = child.number.checked_add(1).ok_or_else(other)?;
        }
        if Some(next) != beyond {
            return Err(other());
        }
        self.listings.take(fields.size);
        let member = |(path, tree): (StorePath, &Subtree)| Member {
            path,
            nar_size: tree.nar_size.saturating_add(sizes::beginning()),
        };
        Ok(paths.into_iter().zip(&self.waiting).map(member).collect())
    }

    /// Checks the next listing and consumes the inode of its directory, of this `kind`. Returns its names, one for each of the last
    /// pending subtrees; the listing itself is not consumed yet.
    fn listing(&mut self, kind: u16) -> Result<(DirectoryFields, Vec<Name>), ImageError> {
        let fields = directory_fields(&mut self.inodes, kind)?;
        self.listings.peek(fields.size)?;
        let bytes = self.listings.peeked(fields.size);
        let mut names = Vec::new();
        let most = self.waiting.len();
        read_listing(bytes, |at, name, _| {
            if names.len() == most {
                return Err(ImageError::Malformed("a directory lists more entries than there are"));
            }
            names.push(Name { at: at as u32, length: name.len() as u16 });
            Ok(())
        })?;
        let children = &self.waiting[most - names.len()..];
        let entries: Vec<Entry<'_>> = children
            .iter()
            .zip(&names)
            .map(|(child, name)| Entry {
                name: name.of(bytes),
                inode: self.inodes.place(child.at as usize),
                number: child.number,
                kind: child.kind,
            })
            .collect();
        let mut compared = Compared { bytes, at: 0, base: self.listings.taken(), table: &self.listings, equal: true };
        let listing = write_listing(&mut compared, &entries)?;
        if !compared.equal || compared.at != bytes.len() {
            return Err(ImageError::Malformed("a directory is not as this program writes it"));
        }
        let folders = children.iter().filter(|child| child.kind == TYPE_DIRECTORY).count() as u32;
        let inode = directory_inode(fields.number, fields.parent, 2 + folders, &listing);
        self.inodes.expect(&inode)?;
        Ok((fields, names))
    }
}

/// The fields of a directory's inode that do not follow from its content.
struct DirectoryFields {
    number: u32,
    parent: u32,
    /// Bytes of the listing.
    size: usize,
}

fn directory_fields(inodes: &mut TableReader<'_>, kind: u16) -> Result<DirectoryFields, ImageError> {
    let inode = inodes.peek(32)?;
    let size = if kind == TYPE_DIRECTORY { u32::from(half(inode, 24)) } else { word(inode, 20) };
    let size = size.checked_sub(3).ok_or(ImageError::Malformed("a directory has no size"))? as usize;
    if size > MAX_LISTING {
        return Err(ImageError::Malformed("a directory is too large"));
    }
    Ok(DirectoryFields { number: word(inode, 12), parent: word(inode, 28), size })
}

/// The position of a name in a listing.
struct Name {
    at: u32,
    length: u16,
}

impl Name {
    fn of<'a>(&self, listing: &'a [u8]) -> &'a [u8] {
        &listing[self.at as usize..][..usize::from(self.length)]
    }
}

/// An existing listing, against which its encoding is compared while it is written.
struct Compared<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The start of the listing in the uncompressed table.
    base: usize,
    table: &'a TableReader<'a>,
    equal: bool,
}

impl Table for Compared<'_> {
    fn position(&self) -> Position {
        self.table.place(self.base + self.at)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.equal &= self.bytes[self.at..].starts_with(bytes);
        self.at = (self.at + bytes.len()).min(self.bytes.len());
        Ok(())
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from(half(bytes, at)) | u32::from(half(bytes, at + 2)) << 16
}

pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}
