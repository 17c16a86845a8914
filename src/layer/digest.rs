//! Digests of a layer: one SHA-256 for each chunk of fixed size, so that a download is checked as it arrives. The layer's name
//! is computed from them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::digest::Sha;

/// Bytes of a chunk: what a read of a streamed layer waits for. A gigabyte has 1024 chunks and 32 KiB of digests.
pub const CHUNK_SIZE: u64 = 1024 * 1024;

/// Size and chunk digests of some bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digests {
    /// Total bytes.
    pub size: u64,
    /// The digest of each chunk of [`CHUNK_SIZE`] bytes; the last one may be shorter.
    pub chunks: Vec<Sha>,
}

impl Digests {
    /// The name of these bytes: the SHA-256 over their size (8 bytes, little-endian) and their chunk digests in order.
    #[must_use]
    pub fn id(&self) -> Sha {
        let mut hash = Sha256::new();
        hash.update(self.size.to_le_bytes());
        for chunk in &self.chunks {
            hash.update(chunk.0);
        }
        Sha(hash.finalize().into())
    }

    /// Returns whether the number of digests matches the size.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.chunks.len() as u64 == self.size.div_ceil(CHUNK_SIZE)
    }

    /// Computes the digests of the bytes of `reader`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let mut writer = DigestWriter::new(io::sink());
        io::copy(&mut reader, &mut writer)?;
        Ok(writer.finish().1)
    }
}

/// A writer that computes the digests of the bytes that it passes on.
pub struct DigestWriter<W> {
    inner: W,
    hash: Sha256,
    in_chunk: u64,
    digests: Digests,
}

impl<W: Write> DigestWriter<W> {
    /// Wraps `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), in_chunk: 0, digests: Digests { size: 0, chunks: Vec::new() } }
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.digests.size
    }

    /// Returns the inner writer and the digests of everything written.
    pub fn finish(mut self) -> (W, Digests) {
        if self.in_chunk > 0 {
            self.digests.chunks.push(Sha(self.hash.finalize().into()));
        }
        (self.inner, self.digests)
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        let mut rest = &buffer[..written];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min((CHUNK_SIZE - self.in_chunk) as usize));
            self.hash.update(now);
            self.in_chunk += now.len() as u64;
            if self.in_chunk == CHUNK_SIZE {
                self.digests.chunks.push(Sha(self.hash.finalize_reset().into()));
                self.in_chunk = 0;
            }
            rest = later;
        }
        self.digests.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Recomputes the digest of the first chunk from `file`.
///
/// # Errors
/// When the file cannot be read.
pub fn refresh_first_chunk(digests: &mut Digests, mut file: &File) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut left = digests.size.min(CHUNK_SIZE) as usize;
    while left > 0 {
        let part = left.min(buffer.len());
        file.read_exact(&mut buffer[..part])?;
        hash.update(&buffer[..part]);
        left -= part;
    }
    if let Some(first) = digests.chunks.first_mut() {
        *first = Sha(hash.finalize().into());
    }
    Ok(())
}
