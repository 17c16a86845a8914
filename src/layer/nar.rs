//! Hashes the NAR of a store path without storing it.

use std::io::{self, Write};
use std::path::Path;

use nix_archive::nar::{CaseHack, Encoder, Error, encode_path, hash_path};
use sha2::{Digest, Sha256};

use crate::store::NarHash;

/// Why a NAR could not be encoded.
pub(crate) use nix_archive::nar::Error as NarError;

/// An encoder of NARs that hashes what it writes.
pub(crate) type NarHasher = Encoder<HashWriter>;

/// A hasher for one store path.
pub(crate) fn hasher() -> Result<NarHasher, Error> {
    hasher_up_to(u64::MAX)
}

/// A hasher that refuses a NAR of more than `size` bytes: a small image can contain a very large file.
pub(crate) fn hasher_up_to(size: u64) -> Result<NarHasher, Error> {
    Encoder::new(HashWriter { hash: Sha256::new(), written: 0, left: size })
}

/// Returns the hash and size of a complete NAR.
pub(crate) fn finish(nar: NarHasher) -> Result<(NarHash, u64), Error> {
    let HashWriter { hash, written, .. } = nar.finish()?;
    Ok((NarHash(hash.finalize().into()), written))
}

/// Returns the NAR hash and size of `path`.
pub(crate) fn hash_and_size_of(path: &Path) -> Result<(NarHash, u64), Error> {
    let found = hash_path(path, CaseHack::Disabled)?;
    Ok((NarHash(found.sha256), found.size))
}

/// Returns the NAR hash of `path`.
///
/// # Errors
/// When it cannot be read.
pub fn hash_of(path: &Path) -> Result<NarHash, Error> {
    Ok(NarHash(hash_path(path, CaseHack::Disabled)?.sha256))
}

/// Writes the NAR of `path`, like `nix-store --dump`.
///
/// # Errors
/// When it cannot be read, or the NAR cannot be written.
pub(crate) fn write_nar(path: &Path, writer: &mut impl Write) -> Result<(), Error> {
    encode_path(writer, path, CaseHack::Disabled)
}

/// A writer that only hashes.
pub(crate) struct HashWriter {
    hash: Sha256,
    written: u64,
    /// Bytes that may still come.
    left: u64,
}

impl Write for HashWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let too_large = || io::Error::other("it is larger than the Nix database says");
        self.left = self.left.checked_sub(buffer.len() as u64).ok_or_else(too_large)?;
        self.hash.update(buffer);
        self.written += buffer.len() as u64;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sizes of the parts of a NAR, which consists of strings, each preceded by its length and padded to a multiple of 8.
pub(crate) mod sizes {
    const fn string(length: u64) -> u64 {
        8 + length.saturating_add(7) / 8 * 8
    }

    /// The word at the beginning of a NAR.
    pub(crate) const fn beginning() -> u64 {
        string(13)
    }

    /// Brackets, "type", and the word for the type.
    const fn node(kind: u64) -> u64 {
        2 * string(1) + string(4) + string(kind)
    }

    /// A regular file of `size` bytes.
    pub(crate) const fn regular(executable: bool, size: u64) -> u64 {
        let mark = if executable { string(10) + string(0) } else { 0 };
        node(7) + mark + string(8) + string(size)
    }

    /// A symlink whose target has `length` bytes.
    pub(crate) const fn symlink(length: u64) -> u64 {
        node(7) + string(6) + string(length)
    }

    /// A directory without its entries.
    pub(crate) const fn directory() -> u64 {
        node(9)
    }

    /// An entry whose name has `length` bytes, without what it names.
    pub(crate) const fn entry(length: u64) -> u64 {
        2 * string(1) + string(5) + string(4) + string(length) + string(4)
    }
}
