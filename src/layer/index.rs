//! What follows the squashfs image in a layer's file: the hash of every data block in it. With it a later layer finds blocks that
//! this one already holds, which then need not travel again.
//!
//! Format: at the first multiple of 4 KiB behind the image the eight bytes `NCINDEX1`, the number of blocks (8 bytes,
//! little-endian), for each block the hash of its bytes as stored (16 bytes) and their number (4 bytes, little-endian), zeros up
//! to the next multiple of 4 KiB. The blocks stand in the image one after the other, from behind the superblock.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use super::squashfs::{SUPERBLOCK_SIZE, image_length, round_up_to_page};

/// The first 16 bytes of the BLAKE3 of some bytes.
pub type ContentHash = [u8; 16];

const MAGIC: &[u8; 8] = b"NCINDEX1";
const ENTRY: usize = 20;

/// A data block or fragment block as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// Of the stored bytes.
    pub hash: ContentHash,
    /// How many they are.
    pub length: u32,
}

/// The hash of `bytes`.
#[must_use]
pub fn content_hash(bytes: &[u8]) -> ContentHash {
    truncate(&blake3::hash(bytes))
}

/// The part of a BLAKE3 hash that we keep: 128 bits leave no collision to find.
#[must_use]
pub fn truncate(hash: &blake3::Hash) -> ContentHash {
    let mut out = [0; 16];
    out.copy_from_slice(&hash.as_bytes()[..16]);
    out
}

/// The bytes of the index of `blocks`, without the padding behind it.
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

/// The blocks that the index in `bytes` names; None when it is not whole.
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

/// The bytes of the index in the file of a whole layer, padding included.
///
/// # Errors
/// When the file cannot be read, or is no layer.
pub fn read_index(layer: &File) -> io::Result<Vec<u8>> {
    let mut superblock = [0; SUPERBLOCK_SIZE];
    layer.read_exact_at(&mut superblock, 0)?;
    let start = image_length(&superblock).map(round_up_to_page).map_err(io::Error::other)?;
    let length = layer.metadata()?.len().checked_sub(start).ok_or_else(|| io::Error::other("it is cut off"))?;
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    layer.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

/// Writes `index`, as [`read_index`] gives it, to `out`, so that [`decode_kept`] can tell whether it is whole.
///
/// # Errors
/// When `out` fails.
pub fn keep(index: &[u8], out: &mut impl Write) -> io::Result<()> {
    out.write_all(blake3::hash(index).as_bytes())?;
    out.write_all(index)
}

/// The blocks in what [`keep`] wrote; None when it is not what was written.
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
        let mut kept = Vec::new();
        keep(&index, &mut kept).unwrap();
        assert_eq!(decode_kept(&kept), Some(blocks));
        for at in [0, 40, 60, 4000] {
            kept[at] ^= 1;
            assert_eq!(decode_kept(&kept), None, "{at}");
            kept[at] ^= 1;
        }
        assert_eq!(decode_kept(&kept[..20]), None);
    }
}
