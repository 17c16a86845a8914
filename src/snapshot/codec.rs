//! Writing and reading a snapshot.
//!
//! Format: the line `nix-cache snapshot`, a line with the SHA-256 of all that follows it (64 digits of hex), and the JSON of
//! [`super::wire`], compressed by zstd. Gzip is read as well, for whoever makes a snapshot with other tools.

use std::io::{Read, Write};

use super::Snapshot;
use super::wire::{FORMAT, Header, Wire};
use crate::layer::digest::Sha;

const FIRST_LINE: &[u8] = b"nix-cache snapshot\n";
const HEADER: usize = FIRST_LINE.len() + 64 + 1;
const LEVEL: i32 = 9;
/// More JSON than this is refused: 200,000 paths have less.
const MAX_JSON: u64 = 256 << 20;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is not what was written.
    #[error("The snapshot is damaged: {0}. The next save replaces it.")]
    Damaged(String),
    /// It was written by a program that is newer than this one.
    #[error(
        "The snapshot has format {0}; this program reads format {FORMAT}. Use the version that wrote it, or a newer one."
    )]
    Unknown(u64),
    /// It could not be written.
    #[error("The snapshot could not be written: {0}.")]
    Write(#[from] std::io::Error),
}

/// The bytes of `snapshot`.
///
/// # Errors
/// When zstd fails, which it does only without memory.
pub fn encode(snapshot: &Snapshot) -> Result<Vec<u8>, SnapshotError> {
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
    serde_json::to_writer(&mut encoder, &Wire::from(snapshot)).map_err(std::io::Error::from)?;
    let body = encoder.finish()?;
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(FIRST_LINE);
    writeln!(out, "{}", Sha::of(&body))?;
    out.extend(body);
    Ok(out)
}

/// The snapshot in `bytes`.
///
/// # Errors
/// When they are damaged, or of a format that this program does not know.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    let damaged = |why: &str| SnapshotError::Damaged(why.into());
    let (header, body) = bytes.split_at_checked(HEADER).ok_or_else(|| damaged("it is cut off"))?;
    let digest = header.strip_prefix(FIRST_LINE).ok_or_else(|| damaged("it does not begin as one"))?;
    if format!("{}\n", Sha::of(body)).as_bytes() != digest {
        return Err(damaged("its bytes do not match their digest"));
    }
    let json = decompress(body)?;
    let unreadable = |error: serde_json::Error| SnapshotError::Damaged(format!("its JSON cannot be read ({error})"));
    let Header { format } = serde_json::from_slice(&json).map_err(unreadable)?;
    if format != FORMAT {
        return Err(SnapshotError::Unknown(format));
    }
    serde_json::from_slice::<Wire>(&json).map_err(unreadable)?.try_into()
}

fn decompress(body: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    let reader: Box<dyn Read + '_> = if body.starts_with(&ZSTD_MAGIC) {
        Box::new(zstd::Decoder::new(body)?)
    } else if body.starts_with(&GZIP_MAGIC) {
        Box::new(flate2::read::GzDecoder::new(body))
    } else {
        return Err(SnapshotError::Damaged("it is neither zstd nor gzip".into()));
    };
    let mut json = Vec::new();
    let read = reader.take(MAX_JSON + 1).read_to_end(&mut json);
    read.map_err(|error| SnapshotError::Damaged(format!("it does not decompress ({error})")))?;
    if json.len() as u64 > MAX_JSON {
        return Err(SnapshotError::Damaged("it is larger than any snapshot".into()));
    }
    Ok(json)
}
