//! The block index that follows the squashfs image in a layer's file: the hash of every part of every data block
//! ([`super::frame`]). With it, a later layer finds bytes that this one already contains, so that they are not uploaded again.
//!
//! Format: at the first multiple of 4 KiB after the image, the eight bytes `NCINDEX1`, the number of blocks (8 bytes,
//! little-endian), for each part the hash of its stored bytes (16 bytes) and their number (4 bytes, little-endian), and zeros up
//! to the next multiple of 4 KiB. The blocks are contiguous in the image, starting after the superblock.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::frame::parts;
use super::squashfs::{BLOCK_SIZE, SUPERBLOCK_SIZE, image_length, round_up_to_page};

/// The first 16 bytes of the BLAKE3 of some bytes.
pub type ContentHash = [u8; 16];

const MAGIC: &[u8; 8] = b"NCINDEX1";
const ENTRY: usize = 20;
/// Largest number of blocks that is read: 64 GiB of files. An index of that size takes 10 MiB.
const MAX_BLOCKS: u64 = 1 << 19;
/// Largest output of [`keep`], in bytes.
pub(crate) const MAX_KEPT: u64 = 32 + 16 + MAX_BLOCKS * ENTRY as u64;

/// A stored data block or fragment block, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// Hash of the stored bytes.
    pub hash: ContentHash,
    /// Number of stored bytes.
    pub length: u32,
}

/// The hash of `bytes`.
#[must_use]
pub fn content_hash(bytes: &[u8]) -> ContentHash {
    truncate(&blake3::hash(bytes))
}

/// The part of a BLAKE3 hash that is kept: 128 bits are enough to rule out collisions.
#[must_use]
pub fn truncate(hash: &blake3::Hash) -> ContentHash {
    let mut out = [0; 16];
    out.copy_from_slice(&hash.as_bytes()[..16]);
    out
}

/// The hash of a large file, made of those of its blocks, so that its bytes are hashed only once.
pub(super) struct LargeHash(blake3::Hasher);

impl LargeHash {
    pub(super) fn new() -> Self {
        Self(blake3::Hasher::new_derive_key("nix-cache: hashes of the blocks of a file"))
    }

    /// The next block has this hash.
    pub(super) fn block(&mut self, hash: &ContentHash) {
        self.0.update(hash);
    }

    pub(super) fn finish(&self) -> ContentHash {
        truncate(&self.0.finalize())
    }
}

/// The entries for a block with these stored bytes and this size word.
pub(super) fn entries(stored: &[u8], word: u32) -> Vec<StoredBlock> {
    let entry = |part: &[u8]| StoredBlock { hash: content_hash(part), length: part.len() as u32 };
    parts(stored, word).into_iter().map(entry).collect()
}

/// Encodes the index of `blocks`, without the padding after it.
#[must_use]
pub fn encode_index(blocks: &[StoredBlock]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + blocks.len() * ENTRY);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&(blocks.len() as u64).to_le_bytes());
    for block in blocks {
        out.extend_from_slice(&block.hash);
        out.extend_from_slice(&block.length.to_le_bytes());
    }
    out
}

/// Decodes the index in `bytes`; None if it is incomplete.
#[must_use]
pub fn decode_index(bytes: &[u8]) -> Option<Vec<StoredBlock>> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let entries = rest.get(..usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(ENTRY)?)?;
    let block = |entry: &[u8]| {
        let (hash, length) = entry.split_first_chunk::<16>()?;
        Some(StoredBlock { hash: *hash, length: u32::from_le_bytes(length.try_into().ok()?) })
    };
    entries.chunks_exact(ENTRY).map(block).collect()
}

/// Copies the index from the file of a complete layer to `out`, in a form in which [`decode_kept`] detects truncation.
///
/// # Errors
/// When the file cannot be read or is not a layer, its index is larger than any, or `out` fails.
pub fn keep(layer: &File, out: &mut File) -> io::Result<()> {
    let mut superblock = [0; SUPERBLOCK_SIZE];
    layer.read_exact_at(&mut superblock, 0)?;
    let image = image_length(&superblock).map_err(io::Error::other)?;
    if image > layer.metadata()?.len() {
        return Err(io::Error::other("it is cut off"));
    }
    let start = round_up_to_page(image);
    let mut head = [0; 16];
    layer.read_exact_at(&mut head, start)?;
    let (magic, count) = head.split_at(8);
    let count = count.try_into().map_or(u64::MAX, u64::from_le_bytes);
    if magic != MAGIC || count > MAX_BLOCKS {
        return Err(io::Error::other("it has no index, or one that is larger than any"));
    }
    let mut layer = layer;
    layer.seek(SeekFrom::Start(start))?;
    let (mut hash, mut buffer) = (blake3::Hasher::new(), vec![0; 256 * 1024]);
    let mut index = layer.take(16 + count * ENTRY as u64);
    let mut left = index.limit();
    out.write_all(hash.finalize().as_bytes())?;
    while left > 0 {
        let read = index.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&buffer[..read]);
        out.write_all(&buffer[..read])?;
        left -= read as u64;
    }
    out.write_all_at(hash.finalize().as_bytes(), 0)
}

/// Returns whether the file of a layer contains, from byte `start` to its end, an index as the packer writes it, of blocks with
/// `data` bytes in total. Their hashes are not checked.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn is_index(layer: &File, start: u64, data: u64) -> io::Result<bool> {
    let length = layer.metadata()?.len();
    let mut head = [0; 16];
    if length < start + head.len() as u64 {
        return Ok(false);
    }
    layer.read_exact_at(&mut head, start)?;
    let Some((count, _)) = head.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk::<8>()) else {
        return Ok(false);
    };
    let mut at = start + head.len() as u64;
    let end = u64::from_le_bytes(*count).checked_mul(ENTRY as u64).and_then(|entries| entries.checked_add(at));
    let Some(end) = end.filter(|end| *end <= length && round_up_to_page(*end) == length) else { return Ok(false) };
    let mut sum = 0;
    let mut buffer = vec![0; ENTRY * 4096];
    while at < end {
        let part = &mut buffer[..(end - at).min((ENTRY * 4096) as u64) as usize];
        layer.read_exact_at(part, at)?;
        for entry in part.chunks_exact(ENTRY) {
            let length = u32::from_le_bytes([entry[16], entry[17], entry[18], entry[19]]);
            if !(1..=BLOCK_SIZE as u32).contains(&length) {
                return Ok(false);
            }
            sum += u64::from(length);
        }
        at += part.len() as u64;
    }
    let padding = &mut buffer[..(length - end) as usize];
    layer.read_exact_at(padding, end)?;
    Ok(sum == data && padding.iter().all(|byte| *byte == 0))
}

/// Decodes the output of [`keep`]; None if it is damaged.
#[must_use]
pub fn decode_kept(bytes: &[u8]) -> Option<Vec<StoredBlock>> {
    let (hash, index) = bytes.split_first_chunk::<32>()?;
    (blake3::hash(index) == *hash).then(|| decode_index(index))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_survives_the_round_trip_and_a_damaged_one_is_none() {
        let blocks: Vec<StoredBlock> =
            (0..100).map(|n| StoredBlock { hash: content_hash(&[n]), length: u32::from(n) * 1000 }).collect();
        let mut index = encode_index(&blocks);
        index.resize(4096, 0);
        assert_eq!(decode_index(&index), Some(blocks.clone()));
        assert_eq!(decode_index(&index[..1000]), None);
        let mut kept = [blake3::hash(&index).as_bytes(), &index[..]].concat();
        assert_eq!(decode_kept(&kept), Some(blocks));
        for at in [0, 40, 60, 4000] {
            kept[at] ^= 1;
            assert_eq!(decode_kept(&kept), None, "{at}");
            kept[at] ^= 1;
        }
        assert_eq!(decode_kept(&kept[..20]), None);
    }

    /// A file that begins like an image that ends at `start`, followed by these bytes.
    fn layer(start: u64, behind: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        let mut superblock = [0; SUPERBLOCK_SIZE];
        superblock[..4].copy_from_slice(b"hsqs");
        superblock[12..16].copy_from_slice(&(128_u32 << 10).to_le_bytes());
        (superblock[20], superblock[28]) = (6, 4);
        superblock[40..48].copy_from_slice(&start.to_le_bytes());
        file.write_all_at(&superblock, 0).unwrap();
        file.write_all_at(behind, round_up_to_page(start)).unwrap();
        file
    }

    fn kept(layer: &File) -> io::Result<Vec<u8>> {
        let mut out = tempfile::tempfile()?;
        keep(layer, &mut out)?;
        let mut bytes = vec![0; out.metadata()?.len() as usize];
        out.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    #[test]
    fn an_index_is_kept_as_it_is_and_what_is_larger_than_any_is_not_read() {
        let blocks = vec![StoredBlock { hash: content_hash(b"a"), length: 7 }; 30_000];
        let index = encode_index(&blocks);
        assert_eq!(decode_kept(&kept(&layer(5000, &index)).unwrap()), Some(blocks));
        assert!(kept(&layer(5000, &index[..5000])).is_err(), "cut off");
        assert!(kept(&layer(5000, b"something else altogether")).is_err());
        // A sparse file after the image costs an attacker nothing.
        let large = layer(5000, &[&MAGIC[..], &(1_u64 << 40).to_le_bytes()].concat());
        large.set_len(64 << 30).unwrap();
        assert!(kept(&large).is_err());
    }
}
