//! Writing and reading a snapshot.
//!
//! Format: the line `nix-cache snapshot`, a line with the SHA-256 of all that follows it (64 digits of hex), and the JSON of
//! [`super::wire`], compressed by zstd. What a reader does not know in the JSON it passes over: a part that may be missing needs no
//! new format, one that must be understood does. Gzip is read as well, for whoever makes a snapshot with other tools. A signed
//! snapshot has one more frame behind it, see [`super::signatures`].

use std::io::Read;

use super::wire::{FORMAT, Header, Wire};
use super::{Snapshot, signatures};
use crate::layer::digest::Sha;
use crate::sign::{Keyring, Untrusted};

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
    /// Nobody who is trusted here vouches for it.
    #[error("The snapshot is not used: {0}")]
    Untrusted(#[from] Untrusted),
    /// It could not be written.
    #[error("The snapshot could not be written: {0}.")]
    Write(#[from] std::io::Error),
}

/// The bytes of `snapshot`, without a signature.
///
/// # Errors
/// When zstd fails, which it does only without memory.
pub fn encode(snapshot: &Snapshot) -> Result<Vec<u8>, SnapshotError> {
    Ok(seal(&body(snapshot)?))
}

/// The bytes of `snapshot`, to be stored as the entry `name` and no other, signed by all keys of `keys` that sign.
///
/// # Errors
/// As [`encode`].
pub fn encode_signed(snapshot: &Snapshot, name: &str, keys: &Keyring) -> Result<Vec<u8>, SnapshotError> {
    let mut body = body(snapshot)?;
    signatures::append(&mut body, name, keys);
    Ok(seal(&body))
}

fn body(snapshot: &Snapshot) -> Result<Vec<u8>, SnapshotError> {
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
    serde_json::to_writer(&mut encoder, &Wire::from(snapshot)).map_err(std::io::Error::from)?;
    Ok(encoder.finish()?)
}

fn seal(body: &[u8]) -> Vec<u8> {
    [FIRST_LINE, Sha::of(body).to_string().as_bytes(), b"\n", body].concat()
}

/// The snapshot in `bytes`, whoever wrote it.
///
/// # Errors
/// When they are damaged, or of a format that this program does not know.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    read(open(bytes)?)
}

/// The snapshot in `bytes`, read from the entry `name`, and the name of the key in `keys` that vouches for it, where that is
/// asked for. Nothing of it is decompressed or parsed before that is sure.
///
/// # Errors
/// As [`decode`], and when `keys` asks for a signature that is not there.
pub fn decode_signed(bytes: &[u8], name: &str, keys: &Keyring) -> Result<(Snapshot, Option<String>), SnapshotError> {
    let body = open(bytes)?;
    let signed_by = signatures::verify(body, name, keys)?;
    Ok((read(body)?, signed_by))
}

/// What stands behind the header.
fn open(bytes: &[u8]) -> Result<&[u8], SnapshotError> {
    let damaged = |why: &str| SnapshotError::Damaged(why.into());
    let (header, body) = bytes.split_at_checked(HEADER).ok_or_else(|| damaged("it is cut off"))?;
    let digest = header.strip_prefix(FIRST_LINE).ok_or_else(|| damaged("it does not begin as one"))?;
    if format!("{}\n", Sha::of(body)).as_bytes() != digest {
        return Err(damaged("its bytes do not match their digest"));
    }
    Ok(body)
}

fn read(body: &[u8]) -> Result<Snapshot, SnapshotError> {
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
