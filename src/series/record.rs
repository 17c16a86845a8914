//! What the generations of a series hold.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};

use serde::de::DeserializeOwned;

use super::envelope::{Format, HEAD, open, seal};
use super::error::RecordError;
use super::sign::Keyring;
use crate::base::bounds::{Costs, Weighing, Weight};

/// A record that is written whole, under a name and in generations, and can take in what other jobs wrote.
pub(crate) trait Record: Send + Sized + 'static {
    /// What its entries are, and the format of their bodies.
    const FORMAT: Format;

    /// Appends the body to `out`.
    ///
    /// # Errors
    /// When no reader would take it.
    fn encode(&self, out: Vec<u8>) -> Result<Vec<u8>, RecordError>;

    /// Reads a body. Its bytes are the ones that were written, by whoever may write to the cache.
    ///
    /// # Errors
    /// When it is not a record.
    fn decode(body: &[u8]) -> Result<Self, RecordError>;

    /// Takes in all that `other` holds. Whichever of two is merged first, the result is the same.
    fn merge(&mut self, other: Self);

    /// Whether it has all that `other` holds.
    fn covers(&self, other: &Self) -> bool;

    /// Generations of the same name that exist, or may, and were not read before this one was written; each with the time of that, in
    /// seconds since 1970. What they hold belongs to this record too: a reader takes them in.
    fn unread(&mut self) -> &mut BTreeMap<u64, u64>;
}

/// The bytes of `record` for the entry `name` and no other, signed by all keys of `keys` that sign.
///
/// # Errors
/// As [`Record::encode`].
pub(crate) fn encode<R: Record>(record: &R, name: &str, keys: &Keyring) -> Result<Vec<u8>, RecordError> {
    // The head goes in front of the body, without a copy.
    Ok(seal(R::FORMAT, name, record.encode(vec![0; HEAD])?, keys))
}

/// The record in `bytes`, read from the entry `name`, and the name of the key in `keys` that vouches for it, where that is asked for.
/// Nothing of the body is decompressed or parsed before that is sure.
///
/// # Errors
/// As [`Record::decode`], and when the bytes are damaged, of another format, or not signed as `keys` asks for.
pub(crate) fn decode<R: Record>(bytes: &[u8], name: &str, keys: &Keyring) -> Result<(R, Option<String>), RecordError> {
    let (body, signed_by) = open(R::FORMAT, name, bytes, keys)?;
    Ok((R::decode(body)?, signed_by))
}

/// The level of compression.
const LEVEL: i32 = 9;
/// Characters of an error that are shown.
const SHOWN: usize = 300;
/// The window of what we compress is 4 MiB. A larger one than twice that would only be asked for to make us allocate it.
const MAX_WINDOW_LOG: u32 = 23;

/// Appends to `out`, compressed by zstd, the JSON that `write` writes; returns it with the JSON's weight in bytes of memory, see
/// [`Weight`].
///
/// # Errors
/// When zstd fails, which it does only without memory.
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

/// The value in the compressed JSON `body`, which is read only up to the weight `most`.
///
/// # Errors
/// When it is anything else.
pub(crate) fn read_json<T: DeserializeOwned>(body: &[u8], most: u64) -> Result<T, RecordError> {
    let read = || -> std::io::Result<T> {
        let mut decoder = zstd::Decoder::new(body)?.single_frame();
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        let mut reader = BufReader::with_capacity(64 * 1024, Weighing::new(decoder, Costs::LISTS, most));
        let value = serde_json::from_reader(reader.by_ref())?;
        Ok(value)
    };
    // The error quotes what is there, which can be of any length.
    let shown = |error: std::io::Error| error.to_string().chars().take(SHOWN).collect::<String>();
    read().map_err(|error| RecordError::Damaged(format!("its content cannot be read ({})", shown(error))))
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
