//! Checks the parts of an image around its inodes and listings: the superblock, the tables of fragments and owners, and the padding.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::check::{long, other, word};
use super::error::ImageError;
use super::format::{SUPERBLOCK_SIZE, Superblock};
use super::metadata::Position;
use super::stream::TableReader;

/// Checks every byte of the superblock by decoding and encoding it: the bytes that never vary must be as we write them.
pub(super) fn check_superblock(file: &File, superblock: &Superblock, root: Position) -> Result<(), ImageError> {
    let mut bytes = [0; SUPERBLOCK_SIZE];
    file.read_exact_at(&mut bytes, 0)?;
    let expected = Superblock { ids: 2, root_inode: root.reference(), ..superblock.clone() };
    if expected.encode() == bytes { Ok(()) } else { Err(other()) }
}

/// Checks the tables of fragments and owners with their lists, up to the end of the image. Returns the fragments.
pub(super) fn check_end(file: &File, superblock: &Superblock, start: u64) -> Result<Vec<(u64, u32)>, ImageError> {
    let mut fragments = Vec::new();
    let mut table = TableReader::new(file, start, superblock.fragment_table)?;
    for _ in 0..superblock.fragments {
        let entry = table.peek(16)?;
        fragments.push((long(entry, 0), word(entry, 8)));
        if word(entry, 12) != 0 {
            return Err(other());
        }
        table.take(16);
    }
    if !table.is_at_end() {
        return Err(other());
    }
    let list = table.starts().iter().flat_map(|at| (start + u64::from(*at)).to_le_bytes());
    let owners = superblock.fragment_table + table.starts().len() as u64 * 8;
    // One uncompressed block of eight bytes, and the list of this one block.
    let expected: Vec<u8> = list.chain([8, 0x80]).chain([0; 8]).chain(owners.to_le_bytes()).collect();
    let mut found = vec![0; expected.len()];
    file.read_exact_at(&mut found, superblock.fragment_table)?;
    let ends = (superblock.id_table, superblock.bytes_used) == (owners + 10, owners + 18);
    if ends && found == expected { Ok(fragments) } else { Err(other()) }
}

pub(super) fn check_zeros(file: &File, start: u64, end: u64) -> Result<(), ImageError> {
    let mut padding = vec![0; (end - start) as usize];
    file.read_exact_at(&mut padding, start)?;
    if padding.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(other()) }
}
