//! The listing of one directory: runs of entries with headers, and an index for large directories.

use std::io;

use super::error::ImageError;
use super::format::METADATA_SIZE;
use super::metadata::{Position, Table};

/// One entry: where the inode is, its number and type.
pub(super) struct Entry<'a> {
    pub name: &'a [u8],
    pub inode: Position,
    pub number: u32,
    pub kind: u16,
}

/// One index entry of a large directory: the run of entries that begins at byte `at` of the listing.
pub(super) struct Index {
    pub at: u32,
    pub block: u32,
    pub name: Box<[u8]>,
}

/// A written listing.
pub(super) struct Listing {
    pub position: Position,
    pub size: u32,
    pub index: Vec<Index>,
}

/// The kernel accepts at most this many entries after one header.
const MAX_RUN: usize = 256;
/// Longest name in bytes, on every file system that a store can be on.
const MAX_NAME: usize = 255;

/// Writes the listing of `entries`, which are in ascending order of name.
pub(super) fn write_listing(table: &mut impl Table, entries: &[Entry<'_>]) -> io::Result<Listing> {
    let position = table.position();
    let mut listing = Listing { position, size: 0, index: Vec::new() };
    let mut rest = entries;
    let mut indexed_blocks = 0;
    while let Some(first) = rest.first() {
        // A run that begins in a different metadata block from the listing gets an index entry, one per block, so that a lookup
        // in a directory of thousands of store paths reads two blocks instead of all.
        let block_number = (usize::from(position.offset) + listing.size as usize) / METADATA_SIZE;
        if block_number > indexed_blocks {
            indexed_blocks = block_number;
            listing.index.push(Index { at: listing.size, block: table.position().block, name: first.name.into() });
        }
        let room = METADATA_SIZE - (usize::from(position.offset) + listing.size as usize) % METADATA_SIZE;
        let (run, after) = rest.split_at(run_length(rest, room));
        listing.size += write_run(table, run)?;
        rest = after;
    }
    Ok(listing)
}

/// Returns how many of `entries` fit after one header: those with inodes in the same metadata block, with numbers in reach of the
/// first, and that begin within the `room` bytes left in the block of the directory table.
fn run_length(entries: &[Entry<'_>], room: usize) -> usize {
    let first = &entries[0];
    let mut used = 12;
    let fits = |entry: &&Entry<'_>| {
        let near = i16::try_from(i64::from(entry.number) - i64::from(first.number)).is_ok();
        let here = used < room;
        used += 8 + entry.name.len();
        near && here && entry.inode.block == first.inode.block
    };
    entries.iter().take(MAX_RUN).take_while(fits).count().max(1)
}

fn write_run(table: &mut impl Table, run: &[Entry<'_>]) -> io::Result<u32> {
    let first = &run[0];
    let mut bytes = Vec::with_capacity(12 + run.len() * 40);
    bytes.extend_from_slice(&(run.len() as u32 - 1).to_le_bytes());
    bytes.extend_from_slice(&first.inode.block.to_le_bytes());
    bytes.extend_from_slice(&first.number.to_le_bytes());
    for entry in run {
        bytes.extend_from_slice(&entry.inode.offset.to_le_bytes());
        bytes.extend_from_slice(&(i64::from(entry.number) - i64::from(first.number)).to_le_bytes()[..2]);
        bytes.extend_from_slice(&entry.kind.to_le_bytes());
        bytes.extend_from_slice(&(entry.name.len() as u16 - 1).to_le_bytes());
        bytes.extend_from_slice(entry.name);
    }
    table.write(&bytes)?;
    Ok(bytes.len() as u32)
}

/// Reads a listing and passes each name to `entry`, with its position and the reference of its inode. Names are in ascending
/// order, as the kernel and NARs require, and none leads out of the directory.
pub(super) fn read_listing<'a>(
    listing: &'a [u8],
    mut entry: impl FnMut(usize, &'a [u8], u64) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let mut bytes = listing;
    let mut last: Option<&[u8]> = None;
    while !bytes.is_empty() {
        let header = take(&mut bytes, 12)?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let block = u64::from(word(4));
        if word(0) as usize >= MAX_RUN {
            return Err(ImageError::Malformed("a run of directory entries is longer than the kernel accepts"));
        }
        for _ in 0..=word(0) {
            // The number and the type are also in the inode.
            let fields = take(&mut bytes, 8)?;
            let offset = u16::from_le_bytes([fields[0], fields[1]]);
            let name = take(&mut bytes, usize::from(u16::from_le_bytes([fields[6], fields[7]])) + 1)?;
            let is_name = !matches!(name, b"." | b"..") && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
            if !is_name || name.len() > MAX_NAME || last.is_some_and(|last| last >= name) {
                return Err(ImageError::Malformed("a directory contains an invalid name, or one that is out of order"));
            }
            last = Some(name);
            entry(listing.len() - bytes.len() - name.len(), name, block << 16 | u64::from(offset))?;
        }
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], ImageError> {
    let cut = ImageError::Malformed("a directory ends in the middle of an entry");
    let (taken, rest) = bytes.split_at_checked(count).ok_or(cut)?;
    *bytes = rest;
    Ok(taken)
}
