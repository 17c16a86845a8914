//! Limits on everything that is read from outside, so that memory use stays small: files, output of programs, answers of
//! servers, and JSON.
//!
//! The size of a file or answer is measured while it is read; a declared size is never trusted. JSON is also weighed, by
//! [`Weighing`], because a megabyte of `[[],[],[]]` becomes a hundred megabytes of memory.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use memchr::memchr2;
use serde::de::DeserializeOwned;

/// Largest answer of a service in JSON or text, in bytes.
pub(crate) const MAX_ANSWER: usize = 1 << 20;
/// Largest text file of the user or the runner, in bytes: an event, a configuration, a derivation.
pub(crate) const MAX_TEXT: u64 = 32 << 20;
/// Largest record in our folder beside the store, in bytes: 150,000 paths take less than 400 bytes each.
pub(crate) const MAX_RECORD: u64 = 64 << 20;
/// Largest output of a program that is read, in bytes.
pub(crate) const MAX_OUTPUT: u64 = 32 << 20;
/// Largest weight of a JSON document, in bytes of memory: see [`Weighing`].
pub(crate) const MAX_WEIGHT: u64 = 128 << 20;
/// Largest weight of a record in our folder.
const MAX_RECORD_WEIGHT: u64 = 168 << 20;

/// Returns the error for input of more than `most` bytes.
pub(crate) fn too_large(most: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {} MiB", most >> 20))
}

/// Opens a regular file for reading, and never waits: opening a pipe would block until somebody writes to it.
///
/// # Errors
/// When it cannot be opened, or is not a regular file.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    // Opening a device can have effects, so look first; then look at what was opened, which may be something else by now.
    if std::fs::metadata(path)?.is_file() {
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if file.metadata()?.is_file() {
            return Ok(file);
        }
    }
    Err(io::Error::other("it is not a regular file"))
}

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// When it cannot be read, is larger, or is not a regular file.
pub(crate) fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_to_end(open_file(path)?, most)
}

/// Like [`read_file`], for text.
///
/// # Errors
/// Like [`read_file`], and when it is not UTF-8.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_file(path, most)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads `reader` to its end, up to `most` bytes.
///
/// # Errors
/// When it cannot be read, or yields more.
pub(crate) fn read_to_end(reader: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large(most)) } else { Ok(bytes) }
}

/// Parses the JSON file `path` of at most `most` bytes without holding its text in memory.
///
/// # Errors
/// See [`read_file`]. The kind is [`io::ErrorKind::InvalidData`] or [`io::ErrorKind::UnexpectedEof`] if the JSON is not as
/// expected or weighs more than [`MAX_WEIGHT`].
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, most: u64) -> io::Result<T> {
    read_json_file(open_file(path)?, most)
}

/// Like [`read_json`], for an open file.
///
/// # Errors
/// See [`read_json`].
pub(crate) fn read_json_file<T: DeserializeOwned>(file: File, most: u64) -> io::Result<T> {
    read_weighed(file, most, (Costs::TREES, MAX_WEIGHT))
}

/// Like [`read_json_file`], for a record in our folder: it may have a hundred thousand paths, and it is read into sorted lists
/// instead of trees.
///
/// # Errors
/// See [`read_json`].
pub(crate) fn read_record<T: DeserializeOwned>(file: File) -> io::Result<T> {
    read_weighed(file, MAX_RECORD, (Costs::LISTS, MAX_RECORD_WEIGHT))
}

fn read_weighed<T: DeserializeOwned>(file: File, most: u64, (costs, weight): (Costs, u64)) -> io::Result<T> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > most {
        return Err(too_large(most));
    }
    let reader = Weighing::new(BufReader::new(file.take(most)), costs, weight);
    Ok(serde_json::from_reader(BufReader::new(reader))?)
}

/// Parses JSON that weighs at most [`MAX_WEIGHT`].
///
/// # Errors
/// As `serde_json`.
pub(crate) fn from_json<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    let mut weight = Weight::new(Costs::TREES);
    weight.add(json);
    if weight.total > MAX_WEIGHT {
        return Err(serde::de::Error::custom(too_heavy(MAX_WEIGHT)));
    }
    serde_json::from_slice(json)
}

fn too_heavy(most: u64) -> String {
    format!("it would need more than {} MiB of memory", most >> 20)
}

/// An upper bound on the memory that JSON needs once it is read into our structures, in bytes: one for each character, plus the
/// structures around each text, field, list and element. The figures are measured; the largest part is the B-tree node for the
/// first element of each set.
pub(crate) struct Weight {
    pub total: u64,
    costs: Costs,
    in_text: bool,
    escaped: bool,
    depth: u64,
    record: u64,
}

/// The memory that parts of JSON need besides their characters, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Costs {
    text: u64,
    element: u64,
    field: u64,
    list: u64,
    /// Largest weight of one record: everything two levels below the top is held twice while it is read.
    record: u64,
}

impl Costs {
    /// For maps and sets that are B-trees: a single element allocates a node with room for eleven.
    pub(crate) const TREES: Self = Self { text: 32, element: 16, field: 64, list: 64, record: u64::MAX };
    /// For many small maps and sets that are sorted lists ([`crate::store::SharedSet`]), with the fields of structures.
    pub(crate) const LISTS: Self = Self { text: 32, element: 16, field: 0, list: 64, record: 16 << 20 };
}

impl Weight {
    pub(crate) fn new(costs: Costs) -> Self {
        Self { total: 0, costs, in_text: false, escaped: false, depth: 0, record: 0 }
    }

    /// Adds the next bytes of the JSON.
    pub(crate) fn add(&mut self, mut json: &[u8]) {
        while let Some((byte, rest)) = json.split_first() {
            // Most of it is texts, of which only the end and escapes matter.
            let plain =
                if self.in_text && !self.escaped { memchr2(b'"', b'\\', json).unwrap_or(json.len()) } else { 0 };
            let more = if plain > 0 { plain as u64 } else { 1 + self.cost(*byte) };
            json = if plain > 0 { &json[plain..] } else { rest };
            self.total = self.total.saturating_add(more);
            self.record = if self.depth > 2 { self.record + more } else { 0 };
            if self.record > self.costs.record {
                self.total = u64::MAX;
            }
        }
    }

    /// Returns the memory that `byte` adds besides itself.
    fn cost(&mut self, byte: u8) -> u64 {
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return 0;
        }
        match byte {
            b'"' => {
                self.in_text = true;
                self.costs.text
            }
            b',' => self.costs.element,
            b':' => self.costs.field,
            b'[' | b'{' => {
                self.depth += 1;
                self.costs.list
            }
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                0
            }
            _ => 0,
        }
    }
}

/// Passes JSON from a reader through until it weighs more than a limit, which is an error of kind [`io::ErrorKind::FileTooLarge`].
pub(crate) struct Weighing<R> {
    inner: R,
    weight: Weight,
    most: u64,
}

impl<R: Read> Weighing<R> {
    /// Wraps `inner`, whose JSON may weigh up to `most` bytes.
    pub(crate) fn new(inner: R, costs: Costs, most: u64) -> Self {
        Self { inner, weight: Weight::new(costs), most }
    }
}

impl<R: Read> Read for Weighing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.weight.add(&buffer[..read]);
        if self.weight.total > self.most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, too_heavy(self.most)));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_weighed_by_what_it_becomes_and_not_by_what_stands_in_its_texts() {
        let weigh = |json: &str| {
            let mut weight = Weight::new(Costs::TREES);
            // In pieces of any length: texts and escapes continue across pieces.
            json.as_bytes().chunks(3).for_each(|piece| weight.add(piece));
            weight.total
        };
        assert_eq!(weigh("[]"), 2 + 64);
        assert_eq!(weigh("[1,2]"), 5 + 64 + 16);
        assert_eq!(weigh(r#"{"a":1}"#), 7 + 64 + 32 + 64);
        assert_eq!(weigh(r#"["\",[:{\\","x"]"#), 16 + 64 + 32 + 16 + 32);
    }

    #[test]
    fn one_record_is_weighed_by_itself() {
        let weigh = |records: usize, length: usize| {
            let record = format!(r#"{{"a":[{}]}}"#, vec!["1"; length].join(","));
            let mut weight = Weight::new(Costs::LISTS);
            weight.add(format!(r#"{{"x":[{}]}}"#, vec![record; records].join(",")).as_bytes());
            weight.total
        };
        assert!(weigh(40, 50_000) < u64::MAX && weigh(1, 2_000_000 / 40) < u64::MAX);
        assert_eq!(weigh(1, 2_000_000), u64::MAX);
    }

    #[test]
    fn small_json_that_becomes_large_is_refused_before_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("json");
        std::fs::write(&path, format!("[{}[]]", "[],".repeat(2 << 20))).unwrap();
        let error = read_json::<Vec<Vec<u8>>>(&path, MAX_RECORD).unwrap_err().to_string();
        assert!(error.contains("128 MiB of memory"), "{error}");
        let error = from_json::<Vec<Vec<u8>>>(&std::fs::read(&path).unwrap()).unwrap_err().to_string();
        assert!(error.contains("128 MiB of memory"), "{error}");
        std::fs::write(&path, "[[1],[]]").unwrap();
        assert_eq!(read_json::<Vec<Vec<u8>>>(&path, MAX_RECORD).unwrap(), [vec![1], vec![]]);
        assert!(read_json::<Vec<Vec<u8>>>(&path, 7).unwrap_err().to_string().contains("larger than"));
    }

    #[test]
    fn files_are_read_up_to_their_limit_and_only_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_file(&path, 5).unwrap(), b"12345");
        assert_eq!(read_file(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read_file(folder.path(), 5).is_err() && read_file(Path::new("/dev/zero"), 5).is_err());
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        assert!(open_file(&pipe).unwrap_err().to_string().contains("regular") && read_json::<u8>(&pipe, 5).is_err());
    }
}
