//! Zip archives of small files, as GitHub keeps artifacts: writing one file, and reading archives that may be hostile.
//!
//! Format: PKWARE's APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (central directory) and 4.3.16 (its end). Files are stored or deflated;
//! archives of more than 4 GiB (zip64), encrypted ones and other methods are refused.

use std::io::Read;

use flate2::Crc;
use flate2::read::DeflateDecoder;

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END_SIZE: usize = 22;
/// The version that an extractor needs, and 1 January 1980 as a date.
const VERSION: [u8; 2] = [20, 0];
const TIME: [u8; 4] = [0, 0, 0x21, 0];

/// Why an archive was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ZipError {
    #[error("it is not a zip archive, or is damaged")]
    Damaged,
    #[error("its files are larger than {0} bytes together")]
    TooLarge(u64),
    #[error("there are more than {0} files in it")]
    TooMany(usize),
    #[error("a file in it is compressed or encrypted in a way that is not supported")]
    Unsupported,
}

/// An archive with one file. `name` is plain ASCII.
pub(crate) fn write(name: &str, content: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(content);
    let size = (content.len() as u32).to_le_bytes();
    let length = (name.len() as u16).to_le_bytes();
    // Flags and method are 0: stored.
    let common = [&VERSION[..], &[0; 4], &TIME, &crc.sum().to_le_bytes(), &size, &size, &length, &[0; 2]].concat();
    let local = [LOCAL, &common, name.as_bytes(), content].concat();
    // No comment, disk 0, no attributes, and the local header at 0.
    let central = [CENTRAL, &VERSION, &common, &[0; 14], name.as_bytes()].concat();
    let (place, size) = ((local.len() as u32).to_le_bytes(), (central.len() as u32).to_le_bytes());
    let end = [END, &[0; 4], &[1, 0, 1, 0], &size, &place, &[0; 2]].concat();
    [local, central, end].concat()
}

/// The files of an archive and their names, which may be anything. Together they have at most `most_bytes`.
pub(crate) fn read(archive: &[u8], most_files: usize, most_bytes: u64) -> Result<Vec<(String, Vec<u8>)>, ZipError> {
    let last = archive.len().checked_sub(END_SIZE).ok_or(ZipError::Damaged)?;
    // A comment of up to 64 KiB may follow.
    let first = last.saturating_sub(usize::from(u16::MAX));
    let end = (first..=last).rev().find(|at| archive[*at..].starts_with(END)).ok_or(ZipError::Damaged)?;
    let count = usize::from(short(archive, end + 10)?);
    if count > most_files {
        return Err(ZipError::TooMany(most_files));
    }
    let mut at = long(archive, end + 16)?;
    let mut left = most_bytes;
    let mut files = Vec::new();
    for _ in 0..count {
        if slice(archive, at, 4)? != CENTRAL {
            return Err(ZipError::Damaged);
        }
        let [name, extra, comment] = [28, 30, 32].map(|field| short(archive, at + field).map(usize::from));
        let name = name?;
        let text = String::from_utf8_lossy(slice(archive, at + 46, name)?).into_owned();
        let content = content(archive, at, left, most_bytes)?;
        left -= content.len() as u64;
        files.push((text, content));
        at += 46 + name + extra? + comment?;
    }
    Ok(files)
}

/// The content of the file whose entry in the central directory is at `at`, if that is at most `left` of the `most` bytes of all.
fn content(archive: &[u8], at: usize, left: u64, most: u64) -> Result<Vec<u8>, ZipError> {
    let (flags, method) = (short(archive, at + 8)?, short(archive, at + 10)?);
    let (sum, packed, size) = (long(archive, at + 16)?, long(archive, at + 20)?, long(archive, at + 24)?);
    let local = long(archive, at + 42)?;
    if slice(archive, local, 4)? != LOCAL {
        return Err(ZipError::Damaged);
    }
    let (name, extra) = (short(archive, local + 26)?, short(archive, local + 28)?);
    let bytes = slice(archive, local + 30 + usize::from(name) + usize::from(extra), packed)?;
    if size as u64 > left {
        return Err(ZipError::TooLarge(most));
    }
    let content = match method {
        _ if flags & 1 != 0 => return Err(ZipError::Unsupported),
        0 => bytes.to_vec(),
        8 => {
            let mut content = Vec::new();
            // One byte more than announced shows a lie.
            let mut reader = DeflateDecoder::new(bytes).take(size as u64 + 1);
            reader.read_to_end(&mut content).map_err(|_| ZipError::Damaged)?;
            content
        }
        _ => return Err(ZipError::Unsupported),
    };
    let mut crc = Crc::new();
    crc.update(&content);
    if content.len() == size && crc.sum() as usize == sum { Ok(content) } else { Err(ZipError::Damaged) }
}

fn slice(archive: &[u8], at: usize, length: usize) -> Result<&[u8], ZipError> {
    archive.get(at..at.saturating_add(length)).ok_or(ZipError::Damaged)
}

fn short(archive: &[u8], at: usize) -> Result<u16, ZipError> {
    let bytes = slice(archive, at, 2)?;
    Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn long(archive: &[u8], at: usize) -> Result<usize, ZipError> {
    let bytes = slice(archive, at, 4)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"{\"run\": 1}\n";

    fn put(archive: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut changed = archive.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    }

    #[test]
    fn what_is_written_is_read_here_and_by_python() {
        let archive = write("run.jsonl", TEXT);
        assert_eq!(read(&archive, 1, 100), Ok(vec![("run.jsonl".to_owned(), TEXT.to_vec())]));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.zip");
        std::fs::write(&file, &archive).unwrap();
        let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; \
                      sys.stdout.write(z.read('run.jsonl').decode())";
        let Ok(read) = std::process::Command::new("python3").args(["-c", script]).arg(&file).output() else { return };
        assert_eq!((read.stdout.as_slice(), read.status.success()), (TEXT, true), "{read:?}");
        // As others write it: deflated, with a comment.
        let script = "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED) as z:\n z.comment = b'c'\n \
                      z.writestr('d/a.jsonl', 'x' * 5000)\n z.writestr('b', 'y')";
        assert!(std::process::Command::new("python3").args(["-c", script]).arg(&file).status().unwrap().success());
        let archive = std::fs::read(&file).unwrap();
        let files = super::read(&archive, 2, 5001).unwrap();
        assert_eq!((&*files[0].0, files[0].1.len(), &*files[1].1), ("d/a.jsonl", 5000, &b"y"[..]));
        assert_eq!(super::read(&archive, 1, 9999), Err(ZipError::TooMany(1)));
        assert_eq!(super::read(&archive, 2, 5000), Err(ZipError::TooLarge(5000)));
    }

    #[test]
    fn damage_and_lies_are_refused() {
        let archive = write("run.jsonl", TEXT);
        for length in 0..archive.len() {
            assert_eq!(read(&archive[..length], 9, 999), Err(ZipError::Damaged), "{length}");
        }
        let content = 30 + "run.jsonl".len();
        let central = content + TEXT.len();
        assert_eq!(read(&put(&archive, content, b"X"), 9, 999), Err(ZipError::Damaged));
        // It announces more, and less, than there is; it is somewhere else; it is encrypted; it has another method.
        assert_eq!(read(&put(&archive, central + 24, &[9]), 9, 999), Err(ZipError::Damaged));
        assert!(matches!(read(&put(&archive, central + 26, &[9]), 9, 999), Err(ZipError::TooLarge(..))));
        assert_eq!(read(&put(&archive, central + 42, &[1]), 9, 999), Err(ZipError::Damaged));
        assert_eq!(read(&put(&archive, central + 45, &[255]), 9, 999), Err(ZipError::Damaged));
        assert_eq!(read(&put(&archive, central + 8, &[1]), 9, 999), Err(ZipError::Unsupported));
        assert_eq!(read(&put(&archive, central + 10, &[12]), 9, 999), Err(ZipError::Unsupported));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        use std::io::Write;
        let zeros = vec![0; 4 << 20];
        let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&zeros).unwrap();
        let packed = packed.finish().unwrap();
        let archive = write("bomb", &packed);
        let central = 34 + packed.len();
        // Deflated, and announced as small as it is packed: what comes out is cut there.
        let bomb = put(&put(&archive, central + 10, &[8]), 8, &[8]);
        assert_eq!(read(&bomb, 9, 1 << 20), Err(ZipError::Damaged));
    }
}
