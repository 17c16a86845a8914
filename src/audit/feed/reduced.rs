//! Feeds without what is not needed: one advisory a line, compressed with zstd, for the cache.

use std::io::{self, BufRead, BufReader, Read, Write};

use serde::{Deserialize, Serialize};

use super::Entry;

/// Most bytes of one line.
const LONGEST: u64 = 16 << 20;
/// Largest window of the compression, as a power of two of bytes; [`Writer`] needs 2 MiB.
const MAX_WINDOW_LOG: u32 = 23;
const FORMAT: u32 = 1;

/// The name of the file in a folder of feeds.
pub(crate) const FILE: &str = "advisories.jsonl.zst";

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    /// When the newest of the files that it was made from was written.
    timestamp: String,
}

/// Writes advisories.
pub(crate) struct Writer<W: Write>(zstd::Encoder<'static, W>);

impl<W: Write> Writer<W> {
    /// A file whose data is of `timestamp`.
    pub(crate) fn new(to: W, timestamp: &str) -> io::Result<Self> {
        let mut writer = Self(zstd::Encoder::new(to, 6)?);
        writer.line(&Head { format: FORMAT, timestamp: timestamp.to_owned() })?;
        Ok(writer)
    }

    /// Adds an advisory.
    pub(crate) fn add(&mut self, entry: &Entry) -> io::Result<()> {
        self.line(entry)
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> io::Result<W> {
        self.0.finish()
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

/// Hands every advisory in `reader` to `each`. Returns the time that the data is of.
///
/// # Errors
/// When it cannot be read, or is not such a file.
pub(crate) fn read(reader: impl Read, mut each: impl FnMut(Entry)) -> io::Result<String> {
    let mut decoder = zstd::Decoder::new(reader)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    let mut lines = Lines(BufReader::new(decoder));
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let head = lines.next()?.ok_or_else(|| wrong("it is empty".to_owned()))?;
    let head: Head = serde_json::from_slice(&head)?;
    if head.format != FORMAT {
        return Err(wrong(format!("it is of form {}, and this program reads form {FORMAT}", head.format)));
    }
    while let Some(line) = lines.next()? {
        each(crate::base::bounds::from_json(&line)?);
    }
    Ok(head.timestamp)
}

struct Lines<R>(R);

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        (&mut self.0).take(LONGEST).read_until(b'\n', &mut line)?;
        match line.last() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) if line.len() as u64 == LONGEST => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"))
            }
            Some(_) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends in the middle of a line")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Affected, Range};
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let range = Range { to_excluding: Some("2".into()), ..Range::default() };
        let affected = Affected { vendor: "v".into(), product: "p".into(), range, ..Affected::default() };
        let entry = Entry { id: "CVE-1".into(), score: Some(7.5), text: "t".into(), affected: vec![affected] };
        let mut writer = Writer::new(Vec::new(), "2026-11-25").unwrap();
        writer.add(&entry).unwrap();
        writer.add(&entry).unwrap();
        let bytes = writer.finish().unwrap();
        let mut found = Vec::new();
        assert_eq!(read(&*bytes, |entry| found.push(entry)).unwrap(), "2026-11-25");
        assert_eq!(found, [entry.clone(), entry]);
        assert!(read(&bytes[..bytes.len() / 2], |_| {}).is_err() && read(&b"x"[..], |_| {}).is_err());
        let bomb = zstd::encode_all(&*vec![b' '; 17 << 20], 1).unwrap();
        assert!(read(&*bomb, |_| {}).unwrap_err().to_string().contains("too long"));
    }
}
