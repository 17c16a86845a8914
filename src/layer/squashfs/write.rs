//! Writes everything that follows the data of an image: inodes, listings, fragments, owner, and the superblock.

use std::io;

use super::directory::{Entry, Listing, write_listing};
use super::format::{
    METADATA_SIZE, MODIFICATION_TIME, NONE_32, Superblock, TYPE_DIRECTORY, TYPE_FILE, TYPE_LONG_DIRECTORY,
    TYPE_LONG_FILE, TYPE_SYMLINK,
};
use super::metadata::{MetadataWriter, Position, Table};
use super::tree::{Content, Kind, Tree};

/// The end of an image, ready to be written.
pub struct Tables {
    /// Everything that follows the data.
    pub tail: Vec<u8>,
    /// The first 96 bytes of the image.
    pub superblock: [u8; super::SUPERBLOCK_SIZE],
}

/// The link count of every file and symlink. With a count of one, an overlay on several images would treat a file and a hard link
/// to it, made on the overlay, as two files: if there is more than one image, the kernel does not trace a copied file back to an
/// image without an identifier, and Nix's `store optimise` then fails with "Stale file handle". A file with more than one link is
/// independent from the first copy on.
const LINKS: u32 = 2;

/// Encodes the tables for `tree`, whose data and `fragments` (start and size word of each block) end at byte `data_end`. Owner and
/// group are separate entries in the table of owners, both 0.
///
/// # Errors
/// When zstd fails, which happens only without memory.
pub fn write_tables(tree: &Tree, fragments: &[(u64, u32)], data_end: u64) -> io::Result<Tables> {
    let mut inodes = InodeWriter { inodes: MetadataWriter::new()?, listings: MetadataWriter::new()? };
    let beyond_root = tree.nodes.len() as u32 + 1;
    let (root, _) = inodes.node(tree, 0, beyond_root)?;
    let mut tail = Vec::new();
    let inode_table = data_end;
    tail.extend(inodes.inodes.finish()?.0);
    let directory_table = data_end + tail.len() as u64;
    tail.extend(inodes.listings.finish()?.0);
    let mut entries = Vec::with_capacity(fragments.len() * 16);
    for (start, size) in fragments {
        entries.extend(start.to_le_bytes());
        entries.extend(u64::from(*size).to_le_bytes());
    }
    let fragment_table = append_indexed(&mut tail, data_end, &entries)?;
    let id_table = append_indexed(&mut tail, data_end, &[0; 8])?;
    let superblock = Superblock {
        block: tree.block_size as u32,
        inodes: tree.nodes.len() as u32,
        fragments: fragments.len() as u32,
        ids: 2,
        root_inode: root.reference(),
        bytes_used: data_end + tail.len() as u64,
        id_table,
        inode_table,
        directory_table,
        fragment_table,
    };
    Ok(Tables { tail, superblock: superblock.encode() })
}

/// Appends a table of small entries and the list of its blocks; returns the position of that list.
fn append_indexed(tail: &mut Vec<u8>, base: u64, entries: &[u8]) -> io::Result<u64> {
    let at = base + tail.len() as u64;
    let mut writer = MetadataWriter::new()?;
    writer.write(entries)?;
    let (table, starts) = writer.finish()?;
    debug_assert_eq!(starts.len(), entries.len().div_ceil(METADATA_SIZE));
    tail.extend(table);
    let list = base + tail.len() as u64;
    for start in starts {
        tail.extend((at + u64::from(start)).to_le_bytes());
    }
    Ok(list)
}

struct InodeWriter {
    inodes: MetadataWriter,
    listings: MetadataWriter,
}

/// Inode number of a node: they start at 1.
fn number(node: u32) -> u32 {
    node + 1
}

impl InodeWriter {
    /// Writes the inode of `node`, after those below it, and returns its position and its type as in listings.
    fn node(&mut self, tree: &Tree, node: u32, parent: u32) -> io::Result<(Position, u16)> {
        match &tree.nodes[node as usize].kind {
            Kind::Directory(children) => self.directory(tree, node, children, parent),
            Kind::File { content, executable } => {
                Ok((self.file(node, &tree.contents[*content as usize], *executable)?, TYPE_FILE))
            }
            Kind::Symlink(target) => Ok((self.symlink(node, target)?, TYPE_SYMLINK)),
        }
    }

    fn directory(&mut self, tree: &Tree, node: u32, children: &[u32], parent: u32) -> io::Result<(Position, u16)> {
        let mut entries = Vec::with_capacity(children.len());
        let mut links = 2;
        for &child in children {
            let (inode, kind) = self.node(tree, child, number(node))?;
            links += u32::from(kind == TYPE_DIRECTORY);
            entries.push(Entry { name: &tree.nodes[child as usize].name, inode, number: number(child), kind });
        }
        let listing = write_listing(&mut self.listings, &entries)?;
        let position = self.inodes.position();
        let inode = directory_inode(number(node), parent, links, &listing);
        self.inodes.write(&inode)?;
        Ok((position, TYPE_DIRECTORY))
    }

    fn file(&mut self, node: u32, content: &Content, executable: bool) -> io::Result<Position> {
        let position = self.inodes.position();
        self.inodes.write(&file_inode(number(node), content, executable))?;
        Ok(position)
    }

    fn symlink(&mut self, node: u32, target: &[u8]) -> io::Result<Position> {
        let position = self.inodes.position();
        self.inodes.write(&symlink_inode(number(node), target))?;
        Ok(position)
    }
}

/// The inode of a regular file.
pub(super) fn file_inode(number: u32, content: &Content, executable: bool) -> Vec<u8> {
    let mode = if executable { 0o555 } else { 0o444 };
    let (fragment, offset) = content.fragment.map_or((NONE_32, 0), |at| (at.index, at.offset));
    let start = if content.blocks.is_empty() { 0 } else { content.start };
    let mut inode = header(TYPE_LONG_FILE, mode, number);
    inode.extend_from_slice(&start.to_le_bytes());
    inode.extend_from_slice(&content.size.to_le_bytes());
    inode.extend_from_slice(&0u64.to_le_bytes()); // bytes saved by holes: only a hint
    words(&mut inode, &[LINKS, fragment, offset, NONE_32]);
    words(&mut inode, &content.blocks);
    inode
}

pub(super) fn symlink_inode(number: u32, target: &[u8]) -> Vec<u8> {
    let mut inode = header(TYPE_SYMLINK, 0o777, number);
    words(&mut inode, &[LINKS, target.len() as u32]);
    inode.extend_from_slice(target);
    inode
}

/// The inode of a directory whose listing has been written. `parent` is the number of its parent directory.
pub(super) fn directory_inode(number: u32, parent: u32, links: u32, listing: &Listing) -> Vec<u8> {
    // The size counts three bytes for "." and "..", which are not stored.
    let size = listing.size + 3;
    if let (Ok(size), true) = (u16::try_from(size), listing.index.is_empty()) {
        let mut inode = header(TYPE_DIRECTORY, 0o555, number);
        words(&mut inode, &[listing.position.block, links]);
        inode.extend_from_slice(&size.to_le_bytes());
        inode.extend_from_slice(&listing.position.offset.to_le_bytes());
        words(&mut inode, &[parent]);
        return inode;
    }
    let mut inode = header(TYPE_LONG_DIRECTORY, 0o555, number);
    words(&mut inode, &[links, size, listing.position.block, parent]);
    inode.extend_from_slice(&(listing.index.len() as u16).to_le_bytes());
    inode.extend_from_slice(&listing.position.offset.to_le_bytes());
    words(&mut inode, &[NONE_32]);
    for index in &listing.index {
        words(&mut inode, &[index.at, index.block, index.name.len() as u32 - 1]);
        inode.extend_from_slice(&index.name);
    }
    inode
}

/// The part that all inodes share: type, mode, owner and group (numbers 0 and 1 in the table of owners), time, number.
fn header(kind: u16, mode: u16, number: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    for half in [kind, mode, 0, 1] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    words(&mut out, &[MODIFICATION_TIME, number]);
    out
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}
