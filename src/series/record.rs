//! Records: the content of generations.

use std::collections::BTreeMap;
use std::io::{BufReader, ErrorKind, Read, Write};

use serde::de::DeserializeOwned;

use super::envelope::{Format, HEAD, open, seal};
use super::error::RecordError;
use super::sign::Keyring;
use crate::base::bounds::{Costs, Weighing, Weight};

/// A record that is written as a whole, under a name and in generations, and can merge what other jobs wrote.
pub(crate) trait Record: Send + Sized + 'static {
    /// The kind of its entries, and the format of their bodies.
    const FORMAT: Format;

    /// Writes the JSON of the body.
    ///
    /// # Errors
    /// Those of `out`.
    fn write(&self, out: &mut dyn Write) -> serde_json::Result<()>;

    /// Appends the body to `out`.
    ///
    /// # Errors
    /// When no reader would accept it.
    fn encode(&self, out: Vec<u8>) -> Result<Vec<u8>, RecordError>;

    /// Reads a body. Its bytes are undamaged, but anyone with write access to the cache may have written them.
    ///
    /// # Errors
    /// When it is not a valid record.
    fn decode(body: &[u8]) -> Result<Self, RecordError>;

    /// Merges `other` into this record. The order of merges does not matter.
    fn merge(&mut self, other: Self);

    /// Returns whether it contains everything in `other`.
    fn covers(&self, other: &Self) -> bool;

    /// Generations of the same name that exist, or may exist, and could not be read before this one was written; each with the time of
    /// the attempt in seconds since 1970. Their content belongs to this record too: a reader merges them.
    fn unread(&mut self) -> &mut BTreeMap<u64, u64>;
}

/// Encodes `record` for the entry `name` only, signed by all signing keys in `keys`.
///
/// # Errors
/// See [`Record::encode`].
pub(crate) fn encode<R: Record>(record: &R, name: &str, keys: &Keyring) -> Result<Vec<u8>, RecordError> {
    // The head is written before the body, without a copy.
    Ok(seal(R::FORMAT, name, record.encode(vec![0; HEAD])?, keys))
}

/// Decodes the record in `bytes` from the entry `name`. Also returns the name of the trusted key in `keys` that signed it, if that
/// is required. The body is not decompressed or parsed before its signature is verified.
///
/// # Errors
/// See [`Record::decode`]; also when the bytes are damaged, of another format, or not signed as `keys` requires.
pub(crate) fn decode<R: Record>(bytes: &[u8], name: &str, keys: &Keyring) -> Result<(R, Option<String>), RecordError> {
    let (body, signed_by) = open(R::FORMAT, name, bytes, keys)?;
    Ok((R::decode(body)?, signed_by))
}

/// Largest weight of a record, in bytes of memory: see [`Weight`].
pub(crate) const MOST: u64 = 168 << 20;
/// Largest weight of two records that are merged, together. One record can name eight others to be merged, each as heavy as it may be.
const MOST_TOGETHER: u64 = 208 << 20;

/// Returns what another record may weigh to be merged with `held`.
pub(crate) fn room_beside<R: Record>(held: &R) -> u64 {
    let mut weighed = Weighed { inner: std::io::sink(), weight: Weight::new(Costs::LISTS) };
    // Nothing fails that only counts.
    let _ = held.write(&mut weighed);
    MOST_TOGETHER.saturating_sub(weighed.weight.total)
}

/// Like [`decode`], for a record that may weigh `room`; see [`room_beside`].
///
/// # Errors
/// See [`decode`]; [`RecordError::TooLarge`] if it weighs more.
pub(crate) fn decode_within<R: Record>(
    bytes: &[u8],
    name: &str,
    keys: &Keyring,
    room: u64,
) -> Result<(R, Option<String>), RecordError> {
    let (body, signed_by) = open(R::FORMAT, name, bytes, keys)?;
    if room < MOST && weighs_more(body, room) {
        return Err(RecordError::TooLarge(format!(
            "merged with what is here already, it would take more than {} MiB of memory, so it is left out. Give the jobs keys of \
             their own, or set `max-size`.",
            MOST_TOGETHER >> 20
        )));
    }
    Ok((R::decode(body)?, signed_by))
}

fn weighs_more(body: &[u8], most: u64) -> bool {
    let weigh = || std::io::copy(&mut Weighing::new(decompressed(body)?, Costs::LISTS, most), &mut std::io::sink());
    // A body that is damaged is told by whoever decodes it.
    weigh().is_err_and(|error| error.kind() == ErrorKind::FileTooLarge)
}

fn decompressed(body: &[u8]) -> std::io::Result<impl Read> {
    let mut decoder = zstd::Decoder::new(body)?.single_frame();
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    Ok(decoder)
}

/// The level of compression.
const LEVEL: i32 = 9;
/// Number of characters of an error that are shown.
const SHOWN: usize = 300;
/// JSON up to so many bytes is parsed from memory, which is quicker than byte by byte. That of 60,000 derivations has 17 MB.
const AT_ONCE: u64 = 32 << 20;
/// Largest zstd window. Ours is 4 MiB; a window of more than twice that would only serve to make us allocate it.
const MAX_WINDOW_LOG: u32 = 23;

/// Appends the JSON that `write` writes to `out`, compressed with zstd, and returns `out` with the JSON's weight in bytes of
/// memory, see [`Weight`].
///
/// # Errors
/// When zstd fails, which happens only without memory.
pub(crate) fn write_json(
    out: Vec<u8>,
    write: impl FnOnce(&mut dyn Write) -> serde_json::Result<()>,
) -> Result<(Vec<u8>, u64), RecordError> {
    let failed = |error: std::io::Error| RecordError::Write(error.to_string());
    let inner = zstd::Encoder::new(out, LEVEL).map_err(failed)?;
    let mut weighed = Weighed { inner, weight: Weight::new(Costs::LISTS) };
    write(&mut weighed).map_err(|error| failed(error.into()))?;
    Ok((weighed.inner.finish().map_err(failed)?, weighed.weight.total))
}

/// Parses the compressed JSON `body`, up to the weight `most`.
///
/// # Errors
/// When it is not valid.
pub(crate) fn read_json<T: DeserializeOwned>(body: &[u8], most: u64) -> Result<T, RecordError> {
    let read = || -> std::io::Result<T> {
        let mut reader = Weighing::new(decompressed(body)?, Costs::LISTS, most);
        let mut start = Vec::new();
        reader.by_ref().take(AT_ONCE).read_to_end(&mut start)?;
        if (start.len() as u64) < AT_ONCE {
            return Ok(serde_json::from_slice(&start)?);
        }
        Ok(serde_json::from_reader(BufReader::with_capacity(64 * 1024, start.chain(reader)))?)
    };
    // The error quotes the input, which can be of any length.
    let shown = |error: std::io::Error| error.to_string().chars().take(SHOWN).collect::<String>();
    read().map_err(|error| RecordError::Damaged(format!("its content cannot be read ({})", shown(error))))
}

/// A writer that weighs the JSON that it passes on.
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
