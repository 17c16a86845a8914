//! What follows the squashfs image in a layer's file: the hash of every content in it, in the order in which a walk of
//! the image first meets them. With it a later layer finds bytes that this one already holds without reading them.
//!
//! Format: at the first multiple of 4 KiB behind the image the eight bytes `NCINDEX1`, the number of hashes (8 bytes,
//! little-endian), the hashes (16 bytes each), zeros up to the next multiple of 4 KiB.

use std::io::{self, Write};

/// The first 16 bytes of the BLAKE3 of a file's bytes.
pub type ContentHash = [u8; 16];

const MAGIC: &[u8; 8] = b"NCINDEX1";

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

/// Writes the index of `hashes`, without the padding behind it.
///
/// # Errors
/// When `out` fails.
pub fn write_index(out: &mut impl Write, hashes: &[ContentHash]) -> io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&(hashes.len() as u64).to_le_bytes())?;
    for hash in hashes {
        out.write_all(hash)?;
    }
    Ok(())
}
