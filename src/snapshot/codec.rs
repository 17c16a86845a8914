//! Writing and reading a snapshot.
//!
//! Format: the line `nix-cache snapshot`, a line with the SHA-256 of all that follows it (64 digits of hex), and the JSON of
//! [`super::wire`], compressed by zstd. What a reader does not know in the JSON it passes over: a part that may be missing needs no
//! new format, one that must be understood does. Gzip is read as well, for whoever makes a snapshot with other tools. A signed
//! snapshot has one more frame behind it, see [`super::signatures`].

use std::io::{BufReader, Read, Write};

use super::wire::{self, FORMAT, Header, Wire};
use super::{Snapshot, signatures};
use crate::base::bounds::{Costs, Weighing, Weight};
use crate::base::digest::Sha;
use crate::layer::recipe::Recipe;
use crate::series::sign::{Keyring, Untrusted};

const FIRST_LINE: &[u8] = b"nix-cache snapshot\n";
const HEADER: usize = FIRST_LINE.len() + 64 + 1;
const LEVEL: i32 = 9;
/// What a snapshot may weigh, in bytes of memory: see [`Weighing`]. A path with four references and a signature weighs 1.3 KB, so
/// there is room for 130,000 of them.
const MAX_WEIGHT: u64 = 168 << 20;
/// More layers, or entries that they are made of, are never needed: a save keeps eight, a merge of a hundred jobs a hundred.
const MAX_LAYERS: usize = 4096;
/// The window of what we compress is 4 MiB. A larger one than twice that would only be asked for to make us allocate it.
const MAX_WINDOW_LOG: u32 = 23;
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
    /// Nobody could read it.
    #[error(
        "The snapshot would take more than {} MiB of memory, and no job could read it: the store holds too many paths for one key. \
         Set `max-size`, or give the jobs keys of their own.",
        MAX_WEIGHT >> 20
    )]
    TooLarge,
    /// It could not be written.
    #[error("The snapshot could not be written: {0}.")]
    Write(#[from] std::io::Error),
}

/// The bytes of `snapshot`, without a signature.
///
/// # Errors
/// When no reader would take it, since it is too large; when zstd fails, which it does only without memory.
pub fn encode(snapshot: &Snapshot) -> Result<Vec<u8>, SnapshotError> {
    Ok(seal(body(snapshot)?))
}

/// The bytes of `snapshot`, to be stored as the entry `name` and no other, signed by all keys of `keys` that sign.
///
/// # Errors
/// As [`encode`].
pub(crate) fn encode_signed(snapshot: &Snapshot, name: &str, keys: &Keyring) -> Result<Vec<u8>, SnapshotError> {
    let mut body = body(snapshot)?;
    signatures::append(&mut body, HEADER, name, keys);
    Ok(seal(body))
}

/// The body, with room for the header in front of it.
fn body(snapshot: &Snapshot) -> Result<Vec<u8>, SnapshotError> {
    // The header goes in front of it, without a copy.
    let mut weighed = Weighed { inner: zstd::Encoder::new(vec![0; HEADER], LEVEL)?, weight: Weight::new(Costs::LISTS) };
    wire::write(snapshot, &mut weighed).map_err(std::io::Error::from)?;
    if weighed.weight.total > MAX_WEIGHT || snapshot.stored.len().max(snapshot.layers.len()) > MAX_LAYERS {
        return Err(SnapshotError::TooLarge);
    }
    Ok(weighed.inner.finish()?)
}

/// Passes JSON on and weighs it.
struct Weighed<W> {
    inner: W,
    weight: Weight,
}

impl<W: Write> Write for Weighed<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.weight.add(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Sha::of(&bytes[HEADER..]).to_string();
    bytes.splice(..HEADER, [FIRST_LINE, digest.as_bytes(), b"\n"].concat());
    bytes
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
pub(crate) fn decode_signed(
    bytes: &[u8],
    name: &str,
    keys: &Keyring,
) -> Result<(Snapshot, Option<String>), SnapshotError> {
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

/// Reads the JSON twice, the first time for its format alone: so it is never held as a whole.
fn read(body: &[u8]) -> Result<Snapshot, SnapshotError> {
    let unreadable = |error: serde_json::Error| match error.io_error_kind() {
        Some(_) => SnapshotError::Damaged(error.to_string()),
        None => SnapshotError::Damaged(format!("its JSON cannot be read ({error})")),
    };
    let Header { format } = serde_json::from_reader(json(body)?).map_err(unreadable)?;
    if format != FORMAT {
        return Err(SnapshotError::Unknown(format));
    }
    let snapshot: Snapshot = serde_json::from_reader::<_, Wire>(json(body)?).map_err(unreadable)?.try_into()?;
    check_layers(&snapshot)?;
    Ok(snapshot)
}

/// The JSON in `body`, which becomes an error once it weighs more than any snapshot does.
fn json(body: &[u8]) -> Result<impl Read, SnapshotError> {
    let reader: Box<dyn Read + '_> = if body.starts_with(&ZSTD_MAGIC) {
        let mut decoder = zstd::Decoder::new(body)?;
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        Box::new(decoder)
    } else if body.starts_with(&GZIP_MAGIC) {
        Box::new(flate2::read::GzDecoder::new(body))
    } else {
        return Err(SnapshotError::Damaged("it is neither zstd nor gzip".into()));
    };
    Ok(BufReader::with_capacity(64 * 1024, Weighing::new(reader, Costs::LISTS, MAX_WEIGHT)))
}

/// What layers are made of is bounded by what is stored: a recipe that takes the same bytes again and again makes a file of any size.
fn check_layers(snapshot: &Snapshot) -> Result<(), SnapshotError> {
    if snapshot.layers.len().max(snapshot.stored.len()) > MAX_LAYERS {
        return Err(SnapshotError::Damaged(format!("it names more than {MAX_LAYERS} layers")));
    }
    let size_of = |id: &Sha| snapshot.stored.get(id).map(|stored| stored.digests.size);
    let fits = |recipe: &Recipe| recipe.fits(size_of);
    if snapshot.layers.values().all(|layer| layer.recipe.as_ref().is_none_or(fits)) {
        return Ok(());
    }
    Err(SnapshotError::Damaged("a layer takes more bytes than are stored".into()))
}
